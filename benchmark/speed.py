"""Steps per second of the five scripts and of peers that pip installs.

They are interleaved, each run in a process of its own.

    pip install -r benchmark/requirements.txt
    python benchmark/speed.py
    python benchmark/speed.py --scripts ddpg --env-ids Hopper-v4 --rounds 3
    python benchmark/speed.py --growth --out growth
    python benchmark/speed.py --devices --out devices

The first: both environments, five rounds, 80 minutes. With --growth: 1 to 64 environments, and a
replay of a million transitions. With --devices: ours on the GPU and on the CPU of one machine.

Whole runs, start-up left out, one thread each, at each side's defaults and at the peer's settings
on both sides. Share: of our wall time, what passes inside `envs.step`, the simulator and
Gymnasium's wrappers: nobody's script can be faster than that. Memory: our process's largest, in MB.
For DDPG also the time of one update's matrix products alone. Writes speed.csv and speed.png beside
itself.
"""

import argparse
import csv
import json
import os
import platform
import statistics
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[1]
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
CASES = [  # script, whose settings, ours that differ from the defaults, peer, its arguments
    ("reinforce", "own", {}, None, {}),
    ("a2c_continuous", "own", {}, "stable_baselines3.A2C", {}),
    ("a2c_continuous", "peer's", {"num_envs": 1, "num_steps": 5}, "stable_baselines3.A2C", {}),
    ("ppo_continuous", "own", {}, "stable_baselines3.PPO", {}),
    (
        "ppo_continuous",
        "peer's",
        {"num_envs": 1, "num_steps": 2048, "minibatch_size": 64, "update_epochs": 10},
        "stable_baselines3.PPO",
        {},
    ),
    ("trpo_continuous", "own", {}, "sb3_contrib.TRPO", {}),
    (
        "trpo_continuous",
        "peer's",
        {
            "num_envs": 1,
            "num_steps": 2048,
            "cg_iterations": 15,
            "minibatch_size": 128,
            "update_epochs": 10,
        },
        "sb3_contrib.TRPO",
        {},
    ),
    ("ddpg", "own", {"learning_starts": 100}, "stable_baselines3.DDPG", {"learning_starts": 100}),
    (
        "ddpg",
        "equal",
        {"learning_starts": 100, "batch_size": 256},
        "stable_baselines3.DDPG",
        {"learning_starts": 100, "policy_kwargs": {"net_arch": [256, 256]}},
    ),
]
BATCHES = {"a2c_continuous": 512, "ppo_continuous": 2048, "trpo_continuous": 1024}  # the defaults'
GROWTH = [
    (script, f"N = {n}", {"num_envs": n, "num_steps": batch // n}, None, {})
    for script, batch in BATCHES.items()
    for n in (1, 4, 16, 64)
]
GROWTH += [
    ("ddpg", f"N = {n}", {"num_envs": n, "learning_starts": 100}, None, {}) for n in (1, 4, 16, 64)
]
GROWTH += [("ddpg", "1M random steps first", {"learning_starts": 1_000_000}, None, {})]
DEVICES = [
    (script, device, {"device": device}, None, {})
    for script in ("reinforce", *BATCHES)
    for device in ("cpu", "cuda")
]
DEVICES += [
    (
        "ddpg",
        f"{device}, batch {batch}",
        {"device": device, "learning_starts": 100, "batch_size": batch},
        None,
        {},
    )
    for batch in (128, 256)
    for device in ("cpu", "cuda")
]
STEPS = {"reinforce": 40_000, "ddpg": 3_000}  # of a run; 60,000 where nothing is said

OURS = """
import importlib, json, resource, sys, tempfile, time
# the first step of an optimizer imports it: a second that would weigh more than in a whole run
import torch._dynamo
sys.path.insert(0, {root!r})
import gymnasium as gym
script = importlib.import_module({script!r})
# REINFORCE steps its one environment without a vector
stepped = script.Episode if script.SCRIPT == "reinforce" else gym.vector.SyncVectorEnv
inside, step, evaluate = [0.0], stepped.step, script.evaluate
def timed(envs, actions):
    start = time.perf_counter()
    result = step(envs, actions)
    inside[-1] += time.perf_counter() - start
    return result
def stop(*args):
    inside.append(0.0)
    return evaluate(*args)
stepped.step, script.evaluate = timed, stop
with tempfile.TemporaryDirectory() as folder:
    options = dict(device="cpu", total_timesteps={steps}, run_dir=folder, eval_episodes=1)
    options |= {ours!r}
    args = script.Args({env!r}, **options)
    result = json.loads((script.train(args) / "result.json").read_text())
share = inside[0] * result["steps_per_second"] / result["steps"]
unit = 2**20 if sys.platform == "darwin" else 2**10
memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
print(json.dumps([result["steps_per_second"], share, memory]))
"""

THEIRS = """
import importlib, json, time, torch, torch._dynamo
torch.set_num_threads(1)
package, name = {peer!r}.split(".")
algorithm = getattr(importlib.import_module(package), name)
model = algorithm("MlpPolicy", {env!r}, device="cpu", seed=1, **{theirs!r})
start = time.perf_counter()
model.learn({steps})
print(json.dumps([model.num_timesteps / (time.perf_counter() - start)]))
"""

PRODUCTS = """
import json, time, torch
import gymnasium as gym
torch.set_num_threads(1)
env, B = gym.make({env!r}), {batch}
obs, act = env.observation_space.shape[0], env.action_space.shape[0]
def layers(n_in, n_out):
    return [(n_in, 256), (256, 256), (256, n_out)]
policy, critic = layers(obs, act), layers(obs + act, 1)
def forward(net):
    return [(B, a, b) for a, b in net]
def weights(net):
    return [(a, B, b) for a, b in net]
def inputs(net):
    return [(B, b, a) for a, b in net]
shapes = forward(policy) * 2 + forward(critic) * 3
shapes += weights(critic) + inputs(critic[1:]) + inputs(critic)
shapes += weights(policy) + inputs(policy[1:])
pairs = [(torch.randn(a, b), torch.randn(b, c), torch.empty(a, c)) for a, b, c in shapes]
times = []
for _ in range(200):
    start = time.perf_counter()
    for a, b, out in pairs:
        torch.mm(a, b, out=out)
    times.append(time.perf_counter() - start)
print(json.dumps([sorted(times)[100]]))
"""


def measure(code, **values):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", "-c", code.format(root=str(ROOT), **values)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"a run has failed:\n{done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def spread(values, form="{:,.0f}"):
    """Median (min–max)."""
    middle, low, high = (form.format(f(values)) for f in (statistics.median, min, max))
    return f"{middle} ({low}–{high})"


def table(rows):
    lines = [
        "| on | script | settings | ours, steps/s | inside `envs.step` | MB "
        "| peer | its steps/s | ratio |",
        "|---" * 9 + "|",
    ]
    for key in dict.fromkeys(
        (row["env_id"], row["script"], row["settings"], row["peer"]) for row in rows
    ):
        runs = [
            row
            for row in rows
            if (row["env_id"], row["script"], row["settings"], row["peer"]) == key
        ]
        ours, inside = ([float(row[name]) for row in runs] for name in ("ours", "inside"))
        memory = max(float(row["memory"]) for row in runs)
        cells = [
            *key[:3],
            spread(ours),
            f"{statistics.median(inside):.0%}",
            f"{memory:,.0f}",
            "–",
            "–",
            "–",
        ]
        if key[3]:
            theirs = [float(row["theirs"]) for row in runs]
            cells[6:] = [
                key[3],
                spread(theirs),
                spread([a / b for a, b in zip(ours, theirs)], "{:.2f}"),
            ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def products(rows):
    """For DDPG: the time of a step beside that of its update's products.

    Milliseconds of a step (with its update), of the update's products alone, and their ratio.
    """
    for env_id, settings in dict.fromkeys(
        (row["env_id"], row["settings"]) for row in rows if row["products"]
    ):
        runs = [
            row
            for row in rows
            if row["products"] and (row["env_id"], row["settings"]) == (env_id, settings)
        ]
        step = (
            statistics.median((1 - float(row["inside"])) / float(row["ours"]) for row in runs) * 1e3
        )
        alone = statistics.median(float(row["products"]) for row in runs) * 1e3
        times = f"{step:.2f} ms a step outside the simulator, {alone:.2f} ms its matrix products"
        yield f"{env_id}, {settings}: {times}: {step / alone:.2f}"


def chart(rows, plt):
    """Steps per second of each script and its peer, at each side's defaults.

    Medians, and from least to most.
    """
    env_ids = list(dict.fromkeys(row["env_id"] for row in rows))
    figure, axes = plt.subplots(
        1, len(env_ids), figsize=(5 * len(env_ids), 3.6), squeeze=False, sharey=True
    )
    for axis, env_id in zip(axes[0], env_ids):
        here = [row for row in rows if row["env_id"] == env_id and row["settings"] == "own"]
        names = list(dict.fromkeys(row["script"] for row in here))[::-1]
        for offset, column, colour, label in (
            (0.2, "ours", "#0072B2", "this script"),
            (-0.2, "theirs", "#E69F00", "peer"),
        ):
            for place, name in enumerate(names):
                values = [
                    float(row[column]) for row in here if row["script"] == name and row[column]
                ]
                if values:
                    middle = statistics.median(values)
                    error = [[middle - min(values)], [max(values) - middle]]
                    axis.barh(place + offset, middle, 0.38, xerr=error, color=colour, label=label)
                    label = None  # one entry in the legend
        axis.set(
            title=env_id,
            xlabel="steps per second, one core",
            yticks=range(len(names)),
            yticklabels=names,
        )
        axis.legend(loc="upper right")
    figure.tight_layout()
    return figure


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--env-ids", nargs="+", default=["Hopper-v4", "HalfCheetah-v4"])
    parser.add_argument(
        "--scripts", nargs="+", default=list(dict.fromkeys(case[0] for case in CASES))
    )
    alone = parser.add_mutually_exclusive_group()
    alone.add_argument("--growth", action="store_true", help="ours alone, as the work grows")
    alone.add_argument(
        "--devices", action="store_true", help="ours alone, on the CPU and on the GPU"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).with_suffix(""), help="of the CSV and the PNG"
    )
    args = parser.parse_args()
    cases, rows = GROWTH if args.growth else DEVICES if args.devices else CASES, []
    for env in args.env_ids:
        for number in range(args.rounds):
            for script, settings, ours, peer, theirs in cases:
                if script not in args.scripts:
                    continue
                steps = STEPS.get(script, 60_000) + ours.get("learning_starts", 0)
                values = dict(
                    script=script, env=env, ours=ours, peer=peer, theirs=theirs, steps=steps
                )
                speed, inside, memory = measure(OURS, **values)
                cells = (
                    env,
                    script,
                    settings,
                    peer or "",
                    number,
                    round(speed, 1),
                    "",
                    round(inside, 4),
                    round(memory),
                )
                row = dict(zip(FIELDS, (*cells, "")))
                if peer:
                    row["theirs"] = round(measure(THEIRS, **values)[0], 1)
                if script == "ddpg" and cases is CASES:
                    row["products"] = round(
                        measure(PRODUCTS, env=env, batch=ours.get("batch_size", 128))[0], 6
                    )
                rows.append(row)
                print(*row.values(), sep=",", flush=True)
    with open(args.out.with_suffix(".csv"), "w", newline="") as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    if cases is CASES:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot

        chart(rows, pyplot).savefig(args.out.with_suffix(".png"), dpi=150)
    print(table(rows), *products(rows), sep="\n")
    packages = ["torch", "numpy", "gymnasium", "mujoco"] + ["stable-baselines3", "sb3-contrib"] * (
        cases is CASES
    )
    print(
        platform.processor() or platform.machine(),
        platform.python_version(),
        *(f"{x} {version(x)}" for x in packages),
    )


if __name__ == "__main__":
    main()
