"""Learning curves of a user's runs: benchmark/plot.py."""

import importlib
import json
import math
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from helpers import load, run, tiny_args
from matplotlib.colors import to_hex
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

PLOT = Path(__file__).parents[1] / "benchmark" / "plot.py"
TAG = "charts/episodic_return"
START = 1_700_000_000.0  # seconds: when the first process of a synthetic run starts
DAY = 24 * 60 * 60


@pytest.fixture
def plot(monkeypatch):
    monkeypatch.syspath_prepend(str(PLOT.parent))
    return importlib.import_module("plot")


def write_args(run_dir, /, script="ppo_continuous", env_id="Hopper-v4", seed=1, **hyperparameters):
    run_dir.mkdir(parents=True, exist_ok=True)
    args = {"script": script, "env_id": env_id, "seed": seed} | hyperparameters
    (run_dir / "args.json").write_text(json.dumps(args))


def write_events(run_dir, points, start=START, purge_step=None, tag=TAG, close=True):
    """What one process logs that starts at this time; points: step, value, seconds since then."""
    with mock.patch("time.time", lambda: start):
        writer = SummaryWriter(str(run_dir), purge_step=purge_step)
        for step, value, seconds in points:
            writer.add_scalar(tag, value, step, walltime=start + seconds)
        writer.flush()
        if close:
            writer.close()
    return writer


def write_run(run_dir, values, /, step=100, **args):
    """A run that logs these values, one every 100 steps and every minute."""
    write_args(run_dir, **args)
    points = [(step * (i + 1), value, 60 * (i + 1)) for i, value in enumerate(values)]
    write_events(run_dir, points)


def curves_of(plot, folder, axis="steps", max_points=100, tag=TAG):
    runs, _ = plot.read_runs([folder], tag)
    return plot.make_curves(runs, axis, max_points)


# --------------------------------------------------------------------------------------------------
# Numbers


def test_mean_and_interval_over_seeds(plot, tmp_path):
    """Of ten seeds five have 0 and five 10: the bootstrap's mean is a binomial variable.

    Of Binomial(10, 1/2), P(k <= 1) = 0.011 and P(k <= 2) = 0.055: its 2.5 % quantile is 2.
    """
    for seed in range(10):
        write_run(tmp_path / f"{seed}", [7.0, 10.0 * (seed % 2)], seed=seed)
    (curve,) = curves_of(plot, tmp_path)
    np.testing.assert_allclose(curve.x, [100, 200])
    np.testing.assert_allclose(curve.mean, [7, 5])
    np.testing.assert_allclose(curve.low, [7, 2])
    np.testing.assert_allclose(curve.high, [7, 8])
    assert [run.args["seed"] for run in curve.runs] == list(range(10))


def test_the_interval_is_that_of_all_resamples(plot):
    """Four seeds have 4⁴ equally likely resamples: written out."""
    values = np.array([1.0, 2.0, 4.0, 9.0])
    means = [np.mean(values[list(i)]) for i in np.ndindex(4, 4, 4, 4)]
    low, high = plot.bootstrap_interval(values[:, None], resamples=50_000)
    exact = np.quantile(means, [0.025, 0.975])
    np.testing.assert_allclose([low[0], high[0]], exact, atol=0.3)  # neighbors differ by 0.25


def test_a_point_is_the_mean_since_the_point_before(plot):
    rng = np.random.default_rng(0)
    x, y = np.cumsum(rng.integers(1, 60, size=40)), rng.normal(size=40)
    weights = rng.integers(1, 5, size=40)
    grid = np.linspace(0, x[-1] - 30, 31)[1:]
    expected = []
    for low, high in zip([0, *grid], grid):
        inside = [i for i in range(40) if low < x[i] <= high]
        total = sum(weights[i] * y[i] for i in inside)
        expected.append(total / sum(weights[i] for i in inside) if inside else math.nan)
    got = plot.resample(x, y, weights, grid)
    known = ~np.isnan(expected)
    assert 5 < known.sum() < 30  # some bins have points, some have none
    np.testing.assert_allclose(got[known], np.array(expected)[known])


