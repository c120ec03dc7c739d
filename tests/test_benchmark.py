"""The tools under benchmark/: what they print and write, on small runs."""

import csv
import importlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from helpers import ROOT, SCRIPTS, WITH_CRITIC, load
from moviepy import ImageSequenceClip
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.tensorboard import SummaryWriter

BENCHMARK = Path(__file__).parents[1] / "benchmark"


def printed(tool, *options, cwd):
    done = subprocess.run(
        [sys.executable, BENCHMARK / tool, *map(str, options)],
        cwd=cwd,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_commands_of_a_sweep(tmp_path):
    """Each line is a command that runs.

    What has finished is left out, what has been interrupted is not.
    """
    sweep = ["--scripts", "a2c_continuous", "reinforce", "--env-ids", "envs:LQR-v0"]
    sweep += ["--seeds", 1, 2, "--total-timesteps"]
    every_run = ["--", "--eval-episodes", 1]
    lines = printed("sweep.py", *sweep, 500, *every_run, cwd=tmp_path)
    assert len(lines) == len(set(lines)) == 4
    command = lines[0].replace("python", sys.executable, 1)
    subprocess.run(command, shell=True, check=True, cwd=tmp_path)
    (run_dir,) = (tmp_path / "runs").iterdir()
    assert run_dir.name == "envs_LQR-v0__a2c_continuous__1"
    result = json.loads((run_dir / "result.json").read_text())
    assert result["steps"] >= 500 and len(result["deterministic"]["returns"]) == 1
    assert printed("sweep.py", *sweep, 500, *every_run, cwd=tmp_path) == lines[1:]
    longer = printed("sweep.py", *sweep, 5_000, *every_run, cwd=tmp_path)
    assert len(longer) == 4
    (run_dir / "result.json").write_text('{"determ')
    assert printed("sweep.py", *sweep, 500, *every_run, cwd=tmp_path) == lines


def test_a_sweep_has_the_scripts_own_length():
    (line,) = printed("sweep.py", "--scripts", "ddpg", "--env-ids", "A", "--seeds", 1, cwd=ROOT)
    assert f"--total-timesteps {load('ddpg').Args.total_timesteps} " in line


@pytest.mark.parametrize("script", SCRIPTS)
def test_defaults_are_those_of_the_script(script, tool):
    common = tool("common")
    assert common.SCRIPTS == SCRIPTS
    assert common.defaults(script) == asdict(load(script).Args())


@pytest.mark.parametrize("options", [["--scripts", "dqn"], ["--seeds", "one"]])
def test_a_sweep_refuses_what_is_not_there(options):
    command = [sys.executable, BENCHMARK / "sweep.py", *options]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr


def test_results_have_one_row_a_run():
    with open(ROOT / "benchmark" / "results.csv") as file:
        rows = list(csv.DictReader(file))
    keys = [(row["variant"], row["script"], row["env_id"], int(row["seed"])) for row in rows]
    assert len(keys) == len(set(keys)) and keys == sorted(keys)
    for row in rows:
        assert "mujoco" in row["versions"]
        if row["variant"].startswith("plateau="):  # stopped on purpose
            assert 4e5 <= float(row["steps"]) < 4.1e5
        elif row["script"] != "ddpg":
            assert float(row["steps"]) >= 1e6


def test_collecting_replaces_a_runs_rows(tmp_path, tool):
    """Scores are those of result.json, curves averages of what was logged.

    A second time changes nothing.
    """
    shutil.copy(BENCHMARK / "collect.py", tmp_path)
    (tmp_path / "results.csv").write_text((BENCHMARK / "results.csv").read_text())
    before = (tmp_path / "results.csv").read_text()
    module = load("a2c_continuous")
    tool("divergence").wrap(module)
    run_dir = module.train(
        module.Args(
            "envs:LQR-v0",
            seed=9,
            total_timesteps=40_000,
            eval_episodes=2,
            run_dir=str(tmp_path / "run"),
        )
    )
    for _ in range(2):
        subprocess.run(
            [sys.executable, tmp_path / "collect.py", run_dir], check=True, capture_output=True
        )
        with open(tmp_path / "results.csv") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == len(before.splitlines())  # one more than there was, less the header
        (mine,) = [row for row in rows if row["env_id"] == "envs:LQR-v0"]
        result = json.loads((run_dir / "result.json").read_text())
        assert float(mine["sampled"]) == pytest.approx(
            np.mean(result["sampled"]["returns"]), abs=0.06
        )
        assert mine["seed"] == "9" and int(mine["steps"]) == result["steps"]
    with open(tmp_path / "curves.csv") as file:
        curve = list(csv.DictReader(file))
    assert len(curve) == 50 and int(curve[-1]["step"]) == result["steps"]
    returns = [float(point["episodic_return"]) for point in curve if point["episodic_return"]]
    assert len(returns) > 40 and returns[-1] > returns[0]  # it learns
    assert all(
        float(x["kl_max"]) >= float(x["kl"]) >= 0 and float(x["ratio_q01"]) <= 1
        for x in curve
        if x["kl"]
    )


def test_curves_average_returns_over_episodes(tmp_path, tool):
    """Runs that have not logged the number of episodes weigh all points alike, as other tags do."""
    for name, expected in (("counted", "7"), ("uncounted", "5")):
        with SummaryWriter(tmp_path / name) as writer:
            for step, value, count in ((60, 1.0, 1), (100, 9.0, 3), (5000, 9.0, 7), (5100, 9.0, 0)):
                writer.add_scalar("losses/kl", value, step)
                if count > 0:
                    writer.add_scalar("charts/episodic_return", value, step)
                if name == "counted":
                    writer.add_scalar("charts/num_episodes", count, step)
        rows = tool("collect").curve_rows({}, tmp_path / name, 5100)
        assert [row["episodic_return"] for row in rows] == [expected] + 48 * [""] + ["9"]
        assert rows[0]["kl"] == "5"


@pytest.fixture
def tool(monkeypatch):
    """Imports a file of benchmark/, afresh with the scripts that it imports."""

    def make(name):
        monkeypatch.syspath_prepend(str(BENCHMARK))
        tools = [path.stem for path in BENCHMARK.glob("*.py")]
        for module in ("ppo_continuous", "trpo_continuous", *tools):
            monkeypatch.delitem(sys.modules, module, raising=False)
        return importlib.import_module(name)

    return make


@pytest.mark.parametrize("name", ["a2c_continuous", "ppo_continuous", "trpo_continuous"])
def test_how_far_an_update_went(tool, name, tmp_path):
    """Kullback-Leibler divergences and ratios of the first update again, sums written out."""
    script, divergence = load(name), tool("divergence")
    seen, logged, update = [], [], script.update

    def record(policy, critic, optimizer, batch, *rest):
        before = policy.mu(batch["obs"]).detach(), policy.log_std.detach().clone()
        losses = update(policy, critic, optimizer, batch, *rest)
        after = policy.mu(batch["obs"]).detach(), policy.log_std.detach().clone()
        seen.append((*before, *after, batch["actions"]))
        return losses

    script.update = record
    divergence.wrap(script)
    wrapped = script.update
    script.update = lambda *inputs: logged.append(wrapped(*inputs)) or logged[-1]
    options = {"num_envs": 2, "num_steps": 64, "total_timesteps": 256, "eval_episodes": 1}
    options |= {"minibatch_size": 32} if name != "a2c_continuous" else {}
    script.train(script.Args("envs:LQR-v0", run_dir=str(tmp_path / "run"), **options))
    old_mu, old_log_std, mu, log_std, actions = seen[0]  # observations are not normalized yet
    s, t = old_log_std.exp(), log_std.exp()
    kl = (log_std - old_log_std + (s**2 + (old_mu - mu) ** 2) / (2 * t**2) - 0.5).sum(-1)
    z, w = (actions - old_mu) / s, (actions - mu) / t
    ratio = ((z**2 - w**2) / 2 + old_log_std - log_std).sum(-1).exp().double()
    losses = logged[0]
    assert float(losses["kl"]) == pytest.approx(kl.mean().item(), rel=1e-2, abs=1e-6)
    assert float(losses["kl_max"]) == pytest.approx(kl.max().item(), rel=1e-2, abs=1e-6)
    for quantile in ("01", "99"):
        expected = np.quantile(ratio, int(quantile) / 100)
        assert float(losses[f"ratio_q{quantile}"]) == pytest.approx(expected, rel=1e-3)


def test_collected_mean_q_is_what_ddpg_has_logged(tmp_path):
    """The mean over each fiftieth of the run."""
    shutil.copy(BENCHMARK / "collect.py", tmp_path)
    module = load("ddpg")
    options = {"total_timesteps": 3_000, "learning_starts": 500, "eval_episodes": 1}
    run_dir = module.train(
        module.Args("envs:LQR-v0", run_dir=str(tmp_path / "run"), batch_size=16, **options)
    )
    command = [sys.executable, tmp_path / "collect.py", run_dir]
    subprocess.run(command, check=True, capture_output=True)
    with open(tmp_path / "curves.csv") as file:
        curve = list(csv.DictReader(file))
    points = EventAccumulator(str(run_dir)).Reload().Scalars("losses/mean_q")
    assert len(points) > 2 and len(curve) == 50
    for row in curve:
        end = int(row["step"])
        values = [point.value for point in points if end - 60 < point.step <= end]
        assert bool(values) == bool(row["mean_q"])
        if values:
            assert float(row["mean_q"]) == pytest.approx(np.mean(values), rel=1e-4)


def test_only_ddpg_has_a_mean_q():
    with open(BENCHMARK / "curves.csv") as file:
        rows = [row for row in csv.DictReader(file) if row["mean_q"]]
    assert len(rows) > 2_000 and {row["script"] for row in rows} == {"ddpg"}


def test_a_variant_is_named_by_its_folder(tmp_path):
    shutil.copy(BENCHMARK / "collect.py", tmp_path)
    module, run_dirs = (
        load("reinforce"),
        [tmp_path / "learning_rate=0.1" / x for x in ("done", "not")],
    )
    module.train(
        module.Args("envs:LQR-v0", total_timesteps=300, eval_episodes=1, run_dir=str(run_dirs[0]))
    )
    run_dirs[1].mkdir()
    command = [sys.executable, tmp_path / "collect.py", "--variants", *run_dirs]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "not has not finished" in done.stdout
    with open(tmp_path / "results.csv") as file:
        assert [(row["variant"], row["script"]) for row in csv.DictReader(file)] == [
            ("learning_rate=0.1", "reinforce")
        ]


def test_interquartile_mean(tool):
    tables = tool("tables")
    middle = np.mean([2, 3, 4, 5, 6])  # two of nine go at each end
    assert tables.iqm([[9, 1, 2], [3, 4, -50], [100, 5, 6]]) == middle
    assert tables.iqm([1, 2, 3, 100]) == 2.5


def test_intervals_cover_the_truth(tool):
    """95 % intervals for five environments of ten seeds.

    Of 200, within what a binomial of 0.93 allows.
    """
    tables, rng = tool("tables"), np.random.default_rng(0)
    levels = np.array([0.0, 1, 2, 3, 4])
    truth = tables.iqm(levels[:, None] + 0.1 * rng.standard_normal((5, 200_000)))
    hits = 0
    for _ in range(200):
        strata = list(levels[:, None] + 0.1 * rng.standard_normal((5, 10)))
        low, high = tables.interval(strata, tables.iqm, draws=300)
        hits += low <= truth <= high
    assert 172 <= hits <= 198
    wide = tables.interval([rng.standard_normal(5)], np.mean)
    narrow = tables.interval([rng.standard_normal(500)], np.mean)
    assert narrow[1] - narrow[0] < (wide[1] - wide[0]) / 4


@pytest.fixture
def small_tables(tool, monkeypatch):
    """The module tables with two tables of one line."""

    def first():
        yield "| one |"

    def second():
        yield "| two |"
        yield "| three |"

    module = tool("tables")
    monkeypatch.setattr(module, "TABLES", [first, second])
    return module


@pytest.mark.parametrize(
    "before, after",
    [
        ("no marker\n\n| x |\n", "no marker\n\n| x |\n"),
        ("a\n\nMARKER\n\n| x |\n| y |\n\nb\n", "a\n\nMARKER\n\n| one |\n\nb\n"),
        ("MARKER\n\n| x |\n", "MARKER\n\n| one |\n"),
        ("MARKER\n\n| x |", "MARKER\n\n| one |\n"),
        ("MARKER\n", "MARKER\n\n| one |\n"),
        ("MARKER\n\n\nb\n", "MARKER\n\n| one |\n\nb\n"),
        ("MARKER\n\n| x |\n \nb\n", "MARKER\n\n| one |\n \nb\n"),
        ("a `MARKER`\n\n| x |\n", "a `MARKER`\n\n| x |\n"),
    ],
)
def test_with_tables_replaces_what_stands_below_a_marker(small_tables, before, after):
    """Up to the next blank line or the end, and nothing else."""
    marker = "<!-- table: first -->"
    before, after = before.replace("MARKER", marker), after.replace("MARKER", marker)
    assert small_tables.with_tables(before) == after
    assert small_tables.with_tables(after) == after


def test_with_tables_writes_each_table_below_its_own_marker(small_tables):
    text = "# A\n\n<!-- table: second -->\n\nold\n\nb\n\n<!-- table: first -->\n\nold\n"
    new = small_tables.with_tables(text)
    assert new == text.replace("old", "| two |\n| three |", 1).replace("old", "| one |")


def test_with_tables_refuses_what_it_cannot_place(small_tables):
    with pytest.raises(ValueError, match="no table third, only first, second"):
        small_tables.with_tables("<!-- table: third -->\n\n| x |\n")
    with pytest.raises(ValueError, match="first needs a blank line"):
        small_tables.with_tables("<!-- table: first -->\n| x |\n")


def test_tables_are_rewritten_in_every_document(small_tables, tmp_path, monkeypatch, capsys):
    """One line says what stands where; a name that is not known leaves all files as they are."""
    monkeypatch.setattr(small_tables, "ROOT", tmp_path)
    monkeypatch.setattr(sys, "argv", ["tables.py"])
    paths = ["README.md", "docs/a/b.md", "benchmark/speed.md", "tests/README.md"]
    for path in (*paths, "runs/notes.md"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("<!-- table: first -->\n\n| x |\n")
    (tmp_path / "docs" / "plain.md").write_text("| x |\n")
    small_tables.main()
    assert capsys.readouterr().out.splitlines() == sorted(f"{path}: first" for path in paths)
    assert all((tmp_path / path).read_text().endswith("\n\n| one |\n") for path in paths)
    assert (tmp_path / "runs" / "notes.md").read_text().endswith("| x |\n")
    assert (tmp_path / "docs" / "plain.md").read_text() == "| x |\n"

    (tmp_path / "README.md").write_text("<!-- table: first -->\n\n| x |\n")
    (tmp_path / "tests" / "README.md").write_text("<!-- table: third -->\n\n| x |\n")
    with pytest.raises(SystemExit) as stop:
        small_tables.main()
    (line,) = capsys.readouterr().err.splitlines()
    assert stop.value.code == 2 and "tests/README.md" in line and "third" in line
    assert (tmp_path / "README.md").read_text().endswith("| x |\n")


def test_tables_are_printed(tool):
    lines = printed("tables.py", "--print", cwd=ROOT)
    names = [line.split()[2] for line in lines if line.startswith("<!-- table: ")]
    assert names == [table.__name__ for table in tool("tables").TABLES]
    assert len(lines) > 200


def test_variants_of_the_data_are_those_of_the_tool(tool):
    """What has no "=" in its label is a variant of ablate.py."""
    for name in ("results.csv", "curves.csv"):
        with open(BENCHMARK / name) as file:
            variants = {row["variant"] for row in csv.DictReader(file)}
        ablations = {variant for variant in variants if variant and "=" not in variant}
        assert ablations == set(tool("ablate").VARIANTS)


def test_figures_are_drawn_from_the_committed_data(tool, tmp_path, monkeypatch):
    figures = tool("figures")
    for path in BENCHMARK.glob("*.csv"):
        shutil.copy(path, tmp_path)
    monkeypatch.setattr(figures, "HERE", tmp_path)
    monkeypatch.setattr(sys.modules["tables"], "HERE", tmp_path)
    figures.main()
    drawn = {path.name for path in (tmp_path / "figures").iterdir()}
    assert drawn == set(figures.FIGURES) >= {"learning_curves.png", "divergence.png"}
    assert all((tmp_path / "figures" / name).stat().st_size > 10_000 for name in drawn)
    assert all((BENCHMARK / "figures" / name).exists() for name in drawn)


def test_ablations_change_what_they_say(tool):
    rng = np.random.default_rng(0)

    def after(variant):
        ablate = tool("ablate")
        ablate.VARIANTS[variant][0]()
        return ablate.script

    def scaled(module):
        return module.RewardScaler(2, 0.99)(rewards, np.zeros((8, 2), bool))

    def normalized(module):
        statistics = module.RunningStatistics(3)
        statistics.update(obs)
        return statistics.normalize(torch.from_numpy(obs))

    plain = tool("ablate").script
    rewards, obs, A = rng.normal(5, 3, (8, 2)), rng.normal(5, 3, (8, 2, 3)), torch.randn(16)
    module = after("no-reward-scaling")
    assert (scaled(module) == rewards).all() and np.abs(scaled(plain)).max() < 3
    assert torch.equal(module.moments(A)[1], plain.moments(A)[1])
    assert torch.equal(normalized(module), normalized(plain))
    module = after("no-normalization-of-advantages")
    assert module.moments(A)[1:] == (0, 1) and (scaled(module) == scaled(plain)).all()
    assert torch.equal(normalized(module), normalized(plain))
    module = after("no-normalization-of-advantages-nor-gradient-clipping-nor-decay")
    assert module.moments(A)[1:] == (0, 1)
    assert module.update.__name__ == "update_at_constant_rate"
    module = after("no-observation-normalization")
    assert (normalized(module).numpy() == obs).all() and (scaled(module) == scaled(plain)).all()
    limit, never, r = torch.ones(1, 1), torch.zeros(1, 1), torch.ones(1, 1)
    arguments = (r, 0 * r, 10 * r, never, limit, 0.9, 0.95)
    assert after("time-limits-as-terminations").compute_gae(*arguments) == 1
    assert plain.compute_gae(*arguments) == 10
    assert after("initial-weights-of-PyTorch").mlp(3, 2, 0.01)[-1].weight.abs().max() > 0.03


def test_recomputed_advantages(tool):
    """One epoch is PPO's own; of two, the second sees the first one's critic, but π_old's ratio."""

    def updated(variant, epochs, critic_learns=True):
        torch.manual_seed(0)
        ablate = tool("ablate")
        if variant:
            ablate.VARIANTS[variant][0]()
        module, rng = ablate.script, np.random.default_rng(0)
        policy = module.Policy(3, -np.ones(1, np.float32), np.ones(1, np.float32))
        critic = module.Critic(3)
        learners = [*policy.parameters(), *(critic.parameters() if critic_learns else [])]
        optimizer = torch.optim.Adam(learners, lr=3e-3)
        batch = {name: torch.randn(64, 2, 3) for name in ("obs", "next_obs")}
        batch |= {"actions": torch.randn(64, 2, 1), "rewards": torch.randn(64, 2)}
        batch |= {name: 1.0 * (torch.rand(64, 2) < 0.1) for name in ("terminated", "done")}
        args = module.Args(update_epochs=epochs, minibatch_size=32, num_envs=2, num_steps=64)
        module.update(policy, critic, optimizer, batch, rng, args)
        assert policy.log_prob.__func__ is module.Policy.log_prob
        return torch.nn.utils.parameters_to_vector(policy.parameters())

    recomputed = "advantages-recomputed"
    assert torch.equal(updated("", 1), updated(recomputed, 1))
    assert not torch.allclose(updated("", 4), updated(recomputed, 4), atol=1e-4)
    frozen = [updated(variant, 4, critic_learns=False) for variant in ("", recomputed)]
    assert torch.equal(*frozen)  # where the critic stays, nothing is new


def test_an_ablation_trains(tmp_path):
    options = ["--env-id", "envs:LQR-v0", "--total-timesteps", 2048, "--run-dir", tmp_path / "run"]
    printed("ablate.py", "constant-learning-rate", *options, cwd=tmp_path)
    assert json.loads((tmp_path / "run" / "result.json").read_text())["steps"] == 2048
    lines = printed("ablate.py", cwd=tmp_path)
    assert len(lines) == len(set(lines)) == 108 and all(
        "--run-dir runs/ablations/" in line for line in lines
    )


def test_samples_of_the_trust_region(tool, tmp_path, monkeypatch):
    """Where nothing moves nothing changes; near 0 surrogate and return have the same slope.

    A step of 1 is at the bound, directions are four times as far, or at 16 times the bound.
    """
    module = tool("trust_region")
    options = {
        "total_timesteps": 20_480,
        "gamma": 0.8,
        "eval_episodes": 1,
        "run_dir": str(tmp_path / "run"),
    }
    run_dir = module.script.train(module.script.Args("envs:LQR-v0", **options))
    settings = {"EPISODES": 100, "ROUNDS": 5, "DIRECTIONS": 2, "SIZES": [-1, 0, 1, 4]}
    settings["__file__"] = str(tmp_path / "x.py")
    for name, value in settings.items():
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(sys, "argv", ["trust_region.py", str(run_dir)])
    module.main()
    with open(tmp_path / "x.csv") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row.update({k: float(v) for k, v in row.items() if k not in ("kind", "tensor")})

    assert len(rows) == 4 + 5 * 2 * 2
    back, still, step, far = rows[:4]
    for name in ("gain", "gain_low", "gain_high", "surrogate", "norm"):
        assert still[name] == 0
    assert still["kl"] < 1e-6
    assert step["kl"] == pytest.approx(0.01, rel=0.3)
    assert step["surrogate_low"] > 0 > back["surrogate_high"]
    assert step["gain"] > 0 > back["gain"]
    assert far["norm"] == pytest.approx(4 * step["norm"], rel=1e-3)
    assert [row["tensor"] for row in rows[4::4]] == list(module.TENSORS)
    for row in rows[4:]:
        if row["kind"] == "equal-parameters":
            assert row["norm"] == pytest.approx(4 * step["norm"], rel=1e-3)
        elif row["size"] < 999:  # else tanh saturates: D stays below at any length
            assert row["kl"] == pytest.approx(16 * 0.01, rel=1e-2)


def test_what_the_samples_of_the_trust_region_show():
    """The committed samples: a tangent at 0, beyond the bound a surrogate that promises too much.

    At equal ‖Δθ‖ the changes of V differ more between tensors than at equal divergence.
    """
    with open(ROOT / "benchmark" / "trust_region.csv") as file:
        rows = list(csv.DictReader(file))
    steps = [row for row in rows if row["kind"] == "step"]
    for row in steps:
        size, middle, low, high, surrogate_low = (
            float(row[name])
            for name in ("size", "surrogate", "gain_low", "gain_high", "surrogate_low")
        )
        if abs(size) < 0.5:
            assert low <= middle <= high
        if 1.4 < size < 12:
            assert surrogate_low > high

    def ratio(kind):
        sizes = {}
        for row in rows:
            if row["kind"] == kind:
                sizes.setdefault(row["tensor"], []).append(abs(float(row["gain"])))
        medians = [np.median(x) for x in sizes.values()]
        return max(medians) / min(medians)

    assert ratio("equal-parameters") > 10 * ratio("equal-kl")


def test_random_directions_stay_within_their_tensor(tool):
    module = tool("trust_region")
    near = module.Neighborhood.__new__(module.Neighborhood)
    near.policy = module.script.Policy(3, -np.ones(2), np.ones(2))
    sizes = {name: parameter.numel() for name, parameter in near.policy.named_parameters()}
    assert set(module.TENSORS.values()) <= set(sizes)
    for tensor in module.TENSORS.values():
        direction = near.random_direction(tensor, 0.5, torch.Generator().manual_seed(0))
        assert direction.norm() == pytest.approx(0.5)
        for name, part in zip(sizes, direction.split(list(sizes.values()))):
            assert bool(part.any()) == (name == tensor)


def test_cases_of_growth_and_devices(tool):
    """The batch stays that of the defaults; each script runs on both devices."""
    speed = tool("speed")
    for script in WITH_CRITIC:
        args = load(script).Args()
        cases = [case.ours for case in speed.GROWTH if case.script == script]
        assert [ours["num_envs"] for ours in cases] == [1, 4, 16, 64]
        batch_sizes = {ours["num_envs"] * ours["num_steps"] for ours in cases}
        assert batch_sizes == {args.num_envs * args.num_steps}
    devices = {(case.script, case.ours["device"]) for case in speed.DEVICES}
    assert devices == {(script, device) for script in SCRIPTS for device in ("cpu", "cuda")}
    for case in speed.CASES + speed.GROWTH + speed.DEVICES:
        assert set(case.ours) <= set(asdict(load(case.script).Args()))


def test_speeds_are_measured(tool, tmp_path, monkeypatch, capsys):
    speed = tool("speed")
    measured = [("ppo_continuous", "N = 16"), ("ddpg", "N = 4")]
    cases = [case for case in speed.GROWTH if case[:2] in measured]
    monkeypatch.setattr(speed, "GROWTH", cases)
    monkeypatch.setattr(speed, "STEPS", {"ppo_continuous": 4096, "ddpg": 300})
    options = ["--growth", "--env-ids", "Pendulum-v1", "--rounds", "1"]
    options += ["--out", str(tmp_path / "growth")]
    monkeypatch.setattr(sys, "argv", ["speed.py", *options])
    speed.main()
    with open(tmp_path / "growth.csv") as file:
        rows = list(csv.DictReader(file))
    assert [(row["script"], row["settings"]) for row in rows] == measured
    fractions = [float(row["inside"]) for row in rows]
    # a policy update takes DDPG longer than a step of a pendulum
    assert 0 < fractions[1] < fractions[0] < 1
    assert all(float(row["ours"]) > 0 and float(row["memory"]) > 100 for row in rows)
    assert "| Pendulum-v1 | ppo_continuous | N = 16 |" in capsys.readouterr().out


def test_time_inside_the_one_environment_of_reinforce(tool):
    speed = tool("speed")
    options = {"total_timesteps": 2_000}
    rate, inside, memory = speed.measure(
        "ours.py", script="reinforce", env_id="Pendulum-v1", options=options
    )
    assert rate > 0 and 0.05 < inside < 1 and memory > 100


def test_a_peer_is_measured(tool, tmp_path, monkeypatch):
    """Whatever package.algorithm names, with its own options; here one that counts."""
    (tmp_path / "peer.py").write_text(
        "import time\n"
        "class Sleeper:\n"
        "    def __init__(self, policy, env_id, device, seed, naps):\n"
        "        assert (policy, env_id, device) == ('MlpPolicy', 'Hopper-v4', 'cpu')\n"
        "        self.naps = naps\n"
        "    def learn(self, steps):\n"
        "        time.sleep(0.1 * self.naps)\n"
        "        self.num_timesteps = steps + 1\n"
    )
    speed = tool("speed")
    paths = [str(tmp_path), os.environ["PYTHONPATH"]]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    (rate,) = speed.measure(
        "theirs.py", peer="peer.Sleeper", env_id="Hopper-v4", steps=99, options={"naps": 2}
    )
    assert 0 < rate <= 500  # 100 steps in 0.2 s, or more on a busy machine
    with pytest.raises(SystemExit, match="a run has failed"):
        speed.measure("theirs.py", peer="peer.Missing", env_id="Hopper-v4", steps=99, options={})


FAKE_PEERS = {  # as little of stable-baselines3 as programs/train_peer.py uses
    "stable_baselines3-0.dist-info/METADATA": "Name: stable-baselines3\nVersion: 0\n",
    "sb3_contrib-0.dist-info/METADATA": "Name: sb3-contrib\nVersion: 0\n",
    "stable_baselines3/common/callbacks.py": "class BaseCallback: pass\n",
    "stable_baselines3/common/env_util.py": (
        "import gymnasium as gym\n"
        "def make_vec_env(env_id, n_envs, seed):\n"
        "    assert (n_envs, seed) == (1, 3)\n"
        "    return gym.make(env_id)\n"
    ),
    "stable_baselines3/common/vec_env.py": (
        "class VecNormalize:\n"
        "    def __init__(self, envs):\n"
        "        self.action_space = envs.action_space\n"
        "    def normalize_obs(self, obs):\n"
        "        return 0 * obs + 7\n"
    ),
    "stable_baselines3/__init__.py": (
        "import numpy as np\n"
        "class PPO:\n"
        "    normalized = True\n"
        "    def __init__(self, policy, envs, seed, device):\n"
        "        assert (policy, seed, device) == ('MlpPolicy', 3, 'cpu')\n"
        "        self.action_space = envs.action_space\n"
        "    def learn(self, total_timesteps, callback):\n"
        "        self.num_timesteps = total_timesteps + 48\n"
        "        for step in (200, 400, 1000):\n"
        "            callback.num_timesteps = step\n"
        "            callback.locals = {'infos': [{'episode': {'r': float(step)}}]}\n"
        "            assert callback._on_step()\n"
        "        callback.locals = {'infos': [{}]}\n"
        "        assert callback._on_step()\n"
        "    def predict(self, obs, deterministic):\n"
        "        assert (obs == 7).all() == self.normalized\n"
        "        return np.full((len(obs), 1), 0.0 if deterministic else 2.0), None\n"
        "class DDPG(PPO):\n"
        "    normalized = False\n"
    ),
}


@pytest.mark.parametrize("script", ["ppo_continuous", "ddpg"])
def test_runs_of_peers(script, tool, tmp_path, monkeypatch):
    """A command runs, and collect.py takes its folder in.

    Models on-policy see normalized observations, and sampled actions too.
    """
    for name, text in FAKE_PEERS.items():
        (tmp_path / "fake" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "fake" / name).write_text(text)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "fake"))
    options = ["--scripts", script, "--env-ids", "Pendulum-v1", "--seeds", 3]
    options += ["--total-timesteps", 1000]
    (line,) = printed("peers.py", *options, cwd=tmp_path)
    command = line.replace("python", sys.executable, 1)
    subprocess.run(command, shell=True, check=True, cwd=tmp_path)
    assert printed("peers.py", *options, cwd=tmp_path) == []
    longer = printed("peers.py", *options[:-1], 2000, cwd=tmp_path)
    assert len(longer) == 1

    (run_dir,) = tmp_path.glob("runs/peers/*/*")
    result = json.loads((run_dir / "result.json").read_text())
    modes = {"deterministic": 0.0, "sampled": 2.0}
    if script == "ddpg":
        del modes["sampled"]
    for mode, torque in modes.items():
        assert result[mode]["returns"] == pytest.approx(pendulum_returns(torque))
    assert set(result) == {*modes, "training_return", "steps", "steps_per_second"}
    assert result["training_return"] == pytest.approx((200 + 400 + 1000) / 3)

    collect = tool("collect")
    monkeypatch.setattr(collect, "HERE", tmp_path)
    monkeypatch.setattr(sys, "argv", ["collect.py", "--variants", str(run_dir)])
    collect.main()
    with open(tmp_path / "results.csv") as file:
        (row,) = csv.DictReader(file)
    name = {"ppo_continuous": "PPO", "ddpg": "DDPG"}[script]
    assert row["variant"] == f"peer=stable_baselines3.{name}"
    assert (row["script"], row["env_id"], row["seed"]) == (script, "Pendulum-v1", "3")
    assert "stable-baselines3 0" in row["versions"]
    with open(tmp_path / "curves.csv") as file:
        returns = [row["episodic_return"] for row in csv.DictReader(file) if row["episodic_return"]]
    assert returns == ["200", "400", "1000"]


