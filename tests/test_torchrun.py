"""Several processes under torchrun are one larger one, and a process that dies changes nothing."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from helpers import ROOT, SCRIPTS, TESTS, WITH_CRITIC, load, run

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--local-addr", "localhost"]
TWO = ["--standalone", "--nproc-per-node", 2]
FEW = ["--num-envs", 1, "--num-steps", 64, "--total-timesteps", 384, "--eval-episodes", 1]
KILLED = ["--env-id", "envs:LQR-v0", "--num-envs", 2, "--num-steps", 32, "--eval-episodes", 1]
KILLED += ["--checkpoint-interval", 1280]
# with PyTorch 2.5, gloo's process group hangs now and then where a process ends (pytorch/pytorch,
# pull 154976), and a second agent where it starts (pull 139702)
pytestmark = pytest.mark.skipif(torch.__version__ < "2.8", reason="torchrun needs PyTorch 2.8")
READS_PROC = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture(params=WITH_CRITIC)
def script(request):
    return request.param


@pytest.fixture(autouse=True)
def restartable(monkeypatch):
    """Without it, processes that PyTorch 2.13 restarts read their predecessors' addresses."""
    monkeypatch.setenv("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")


def torchrun(script, run_dir, *options, launcher=TWO):
    line = [*TORCHRUN, *launcher, ROOT / f"{script}.py", "--device", "cpu", *options]
    if run_dir:
        line += ["--run-dir", run_dir]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(list(map(str, line)), **pipes)


def finish(*launched):
    for process in launched:
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
    return output


def weights(script, run_dir):
    checkpoint = load(script).load_checkpoint(run_dir)
    scaler = checkpoint.get("reward_scaler", {})
    return checkpoint["step"], {**checkpoint["policy"], **checkpoint["critic"], **scaler}


def minibatch(script, size):
    fields = load(script).Args.__dataclass_fields__
    return ["--minibatch-size", size] if "minibatch_size" in fields else []


def meeting_place():
    """Options for two agents that meet at a port of this machine, as two machines would."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    endpoint = ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"localhost:{port}"]
    return ["--nnodes", 2, "--nproc-per-node", 1, *endpoint]


def test_two_processes_of_one_environment_are_one_process_of_two(script, tmp_path):
    """Three iterations of one minibatch each."""
    many = torchrun(script, tmp_path / "many", *FEW, *minibatch(script, 64))
    options = [*FEW, "--num-envs", 2, *minibatch(script, 128)]
    one = run(script, "--run-dir", tmp_path / "one", "--device", "cpu", *options)
    assert one.returncode == 0, one.stderr
    output = finish(many)
    (step, expected), (other, got) = (weights(script, tmp_path / x) for x in ("one", "many"))
    assert step == other == 384
    close = 1e-4 if script == "trpo_continuous" else 1e-5  # conjugate gradients amplify rounding
    for name in expected:
        torch.testing.assert_close(got[name], expected[name], atol=close, rtol=close)
    files = sorted(path.name.split(".")[0] for path in (tmp_path / "many").iterdir())
    assert files == ["args", "checkpoint", "events", "result"]  # one process alone has written
    assert output.count(f"{script} on") == output.count("deterministic:") == 1


def test_two_machines_are_one_with_two_processes(script, tmp_path):
    launcher, options = meeting_place(), [*FEW, *minibatch(script, 32)]
    finish(*(torchrun(script, tmp_path / "two", *options, launcher=launcher) for _ in range(2)))
    finish(torchrun(script, tmp_path / "one", *options))
    (_, two), (_, one) = (weights(script, tmp_path / x) for x in ("two", "one"))
    assert all(torch.equal(two[name], one[name]) for name in one)


def test_a_run_resumes_with_another_number_of_processes(script, tmp_path):
    options = [*FEW, "--env-id", "envs:LQR-v0", *minibatch(script, 32)]
    finish(torchrun(script, tmp_path / "run", *options))
    longer = ["--total-timesteps", 768, "--device", "cpu"]
    done = run(script, "--run-dir", tmp_path / "run", *options, *longer)
    assert done.returncode == 0, done.stderr
    assert weights(script, tmp_path / "run")[0] == 768


def workers(agent):
    """Process ids of torchrun's children."""
    tasks = Path(f"/proc/{agent.pid}/task").iterdir()
    return [int(pid) for task in tasks for pid in (task / "children").read_text().split()]


def wait_for_progress(agent, checkpoint, seen):
    while not checkpoint.exists() or checkpoint.stat().st_mtime <= seen:
        assert agent.poll() is None, agent.communicate()[0]
        time.sleep(0.01)


def assert_same(script, tmp_path):
    (step, expected), (other, got) = (
        weights(script, tmp_path / x) for x in ("undisturbed", "killed")
    )
    assert step == other and all(torch.equal(got[name], expected[name]) for name in expected)


