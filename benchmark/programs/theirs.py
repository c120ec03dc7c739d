"""Trains with an algorithm of a peer; prints [steps/s].

The argument is JSON: peer (package.algorithm), env_id, steps, and options of the algorithm.
"""

import importlib
import json
import sys
import time

import torch
import torch._dynamo  # see ours.py


def main():
    case = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    package, name = case["peer"].split(".")
    algorithm = getattr(importlib.import_module(package), name)
    model = algorithm("MlpPolicy", case["env_id"], device="cpu", seed=1, **case["options"])
    start = time.perf_counter()
    model.learn(case["steps"])
    print(json.dumps([model.num_timesteps / (time.perf_counter() - start)]))


if __name__ == "__main__":
    main()
