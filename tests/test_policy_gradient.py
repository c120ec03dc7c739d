"""The density of the policy, and the gradients that `update` hands to its optimizer."""

import numpy as np
import pytest
import torch
from helpers import (
    STOCHASTIC,
    advantages_by_definition,
    density,
    load,
    networks,
    normalized,
    random_batch,
    run_update,
    sampled,
)

SIZES = {"num_envs": 3, "num_steps": 16}
CHANGES = {  # one gradient step on the whole batch
    "reinforce": {},
    "a2c_continuous": SIZES | {"max_grad_norm": 1e9, "vf_coef": 0.3},
    "ppo_continuous": SIZES
    | {"minibatch_size": 48, "update_epochs": 1, "max_grad_norm": 1e9, "vf_coef": 0.3},
    "trpo_continuous": SIZES | {"minibatch_size": 48, "update_epochs": 1},
}
WITH_BONUS = [name for name in ("a2c_continuous", "ppo_continuous") if name in STOCHASTIC]


@pytest.mark.parametrize("script", STOCHASTIC)
@pytest.mark.parametrize("act_dim", [1, 3])
def test_log_density(script, act_dim):
    torch.manual_seed(0)
    policy = load(script).Policy(4, -np.ones(act_dim), np.ones(act_dim))
    policy.log_std.data.normal_()
    obs, actions = torch.randn(10, 4), torch.randn(10, act_dim)
    expected = torch.distributions.Independent(density(policy, obs), 1).log_prob(actions)
    assert policy.log_prob(obs, actions).shape == (10,)
    torch.testing.assert_close(policy.log_prob(obs, actions), expected)


@pytest.mark.parametrize("script", STOCHASTIC)
def test_entropy(script):
    policy, _ = networks(load(script))
    policy.log_std.data.normal_()
    expected = density(policy, torch.zeros(3)).entropy().sum()
    torch.testing.assert_close(policy.entropy(), expected)


def policy_gradient(policy, batch, weights):
    """∇E[w log π(a|s)] with torch's own density, one tensor per parameter of the policy."""
    log_prob = density(policy, normalized(policy, batch["obs"])).log_prob(batch["actions"])
    return torch.autograd.grad((weights * log_prob.sum(-1)).mean(), list(policy.parameters()))


def gradients(script, batch, critic_state=None, **changes):
    """What reaches the optimizer, whose learning rate is 0: the policy's, the critic's."""
    module = load(script)
    policy, critic = networks(module)
    learners = [*policy.parameters(), *(critic.parameters() if critic else [])]
    if critic_state is not None:
        critic.load_state_dict(critic_state)
    optimizer = torch.optim.SGD(learners, lr=0.0)
    args = module.Args(**CHANGES[script] | changes)
    run_update(module, policy, critic, optimizer, batch, args)
    of_critic = [p.grad for p in critic.parameters()] if critic else []
    return [p.grad for p in policy.parameters()], of_critic


def assert_close(one, other):
    for x, y in zip(one, other, strict=True):
        torch.testing.assert_close(x, y, atol=2e-6, rtol=1e-4)


def case(script):
    policy, critic = networks(load(script))
    batch = random_batch(policy)
    advantages, values = advantages_by_definition(policy, critic, batch)
    errors = critic(normalized(policy, batch["obs"])) - (advantages + values)
    of_critic = torch.autograd.grad(0.3 * (errors**2).mean(), list(critic.parameters()))
    return policy, batch, advantages, of_critic


def test_a2c_gradient():
    """∇E[A log π(a|s)] with A by its definition; c ∇E[(V - R)²]."""
    policy, batch, A, expected = case("a2c_continuous")
    of_policy, of_critic = gradients("a2c_continuous", batch)
    assert_close(of_policy, [-g for g in policy_gradient(policy, batch, A)])
    assert_close(of_critic, expected)


def test_ppo_gradient_at_the_old_parameters():
    """∇E[(A - m) / s · log π(a|s)], A by its definition, m and s of the batch; c ∇E[(V - R)²]."""
    policy, batch, A, expected = case("ppo_continuous")
    of_policy, of_critic = gradients("ppo_continuous", batch)
    weights = (A - A.mean()) / (A.var(correction=0) + 1e-8).sqrt()
    assert_close(of_policy, [-g for g in policy_gradient(policy, batch, weights)])
    assert_close(of_critic, expected)


