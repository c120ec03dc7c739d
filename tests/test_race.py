"""The race of candidates against defaults: benchmark/race.py."""

import importlib
import json
import math
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tyro
from helpers import ROOT, SCRIPTS, load

BENCHMARK = Path(__file__).parents[1] / "benchmark"
FOUR = "4x512=--num-envs 4 --num-steps 512"
GAMMA = "γ0.995=--gamma 0.995"
STAGE_1 = ["Hopper-v4", "HalfCheetah-v4", "Walker2d-v4"]
SEEDS = {1: range(101, 109), 2: range(109, 117)}
# of eight seeds; the sum of squares is 56 = 8 * 7, so that the standard error of the mean is 1
DEVIATIONS = [5, -5, 1, -1, 1, -1, 1, -1]


@pytest.fixture
def race(monkeypatch, tmp_path):
    """The module, in a folder of its own."""
    monkeypatch.syspath_prepend(str(BENCHMARK))
    monkeypatch.chdir(tmp_path)
    return importlib.import_module("race")


@pytest.fixture
def verdicts(race):
    return importlib.import_module("verdicts")


@pytest.fixture
def printed(race, monkeypatch, capsys):
    """The lines that a call prints."""

    def call(*options):
        monkeypatch.setattr(sys, "argv", [str(BENCHMARK / "race.py"), *map(str, options)])
        race.main()
        captured = capsys.readouterr()
        assert captured.err == ""
        return captured.out.splitlines()

    return call


@pytest.fixture
def refused(race, monkeypatch, capsys):
    """The one line of error of a call."""

    def call(*options):
        monkeypatch.setattr(sys, "argv", [str(BENCHMARK / "race.py"), *map(str, options)])
        with pytest.raises(SystemExit) as stop:
            race.main()
        captured = capsys.readouterr()
        assert stop.value.code == 2 and captured.out == ""
        (line,) = captured.err.splitlines()
        assert line.startswith("error: ")
        return line

    return call


def run_dir_of(name, script, env_id, seed):
    return Path("runs", "race", f"race={name}", f"{env_id}__{script}__{seed}")


def write_result(run_dir, steps=1_000_000, training=None, **means):
    result = {mode: {"mean": mean} for mode, mean in means.items()}
    run_dir.mkdir(parents=True, exist_ok=True)
    result |= {"training_return": training, "steps": steps}
    (run_dir / "result.json").write_text(json.dumps(result))


def write_scores(name, env_id, scores, stage=1):
    """Runs whose training return, and no other, is the score where 0 and 1 are its scale."""
    for seed, score in zip(SEEDS[stage], scores):
        run_dir = run_dir_of(name, "ppo_continuous", env_id, seed)
        write_result(run_dir, training=score, sampled=-1e9, deterministic=1e9)


@pytest.fixture
def plain_scale(race, verdicts, monkeypatch):
    """Random actions have a return of 0, the published value is 1, in training."""
    keys = [("ppo_continuous", env_id) for env_id in verdicts.ENV_IDS]
    published = {key: {"score": "1", "acting": "training"} for key in keys}
    random = [{"env_id": env_id, "score": "0"} for env_id in verdicts.ENV_IDS]
    monkeypatch.setattr(race, "published", lambda: published)
    monkeypatch.setattr(race, "read", {"random.csv": random}.get)


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


# --------------------------------------------------------------------------------------------------
# Commands


def test_commands_have_whole_seeds_of_all_sides(printed):
    """Seed outermost, then environment, then side; each run has a folder of its own."""
    lines = printed("ppo_continuous", "--stage", 1, "--candidate", FOUR, "--candidate", GAMMA)
    expected = []
    for seed in SEEDS[1]:
        for env_id in STAGE_1:
            for name, options in [
                ("default", []),
                ("4x512", ["--num-envs", "4", "--num-steps", "512"]),
                ("γ0.995", ["--gamma", "0.995"]),
            ]:
                run_dir = run_dir_of(name, "ppo_continuous", env_id, seed)
                words = ["python", str(BENCHMARK.parent / "ppo_continuous.py")]
                words += ["--env-id", env_id, "--seed", str(seed), "--total-timesteps", "1000000"]
                expected.append([*words, "--run-dir", str(run_dir), *options])
    assert [shlex.split(line) for line in lines] == expected
    assert len(set(lines)) == 8 * 3 * 3


