"""A run that is killed and resumed ends with the weights of an undisturbed one, bit for bit."""

import json
import os
import shutil
import signal
import subprocess
import time

import numpy as np
import pytest
import torch
from helpers import WITH_CRITIC, command, load, tiny_args
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

SIZES = ["--total-timesteps", 20_000, "--checkpoint-interval", 3_000]
OF_DDPG = ["--total-timesteps", 4_000, "--checkpoint-interval", 600, "--learning-starts", 300]
OF_DDPG += [
    "--buffer-size",
    1_000,
    "--batch-size",
    16,
    "--num-envs",
    3,
]  # a replay that wraps around


def killable(script, run_dir):
    sizes = OF_DDPG if script == "ddpg" else SIZES
    options = ["--env-id", "Hopper-v4", "--eval-episodes", 1, "--run-dir", run_dir]
    return command(script, *options, *sizes)


def same(one, other):
    """Equal to the last bit, through nested dicts and lists."""
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return torch.equal(one, other) if torch.is_tensor(one) else one == other


def trained(checkpoint):
    return {name: value for name, value in checkpoint.items() if name != "args"}


def test_equality_can_fail():
    assert same({"a": [torch.ones(2)]}, {"a": [torch.ones(2)]})
    assert not same({"a": [torch.ones(2)]}, {"a": [torch.ones(2) + 1e-7]})


def kill_at_random_moments(script, tmp_path, kills, rng):
    start = time.time()
    line = killable(script, tmp_path / "undisturbed")
    subprocess.run(line, check=True, stdout=subprocess.DEVNULL)
    whole, survived = time.time() - start, 0
    for moment in rng.uniform(0, 0.8 * whole, kills):
        line = killable(script, tmp_path / "killed")
        process = subprocess.Popen(line, stdout=subprocess.DEVNULL)
        try:
            process.wait(moment / 4**survived)
            survived += 1  # it had finished before: anew, and killed sooner
            shutil.rmtree(tmp_path / "killed")
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
    assert survived < kills
    subprocess.run(killable(script, tmp_path / "killed"), check=True, stdout=subprocess.DEVNULL)
    one, other = (load(script).load_checkpoint(tmp_path / x) for x in ("undisturbed", "killed"))
    assert same(trained(one), trained(other))
    results = [
        json.loads((tmp_path / x / "result.json").read_text()) for x in ("undisturbed", "killed")
    ]
    for result in results:
        result.pop("steps_per_second")
    assert results[0] == results[1]


def test_kill_and_resume(script, tmp_path):
    kill_at_random_moments(script, tmp_path, 2, np.random.default_rng(int(time.time())))


@pytest.mark.slow
@pytest.mark.parametrize("trial", range(2))
def test_kill_five_times(script, tmp_path, trial):
    kill_at_random_moments(script, tmp_path, 5, np.random.default_rng(time.time_ns()))


@pytest.mark.parametrize("place", [3, 6, 7])
def test_a_run_that_dies_in_an_update_ends_as_the_undisturbed_one(
    script, module, tiny, monkeypatch, tmp_path, place
):
    """Before the first checkpoint, right after one, later; every second rollout saves."""
    if script == "ddpg":
        place *= 60
    whole = module.train(
        tiny("envs:LQR-v0", total_timesteps=1280, checkpoint_interval=256, run_dir=tmp_path / "a")
    )
    real, calls = module.update, []

    def dies(*inputs):
        calls.append(0)
        if len(calls) == place:
            raise KeyboardInterrupt
        return real(*inputs)

    monkeypatch.setattr(module, "update", dies)
    args = tiny("envs:LQR-v0", total_timesteps=1280, checkpoint_interval=256)
    with pytest.raises(KeyboardInterrupt):
        module.train(args)
    one, other = (module.load_checkpoint(x) for x in (whole, module.train(args)))
    assert same(trained(one), trained(other))


