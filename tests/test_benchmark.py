"""The tools under benchmark/: what they print and write, on small runs."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

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
