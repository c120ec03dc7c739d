"""What a policy hands to the environment: units, bounds, actions; what it is exported to."""

import subprocess
import sys

import helpers
import numpy as np
import onnxruntime
import pytest
import torch
from helpers import ROOT, STOCHASTIC, TESTS, load, networks

INF, HUGE = np.inf, np.finfo(np.float32).max


def bounded_actions(module, low, high, actions, dtype=np.float32):
    """What the environment gets for these actions of the policy."""
    policy = module.Policy(1, np.array(low, dtype), np.array(high, dtype))
    if module.SCRIPT == "ddpg":
        return policy.to_bounds(torch.tensor(actions)).numpy()
    return of_the_environment(policy, actions)


def of_the_environment(policy, actions):
    """The policy's mean is set to each action in turn; forward and act agree on it."""
    results = []
    for action in actions:
        policy.mu[-1].weight.data.zero_()
        policy.mu[-1].bias.data.copy_(torch.tensor(action))
        obs = np.zeros((1, policy.mu[0].in_features), np.float32)
        results.append(policy.act(obs)[0])
        np.testing.assert_array_equal(policy(torch.from_numpy(obs))[0].detach(), results[-1])
    return np.stack(results)


def test_units_of_finite_bounds(module):
    """0 is the middle, ±1 are the bounds, what lies beyond is clipped."""
    low, high = [2.0, -1.0, -0.5, -3.0], [3.0, 5.0, 0.25, -1.0]
    actions = [[-1.0] * 4, [0.0] * 4, [1.0] * 4, [-9.0] * 4]
    expected = [[2, -1, -0.5, -3], [2.5, 2, -0.125, -2], [3, 5, 0.25, -1], [2, -1, -0.5, -3]]
    np.testing.assert_allclose(bounded_actions(module, low, high, actions), expected)
    shaped = bounded_actions(module, np.reshape(low, (2, 2)), np.reshape(high, (2, 2)), actions)
    np.testing.assert_allclose(shaped, np.reshape(expected, (4, 2, 2)))


