"""Steps per second of the five scripts and of peers that pip installs.

    pip install -r benchmark/requirements.txt
    python benchmark/speed.py
    python benchmark/speed.py --scripts ddpg --env-ids Hopper-v4 --rounds 3
    python benchmark/speed.py --growth --out growth
    python benchmark/speed.py --devices --out devices

The second line: both environments, five rounds, 90 minutes. With --growth: 1 to 64 environments,
and a replay of a million transitions. With --devices: ours on the CPU and on the GPU of a machine.

Whole runs, interleaved, each in a process of its own with one thread, start-up left out; at each
side's defaults and at the peer's settings on both sides. Inside: the fraction of our wall time that
passes in `envs.step`, the simulator and Gymnasium's wrappers; nobody's script can be faster than
that. Memory: our process's largest, in MB. For DDPG also the time of one update's matrix products
alone. Writes speed.csv and speed.png beside this file.
"""

import argparse
import csv
import json
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

from common import ROOT, SCRIPTS, WITH_CRITIC, defaults
from tables import speed_table, update_times

PROGRAMS = Path(__file__).parent / "programs"
FIELDS = [
    "env_id",
    "script",
    "settings",
    "peer",
    "round",
    "ours",
    "theirs",
    "inside",
    "memory",
    "products",
]
STEPS = {"reinforce": 40_000, "ddpg": 3_000}  # of a run; 60,000 of the others


class Case(NamedTuple):
    script: str
    settings: str  # label
    ours: dict  # arguments of the script that differ from its defaults
    peer: str = ""  # package.algorithm
    theirs: dict = {}  # arguments of the peer that differ from its defaults


# --------------------------------------------------------------------------------------------------
# What is measured

A2C, PPO, DDPG = "stable_baselines3.A2C", "stable_baselines3.PPO", "stable_baselines3.DDPG"
TRPO = "sb3_contrib.TRPO"
A2C_OF_PEER = {"num_envs": 1, "num_steps": 5}
PPO_OF_PEER = {"num_envs": 1, "num_steps": 2048, "minibatch_size": 64, "update_epochs": 10}
TRPO_OF_PEER = {
    "num_envs": 1,
    "num_steps": 2048,
    "cg_iterations": 15,
    "minibatch_size": 128,
    "update_epochs": 10,
}
EARLY = {"learning_starts": 100}  # DDPG's updates are what takes time
SMALL_NETWORKS = {"policy_kwargs": {"net_arch": [256, 256]}}  # like ours
CASES = [
    Case("reinforce", "own", {}),
    Case("a2c_continuous", "own", {}, A2C),
    Case("a2c_continuous", "peer's", A2C_OF_PEER, A2C),
    Case("ppo_continuous", "own", {}, PPO),
    Case("ppo_continuous", "peer's", PPO_OF_PEER, PPO),
    Case("trpo_continuous", "own", {}, TRPO),
    Case("trpo_continuous", "peer's", TRPO_OF_PEER, TRPO),
    Case("ddpg", "own", EARLY, DDPG, EARLY),
    Case("ddpg", "equal", EARLY | {"batch_size": 256}, DDPG, EARLY | SMALL_NETWORKS),
]


