"""The formulas against independent definitions of them."""

import itertools

import numpy as np
import pytest
import torch
from conftest import SCRIPTS, load

STOCHASTIC = [name for name in SCRIPTS if name != "ddpg"]
WITH_GAE = [name for name in SCRIPTS if hasattr(load(name), "compute_gae")]


def gae_by_definition(rewards, values, next_values, terminated, done, gamma, lam):
    """A_t = Σ_l (γλ)^l δ_{t+l}, each sum written out until the episode or the rollout ends."""
    T, N = rewards.shape
    advantages = np.zeros((T, N))
    for t, n in itertools.product(range(T), range(N)):
        for k in range(t, T):
            bootstrap = 0 if terminated[k, n] else gamma * next_values[k, n]
            delta = rewards[k, n] + bootstrap - values[k, n]
            advantages[t, n] += (gamma * lam) ** (k - t) * delta
            if done[k, n]:
                break
    return advantages


@pytest.mark.parametrize("name", WITH_GAE)
@pytest.mark.parametrize("gamma, lam", [(0.99, 0.95), (0.9, 0.0), (1.0, 1.0)])
def test_gae(name, gamma, lam):
    rng = np.random.default_rng(0)
    T, N = 40, 5
    rewards, values, next_values = rng.normal(size=(3, T, N))
    terminated, truncated = rng.random((2, T, N)) < 0.1  # either, both, neither
    assert (terminated & truncated).any() and (truncated & ~terminated).any()
    arrays = rewards, values, next_values, terminated, terminated | truncated
    expected = gae_by_definition(*arrays, gamma, lam)
    got = load(name).compute_gae(*map(torch.as_tensor, arrays), gamma, lam)
    np.testing.assert_allclose(got, expected, atol=1e-9)
    if lam == 0:
        np.testing.assert_allclose(got, rewards + gamma * next_values * ~terminated - values, atol=1e-12)


@pytest.mark.parametrize("name", STOCHASTIC)
@pytest.mark.parametrize("act_dim", [1, 3])
def test_log_density(name, act_dim):
    torch.manual_seed(0)
    policy = load(name).Policy(4, -np.ones(act_dim), np.ones(act_dim))
    policy.log_std.data.normal_()
    obs, actions = torch.randn(10, 4), torch.randn(10, act_dim)
    normal = torch.distributions.Normal(policy.mean(obs), policy.log_std.exp())
    expected = torch.distributions.Independent(normal, 1).log_prob(actions)
    assert policy.log_prob(obs, actions).shape == (10,)
    torch.testing.assert_close(policy.log_prob(obs, actions), expected)


@pytest.mark.parametrize(
    "advantage, ratio, value, gradient",  # of min(r A, clip(r, 0.8, 1.2) A) in r
    [
        (2, 0.5, 1.0, 2),
        (2, 1.1, 2.2, 2),
        (2, 1.5, 2.4, 0),
        (-2, 0.5, -1.6, 0),
        (-2, 1.1, -2.2, -2),
        (-2, 1.5, -3.0, -2),
    ],
)
def test_clipped_surrogate(ppo, advantage, ratio, value, gradient):
    log_prob = torch.tensor([ratio]).log().requires_grad_()
    surrogate = ppo.clipped_surrogate(log_prob, torch.zeros(1), torch.tensor([float(advantage)]), 0.2)
    surrogate.backward()
    assert surrogate.item() == pytest.approx(value)
    assert log_prob.grad.item() == pytest.approx(gradient * ratio)  # d r / d log π = r
    if gradient == 0:
        assert log_prob.grad.item() == 0


def ppo_batch(ppo, policy, T=16, N=3):
    """A rollout of random numbers, with deaths, time limits and actions of the policy."""
    rng = np.random.default_rng(1)
    obs_dim, act_dim = policy.statistics.shape[1], policy.log_std.numel()
    obs, next_obs = rng.normal(size=(2, T, N, obs_dim))
    actions = policy.sample(torch.as_tensor(obs, dtype=torch.float32), torch.randn(T, N, act_dim))
    terminated, truncated = rng.random((2, T, N)) < 0.1
    batch = {"obs": obs, "next_obs": next_obs, "rewards": rng.normal(size=(T, N))}
    batch |= {"terminated": terminated, "done": terminated | truncated}
    return {name: torch.as_tensor(x.astype(np.float32)) for name, x in batch.items()} | {"actions": actions}


