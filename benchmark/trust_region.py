"""Samples for the figure of the trust region.

How return, surrogate and divergence change as TRPO's policy moves.

    python trpo_continuous.py --env-id Hopper-v4 --total-timesteps 300_000 --run-dir runs/trpo
    python benchmark/trust_region.py runs/trpo  # 3 minutes; writes trust_region.csv beside itself

Along TRPO's direction, 21 lengths from -1 to 4 times the step to the bound δ; then 30 random
directions, each at the length of that step in parameters, and at the length where the mean
divergence is δ. The return is discounted, over 40 episodes from the same initial states with the
same noise; the gain is over the policy that has not moved, episode by episode. Surrogate:
E[Σ_n γ^n (π_θ~ / π_θ - 1) A(s_n, a_n)] over 400 episodes, which is tangent to the return. They are
not the 400 that the direction comes from: a direction that their own noise has chosen would promise
too much.
"""

import argparse
import csv
import sys
from contextlib import closing
from pathlib import Path

import numpy as np
import torch
from common import ROOT
from torch import nn

sys.path.insert(0, str(ROOT))
import trpo_continuous as script

EPISODES, SAMPLES, DIRECTIONS = 40, 400, 30
FIELDS = ["kind", "size", "gain", "low", "high", "surrogate", "kl", "norm"]


def play(policy, args, episodes, first_seed):
    """Discounted returns (N,) of N episodes, and transitions, tensors (T, N, ...).

    An environment whose episode has ended starts another; `counts` is 0 there.
    """
    rng, arrays = np.random.default_rng(first_seed), policy.arrays()
    returns, running = np.zeros(episodes), np.ones(episodes, bool)
    transitions = []
    with closing(script.make_vector_env(args.env_id, episodes, args.env_kwargs)) as envs:
        obs, _ = envs.reset(seed=[first_seed + i for i in range(episodes)])
        n = 0  # number of the step
        while running.any():
            noise = rng.standard_normal((episodes, policy.log_std.numel()), np.float32)
            actions, env_actions = script.sample_actions(arrays, obs, noise)
            next_obs, rewards, terminated, truncated, info = envs.step(env_actions)
            done = terminated | truncated
            true_next_obs = next_obs.copy()
            if done.any():
                true_next_obs[done] = np.stack(info["final_obs"][done])
            transitions.append(
                {
                    "obs": obs,
                    "actions": actions,
                    "rewards": rewards,
                    "next_obs": true_next_obs,
                    "terminated": terminated,
                    "done": done,
                    "n": np.full(episodes, n),
                    "counts": running,
                }
            )
            returns += args.gamma**n * rewards * running
            running = running & ~done
            obs = next_obs
            n += 1
    arrays = {name: np.stack([t[name] for t in transitions]) for name in transitions[0]}
    return returns, script.to_tensors(arrays, "cpu")


