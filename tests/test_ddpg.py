"""What is DDPG's own: the replay, both gradients, the targets, exploration, what needs bounds."""

import copy
import os

import numpy as np
import pytest
import torch
from helpers import load, run

ddpg = load("ddpg")
NOTHING = {name: torch.zeros(()) for name in ("value_loss", "policy_loss", "mean_q", "saturation")}


def transitions(count):
    """Transition i says i everywhere; those with an even i have terminated."""
    i = np.arange(count, dtype=np.float64)
    return {
        "obs": np.stack([i, -i], 1),
        "actions": i[:, None] / 2,
        "rewards": 3 * i,
        "next_obs": np.stack([i + 1, -i - 1], 1),
        "terminated": i % 2 == 0,
    }


def filled(columns, capacity=10_000):
    replay = ddpg.Replay(capacity, 2, 1)
    for first in range(0, len(columns["rewards"]), 3):
        replay.add({name: x[first : first + 3] for name, x in columns.items()})
    return replay


def test_the_replay_keeps_the_newest_and_draws_transitions_uniformly():
    replay = filled(transitions(120), capacity=50)
    batch = replay.sample(20_000, np.random.default_rng(0), "cpu")
    i = batch["obs"][:, 0]
    counts = torch.bincount(i.long(), minlength=120)
    assert (
        counts[:70].sum() == 0 and counts[70:].min() > 300 and counts[70:].max() < 500
    )  # 400 ± 20
    torch.testing.assert_close(batch["obs"], torch.stack([i, -i], 1))
    torch.testing.assert_close(batch["actions"], i[:, None] / 2)
    torch.testing.assert_close(batch["next_obs"], batch["obs"] + torch.tensor([1.0, -1.0]))
    assert torch.equal(batch["rewards"], 3 * i)  # (B,), never (B, 1)
    assert torch.equal(batch["terminated"], (i % 2 == 0).float())
    few = filled(transitions(3), 50).sample(1_000, np.random.default_rng(0), "cpu")
    assert few["obs"][:, 0].unique().tolist() == [0, 1, 2]


def test_a_checkpoint_holds_the_filled_part_and_copies_nothing(tmp_path):
    replay = filled(transitions(99), capacity=1_000_000)
    state = replay.state_dict()
    for name, array in replay.arrays.items():
        assert state[name].data_ptr() == array.ctypes.data and len(state[name]) == 99
    torch.save({name: x.clone() for name, x in state.items() if name != "added"}, tmp_path / "a")
    torch.save(state, tmp_path / "replay.pt")
    again = ddpg.Replay(1_000_000, 2, 1)
    again.load_state_dict(torch.load(tmp_path / "replay.pt", weights_only=True, mmap=True))
    assert again.added == 99
    again.add({name: x[:1] for name, x in transitions(1).items()})
    for name, array in replay.arrays.items():
        assert (again.arrays[name][:99] == array[:99]).all()
        assert (again.arrays[name][99] == transitions(1)[name][0]).all()


def test_a_checkpoint_on_disk_is_no_larger_than_what_is_filled(tmp_path):
    """torch.save writes a tensor's whole storage: it must be that of the filled part."""
    torch.save(filled(transitions(99), capacity=1_000_000).state_dict(), tmp_path / "replay.pt")
    assert os.path.getsize(tmp_path / "replay.pt") < 99 * 7 * 4 + 4_000


@pytest.fixture
def learner():
    """Networks of float64, targets that differ, plain gradient steps, a batch with terminations."""
    torch.manual_seed(0)
    policy = ddpg.Policy(3, -np.ones(2), np.ones(2))
    networks = torch.nn.ModuleList([policy, ddpg.QNetwork(3, 2)]).double()
    target_networks = copy.deepcopy(networks).requires_grad_(False)
    for x in target_networks.parameters():
        x.data += 0.1 * torch.randn_like(x)
    optimizers = [torch.optim.SGD(network.parameters(), lr=1.0) for network in networks]
    batch = {
        "obs": torch.randn(16, 3, dtype=torch.float64),
        "actions": torch.randn(16, 2, dtype=torch.float64),
        "next_obs": torch.randn(16, 3, dtype=torch.float64),
        "rewards": torch.randn(16, dtype=torch.float64),
        "terminated": (torch.arange(16) % 3 == 0).double(),
    }
    return networks, target_networks, optimizers, batch, ddpg.Args(gamma=0.9, tau=0.1)