def test_the_second_stage_has_all_environments_and_other_seeds(verdicts, printed):
    first, second = (
        [
            shlex.split(line)
            for line in printed("ddpg", "--stage", stage, "--candidate", "a=--tau 1")
        ]
        for stage in (1, 2)
    )
    assert len(second) == 8 * 7 * 2
    assert {words[3] for words in second} == set(verdicts.ENV_IDS) and len(verdicts.ENV_IDS) == 7
    assert {words[5] for words in first}.isdisjoint(words[5] for words in second)
    assert {words[5] for words in second} == {str(seed) for seed in SEEDS[2]}


@pytest.mark.parametrize("script", SCRIPTS)
def test_commands_are_those_of_the_script(script, printed):
    """Its Args parse them, and take what the race has set."""
    module = load(script)
    options = ["--env-ids", "envs:LQR-v0", "--seeds", 7, "--total-timesteps", 300]
    options += ["--candidate", "a=--gamma 0.5 --env-kwargs '{\"x\": 1}'", "--runs", "my runs"]
    default, candidate = (
        tyro.cli(module.Args, args=shlex.split(line)[2:])
        for line in printed(script, "--stage", 1, *options)
    )
    for args in (default, candidate):
        assert (args.env_id, args.seed, args.total_timesteps) == ("envs:LQR-v0", 7, 300)
    assert (default.gamma, default.env_kwargs) == (0.99, "{}")
    assert (candidate.gamma, candidate.env_kwargs) == (0.5, '{"x": 1}')
    assert default.run_dir == f"my runs/my runs=default/envs_LQR-v0__{script}__7"
    assert candidate.run_dir == f"my runs/my runs=a/envs_LQR-v0__{script}__7"


def test_a_flag_has_no_value(printed, refused):
    options = ["reinforce", "--stage", 1, "--seeds", 1, "--env-ids", "A", "--candidate"]
    assert printed(*options, "a=--discounted-gradient")[1].endswith(" --discounted-gradient")
    assert "nothing differs" in refused(*options, "a=--no-discounted-gradient")


def test_a_run_that_has_finished_is_left_out(printed, refused):
    """One run of the script itself; other arguments than those it was started with are refused."""
    options = ["ppo_continuous", "--stage", 1, "--env-ids", "envs:LQR-v0", "--seeds", 1, 2]
    short = ["--total-timesteps", 256]
    tiny = "--num-envs 2 --num-steps 64 --minibatch-size 32 --eval-episodes 1"
    lines = printed(*options, *short, "--candidate", f"a={tiny}")
    assert len(lines) == 4 and "race=a" in lines[1]
    command = lines[1].replace("python", sys.executable, 1)
    subprocess.run(command, shell=True, check=True, capture_output=True)
    run_dir = run_dir_of("a", "ppo_continuous", "envs_LQR-v0", 1)
    assert json.loads((run_dir / "result.json").read_text())["steps"] == 256
    assert printed(*options, *short, "--candidate", f"a={tiny}") == [lines[0], *lines[2:]]

    line = refused(*options, *short, "--candidate", f"a={tiny} --gamma 0.9")
    assert str(run_dir) in line and "gamma 0.99, not 0.9:" in line
    for total_timesteps in (128, 512):
        line = refused(*options, "--total-timesteps", total_timesteps, "--candidate", f"a={tiny}")
        assert f"total_timesteps 256, not {total_timesteps}:" in line
    (run_dir / "result.json").write_text('{"determ')
    assert printed(*options, *short, "--candidate", f"a={tiny}") == lines


