# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "torch>=2.5", "numpy>=1.26", "gymnasium[mujoco]>=1.1", "mujoco>=3.1.6", "tyro>=0.9.2",
#     "tensorboard>=2.16", "tqdm>=4.66",
# ]
# ///
"""REINFORCE: the policy gradient from complete episodes, for continuous actions.

    python reinforce.py --env-id Hopper-v4

Williams 1992, Machine Learning 8. Each iteration
  1. plays complete episodes with the current policy, one after the other, until the batch has at
     least --min-batch-steps steps,
  2. computes the return to go from each step, G_n = r_n + γ r_{n+1} + γ² r_{n+2} + ...,
  3. takes one gradient step to

         maximize  E[A log π(a|s)],  A = G - mean of G,

     whose gradient is the policy gradient, but for γ^n (below). Actions with a return above the
     mean become more likely.

The mean of G over the batch is the baseline. It takes away noise; over several episodes it hardly
changes the expected gradient; in a batch of one episode it does (see --min-batch-steps).

The gradient of the discounted return from the start has the weight γ^n at step n of an episode:
θ ← θ + α γ^n A_n ∇log π(a_n|s_n). With it, steps n ≫ 1 / (1 - γ) would hardly count. Practice and
this script drop it, so that every visited state counts alike; the direction that results is the
gradient of no objective in general (Nota and Thomas, arXiv:1906.07073). --discounted-gradient
restores γ^n.

Beyond the paper: discounted returns to go, divided by their standard deviation; Adam; orthogonal
initial weights; normalized observations; a learning rate that decays to 0. Without a critic there
is nothing to bootstrap from: the return ends at a time limit too. a2c_continuous.py adds the
critic.

Shapes: a batch is B steps of one environment.
"""

import json
import os
import random
import shlex
import sys
import tempfile
import time
from contextlib import closing
from copy import deepcopy
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import gymnasium as gym
import mujoco
import numpy as np
import torch
import tyro
from torch import nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

SCRIPT = "reinforce"
MODES = ("deterministic", "sampled")  # of evaluation
RANK = 0  # this script is one process


@dataclass
class Args:
    # The run

    env_id: str = "Hopper-v4"  # Gymnasium id with a Box action space; module:Name-v0 imports yours
    env_kwargs: str = "{}"  # keyword arguments of the environment, in JSON: {"name": value}
    seed: int = 1  # random seed of weights, action noise and initial states
    total_timesteps: int = 1_000_000  # environment steps in all, rounded up to whole batches
    run_dir: str = ""  # output directory, new if empty; a run that it holds is resumed
    checkpoint_interval: int = 250_000  # environment steps between checkpoints
    evaluate: str = ""  # run directory to evaluate instead of training
    eval_episodes: int = 20  # episodes per evaluation and mode
    capture_video: bool = False  # MP4 of the first evaluation episode
    device: str = "auto"  # of the updates: cpu, cuda, mps; auto: cuda if available

    # The algorithm

    min_batch_steps: int = 1_000  # the episode with this step is the last of a batch
    gamma: float = 0.99  # discount factor; looks about 1 / (1 - gamma) steps ahead
    learning_rate: float = 3e-3  # initial learning rate of Adam; decays linearly to 0
    discounted_gradient: bool = False  # weight γ^n for step n of an episode, as in the theory

    def __post_init__(self):
        check_args(self)
        if os.environ.get("WORLD_SIZE", "1") != "1":
            raise UsageError(f"{SCRIPT}.py is one process: run it without torchrun")


# --------------------------------------------------------------------------------------------------
# Networks


def linear(n_in, n_out, gain):
    layer = nn.Linear(n_in, n_out)
    nn.init.orthogonal_(layer.weight, gain)
    nn.init.zeros_(layer.bias)
    return layer


def mlp(n_in, n_out, gain):
    """Two hidden layers of 64 tanh units; gain scales the initial weights of the output layer."""
    hidden = [linear(n_in, 64, 2**0.5), nn.Tanh(), linear(64, 64, 2**0.5), nn.Tanh()]
    return nn.Sequential(*hidden, linear(64, n_out, gain))