def flat(module):
    return torch.nn.utils.parameters_to_vector(module.parameters()).detach().clone()


def slope(function, module, direction, h=1e-6):
    """The derivative of function() along a direction of the parameters, by central differences."""
    start, ends = flat(module), []
    h = h / float(direction.norm())  # no unit's kink between the two
    for sign in (1, -1):
        torch.nn.utils.vector_to_parameters(start + sign * h * direction, module.parameters())
        ends.append(function().item())
    torch.nn.utils.vector_to_parameters(start, module.parameters())
    return (ends[0] - ends[1]) / (2 * h)


def test_the_critic_steps_down_its_squared_error(learner):
    networks, (target_policy, target_critic), _, batch, _ = learner
    _, critic = copy.deepcopy(networks)
    y = []
    for i in range(16):  # r + γ Q'(s', μ'(s')), or r after a termination
        next_obs = batch["next_obs"][i : i + 1]
        later = target_critic(next_obs, target_policy.mu(next_obs)).item()
        later = 0 if batch["terminated"][i] else later
        y.append(float(batch["rewards"][i]) + 0.9 * later)
    y, before = torch.tensor(y, dtype=torch.float64), flat(critic)
    ddpg.update(*learner)
    step = flat(networks[1]) - before

    def loss():
        return ((critic(batch["obs"], batch["actions"]) - y) ** 2).mean()

    for direction in torch.randn(5, len(step), dtype=torch.float64):
        expected = slope(loss, critic, direction)
        assert float(-step @ direction) == pytest.approx(expected, rel=1e-5)


def test_the_policy_steps_up_the_deterministic_policy_gradient(learner):
    """The derivative of E[Q(s, μ(s))]; E[∇_θ μ(s) ∇_a Q(s, a)] by differences of each factor."""
    networks, obs = learner[0], learner[3]["obs"]
    policy, critic = copy.deepcopy(networks)  # both steps start from the same weights
    ddpg.update(*learner)
    step = flat(networks[0]) - flat(policy)
    with torch.no_grad():
        mu, h = policy.mu(obs), 1e-6
        dQ = [
            (critic(obs, mu + h * e) - critic(obs, mu - h * e)) / (2 * h)
            for e in torch.eye(2).double()
        ]
        dQ = torch.stack(dQ, 1)  # ∇_a Q, (B, act_dim)
        for direction in torch.randn(5, len(step), dtype=torch.float64):
            whole = slope(lambda: critic(obs, policy.mu(obs)).mean(), policy, direction)
            chain = slope(lambda: (policy.mu(obs) * dQ).sum(1).mean(), policy, direction)
            assert float(step @ direction) == pytest.approx(whole, rel=1e-5)
            assert float(step @ direction) == pytest.approx(chain, rel=1e-5)


def test_the_critic_takes_no_gradient_from_the_policys_step(learner):
    _, critic = learner[0]
    before = flat(critic)
    ddpg.update(*learner)
    gradient = torch.cat([x.grad.flatten() for x in critic.parameters()])
    torch.testing.assert_close(gradient, before - flat(critic))  # a plain step of size 1


def test_polyak_averaging_by_hand(learner):
    networks, target_networks, *_ = learner
    before = flat(target_networks)
    ddpg.update(*learner)
    torch.testing.assert_close(flat(target_networks), 0.1 * flat(networks) + 0.9 * before)