def test_ppo_gradient_at_the_old_parameters(ppo):
    """One epoch of one minibatch: the gradients are those of A2C, of E[A log π] and of (V - R)²."""
    torch.manual_seed(0)
    policy, critic = (
        ppo.Policy(3, -np.ones(2), np.ones(2)),
        torch.nn.Sequential(ppo.mlp(3, 1, 1.0), torch.nn.Flatten(0)),
    )
    batch = ppo_batch(ppo, policy)
    optimizer = torch.optim.SGD([*policy.parameters(), *critic.parameters()], lr=0.0)
    args = ppo.Args(num_envs=3, num_steps=16, minibatch_size=48, update_epochs=1, max_grad_norm=1e9, vf_coef=0.3)
    ppo.update(policy, critic, optimizer, batch, np.random.default_rng(0), args)
    got = [p.grad.clone() for p in (*policy.parameters(), *critic.parameters())]

    obs, next_obs = (policy.normalize(batch[name]) for name in ("obs", "next_obs"))
    with torch.no_grad():
        values, next_values = (critic(x.flatten(0, 1)).reshape(16, 3) for x in (obs, next_obs))
    columns = [batch["rewards"], values, next_values, batch["terminated"] > 0, batch["done"] > 0]
    advantages = torch.as_tensor(gae_by_definition(*(x.numpy() for x in columns), 0.99, 0.95), dtype=torch.float32)
    normal = torch.distributions.Normal(policy.mean(obs), policy.log_std.exp())
    whitened = (advantages - advantages.mean()) / advantages.std()
    gain = (whitened * normal.log_prob(batch["actions"]).sum(-1)).mean()
    errors = critic(obs.flatten(0, 1)).reshape(16, 3) - (advantages + values)
    expected = torch.autograd.grad(-gain + 0.3 * (errors**2).mean(), [*policy.parameters(), *critic.parameters()])
    for one, other in zip(got, expected):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


def test_ppo_first_ratio_is_one(ppo, monkeypatch):
    torch.manual_seed(0)
    policy, critic = (
        ppo.Policy(3, -np.ones(2), np.ones(2)),
        torch.nn.Sequential(ppo.mlp(3, 1, 1.0), torch.nn.Flatten(0)),
    )
    ratios, surrogate = [], ppo.clipped_surrogate

    def record(log_prob, log_prob_old, *rest):
        ratios.append((log_prob - log_prob_old).exp().detach())
        return surrogate(log_prob, log_prob_old, *rest)

    monkeypatch.setattr(ppo, "clipped_surrogate", record)
    optimizer = torch.optim.Adam([*policy.parameters(), *critic.parameters()], lr=0.01)
    args = ppo.Args(num_envs=3, num_steps=16, minibatch_size=12, update_epochs=2)
    losses = ppo.update(policy, critic, optimizer, ppo_batch(ppo, policy), np.random.default_rng(0), args)
    torch.testing.assert_close(ratios[0], torch.ones(12), atol=1e-6, rtol=0)
    assert len(ratios) == 8 and (ratios[-1] - 1).abs().max() > 1e-3
    assert all(x.shape == (8,) and np.isfinite(x).all() for x in losses.values())


def test_statistics_of_a_stream(module):
    rng = np.random.default_rng(0)
    parts = [rng.normal(1000 + k, 1 + k, (7, 3, 4)) for k in range(30)]  # far from 0: squares of sums would lose digits
    statistics = torch.tensor([[0.0], [0.0], [1.0]]).repeat(1, 4)
    for part in parts:
        statistics = module.merge_statistics(statistics, part)
    stream = np.concatenate(parts).reshape(-1, 4)
    assert statistics.dtype == torch.float32 and (statistics[0] == len(stream)).all()
    np.testing.assert_allclose(statistics[1], stream.mean(0), atol=1e-4 * stream.std(0).min())
    np.testing.assert_allclose(statistics[2], stream.var(0), rtol=1e-4)


def test_action_map(module):
    low, high = np.array([2.0, -1.0, -0.5, -np.inf, -3.0]), np.array([3.0, 5.0, 0.25, np.inf, np.inf])
    policy = module.Policy(1, low, high)
    actions = torch.tensor([[-1.0] * 5, [0.0] * 5, [1.0] * 5, [-9.0] * 5])
    expected = [[2, -1, -0.5, -1, -1], [2.5, 2, -0.125, 0, 0], [3, 5, 0.25, 1, 1], [2, -1, -0.5, -9, -3]]
    np.testing.assert_allclose(policy.to_bounds(actions), expected)
    shaped = module.Policy(1, low[:4].reshape(2, 2), high[:4].reshape(2, 2))
    np.testing.assert_allclose(shaped.to_bounds(actions[:, :4]), np.array(expected)[:, :4].reshape(4, 2, 2))


def test_normalised_observations(module):
    policy = module.Policy(2, -np.ones(1), np.ones(1))
    policy.statistics.copy_(torch.tensor([[9.0, 9.0], [5.0, 0.0], [4.0, 1.0]]))
    torch.testing.assert_close(policy.normalize(torch.tensor([[9.0, 99.0]])), torch.tensor([[2.0, 10.0]]))
