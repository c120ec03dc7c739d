"""The suite fails for one-line mistakes: each is made in a copy of the script, and the tests of formulas run on it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, SCRIPTS

STEP = 'policy.statistics.copy_(merge_statistics(policy.statistics, batch["obs"]))'
CLIPPED = "ratio.clamp(1 - clip_coef, 1 + clip_coef) * advantages"
MUTANTS = {
    "none": ("", ""),
    "max for min": ("torch.min(ratio", "torch.max(ratio"),
    "no clip": (CLIPPED, "ratio * advantages"),
    "clip without min": (f"torch.min(ratio * advantages, {CLIPPED})", f"({CLIPPED})"),
    "trace goes on after a time limit": ("gae_lambda * done.logical_not()", "gae_lambda * terminated.logical_not()"),
    "bootstrap at a death": (" * terminated.logical_not() - values", " - values"),
    "V(reset observation) at a time limit": ('successors[done] = np.stack(info["final_obs"][done])', "pass"),
    "log-density not summed": ("np.log(2 * np.pi)).sum(-1)", "np.log(2 * np.pi))"),
    "values (B, 1)": ("mlp(sizes[0], 1, gain=1.0), nn.Flatten(0))", "mlp(sizes[0], 1, gain=1.0))"),
    "discounted return goes on": ("sums * ~done[:, None]", "sums"),
    "clipped action stored": ("(obs, actions.numpy(),", "(obs, actions.clamp(-1, 1).numpy(),"),
    "statistics before log_prob_old": (
        "        losses = update(",
        f"        {STEP}\n        losses = update(",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
def test_mutant_is_found(name, tmp_path):
    old, new = MUTANTS[name]
    for script in SCRIPTS:
        shutil.copy(ROOT / f"{script}.py", tmp_path)
    source = (tmp_path / "ppo_continuous.py").read_text()
    assert name == "none" or source.count(old) == 1
    (tmp_path / "ppo_continuous.py").write_text(source.replace(old, new) if old else source)
    tests = [str(Path(__file__).with_name(f"test_{part}.py")) for part in ("math", "rollout", "learning")]
    environment = os.environ | {"SCRIPTS_FROM": str(tmp_path)}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    print(next((line for line in done.stdout.splitlines() if line.startswith("FAILED")), "all passed"))
    assert done.returncode == (0 if name == "none" else 1), done.stdout