def test_between_points_is_a_straight_line_and_nothing_before_the_first(plot):
    x, y = np.array([200, 500]), np.array([1.0, 4.0])
    got = plot.resample(x, y, np.ones(len(x)), np.array([100, 200, 300, 400, 500, 600]))
    np.testing.assert_allclose(got, [math.nan, 1, 2, 3, 4, 4])


def test_returns_are_averaged_over_episodes(plot, tmp_path):
    """Where their number was logged; other tags never."""
    write_run(tmp_path / "run", [1.0, 9.0])
    counts = [(100, 1.0, 60), (200, 3.0, 120)]
    write_events(tmp_path / "run", counts, tag="charts/num_episodes", start=START + 1)
    losses = [(100, 2.0, 60), (200, 4.0, 120)]
    write_events(tmp_path / "run", losses, tag="losses/value_loss", start=START + 2)
    (curve,) = curves_of(plot, tmp_path, max_points=1)
    np.testing.assert_allclose(curve.mean, [7])
    (curve,) = curves_of(plot, tmp_path, max_points=1, tag="losses/value_loss")
    np.testing.assert_allclose(curve.mean, [3])


def test_smoothing_to_fewer_points(plot, tmp_path):
    values = np.arange(400.0)
    write_run(tmp_path / "run", values)
    (curve,) = curves_of(plot, tmp_path)
    np.testing.assert_allclose(curve.x, 400 * np.arange(1, 101))
    np.testing.assert_allclose(curve.mean, values.reshape(100, 4).mean(1))
    (curve,) = curves_of(plot, tmp_path, max_points=5)
    np.testing.assert_allclose(curve.mean, values.reshape(5, 80).mean(1))


def test_a_curve_starts_where_all_seeds_have_a_value(plot, tmp_path):
    """No episode of seed 2 ended in the first 200 steps."""
    write_run(tmp_path / "1", [1.0, 2.0, 3.0, 4.0], seed=1)
    write_args(tmp_path / "2", seed=2)
    write_events(tmp_path / "2", [(300, 10.0, 1), (350, 20.0, 2), (370, 30.0, 3), (400, 40.0, 4)])
    (curve,) = curves_of(plot, tmp_path)
    np.testing.assert_allclose(curve.x, [300, 400])
    np.testing.assert_allclose(curve.mean, [(3 + 10) / 2, (4 + 30) / 2])


def test_a_curve_ends_with_the_shortest_run(plot, tmp_path):
    write_run(tmp_path / "1", [1.0, 2.0, 3.0, 4.0, 5.0], seed=1)
    write_run(tmp_path / "2", [10.0, 20.0], seed=2)
    (curve,) = curves_of(plot, tmp_path)
    np.testing.assert_allclose(curve.x, [100, 200])
    np.testing.assert_allclose(curve.mean, [5.5, 11])
    line = plot.describe(curve, "steps")
    assert "last step 200 (the longest run has 500)" in line


def test_runs_that_have_just_begun(plot, tmp_path):
    """The shorter run has ended before the other one has its first point."""
    write_run(tmp_path / "1", [1.0], seed=1, step=100)
    write_run(tmp_path / "2", [2.0, 9.0], seed=2, step=120)
    (curve,) = curves_of(plot, tmp_path)
    np.testing.assert_allclose(curve.x, [120])
    np.testing.assert_allclose(curve.mean, [1.5])


def test_another_tag(plot, tmp_path):
    write_run(tmp_path / "run", [100.0])
    write_events(tmp_path / "run", [(100, 0.25, 1)], tag="losses/value_loss", start=START + 1)
    (curve,) = curves_of(plot, tmp_path, tag="losses/value_loss")
    np.testing.assert_allclose(curve.mean, [0.25])


# --------------------------------------------------------------------------------------------------
# Resumed and unfinished runs


def write_resumed_run(run_dir):
    """The first process dies after step 500; two days later another resumes at step 300.

    It dies before its first point, a third one before its file has an event. The fourth resumes
    there a day later.
    """
    write_args(run_dir)
    (run_dir / f"events.out.tfevents.{START + 2.5 * DAY:.0f}.host.1.0").touch()
    write_events(run_dir, [(100 * i, 1.0 * i, 60 * i) for i in range(1, 6)])
    write_events(run_dir, [], start=START + 2 * DAY, purge_step=301)
    points = [(400, 40.0, 90), (500, 50.0, 180), (600, 60.0, 270)]
    write_events(run_dir, points, start=START + 3 * DAY, purge_step=301)