class Policy(nn.Module):
    """π(a|s) = N(μ(s), diag(σ²)) with the same σ in every state.

    Actions are in units where ±1 are the bounds of the action space. The statistics that normalize
    observations are part of the module, so that a saved policy takes raw observations.

    Another distribution changes this class, sample_actions, the calls of its constructor and of
    entropy (which may then need the states), the noise in train and play_episodes, and TRPO's
    kl_divergence. Discrete actions also change check_spaces: docs/recipes/discrete_actions.patch.
    """

    def __init__(self, obs_dim, low, high):
        super().__init__()
        low = torch.as_tensor(low).nan_to_num()  # an infinite bound becomes the largest number
        high = torch.as_tensor(high).nan_to_num()
        middle, half_range = action_units(low, high)
        self.low, self.high = nn.Buffer(low), nn.Buffer(high)
        self.middle, self.half_range = nn.Buffer(middle), nn.Buffer(half_range)
        self.obs_stats = RunningStatistics(obs_dim)
        self.mu = mlp(obs_dim, low.numel(), gain=0.01)  # initial means near the middle
        self.log_std = nn.Parameter(torch.full((low.numel(),), -0.5))
        # sample_actions repeats the network in NumPy: a change of one alone is found here
        ones = torch.ones(1, obs_dim)
        mu, _ = sample_actions(self.arrays(), ones)
        assert np.allclose(mu, self.mu(ones).detach(), atol=1e-4), "sample_actions must follow mlp"

    def forward(self, obs):
        """Mean actions within the bounds, of a float32 tensor of raw observations; for export."""
        mu = self.mu(self.obs_stats.normalize(obs))
        actions = self.middle + self.half_range * mu.view(-1, *self.low.shape)
        return actions.clamp(self.low, self.high)

    def log_prob(self, normalized_obs, actions):
        """log π(a|s), shape (...), of actions (..., act_dim) in observations (..., obs_dim)."""
        z = (actions - self.mu(normalized_obs)) / self.log_std.exp()
        return (-0.5 * z**2 - self.log_std - 0.5 * np.log(2 * np.pi)).sum(-1)

    def entropy(self):
        return (self.log_std + 0.5 * np.log(2 * np.pi * np.e)).sum()

    def act(self, obs, noise=0.0):
        """An array of actions for the environment; without noise, the mean actions."""
        return sample_actions(self.arrays(), obs, noise)[1]

    def arrays(self):
        """What sample_actions needs: parameters and statistics by name, on the CPU."""
        return {name: x.numpy(force=True) for name, x in self.state_dict().items()}


# --------------------------------------------------------------------------------------------------
# The algorithm


def returns_to_go(rewards, done, gamma):
    """G_n = r_n + γ r_{n+1} + ... to the end of the episode; float tensors (B,), whole episodes."""
    device = rewards.device
    rewards, done = rewards.tolist(), done.tolist()  # a loop over floats is faster
    returns = [0.0] * len(rewards)
    G = 0.0
    for t in reversed(range(len(rewards))):
        G = rewards[t] + gamma * (1 - done[t]) * G
        returns[t] = G
    return torch.tensor(returns, device=device)


def update(policy, optimizer, batch, args):
    """One iteration's gradient step on a batch of tensors (B, ...); returns scalars to log."""
    obs = policy.obs_stats.normalize(batch["obs"])  # (B, obs_dim)
    returns = returns_to_go(batch["rewards"], batch["done"], args.gamma)  # (B,)

    _, mean, var = moments(returns)
    advantages = (returns - mean) / (var + 1e-8).sqrt()
    if args.discounted_gradient:
        advantages = advantages * args.gamma ** batch["n"]

    log_prob = policy.log_prob(obs, batch["actions"])
    policy_loss = -(advantages * log_prob).mean()  # over steps; its value says nothing
    optimizer.zero_grad()
    policy_loss.backward()
    gradient_norm = nn.utils.clip_grad_norm_(policy.parameters(), float("inf"))  # only measured
    optimizer.step()

    return {
        "policy_loss": policy_loss.detach(),
        "gradient_norm": gradient_norm,
        "return_std": var.sqrt(),  # of G
        "entropy": policy.entropy().detach(),
    }


