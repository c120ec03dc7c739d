# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "torch>=2.5", "numpy>=1.26", "gymnasium[mujoco]>=1.1", "mujoco>=3.1.6", "tyro>=0.9.2",
#     "tensorboard>=2.16", "tqdm>=4.66",
# ]
# ///
"""Trust Region Policy Optimization (TRPO) for continuous actions.

    python trpo_continuous.py --env-id Walker2d-v4

Schulman et al. 2015, arXiv:1502.05477v5. Each iteration
  1. collects a batch with the current policy π_old: T steps in each of N environments,
  2. estimates advantages A by GAE, and value targets R = A + V(s),
  3. takes one step of the policy to

         maximize    L = E[r A],  r = π(a|s) / π_old(a|s)
         subject to  E_s[D(π_old(·|s), π(·|s))] ≤ δ                               (Eq. 14)

  4. fits V to R by several epochs of minibatch gradient steps.

The bound on the mean of D stands for one on its maximum over states (Eq. 11). With L linear and D
quadratic in the step, H being the Hessian of E_s[D], the solution of step 3 is √(2δ / xᵀHx) x with
x = H⁻¹∇L. Conjugate gradients find x, a line search corrects the length (Appendix C). D is measured
under the rollout's statistics of observations; updating these, after step 4, moves π once more, at
first by more than δ.

Beyond the paper: a bound of 10 δ at each state, smaller batches, GAE, a critic by Adam, H damped to
H + 0.1 I, which also shortens the step, orthogonal initial weights, normalized observations,
rewards divided by the standard deviation of the discounted return. V(s') is 0 only where an episode
terminated; a time limit is bootstrapped.

To change the networks, see mlp and sample_actions; the distribution, Policy and kl_divergence.
Shapes: T steps of N environments make a batch of B = T * N transitions.
"""

import atexit
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
from torch import distributed, nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

SCRIPT = "trpo_continuous"
MODES = ("deterministic", "sampled")  # of evaluation
# torchrun numbers the processes of a run; without it there is one, number 0
RANK = int(os.environ.get("RANK", 0))
WORLD_SIZE = int(os.environ.get("WORLD_SIZE", 1))


@dataclass
class Args:
    # The run

    env_id: str = "Hopper-v4"  # Gymnasium id with a Box action space; module:Name-v0 imports yours
    env_kwargs: str = "{}"  # keyword arguments of the environment, in JSON: {"name": value}
    seed: int = 1  # random seed of weights, action noise and initial states
    total_timesteps: int = 1_000_000  # environment steps in all, rounded up to whole rollouts
    run_dir: str = ""  # output directory, new if empty; a run that it holds is resumed
    checkpoint_interval: int = 250_000  # environment steps between checkpoints; each cuts episodes
    evaluate: str = ""  # run directory to evaluate instead of training
    eval_episodes: int = 20  # episodes per evaluation and mode
    capture_video: bool = False  # MP4 of the first evaluation episode
    device: str = "auto"  # of the updates: cpu, cuda, mps; auto: cuda if available

    # The algorithm

    num_envs: int = 4  # N, environments, stepped one after the other
    num_steps: int = 512  # T, steps of each environment per rollout
    gamma: float = 0.99  # discount factor; looks about 1 / (1 - gamma) steps ahead
    gae_lambda: float = 0.95  # 0: one-step TD error (biased); 1: sum of rewards (high variance)
    learning_rate: float = 1e-3  # learning rate of the critic's Adam
    update_epochs: int = 20  # of the critic, passes over each batch
    minibatch_size: int = 256  # of the critic, transitions per gradient step
    max_kl: float = 0.01  # δ, bound on the mean of D(π_old, π) in nats; at each state 10 δ
    cg_iterations: int = 10  # steps of the conjugate gradient method, at most
    cg_damping: float = 0.1  # added to the diagonal of H

    def __post_init__(self):
        check_args(self)
        if WORLD_SIZE > 1 and not self.run_dir:
            raise UsageError("torchrun needs --run-dir, a directory that all processes share")
        if self.minibatch_size > self.num_envs * self.num_steps:
            size = f"--minibatch-size {self.minibatch_size}"
            raise UsageError(f"{size} exceeds num_envs * num_steps: lower it")


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


class Critic(nn.Module):
    """V(s), shape (...), in units of the scaled reward, of normalized obs (..., obs_dim)."""

    def __init__(self, obs_dim):
        super().__init__()
        self.value = mlp(obs_dim, 1, gain=1.0)

    def forward(self, normalized_obs):
        return self.value(normalized_obs).squeeze(-1)  # (B, 1) minus (B,) would become (B, B)


