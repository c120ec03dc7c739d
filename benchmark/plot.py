"""Draws the learning curves of your runs: mean over seeds and its 95 % interval, as a PNG.

    python benchmark/plot.py runs
    python benchmark/plot.py runs --tag losses/value_loss --x minutes --out losses.png

Every folder below `runs` that has an args.json is a run; runs that are still training count too.
Each environment has a panel. Runs that differ in nothing but the seed are one curve; where other
arguments differ, each combination is a curve, and the legend names the arguments. One line is
printed for each curve, and one for each folder without a point yet, which is skipped. The final
mean is the last point of the curve.

- Length: a curve ends where the shortest of its runs ends.
- Seeds: of several runs with the same seed, the longest is used. The others are no new evidence.
- Smoothing: a curve has --points points, fewer where a run has logged fewer. Each is the mean of
  what was logged since the point before it; of charts/episodic_return and episodic_length, the mean
  over episodes. Where a run logged nothing between two points, its curve is a straight line.
- Interval: percentile bootstrap of the mean over seeds, with 2,000 resamples. One seed has none.
- Resumed runs: steps that were computed again count once, as the last process logged them.
- Minutes: the training time of a run, from its first event. The time between two processes of a
  resumed run is left out, and so is the time of steps that were computed again.

It needs matplotlib: pip install matplotlib
"""

import argparse
import json
import logging
import math
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

SCRIPTS = {  # name and color (Okabe and Ito's)
    "reinforce": ("REINFORCE", "#D55E00"),
    "a2c_continuous": ("A2C", "#E69F00"),
    "ppo_continuous": ("PPO", "#0072B2"),
    "trpo_continuous": ("TRPO", "#009E73"),
    "ddpg": ("DDPG", "#CC79A7"),
}
OTHER_COLOR = "#000000"  # of a script of your own
LINE_STYLES = ["-", "--", ":", "-.", (0, (8, 2)), (0, (4, 1, 1, 1, 1, 1))]
# in args.json, but not a hyperparameter: a run may be resumed with other values of these
NOT_HYPERPARAMETERS = {
    "script",
    "env_id",
    "seed",
    "run_dir",
    "evaluate",
    "eval_episodes",
    "capture_video",
    "device",
    "versions",
}


class UsageError(Exception):
    """A mistake that the user can correct: one line and exit status 2."""


@dataclass
class Run:
    """What one run logged of the tag: n points."""

    run_dir: Path
    args: dict  # args.json
    steps: np.ndarray  # (n,)
    minutes: np.ndarray  # (n,), of training
    values: np.ndarray  # (n,)
    weights: np.ndarray  # (n,), episodes that a point is a mean of; 1 for other tags

    def x(self, axis):
        return self.steps if axis == "steps" else self.minutes


@dataclass
class Curve:
    """Mean over the seeds of a group at P points, and its interval."""

    env_id: str
    script: str
    label: str  # name of the script, and the arguments that tell this curve from others
    runs: list  # one per seed
    num_unused: int  # runs of a seed that has a longer one
    x: np.ndarray  # (P,), steps or minutes
    mean: np.ndarray  # (P,)
    low: np.ndarray  # (P,)
    high: np.ndarray  # (P,)


# --------------------------------------------------------------------------------------------------
# Reading


def find_run_dirs(folders):
    """All folders with an args.json, at any depth."""
    run_dirs = set()
    for folder in folders:
        if not folder.is_dir():
            raise UsageError(f"{folder} is not a folder")
        run_dirs.update(path.parent for path in folder.rglob("args.json"))
    if not run_dirs:
        names = " ".join(str(folder) for folder in folders)
        raise UsageError(f"no runs below {names}: no folder there has an args.json")
    return sorted(run_dirs)


def read_args(run_dir):
    """args.json of a run; None where it is another program's, or only half written yet."""
    try:
        args = json.loads((run_dir / "args.json").read_text())
    except (OSError, ValueError):
        return None
    if isinstance(args, dict) and {"script", "env_id", "seed"} <= args.keys():
        return args
    return None