def test_defaults_that_have_changed_are_refused(printed, refused):
    """A default side of before the change is no side of this race."""
    run_dir = run_dir_of("default", "ppo_continuous", "Hopper-v4", 103)
    write_result(run_dir, training=1.0)
    options = ["ppo_continuous", "--stage", 1, "--candidate", FOUR]
    args = vars(load("ppo_continuous").Args(run_dir="elsewhere")) | {"script": "ppo_continuous"}
    (run_dir / "args.json").write_text(json.dumps(args))
    assert len(printed(*options)) == 47
    (run_dir / "args.json").write_text(json.dumps(args | {"learning_rate": 3e-4}))
    for table in ([], ["--table"]):
        line = refused(*options, *table)
        assert str(run_dir) in line and "learning_rate 0.0003, not 0.0006" in line


def test_a_candidate_may_be_a_changed_copy(printed, refused, tmp_path):
    """Its own arguments and defaults count; the other side is the script itself."""
    text = (ROOT / "ppo_continuous.py").read_text()
    text = text.replace(
        "    gamma: float = 0.99 ", "    decay: float = 0.5\n    gamma: float = 0.9 "
    )
    (tmp_path / "copies").mkdir()
    (tmp_path / "copies" / "decay.v2.py").write_text(text)
    options = ["ppo_continuous", "--stage", 1, "--env-ids", "envs:LQR-v0", "--seeds", 1]
    options += ["--total-timesteps", 256, "--candidate"]
    tiny = "--num-envs 2 --num-steps 64 --minibatch-size 32 --eval-episodes 1"
    copy = f"d=copies/decay.v2.py --decay 1 {tiny}"
    lines = printed(*options, copy)
    default, candidate = map(shlex.split, lines)
    assert default[1] == str(BENCHMARK.parent / "ppo_continuous.py")
    assert candidate[1] == str(tmp_path / "copies" / "decay.v2.py")
    command = lines[1].replace("python", sys.executable, 1)
    subprocess.run(command, shell=True, check=True, capture_output=True)
    run_dir = run_dir_of("d", "ppo_continuous", "envs_LQR-v0", 1)
    args = json.loads((run_dir / "args.json").read_text())
    assert (args["decay"], args["gamma"]) == (1, 0.9)
    assert printed(*options, copy) == lines[:1]
    (tmp_path / "other.py").write_text((ROOT / "ppo_continuous.py").read_text())
    assert len(printed(*options, "e=other.py")) == 2  # with the arguments of the script
    assert "decay 1.0, not 0.5" in refused(*options, f"d=copies/decay.v2.py {tiny}")
    assert "--decay" in refused(*options, f"e={tiny} --decay 1")


# --------------------------------------------------------------------------------------------------
# Scores


@pytest.mark.parametrize(
    "script, env_id, mode, random, published",
    [
        ("ppo_continuous", "Hopper-v4", "deterministic", 17.7, 2680),
        ("ppo_continuous", "HalfCheetah-v4", "sampled", -282.5, 5780.2),
        ("trpo_continuous", "Hopper-v4", "deterministic", 17.7, 3372),
        ("trpo_continuous", "Walker2d-v4", "deterministic", 2.6, 4502),
        ("trpo_continuous", "HalfCheetah-v4", "sampled", -282.5, 4402.6),
        ("trpo_continuous", "InvertedPendulum-v4", "training", 6.2, 905.1),
        ("a2c_continuous", "Walker2d-v4", "sampled", 2.6, 1218.9),
        ("ddpg", "Reacher-v4", "deterministic", -43.4, -5.1),
    ],
)
def test_scores_are_in_the_mode_of_the_published_value(
    printed, script, env_id, mode, random, published
):
    """Of candidate and default, half and a quarter of the way from random actions to published."""
    seeds = [1, 2]
    for name, score in (("default", 0.25), ("a", 0.5)):
        for seed, change in zip(seeds, (-0.1, 0.1)):
            means = {"training": 0.0, "sampled": 0.0, "deterministic": 0.0}
            means[mode] = random + (score + change) * (published - random)
            write_result(run_dir_of(name, script, env_id, seed), **means)
    options = [script, "--stage", 1, "--candidate", "a=--gamma 0.9", "--seeds", *seeds]
    *_, line = printed(*options, "--env-ids", env_id, "--table")
    # variances of 0.02: sqrt(0.02 / 2 + 0.02 / 2) = 0.141
    difference = "+0.250 ± 0.141"
    assert cells(line) == ["a", f"{difference} (2)", difference, "to stage 2"]