def test_later_processes_replace_the_steps_after_their_start(plot, tmp_path):
    write_resumed_run(tmp_path / "run")
    (curve,) = curves_of(plot, tmp_path)
    np.testing.assert_allclose(curve.x, [100, 200, 300, 400, 500, 600])
    np.testing.assert_allclose(curve.mean, [1, 2, 3, 40, 50, 60])


def test_minutes_leave_out_the_time_between_processes(plot, tmp_path):
    """Three minutes to step 300; the two that were lost do not count; then 1.5 for each point."""
    write_resumed_run(tmp_path / "run")
    runs, _ = plot.read_runs([tmp_path], TAG)
    np.testing.assert_allclose(runs[0].minutes, [1, 2, 3, 4.5, 6, 7.5])
    (curve,) = curves_of(plot, tmp_path, axis="minutes", max_points=5)
    np.testing.assert_allclose(curve.x, [1.5, 3, 4.5, 6, 7.5])
    np.testing.assert_allclose(curve.mean, [1, 2.5, 40, 50, 60])
    assert "last step 600, 7.5 minutes" in plot.describe(curve, "minutes")


def test_minutes_end_with_the_run_that_has_trained_the_shortest(plot, tmp_path):
    for seed, seconds in ((1, 60), (2, 120)):
        write_args(tmp_path / f"{seed}", seed=seed)
        points = [(100 * i, 10.0 * seed + i, seconds * i) for i in range(1, 5)]
        write_events(tmp_path / f"{seed}", points)
    (curve,) = curves_of(plot, tmp_path, axis="minutes")
    np.testing.assert_allclose(curve.x, [2, 4])  # seed 2 has two points in these minutes
    np.testing.assert_allclose(curve.mean, [(11.5 + 21) / 2, (13.5 + 22) / 2])


def test_a_resumed_run_is_drawn_without_a_warning(tmp_path):
    write_resumed_run(tmp_path / "run")
    # a process of its own: pytest catches warnings of this one
    command = [sys.executable, PLOT, tmp_path]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "Hopper-v4, PPO: seed 1; last step 600; final mean 60",
        "runs.png",
    ]


def test_a_run_that_is_being_written(plot, tmp_path):
    """What is on the disk counts, up to a record that is only half there."""
    run_dir = tmp_path / "run"
    write_args(run_dir)
    points = [(100, 1.0, 60), (200, 2.0, 120)]
    writer = write_events(run_dir, points, close=False)
    (curve,) = curves_of(plot, tmp_path)
    np.testing.assert_allclose(curve.mean, [1, 2])
    writer.add_scalar(TAG, 3.0, 300)
    writer.flush()
    (curve,) = curves_of(plot, tmp_path)
    np.testing.assert_allclose(curve.mean, [1, 2, 3])
    writer.close()
    (path,) = run_dir.glob("events*")
    path.write_bytes(path.read_bytes()[:-5])
    (curve,) = curves_of(plot, tmp_path)
    np.testing.assert_allclose(curve.mean, [1, 2])


def test_what_has_no_points_yet_is_named(tmp_path):
    """A run that has only begun does not shorten the curve of the others."""
    runs = tmp_path / "runs"
    write_run(runs / "a" / "b" / "deep", [1.0, 2.0])
    write_args(runs / "new", seed=2)
    write_args(runs / "silent", seed=3)
    write_events(runs / "silent", [(100, 5.0, 1)], tag="charts/SPS")
    write_args(runs / "empty", seed=4)
    (runs / "empty" / "events.out.tfevents.1700000000.host.1.0").touch()
    (runs / "half").mkdir()
    (runs / "half" / "args.json").write_text('{"script": "ppo_cont')
    (runs / "foreign").mkdir()
    (runs / "foreign" / "args.json").write_text("[]")
    done = run(PLOT, "runs", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "Hopper-v4, PPO: seed 1; last step 200; final mean 2",
        f"skipped runs/empty: no {TAG} yet",
        "skipped runs/foreign: its args.json is not that of a run",
        "skipped runs/half: its args.json is not that of a run",
        f"skipped runs/new: no {TAG} yet",
        f"skipped runs/silent: no {TAG} yet",
        "runs.png",
    ]