def start_times(run_dir):
    """When each process of the run started, in seconds, in order: each has its events file."""
    times = []
    for path in run_dir.glob("events.out.tfevents.*"):
        try:
            times.append(EventAccumulator(str(path)).FirstEventTimestamp())
        except ValueError:  # an empty file
            pass
    return sorted(times)


def training_minutes(wall_times, starts):
    """Minutes of training until each point (n,), without the time between two processes.

    A process counts from its start to its last point that no later process has replaced.
    """
    process = np.searchsorted(starts, wall_times, side="right") - 1  # of each point
    seconds = np.zeros(len(wall_times))
    before = 0.0  # seconds of training of earlier processes
    for i, start in enumerate(starts):
        inside = process == i
        if inside.any():
            seconds[inside] = before + wall_times[inside] - start
            before = seconds[inside].max()
    return seconds / 60


def num_episodes(events, tag, points):
    """How many episodes each point is a mean of (n,); 1 where it is none, or that is unknown."""
    counts = {}
    if tag.startswith("charts/episodic_") and "charts/num_episodes" in events.Tags()["scalars"]:
        counts = {point.step: point.value for point in events.Scalars("charts/num_episodes")}
    return np.array([counts.get(point.step, 1.0) for point in points])


def read_run(run_dir, args, points, weights):
    """A run from the points that TensorBoard has of the tag."""
    wall_times = np.array([point.wall_time for point in points])
    return Run(
        run_dir,
        args,
        steps=np.array([point.step for point in points]),
        minutes=training_minutes(wall_times, start_times(run_dir)),
        values=np.array([point.value for point in points]),
        weights=weights,
    )


def read_runs(folders, tag):
    """All runs that have points of the tag, and one line for each folder that is skipped."""
    runs, skipped, other_tags = [], [], set()
    for run_dir in find_run_dirs(folders):
        args = read_args(run_dir)
        if args is None:
            skipped.append(f"skipped {run_dir}: its args.json is not that of a run")
            continue
        # 0: all points, not a sample of them
        events = EventAccumulator(str(run_dir), size_guidance={"scalars": 0}).Reload()
        tags = events.Tags()["scalars"]
        points = events.Scalars(tag) if tag in tags else []
        if points:
            runs.append(read_run(run_dir, args, points, num_episodes(events, tag, points)))
        else:
            skipped.append(f"skipped {run_dir}: no {tag} yet")
            other_tags.update(tags)
    if not runs:
        names = " ".join(str(folder) for folder in folders)
        tags = ", ".join(sorted(other_tags)) or "nothing yet"
        raise UsageError(f"no run below {names} has logged {tag}; logged: {tags}")
    return runs, skipped


# --------------------------------------------------------------------------------------------------
# Grouping


def hyperparameters(run):
    """What tells two curves of a script in an environment from each other."""
    return {k: v for k, v in run.args.items() if k not in NOT_HYPERPARAMETERS}


def group_runs(runs):
    """Lists of runs of the same environment and script, in order."""
    groups = {}
    for run in runs:
        groups.setdefault((run.args["env_id"], run.args["script"]), []).append(run)
    order = list(SCRIPTS)

    def rank(key):
        env_id, script = key
        return env_id, order.index(script) if script in order else len(order), script

    return [groups[key] for key in sorted(groups, key=rank)]


def sortable(value):
    """A value from args.json as a pair that sorts numbers before text; 1 and 1.0 are the same."""
    return (value, "") if isinstance(value, (int, float)) else (math.inf, str(value))


def differing(runs):
    """Names of the hyperparameters in which the runs differ."""
    names = dict.fromkeys(name for run in runs for name in hyperparameters(run))
    return [name for name in names if len({sortable(run.args.get(name)) for run in runs}) > 1]


def split_by(names, runs):
    """Lists of runs that agree in these hyperparameters, numbers in ascending order."""
    groups = {}
    for run in runs:
        key = tuple(sortable(run.args.get(name)) for name in names)
        groups.setdefault(key, []).append(run)
    return [groups[key] for key in sorted(groups)]