def test_ddpg_has_no_sampled_returns(printed):
    for name, value in (("default", 17.7), ("a", 1794)):
        for seed in (1, 2):
            write_result(run_dir_of(name, "ddpg", "Hopper-v4", seed), deterministic=value)
    options = ["ddpg", "--stage", 2, "--candidate", "a=--tau 0.01", "--seeds", 1, 2]
    *_, line = printed(*options, "--env-ids", "Hopper-v4", "--table")
    assert cells(line)[1:] == ["+1.000 ± 0.000 (2)", "+1.000 ± 0.000", "taken"]


def test_standard_errors(verdicts):
    """Written out: variances over n - 1, divided by n; of the mean sqrt(1 + 4 + 4) / 3."""
    assert verdicts.difference([1, 3], [1, 3, 5]) == (2 - 3, math.sqrt(2 / 2 + 4 / 3))
    assert verdicts.difference([2, 5, 2], [0, 2]) == (3 - 1, math.sqrt(3 / 3 + 2 / 2))
    assert verdicts.difference(DEVIATIONS, [7] * 8) == (0 - 7, math.sqrt(8 / 8 + 0))
    assert verdicts.difference([9, -9, 3, -3], [1, 1]) == (0 - 1, math.sqrt(60 / 4 + 0))
    assert verdicts.difference([4], [1, 2]).mean == 2.5
    assert math.isnan(verdicts.difference([4], [1, 2]).standard_error)
    assert math.isnan(verdicts.difference([], [1, 2]).mean)
    three = [verdicts.Difference(*x) for x in [(1, 1), (2, 2), (6, 2)]]
    assert verdicts.mean_difference(three) == (3, 1)


# --------------------------------------------------------------------------------------------------
# Verdicts


def table_line(printed, stage, errors, differences):
    """The cells of a candidate with these differences and their standard errors."""
    env_ids = list(importlib.import_module("race").STAGES[stage][0])
    assert len(env_ids) == len(errors) == len(differences)
    for env_id, error, difference in zip(env_ids, errors, differences):
        write_scores("default", env_id, [3.0] * 8, stage)
        write_scores("4x512", env_id, [3 + difference + error * x for x in DEVIATIONS], stage)
    header, _, line = printed("ppo_continuous", "--stage", stage, "--candidate", FOUR, "--table")
    assert cells(header) == ["candidate", *env_ids, "mean", "verdict"]
    return cells(line)


BIT = 2**-20  # a difference that floats hold exactly


@pytest.mark.parametrize(
    "differences, expected",
    [
        # standard errors of 1, 2, 2: of the mean sqrt(9) / 3 = 1, so the sum decides at 3
        ((1, 1, 1), "to stage 2"),
        ((1, 1, 1 - BIT), "not better"),
        ((-1, -1, -1), "not better"),
        ((-2, 3, 3), "to stage 2"),  # -2 standard errors
        ((-2 - BIT, 3, 3), "not better"),
        ((4, -4, 3), "to stage 2"),
        ((4, -4 - BIT, 4), "not better"),
        ((4, 3, -4), "to stage 2"),
        ((4, 4, -4 - BIT), "not better"),
    ],
)
def test_verdicts_of_stage_1(printed, plain_scale, differences, expected):
    name, *found, mean, verdict = table_line(printed, 1, (1, 2, 2), differences)
    assert name == "4x512" and verdict == expected
    errors = ("1.000", "2.000", "2.000")
    assert found == [f"{x:+.3f} ± {error} (8)" for x, error in zip(differences, errors)]
    assert mean == f"{sum(differences) / 3:+.3f} ± 1.000"


