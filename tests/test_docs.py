"""The documents do what they say: commands, snippets, links; numbers are the committed data's."""

import ast
import csv
import difflib
import importlib
import re
import statistics
import sys
from itertools import product

import numpy as np
import pytest
import torch
from helpers import CAN_RENDER, ROOT, SCRIPTS, TESTS, load, run, source, tiny_args
from test_mutants import MUTANTS

README = (ROOT / "README.md").read_text()
DOCUMENTS = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", TESTS / "README.md"]
    + [*(ROOT / "docs").glob("*.md"), *(ROOT / "benchmark").glob("*.md")]
)
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)
COMMANDS = [
    line
    for kind, text in BLOCKS
    if kind == "sh"
    for line in text.splitlines()
    if "python ppo_continuous.py" in line
]
NOT_OUR_WORDS = [
    "goes on where",
    "way of acting",
    "ways of acting",
    "by mean actions",
    "plays a run",
    "whiten",
    "shortened gradient",
    "shorten gradient",
    "film",
    "knob",
    "death",
]


def test_readme_is_one_page():
    assert len(README.encode()) <= 9_000
    assert len(README.splitlines()) <= 160
    first_screen = "\n".join(README.splitlines()[:40])
    for needed in ("ppo_continuous.py --env-id Hopper-v4", "deterministic:", ".gif", "ddpg.py"):
        assert needed in first_screen


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_document_is_long(path):
    assert len(path.read_bytes()) <= 15_000


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_words(path):
    """The words of the field, not our own."""
    text = path.read_text().lower()
    assert [word for word in NOT_OUR_WORDS if word in text] == []


@pytest.mark.parametrize("script", SCRIPTS)
def test_words_of_help(script):
    text = run(script, "--help").stdout.lower()
    assert "--env-id" in text
    assert [word for word in NOT_OUR_WORDS if word in text] == []


def test_sentences_of_the_readme_are_short():
    prose = re.sub(r"```.*?```|^[|!#<].*?$", "", README, flags=re.DOTALL | re.MULTILINE)
    prose = re.sub(r"`[^`]*`|\]\([^)]*\)", "x", prose)
    sentences = [x.split() for x in re.split(r"[.:!?](?:\s|$)|\n\n|\n- ", prose)]
    lengths = [len(x) for x in sentences if len(x) > 2]
    assert len(lengths) > 40 and statistics.mean(lengths) <= 18


