"""The command line: what it refuses and how, what it writes, where it stops."""

import contextlib
import io
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time

import gymnasium as gym
import numpy as np
import pytest
import torch
from first_helpers import DRAWS, ROOT, load, run

TINY = ["--total-timesteps", 512, "--num-envs", 2, "--num-steps", 64, "--minibatch-size", 32, "--eval-episodes", 1]


def tiny(script):
    """The small sizes as options, those that this script has."""
    known = load(script).Args.__dataclass_fields__
    pairs = zip(TINY[::2], TINY[1::2])
    return [x for name, value in pairs if name[2:].replace("-", "_") in known for x in (name, value)]


def files(folder):
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def refused(done, *words):
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr and len(done.stderr.strip().splitlines()) == 1
    for word in words:
        assert word in done.stderr


@pytest.mark.parametrize(
    "options, words",
    [
        (["--env-id", "Hoper-v4"], ["Hoper", "Hopper"]),
        (["--env-id", "nomodule:Name-v0"], ["nomodule"]),
        (["--env-id", "envs:DiscreteAction-v0"], ["Box", "Discrete"]),
        (["--env-id", "envs:GraphObs-v0"], ["Box", "Graph"]),
        (["--gamma", 1.5], ["--gamma", "1.5"]),
        (["--gamma", "nan"], ["--gamma"]),
        (["--learning-rate", 0], ["--learning-rate"]),
        (["--total-timesteps", -5], ["--total-timesteps"]),
        (["--seed", -1], ["--seed"]),
        (["--eval-episodes", 0], ["--eval-episodes"]),
        (["--device", "cuda:99"], []),
        (["--device", "abacus"], ["abacus"]),
        (["--evaluate", "nowhere"], ["nowhere"]),
    ],
)
def test_bad_input_is_one_line_and_status_2(script, options, words, tmp_path):
    refused(run(script, *options, cwd=tmp_path), *words)
    assert not list(tmp_path.iterdir())


def test_bad_types_get_the_parsers_own_message(script, tmp_path):
    done = run(script, "--seed", "one", cwd=tmp_path)
    assert done.returncode == 2 and "--seed" in done.stderr + done.stdout and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "option, value", [("gamma", -0.1), ("gamma", 1.1), ("num_steps", 0), ("learning_rate", float("inf"))]
)
def test_a_notebook_gets_an_exception(module, option, value):
    if option in module.Args.__dataclass_fields__:
        with pytest.raises(module.UsageError):
            module.train(module.Args(**{option: value}))


def test_run_folders(script, tmp_path):
    """One life of a run: start, the same command again, other arguments, more steps, another script's, damage."""
    folder = tmp_path / "run"
    command = [*tiny(script), "--env-id", "envs:LQR-v0", "--run-dir", folder]
    first = run(script, *command)
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith(f"{script} on envs:LQR-v0")  # no warning of a library comes before
    assert {"args.json", "checkpoint.pt", "result.json"} < set(files(folder))
    before = files(folder)

    again = run(script, *command)
    assert again.returncode == 0 and files(folder)["checkpoint.pt"] == before["checkpoint.pt"]
    assert json.loads(before["result.json"])["deterministic"]["mean"] == pytest.approx(
        json.loads(again.stdout.splitlines()[-1])["deterministic"]["mean"]
    )

    for name, value in [("gamma", 0.5), ("seed", 2), ("env-id", "envs:Scalar-v0"), ("total-timesteps", 64)]:
        before = files(folder)
        refused(run(script, *command, f"--{name}", value), name.replace("-", "_"))
        assert files(folder) == before

    longer = run(script, *command, "--total-timesteps", 1024, "--device", "cpu")
    assert longer.returncode == 0, longer.stderr
    assert json.loads((folder / "result.json").read_text())["steps"] >= 1024
    assert load(script).load_checkpoint(folder)["step"] >= 1024

    before = files(folder)
    shutil.copy(ROOT / f"{script}.py", tmp_path / "other.py")
    refused(run(tmp_path / "other.py", *command), "other")
    assert files(folder) == before

    (folder / "checkpoint.pt").write_bytes(before["checkpoint.pt"][:1000])
    refused(run(script, *command), "run")
    refused(run(script, "--evaluate", folder), "run")
    assert (folder / "checkpoint.pt").read_bytes() == before["checkpoint.pt"][:1000]


