"""What is TRPO's own: divergence, its Hessian, conjugate gradients, the step, the line search."""

import copy

import numpy as np
import pytest
import torch
from helpers import load, networks


def gaussians():
    """Means (B, 3), log σ (3,) of an old and a new policy that are well apart."""
    rng = torch.Generator().manual_seed(0)
    means = torch.randn(2, 5, 3, generator=rng)
    return means[0], torch.tensor([-0.5, 0.2, 0.1]), means[1], torch.tensor([0.3, 0.8, 0.9])


def test_kl_divergence():
    """D(π_old, π): torch's, and the mean of log π_old - log π under π_old; not the reverse."""
    old_mu, old_log_std, mu, log_std = gaussians()
    got = load("trpo_continuous").kl_divergence(old_mu, old_log_std, mu, log_std)
    old, new = (
        torch.distributions.Normal(m, s.exp()) for m, s in ((old_mu, old_log_std), (mu, log_std))
    )
    torch.testing.assert_close(got, torch.distributions.kl_divergence(old, new).sum(-1))
    torch.manual_seed(0)
    actions = old.sample((400_000,))
    monte_carlo = (old.log_prob(actions) - new.log_prob(actions)).sum(-1).mean(0)
    torch.testing.assert_close(got, monte_carlo, rtol=0.02, atol=0.01)
    reverse = torch.distributions.kl_divergence(new, old).sum(-1)
    assert ((got - reverse).abs() > 0.1 * got).all()


def trpo_case(obs_dim=2, act_dim=2, B=64, seed=0):
    """A policy, normalized observations, actions of the policy, advantages; in float64."""
    module = load("trpo_continuous")
    policy = networks(module, obs_dim, act_dim, seed)[0].double()
    for p in policy.parameters():
        p.data += 0.1 * torch.randn_like(p)
    obs, advantages = (
        torch.randn(B, obs_dim, dtype=torch.float64),
        torch.randn(B, dtype=torch.float64),
    )
    with torch.no_grad():
        actions = policy.mu(obs) + policy.log_std.exp() * torch.randn(
            B, act_dim, dtype=torch.float64
        )
    return module, policy, obs, actions, advantages


def flat(tensors):
    return torch.cat([x.flatten() for x in tensors])


def hessian_of_the_mean_kl(policy, obs):
    """Dense: a KL written with torch.distributions, differentiated twice by each parameter."""
    names, parameters = zip(*policy.named_parameters())
    with torch.no_grad():
        old = torch.distributions.Normal(policy.mu(obs), policy.log_std.exp())

    def kl(vector):
        parts = vector.split([p.numel() for p in parameters])
        values = {name: part.view_as(p) for name, part, p in zip(names, parts, parameters)}
        mean = torch.func.functional_call(
            policy.mu, {k[3:]: v for k, v in values.items() if k[:3] == "mu."}, obs
        )
        new = torch.distributions.Normal(mean, values["log_std"].exp())
        return torch.distributions.kl_divergence(old, new).sum(-1).mean()

    return torch.autograd.functional.hessian(kl, flat(parameters).detach())


def small(policy):
    """The same with hidden layers of 4 units, so that its Hessian can be written out."""
    layers = policy.mu
    layers[0], layers[2], layers[4] = (
        torch.nn.Linear(a, b, dtype=torch.float64)
        for a, b in ((layers[0].in_features, 4), (4, 4), (4, layers[4].out_features))
    )
    return policy


def test_hessian_vector_product_is_that_of_the_hessian_of_the_kl():
    module, policy, obs, _, _ = trpo_case()
    parameters = list(small(policy).parameters())
    old = policy.mu(obs).detach(), policy.log_std.detach().clone()
    kl = module.kl_divergence(*old, policy.mu(obs), policy.log_std).mean()
    gradient = flat(torch.autograd.grad(kl, parameters, create_graph=True))
    H = hessian_of_the_mean_kl(policy, obs)
    v = torch.randn(len(H), dtype=torch.float64)
    torch.testing.assert_close(module.hessian_vector_product(v, gradient, parameters, 0.0), H @ v)
    torch.testing.assert_close(
        module.hessian_vector_product(v, gradient, parameters, 0.1), H @ v + 0.1 * v
    )


def test_conjugate_gradient():
    torch.manual_seed(0)
    conjugate_gradient = load("trpo_continuous").conjugate_gradient
    root, b = torch.randn(20, 20, dtype=torch.float64), torch.randn(20, dtype=torch.float64)
    matrix = root @ root.T + torch.eye(20)
    x, residual = conjugate_gradient(lambda v: matrix @ v, b, 100, tolerance=1e-12)
    torch.testing.assert_close(x, torch.linalg.solve(matrix, b))
    assert residual < 1e-10
    x, residual = conjugate_gradient(lambda v: matrix @ v, b, 3)
    assert residual == pytest.approx(float((matrix @ x - b).norm() / b.norm())) and residual > 1e-3
    calls = []
    conjugate_gradient(lambda v: calls.append(0) or 2 * v, b, 100)
    assert len(calls) == 1  # the residual is 0 after one step
    for nothing in (torch.zeros(20), torch.full((20,), float("nan"))):
        assert (conjugate_gradient(lambda v: matrix.float() @ v, nothing, 10)[0] == 0).all()
    x, _ = conjugate_gradient(lambda v: -v, b, 10)
    assert (x == 0).all()  # not positive definite: no step