def anchors(path):
    """Names of a document's headings, as links spell them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-") for text in headings}


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links(path):
    """Each target exists, headings too."""
    links = re.findall(r"\]\(([^)\s]+)\)", path.read_text())
    for link in links:
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = (path.parent / name).resolve() if name else path
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_pictures():
    pictures = []
    for path in DOCUMENTS:
        found = re.findall(r"!\[[^]]+\]\((.*?)\)", path.read_text())
        pictures += [path.parent / name for name in found]
    assert len(pictures) >= 8
    assert all(path.stat().st_size > 10_000 for path in pictures)


def test_snippets(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(ROOT))
    sys.modules.pop("ppo_continuous", None)
    three_lines, notebook = [text for kind, text in BLOCKS if kind == "python"]
    names = {}
    exec(notebook, names)
    assert load("ppo_continuous").load_checkpoint(names["run_dir"])["step"] >= 20_000
    assert (tmp_path / "policy.onnx").stat().st_size > 1_000
    (tmp_path / "runs" / "hopper").symlink_to(names["run_dir"].resolve())
    here = {"obs": np.zeros(11)}
    exec(three_lines, here)
    exported = names["policy"](torch.zeros(1, 11))[0].detach().numpy()
    np.testing.assert_allclose(here["action"], exported, atol=1e-6)


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
        assert done.returncode == 0, (line, done.stderr)


def test_the_command_for_a_video(tmp_path):
    text = (ROOT / "docs" / "running.md").read_text()
    (line,) = [x for x in text.splitlines() if x.startswith("python") and "--capture-video" in x]
    ppo = load("ppo_continuous")
    ppo.train(tiny_args(ppo, tmp_path / "runs" / "hopper", "Hopper-v4"))
    done = run("ppo_continuous", *line.split("ppo_continuous.py")[1].split(), cwd=tmp_path)
    if not CAN_RENDER:
        assert done.returncode == 2 and "cannot record" in done.stderr
        return
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "runs" / "hopper" / "videos").glob("*.mp4"))


def test_the_recipe_for_a_value_of_info(tmp_path):
    """The lines of docs/running.md, put where they belong, make a chart."""
    text = (ROOT / "docs" / "running.md").read_text()
    (recipe,) = [x for x in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "success" in x]
    in_step, in_collect = [line.split("  #")[0].strip() for line in recipe.splitlines()]
    script = source("ppo_continuous")
    changes = {
        "obs, reward, terminated, truncated, _ = self.env.step(action)": (
            "obs, reward, terminated, truncated, raw_info = self.env.step(action)"
        ),
        '            info["episodic_length"] = self.episode_length\n': (
            f'            info["episodic_length"] = self.episode_length\n            {in_step}\n'
        ),
        'episodes = {"episodic_return": [], "episodic_length": []}  # of those': in_collect + "  #",
    }
    for old, new in changes.items():
        assert script.count(old) == 1, old
        script = script.replace(old, new)
    (tmp_path / "ppo_continuous.py").write_text(script)
    options = {"--env-id": "envs:Success-v0", "--total-timesteps": 512, "--num-envs": 2}
    options |= {"--num-steps": 128, "--minibatch-size": 64, "--eval-episodes": 1}
    options |= {"--run-dir": tmp_path / "run"}
    flat = [x for pair in options.items() for x in pair]
    done = run(tmp_path / "ppo_continuous.py", *flat)
    assert done.returncode == 0, done.stderr
    accumulator = importlib.import_module(
        "tensorboard.backend.event_processing.event_accumulator"
    ).EventAccumulator
    events = accumulator(str(tmp_path / "run")).Reload()
    assert {x.value for x in events.Scalars("charts/success")} == {0.5}


def rows():
    with open(ROOT / "benchmark" / "results.csv") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def tables():
    sys.path.insert(0, str(ROOT / "benchmark"))
    return importlib.import_module("tables")


def test_tables(tables):
    """Each table stands once, and is what the committed data say."""
    found = []
    for path in DOCUMENTS:
        text = path.read_text()
        assert tables.with_tables(text) == text, f"{path}: run benchmark/tables.py"
        found += re.findall(r"<!-- table: (\w+) -->", text)
    assert sorted(found) == sorted(table.__name__ for table in tables.TABLES)


def test_scores_by_hand(tables):
    """Means and deviations in the two tables of scores, and the bold ones among them."""
    lines = list(tables.scores())
    with open(ROOT / "benchmark" / "published.csv") as file:
        counting = [
            row
            for row in csv.DictReader(file)
            if row["acting"] != "unstated" and int(row["seeds"]) > 2
        ]
    assert len(lines) >= 19
    for line in lines[2:]:
        script, env_id = line.split("`")[1][:-3], line.split(" | ")[1]
        runs = [
            row
            for row in rows()
            if (row["script"], row["env_id"], row["variant"]) == (script, env_id, "")
        ]
        sources = [row for row in counting if (row["script"], row["env_id"]) == (script, env_id)]
        best = max(sources, key=lambda row: float(row["score"]))
        for mode, cell in zip(("sampled", "deterministic", "training"), line.split(" | ")[3:]):
            scores = [float(row[mode]) for row in runs if row[mode]]
            digits = ",.0f" if not scores or abs(statistics.mean(scores)) >= 20 else ",.1f"
            if len(scores) > 1:
                text = f"{statistics.mean(scores):{digits}} ± {statistics.stdev(scores):{digits}}"
                bold = best["acting"] == mode and statistics.mean(scores) >= float(best["score"])
                assert cell == (f"**{text}**" if bold else text)
                if mode == ("deterministic" if script == "ddpg" else "sampled"):
                    (over,) = [x for x in tables.overview() if x.startswith(f"| {env_id} ")]
                    assert over.split(" | ")[SCRIPTS.index(script) + 1].strip("*| ") == text


def test_the_score_of_the_humanoid():
    (row,) = [row for row in rows() if row["env_id"] == "HumanoidStandup-v4"]
    mean, sampled = (f"{float(row[mode]):,.0f}" for mode in ("deterministic", "sampled"))
    text = (ROOT / "benchmark" / "README.md").read_text()
    assert int(row["steps"]) >= 3e6
    assert f"{mean} deterministic and {sampled} sampled" in text


def test_how_many_are_below_the_published_value(tables):
    lines = list(tables.below())[2:]
    level, below = (sum(x.endswith(f"| {end} |") for x in lines) for end in ("level", "below"))
    assert level + below == len(lines)
    text = f"{35 - len(lines)} of 35 cells are at or above the published mean, {level} level"
    assert text in README and f" {below} [below](" in README


def test_what_is_level(tables, monkeypatch):
    """Above counts from the mean on, level up to the end of the interval."""
    best = {"score": "10", "acting": "sampled"}
    published = {key: best for key in product(SCRIPTS, tables.ENV_IDS)}
    for scores, expected in [([10, 10], None), ([4, 15], "level"), ([8, 9], "below")]:
        rows = [{"sampled": str(score)} for score in scores]
        cells = {("ppo_continuous", "Hopper-v4"): rows}
        monkeypatch.setattr(tables, "published", lambda: published)
        monkeypatch.setattr(tables, "complete_runs", lambda *key: cells.get(key, []))
        lines = list(tables.below())[2:]
        assert [line.split(" | ")[-1] for line in lines] == ([f"{expected} |"] if expected else [])


@pytest.mark.parametrize("script", SCRIPTS)
def test_minutes_and_returns(script):
    """Minutes are of speed.csv, where the scripts have run in turn on one machine."""
    with open(ROOT / "benchmark" / "speed.csv") as file:
        own = [
            row
            for row in csv.DictReader(file)
            if (row["env_id"], row["settings"]) == ("Hopper-v4", "own")
        ]
    rates = [float(row["ours"]) for row in own if row["script"] == script]
    minutes = 1e6 / statistics.median(rates) / 60
    mode = "deterministic" if script == "ddpg" else "sampled"
    key = (script, "Hopper-v4", "")
    scores = [
        float(row[mode]) for row in rows() if (row["script"], row["env_id"], row["variant"]) == key
    ]
    line = next(x for x in README.splitlines() if x.startswith(f"| `{script}.py` | "))
    score = f"{statistics.mean(scores):,.0f} ± {statistics.stdev(scores):,.0f}"
    assert line.endswith(f" | {minutes:.{0 if minutes > 20 else 1}f} | {score} |")


def body(name):
    """A script's lines without its header."""
    return source(name).splitlines()[ast.parse(source(name)).body[0].end_lineno :]


def changed(one, other):
    lines = list(difflib.unified_diff(one, other, n=0, lineterm=""))[2:]
    return [line for line in lines if line[0] in "+-"]


def test_sizes_of_the_diffs():
    sizes = [len(changed(body(one), body(other))) for one, other in zip(SCRIPTS, SCRIPTS[1:4])]
    assert all(size <= limit for size, limit in zip(sizes, (320, 90, 200), strict=True)), sizes


def test_the_lecture_names_what_exists():
    table = (ROOT / "docs" / "lecture.md").read_text()
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


def test_every_test_file_is_described():
    text = (TESTS / "README.md").read_text()
    described = re.findall(r"`(test_\w+)\.py`", text.split("## Mutants")[0])
    files = {path.stem for path in TESTS.glob("test_*.py")}
    assert set(described) == files and "none" in MUTANTS  # the copy without a mistake
    assert f"makes {len(MUTANTS) - 1} one-line mistakes" in text
