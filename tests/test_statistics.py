"""Running statistics, the normalization of observations, the scaling of rewards."""

import numpy as np
import pytest
import torch
from helpers import STOCHASTIC, WITH_CRITIC, load, networks


@pytest.fixture(params=STOCHASTIC)
def script(request):
    return request.param


def statistics_of(module, *parts):
    statistics = module.RunningStatistics(parts[0].shape[-1])
    for part in parts:
        statistics.update(part)
    return statistics


def test_statistics_of_a_stream(module):
    """Far from 0, where a sum of squares would lose digits; each part with its own mean and σ."""
    rng = np.random.default_rng(0)
    parts = [rng.normal(1000 + k, 1 + k, (7, 3, 4)) for k in range(30)]
    statistics = statistics_of(module, *parts)
    stream = np.concatenate(parts).reshape(-1, 4)
    assert {x.dtype for x in statistics.state_dict().values()} == {torch.float32}
    assert statistics.count == len(stream)
    np.testing.assert_allclose(statistics.mean, stream.mean(0), atol=1e-4 * stream.std(0).min())
    np.testing.assert_allclose(statistics.var, stream.var(0), rtol=1e-4)
    np.testing.assert_allclose(statistics.std, stream.std(0), rtol=1e-4)


def test_moments(module):
    x = torch.from_numpy(np.random.default_rng(0).normal(5, 2, (50, 3)))
    count, mean, var = module.moments(x)
    assert count == 50
    np.testing.assert_allclose(mean, x.numpy().mean(0))
    np.testing.assert_allclose(var, x.numpy().var(0))


def test_normalized_observations(module):
    policy, _ = networks(module, obs_dim=2)
    raw = torch.tensor([[9.0, 99.0], [7.0, -99.0]])
    assert torch.equal(policy.obs_stats.normalize(raw), torch.tensor([[9.0, 10.0], [7.0, -10.0]]))
    policy.obs_stats.mean.copy_(torch.tensor([5.0, 0.0]))
    policy.obs_stats.std.copy_(torch.tensor([2.0, 1.0]))
    expected = torch.tensor([[2.0, 10.0], [1.0, -10.0]])
    torch.testing.assert_close(policy.obs_stats.normalize(raw), expected)


@pytest.mark.parametrize("offset, scale", [(0, 1e-8), (0, 1e12), (1e5, 1), (1e5, 0.1), (-3, 1e-6)])
def test_any_scale_and_offset_is_normalized(module, offset, scale):
    """Standard normal numbers come back from their scaled copies, up to what float32 holds."""
    x = np.random.default_rng(0).normal(size=(2000, 1))
    raw = torch.from_numpy((offset + scale * x).astype(np.float32))
    got = statistics_of(module, raw).normalize(raw)
    rounding = 2e-7 * abs(offset) / scale
    np.testing.assert_allclose(got, (x - x.mean()) / x.std(), atol=1e-3 + rounding)


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e5, -1e-6])
def test_a_constant_dimension_stays_0(module, constant):
    raw = torch.full((100, 1), constant)
    statistics = statistics_of(module, raw, raw)
    assert (statistics.normalize(raw) == 0).all()
    last_bit = torch.nextafter(raw, torch.tensor(torch.inf))
    assert (statistics.normalize(last_bit).abs() <= 1.2).all()  # no rounding is amplified


@pytest.fixture(params=WITH_CRITIC)
def scaler(request):
    return load(request.param).RewardScaler(2, 0.9)


def test_rewards_are_divided_by_the_standard_deviation_of_the_discounted_return(scaler):
    """The discounted return, summed from the start of each episode, over two rollouts."""
    rng = np.random.default_rng(0)
    rewards, done = rng.normal(1, 2, (30, 2)), rng.random((30, 2)) < 0.2
    discounted_returns = np.zeros((30, 2))
    for n in range(2):
        first = 0
        for t in range(30):
            powers = 0.9 ** np.arange(t - first, -1, -1)
            discounted_returns[t, n] = powers @ rewards[first : t + 1, n]
            first = t + 1 if done[t, n] else first
    for stop in (20, 30):
        start = 0 if stop == 20 else 20
        got = scaler(rewards[start:stop], done[start:stop])
        expected = rewards[start:stop] / discounted_returns[:stop].std()
        np.testing.assert_allclose(got, expected, rtol=1e-5)


@pytest.mark.parametrize("scale", [1e-10, 1e-3, 1e6])
def test_the_unit_of_the_reward_does_not_matter(scaler, scale):
    rewards = np.random.default_rng(0).normal(1, 2, (30, 2))
    got = scaler(scale * rewards, np.zeros((30, 2), bool))
    assert 0.1 < got.std() < 1
    plain = type(scaler)(2, 0.9)(rewards, np.zeros((30, 2), bool))
    np.testing.assert_allclose(got, plain, rtol=1e-4)


def test_rewards_of_0_stay_0(scaler):
    got = scaler(np.zeros((30, 2)), np.zeros((30, 2), bool))
    assert (got == 0).all()


def test_new_episodes_start_with_a_return_of_0(scaler):
    rewards, done = np.ones((5, 2)), np.zeros((5, 2), bool)
    scaler(rewards, done)
    scaler.start_episodes()
    scaler(rewards, done)
    discounted_returns = np.cumsum(0.9 ** np.arange(5))
    assert scaler.return_stats.var.item() == pytest.approx(discounted_returns.var(), rel=1e-5)
    assert scaler.return_stats.count == 20