def test_a_folder_of_other_things_stays_untouched(script, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    refused(run(script, *tiny(script), "--run-dir", tmp_path), "thesis")
    assert files(tmp_path) == {"thesis.tex": b"years of work"}
    refused(run(script, *tiny(script), "--run-dir", tmp_path / "thesis.tex"), "thesis.tex")
    assert files(tmp_path) == {"thesis.tex": b"years of work"}


def test_a_folder_without_a_whole_checkpoint_has_not_started(script, tmp_path):
    (tmp_path / "args.json").write_text("{}")
    (tmp_path / "checkpoint.tmp").write_bytes(b"half a checkp")
    done = run(script, *tiny(script), "--env-id", "envs:LQR-v0", "--run-dir", tmp_path)
    assert done.returncode == 0 and (tmp_path / "result.json").exists() and not (tmp_path / "checkpoint.tmp").exists()


def test_default_folders_are_apart(script, tmp_path):
    """Three runs started in the same second write three folders, with names for every file system."""
    command = [sys.executable, ROOT / f"{script}.py", *map(str, tiny(script)), "--env-id", "envs:LQR-v0"]
    runs = [subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL) for _ in range(3)]
    assert [process.wait(120) for process in runs] == [0, 0, 0]
    folders = list((tmp_path / "runs").iterdir())
    assert len(folders) == 3 and all((folder / "result.json").exists() for folder in folders)
    assert all(f"envs_LQR-v0__{script}__1__" in folder.name and ":" not in folder.name for folder in folders)


def test_evaluate_changes_nothing(script, tmp_path):
    assert run(script, *tiny(script), "--env-id", "envs:LQR-v0", "--run-dir", tmp_path).returncode == 0
    before = files(tmp_path)
    done = run(script, "--evaluate", tmp_path, "--eval-episodes", 3)
    assert done.returncode == 0 and "deterministic" in done.stdout
    assert files(tmp_path) == before
    again = run(script, "--evaluate", tmp_path, "--eval-episodes", 3)
    assert again.stdout == done.stdout  # fixed start seeds


def test_reinforce_needs_episodes_that_end(tmp_path):
    done = run("reinforce", *tiny("reinforce"), "--env-id", "envs:Endless-v0", "--run-dir", tmp_path)
    refused(done, "envs:Endless-v0", "100,000 steps")


def test_an_evaluation_of_an_endless_environment_ends(script, tmp_path):
    assert run(script, *tiny(script), "--env-id", "envs:LQR-v0", "--run-dir", tmp_path).returncode == 0
    endless = load(script)
    endless.make_env = lambda env_id, video_dir=None, make=endless.make_env: make("envs:Endless-v0", video_dir)
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        result = endless.evaluate(tmp_path, 2)
    assert result["deterministic"]["returns"] == [10_000, 10_000] and "2 cut at 10,000 steps" in out.getvalue()


