"""Environments as people really have them: each kind that breaks comparable libraries."""

import json
import os
import random
import subprocess

import gymnasium as gym
import numpy as np
import pytest
import torch
from envs import OneOnly
from helpers import (
    SCRIPTS,
    STOCHASTIC,
    WITH_CRITIC,
    command,
    known,
    load,
    run,
    source,
    tiny_options,
)


def line_of(done):
    """The one line that a refusal prints."""
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 2 and len(lines) == 1, done.stderr
    return lines[0]


def options(script, env_id, tmp_path, **changes):
    where = ["--env-id", f"envs:{env_id}-v0", "--run-dir", tmp_path / "run"]
    return [*tiny_options(script, **changes), *where]


# Bounds, observations and rewards of any size are learned in test_learning, and refused or stopped
# in test_cli; here are the kinds that need no learning.


@pytest.mark.parametrize("name", STOCHASTIC)
def test_the_largest_numbers_as_bounds_mean_none(name, tmp_path):
    """From 0 towards the target at 1; REINFORCE, the slowest, need only be on its way."""
    module = load(name)
    steps = {"total_timesteps": 60_000, "min_batch_steps": 200, "eval_episodes": 1}
    args = module.Args("envs:HugeFinite-v0", run_dir=tmp_path / "run", **known(module, steps))
    action = module.load_policy(module.train(args)).act(np.zeros((1, 2), np.float32)).item()
    assert abs(action - 1) < (0.5 if name in WITH_CRITIC else 0.8)


def test_reinforce_moves_inside_one_finite_side(tmp_path):
    module = load("reinforce")
    args = module.Args(
        "envs:AboveFive-v0", run_dir=tmp_path / "run", total_timesteps=60_000, min_batch_steps=200
    )
    policy = module.load_policy(module.train(args))
    before = module.Policy(2, policy.low, policy.high)
    obs = np.zeros((1, 2), np.float32)
    assert before.act(obs).item() == pytest.approx(6, abs=0.1)
    assert policy.act(obs).item() > 6.3


def test_a_reward_in_an_array_of_one(module, tiny):
    result = json.loads((module.train(tiny("envs:ArrayReward-v0")) / "result.json").read_text())
    assert -46 < result["deterministic"]["mean"] < 0


@pytest.mark.parametrize("env_id", ["NoReward", "TwoRewards", "WordReward"])
def test_a_reward_that_is_not_one_number(script, tmp_path, env_id):
    line = line_of(run(script, *options(script, env_id, tmp_path)))
    assert "reward" in line and "not one number" in line


def test_observations_and_ends_of_odd_types(module, tiny):
    result = json.loads((module.train(tiny("envs:ListObs-v0")) / "result.json").read_text())
    assert result["deterministic"]["returns"] == [100, 100]


@pytest.mark.parametrize(
    "env_id, found, space",
    [
        ("FloatsInIntegers", "float64 and shape (1,)", "int64"),
        ("FloatsInIntegersOfADict", "float64 and shape (1,)", "int64"),
        ("AnotherShape", "float32 and shape (1,)", "(3,)"),
        ("AnotherShapeLater", "float64 and shape (2,)", "(1,)"),
    ],
)
def test_an_observation_that_does_not_fit_its_space(script, tmp_path, env_id, found, space):
    line = line_of(run(script, *options(script, env_id, tmp_path)))
    assert found in line and space in line and "observation" in line


def test_one_instance_at_a_time(script, tmp_path):
    """Training and evaluation with one environment each never make two at once."""
    changes = {"num_envs": 1, "eval_episodes": 1}
    OneOnly.running = False
    done = run(script, *options(script, "OneOnly", tmp_path, **changes))
    assert done.returncode == 0, done.stderr
    assert not OneOnly.running


@pytest.mark.parametrize(
    "env_id, status, words",
    [
        ("Resource", 0, "deterministic"),
        ("NoStep", 1, "no step"),
        ("NoThird", 1, "no third one"),
        ("Interrupted", 130, "interrupted"),
        ("ResourceDiscrete", 2, "a Box is needed"),
    ],
)
def test_every_way_out_closes_the_environments(script, tmp_path, env_id, status, words):
    """Each holds a thread that only close() ends."""
    num_envs = {"num_envs": 4, "eval_episodes": 4, "minibatch_size": 64}
    line = command(script, *options(script, env_id, tmp_path, **num_envs))
    done = subprocess.run(line, capture_output=True, text=True, timeout=120)
    assert done.returncode == status, done.stderr
    assert words in done.stdout + done.stderr