@pytest.mark.parametrize("script", STOCHASTIC)
@pytest.mark.parametrize(
    "low, high, middle",
    [
        (-INF, INF, 0),
        (-HUGE, HUGE, 0),
        (-1e10, 1e10, 0),
        (-6e5, 6e5, 0),  # a range above 1e6
        (5, INF, 6),
        (5, 1e10, 6),
        (-INF, 3, 2),
        (-HUGE, 3, 2),
        (3e6, INF, 3e6 + 1),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_units_of_bounds_that_mean_none(module, low, high, middle, dtype):
    """0 is 0, or one unit inside the finite side; the unit is 1; the clip stays."""
    actions = [[0.0], [0.5], [-0.5], [9.0], [-9.0]]
    got = bounded_actions(module, [low], [high], actions, dtype)[:, 0]
    expected = np.clip(middle + np.array(actions)[:, 0], low, high)
    np.testing.assert_allclose(got, expected)


def test_a_range_of_a_million_is_bounded(module):
    got = bounded_actions(module, [0], [1e6], [[-1.0], [0.0], [1.0]])[:, 0]
    np.testing.assert_allclose(got, [0, 5e5, 1e6])


def test_bounds_of_64_bits_hold(module, script):
    """What float32 would round outwards; the environment gets the type of its action space."""
    low, high = np.array([-0.3, 0.1, -1.0, 2.0]), np.array([0.7, 0.3, 1.0, 3.0])
    assert (np.float32(low) < low).any() and (np.float32(high) > high).any()
    policy = module.Policy(3, low, high)
    for extreme, bound in ((-1e6, low), (1e6, high)):
        if script == "ddpg":
            actions = policy.to_bounds(torch.full((1, 4), extreme)).numpy()[0]
        else:
            (actions,) = of_the_environment(policy, [[extreme] * 4])
        assert actions.dtype == np.float64 and (actions == bound).all()


@pytest.mark.parametrize("script", STOCHASTIC)
def test_sampled_and_mean_actions(module):
    """μ(s) + σ ε of the normalized observation, as torch has the network, mapped to the bounds."""
    torch.manual_seed(0)
    policy = module.Policy(3, np.full(2, -4.0, np.float32), np.full(2, 4.0, np.float32))
    policy.obs_stats.mean.fill_(5)
    policy.obs_stats.std.fill_(3)
    obs, noise = np.random.default_rng(0).normal(5, 3, (2, 10, 3))
    noise = noise[:, :2]
    with torch.no_grad():
        mu = policy.mu(torch.tensor((obs - 5) / 3, dtype=torch.float32))
    sampled = mu + policy.log_std.detach().exp() * torch.tensor(noise, dtype=torch.float32)
    torch.testing.assert_close(helpers.sampled(policy, obs, noise).float(), sampled)
    np.testing.assert_allclose(policy.act(obs), 4 * mu.numpy(), rtol=1e-4, atol=1e-6)
    expected = np.clip(4 * sampled.numpy(), -4, 4)
    np.testing.assert_allclose(policy.act(obs, noise), expected, rtol=1e-4, atol=1e-6)
    assert (np.abs(expected) == 4).any()
    assert policy.act(obs).dtype == np.float32


@pytest.mark.parametrize("script", STOCHASTIC)
def test_other_networks_than_those_that_act_are_refused(module, monkeypatch):
    """sample_actions repeats mlp in NumPy: a change of one alone would train a policy on the
    actions of another."""
    module.Policy(3, -np.ones(2), np.ones(2))
    mlp = module.mlp

    def with_relu(*inputs, **options):
        return torch.nn.Sequential(
            *[
                torch.nn.ReLU() if isinstance(x, torch.nn.Tanh) else x
                for x in mlp(*inputs, **options)
            ]
        )

    monkeypatch.setattr(module, "mlp", with_relu)
    with pytest.raises(AssertionError, match="sample_actions must follow mlp"):
        module.Policy(3, -np.ones(2), np.ones(2))


@pytest.fixture
def exported(module):
    """A policy with statistics and bounds that matter, and raw observations that reach them."""
    torch.manual_seed(0)
    policy = module.Policy(4, np.array([-1, 2], np.float32), np.array([1, 5], np.float32))
    if hasattr(policy, "obs_stats"):
        policy.obs_stats.update(np.random.default_rng(0).normal(50, 7, (100, 4)))
    for p in policy.parameters():
        p.data += 0.3 * torch.randn_like(p)
    scale = (50, 20) if hasattr(policy, "obs_stats") else (0, 1)
    obs = torch.from_numpy(np.random.default_rng(1).normal(*scale, (32, 4)).astype(np.float32))
    actions = policy.act(obs)
    assert len(np.unique(actions)) > 10
    if hasattr(policy, "obs_stats"):
        assert (actions == [-1, 2]).any()
    return policy, obs, actions


def test_forward_is_the_mean_action(exported):
    policy, obs, actions = exported
    np.testing.assert_allclose(policy(obs).detach(), actions, rtol=1e-5, atol=1e-6)


def test_torch_export(exported, tmp_path):
    policy, obs, actions = exported
    batch = torch.export.Dim("batch")
    program = torch.export.export(policy, (obs[:2],), dynamic_shapes=({0: batch},))
    torch.export.save(program, tmp_path / "policy.pt2")
    again = torch.export.load(tmp_path / "policy.pt2").module()
    np.testing.assert_allclose(again(obs).detach(), actions, rtol=1e-5, atol=1e-6)


def test_onnx_export(exported, tmp_path):
    policy, obs, actions = exported
    path = str(tmp_path / "policy.onnx")
    torch.onnx.export(
        policy.eval(),
        (obs[:2],),
        path,
        dynamo=True,
        dynamic_shapes=({0: torch.export.Dim("batch")},),
    )
    session = onnxruntime.InferenceSession(path)
    name = session.get_inputs()[0].name
    (got,) = session.run(None, {name: obs.numpy()})
    np.testing.assert_allclose(got, actions, rtol=1e-4, atol=1e-5)


def test_a_fresh_process_acts_the_same(module, script, tiny, tmp_path):
    run_dir = module.train(tiny("Hopper-v4"))
    rng = np.random.default_rng(0)
    obs, noise = rng.normal(size=(16, 11)), rng.normal(size=(16, 3))
    policy = module.load_policy(run_dir)
    np.savez(
        tmp_path / "acted.npz",
        obs=obs,
        noise=noise,
        mean=policy.act(obs),
        sampled=policy.act(obs, noise),
    )
    program = TESTS / "programs" / "act_again.py"
    arguments = [ROOT, script, run_dir, tmp_path / "acted.npz"]
    done = subprocess.run([sys.executable, program, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_load_policy_is_on_the_cpu(module, tiny):
    policy = module.load_policy(module.train(tiny()))
    assert {x.device.type for x in policy.state_dict().values()} == {"cpu"}


def test_programs_stand_alone():
    """They import nothing of the tests: each is a process of its own."""
    for path in (TESTS / "programs").glob("*.py"):
        assert "helpers" not in path.read_text() and "conftest" not in path.read_text()


def test_the_initial_actions_are_near_the_middle():
    for script in STOCHASTIC:
        policy, _ = networks(load(script))
        obs = np.random.default_rng(0).normal(size=(100, 3))
        assert np.abs(policy.act(obs)).max() < 0.1
