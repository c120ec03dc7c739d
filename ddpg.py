"""Deep deterministic policy gradient (DDPG) for continuous actions, in one file.

    python ddpg.py --env-id HalfCheetah-v4    # an hour on one core

Silver et al. 2014; Lillicrap et al. 2016, arXiv:1509.02971v6. Each step, on a minibatch of the replay:
    w ← w - α ∇E[(Q(s, a) - y)²],  y = r + γ Q'(s', μ'(s')), y = r after a death (μ' stands for a maximum over a')
    θ ← θ + α E[∇_θ μ(s) ∇_a Q(s, a) at a = μ(s)]
then Q', μ' ← τ (Q, μ) + (1 - τ) (Q', μ'). The fork: no density, no ratio, transitions of any policy, used many times.
Unlike the paper: θ's step takes the Q before w's, draws tanh's argument back to ±3; uniform actions, then white noise;
no batch norm or decay, a in Q's first layer, PyTorch's weights, α = 3e-4, 256 units, τ 0.005; time limits bootstrap."""

import copy
import json
import os
import shlex
import sys
import time
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch
import tyro
from torch import nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

SCRIPT = Path(__file__).stem
WAYS = ["deterministic"]  # of acting, in an evaluation


@dataclass
class Args:
    # The run
    env_id: str = "Hopper-v4"  # any Gymnasium id with a bounded Box action space; module:Name-v0 imports your own
    seed: int = 1  # of the weights, the noise, the minibatches and the start states
    total_timesteps: int = 1_000_000  # of all environments together, rounded up to whole steps of each
    run_dir: str = ""  # folder of the run; where it holds one, that run goes on; empty: a new one under runs/
    checkpoint_interval: int = 100_000  # steps of one environment between checkpoints; each starts new episodes
    evaluate: str = ""  # folder of a run to play instead of training; its arguments are taken from there
    eval_episodes: int = 20  # episodes of the evaluation, without noise
    capture_video: bool = False  # MP4 of an evaluation's first episode, in the run's videos/
    # The machine
    device: str = "auto"  # of the networks: cpu, cuda, cuda:1, mps; auto: cuda where there is one, else cpu
    # The algorithm
    num_envs: int = 1  # N, environments that are stepped in turn; each step of each brings one update
    gamma: float = 0.99  # discount; looks about 1 / (1 - gamma) steps ahead
    learning_rate: float = 3e-4  # Adam's, of critic and policy
    learning_starts: int = 10_000  # steps of uniform actions, without an update, that fill the replay first
    batch_size: int = 128  # B, transitions of one update
    buffer_size: int = 1_000_000  # transitions that the replay holds; new ones replace the oldest
    tau: float = 0.005  # share by which target networks move to the online ones at each update
    exploration_noise: float = 0.1  # standard deviation of the noise; 1 is half an action's range

    def __post_init__(self):
        zero = ("seed", "learning_starts", "exploration_noise")
        for name, value in asdict(self).items():
            low, high = (0, 1) if name in ("gamma", "tau") else (0 if name in zero else 1e-12, 2**63 - 1)
            if type(value) in (int, float) and not low <= value <= high:
                raise UsageError(f"--{name.replace('_', '-')} {value} is out of range")
        if os.environ.get("WORLD_SIZE", "1") != "1":
            raise UsageError("DDPG runs as one process: its time goes into updates, which a GPU speeds up")


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


def relu_net(n_in, n_out):
    return nn.Sequential(nn.Linear(n_in, 256), nn.ReLU(True), nn.Linear(256, 256), nn.ReLU(True), nn.Linear(256, n_out))


class Policy(nn.Module):
    """a = μ(s) = tanh(...), in units where ±1 are the bounds of the action space; it explores by clip(μ(s) + σ ε)."""

    def __init__(self, obs_dim, low, high, std=0.0):
        super().__init__()
        a, b = (torch.asarray(x, dtype=torch.float32) for x in (low, high))  # bounds of 64 bits are rounded inwards
        low, high = a.where(a >= torch.asarray(low), a.nextafter(b)), b.where(b <= torch.asarray(high), b.nextafter(a))
        self.bounds = nn.Buffer(torch.stack([low, high, low / 2 + high / 2, high / 2 - low / 2]))  # (4, *action_shape)
        self.std = nn.Buffer(torch.tensor(std))  # σ
        self.mean = nn.Sequential(*relu_net(obs_dim, low.numel()), nn.Tanh())

    def sample(self, obs, noise):  # (N, act_dim) for observations (N, obs_dim), standard normal noise (N, act_dim)
        obs, noise = (torch.tensor(np.asarray(x, np.float32), device=self.std.device) for x in (obs, noise))
        return (self.mean(obs) + self.std * noise).clip(-1, 1).numpy(force=True)

    def to_bounds(self, actions):  # (N, act_dim) to (N, *action_shape)
        low, high, mid, half = self.bounds.cpu().numpy()
        return (mid + half * np.float32(actions).reshape(-1, *mid.shape)).clip(low, high)  # float32, as in the replay

    def act(self, obs, noise=0):
        """Actions (N, *action_shape) in the bounds for raw obs (N, obs_dim); noise: standard normal (N, act_dim)."""
        return self.to_bounds(self.sample(obs, noise))