def test_ppo_gradient_at_the_old_parameters_is_that_of_a2c():
    """One epoch of one minibatch. PPO normalizes A: its gradient is (A2C's - m ∇E[log π]) / s."""
    policy, batch, A, _ = case("ppo_continuous")
    of_policy, of_critic = gradients("ppo_continuous", batch)
    a2c_policy, a2c_critic = gradients("a2c_continuous", batch)
    shift = policy_gradient(policy, batch, torch.ones(16, 3))  # ∇E[log π]; A2C's is -∇E[A log π]
    expected = [(g + A.mean() * h) / A.std(correction=0) for g, h in zip(a2c_policy, shift)]
    assert_close(of_policy, expected)
    assert_close(of_critic, a2c_critic)


def test_trpo_gradient_at_the_old_parameters_is_that_of_a2c(monkeypatch):
    """g, the right-hand side of H x = g, is A2C's policy gradient."""
    module, seen = load("trpo_continuous"), []
    real = module.conjugate_gradient
    policy, critic = networks(module)
    batch = random_batch(policy)

    def record(matvec, b, *rest):
        seen.append(b)
        return real(matvec, b, *rest)

    monkeypatch.setattr(module, "conjugate_gradient", record)
    optimizer = torch.optim.SGD(critic.parameters(), lr=0.0)
    args = module.Args(**CHANGES["trpo_continuous"])
    run_update(module, policy, critic, optimizer, batch, args)
    expected, _ = gradients("a2c_continuous", batch)
    flat = torch.cat([g.flatten() for g in expected])
    torch.testing.assert_close(seen[0], -flat, atol=2e-6, rtol=1e-4)


def test_trpo_fits_the_critic_to_the_targets():
    policy, critic = networks(load("trpo_continuous"))
    batch = random_batch(policy)
    A, values = advantages_by_definition(policy, critic, batch)
    errors = critic(normalized(policy, batch["obs"])) - (A + values)
    expected = torch.autograd.grad((errors**2).mean(), list(critic.parameters()))
    module = load("trpo_continuous")
    policy, critic = networks(module)
    optimizer = torch.optim.SGD(critic.parameters(), lr=0.0)
    args = module.Args(**CHANGES["trpo_continuous"])
    report = run_update(module, policy, critic, optimizer, batch, args)
    assert_close([p.grad for p in critic.parameters()], expected)
    assert report["value_loss"].item() == pytest.approx((A**2).mean().item(), rel=1e-4)


def test_reinforce_gradient_is_that_of_a2c_without_a_critic():
    """V = 0, λ = 1, complete episodes. REINFORCE: (A2C's gradient - m ∇E[log π]) / σ of G."""
    policy, _ = networks(load("reinforce"))
    batch = random_batch(policy, T=48, N=1)
    batch["terminated"][-1], batch["done"][-1] = 1, 1
    flat = {name: x.flatten(0, 1) for name, x in batch.items()}
    of_policy, _ = gradients("reinforce", flat, gamma=0.9)
    _, critic = networks(load("a2c_continuous"))
    zero = {name: torch.zeros_like(x) for name, x in critic.state_dict().items()}
    a2c_policy, _ = gradients("a2c_continuous", batch, zero, gamma=0.9, gae_lambda=1.0)
    returns = returns_by_definition(flat["rewards"].numpy(), flat["done"].numpy() > 0, 0.9)
    m, s = returns.mean().item(), returns.std().item()
    shift = policy_gradient(policy, flat, torch.ones(48))
    assert_close(of_policy, [(g + m * h) / s for g, h in zip(a2c_policy, shift)])


def returns_by_definition(rewards, done, gamma):
    """G_n = Σ_k γ^k r_{n+k}, each sum written out to the end of the episode."""
    ends = np.flatnonzero(done)
    last = [ends[ends >= t][0] for t in range(len(rewards))]
    sums = [
        sum(gamma ** (k - t) * rewards[k] for k in range(t, last[t] + 1))
        for t in range(len(rewards))
    ]
    return np.array(sums, np.float32)


