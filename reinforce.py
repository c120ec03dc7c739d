"""REINFORCE: the policy gradient from whole episodes, for continuous actions, in one file.

    python reinforce.py --env-id Hopper-v4    # sampled actions then return about 800

Williams 1992, Machine Learning 8, with returns to go G_n = Σ_k γ^k r_{n+k}, n the step within the episode:
    θ ← θ + α γ^n G_n ∇log π_θ(a_n|s_n)    climbs the discounted return of the start state.
Practice drops γ^n, which all but ignores states after 1 / (1 - γ) steps; so does this script (--discounted-gradient
restores it): all visited states count alike, the gradient of no objective in general (Nota, Thomas, arXiv:1906.07073).
A batch is B steps, whole episodes of one environment, up to the first that ends at or after --num-steps steps; without
a critic a return ends at a time limit too. The baseline is the mean of G over the batch. Beyond the paper: G is divided
by its standard deviation, observations are normalised, and the step size, Adam's, falls linearly to 0."""

import atexit
import json
import os
import shlex
import sys
import time
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


@dataclass
class Args:
    # The run
    env_id: str = "Hopper-v4"  # any Gymnasium id with a Box action space; module:Name-v0 imports your own
    seed: int = 1  # of the weights, the noise and the start states
    total_timesteps: int = 1_000_000  # rounded up to whole batches
    run_dir: str = ""  # folder of the run; where it holds one, that run goes on; empty: a new one under runs/
    checkpoint_interval: int = 6_000  # steps between checkpoints, which fall between batches
    evaluate: str = ""  # folder of a run to play instead of training; its arguments are taken from there
    eval_episodes: int = 20  # episodes of each evaluation: by the mean action, and by sampled actions
    capture_video: bool = False  # MP4 of an evaluation's first episode, in the run's videos/
    # The machine
    device: str = "auto"  # of the updates: cpu, cuda, cuda:1, mps; auto: cuda where there is one, else cpu
    processes: int = field(default=PROCESSES, init=False)
    # The algorithm
    num_steps: int = 1_000  # a batch ends with the first episode that ends at or after so many
    gamma: float = 0.99  # discount; looks about 1 / (1 - gamma) steps ahead
    learning_rate: float = 3e-3  # Adam's, falls linearly to 0
    discounted_gradient: bool = False  # weigh step n of an episode by γ^n, as in the textbook

    def __post_init__(self):
        for name, value in asdict(self).items():
            low, high = (0, 1) if name == "gamma" else (0 if name == "seed" else 1e-12, 2**63 - 1)
            if type(value) in (int, float) and not low <= value <= high:
                raise UsageError(f"--{name.replace('_', '-')} {value} is out of range")
        if PROCESSES > 1 and not self.run_dir:
            raise UsageError("--run-dir is needed under torchrun: from there a restart goes on")


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


def gradient_step(loss, optimizer, max_grad_norm):
    """A step down a loss by its gradient, averaged over processes, shortened to the norm; returns the norm it had."""
    optimizer.zero_grad()
    loss.backward()
    parameters = optimizer.param_groups[0]["params"]
    average(*[p.grad for p in parameters])
    norm = nn.utils.clip_grad_norm_(parameters, max_grad_norm)
    optimizer.step()
    return norm


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


def returns_to_go(rewards, done, gamma):
    """G_n = Σ_k γ^k r_{n+k} up to the end of the episode; every tensor is (B,), episodes one after the other."""
    returns, G = [], 0.0
    for reward, last in zip(reversed(rewards.tolist()), reversed(done.tolist())):  # floats: faster than tensors of one
        G = reward + gamma * G * (not last)
        returns.append(G)
    return torch.tensor(returns[::-1], device=rewards.device)


