"""Advantages against their definition."""

import numpy as np
import pytest
import torch
from helpers import WITH_CRITIC, gae_by_definition, load


@pytest.mark.parametrize("script", WITH_CRITIC)
@pytest.mark.parametrize("gamma, gae_lambda", [(0.99, 0.95), (0.9, 0.0), (1.0, 1.0)])
def test_gae(script, gamma, gae_lambda):
    rng = np.random.default_rng(0)
    T, N = 40, 5
    rewards, values, next_values = rng.normal(size=(3, T, N))
    terminated, truncated = rng.random((2, T, N)) < 0.1  # either, both, neither
    assert (terminated & truncated).any() and (truncated & ~terminated).any()
    arrays = rewards, values, next_values, terminated, terminated | truncated
    expected = gae_by_definition(*arrays, gamma, gae_lambda)
    tensors = [torch.as_tensor(x, dtype=torch.float64) for x in arrays]
    got = load(script).compute_gae(*tensors, gamma, gae_lambda)
    np.testing.assert_allclose(got, expected, atol=1e-9)


@pytest.mark.parametrize("script", WITH_CRITIC)
def test_lambda_0_is_the_one_step_advantage(script):
    """r + γ V(s') - V(s), the lecture's advantage, with V(s') = 0 only after a termination."""
    rng = np.random.default_rng(0)
    rewards, values, next_values = torch.from_numpy(rng.normal(size=(3, 40, 5)))
    terminated, truncated = torch.from_numpy(1.0 * (rng.random((2, 40, 5)) < 0.1))
    done = torch.maximum(terminated, truncated)
    got = load(script).compute_gae(rewards, values, next_values, terminated, done, 0.9, 0.0)
    next_values[terminated == 1] = 0
    np.testing.assert_allclose(got, rewards + 0.9 * next_values - values, atol=1e-12)
