"""On CUDA each script makes the run that it makes on the CPU, up to rounding."""

import pytest
import torch
from helpers import tiny_args

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")


def trained(module, run_dir, device, steps):
    args = tiny_args(module, run_dir, "Hopper-v4", device=device, total_timesteps=steps)
    checkpoint = module.load_checkpoint(module.train(args))
    return {**checkpoint["policy"], **checkpoint.get("critic", {})}


@pytest.mark.parametrize("device", ["cuda", "auto"])
def test_a_gpu_makes_the_cpus_run(script, module, tmp_path, device):
    steps = 128 if script == "ddpg" else 512
    torch.zeros(1, device="cuda")
    counts, runs = [torch.cuda.memory_stats()["allocation.all.allocated"]], []
    for where in ("cpu", device):
        runs.append(trained(module, tmp_path / where, where, steps))
        counts.append(torch.cuda.memory_stats()["allocation.all.allocated"])
    assert counts[0] == counts[1] < counts[2] - 100  # one stays off the GPU, the other is there
    expected, got = runs
    for name in expected:
        torch.testing.assert_close(got[name], expected[name], atol=1e-3, rtol=1e-3)


def test_a_cpu_resumes_what_a_gpu_began(module, tmp_path):
    trained(module, tmp_path / "run", "cuda", 256)
    trained(module, tmp_path / "run", "cpu", 512)
    policy = module.load_policy(tmp_path / "run")
    assert {x.device.type for x in policy.state_dict().values()} == {"cpu"}
    assert module.load_checkpoint(tmp_path / "run")["step"] >= 512