def update(policy, optimizer, batch, args):
    """One step up E[(γ^n) (G - mean G) / σ_G · log π(a|s)], for tensors (B, ...); returns losses of (1,)."""
    returns = returns_to_go(batch["rewards"], batch["done"], args.gamma)  # (B,)
    count, mean, _, std = merge_statistics(torch.zeros(4, 1), returns[:, None]).to(returns.device)
    whitened = (returns - mean) / std
    discounts = args.gamma ** batch["n"] if args.discounted_gradient else 1
    log_prob = policy.log_prob(normalize(batch["obs"], policy.statistics), batch["actions"])
    policy_loss = -(discounts * whitened * log_prob).sum() * PROCESSES / count
    gradient_norm = gradient_step(policy_loss, optimizer, float("inf"))  # measured, not shortened
    return dict(policy_loss=[policy_loss.item()], gradient_norm=[gradient_norm.item()])


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
    envs, B = gym.vector.SyncVectorEnv([lambda: make_env(args.env_id)], autoreset_mode="SameStep"), 0
    sizes = envs.single_observation_space.shape[0], envs.single_action_space.low, envs.single_action_space.high
    try:
        gpu = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
        device = torch.device(("cpu", gpu)[torch.cuda.is_available()] if args.device == "auto" else args.device)
        actor, policy = Policy(*sizes).requires_grad_(False), Policy(*sizes).to(device)  # a GPU is too far away to act
        optimizer = torch.optim.Adam(policy.parameters(), eps=1e-5, fused=True)
        modules = {"policy": policy, "optimizer": optimizer}
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
        if step == first or step % args.checkpoint_interval < B:  # start anew, so that going on is exact
            obs, _ = envs.reset(seed=int(np.random.SeedSequence([args.seed, step, RANK]).generate_state(1)[0]))
        rows, n, rng = [], 0, np.random.default_rng([args.seed, step, RANK])  # a function of the place: nothing to save
        actor.load_state_dict(policy.state_dict())
        while len(rows) < args.num_steps or n > 0:  # whole episodes; n is the step within one
            actions = actor.sample(obs, rng.standard_normal((1, actor.log_std.numel()), np.float32))
            next_obs, rewards, terminated, truncated, _ = envs.step(actor.to_bounds(actions))
            rows.append((obs, actions, rewards, terminated | truncated, [n]))
            obs, n = next_obs, 0 if terminated | truncated else n + 1
            if n == 100_000:
                raise UsageError(f"{args.env_id}: no episode ends within 100,000 steps, REINFORCE needs whole ones")
        batch = dict(zip(("obs", "actions", "rewards", "done", "n"), map(np.concatenate, zip(*rows))))  # (B, ...)
        check_finite(step, 1, batch)
        tensors = {name: torch.as_tensor(x.astype(np.float32), device=device) for name, x in batch.items()}
        lr = optimizer.param_groups[0]["lr"] = args.learning_rate * (1 - step / args.total_timesteps)
        losses = update(policy, optimizer, tensors, args)
        policy.statistics.copy_(merge_statistics(policy.statistics, batch["obs"]))  # only now: π_old is what has acted
        B = int(PROCESSES * average(torch.tensor(len(rows), dtype=torch.float64))[0])
        step += B
        check_finite(step, 0, losses)
        if RANK > 0:
            continue
        sps = (step - first) / (time.time() - start)
        returns = np.add.reduceat(batch["rewards"], np.flatnonzero(batch["n"] == 0))
        lengths = batch["n"][batch["done"]] + 1
        recent = (recent + returns.tolist())[-100:]
        episodes = dict(episodic_return=returns.mean(), episodic_length=lengths.mean())
        for name, value in {"SPS": sps, "learning_rate": lr, **episodes, **losses}.items():
            writer.add_scalar(f"{'losses' if name in losses else 'charts'}/{name}", np.mean(value), step)
        writer.flush()
        progress.set_postfix_str(f"return {np.mean(recent or np.nan):.1f}")
        progress.update(B)
        if progress.disable and step % 50_000 < B:  # no terminal
            print(f"{step:,} steps, {sps:,.0f} steps/s, return {np.mean(recent or np.nan):.1f}")
        if step % args.checkpoint_interval < B or step >= args.total_timesteps:
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
