"""The README does what it says: its snippet runs, its commands run, its numbers are those of the committed data."""

import ast
import csv
import difflib
import importlib.util
import re
import statistics
import sys

import pytest
from conftest import DRAWS, ROOT, SCRIPTS, load, run
from test_mutants import MUTANTS

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
COMMANDS = [
    line for kind, text in BLOCKS if kind == "sh" for line in text.splitlines() if "python ppo_continuous.py" in line
]


def test_notebook_snippets(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(ROOT))
    sys.modules.pop("ppo_continuous", None)
    three_lines, notebook = [text for kind, text in BLOCKS if kind == "python"]
    names = {}
    exec(notebook, names)
    assert names["action"].shape == (3,) and names["env"].action_space.contains(names["action"])
    assert load("ppo_continuous").load_checkpoint(names["run_dir"])["step"] >= 20_000
    (tmp_path / "runs" / "hopper").symlink_to(names["run_dir"].resolve())
    here = {"obs": names["obs"]}
    exec(three_lines, here)
    assert (here["action"] == names["policy"].act(names["obs"][None])[0]).all()


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
            assert done.returncode == 2 and "film it" in done.stderr  # in one line, before anything else
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


def test_the_table_of_all_scores():
    spec = importlib.util.spec_from_file_location("report", ROOT / "benchmark" / "report.py")
    report = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(report)
    lines = list(report.scores())
    assert len(lines) == 19 and "\n".join(lines) in README
    whole = [row for row in rows() if int(row["steps"]) >= 10**6]
    for script, env_id in {(row["script"], row["env_id"]) for row in whole}:  # each a mean by hand
        runs = [row for row in rows() if (row["script"], row["env_id"]) == (script, env_id)]
        (line,) = [line for line in lines if f"`{script}.py` | {env_id} " in line]
        way = "deterministic" if script == "ddpg" else "sampled"
        sampled = [float(row[way]) for row in runs if row[way]]
        assert len(sampled) < 2 or f"{statistics.mean(sampled):,.0f} ±" in line
        if env_id == "HalfCheetah-v4" and len(sampled) > 1:  # the first screen has this column
            cell = f"| {statistics.mean(sampled):,.0f} ± {statistics.stdev(sampled):,.0f}"
            cell += ", without noise |" if script == "ddpg" else " |"
            assert any(x.startswith(f"| `{script}.py` | ") and cell in x for x in README.split("## ")[0].splitlines())


def body(name):
    """A script's lines without its header."""
    source = (ROOT / f"{name}.py").read_text()
    return source.splitlines()[ast.parse(source).body[0].end_lineno :]


def function(name, wanted):
    source = (ROOT / f"{name}.py").read_text()
    (node,) = [node for node in ast.parse(source).body if getattr(node, "name", None) == wanted]
    return ast.get_source_segment(source, node).splitlines()


def changed(one, other):
    lines = list(difflib.unified_diff(one, other, n=0, lineterm=""))[2:]
    return [line for line in lines if line[0] in "+-"]


def test_the_update_from_a2c_to_ppo():
    """The diff block is what the files say, and short."""
    (block,) = [text for kind, text in BLOCKS if kind == "diff"]
    expected = changed(function("a2c_continuous", "update"), function("ppo_continuous", "update"))
    assert block.splitlines() == expected and len(expected) <= 25


def test_sizes():
    sizes = [
        len(changed(body(one), body(other)))
        for one, other in zip(["reinforce", "a2c_continuous", "ppo_continuous"], SCRIPTS[1:])
    ]
    assert "change {}, {} and {} lines".format(*sizes) in README
    assert all(size <= limit for size, limit in zip(sizes, (140, 70, 140)))
    for name in SCRIPTS:
        count = len((ROOT / f"{name}.py").read_text().splitlines())
        assert re.search(rf"^\| `{name}.py` \| .* \| {count} \|$", README, re.MULTILINE)


def test_the_lecture_names_what_exists():
    table = README[README.index("### The lecture") :].split("\n## ")[0]
    names = re.findall(r"`(\w+)\.(\w+)`", table)
    names = [(file, name) for file, name in names if name != "py"]
    assert len(names) > 25
    for file, name in names:
        path = ROOT / f"{file}.py" if file in SCRIPTS else ROOT / "tests" / f"{file}.py"
        defined = {getattr(node, "name", None) for node in ast.parse(path.read_text()).body}
        assert name in defined, (file, name)
    tested = {name for file, name in names if file == "test_lecture"}
    lecture = ast.parse((ROOT / "tests" / "test_lecture.py").read_text()).body
    assert tested == {node.name for node in lecture if getattr(node, "name", "").startswith("test_")}


def test_the_number_of_mutants():
    assert f"also makes {len(MUTANTS)} one-line mistakes" in README
