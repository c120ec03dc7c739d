"""Trust region policy optimisation (TRPO), for continuous actions, in one file.

    python trpo_continuous.py --env-id Walker2d-v4    # sampled actions then return about 3,500

Schulman et al. 2015, arXiv:1502.05477v5. The course's aim, and what stands for it on a batch, B = T·N steps of π_old:
    argmax V_π(s0) - V_old(s0)  subject to  max_s D(π_old(·|s) ‖ π(·|s)) ≤ δ
    argmax L = E[r A], r = π_θ(a|s) / π_old(a|s),  subject to  E_s[D(π_old(·|s) ‖ π_θ(·|s))] ≤ δ
For L linear and D quadratic in the step, H its Hessian: √(2δ / xᵀHx) x with x = H⁻¹∇L (Appendix C), one step where
ppo_continuous.py clips r over epochs. A mean leaves rare states free, so none of the batch may move by D > 10 δ. This
holds under the rollout's observation statistics; their update moves the policy too, at first by more than δ. Beyond the
paper: 10 δ, small batches, GAE, a critic, damped H, bootstrapping at time limits, observations and rewards scaled."""

import atexit
import json
import os
import shlex
import sys
import time
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch
import tyro
from torch import distributed, nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

SCRIPT = Path(__file__).stem
RANK, PROCESSES = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))  # torchrun's
COLUMNS = ("obs", "actions", "rewards", "next_obs", "terminated", "done", "sums")  # of a batch


@dataclass
class Args:
    # The run
    env_id: str = "Hopper-v4"  # any Gymnasium id with a Box action space; module:Name-v0 imports your own
    seed: int = 1  # of the weights, the noise and the start states
    total_timesteps: int = 1_000_000  # of all environments together, rounded up to whole rollouts
    run_dir: str = ""  # folder of the run; where it holds one, that run goes on; empty: a new one under runs/
    checkpoint_interval: int = 6_000  # steps of one environment between checkpoints; each starts new episodes
    evaluate: str = ""  # folder of a run to play instead of training; its arguments are taken from there
    eval_episodes: int = 20  # episodes of each evaluation: by the mean action, and by sampled actions
    capture_video: bool = False  # MP4 of an evaluation's first episode, in the run's videos/
    # The machine
    device: str = "auto"  # of the updates: cpu, cuda, cuda:1, mps; auto: cuda where there is one, else cpu
    processes: int = field(default=PROCESSES, init=False)
    # The algorithm
    num_envs: int = 16  # N, environments that are stepped in turn
    num_steps: int = 64  # T, steps of each environment per rollout
    gamma: float = 0.99  # discount; looks about 1 / (1 - gamma) steps ahead
    gae_lambda: float = 0.95  # 0: one-step TD error (biased); 1: Monte Carlo return minus V (noisy)
    learning_rate: float = 1e-3  # of the critic's Adam, falls linearly to 0
    update_epochs: int = 10  # of the critic, passes over each batch
    minibatch_size: int = 128  # of the critic, transitions per gradient step
    max_kl: float = 0.01  # δ, bound on the mean over states of D(π_old ‖ π), nats; on each state's 10 δ
    cg_iterations: int = 10  # conjugate gradient steps towards H⁻¹g, at most
    cg_damping: float = 0.1  # added to the diagonal of H

    def __post_init__(self):
        for name, value in asdict(self).items():
            low, high = (0, 1) if name in ("gamma", "gae_lambda") else (0 if name == "seed" else 1e-12, 2**63 - 1)
            if type(value) in (int, float) and not low <= value <= high:
                raise UsageError(f"--{name.replace('_', '-')} {value} is out of range")
        if PROCESSES > 1 and not self.run_dir:
            raise UsageError("--run-dir is needed under torchrun: from there a restart goes on")
        if self.minibatch_size > self.num_envs * self.num_steps:
            raise UsageError(f"--minibatch-size {self.minibatch_size} exceeds num_envs * num_steps: lower it")


class UsageError(Exception):
    """Bad input: one line and exit status 2."""


