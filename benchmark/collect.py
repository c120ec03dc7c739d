"""Takes finished runs into results.csv, one row each, and curves.csv, 50 rows each.

What is there already is replaced. With --variants, the name of a run's parent folder is its
variant.

python benchmark/collect.py runs/*
python benchmark/collect.py --variants runs/ablations/*/*
"""

import argparse
import csv
import json
from pathlib import Path

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

HERE = Path(__file__).parent
KEY = ["variant", "script", "env_id", "seed"]  # variant: nothing for the defaults
RESULTS = [*KEY, "deterministic", "sampled", "training", "steps", "steps_per_second", "versions"]
TAGS = [
    "charts/episodic_return",
    "losses/kl",
    "losses/kl_max",
    "losses/ratio_q01",
    "losses/ratio_q99",
]
TAGS += ["losses/policy_loss"]  # DDPG's is -E[Q]
CURVES = [*KEY, "step", *(tag.split("/")[1] for tag in TAGS)]
PARTS = 50


def row(args, result):
    """A run's scores.

    Means of 20 episodes by mean and by sampled actions, and of the last 100 training episodes.
    """
    scores = {
        name: round(result[name]["mean"], 1)
        for name in ("deterministic", "sampled")
        if name in result
    }
    return {
        **{name: args[name] for name in KEY},
        **scores,
        "training": round(result["training_return"], 1),
        "steps": result["steps"],
        "steps_per_second": round(result["steps_per_second"] or 0) or "",
        "versions": " ".join(f"{name} {number}" for name, number in args["versions"].items()),
    }


def curve(run_dir, args, result):
    """What the run logged, averaged over each fiftieth of its steps.

    A step is the end of its part.
    """
    events = EventAccumulator(str(run_dir), size_guidance={"scalars": 0}).Reload()
    edges = np.linspace(0, result["steps"], PARTS + 1)
    rows = [{**{name: args[name] for name in KEY}, "step": round(edge)} for edge in edges[1:]]
    for tag, column in zip(TAGS, CURVES[len(KEY) + 1 :]):
        points = (
            [(x.step, x.value) for x in events.Scalars(tag)]
            if tag in events.Tags()["scalars"]
            else []
        )
        steps, values = np.array(points).reshape(-1, 2).T
        for part, (low, high) in enumerate(zip(edges, edges[1:])):
            inside = values[(low < steps) & (steps <= high)]
            rows[part][column] = f"{inside.mean():.5g}" if len(inside) else ""
    return rows


def merge(path, fields, new):
    """Writes the table with the new rows in place of those of the same runs, sorted."""
    old = list(csv.DictReader(path.read_text().splitlines())) if path.exists() else []
    replaced = {tuple(str(x[name]) for name in KEY) for x in new}
    rows = [x for x in old if tuple(x[name] for name in KEY) not in replaced] + new
    rows.sort(
        key=lambda x: (
            x["variant"],
            x["script"],
            x["env_id"],
            int(x["seed"]),
            int(x.get("step", 0)),
        )
    )
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, fields, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--variants", action="store_true")
    parser.add_argument("run_dirs", nargs="+", type=Path)
    options, results, curves = parser.parse_args(), [], []
    for run_dir in options.run_dirs:
        if not (run_dir / "result.json").exists():
            print(f"{run_dir} has not finished: left out")
            continue
        args, result = (
            json.loads((run_dir / f"{name}.json").read_text()) for name in ("args", "result")
        )
        args["variant"] = run_dir.resolve().parent.name if options.variants else ""
        results.append(row(args, result))
        curves += curve(run_dir, args, result)
    merge(HERE / "results.csv", RESULTS, results)
    merge(HERE / "curves.csv", CURVES, curves)


if __name__ == "__main__":
    main()
