"""Every table and figure of the README, from the committed data: the other CSV files here.

    python benchmark/report.py             # prints the tables, draws figures/*.png beside itself

Scores compare with published ones under the same way of acting. The unit of every interval is the
seed.
"""

import csv
import statistics
from functools import cache
from pathlib import Path

import numpy as np
import speed

HERE = Path(__file__).parent
COLOURS = {  # Okabe and Ito's, the same in every figure
    "reinforce": ("REINFORCE", "#D55E00"),
    "a2c_continuous": ("A2C", "#E69F00"),
    "ppo_continuous": ("PPO", "#0072B2"),
    "trpo_continuous": ("TRPO", "#009E73"),
    "ddpg": ("DDPG", "#CC79A7"),
}
SCRIPTS = list(COLOURS)
WAYS = ["sampled", "deterministic", "training"]
OWN = {
    script: "deterministic" if script == "ddpg" else "sampled" for script in SCRIPTS
}  # the way of the first table
ROBOTS = [
    "HalfCheetah",
    "Hopper",
    "InvertedDoublePendulum",
    "InvertedPendulum",
    "Reacher",
    "Swimmer",
    "Walker2d",
]


def read(name):
    path = HERE / name
    return list(csv.DictReader(path.read_text().splitlines())) if path.exists() else []


def runs(**wanted):
    """Rows of results.csv with these values, in the order of seeds.

    They are of the defaults, if nothing is said.
    """
    wanted = {"variant": "", **wanted}
    rows = [
        row
        for row in read("results.csv")
        if all(row[name] == value for name, value in wanted.items())
    ]
    return sorted(rows, key=lambda row: int(row["seed"]))


def number(value, like=None):
    """Digits that a score of this size, or of one like it, deserves."""
    return f"{value:,.0f}" if abs(value if like is None else like) >= 20 else f"{value:,.1f}"


def spread(values):
    """Mean ± standard deviation over seeds; of one seed its score alone."""
    if len(values) < 2:
        return number(values[0]) if values else "–"
    mean = statistics.mean(values)
    return f"{number(mean)} ± {number(statistics.stdev(values), like=mean)}"


def whole(script, env_id):
    """Rows of the default settings that are as long as the comparison asks for.

    Another length is another one.
    """
    short = script == "ddpg" and env_id.startswith(("Reacher", "Inverted"))
    rows = runs(script=script, env_id=env_id)
    return [row for row in rows if int(row["steps"]) >= (300_000 if short else 1_000_000)]


def cells(script, env_id):
    """Of each way of acting, mean ± standard deviation over seeds.

    Bold where it is at or above the published score.
    """
    rows, best = whole(script, env_id), published().get((script, env_id))
    ours = {way: [float(row[way]) for row in rows if row[way]] for way in WAYS}
    texts = {way: spread(ours[way]) for way in WAYS}
    if best and len(rows) > 1 and statistics.mean(ours[best["acting"]]) >= float(best["score"]):
        texts[best["acting"]] = f"**{texts[best['acting']]}**"
    return texts


@cache
def published():
    return {(row["script"], row["env_id"]): row for row in read("published.csv")}


def overview():
    """One line per environment, one column per script: sampled actions, of DDPG its policy's own.

    Bold as in scores.
    """
    yield "| after 1M steps | " + " | ".join(name for name, _ in COLOURS.values()) + " |"
    yield "|---" * 6 + "|"
    for robot in ROBOTS:
        env_id, line = f"{robot}-v4", []
        for script in SCRIPTS:
            texts = cells(script, env_id)
            text = texts[OWN[script]].strip("*")
            line.append(f"**{text}**" if any("*" in x for x in texts.values()) else text)
        yield f"| {env_id} | " + " | ".join(line) + " |"


