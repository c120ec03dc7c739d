"""What `train` hands to `update`, on environments whose every number is known."""

import json

import numpy as np
import pytest
import torch
from helpers import STOCHASTIC, WITH_CRITIC, known, load, run, sampled

SIZES = {
    "num_envs": 2,
    "num_steps": 32,
    "minibatch_size": 32,
    "update_epochs": 1,
    "total_timesteps": 256,
    "eval_episodes": 1,
}


@pytest.fixture(params=WITH_CRITIC)
def seen(request, tmp_path, monkeypatch):
    """Trains and keeps, for each update, its batch and the policy's state at that moment."""
    module = load(request.param)

    def train(env_id, **changes):
        updates, real = [], module.update

        def update(policy, critic, optimizer, batch, *rest):
            state = {name: x.cpu().clone() for name, x in policy.state_dict().items()}
            updates.append(({name: x.cpu().clone() for name, x in batch.items()}, state))
            assert critic(batch["obs"]).shape == batch["rewards"].shape  # never (..., 1)
            return real(policy, critic, optimizer, batch, *rest)

        monkeypatch.setattr(module, "update", update)
        values = known(module, SIZES | changes)
        module.train(module.Args(env_id=env_id, run_dir=str(tmp_path / "run"), **values))
        return updates, module

    return train


def test_successors_at_a_termination(seen):
    updates, _ = seen("envs:Mortal-v0")
    batch = updates[0][0]
    obs, next_obs = batch["obs"][:, 0, 0], batch["next_obs"][:, 0, 0]
    assert obs.tolist()[:9] == [100, 1, 2, 3, 4, 5, 6, 100, 1]
    assert next_obs.tolist()[:9] == [1, 2, 3, 4, 5, 6, 7, 1, 2]  # 7, not the reset observation 100
    assert batch["done"][:, 0].nonzero().flatten().tolist() == [6, 13, 20, 27]
    assert torch.equal(batch["terminated"], batch["done"])


def test_successors_at_a_time_limit_of_an_environment_that_reuses_its_array(seen):
    updates, _ = seen("envs:OwnBuffer-v0")
    batch = updates[0][0]
    expected = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 1, 2]
    assert batch["next_obs"][:12, 0, 0].tolist() == expected
    assert batch["done"][9, 0] == 1 and batch["terminated"].sum() == 0


def test_episodes_last_from_rollout_to_rollout(seen):
    updates, _ = seen("envs:Scalar-v0")  # 50 steps an episode, 32 a rollout
    obs = torch.cat([batch["obs"] for batch, _ in updates])[..., 0]
    steps = np.arange(128) % 50
    assert (obs.numpy() == steps[:, None]).all()


def test_a_checkpoint_and_nothing_else_cuts_episodes(seen):
    """Every 128 steps, two rollouts, all environments start new episodes; a cut is no end."""
    updates, _ = seen("envs:Scalar-v0", checkpoint_interval=128, total_timesteps=512)
    obs = torch.cat([batch["obs"] for batch, _ in updates])[..., 0]
    steps = np.tile(np.r_[0:50, 0:14], 4)
    assert (obs.numpy() == steps[:, None]).all()
    done = torch.cat([batch["done"] for batch, _ in updates])
    assert (done.numpy() == (steps == 49)[:, None]).all()


def test_a_checkpoint_comes_at_the_first_rollout_that_reaches_its_step(seen):
    """Rollouts of 64 steps and an interval of 100: checkpoints at 128, 256 (passing 200), 320, …"""
    updates, _ = seen("envs:Scalar-v0", checkpoint_interval=100, total_timesteps=448)
    firsts = [batch["obs"][0, 0, 0].item() for batch, _ in updates]
    assert firsts == [0, 32, 0, 32, 0, 0, 32]


def test_rewards_are_scaled_over_all_rollouts(seen):
    """Reward 1 in episodes of 7 steps, divided by σ of all discounted returns so far."""
    updates, _ = seen("envs:Mortal-v0", gamma=0.9)
    discounted_returns = np.cumsum(0.9 ** np.arange(7))[np.arange(128) % 7]
    for i, (batch, _) in enumerate(updates):
        expected = 1 / discounted_returns[: 32 * (i + 1)].std()
        np.testing.assert_allclose(batch["rewards"], expected, rtol=1e-5)


def test_the_discounted_return_starts_with_the_episodes_of_a_checkpoint(seen):
    updates, _ = seen("envs:Scalar-v0", gamma=0.9, checkpoint_interval=64)
    discounted_returns = np.cumsum(0.9 ** np.arange(32))
    for batch, _ in updates:
        np.testing.assert_allclose(batch["rewards"], 1 / discounted_returns.std(), rtol=1e-5)


