"""The tools under benchmark/: what they print and write, on small runs."""

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, load

BENCHMARK = Path(__file__).parents[1] / "benchmark"


def printed(tool, *options, cwd):
    done = subprocess.run(
        [sys.executable, BENCHMARK / tool, *map(str, options)], cwd=cwd, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_commands_of_a_sweep(tmp_path):
    """Each line is a command that runs; what has finished is left out, what has been cut off is not."""
    sweep = [
        "--scripts",
        "a2c_continuous",
        "reinforce",
        "--env-ids",
        "envs:LQR-v0",
        "--seeds",
        1,
        2,
        "--total-timesteps",
        500,
    ]
    lines = printed("commands.py", *sweep, "--", "--eval-episodes", 1, cwd=tmp_path)
    assert len(lines) == len(set(lines)) == 4
    subprocess.run(lines[0].replace("python", sys.executable, 1), shell=True, check=True, cwd=tmp_path)
    (run_dir,) = (tmp_path / "runs").iterdir()
    assert run_dir.name == "envs_LQR-v0__a2c_continuous__1"
    result = json.loads((run_dir / "result.json").read_text())
    assert result["steps"] >= 500 and len(result["deterministic"]["returns"]) == 1
    assert printed("commands.py", *sweep, "--", "--eval-episodes", 1, cwd=tmp_path) == lines[1:]
    longer = printed("commands.py", *sweep[:-1], 5_000, "--", "--eval-episodes", 1, cwd=tmp_path)
    assert len(longer) == 4
    (run_dir / "result.json").write_text('{"determ')
    assert printed("commands.py", *sweep, "--", "--eval-episodes", 1, cwd=tmp_path) == lines


@pytest.mark.parametrize("options", [["--scripts", "dqn"], ["--seeds", "one"]])
def test_commands_refuse_what_is_not_there(options):
    done = subprocess.run([sys.executable, BENCHMARK / "commands.py", *options], capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr


def test_results_have_one_row_a_run():
    with open(ROOT / "benchmark" / "results.csv") as file:
        rows = list(csv.DictReader(file))
    keys = [(row["script"], row["env_id"], row["seed"]) for row in rows]
    assert len(keys) == len(set(keys)) and keys == sorted(keys)
    assert all(float(row["steps"]) >= 1e6 and "mujoco" in row["versions"] for row in rows if row["script"] != "ddpg")


def test_collecting_replaces_a_runs_rows(tmp_path):
    """Scores are those of result.json, curves averages of what was logged; a second time changes nothing."""
    shutil.copy(BENCHMARK / "collect.py", tmp_path)
    (tmp_path / "results.csv").write_text((BENCHMARK / "results.csv").read_text())
    before = (tmp_path / "results.csv").read_text()
    module = load("a2c_continuous")
    run_dir = module.train(
        module.Args("envs:LQR-v0", seed=9, total_timesteps=40_000, eval_episodes=2, run_dir=str(tmp_path / "run"))
    )
    for _ in range(2):
        subprocess.run([sys.executable, tmp_path / "collect.py", run_dir], check=True, capture_output=True)
        with open(tmp_path / "results.csv") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == len(before.splitlines())  # one more than there was, less the header
        (mine,) = [row for row in rows if row["env_id"] == "envs:LQR-v0"]
        result = json.loads((run_dir / "result.json").read_text())
        assert float(mine["sampled"]) == pytest.approx(np.mean(result["sampled"]["returns"]), abs=0.06)
        assert mine["seed"] == "9" and int(mine["steps"]) == result["steps"]
    with open(tmp_path / "curves.csv") as file:
        curve = list(csv.DictReader(file))
    assert len(curve) == 50 and int(curve[-1]["step"]) == result["steps"]
    returns = [float(point["episodic_return"]) for point in curve if point["episodic_return"]]
    assert len(returns) > 40 and returns[-1] > returns[0]  # it learns
    assert all(float(x["kl_max"]) >= float(x["kl"]) >= 0 and float(x["ratio_q01"]) <= 1 for x in curve if x["kl"])