def make_env(env_id, video_dir=None):
    """An environment with flat observations; with video_dir, its first episode becomes an MP4 there."""
    gym.logger.min_level = gym.logger.ERROR  # no word about the age of -v4, which the published scores are for
    problems = Exception if video_dir else (gym.error.Error, ImportError, NotImplementedError)  # GL raises anything
    try:
        env = gym.make(env_id, disable_env_checker=True, **({"render_mode": "rgb_array"} if video_dir else {}))
        env = gym.wrappers.FlattenObservation(env)  # also copies: some environments return their own buffer
        if video_dir:
            os.environ.setdefault("MUJOCO_GL", "glfw" if sys.platform != "linux" or "DISPLAY" in os.environ else "egl")
            if renderer := getattr(env.unwrapped, "mujoco_renderer", None):  # the first camera follows the agent
                renderer.camera_id = max(renderer.camera_id, min(renderer.model.ncam, 1) - 1)  # -1: one that stays
            env.reset()
            env.render()  # what is missing shows now, not after the training
            env = gym.wrappers.RecordVideo(env, video_dir, lambda episode: episode == 0)
    except problems as error:
        raise UsageError(f"cannot make {env_id}{', or film it (README, Video)' * bool(video_dir)}: {error}") from error
    if not isinstance(env.action_space, gym.spaces.Box) or not isinstance(env.observation_space, gym.spaces.Box):
        raise UsageError(f"{env_id}: a Box is needed, not {env.action_space} and (flat) {env.observation_space}")
    return env


def mlp(n_in, n_out, gain):  # two hidden layers of 64 tanh units; orthogonal weights, the last layer's times gain
    net = nn.Sequential(nn.Linear(n_in, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, n_out))
    for layer, scale in zip(net[::2], (2**0.5, 2**0.5, gain)):
        nn.init.orthogonal_(layer.weight, scale)
        nn.init.zeros_(layer.bias)
    return net


def average(*tensors):
    """Sets each tensor to its mean over all processes, in one message; where there is one process, does nothing."""
    if distributed.is_initialized():
        vector = nn.utils.parameters_to_vector(tensors).detach() / PROCESSES
        distributed.all_reduce(vector)
        nn.utils.vector_to_parameters(vector, tensors)
    return tensors


def merge_statistics(statistics, x):
    """Count, mean, variance, σ (4, dim) of a stream after x (..., dim) of each process: in float64, kept in float32."""
    count, mean, var, _ = statistics.cpu().double()
    x = torch.as_tensor(x, dtype=torch.float64, device="cpu").flatten(0, -2)
    n, sums = average(torch.tensor(len(x), dtype=torch.float64), x.sum(0))
    (squares,) = average(((x - sums / n) ** 2).sum(0))
    share, delta = PROCESSES * n / (count + PROCESSES * n), sums / n - mean
    var = (1 - share) * var + share * squares / n + share * (1 - share) * delta**2  # within both parts, between them
    merged = torch.stack([count + PROCESSES * n, mean + share * delta, var]).float()
    return torch.cat([merged, (merged[2:] + 1e-8).sqrt()])


def normalize(obs, statistics):  # both arrays, or both tensors
    return ((obs - statistics[1]) / statistics[3]).clip(-10, 10)


