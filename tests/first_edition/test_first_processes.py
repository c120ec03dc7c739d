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

import numpy as np
import pytest
import torch
from first_helpers import ROOT, STOCHASTIC, load, run

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--local-addr", "localhost"]  # its name may not resolve
FEW = ["--num-envs", 1, "--num-steps", 64, "--total-timesteps", 384, "--eval-episodes", 1]  # three iterations


def torchrun(script, run_dir, *options, launcher=("--standalone", "--nproc-per-node", 2)):
    command = [*TORCHRUN, *launcher, ROOT / f"{script}.py", "--run-dir", run_dir, "--device", "cpu", *options]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(list(map(str, command)), **pipes)


def finish(*launched):
    for process in launched:
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
    return output


def weights(script, run_dir):
    checkpoint = load(script).load_checkpoint(run_dir)
    return checkpoint["step"], {**checkpoint["policy"], **checkpoint.get("critic", {})}


def minibatch(script, size):
    return [] if script == "a2c_continuous" else ["--minibatch-size", size]


@pytest.mark.parametrize("script", [name for name in STOCHASTIC if name != "reinforce"])
def test_two_processes_of_one_environment_are_one_process_of_two(script, tmp_path):
    many = torchrun(script, tmp_path / "many", *FEW, *minibatch(script, 64))
    one = run(script, "--run-dir", tmp_path / "one", "--device", "cpu", *FEW, "--num-envs", 2, *minibatch(script, 128))
    assert one.returncode == 0, one.stderr
    finish(many)
    (step, expected), (other_step, got) = (weights(script, tmp_path / x) for x in ("one", "many"))
    assert step == other_step == 384
    for name in expected:
        torch.testing.assert_close(got[name], expected[name], atol=1e-5, rtol=1e-5)
    files = sorted(path.name.split(".")[0] for path in (tmp_path / "many").iterdir())
    assert files == ["args", "checkpoint", "events", "result"]  # one process alone has written
    assert json.loads((tmp_path / "many" / "args.json").read_text())["processes"] == 2


def test_reinforce_weighs_processes_by_their_steps(tmp_path):
    """Two processes with whole episodes of 40 and 120 steps make the step of one process that has played them all."""
    code = f"""
import sys; sys.path[:0] = [{str(Path(__file__).parent)!r}]
import numpy as np, torch
from torch import distributed
from first_helpers import load
module = load("reinforce")
torch.manual_seed(0)
policy, rng = module.Policy(3, [-1.0], [1.0]), np.random.default_rng(0)
batch = {{name: rng.normal(size=(160, *shape)) for name, shape in dict(obs=[3], actions=[1], rewards=[]).items()}}
batch |= {{"done": np.arange(160) % 40 == 39, "n": np.arange(160) % 40}}
if module.PROCESSES > 1:
    batch = {{name: x[(slice(40), slice(40, 160))[module.RANK]] for name, x in batch.items()}}
optimizer = torch.optim.SGD(policy.parameters(), lr=1.0)
if module.PROCESSES > 1:
    distributed.init_process_group()
tensors = {{name: torch.as_tensor(x, dtype=torch.float32) for name, x in batch.items()}}
module.update(policy, optimizer, tensors, module.Args(run_dir="x"))
policy.statistics.copy_(module.merge_statistics(policy.statistics, batch["obs"]))
torch.save(policy.state_dict(), f"{{module.PROCESSES}}-{{module.RANK}}.pt")
if module.PROCESSES > 1:
    distributed.destroy_process_group()
"""
    (tmp_path / "one_update.py").write_text(code)
    for launcher in ([sys.executable], [*TORCHRUN, "--standalone", "--nproc-per-node", "2"]):
        subprocess.run([*launcher, "one_update.py"], cwd=tmp_path, check=True)
    one, first, second = (torch.load(tmp_path / f"{name}.pt") for name in ("1-0", "2-0", "2-1"))
    for name in one:
        assert torch.equal(first[name], second[name])  # the processes agree to the last bit
        torch.testing.assert_close(first[name], one[name], atol=1e-6, rtol=1e-5)


