"""The formulas against independent definitions of them."""

import copy
import itertools

import numpy as np
import pytest
import torch
from first_helpers import SCRIPTS, STOCHASTIC, load, sample

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


def networks(module, obs_dim=3, act_dim=2, seed=0):
    torch.manual_seed(seed)
    policy = module.Policy(obs_dim, -np.ones(act_dim), np.ones(act_dim))
    return policy, torch.nn.Sequential(module.mlp(obs_dim, 1, 1.0), torch.nn.Flatten(0))


def normalized(policy, obs):
    """(obs - mean) / σ, within ±10, by the policy's own statistics."""
    _, mean, var, _ = policy.statistics
    return torch.clamp((obs - mean) / torch.sqrt(var + 1e-8), -10, 10)


def random_batch(policy, T=16, N=3, ends=0.1):
    """A rollout of random numbers, with deaths, time limits and actions of the policy."""
    rng = np.random.default_rng(1)
    obs_dim, act_dim = policy.statistics.shape[1], policy.log_std.numel()
    obs, next_obs = rng.normal(size=(2, T, N, obs_dim))
    actions = sample(policy, obs, torch.randn(T, N, act_dim))
    terminated, truncated = rng.random((2, T, N)) < ends
    batch = {"obs": obs, "next_obs": next_obs, "rewards": rng.normal(size=(T, N))}
    batch |= {"terminated": terminated, "done": terminated | truncated}
    return {name: torch.as_tensor(x.astype(np.float32)) for name, x in batch.items()} | {"actions": actions}


def policy_gradient(policy, batch, weights):
    """∇E[w log π(a|s)] with torch's own density, one tensor per parameter of the policy."""
    obs = normalized(policy, batch["obs"])
    normal = torch.distributions.Normal(policy.mean(obs), policy.log_std.exp())
    return torch.autograd.grad((weights * normal.log_prob(batch["actions"]).sum(-1)).mean(), list(policy.parameters()))


def gradients(name, batch, args, weights_from=None):
    """What the script's own update hands to its optimizer, whose step size is 0: the policy's, then the critic's."""
    module = load(name)
    policy, critic = networks(module)
    parameters = [*policy.parameters(), *([] if name == "reinforce" else critic.parameters())]
    if weights_from is not None:
        critic.load_state_dict(weights_from)
    optimizer = torch.optim.SGD(parameters, lr=0.0)
    rest = {"reinforce": (policy, optimizer, batch, args), "a2c_continuous": (policy, critic, optimizer, batch, args)}
    rng = np.random.default_rng(0)
    module.update(*rest.get(name, (policy, critic, optimizer, batch, rng, args)))
    count = len(list(policy.parameters()))
    return [p.grad.clone() for p in parameters[:count]], [p.grad.clone() for p in parameters[count:]]


def close(one, other, scale=1.0, shift=None):
    """one = (other - shift) · scale, tensor by tensor."""
    for i, (x, y) in enumerate(zip(one, other, strict=True)):
        torch.testing.assert_close(x, (y - (shift[i] if shift else 0)) * scale, atol=2e-6, rtol=1e-4)


def a2c_args(**changes):
    return load("a2c_continuous").Args(num_envs=3, num_steps=16, max_grad_norm=1e9, vf_coef=0.3, **changes)


def gae_of(policy, critic, batch, gamma=0.99, lam=0.95):
    """Advantages by the definition, and V, both (T, N)."""
    with torch.no_grad():
        obs, next_obs = (normalized(policy, batch[name]) for name in ("obs", "next_obs"))
        values, next_values = (critic(x.flatten(0, 1)).view_as(batch["rewards"]) for x in (obs, next_obs))
    columns = [batch["rewards"], values, next_values, batch["terminated"] > 0, batch["done"] > 0]
    advantages = gae_by_definition(*(x.numpy() for x in columns), gamma, lam)
    return torch.as_tensor(advantages, dtype=torch.float32), values


