"""What each line beyond the paper is worth: PPO without it.

A function of the imported script is replaced, or an argument is changed. Without a variant, the
commands of all runs are printed; finished runs are left out.

    python benchmark/ablate.py | xargs -P 2 -I{} sh -c '{}'
    python benchmark/ablate.py no-reward-scaling --env-id Hopper-v4 --run-dir runs/trial
    python benchmark/collect.py --variants runs/ablations/*/*  # into results.csv and curves.csv
"""

import argparse
import dataclasses
import shlex
import sys
from pathlib import Path

import torch
from common import LOCOMOTION, ROOT
from sweep import finished

sys.path.insert(0, str(ROOT))
import ppo_continuous as script

# --------------------------------------------------------------------------------------------------
# What is replaced


def without_observation_normalization():
    script.RunningStatistics.normalize = lambda statistics, x: x


def without_reward_scaling():
    script.RewardScaler.forward = lambda scaler, rewards, done: rewards


def without_advantage_normalization():
    """Of a vector, the advantages, mean and variance are said to be 0 and 1.

    The running statistics call the same function with a matrix.
    """
    real_moments = script.moments

    def moments(x):
        if x.dim() == 1:
            return torch.tensor(len(x)), 0.0, torch.ones(())
        return real_moments(x)

    script.moments = moments


def time_limits_as_terminations():
    real_compute_gae = script.compute_gae

    def compute_gae(rewards, values, next_values, terminated, done, gamma, gae_lambda):
        return real_compute_gae(rewards, values, next_values, done, done, gamma, gae_lambda)

    script.compute_gae = compute_gae


def constant_learning_rate():
    real_update = script.update

    def update_at_constant_rate(policy, critic, optimizer, batch, rng, args):
        optimizer.param_groups[0]["lr"] = args.learning_rate
        return real_update(policy, critic, optimizer, batch, rng, args)

    script.update = update_at_constant_rate


def without_advantage_normalization_at_a_constant_learning_rate():
    without_advantage_normalization()
    constant_learning_rate()


def advantages_recomputed():
    """Values, advantages and λ-returns are recomputed before each epoch.

    The ratio's denominator stays that of the policy before the update.
    """
    real_update = script.update

    def update_with_new_advantages(policy, critic, optimizer, batch, rng, args):
        real_log_prob = policy.log_prob
        old_log_probs = []  # of π_old, once it is known

        def log_prob(obs, actions):
            is_whole_rollout = obs.dim() == 3  # (T, N, obs_dim), not a minibatch
            if not is_whole_rollout:
                return real_log_prob(obs, actions)
            if not old_log_probs:
                old_log_probs.append(real_log_prob(obs, actions))
            return old_log_probs[0]

        policy.log_prob = log_prob
        one_epoch = dataclasses.replace(args, update_epochs=1)
        for _ in range(args.update_epochs):
            losses = real_update(policy, critic, optimizer, batch, rng, one_epoch)
        del policy.log_prob  # that of its class is there again
        return losses

    script.update = update_with_new_advantages


def initial_weights_of_pytorch():
    """Neither orthogonal, nor small in the policy's last layer."""
    script.linear = lambda n_in, n_out, gain: torch.nn.Linear(n_in, n_out)


VARIANTS = {  # name: what is replaced, arguments that differ from the defaults
    "no-observation-normalization": (without_observation_normalization, {}),
    "no-reward-scaling": (without_reward_scaling, {}),
    "no-normalization-of-advantages": (without_advantage_normalization, {}),
    "time-limits-as-terminations": (time_limits_as_terminations, {}),
    "constant-learning-rate": (constant_learning_rate, {}),
    "advantages-recomputed": (advantages_recomputed, {}),
    "initial-weights-of-PyTorch": (initial_weights_of_pytorch, {}),
    "no-gradient-clipping": (None, {"max_grad_norm": 1e9}),
    "no-normalization-of-advantages-nor-gradient-clipping-nor-decay": (
        without_advantage_normalization_at_a_constant_learning_rate,
        {"max_grad_norm": 1e9},
    ),
    "no-clip-of-the-ratio": (None, {"clip_coef": 1e9}),
    "one-environment": (None, {"num_envs": 1, "num_steps": 2048}),
    "one-epoch": (None, {"update_epochs": 1}),
}


# --------------------------------------------------------------------------------------------------
# Commands and runs


def train(options):
    """Trains the variant that the options name."""
    replace, changes = VARIANTS[options.variant]
    if replace:
        replace()
    names = ["env_id", "seed", "total_timesteps", "run_dir"]
    arguments = {name: getattr(options, name) for name in names}
    try:
        script.train(script.Args(**arguments, **changes))
    except script.UsageError as error:
        sys.exit(f"error: {error}")


def commands(seeds, total_timesteps):
    """The commands of all variants that have not finished."""
    for seed in seeds:
        for variant in VARIANTS:
            for env_id in LOCOMOTION:
                run_dir = Path("runs", "ablations", variant, f"{env_id}__ppo_continuous__{seed}")
                words = ["python", sys.argv[0], variant, "--env-id", env_id, "--seed", str(seed)]
                words += ["--total-timesteps", str(total_timesteps), "--run-dir", str(run_dir)]
                if not finished(run_dir, total_timesteps):
                    yield shlex.join(words)


def parse_options():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "variant",
        nargs="?",
        choices=VARIANTS,
        help="variant to train; without one, all commands are printed",
    )
    parser.add_argument("--env-id", default=script.Args.env_id)
    parser.add_argument("--seed", type=int, default=script.Args.seed)
    parser.add_argument(
        "--seeds", nargs="+", type=int, default=[1, 2, 3], help="of the commands that are printed"
    )
    parser.add_argument("--total-timesteps", type=int, default=script.Args.total_timesteps)
    parser.add_argument("--run-dir", default=script.Args.run_dir)
    return parser.parse_args()


def main():
    options = parse_options()
    if options.variant:
        train(options)
    else:
        for command in commands(options.seeds, options.total_timesteps):
            print(command)


if __name__ == "__main__":
    main()