def test_trust_region_step_is_the_natural_gradient():
    """θ - θ_old is √(2δ / xᵀHx) x for the dense damped H and x = H⁻¹g, where δ is small."""
    module, policy, obs, actions, advantages = trpo_case()
    parameters = list(small(policy).parameters())
    H = hessian_of_the_mean_kl(policy, obs) + 0.1 * torch.eye(sum(p.numel() for p in parameters))
    old = flat(parameters).detach().clone()
    g = flat(torch.autograd.grad((policy.log_prob(obs, actions) * advantages).mean(), parameters))
    x = torch.linalg.solve(H, g)
    args = module.Args(max_kl=1e-6, cg_iterations=200)
    scalars = module.trust_region_step(policy, obs, actions, advantages, args)
    step = (2e-6 / (x @ H @ x)).sqrt() * x
    torch.testing.assert_close(flat(parameters).detach() - old, step, rtol=1e-3, atol=1e-9)
    assert scalars["backtracks"] == 0 and scalars["cg_residual"] < 1e-4
    assert float(scalars["improvement"]) == pytest.approx(
        float(scalars["expected_improvement"]), rel=0.01
    )


@pytest.mark.parametrize("max_kl", [0.01, 1.0, 30.0])
@pytest.mark.parametrize("seed", range(4))
def test_an_accepted_step_keeps_to_the_trust_region(max_kl, seed):
    module, policy, obs, actions, advantages = trpo_case(seed=seed)
    with torch.no_grad():
        old = torch.distributions.Normal(policy.mu(obs), policy.log_std.exp())
        before = policy.log_prob(obs, actions)
    scalars = module.trust_region_step(policy, obs, actions, advantages, module.Args(max_kl=max_kl))
    with torch.no_grad():
        new = torch.distributions.Normal(policy.mu(obs), policy.log_std.exp())
        kl = torch.distributions.kl_divergence(old, new).sum(-1)
        improvement = (
            (policy.log_prob(obs, actions) - before).exp() * advantages
        ).mean() - advantages.mean()
    assert (
        0 < kl.mean() <= max_kl * (1 + 1e-9)
        and kl.max() <= 10 * max_kl * (1 + 1e-9)
        and improvement > 0
    )
    assert float(scalars["improvement"]) == pytest.approx(float(improvement))
    assert (
        max_kl < 30 or scalars["backtracks"] > 0
    )  # where the quadratic is far off, the full step breaks the bound


def test_no_state_leaves_the_trust_region_far_behind():
    """One state unlike the 255 others: bounded in the mean alone, it moves by more than 10 δ."""
    module, policy, obs, actions, advantages = trpo_case(B=256)
    obs[0], advantages[0] = torch.tensor([6.0, -6.0]), 30.0
    old = copy.deepcopy(policy)
    args = module.Args(cg_iterations=100, max_kl=1e-3)

    def divergence():
        with torch.no_grad():
            return module.kl_divergence(old.mu(obs), old.log_std, policy.mu(obs), policy.log_std)

    scalars = module.trust_region_step(policy, obs, actions, advantages, args)
    assert (
        scalars["backtracks"] > 0
        and 0.5 * 10e-3 < divergence().max() <= 10e-3
        and divergence().mean() < 1e-3
    )
    shorter = flat(policy.parameters()).detach() - flat(old.parameters()).detach()
    step = shorter / 0.8 ** scalars["backtracks"]
    torch.nn.utils.vector_to_parameters(
        flat(old.parameters()).detach() + 0.8 * step, policy.parameters()
    )
    assert (
        divergence().mean() < 1e-3 and divergence().max() > 10e-3
    )  # longer ones kept to the bound on the mean


def test_the_line_search_measures_from_the_old_policy_to_the_new(monkeypatch):
    module, policy, obs, actions, advantages = trpo_case()
    real, calls = module.kl_divergence, []
    monkeypatch.setattr(module, "kl_divergence", lambda *x: calls.append(x) or real(*x))
    before = policy.mu(obs).detach(), policy.log_std.detach().clone()
    module.trust_region_step(policy, obs, actions, advantages, module.Args())
    after = policy.mu(obs).detach(), policy.log_std.detach()
    assert not torch.equal(before[0], after[0])
    for got, expected in zip(calls[-1], (*before, *after), strict=True):
        assert torch.equal(got, expected)


