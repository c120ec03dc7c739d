"""The density of the policy, and the gradients that `update` hands to its optimizer."""

import numpy as np
import pytest
import torch
from helpers import (
    STOCHASTIC,
    density,
    gae_by_definition,
    load,
    networks,
    normalized,
    random_batch,
)

SIZES = {"num_envs": 3, "num_steps": 16}
ONE_MINIBATCH = SIZES | {"minibatch_size": 48, "update_epochs": 1}  # one epoch


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


def policy_gradient(policy, batch, weights):
    """∇E[w log π(a|s)] with torch's own density, one tensor per parameter of the policy."""
    log_prob = density(policy, normalized(policy, batch["obs"])).log_prob(batch["actions"])
    return torch.autograd.grad((weights * log_prob.sum(-1)).mean(), list(policy.parameters()))


def gradients(script, batch, changes):
    """The gradients of the policy's and of the critic's parameters; the learning rate is 0."""
    module = load(script)
    policy, critic = networks(module)
    parameters = [*policy.parameters(), *critic.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=0.0)
    module.update(
        policy, critic, optimizer, batch, np.random.default_rng(0), module.Args(**changes)
    )
    return [p.grad for p in policy.parameters()], [p.grad for p in critic.parameters()]


def gradients_of_a2c(batch, vf_coef):
    """Those of the first edition's A2C, with the same weights."""
    ppo, a2c = load("ppo_continuous"), load("a2c_continuous")
    policy, critic = networks(ppo)
    a2c_policy = a2c.Policy(3, -np.ones(2), np.ones(2))
    a2c_policy.mean.load_state_dict(policy.mu.state_dict())
    a2c_critic = torch.nn.Sequential(a2c.mlp(3, 1, 1.0), torch.nn.Flatten(0))
    a2c_critic[0].load_state_dict(critic.value.state_dict())
    parameters = [*a2c_policy.mean.parameters(), a2c_policy.log_std, *a2c_critic.parameters()]
    args = a2c.Args(**SIZES, max_grad_norm=1e9, vf_coef=vf_coef)
    a2c.update(a2c_policy, a2c_critic, torch.optim.SGD(parameters, lr=0.0), batch, args)
    mean, critic = list(a2c_policy.mean.parameters()), list(a2c_critic.parameters())
    return [a2c_policy.log_std.grad, *[p.grad for p in mean]], [p.grad for p in critic]


def assert_close(one, other):
    for x, y in zip(one, other, strict=True):
        torch.testing.assert_close(x, y, atol=2e-6, rtol=1e-4)


def advantages_and_errors(policy, critic, batch, gamma, gae_lambda):
    """Advantages by their definition (T, N); V(s) - (A + V_old(s)), which is -A where V = V_old."""
    with torch.no_grad():
        values = critic(normalized(policy, batch["obs"]))
        next_values = critic(normalized(policy, batch["next_obs"]))
    ends = batch["terminated"] > 0, batch["done"] > 0
    arrays = [x.numpy() for x in (batch["rewards"], values, next_values, *ends)]
    advantages = torch.tensor(gae_by_definition(*arrays, gamma, gae_lambda), dtype=torch.float32)
    return advantages, critic(normalized(policy, batch["obs"])) - (advantages + values)


def test_ppo_gradient_at_the_old_parameters(ppo):
    """∇E[(A - m) / s · log π(a|s)], A by its definition, m and s of the batch; c ∇E[(V - R)²]."""
    policy, critic = networks(ppo)
    batch = random_batch(policy)
    changes = ONE_MINIBATCH | {"max_grad_norm": 1e9, "vf_coef": 0.3}
    of_policy, of_critic = gradients("ppo_continuous", batch, changes)
    A, errors = advantages_and_errors(policy, critic, batch, 0.99, 0.95)
    weights = (A - A.mean()) / (A.var(correction=0) + 1e-8).sqrt()
    assert_close(of_policy, [-g for g in policy_gradient(policy, batch, weights)])
    expected = torch.autograd.grad(0.3 * (errors**2).mean(), list(critic.parameters()))
    assert_close(of_critic, expected)


def test_ppo_gradient_at_the_old_parameters_is_that_of_a2c(ppo):
    """One epoch of one minibatch. PPO normalizes A: its gradient is (A2C's - m ∇E[log π]) / s."""
    policy, critic = networks(ppo)
    batch = random_batch(policy)
    changes = ONE_MINIBATCH | {"max_grad_norm": 1e9, "vf_coef": 0.3}
    of_policy, of_critic = gradients("ppo_continuous", batch, changes)
    a2c_policy, a2c_critic = gradients_of_a2c(batch, vf_coef=0.3)
    A, _ = advantages_and_errors(policy, critic, batch, 0.99, 0.95)
    shift = policy_gradient(
        policy, batch, torch.ones(16, 3)
    )  # ∇E[log π]; a2c_policy is -∇E[A log π]
    expected = [(g + A.mean() * h) / A.std(correction=0) for g, h in zip(a2c_policy, shift)]
    assert_close(of_policy, expected)
    assert_close(of_critic, a2c_critic)


def test_the_entropy_bonus_raises_sigma(ppo):
    """Eq. 9's c₂ S: ∂S / ∂log σ = 1 in each dimension, and nothing else sees it."""
    batch = random_batch(networks(ppo)[0])
    changes = ONE_MINIBATCH | {"max_grad_norm": 1e9}
    without, _ = gradients("ppo_continuous", batch, changes)
    with_bonus, _ = gradients("ppo_continuous", batch, changes | {"ent_coef": 0.1})
    names = [name for name, _ in networks(ppo)[0].named_parameters()]
    shift = [-0.1 * torch.ones(2) if name == "log_std" else 0.0 for name in names]
    assert "log_std" in names
    assert_close(with_bonus, [g + s for g, s in zip(without, shift)])


def test_gradients_are_clipped_by_norm(ppo):
    batch = random_batch(networks(ppo)[0])
    free, clipped = (
        torch.cat([g.flatten() for part in parts for g in part])
        for parts in (
            gradients("ppo_continuous", batch, ONE_MINIBATCH | {"max_grad_norm": norm})
            for norm in (1e9, 0.01)
        )
    )
    assert free.norm() > 0.02
    torch.testing.assert_close(clipped, free * 0.01 / free.norm(), rtol=1e-4, atol=1e-8)
