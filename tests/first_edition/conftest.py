"""Fixtures of the first edition's tests."""

import pytest
from first_helpers import SCRIPTS, load


@pytest.fixture(params=SCRIPTS)
def script(request):
    return request.param


@pytest.fixture
def module(script):
    return load(script)


@pytest.fixture
def tiny(module, tmp_path):
    """Arguments of a run that takes a second: 2 environments, few steps, one evaluation episode."""

    def make(env_id="envs:Scalar-v0", **changes):
        sizes = {"num_envs": 2, "num_steps": 64, "minibatch_size": 32, "update_epochs": 2}
        sizes |= {"learning_starts": 64, "batch_size": 16, "buffer_size": 300}
        values = {"env_id": env_id, "total_timesteps": 512, "eval_episodes": 2, "run_dir": str(tmp_path / "run")}
        known = set(module.Args.__dataclass_fields__)
        return module.Args(**{name: value for name, value in (values | sizes | changes).items() if name in known})

    return make