def test_losses_are_what_they_are_called(learner):
    (policy, critic), _, _, batch, _ = learner
    policy.u[-1].bias.data += torch.tensor([10.0, 0])  # the first action is at its bound everywhere
    u = policy.u(batch["obs"]).detach()
    far = torch.where(u.abs() > 3, (u.abs() - 3) ** 2, 0)
    mean_q = critic(batch["obs"], u.tanh()).mean().item()
    losses = ddpg.update(*learner)
    assert 20 < far.mean() < 30
    assert float(losses["mean_q"]) == pytest.approx(mean_q)
    assert float(losses["policy_loss"]) == pytest.approx(far.mean().item() - mean_q)
    saturated = (u.tanh().abs() > 0.99).double().mean()
    assert float(losses["saturation"]) == 0.5 == float(saturated)


class Parabola(torch.nn.Module):
    """Q(s, a), best at one action in every state."""

    def __init__(self, best):
        super().__init__()
        self.best, self.top = best, torch.nn.Parameter(torch.zeros(()))

    def forward(self, obs, actions):
        return self.top - ((actions - self.best) ** 2).sum(1)


@pytest.mark.parametrize("side", [-1, 1])
def test_a_saturated_policy_comes_back(side):
    """Where all of tanh is flat, in float32 exactly, and the critic wants other actions."""
    torch.set_num_threads(1)  # as train does
    torch.manual_seed(0)
    policy = ddpg.Policy(3, -np.ones(2, np.float32), np.ones(2, np.float32))
    networks = torch.nn.ModuleList([policy, Parabola(-0.5 * side)])
    policy.u[-1].bias.data += 20.0 * side
    target_networks = copy.deepcopy(networks).requires_grad_(False)
    optimizers = [torch.optim.Adam(network.parameters(), 1e-2) for network in networks]
    obs, zeros = torch.randn(16, 3), torch.zeros(16)
    batch = {"obs": obs, "next_obs": obs, "actions": torch.zeros(16, 2)}
    batch |= {"rewards": zeros, "terminated": zeros}
    assert (policy.mu(obs) == side).all()
    for _ in range(500):
        ddpg.update(networks, target_networks, optimizers, batch, ddpg.Args())
    torch.testing.assert_close(policy.mu(obs), torch.full((16, 2), -0.5 * side), atol=0.05, rtol=0)


@pytest.fixture
def trained(tmp_path):
    sizes = {
        "total_timesteps": 300,
        "learning_starts": 60,
        "batch_size": 16,
        "eval_episodes": 1,
        "buffer_size": 1_000,
    }

    def train(env_id, **changes):
        args = ddpg.Args(env_id, run_dir=str(tmp_path / "run"), **(sizes | changes))
        checkpoint = ddpg.load_checkpoint(ddpg.train(args))
        return checkpoint["replay"], ddpg.load_policy(args.run_dir), checkpoint

    return train


def test_the_replay_holds_the_true_next_observation_and_terminations(trained):
    replay, _, _ = trained("envs:Mortal-v0")
    assert replay["obs"][:9, 0].tolist() == [100, 1, 2, 3, 4, 5, 6, 100, 1]
    # 7, not the reset observation 100
    assert replay["next_obs"][:9, 0].tolist() == [1, 2, 3, 4, 5, 6, 7, 1, 2]
    assert replay["terminated"][:14].tolist() == [0, 0, 0, 0, 0, 0, 1] * 2


def test_a_time_limit_is_no_termination(trained):
    replay, _, _ = trained("envs:OwnBuffer-v0")
    expected = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 1, 2]  # the true one at the limit too
    assert replay["next_obs"][:12, 0].tolist() == expected
    assert replay["terminated"].sum() == 0


@pytest.mark.parametrize("N", [1, 3])
def test_each_step_of_each_environment_brings_one_update(trained, monkeypatch, N):
    real, sizes = ddpg.update, []

    def update(networks, target_networks, optimizers, batch, args):
        sizes.append([len(x) for x in batch.values()])
        return real(networks, target_networks, optimizers, batch, args)

    monkeypatch.setattr(ddpg, "update", update)
    replay, _, checkpoint = trained("envs:Scalar-v0", num_envs=N)
    assert len(replay["rewards"]) == checkpoint["step"] == 300 and sizes == [[16] * 5] * 240


