"""DDPG's own: the replay, both gradients, the targets, exploration, and what needs bounds."""

import copy
import os

import numpy as np
import pytest
import torch
from first_helpers import load, run

ddpg = load("ddpg")


def filled(columns, capacity=10_000):
    replay = ddpg.Replay(capacity, 2, 1)
    for first in range(0, len(columns[0]), 3):
        replay.add(*(column[first : first + 3] for column in columns))
    return replay


def transitions(count):
    """Row i says i in every column: obs (i, -i), action i / 2, next obs (i + 1, -i - 1), reward 3 i; i even: dead."""
    i = np.arange(count, dtype=np.float64)
    return np.stack([i, -i], 1), i[:, None] / 2, np.stack([i + 1, -i - 1], 1), 3 * i, i % 2 == 0


def test_the_replay_keeps_the_newest_and_draws_whole_rows_uniformly():
    replay = filled(transitions(120), capacity=50)
    obs, actions, next_obs, rewards, terminated = replay.sample(20_000, np.random.default_rng(0), "cpu")
    i = obs[:, 0]
    counts = torch.bincount(i.long(), minlength=120)
    assert counts[:70].sum() == 0 and counts[70:].min() > 300 and counts[70:].max() < 500  # 400 ± 20 each
    torch.testing.assert_close(obs, torch.stack([i, -i], 1))
    torch.testing.assert_close(actions, i[:, None] / 2)
    torch.testing.assert_close(next_obs, obs + torch.tensor([1.0, -1.0]))
    assert torch.equal(rewards, 3 * i) and torch.equal(terminated, (i % 2 == 0).float())  # (B,), never (B, 1)
    assert filled(transitions(3), 50).sample(1_000, np.random.default_rng(0), "cpu")[0][:, 0].unique().tolist() == [
        0,
        1,
        2,
    ]


def test_the_replay_takes_the_bytes_that_its_docstring_says():
    for env, obs_dim, act_dim, size in (("Hopper", 11, 3, 108), ("Humanoid", 376, 17, 3_084)):
        replay = ddpg.Replay(1_000_000, obs_dim, act_dim)
        assert replay.rows.nbytes == 1_000_000 * size and f"{size:,} in {env}-v4" in ddpg.Replay.__doc__


def test_a_checkpoint_holds_the_filled_part_and_copies_nothing(tmp_path):
    replay = filled(transitions(99), capacity=1_000_000)
    state = replay.state_dict()
    assert state["rows"].data_ptr() == replay.rows.ctypes.data
    torch.save(state, tmp_path / "replay.pt")
    assert os.path.getsize(tmp_path / "replay.pt") < 99 * 7 * 4 + 2_000
    again = ddpg.Replay(1_000_000, 2, 1)
    again.load_state_dict(torch.load(tmp_path / "replay.pt", weights_only=True, mmap=True))
    assert (again.rows[:99] == replay.rows[:99]).all() and again.added == 99
    again.add(*transitions(1))
    assert again.added == 100 and (again.rows[99] == [0, 0, 0, 1, -1, 0, 1]).all()


@pytest.fixture
def learner():
    """Networks of float64, targets that differ from them, plain gradient steps, a batch with deaths."""
    torch.manual_seed(0)
    policy = ddpg.Policy(3, -np.ones(2), np.ones(2))
    critic = torch.nn.Sequential(ddpg.relu_net(5, 1), torch.nn.Flatten(0))
    networks = torch.nn.ModuleList([policy, critic]).double()
    targets = copy.deepcopy(networks).requires_grad_(False)
    for x in targets.parameters():
        x.data += 0.1 * torch.randn_like(x)
    optimizer = torch.optim.SGD(networks.parameters(), lr=1.0)
    batch = [torch.randn(16, width, dtype=torch.float64) for width in (3, 2, 3)]
    batch += [torch.randn(16, dtype=torch.float64), (torch.arange(16) % 3 == 0).double()]
    return networks, targets, optimizer, batch, ddpg.Args(gamma=0.9, tau=0.1)


def flat(module):
    return torch.nn.utils.parameters_to_vector(module.parameters()).detach().clone()


def slope(function, module, direction, h=1e-6):
    """The derivative of function() along a direction of the module's parameters, by central differences."""
    start, ends = flat(module), []
    h = h / float(direction.norm())  # no unit's kink between the two
    for sign in (1, -1):
        torch.nn.utils.vector_to_parameters(start + sign * h * direction, module.parameters())
        ends.append(function().item())
    torch.nn.utils.vector_to_parameters(start, module.parameters())
    return (ends[0] - ends[1]) / (2 * h)


def Q(critic, obs, actions):  # (B,)
    return critic(torch.cat([obs, actions], 1))