@pytest.mark.parametrize(
    "differences, expected",
    [
        # the standard error of the mean is sqrt(36 + 4 + 4 + 4 + 1) / 7 = 1: 7 decides
        ((1, 1, 1, 1, 1, 1, 1), "taken"),
        ((1, 1, 1, 1, 1, 1, 1 - BIT), "not better"),
        ((-12, 19, 0, 0, 0, 0, 0), "taken"),
        ((-12 - BIT, 20, 0, 0, 0, 0, 0), "not better"),
        ((9, 0, 0, 0, -2, 0, 0), "taken"),
        ((9, 0, 0, 0, -2 - BIT, 1, 0), "not better"),
        ((9, 0, 0, 0, 0, 0, -BIT), "not better"),  # where nothing varies
        ((-12, -4, -4, -4, -2, 0, 0), "not better"),
    ],
)
def test_verdicts_of_stage_2(printed, plain_scale, differences, expected):
    *_, mean, verdict = table_line(printed, 2, (6, 2, 2, 2, 1, 0, 0), differences)
    assert verdict == expected
    assert mean == f"{sum(differences) / 7:+.3f} ± 1.000"


def test_both_sides_are_uncertain(printed, plain_scale):
    """Standard errors of 1 and sqrt(3) are one of 2."""
    other = [9, -9, 1, -1, 1, -1, 1, -1]  # the sum of squares is 168 = 3 * 56
    for mean, expected in ((2, "to stage 2"), (2 - BIT, "not better")):
        write_scores("default", "Hopper-v4", other)
        write_scores("4x512", "Hopper-v4", [mean + x for x in DEVIATIONS])
        options = ["--env-ids", "Hopper-v4", "--candidate", FOUR, "--table"]
        *_, line = printed("ppo_continuous", "--stage", 1, *options)
        assert cells(line) == ["4x512", "+2.000 ± 2.000 (8)", "+2.000 ± 2.000", expected]


def test_equal_scores_are_not_better(printed, plain_scale):
    """A difference and a standard error of 0: at the bound, but not higher."""
    assert table_line(printed, 1, (0, 0, 0), (0, 0, 0))[-1] == "not better"
    assert table_line(printed, 1, (0, 0, 0), (0, 0, BIT))[-1] == "to stage 2"


# --------------------------------------------------------------------------------------------------
# Missing runs


def test_missing_runs_are_counted(printed, plain_scale):
    """No result, half of one, fewer steps, no score: each is one that misses, on either side."""
    options = ["ppo_continuous", "--stage", 1, "--candidate", FOUR, "--candidate", GAMMA, "--table"]
    first, second = map(cells, printed(*options)[2:])
    assert first == ["4x512", "– (0)", "– (0)", "– (0)", "–", "runs missing: 48"]
    assert second[0] == "γ0.995" and second[1:] == first[1:]

    for env_id in STAGE_1:
        write_scores("default", env_id, [0.0] * 8)
        write_scores("4x512", env_id, [1.0] * 8)
    write_scores("γ0.995", "Walker2d-v4", [1.0])
    first, second = map(cells, printed(*options)[2:])
    assert first == ["4x512", *["+1.000 ± 0.000 (8)"] * 3, "+1.000 ± 0.000", "to stage 2"]
    assert second[1:] == ["– (0, 8)", "– (0, 8)", "+1.000 (1, 8)", "–", "runs missing: 23"]

    def remove(name, env_id, seed, text):
        path = run_dir_of(name, "ppo_continuous", env_id, seed) / "result.json"
        path.write_text(text)

    remove("4x512", "Hopper-v4", 101, "")
    remove("4x512", "Hopper-v4", 102, '{"steps": 1000')
    remove("4x512", "Hopper-v4", 103, '{"steps": 999999, "training_return": 1}')
    remove("4x512", "Walker2d-v4", 108, '{"steps": 1000000, "training_return": null}')
    remove("default", "Walker2d-v4", 108, '{"steps": 1000000, "training_return": NaN}')
    remove("default", "HalfCheetah-v4", 104, '{"steps": 1000000}')
    first, second = map(cells, printed(*options)[2:])
    assert first[1:4] == ["+1.000 ± 0.000 (5, 8)", "+1.000 ± 0.000 (8, 7)", "+1.000 ± 0.000 (7)"]
    assert first[4:] == ["+1.000 ± 0.000", "runs missing: 6"]
    assert second[-1] == "runs missing: 25"