def longest_per_seed(runs):
    """One run for each seed, in the order of seeds."""
    longest = {}
    for run in runs:
        seed = run.args["seed"]
        if seed not in longest or run.steps[-1] > longest[seed].steps[-1]:
            longest[seed] = run
    return [longest[seed] for seed in sorted(longest)]


# --------------------------------------------------------------------------------------------------
# Statistics


def resample(x, y, weights, grid):
    """The weighted mean of y since the grid point before, at each point of the grid (P,).

    Where there is no y, between the neighbors; nan before the first.
    """
    index = np.searchsorted(grid, x)  # grid[index - 1] < x <= grid[index]
    inside = index < len(grid)
    index, y, weights = index[inside], y[inside], weights[inside]
    weight = np.bincount(index, weights, minlength=len(grid))
    total = np.bincount(index, weights * y, minlength=len(grid))
    known = weight > 0
    return np.interp(grid, grid[known], total[known] / weight[known], left=np.nan)


def bootstrap_interval(curves, resamples=2_000):
    """95 % interval of the mean over seeds, at each point: (seeds, P) to two of (P,)."""
    rng = np.random.default_rng(0)
    num_seeds = len(curves)
    seeds = rng.integers(num_seeds, size=(resamples, num_seeds))  # drawn with replacement
    means = np.stack([curves[i].mean(0) for i in seeds])
    return np.quantile(means, [0.025, 0.975], axis=0)


def make_curve(runs, label, axis, max_points):
    """The curve of runs that differ in the seed alone."""
    used = longest_per_seed(runs)
    end = min(run.x(axis)[-1] for run in used)
    end = max([end, *(run.x(axis)[0] for run in used)])  # each run has at least one point
    num_points = min([max_points, *(np.sum(run.x(axis) <= end) for run in used)])
    grid = np.linspace(0, end, num_points + 1)[1:]
    # (seeds, P)
    curves = np.stack([resample(run.x(axis), run.values, run.weights, grid) for run in used])
    known = ~np.isnan(curves).any(0)  # all runs have a value
    curves = curves[:, known]
    low, high = bootstrap_interval(curves)
    return Curve(
        env_id=used[0].args["env_id"],
        script=used[0].args["script"],
        label=label,
        runs=used,
        num_unused=len(runs) - len(used),
        x=grid[known],
        mean=curves.mean(0),
        low=low,
        high=high,
    )


def make_curves(runs, axis="steps", max_points=50):
    """All curves, by environment, script and hyperparameters."""
    curves = []
    for group in group_runs(runs):
        script = group[0].args["script"]
        name, _ = SCRIPTS.get(script, (script, OTHER_COLOR))
        names = differing(group)
        for part in split_by(names, group):
            args = part[0].args
            values = [f"{name}={args[name]}" for name in names if name in args]
            label = " ".join([name, *values])
            curves.append(make_curve(part, label, axis, max_points))
    return curves


# --------------------------------------------------------------------------------------------------
# Output


def number(x):
    return f"{x:,.1f}" if abs(x) >= 100 else f"{x:.3g}"


def describe(curve, axis):
    """One line: what was grouped, how long it is, where it ends."""
    seeds = ", ".join(str(run.args["seed"]) for run in curve.runs)
    if curve.num_unused > 0:
        folders = "folder" if curve.num_unused == 1 else "folders"
        seeds += f" ({curve.num_unused} shorter {folders} of the same seed not used)"

    last_steps = [run.steps[-1] for run in curve.runs]
    length = f"last step {min(last_steps):,}"
    if max(last_steps) > min(last_steps):
        length += f" (the longest run has {max(last_steps):,})"
    if axis == "minutes":
        length += f", {number(curve.x[-1])} minutes"

    final = f"final mean {number(curve.mean[-1])}"
    if len(curve.runs) > 1:
        final += f" (95 % interval {number(curve.low[-1])} to {number(curve.high[-1])})"
    noun = "seed" if len(curve.runs) == 1 else "seeds"
    return f"{curve.env_id}, {curve.label}: {noun} {seeds}; {length}; {final}"