class Policy(nn.Module):
    """π(a|s) = N(μ(s), diag(σ²)) with one σ for all states; a in units where ±1 are the bounds of the action space."""

    def __init__(self, obs_dim, low, high):
        super().__init__()
        a, b = (torch.asarray(x, dtype=torch.float32) for x in (low, high))  # bounds of 64 bits are rounded inwards
        low, high = a.where(a >= torch.asarray(low), a.nextafter(b)), b.where(b <= torch.asarray(high), b.nextafter(a))
        mid, half = (low / 2 + high / 2).nan_to_num(0, 0, 0), (high / 2 - low / 2).nan_to_num(0, 1)  # unbounded: 0, 1
        self.bounds = nn.Buffer(torch.stack([low, high, mid, half]))  # (4, *action_shape)
        self.statistics = nn.Buffer(torch.tensor([[0.0], [0], [1], [1]]).repeat(1, obs_dim))  # of raw observations
        self.mean = mlp(obs_dim, low.numel(), gain=0.01)  # at first the middle of the bounds, whatever the observation
        self.log_std = nn.Parameter(torch.full((low.numel(),), -0.5))

    def log_prob(self, obs, actions):
        """log π(a|s) summed over action dimensions, (B,), for normalised obs (B, obs_dim) and actions (B, act_dim)."""
        squares = ((actions - self.mean(obs)) / self.log_std.exp()) ** 2
        return (-0.5 * squares - self.log_std - 0.5 * np.log(2 * np.pi)).sum(-1)

    def sample(self, obs, noise):  # (N, act_dim) for raw observations (N, obs_dim), standard normal noise (N, act_dim)
        x = torch.tensor(normalize(np.asarray(obs, np.float32), self.statistics.numpy()))
        for layer in self.mean:
            x = layer.forward(x)  # self.mean(x); on a few rows, calling modules costs more than what they do
        return x.numpy(force=True) + self.log_std.exp().numpy(force=True) * np.asarray(noise, np.float32)

    def to_bounds(self, actions):  # (N, act_dim) to (N, *action_shape)
        low, high, mid, half = self.bounds.numpy()
        return (mid + half * actions.reshape(-1, *mid.shape)).clip(low, high)

    def act(self, obs, noise=0):
        """Actions (N, *action_shape) in the bounds for raw obs (N, obs_dim); noise: standard normal (N, act_dim)."""
        return self.to_bounds(self.sample(obs, noise))


def compute_gae(rewards, values, next_values, terminated, done, gamma, gae_lambda):
    """Generalised advantage estimation (Schulman et al. 2016, arXiv:1506.02438v6, Eq. 16); every tensor is (T, N).
    δ_t = r_t + γ V(s_{t+1}) - V(s_t),  A_t = Σ_l (γλ)^l δ_{t+l}, cut at the end of an episode or rollout.
    λ = 0 gives the one-step advantage r + γ V(s') - V(s), λ = 1 the (bootstrapped) return minus V(s)."""
    deltas = rewards + gamma * next_values * terminated.logical_not() - values  # a time limit bootstraps, a death not
    decays = gamma * gae_lambda * done.logical_not().to(deltas.dtype)
    advantages, advantage = torch.empty_like(deltas), 0
    for t in reversed(range(len(deltas))):
        advantages[t] = advantage = deltas[t] + decays[t] * advantage
    return advantages


def kl_divergence(mean_old, log_std_old, mean, log_std):
    """D(π_old ‖ π) = Σ_a π_old log(π_old / π) at each state, (B,), for means (B, act_dim) and log σ (act_dim,)."""
    squares = ((2 * log_std_old).exp() + (mean - mean_old) ** 2) / (2 * log_std).exp()
    return (log_std - log_std_old + 0.5 * squares - 0.5).sum(-1)


def surrogate(log_prob, log_prob_old, advantages):
    """L = E[r A] with r = π(a|s) / π_old(a|s), over states and actions of π_old; every tensor is (B,).
    Σ_a π_old r A = Σ_a π A, and over states of π, weighed by γ^n, E_π[Σ_n γ^n A] telescopes to V_π(s0) - V_old(s0).
    States of π_old keep its gradient at θ_old, at an error of second order; practice also drops the weights γ^n."""
    return ((log_prob - log_prob_old).exp() * advantages).mean()


def fisher_vector_product(vector, kl_gradient, parameters, damping):
    """(H + damping · 1) v, with H the Hessian of the mean KL: the gradient of ∇KL · v, a second backward pass."""
    columns = torch.autograd.grad(kl_gradient @ vector, parameters, retain_graph=True)
    return average(nn.utils.parameters_to_vector(columns))[0] + damping * vector