class Neighborhood:
    """The policy π_old of a run of TRPO, and policies near it."""

    def __init__(self, run_dir):
        checkpoint = script.load_checkpoint(run_dir)
        self.args = script.Args(**checkpoint["args"])
        self.old_policy = script.load_policy(run_dir)
        self.policy = script.load_policy(run_dir)  # the one that moves
        self.parameters = list(self.policy.parameters())
        self.theta = nn.utils.parameters_to_vector(self.parameters).detach().clone()
        self.critic = script.Critic(len(self.policy.obs_stats.mean))
        self.critic.load_state_dict(checkpoint["critic"])
        scaler = script.RewardScaler(self.args.num_envs, self.args.gamma)
        scaler.load_state_dict(checkpoint["reward_scaler"])
        self.reward_scale = scaler.return_stats.std.item()
        self.batch = self.collect(10**7, self.args.gae_lambda)  # gives the direction
        self.judges = self.collect(2 * 10**7, 1.0)  # give the surrogate
        self.old_returns, _ = play(self.policy, self.args, EPISODES, 0)

    def collect(self, first_seed, gae_lambda):
        """Transitions of SAMPLES episodes of π_old: obs, actions, log_prob, advantages, n."""
        _, batch = play(self.old_policy, self.args, SAMPLES, first_seed)
        obs = self.old_policy.obs_stats.normalize(batch["obs"])
        next_obs = self.old_policy.obs_stats.normalize(batch["next_obs"])
        with torch.no_grad():
            advantages = script.compute_gae(
                batch["rewards"] / self.reward_scale,
                self.critic(obs),
                self.critic(next_obs),
                batch["terminated"],
                batch["done"],
                self.args.gamma,
                gae_lambda,
            )
            counts = batch["counts"].flatten() > 0
            obs = obs.flatten(0, 1)[counts]
            actions = batch["actions"].flatten(0, 1)[counts]
            return {
                "obs": obs,
                "actions": actions,
                "log_prob": self.old_policy.log_prob(obs, actions),
                "advantages": advantages.flatten()[counts],
                "n": batch["n"].flatten()[counts],
            }

    def move(self, change):
        """Moves the policy away from π_old by a change of its parameters."""
        nn.utils.vector_to_parameters(self.theta + change, self.parameters)

    def divergence(self, stride=1):
        """Mean over the states of D(π_old, π), or over every so many of them."""
        obs = self.batch["obs"][::stride]
        old_mu, old_log_std = self.old_policy.mu(obs).detach(), self.old_policy.log_std.detach()
        kl = script.kl_divergence(old_mu, old_log_std, self.policy.mu(obs), self.policy.log_std)
        return kl.mean()

    def discounted_surrogate(self):
        """E[Σ_n γ^n (π / π_old - 1) A(s_n, a_n)], in units of the return."""
        judges = self.judges
        log_prob = self.policy.log_prob(judges["obs"], judges["actions"])
        ratio = (log_prob - judges["log_prob"]).exp()
        terms = self.args.gamma ** judges["n"] * (ratio - 1) * judges["advantages"]
        return terms.sum() / SAMPLES * self.reward_scale

    def step_to_bound(self):
        """TRPO's step along the natural gradient to the bound δ, before its line search."""
        batch = self.batch
        log_prob = self.policy.log_prob(batch["obs"], batch["actions"])
        L = script.surrogate(log_prob, batch["log_prob"], batch["advantages"])
        g = script.flat_gradient(L, self.parameters)
        kl_gradient = script.flat_gradient(self.divergence(), self.parameters, create_graph=True)

        def matvec(v):
            return script.hessian_vector_product(
                v, kl_gradient, self.parameters, self.args.cg_damping
            )

        x, _ = script.conjugate_gradient(matvec, g, self.args.cg_iterations)
        return (2 * self.args.max_kl / (x @ matvec(x))).sqrt() * x

    @torch.no_grad()
    def sample(self, kind, size, change):
        """A row of the CSV file: what a change of the parameters does."""
        self.move(change)
        surrogate, kl = self.discounted_surrogate(), self.divergence()
        returns, _ = play(self.policy, self.args, EPISODES, 0)
        gains = returns - self.old_returns
        gain = gains.mean()
        error = 1.96 * gains.std(ddof=1) / EPISODES**0.5
        values = [size, gain, gain - error, gain + error, surrogate, kl, change.norm()]
        return [kind, *(f"{float(value):.5g}" for value in values)]

    @torch.no_grad()
    def length_to_bound(self, direction):
        """How far to go until the divergence is δ, by bisection: it grows with the length."""
        low, high = 0.0, 100.0
        for _ in range(30):
            middle = (low + high) / 2
            self.move(middle * direction)
            if self.divergence(stride=10) < self.args.max_kl:
                low = middle
            else:
                high = middle
        return low


def sample_all(run_dir):
    """All rows of the CSV file."""
    near = Neighborhood(run_dir)
    step = near.step_to_bound()
    rows = [near.sample("step", size, size * step) for size in np.linspace(-1, 4, 21)]
    rng = torch.Generator().manual_seed(0)
    for _ in range(DIRECTIONS):
        direction = torch.randn(len(step), generator=rng)
        direction *= step.norm() / direction.norm()
        rows.append(near.sample("equal-parameters", 1, direction))
        length = near.length_to_bound(direction)
        rows.append(near.sample("equal-kl", length, length * direction))
    return rows


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run_dir", help="folder of a run of trpo_continuous.py")
    options = parser.parse_args()
    try:
        rows = sample_all(options.run_dir)
    except script.UsageError as error:
        sys.exit(f"error: {error}")
    with open(Path(__file__).with_suffix(".csv"), "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(FIELDS)
        writer.writerows(rows)


if __name__ == "__main__":
    main()
