"""Prints the commands of a sweep, one run a line, for xargs, GNU parallel or a job array.

    python benchmark/sweep.py --scripts ppo_continuous a2c_continuous --seeds 1 2 3 |
        xargs -P 2 -I{} sh -c '{}'
    python benchmark/sweep.py --scripts ppo_continuous -- --gamma 0.98

Finished runs are left out. Each run has its own folder, so that its command resumes it where it was
interrupted. What follows -- goes to every run.
"""

import argparse
import json
import os
import shlex
import sys
from pathlib import Path

from common import LOCOMOTION, SCRIPTS, defaults


def finished(run_dir, total_timesteps):
    """Whether a run has its result, of at least so many steps."""
    try:
        return json.loads((run_dir / "result.json").read_text())["steps"] >= total_timesteps
    except (OSError, ValueError):  # no result yet, or half of one
        return False


def command(script, env_id, seed, total_timesteps, run_dir, options):
    path = Path(sys.argv[0]).parent / os.pardir / f"{script}.py"
    words = ["python", os.path.normpath(path), "--env-id", env_id, "--seed", str(seed)]
    words += ["--total-timesteps", str(total_timesteps), "--run-dir", str(run_dir)]
    return shlex.join(words + options)


def parse_options():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scripts", nargs="+", default=SCRIPTS, choices=SCRIPTS)
    parser.add_argument("--env-ids", nargs="+", default=LOCOMOTION)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--total-timesteps", type=int, help="default: that of each script")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="parent of all run folders")
    parser.add_argument("options", nargs="*", help="after --: options of every run")
    return parser.parse_args()


def main():
    args = parse_options()
    for seed in args.seeds:  # the outermost: an interrupted sweep has whole seeds
        for script in args.scripts:
            total = args.total_timesteps or defaults(script)["total_timesteps"]
            for env_id in args.env_ids:
                name = f"{env_id}__{script}__{seed}".replace("/", "_").replace(":", "_")
                run_dir = args.runs / name
                if not finished(run_dir, total):
                    print(command(script, env_id, seed, total, run_dir, args.options))


if __name__ == "__main__":
    main()