def conjugate_gradient(matvec, b, iterations, tolerance=1e-5):
    """Solves matvec(x) = b for a symmetric positive definite map; returns x and ‖b - matvec(x)‖ / ‖b‖ by recursion."""
    x, residual, direction = torch.zeros_like(b), b, b
    for _ in range(iterations):
        product, square = matvec(direction), residual @ residual
        if square.sqrt() <= tolerance * b.norm() or not direction @ product > 0:  # solved, or not positive, or NaN
            break
        length = square / (direction @ product)
        x, residual = x + length * direction, residual - length * product
        direction = residual + residual @ residual / square * direction
    return x, residual.norm() / (b.norm() + 1e-30)


def trust_region_step(policy, obs, actions, advantages, args):
    """argmax_θ L subject to E_s[D(π_old ‖ π)] ≤ δ, for tensors (B, ...); returns scalars. The step is shortened until
    on the batch L improves, D ≤ δ in the mean and ≤ 10 δ at each state; else the parameters stay, bit for bit."""
    parameters, flatten, old = list(policy.parameters()), nn.utils.parameters_to_vector, deepcopy(policy)

    def measure():
        kl = kl_divergence(old.mean(obs).detach(), old.log_std.detach(), policy.mean(obs), policy.log_std)
        L = surrogate(policy.log_prob(obs, actions), old.log_prob(obs, actions).detach(), advantages)
        return average(L, kl.mean(), (kl > 10 * args.max_kl).float().mean())  # the last: share of states too far away

    L_old, kl, _ = measure()
    (g,) = average(flatten(torch.autograd.grad(L_old, parameters)))
    fisher = flatten(torch.autograd.grad(kl, parameters, create_graph=True)), parameters, args.cg_damping  # H, damped
    x, residual = conjugate_gradient(lambda v: fisher_vector_product(v, *fisher), g, args.cg_iterations)
    curvature = x @ fisher_vector_product(x, *fisher)  # xᵀHx
    step = (2 * args.max_kl / curvature).sqrt() * x if curvature > 0 else torch.zeros_like(x)
    with torch.no_grad():
        for backtracks in range(10):  # each length 0.8 times the one before
            nn.utils.vector_to_parameters(flatten(old.parameters()) + 0.8**backtracks * step, parameters)
            L, kl, far = measure()
            if L > L_old and kl <= args.max_kl and far == 0:
                break
        else:
            policy.load_state_dict(old.state_dict())
            L, backtracks = L_old, 10
    scalars = dict(improvement=L - L_old, expected_improvement=g @ step, gradient_norm=g.norm(), cg_residual=residual)
    return {name: x.item() for name, x in scalars.items()} | {"backtracks": backtracks}


def update(policy, critic, optimizer, batch, rng, args):
    """The policy's step in its trust region, the critic's epochs, for tensors (T, N, ...); returns losses of (1,)."""
    obs, next_obs = (normalize(batch[x], policy.statistics).flatten(0, 1) for x in ("obs", "next_obs"))  # (B, obs_dim)
    actions, rewards, ends = batch["actions"].flatten(0, 1), batch["rewards"], (batch["terminated"], batch["done"])
    with torch.no_grad():
        values, next_values = critic(obs).view_as(rewards), critic(next_obs).view_as(rewards)  # (T, N)
    advantages = compute_gae(rewards, values, next_values, *ends, args.gamma, args.gae_lambda)
    scalars = trust_region_step(policy, obs, actions, advantages.flatten(), args)
    for _ in range(args.update_epochs):
        order = torch.from_numpy(rng.permutation(len(obs))).to(obs.device)
        for s, R in zip(*(x[order].split(args.minibatch_size) for x in (obs, (advantages + values).flatten()))):
            value_loss = ((critic(s) - R) ** 2).mean()
            optimizer.zero_grad()
            value_loss.backward()
            average(*[p.grad for p in critic.parameters()])
            optimizer.step()
    return {name: [x] for name, x in dict(scalars, value_loss=value_loss.item()).items()}


def load_checkpoint(run_dir):
    """The checkpoint of a run of this script; UsageError where none can be read."""
    try:
        return torch.load(Path(run_dir, "checkpoint.pt"), map_location="cpu", weights_only=True, mmap=True)[SCRIPT]
    except Exception as error:  # torch.load has no common type for files that are missing, damaged or foreign
        raise UsageError(f"{run_dir} holds no readable run of {SCRIPT}.py: {error!r}".split("\\n")[0]) from error