def test_exploration_is_in_the_policys_units(trained):
    """Asymmetric bounds, another range per dimension: the same fraction of each is explored."""
    sizes = {"total_timesteps": 1_000, "learning_starts": 500, "exploration_noise": 0.3}
    replay, policy, _ = trained("envs:Bounded-v0", **sizes)
    low, high = np.array([2, -1, -0.5, -3]), np.array([3, 5, 0.25, -1])
    actions = replay["actions"].numpy()
    assert np.abs(actions).max() <= 1
    assert (np.abs(actions[:500].mean(0)) < 0.12).all()
    assert (np.abs(actions[:500].std(0) - 3**-0.5) < 0.06).all()
    played = (low + high) / 2 + (high - low) / 2 * actions  # in the environment's units
    rewards = -np.abs(played - [2.75, 4, 0, -1.5]).sum(1)
    np.testing.assert_allclose(replay["rewards"], rewards, rtol=1e-4, atol=1e-5)

    policy = ddpg.Policy(1, low, high, exploration_noise=0.3)  # at first far from every bound
    state = np.zeros((1, 1))
    moved = policy.act(state, np.ones((1, 4))) - policy.act(state)
    np.testing.assert_allclose(moved[0], 0.3 * (high - low) / 2, rtol=1e-3)
    np.testing.assert_allclose(policy.act(state, np.full((1, 4), 99.0))[0], high)


def test_the_noise_of_a_run_has_its_deviation(trained, monkeypatch):
    monkeypatch.setattr(ddpg, "update", lambda *inputs: NOTHING)  # the first policy stays
    sizes = {"total_timesteps": 3_000, "learning_starts": 0, "exploration_noise": 0.2}
    replay, policy, _ = trained("envs:Noise-v0", buffer_size=5_000, **sizes)
    mu = policy.mu(replay["obs"].clone()).detach()
    noise = (replay["actions"] - mu)[:, 0]
    assert abs(float(noise.mean())) < 0.02
    assert float(noise.std()) == pytest.approx(0.2, rel=0.1)


@pytest.mark.parametrize("env_id", ["Bounds", "AboveFive", "Huge", "Mortal"])
def test_bounds_that_are_not_finite_are_one_line(env_id, tmp_path):
    options = ["--total-timesteps", 100, "--eval-episodes", 1, "--run-dir", tmp_path / "run"]
    done = run("ddpg", "--env-id", f"envs:{env_id}-v0", *options)
    if env_id == "Mortal":
        assert done.returncode == 0
        return
    assert done.returncode == 2 and "finite bounds" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_replay_too_large_for_the_machine_is_one_line(tmp_path):
    done = run("ddpg", "--buffer-size", 10**15, cwd=tmp_path)
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "num_envs, learning_starts, uniform", [(1, 10, 10), (3, 10, 12), (4, 8, 8), (4, 10, 12)]
)
def test_updates_begin_with_the_policys_own_steps(
    num_envs, learning_starts, uniform, tmp_path, monkeypatch
):
    """As many updates as steps that the policy took, at any number of environments."""
    calls, sampled, sample = [], [], ddpg.Policy.sample
    monkeypatch.setattr(ddpg, "update", lambda *inputs: calls.append(0) or NOTHING)
    monkeypatch.setattr(
        ddpg.Policy, "sample", lambda *inputs: sampled.append(num_envs) or sample(*inputs)
    )
    monkeypatch.setattr(ddpg, "evaluate", lambda *inputs: {"deterministic": {"mean": 0.0}})
    sizes = {"num_envs": num_envs, "learning_starts": learning_starts}
    sizes |= {"total_timesteps": 24, "batch_size": 4}
    ddpg.train(ddpg.Args("envs:LQR-v0", run_dir=str(tmp_path / "run"), **sizes))
    assert len(calls) == sum(sampled) == 24 - uniform


def test_a_reward_that_is_no_number_is_found_before_it_is_stored(tmp_path):
    """At the step where it appears, not at the next point of the log."""
    options = ["--env-id", "envs:NaN-v0", "--learning-starts", 10, "--batch-size", 4]
    done = run("ddpg", *options, "--run-dir", tmp_path / "run")
    assert done.returncode == 1 and "rewards is not finite at step 40" in done.stderr
