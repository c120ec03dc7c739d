"""act_again.py ROOT SCRIPT RUN_DIR FILE: the policy of a run acts as FILE says that it did."""

import importlib
import sys

import numpy as np

root, script, run_dir, path = sys.argv[1:]
sys.path.insert(0, root)
acted = np.load(path)
policy = importlib.import_module(script).load_policy(run_dir)
assert (policy.act(acted["obs"]) == acted["mean"]).all()
assert (policy.act(acted["obs"], acted["noise"]) == acted["sampled"]).all()
