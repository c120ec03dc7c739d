"""The README does what it says: snippets and commands run, numbers are the committed data's."""

import ast
import csv
import difflib
import importlib
import re
import statistics
import sys

import pytest
from helpers import CAN_RENDER, ROOT, SCRIPTS, TESTS, load, run, source
from test_mutants import MUTANTS

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
COMMANDS = [
    line
    for kind, text in BLOCKS
    if kind == "sh"
    for line in text.splitlines()
    if "python ppo_continuous.py" in line
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
    small = ["--num-envs", 2, "--num-steps", 64, "--minibatch-size", 64, "--eval-episodes", 1]
    small += ["--total-timesteps"]
    totals = iter([256, 256, 512])
    assert len(COMMANDS) >= 5
    for line in COMMANDS:
        options = line.split("ppo_continuous.py")[1].split()
        if options[0] == "--help":
            continue
        if options[0] == "--env-id":
            options += [*small, next(totals)]
        done = run("ppo_continuous", *options, cwd=tmp_path)
        if "--capture-video" in options and not CAN_RENDER:
            assert done.returncode == 2 and "cannot record" in done.stderr  # in one line
            continue
        assert done.returncode == 0, (line, done.stderr)
    assert CAN_RENDER == bool(list((tmp_path / "runs" / "hopper" / "videos").glob("*.mp4")))


def rows():
    with open(ROOT / "benchmark" / "results.csv") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def report():
    sys.path.insert(0, str(ROOT / "benchmark"))
    return importlib.import_module("report")


def test_tables(report):
    """Each is what the committed data say."""
    for table in report.TABLES:
        lines = list(table())
        assert lines, table.__name__
        assert "\n".join(lines) in README, table.__name__


def test_scores_by_hand(report):
    """Means and deviations in the two tables of scores, and the bold ones among them."""
    lines = list(report.scores())
    with open(ROOT / "benchmark" / "published.csv") as file:
        published = {(row["script"], row["env_id"]): row for row in csv.DictReader(file)}
    assert len(lines) >= 19
    for line in lines[2:]:
        script, env_id = line.split("`")[1][:-3], line.split(" | ")[1]
        runs = [
            row
            for row in rows()
            if (row["script"], row["env_id"], row["variant"]) == (script, env_id, "")
        ]
        for way, cell in zip(("sampled", "deterministic", "training"), line.split(" | ")[3:]):
            scores = [float(row[way]) for row in runs if row[way]]
            digits = ",.0f" if not scores or abs(statistics.mean(scores)) >= 20 else ",.1f"
            if len(scores) > 1:
                text = f"{statistics.mean(scores):{digits}} ± {statistics.stdev(scores):{digits}}"
                best = published[script, env_id]
                bold = best["acting"] == way and statistics.mean(scores) >= float(best["score"])
                assert cell == (f"**{text}**" if bold else text)
                if way == ("deterministic" if script == "ddpg" else "sampled"):
                    (over,) = [x for x in report.overview() if x.startswith(f"| {env_id} ")]
                    assert over.split(" | ")[SCRIPTS.index(script) + 1].strip("*| ") == text


def test_the_score_of_the_humanoid():
    (row,) = [row for row in rows() if row["env_id"] == "HumanoidStandup-v4"]
    mean, sampled = (f"{float(row[way]):,.0f}" for way in ("deterministic", "sampled"))
    assert (
        int(row["steps"]) >= 3e6
        and f"{mean} by mean actions and {sampled} by sampled ones" in README
    )


def test_pictures():
    pictures = re.findall(r"!\[[^]]+\]\((.*?)\)", README)
    assert len(pictures) >= 5 and all((ROOT / path).stat().st_size > 10_000 for path in pictures)


@pytest.mark.parametrize("script", SCRIPTS)
def test_minutes(script):
    """Of speed.csv, where the scripts have run in turn on one machine."""
    with open(ROOT / "benchmark" / "speed.csv") as file:
        rows = [
            row
            for row in csv.DictReader(file)
            if (row["env_id"], row["settings"]) == ("Hopper-v4", "own")
        ]
    minutes = statistics.median(
        1e6 / float(row["ours"]) / 60 for row in rows if row["script"] == script
    )
    line = next(x for x in README.splitlines() if x.startswith(f"| `{script}.py` | "))
    assert line.endswith(f" | {minutes:.{0 if minutes > 20 else 1}f} |")


def body(name):
    """A script's lines without its header."""
    return source(name).splitlines()[ast.parse(source(name)).body[0].end_lineno :]


def function(name, wanted):
    text = source(name)
    (node,) = [node for node in ast.parse(text).body if getattr(node, "name", None) == wanted]
    return ast.get_source_segment(text, node).splitlines()


def changed(one, other):
    lines = list(difflib.unified_diff(one, other, n=0, lineterm=""))[2:]
    return [line for line in lines if line[0] in "+-"]


def test_the_update_from_a2c_to_ppo():
    """The diff block is what the files say, and short."""
    (block,) = [text for kind, text in BLOCKS if kind == "diff"]
    expected = changed(function("a2c_continuous", "update"), function("ppo_continuous", "update"))
    assert block.splitlines() == expected and len(expected) <= 50


def test_sizes_of_the_diffs():
    sizes = [len(changed(body(one), body(other))) for one, other in zip(SCRIPTS, SCRIPTS[1:4])]
    assert "change {}, {} and {} lines".format(*sizes) in README
    assert all(size <= limit for size, limit in zip(sizes, (310, 90, 200), strict=True))


def test_the_lecture_names_what_exists():
    table = README[README.index("### The lecture") :].split("\n## ")[0]
    names = re.findall(r"`(\w+)\.(\w+)`", table)
    names = [(file, name) for file, name in names if name != "py"]
    assert len(names) > 25
    for file, name in names:
        path = ROOT / f"{file}.py" if file in SCRIPTS else TESTS / f"{file}.py"
        defined = {getattr(node, "name", None) for node in ast.parse(path.read_text()).body}
        assert name in defined, (file, name)
    tested = {name for file, name in names if file == "test_lecture"}
    lecture = ast.parse((TESTS / "test_lecture.py").read_text()).body
    assert tested == {
        node.name for node in lecture if getattr(node, "name", "").startswith("test_")
    }


def test_the_number_of_mutants():
    assert "none" in MUTANTS  # the copy without a mistake
    assert f"also makes {len(MUTANTS) - 1} one-line mistakes" in README
