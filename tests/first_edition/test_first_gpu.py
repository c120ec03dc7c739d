"""On CUDA each script makes the run that it makes on the CPU, up to rounding; left out where there is no GPU."""

import pytest
import torch
from first_helpers import load

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")


def trained(module, tiny, tmp_path, device, folder, steps):
    args = tiny("Hopper-v4", device=device, run_dir=str(tmp_path / folder), total_timesteps=steps)
    module.train(args)
    checkpoint = module.load_checkpoint(args.run_dir)
    return {**checkpoint["policy"], **checkpoint.get("critic", {})}


@pytest.mark.parametrize("device", ["cuda", "auto"])
def test_a_gpu_makes_the_cpus_run(script, module, tiny, tmp_path, device):
    steps = 128 if script == "ddpg" else 512
    torch.zeros(1, device="cuda")
    counts, runs = [torch.cuda.memory_stats()["allocation.all.allocated"]], []
    for where in ("cpu", device):
        runs.append(trained(module, tiny, tmp_path, where, where, steps))
        counts.append(torch.cuda.memory_stats()["allocation.all.allocated"])
    assert counts[0] == counts[1] < counts[2] - 100  # one stays off the GPU, the other has its networks there
    expected, got = runs
    for name in expected:
        torch.testing.assert_close(got[name], expected[name], atol=1e-3, rtol=1e-3)


def test_what_a_gpu_began_a_cpu_goes_on_with(module, tiny, tmp_path):
    trained(module, tiny, tmp_path, "cuda", "run", 256)
    trained(module, tiny, tmp_path, "cpu", "run", 512)
    policy = load(module.SCRIPT).load_policy(tmp_path / "run")
    assert {x.device.type for x in policy.state_dict().values()} == {"cpu"}
    assert module.load_checkpoint(tmp_path / "run")["step"] >= 512
