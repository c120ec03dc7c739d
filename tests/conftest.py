"""The scripts as modules, one fixture for all of them: a new script gets every test that is not of one algorithm."""

import contextlib
import ctypes.util
import importlib.util
import io
import os
import runpy
import subprocess
import sys
import traceback
from pathlib import Path

import pytest
import torch

ROOT = Path(os.environ.get("SCRIPTS_FROM", Path(__file__).parents[1]))  # another folder: for trying out mistakes
ORDER = ["reinforce", "a2c_continuous", "ppo_continuous", "trpo_continuous", "ddpg"]
SCRIPTS = [name for name in ORDER if (ROOT / f"{name}.py").exists()]
STOCHASTIC = [name for name in SCRIPTS if name != "ddpg"]  # with a density, and statistics of observations
DRAWS = sys.platform != "linux" or "DISPLAY" in os.environ or ctypes.util.find_library("EGL") is not None
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
sys.path.insert(0, str(Path(__file__).parent))


def load(name, path=None):
    """Imports a script from its file."""
    spec = importlib.util.spec_from_file_location(name, path or ROOT / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def run(script, *options, cwd="."):
    """Runs a script as its command line does, but in this process, which has torch loaded already."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    path = script if isinstance(script, Path) else ROOT / f"{script}.py"
    with contextlib.chdir(cwd), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        argv, sys.argv = sys.argv, [str(path), *map(str, options)]
        try:
            runpy.run_path(str(path), run_name="__main__")
        except SystemExit as stop:
            code = stop.code
        except Exception:
            traceback.print_exc()
            code = 1
        finally:
            sys.argv = argv
    return subprocess.CompletedProcess(options, code, out.getvalue(), err.getvalue())


def sample(policy, obs, noise):
    """Sampled actions as a tensor, from tensors, for batches of any shape."""
    with torch.no_grad():
        return torch.from_numpy(policy.sample(obs, noise))


@pytest.fixture(params=SCRIPTS)
def script(request):
    return request.param


@pytest.fixture
def module(script):
    return load(script)


@pytest.fixture
def ppo():
    return load("ppo_continuous")


@pytest.fixture
def tiny(module, tmp_path):
    """Arguments of a run that takes a second: 2 environments, few steps, one evaluation episode."""

    def make(env_id="envs:Scalar-v0", **changes):
        sizes = {"num_envs": 2, "num_steps": 64, "minibatch_size": 32, "update_epochs": 2}
        sizes |= {"learning_starts": 64, "batch_size": 16, "buffer_size": 300}
        values = {"env_id": env_id, "total_timesteps": 512, "eval_episodes": 2, "run_dir": str(tmp_path / "run")}
        known = set(module.Args.__dataclass_fields__)
        return module.Args(**{name: value for name, value in (values | sizes | changes).items() if name in known})

    return make