def load_policy(run_dir):
    """The policy of a run, on the CPU; UsageError where there is none."""
    state = load_checkpoint(run_dir)["policy"]
    policy = Policy(state["mean.0.weight"].shape[1], *state["bounds"][:2])
    policy.load_state_dict(state)
    return policy


def save_checkpoint(args, modules, **values):
    half = Path(args.run_dir, "checkpoint.tmp")  # a crash at any moment leaves a whole checkpoint, the old or the new
    try:
        torch.save({SCRIPT: {"args": asdict(args), **values} | {k: x.state_dict() for k, x in modules.items()}}, half)
        half.replace(Path(args.run_dir, "checkpoint.pt"))
    finally:
        half.unlink(missing_ok=True)


def open_run(args, modules):
    """Makes args.run_dir or loads the run that it holds; UsageError, nothing changed, for other files or arguments."""
    name = f"{args.env_id}__{SCRIPT}__{args.seed}__{time.strftime('%Y%m%d-%H%M%S')}-{time.time_ns() % 10**9:09}"
    args.run_dir = str(args.run_dir) or "runs/" + name.replace("/", "_").replace(":", "_")
    folder, checkpoint = Path(args.run_dir), {"step": 0, "recent": []}
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "checkpoint.pt").exists():
        checkpoint = load_checkpoint(folder)
        free = {"run_dir", "evaluate", "eval_episodes", "capture_video", "device"}  # they change no number of a run
        for key in sorted(asdict(args).keys() - free):
            old, new = checkpoint["args"].get(key), getattr(args, key)
            if new != old and not (key == "total_timesteps" and new > old):
                raise UsageError(f"{folder} was started with {key} {old}, not {new}")
        for name, module in modules.items():
            module.load_state_dict(checkpoint[name])
    elif odd := {x.name.split(".")[0] for x in folder.iterdir()} - {"args", "checkpoint", "events", "result", "videos"}:
        raise UsageError(f"{folder} holds other things, such as {min(odd)}: choose another folder")
    return checkpoint["step"], checkpoint["recent"]


def check_finite(step, stride, columns):
    """FloatingPointError at the first row, in time order, that is not finite; row i is of step + (i + 1) · stride."""
    bad = np.stack([~np.isfinite(x).reshape(len(x), -1).all(1) for x in columns.values()], 1)  # (rows, columns)
    for i, column in np.argwhere(bad)[:1]:
        raise FloatingPointError(f"{list(columns)[column]} is not finite at step {step + (i + 1) * stride}")


def evaluate(run_dir, episodes=20, capture_video=False, ways=("deterministic", "sampled")):
    """Plays a run from fixed start seeds, by mean, then by sampled actions: {way: {"mean", "std", "returns"}}."""
    policy, env_id, results = load_policy(run_dir), load_checkpoint(run_dir)["args"]["env_id"], {}
    for way in ways:
        video_dir = f"{run_dir}/videos" if capture_video and way == "deterministic" else None
        makers = [lambda: make_env(env_id, video_dir)] + [lambda: make_env(env_id)] * (episodes - 1)
        envs, rng = gym.vector.SyncVectorEnv(makers, autoreset_mode="SameStep"), np.random.default_rng(0)
        obs, _ = envs.reset(seed=[10**6 + episode for episode in range(episodes)])
        returns, going, steps = np.zeros(episodes), np.ones(episodes, bool), 0
        while going.any() and steps < 10_000:
            noise = rng.standard_normal((episodes, policy.bounds[0].numel()), np.float32) * (way == "sampled")
            obs, rewards, terminated, truncated, _ = envs.step(policy.act(obs, noise))
            returns, going, steps = returns + rewards * going, going & ~(terminated | truncated), steps + 1
        envs.close()
        results[way] = {"mean": float(returns.mean()), "std": float(returns.std()), "returns": returns.tolist()}
        print(f"{way}: {returns.mean():.1f} ± {returns.std():.1f}", f"{sum(going)} cut at 10,000 steps" * any(going))
    return results


