"""unstable.py ROOT SCRIPT: HalfCheetah is thrown until its simulation is unstable."""

import importlib
import sys

root, script = sys.argv[1:]
sys.path.insert(0, root)
env = importlib.import_module(script).make_env("HalfCheetah-v4")
env.reset(seed=0)
env.unwrapped.data.qvel[:] = 1e12
env.step(env.action_space.sample())
env.close()
