"""What `train` hands to `update`, on environments whose every number is known."""

import copy
import json

import gymnasium as gym
import numpy as np
import pytest
import torch
from first_helpers import SCRIPTS, STOCHASTIC, load, sample
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

ON_POLICY = [name for name in ("a2c_continuous", "trpo_continuous") if name in SCRIPTS]


@pytest.fixture(params=ON_POLICY)
def seen(request, tmp_path, monkeypatch):
    """Trains and keeps, for each update, the batch of tensors, and the policy and critic at that moment."""
    module = load(request.param)

    def train(env_id, **changes):
        updates, real = [], module.update

        def update(policy, critic, optimizer, batch, *rest):
            state = {
                name: x.cpu().clone()
                for name, x in (policy.state_dict() | dict(critic.named_buffers(prefix="V"))).items()
            }
            updates.append(({name: x.cpu().clone() for name, x in batch.items()}, state))
            assert critic(batch["obs"].flatten(0, 1)).shape == (batch["rewards"].numel(),)  # (B,), never (B, 1)
            return real(policy, critic, optimizer, batch, *rest)

        monkeypatch.setattr(module, "update", update)
        values = {"num_envs": 2, "num_steps": 32, "minibatch_size": 32, "update_epochs": 1, "total_timesteps": 256}
        known = set(module.Args.__dataclass_fields__)
        values = {name: value for name, value in (values | changes).items() if name in known}
        module.train(module.Args(env_id=env_id, eval_episodes=1, run_dir=str(tmp_path / "run"), **values))
        return updates, module

    return train


def test_successors_at_a_death(seen):
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
    assert batch["next_obs"][:12, 0, 0].tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 1, 2]
    assert batch["done"][9, 0] == 1 and batch["terminated"].sum() == 0


def test_episodes_go_on_from_rollout_to_rollout(seen):
    updates, _ = seen("envs:Scalar-v0")  # 50 steps an episode, 32 a rollout
    obs = torch.cat([batch["obs"][:, 0, 0] for batch, _ in updates])
    assert obs.tolist()[:64] == [*range(50), *range(14)]


def test_rewards_are_scaled_by_the_spread_of_discounted_returns(seen):
    updates, module = seen("envs:Mortal-v0", gamma=0.9)
    discounted = np.cumsum(
        0.9 ** np.arange(7)
    )  # from 0 in each episode of 7 steps; environment 1 starts anew at step 32
    sums = np.stack([discounted[np.arange(128) % 7], discounted[np.r_[:32, :96] % 7]], 1)
    for i, (batch, state) in enumerate(updates):
        stream = sums[: 32 * (i + 1)]
        expected = [stream.size, stream.mean(), stream.var()]
        np.testing.assert_allclose(state["V.statistics"][:3, 0], expected, rtol=1e-5)
        np.testing.assert_allclose(batch["rewards"], 1 / stream.std(), rtol=1e-5)


def test_time_limits_do_not_fall_together(seen):
    """After a checkpoint, one environment a rollout starts a new episode; what it leaves is no end of an episode."""
    sizes = {"num_envs": 3, "num_steps": 8, "minibatch_size": 24}
    updates, _ = seen("envs:Scalar-v0", checkpoint_interval=40, total_timesteps=3 * 80, **sizes)
    steps = [[*range(40)] * 2, [*range(8), *range(32)] * 2, [*range(16), *range(24)] * 2]  # since each one's start
    assert torch.cat([batch["obs"][..., 0] for batch, _ in updates]).T.tolist() == steps
    assert not any(batch["done"].any() for batch, _ in updates)


def test_the_policy_that_acted_is_the_one_that_is_updated(seen):
    """Actions are stored as sampled, not as clipped, under the statistics and weights that the update starts from."""
    updates, module = seen("envs:LQR-v0", num_steps=64)
    for i, (batch, state) in enumerate(updates):
        policy = module.Policy(1, *state["bounds"][:2])
        policy.load_state_dict({name: x for name, x in state.items() if not name.startswith("V.")})
        noise = np.random.default_rng([1, i]).standard_normal((64, 2, 1), np.float32)
        expected = sample(policy, batch["obs"], noise)
        torch.testing.assert_close(batch["actions"], expected, atol=1e-6, rtol=1e-5)
        assert batch["actions"].abs().max() > 1  # some would have been clipped


def test_statistics_are_those_of_all_observations_before(seen):
    updates, _ = seen("envs:LQR-v0")
    assert updates[0][1]["statistics"][:, 0].tolist() == [0, 0, 1, 1]
    for i in range(1, len(updates)):
        stream = torch.cat([batch["obs"] for batch, _ in updates[:i]]).double()
        expected = [stream.numel(), stream.mean(), stream.var(correction=0)]
        np.testing.assert_allclose(updates[i][1]["statistics"][:3, 0], expected, rtol=1e-4, atol=1e-5)