def test_the_policy_that_acted_is_the_one_that_is_updated(seen):
    """Actions are stored as sampled, not as clipped, by the weights that the update starts from."""
    updates, module = seen("envs:LQR-v0", num_steps=64)
    for i, (batch, state) in enumerate(updates):
        policy = module.Policy(1, state["low"], state["high"])
        policy.load_state_dict(state)
        noise = np.random.default_rng([1, 128 * i]).standard_normal((64, 2, 1), np.float32)
        expected = sampled(policy, batch["obs"], noise)
        torch.testing.assert_close(batch["actions"], expected, atol=1e-6, rtol=1e-5)
        assert batch["actions"].abs().max() > 1  # some would have been clipped


def test_statistics_are_those_of_all_observations_before(seen):
    updates, _ = seen("envs:LQR-v0")
    first = updates[0][1]
    assert [first[f"obs_stats.{x}"].item() for x in ("count", "mean", "var")] == [0, 0, 1]
    for i in range(1, len(updates)):
        stream = torch.cat([batch["obs"] for batch, _ in updates[:i]]).double()
        expected = {"count": stream.numel(), "mean": stream.mean(), "var": stream.var(correction=0)}
        for name, value in expected.items():
            got = updates[i][1][f"obs_stats.{name}"].item()
            assert got == pytest.approx(float(value), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize(
    "script, expected",
    [
        ("a2c_continuous", [0.004, 0.003, 0.002, 0.001]),
        ("ppo_continuous", [0.004, 0.003, 0.002, 0.001]),
        ("trpo_continuous", [0.004, 0.004, 0.004, 0.004]),  # the critic's, which stays
    ],
)
def test_learning_rates(module, expected, tiny, monkeypatch):
    rates, real = [], module.update

    def update(policy, critic, optimizer, *rest):
        rates.append(optimizer.param_groups[0]["lr"])
        return real(policy, critic, optimizer, *rest)

    monkeypatch.setattr(module, "update", update)
    module.train(tiny("envs:LQR-v0", learning_rate=0.004))
    assert rates == pytest.approx(expected)


def test_returns_are_raw_and_of_whole_episodes(module, tiny):
    run_dir = module.train(tiny("envs:Scalar-v0", total_timesteps=2048))
    result = json.loads((run_dir / "result.json").read_text())
    assert result["training_return"] == 50
    assert result["deterministic"]["returns"] == [50, 50]


@pytest.mark.parametrize("script", WITH_CRITIC)
def test_episodes_that_a_checkpoint_cuts_are_not_counted(module, tiny):
    args = tiny("envs:Scalar-v0", total_timesteps=2048, checkpoint_interval=128)
    checkpoint = module.load_checkpoint(module.train(args))
    assert checkpoint["last_returns"] == [50.0] * 2 * (2048 // 128)  # one of 64 steps each


def test_the_last_hundred_returns_are_kept(module, tiny):
    args = tiny("envs:Mortal-v0", total_timesteps=2048)
    checkpoint = module.load_checkpoint(module.train(args))
    assert checkpoint["last_returns"] == [7.0] * 100


def test_seeds(module, tiny, tmp_path):
    """The same seed twice gives the same weights, another one others."""
    runs = [
        module.train(tiny("envs:LQR-v0", seed=seed, run_dir=tmp_path / name))
        for seed, name in [(1, "a"), (1, "b"), (2, "c")]
    ]
    a, b, c = (module.load_checkpoint(run)["policy"] for run in runs)
    assert all(torch.equal(a[name], b[name]) for name in a)
    name = next(name for name in a if name.endswith("0.weight"))
    assert not torch.equal(a[name], c[name])


def test_initial_states_differ(seen):
    updates, _ = seen("envs:LQR-v0", num_envs=4, num_steps=16, checkpoint_interval=64)
    states = [x for batch, _ in updates for x in batch["obs"][0, :, 0].tolist()]
    assert len(states) == len(set(states)) == 16  # of environments, and of checkpoints


def test_seeds_of_environments_fit_into_32_bits(module, tiny, tmp_path):
    """Simulators with int32 seeds: SeedReader refuses others."""
    for seed in range(4):
        module.train(tiny("envs:SeedReader-v0", seed=seed, run_dir=tmp_path / str(seed)))


@pytest.mark.parametrize("env_id, dim", [("envs:Matrix-v0", 6), ("envs:DictObs-v0", 5)])
def test_observations_of_any_shape(module, tiny, env_id, dim):
    policy = module.load_policy(module.train(tiny(env_id)))
    assert policy.act(np.zeros((3, dim))).shape == (3, 1)


def test_actions_of_any_shape_and_bounds(module, tiny):
    """The environment checks what it gets."""
    policy = module.load_policy(module.train(tiny("envs:Bounded-v0")))
    assert policy.act(np.zeros((3, 1))).shape == (3, 2, 2)


@pytest.mark.parametrize("script", STOCHASTIC)
def test_actions_without_bounds(module, tiny):
    policy = module.load_policy(module.train(tiny("envs:Bounds-v0")))
    assert policy.act(np.zeros((3, 1))).shape == (3, 2, 2)


def test_the_environment_gets_no_options_and_its_info_goes_no_further(module, tiny):
    """Busy's info changes its shape from step to step, and its reset refuses options."""
    run_dir = module.train(tiny("envs:Busy-v0"))
    assert module.load_checkpoint(run_dir)["step"] >= 512


@pytest.mark.parametrize("outcome", ["success", "crash", "not finite", "interrupt"])
def test_environments_are_closed_on_every_way_out(module, tiny, monkeypatch, outcome):
    """Training's before evaluation's are made: never are both alive."""
    open_now, made = set(), []
    make = module.make_env

    def counted(*arguments):
        env = make(*arguments)
        made.append(len(open_now))
        open_now.add(id(env))
        close = env.close
        env.close = lambda: open_now.discard(id(env)) or close()
        return env

    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "make_env", counted)
    env_id = {"crash": "envs:Crash-v0", "not finite": "envs:NaN-v0"}.get(outcome, "envs:Scalar-v0")
    if outcome == "interrupt":
        monkeypatch.setattr(module, "update", interrupted)
    if outcome == "success":
        module.train(tiny(env_id))
    else:
        with pytest.raises((ValueError, FloatingPointError, KeyboardInterrupt)):
            module.train(tiny(env_id))
    assert made and not open_now
    assert max(made) < len(made) / (2 if outcome == "success" else 1)


@pytest.fixture
def episodes(tmp_path, monkeypatch):
    """Trains REINFORCE and keeps, for each update, its batch and the policy's state."""
    module = load("reinforce")

    def train(env_id, **changes):
        updates, real = [], module.update

        def update(policy, optimizer, batch, args):
            state = {name: x.cpu().clone() for name, x in policy.state_dict().items()}
            updates.append(({name: x.cpu().clone() for name, x in batch.items()}, state))
            return real(policy, optimizer, batch, args)

        monkeypatch.setattr(module, "update", update)
        values = {"min_batch_steps": 64, "total_timesteps": 1024, "eval_episodes": 1} | changes
        module.train(module.Args(env_id=env_id, run_dir=str(tmp_path / "run"), **values))
        return updates, module

    return train


def test_reinforce_batches_are_complete_episodes(episodes):
    """Episodes of 3 and of 30 steps; the first that ends at or after 64 steps ends the batch."""
    updates, _ = episodes("envs:TwoLengths-v0")
    lengths = []
    for batch, _ in updates:
        n, done = batch["n"], batch["done"] > 0
        assert batch["obs"][0] == 0 and done[-1]
        assert len(done) >= 64 and len(done) - n[-1] - 1 < 64
        assert torch.equal(n, batch["obs"][:, 0])  # the step within the episode
        lengths += (n[done] + 1).tolist()
        assert sum(lengths[-int(done.sum()) :]) == len(done)  # nothing is left out
    assert {3, 30} == set(lengths)


def test_reinforce_plays_what_its_random_numbers_say(episodes):
    """Every episode again, from seeds and noise that depend on --seed and the step alone."""
    updates, module = episodes("envs:LQR-v0", checkpoint_interval=100)
    env, step = module.make_env("envs:LQR-v0"), 0
    for batch, state in updates:
        policy = module.Policy(1, state["low"], state["high"])
        policy.load_state_dict(state)
        again, _ = module.collect_rollout(env, policy, np.random.default_rng([1, step]), 64)
        for name, x in again.items():
            torch.testing.assert_close(batch[name], torch.tensor(x, dtype=torch.float32))
        assert batch["actions"].abs().max() > 1  # some would have been clipped
        step += len(batch["done"])
    starts = torch.cat([batch["obs"][batch["n"] == 0, 0] for batch, _ in updates])
    assert len(starts.unique()) == len(starts) > 40


def test_reinforce_statistics_are_those_of_all_observations_before(episodes):
    updates, _ = episodes("envs:LQR-v0")
    stream = torch.cat([batch["obs"] for batch, _ in updates[:-1]]).double()
    expected = {"count": stream.numel(), "mean": stream.mean(), "var": stream.var(correction=0)}
    for name, value in expected.items():
        got = updates[-1][1][f"obs_stats.{name}"].item()
        assert got == pytest.approx(float(value), rel=1e-4, abs=1e-5)


def test_reinforce_needs_episodes_that_end(tmp_path):
    done = run("reinforce", "--env-id", "envs:Endless-v0", "--run-dir", tmp_path)
    assert done.returncode == 2 and "100,000 steps" in done.stderr
    assert done.stderr.count("\n") == 1
