"""Mean return of uniformly random actions, 100 episodes each: the zero of normalized scores.

Writes random.csv.

python benchmark/random_actions.py
"""

import csv
from pathlib import Path

import gymnasium as gym
import numpy as np

ROBOTS = [
    "HalfCheetah",
    "Hopper",
    "InvertedDoublePendulum",
    "InvertedPendulum",
    "Reacher",
    "Swimmer",
    "Walker2d",
]
EPISODES = 100


def mean_return(env_id):
    env, total = gym.make(env_id), 0.0
    env.action_space.seed(0)
    for episode in range(EPISODES):
        env.reset(seed=episode)
        done = False
        while not done:
            _, reward, terminated, truncated, _ = env.step(env.action_space.sample())
            total, done = total + reward, terminated or truncated
    return total / EPISODES


if __name__ == "__main__":
    gym.logger.min_level = gym.logger.ERROR
    with open(Path(__file__).with_name("random.csv"), "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["env_id", "score", "episodes"])
        for robot in ROBOTS:
            writer.writerow([f"{robot}-v4", np.round(mean_return(f"{robot}-v4"), 1), EPISODES])