def test_returns_are_raw_and_of_whole_episodes(module, tiny):
    run_dir = module.train(tiny("envs:Scalar-v0", total_timesteps=2048))
    result = json.loads((run_dir / "result.json").read_text())
    assert result["training_return"] == 50 and result["deterministic"]["returns"] == [50, 50]


@pytest.mark.parametrize("script", ON_POLICY)
def test_a_checkpoint_cuts_episodes_and_counts_none_of_the_cut_ones(module, tiny):
    run_dir = module.train(tiny("envs:Scalar-v0", total_timesteps=2048, checkpoint_interval=64))
    checkpoint = module.load_checkpoint(run_dir)
    assert set(checkpoint["recent"]) == {50.0} and len(checkpoint["recent"]) == 2 * 2048 // 2 // 64


def test_seeds(module, tiny, tmp_path):
    """The same seed twice gives the same weights, another one others; no environment starts as a neighbour does."""
    runs = [
        module.train(tiny("envs:LQR-v0", seed=seed, run_dir=str(tmp_path / name)))
        for seed, name in [(1, "a"), (1, "b"), (2, "c")]
    ]
    a, b, c = (module.load_checkpoint(run)["policy"] for run in runs)
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["mean.0.weight"], c["mean.0.weight"])


def test_start_states_differ(seen):
    updates, _ = seen("envs:LQR-v0", num_envs=4, num_steps=16)
    assert len(set(updates[0][0]["obs"][0, :, 0].tolist())) == 4


@pytest.mark.parametrize("env_id, dim", [("envs:Matrix-v0", 6), ("envs:DictObs-v0", 5)])
def test_observations_of_any_shape(module, tiny, env_id, dim):
    policy = module.load_policy(module.train(tiny(env_id)))
    assert policy.act(np.zeros((3, dim))).shape == (3, 1)


def test_actions_of_any_shape_and_bounds(module, tiny):
    policy = module.load_policy(module.train(tiny("envs:Bounded-v0")))  # the environment checks what it gets
    assert policy.act(np.zeros((3, 1))).shape == (3, 2, 2)


@pytest.mark.parametrize("script", STOCHASTIC)
def test_actions_without_bounds(module, tiny):
    policy = module.load_policy(module.train(tiny("envs:Bounds-v0")))
    assert policy.act(np.zeros((3, 1))).shape == (3, 2, 2)


@pytest.fixture
def episodes(tmp_path, monkeypatch):
    """Trains REINFORCE and keeps, for each update, the batch of tensors and the policy's state at that moment."""
    module = load("reinforce")

    def train(env_id, **changes):
        updates, real = [], module.update

        def update(policy, optimizer, batch, args):
            state = {name: x.cpu().clone() for name, x in policy.state_dict().items()}
            updates.append(({name: x.cpu().clone() for name, x in batch.items()}, state))
            return real(policy, optimizer, batch, args)

        monkeypatch.setattr(module, "update", update)
        values = {"num_steps": 64, "total_timesteps": 1024, "eval_episodes": 1} | changes
        module.train(module.Args(env_id=env_id, run_dir=str(tmp_path / "run"), **values))
        return updates, module

    return train


def test_reinforce_batches_are_whole_episodes_and_nothing_is_dropped(episodes):
    """Episodes of 3 and of 30 steps: what the environment has played, all of it, in its order."""
    updates, _ = episodes("envs:TwoLengths-v0", checkpoint_interval=10**6)
    for batch, _ in updates:
        n, done = batch["n"], batch["done"] > 0
        assert batch["obs"][0] == 0 and done[-1]
        assert len(done) >= 64 and len(done) - n[-1] - 1 < 64  # ended by the first episode that could end it
        assert torch.equal(n, batch["obs"][:, 0])  # the step within the episode
    played = torch.cat([batch["n"][batch["done"] > 0] + 1 for batch, _ in updates]).tolist()

    env, expected = gym.make("envs:TwoLengths-v0"), []
    env.reset(seed=int(np.random.SeedSequence([1, 0, 0]).generate_state(1)[0]))
    for _ in played:
        expected.append(env.unwrapped.length)
        env.reset()
    assert played == expected and {3, 30} == set(played)


def test_reinforce_checkpoints_fall_between_batches(episodes):
    updates, module = episodes("envs:TwoLengths-v0", checkpoint_interval=100)
    assert all(batch["obs"][0] == 0 and batch["done"][-1] for batch, _ in updates)