def test_the_critic_steps_down_its_squared_error(learner):
    networks, (slow_policy, slow_critic), _, (obs, actions, next_obs, rewards, terminated), args = learner
    _, critic = copy.deepcopy(networks)
    y = []
    for i in range(16):  # r + γ Q'(s', μ'(s')), or r after a death
        later = (
            0 if terminated[i] else Q(slow_critic, next_obs[i : i + 1], slow_policy.mean(next_obs[i : i + 1])).item()
        )
        y.append(float(rewards[i]) + 0.9 * later)
    y, before = torch.tensor(y, dtype=torch.float64), flat(critic)
    ddpg.update(*learner)
    step = flat(networks[1]) - before
    for direction in torch.randn(5, len(step), dtype=torch.float64):
        expected = slope(lambda: ((Q(critic, obs, actions) - y) ** 2).mean(), critic, direction)
        assert float(-step @ direction) == pytest.approx(expected, rel=1e-5)


def test_the_policy_steps_up_the_deterministic_policy_gradient(learner):
    """Both as the derivative of E[Q(s, μ_θ(s))] and as E[∇_θ μ(s) ∇_a Q(s, a)], with differences for each factor."""
    networks, _, _, (obs, *_), _ = learner
    policy, critic = copy.deepcopy(networks)  # both steps start from the same weights
    ddpg.update(*learner)
    step = flat(networks[0]) - flat(policy)
    with torch.no_grad():
        mu, h = policy.mean(obs), 1e-6
        dQ = [(Q(critic, obs, mu + h * e) - Q(critic, obs, mu - h * e)) / (2 * h) for e in torch.eye(2).double()]
        dQ = torch.stack(dQ, 1)  # ∇_a Q, (B, act_dim)
        for direction in torch.randn(5, len(step), dtype=torch.float64):
            got = float(step @ direction)
            assert got == pytest.approx(
                slope(lambda: Q(critic, obs, policy.mean(obs)).mean(), policy, direction), rel=1e-5
            )
            assert got == pytest.approx(
                slope(lambda: (policy.mean(obs) * dQ).sum(1).mean(), policy, direction), rel=1e-5
            )


def test_the_critic_takes_no_gradient_from_the_policys_step(learner):
    _, critic = learner[0]
    before = flat(critic)
    ddpg.update(*learner)
    gradient = torch.cat([x.grad.flatten() for x in critic.parameters()])
    torch.testing.assert_close(gradient, before - flat(critic))  # a plain step of size 1: nothing came after it


def test_polyak_averaging_by_hand(learner):
    networks, targets, *_ = learner
    before = flat(targets)
    ddpg.update(*learner)
    torch.testing.assert_close(flat(targets), 0.1 * flat(networks) + 0.9 * before)


def test_losses_are_what_they_are_called(learner):
    networks, targets, optimizer, batch, args = learner
    policy, critic = networks
    policy.mean[-2].bias.data += torch.tensor([10.0, 0])  # the first action at its bound, whatever the observation
    u = policy.mean[:-1](batch[0]).detach()
    far = torch.where(u.abs() > 3, (u.abs() - 3) ** 2, 0)
    expected = (far.mean() - Q(critic, batch[0], u.tanh()).mean()).item()
    policy_loss, _, saturation = ddpg.update(*learner)
    assert float(saturation) == 0.5 == float((u.tanh().abs() > 0.99).double().mean()) and 20 < far.mean() < 30
    assert float(policy_loss) == pytest.approx(expected)


class Parabola(torch.nn.Module):
    """Q(s, a), best at one action in every state."""

    def __init__(self, best):
        super().__init__()
        self.best, self.top = best, torch.nn.Parameter(torch.zeros(()))

    def forward(self, x):
        return self.top - ((x[:, 3:] - self.best) ** 2).sum(1)


@pytest.mark.parametrize("side", [-1, 1])
def test_a_saturated_policy_comes_back(side):
    """Where all of tanh is flat, in float32 exactly, and the critic wants other actions."""
    torch.set_num_threads(1)  # as train does
    torch.manual_seed(0)
    networks = torch.nn.ModuleList([ddpg.Policy(3, -np.ones(2), np.ones(2)), Parabola(-0.5 * side)])
    networks[0].mean[-2].bias.data += 20.0 * side
    targets = copy.deepcopy(networks).requires_grad_(False)
    optimizer = torch.optim.Adam(networks.parameters(), 1e-2)
    obs, ends = torch.randn(16, 3), torch.zeros(16)
    assert (networks[0].mean(obs) == side).all()
    for _ in range(500):
        ddpg.update(networks, targets, optimizer, (obs, torch.zeros(16, 2), obs, ends, ends), ddpg.Args())
    torch.testing.assert_close(networks[0].mean(obs), torch.full((16, 2), -0.5 * side), atol=0.05, rtol=0)


@pytest.fixture
def trained(tmp_path):
    def train(env_id, **changes):
        values = dict(total_timesteps=300, learning_starts=60, batch_size=16, eval_episodes=1, buffer_size=1_000)
        run_dir = ddpg.train(ddpg.Args(env_id, run_dir=str(tmp_path / "run"), **(values | changes)))
        checkpoint = ddpg.load_checkpoint(run_dir)
        return checkpoint["replay"]["rows"], ddpg.load_policy(run_dir), checkpoint

    return train


