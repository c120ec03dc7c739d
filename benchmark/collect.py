"""Takes finished runs into results.csv, one row each, and curves.csv, 50 rows each.

Rows of the same runs are replaced. With --variants, the name of a run's parent folder is its
variant.

    python benchmark/collect.py runs/*
    python benchmark/collect.py --variants runs/ablations/*/*
    python benchmark/collect.py --variants --results-only runs/race/*/*

The column mean_q is DDPG's E[Q(s, μ(s))]. Runs of the first edition (commit 51f7dd6) logged no such
number: their rows hold minus the policy's loss, which is E[Q] minus the penalty on saturated
actions.
"""

import argparse
import csv
import json
from pathlib import Path

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

HERE = Path(__file__).parent
KEY = ["variant", "script", "env_id", "seed"]  # the variant of the defaults is ""
RESULTS = [*KEY, "deterministic", "sampled", "training", "steps", "steps_per_second", "versions"]
TAGS = {  # column of curves.csv: what TensorBoard has
    "episodic_return": "charts/episodic_return",
    "kl": "losses/kl",  # of TRPO, and of runs by divergence.py, like the next three
    "kl_max": "losses/kl_max",
    "ratio_q01": "losses/ratio_q01",
    "ratio_q99": "losses/ratio_q99",
    "mean_q": "losses/mean_q",
}
CURVES = [*KEY, "step", *TAGS]
PARTS = 50


def result_row(key, args, result):
    """A run's scores.

    Means of its evaluation episodes in each mode, and of the last 100 training episodes.
    """
    row = dict(key)
    for mode in ("deterministic", "sampled"):
        if mode in result:
            row[mode] = round(result[mode]["mean"], 1)
    row["training"] = rounded(result["training_return"], 1)
    row["steps"] = result["steps"]
    row["steps_per_second"] = rounded(result["steps_per_second"])
    row["versions"] = " ".join(f"{name} {number}" for name, number in args["versions"].items())
    return row


def rounded(x, digits=None):
    """Nothing where a run has no such number."""
    return "" if x is None else round(x, digits)


def curve_rows(key, run_dir, num_steps):
    """What the run logged, averaged over each fiftieth of its steps.

    A step is the end of its part. Returns are averaged over episodes, as far as their number was
    logged: otherwise the few short episodes that end soon after a checkpoint, which starts all
    anew, would weigh as much as the many that end later.
    """
    events = EventAccumulator(str(run_dir), size_guidance={"scalars": 0}).Reload()
    num_episodes = {point.step: point.value for point in scalars(events, "charts/num_episodes")}
    edges = np.linspace(0, num_steps, PARTS + 1)
    rows = [{**key, "step": round(edge)} for edge in edges[1:]]
    for column, tag in TAGS.items():
        points = scalars(events, tag)
        steps = np.array([point.step for point in points])
        values = np.array([point.value for point in points])
        weights = np.ones(len(points))
        if column == "episodic_return":
            weights = np.array([num_episodes.get(point.step, 1) for point in points])
        for row, low, high in zip(rows, edges, edges[1:]):
            inside = (low < steps) & (steps <= high)
            row[column] = ""
            if inside.any():
                row[column] = f"{np.average(values[inside], weights=weights[inside]):.5g}"
    return rows


def scalars(events, tag):
    return events.Scalars(tag) if tag in events.Tags()["scalars"] else []


def merge(path, fields, new_rows):
    """Writes the table with the new rows in place of those of the same runs, sorted."""
    old_rows = list(csv.DictReader(path.read_text().splitlines())) if path.exists() else []
    replaced = {run_of(row) for row in new_rows}
    rows = [row for row in old_rows if run_of(row) not in replaced] + new_rows
    rows.sort(key=rank)
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, fields, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def run_of(row):
    return tuple(str(row[name]) for name in KEY)


def rank(row):
    step = int(row.get("step", 0))
    return row["variant"], row["script"], row["env_id"], int(row["seed"]), step


def parse_options():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--variants", action="store_true", help="parent folders are named after variants"
    )
    parser.add_argument("--results-only", action="store_true", help="leave curves.csv as it is")
    parser.add_argument("run_dirs", nargs="+", type=Path)
    return parser.parse_args()


def main():
    options = parse_options()
    results, curves = [], []
    for run_dir in options.run_dirs:
        if not (run_dir / "result.json").exists():
            print(f"{run_dir} has not finished: left out")
            continue
        args = json.loads((run_dir / "args.json").read_text())
        result = json.loads((run_dir / "result.json").read_text())
        args["variant"] = run_dir.resolve().parent.name if options.variants else ""
        key = {name: args[name] for name in KEY}
        results.append(result_row(key, args, result))
        if not options.results_only:
            curves += curve_rows(key, run_dir, result["steps"])
    merge(HERE / "results.csv", RESULTS, results)
    if not options.results_only:
        merge(HERE / "curves.csv", CURVES, curves)


if __name__ == "__main__":
    main()