def scores():
    """One line per script and environment.

    The way of acting of the published value is the one to compare with.
    """
    yield "| script | on | seeds | sampled | mean actions | training | best published final value |"
    yield "|---" * 7 + "|"
    for script in SCRIPTS:
        for env_id in (f"{robot}-v4" for robot in ROBOTS):
            rows, other = whole(script, env_id), "–"
            if not rows:
                continue
            if best := published().get((script, env_id)):
                column = {"deterministic": "mean actions"}.get(best["acting"], best["acting"])
                source = best["source"].split(";")[0].split(" (")[0].split(" [")[0]
                other = f"{number(float(best['score']))}, {column} ({source})"
            seeds = ", ".join(row["seed"] for row in rows)
            yield (
                "| "
                + " | ".join(
                    [f"`{script}.py`", env_id, seeds, *cells(script, env_id).values(), other]
                )
                + " |"
            )


def below():
    """Where the mean over seeds is below the published value, in that value's way of acting."""
    yield "| below | on | ours | published | share |"
    yield "|---" * 5 + "|"
    for (script, env_id), best in published().items():
        ours = [float(row[best["acting"]]) for row in whole(script, env_id) if row[best["acting"]]]
        score = float(best["score"])
        if len(ours) > 1 and statistics.mean(ours) < score:
            share = f"{statistics.mean(ours) / score:.0%}" if score > 0 else "–"
            way = {"deterministic": "mean actions"}.get(best["acting"], best["acting"])
            texts = [f"`{script}.py`", env_id, f"{spread(ours)}, {way}", number(score), share]
            yield "| " + " | ".join(texts) + " |"


def iqm(values):
    """Interquartile mean: of the middle half of all values."""
    values = np.sort(np.asarray(values), axis=None)
    cut = len(values) // 4
    return values[cut : len(values) - cut].mean()


def interval(strata, statistic, draws=2_000, level=0.95):
    """Percentile bootstrap (Agarwal et al. 2021, arXiv:2108.13264).

    Seeds are drawn with replacement within each stratum, an array of scores over seeds per
    environment; the statistic is of all strata's scores together.
    """
    rng = np.random.default_rng(0)
    samples = [np.concatenate([rng.choice(x, len(x)) for x in strata]) for _ in range(draws)]
    return np.quantile([statistic(x) for x in samples], [(1 - level) / 2, (1 + level) / 2])


def normalised(script, env_id):
    """Scores over seeds: 0 for random actions, 1 for PPO's best published final value.

    In its way of acting or ours.
    """
    zero = {row["env_id"]: float(row["score"]) for row in read("random.csv")}
    one = {
        row["env_id"]: float(row["score"])
        for row in read("published.csv")
        if row["script"] == "ppo_continuous"
    }
    if env_id not in zero:
        return np.array([])
    scale = one[env_id] - zero[env_id]
    return np.array(
        [(float(row[OWN[script]]) - zero[env_id]) / scale for row in whole(script, env_id)]
    )


def summary():
    """IQM over all environments and seeds, where a script has three seeds in each.

    Fewer leave intervals too narrow.
    """
    yield "| script | environments × seeds | IQM, sampled actions (DDPG: its own) | 95 % interval |"
    yield "|---" * 4 + "|"
    for script in SCRIPTS:
        strata = [x for x in (normalised(script, f"{robot}-v4") for robot in ROBOTS) if len(x) > 2]
        if len(strata) == len(ROBOTS):
            low, high = interval(strata, iqm)
            size = f"{len(strata)} × {span({*map(len, strata)})}"
            middle = iqm(np.concatenate(strata))
            yield f"| `{script}.py` | {size} | {middle:.2f} | {low:.2f} to {high:.2f} |"


