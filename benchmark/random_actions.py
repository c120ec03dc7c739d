"""Mean return of uniformly random actions, 100 episodes each: the zero of normalized scores.

python benchmark/random_actions.py  # writes random.csv
"""

import argparse
import csv
from pathlib import Path

import gymnasium as gym
import numpy as np
from common import ENV_IDS

EPISODES = 100


def mean_return(env_id):
    env = gym.make(env_id)
    env.action_space.seed(0)
    total = 0.0
    for episode in range(EPISODES):
        env.reset(seed=episode)
        done = False
        while not done:
            _, reward, terminated, truncated, _ = env.step(env.action_space.sample())
            total += reward
            done = terminated or truncated
    return total / EPISODES


def main():
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    gym.logger.min_level = gym.logger.ERROR
    with open(Path(__file__).with_name("random.csv"), "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["env_id", "score", "episodes"])
        for env_id in ENV_IDS:
            writer.writerow([env_id, np.round(mean_return(env_id), 1), EPISODES])


if __name__ == "__main__":
    main()