class Replay:
    """The newest transitions, 4 (2 obs_dim + act_dim + 2) bytes each: 108 in Hopper-v4, 3,084 in Humanoid-v4."""

    def __init__(self, capacity, obs_dim, act_dim):
        self.widths = obs_dim, act_dim, obs_dim, 2  # obs, action, true next obs, reward and terminated, all float32
        self.rows, self.added = np.empty((capacity, sum(self.widths)), np.float32), 0

    def add(self, *columns):  # arrays (N, width) or (N,)
        self.rows[np.arange(self.added, self.added + len(columns[0])) % len(self.rows)] = np.column_stack(columns)
        self.added += len(columns[0])  # once full, new rows have taken the place of the oldest

    def sample(self, batch_size, rng, device):  # B rows, with one transfer to a GPU
        chosen = rng.integers(min(self.added, len(self.rows)), size=batch_size)
        obs, actions, next_obs, ends = torch.from_numpy(self.rows[chosen]).to(device).split(self.widths, 1)
        return obs, actions, next_obs, *ends.T  # (B, obs_dim), (B, act_dim), (B, obs_dim), (B,), (B,)

    def state_dict(self):
        return {"rows": torch.from_numpy(self.rows[: self.added]), "added": self.added}  # no copy, rows so far only

    def load_state_dict(self, state):
        self.rows[: state["added"]], self.added = state["rows"], state["added"]