def sample_actions(policy, obs, noise=0.0):
    """μ(s) + σ z (N, act_dim), and the same scaled and clipped to the bounds (N, *action shape).

    Of raw observations (N, obs_dim) and standard normal noise z; policy is Policy.arrays(). In
    NumPy, since PyTorch takes several times as long over a few rows.
    """
    x = np.asarray(obs, np.float32)
    x = ((x - policy["obs_stats.mean"]) / policy["obs_stats.std"]).clip(-10, 10)
    # mu.0, mu.2 and mu.4 are the linear layers of mlp
    x = np.tanh(x @ policy["mu.0.weight"].T + policy["mu.0.bias"])
    x = np.tanh(x @ policy["mu.2.weight"].T + policy["mu.2.bias"])
    mu = x @ policy["mu.4.weight"].T + policy["mu.4.bias"]
    actions = mu + np.exp(policy["log_std"]) * noise

    low, high = policy["low"], policy["high"]
    env_actions = policy["middle"] + policy["half_range"] * actions.reshape(-1, *low.shape)
    return actions, env_actions.clip(low, high)


def collect_rollout(env, policy, rng, min_batch_steps):
    """Complete episodes: a batch of arrays (B, ...), and the return and length of each episode."""
    old_policy = policy.arrays()  # it acts on the CPU, where the environment is
    transitions = []
    episodes = {"episodic_return": [], "episodic_length": []}
    while len(transitions) < min_batch_steps:
        obs, _ = env.reset(seed=int(rng.integers(2**31)))
        done, n = False, 0  # n counts the steps of the episode
        while not done:
            noise = rng.standard_normal((1, policy.log_std.numel()), np.float32)
            actions, env_actions = sample_actions(old_policy, obs[None], noise)  # of one row
            next_obs, reward, terminated, truncated, info = env.step(env_actions[0])
            done = terminated or truncated  # without a critic, a time limit ends the return too
            transitions.append(
                {
                    "obs": obs,
                    "actions": actions[0],  # as sampled, not as clipped
                    "rewards": reward,
                    "done": done,
                    "n": n,
                }
            )
            obs, n = next_obs, n + 1
            if n == 100_000 and not done:
                raise UsageError("no episode ended in 100,000 steps: REINFORCE needs complete ones")
        for name, values in episodes.items():
            values.append(info[name])
    batch = {name: np.stack([t[name] for t in transitions]) for name in transitions[0]}
    return batch, episodes


def train(args):
    """Trains, or resumes the run in args.run_dir, and evaluates; returns the run directory.

    Where args.run_dir is empty, it is set to a new directory.
    Raises UsageError for bad input, FloatingPointError where a number is no longer finite.
    """
    # networks this small are slower on more threads
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 1)))
    torch.manual_seed(args.seed)
    device = choose_device(args.device)
    if args.capture_video:
        check_video(args.env_id, args.env_kwargs)

    with closing(make_env(args.env_id, args.env_kwargs)) as env:
        obs_dim, action_space = env.observation_space.shape[0], env.action_space
        policy = Policy(obs_dim, action_space.low, action_space.high).to(device)
        parameters = [*policy.parameters()]
        optimizer = torch.optim.Adam(parameters, args.learning_rate, eps=1e-5, fused=True)
        modules = {"policy": policy, "optimizer": optimizer}

        # start, or resume
        step, last_returns = open_run(args, modules)
        if step >= args.total_timesteps and print_result(args.run_dir, step):
            return Path(args.run_dir)
        save_checkpoint(args, modules, step, last_returns)
        log = Log(args, step)

        while step < args.total_timesteps:
            # random numbers depend on the seed and the step alone, and episodes are whole: there is
            # no random state and no environment to save
            rng = np.random.default_rng([args.seed, step])

            # collect a batch with the current policy
            batch, episodes = collect_rollout(env, policy, rng, args.min_batch_steps)
            check_rollout(batch, step, 1)
            last_returns = (last_returns + episodes["episodic_return"])[-100:]

            # improve the policy
            learning_rate = args.learning_rate * (1 - step / args.total_timesteps)
            optimizer.param_groups[0]["lr"] = learning_rate
            losses = update(policy, optimizer, to_tensors(batch, device), args)
            policy.obs_stats.update(batch["obs"])  # after update, which normalizes as when acting
            batch_size = len(batch["rewards"])
            step += batch_size

            check_finite(losses, step)
            check_finite(policy.state_dict(), step)
            log.write(step, episodes | {"learning_rate": learning_rate}, losses, last_returns)

            if step // args.checkpoint_interval > (step - batch_size) // args.checkpoint_interval:
                save_checkpoint(args, modules, step, last_returns)

        save_checkpoint(args, modules, step, last_returns)

    finish(args, step, last_returns, log)
    return Path(args.run_dir)


