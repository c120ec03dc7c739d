"""Prints the commands of a sweep, one run a line, finished runs left out.

For xargs, GNU parallel or a job array.

    python benchmark/commands.py --scripts ppo_continuous a2c_continuous --seeds 1 2 3 |
        xargs -P 2 -I{} sh -c '{}'
    python benchmark/commands.py --scripts ppo_continuous -- --gamma 0.98

What follows -- goes to every run. Each run has its folder, so whatever was cut off goes on where it
stopped when its command runs again.
"""

import argparse
import json
import shlex
import sys
from pathlib import Path

SCRIPTS = ["reinforce", "a2c_continuous", "ppo_continuous", "trpo_continuous", "ddpg"]


def finished(run_dir, total):
    """Whether a run has its result, of at least `total` steps."""
    try:
        return json.loads((run_dir / "result.json").read_text())["steps"] >= total
    except (OSError, ValueError):  # no result yet, or half of one
        return False


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scripts", nargs="+", default=SCRIPTS, choices=SCRIPTS)
    parser.add_argument(
        "--env-ids", nargs="+", default=["Hopper-v4", "HalfCheetah-v4", "Walker2d-v4"]
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--total-timesteps", type=int, default=1_000_000)
    parser.add_argument(
        "--runs", type=Path, default=Path("runs"), help="folder of the runs' folders"
    )
    parser.add_argument("options", nargs="*", help="after --: options of every run")
    args = parser.parse_args()
    for seed in args.seeds:  # a sweep that is cut off has whole seeds
        for script in args.scripts:
            for env_id in args.env_ids:
                run_dir = args.runs / f"{env_id}__{script}__{seed}".replace("/", "_").replace(
                    ":", "_"
                )
                command = [
                    "python",
                    str(Path(sys.argv[0]).parents[1] / f"{script}.py"),
                    "--env-id",
                    env_id,
                ]
                command += ["--seed", str(seed), "--total-timesteps", str(args.total_timesteps)]
                if not finished(run_dir, args.total_timesteps):
                    print(shlex.join([*command, "--run-dir", str(run_dir), *args.options]))


if __name__ == "__main__":
    main()
