"""The suite fails for one-line mistakes: each is made in a copy of the script, and the tests of formulas run on it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from first_helpers import ROOT, SCRIPTS

STEP = 'policy.statistics.copy_(merge_statistics(policy.statistics, batch["obs"]))'
BATCH = "        batch = dict(zip("
WHOLE = "while len(rows) < args.num_steps or n > 0:"
MUTANTS = {
    "none": ("a2c_continuous", "", ""),
    "trace goes on after a time limit": (
        "a2c_continuous",
        "gae_lambda * done.logical_not()",
        "gae_lambda * terminated.logical_not()",
    ),
    "bootstrap at a death": ("a2c_continuous", " * terminated.logical_not() - values", " - values"),
    "V(reset observation) at a time limit": (
        "a2c_continuous",
        'successors[done] = np.stack(info["final_obs"][done])',
        "pass",
    ),
    "log-density not summed": ("a2c_continuous", "np.log(2 * np.pi)).sum(-1)", "np.log(2 * np.pi))"),
    "values (B, 1)": ("a2c_continuous", "1, gain=1.0), nn.Flatten(0))", "1, gain=1.0))"),
    "discounted return goes on": ("a2c_continuous", "sums * ~done[:, None]", "sums"),
    "clipped action stored": ("a2c_continuous", "(obs, actions, rewards,", "(obs, actions.clip(-1, 1), rewards,"),
    "statistics before log_prob_old": (
        "a2c_continuous",
        "        losses = update(",
        f"        {STEP}\n        losses = update(",
    ),
    "divergence from new to old": (
        "trpo_continuous",
        "def kl_divergence(mean_old, log_std_old, mean, log_std)",
        "def kl_divergence(mean, log_std, mean_old, log_std_old)",
    ),
    "divergence from new to old in the line search": (
        "trpo_continuous",
        "kl_divergence(old.mean(obs).detach(), old.log_std.detach(), policy.mean(obs), policy.log_std)",
        "kl_divergence(policy.mean(obs), policy.log_std, old.mean(obs).detach(), old.log_std.detach())",
    ),
    "step where the curvature is negative": ("trpo_continuous", "if curvature > 0 else", "if curvature != 0 else"),
    "logarithm of the ratio": (
        "trpo_continuous",
        "((log_prob - log_prob_old).exp() * advantages)",
        "((log_prob - log_prob_old) * advantages)",
    ),
    "down the policy gradient": ("a2c_continuous", "-(policy.log_prob(obs", "(policy.log_prob(obs"),
    "gradient not shortened": ("a2c_continuous", "args.max_grad_norm)", "1e9)"),
    "line search without the divergence": ("trpo_continuous", "and kl <= args.max_kl", ""),
    "line search without each state's divergence": ("trpo_continuous", "and far == 0:", ":"),
    "line search without the improvement": ("trpo_continuous", "if L > L_old and", "if"),
    "a rejected step stays": ("trpo_continuous", "policy.load_state_dict(old.state_dict())", "pass"),
    "one conjugate gradient iteration": ("trpo_continuous", "for _ in range(iterations):", "for _ in range(1):"),
    "one conjugate gradient iteration asked for": ("trpo_continuous", "g, args.cg_iterations)", "g, 1)"),
    "returns leak over episodes": ("reinforce", "gamma * G * (not last)", "gamma * G"),
    "γ^n from the start of the batch": ("reinforce", '** batch["n"]', "** torch.arange(len(returns))"),
    "the last episode cut": ("reinforce", WHOLE, "while len(rows) < args.num_steps:"),
    "the unfinished episode dropped": (
        "reinforce",
        BATCH,
        "        ends = [i + 1 for i, row in enumerate(rows) if row[3][0]]\n"
        "        rows = rows[: ends[-1]] if ends else rows\n" + BATCH,
        (WHOLE, "while len(rows) < args.num_steps:"),
    ),
    "τ for 1 - τ": ("ddpg", ", args.tau)", ", 1 - args.tau)"),
    "down the deterministic policy gradient": ("ddpg", ".mean() - critic(", ".mean() + critic("),
    "a saturated policy stays": ("ddpg", "((u.abs() - 3).relu() ** 2).mean() - critic(", "-critic("),
    "online networks in the target": (
        "ddpg",
        "target_critic(torch.cat([next_obs, target_policy.mean(next_obs)], 1))",
        "critic(torch.cat([next_obs, policy.mean(next_obs)], 1))",
    ),
    "a time limit as a death": ("ddpg", "successors, rewards, terminated)", "successors, rewards, done)"),
    "noise not scaled per dimension": ("ddpg", "self.std * noise", "self.std * noise / self.bounds[3].flatten()"),
    "the reset observation as the next one": (
        "ddpg",
        'successors[done] = np.stack(info["final_obs"][done])',
        "pass",
    ),
    "the policy's gradient in the critic": ("ddpg", "backward(inputs=[*policy.parameters()])", "backward()"),
}
OF_PROCESSES = {
    "each process its own gradient": ("a2c_continuous", "average(*[p.grad for p in parameters])", "pass"),
    "squares of one process": (
        "a2c_continuous",
        "average(((x - sums / n) ** 2).sum(0))",
        "(((x - sums / n) ** 2).sum(0),)",
    ),
    "the same noise in each process": ("a2c_continuous", "np.float32)[:, own]", "np.float32)[:, :n]"),
    "processes weighed alike": ("reinforce", ".sum() * PROCESSES / count", ".mean()"),
    "Fisher-vector products of one process": (
        "trpo_continuous",
        "average(nn.utils.parameters_to_vector(columns))[0]",
        "nn.utils.parameters_to_vector(columns)",
    ),
}
MUTANTS |= OF_PROCESSES


@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_is_one_mistake(name):
    """What a mutant replaces is there, once."""
    script, *changes = MUTANTS[name]
    source = (ROOT / f"{script}.py").read_text()
    assert name == "none" or all(source.count(old) == 1 for old, _ in [changes[:2], *changes[2:]])


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_is_found(name, tmp_path):
    script, *changes = MUTANTS[name]
    for other in SCRIPTS:
        shutil.copy(ROOT / f"{other}.py", tmp_path)
    source = (tmp_path / f"{script}.py").read_text()
    for old, new in [changes[:2], *changes[2:]] if name != "none" else []:
        source = source.replace(old, new)
    (tmp_path / f"{script}.py").write_text(source)
    parts = ["processes"] if name in OF_PROCESSES else ["math", "rollout", "ddpg", "learning"]
    tests = [str(Path(__file__).with_name(f"test_first_{part}.py")) for part in parts]
    environment = os.environ | {"SCRIPTS_FROM": str(tmp_path)}
    command = [sys.executable, "-m", "pytest", "-n", "0", "-x", "-q", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    print(next((line for line in done.stdout.splitlines() if line.startswith("FAILED")), "all passed"))
    assert done.returncode == (0 if name == "none" else 1), done.stdout
