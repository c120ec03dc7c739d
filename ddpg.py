# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "torch>=2.5", "numpy>=1.26", "gymnasium[mujoco]>=1.1", "mujoco>=3.1.6", "tyro>=0.9.2",
#     "tensorboard>=2.16", "tqdm>=4.66",
# ]
# ///
"""Deep Deterministic Policy Gradient (DDPG) for continuous actions.

    python ddpg.py --env-id HalfCheetah-v4

Lillicrap et al. 2016, arXiv:1509.02971v6 (Algorithm 1); Silver et al. 2014. Each step
  1. acts by μ(s) + σ z with Gaussian noise z, and stores the transition in the replay,
  2. takes a gradient step of the critic on a minibatch of the replay to

         minimize  E[(Q(s, a) - y)²],  y = r + γ Q'(s', μ'(s')),  or r after a termination,

  3. takes a gradient step of the policy to

         maximize  E[Q(s, μ(s))],  with the gradient E[∇_θ μ(s) ∇_a Q(s, a)] at a = μ(s), where s
                   are states of the replay and Q is held fixed,

  4. moves the target networks: Q', μ' ← τ (Q, μ) + (1 - τ) (Q', μ').

In y, Q'(s', μ'(s')) stands for the maximum of Q' over actions, which would be a search of its own.

REINFORCE, A2C, PPO and TRPO learn from what the current policy has just done. Here the replay holds
transitions of every policy so far, each used many times: y asks what μ' would do next, not what the
policy of the time did. The policy has no density: no ratio π / π_old, no divergence.

Unlike the paper: a penalty keeps tanh from saturating, both gradients are taken before either step,
the first actions are uniform, the noise is white, the action enters Q's first layer, no batch norm
and no weight decay, PyTorch's initial weights, one learning rate, 256 units, τ = 0.005. Time limits
are bootstrapped. Observations and rewards are not normalized: they should be of the order of 1.

Shapes: N environments; a minibatch is B transitions.
"""

import json
import os
import random
import shlex
import sys
import tempfile
import time
from collections import defaultdict
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

SCRIPT = "ddpg"
MODES = ("deterministic",)  # of evaluation
RANK, WORLD_SIZE = 0, 1  # this script is one process


@dataclass
class Args:
    # The run

    env_id: str = "Hopper-v4"  # Gymnasium id with a Box action space; module:Name-v0 imports yours
    env_kwargs: str = "{}"  # keyword arguments of the environment, in JSON: {"name": value}
    seed: int = 1  # random seed of weights, noise, minibatches and initial states
    total_timesteps: int = 1_000_000  # environment steps in all, rounded up to whole steps of each
    run_dir: str = ""  # output directory, new if empty; a run that it holds is resumed
    checkpoint_interval: int = 100_000  # environment steps between checkpoints; each cuts episodes
    evaluate: str = ""  # run directory to evaluate instead of training
    eval_episodes: int = 20  # episodes per evaluation and mode
    capture_video: bool = False  # MP4 of the first evaluation episode
    device: str = "auto"  # of updates and policy: cpu, cuda, mps; auto: cuda if available

    # The algorithm

    num_envs: int = 1  # N, environments, stepped one after the other; as many updates per step
    gamma: float = 0.99  # discount factor; looks about 1 / (1 - gamma) steps ahead
    learning_rate: float = 3e-4  # learning rate of Adam, for critic and policy
    learning_starts: int = 10_000  # steps of uniform actions, without updates, that fill the replay
    batch_size: int = 128  # B, transitions per update
    buffer_size: int = 1_000_000  # transitions in the replay; new ones replace the oldest
    tau: float = 0.005  # τ, fraction by which target networks move towards the networks
    exploration_noise: float = 0.1  # σ of the noise; 1 is half the range of an action

    def __post_init__(self):
        check_args(self)
        if os.environ.get("WORLD_SIZE", "1") != "1":
            raise UsageError(f"{SCRIPT}.py is one process: run it without torchrun")


# --------------------------------------------------------------------------------------------------
# Networks