# --------------------------------------------------------------------------------------------------
# The algorithm


def compute_gae(rewards, values, next_values, terminated, done, gamma, gae_lambda):
    """Generalized advantage estimation (arXiv:1506.02438v6, Eq. 16); float tensors (T, N).

    δ_t = r_t + γ V(s_{t+1}) - V(s_t),    A_t = δ_t + γλ δ_{t+1} + (γλ)² δ_{t+2} + ...

    V(s_{t+1}) counts as 0 where the episode terminated, but not at a time limit. The sum ends with
    the episode (done: terminated or time limit) or the rollout. λ = 0 gives the one-step advantage
    r + γ V(s') - V(s), λ = 1 the (bootstrapped) return minus V(s).
    """
    deltas = rewards + gamma * next_values * (1 - terminated) - values
    advantages = torch.zeros_like(deltas)
    advantage = 0.0
    for t in reversed(range(len(deltas))):
        advantage = deltas[t] + gamma * gae_lambda * (1 - done[t]) * advantage
        advantages[t] = advantage
    return advantages


def surrogate(log_prob, old_log_prob, advantages):
    """L = E[r A] with r = π(a|s) / π_old(a|s), for states and actions of π_old; tensors (B,).

    L stands for V_π(s0) - V_old(s0), A being the advantage of π_old. At each state, the mean of
    r A over actions of π_old is that of A over actions of π. Summed over the states of π with
    weights γ^n, A = reward + γ V_old(s') - V_old(s) telescopes to that difference (Eq. 1). Taking
    the states of π_old instead keeps the gradient at π_old; the error is of second order. Practice
    and this script also drop the weights γ^n.
    """
    return ((log_prob - old_log_prob).exp() * advantages).mean()


def kl_divergence(old_mu, old_log_std, mu, log_std):
    """D(π_old, π) in nats, for Gaussians: (B,) from means (B, act_dim) and log σ (act_dim).

    D = Σ_i [log(σ_i / σ_old_i) + (σ_old_i² + (μ_old_i - μ_i)²) / (2 σ_i²) - 1/2]
    """
    old_var, var = (2 * old_log_std).exp(), (2 * log_std).exp()
    return (log_std - old_log_std + (old_var + (old_mu - mu) ** 2) / (2 * var) - 0.5).sum(-1)


def flat_gradient(scalar, parameters, **options):
    return nn.utils.parameters_to_vector(torch.autograd.grad(scalar, parameters, **options))


def hessian_vector_product(vector, kl_gradient, parameters, damping):
    """(H + damping I) v, with Hv = ∇(∇D · v); H, the Hessian of D at π_old, is Fisher's matrix."""
    product = flat_gradient(kl_gradient @ vector, parameters, retain_graph=True)
    return world_mean(product) + damping * vector


def conjugate_gradient(matvec, b, iterations, tolerance=1e-5):
    """Solves Ax = b roughly, A positive definite, matvec(v) = Av; returns x and ‖b - Ax‖ / ‖b‖."""
    x = torch.zeros_like(b)
    r, p = b, b
    for _ in range(iterations):
        if r.norm() <= tolerance * b.norm():
            break
        Ap = matvec(p)
        if not p @ Ap > 0:  # A is not positive definite, or something is not a number
            break
        alpha = (r @ r) / (p @ Ap)
        x = x + alpha * p
        next_r = r - alpha * Ap
        beta = (next_r @ next_r) / (r @ r)
        p = next_r + beta * p
        r = next_r
    return x, r.norm() / (b.norm() + 1e-30)