def test_a2c_gradient():
    """The policy's is ∇E[A log π] with A by its definition, the critic's c ∇E[(V - R)²]."""
    policy, critic = networks(load("a2c_continuous"))
    batch = random_batch(policy)
    of_policy, of_critic = gradients("a2c_continuous", batch, a2c_args())
    advantages, values = gae_of(policy, critic, batch)
    close(of_policy, policy_gradient(policy, batch, advantages), scale=-1)
    errors = critic(normalized(policy, batch["obs"]).flatten(0, 1)).view_as(values) - (advantages + values)
    close(of_critic, torch.autograd.grad(0.3 * (errors**2).mean(), list(critic.parameters())))


@pytest.mark.parametrize("name", ["a2c_continuous"])
def test_a_long_gradient_is_shortened(name):
    module = load(name)
    batch = random_batch(networks(module)[0])
    sizes = {}
    free, short = (
        torch.cat([g.flatten() for part in gradients(name, batch, module.Args(**sizes, **changes)) for g in part])
        for changes in ({"num_envs": 3, "num_steps": 16, "max_grad_norm": x} for x in (1e9, 0.01))
    )
    torch.testing.assert_close(short, free * 0.01 / free.norm(), rtol=1e-4, atol=1e-8)


def test_trpo_gradient_at_the_old_parameters_is_that_of_a2c(monkeypatch):
    """g, the right-hand side of H x = g, is A2C's policy gradient."""
    module, seen = load("trpo_continuous"), []
    real = module.conjugate_gradient
    policy, critic = networks(module)
    batch = random_batch(policy)
    monkeypatch.setattr(module, "conjugate_gradient", lambda f, b, *rest: seen.append(b) or real(f, b, *rest))
    args = module.Args(num_envs=3, num_steps=16, minibatch_size=48, update_epochs=1)
    optimizer = torch.optim.SGD(critic.parameters(), lr=0.0)
    module.update(policy, critic, optimizer, batch, np.random.default_rng(0), args)
    expected, _ = gradients("a2c_continuous", batch, a2c_args())
    torch.testing.assert_close(seen[0], -torch.cat([g.flatten() for g in expected]), atol=2e-6, rtol=1e-4)


def test_reinforce_gradient_is_that_of_a2c_without_a_critic():
    """V = 0, λ = 1, whole episodes. REINFORCE whitens G to (G - m) / σ: its gradient is (A2C's - m ∇E[log π]) / σ."""
    module = load("reinforce")
    policy, critic = networks(module)
    nothing = {name: torch.zeros_like(x) for name, x in critic.state_dict().items()}
    batch = random_batch(policy, T=48, N=1)
    batch["terminated"][-1], batch["done"][-1] = 1, 1
    flat = {name: x.flatten(0, 1) for name, x in batch.items()}
    of_policy, _ = gradients("reinforce", flat, module.Args(gamma=0.9))
    a2c_policy, _ = gradients("a2c_continuous", batch, a2c_args(gamma=0.9, gae_lambda=1.0), nothing)
    returns = torch.tensor(returns_by_definition(flat["rewards"].numpy(), flat["done"].numpy() > 0, 0.9))
    shift = [-g * returns.mean() for g in policy_gradient(policy, flat, torch.ones(48))]
    close(of_policy, a2c_policy, 1 / returns.std(correction=0), shift)


def returns_by_definition(rewards, done, gamma):
    """G_n = Σ_k γ^k r_{n+k}, each sum written out up to the end of the episode."""
    ends = np.flatnonzero(done)
    last = [ends[ends >= t][0] for t in range(len(rewards))]
    sums = [sum(gamma ** (k - t) * rewards[k] for k in range(t, last[t] + 1)) for t in range(len(rewards))]
    return np.array(sums, np.float32)


