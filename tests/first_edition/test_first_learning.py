"""Learning against closed-form answers: the Riccati gain, the value of a policy, the value of a reward without end."""

import numpy as np
import pytest
import torch
from first_helpers import SCRIPTS, load

WITH_V = [name for name in ("a2c_continuous", "trpo_continuous") if name in SCRIPTS]
A, B, R, GAMMA = 0.9, 0.5, 0.2, 0.9  # tests/envs.py, LQR
LQR = {  # settings that learn it in seconds; those left out are the defaults
    "reinforce": {"total_timesteps": 40_000, "num_steps": 300, "learning_rate": 1e-2},
    "a2c_continuous": {"total_timesteps": 60_000, "num_steps": 8, "learning_rate": 3e-3},
    "trpo_continuous": {"total_timesteps": 150_000, "learning_rate": 3e-3, "max_kl": 1e-3},  # 0.01: gains of 1.2 to 1.4
    "ddpg": {"total_timesteps": 6_000, "learning_starts": 1_000, "learning_rate": 1e-3, "tau": 0.02},
}
NOISE = {"a2c_continuous": {"num_steps": 8, "learning_rate": 3e-3}}


def riccati():
    """Gain k of the best u = -k x."""
    p = 1.0
    for _ in range(1000):
        p = 1 + GAMMA * A**2 * p - (GAMMA * A * B * p) ** 2 / (R + GAMMA * B**2 * p)
    return GAMMA * A * B * p / (R + GAMMA * B**2 * p)


def critic_of(module, run_dir):
    """V in raw reward units, of raw observations (B, obs_dim)."""
    checkpoint, policy = module.load_checkpoint(run_dir), module.load_policy(run_dir)
    critic = torch.nn.Sequential(module.mlp(policy.statistics.shape[1], 1, 1.0), torch.nn.Flatten(0))
    statistics = checkpoint["critic"].pop("statistics")
    critic.load_state_dict(checkpoint["critic"])
    scale = float(statistics[3])
    return lambda obs: critic(module.normalize(torch.as_tensor(obs), policy.statistics)).detach().numpy() * scale


@pytest.mark.parametrize("name", SCRIPTS)
def test_linear_quadratic_regulator(name, tmp_path):
    module = load(name)
    args = module.Args("envs:LQR-v0", gamma=GAMMA, eval_episodes=1, run_dir=str(tmp_path / "run"), **LQR[name])
    run_dir = module.train(args)
    policy, x = module.load_policy(run_dir), np.linspace(-0.8, 0.8, 9, dtype=np.float32)[:, None]
    u = policy.act(x)[:, 0]
    k = -np.polyfit(x[:, 0], u, 1)[0]
    loose = 1.5 if name == "ddpg" else 1  # a few thousand updates only, as each takes a millisecond
    assert k == pytest.approx(riccati(), rel=0.1 * loose)  # 0.95
    assert np.abs(u + k * x[:, 0]).max() < 0.1 * loose
    if name == "ddpg":
        p = (1 + R * k**2) / (1 - GAMMA * (A - B * k) ** 2)  # without noise the value is -p x²
        Q = torch.nn.Sequential(module.relu_net(2, 1), torch.nn.Flatten(0))
        Q.load_state_dict(module.load_checkpoint(run_dir)["critic"])
        values = Q(torch.from_numpy(np.concatenate([x, u[:, None] / 4], 1))).detach()
        np.testing.assert_allclose(values, -p * x[:, 0] ** 2, atol=0.15 * p * 0.64)
    if name not in WITH_V:
        return

    s = 4 * float(policy.log_std.detach().exp())  # deviation of u; the value of u = -k x + s ε is -(p x² + c)
    p = (1 + R * k**2) / (1 - GAMMA * (A - B * k) ** 2)
    c = (R * s**2 + GAMMA * p * B**2 * s**2) / (1 - GAMMA)
    np.testing.assert_allclose(critic_of(module, run_dir)(x), -(p * x[:, 0] ** 2 + c), atol=0.15 * (p * 0.64 + c))


@pytest.mark.parametrize("name", WITH_V)
def test_a_time_limit_is_not_the_end(name, tmp_path):
    """Reward 1 for ever, seen in episodes of 50 steps: V = 1 / (1 - γ) = 100; cut off at the limits it would be 27."""
    module = load(name)
    args = module.Args("envs:Noise-v0", total_timesteps=100_000, eval_episodes=1, **NOISE.get(name, {}))
    args.run_dir = str(tmp_path / "run")
    values = critic_of(module, module.train(args))(np.random.default_rng(0).normal(size=(100, 2)).astype(np.float32))
    np.testing.assert_allclose(values, 100, atol=2)


@pytest.mark.slow
@pytest.mark.parametrize("name", SCRIPTS)
def test_inverted_pendulum(name, tmp_path):
    module = load(name)
    args = module.Args("InvertedPendulum-v4", total_timesteps=200_000, run_dir=str(tmp_path / "run"))
    module.train(args)
    import json

    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["deterministic"]["mean"] > 900
