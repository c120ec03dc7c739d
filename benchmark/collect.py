"""Takes finished runs into benchmark/results.csv, one row each; a run that is there already is replaced.

python benchmark/collect.py runs/*
"""

import csv
import json
import sys
from pathlib import Path

TABLE = Path(__file__).with_name("results.csv")
FIELDS = ["script", "env_id", "seed", "deterministic", "sampled", "training", "steps", "steps_per_second", "versions"]


def row(run_dir):
    """A run's scores: means of 20 episodes by mean and by sampled actions, and of the last 100 training episodes."""
    args, result = (json.loads((run_dir / f"{name}.json").read_text()) for name in ("args", "result"))
    scores = {name: round(result[name]["mean"], 1) for name in ("deterministic", "sampled") if name in result}
    return {
        "script": args["script"],
        "env_id": args["env_id"],
        "seed": args["seed"],
        **scores,
        "training": round(result["training_return"], 1),
        "steps": result["steps"],
        "steps_per_second": round(result["steps_per_second"]),
        "versions": " ".join(f"{name} {number}" for name, number in args["versions"].items()),
    }


def main():
    rows = []
    if TABLE.exists():
        with open(TABLE) as file:
            rows = list(csv.DictReader(file))
    table = {(old["script"], old["env_id"], int(old["seed"])): old for old in rows}
    for folder in map(Path, sys.argv[1:]):
        new = row(folder)
        table[new["script"], new["env_id"], new["seed"]] = new
    with open(TABLE, "w", newline="") as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(table[key] for key in sorted(table))


if __name__ == "__main__":
    main()