def relu_net(n_in, n_out):
    """Two hidden layers of 256 ReLU units, with PyTorch's initial weights."""
    hidden = [nn.Linear(n_in, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU()]
    return nn.Sequential(*hidden, nn.Linear(256, n_out))


class Policy(nn.Module):
    """The deterministic policy μ(s) = tanh(u(s)), in units where ±1 are the bounds of an action.

    mu, sample and the critic use these units; forward and act return actions of the environment.
    """

    def __init__(self, obs_dim, low, high, exploration_noise=0.0):
        super().__init__()
        low, high = torch.as_tensor(low), torch.as_tensor(high)
        self.low, self.high = nn.Buffer(low), nn.Buffer(high)
        self.middle, self.half_range = nn.Buffer(low / 2 + high / 2), nn.Buffer(high / 2 - low / 2)
        self.exploration_noise = nn.Buffer(torch.tensor(exploration_noise))  # σ
        self.obs_dim = nn.Buffer(torch.tensor(obs_dim))  # which load_policy needs
        self.u = relu_net(obs_dim, low.numel())

    def forward(self, obs):
        """The action within the bounds, from a float32 tensor of observations; for export."""
        return self.to_bounds(self.mu(obs))

    def mu(self, obs):
        return self.u(obs).tanh()

    @torch.no_grad()
    def sample(self, obs, noise):
        """μ(s) + σ z (N, act_dim), clipped to ±1, of observations (N, obs_dim) and noise z."""
        device = self.low.device
        obs = torch.as_tensor(obs, dtype=torch.float32, device=device)
        noise = torch.as_tensor(noise, dtype=torch.float32, device=device)
        return (self.mu(obs) + self.exploration_noise * noise).clamp(-1, 1)

    def to_bounds(self, actions):
        """Actions (N, act_dim), scaled and clipped to the bounds (N, *action shape)."""
        actions = self.middle + self.half_range * actions.view(-1, *self.low.shape)
        return actions.clamp(self.low, self.high)

    def act(self, obs, noise=0.0):
        """An array of actions for the environment; without noise, those of the policy itself."""
        return self.to_bounds(self.sample(obs, noise)).numpy(force=True)


class QNetwork(nn.Module):
    """Q(s, a) (B,) of observations (B, obs_dim) and actions (B, act_dim) in the policy's units."""

    def __init__(self, obs_dim, act_dim):
        super().__init__()
        self.q = relu_net(obs_dim + act_dim, 1)

    def forward(self, obs, actions):
        q = self.q(torch.cat([obs, actions], -1))
        return q.squeeze(-1)  # (B, 1) minus (B,) would become (B, B)


# --------------------------------------------------------------------------------------------------
# The algorithm


class Replay:
    """The newest transitions: once it is full, new ones take the place of the oldest."""

    def __init__(self, capacity, obs_dim, act_dim):
        self.arrays = {
            "obs": np.zeros((capacity, obs_dim), np.float32),
            "actions": np.zeros((capacity, act_dim), np.float32),
            "rewards": np.zeros(capacity, np.float32),
            "next_obs": np.zeros((capacity, obs_dim), np.float32),
            "terminated": np.zeros(capacity, np.float32),
        }
        self.capacity, self.added = capacity, 0

    def add(self, transitions):
        """Stores arrays (N, ...) under the names above."""
        num_new = len(transitions["rewards"])
        places = np.arange(self.added, self.added + num_new) % self.capacity
        for name, array in self.arrays.items():
            array[places] = transitions[name]
        self.added += num_new

    def sample(self, batch_size, rng, device):
        """A minibatch of tensors (B, ...), drawn uniformly with replacement."""
        i = rng.integers(min(self.added, self.capacity), size=batch_size)
        return to_tensors({name: array[i] for name, array in self.arrays.items()}, device)

    def state_dict(self):  # of what is filled, without a copy
        filled = {name: torch.from_numpy(x[: self.added]) for name, x in self.arrays.items()}
        return filled | {"added": self.added}

    def load_state_dict(self, state):
        self.added = state["added"]
        for name, array in self.arrays.items():
            array[: self.added] = state[name]


def update(networks, target_networks, optimizers, batch, args):
    """One gradient step each of critic and policy on tensors (B, ...); returns scalars to log."""
    policy, critic = networks
    target_policy, target_critic = target_networks
    obs, next_obs = batch["obs"], batch["next_obs"]

    # the critic's regression on y
    with torch.no_grad():
        next_q = target_critic(next_obs, target_policy.mu(next_obs))  # (B,)
        y = batch["rewards"] + args.gamma * next_q * (1 - batch["terminated"])  # not at time limits
    value_loss = ((critic(obs, batch["actions"]) - y) ** 2).mean()

    # the deterministic policy gradient: backward multiplies ∇_θ μ and ∇_a Q. The penalty acts where
    # |u| > 3: tanh is so flat there that the gradient of Q alone could hardly bring u back
    u = policy.u(obs)  # (B, act_dim)
    mean_q = critic(obs, u.tanh()).mean()
    policy_loss = ((u.abs() - 3).relu() ** 2).mean() - mean_q

    policy_optimizer, critic_optimizer = optimizers
    critic_optimizer.zero_grad()
    value_loss.backward()
    policy_optimizer.zero_grad()
    policy_loss.backward(inputs=list(policy.parameters()))  # not the critic's
    critic_optimizer.step()
    policy_optimizer.step()

    with torch.no_grad():
        for network, target_network in zip(networks, target_networks):
            for p, target_p in zip(network.parameters(), target_network.parameters()):
                target_p.lerp_(p, args.tau)  # τ p + (1 - τ) p'

    return {
        "value_loss": value_loss.detach(),
        "policy_loss": policy_loss.detach(),
        "mean_q": mean_q.detach(),
        "saturation": (u.detach().abs() > 2.65).float().mean(),  # fraction with |μ| > 0.99
    }


def collect_transitions(envs, policy, obs, rng, learning, episodes):
    """A step of N environments: their transitions, arrays (N, ...), and the next obs.

    Actions are uniform until learning starts. Return and length of ended episodes are appended.
    """
    shape = (envs.num_envs, policy.low.numel())
    if learning:
        actions = policy.sample(obs, rng.standard_normal(shape))
    else:
        actions = torch.from_numpy(rng.uniform(-1, 1, shape)).float().to(policy.low.device)
    env_actions = policy.to_bounds(actions).numpy(force=True)
    next_obs, rewards, terminated, truncated, info = envs.step(env_actions)
    done = terminated | truncated

    true_next_obs = next_obs.copy()
    if done.any():  # SameStep: there next_obs already belongs to the next episode
        true_next_obs[done] = np.stack(info["final_obs"][done])
        for name in ("episodic_return", "episodic_length"):
            episodes[name] += info["final_info"][name][done].tolist()

    transitions = {
        "obs": obs,
        "actions": actions.numpy(force=True),
        "rewards": rewards,
        "next_obs": true_next_obs,
        "terminated": terminated,
    }
    return transitions, next_obs


def make_networks(obs_dim, action_space, args, device):
    """Policy and critic, their target networks, and an optimizer for each of the two."""
    policy = Policy(obs_dim, action_space.low, action_space.high, args.exploration_noise)
    critic = QNetwork(obs_dim, action_space.low.size)
    networks = nn.ModuleList([policy, critic]).to(device)
    target_networks = deepcopy(networks).requires_grad_(False)
    lr = args.learning_rate
    optimizers = [torch.optim.Adam(n.parameters(), lr, fused=True) for n in networks]
    return networks, target_networks, optimizers


def train(args):
    """Trains, or resumes the run in args.run_dir, and evaluates; returns the run directory.

    Where args.run_dir is empty, it is set to a new directory.
    Raises UsageError for bad input, FloatingPointError where a number is no longer finite.
    """
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 1)))
    torch.manual_seed(args.seed)
    device = choose_device(args.device)
    if args.capture_video:
        check_video(args.env_id, args.env_kwargs)

    with closing(make_vector_env(args.env_id, args.num_envs, args.env_kwargs)) as envs:
        obs_dim, action_space = envs.single_observation_space.shape[0], envs.single_action_space
        check_bounds(args.env_id, action_space)
        networks, target_networks, optimizers = make_networks(obs_dim, action_space, args, device)
        # Adam's moments of idle units become denormals, which are slow; before the environments are
        # made, NumPy 1.26 would warn
        torch.set_flush_denormal(True)
        policy, critic = networks
        replay = make_replay(args.buffer_size, obs_dim, action_space.low.size)
        modules = {
            "policy": policy,
            "critic": critic,
            "target_networks": target_networks,
            "policy_optimizer": optimizers[0],
            "critic_optimizer": optimizers[1],
            "replay": replay,
        }

        # start, or resume
        step, last_returns = open_run(args, modules)
        if step >= args.total_timesteps and print_result(args.run_dir, step):
            return Path(args.run_dir)
        save_checkpoint(args, modules, step, last_returns)
        log = Log(args, step)
        obs = start_episodes(envs, args.seed, step)
        rng = np.random.default_rng([args.seed, step])
        losses, episodes = [], defaultdict(list)

        while step < args.total_timesteps:
            # act, and store the transitions
            learning = step >= args.learning_starts
            transitions, obs = collect_transitions(envs, policy, obs, rng, learning, episodes)
            step += args.num_envs
            check_finite(transitions, step)
            replay.add(transitions)

            # improve critic and policy, by one update for each environment
            for _ in range(args.num_envs if learning else 0):
                batch = replay.sample(args.batch_size, rng, device)
                losses.append(update(networks, target_networks, optimizers, batch, args))
                check_finite(losses[-1], step)

            saving = has_passed(step, args.checkpoint_interval, args.num_envs)
            if saving or has_passed(step, 1000, args.num_envs) or step >= args.total_timesteps:
                check_finite(networks.state_dict(), step)
                last_returns = (last_returns + episodes["episodic_return"])[-100:]
                charts = episodes | {"learning_rate": args.learning_rate}
                log.write(step, charts, mean_losses(losses), last_returns)
                losses, episodes = [], defaultdict(list)
                # random numbers depend on the seed and the step alone: there is no state to save
                rng = np.random.default_rng([args.seed, step])

            if saving:
                # environments cannot be saved: new episodes here make a resumed run the same run
                save_checkpoint(args, modules, step, last_returns)
                warn_of_cuts(args, step - args.num_envs, last_returns)
                obs = start_episodes(envs, args.seed, step)

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


