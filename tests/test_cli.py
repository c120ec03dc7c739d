"""The command line: what it refuses and how, what it writes, where it stops."""

import ast
import gc
import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import tokenize
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from helpers import (
    CAN_RENDER,
    ROOT,
    STOCHASTIC,
    TESTS,
    command,
    known,
    load,
    run,
    source,
    tiny_args,
    tiny_options,
)

LQR = ["--env-id", "envs:LQR-v0"]


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
        (["--env-id", "envs:IntegerAction-v0"], ["floating-point Box", "int64"]),
        (["--env-id", "envs:GraphObs-v0"], ["Box", "Graph"]),
        (["--gamma", 1.5], ["--gamma", "1.5"]),
        (["--gamma", "nan"], ["--gamma"]),
        (["--learning-rate", 0], ["--learning-rate"]),
        (["--total-timesteps", -5], ["--total-timesteps"]),
        (["--seed", -1], ["--seed"]),
        (["--seed", 2**70], ["--seed"]),
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
    assert done.returncode == 2 and "--seed" in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


def test_a_minibatch_above_the_batch(tmp_path):
    done = run("ppo_continuous", "--minibatch-size", 4096, cwd=tmp_path)
    refused(done, "4096", "num_envs * num_steps", "lower")


@pytest.mark.parametrize(
    "option, value",
    [
        ("gamma", -0.1),
        ("gamma", 1.1),
        ("gae_lambda", 2.0),
        ("num_steps", 0),
        ("learning_rate", float("inf")),
        ("learning_rate", float("nan")),
        ("ent_coef", -0.1),
    ],
)
def test_a_notebook_gets_an_exception(module, option, value):
    if option in module.Args.__dataclass_fields__:
        with pytest.raises(module.UsageError, match=option.replace("_", "-")):
            module.train(module.Args(**{option: value}))


def option_comments(script):
    """The comment behind each field of Args, as the source has it."""
    text = source(script)
    (node,) = [n for n in ast.parse(text).body if getattr(n, "name", "") == "Args"]
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    comments = {t.start[0]: t.string[2:] for t in tokens if t.type == tokenize.COMMENT}
    fields = [n for n in node.body if isinstance(n, ast.AnnAssign)]
    return {n.target.id: comments.get(n.lineno, "") for n in fields}


def test_every_option_has_its_own_text(script):
    """What --help says of an option is the comment behind its field, whole, and no other text."""
    done = run(script, "--help")
    assert done.returncode == 0
    parts = re.split(r"\n.? *(?=--)", done.stdout.partition("options")[2])[1:]
    texts = {}
    for part in parts:
        words = re.sub(r"[│─╭╮╰╯\s]+", " ", part).split(" (default:")[0].split()
        names = [w for w in words if w.startswith("--")]
        texts[names[0].strip(",")[2:].replace("-", "_")] = " ".join(words)
    comments = option_comments(script)
    assert comments.keys() <= texts.keys()
    for name, comment in comments.items():
        assert len(comment) > 10 and texts[name].endswith(comment), (name, texts[name])
    assert "# The" in source(script) and not any("The algorithm" in x for x in texts.values())


def test_run_directories(script, tmp_path):
    """One life of a run: start, the same command again, other arguments, more steps, damage."""
    folder = tmp_path / "run"
    options = [*tiny_options(script), *LQR, "--run-dir", folder]
    first = run(script, *options)
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith(f"{script} on envs:LQR-v0")  # no warning comes before
    assert {"args.json", "checkpoint.pt", "result.json"} < set(files(folder))
    before = files(folder)

    again = run(script, *options)
    assert again.returncode == 0 and files(folder) == before
    result = json.loads(before["result.json"])
    assert json.loads(again.stdout) == result

    others = [("gamma", 0.5), ("seed", 2), ("env-id", "envs:Scalar-v0"), ("total-timesteps", 64)]
    for name, value in others:
        before = files(folder)
        refused(run(script, *options, f"--{name}", value), name.replace("-", "_"))
        assert files(folder) == before

    longer = run(script, *options, "--total-timesteps", 1024, "--device", "cpu")
    assert longer.returncode == 0, longer.stderr
    assert json.loads((folder / "result.json").read_text())["steps"] >= 1024
    assert load(script).load_checkpoint(folder)["step"] >= 1024

    (folder / "checkpoint.pt").write_bytes(before["checkpoint.pt"][:1000])
    refused(run(script, *options), "run")
    refused(run(script, "--evaluate", folder), "run")
    assert (folder / "checkpoint.pt").read_bytes() == before["checkpoint.pt"][:1000]


