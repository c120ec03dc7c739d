"""Steps per second of ppo_continuous.py and of stable-baselines3's PPO, interleaved, each side in processes of its own.

    python benchmark/speed.py --env-id Hopper-v4 --rounds 3

Whole runs without start-up; also the share of our wall time inside `envs.step`, the simulator's own. One thread each.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

OURS = """
import json, sys, tempfile, time
sys.path.insert(0, {root!r})
import gymnasium as gym, ppo_continuous as script
inside, step = 0.0, gym.vector.SyncVectorEnv.step
def timed(envs, actions):
    global inside
    start = time.perf_counter()
    result = step(envs, actions)
    inside += time.perf_counter() - start
    return result
gym.vector.SyncVectorEnv.step = timed
evaluate = script.evaluate
def stop(*args):
    global inside
    evaluate.inside, inside = inside, 0.0
    return evaluate(*args)
script.evaluate = stop
with tempfile.TemporaryDirectory() as folder:
    args = script.Args({env!r}, total_timesteps={steps}, run_dir=folder, eval_episodes=1, **{changes!r})
    run = script.train(args)
    result = json.loads((run / "result.json").read_text())
print(json.dumps([result["steps_per_second"], evaluate.inside * result["steps_per_second"] / result["steps"]]))
"""

SB3 = """
import json, time, torch
torch.set_num_threads(1)
import gymnasium as gym
from stable_baselines3 import PPO
model = PPO("MlpPolicy", {env!r}, device="cpu", seed=1)
start = time.perf_counter()
model.learn({steps})
print(json.dumps([model.num_timesteps / (time.perf_counter() - start), 0.0]))
"""


def measure(code, **values):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", "-c", code.format(**values)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env-id", default="Hopper-v4")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=60_000)
    args = parser.parse_args()
    sides = {"ours": (OURS, {}), "sb3": (SB3, {})}
    rounds = {name: [] for name in sides}
    for _ in range(args.rounds):
        for name, (code, changes) in sides.items():
            values = {"env": args.env_id, "steps": args.steps, "root": str(ROOT), "changes": changes}
            rounds[name].append(measure(code, **values))
    for name, results in rounds.items():
        speeds = [speed for speed, _ in results]
        line = f"{name}: {statistics.median(speeds):,.0f} steps/s ({min(speeds):,.0f} to {max(speeds):,.0f})"
        share = statistics.median(share for _, share in results)
        print(line + (f", {share:.0%} of the time inside envs.step" if share else ""))
    ratios = [ours[0] / sb3[0] for ours, sb3 in zip(*rounds.values())]
    print(f"ratio: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
