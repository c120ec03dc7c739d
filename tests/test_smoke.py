"""Every script imports, trains for seconds and evaluates: under a minute in all."""

import json
from importlib.metadata import version

import numpy as np
import torch
from helpers import SCRIPTS, load


def test_trains_and_evaluates(tmp_path):
    for name in SCRIPTS:
        module, run_dir = load(name), tmp_path / name
        args = module.Args(total_timesteps=6_000, eval_episodes=2, run_dir=str(run_dir))
        assert module.train(args) == run_dir
        result = json.loads((run_dir / "result.json").read_text())
        assert result["steps"] >= 6_000 and result["steps_per_second"] > 100
        returns = result["deterministic"]["returns"]
        assert len(returns) == 2 and np.isclose(np.mean(returns), result["deterministic"]["mean"])
        assert 5 < result["training_return"] < 500  # Hopper stands for some steps
        versions = json.loads((run_dir / "args.json").read_text())["versions"]
        assert versions["torch"] == version("torch")
        assert module.load_policy(run_dir).act(np.zeros((4, 11))).shape == (4, 3)


def test_import_runs_nothing(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    random = torch.get_rng_state()
    for name in SCRIPTS:
        assert load(name).Args().env_id == "Hopper-v4"
    assert capsys.readouterr().out == "" and not list(tmp_path.iterdir())
    assert torch.equal(torch.get_rng_state(), random)