def test_a_run_of_another_script_is_refused(script, tmp_path):
    text = source(script).replace(f'SCRIPT = "{script}"', 'SCRIPT = "other"')
    (tmp_path / "other.py").write_text(text)
    options = [*tiny_options(script), *LQR, "--run-dir", tmp_path / "run"]
    assert run(tmp_path / "other.py", *options).returncode == 0
    before = files(tmp_path / "run")
    refused(run(script, *options), f"no run of {script}.py")
    refused(run(script, "--evaluate", tmp_path / "run"), f"no run of {script}.py")
    assert files(tmp_path / "run") == before


def test_a_renamed_script_resumes_its_runs(script, tmp_path):
    options = [*tiny_options(script), *LQR, "--run-dir", tmp_path / "run"]
    assert run(script, *options).returncode == 0
    shutil.copy(ROOT / f"{script}.py", tmp_path / "my_copy.py")
    done = run(tmp_path / "my_copy.py", *options, "--total-timesteps", 1024)
    assert done.returncode == 0, done.stderr


def test_a_folder_of_other_things_stays_untouched(script, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    refused(run(script, *tiny_options(script), "--run-dir", tmp_path), "holds thesis.tex")
    assert files(tmp_path) == {"thesis.tex": b"years of work"}
    run_dir = tmp_path / "thesis.tex"
    refused(run(script, *tiny_options(script), "--run-dir", run_dir), "thesis.tex")
    assert files(tmp_path) == {"thesis.tex": b"years of work"}


def test_a_folder_that_cannot_be_written(script, tmp_path, monkeypatch):
    options = [*tiny_options(script), *LQR, "--run-dir", tmp_path / "run"]
    assert run(script, *options).returncode == 0
    before = files(tmp_path / "run")
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # permissions do not stop root
    refused(run(script, *options, "--total-timesteps", 1024), "cannot write", "run")
    assert files(tmp_path / "run") == before


def test_half_a_first_checkpoint_is_no_run(script, tmp_path):
    (tmp_path / "checkpoint.tmp").write_bytes(b"half a checkp")
    done = run(script, *tiny_options(script), *LQR, "--run-dir", tmp_path)
    assert done.returncode == 0 and (tmp_path / "result.json").exists()
    assert not (tmp_path / "checkpoint.tmp").exists()


def test_default_folders_are_apart(script, tmp_path):
    """Three runs started in the same second write three folders, with names for every system."""
    line = command(script, *tiny_options(script), *LQR)
    runs = [subprocess.Popen(line, cwd=tmp_path, stdout=subprocess.DEVNULL) for _ in range(3)]
    assert [process.wait(120) for process in runs] == [0, 0, 0]
    folders = list((tmp_path / "runs").iterdir())
    assert len(folders) == 3 and all((folder / "result.json").exists() for folder in folders)
    assert all(folder.name.startswith(f"envs_LQR-v0__{script}__1__") for folder in folders)


def test_evaluate_changes_nothing(script, tmp_path):
    options = [*tiny_options(script), *LQR, "--run-dir", tmp_path]
    assert run(script, *options).returncode == 0
    before = files(tmp_path)
    done = run(script, "--evaluate", tmp_path, "--eval-episodes", 3)
    assert done.returncode == 0 and "deterministic" in done.stdout
    step = load(script).load_checkpoint(tmp_path)["step"]
    assert done.stdout.splitlines()[0] == f"{tmp_path} at step {step:,}"
    assert files(tmp_path) == before
    again = run(script, "--evaluate", tmp_path, "--eval-episodes", 3)
    assert again.stdout == done.stdout  # fixed initial states


def test_an_evaluation_without_an_end_ends(module, tiny, monkeypatch, capsys):
    run_dir = module.train(tiny("envs:LQR-v0"))
    make = module.make_env
    monkeypatch.setattr(module, "make_env", lambda env_id, *rest: make("envs:Endless-v0", *rest))
    capsys.readouterr()
    result = module.evaluate(run_dir, 2)
    assert result["deterministic"]["returns"] == [10_000, 10_000]
    assert "2 cut at 10,000 steps" in capsys.readouterr().out


def test_copied_alone(script, tmp_path):
    """One file in an empty folder trains, resumes and evaluates."""
    shutil.copy(ROOT / f"{script}.py", tmp_path)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    train = [*tiny_options(script), "--env-id", "InvertedPendulum-v4", "--run-dir", "run"]
    for options in (train, [*train, "--total-timesteps", 1024], ["--evaluate", "run"]):
        line = [sys.executable, f"{script}.py", *map(str, options)]
        done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "deterministic" in done.stdout
    names = {path.name for path in tmp_path.iterdir()}
    assert names <= {f"{script}.py", "run", "__pycache__"}


@pytest.mark.parametrize("env_id, name, step", [("NaN", "rewards", 40), ("NaNObs", "obs", 60)])
def test_the_first_number_that_is_not_finite(script, tmp_path, env_id, name, step):
    """Step 40 of both environments is step 80 of the run. The reward comes first: it is named."""
    num_envs = 1 if script == "reinforce" else 2
    if script == "reinforce" and name == "obs":  # its batch holds no successors
        step = 61
    options = [*tiny_options(script), "--env-id", f"envs:{env_id}-v0", "--run-dir", tmp_path]
    done = run(script, *options)
    assert done.returncode == 1 and len(done.stderr.strip().splitlines()) == 1
    assert f"{name} is not finite at step {num_envs * step}" in done.stderr
    state = load(script).load_checkpoint(tmp_path)["policy"]
    assert all(x.isfinite().all() for x in state.values())


def test_a_gradient_that_is_not_finite(ppo, tmp_path, monkeypatch):
    surrogate, calls = ppo.clipped_surrogate, []

    def broken(log_prob, *rest):
        calls.append(0)
        value = surrogate(log_prob, *rest)
        if len(calls) == 5:  # adds 0, with an infinite gradient
            value = value + (log_prob.mean() - log_prob.mean().detach()).abs().sqrt()
        return value

    monkeypatch.setattr(ppo, "clipped_surrogate", broken)
    with pytest.raises(FloatingPointError, match="not finite at step 128"):
        ppo.train(tiny_args(ppo, tmp_path / "run", "envs:LQR-v0"))
    state = ppo.load_checkpoint(tmp_path / "run")["policy"]
    assert all(x.isfinite().all() for x in state.values())


def test_weights_that_are_not_finite_are_never_saved(module, tiny, tmp_path, monkeypatch):
    """Losses look well, but the last step has spoilt the weights that they do not show."""
    real = module.update

    def spoils(*inputs):
        losses = real(*inputs)
        network = inputs[spoilt]
        list(network.parameters())[-1].data[0] = float("inf")
        return losses

    monkeypatch.setattr(module, "update", spoils)
    for spoilt in range(2 if hasattr(module, "Critic") else 1):  # the policy, the critic
        args = tiny("envs:LQR-v0", run_dir=tmp_path / str(spoilt))
        with pytest.raises(FloatingPointError, match="(bias|loss) is not finite at step"):
            module.train(args)
        checkpoint = module.load_checkpoint(args.run_dir)
        assert checkpoint["step"] == 0
        assert all(x.isfinite().all() for x in checkpoint["policy"].values())


@pytest.mark.parametrize("script", STOCHASTIC)
@pytest.mark.parametrize("env_id, name", [("HugeObs", "obs_stats"), ("HugeReward", "return_stats")])
def test_statistics_that_become_infinite_stop_the_run(script, tmp_path, env_id, name):
    """One reading in 50 of the largest float32: normalized by it, the policy would be blind."""
    options = [*tiny_options(script), "--env-id", f"envs:{env_id}-v0", "--run-dir", tmp_path]
    done = run(script, *options)
    assert done.returncode == 1 and len(done.stderr.strip().splitlines()) == 1, done.stderr
    name = "return_std" if script == "reinforce" and name == "return_stats" else f"{name}.var"
    assert f"{name} is not finite at step" in done.stderr


def test_the_environments_own_mistake_keeps_its_traceback(script, tmp_path):
    options = [*tiny_options(script), "--env-id", "envs:Crash-v0", "--run-dir", tmp_path]
    done = run(script, *options)
    assert done.returncode == 1 and "Traceback" in done.stderr
    assert "the environment's own mistake" in done.stderr and "envs.py" in done.stderr


def test_a_mistake_in_a_changed_network_keeps_its_traceback(script, tmp_path):
    text = source(script).replace("linear(64, 64, 2**0.5)", "linear(32, 64, 2**0.5)")
    text = text.replace("nn.Linear(256, 256)", "nn.Linear(128, 256)")  # of ddpg.py
    assert text != source(script)
    (tmp_path / "changed.py").write_text(text)
    done = run(tmp_path / "changed.py", *tiny_options(script), *LQR, "--run-dir", tmp_path / "run")
    assert done.returncode == 1 and "Traceback" in done.stderr and "changed.py" in done.stderr


def test_interrupt_tells_how_to_resume(script, tmp_path):
    line = command(script, *LQR, "--total-timesteps", 10_000_000)
    heeded = {
        "preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    }  # of a background job
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(line, cwd=tmp_path, **pipes, **heeded)
    while not list(tmp_path.glob("runs/*/args.json")):
        time.sleep(0.1)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    folder = next(tmp_path.glob("runs/*"))
    assert process.returncode == 130 and "Traceback" not in err
    said = shlex.split(out.strip().splitlines()[-1].partition("resume: ")[2])
    assert said == ["python", *line[1:], "--run-dir", f"runs/{folder.name}"]
    short = ["--total-timesteps", "10000001", "--evaluate", said[-1], "--eval-episodes", "1"]
    again = subprocess.run([sys.executable, *said[1:], *short], cwd=tmp_path, **pipes)
    assert again.returncode == 0, again.stderr  # a command that runs


def test_interrupt_quotes_what_a_shell_would_split(script, tmp_path, monkeypatch):
    def stops(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(gym, "make", stops)
    done = run(script, "--run-dir", tmp_path / "my run")
    line = shlex.split(done.stdout.strip().splitlines()[-1])
    assert done.returncode == 130 and line[-2:] == ["--run-dir", str(tmp_path / "my run")]
    assert "--run-dir" not in run(script).stdout  # none yet: the same command is a new run


@pytest.mark.parametrize(
    "name, value", [("seed", np.int64(3)), ("learning_rate", np.float32(3e-4))]
)
def test_a_sweep_may_pass_numbers_of_numpy(module, tiny, name, value):
    """A checkpoint or args.json with them could not be read again."""
    run_dir = module.train(tiny("envs:LQR-v0", **{name: value}))
    assert module.load_checkpoint(run_dir)["args"][name] == value.item()
    assert json.loads((run_dir / "args.json").read_text())[name] == value.item()


def test_a_foreign_checkpoint(script, tmp_path):
    torch.save([1, 2], tmp_path / "checkpoint.pt")
    refused(run(script, "--evaluate", tmp_path), "no run")
    torch.save({"ppo_continuous": {"step": 0}}, tmp_path / "checkpoint.pt")  # of the first edition
    refused(run(script, "--run-dir", tmp_path), f"no run of {script}.py")


def test_resuming_leaves_no_file_open(module, tiny):
    """The next checkpoint replaces the file: nothing may be a view into it."""
    module.train(tiny("envs:LQR-v0"))
    module.train(tiny("envs:LQR-v0", total_timesteps=1024))
    maps = Path("/proc/self/maps")
    if maps.exists():
        gc.collect()
        assert "checkpoint.pt" not in maps.read_text()


def test_a_notebook_may_pass_paths(module, tiny, tmp_path):
    args = tiny("envs:LQR-v0")
    assert module.train(args) == module.train(args) == tmp_path / "run"
    values = {name: getattr(args, name) for name in module.Args.__dataclass_fields__}
    assert module.Args(**values | {"run_dir": tmp_path / "run"}) == args


def test_a_full_disk_costs_no_checkpoint(module, tiny, monkeypatch):
    """Saving fails half-way the second time: the half goes, the first checkpoint stays."""
    save, calls = torch.save, []

    def fill(contents, path):
        save(contents, path)
        calls.append(path)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.torch, "save", fill)
    args = tiny("envs:LQR-v0", checkpoint_interval=128)
    with pytest.raises(OSError, match="No space"):
        module.train(args)
    monkeypatch.undo()
    assert module.load_checkpoint(args.run_dir)["step"] == 0
    assert "checkpoint.tmp" not in os.listdir(args.run_dir)


def test_the_result_is_written_whole_or_not_at_all(module, tiny, monkeypatch):
    """A run that dies while it writes its result has none, and the next start writes it."""
    args = tiny("envs:LQR-v0")
    replace = module.Path.replace

    def dies(path, target):
        if path.name == "result.tmp":
            path.write_text('{"determ')
            raise KeyboardInterrupt
        return replace(path, target)

    monkeypatch.setattr(module.Path, "replace", dies)
    with pytest.raises(KeyboardInterrupt):
        module.train(args)
    monkeypatch.undo()
    run_dir = module.train(args)
    result = json.loads((run_dir / "result.json").read_text())
    assert result["steps"] >= 512 and not (run_dir / "result.tmp").exists()


def test_video_packages_missing_is_said_before_training(script, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "moviepy", None)
    done = run(script, "--capture-video", "--run-dir", tmp_path / "run")
    refused(done, "cannot record", "docs/running.md")
    assert done.stdout == "" and not (tmp_path / "run").exists()


def test_the_video_follows_the_agent(script, tmp_path):
    """Far from where it started, as many pixels are Walker2d's."""
    program = TESTS / "programs" / "pixels.py"
    line = [sys.executable, program, ROOT, script, tmp_path]
    done = subprocess.run(line, capture_output=True, text=True)
    if not CAN_RENDER:
        assert done.returncode == 1 and "cannot record" in done.stderr
        return
    near, far = map(int, done.stdout.split())
    assert near > 1000 and 0.8 < far / near < 1.25


def test_a_video_of_a_run(script, tmp_path):
    """With the training, and afterwards with --evaluate."""
    options = [*tiny_options(script), "--env-id", "InvertedPendulum-v4", "--run-dir", "run"]
    for arguments in ([*options, "--capture-video"], ["--evaluate", "run", "--capture-video"]):
        line = command(script, *arguments)
        done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True)
        if not CAN_RENDER:
            assert done.returncode == 2 and "cannot record" in done.stderr
            continue
        assert done.returncode == 0, done.stderr
        (video,) = (tmp_path / "run" / "videos").glob("*.mp4")
        assert video.stat().st_size > 1000
        video.unlink()


def test_help_is_quick(script):
    start = time.time()
    done = subprocess.run(command(script, "--help"), capture_output=True, text=True)
    assert done.returncode == 0 and "--env-id" in done.stdout
    assert time.time() - start < 12  # 4 s on a quiet machine


def test_the_options_of_a_run_are_written_with_the_versions(module, tiny):
    run_dir = module.train(tiny("envs:LQR-v0", seed=3))
    written = json.loads((run_dir / "args.json").read_text())
    assert written["script"] == module.SCRIPT and written["seed"] == 3
    assert set(known(module, written)) == set(module.Args.__dataclass_fields__)
    assert written["versions"].keys() == {"torch", "numpy", "gymnasium", "mujoco"}
    assert written["versions"]["gymnasium"] == gym.__version__
