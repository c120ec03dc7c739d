"""Samples for the figure of the trust region.

How return, surrogate and divergence change as TRPO's policy moves.

    python trpo_continuous.py --seed 101 --total-timesteps 200_000 --run-dir runs/trpo
    python benchmark/trust_region.py runs/trpo  # 25 minutes; writes trust_region.csv beside itself

The return V is discounted, over the first 300 steps of an episode. A change of V is over 400
episodes, episode by episode: the moved policy starts in the same states and sees the same noise as
the policy that has not moved. Intervals are 95 %.

Along TRPO's direction: 26 lengths from -1 to 16 times the step to the bound δ. Surrogate:
E[Σ_n γ^n (π_θ~ / π_θ - 1) A(s_n, a_n)] over 2,000 episodes, which is tangent to V. They are not
those that the direction comes from: a direction that their own noise has chosen would promise too
much.

Two regions: random directions within single tensors, ten for each. Each is sampled at four times
the length of TRPO's step, and at the length where the mean divergence is 16 δ, which is about what
TRPO's direction has there.
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

EPISODES, STEPS, ROUNDS = 400, 300, 5  # episodes at once, their longest, repeats for the surrogate
SIZES = [x * abs(x) for x in np.arange(-5, 21) / 5]  # of the step; equally spaced square roots
DIRECTIONS = 10  # for each tensor
FAR = 4  # their length, in steps of TRPO
TENSORS = {
    "first layer": "mu.0.weight",
    "second layer": "mu.2.weight",
    "last layer": "mu.4.weight",
    "last bias": "mu.4.bias",
    "log σ": "log_std",
}
FIELDS = ["kind", "tensor", "size", "norm", "kl"]
FIELDS += ["gain", "gain_low", "gain_high", "surrogate", "surrogate_low", "surrogate_high"]


def play(envs, policy, gamma, first_seed):
    """Discounted returns (N,) of an episode in each environment, and tensors (T, N, ...) of it.

    `counts` is 0 after the end of the episode; `done` at its last step or after STEPS steps.
    """
    num_envs = envs.num_envs
    rng, arrays = np.random.default_rng(first_seed), policy.arrays()
    returns, running = np.zeros(num_envs), np.ones(num_envs, bool)
    transitions = []
    obs, _ = envs.reset(seed=[first_seed + i for i in range(num_envs)])
    for n in range(STEPS):
        noise = rng.standard_normal((num_envs, policy.log_std.numel()), np.float32)
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
                "done": done | (n == STEPS - 1),
                "n": np.full(num_envs, n),
                "counts": running,
            }
        )
        returns += gamma**n * rewards * running
        running = running & ~done
        if not running.any():
            break
        obs = next_obs
    arrays = {name: np.stack([t[name] for t in transitions]) for name in transitions[0]}
    return returns, script.to_tensors(arrays, "cpu")


def mean_and_interval(values):
    """Mean, and its 95 % interval by the normal distribution."""
    mean, error = values.mean(), 1.96 * values.std(ddof=1) / len(values) ** 0.5
    return [mean, mean - error, mean + error]


class Neighborhood:
    """The policy π_old of a run of TRPO, and policies near it."""

    def __init__(self, run_dir, envs):
        checkpoint = script.load_checkpoint(run_dir)
        self.envs = envs
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
        self.batch = self.collect(10**7)  # gives the direction
        self.judges = [self.collect(10**7 * (2 + i), whole=True) for i in range(ROUNDS)]
        self.old_returns, _ = play(envs, self.policy, self.args.gamma, 0)

    @torch.no_grad()
    def collect(self, first_seed, whole=False):
        """Transitions of EPISODES episodes of π_old, tensors (T, N, ...).

        Advantages are TRPO's, or with `whole` those of the whole episode, which ends after STEPS
        steps: its rewards from here on minus V(s).
        """
        _, batch = play(self.envs, self.old_policy, self.args.gamma, first_seed)
        obs = self.old_policy.obs_stats.normalize(batch["obs"])
        next_obs = self.old_policy.obs_stats.normalize(batch["next_obs"])
        advantages = script.compute_gae(
            batch["rewards"] / self.reward_scale,
            self.critic(obs),
            self.critic(next_obs),
            batch["done"] if whole else batch["terminated"],
            batch["done"],
            self.args.gamma,
            1.0 if whole else self.args.gae_lambda,
        )
        return {
            "obs": obs,
            "actions": batch["actions"],
            "log_prob": self.old_policy.log_prob(obs, batch["actions"]),
            "advantages": advantages,
            "weights": self.args.gamma ** batch["n"] * batch["counts"],
            "counts": batch["counts"] > 0,
        }

    def move(self, change):
        """Moves the policy away from π_old by a change of its parameters."""
        nn.utils.vector_to_parameters(self.theta + change, self.parameters)

    def divergence(self):
        """Mean over the states of D(π_old, π)."""
        obs = self.batch["obs"][self.batch["counts"]]
        old_mu, old_log_std = self.old_policy.mu(obs).detach(), self.old_policy.log_std.detach()
        kl = script.kl_divergence(old_mu, old_log_std, self.policy.mu(obs), self.policy.log_std)
        return kl.mean()

    def surrogates(self):
        """Σ_n γ^n (π / π_old - 1) A(s_n, a_n) of each episode, in units of the return."""
        sums = []
        for judges in self.judges:
            log_prob = self.policy.log_prob(judges["obs"], judges["actions"])
            ratio = (log_prob - judges["log_prob"]).exp()
            sums.append((judges["weights"] * (ratio - 1) * judges["advantages"]).sum(0))
        return torch.cat(sums).numpy() * self.reward_scale

    def step_to_bound(self):
        """TRPO's step along the natural gradient to the bound δ, before its line search."""
        counts = self.batch["counts"]
        obs, actions, old_log_prob, advantages = (
            self.batch[name][counts] for name in ("obs", "actions", "log_prob", "advantages")
        )
        L = script.surrogate(self.policy.log_prob(obs, actions), old_log_prob, advantages)
        g = script.flat_gradient(L, self.parameters)
        kl_gradient = script.flat_gradient(self.divergence(), self.parameters, create_graph=True)

        def matvec(v):
            return script.hessian_vector_product(
                v, kl_gradient, self.parameters, self.args.cg_damping
            )

        x, _ = script.conjugate_gradient(matvec, g, self.args.cg_iterations)
        return (2 * self.args.max_kl / (x @ matvec(x))).sqrt() * x

    def random_direction(self, tensor, length, rng):
        """A random change of this length of the parameter with this name, of no other."""
        parts = []
        for name, parameter in self.policy.named_parameters():
            part = torch.zeros(parameter.numel())
            if name == tensor:
                part.normal_(generator=rng)
            parts.append(part)
        direction = torch.cat(parts)
        return direction * length / direction.norm()

    @torch.no_grad()
    def sample(self, kind, tensor, size, change):
        """A row of the CSV file: what a change of the parameters does."""
        self.move(change)
        returns, _ = play(self.envs, self.policy, self.args.gamma, 0)
        values = [size, change.norm(), self.divergence()]
        values += mean_and_interval(returns - self.old_returns)
        values += mean_and_interval(self.surrogates())
        return [kind, tensor, *(f"{float(value):.5g}" for value in values)]

    @torch.no_grad()
    def size_at_divergence(self, direction, divergence):
        """How many times a direction to go until D is this, by bisection: it grows on the way."""
        low, high = 0.0, 1000.0
        for _ in range(24):
            middle = (low + high) / 2
            self.move(middle * direction)
            if self.divergence() < divergence:
                low = middle
            else:
                high = middle
        return low


def sample_all(run_dir):
    """All rows of the CSV file, one at a time."""
    args = script.load_checkpoint(run_dir)["args"]
    with closing(script.make_vector_env(args["env_id"], EPISODES, args["env_kwargs"])) as envs:
        near = Neighborhood(run_dir, envs)
        step = near.step_to_bound()
        for size in SIZES:
            yield near.sample("step", "all", size, size * step)
        rng = torch.Generator().manual_seed(0)
        for label, tensor in TENSORS.items():
            for _ in range(DIRECTIONS):
                direction = near.random_direction(tensor, FAR * step.norm(), rng)
                yield near.sample("equal-parameters", label, 1, direction)
                size = near.size_at_divergence(direction, FAR**2 * near.args.max_kl)
                yield near.sample("equal-kl", label, size, size * direction)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run_dir", help="folder of a run of trpo_continuous.py")
    options = parser.parse_args()
    rows = []
    try:
        for row in sample_all(options.run_dir):
            rows.append(row)
            print(*row, sep=",", flush=True)
    except script.UsageError as error:
        sys.exit(f"error: {error}")
    with open(Path(__file__).with_suffix(".csv"), "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(FIELDS)
        writer.writerows(rows)


if __name__ == "__main__":
    main()