@READS_PROC
@pytest.mark.parametrize("kills", [1, pytest.param(5, marks=pytest.mark.slow)])
def test_a_killed_worker_changes_nothing(script, kills, tmp_path):
    options = [*KILLED, *minibatch(script, 32), "--total-timesteps", 20_000 * kills]
    finish(torchrun(script, tmp_path / "undisturbed", *options))
    launcher = [*TWO, "--max-restarts", kills]
    agent = torchrun(script, tmp_path / "killed", *options, launcher=launcher)
    rng, seen = random.Random(time.time()), 0.0
    for _ in range(kills):
        wait_for_progress(agent, tmp_path / "killed" / "checkpoint.pt", seen)
        time.sleep(rng.uniform(0, 0.5))
        os.kill(rng.choice(workers(agent)), signal.SIGKILL)
        seen = time.time()  # the next kill waits for progress
    output = finish(agent)
    assert output.count("exitcode: -9") >= kills, output
    assert_same(script, tmp_path)


@READS_PROC
@pytest.mark.slow
def test_a_killed_worker_of_one_of_two_machines_changes_nothing(script, tmp_path):
    options = [*KILLED, *minibatch(script, 32), "--total-timesteps", 60_000]
    finish(
        *(torchrun(script, tmp_path / "undisturbed", *options) for _ in range(1))
    )  # two processes of one machine: the same run
    launcher = [*meeting_place(), "--max-restarts", 3]
    run_dir = tmp_path / "killed"
    agents = [torchrun(script, run_dir, *options, launcher=launcher) for _ in range(2)]
    seen = 0.0
    for agent in agents:
        wait_for_progress(agent, run_dir / "checkpoint.pt", seen)
        os.kill(workers(agent)[0], signal.SIGKILL)
        seen = time.time()
    finish(*agents)
    assert_same(script, tmp_path)


@READS_PROC
def test_no_process_group_outlives_its_process(script, tmp_path):
    """Its threads would abort a process that ends with them; torchrun takes that for a failure."""
    line = [*TORCHRUN, *TWO, TESTS / "programs" / "count_threads.py", script]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    pipes = {"capture_output": True, "text": True}
    done = subprocess.run(list(map(str, line)), cwd=tmp_path, env=environment, **pipes)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("left: 0") == 2, done.stdout + done.stderr
    assert done.stdout.count("at work: ") == 2  # such threads can be seen
    assert "at work: 0" not in done.stdout


def test_torchrun_needs_a_run_directory(script, monkeypatch, tmp_path):
    monkeypatch.setenv("WORLD_SIZE", "2")
    result = run(script, cwd=tmp_path)
    assert result.returncode == 2 and "--run-dir" in result.stderr
    assert result.stderr.count("\n") == 1 and not any(tmp_path.iterdir())


def test_two_directories_that_are_not_the_same(script, tmp_path):
    """One agent finds a run, the other an empty folder: one line each, nothing is written over."""
    options = [*FEW, "--env-id", "envs:LQR-v0", *minibatch(script, 32)]
    assert run(script, "--run-dir", tmp_path / "mine", "--device", "cpu", *options).returncode == 0
    before = (tmp_path / "mine" / "checkpoint.pt").read_bytes()
    (tmp_path / "theirs").mkdir()
    launcher, longer = meeting_place(), ["--total-timesteps", 4_000]
    agents = [
        torchrun(script, tmp_path / name, *options, *longer, launcher=launcher)
        for name in ("mine", "theirs")
    ]
    outputs = [agent.communicate(timeout=120)[0] for agent in agents]
    assert all(agent.returncode != 0 for agent in agents)
    for name, output in zip(("mine", "theirs"), outputs):
        lines = [line for line in output.splitlines() if line.startswith("error: ")]
        assert len(lines) <= 1 and "is not the same directory" in "".join(outputs), output
        assert not lines or str(tmp_path / name) in lines[0]
    assert (tmp_path / "mine" / "checkpoint.pt").read_bytes() == before
    assert not list((tmp_path / "theirs").iterdir())


def test_a_foreign_directory_is_one_line_of_each_process(script, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    agent = torchrun(script, tmp_path, *FEW, *minibatch(script, 32))
    output = agent.communicate(timeout=120)[0]
    assert agent.returncode != 0 and [x.name for x in tmp_path.iterdir()] == ["thesis.tex"]
    lines = [line for line in output.splitlines() if "thesis.tex" in line]
    assert lines and all(line.startswith("error: ") for line in lines), output
    assert "all_reduce" not in output and f'{script}.py", line' not in output


@pytest.mark.parametrize("script", [name for name in SCRIPTS if name not in WITH_CRITIC])
def test_scripts_of_one_process_say_so(script, monkeypatch, tmp_path):
    monkeypatch.setenv("WORLD_SIZE", "2")
    result = run(script, "--run-dir", tmp_path / "run", cwd=tmp_path)
    assert result.returncode == 2 and "one process" in result.stderr
    assert result.stderr.count("\n") == 1 and not any(tmp_path.iterdir())


def test_outside_torchrun_a_run_is_one_process(module, tiny):
    assert module.RANK == 0 and module.WORLD_SIZE == 1
    args = json.loads((module.train(tiny("envs:LQR-v0")) / "args.json").read_text())
    assert "processes" not in args
