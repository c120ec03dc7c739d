"""The suite fails for one-line mistakes: each is made in a copy, and the tests run on it."""

import os
import shutil
import subprocess
import sys

import pytest
from helpers import ROOT, SCRIPTS, TESTS, source

UPDATE = "losses = update(policy, critic, optimizer, to_tensors(batch, device), rng, args)"
STATISTICS = 'policy.obs_stats.update(batch["obs"])'
MUTANTS = {  # name: (script, a short text that stands there once, what replaces it)
    "none": ("ppo_continuous", "", ""),
    "max for min": ("ppo_continuous", "return torch.min(ratio", "return torch.max(ratio"),
    "no clip": ("ppo_continuous", "ratio.clamp(1 - clip_coef, 1 + clip_coef)", "ratio"),
    "clip without min": (
        "ppo_continuous",
        "torch.min(ratio * advantages, clipped_ratio * advantages)",
        "(clipped_ratio * advantages)",
    ),
    "trace lasts beyond a time limit": ("ppo_continuous", "(1 - done[t])", "(1 - terminated[t])"),
    "bootstrap at a termination": (
        "ppo_continuous",
        "next_values * (1 - terminated)",
        "next_values",
    ),
    "no bootstrap at a time limit": ("ppo_continuous", "(1 - terminated)", "(1 - done)"),
    "V(reset observation) at a time limit": (
        "ppo_continuous",
        'true_next_obs[done] = np.stack(info["final_obs"][done])',
        "pass",
    ),
    "log-density not summed": (
        "ppo_continuous",
        "np.log(2 * np.pi)).sum(-1)",
        "np.log(2 * np.pi))",
    ),
    "values (B, 1)": (
        "ppo_continuous",
        "self.value(normalized_obs).squeeze(-1)",
        "self.value(normalized_obs)",
    ),
    "discounted return lasts": ("ppo_continuous", "self.discounted_return[done[t]] = 0", "pass"),
    "clipped action stored": (
        "ppo_continuous",
        '"actions": actions,',
        '"actions": actions.clip(-1, 1),',
    ),
    "statistics before old_log_prob": (
        "ppo_continuous",
        UPDATE,
        f"{STATISTICS}; {UPDATE}",
    ),
    "advantages not normalized": ("ppo_continuous", "(advantages - mean) /", "advantages /"),
    "targets without V": (
        "ppo_continuous",
        "targets = advantages + values",
        "targets = advantages",
    ),
    "targets after normalization": (
        "ppo_continuous",
        "(advantages - mean) / (var + 1e-8).sqrt()",
        "(advantages - mean) / (var + 1e-8).sqrt(); targets = advantages + values",
    ),
    "entropy punished": ("ppo_continuous", "- args.ent_coef", "+ args.ent_coef"),
    "down the surrogate": ("ppo_continuous", "loss = -surrogate", "loss = surrogate"),
    "gradient not clipped": ("ppo_continuous", "optimizer, args.max_grad_norm", "optimizer, 1e9"),
    "the same minibatches": ("ppo_continuous", "rng.permutation(len(obs))", "np.arange(len(obs))"),
    "D from new to old": (
        "ppo_continuous",
        "ratio - 1 - log_ratio",
        "1 / ratio - 1 + log_ratio",
    ),
    "learning rate constant": ("ppo_continuous", "(1 - step / args.total_timesteps)", "1"),
    "weights of the first policy act": (
        "ppo_continuous",
        "old_policy = policy.arrays()",
        "old_policy = policy.__dict__.setdefault('first', deepcopy(policy.arrays()))",
    ),
    "no floor under σ": ("ppo_continuous", " + (1e-7 * self.mean) ** 2 + 1e-30", ""),
    "variance without what is between the parts": (
        "ppo_continuous",
        " + weight * (1 - weight) * shift**2",
        "",
    ),
    "rewards divided by the variance": (
        "ppo_continuous",
        "rewards / self.return_stats.std.item()",
        "rewards / self.return_stats.var.item()",
    ),
    "a finite side forgotten": (
        "ppo_continuous",
        "torch.where(low_only, low + 1, middle)",
        "middle",
    ),
    "no new episodes at a checkpoint": (
        "ppo_continuous",
        "                obs = start_episodes(envs, args.seed, step)",
        "                pass",
    ),
    "the return of cut episodes lasts": (
        "ppo_continuous",
        "reward_scaler.start_episodes()",
        "pass",
    ),
    "initial states depend on the seed alone": (
        "ppo_continuous",
        "np.random.SeedSequence([seed, step])",
        "np.random.SeedSequence([seed])",
    ),
    "unclipped actions": ("ppo_continuous", "actions.clamp(self.low, self.high)", "actions"),
    "generators that reset does not seed": (
        "ppo_continuous",
        "            seed_generators(self.unwrapped, seed)",
        "            pass",
    ),
    "several rewards are one": (
        "ppo_continuous",
        "float(np.asarray(reward).item())",
        "float(np.asarray(reward).sum())",
    ),
    "floats for integers": (
        "ppo_continuous",
        ' or not np.can_cast(x.dtype, space.dtype, "same_kind")',
        "",
    ),
    "a refused environment stays open": (
        "ppo_continuous",
        "        env.close()\n        raise\n    return env",
        "        raise\n    return env",
    ),
    "no word of cut episodes": (
        "ppo_continuous",
        "                warn_of_cuts(args, step - batch_size, last_returns)\n",
        "",
    ),
    "a crash leaves half a checkpoint": (
        "ppo_continuous",
        "torch.save(checkpoint, temporary)",
        'torch.save(checkpoint, Path(args.run_dir, "checkpoint.pt")); return',
    ),
}
MUTANTS |= {
    "a2c: down the policy gradient": (
        "a2c_continuous",
        "policy_loss = -(log_prob",
        "policy_loss = (log_prob",
    ),
    "a2c: gradient not clipped": (
        "a2c_continuous",
        "optimizer, args.max_grad_norm",
        "optimizer, 1e9",
    ),
    "a2c: entropy punished": ("a2c_continuous", "- args.ent_coef", "+ args.ent_coef"),
    "trpo: D from new to old": (
        "trpo_continuous",
        "def kl_divergence(old_mu, old_log_std, mu, log_std)",
        "def kl_divergence(mu, log_std, old_mu, old_log_std)",
    ),
    "trpo: D from new to old in the line search": (
        "trpo_continuous",
        "kl_divergence(old_mu, old_log_std, policy.mu(obs), policy.log_std)",
        "kl_divergence(policy.mu(obs), policy.log_std, old_mu, old_log_std)",
    ),
    "trpo: a step where the curvature is negative": (
        "trpo_continuous",
        "if not curvature > 0:",
        "if not curvature != 0:",
    ),
    "trpo: logarithm of the ratio": (
        "trpo_continuous",
        "((log_prob - old_log_prob).exp() * advantages)",
        "((log_prob - old_log_prob) * advantages)",
    ),
    "trpo: line search without the mean of D": (
        "trpo_continuous",
        " and mean_kl <= args.max_kl",
        "",
    ),
    "trpo: line search without each state's D": ("trpo_continuous", " and num_far == 0", ""),
    "trpo: line search without the improvement": ("trpo_continuous", "improvement > 0 and ", ""),
    "trpo: a rejected step stays": (
        "trpo_continuous",
        "    nn.utils.vector_to_parameters(old_theta, parameters)\n",
        "    pass\n",
    ),
    "trpo: one conjugate gradient iteration": (
        "trpo_continuous",
        "for _ in range(iterations):",
        "for _ in range(1):",
    ),
    "trpo: one conjugate gradient iteration asked for": (
        "trpo_continuous",
        "g, args.cg_iterations)",
        "g, 1)",
    ),
    "trpo: directions not conjugate": ("trpo_continuous", "p = next_r + beta * p", "p = next_r"),
    "trpo: H not damped": ("trpo_continuous", " + damping * vector", ""),
    "trpo: half the step": (
        "trpo_continuous",
        "(2 * args.max_kl / curvature)",
        "(args.max_kl / curvature)",
    ),
    "reinforce: returns leak over episodes": ("reinforce", "gamma * (1 - done[t]) *", "gamma *"),
    "reinforce: γ^n from the start of the batch": (
        "reinforce",
        'args.gamma ** batch["n"]',
        "args.gamma ** torch.arange(len(returns))",
    ),
    "reinforce: the last episode cut": (
        "reinforce",
        "        while not done:",
        "        while not done and len(transitions) < min_batch_steps:",
    ),
    "reinforce: no baseline": ("reinforce", "(returns - mean) /", "returns /"),
    "reinforce: down the policy gradient": (
        "reinforce",
        "-(advantages * log_prob)",
        "(advantages * log_prob)",
    ),
    "reinforce: the same episodes in each batch": (
        "reinforce",
        "np.random.default_rng([args.seed, step])",
        "np.random.default_rng([args.seed])",
    ),
    "ddpg: τ for 1 - τ": ("ddpg", "target_p.lerp_(p, args.tau)", "target_p.lerp_(p, 1 - args.tau)"),
    "ddpg: down the deterministic policy gradient": (
        "ddpg",
        ".mean() - mean_q",
        ".mean() + mean_q",
    ),
    "ddpg: a saturated policy stays": (
        "ddpg",
        "((u.abs() - 3).relu() ** 2).mean() - mean_q",
        "-mean_q",
    ),
    "ddpg: online networks in the target": (
        "ddpg",
        "target_critic(next_obs, target_policy.mu(next_obs))",
        "critic(next_obs, policy.mu(next_obs))",
    ),
    "ddpg: a time limit as a termination": (
        "ddpg",
        '"terminated": terminated,',
        '"terminated": done,',
    ),
    "ddpg: noise not scaled per dimension": (
        "ddpg",
        "self.exploration_noise * noise",
        "self.exploration_noise * noise / self.half_range.flatten()",
    ),
    "ddpg: the reset observation as the next one": (
        "ddpg",
        'true_next_obs[done] = np.stack(info["final_obs"][done])',
        "pass",
    ),
    "ddpg: the policy's gradient in the critic": (
        "ddpg",
        "policy_loss.backward(inputs=list(policy.parameters()))",
        "policy_loss.backward()",
    ),
    "ddpg: the oldest stay": ("ddpg", ") % self.capacity", ").clip(0, self.capacity - 1)"),
    "ddpg: the critic's step first": (
        "ddpg",
        "    critic_optimizer.zero_grad()\n    value_loss.backward()\n",
        "    critic_optimizer.zero_grad()\n    value_loss.backward()\n"
        "    critic_optimizer.step()\n",
    ),
}
OF_PROCESSES = {
    "each process its own gradient": (
        "ppo_continuous",
        "average_gradients(parameters)\n",
        "pass\n",
    ),
    "variance of one process": (
        "ppo_continuous",
        "world_sum(((x - mean) ** 2).sum(0))",
        "((x - mean) ** 2).sum(0)",
    ),
    "the same noise in each process": (
        "ppo_continuous",
        "np.float32)[:, RANK]",
        "np.float32)[:, 0]",
    ),
    "trpo: Hessian-vector products of one process": (
        "trpo_continuous",
        "world_mean(product)",
        "product",
    ),
    "trpo: the surrogate's gradient of one process": (
        "trpo_continuous",
        "world_mean(flat_gradient(old_L, parameters))",
        "flat_gradient(old_L, parameters)",
    ),
    "the same initial states in each process": (
        "ppo_continuous",
        "envs.num_envs)[RANK]",
        "envs.num_envs)[0]",
    ),
}
MUTANTS |= OF_PROCESSES
SUBJECTS = [
    "gae",
    "policy_gradient",
    "ppo",
    "trpo",
    "ddpg",
    "statistics",
    "policy",
    "training_loop",
]
SUBJECTS += ["lecture", "learning", "resume", "cli", "environments"]