def ablation():
    """PPO without one of its parts: sampled returns, in brackets of how many seeds.

    The default's are above them.
    """
    names = dict.fromkeys(
        row["variant"] for row in read("results.csv") if row["script"] == "ppo_continuous"
    )
    names = [name for name in names if name and "=" not in name]
    env_ids = ["HalfCheetah-v4", "Hopper-v4", "Walker2d-v4"]
    if not names:
        return
    yield "| PPO | " + " | ".join(env_ids) + " |"
    yield "|---" * (len(env_ids) + 1) + "|"
    for name in ["", *names]:
        cells = []
        for env_id in env_ids:
            rows = runs(variant=name, script="ppo_continuous", env_id=env_id)
            values = [float(row["sampled"]) for row in rows if int(row["seed"]) <= 3]
            cells.append(f"{spread(values)} ({len(values)})" if values else "–")
        yield "| " + " | ".join([name.replace("-", " ") or "as it is", *cells]) + " |"


def candidates():
    """What was tried for defaults, on seeds from 101 on.

    Sampled returns (DDPG: its own), in brackets how many.
    """
    rows = [row for row in read("results.csv") if row["variant"].startswith("candidate=")]
    env_ids = sorted({row["env_id"] for row in rows})
    if not rows:
        return
    yield "| script | environments × steps, step size | " + " | ".join(env_ids) + " |"
    yield "|---" * (len(env_ids) + 2) + "|"
    pairs = {(row["script"], row["variant"]) for row in rows}
    for script, variant in sorted(
        pairs, key=lambda pair: (SCRIPTS.index(pair[0]), "as it is" not in pair[1], pair[1])
    ):
        line = []
        for env_id in env_ids:
            values = [
                float(row[OWN[script]])
                for row in runs(variant=variant, script=script, env_id=env_id)
            ]
            line.append(f"{spread(values)} ({len(values)})" if values else "–")
        yield f"| `{script}.py` | {variant.partition('=')[2]} | " + " | ".join(line) + " |"


def estimates():
    """DDPG's returns and E[Q(s, μ(s))] on Walker2d, and on the pendulums.

    The pendulums' rewards allow at most 1,000 and 100.
    """
    yield "| on, seed | settings | return at 80k to 100k steps | E[Q] | at 280k to 300k | E[Q] |"
    yield "|---" * 6 + "|"
    names = sorted({row["variant"] for row in read("results.csv") if row["script"] == "ddpg"})
    seeds = {("InvertedDoublePendulum-v4", "2")}
    seeds |= {
        (f"{robot}-v4", "101")
        for robot in ("InvertedDoublePendulum", "InvertedPendulum", "Walker2d")
    }
    for env_id, seed in sorted(seeds):
        for variant in sorted(names, key=lambda name: "=" in name and "as it is" not in name):
            wanted = dict(variant=variant, script="ddpg", env_id=env_id, seed=seed)
            (steps, losses), (_, returns) = (
                curves(column, **wanted) for column in ("policy_loss", "episodic_return")
            )
            line = []
            for end in (100_000, 300_000) if np.isfinite(losses).any() else ():
                part = (end - 20_000 < steps) & (steps <= end)
                line += [
                    number(np.nanmean(x[:, part])) if part.any() else "–"
                    for x in (returns, -losses)
                ]
            if set(line) - {"–"}:
                name = variant.partition("=")[2].partition(" (")[0] or "as it is: 3e-4 for both"
                yield f"| {env_id}, {seed} | {name} | {' | '.join(line)} |"


def side_by_side(script, variants, column, statistic):
    """Of each variant on each task, sampled returns and a statistic of their curves.

    Of seeds 1 to 3.
    """
    for env_id in (f"{robot}-v4" for robot in ROBOTS):
        line = []
        for variant in variants:
            wanted = dict(variant=variant, script=script, env_id=env_id)
            line.append(
                spread([float(row["sampled"]) for row in runs(**wanted) if int(row["seed"]) <= 3])
            )
            line.append(
                f"{statistic(curves(column, **wanted)[1][:3]):.2f}" if runs(**wanted) else "–"
            )
        yield f"| {env_id} | " + " | ".join(line) + " |"


