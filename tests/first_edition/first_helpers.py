"""The tests of the first edition, for the scripts that have not moved to the second one yet: each leaves them then."""

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

import torch

ROOT = Path(os.environ.get("SCRIPTS_FROM", Path(__file__).parents[2]))  # another folder: for trying out mistakes
ORDER = ["reinforce", "a2c_continuous", "ppo_continuous", "trpo_continuous", "ddpg"]
SCRIPTS = [name for name in ORDER if not (ROOT / f"{name}.py").read_text().startswith("# /// script")]
STOCHASTIC = [name for name in SCRIPTS if name != "ddpg"]  # with a density, and statistics of observations
DRAWS = sys.platform != "linux" or "DISPLAY" in os.environ or ctypes.util.find_library("EGL") is not None
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])


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