def test_the_line_search_wants_an_improvement(monkeypatch):
    """A surrogate that is worse than the old one at the first two lengths: the third is taken."""
    module, policy, obs, actions, advantages = trpo_case(seed=1)
    real, calls = module.surrogate, []

    def worse(*inputs):
        calls.append(0)
        return real(*inputs) - (100 if len(calls) in (2, 3) else 0)

    old = flat(policy.parameters()).detach().clone()
    monkeypatch.setattr(module, "surrogate", worse)
    scalars = module.trust_region_step(policy, obs, actions, advantages, module.Args(max_kl=1e-4))
    assert scalars["backtracks"] == 2
    taken = flat(policy.parameters()).detach() - old
    policy, calls[:] = trpo_case(seed=1)[1], [0, 0, 0]  # the same again, nothing worse
    module.trust_region_step(policy, obs, actions, advantages, module.Args(max_kl=1e-4))
    torch.testing.assert_close(taken, 0.8**2 * (flat(policy.parameters()).detach() - old))


@pytest.mark.parametrize("broken", ["worse", "not a number", "no gradient", "negative curvature"])
def test_a_rejected_step_changes_no_bit(monkeypatch, broken):
    module, policy, obs, actions, advantages = trpo_case()
    policy = policy.float()
    obs, actions, advantages = obs.float(), actions.float(), advantages.float()
    real, calls = module.surrogate, []
    loss = {"worse": 100, "not a number": float("nan")}.get(broken, 0)
    monkeypatch.setattr(
        module,
        "surrogate",
        lambda *x: calls.append(0) or real(*x) - (loss if len(calls) > 1 else 0),
    )
    if broken == "negative curvature":
        monkeypatch.setattr(module, "hessian_vector_product", lambda v, *rest: -v)
        monkeypatch.setattr(module, "conjugate_gradient", lambda f, b, *rest: (b, torch.zeros(())))
    old = {name: x.clone() for name, x in policy.state_dict().items()}
    advantages = 0 * advantages if broken == "no gradient" else advantages
    scalars = module.trust_region_step(policy, obs, actions, advantages, module.Args())
    assert all(torch.equal(x, old[name]) for name, x in policy.state_dict().items())
    assert scalars["backtracks"] == 10 and scalars["improvement"] == 0
    searched = broken in ("worse", "not a number")  # else there is no direction to search along
    assert len(calls) == (11 if searched else 1)
    assert np.isfinite([float(x) for x in scalars.values()]).all()


def trust_region_run(total_timesteps, run_dir, monkeypatch):
    """Trains TRPO on Hopper; KL and surrogate of each update again, in float64 from its batch."""
    module, steps = load("trpo_continuous"), []
    real = module.trust_region_step

    def density(policy, obs, actions):
        policy, obs = copy.deepcopy(policy).double(), obs.double()
        normal = torch.distributions.Normal(policy.mu(obs), policy.log_std.exp())
        return normal, normal.log_prob(actions.double()).sum(-1)

    def step(policy, obs, actions, advantages, args):
        with torch.no_grad():
            state, (old, before) = (
                {k: x.clone() for k, x in policy.state_dict().items()},
                density(policy, obs, actions),
            )
            with torch.enable_grad():
                scalars = real(policy, obs, actions, advantages, args)
            new, after = density(policy, obs, actions)
            kl = torch.distributions.kl_divergence(old, new).sum(-1)
            improvement = (((after - before).exp() - 1) * advantages.double()).mean()
            same = all(torch.equal(x, state[k]) for k, x in policy.state_dict().items())
        steps.append(
            (scalars["backtracks"], float(kl.mean()), float(kl.max()), float(improvement), same)
        )
        return scalars

    monkeypatch.setattr(module, "trust_region_step", step)
    module.train(
        module.Args(total_timesteps=total_timesteps, eval_episodes=2, run_dir=str(run_dir))
    )
    accepted = [s for s in steps if s[0] < 10]
    assert len(accepted) > 0.9 * len(steps)
    _, kl, kl_max, improvement, _ = np.array(accepted).T
    assert (
        (kl <= 0.01 * (1 + 1e-3)).all()
        and (kl_max <= 0.1 * (1 + 1e-3)).all()
        and (improvement > 0).all()
    )
    assert all(same == (backtracks == 10) for backtracks, *_, same in steps)
    assert np.median(np.maximum(kl / 0.01, kl_max / 0.1)) > 0.5  # the step goes as far as it may
    return steps


def test_trpo_keeps_to_its_trust_region(tmp_path, monkeypatch):
    trust_region_run(20_000, tmp_path / "run", monkeypatch)


@pytest.mark.slow
def test_trpo_keeps_to_its_trust_region_over_a_whole_run(tmp_path, monkeypatch):
    steps = trust_region_run(1_000_000, tmp_path / "run", monkeypatch)
    print(
        f"{len(steps)} updates, {sum(s[0] == 10 for s in steps)} rejected, "
        f"largest KL {max(s[1] for s in steps):.6f}"
    )