# --------------------------------------------------------------------------------------------------
# What every training script needs, and a first reading may skip. The environment


def make_env(env_id, env_kwargs="{}", video_dir=None):
    """An environment with flat observations; with video_dir, its first episode is recorded."""
    if not hasattr(gym.vector, "AutoresetMode"):
        raise UsageError(f"gymnasium {gym.__version__} is too old: version 1.1 is needed")
    gym.logger.min_level = gym.logger.ERROR  # no warning that -v4 is not the newest version
    mujoco.set_mju_user_warning(print_warning)
    options = json.loads(env_kwargs)
    if video_dir:
        options["render_mode"] = "rgb_array"
    try:
        env = gym.make(env_id, disable_env_checker=True, **options)
    except (gym.error.Error, ImportError, OSError, TypeError, ValueError) as error:
        mendable = ["keyword argument", "ParseXML", "values to unpack"]  # by another command
        known = any(text in str(error) for text in mendable)
        if isinstance(error, (TypeError, ValueError)) and not known:
            raise  # the environment's own mistake
        raise UsageError(f"cannot make {env_id}: {error}") from error

    try:
        check_spaces(env_id, env)
        env = Episode(env)
        env = gym.wrappers.FlattenObservation(env)  # also copies: some environments reuse one array
        if video_dir:
            env = record_video(env, video_dir)
    except BaseException:
        env.close()
        raise
    return env


def check_spaces(env_id, env):
    try:
        flat_space = gym.spaces.flatten_space(env.observation_space)
    except NotImplementedError:  # a kind of space that Gymnasium does not know
        flat_space = None
    if not isinstance(flat_space, gym.spaces.Box):
        raise UsageError(f"{env_id} observes {env.observation_space}, which cannot be flattened")
    if not isinstance(env.action_space, gym.spaces.Box):
        raise UsageError(f"{env_id} has the space {env.action_space}; a Box is needed")
    if not np.issubdtype(env.action_space.dtype, np.floating):
        raise UsageError(f"{env_id} acts in {env.action_space}; a floating-point Box is needed")


class Episode(gym.Wrapper):
    """Keeps what training uses: float rewards, and no info but an episode's return and length."""

    def reset(self, *, seed=None, options=None):
        self.episode_return, self.episode_length = 0.0, 0
        if seed is not None:
            seed_generators(self.unwrapped, seed)
        obs, _ = self.env.reset(seed=seed)
        check_observation(self.observation_space, obs)
        return obs, {}

    def step(self, action):
        obs, reward, terminated, truncated, _ = self.env.step(action)
        if self.episode_length == 0:
            check_observation(self.observation_space, obs)
        reward = to_float(reward)
        self.episode_return += reward
        self.episode_length += 1
        info = {}
        if terminated or truncated:
            info["episodic_return"] = self.episode_return
            info["episodic_length"] = self.episode_length
        return obs, reward, bool(terminated), bool(truncated), info