# --------------------------------------------------------------------------------------------------
# Groups


def test_one_curve_for_each_environment_and_script(plot, tmp_path):
    for script in ("ddpg", "my_script", "reinforce"):
        for env_id in ("Walker2d-v4", "Hopper-v4"):
            for seed in (2, 1):
                run_dir = tmp_path / f"{script}-{env_id}-{seed}"
                write_run(run_dir, [1.0], script=script, env_id=env_id, seed=seed)
    curves = curves_of(plot, tmp_path)
    assert [(curve.env_id, curve.label) for curve in curves] == [
        ("Hopper-v4", "REINFORCE"),
        ("Hopper-v4", "DDPG"),
        ("Hopper-v4", "my_script"),
        ("Walker2d-v4", "REINFORCE"),
        ("Walker2d-v4", "DDPG"),
        ("Walker2d-v4", "my_script"),
    ]
    assert all([run.args["seed"] for run in curve.runs] == [1, 2] for curve in curves)


def test_runs_with_other_hyperparameters_are_other_curves(plot, tmp_path):
    for learning_rate in (10, 0.001, 2.0):
        for seed in (1, 2):
            run_dir = tmp_path / f"{learning_rate}-{seed}"
            write_run(run_dir, [learning_rate], seed=seed, learning_rate=learning_rate, gamma=0.99)
    write_run(tmp_path / "3", [2.0], seed=3, learning_rate=2, gamma=0.99)  # 2 and 2.0 are the same
    curves = curves_of(plot, tmp_path)
    assert [curve.label for curve in curves] == [
        "PPO learning_rate=0.001",
        "PPO learning_rate=2.0",
        "PPO learning_rate=10",
    ]
    np.testing.assert_allclose([curve.mean[0] for curve in curves], [0.001, 2, 10])
    assert [len(curve.runs) for curve in curves] == [2, 3, 2]


def test_an_argument_that_only_some_runs_have(plot, tmp_path):
    write_run(tmp_path / "old", [1.0], env_kwargs="{}")
    write_run(tmp_path / "new", [2.0], env_kwargs='{"a": 1}', ent_coef=0.0)
    labels = [curve.label for curve in curves_of(plot, tmp_path)]
    assert labels == ['PPO env_kwargs={"a": 1} ent_coef=0.0', "PPO env_kwargs={}"]


def test_arguments_that_change_no_number_do_not_split_a_curve(plot, tmp_path):
    """A script resumes a run with other values of these."""
    changes = {"run_dir": "a", "device": "cuda", "eval_episodes": 3, "capture_video": True}
    write_run(tmp_path / "1", [1.0], seed=1, run_dir="b", device="cpu", versions={"torch": "2.5"})
    write_run(tmp_path / "2", [2.0], seed=2, versions={"torch": "2.6"}, **changes)
    (curve,) = curves_of(plot, tmp_path)
    np.testing.assert_allclose(curve.mean, [1.5])


def test_of_one_seed_the_longest_run_is_used(plot, tmp_path):
    """Neither the mean nor the interval counts a seed twice."""
    write_run(tmp_path / "a", [5.0], seed=1)
    write_run(tmp_path / "b", [1.0, 2.0, 3.0], seed=1)
    write_run(tmp_path / "c", [1.0, 2.0, 7.0], seed=2)
    write_run(tmp_path / "d", [9.0, 9.0], seed=1)
    (curve,) = curves_of(plot, tmp_path)
    np.testing.assert_allclose(curve.mean, [1, 2, 5])
    np.testing.assert_allclose([curve.low[-1], curve.high[-1]], [3, 7])
    expected = "seeds 1, 2 (2 shorter folders of the same seed not used); last step 300; "
    assert expected in plot.describe(curve, "steps")


