"""The tools under benchmark/: what they print and write, on small runs."""

import csv
import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import ROOT, SCRIPTS, load
from moviepy import ImageSequenceClip
from PIL import Image

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

    What has finished is left out, what has been cut off is not.
    """
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
    subprocess.run(
        lines[0].replace("python", sys.executable, 1), shell=True, check=True, cwd=tmp_path
    )
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
    done = subprocess.run(
        [sys.executable, BENCHMARK / "commands.py", *options], capture_output=True, text=True
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr


def test_results_have_one_row_a_run():
    with open(ROOT / "benchmark" / "results.csv") as file:
        rows = list(csv.DictReader(file))
    keys = [(row["variant"], row["script"], row["env_id"], int(row["seed"])) for row in rows]
    assert len(keys) == len(set(keys)) and keys == sorted(keys)
    assert all(
        float(row["steps"]) >= 1e6 and "mujoco" in row["versions"]
        for row in rows
        if row["script"] != "ddpg"
    )


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


@pytest.fixture
def tool(monkeypatch):
    """Imports a file of benchmark/, afresh with the scripts that it imports."""

    def make(name):
        monkeypatch.syspath_prepend(str(BENCHMARK))
        for script in ("ppo_continuous", "trpo_continuous", name):
            monkeypatch.delitem(sys.modules, script, raising=False)
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
    report = tool("report")
    assert report.iqm([[9, 1, 2], [3, 4, -50], [100, 5, 6]]) == np.mean(
        [2, 3, 4, 5, 6]
    )  # two of nine go at each end
    assert report.iqm([1, 2, 3, 100]) == 2.5


def test_intervals_cover_the_truth(tool):
    """95 % intervals for five environments of ten seeds.

    Of 200, within what a binomial of 0.93 allows.
    """
    report, rng = tool("report"), np.random.default_rng(0)
    levels = np.array([0.0, 1, 2, 3, 4])
    truth = report.iqm(levels[:, None] + 0.1 * rng.standard_normal((5, 200_000)))
    hits = 0
    for _ in range(200):
        low, high = report.interval(
            list(levels[:, None] + 0.1 * rng.standard_normal((5, 10))), report.iqm, draws=300
        )
        hits += low <= truth <= high
    assert 172 <= hits <= 198
    wide = report.interval([rng.standard_normal(5)], np.mean)
    narrow = report.interval([rng.standard_normal(500)], np.mean)
    assert narrow[1] - narrow[0] < (wide[1] - wide[0]) / 4


def test_figures_are_drawn_from_the_committed_data(tool, tmp_path, monkeypatch):
    report = tool("report")
    for path in BENCHMARK.glob("*.csv"):
        shutil.copy(path, tmp_path)
    monkeypatch.setattr(report, "HERE", tmp_path)
    report.main()
    drawn = {path.name for path in (tmp_path / "figures").iterdir()}
    assert {"learning_curves.png", "divergence.png"} <= drawn
    assert all((tmp_path / "figures" / name).stat().st_size > 10_000 for name in drawn)


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
    module = after("no-whitening-of-advantages")
    assert module.moments(A)[1:] == (0, 1) and (scaled(module) == scaled(plain)).all()
    assert torch.equal(normalized(module), normalized(plain))
    module = after("no-whitening-nor-bound-nor-falling-step")
    assert module.moments(A)[1:] == (0, 1) and module.update.__name__ == "constant"
    module = after("no-observation-normalisation")
    assert (normalized(module).numpy() == obs).all() and (scaled(module) == scaled(plain)).all()
    limit, never, r = torch.ones(1, 1), torch.zeros(1, 1), torch.ones(1, 1)
    arguments = (r, 0 * r, 10 * r, never, limit, 0.9, 0.95)
    assert after("time-limits-as-deaths").compute_gae(*arguments) == 1
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
    printed("ablate.py", "constant-step-size", *options, cwd=tmp_path)
    assert json.loads((tmp_path / "run" / "result.json").read_text())["steps"] == 2048
    lines = printed("ablate.py", cwd=tmp_path)
    assert len(lines) == len(set(lines)) == 108 and all(
        "--run-dir runs/ablations/" in line for line in lines
    )


def test_samples_of_the_trust_region(tool, tmp_path, monkeypatch):
    """Where nothing moves nothing changes.

    A step of 1 and directions at equal divergence are at the bound.
    """
    module = tool("trust_region")
    options = {"total_timesteps": 20_480, "eval_episodes": 1, "run_dir": str(tmp_path / "run")}
    run_dir = module.script.train(module.script.Args("envs:LQR-v0", **options))
    for name, value in {
        "EPISODES": 4,
        "SAMPLES": 60,
        "DIRECTIONS": 2,
        "__file__": str(tmp_path / "x.py"),
    }.items():
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(sys, "argv", ["trust_region.py", str(run_dir)])
    module.main()
    with open(tmp_path / "x.csv") as file:
        rows = [
            {k: v if k == "kind" else float(v) for k, v in row.items()}
            for row in csv.DictReader(file)
        ]
    steps = {row["size"]: row for row in rows if row["kind"] == "step"}
    assert len(steps) == 21 and len(rows) == 25
    assert (
        steps[0]["gain"] == steps[0]["surrogate"] == steps[0]["norm"] == 0 and steps[0]["kl"] < 1e-6
    )
    assert (
        steps[1]["kl"] == pytest.approx(0.01, rel=0.3)
        and steps[1]["surrogate"] > 0 > steps[-1]["surrogate"]
    )
    assert steps[4]["norm"] == pytest.approx(4 * steps[1]["norm"], rel=1e-3)
    for row in rows[21:]:
        expected = {"equal-kl": ("kl", 0.01), "equal-parameters": ("norm", steps[1]["norm"])}[
            row["kind"]
        ]
        assert row[expected[0]] == pytest.approx(
            expected[1], rel=0.1 if row["kind"] == "equal-kl" else 1e-3
        )


def test_speeds_are_measured(tool, tmp_path, monkeypatch, capsys):
    speed = tool("speed")
    for script, batch in speed.BATCHES.items():  # the growth table keeps the default batch
        args = load(script).Args()
        assert args.num_envs * args.num_steps == batch
    assert {(case[0], case[2]["device"]) for case in speed.DEVICES} == {
        (s, d) for s in SCRIPTS for d in ("cpu", "cuda")
    }
    cases = [
        case
        for case in speed.GROWTH
        if case[:2] in [("ppo_continuous", "N = 16"), ("ddpg", "N = 4")]
    ]
    monkeypatch.setattr(speed, "GROWTH", cases)
    monkeypatch.setattr(speed, "STEPS", {"ppo_continuous": 4096, "ddpg": 300})
    options = [
        "--growth",
        "--env-ids",
        "Pendulum-v1",
        "--rounds",
        "1",
        "--out",
        str(tmp_path / "growth"),
    ]
    monkeypatch.setattr(sys, "argv", ["speed.py", *options])
    speed.main()
    with open(tmp_path / "growth.csv") as file:
        rows = list(csv.DictReader(file))
    assert [(row["script"], row["settings"]) for row in rows] == [
        ("ppo_continuous", "N = 16"),
        ("ddpg", "N = 4"),
    ]
    shares = [float(row["inside"]) for row in rows]
    assert (
        0 < shares[1] < shares[0] < 1
    )  # a policy update takes DDPG longer than a step of a pendulum
    assert all(float(row["ours"]) > 0 and float(row["memory"]) > 100 for row in rows)
    assert "| Pendulum-v1 | ppo_continuous | N = 16 |" in capsys.readouterr().out
    rows = [
        rows[0] | {"peer": "theirs", "ours": ours, "theirs": theirs}
        for ours, theirs in ((10, 4), (30, 10), (8, 4))
    ]
    assert speed.table(rows).endswith("| theirs | 4 (4–10) | 2.50 (2.00–3.00) |")


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
        "strip.py", "x.gif", "a2c_continuous", "ppo_continuous", *options, cwd=tmp_path
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