def test_the_last_missing_run_decides(printed, plain_scale):
    """Not before it is there."""
    for env_id in STAGE_1:
        write_scores("default", env_id, [0.0] * 8)
        write_scores("4x512", env_id, [1.0] * (7 if env_id == "Walker2d-v4" else 8))
    options = ["ppo_continuous", "--stage", 1, "--candidate", FOUR]
    assert cells(printed(*options, "--table")[-1])[-1] == "runs missing: 1"
    (command,) = printed(*options)
    assert "--env-id Walker2d-v4 --seed 108" in command and "race=4x512" in command
    write_scores("4x512", "Walker2d-v4", [1.0] * 8)
    assert cells(printed(*options, "--table")[-1])[-1] == "to stage 2"
    assert printed(*options) == []


def test_stages_do_not_share_runs(printed, plain_scale):
    for env_id in STAGE_1:
        write_scores("default", env_id, [0.0] * 8)
        write_scores("4x512", env_id, [1.0] * 8)
    options = ["ppo_continuous", "--stage", 2, "--candidate", FOUR, "--table"]
    assert cells(printed(*options)[-1])[-1] == "runs missing: 112"


def test_shorter_races(printed, plain_scale):
    """Fewer environments, seeds and steps: what was asked for counts."""
    for name, score in (("default", 0.0), ("4x512", 1.0)):
        for seed in (1, 2):
            run_dir = run_dir_of(name, "ppo_continuous", "Hopper-v4", seed)
            write_result(run_dir, steps=300_000, training=score)
    options = ["ppo_continuous", "--stage", 2, "--candidate", FOUR, "--table"]
    options += ["--env-ids", "Hopper-v4", "--seeds", 1, 2, "--total-timesteps"]
    assert cells(printed(*options, 300_000)[-1])[-1] == "taken"
    assert cells(printed(*options, 300_001)[-1])[-1] == "runs missing: 4"


# --------------------------------------------------------------------------------------------------
# What is refused


@pytest.mark.parametrize(
    "options, expected",
    [
        (["--stage", "3"], "--stage"),
        (["--seeds", "one"], "one"),
        (["--seeds", "1", "2", "1"], "seed 1 is there twice"),
        (["--env-ids", "A", "A"], "env-id A is there twice"),
        (["--total-timesteps", "0"], "--total-timesteps 0"),
        (["--candidate", "default=--gamma 0.9"], "name default is there twice"),
        (["--candidate", "b=--gamma 0.9", "--candidate", "b=--gamma 0.8"], "name b is there twice"),
        (["--candidate", "no-equals"], "NAME=OPTIONS"),
        (["--candidate", "../b=--gamma 0.9"], "NAME=OPTIONS"),
        (["--candidate", "..=--gamma 0.9"], "NAME=OPTIONS"),
        (["--candidate", "a b=--gamma 0.9"], "NAME=OPTIONS"),
        (["--candidate", "=--gamma 0.9"], "NAME=OPTIONS"),
        (["--candidate", "b="], "b: nothing differs"),
        (["--candidate", "b=--num-envs 16"], "b: nothing differs"),
        (["--candidate", "b=--num-enys 4"], "b: unrecognized arguments: --num-enys 4"),
        (["--candidate", "b=--num-envs four"], "--num-envs"),
        (["--candidate", "b=--num-envs"], "--num-envs"),
        (["--candidate", "b=--gam 0.9"], "--gam"),
        (["--candidate", "b=--seed 3"], "--seed 3"),
        (["--candidate", "b=--run-dir x"], "--run-dir x"),
        (["--candidate", "b=--total-timesteps 5"], "--total-timesteps 5"),
        (["--candidate", "b=--env-kwargs '{"], "b: No closing quotation"),
        (["--candidate", "b=missing.py --gamma 0.9"], "missing.py"),
        (["--table", "--seeds", "1"], "two seeds"),
        (["--table", "--env-ids", "Hopper-v4", "envs:LQR-v0"], "envs:LQR-v0"),
    ],
)
def test_bad_input_is_one_line(refused, options, expected):
    race = ["ppo_continuous", "--stage", 1, "--candidate", "a=--gamma 0.5"]
    assert expected in refused(*race, *options)