def start_episodes(envs, seed, step):
    """New episodes; their initial states depend on seed, step and the environment's number."""
    seeds = np.random.SeedSequence([seed, step]).generate_state(WORLD_SIZE * envs.num_envs)
    own_seeds = seeds.reshape(WORLD_SIZE, envs.num_envs)[RANK]
    obs, _ = envs.reset(seed=[int(s) % 2**31 for s in own_seeds])  # which fits int32
    return obs


def warn_of_cuts(args, previous_step, last_returns):
    """One line, where the first checkpoint cuts every episode so far."""
    first = previous_step < args.checkpoint_interval
    if RANK == 0 and first and not last_returns:
        text = "no episode has ended yet: --checkpoint-interval may be too short"
        tqdm.write(f"{text}, each checkpoint cuts all episodes", file=sys.stderr)


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
# The device, the replay's memory, intervals, and numbers that are not finite


def check_bounds(env_id, action_space):
    if not (action_space.high / 2 - action_space.low / 2 <= 0.5e6).all():
        raise UsageError(
            f"{env_id} acts in {action_space}; tanh needs finite bounds, at most 1e6 apart"
        )


def make_replay(capacity, obs_dim, act_dim):
    try:
        return Replay(capacity, obs_dim, act_dim)
    except (MemoryError, ValueError) as error:
        raise UsageError(f"--buffer-size {capacity}: {error}") from error


def has_passed(step, interval, num_new):
    """Whether a multiple of the interval lies in the last num_new steps."""
    return step // interval > (step - num_new) // interval


def mean_losses(losses):
    """Means over updates, of a list of dicts."""
    names = losses[0] if losses else []
    return {name: torch.stack([x[name] for x in losses]).mean() for name in names}


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
    """The policy of a run, on the CPU: policy.act(obs) takes observations (N, obs_dim)."""
    state = load_checkpoint(run_dir)["policy"]
    policy = Policy(int(state["obs_dim"]), state["low"], state["high"])
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
