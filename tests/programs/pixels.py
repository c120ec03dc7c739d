"""pixels.py ROOT SCRIPT VIDEO_DIR: how many pixels are Walker2d's, where it starts and far away."""

import importlib
import sys

root, script, video_dir = sys.argv[1:]
sys.path.insert(0, root)
env = importlib.import_module(script).make_env("Walker2d-v4", video_dir=video_dir)
env.reset(seed=0)
counts = []
for x in (0, 50):
    env.unwrapped.data.qpos[0] = x
    env.unwrapped.set_state(env.unwrapped.data.qpos, env.unwrapped.data.qvel)
    red, _, blue = env.unwrapped.render().astype(int).transpose(2, 0, 1)
    counts.append((red > blue + 40).sum())
print(*counts)