def mutated(name):
    """The script's text with the mistake; says so where its place has moved."""
    script, old, new = MUTANTS[name]
    text = source(script)
    if name == "none":
        return text
    count = text.count(old)
    assert count == 1, f"{name!r}: {old!r} stands {count} times in {script}.py, not once: find it"
    return text.replace(old, new)


@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_is_one_mistake(name):
    text = mutated(name)
    compile(text, name, "exec")
    assert (text == source(MUTANTS[name][0])) == (name == "none")


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_is_found(name, tmp_path):
    for script in SCRIPTS:
        shutil.copy(ROOT / f"{script}.py", tmp_path)
    (tmp_path / f"{MUTANTS[name][0]}.py").write_text(mutated(name))
    subjects = ["torchrun"] if name in OF_PROCESSES else SUBJECTS
    files = [TESTS / f"test_{subject}.py" for subject in subjects]
    line = [sys.executable, "-m", "pytest", "-n", "0", "-x", "-q", "-p", "no:cacheprovider", *files]
    environment = os.environ | {"SCRIPTS_FROM": str(tmp_path)}
    done = subprocess.run(line, env=environment, capture_output=True, text=True)
    failed = [text for text in done.stdout.splitlines() if text.startswith("FAILED")]
    print((failed or ["all passed"])[0])
    assert done.returncode == (0 if name == "none" else 1), done.stdout
