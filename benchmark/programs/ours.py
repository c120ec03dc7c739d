"""Trains with one of our scripts; prints [steps/s, fraction of time in the environments, MB].

The argument is JSON: script, env_id, and options, the other fields of the script's Args.
"""

import importlib
import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import gymnasium as gym

# the first step of an optimizer imports it: a second that would weigh more than in a whole run
import torch._dynamo  # noqa: F401

sys.path.insert(0, str(Path(__file__).parents[2]))


class StepTimer:
    """Seconds that pass inside envs.step until the evaluation begins."""

    def __init__(self, script):
        # REINFORCE steps its one environment, with this outermost wrapper, without a vector
        is_single = script.SCRIPT == "reinforce"
        envs_class = gym.wrappers.FlattenObservation if is_single else gym.vector.SyncVectorEnv
        self.seconds = 0.0
        self.running = True
        self.step = envs_class.step
        self.evaluate = script.evaluate
        envs_class.step = lambda envs, actions: self.timed_step(envs, actions)
        script.evaluate = self.stop_and_evaluate

    def timed_step(self, envs, actions):
        start = time.perf_counter()
        result = self.step(envs, actions)
        if self.running:
            self.seconds += time.perf_counter() - start
        return result

    def stop_and_evaluate(self, *args):
        self.running = False
        return self.evaluate(*args)


def peak_memory():
    """The largest memory of this process so far, in MB."""
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def main():
    case = json.loads(sys.argv[1])
    script = importlib.import_module(case["script"])
    timer = StepTimer(script)
    with tempfile.TemporaryDirectory() as run_dir:
        options = {"device": "cpu", "run_dir": run_dir, "eval_episodes": 1} | case["options"]
        script.train(script.Args(env_id=case["env_id"], **options))
        result = json.loads(Path(run_dir, "result.json").read_text())
    seconds = result["steps"] / result["steps_per_second"]
    print(json.dumps([result["steps_per_second"], timer.seconds / seconds, peak_memory()]))


if __name__ == "__main__":
    main()
