"""What several tools share: the scripts, their default arguments, and the environments."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
SCRIPTS = ["reinforce", "a2c_continuous", "ppo_continuous", "trpo_continuous", "ddpg"]
WITH_CRITIC = ["a2c_continuous", "ppo_continuous", "trpo_continuous"]  # num_envs × num_steps each
NAMES = {
    "reinforce": "REINFORCE",
    "a2c_continuous": "A2C",
    "ppo_continuous": "PPO",
    "trpo_continuous": "TRPO",
    "ddpg": "DDPG",
}
COLORS = {  # Okabe and Ito's, the same in every figure
    "reinforce": "#D55E00",
    "a2c_continuous": "#E69F00",
    "ppo_continuous": "#0072B2",
    "trpo_continuous": "#009E73",
    "ddpg": "#CC79A7",
}
ENV_IDS = [  # the seven robotics tasks of the PPO paper
    "HalfCheetah-v4",
    "Hopper-v4",
    "InvertedDoublePendulum-v4",
    "InvertedPendulum-v4",
    "Reacher-v4",
    "Swimmer-v4",
    "Walker2d-v4",
]
LOCOMOTION = ["Hopper-v4", "HalfCheetah-v4", "Walker2d-v4"]  # where fewer environments do


def defaults(script):
    """Default arguments of a script, read from the text of its Args: an import loads torch."""
    tree = ast.parse((ROOT / f"{script}.py").read_text())
    (args,) = [node for node in tree.body if getattr(node, "name", None) == "Args"]
    fields = [node for node in args.body if isinstance(node, ast.AnnAssign)]
    return {field.target.id: ast.literal_eval(field.value) for field in fields}