def test_two_machines_are_one_with_two_processes(tmp_path):
    """Two agents that meet at a port of this machine, as two machines would."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    meet = ["--nnodes", 2, "--nproc-per-node", 1, "--rdzv-backend", "c10d", "--rdzv-endpoint", f"localhost:{port}"]
    options = FEW
    finish(*(torchrun("a2c_continuous", tmp_path / "two", *options, launcher=meet) for _ in range(2)))
    finish(torchrun("a2c_continuous", tmp_path / "one", *options))
    (_, two), (_, one) = (weights("a2c_continuous", tmp_path / x) for x in ("two", "one"))
    assert all(torch.equal(two[name], one[name]) for name in one)


def workers(agent):
    """Process ids of torchrun's children."""
    tasks = Path(f"/proc/{agent.pid}/task").iterdir()
    return [int(pid) for task in tasks for pid in (task / "children").read_text().split()]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    "script, kills", [("a2c_continuous", 1)] + [pytest.param(x, 5, marks=pytest.mark.slow) for x in STOCHASTIC]
)
def test_a_killed_worker_changes_nothing(script, kills, tmp_path):
    options = ["--env-id", "envs:LQR-v0", "--num-steps", 32, "--checkpoint-interval", 320, "--eval-episodes", 1]
    options += ["--total-timesteps", 20_000 * kills] + ["--num-envs", 2] * (script != "reinforce")
    options += minibatch(script, 32) if script == "trpo_continuous" else []
    undisturbed = torchrun(script, tmp_path / "undisturbed", *options)
    finish(undisturbed)
    launcher = ["--standalone", "--nproc-per-node", 2, "--max-restarts", kills]
    agent, checkpoint = torchrun(script, tmp_path / "killed", *options, launcher=launcher), tmp_path / "killed"
    rng, seen = random.Random(0), 0.0
    for _ in range(kills):
        while not (checkpoint / "checkpoint.pt").exists() or (checkpoint / "checkpoint.pt").stat().st_mtime <= seen:
            assert agent.poll() is None, agent.communicate()[0]
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.5))
        os.kill(rng.choice(workers(agent)), signal.SIGKILL)
        seen = time.time()  # the next kill waits for progress
    output = finish(agent)
    assert output.count("exitcode: -9") >= kills, output
    (step, expected), (other_step, got) = (weights(script, tmp_path / x) for x in ("undisturbed", "killed"))
    assert step == other_step and all(torch.equal(got[name], expected[name]) for name in expected)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("script", STOCHASTIC)
def test_no_process_group_outlives_its_process(script, tmp_path):
    """Its threads would abort a process that ends with them, and torchrun would take that for a death."""
    (tmp_path / "own.py").write_text(
        "import atexit\nfrom pathlib import Path\n"
        "count = lambda: sum('gloo' in path.read_text() for path in Path('/proc/self/task').glob('*/comm'))\n"
        "say = lambda what: print(f'{what}: {count()}\\n', end='')\n"  # whole: the processes share one output
        "atexit.register(lambda: say('left'))\n"  # the last to run
        f"from {script} import Args, train\n"
        "args = Args('Pendulum-v1', total_timesteps=64, eval_episodes=1, run_dir='run', device='cpu')\n"
        "train(args)\n"
        "say('at work')"
    )
    command = [*TORCHRUN, "--standalone", "--nproc-per-node", "2", "own.py"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.count("left: 0") == 2, done.stdout + done.stderr
    assert "at work: 0" not in done.stdout and done.stdout.count("at work: ") == 2  # such threads can be seen


def test_a_run_keeps_its_number_of_processes(tmp_path):
    finish(torchrun("a2c_continuous", tmp_path / "run", *FEW, "--env-id", "envs:LQR-v0"))
    before = (tmp_path / "run" / "checkpoint.pt").read_bytes()
    result = run("a2c_continuous", "--run-dir", tmp_path / "run", *FEW, "--env-id", "envs:LQR-v0")
    assert result.returncode == 2 and "processes 2, not 1" in result.stderr and result.stderr.count("\n") == 1
    assert (tmp_path / "run" / "checkpoint.pt").read_bytes() == before


@pytest.mark.parametrize("script", STOCHASTIC)
def test_torchrun_needs_a_run_folder(script, monkeypatch, tmp_path):
    monkeypatch.setenv("WORLD_SIZE", "2")
    result = run(script, cwd=tmp_path)
    assert result.returncode == 2 and "--run-dir" in result.stderr and result.stderr.count("\n") == 1
    assert not any(tmp_path.iterdir())


def test_the_noise_of_an_environment_does_not_depend_on_its_process():
    """What the equality above rests on, for any number of processes: columns of one array, seeds by index."""
    module = load("a2c_continuous")
    assert module.RANK == 0 and module.PROCESSES == 1  # outside torchrun
    x = np.random.default_rng(0).normal(size=(50, 3))
    whole = module.merge_statistics(torch.zeros(4, 3), x)
    np.testing.assert_allclose(whole[1:3], [x.mean(0), x.var(0)], rtol=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_killed_worker_of_one_of_two_machines_changes_nothing(monkeypatch, tmp_path):
    """The variable makes torchrun of 2.13 start each time with a new store: machines count only their own restarts."""
    monkeypatch.setenv("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    meet = ["--nnodes", 2, "--nproc-per-node", 1, "--rdzv-backend", "c10d", "--rdzv-endpoint", f"localhost:{port}"]
    options = ["--env-id", "envs:LQR-v0", "--num-envs", 2, "--num-steps", 32, "--checkpoint-interval", 320]
    options += ["--total-timesteps", 60_000, "--eval-episodes", 1]
    finish(torchrun("a2c_continuous", tmp_path / "undisturbed", *options))
    folder, launcher = tmp_path / "killed", [*meet, "--max-restarts", 3]
    agents = [torchrun("a2c_continuous", folder, *options, launcher=launcher) for _ in range(2)]
    for agent in agents:
        seen = time.time()
        while not (folder / "checkpoint.pt").exists() or (folder / "checkpoint.pt").stat().st_mtime <= seen:
            time.sleep(0.01)
        os.kill(workers(agent)[0], signal.SIGKILL)
    finish(*agents)
    (_, expected), (_, got) = (weights("a2c_continuous", tmp_path / x) for x in ("undisturbed", "killed"))
    assert all(torch.equal(got[name], expected[name]) for name in expected)
