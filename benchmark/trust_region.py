"""Samples for the figure of the trust region.

How return, surrogate and divergence change as TRPO's policy moves.

    python trpo_continuous.py --env-id Hopper-v4 --total-timesteps 300_000 --run-dir runs/trpo
    python benchmark/trust_region.py runs/trpo  # 3 minutes; writes trust_region.csv beside itself

Along TRPO's direction, 21 lengths from -1 to 4 times the step to the bound δ; then 30 random
directions, each at the length of that step in parameters, and at the length where the mean
divergence is δ. The return is discounted, over 40 episodes from the same start states with the same
noise; the gain is over the policy that has not moved, episode by episode. Surrogate:
E[Σ_n γ^n (π_θ~ / π_θ - 1) A(s_n, a_n)] over 400 episodes, which is tangent to the return; they are
not the 400 that the direction comes from, whose noise has chosen it.
"""

import csv
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
import trpo_continuous as script

EPISODES, SAMPLES, DIRECTIONS = 40, 400, 30
FIELDS = ["kind", "size", "gain", "low", "high", "surrogate", "kl", "norm"]


def play(policy, env_id, episodes, first_seed, gamma):
    """Discounted returns (episodes,), and what was seen.

    Seen: obs, actions, rewards, steps n, next obs, deaths, ends.
    """
    envs = gym.vector.SyncVectorEnv(
        [lambda: script.make_env(env_id)] * episodes, autoreset_mode="SameStep"
    )
    rng, rows = np.random.default_rng(first_seed), []
    obs, _ = envs.reset(seed=[first_seed + i for i in range(episodes)])
    going, returns, n = np.ones(episodes, bool), np.zeros(episodes), 0
    while going.any():
        actions = policy.sample(
            obs, rng.standard_normal((episodes, policy.log_std.numel()), np.float32)
        )
        env_actions = policy.to_bounds(actions).numpy()
        next_obs, rewards, terminated, truncated, info = envs.step(env_actions)
        done, after = terminated | truncated, next_obs.copy()
        if done.any():
            after[done] = np.stack(info["final_obs"][done])
        rows.append((obs, actions, rewards, np.full(episodes, n), after, terminated, done, going))
        returns += gamma**n * rewards * going
        obs, going, n = next_obs, going & ~done, n + 1
    envs.close()
    return returns, [
        torch.as_tensor(np.stack(column), dtype=torch.float32) for column in zip(*rows)
    ]


def move(policy, theta):
    torch.nn.utils.vector_to_parameters(theta, policy.parameters())


def main():
    run_dir = sys.argv[1]
    checkpoint = script.load_checkpoint(run_dir)
    args = script.Args(**checkpoint["args"])
    policy, old = script.load_policy(run_dir), script.load_policy(run_dir)
    critic = script.Critic(len(policy.obs_stats.mean))
    critic.load_state_dict(checkpoint["critic"])
    scaler = script.RewardScaler(args.num_envs, args.gamma)
    scaler.load_state_dict(checkpoint["reward_scaler"])
    scale = scaler.return_stats.std.item()  # of rewards

    def seen(first_seed, gae_lambda):
        """Steps of SAMPLES episodes: obs, actions, advantages, n."""
        _, (obs, actions, rewards, n, after, terminated, done, going) = play(
            old, args.env_id, SAMPLES, first_seed, args.gamma
        )
        obs, after = (old.obs_stats.normalize(x) for x in (obs, after))
        with torch.no_grad():
            values, next_values = critic(obs), critic(after)
            ends = rewards / scale, values, next_values, terminated, done
            advantages = script.compute_gae(*ends, args.gamma, gae_lambda).flatten()
        kept = going.bool().flatten()  # after its first episode an environment plays on
        columns = (obs.flatten(0, 1), actions.flatten(0, 1), advantages, n.flatten())
        return [x[kept] for x in columns]

    # the surrogate along a direction that its own noise has chosen would promise too much:
    # two samples
    obs, actions, advantages, _ = seen(10**7, args.gae_lambda)
    judge_obs, judge_actions, judge_advantages, n = seen(2 * 10**7, 1.0)
    log_prob_old, judge_log_prob_old = (
        old.log_prob(*x).detach() for x in ((obs, actions), (judge_obs, judge_actions))
    )

    def divergence(some=slice(None)):  # mean over states
        old_mu, old_log_std = old.mu(obs[some]).detach(), old.log_std.detach()
        kl = script.kl_divergence(old_mu, old_log_std, policy.mu(obs[some]), policy.log_std)
        return kl.mean()

    def discounted_surrogate():
        ratio = (policy.log_prob(judge_obs, judge_actions) - judge_log_prob_old).exp()
        return (args.gamma**n * (ratio - 1) * judge_advantages).sum() / SAMPLES * scale

    parameters, flatten = list(policy.parameters()), torch.nn.utils.parameters_to_vector
    theta = flatten(parameters).detach().clone()
    L = script.surrogate(policy.log_prob(obs, actions), log_prob_old, advantages)
    g = script.flat_gradient(L, parameters)
    kl_gradient = script.flat_gradient(divergence(), parameters, create_graph=True)

    def matvec(v):
        return script.hessian_vector_product(v, kl_gradient, parameters, args.cg_damping)

    x, _ = script.conjugate_gradient(matvec, g, args.cg_iterations)
    step = (2 * args.max_kl / (x @ matvec(x))).sqrt() * x
    before, _ = play(policy, args.env_id, EPISODES, 0, args.gamma)

    @torch.no_grad()
    def sample(kind, size, change):
        move(policy, theta + change)
        total, kl = discounted_surrogate(), divergence()
        gains = play(policy, args.env_id, EPISODES, 0, args.gamma)[0] - before
        error = 1.96 * gains.std(ddof=1) / EPISODES**0.5
        row = [
            size,
            gains.mean(),
            gains.mean() - error,
            gains.mean() + error,
            total,
            kl,
            change.norm(),
        ]
        return [kind, *(f"{float(value):.5g}" for value in row)]

    @torch.no_grad()
    def length_to_bound(
        direction,
    ):  # by bisection on every tenth state: the divergence grows with the length
        low, high = 0.0, 100.0
        for _ in range(30):
            middle = (low + high) / 2
            move(policy, theta + middle * direction)
            low, high = (
                (middle, high) if divergence(slice(None, None, 10)) < args.max_kl else (low, middle)
            )
        return low

    rows = [sample("step", size, size * step) for size in np.linspace(-1, 4, 21)]
    rng = torch.Generator().manual_seed(0)
    for _ in range(DIRECTIONS):
        direction = torch.randn(len(theta), generator=rng)
        direction *= step.norm() / direction.norm()
        rows.append(sample("equal-parameters", 1, direction))
        length = length_to_bound(direction)
        rows.append(sample("equal-kl", length, length * direction))
    with open(Path(__file__).with_suffix(".csv"), "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(FIELDS)
        writer.writerows(rows)


if __name__ == "__main__":
    main()
