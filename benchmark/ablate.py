"""What each line beyond the paper is worth: PPO without it, by replacing a function of the imported script.

python benchmark/ablate.py | xargs -P 2 -I{} sh -c '{}'            # prints the commands; finished runs are left out
python benchmark/ablate.py no-observation-normalisation --env-id Hopper-v4 --seed 1 --run-dir runs/trial
python benchmark/collect.py --variants runs/ablations/*/*          # into results.csv and curves.csv
"""

import argparse
import dataclasses
import shlex
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from commands import finished

import ppo_continuous as script

ENV_IDS = ["Hopper-v4", "HalfCheetah-v4", "Walker2d-v4"]


def without_observation_normalisation():
    script.normalize = lambda obs, statistics: obs


def without_reward_scaling():
    """The statistics of returns stay at σ = 1; those of observations and of advantages go on."""
    merge = script.merge_statistics
    script.merge_statistics = lambda old, x: old if is_returns(old, x) else merge(old, x)


def is_returns(statistics, x):  # an array like batch["sums"]; advantages come as a tensor, observations are wider
    return not torch.is_tensor(x) and statistics.shape[1] == 1


def without_whitening():
    merge = script.merge_statistics
    neutral = torch.tensor([[0.0], [0], [1], [1]])
    script.merge_statistics = lambda old, x: neutral if torch.is_tensor(x) else merge(old, x)


def time_limits_as_deaths():
    gae = script.compute_gae

    def compute_gae(rewards, values, next_values, terminated, done, gamma, gae_lambda):
        return gae(rewards, values, next_values, done, done, gamma, gae_lambda)

    script.compute_gae = compute_gae


def constant_step_size():
    update = script.update

    def constant(policy, critic, optimizer, batch, rng, args):
        optimizer.param_groups[0]["lr"] = args.learning_rate
        return update(policy, critic, optimizer, batch, rng, args)

    script.update = constant


def without_whitening_at_a_constant_step_size():
    without_whitening()
    constant_step_size()


def advantages_recomputed():
    """Values, advantages and λ-returns anew before each epoch; the ratio's denominator stays that of the rollout."""
    update = script.update

    def recomputing(policy, critic, optimizer, batch, rng, args):
        log_prob, old = type(policy).log_prob.__get__(policy), []

        def kept(obs, actions):  # without gradients it is the policy before the update that is asked for
            if torch.is_grad_enabled():
                return log_prob(obs, actions)
            if not old:
                old.append(log_prob(obs, actions))
            return old[0]

        policy.log_prob = kept
        epoch = dataclasses.replace(args, update_epochs=1)
        losses = [update(policy, critic, optimizer, batch, rng, epoch) for _ in range(args.update_epochs)]
        del policy.log_prob
        return {name: np.concatenate([epoch[name] for epoch in losses]) for name in losses[0]}

    script.update = recomputing


def initial_weights_of_pytorch():
    """Neither orthogonal, nor small in the policy's last layer."""
    nn = torch.nn

    def mlp(n_in, n_out, gain):
        return nn.Sequential(nn.Linear(n_in, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, n_out))

    script.mlp = mlp


VARIANTS = {  # name: what is replaced, arguments that differ from the defaults
    "no-observation-normalisation": (without_observation_normalisation, {}),
    "no-reward-scaling": (without_reward_scaling, {}),
    "no-whitening-of-advantages": (without_whitening, {}),
    "time-limits-as-deaths": (time_limits_as_deaths, {}),
    "constant-step-size": (constant_step_size, {}),
    "advantages-recomputed": (advantages_recomputed, {}),
    "initial-weights-of-PyTorch": (initial_weights_of_pytorch, {}),
    "no-bound-on-gradients": (None, {"max_grad_norm": 1e9}),
    "no-whitening-nor-bound-nor-falling-step": (without_whitening_at_a_constant_step_size, {"max_grad_norm": 1e9}),
    "no-clip-of-the-ratio": (None, {"clip_coef": 1e9}),
    "one-environment": (None, {"num_envs": 1, "num_steps": 2048}),
    "one-epoch": (None, {"update_epochs": 1}),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("variant", nargs="?", choices=VARIANTS, help="trains this one; without it, prints all commands")
    parser.add_argument("--env-id", default="Hopper-v4")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3], help="of the commands that are printed")
    parser.add_argument("--total-timesteps", type=int, default=1_000_000)
    parser.add_argument("--run-dir", default="")
    args = parser.parse_args()
    if args.variant:
        replace, changes = VARIANTS[args.variant]
        if replace:
            replace()
        try:
            script.train(script.Args(args.env_id, args.seed, args.total_timesteps, args.run_dir, **changes))
        except script.UsageError as error:
            sys.exit(f"error: {error}")
        return
    for seed in args.seeds:
        for variant in VARIANTS:
            for env_id in ENV_IDS:
                run_dir = Path("runs", "ablations", variant, f"{env_id}__ppo_continuous__{seed}")
                command = ["python", sys.argv[0], variant, "--env-id", env_id, "--seed", str(seed)]
                command += ["--total-timesteps", str(args.total_timesteps), "--run-dir", str(run_dir)]
                if not finished(run_dir, args.total_timesteps):
                    print(shlex.join(command))


if __name__ == "__main__":
    main()