def test_folders_that_overlap_count_once(plot, tmp_path):
    write_run(tmp_path / "runs" / "a", [1.0], seed=1)
    write_run(tmp_path / "runs" / "b", [2.0], seed=2)
    runs, _ = plot.read_runs([tmp_path / "runs", tmp_path / "runs" / "a"], TAG)
    assert [run.run_dir.name for run in runs] == ["a", "b"]


# --------------------------------------------------------------------------------------------------
# The figure


@pytest.fixture
def figure(plot, tmp_path):
    """Four environments, one of them with three curves of PPO and one of TRPO."""
    for env_id in ("A-v0", "B-v0", "C-v0", "D-v0"):
        for seed in (1, 2):
            rate = {"learning_rate": 0.1}
            name = f"{env_id}-{seed}"
            write_run(tmp_path / name, [1.0, 2.0 + seed], env_id=env_id, seed=seed, **rate)
    for i in range(2, 4):
        kwargs = json.dumps({"a_long_name_of_an_argument": [i] * 20})
        rate = {"learning_rate": float(i), "env_kwargs": kwargs}
        write_run(tmp_path / f"{i}", [1.0, 2.0, 3.0 * i], env_id="B-v0", **rate)
    write_run(tmp_path / "trpo", [4.0], env_id="B-v0", script="trpo_continuous")
    curves = curves_of(plot, tmp_path)
    figure = plot.draw(curves, TAG, "steps")
    figure.savefig(tmp_path / "figure.png")  # this is where the layout is made
    return figure, curves


def test_the_figure_has_one_panel_for_each_environment(figure):
    figure, curves = figure
    assert [ax.get_title() for ax in figure.axes] == ["A-v0", "B-v0", "C-v0", "D-v0"]
    for ax in figure.axes:
        expected = [curve for curve in curves if curve.env_id == ax.get_title()]
        assert len(ax.lines) == len(expected)
        for line, curve in zip(ax.lines, expected):
            np.testing.assert_array_equal(line.get_xdata(), curve.x)
            np.testing.assert_array_equal(line.get_ydata(), curve.mean)
        assert ax.get_ylabel() == "episodic return" and ax.get_xlabel() == "environment steps"


def test_the_interval_is_shaded_where_there_are_two_seeds(figure):
    figure, curves = figure
    for ax in figure.axes:
        several = [c for c in curves if c.env_id == ax.get_title() and len(c.runs) > 1]
        assert len(ax.collections) == len(several)
        for area, curve in zip(ax.collections, several):
            (path,) = area.get_paths()
            for x, low, high in zip(curve.x, curve.low, curve.high):
                assert {(x, low), (x, high)} <= {tuple(point) for point in path.vertices}


def test_scripts_have_colors_and_their_curves_line_styles(figure):
    figure, _ = figure
    lines = figure.axes[1].lines
    colors = [to_hex(line.get_color()).upper() for line in lines]
    assert colors == ["#0072B2", "#0072B2", "#0072B2", "#009E73"]
    assert [line.get_linestyle() for line in lines] == ["-", "--", ":", "-"]
    assert lines[3].get_marker() == "o"  # its one point would not be seen otherwise
    text = figure.axes[1].get_legend().get_texts()[0].get_text()
    assert text == "PPO learning_rate=0.1 (2 seeds)"


def test_nothing_overlaps(figure):
    figure, _ = figure
    boxes = []
    for ax in figure.axes:
        legend = ax.get_legend().get_window_extent()
        for text in (ax.title, ax.xaxis.label, ax.yaxis.label):
            boxes.append(text.get_window_extent())
        boxes += [legend, ax.get_window_extent()]
    (note,) = figure.texts
    assert note.get_text() == "mean and bootstrap 95 % interval over seeds"
    boxes.append(note.get_window_extent())
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:i])
    for ax in figure.axes:
        assert ax.get_window_extent().height > 2.5 * figure.dpi  # inches