def bounds():
    """TRPO with D bounded in the mean alone, and at each state too.

    Sampled returns, and each update's largest D.
    """
    yield (
        "| on | bound on the mean: return | largest D, nats "
        "| also at each state: return | largest D, nats |"
    )
    yield "|---" * 5 + "|"
    yield from side_by_side("trpo_continuous", ["bound=mean", ""], "kl_max", np.nanmean)


def whitening():
    """PPO's advantages whitened, and as they are.

    Sampled returns, and the largest mean D in a fiftieth of a run.
    """
    yield (
        "| on | advantages whitened: return | farthest updates, nats "
        "| as they are: return | farthest updates, nats |"
    )
    yield "|---" * 5 + "|"
    yield from side_by_side("ppo_continuous", ["", "no-whitening-of-advantages"], "kl", np.nanmax)


PROCESSES = {("1", "one"): "1", ("2", "kept"): "2, batch kept", ("2", "grown"): "2, batch grown"}


def scaling():
    """PPO's steps/s with one and two processes on two cores, in turn.

    Medians, and medians of each round's ratio.
    """
    rows = read("scaling.csv")
    yield (
        "| processes | "
        + " | ".join(f"{env_id}, steps/s | ratio" for env_id in ("Hopper-v4", "Humanoid-v4"))
        + " |"
    )
    yield "|---" * 5 + "|"
    for (_, batch), name in PROCESSES.items():
        line = [name]
        for env_id in ("Hopper-v4", "Humanoid-v4"):
            rates = {
                key: [
                    float(row["steps_per_second"])
                    for row in rows
                    if (row["env_id"], row["batch"]) == (env_id, key)
                ]
                for key in ("one", batch)
            }
            ratios = [two / one for one, two in zip(rates["one"], rates[batch])]
            line.append(f"{statistics.median(rates[batch]):,.0f}")
            line.append(
                f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"
                if batch != "one"
                else "1"
            )
        yield "| " + " | ".join(line) + " |"


def processes(goal=2_000):
    """What a second process buys.

    PPO on Hopper-v4, with the batch of one process or one twice as large.
    """
    variants = {
        ("processes=1" if b == "one" else f"processes={n},batch-{b}"): x
        for (n, b), x in PROCESSES.items()
    }
    if not runs(variant="processes=1"):
        return
    yield (
        "| processes | steps/s | return after 1M steps, sampled "
        f"| minutes until training returns pass {goal:,} |"
    )
    yield "|---" * 4 + "|"
    for variant, name in variants.items():
        rows, minutes = runs(variant=variant), []
        steps, values = curves("episodic_return", variant=variant)
        for row, seed in zip(rows, values):
            passed = steps[seed > goal]
            minutes.append(
                f"{passed[0] / float(row['steps_per_second']) / 60:.1f}" if len(passed) else "never"
            )
        rate = statistics.median(float(row["steps_per_second"]) for row in rows)
        final = spread([float(row["sampled"]) for row in rows])
        yield f"| {name} | {rate:,.0f} | {final} | {', '.join(minutes)} |"


def speeds():
    """What speed.py has measured: ours beside peers."""
    return speed.table(read("speed.csv")).splitlines()


def updates():
    """DDPG's update beside the matrix products in it."""
    yield from (f"- {line}" for line in speed.products(read("speed.csv")))


def growth():
    """What speed.py --growth has measured.

    Ours as the number of environments, or the replay, grows.
    """
    for line in speed.table(read("growth.csv")).splitlines():  # without the columns of a peer
        yield "|".join(line.split("|")[:7]) + "|"