def test_generators_that_reset_does_not_seed(module, tiny, tmp_path, monkeypatch):
    """Two runs of one seed are the same, also if one is interrupted; another seed is another."""
    real_save = module.save_checkpoint

    def save_and_stop(args, modules, step, last_returns):
        real_save(args, modules, step, last_returns)
        if step > 0:
            raise KeyboardInterrupt

    def weights(name, **changes):
        changes |= {"checkpoint_interval": 256, "run_dir": tmp_path / name}
        args = tiny("envs:GlobalRandom-v0", **changes)
        state = module.load_checkpoint(module.train(args))["policy"]
        return torch.cat([x.flatten().double() for x in state.values()])

    first = weights("first")
    random.seed()
    np.random.seed()
    torch.seed()
    assert torch.equal(weights("second"), first)
    assert not torch.equal(weights("third", seed=2), first)
    with monkeypatch.context() as patch:
        patch.setattr(module, "save_checkpoint", save_and_stop)
        with pytest.raises(KeyboardInterrupt):
            weights("fourth")
    torch.seed()
    assert torch.equal(weights("fourth"), first)


@pytest.mark.parametrize("script", [x for x in SCRIPTS if x != "reinforce"])
def test_a_checkpoint_that_cuts_every_episode_says_so(script, tmp_path):
    """300 steps an episode, a checkpoint every 128 steps of each environment."""
    changes = {"checkpoint_interval": 256, "total_timesteps": 1024}
    done = run(script, *options(script, "Long", tmp_path, **changes))
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 0 and len(lines) == 1, done.stderr
    assert "--checkpoint-interval" in lines[0]

    done = run(script, *options(script, "Scalar", tmp_path / "short", **changes))
    assert done.returncode == 0 and done.stderr == ""


def test_an_evaluation_that_cuts_episodes_says_so_in_its_result(module, tiny, monkeypatch):
    run_dir = module.train(tiny("envs:LQR-v0"))
    result = json.loads((run_dir / "result.json").read_text())
    assert all(result[mode]["num_cut"] == 0 for mode in module.MODES)
    make = module.make_env
    monkeypatch.setattr(module, "make_env", lambda env_id, *rest: make("envs:Endless-v0", *rest))
    assert module.evaluate(run_dir, 2)["deterministic"]["num_cut"] == 2


def test_keyword_arguments(script, tmp_path):
    changes = options(script, "Kwargs", tmp_path)
    done = run(script, *changes, "--env-kwargs", '{"reward": 0.5, "max_episode_steps": 30}')
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["deterministic"]["mean"] == 15 and result["training_return"] == 15
    again = run(script, *changes, "--env-kwargs", '{"reward": 2}')
    assert "env_kwargs" in line_of(again)
    assert "15.0" in run(script, "--evaluate", tmp_path / "run").stdout


@pytest.mark.parametrize("text", ["reward=1", "[1]", "1", "{'reward': 1}", ""])
def test_keyword_arguments_that_are_not_json(script, tmp_path, text):
    done = run(script, *options(script, "Kwargs", tmp_path), "--env-kwargs", text)
    assert "--env-kwargs" in line_of(done) and "JSON" in line_of(done)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "kwargs, words",
    [
        ({"wrong": 1}, "wrong"),
        ({"model": "missing.xml"}, "missing.xml"),
        ({"model": "missing.bin"}, "missing.bin"),
    ],
)
def test_an_environment_that_cannot_be_made(script, tmp_path, kwargs, words):
    env_kwargs = ["--env-kwargs", json.dumps(kwargs)]
    line = line_of(run(script, *options(script, "Kwargs", tmp_path), *env_kwargs))
    assert "cannot make envs:Kwargs-v0" in line and words in line
    assert not (tmp_path / "run").exists()


def test_a_model_of_gymnasium_that_is_missing(script, tmp_path):
    place = ["--env-id", "Hopper-v5", "--run-dir", tmp_path / "run"]
    kwargs = ["--env-kwargs", '{"xml_file": "/missing.xml"}']
    assert "/missing.xml" in line_of(run(script, *tiny_options(script), *place, *kwargs))


def test_an_id_with_two_colons(script, tmp_path):
    place = ["--env-id", "a:b:Hopper-v4", "--run-dir", tmp_path / "run"]
    assert "a:b:Hopper-v4" in line_of(run(script, *tiny_options(script), *place))


def test_an_old_gymnasium(script, tmp_path, monkeypatch):
    monkeypatch.delattr(gym.vector, "AutoresetMode")
    monkeypatch.setattr(gym, "__version__", "0.29.1")
    line = line_of(run(script, *options(script, "Scalar", tmp_path)))
    assert "gymnasium 0.29.1" in line and "1.1" in line


def test_pasted_into_a_notebook_cell(module, tmp_path):
    """No __file__ there, and __name__ is __main__; the cell only defines."""
    text = source(module.SCRIPT)
    cell = text[: text.index('if __name__ == "__main__":')]
    names = {"__name__": "__main__"}
    exec(compile(cell, "<cell>", "exec"), names)
    values = known(module, {"total_timesteps": 256, "num_envs": 2, "num_steps": 64})
    values |= known(module, {"minibatch_size": 32, "min_batch_steps": 64, "learning_starts": 64})
    args = names["Args"]("envs:LQR-v0", run_dir=tmp_path / "run", eval_episodes=1, **values)
    run_dir = names["train"](args)
    assert os.path.exists(run_dir / "result.json")
    assert names["load_policy"](run_dir).act(np.zeros((1, 1), np.float32)).shape == (1, 1)