def trust_region_step(policy, obs, actions, advantages, args):
    """The policy's step on tensors (B, ...), obs normalized; returns scalars to log.

    The first of ten lengths, each 0.8 times the one before, that improves L and keeps D to δ in the
    mean and to 10 δ at each state of the batch; if none does, the policy stays as it is, bit for
    bit.
    """
    parameters = list(policy.parameters())
    old_theta = nn.utils.parameters_to_vector(parameters).detach()
    with torch.no_grad():
        old_mu, old_log_std = policy.mu(obs), policy.log_std.clone()
        old_log_prob = policy.log_prob(obs, actions)

    def measure():
        kl = kl_divergence(old_mu, old_log_std, policy.mu(obs), policy.log_std)
        return surrogate(policy.log_prob(obs, actions), old_log_prob, advantages), kl

    old_L, kl = measure()
    g = world_mean(flat_gradient(old_L, parameters))
    kl_gradient = flat_gradient(kl.mean(), parameters, create_graph=True)

    def matvec(v):  # Hv, with H damped here and below
        return hessian_vector_product(v, kl_gradient, parameters, args.cg_damping)

    x, residual = conjugate_gradient(matvec, g, args.cg_iterations)  # x = H⁻¹g
    report = {"gradient_norm": g.norm(), "cg_residual": residual}
    no_step = {"improvement": 0, "expected_improvement": 0, "kl": 0, "kl_max": 0, "backtracks": 10}
    curvature = x @ matvec(x)  # xᵀHx
    if not curvature > 0:
        return report | no_step

    full_step = (2 * args.max_kl / curvature).sqrt() * x
    with torch.no_grad():
        for backtracks in range(10):
            step = 0.8**backtracks * full_step
            nn.utils.vector_to_parameters(old_theta + step, parameters)
            L, kl = measure()
            improvement, mean_kl = world_mean(L - old_L), world_mean(kl.mean())
            # the mean leaves rare states free: one update could undo what the policy learned there
            num_far = world_sum((kl > 10 * args.max_kl).sum())
            if improvement > 0 and mean_kl <= args.max_kl and num_far == 0:
                report |= {"improvement": improvement, "expected_improvement": g @ step}
                return report | {"kl": mean_kl, "kl_max": kl.max(), "backtracks": backtracks}
    nn.utils.vector_to_parameters(old_theta, parameters)
    return report | no_step