def devices():
    """What speed.py --devices has measured.

    Ours on the CPU and on the GPU of one machine, and the rounds' ratios.
    """
    rows = read("devices.csv")
    yield "| Hopper-v4 | CPU, steps/s | GPU, steps/s | GPU / CPU |"
    yield "|---" * 4 + "|"
    for script, batch in dict.fromkeys(
        (row["script"], row["settings"].partition(", ")[2]) for row in rows
    ):
        rounds = {}
        for row in rows:
            device, _, size = row["settings"].partition(", ")
            if (row["script"], size) == (script, batch):
                rounds.setdefault(row["round"], {})[device] = float(row["ours"])
        cells = [
            ", ".join(f"{x[device]:,.0f}" for x in rounds.values() if device in x)
            for device in ("cpu", "cuda")
        ]
        ratios = ", ".join(f"{x['cuda'] / x['cpu']:.2f}" for x in rounds.values() if len(x) == 2)
        name = ", ".join([f"`{script}.py`"] + [batch] * bool(batch))
        yield f"| {name} | {cells[0]} | {cells[1]} | {ratios} |"


def directions():
    """Changes of Hopper's discounted return by TRPO's step and by 30 random ones.

    The random ones are at its length, and at its divergence.
    """
    names = {
        "step": "TRPO's step to δ",
        "equal-parameters": "random, equal ‖Δθ‖",
        "equal-kl": "random, equal D",
    }
    yield (
        "| direction | ‖Δθ‖ | mean D | change of V | error of one (95 %) | variation of its size |"
    )
    yield "|---" * 6 + "|"
    for kind, name in names.items():
        rows = [
            row
            for row in read("trust_region.csv")
            if row["kind"] == kind and (kind != "step" or row["size"] == "1")
        ]
        gains, norms, kls = ([float(row[x]) for row in rows] for x in ("gain", "norm", "kl"))
        error = statistics.median((float(row["high"]) - float(row["low"])) / 2 for row in rows)
        change, sizes, variation = f"{gains[0]:.1f}", [abs(x) for x in gains], "–"
        if len(rows) > 1:
            change = f"{statistics.mean(gains):.1f} ± {statistics.stdev(gains):.1f}"
            variation = f"{statistics.stdev(sizes) / statistics.mean(sizes):.2f}"
        middle = f"{statistics.median(norms):.3f} | {statistics.median(kls):.4f}"
        yield f"| {name} | {middle} | {change} | ± {error:.1f} | {variation} |"


def curves(column, **wanted):
    """Steps (parts,) and values (seeds, parts) of what runs have logged.

    NaN where a part has no value.
    """
    wanted, seeds = {"variant": "", **wanted}, {}
    for row in read_curves():
        if all(row[name] == value for name, value in wanted.items()):
            seeds.setdefault(row["seed"], []).append(
                (int(row["step"]), float(row[column] or "nan"))
            )
    if not seeds:
        return np.array([]), np.empty((0, 0))
    steps, values = np.array(list(seeds.values())).transpose(2, 0, 1)
    return steps[0], values


@cache
def read_curves():
    return read("curves.csv")


def band(axis, steps, values, colour, label=None, **style):
    """Mean over seeds, and its bootstrap 95 % interval where there are several."""
    filled = np.array(
        [
            np.interp(steps, steps[~np.isnan(x)], x[~np.isnan(x)])
            for x in values
            if (~np.isnan(x)).any()
        ]
    )
    if not len(filled):
        return
    axis.plot(steps / 1e6, filled.mean(0), color=colour, label=label, lw=1.6, **style)
    if len(filled) > 1:
        drawn = filled[
            np.random.default_rng(0).integers(len(filled), size=(1_000, len(filled)))
        ].mean(1)
        axis.fill_between(
            steps / 1e6, *np.quantile(drawn, [0.025, 0.975], 0), color=colour, alpha=0.2, lw=0
        )