def test_returns_to_go():
    rng = np.random.default_rng(0)
    rewards, done = rng.normal(size=200).astype(np.float32), rng.random(200) < 0.1
    done[-1] = True
    for gamma in (0.0, 0.9, 1.0):
        got = load("reinforce").returns_to_go(torch.from_numpy(rewards), torch.from_numpy(done), gamma)
        np.testing.assert_allclose(got, returns_by_definition(rewards, done, gamma), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("discounted", [True, False])
def test_reinforce_gradient_of_a_small_discounted_problem(discounted):
    """Two steps in states 0.5 and -1, rewards -(a - 1)² and -(a + 1)² for actions N(μ(s), σ²).

    With γ^n the gradient is that of J = E[r_0 + γ r_1], exactly known; without, every state counts alike: E[r_0 + r_1].
    """
    module, gamma, episodes = load("reinforce"), 0.5, 100_000
    policy, _ = networks(module, 1, 1)
    policy.log_std.data.fill_(-0.3)
    noise = torch.randn(2, episodes, 1, generator=torch.Generator().manual_seed(0))
    noise = (noise - noise.mean(1, keepdim=True)) / noise.std(1, keepdim=True)
    obs = torch.tensor([0.5, -1.0]).repeat(episodes, 1).T.unsqueeze(-1)  # (2, episodes, 1)
    actions = sample(policy, obs, noise)
    targets = torch.tensor([1.0, -1.0]).view(2, 1, 1)
    rewards, n = -((actions - targets) ** 2).squeeze(-1), torch.tensor([[0.0], [1.0]]).repeat(1, episodes)
    columns = {"obs": obs, "actions": actions, "rewards": rewards, "done": n == 1, "n": n}
    batch = {name: x.transpose(0, 1).flatten(0, 1).float() for name, x in columns.items()}  # episode after episode
    args = module.Args(gamma=gamma, discounted_gradient=discounted)
    optimizer = torch.optim.SGD(policy.parameters(), lr=0.0)
    module.update(policy, optimizer, batch, args)
    spread = (rewards + torch.stack([gamma * rewards[1], 0 * rewards[1]])).std(correction=0)
    got = [-p.grad * spread * 2 for p in policy.parameters()]  # per episode of two steps, in units of G

    mu = policy.mean(normalized(policy, torch.tensor([[0.5], [-1.0]]))).squeeze(-1)
    weights = torch.tensor([1.0, gamma if discounted else 1.0])
    objective = -(weights * ((mu - targets.flatten()) ** 2 + (2 * policy.log_std).exp())).sum()
    expected = torch.autograd.grad(objective, list(policy.parameters()))
    got, expected = (torch.cat([x.flatten() for x in xs]) for xs in (got, expected))
    assert (got - expected).norm() < 0.03 * expected.norm()


def gaussians():
    """Means (B, 3), log σ (3,) of an old and a new policy that are well apart."""
    rng = torch.Generator().manual_seed(0)
    means = torch.randn(2, 5, 3, generator=rng)
    return means[0], torch.tensor([-0.5, 0.2, 0.1]), means[1], torch.tensor([0.3, 0.8, 0.9])


def test_kl_divergence():
    """D(π_old ‖ π): torch's, and the Monte Carlo mean of log π_old - log π under π_old; not the reverse."""
    mean_old, log_std_old, mean, log_std = gaussians()
    got = load("trpo_continuous").kl_divergence(mean_old, log_std_old, mean, log_std)
    old, new = (torch.distributions.Normal(m, s.exp()) for m, s in ((mean_old, log_std_old), (mean, log_std)))
    torch.testing.assert_close(got, torch.distributions.kl_divergence(old, new).sum(-1))
    torch.manual_seed(0)
    actions = old.sample((400_000,))
    monte_carlo = (old.log_prob(actions) - new.log_prob(actions)).sum(-1).mean(0)
    torch.testing.assert_close(got, monte_carlo, rtol=0.02, atol=0.01)
    reverse = torch.distributions.kl_divergence(new, old).sum(-1)
    assert ((got - reverse).abs() > 0.1 * got).all()


def trpo_case(obs_dim=2, act_dim=2, B=64, seed=0):
    """A policy, normalised observations, actions of the policy, advantages; in float64."""
    module = load("trpo_continuous")
    policy = networks(module, obs_dim, act_dim, seed)[0].double()
    for p in policy.parameters():
        p.data += 0.1 * torch.randn_like(p)
    obs, advantages = torch.randn(B, obs_dim, dtype=torch.float64), torch.randn(B, dtype=torch.float64)
    with torch.no_grad():
        actions = policy.mean(obs) + policy.log_std.exp() * torch.randn(B, act_dim, dtype=torch.float64)
    return module, policy, obs, actions, advantages


def flat(tensors):
    return torch.cat([x.flatten() for x in tensors])


def hessian_of_the_mean_kl(policy, obs):
    """Dense, by differentiating twice a KL written with torch.distributions, for every parameter."""
    names, parameters = zip(*policy.named_parameters())
    with torch.no_grad():
        old = torch.distributions.Normal(policy.mean(obs), policy.log_std.exp())

    def kl(vector):
        parts = vector.split([p.numel() for p in parameters])
        values = {name: part.view_as(p) for name, part, p in zip(names, parts, parameters)}
        mean = torch.func.functional_call(policy.mean, {k[5:]: v for k, v in values.items() if k[:5] == "mean."}, obs)
        new = torch.distributions.Normal(mean, values["log_std"].exp())
        return torch.distributions.kl_divergence(old, new).sum(-1).mean()

    return torch.autograd.functional.hessian(kl, flat(parameters).detach())


def small(policy):
    """The same with hidden layers of 4 units, so that its Hessian can be written out."""
    layers = policy.mean
    layers[0], layers[2], layers[4] = (
        torch.nn.Linear(a, b, dtype=torch.float64)
        for a, b in ((layers[0].in_features, 4), (4, 4), (4, layers[4].out_features))
    )
    return policy


def test_fisher_vector_product_is_the_hessian_of_the_kl():
    module, policy, obs, _, _ = trpo_case()
    parameters = list(small(policy).parameters())
    old = policy.mean(obs).detach(), policy.log_std.detach().clone()
    kl = module.kl_divergence(*old, policy.mean(obs), policy.log_std).mean()
    gradient = flat(torch.autograd.grad(kl, parameters, create_graph=True))
    H = hessian_of_the_mean_kl(policy, obs)
    v = torch.randn(len(H), dtype=torch.float64)
    torch.testing.assert_close(module.fisher_vector_product(v, gradient, parameters, 0.0), H @ v)
    torch.testing.assert_close(module.fisher_vector_product(v, gradient, parameters, 0.1), H @ v + 0.1 * v)


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
    assert len(calls) == 2  # the residual is 0 after one step, found at the second
    for nothing in (torch.zeros(20), torch.full((20,), float("nan"))):
        assert (conjugate_gradient(lambda v: matrix.float() @ v, nothing, 10)[0] == 0).all()
    x, _ = conjugate_gradient(lambda v: -v, b, 10)
    assert (x == 0).all()  # not positive definite: no step


def test_trust_region_step_is_the_natural_gradient():
    """θ - θ_old is √(2δ / xᵀHx) x for the dense H (with its damping) and x = H⁻¹ g, where δ is small."""
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
    assert float(scalars["improvement"]) == pytest.approx(float(scalars["expected_improvement"]), rel=0.01)


@pytest.mark.parametrize("max_kl", [0.01, 1.0, 30.0])
@pytest.mark.parametrize("seed", range(4))
def test_an_accepted_step_keeps_to_the_trust_region(max_kl, seed):
    module, policy, obs, actions, advantages = trpo_case(seed=seed)
    with torch.no_grad():
        old = torch.distributions.Normal(policy.mean(obs), policy.log_std.exp())
        before = policy.log_prob(obs, actions)
    scalars = module.trust_region_step(policy, obs, actions, advantages, module.Args(max_kl=max_kl))
    with torch.no_grad():
        new = torch.distributions.Normal(policy.mean(obs), policy.log_std.exp())
        kl = torch.distributions.kl_divergence(old, new).sum(-1)
        improvement = ((policy.log_prob(obs, actions) - before).exp() * advantages).mean() - advantages.mean()
    assert 0 < kl.mean() <= max_kl * (1 + 1e-9) and kl.max() <= 10 * max_kl * (1 + 1e-9) and improvement > 0
    assert float(scalars["improvement"]) == pytest.approx(float(improvement))
    assert max_kl < 30 or scalars["backtracks"] > 0  # where the quadratic is far off, the full step breaks the bound


def test_no_state_leaves_the_trust_region_far_behind():
    """One state unlike the 255 others: where the mean of D alone is bounded, it moves by more than 10 δ."""
    module, policy, obs, actions, advantages = trpo_case(B=256)
    obs[0], advantages[0] = torch.tensor([6.0, -6.0]), 30.0
    old = copy.deepcopy(policy)
    args = module.Args(cg_iterations=100, max_kl=1e-3)

    def divergence():
        with torch.no_grad():
            return module.kl_divergence(old.mean(obs), old.log_std, policy.mean(obs), policy.log_std)

    scalars = module.trust_region_step(policy, obs, actions, advantages, args)
    assert scalars["backtracks"] > 0 and 0.5 * 10e-3 < divergence().max() <= 10e-3 and divergence().mean() < 1e-3
    shorter = flat(policy.parameters()).detach() - flat(old.parameters()).detach()
    step = shorter / 0.8 ** scalars["backtracks"]
    torch.nn.utils.vector_to_parameters(flat(old.parameters()).detach() + 0.8 * step, policy.parameters())
    assert divergence().mean() < 1e-3 and divergence().max() > 10e-3  # longer ones kept to the bound on the mean


def test_the_line_search_measures_from_the_old_policy_to_the_new(monkeypatch):
    module, policy, obs, actions, advantages = trpo_case()
    real, calls = module.kl_divergence, []
    monkeypatch.setattr(module, "kl_divergence", lambda *x: calls.append(x) or real(*x))
    before = policy.mean(obs).detach(), policy.log_std.detach().clone()
    module.trust_region_step(policy, obs, actions, advantages, module.Args())
    after = policy.mean(obs).detach(), policy.log_std.detach()
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
    if broken in ("worse", "not a number"):
        real, calls = module.surrogate, []
        loss = 100 if broken == "worse" else float("nan")
        monkeypatch.setattr(
            module, "surrogate", lambda *x: calls.append(0) or real(*x) - (loss if len(calls) > 1 else 0)
        )
    if broken == "negative curvature":
        monkeypatch.setattr(module, "fisher_vector_product", lambda v, *rest: -v)
        monkeypatch.setattr(module, "conjugate_gradient", lambda f, b, *rest: (b, torch.zeros(())))
    old = {name: x.clone() for name, x in policy.state_dict().items()}
    advantages = 0 * advantages if broken == "no gradient" else advantages
    scalars = module.trust_region_step(policy, obs, actions, advantages, module.Args())
    assert all(torch.equal(x, old[name]) for name, x in policy.state_dict().items())
    assert scalars["backtracks"] == 10 and scalars["improvement"] == 0
    assert np.isfinite([float(x) for x in scalars.values()]).all()


@pytest.mark.parametrize("script", STOCHASTIC)
def test_statistics_of_a_stream(module):
    rng = np.random.default_rng(0)
    parts = [rng.normal(1000 + k, 1 + k, (7, 3, 4)) for k in range(30)]  # far from 0: squares of sums would lose digits
    statistics = torch.tensor([[0.0], [0], [1], [1]]).repeat(1, 4)
    for part in parts:
        statistics = module.merge_statistics(statistics, part)
    stream = np.concatenate(parts).reshape(-1, 4)
    assert statistics.dtype == torch.float32 and (statistics[0] == len(stream)).all()
    np.testing.assert_allclose(statistics[1], stream.mean(0), atol=1e-4 * stream.std(0).min())
    np.testing.assert_allclose(statistics[2], stream.var(0), rtol=1e-4)
    np.testing.assert_allclose(statistics[3], stream.std(0), rtol=1e-4)
    still = module.merge_statistics(torch.tensor([[0.0], [0], [1], [1]]), np.ones((5, 1)))
    assert still[2:].flatten().tolist() == [0, pytest.approx(1e-4)]  # what never changes is not divided by 0


def test_action_map(script, module):
    low, high = np.array([2.0, -1.0, -0.5, -3.0, -np.inf, -3.0]), np.array([3.0, 5.0, 0.25, -1.0, np.inf, np.inf])
    actions = np.array([[-1.0] * 6, [0.0] * 6, [1.0] * 6, [-9.0] * 6])
    expected = np.array([[2, -1, -0.5, -3, -1, -1], [2.5, 2, -0.125, -2, 0, 0], [3, 5, 0.25, -1, 1, 1]])
    expected = np.array([*expected, [2, -1, -0.5, -3, -9, -3]])
    for kept in [slice(4)] + [slice(6)] * (script != "ddpg"):  # which refuses infinite bounds
        policy = module.Policy(1, low[kept], high[kept])
        np.testing.assert_allclose(policy.to_bounds(actions[:, kept]), expected[:, kept])
        shaped = module.Policy(1, low[kept].reshape(-1, 2), high[kept].reshape(-1, 2))
        np.testing.assert_allclose(shaped.to_bounds(actions[:, kept]), expected[:, kept].reshape(4, -1, 2))


@pytest.mark.parametrize("script", STOCHASTIC)
def test_normalised_observations(module):
    policy = module.Policy(2, -np.ones(1), np.ones(1))
    policy.statistics.copy_(torch.tensor([[9.0, 9.0], [5.0, 0.0], [4.0, 1.0], [2.0, 1.0]]))
    obs = np.array([[9, 99], [7, -99]], np.float32)
    np.testing.assert_allclose(module.normalize(obs, policy.statistics.numpy()), [[2, 10], [1, -10]])
    spread = np.random.default_rng(0).normal(size=(1000, 2)).astype(np.float32)  # arrays and tensors: to the last bit
    got = module.normalize(torch.from_numpy(spread), policy.statistics)
    assert (module.normalize(spread, policy.statistics.numpy()) == got.numpy()).all()
    actions = policy.mean(torch.tensor([[2.0, 10.0]])).detach() + policy.log_std.detach().exp() * 0.5
    np.testing.assert_array_equal(sample(policy, [[9.0, 99.0]], [[0.5]]), actions)  # layer by layer, the same network


def test_bounds_of_64_bits_hold(script):
    """What single precision would round outwards is rounded inwards; what it has exactly stays."""
    low, high = np.array([-0.3, 0.1, -1.0, 2.0]), np.array([0.7, 0.3, 1.0, 3.0])
    assert (np.float32(low) < low).any() and (np.float32(high) > high).any()
    policy = load(script).Policy(3, low, high)
    for extreme, bound in ((-1e6, low), (1e6, high)):
        actions = policy.to_bounds(np.full((1, 4), extreme, np.float32))[0].astype(float)
        assert (low <= actions).all() and (actions <= high).all()
        np.testing.assert_allclose(actions, bound, rtol=1e-6)
    assert policy.bounds[0, 2:].tolist() == [-1, 2] and policy.bounds[1, 2:].tolist() == [1, 3]