def seed_generators(env, seed):
    """For environments that do not draw from their own generator alone, which reset seeds."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    env.action_space.seed(seed)
    env.observation_space.seed(seed)


def check_observation(space, obs):
    """Raises UsageError where flattening would fail, or change numbers: float to integer."""
    if isinstance(space, gym.spaces.Dict):
        for name, subspace in space.items():
            check_observation(subspace, obs[name])
    elif isinstance(space, gym.spaces.Tuple):
        for subspace, x in zip(space, obs, strict=True):
            check_observation(subspace, x)
    elif isinstance(space, gym.spaces.Box):
        x = np.asarray(obs)
        if x.shape != space.shape or not np.can_cast(x.dtype, space.dtype, "same_kind"):
            what = f"an observation of type {x.dtype} and shape {x.shape}"
            raise UsageError(f"{what} does not fit the observation space {space}")


def to_float(reward):
    try:
        return float(np.asarray(reward).item())
    except (TypeError, ValueError) as error:
        raise UsageError(f"the reward {reward!r} is not one number") from error


def make_vector_env(env_id, num_envs, env_kwargs="{}", video_dir=None):
    envs = []
    try:
        for i in range(num_envs):
            envs.append(make_env(env_id, env_kwargs, video_dir if i == 0 else None))
        env_fns = [lambda env=env: env for env in envs]
        return gym.vector.SyncVectorEnv(env_fns, autoreset_mode="SameStep")
    except BaseException:
        for env in envs:
            env.close()
        raise


def record_video(env, video_dir):
    if sys.platform == "linux" and "DISPLAY" not in os.environ:
        os.environ.setdefault("MUJOCO_GL", "egl")  # renders without a display
    try:
        renderer = getattr(env.unwrapped, "mujoco_renderer", None)
        if renderer and renderer.camera_id == -1 and renderer.model.ncam > 0:
            renderer.camera_id = 0  # in Gymnasium's models the first camera follows the agent
        env.reset()
        env.render()
        return gym.wrappers.RecordVideo(env, video_dir, episode_trigger=lambda i: i == 0)
    except Exception as error:  # of many types: OpenGL or a package may be missing
        raise UsageError(f"cannot record a video (see docs/running.md, Video): {error}") from error


def check_video(env_id, env_kwargs):
    """Raises UsageError before training, not after it, where no video can be recorded."""
    with tempfile.TemporaryDirectory() as directory:
        make_env(env_id, env_kwargs, directory).close()


def print_warning(text):
    """Prints MuJoCo's warnings, except one about HalfCheetah's model that a user cannot mend."""
    if "settotalmass" not in text:
        tqdm.write(f"MuJoCo: {text}", file=sys.stderr)


def to_tensors(batch, device):
    return {
        name: torch.as_tensor(x, dtype=torch.float32, device=device) for name, x in batch.items()
    }


# --------------------------------------------------------------------------------------------------
# Scales of actions and observations


def action_units(low, high):
    """Middle and half range of the bounds: what 0 and ±1 mean to the policy."""
    unbounded = high - low > 1e6  # infinite, or so far away that it means the same
    middle = torch.where(unbounded, 0.0, low / 2 + high / 2)
    half_range = torch.where(unbounded, 1.0, high / 2 - low / 2)
    # where only one side is bounded, the middle is one unit inside it
    low_only = unbounded & (low > -1e6) & (high >= 1e6)
    high_only = unbounded & (low <= -1e6) & (high < 1e6)
    middle = torch.where(low_only, low + 1, middle)
    middle = torch.where(high_only, high - 1, middle)
    return middle, half_range


class RunningStatistics(nn.Module):
    """Mean, variance, standard deviation of all rows so far, by dimension; 0, 1, 1 before them."""

    def __init__(self, dim):
        super().__init__()
        self.count = nn.Buffer(torch.zeros(()))
        self.mean = nn.Buffer(torch.zeros(dim))
        self.var = nn.Buffer(torch.ones(dim))
        self.std = nn.Buffer(torch.ones(dim))

    def update(self, x):
        """Merges the rows of x (..., dim), in float64."""
        x = torch.as_tensor(x, dtype=torch.float64, device="cpu").flatten(0, -2)
        count, mean, var = moments(x)
        old_mean, old_var = self.mean.cpu().double(), self.var.cpu().double()
        total = self.count.cpu().double() + count
        weight = count / total
        shift = mean - old_mean
        self.count.copy_(total)
        self.mean.copy_(old_mean + weight * shift)
        self.var.copy_((1 - weight) * old_var + weight * var + weight * (1 - weight) * shift**2)
        # at least what float32 can tell from rounding: a constant is not divided by 0
        self.std.copy_((self.var + (1e-7 * self.mean) ** 2 + 1e-30).sqrt())

    def normalize(self, x):
        return ((x - self.mean) / self.std).clamp(-10, 10)


def moments(x):
    """Count, mean and variance of the rows of x."""
    return len(x), x.mean(0), x.var(0, correction=0)


# --------------------------------------------------------------------------------------------------
# The device, and numbers that are not finite


def choose_device(name):
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda":
        name = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
    try:
        return torch.zeros(1, device=name).device
    except (RuntimeError, AssertionError) as error:
        raise UsageError(str(error).splitlines()[0]) from error


def check_finite(values, step):
    """Stops a run before a number that is not finite is acted upon or saved."""
    for name, x in values.items():
        x = x.numpy(force=True) if torch.is_tensor(x) else x
        if not np.isfinite(x).all():
            raise FloatingPointError(f"{name} is not finite at step {step}")


def check_rollout(batch, step, steps_per_row):
    """Like check_finite, for the arrays of a rollout: names the first step that went wrong."""
    if all(np.isfinite(x).all() for x in batch.values()):
        return
    for t in range(len(batch["rewards"])):
        row = {name: x[t] for name, x in batch.items()}
        check_finite(row, step + (t + 1) * steps_per_row)


# --------------------------------------------------------------------------------------------------
# The run directory: args.json, checkpoint.pt, TensorBoard events, result.json, videos


def open_run(args, modules):
    """Creates the run directory, or restores its run; returns the step and the last returns."""
    if not args.run_dir:
        name = f"{args.env_id}__{SCRIPT}__{args.seed}__{time.time_ns()}"
        args.run_dir = "runs/" + name.replace("/", "_").replace(":", "_")
    try:
        Path(args.run_dir).mkdir(parents=True, exist_ok=True)
        files = set(os.listdir(args.run_dir)) - {"checkpoint.tmp"}
    except OSError as error:
        raise UsageError(str(error)) from error
    if not os.access(args.run_dir, os.W_OK):
        raise UsageError(f"cannot write to {args.run_dir}")

    step, last_returns = 0, []
    if "checkpoint.pt" in files:
        step, last_returns = restore(args, modules)
    elif files:
        raise UsageError(f"{args.run_dir} holds {min(files)} but no run: choose another directory")
    return step, last_returns


def restore(args, modules):
    checkpoint = load_checkpoint(args.run_dir)
    may_differ = ["run_dir", "evaluate", "eval_episodes", "capture_video", "device"]
    for name, old in checkpoint["args"].items():
        new = getattr(args, name, None)
        longer = name == "total_timesteps" and new > old
        if new != old and name not in may_differ and not longer:
            raise UsageError(f"{args.run_dir} was started with {name} {old}, not {new}")
    for name, module in modules.items():
        module.load_state_dict(deepcopy(checkpoint[name]))  # a copy: the file is mapped
    return checkpoint["step"], checkpoint["last_returns"]


def save_checkpoint(args, modules, step, last_returns):
    """Writes a new file and renames it, so that a crash never leaves half a checkpoint."""
    if RANK > 0:
        return
    checkpoint = {
        "script": SCRIPT,
        "args": asdict(args),
        "step": step,
        "last_returns": last_returns,
    }
    for name, module in modules.items():
        checkpoint[name] = module.state_dict()
    temporary = Path(args.run_dir, "checkpoint.tmp")
    try:
        torch.save(checkpoint, temporary)
        temporary.replace(Path(args.run_dir, "checkpoint.pt"))
    finally:
        temporary.unlink(missing_ok=True)  # there only if the disk is full


def load_checkpoint(run_dir):
    """The checkpoint of a run of this script; UsageError where there is none."""
    try:
        path = Path(run_dir, "checkpoint.pt")
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # of many types: the file may be missing, damaged or foreign
        raise UsageError(f"{run_dir} holds no readable run ({type(error).__name__})") from error
    if not isinstance(checkpoint, dict) or checkpoint.get("script") != SCRIPT:
        raise UsageError(f"{run_dir} holds no run of {SCRIPT}.py")
    return checkpoint


def load_policy(run_dir):
    """The policy of a run, on the CPU: policy.act(obs) takes raw observations (N, obs_dim)."""
    state = load_checkpoint(run_dir)["policy"]
    policy = Policy(len(state["obs_stats.mean"]), state["low"], state["high"])
    policy.load_state_dict(state)
    return policy


class Log:
    """TensorBoard events and a progress bar; only process 0 writes, and of its own batches."""

    def __init__(self, args, step):
        self.first_step = self.step = step
        self.start_time = time.time()
        self.steps_per_second = None
        if RANK > 0:
            return
        print(f"{SCRIPT} on {args.env_id}, seed {args.seed}: {args.run_dir}")
        versions = {name: version(name) for name in ("torch", "numpy", "gymnasium", "mujoco")}
        text = json.dumps({"script": SCRIPT} | asdict(args) | {"versions": versions}, indent=4)
        Path(args.run_dir, "args.json").write_text(text)
        self.writer = SummaryWriter(args.run_dir, purge_step=step + 1)
        self.writer.add_text("hyperparameters", text, step + 1)
        self.bar = tqdm(initial=step, total=args.total_timesteps, unit=" steps", disable=None)

    def write(self, step, charts, losses, last_returns):
        if RANK > 0:
            return
        self.steps_per_second = (step - self.first_step) / (time.time() - self.start_time)
        self.writer.add_scalar("charts/SPS", self.steps_per_second, step)
        self.writer.add_scalar("charts/num_episodes", len(charts["episodic_return"]), step)
        for name, values in charts.items():  # means over episodes, or one number
            if np.size(values) > 0:
                self.writer.add_scalar(f"charts/{name}", np.mean(values), step)
        for name, x in losses.items():
            self.writer.add_scalar(f"losses/{name}", float(x), step)
        self.writer.flush()

        mean_return = np.mean(last_returns) if last_returns else np.nan
        self.bar.set_postfix_str(f"return {mean_return:.1f}")
        self.bar.update(step - self.step)
        if self.bar.disable and step // 50_000 > self.step // 50_000:  # no terminal
            speed = f"{self.steps_per_second:,.0f} steps/s"
            print(f"{step:,} steps, {speed}, return {mean_return:.1f}", flush=True)
        self.step = step


def finish(args, step, last_returns, log):
    """Evaluates the trained policy and writes result.json."""
    if RANK > 0:
        return
    log.bar.close()
    result = evaluate(args.run_dir, args.eval_episodes, args.capture_video)
    for mode in MODES:
        log.writer.add_scalar(f"charts/{mode}_return", result[mode]["mean"], step)
    log.writer.close()
    result["training_return"] = float(np.mean(last_returns)) if last_returns else None
    result["steps"] = step
    result["steps_per_second"] = log.steps_per_second
    temporary = Path(args.run_dir, "result.tmp")
    temporary.write_text(json.dumps(result))
    temporary.replace(Path(args.run_dir, "result.json"))


def print_result(run_dir, step):
    """Prints the result that a finished run had at this step; False where there is none."""
    path = Path(run_dir, "result.json")
    result = json.loads(path.read_text()) if path.exists() else {"steps": None}
    if result["steps"] != step:
        return False
    if RANK == 0:
        print(json.dumps(result))
    return True


def evaluate(run_dir, episodes=20, capture_video=False):
    """Returns from fixed initial states, in each mode."""
    policy = load_policy(run_dir)
    args = load_checkpoint(run_dir)["args"]
    video_dir = f"{run_dir}/videos" if capture_video else None
    results = {}
    env_id, env_kwargs = args["env_id"], args["env_kwargs"]
    with closing(make_vector_env(env_id, episodes, env_kwargs, video_dir)) as envs:
        for mode in MODES:
            returns, num_cut = play_episodes(envs, policy, mode)
            results[mode] = {
                "mean": returns.mean(),
                "std": returns.std(),
                "returns": returns.tolist(),
                "num_cut": num_cut,
            }
            note = f" ({num_cut} cut at 10,000 steps)" if num_cut > 0 else ""
            print(f"{mode}: {returns.mean():.1f} ± {returns.std():.1f}{note}")
    return results


def play_episodes(envs, policy, mode):
    """One episode in each environment: returns (N,), and how many did not end in 10,000 steps."""
    rng = np.random.default_rng(0)
    obs, _ = envs.reset(seed=10**6)  # and the seeds after it
    returns, running = np.zeros(envs.num_envs), np.ones(envs.num_envs, dtype=bool)
    steps = tqdm(range(10_000), mode, unit=" steps", leave=False, delay=3, disable=None)
    for _ in steps:
        noise = rng.standard_normal((envs.num_envs, policy.low.numel()), np.float32)
        noise = noise if mode == "sampled" else 0.0
        obs, rewards, terminated, truncated, _ = envs.step(policy.act(obs, noise))
        returns[running] += rewards[running]
        running &= ~(terminated | truncated)
        if not running.any():
            break
    steps.close()
    return returns, int(running.sum())


# --------------------------------------------------------------------------------------------------
# The command line


class UsageError(Exception):
    """A mistake that the user can correct: one line and exit status 2."""


def check_args(args):
    """Raises UsageError for values out of range; knows the arguments of all five scripts."""
    args.run_dir = str(args.run_dir)  # a notebook may pass a Path
    zero_ok = ["seed", "vf_coef", "ent_coef", "cg_damping", "learning_starts", "exploration_noise"]
    for name, value in asdict(args).items():
        if isinstance(value, np.generic):  # from a sweep with NumPy; files want plain numbers
            setattr(args, name, value.item())
        if name in ("gamma", "gae_lambda", "tau"):
            valid = 0 <= value <= 1
        elif name in zero_ok:
            valid = 0 <= value < 2**63
        else:
            valid = isinstance(value, (str, bool)) or 0 < value < 2**63
        if not valid:
            raise UsageError(f"--{name.replace('_', '-')} {value} is out of range")
    try:
        env_kwargs = json.loads(args.env_kwargs)
    except (TypeError, ValueError):
        env_kwargs = None
    if not isinstance(env_kwargs, dict):
        raise UsageError(f'--env-kwargs {args.env_kwargs} is no JSON object, such as {{"name": 1}}')


def main():
    args = tyro.cli(Args, description=__doc__)
    try:
        if args.evaluate:
            print(f"{args.evaluate} at step {load_checkpoint(args.evaluate)['step']:,}")
            evaluate(args.evaluate, args.eval_episodes, args.capture_video)
        else:
            train(args)
    except KeyboardInterrupt:
        command = ["python", *sys.argv]
        if args.run_dir and "--run-dir" not in command:
            command += ["--run-dir", args.run_dir]
        tqdm.write(f"interrupted; to resume: {shlex.join(command)}")
        sys.exit(130)


if __name__ == "__main__":
    try:
        main()
    except (UsageError, FloatingPointError) as error:
        tqdm.write("error: " + " ".join(str(error).split()), file=sys.stderr)  # in one line
        sys.exit(2 if isinstance(error, UsageError) else 1)