def test_the_replay_holds_the_true_next_observation_and_deaths(trained):
    rows, _, _ = trained("envs:Mortal-v0")
    obs, _, next_obs, _, terminated = rows.T
    assert obs[:9].tolist() == [100, 1, 2, 3, 4, 5, 6, 100, 1]
    assert next_obs[:9].tolist() == [1, 2, 3, 4, 5, 6, 7, 1, 2]  # 7, not the reset observation 100
    assert terminated[:14].tolist() == [0, 0, 0, 0, 0, 0, 1] * 2


def test_a_time_limit_is_no_death(trained):
    rows, _, _ = trained("envs:OwnBuffer-v0")
    assert rows[:12, 2].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 1, 2]  # the true one at the limit too
    assert rows[:, 4].sum() == 0


@pytest.mark.parametrize("N", [1, 3])
def test_each_step_of_each_environment_brings_one_update(trained, monkeypatch, N):
    real, sizes = ddpg.update, []

    def update(networks, targets, optimizer, batch, args):
        sizes.append([len(column) for column in batch])
        return real(networks, targets, optimizer, batch, args)

    monkeypatch.setattr(ddpg, "update", update)
    rows, _, checkpoint = trained("envs:Scalar-v0", num_envs=N)
    assert len(rows) == checkpoint["step"] == 300 and sizes == [[16] * 5] * 240


def test_exploration_is_in_the_policys_units(trained):
    """Asymmetric bounds, another range for each dimension: the same share of each is explored."""
    rows, policy, _ = trained("envs:Bounded-v0", total_timesteps=1_000, learning_starts=500, exploration_noise=0.3)
    low, high = np.array([2, -1, -0.5, -3]), np.array([3, 5, 0.25, -1])
    actions, rewards = rows[:, 1:5].numpy(), rows[:, 6].numpy()
    assert np.abs(actions).max() <= 1
    assert (np.abs(actions[:500].mean(0)) < 0.12).all() and (np.abs(actions[:500].std(0) - 3**-0.5) < 0.06).all()
    played = (low + high) / 2 + (high - low) / 2 * actions  # in the environment's units
    np.testing.assert_allclose(rewards, -np.abs(played - [2.75, 4, 0, -1.5]).sum(1), rtol=1e-4, atol=1e-5)

    policy = ddpg.Policy(1, low, high, std=0.3)  # at first far from every bound
    moved = policy.act(np.zeros((1, 1)), np.ones((1, 4))) - policy.act(np.zeros((1, 1)))
    np.testing.assert_allclose(moved[0], 0.3 * (high - low) / 2, rtol=1e-3)
    np.testing.assert_allclose(policy.act(np.zeros((1, 1)), np.full((1, 4), 99.0))[0], high)


def test_the_noise_of_a_run_has_its_deviation(trained, monkeypatch):
    monkeypatch.setattr(ddpg, "update", lambda *inputs: torch.zeros(3))  # the first policy stays
    rows, policy, _ = trained("envs:Noise-v0", total_timesteps=3_000, learning_starts=0, exploration_noise=0.2)
    noise = rows[:, 2] - torch.from_numpy(policy.sample(rows[:, :2].numpy(), np.zeros((1, 1))))[:, 0]
    assert abs(float(noise.mean())) < 0.02 and float(noise.std()) == pytest.approx(0.2, rel=0.1)


@pytest.mark.parametrize("env_id", ["envs:Bounds-v0", "envs:Mortal-v0"])
def test_infinite_bounds_are_one_line(env_id, tmp_path):
    options = ["--total-timesteps", 100, "--eval-episodes", 1, "--run-dir", tmp_path / "run"]
    done = run("ddpg", "--env-id", env_id, *options)
    if env_id == "envs:Mortal-v0":  # bounded
        assert done.returncode == 0
        return
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1 and "bounds" in done.stderr


def test_more_than_one_process_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setenv("WORLD_SIZE", "2")
    done = run("ddpg", cwd=tmp_path)
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1 and "one process" in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_replay_too_large_for_the_machine_is_one_line(tmp_path):
    done = run("ddpg", "--buffer-size", 10**15, cwd=tmp_path)
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1 and not list(tmp_path.iterdir())


@pytest.mark.parametrize(("num_envs", "learning_starts", "uniform"), [(1, 10, 10), (3, 10, 12), (4, 8, 8), (4, 10, 12)])
def test_updates_begin_with_the_policys_own_steps(num_envs, learning_starts, uniform, tmp_path, monkeypatch):
    """As many updates as steps that the policy took, at any number of environments."""
    calls, sampled, sample = [], [], ddpg.Policy.sample
    monkeypatch.setattr(ddpg, "update", lambda *inputs: calls.append(0) or torch.zeros(3))
    monkeypatch.setattr(ddpg.Policy, "sample", lambda *inputs: sampled.append(num_envs) or sample(*inputs))
    monkeypatch.setattr(ddpg, "evaluate", lambda *inputs: {"deterministic": {"mean": 0.0}})
    sizes = dict(num_envs=num_envs, learning_starts=learning_starts, total_timesteps=24, batch_size=4)
    ddpg.train(ddpg.Args("envs:LQR-v0", run_dir=str(tmp_path / "run"), **sizes))
    assert len(calls) == sum(sampled) == 24 - uniform