def test_no_step_stands_twice_in_tensorboard(script, module, tiny, monkeypatch):
    """The run dies some updates after a checkpoint; those are seen once, from its second life."""
    real, calls, place = module.update, [], 7
    args, spacing = tiny("envs:LQR-v0", total_timesteps=128 * 12, checkpoint_interval=384), 128
    if script == "ddpg":  # which updates at every step, and logs every 1,000
        place, spacing = 6_500, 1_000
        nothing = {"value_loss": torch.zeros(()), "policy_loss": torch.zeros(())}
        monkeypatch.setattr(module, "update", lambda *inputs: nothing)
        real = module.update
        args = tiny("envs:LQR-v0", total_timesteps=12_000, checkpoint_interval=3_000)

    def dies(*inputs):
        calls.append(0)
        if len(calls) == place:
            raise KeyboardInterrupt
        return real(*inputs)

    monkeypatch.setattr(module, "update", dies)
    with pytest.raises(KeyboardInterrupt):
        module.train(args)
    run_dir = module.train(args)
    events = EventAccumulator(str(run_dir)).Reload()
    tags = events.Tags()["scalars"]
    tag = "losses/value_loss" if "losses/value_loss" in tags else "charts/SPS"
    steps = [event.step for event in events.Scalars(tag)]
    assert len(steps) >= 12 and steps == sorted(set(steps))
    if script != "reinforce":  # whose batches end with episodes
        assert steps == list(range(spacing, 12 * spacing + 1, spacing))
    texts = [event.step for event in events.Tensors("hyperparameters/text_summary")]
    assert len(texts) == len(set(texts)) == 2  # each life writes its arguments
    charts = ["SPS", "learning_rate", "episodic_return", "episodic_length", "num_episodes"]
    assert {f"charts/{name}" for name in charts} <= set(tags)


@pytest.mark.parametrize("script", WITH_CRITIC)
def test_what_is_logged(module, tiny):
    """Under the names that PPO's users know; values of episodes as the environment had them."""
    run_dir = module.train(tiny("envs:Mortal-v0"))
    events = EventAccumulator(str(run_dir)).Reload()
    losses = {tag for tag in events.Tags()["scalars"] if tag.startswith("losses/")}
    names = {"value_loss", "entropy", "gradient_norm", "explained_variance"}
    if module.SCRIPT == "trpo_continuous":
        names |= {
            "kl",
            "kl_max",
            "improvement",
            "expected_improvement",
            "backtracks",
            "cg_residual",
        }
    else:
        names |= {"policy_loss", "approx_kl"}
    assert {f"losses/{name}" for name in names} <= losses
    for name in ("episodic_return", "episodic_length"):
        assert {event.value for event in events.Scalars(f"charts/{name}")} == {7.0}
    num_episodes = sum(event.value for event in events.Scalars("charts/num_episodes"))
    args = json.loads((run_dir / "args.json").read_text())
    assert num_episodes == args["total_timesteps"] // (7 * args["num_envs"]) * args["num_envs"]
    for mode in module.MODES:
        assert [event.value for event in events.Scalars(f"charts/{mode}_return")] == [7.0]


def test_a_longer_run_starts_from_the_finished_one(module, tiny):
    weights = []
    for total in (512, 1024):
        run_dir = module.train(tiny("envs:LQR-v0", total_timesteps=total))
        checkpoint = module.load_checkpoint(run_dir)
        assert total <= checkpoint["step"] < total + 150  # whole batches
        name = "u.0.weight" if module.SCRIPT == "ddpg" else "mu.0.weight"
        weights.append(checkpoint["policy"][name].clone())
    assert not torch.equal(*weights)


def test_checkpoints_hold_only_tensors_and_plain_values(script, module, tiny):
    run_dir = module.train(tiny("envs:LQR-v0"))
    checkpoint = torch.load(run_dir / "checkpoint.pt", weights_only=True)
    assert os.path.getsize(run_dir / "checkpoint.pt") < (3e6 if script == "ddpg" else 1e6)
    assert {"script", "args", "step", "last_returns", "policy"} < checkpoint.keys()


def test_a_run_that_was_killed_while_it_evaluated(module, tmp_path, monkeypatch):
    """Nothing is left to train: the undisturbed result, but for a speed that nothing measured."""
    evaluate, results = module.evaluate, []

    def dies(*inputs):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "evaluate", dies)
    with pytest.raises(KeyboardInterrupt):
        module.train(tiny_args(module, tmp_path / "killed", "envs:LQR-v0"))
    monkeypatch.setattr(module, "evaluate", evaluate)
    for name in ("killed", "whole"):
        run_dir = module.train(tiny_args(module, tmp_path / name, "envs:LQR-v0"))
        results.append(json.loads((run_dir / "result.json").read_text()))
    assert results[0].pop("steps_per_second") is None
    assert results[1].pop("steps_per_second") > 0
    assert results[0] == results[1]
