"""What `train` hands to `update`, on environments whose every number is known."""

import json

import numpy as np
import pytest
import torch
from conftest import SCRIPTS, load

ON_POLICY = [name for name in ("a2c_continuous", "ppo_continuous", "trpo_continuous") if name in SCRIPTS]


@pytest.fixture(params=ON_POLICY)
def seen(request, tmp_path, monkeypatch):
    """Trains and keeps, for each update, the batch of tensors, and the policy and critic at that moment."""
    module = load(request.param)

    def train(env_id, **changes):
        updates, real = [], module.update

        def update(policy, critic, optimizer, batch, rng, args):
            state = {
                name: x.clone() for name, x in (policy.state_dict() | dict(critic.named_buffers(prefix="V"))).items()
            }
            updates.append(({name: x.clone() for name, x in batch.items()}, state))
            assert critic(batch["obs"].flatten(0, 1)).shape == (batch["rewards"].numel(),)  # (B,), never (B, 1)
            return real(policy, critic, optimizer, batch, rng, args)

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
    sums = [sum(0.9**k for k in range(t % 7 + 1)) for t in range(128)]  # from 0 in each episode of 7 steps
    for i, (batch, state) in enumerate(updates):
        stream = np.array(sums[: 32 * (i + 1)])
        np.testing.assert_allclose(
            state["V.statistics"][:, 0], [2 * len(stream), stream.mean(), stream.var()], rtol=1e-5
        )
        np.testing.assert_allclose(batch["rewards"], 1 / stream.std(), rtol=1e-5)


def test_the_policy_that_acted_is_the_one_that_is_updated(seen):
    """Actions are stored as sampled, not as clipped, under the statistics and weights that the update starts from."""
    updates, module = seen("envs:LQR-v0", num_steps=64)
    for i, (batch, state) in enumerate(updates):
        policy = module.Policy(1, state["low"].numpy(), state["high"].numpy())
        policy.load_state_dict({name: x for name, x in state.items() if not name.startswith("V.")})
        noise = np.random.default_rng([1, i]).standard_normal((64, 2, 1), np.float32)
        expected = policy.sample(batch["obs"], torch.from_numpy(noise))
        torch.testing.assert_close(batch["actions"], expected, atol=1e-6, rtol=1e-5)
        assert batch["actions"].abs().max() > 1  # some would have been clipped


def test_statistics_are_those_of_all_observations_before(seen):
    updates, _ = seen("envs:LQR-v0")
    assert updates[0][1]["statistics"][:, 0].tolist() == [0, 0, 1]
    for i in range(1, len(updates)):
        stream = torch.cat([batch["obs"] for batch, _ in updates[:i]]).double()
        expected = [stream.numel(), stream.mean(), stream.var(correction=0)]
        np.testing.assert_allclose(updates[i][1]["statistics"][:, 0], expected, rtol=1e-4, atol=1e-5)


def test_returns_are_raw_and_of_whole_episodes(module, tiny):
    run_dir = module.train(tiny("envs:Scalar-v0", total_timesteps=2048))
    result = json.loads((run_dir / "result.json").read_text())
    assert result["training_return"] == 50 and result["deterministic"]["returns"] == [50, 50]


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
    policy = module.load_policy(module.train(tiny("envs:Bounds-v0")))  # the environment checks what it gets
    assert policy.act(np.zeros((3, 1))).shape == (3, 2, 2)