def pendulum_returns(torque):
    """Of 20 episodes with a constant torque, from the initial states of every evaluation."""
    returns = []
    for i in range(20):
        env = gym.make("Pendulum-v1")
        env.reset(seed=10**6 + i)
        returns.append(sum(env.step([torque])[1] for _ in range(200)))
    return returns


def test_products_of_an_update(tool):
    """Larger batches take longer."""
    speed = tool("speed")
    (small,) = speed.measure("products.py", env_id="Pendulum-v1", batch_size=2)
    (large,) = speed.measure("products.py", env_id="Pendulum-v1", batch_size=128)
    assert 0 < small < large < 1


def test_the_table_of_speeds(tool):
    tables = tool("tables")
    row = {"env_id": "Hopper-v4", "script": "ddpg", "settings": "own", "peer": "theirs"}
    row |= {"inside": 0.25, "memory": 300}
    rates = [(10, 4), (30, 10), (8, 4)]
    rows = [row | {"ours": ours, "theirs": theirs} for ours, theirs in rates]
    *_, last = tables.speed_table(rows)
    assert last.endswith("| own | 10 (8–30) | 25% | 300 | theirs | 4 (4–10) | 2.50 (2.00–3.00) |")


def test_agents_side_by_side(tmp_path):
    """One frame of the GIF per strided frame of the videos.

    Who has fallen stands still and pale.
    """
    frames = np.full((40, 64, 64, 3), [200, 0, 0], np.uint8)
    frames[range(40), :20, range(40)] = (
        255  # a bar that moves: a GIF has no two frames that are the same
    )
    for name, count in (("a2c_continuous", 40), ("ppo_continuous", 8)):
        (tmp_path / name / "videos").mkdir(parents=True)
        ImageSequenceClip(list(frames[:count]), fps=20).write_videofile(
            str(tmp_path / name / "videos" / "rl-video-episode-0.mp4"), logger=None
        )
        (tmp_path / name / "args.json").write_text(
            json.dumps({"script": name, "env_id": "Hopper-v4"})
        )
        (tmp_path / name / "videos" / "return.txt").write_text("1234.5")
    options = ["--size", 64, "--seconds", 1, "--fps", 10, "--stride", 4]
    (line,) = printed(
        "animate.py", "x.gif", "a2c_continuous", "ppo_continuous", *options, cwd=tmp_path
    )
    assert line.startswith("x.gif: 10 frames")
    with Image.open(tmp_path / "x.gif") as gif:
        assert gif.size == (128, 86) and gif.n_frames == 10
        shades = []
        for frame in (0, 5, 9):
            gif.seek(frame)
            shades.append([gif.convert("RGB").getpixel((x, 60)) for x in (32, 96)])
    assert shades[0][0][1] < 60 and shades[2][0][1] < 60  # red, still going
    assert (
        shades[0][1][1] < 60 and shades[1][1][1] > 120 and shades[2][1][1] > 120
    )  # red, then pale
