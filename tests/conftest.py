"""Fixtures: every script of the second edition, as a name and as a module."""

import pytest
from helpers import SCRIPTS, load, tiny_args


@pytest.fixture(params=SCRIPTS)
def script(request):
    return request.param


@pytest.fixture
def module(script):
    return load(script)


@pytest.fixture
def ppo():
    return load("ppo_continuous")


@pytest.fixture
def tiny(module, tmp_path):
    """Arguments of a run that takes a second, in tmp_path / "run"."""

    def make(env_id="envs:Scalar-v0", **changes):
        values = {"run_dir": tmp_path / "run"} | changes
        return tiny_args(module, values.pop("run_dir"), env_id, **values)

    return make