def learning_curves(plt):
    """Figure 3 of the PPO paper (Schulman et al. 2017) with these scripts.

    The seven robotics tasks.
    """
    figure, axes = plt.subplots(2, 4, figsize=(10, 5.2))
    drawn, counts = set(), set()
    for axis, robot in zip(axes.flat, ROBOTS):
        for script, (name, colour) in COLOURS.items():
            steps, values = curves("episodic_return", script=script, env_id=f"{robot}-v4")
            if len(values):
                band(axis, steps, values, colour)
                drawn, counts = drawn | {name}, counts | {len(values)}
        axis.set(title=f"{robot}-v4", xlim=(0, 1))
    for axis in axes[:, 0]:
        axis.set_ylabel("training return")
    for axis in axes[1]:
        axis.set_xlabel("steps, millions")
    for name, colour in COLOURS.values():
        if name in drawn:
            axes[-1, -1].plot([], [], color=colour, label=name, lw=3)
    axes[-1, -1].axis("off")
    axes[-1, -1].legend(
        loc="center", frameon=False, title=f"mean of {span(counts)} seeds,\nbootstrap 95 % interval"
    )
    return figure


def span(counts):
    return "–".join(str(x) for x in dict.fromkeys([min(counts), max(counts)])) if counts else "0"


KNOBS = {
    "a2c_continuous": "learning_rate",
    "ppo_continuous": "clip_coef",
    "trpo_continuous": "max_kl",
}
DEFAULTS = {"a2c_continuous": 2e-3, "ppo_continuous": 0.2, "trpo_continuous": 0.01}


def knobs(script):
    """(value / default, final sampled returns over seeds) on Hopper-v4.

    One pair for each value of the script's own knob.
    """
    found = {
        1.0: [
            float(row["sampled"])
            for row in runs(script=script, env_id="Hopper-v4")
            if int(row["seed"]) <= 3
        ]
    }
    for row in read("results.csv"):
        knob, _, value = row["variant"].partition("=")
        if row["script"] == script and knob == KNOBS[script] and row["env_id"] == "Hopper-v4":
            found.setdefault(float(value) / DEFAULTS[script], []).append(float(row["sampled"]))
    return sorted(found.items())


