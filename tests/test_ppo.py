"""What is PPO's own: the clipped surrogate, the ratio, and what an update reports."""

import copy

import numpy as np
import pytest
import torch
from helpers import advantages_by_definition, density, networks, normalized, random_batch, sampled

ARGS = {"num_envs": 3, "num_steps": 16, "minibatch_size": 12, "update_epochs": 2}


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
    advantages = torch.tensor([float(advantage)])
    surrogate = ppo.clipped_surrogate(log_prob, torch.zeros(1), advantages, 0.2)
    surrogate.backward()
    assert surrogate.item() == pytest.approx(value)
    assert log_prob.grad.item() == pytest.approx(gradient * ratio)  # d r / d log π = r
    if gradient == 0:
        assert log_prob.grad.item() == 0


def updated(ppo, policy, critic, batch, lr=0.01, **changes):
    optimizer = torch.optim.Adam([*policy.parameters(), *critic.parameters()], lr=lr)
    args = ppo.Args(**ARGS | changes)
    return ppo.update(policy, critic, optimizer, batch, np.random.default_rng(0), args)


def test_the_first_ratio_is_one(ppo, monkeypatch):
    policy, critic = networks(ppo)
    ratios, surrogate = [], ppo.clipped_surrogate

    def record(log_prob, old_log_prob, *rest):
        ratios.append((log_prob - old_log_prob).exp().detach())
        return surrogate(log_prob, old_log_prob, *rest)

    monkeypatch.setattr(ppo, "clipped_surrogate", record)
    updated(ppo, policy, critic, random_batch(policy))
    torch.testing.assert_close(ratios[0], torch.ones(12), atol=1e-6, rtol=0)
    assert len(ratios) == 8 and (ratios[-1] - 1).abs().max() > 1e-3


def test_each_epoch_sees_each_transition_once(ppo, monkeypatch):
    policy, critic = networks(ppo)
    seen, surrogate = [], ppo.clipped_surrogate

    def record(log_prob, old_log_prob, *rest):
        seen.append(old_log_prob)
        return surrogate(log_prob, old_log_prob, *rest)

    monkeypatch.setattr(ppo, "clipped_surrogate", record)
    updated(ppo, policy, critic, random_batch(policy))
    epochs = torch.cat(seen[:4]), torch.cat(seen[4:])
    assert not torch.equal(*epochs)  # in another order
    assert len(epochs[0].unique()) == 48
    assert torch.equal(epochs[0].sort().values, epochs[1].sort().values)


def test_what_an_update_did_is_reported(ppo):
    """Each scalar again, in float64 and with torch's own distributions."""
    policy, critic = networks(ppo)
    batch = random_batch(policy)
    before = copy.deepcopy(policy)
    A, values = advantages_by_definition(policy, critic, batch)
    targets = A + values

    losses = updated(ppo, policy, critic, batch)
    obs, actions = normalized(policy, batch["obs"]), batch["actions"]
    with torch.no_grad():
        old, new = density(before, obs), density(policy, obs)
        log_ratio = (new.log_prob(actions) - old.log_prob(actions)).double().sum(-1)
    ratio = log_ratio.exp()
    expected = {
        "approx_kl": (ratio - 1 - log_ratio).mean(),
        "clipfrac": ((ratio < 0.8) | (ratio > 1.2)).double().mean(),
        "entropy": new.entropy().double().sum(-1).mean(),
        "explained_variance": 1 - (targets - values).var() / targets.var(),
    }
    for name, value in expected.items():
        assert losses[name].item() == pytest.approx(float(value), rel=1e-3, abs=1e-6), name
    assert 0 < losses["clipfrac"] < 1
    assert all(x.shape == () and x.isfinite() and not x.requires_grad for x in losses.values())


def test_approx_kl_estimates_the_divergence_from_the_old_policy(ppo):
    """E_old[r - 1 - log r] = D(π_old, π), in a large batch of one state."""
    policy, critic = networks(ppo, act_dim=1)
    batch = random_batch(policy, T=1, N=200_000)
    batch["obs"].zero_()
    batch["actions"] = sampled(policy, batch["obs"], torch.randn(1, 200_000, 1))
    before = copy.deepcopy(policy)
    sizes = {"num_envs": 200_000, "num_steps": 1, "minibatch_size": 200_000, "update_epochs": 1}
    losses = updated(ppo, policy, critic, batch, lr=0.1, **sizes)
    with torch.no_grad():
        state = normalized(policy, torch.zeros(3))
        old, new = density(before, state), density(policy, state)
    expected = torch.distributions.kl_divergence(old, new).item()
    assert expected > 1e-3 and losses["approx_kl"].item() == pytest.approx(expected, rel=0.05)


def test_losses_are_means_over_the_minibatches(ppo, monkeypatch):
    policy, critic = networks(ppo)
    seen, surrogate = [], ppo.clipped_surrogate

    def record(*inputs):
        seen.append(surrogate(*inputs))
        return seen[-1]

    monkeypatch.setattr(ppo, "clipped_surrogate", record)
    losses = updated(ppo, policy, critic, random_batch(policy))
    assert losses["policy_loss"].item() == pytest.approx(-torch.stack(seen).mean().item(), abs=1e-7)


def test_the_losses_of_a_single_minibatch(ppo):
    policy, critic = networks(ppo)
    batch = random_batch(policy)
    A, values = advantages_by_definition(policy, critic, batch)
    losses = updated(ppo, policy, critic, batch, minibatch_size=48, update_epochs=1)
    assert losses["policy_loss"].item() == pytest.approx(0, abs=1e-6)  # r = 1, E[A] = 0
    assert losses["value_loss"].item() == pytest.approx((A**2).mean().item(), rel=1e-4)  # R - V = A
    assert losses["gradient_norm"].item() > 0
