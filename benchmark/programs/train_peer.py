"""One run of a peer's algorithm, in a folder like those of our scripts. See ../peers.py."""

import argparse
import importlib
import json
import sys
import time
from contextlib import closing
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize
from torch.utils.tensorboard import SummaryWriter

sys.path.insert(0, str(Path(__file__).parents[2]))
from ppo_continuous import make_vector_env, play_episodes

PACKAGES = ["torch", "numpy", "gymnasium", "mujoco", "stable-baselines3", "sb3-contrib"]


class Returns(BaseCallback):
    """Writes the return of each episode that ends."""

    def __init__(self, writer):
        super().__init__()
        self.writer = writer
        self.returns = []

    def _on_step(self):
        for info in self.locals["infos"]:
            if "episode" in info:  # of the Monitor, which sees raw rewards
                self.returns.append(info["episode"]["r"])
                step = self.num_timesteps
                self.writer.add_scalar("charts/episodic_return", self.returns[-1], step)
        return True


class Actor:
    """A trained model as play_episodes wants a policy: raw observations and noise to actions."""

    def __init__(self, model, normalize):
        self.model, self.normalize = model, normalize
        self.low = torch.as_tensor(model.action_space.low)

    def act(self, obs, noise):
        is_deterministic = np.isscalar(noise)  # 0.0; a model draws its own noise
        actions, _ = self.model.predict(self.normalize(obs), deterministic=is_deterministic)
        return actions


def train(options):
    """Trains and evaluates; writes args.json, TensorBoard events and result.json."""
    is_on_policy = options.script != "ddpg"
    run_dir = options.run_dir
    run_dir.mkdir(parents=True, exist_ok=True)
    for path in run_dir.glob("events.*"):  # of a run that was interrupted
        path.unlink()
    args = {name: getattr(options, name) for name in ("script", "env_id", "seed", "peer")}
    args["versions"] = {name: version(name) for name in PACKAGES}
    (run_dir / "args.json").write_text(json.dumps(args, indent=4))

    torch.set_num_threads(1)
    envs = make_vec_env(options.env_id, n_envs=1, seed=options.seed)
    if is_on_policy:
        envs = VecNormalize(envs)
    package, name = options.peer.split(".")
    algorithm = getattr(importlib.import_module(package), name)
    model = algorithm("MlpPolicy", envs, seed=options.seed, device="cpu")

    writer = SummaryWriter(run_dir)
    callback = Returns(writer)
    start = time.perf_counter()
    model.learn(options.total_timesteps, callback)
    seconds = time.perf_counter() - start
    writer.close()

    result = {
        "training_return": float(np.mean(callback.returns[-100:])) if callback.returns else None,
        "steps": model.num_timesteps,
        "steps_per_second": model.num_timesteps / seconds,
    }
    actor = Actor(model, envs.normalize_obs if is_on_policy else np.asarray)
    modes = ["deterministic", "sampled"] if is_on_policy else ["deterministic"]
    with closing(make_vector_env(options.env_id, 20)) as evaluation_envs:
        for mode in modes:
            returns, _ = play_episodes(evaluation_envs, actor, mode)
            result[mode] = {"mean": returns.mean(), "returns": returns.tolist()}
    (run_dir / "result.json").write_text(json.dumps(result))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--script", required=True, help="ours, whose peer this is")
    parser.add_argument("--peer", required=True, help="package.algorithm")
    parser.add_argument("--env-id", required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--total-timesteps", type=int, required=True)
    parser.add_argument("--run-dir", type=Path, required=True)
    train(parser.parse_args())


if __name__ == "__main__":
    main()