def legend_label(curve):
    num_seeds = len(curve.runs)
    seeds = "1 seed" if num_seeds == 1 else f"{num_seeds} seeds"
    return textwrap.fill(f"{curve.label} ({seeds})", 60)


def draw_curve(ax, curve, line_style):
    _, color = SCRIPTS.get(curve.script, ("", OTHER_COLOR))
    marker = "o" if len(curve.x) == 1 else None  # a line of one point cannot be seen
    style = {"color": color, "linestyle": line_style, "marker": marker}
    ax.plot(curve.x, curve.mean, label=legend_label(curve), **style)
    if len(curve.runs) > 1:
        ax.fill_between(curve.x, curve.low, curve.high, color=color, alpha=0.2, linewidth=0)


def draw_panel(ax, curves, tag, axis):
    """All curves in one environment, the legend below them."""
    num_drawn = {}  # curves of each script so far
    for curve in curves:
        i = num_drawn.get(curve.script, 0)
        draw_curve(ax, curve, LINE_STYLES[i % len(LINE_STYLES)])
        num_drawn[curve.script] = i + 1
    ax.set_title(curves[0].env_id)
    ax.set_xlabel("environment steps" if axis == "steps" else "minutes of training")
    ax.set_ylabel(tag.split("/")[-1].replace("_", " "))
    ax.set_xlim(left=0)
    if axis == "steps":
        ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(alpha=0.3)
    place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.17)}
    ax.legend(**place, frameon=False, fontsize="small", handlelength=3)


def draw(curves, tag, axis):
    """A figure with one panel for each environment, at most three in a row."""
    panels = {}
    for curve in curves:
        panels.setdefault(curve.env_id, []).append(curve)
    num_rows = math.ceil(len(panels) / 3)
    num_columns = math.ceil(len(panels) / num_rows)

    # as high as the longest legend needs, in inches
    labels = ["\n".join(legend_label(curve) for curve in panel) for panel in panels.values()]
    height = 3.6 + 0.2 * max(label.count("\n") + 1 for label in labels)
    size = (5 * num_columns, height * num_rows)

    figure = Figure(figsize=size, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.15, h_pad=0.15)  # inches
    for i, panel in enumerate(panels.values()):
        draw_panel(figure.add_subplot(num_rows, num_columns, i + 1), panel, tag, axis)
    if any(len(curve.runs) > 1 for curve in curves):
        figure.supxlabel("mean and bootstrap 95 % interval over seeds", fontsize="small")
    return figure


def save(figure, path):
    try:
        figure.savefig(path, dpi=150)
    except (OSError, ValueError) as error:  # the folder is missing; no such format
        raise UsageError(f"cannot write {path}: {error}") from error


def parse_options(argv):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path, help="folders with runs at any depth")

    def option(name, help, **settings):
        parser.add_argument(name, help=f"{help} (default: %(default)s)", **settings)

    option("--tag", "scalar of TensorBoard to draw", default="charts/episodic_return")
    option("--x", "horizontal axis", default="steps", choices=["steps", "minutes"])
    option("--points", "points of a curve; fewer are smoother", type=int, default=50)
    option("--out", "image to write: .png, .svg or .pdf", type=Path, default=Path("runs.png"))
    return parser.parse_args(argv)


def main(argv=None):
    options = parse_options(argv)
    if options.points < 1:
        raise UsageError("--points must be at least 1")
    # TensorBoard warns of replaced steps of a resumed run
    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    runs, skipped = read_runs(options.folders, options.tag)
    curves = make_curves(runs, options.x, options.points)
    save(draw(curves, options.tag, options.x), options.out)
    for line in [describe(curve, options.x) for curve in curves] + skipped:
        print(line)
    print(options.out)


if __name__ == "__main__":
    try:
        main()
    except UsageError as error:
        print("error: " + " ".join(str(error).split()), file=sys.stderr)  # in one line
        sys.exit(2)
