"""A run that also logs how far each update moved the policy, for A2C, PPO and TRPO.

    python benchmark/divergence.py ppo_continuous --env-id Hopper-v4 --run-dir runs/ppo

The script's own `update` is wrapped from outside. Beside what the script logs, TensorBoard gets
mean and maximum of D(π_old, π) over the states of each batch (losses/kl, losses/kl_max), and
quantiles of π / π_old at the actions taken (losses/ratio_q01, losses/ratio_q99).
benchmark/collect.py takes them into curves.csv.
"""

import importlib
import sys
from copy import deepcopy
from pathlib import Path

import torch
import tyro

sys.path.insert(0, str(Path(__file__).parents[1]))
SCRIPTS = ["a2c_continuous", "ppo_continuous", "trpo_continuous"]


def measure(old_policy, policy, batch):
    """The four numbers, of policies before and after an update on a batch of tensors."""
    obs, actions = old_policy.obs_stats.normalize(batch["obs"]), batch["actions"]
    with torch.no_grad():
        old, new = (
            torch.distributions.Normal(pi.mu(obs), pi.log_std.exp()) for pi in (old_policy, policy)
        )
        kl = torch.distributions.kl_divergence(old, new).sum(-1)
        ratio = (new.log_prob(actions) - old.log_prob(actions)).sum(-1).exp().flatten()
    low, high = ratio.quantile(torch.tensor([0.01, 0.99], device=ratio.device))
    return {"kl": kl.mean(), "kl_max": kl.max(), "ratio_q01": low, "ratio_q99": high}


def wrap(script):
    """Lets the update of an imported script measure what it did."""
    update = script.update

    def measured(policy, critic, optimizer, batch, *rest):
        old_policy = deepcopy(policy)
        losses = update(policy, critic, optimizer, batch, *rest)
        return losses | measure(old_policy, policy, batch)

    script.update = measured


def main():
    if len(sys.argv) < 2 or sys.argv[1] not in SCRIPTS:
        sys.exit(f"usage: divergence.py {{{','.join(SCRIPTS)}}} [options of the script]")
    script = importlib.import_module(sys.argv[1])
    wrap(script)
    try:
        script.train(tyro.cli(script.Args, args=sys.argv[2:]))
    except script.UsageError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