def train(args):
    """Trains or goes on, evaluates, returns the run's folder; UsageError for bad input, FloatingPointError for NaN."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 1)))  # networks this small lose time on more
    torch.manual_seed(args.seed)
    T, n, N = args.num_steps, args.num_envs, args.num_envs * PROCESSES  # n of the N environments are this process's
    B, own = T * N, np.arange(RANK * n, RANK * n + n)
    envs = gym.vector.SyncVectorEnv([lambda: make_env(args.env_id)] * n, autoreset_mode="SameStep")
    sizes = envs.single_observation_space.shape[0], envs.single_action_space.low, envs.single_action_space.high
    try:
        gpu = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
        device = torch.device(("cpu", gpu)[torch.cuda.is_available()] if args.device == "auto" else args.device)
        actor, policy = Policy(*sizes).requires_grad_(False), Policy(*sizes).to(device)  # a GPU is too far away to act
        critic = nn.Sequential(mlp(sizes[0], 1, gain=1.0), nn.Flatten(0)).to(device)  # values are (B,), never (B, 1)
        critic.statistics = nn.Buffer(torch.tensor([[0.0], [0], [1], [1]], device=device))  # of returns: σ is V's unit
        optimizer = torch.optim.Adam(critic.parameters(), eps=1e-5, fused=True)
        modules = {"policy": policy, "critic": critic, "optimizer": optimizer}
        if PROCESSES > 1 and not distributed.is_initialized():  # after torch.optim's imports, which keep a group alive
            store = next(distributed.rendezvous("env://"))[0]  # torchrun's over restarts, dead addresses included
            count = os.environ.get("TORCHELASTIC_RESTART_COUNT", "") * (os.environ.get("GROUP_WORLD_SIZE") == "1")
            distributed.init_process_group(store=distributed.PrefixStore(count, store), rank=RANK, world_size=PROCESSES)
            atexit.register(distributed.destroy_process_group)  # or its threads may abort the process at its end
        step, recent = open_run(args, modules)
        if average(torch.tensor(step, dtype=torch.float64))[0] != step:
            raise UsageError(f"{args.run_dir} is not the same folder for all processes: take one that they share")
    except (OSError, RuntimeError, AssertionError) as error:
        raise UsageError(str(error).split("\n")[0]) from error
    make_env(args.env_id, f"{args.run_dir}/videos" if args.capture_video else None).close()  # can it be filmed?
    first, result_file = step, Path(args.run_dir, "result.json")
    if step >= args.total_timesteps and result_file.exists() and f'"steps": {step}}}' in result_file.read_text():
        print(result_file.read_text())
        return Path(args.run_dir)
    if RANK == 0:  # which alone writes
        print(f"{SCRIPT} on {args.env_id}, seed {args.seed}, {device}: {args.run_dir}")
        versions = {x: version(x) for x in ("torch", "numpy", "gymnasium", "mujoco") if x in sys.modules}
        run = json.dumps({"script": SCRIPT, **asdict(args), "versions": versions}, indent=4)
        Path(args.run_dir, "args.json").write_text(run)
        writer, start, sps = SummaryWriter(args.run_dir, purge_step=step + 1), time.time(), None
        writer.add_text("hyperparameters", run, step + 1)  # purged like what follows
        progress = tqdm(initial=step, total=args.total_timesteps, unit=" steps", unit_scale=True, disable=None)
        save_checkpoint(args, modules, step=step, recent=recent)
    while step < args.total_timesteps:
        if step == first or step % (args.checkpoint_interval * N) < B:  # start anew, so that going on is exact
            seeds = [np.random.SeedSequence([args.seed, step, i]).generate_state(1)[0] for i in own]
            obs, sums, anew = envs.reset(seed=[int(seed) for seed in seeds])[0], np.zeros((n, 3)), step
        elif (one := own == (step - anew) // B).any():  # one a rollout, lest all reach their time limits together
            obs, sums = envs.reset(options={"reset_mask": one})[0], sums * ~one[:, None]
        rows, rng = [], np.random.default_rng([args.seed, step // B])  # a function of the place: nothing to save
        noise = rng.standard_normal((T, N, actor.log_std.numel()), np.float32)[:, own]
        actor.cpu().load_state_dict(policy.state_dict())
        for t in range(T):
            actions = actor.sample(obs, noise[t])
            next_obs, rewards, terminated, truncated, info = envs.step(actor.to_bounds(actions))
            successors, done = next_obs.copy(), terminated | truncated
            if done.any():  # there next_obs is the first observation of a new episode
                successors[done] = np.stack(info["final_obs"][done])
            sums = sums * [args.gamma, 1, 1] + np.stack([rewards, rewards, np.ones(n)], -1)  # discounted, raw, length
            rows.append((obs, actions, rewards, successors, terminated, done, sums))
            obs, sums = next_obs, sums * ~done[:, None]
        batch = dict(zip(COLUMNS, map(np.stack, zip(*rows))))  # (T, N, ...)
        check_finite(step, N, batch)
        critic.statistics.copy_(merge_statistics(critic.statistics, batch["sums"][..., :1]))
        tensors = {name: torch.as_tensor(x.astype(np.float32), device=device) for name, x in batch.items()}
        tensors["rewards"] /= critic.statistics[3]
        lr = optimizer.param_groups[0]["lr"] = args.learning_rate * (1 - step / args.total_timesteps)
        losses = update(policy, critic, optimizer, tensors, rng, args)
        policy.statistics.copy_(merge_statistics(policy.statistics, batch["obs"]))  # only now: π_old is what has acted
        step += B
        check_finite(step, 0, losses)
        if RANK > 0:
            continue
        with torch.no_grad():  # how far the update went; the actor is π_old still
            s, a = normalize(tensors["obs"], actor.to(device).statistics), tensors["actions"]
            kl = kl_divergence(actor.mean(s), actor.log_std, policy.mean(s), policy.log_std).cpu().numpy()
            ratio_q01, ratio_q99 = np.quantile((policy.log_prob(s, a) - actor.log_prob(s, a)).exp().cpu(), (0.01, 0.99))
        losses |= dict(kl=kl, kl_max=kl.max(), ratio_q01=ratio_q01, ratio_q99=ratio_q99)
        sps = (step - first) / (time.time() - start)
        _, returns, lengths = batch["sums"][batch["done"]].T  # of the episodes that have ended
        recent = (recent + returns.tolist())[-100:]
        episodes = dict(episodic_return=returns.mean(), episodic_length=lengths.mean()) if len(returns) else {}
        for name, value in {"SPS": sps, "learning_rate": lr, **episodes, **losses}.items():
            writer.add_scalar(f"{'losses' if name in losses else 'charts'}/{name}", np.mean(value), step)
        writer.flush()
        progress.set_postfix_str(f"return {np.mean(recent or np.nan):.1f}")
        progress.update(B)
        if progress.disable and step % 50_000 < B:  # no terminal
            print(f"{step:,} steps, {sps:,.0f} steps/s, return {np.mean(recent or np.nan):.1f}")
        if step % (args.checkpoint_interval * N) < B or step >= args.total_timesteps:
            save_checkpoint(args, modules, step=step, recent=recent)
    if RANK > 0:
        return Path(args.run_dir)
    result = evaluate(args.run_dir, args.eval_episodes, args.capture_video)
    for way in result:
        writer.add_scalar(f"charts/{way}_return", result[way]["mean"], step)
    writer.close()
    result |= {"training_return": float(np.mean(recent)) if recent else None, "steps_per_second": sps, "steps": step}
    result_file.write_text(json.dumps(result))  # the steps come last: where they stand, the file is whole
    return Path(args.run_dir)


if __name__ == "__main__":
    try:
        args = tyro.cli(Args, description=__doc__)
        evaluate(args.evaluate, args.eval_episodes, args.capture_video) if args.evaluate else train(args)
    except (UsageError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, UsageError) else 1)
    except KeyboardInterrupt:
        print(f"\nstopped; to go on: python {shlex.join(sys.argv + ['--run-dir', args.run_dir] * bool(args.run_dir))}")
        sys.exit(130)