# --------------------------------------------------------------------------------------------------
# The command


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["missing"], "missing is not a folder"),
        (["runs/a/args.json"], "runs/a/args.json is not a folder"),
        (["nothing"], "no runs below nothing: no folder there has an args.json"),
        (["new"], f"no run below new has logged {TAG}; logged: nothing yet"),
        (["runs", "--tag", "losses/x"], f"no run below runs has logged losses/x; logged: {TAG}"),
        (["runs", "--points", "0"], "--points must be at least 1"),
        (["runs", "--out", "missing/x.png"], "cannot write missing/x.png: "),
        (["runs", "--out", "x.nonsense"], "cannot write x.nonsense: "),
    ],
)
def test_bad_input_is_one_line(tmp_path, options, message):
    write_run(tmp_path / "runs" / "a", [1.0])
    write_args(tmp_path / "new" / "a")
    (tmp_path / "nothing").mkdir()
    done = run(PLOT, *options, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {message}")
    assert {path.name for path in tmp_path.iterdir()} == {"runs", "new", "nothing"}


@pytest.fixture
def logged(monkeypatch):
    """What the scripts log: steps and values by the name of the run's folder and the tag."""
    logged = {}
    add_scalar = SummaryWriter.add_scalar

    def record(writer, tag, value, step):
        logged.setdefault((Path(writer.log_dir).name, tag), []).append((step, value))
        add_scalar(writer, tag, value, step)

    monkeypatch.setattr(SummaryWriter, "add_scalar", record)
    return logged


def test_real_runs(plot, tmp_path, logged):
    """Every episode of envs:Scalar-v0 has return 50; the losses are those that were logged."""
    for script in ("reinforce", "ppo_continuous"):
        for seed in (1, 2):
            module = load(script)
            module.train(tiny_args(module, tmp_path / "runs" / f"{script}{seed}", seed=seed))

    done = run(PLOT, "runs", "--x", "minutes", "--out", "plot.png", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    reinforce, ppo, path = done.stdout.splitlines()
    assert reinforce.startswith("envs:Scalar-v0, REINFORCE: seeds 1, 2; last step ")
    assert ppo.startswith("envs:Scalar-v0, PPO: seeds 1, 2; last step 512, ")
    for line in (reinforce, ppo):
        assert line.endswith("final mean 50 (95 % interval 50 to 50)")
    assert path == "plot.png"
    with Image.open(tmp_path / path) as image:
        image.load()
        assert image.format == "PNG" and image.width == 750

    tag = "losses/value_loss"
    (curve,) = curves_of(plot, tmp_path / "runs", tag=tag)
    first, second = (
        np.array(logged["ppo_continuous1", tag]),
        np.array(logged["ppo_continuous2", tag]),
    )
    np.testing.assert_allclose(curve.x, first[:, 0])
    np.testing.assert_allclose(curve.mean, (first[:, 1] + second[:, 1]) / 2, rtol=1e-5)
    np.testing.assert_allclose(curve.low, np.minimum(first[:, 1], second[:, 1]), rtol=1e-5)


def test_a_real_run_that_was_cut_off(plot, tmp_path, logged):
    """It dies after step 384 and resumes at its checkpoint, step 256."""
    args = {"checkpoint_interval": 256, "total_timesteps": 640}
    module = load("ppo_continuous")
    update, calls = module.update, []

    def dies(*inputs):
        calls.append(inputs)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return update(*inputs)

    module.update = dies
    with pytest.raises(KeyboardInterrupt):
        module.train(tiny_args(module, tmp_path / "run", **args))
    time.sleep(2)  # events files are in the order of their names, which have the second
    module = load("ppo_continuous")
    module.train(tiny_args(module, tmp_path / "run", **args))

    tag = "charts/SPS"  # as it depends on time, it is another one in the second process
    steps, values = np.array(logged["run", tag]).T
    np.testing.assert_array_equal(steps, [128, 256, 384, 384, 512, 640])
    (curve,) = curves_of(plot, tmp_path, tag=tag)
    np.testing.assert_allclose(curve.x, steps[[0, 1, 3, 4, 5]])
    np.testing.assert_allclose(curve.mean, values[[0, 1, 3, 4, 5]], rtol=1e-5)
    # steps per second count from the start of a process
    seconds = np.array([128, 256, 384, 128, 256, 384]) / values
    expected = [seconds[0], seconds[1], *(seconds[1] + seconds[3:])]
    np.testing.assert_allclose(60 * curve.runs[0].minutes, expected, atol=1)
