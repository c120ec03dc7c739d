"""Every script imports, trains for seconds and plays: under a minute in all."""

import json
from importlib.metadata import version

import numpy as np
import torch
from conftest import load


def test_trains_and_plays(module, tmp_path):
    args = module.Args(total_timesteps=6_000, eval_episodes=2, run_dir=str(tmp_path / "run"))
    run_dir = module.train(args)
    result = json.loads((run_dir / "result.json").read_text())
    assert result["steps"] >= 6_000 and result["steps_per_second"] > 100
    assert len(result["deterministic"]["returns"]) == 2
    assert np.isclose(np.mean(result["deterministic"]["returns"]), result["deterministic"]["mean"])
    assert 5 < result["training_return"] < 500  # Hopper stands for some steps
    assert json.loads((run_dir / "args.json").read_text())["versions"]["torch"] == version("torch")
    policy = module.load_policy(run_dir)
    assert policy.act(np.zeros((4, 11))).shape == (4, 3)


def test_import_runs_nothing(script, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    random = torch.get_rng_state()
    module = load(script)
    assert capsys.readouterr().out == "" and not list(tmp_path.iterdir())
    assert torch.equal(torch.get_rng_state(), random)
    assert module.Args().env_id == "Hopper-v4"
