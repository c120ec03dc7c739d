"""count_threads.py SCRIPT, under torchrun: threads of gloo after training and at the end."""

import atexit
import importlib
import sys
from pathlib import Path


def say(what):
    names = [path.read_text() for path in Path("/proc/self/task").glob("*/comm")]
    count = sum("gloo" in name for name in names)
    print(f"{what}: {count}\n", end="")  # whole: the processes share one output


atexit.register(say, "left")  # the last to run
script = importlib.import_module(sys.argv[1])
script.train(
    script.Args("Pendulum-v1", total_timesteps=64, eval_episodes=1, run_dir="run", device="cpu")
)
say("at work")
