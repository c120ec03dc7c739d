"""Prints the commands that train peers: algorithms of stable-baselines3 and sb3-contrib.

    pip install -r benchmark/requirements.txt
    python benchmark/peers.py | xargs -P 2 -I{} sh -c '{}'
    python benchmark/peers.py --scripts ddpg --env-ids HalfCheetah-v4 --total-timesteps 300_000
    python benchmark/collect.py --variants runs/peers/*/*

One run a line; finished runs are left out, an interrupted run starts again. Each folder has what a
run of ours has (args.json, TensorBoard events, result.json), so that collect.py takes it in, as a
variant of the script whose peer it is.

Every algorithm has its own defaults: one environment; on one thread. Those on-policy have
VecNormalize, as their documentation advises for MuJoCo. The evaluation is ours: 20 episodes from
the same initial states, with deterministic and with sampled actions, statistics frozen.
"""

import argparse
import os
import shlex
import sys
from pathlib import Path

from common import LOCOMOTION
from sweep import finished

PEERS = {  # script: package.algorithm
    "a2c_continuous": "stable_baselines3.A2C",
    "ppo_continuous": "stable_baselines3.PPO",
    "trpo_continuous": "sb3_contrib.TRPO",
    "ddpg": "stable_baselines3.DDPG",
}


def command(script, env_id, seed, total_timesteps, run_dir):
    path = Path(sys.argv[0]).parent / "programs" / "train_peer.py"
    words = ["python", os.path.normpath(path), "--script", script, "--peer", PEERS[script]]
    words += ["--env-id", env_id, "--seed", str(seed)]
    words += ["--total-timesteps", str(total_timesteps), "--run-dir", str(run_dir)]
    return shlex.join(words)


def parse_options():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--scripts",
        nargs="+",
        default=["a2c_continuous", "ppo_continuous", "trpo_continuous"],
        choices=PEERS,
    )
    parser.add_argument("--env-ids", nargs="+", default=LOCOMOTION)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--total-timesteps", type=int, default=1_000_000)
    parser.add_argument("--runs", type=Path, default=Path("runs/peers"), help="parent of all runs")
    return parser.parse_args()


def main():
    options = parse_options()
    for seed in options.seeds:  # the outermost: an interrupted sweep has whole seeds
        for script in options.scripts:
            for env_id in options.env_ids:
                name = f"{env_id}__{script}__{seed}".replace("/", "_").replace(":", "_")
                run_dir = options.runs / f"peer={PEERS[script]}" / name
                if not finished(run_dir, options.total_timesteps):
                    print(command(script, env_id, seed, options.total_timesteps, run_dir))


if __name__ == "__main__":
    main()
