"""The scripts as modules and as commands."""

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

import numpy as np
import torch

TESTS = Path(__file__).parent
ROOT = Path(os.environ.get("SCRIPTS_FROM", TESTS.parent))  # another folder: mutants are tried there
SCRIPTS = ["reinforce", "a2c_continuous", "ppo_continuous", "trpo_continuous", "ddpg"]
STOCHASTIC = [name for name in SCRIPTS if name != "ddpg"]  # with a density
WITH_CRITIC = [name for name in STOCHASTIC if name != "reinforce"]  # V, GAE, torchrun
CAN_RENDER = (
    sys.platform != "linux"
    or "DISPLAY" in os.environ
    or ctypes.util.find_library("EGL") is not None
)
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["PYTHONPATH"] = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])

TINY = {  # a run that takes a second
    "total_timesteps": 512,
    "num_envs": 2,
    "num_steps": 64,
    "minibatch_size": 32,
    "update_epochs": 2,
    "min_batch_steps": 64,
    "learning_starts": 64,
    "batch_size": 16,
    "buffer_size": 300,
    "eval_episodes": 2,
}


def source(name):
    return (ROOT / f"{name}.py").read_text()


def load(name):
    """Imports a script from its file, anew."""
    spec = importlib.util.spec_from_file_location(name, ROOT / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def known(module, values):
    """Those of the arguments that the script has."""
    return {name: x for name, x in values.items() if name in module.Args.__dataclass_fields__}


def tiny_args(module, run_dir, env_id="envs:Scalar-v0", **changes):
    values = {"env_id": env_id, "run_dir": str(run_dir)}
    return module.Args(**known(module, TINY | values | changes))


def as_options(values):
    return [x for name, value in values.items() for x in (f"--{name.replace('_', '-')}", value)]


def tiny_options(script, **changes):
    """The same as options of the command line."""
    return as_options(known(load(script), TINY | {"eval_episodes": 1} | changes))


def run(script, *options, cwd="."):
    """Runs a script as its command line does, but in this process, which has torch loaded."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    path = script if isinstance(script, Path) else ROOT / f"{script}.py"
    with (
        contextlib.chdir(cwd),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
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


def command(script, *options):
    """The same as a command for a process of its own."""
    return [sys.executable, str(ROOT / f"{script}.py"), *map(str, options)]


def networks(module, obs_dim=3, act_dim=2, seed=0):
    torch.manual_seed(seed)
    policy = module.Policy(obs_dim, -np.ones(act_dim), np.ones(act_dim)).float()
    return policy, module.Critic(obs_dim) if hasattr(module, "Critic") else None


def normalized(policy, obs):
    """(obs - mean) / σ, within ±10, by the policy's own statistics; written anew."""
    state = policy.state_dict()
    mean, var = state["obs_stats.mean"], state["obs_stats.var"]
    floor = (1e-7 * mean) ** 2 + 1e-30
    return torch.clamp((obs - mean) / torch.sqrt(var + floor), -10, 10)


def density(policy, normalized_obs):
    """π(·|s) as torch has it."""
    return torch.distributions.Normal(policy.mu(normalized_obs), policy.log_std.exp())


def gae_by_definition(rewards, values, next_values, terminated, done, gamma, gae_lambda):
    """A_t = Σ_l (γλ)^l δ_{t+l}, each sum written out until the episode or the rollout ends."""
    T, N = rewards.shape
    advantages = np.zeros((T, N))
    for t in range(T):
        for n in range(N):
            for k in range(t, T):
                bootstrap = 0 if terminated[k, n] else gamma * next_values[k, n]
                delta = rewards[k, n] + bootstrap - values[k, n]
                advantages[t, n] += (gamma * gae_lambda) ** (k - t) * delta
                if done[k, n]:
                    break
    return advantages


def sampled(policy, obs, noise):
    """Actions as sampled (..., act_dim), a tensor; of a script with a stochastic policy."""
    module = sys.modules[type(policy).__module__]
    actions, _ = module.sample_actions(policy.arrays(), obs, np.asarray(noise))
    return torch.from_numpy(actions)


def random_batch(policy, T=16, N=3, ends=0.1):
    """A rollout of random numbers, with terminations, time limits and actions of the policy."""
    rng = np.random.default_rng(1)
    obs_dim, act_dim = len(policy.obs_stats.mean), policy.log_std.numel()
    obs, next_obs = rng.normal(size=(2, T, N, obs_dim)).astype(np.float32)
    noise = torch.from_numpy(rng.normal(size=(T, N, act_dim)).astype(np.float32))
    terminated, truncated = rng.random((2, T, N)) < ends
    batch = {
        "obs": obs,
        "actions": sampled(policy, obs, noise),
        "rewards": rng.normal(size=(T, N)),
        "next_obs": next_obs,
        "terminated": terminated,
        "done": terminated | truncated,
    }
    return {name: torch.as_tensor(x, dtype=torch.float32) for name, x in batch.items()}


def advantages_by_definition(policy, critic, batch, gamma=0.99, gae_lambda=0.95):
    """A (T, N) by its definition, and V(s) (T, N), as the script's critic has it."""
    with torch.no_grad():
        values = critic(normalized(policy, batch["obs"]))
        next_values = critic(normalized(policy, batch["next_obs"]))
    ends = batch["terminated"] > 0, batch["done"] > 0
    arrays = [x.numpy() for x in (batch["rewards"], values, next_values, *ends)]
    advantages = gae_by_definition(*arrays, gamma, gae_lambda)
    return torch.tensor(advantages, dtype=torch.float32), values


def run_update(module, policy, critic, optimizer, batch, args, seed=0):
    """The script's own update, whatever it takes."""
    rng = np.random.default_rng(seed)
    inputs = {
        "reinforce": (policy, optimizer, batch, args),
        "a2c_continuous": (policy, critic, optimizer, batch, args),
    }
    return module.update(*inputs.get(module.SCRIPT, (policy, critic, optimizer, batch, rng, args)))