@pytest.mark.parametrize(
    "options, expected",
    [
        (["dqn", "--stage", "1", "--candidate", "a=--gamma 0.5"], "dqn"),
        (["ddpg", "--candidate", "a=--gamma 0.5"], "--stage"),
        (["ddpg", "--stage", "1"], "--candidate"),
        (["ddpg", "--stage", "1", "--candidate", "a=--clip-coef 0.1"], "--clip-coef"),
    ],
)
def test_what_every_race_needs(refused, options, expected):
    assert expected in refused(*options)


@pytest.mark.parametrize("text", ["", "class Args:\n    x: int\n", "class Args(\n"])
def test_a_candidate_needs_args(refused, tmp_path, text):
    (tmp_path / "copy.py").write_text(text)
    line = refused("ddpg", "--stage", 1, "--candidate", "b=copy.py --gamma 0.9")
    assert "--candidate b: cannot read Args in" in line and "copy.py" in line


def test_errors_of_the_command_line():
    command = [sys.executable, BENCHMARK / "race.py", "ddpg", "--stage", "1", "--candidate", "a"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: --candidate a: ") and done.stderr.count("\n") == 1


# --------------------------------------------------------------------------------------------------
# The table of races that have been collected


def test_the_table_of_results(verdicts, monkeypatch):
    """Candidates of results.csv beside the defaults they raced, stage by stage.

    Scores are in the mode of the published value, here training.
    """
    tables = importlib.import_module("tables")
    results = []

    def add(variant, env_id, seeds, scores):
        for seed, score in zip(seeds, scores):
            run = {"script": "ppo_continuous", "variant": variant, "env_id": env_id}
            modes = {"training": str(10 * score), "sampled": "-1e9", "deterministic": "1e9"}
            results.append(run | modes | {"seed": str(seed)})

    for env_id in STAGE_1:
        add("race=default", env_id, SEEDS[1], [3.0] * 8)
        add("race=a", env_id, SEEDS[1], [4 + x for x in DEVIATIONS])
        add("race2=default", env_id, SEEDS[1], [9.0] * 8)
    add("race=a", "Hopper-v4", SEEDS[2], [5.0])
    add("", "Hopper-v4", SEEDS[2], [7.0])  # not of a race
    random = [{"env_id": env_id, "score": "0"} for env_id in verdicts.ENV_IDS]
    best = {"score": "10", "acting": "training"}
    published = {("ppo_continuous", env_id): best for env_id in verdicts.ENV_IDS}
    monkeypatch.setattr(tables, "read", {"random.csv": random, "results.csv": results}.get)
    monkeypatch.setattr(tables, "published", lambda: published)
    header, _, first, second = map(cells, tables.races())
    assert header == ["script", "candidate", "stage", *verdicts.ENV_IDS, "mean", "verdict"]
    texts = ["+1.000 ± 1.000 (8)" if x in STAGE_1 else "–" for x in verdicts.ENV_IDS]
    assert first == ["`ppo_continuous.py`", "a", "1", *texts, "+1.000 ± 0.577", "to stage 2"]
    assert second[:3] == ["`ppo_continuous.py`", "a", "2"]
    assert second[verdicts.ENV_IDS.index("Hopper-v4") + 3] == "– (1, 0)"
    assert second[-1] == "runs missing: 111"


def test_the_table_of_fresh_seeds(verdicts, monkeypatch):
    """The defaults' runs; of a script whose defaults a candidate has replaced, that candidate's."""
    tables = importlib.import_module("tables")
    names = ["env_id", "script", "variant", "seed", "sampled"]
    runs = [
        ["Hopper-v4", "ppo_continuous", "race=default", "101", "9"],
        ["Hopper-v4", "ppo_continuous", "race=default", "102", "11"],
        ["Hopper-v4", "trpo_continuous", "race=default", "101", "1"],
        ["Hopper-v4", "trpo_continuous", "race=default", "102", "3"],
        ["Hopper-v4", "trpo_continuous", "race=a", "101", "20"],
        ["Hopper-v4", "trpo_continuous", "race=a", "102", "24"],
        ["Hopper-v4", "trpo_continuous", "", "1", "50"],
    ]
    results = [dict(zip(names, run)) for run in runs]
    best = {"score": "15", "acting": "sampled"}
    published = {(script, "Hopper-v4"): best for script in ("ppo_continuous", "trpo_continuous")}
    monkeypatch.setattr(tables, "read", {"results.csv": results}.get)
    monkeypatch.setattr(tables, "published", lambda: published)
    monkeypatch.setattr(tables, "TAKEN", {"trpo_continuous": "race=a"})
    _, _, ppo, trpo = map(cells, tables.fresh())
    assert ppo[:4] == ["`ppo_continuous.py`", "Hopper-v4", "2", "10.0 ± 1.4, sampled"]
    assert trpo[:4] == ["`trpo_continuous.py`", "Hopper-v4", "2", "22 ± 3, sampled"]
    assert (ppo[-1], trpo[-1]) == ("below", "above")


def test_two_variants_side_by_side(verdicts, monkeypatch):
    """Of the seeds that both have: returns, and the mean of what they logged."""
    tables = importlib.import_module("tables")
    names = ["env_id", "script", "variant", "seed", "sampled"]
    runs = [
        ["Hopper-v4", "trpo_continuous", "a", "109", "1"],
        ["Hopper-v4", "trpo_continuous", "a", "110", "3"],
        ["Hopper-v4", "trpo_continuous", "a", "111", "100"],
        ["Hopper-v4", "trpo_continuous", "b", "109", "5"],
        ["Hopper-v4", "trpo_continuous", "b", "110", "5"],
        ["Hopper-v4", "trpo_continuous", "b", "101", "100"],
    ]
    results = [dict(zip(names, run)) for run in runs]
    values = {"a": {"109": ["0.1", "0.2"], "110": ["0.3", ""]}, "b": {"109": ["1"], "110": ["3"]}}
    points = [
        row | {"step": str(step), "kl_max": value}
        for row in results
        for step, value in enumerate(values[row["variant"]].get(row["seed"], ["9"]))
    ]
    monkeypatch.setattr(tables, "read", {"results.csv": results}.get)
    monkeypatch.setattr(tables, "read_curves", lambda: points)
    rows = tables.side_by_side("trpo_continuous", ["a", "b"], range(102, 112), "kl_max", np.nanmean)
    (row,) = [row for row in map(cells, rows) if row[0].startswith("Hopper")]
    assert row == ["Hopper-v4 (2)", "2.0 ± 1.4", "0.20", "5.0 ± 0.0", "2.00"]


def test_the_table_of_the_pendulum(verdicts, monkeypatch):
    tables = importlib.import_module("tables")
    names = ["env_id", "script", "variant", "seed", "sampled"]
    runs = [
        ["InvertedPendulum-v4", "trpo_continuous", "race=b", "109", "30"],
        ["InvertedPendulum-v4", "trpo_continuous", "race=b", "110", "20"],
        ["InvertedPendulum-v4", "trpo_continuous", "pendulum=a, b", "1", "1000"],
        ["InvertedPendulum-v4", "trpo_continuous", "", "1", "7"],
        ["Hopper-v4", "trpo_continuous", "race=b", "109", "7"],
        ["InvertedPendulum-v4", "ppo_continuous", "race=b", "109", "7"],
    ]
    results = [dict(zip(names, run)) for run in runs]
    monkeypatch.setattr(tables, "read", {"results.csv": results}.get)
    _, _, *rows = map(cells, tables.pendulum())
    assert rows == [["b", "2", "20, 30"], ["a, b", "1", "1,000"]]
