"""What each line beyond the paper is worth: PPO without it.

A function of the imported script is replaced. Without a variant, the commands of all runs are
printed; finished runs are left out.

python benchmark/ablate.py | xargs -P 2 -I{} sh -c '{}'
python benchmark/ablate.py no-observation-normalisation --env-id Hopper-v4 --run-dir runs/trial
python benchmark/collect.py --variants runs/ablations/*/*          # into results.csv and curves.csv
"""

import argparse
import dataclasses
import shlex
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from commands import finished

import ppo_continuous as script

ENV_IDS = ["Hopper-v4", "HalfCheetah-v4", "Walker2d-v4"]


def without_observation_normalization():
    script.RunningStatistics.normalize = lambda statistics, x: x


def without_reward_scaling():
    script.RewardScaler.forward = lambda scaler, rewards, done: rewards


def without_advantage_normalization():
    """Mean 0 and variance 1 are said of the advantages, a vector; running statistics have rows."""
    real = script.moments
    script.moments = lambda x: (
        (torch.tensor(len(x)), 0.0, torch.ones(())) if x.dim() == 1 else real(x)
    )


def time_limits_as_terminations():
    gae = script.compute_gae

    def compute_gae(rewards, values, next_values, terminated, done, gamma, gae_lambda):
        return gae(rewards, values, next_values, done, done, gamma, gae_lambda)

    script.compute_gae = compute_gae


def constant_learning_rate():
    update = script.update

    def constant(policy, critic, optimizer, batch, rng, args):
        optimizer.param_groups[0]["lr"] = args.learning_rate
        return update(policy, critic, optimizer, batch, rng, args)

    script.update = constant


def without_advantage_normalization_at_a_constant_learning_rate():
    without_advantage_normalization()
    constant_learning_rate()


def advantages_recomputed():
    """Values, advantages and λ-returns anew before each epoch.

    The ratio's denominator stays that of the rollout.
    """
    update = script.update

    def recomputing(policy, critic, optimizer, batch, rng, args):
        log_prob, old = type(policy).log_prob.__get__(policy), []

        def kept(obs, actions):  # of a whole rollout (T, N): the policy before the update
            if obs.dim() == 2:
                return log_prob(obs, actions)
            if not old:
                old.append(log_prob(obs, actions))
            return old[0]

        policy.log_prob = kept
        epoch = dataclasses.replace(args, update_epochs=1)
        for _ in range(args.update_epochs):
            losses = update(policy, critic, optimizer, batch, rng, epoch)
        del policy.log_prob
        return losses

    script.update = recomputing


def initial_weights_of_pytorch():
    """Neither orthogonal, nor small in the policy's last layer."""
    script.linear = lambda n_in, n_out, gain: torch.nn.Linear(n_in, n_out)


VARIANTS = {  # name: what is replaced, arguments that differ from the defaults
    "no-observation-normalisation": (without_observation_normalization, {}),
    "no-reward-scaling": (without_reward_scaling, {}),
    "no-whitening-of-advantages": (without_advantage_normalization, {}),
    "time-limits-as-deaths": (time_limits_as_terminations, {}),
    "constant-step-size": (constant_learning_rate, {}),
    "advantages-recomputed": (advantages_recomputed, {}),
    "initial-weights-of-PyTorch": (initial_weights_of_pytorch, {}),
    "no-bound-on-gradients": (None, {"max_grad_norm": 1e9}),
    "no-whitening-nor-bound-nor-falling-step": (
        without_advantage_normalization_at_a_constant_learning_rate,
        {"max_grad_norm": 1e9},
    ),
    "no-clip-of-the-ratio": (None, {"clip_coef": 1e9}),
    "one-environment": (None, {"num_envs": 1, "num_steps": 2048}),
    "one-epoch": (None, {"update_epochs": 1}),
}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "variant",
        nargs="?",
        choices=VARIANTS,
        help="trains this one; without it, prints all commands",
    )
    parser.add_argument("--env-id", default="Hopper-v4")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--seeds", nargs="+", type=int, default=[1, 2, 3], help="of the commands that are printed"
    )
    parser.add_argument("--total-timesteps", type=int, default=1_000_000)
    parser.add_argument("--run-dir", default="")
    args = parser.parse_args()
    if args.variant:
        replace, changes = VARIANTS[args.variant]
        if replace:
            replace()
        try:
            script.train(
                script.Args(args.env_id, args.seed, args.total_timesteps, args.run_dir, **changes)
            )
        except script.UsageError as error:
            sys.exit(f"error: {error}")
        return
    for seed in args.seeds:
        for variant in VARIANTS:
            for env_id in ENV_IDS:
                run_dir = Path("runs", "ablations", variant, f"{env_id}__ppo_continuous__{seed}")
                command = ["python", sys.argv[0], variant, "--env-id", env_id, "--seed", str(seed)]
                command += [
                    "--total-timesteps",
                    str(args.total_timesteps),
                    "--run-dir",
                    str(run_dir),
                ]
                if not finished(run_dir, args.total_timesteps):
                    print(shlex.join(command))


if __name__ == "__main__":
    main()