def update(policy, critic, optimizer, batch, rng, args):
    """One iteration's steps on a batch of tensors (T, N, ...); returns scalars to log."""
    obs = policy.obs_stats.normalize(batch["obs"])  # (T, N, obs_dim), below always normalized
    next_obs = policy.obs_stats.normalize(batch["next_obs"])
    rewards = batch["rewards"]  # (T, N)
    terminated, done = batch["terminated"], batch["done"]

    with torch.no_grad():
        values = critic(obs)
        next_values = critic(next_obs)
    advantages = compute_gae(
        rewards, values, next_values, terminated, done, args.gamma, args.gae_lambda
    )
    targets = advantages + values

    # the same transitions as one batch of B = T * N
    obs, actions = obs.flatten(0, 1), batch["actions"].flatten(0, 1)
    values, targets = values.flatten(), targets.flatten()
    report = trust_region_step(policy, obs, actions, advantages.flatten(), args)
    losses = []
    for _ in range(args.update_epochs):
        order = torch.from_numpy(rng.permutation(len(obs))).to(obs.device)
        for i in order.split(args.minibatch_size):  # indices of a minibatch
            value_loss = ((critic(obs[i]) - targets[i]) ** 2).mean()
            optimizer.zero_grad()
            value_loss.backward()
            average_gradients(critic.parameters())
            optimizer.step()
            losses.append(value_loss.detach())
    unexplained = (targets - values).var(correction=0) / (targets.var(correction=0) + 1e-8)
    return report | {
        "value_loss": torch.stack(losses).mean(),
        "entropy": policy.entropy().detach(),
        "explained_variance": 1 - unexplained,
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


def collect_rollout(envs, policy, obs, noise):
    """T steps of N environments: a batch of arrays (T, N, ...), the next obs, ended episodes."""
    old_policy = policy.arrays()  # it acts on the CPU, where the environments are
    transitions = []
    episodes = {"episodic_return": [], "episodic_length": []}  # of those that ended
    for step_noise in noise:  # (N, act_dim)
        actions, env_actions = sample_actions(old_policy, obs, step_noise)
        next_obs, rewards, terminated, truncated, info = envs.step(env_actions)
        done = terminated | truncated

        true_next_obs = next_obs.copy()
        if done.any():  # SameStep: there next_obs already belongs to the next episode
            true_next_obs[done] = np.stack(info["final_obs"][done])
            for name, values in episodes.items():
                values += info["final_info"][name][done].tolist()

        transitions.append(
            {
                "obs": obs,
                "actions": actions,  # as sampled, not as clipped
                "rewards": rewards,
                "next_obs": true_next_obs,
                "terminated": terminated,
                "done": done,
            }
        )
        obs = next_obs
    batch = {name: np.stack([t[name] for t in transitions]) for name in transitions[0]}
    return batch, obs, episodes


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

    with closing(make_vector_env(args.env_id, args.num_envs, args.env_kwargs)) as envs:
        obs_dim, action_space = envs.single_observation_space.shape[0], envs.single_action_space
        policy = Policy(obs_dim, action_space.low, action_space.high).to(device)
        critic = Critic(obs_dim).to(device)
        optimizer = torch.optim.Adam(critic.parameters(), args.learning_rate, eps=1e-5, fused=True)
        reward_scaler = RewardScaler(args.num_envs, args.gamma)
        modules = {
            "policy": policy,
            "critic": critic,
            "optimizer": optimizer,
            "reward_scaler": reward_scaler,
        }

        # start, or resume
        init_processes()
        step, last_returns = open_run(args, modules)
        check_same_directory(args, step)
        if step >= args.total_timesteps and print_result(args.run_dir, step):
            return Path(args.run_dir)
        save_checkpoint(args, modules, step, last_returns)
        log = Log(args, step)
        obs = start_episodes(envs, args.seed, step)

        batch_size = args.num_steps * args.num_envs * WORLD_SIZE  # of all processes
        while step < args.total_timesteps:
            # random numbers depend on the seed and the step alone: there is no random state to save
            rng = np.random.default_rng([args.seed, step])
            shape = [args.num_steps, WORLD_SIZE, args.num_envs, policy.log_std.numel()]
            noise = rng.standard_normal(shape, np.float32)[:, RANK]  # (T, N, act_dim)

            # collect a batch with the current policy
            batch, obs, episodes = collect_rollout(envs, policy, obs, noise)
            check_rollout(batch, step, args.num_envs * WORLD_SIZE)
            last_returns = (last_returns + episodes["episodic_return"])[-100:]

            # improve the policy
            batch["rewards"] = reward_scaler(batch["rewards"], batch["done"])
            losses = update(policy, critic, optimizer, to_tensors(batch, device), rng, args)
            policy.obs_stats.update(batch["obs"])  # after update, which normalizes as when acting
            step += batch_size

            check_finite(losses, step)
            for module in (policy, critic, reward_scaler):
                check_finite(module.state_dict(), step)
            charts = episodes | {"learning_rate": args.learning_rate}
            log.write(step, charts, losses, last_returns)

            if step // args.checkpoint_interval > (step - batch_size) // args.checkpoint_interval:
                # environments cannot be saved: new episodes here make a resumed run the same run
                save_checkpoint(args, modules, step, last_returns)
                warn_of_cuts(args, step - batch_size, last_returns)
                obs = start_episodes(envs, args.seed, step)
                reward_scaler.start_episodes()

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
# Scales of actions, observations and rewards


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


class RewardScaler(nn.Module):
    """Divides rewards by the standard deviation of a discounted return.

    This return is g ← γ g + r, from 0 at the start of an episode; it has the size of the returns
    that V predicts. Rewards of any unit are then served by one set of hyperparameters.
    """

    def __init__(self, num_envs, gamma):
        super().__init__()
        self.gamma = gamma
        self.return_stats = RunningStatistics(1)
        self.discounted_return = np.zeros(num_envs)

    def start_episodes(self):
        self.discounted_return[:] = 0

    def forward(self, rewards, done):  # arrays (T, N)
        discounted_returns = np.zeros_like(rewards)
        for t in range(len(rewards)):
            self.discounted_return = self.gamma * self.discounted_return + rewards[t]
            discounted_returns[t] = self.discounted_return
            self.discounted_return[done[t]] = 0
        self.return_stats.update(discounted_returns[..., None])
        return rewards / self.return_stats.std.item()


# --------------------------------------------------------------------------------------------------
# Processes and devices: under torchrun, this script is one run on many cores or machines. Equal
# seeds give all processes the same weights, averages keep them the same; process 0 writes


def world_sum(x):
    """Sum of a tensor over all processes."""
    if WORLD_SIZE > 1:
        x = x.clone()
        distributed.all_reduce(x)
    return x


def world_mean(x):
    return world_sum(x) / WORLD_SIZE


def average_gradients(parameters):
    if WORLD_SIZE > 1:
        gradients = [p.grad for p in parameters]
        mean = world_sum(nn.utils.parameters_to_vector(gradients)) / WORLD_SIZE  # one message
        nn.utils.vector_to_parameters(mean, gradients)


def moments(x):
    """Count, mean and variance of the rows of x, those of all processes."""
    count = world_sum(torch.tensor(len(x), dtype=x.dtype, device=x.device))
    mean = world_sum(x.sum(0)) / count
    var = world_sum(((x - mean) ** 2).sum(0)) / count
    return count, mean, var


def init_processes():
    """Joins the other processes. An optimizer must exist by then, or the process cannot end."""
    if WORLD_SIZE > 1 and not distributed.is_initialized():
        distributed.init_process_group()
        atexit.register(distributed.destroy_process_group)


def check_same_directory(args, step):
    """Before anything is written: all processes must have read the same step."""
    if world_sum(torch.tensor(step)) != WORLD_SIZE * step:
        raise UsageError(f"{args.run_dir} is not the same directory for all processes")


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