def growth_cases():
    """More environments, the batch kept; and a replay of a million transitions."""
    cases = []
    for script in WITH_CRITIC:
        batch_size = defaults(script)["num_envs"] * defaults(script)["num_steps"]
        for n in (1, 4, 16, 64):
            cases.append(Case(script, f"N = {n}", {"num_envs": n, "num_steps": batch_size // n}))
    for n in (1, 4, 16, 64):
        cases.append(Case("ddpg", f"N = {n}", EARLY | {"num_envs": n}))
    cases.append(Case("ddpg", "1M random steps first", {"learning_starts": 1_000_000}))
    return cases


def device_cases():
    """Each script on both devices; DDPG with its own batch and with a larger one."""
    cases = []
    for script in ("reinforce", *WITH_CRITIC):
        for device in ("cpu", "cuda"):
            cases.append(Case(script, device, {"device": device}))
    for batch_size in (defaults("ddpg")["batch_size"], 256):
        for device in ("cpu", "cuda"):
            options = EARLY | {"device": device, "batch_size": batch_size}
            cases.append(Case("ddpg", f"{device}, batch {batch_size}", options))
    return cases


GROWTH = growth_cases()
DEVICES = device_cases()


# --------------------------------------------------------------------------------------------------
# Measuring


def measure(program, **parameters):
    """The numbers that a program prints, run in a process of its own with one thread."""
    paths = [str(ROOT), os.getcwd(), os.environ.get("PYTHONPATH", "")]
    environment = {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}
    command = [sys.executable, "-W", "ignore", PROGRAMS / program, json.dumps(parameters)]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"a run has failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def measure_case(case, env_id, number):
    """One row of the CSV file: a case in an environment, in the round of this number."""
    steps = STEPS.get(case.script, 60_000) + case.ours.get("learning_starts", 0)
    options = case.ours | {"total_timesteps": steps}
    speed, inside, memory = measure("ours.py", script=case.script, env_id=env_id, options=options)
    row = {
        "env_id": env_id,
        "script": case.script,
        "settings": case.settings,
        "peer": case.peer,
        "round": number,
        "ours": round(speed, 1),
        "theirs": "",
        "inside": round(inside, 4),
        "memory": round(memory),
        "products": "",
    }
    if case.peer:
        (speed,) = measure(
            "theirs.py", peer=case.peer, env_id=env_id, steps=steps, options=case.theirs
        )
        row["theirs"] = round(speed, 1)
    if case.peer == DDPG:
        batch_size = case.ours.get("batch_size", defaults("ddpg")["batch_size"])
        (seconds,) = measure("products.py", env_id=env_id, batch_size=batch_size)
        row["products"] = round(seconds, 6)
    return row


def measure_all(cases, env_ids, rounds):
    """All rows; they are printed as they come."""
    rows = []
    for env_id in env_ids:
        for number in range(rounds):
            for case in cases:
                row = measure_case(case, env_id, number)
                print(*row.values(), sep=",", flush=True)
                rows.append(row)
    return rows


# --------------------------------------------------------------------------------------------------
# Output


def write(path, rows):
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def draw(path, rows):
    import figures  # matplotlib is needed for this alone

    figures.save(figures.draw_speed(rows), path)


def print_versions(packages):
    versions = [f"{name} {version(name)}" for name in packages]
    processor = platform.processor() or platform.machine()
    print(processor, platform.python_version(), *versions)


def parse_options():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--env-ids", nargs="+", default=["Hopper-v4", "HalfCheetah-v4"])
    parser.add_argument("--scripts", nargs="+", default=SCRIPTS, choices=SCRIPTS)
    alone = parser.add_mutually_exclusive_group()
    alone.add_argument("--growth", action="store_true", help="ours alone, as the work grows")
    alone.add_argument(
        "--devices", action="store_true", help="ours alone, on the CPU and on the GPU"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--out",
        type=Path,
        default=Path(__file__).with_suffix(""),
        help="CSV and PNG to write, without suffix",
    )
    return parser.parse_args()


def main():
    options = parse_options()
    cases, packages = CASES, ["torch", "numpy", "gymnasium", "mujoco"]
    if options.growth:
        cases = GROWTH
    elif options.devices:
        cases = DEVICES
    else:
        packages += ["stable-baselines3", "sb3-contrib"]
    cases = [case for case in cases if case.script in options.scripts]
    rows = measure_all(cases, options.env_ids, options.rounds)
    write(options.out.with_suffix(".csv"), rows)
    if not (options.growth or options.devices):
        draw(options.out.with_suffix(".png"), rows)
    print(*speed_table(rows), *update_times(rows), sep="\n")
    print_versions(packages)


if __name__ == "__main__":
    main()