def test_returns_to_go():
    rng = np.random.default_rng(0)
    rewards, done = rng.normal(size=200).astype(np.float32), rng.random(200) < 0.1
    done[-1] = True
    tensors = torch.from_numpy(rewards), torch.from_numpy(done).float()
    for gamma in (0.0, 0.9, 1.0):
        got = load("reinforce").returns_to_go(*tensors, gamma)
        expected = returns_by_definition(rewards, done, gamma)
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("discounted", [True, False])
def test_reinforce_gradient_of_a_small_discounted_problem(discounted):
    """Two steps in states 0.5 and -1, rewards -(a - 1)² and -(a + 1)² for actions N(μ(s), σ²).

    With γ^n the gradient is that of J = E[r_0 + γ r_1], exactly known; without, every state counts
    alike: E[r_0 + r_1].
    """
    module, gamma, episodes = load("reinforce"), 0.5, 100_000
    policy, _ = networks(module, 1, 1)
    policy.log_std.data.fill_(-0.3)
    noise = torch.randn(2, episodes, 1, generator=torch.Generator().manual_seed(0))
    noise = (noise - noise.mean(1, keepdim=True)) / noise.std(1, keepdim=True)
    obs = torch.tensor([0.5, -1.0]).repeat(episodes, 1).T.unsqueeze(-1)  # (2, episodes, 1)
    actions = sampled(policy, obs, noise)
    targets = torch.tensor([1.0, -1.0]).view(2, 1, 1)
    rewards = -((actions - targets) ** 2).squeeze(-1)
    n = torch.tensor([[0.0], [1.0]]).repeat(1, episodes)
    batch = {"obs": obs, "actions": actions, "rewards": rewards, "n": n, "done": n}
    batch = {name: x.transpose(0, 1).flatten(0, 1) for name, x in batch.items()}

    states = torch.tensor([[0.5], [-1.0]])
    mu = policy.mu(states).squeeze(-1)
    expected_rewards = -((mu - torch.tensor([1.0, -1.0])) ** 2) - (2 * policy.log_std).exp()
    J = expected_rewards[0] + (gamma if discounted else 1) * expected_rewards[1]
    exact = torch.autograd.grad(J, list(policy.parameters()))

    optimizer = torch.optim.SGD(policy.parameters(), lr=0.0)
    args = module.Args(gamma=gamma, discounted_gradient=discounted)
    returns = module.returns_to_go(batch["rewards"], batch["done"], gamma)
    module.update(policy, optimizer, batch, args)
    scale = 2 * returns.std(correction=0)  # of two steps an episode, divided by σ of G
    got = torch.cat([p.grad.flatten() for p in policy.parameters()]) * -scale
    exact = torch.cat([g.flatten() for g in exact])
    assert (got - exact).norm() < 0.03 * exact.norm()


@pytest.mark.parametrize("script", WITH_BONUS)
def test_the_entropy_bonus_raises_sigma(script):
    """∂S / ∂log σ = 1 in each dimension, and nothing else sees it."""
    batch = random_batch(networks(load(script))[0])
    without, _ = gradients(script, batch)
    with_bonus, _ = gradients(script, batch, ent_coef=0.1)
    names = [name for name, _ in networks(load(script))[0].named_parameters()]
    shift = [-0.1 * torch.ones(2) if name == "log_std" else 0.0 for name in names]
    assert "log_std" in names
    assert_close(with_bonus, [g + s for g, s in zip(without, shift)])


@pytest.mark.parametrize("script", WITH_BONUS)
def test_gradients_are_clipped_by_norm(script):
    batch = random_batch(networks(load(script))[0])
    free, clipped = (
        torch.cat([g.flatten() for part in parts for g in part])
        for parts in (gradients(script, batch, max_grad_norm=norm) for norm in (1e9, 0.01))
    )
    assert free.norm() > 0.02
    torch.testing.assert_close(clipped, free * 0.01 / free.norm(), rtol=1e-4, atol=1e-8)


def test_what_an_update_of_a2c_did_is_reported():
    """The divergence and the explained variance again, by torch's distributions and NumPy."""
    module = load("a2c_continuous")
    policy, critic = networks(module)
    batch = random_batch(policy)
    A, values = advantages_by_definition(policy, critic, batch)
    obs = normalized(policy, batch["obs"])
    old_log_prob = density(policy, obs).log_prob(batch["actions"]).sum(-1).detach()
    optimizer = torch.optim.SGD([*policy.parameters(), *critic.parameters()], lr=0.1)
    args = module.Args(**SIZES, max_grad_norm=1e9)
    losses = run_update(module, policy, critic, optimizer, batch, args)
    with torch.no_grad():
        log_ratio = density(policy, obs).log_prob(batch["actions"]).sum(-1) - old_log_prob
    expected = {
        "policy_loss": -(old_log_prob * A).mean(),
        "value_loss": (A**2).mean(),
        "approx_kl": (log_ratio.exp() - 1 - log_ratio).mean(),
        "explained_variance": 1 - A.var() / (A + values).var(),
    }
    for name, value in expected.items():
        assert float(losses[name]) == pytest.approx(float(value), rel=1e-3), name
    assert losses["approx_kl"] > 1e-4
