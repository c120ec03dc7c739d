"""The derivation of the trust region, slide by slide, as exact numbers.

On a problem of 4 states and 2 actions.
"""

import numpy as np
import pytest
import torch
from helpers import load

S, A, GAMMA = 4, 2, 0.9
RNG = np.random.default_rng(0)
P = torch.from_numpy(
    RNG.dirichlet(np.ones(S), (S, A))
)  # (S, A, S), probabilities of the next state
R = torch.from_numpy(RNG.normal(size=(S, A)))
THETA, DIRECTION = torch.from_numpy(RNG.normal(size=(2, S, A)))  # logits, float64


def policy(theta):
    return torch.softmax(theta, -1)


def values(pi):
    """V_π = (1 - γ P_π)⁻¹ r_π, (S,)."""
    return torch.linalg.solve(
        torch.eye(S) - GAMMA * torch.einsum("sa,sat->st", pi, P), (pi * R).sum(-1)
    )


def advantages(pi):
    return R + GAMMA * P @ values(pi) - values(pi)[:, None]  # (S, A)


def visits(pi):
    """μ(s) = Σ_n γ^n P(s_n = s) from s0 = 0, (S,)."""
    start = torch.eye(S, dtype=torch.float64)[0]
    return torch.linalg.solve(torch.eye(S) - GAMMA * torch.einsum("sa,sat->ts", pi, P), start)


def surrogate(theta, theta_old):
    """TRPO's own function, fed with every state and action.

    They are weighed by visits and policy of θ_old.
    """
    old = policy(theta_old)
    weights = S * A * visits(old)[:, None] * old  # the function takes a mean over its samples
    logs = torch.log(policy(theta)), torch.log(old), weights * advantages(old)
    return load("trpo_continuous").surrogate(*(x.flatten() for x in logs))


def gain(theta, theta_old):
    return values(policy(theta))[0] - values(policy(theta_old))[0]


def test_the_ratio_cancels():
    """(i) Σ_a π (π~/π) A = Σ_a π~ A in every state."""
    old, new = policy(THETA), policy(THETA + DIRECTION)
    torch.testing.assert_close(
        (old * (new / old) * advantages(old)).sum(-1), (new * advantages(old)).sum(-1)
    )
    expected = (
        visits(old)[:, None] * new * advantages(old)
    ).sum()  # what the script's surrogate is, far from θ too
    torch.testing.assert_close(surrogate(THETA + DIRECTION, THETA), expected)


def test_the_sum_of_advantages_telescopes():
    """(ii) E_π~[Σ_n γ^n A_π(s_n, a_n)] = V_π~(s0) - V_π(s0)."""
    old, new = policy(THETA), policy(THETA + DIRECTION)
    total = (visits(new)[:, None] * new * advantages(old)).sum()
    assert abs(total - gain(THETA + DIRECTION, THETA)) < 1e-10
    other = (visits(old)[:, None] * new * advantages(old)).sum()
    assert (
        abs(other - gain(THETA + DIRECTION, THETA)) > 1e-3
    )  # the visits of π would not do, far from it


def test_the_surrogate_agrees_to_first_order():
    """(iii) With the visits of π: the same value and gradient at θ.

    Half the step, a quarter of the error.
    """
    theta = THETA.clone().requires_grad_()
    (one,) = torch.autograd.grad(surrogate(theta, THETA), theta)
    (other,) = torch.autograd.grad(gain(theta, THETA), theta)
    torch.testing.assert_close(one, other, atol=1e-10, rtol=1e-10)
    assert abs(surrogate(THETA, THETA)) < 1e-12 and one.abs().max() > 1e-3
    errors = [
        float(surrogate(THETA + h * DIRECTION, THETA) - gain(THETA + h * DIRECTION, THETA))
        for h in (1e-3, 5e-4)
    ]
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.01)


def test_the_mean_of_the_divergence_is_below_its_maximum():
    """(iv) E_s[D(π ‖ π~)] ≤ max_s D(π ‖ π~), so that the mean's trust region is the larger one."""
    old, new = policy(THETA), policy(THETA + DIRECTION)
    divergence = (old * (old / new).log()).sum(-1)
    assert (divergence > 0).all()
    share = visits(old) * (1 - GAMMA)
    assert share.sum().item() == pytest.approx(1)
    assert (share * divergence).sum() < divergence.max()