def test_reinforce_updates_the_policy_that_acted(episodes):
    updates, module = episodes("envs:LQR-v0")
    step = 0
    for batch, state in updates:
        policy = module.Policy(1, *state["bounds"][:2])
        policy.load_state_dict(state)
        rng = np.random.default_rng([1, step])
        noise = torch.from_numpy(np.stack([rng.standard_normal(1, np.float32) for _ in batch["done"]]))
        torch.testing.assert_close(batch["actions"], sample(policy, batch["obs"], noise), atol=1e-6, rtol=1e-5)
        assert batch["actions"].abs().max() > 1  # some would have been clipped
        step += len(batch["done"])
    stream = torch.cat([batch["obs"] for batch, _ in updates[:-1]]).double()
    expected = [stream.numel(), stream.mean(), stream.var(correction=0)]
    np.testing.assert_allclose(updates[-1][1]["statistics"][:3, 0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ON_POLICY)
def test_what_an_update_did_is_logged(name, tmp_path, monkeypatch):
    """KL and ratio between the policy before and after each update, again with torch.distributions in float64."""
    module, expected = load(name), []
    real = module.update

    def normal(policy, obs):
        with torch.no_grad():
            return torch.distributions.Normal(policy.mean(obs), policy.log_std.exp())

    def update(policy, critic, optimizer, batch, *rest):
        obs, actions = module.normalize(batch["obs"], policy.statistics), batch["actions"]
        old = normal(policy, obs)
        losses = real(policy, critic, optimizer, batch, *rest)
        kl = torch.distributions.kl_divergence(old, normal(policy, obs)).double().sum(-1).cpu()
        ratio = (normal(policy, obs).log_prob(actions) - old.log_prob(actions)).double().sum(-1).exp().cpu()
        quantiles = torch.quantile(ratio, torch.tensor([0.01, 0.99], dtype=torch.float64))
        expected.append([kl.mean(), kl.max(), *quantiles])
        return losses

    monkeypatch.setattr(module, "update", update)
    sizes = {"minibatch_size": 32} if hasattr(module.Args, "minibatch_size") else {}
    args = module.Args("envs:LQR-v0", num_envs=2, num_steps=64, total_timesteps=1024, learning_rate=0.003, **sizes)
    args.run_dir, args.eval_episodes = str(tmp_path / "run"), 1
    module.train(args)
    events = EventAccumulator(args.run_dir).Reload()
    tags = ["losses/kl", "losses/kl_max", "losses/ratio_q01", "losses/ratio_q99"]
    got = np.array([[event.value for event in events.Scalars(tag)] for tag in tags]).T
    np.testing.assert_allclose(got, np.array(expected), rtol=1e-3, atol=1e-6)
    assert len(got) == 8 and (got[:, 0] < got[:, 1]).all() and (got[:, 2] < 1).all() and (got[:, 3] > 1).all()
    if name == "trpo_continuous":
        more = {"losses/cg_residual", "losses/improvement", "losses/expected_improvement", "losses/backtracks"}
        assert more <= set(events.Tags()["scalars"])


def trust_region_run(total_timesteps, run_dir, monkeypatch):
    """Trains TRPO on Hopper; for each update, KL and surrogate in float64 from batch, parameters and statistics."""
    module, steps = load("trpo_continuous"), []
    real = module.trust_region_step

    def density(policy, obs, actions):
        policy, obs = copy.deepcopy(policy).double(), obs.double()
        normal = torch.distributions.Normal(policy.mean(obs), policy.log_std.exp())
        return normal, normal.log_prob(actions.double()).sum(-1)

    def step(policy, obs, actions, advantages, args):
        with torch.no_grad():
            state, (old, before) = {k: x.clone() for k, x in policy.state_dict().items()}, density(policy, obs, actions)
            with torch.enable_grad():
                scalars = real(policy, obs, actions, advantages, args)
            new, after = density(policy, obs, actions)
            kl = torch.distributions.kl_divergence(old, new).sum(-1)
            improvement = (((after - before).exp() - 1) * advantages.double()).mean()
            same = all(torch.equal(x, state[k]) for k, x in policy.state_dict().items())
        steps.append((scalars["backtracks"], float(kl.mean()), float(kl.max()), float(improvement), same))
        return scalars

    monkeypatch.setattr(module, "trust_region_step", step)
    module.train(module.Args(total_timesteps=total_timesteps, eval_episodes=2, run_dir=str(run_dir)))
    accepted = [s for s in steps if s[0] < 10]
    assert len(accepted) > 0.9 * len(steps)
    _, kl, kl_max, improvement, _ = np.array(accepted).T
    assert (kl <= 0.01 * (1 + 1e-3)).all() and (kl_max <= 0.1 * (1 + 1e-3)).all() and (improvement > 0).all()
    assert all(same == (backtracks == 10) for backtracks, *_, same in steps)
    assert np.median(np.maximum(kl / 0.01, kl_max / 0.1)) > 0.5  # the step goes as far as it may
    return steps


def test_trpo_keeps_to_its_trust_region(tmp_path, monkeypatch):
    trust_region_run(20_000, tmp_path / "run", monkeypatch)


@pytest.mark.slow
def test_trpo_keeps_to_its_trust_region_over_a_whole_run(tmp_path, monkeypatch):
    steps = trust_region_run(1_000_000, tmp_path / "run", monkeypatch)
    print(f"{len(steps)} updates, {sum(s[0] == 10 for s in steps)} rejected, largest KL {max(s[1] for s in steps):.6f}")