def test_copied_alone(script, tmp_path):
    """One file in an empty folder trains, goes on and evaluates."""
    shutil.copy(ROOT / f"{script}.py", tmp_path)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    command = [
        sys.executable,
        f"{script}.py",
        "--env-id",
        "InvertedPendulum-v4",
        "--run-dir",
        "run",
        *map(str, tiny(script)),
    ]
    for options in (command, [*command, "--total-timesteps", "1024"], [*command[:2], "--evaluate", "run"]):
        done = subprocess.run(options, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "deterministic" in done.stdout
    assert {path.name for path in tmp_path.iterdir()} <= {f"{script}.py", "run", "__pycache__"}


@pytest.mark.parametrize("env_id, name, step", [("NaN", "rewards", 40), ("NaNObs", "obs", 60)])
def test_the_first_number_that_is_not_finite(script, tmp_path, env_id, name, step):
    """2 environments: step 40 of an episode is step 80 of the run. The reward comes first, so it is the cause named."""
    words = [f"{name} is not finite", f"step {2 * step}"]
    if script == "reinforce":  # one environment, and rows that hold no successor
        words[1] = f"step {step + (name == 'obs')}"
    done = run(script, *tiny(script), "--env-id", f"envs:{env_id}-v0", "--run-dir", tmp_path)
    assert done.returncode == 1 and len(done.stderr.strip().splitlines()) == 1
    assert all(word in done.stderr for word in words), done.stderr
    assert all(
        torch.isfinite(x).all() for x in load(script).load_checkpoint(tmp_path)["policy"].values() if x.dim() > 1
    )


def test_the_environments_own_mistake_keeps_its_traceback(script, tmp_path):
    done = run(script, *tiny(script), "--env-id", "envs:Crash-v0", "--run-dir", tmp_path)
    assert done.returncode == 1 and "Traceback" in done.stderr and "the environment's own mistake" in done.stderr
    assert "envs.py" in done.stderr


def test_interrupt_tells_how_to_go_on(script, tmp_path):
    command = [sys.executable, ROOT / f"{script}.py", "--env-id", "envs:LQR-v0", "--total-timesteps", "10000000"]
    heeded = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}  # a background job ignores it
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, cwd=tmp_path, **pipes, **heeded)
    while not list(tmp_path.glob("runs/*/checkpoint.pt")):
        time.sleep(0.1)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    folder = next(tmp_path.glob("runs/*"))
    assert process.returncode == 130 and "Traceback" not in err
    line = out.strip().splitlines()[-1]
    said = shlex.split(line.partition(": ")[2])
    assert said == ["python", *map(str, command[1:]), "--run-dir", f"runs/{folder.name}"]


def test_interrupt_quotes_what_a_shell_would_split(script, module, tmp_path, monkeypatch):
    def stops(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(gym.vector, "SyncVectorEnv", stops)
    done = run(script, "--run-dir", tmp_path / "my run")
    line = shlex.split(done.stdout.strip().splitlines()[-1])
    assert done.returncode == 130 and line[-2:] == ["--run-dir", str(tmp_path / "my run")]
    assert "--run-dir" not in run(script).stdout  # none yet: the same command is a new run


def test_a_notebook_may_pass_paths(module, tiny, tmp_path):
    args = tiny("envs:LQR-v0", run_dir=tmp_path / "path")
    assert module.train(args) == module.train(args) == tmp_path / "path"


def test_a_full_disk_costs_no_checkpoint(module, tiny, monkeypatch):
    """Saving fails half-way the second time: the half goes, the first checkpoint stays."""
    save, calls = torch.save, []

    def fill(contents, path):
        save(contents, path)
        calls.append(path)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.torch, "save", fill)
    args = tiny("envs:LQR-v0", checkpoint_interval=64)
    with pytest.raises(OSError, match="No space"):
        module.train(args)
    monkeypatch.undo()
    assert module.load_checkpoint(args.run_dir)["step"] == 0
    assert "checkpoint.tmp" not in os.listdir(args.run_dir)


def test_video_packages_missing_is_said_before_training(script, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "moviepy", None)
    done = run(script, "--capture-video", "--run-dir", tmp_path / "run")
    refused(done, "film", "README")
    assert "steps/s" not in done.stdout


def test_help_is_quick(script):
    start = time.time()
    done = subprocess.run([sys.executable, ROOT / f"{script}.py", "--help"], capture_output=True, text=True)
    assert done.returncode == 0 and "--env-id" in done.stdout and time.time() - start < 12  # 4 s on a quiet machine


def test_a_fresh_process_acts_the_same(module, script, tiny, tmp_path):
    run_dir = module.train(tiny("Hopper-v4"))
    obs = np.random.default_rng(0).normal(size=(16, 11))
    noise = torch.randn(16, 3, generator=torch.Generator().manual_seed(0))
    np.savez(
        tmp_path / "mine.npz",
        obs=obs,
        noise=noise,
        mean=module.load_policy(run_dir).act(obs),
        sampled=module.load_policy(run_dir).act(obs, noise),
    )
    code = (
        f"import sys; sys.path.insert(0, r'{ROOT}')\n"
        f"import numpy as np, torch, {script} as script\n"
        f"x, policy = np.load(r'{tmp_path / 'mine.npz'}'), script.load_policy(r'{run_dir}')\n"
        "assert (policy.act(x['obs']) == x['mean']).all()\n"
        "assert (policy.act(x['obs'], torch.from_numpy(x['noise'])) == x['sampled']).all()\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