def update(online, targets, optimizer, batch, args):
    """A step down the squared error and up E[Q(s, μ(s))], then the targets, for tensors (B, ...); returns losses."""
    (policy, critic), (target_policy, target_critic) = online, targets
    obs, actions, next_obs, rewards, terminated = batch
    next_values = target_critic(torch.cat([next_obs, target_policy.mean(next_obs)], 1)).detach()  # (B,)
    y = rewards + args.gamma * next_values * (1 - terminated)  # a time limit bootstraps, a death not
    value_loss = ((critic(torch.cat([obs, actions], 1)) - y) ** 2).mean()
    u = policy.mean[:-1](obs)  # (B, act_dim), μ = tanh(u); beyond ±3 tanh is so flat that no gradient of Q leads back
    policy_loss = ((u.abs() - 3).relu() ** 2).mean() - critic(torch.cat([obs, u.tanh()], 1)).mean()
    optimizer.zero_grad()
    value_loss.backward()
    policy_loss.backward(inputs=[*policy.parameters()])  # by the chain rule -∇_θ μ(s) ∇_a Q(s, a); nothing for w
    optimizer.step()
    torch._foreach_lerp_([*targets.parameters()], [p.data for p in online.parameters()], args.tau)  # τ of the way
    return torch.stack([policy_loss, value_loss, (u.abs() > 2.65).float().mean()]).detach()  # last: saturation


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
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 1)))  # a second one saves a tenth of an update
    torch.set_flush_denormal(True)  # Adam's moments of idle units shrink to denormals: 15 % of an update's time
    torch.manual_seed(args.seed)
    N, T = args.num_envs, min(1_000, args.checkpoint_interval)  # T steps of each from one point of the log to the next
    envs = gym.vector.SyncVectorEnv([lambda: make_env(args.env_id)] * N, autoreset_mode="SameStep")
    obs_dim, space = envs.single_observation_space.shape[0], envs.single_action_space
    if not space.is_bounded():
        raise UsageError(f"{args.env_id}: a policy that ends in tanh needs finite bounds for each action")
    try:
        device = torch.device(("cpu", "cuda")[torch.cuda.is_available()] if args.device == "auto" else args.device)
        policy = Policy(obs_dim, space.low, space.high, args.exploration_noise)
        critic = nn.Sequential(relu_net(obs_dim + space.low.size, 1), nn.Flatten(0))  # Q(s, a) is (B,), never (B, 1)
        online = nn.ModuleList([policy, critic]).to(device)
        targets, replay = copy.deepcopy(online).requires_grad_(False), Replay(args.buffer_size, obs_dim, space.low.size)
        optimizer = torch.optim.Adam(online.parameters(), args.learning_rate, fused=True)
        modules = dict(policy=policy, critic=critic, targets=targets, optimizer=optimizer, replay=replay)
        step, recent = open_run(args, modules)
    except (OSError, RuntimeError, AssertionError, MemoryError, ValueError) as error:
        raise UsageError(str(error).split("\n")[0]) from error
    make_env(args.env_id, f"{args.run_dir}/videos" if args.capture_video else None).close()  # can it be filmed?
    print(f"{SCRIPT} on {args.env_id}, seed {args.seed}, {device}: {args.run_dir}")
    first, result_file = step, Path(args.run_dir, "result.json")
    if step >= args.total_timesteps and result_file.exists() and f'"steps": {step}}}' in result_file.read_text():
        print(result_file.read_text())
        return Path(args.run_dir)
    versions = {x: version(x) for x in ("torch", "numpy", "gymnasium", "mujoco") if x in sys.modules}
    run = json.dumps({"script": SCRIPT, **asdict(args), "versions": versions}, indent=4)
    Path(args.run_dir, "args.json").write_text(run)
    writer, start, sps = SummaryWriter(args.run_dir, purge_step=step + 1), time.time(), None
    writer.add_text("hyperparameters", run, step + 1)  # purged like what follows
    progress = tqdm(initial=step, total=args.total_timesteps, unit=" steps", unit_scale=True, disable=None)
    while step < args.total_timesteps:
        if step == first or step % (args.checkpoint_interval * N) < T * N:  # start anew, so that going on is exact
            save_checkpoint(args, modules, step=step, recent=recent)
            seeds = [np.random.SeedSequence([args.seed, step, i]).generate_state(1)[0] for i in range(N)]
            obs, sums = envs.reset(seed=[int(seed) for seed in seeds])[0], np.zeros((N, 2))
        rows, losses, rng = [], [], np.random.default_rng([args.seed, step])  # a function of the place: nothing to save
        while len(rows) < T and step < args.total_timesteps:
            noise = rng.standard_normal((N, space.low.size), np.float32)
            actions = policy.sample(obs, noise) if step >= args.learning_starts else rng.uniform(-1, 1, noise.shape)
            next_obs, rewards, terminated, truncated, info = envs.step(policy.to_bounds(actions))
            successors, done = next_obs.copy(), terminated | truncated
            if done.any():  # there next_obs is the first observation of a new episode
                successors[done] = np.stack(info["final_obs"][done])
            sums = sums + np.stack([rewards, np.ones(N)], -1)  # return, length
            rows.append((obs, actions, rewards, successors, done, sums))
            replay.add(obs, actions, successors, rewards, terminated)
            obs, sums, step = next_obs, sums * ~done[:, None], step + N
            for _ in range(N * (step >= args.learning_starts + N)):
                losses.append(update(online, targets, optimizer, replay.sample(args.batch_size, rng, device), args))
        batch = dict(zip(("obs", "actions", "rewards", "next_obs", "done", "sums"), map(np.stack, zip(*rows))))
        check_finite(step - len(rows) * N, N, batch)
        if losses:  # and the weights: under a finite loss the last gradient may be infinite
            losses = dict(zip(("policy_loss", "value_loss", "saturation"), torch.stack(losses).T.cpu().numpy()))
            check_finite(step, 0, losses)
            check_finite(step, 0, {"weights": nn.utils.parameters_to_vector(online.parameters()).numpy(force=True)})
        sps, lr = (step - first) / (time.time() - start), args.learning_rate
        returns, lengths = batch["sums"][batch["done"]].T  # of the episodes that have ended
        recent = (recent + returns.tolist())[-100:]
        episodes = dict(episodic_return=returns.mean(), episodic_length=lengths.mean()) if len(returns) else {}
        for name, value in {"SPS": sps, "learning_rate": lr, **episodes, **dict(losses)}.items():
            writer.add_scalar(f"{'losses' if name in losses else 'charts'}/{name}", np.mean(value), step)
        writer.flush()
        progress.set_postfix_str(f"return {np.mean(recent or np.nan):.1f}")
        progress.update(len(rows) * N)
        if progress.disable and step % 10_000 < T * N:  # no terminal
            print(f"{step:,} steps, {sps:,.0f} steps/s, return {np.mean(recent or np.nan):.1f}")
    save_checkpoint(args, modules, step=step, recent=recent)
    result = evaluate(args.run_dir, args.eval_episodes, args.capture_video, WAYS)
    writer.add_scalar("charts/deterministic_return", result["deterministic"]["mean"], step)
    writer.close()
    result |= {"training_return": float(np.mean(recent)) if recent else None, "steps_per_second": sps, "steps": step}
    result_file.write_text(json.dumps(result))  # the steps come last: where they stand, the file is whole
    return Path(args.run_dir)


if __name__ == "__main__":
    try:
        args = tyro.cli(Args, description=__doc__)
        evaluate(args.evaluate, args.eval_episodes, args.capture_video, WAYS) if args.evaluate else train(args)
    except (UsageError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2 if isinstance(error, UsageError) else 1)
    except KeyboardInterrupt:
        print(f"\nstopped; to go on: python {shlex.join(sys.argv + ['--run-dir', args.run_dir] * bool(args.run_dir))}")
        sys.exit(130)
