"""A run that is killed at any moment and started again ends with the weights of an undisturbed one, bit for bit."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from first_helpers import ROOT, load
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

STEPS = 10_000


def command(script, run_dir, *options):
    sizes = ["--total-timesteps", str(STEPS), "--checkpoint-interval", "100", "--eval-episodes", "1"]
    if script == "ddpg":  # updates from early on, several environments, a replay that wraps around
        sizes = ["--total-timesteps", "4000", "--checkpoint-interval", "200", "--eval-episodes", "1"]
        sizes += ["--learning-starts", "300", "--buffer-size", "1000", "--batch-size", "16", "--num-envs", "3"]
    return [
        sys.executable,
        str(ROOT / f"{script}.py"),
        "--env-id",
        "Hopper-v4",
        "--run-dir",
        str(run_dir),
        *sizes,
        *options,
    ]


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
    subprocess.run(command(script, tmp_path / "undisturbed"), check=True, stdout=subprocess.DEVNULL)
    whole, survived = time.time() - start, 0
    for moment in rng.uniform(0, 0.8 * whole, kills):
        process = subprocess.Popen(command(script, tmp_path / "killed"), stdout=subprocess.DEVNULL)
        try:
            process.wait(moment / 4**survived)
            survived += 1  # it had finished before: anew, and killed sooner
            shutil.rmtree(tmp_path / "killed")
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
    assert survived < kills
    subprocess.run(command(script, tmp_path / "killed"), check=True, stdout=subprocess.DEVNULL)
    one, other = (load(script).load_checkpoint(tmp_path / name) for name in ("undisturbed", "killed"))
    assert same(trained(one), trained(other))


def test_kill_and_go_on(script, tmp_path):
    kill_at_random_moments(script, tmp_path, 2, np.random.default_rng(int(time.time())))


@pytest.mark.slow
def test_kill_five_times(script, tmp_path):
    kill_at_random_moments(script, tmp_path, 5, np.random.default_rng(int(time.time())))


def test_no_step_stands_twice_in_tensorboard(script, module, tiny, monkeypatch, tmp_path):
    """The run dies some updates after a checkpoint; those updates are seen once, from the second life."""
    real, calls, place = module.update, [], 7
    args, spacing = tiny("envs:LQR-v0", total_timesteps=128 * 12, checkpoint_interval=192), 128
    if script == "ddpg":  # which updates at every step, and logs every 1,000 of each environment
        real, place, spacing = lambda *inputs: torch.zeros(3), 17_000, 2_000
        args = tiny("envs:LQR-v0", total_timesteps=24_000, checkpoint_interval=3_000)

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
    steps = [
        event.step
        for event in events.Scalars(
            "losses/value_loss" if "losses/value_loss" in events.Tags()["scalars"] else "charts/SPS"
        )
    ]
    assert len(steps) >= 12 and steps == sorted(set(steps))
    if script != "reinforce":  # whose batches end with episodes
        assert steps == list(range(spacing, 12 * spacing + 1, spacing))
    texts = [event.step for event in events.Tensors("hyperparameters/text_summary")]
    assert len(texts) == len(set(texts)) == 2  # each life says its arguments
    for tag in ("charts/SPS", "charts/learning_rate", "charts/episodic_return", "charts/episodic_length"):
        assert tag in events.Tags()["scalars"]


def test_a_longer_run_goes_on_from_the_finished_one(module, tiny):
    weights = []
    for total in (512, 1024):
        run_dir = module.train(tiny("envs:LQR-v0", total_timesteps=total))
        checkpoint = module.load_checkpoint(run_dir)
        assert total <= checkpoint["step"] < total + 150  # whole batches
        weights.append(checkpoint["policy"]["mean.0.weight"].clone())
    assert not torch.equal(*weights)


def test_checkpoints_hold_only_tensors_and_plain_values(script, module, tiny):
    run_dir = module.train(tiny("envs:LQR-v0"))
    checkpoint = torch.load(run_dir / "checkpoint.pt", weights_only=True)
    assert os.path.getsize(run_dir / "checkpoint.pt") < (3e6 if script == "ddpg" else 1e6) and len(checkpoint) == 1


def test_killed_while_it_evaluates(module, tiny, monkeypatch):
    """Nothing is left to train: the result is the undisturbed one's, but for a speed that nothing measured."""
    args, evaluate, results = tiny("envs:LQR-v0"), module.evaluate, []

    def dies(*inputs):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "evaluate", dies)
    with pytest.raises(KeyboardInterrupt):
        module.train(args)
    monkeypatch.setattr(module, "evaluate", evaluate)
    for folder in (args.run_dir, args.run_dir + "-whole"):
        run_dir = module.train(tiny("envs:LQR-v0", run_dir=folder))
        results.append(json.loads((run_dir / "result.json").read_text()))
    assert results[0].pop("steps_per_second") is None and results[1].pop("steps_per_second") > 0
    assert results[0] == results[1]
