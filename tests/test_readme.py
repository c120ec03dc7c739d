"""The README does what it says: its snippet runs, its commands run, its numbers are those of the committed data."""

import csv
import ctypes.util
import os
import re
import statistics
import sys

import pytest
from conftest import ROOT, load, run

DRAWS = sys.platform != "linux" or "DISPLAY" in os.environ or ctypes.util.find_library("EGL") is not None
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
COMMANDS = [line for kind, text in BLOCKS if kind == "sh" for line in text.splitlines() if " ppo_continuous.py" in line]


def test_notebook_snippet(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(ROOT))
    sys.modules.pop("ppo_continuous", None)
    (snippet,) = [text for kind, text in BLOCKS if kind == "python"]
    names = {}
    exec(snippet, names)
    assert names["action"].shape == (3,) and names["env"].action_space.contains(names["action"])
    assert load("ppo_continuous").load_checkpoint(names["run_dir"])["step"] >= 20_000


def test_commands(tmp_path):
    """Every command of the README, in its order, in small (what it says of sizes is replaced)."""
    small = ["--num-envs", 2, "--num-steps", 64, "--minibatch-size", 64, "--eval-episodes", 1, "--total-timesteps"]
    totals = iter([256, 256, 512])
    assert len(COMMANDS) >= 5
    for line in COMMANDS:
        options = line.split("ppo_continuous.py")[1].split()
        if options[0] == "--help":
            continue
        if options[0] == "--env-id":
            options += [*small, next(totals)]
        done = run("ppo_continuous", *options, cwd=tmp_path)
        if "--capture-video" in options and not DRAWS:
            assert done.returncode == 2 and "cannot film" in done.stderr  # in one line, before anything else
            continue
        assert done.returncode == 0, (line, done.stderr)
    assert DRAWS == bool(list((tmp_path / "runs" / "hopper" / "videos").glob("*.mp4")))


def rows():
    with open(ROOT / "benchmark" / "results.csv") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("env", ["Hopper-v4", "HalfCheetah-v4", "Walker2d-v4"])
def test_scores(env):
    """Each score in the table is the mean of the committed runs."""
    line = next(line for line in README.splitlines() if line.startswith("|") and env in line)
    runs = [row for row in rows() if row["env_id"] == env and row["script"] == "ppo_continuous"]
    assert sorted(int(row["seed"]) for row in runs) == [1, 2, 3]
    for column in ("sampled", "deterministic"):
        scores = [float(row[column]) for row in runs]
        assert f"{statistics.mean(scores):,.0f} ± {statistics.stdev(scores):,.0f}" in line
