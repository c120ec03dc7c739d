"""A run that also logs how far each update moved the policy, for A2C, PPO and TRPO.

    python benchmark/divergence.py ppo_continuous --env-id Hopper-v4 --run-dir runs/ppo

The script's own `update` is wrapped from outside. Beside what the script logs, TensorBoard gets
mean and maximum of D(π_old, π) over the states of each batch (losses/kl, losses/kl_max), and
quantiles of π / π_old at the actions taken (losses/ratio_q01, losses/ratio_q99).
benchmark/collect.py takes them into curves.csv.
"""

import argparse
import importlib
import sys
from copy import deepcopy

import torch
import tyro
from common import ROOT, WITH_CRITIC
from torch.distributions import Normal, kl_divergence

sys.path.insert(0, str(ROOT))


@torch.no_grad()
def measure(old_policy, policy, batch):
    """The four numbers, of policies before and after an update on a batch of tensors."""
    obs, actions = old_policy.obs_stats.normalize(batch["obs"]), batch["actions"]
    old = Normal(old_policy.mu(obs), old_policy.log_std.exp())
    new = Normal(policy.mu(obs), policy.log_std.exp())
    kl = kl_divergence(old, new).sum(-1)  # (T, N)
    log_ratio = (new.log_prob(actions) - old.log_prob(actions)).sum(-1)
    ratio = log_ratio.exp().flatten()
    low, high = ratio.quantile(torch.tensor([0.01, 0.99], device=ratio.device))
    return {"kl": kl.mean(), "kl_max": kl.max(), "ratio_q01": low, "ratio_q99": high}


def wrap(script):
    """Lets the update of an imported script measure what it did."""
    update = script.update

    def measured_update(policy, critic, optimizer, batch, *rest):
        old_policy = deepcopy(policy)
        losses = update(policy, critic, optimizer, batch, *rest)
        return losses | measure(old_policy, policy, batch)

    script.update = measured_update


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("script", choices=WITH_CRITIC)
    parser.add_argument("options", nargs=argparse.REMAINDER, help="options of the script")
    options = parser.parse_args()
    script = importlib.import_module(options.script)
    wrap(script)
    try:
        script.train(tyro.cli(script.Args, args=options.options))
    except script.UsageError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