def step_sizes(plt):
    """A2C on Hopper for several step sizes, which motivates trust regions.

    Beside it PPO and TRPO over their own knobs.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2))
    values = [ratio * DEFAULTS["a2c_continuous"] for ratio, _ in knobs("a2c_continuous")]
    if len(values) < 2:
        return None
    for value, shade in zip(values, plt.get_cmap("viridis")(np.linspace(0, 0.9, len(values)))):
        variant = "" if value == DEFAULTS["a2c_continuous"] else f"learning_rate={value:g}"
        steps, seeds = curves(
            "episodic_return", variant=variant, script="a2c_continuous", env_id="Hopper-v4"
        )
        band(left, steps, seeds[:3], shade, f"{value:g}")
    left.set(
        xlabel="steps, millions", ylabel="training return", title="A2C, Hopper-v4", xlim=(0, 1)
    )
    left.legend(title="step size", frameon=False)
    for script, knob in KNOBS.items():
        name, colour = COLOURS[script]
        points = knobs(script)
        right.plot(
            [x for x, _ in points],
            [np.mean(y) for _, y in points],
            color=colour,
            label=f"{name}: {knob}",
        )
        for x, y in points:
            right.plot([x] * len(y), y, "o", color=colour, ms=4, alpha=0.6)
    right.set(
        xscale="log",
        xlabel="knob / its default",
        ylabel="final return, sampled actions",
        title="Hopper-v4",
    )
    right.set_ylim(top=1.3 * right.get_ylim()[1])  # room for the legend
    right.legend(
        frameon=False,
        title="mean over seeds, each a dot",
        loc="upper center",
        ncols=3,
        handlelength=1,
        fontsize=8,
    )
    return figure


def divergence(plt):
    """What constraint and clip do to an update.

    Divergence between π_old and π, and quantiles of their ratio.
    """
    figure, axes = plt.subplots(1, 3, figsize=(10, 3.6))
    for script in ("a2c_continuous", "ppo_continuous", "trpo_continuous"):
        name, colour = COLOURS[script]
        for axis, columns in zip(axes, (["kl"], ["kl_max"], ["ratio_q01", "ratio_q99"])):
            for column in columns:
                steps, values = curves(column, script=script, env_id="Hopper-v4")
                if len(values):
                    band(axis, steps, values, colour, name if column == columns[0] else None)
    for axis, title in zip(
        axes,
        ("mean over states of D(π_old ‖ π)", "maximum over states", "1 % and 99 % of π / π_old"),
    ):
        axis.set(title=title, xlabel="steps, millions", yscale="log", xlim=(0, 1))
        axis.axhline(
            1 if "π / π" in title else 0.1 if "max" in title else 0.01, color="grey", lw=0.8, ls=":"
        )
    axes[2].set(yticks=[0.5, 1, 2], yticklabels=["0.5", "1", "2"])
    axes[2].minorticks_off()
    axes[0].set_ylabel("nats, Hopper-v4")
    axes[0].legend(frameon=False)
    return figure


def trust_region(plt):
    """The trust region itself.

    Surrogate and return along TRPO's direction, and returns at equal distances.
    """
    rows = read("trust_region.csv")
    if not rows:
        return None
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.2), width_ratios=[3, 2])
    line = [row for row in rows if row["kind"] == "step"]
    x, gain, low, high, surrogate, kl = (
        np.array([float(row[name]) for row in line])
        for name in ("size", "gain", "low", "high", "surrogate", "kl")
    )
    left.fill_between(x, low, high, color="#0072B2", alpha=0.2, lw=0)
    left.plot(x, gain, color="#0072B2", label="V(θ~) - V(θ), 40 episodes, 95 % interval")
    left.plot(x, surrogate, color="#E69F00", label="surrogate, in units of V")
    left.axvline(1, color="grey", ls=":", lw=0.8)
    left.set(
        xlabel="step along TRPO's direction; 1: to the bound δ",
        ylabel="change of the discounted return",
    )
    left.set_ylim(min(low) * 1.1, max(max(high), max(surrogate)) * 1.1)
    other = left.twinx()
    other.plot(x, kl, color="#999999", ls="--")
    other.set_ylabel("mean D(π_old ‖ π), nats (dashed)")
    left.legend(frameon=False, loc="upper left")
    groups = [
        [float(row["gain"]) for row in rows if row["kind"] == kind]
        for kind in ("equal-parameters", "equal-kl")
    ]
    for place, values in enumerate(groups):
        right.plot(
            np.full(len(values), place) + np.linspace(-0.2, 0.2, len(values)),
            values,
            "o",
            ms=4,
            color="#009E73",
        )
    right.axhline(0, color="grey", lw=0.8)
    right.set(xticks=[0, 1], xticklabels=["equal ‖Δθ‖", "equal D"], xlim=(-0.5, 1.5))
    right.set(title="30 random directions", ylabel="change of the discounted return")
    return figure


def pace(plt):
    """Steps per second of each script and its peer."""
    rows = read("speed.csv")
    return speed.chart(rows, plt) if rows else None


TABLES = [
    overview,
    scores,
    below,
    summary,
    candidates,
    estimates,
    bounds,
    ablation,
    whitening,
    scaling,
    processes,
    speeds,
    updates,
    growth,
    devices,
    directions,
]
FIGURES = [learning_curves, step_sizes, divergence, trust_region, pace]


def main():
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    for table in TABLES:
        print(*table(), "", sep="\n")
    plt.rcParams.update(
        {
            "axes.spines.top": False,
            "axes.spines.right": False,
            "font.size": 10,
            "axes.titlesize": 10,
        }
    )
    (HERE / "figures").mkdir(exist_ok=True)
    for draw in FIGURES:
        figure = draw(plt)
        if figure:
            figure.tight_layout()
            figure.savefig(HERE / "figures" / f"{draw.__name__}.png", dpi=150)


if __name__ == "__main__":
    main()
