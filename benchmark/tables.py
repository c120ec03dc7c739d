"""The tables of the Markdown files, from the CSV files beside this one.

    python benchmark/tables.py          # rewrites the tables in the Markdown files
    python benchmark/tables.py --print  # prints all tables instead

A table stands below a line `<!-- table: NAME -->` and a blank line, NAME being a function of the
list TABLES. It reaches to the next blank line.

Scores compare with published ones of the same mode. The unit of every interval is the seed.
"""

import argparse
import csv
import itertools
import re
import statistics
import sys
from functools import cache
from pathlib import Path

import numpy as np
from common import ENV_IDS, LOCOMOTION, NAMES, ROOT, SCRIPTS
from verdicts import STAGES, race_cells

HERE = Path(__file__).parent
MARKDOWN_FILES = ["*.md", "docs/**/*.md", "benchmark/*.md", "tests/README.md"]
MARKER = re.compile(r"<!-- table: (.*) -->")
MODES = ["sampled", "deterministic", "training"]  # columns of results.csv with scores
TAKEN = {"trpo_continuous": "race=const"}  # candidates that won, and are the defaults now


# --------------------------------------------------------------------------------------------------
# The data


def read(name):
    """Rows of a CSV file, dicts of strings."""
    return list(csv.DictReader((HERE / name).read_text().splitlines()))


def matches(row, wanted):
    return all(row[name] == value for name, value in wanted.items())


def runs(**wanted):
    """Rows of results.csv with these values, in the order of seeds.

    Without a variant, the label of settings that differ from the defaults, those of the defaults.
    """
    wanted = {"variant": ""} | wanted
    rows = [row for row in read("results.csv") if matches(row, wanted)]
    return sorted(rows, key=lambda row: int(row["seed"]))


@cache
def read_curves():
    return read("curves.csv")


def curves(column, **wanted):
    """Steps (P,) and values (seeds, P) that runs have logged; NaN where a part has no value."""
    wanted = {"variant": ""} | wanted
    points = {}  # of each seed
    for row in read_curves():
        if matches(row, wanted):
            value = float(row[column]) if row[column] else np.nan
            points.setdefault(row["seed"], []).append((int(row["step"]), value))
    if not points:
        return np.array([]), np.empty((0, 0))
    steps, values = np.array(list(points.values())).transpose(2, 0, 1)
    return steps[0], values


@cache
def published():
    """The highest row of published.csv by script and environment.

    Only means over three seeds or more count, and only where the source states its mode.
    """
    best = {}
    for row in read("published.csv"):
        key = row["script"], row["env_id"]
        counts = row["acting"] in MODES and int(row["seeds"]) >= 3
        if counts and (key not in best or float(row["score"]) > float(best[key]["score"])):
            best[key] = row
    return best


def main_mode(script):
    """The mode of a script's score where there is room for one."""
    return "deterministic" if script == "ddpg" else "sampled"


def scores_of(rows, mode):
    return [float(row[mode]) for row in rows if row[mode]]


def first_seeds(rows):
    """Those of seeds 1 to 3, which variants were run with."""
    return [row for row in rows if int(row["seed"]) <= 3]


def complete_runs(script, env_id):
    """Runs of the default settings that are as long as the comparison asks for."""
    is_short = script == "ddpg" and env_id.startswith(("Reacher", "Inverted"))
    min_steps = 300_000 if is_short else 1_000_000
    return [row for row in runs(script=script, env_id=env_id) if int(row["steps"]) >= min_steps]


def reaches_published(script, env_id):
    """Whether the mean over two seeds or more is at or above the published score of that mode."""
    best = published().get((script, env_id))
    if best is None:
        return False
    ours = scores_of(complete_runs(script, env_id), best["acting"])
    return len(ours) > 1 and statistics.mean(ours) >= float(best["score"])


def grouped(rows, *names):
    """Lists of rows with the same values in these columns, in the order of the first of each."""
    groups = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in names), []).append(row)
    return groups


# --------------------------------------------------------------------------------------------------
# Statistics


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
    statistics_of_samples = []
    for _ in range(draws):
        sample = [rng.choice(scores, len(scores)) for scores in strata]
        statistics_of_samples.append(statistic(np.concatenate(sample)))
    return np.quantile(statistics_of_samples, [(1 - level) / 2, (1 + level) / 2])


def normalized_scores(script, env_id):
    """Scores over seeds: 0 is random actions, 1 is PPO's best published final value."""
    random = {row["env_id"]: float(row["score"]) for row in read("random.csv")}
    scale = float(published()["ppo_continuous", env_id]["score"]) - random[env_id]
    ours = scores_of(complete_runs(script, env_id), main_mode(script))
    return (np.array(ours) - random[env_id]) / scale


# --------------------------------------------------------------------------------------------------
# Text


def number(value, like=None):
    """With as many digits as a score of this size, or of the size of another, deserves."""
    size = abs(value if like is None else like)
    return f"{value:,.0f}" if size >= 20 else f"{value:,.1f}"


def mean_and_std(values):
    """Mean ± standard deviation over seeds; of one seed its score alone."""
    if not values:
        return "–"
    if len(values) == 1:
        return number(values[0])
    mean = statistics.mean(values)
    return f"{number(mean)} ± {number(statistics.stdev(values), like=mean)}"


def with_count(values):
    """Mean ± standard deviation, and in brackets of how many seeds."""
    return f"{mean_and_std(values)} ({len(values)})" if values else "–"


def median_and_range(values, form="{:,.0f}"):
    """Median (min–max)."""
    median = form.format(statistics.median(values))
    return f"{median} ({form.format(min(values))}–{form.format(max(values))})"


def span(counts):
    """From the least to the greatest, or the one number."""
    return "–".join(str(x) for x in sorted({min(counts), max(counts)}))


def line(cells):
    return "| " + " | ".join(cells) + " |"


def head(names):
    """The first two lines of a table."""
    yield line(names)
    yield "|---" * len(names) + "|"


# --------------------------------------------------------------------------------------------------
# Scores


def score_cells(script, env_id):
    """Mean ± standard deviation over seeds in each mode, bold where the published score is reached.

    Bold is the mode of the published score.
    """
    rows = complete_runs(script, env_id)
    cells = {mode: mean_and_std(scores_of(rows, mode)) for mode in MODES}
    if reaches_published(script, env_id):
        mode = published()[script, env_id]["acting"]
        cells[mode] = f"**{cells[mode]}**"
    return cells


WHAT_IT_ADDS = {
    "reinforce": "the policy gradient, from complete episodes",
    "a2c_continuous": "a critic, bootstrapping, generalized advantages, many environments",
    "ppo_continuous": "the probability ratio and its clip, so that a batch serves several epochs",
    "trpo_continuous": (
        "instead of the clip: a bound on the KL divergence, the natural gradient, a line search"
    ),
    "ddpg": "the fork, off-policy: a deterministic policy, a Q-function, a replay buffer",
}


def scripts():
    """What each script adds to the one above; its speed and its score on Hopper-v4."""
    yield from head(
        [
            "script",
            "what it adds to the one above",
            "minutes for 1M steps of Hopper-v4",
            "return",
        ]
    )
    groups = grouped(read("speed.csv"), "script", "env_id", "settings")
    for script in SCRIPTS:
        rates = [float(row["ours"]) for row in groups[script, "Hopper-v4", "own"]]
        minutes = number(1e6 / statistics.median(rates) / 60)
        returns = scores_of(complete_runs(script, "Hopper-v4"), main_mode(script))
        yield line([f"`{script}.py`", WHAT_IT_ADDS[script], minutes, mean_and_std(returns)])


def overview():
    """One line per environment, one column per script, in the script's main mode.

    Bold where the published score is reached, in its own mode.
    """
    yield from head(["after 1M steps", *NAMES.values()])
    for env_id in ENV_IDS:
        cells = [env_id]
        for script in SCRIPTS:
            text = score_cells(script, env_id)[main_mode(script)].strip("*")
            cells.append(f"**{text}**" if reaches_published(script, env_id) else text)
        yield line(cells)


def scores():
    """One line per script and environment.

    The mode of the published value is the column to compare with it.
    """
    yield from head(["script", "environment", "seeds", *MODES, "best published final value"])
    for script in SCRIPTS:
        for env_id in ENV_IDS:
            rows = complete_runs(script, env_id)
            if rows:
                seeds = ", ".join(row["seed"] for row in rows)
                cells = score_cells(script, env_id).values()
                yield line([f"`{script}.py`", env_id, seeds, *cells, best_value(script, env_id)])


def best_value(script, env_id):
    """The published value with its mode and, in brackets, its source."""
    best = published().get((script, env_id))
    if best is None:
        return "–"
    source = re.split(r";| \(| \[", best["source"])[0]
    return f"{number(float(best['score']))}, {best['acting']} ({source})"


COMPARISON = ["ours", "95 % interval", "published", "fraction", "verdict"]


def comparison_cells(script, env_id, rows):
    """Our mean over seeds beside the published value, in its mode.

    Above counts from the mean on, level up to the end of the bootstrap 95 % interval of our mean.
    """
    best = published()[script, env_id]
    mode, score = best["acting"], float(best["score"])
    ours = scores_of(rows, mode)
    mean = statistics.mean(ours)
    low, high = interval([np.array(ours)], np.mean)
    return [
        f"{mean_and_std(ours)}, {mode}",
        f"{number(low, like=score)} to {number(high, like=score)}",
        number(score),
        f"{mean / score:.0%}" if score > 0 else "–",
        "above" if mean >= score else "level" if high >= score else "below",
    ]


def below():
    """Where the mean over seeds is below the published value, in the mode of that value."""
    yield from head(["script", "environment", *COMPARISON])
    for script, env_id in itertools.product(SCRIPTS, ENV_IDS):
        rows = complete_runs(script, env_id)
        if len(rows) > 1 and not reaches_published(script, env_id):
            yield line([f"`{script}.py`", env_id, *comparison_cells(script, env_id, rows)])


def summary():
    """IQM over all environments and seeds, where a script has three seeds in each.

    Fewer leave intervals too narrow.
    """
    yield from head(
        [
            "script",
            "environments × seeds",
            "IQM, sampled (DDPG: deterministic)",
            "95 % interval",
        ]
    )
    for script in SCRIPTS:
        strata = [normalized_scores(script, env_id) for env_id in ENV_IDS]
        counts = [len(scores) for scores in strata]
        if min(counts) >= 3:
            low, high = interval(strata, iqm)
            size = f"{len(strata)} × {span(counts)}"
            middle = iqm(np.concatenate(strata))
            yield line([f"`{script}.py`", size, f"{middle:.2f}", f"{low:.2f} to {high:.2f}"])


# --------------------------------------------------------------------------------------------------
# Variants


def ablation():
    """PPO without one of its parts: sampled returns, in brackets of how many seeds."""
    env_ids = sorted(LOCOMOTION)
    rows = [row for row in read("results.csv") if row["script"] == "ppo_continuous"]
    variants = dict.fromkeys(row["variant"] for row in rows if "=" not in row["variant"])
    yield from head(["PPO", *env_ids])
    for variant in variants:  # the first is "", the default
        cells = [variant.replace("-", " ") or "as it is"]
        for env_id in env_ids:
            rows = runs(variant=variant, script="ppo_continuous", env_id=env_id)
            cells.append(with_count(scores_of(first_seeds(rows), "sampled")))
        yield line(cells)


def races():
    """Candidates against the defaults of their time: differences of scores, see race.py.

    Variants are LABEL=NAME, the label the same for all that raced together, among them
    LABEL=default.
    """
    yield from head(["script", "candidate", "stage", *ENV_IDS, "mean", "verdict"])
    rows = [row for row in read("results.csv") if row["variant"].startswith("race")]
    for script, variant in sorted(grouped(rows, "script", "variant"), key=by_script):
        label, name = variant.split("=")
        for stage, (env_ids, seeds) in STAGES.items():
            pairs = {
                env_id: [
                    scores_in_race(rows, script, side, env_id, seeds)
                    for side in (variant, f"{label}=default")
                ]
                for env_id in env_ids
            }
            if name == "default" or not any(candidate for candidate, _ in pairs.values()):
                continue
            *texts, mean, verdict = race_cells(stage, pairs.values(), len(seeds))
            texts = dict(zip(env_ids, texts))
            differences = [texts.get(env_id, "–") for env_id in ENV_IDS]
            yield line([f"`{script}.py`", name, str(stage), *differences, mean, verdict])


def fresh():
    """The defaults in all environments, on the seeds that raced."""
    yield from head(["script", "environment", "seeds", *COMPARISON])
    for script, env_id in itertools.product(SCRIPTS, ENV_IDS):
        variant = TAKEN.get(script, "race=default")
        rows = runs(variant=variant, script=script, env_id=env_id)
        if len(rows) > 1:
            cells = comparison_cells(script, env_id, rows)
            yield line([f"`{script}.py`", env_id, str(len(rows)), *cells])


def plateau():
    """How PPO leaves Hopper's plateau: training returns after 400k steps, variants plateau=NAME."""
    yield from head(["candidate", "seeds", "below 1,000", "returns, sorted"])
    rows = [row for row in read("results.csv") if row["variant"].startswith("plateau=")]
    for (variant,), group in grouped(rows, "variant").items():
        returns = sorted(scores_of(group, "training"))
        num_below = sum(x < 1000 for x in returns)
        texts = ", ".join(number(x) for x in returns)
        yield line([variant.split("=")[1], str(len(returns)), str(num_below), texts])


def pendulum():
    """TRPO on InvertedPendulum-v4: sampled returns of the race, and of variants pendulum=NAME."""
    yield from head(["candidate", "seeds", "returns, sorted"])
    wanted = {"script": "trpo_continuous", "env_id": "InvertedPendulum-v4"}
    rows = [
        row
        for row in read("results.csv")
        if matches(row, wanted) and row["variant"].startswith(("race=", "pendulum="))
    ]
    for (variant,), group in grouped(rows, "variant").items():
        returns = sorted(scores_of(group, "sampled"))
        texts = ", ".join(number(x) for x in returns)
        yield line([variant.split("=", 1)[1], str(len(returns)), texts])


def by_script(key):
    """Sorts tuples (script, ...) in the order of SCRIPTS."""
    script, *others = key
    return SCRIPTS.index(script), others


def scores_in_race(rows, script, variant, env_id, seeds):
    """On a scale where 0 is random actions and 1 the best published value, in its mode."""
    best = published()[script, env_id]
    (random,) = [float(row["score"]) for row in read("random.csv") if row["env_id"] == env_id]
    found = [
        row
        for row in rows
        if matches(row, {"script": script, "variant": variant, "env_id": env_id})
        and int(row["seed"]) in seeds
    ]
    values = scores_of(found, best["acting"])
    return [(value - random) / (float(best["score"]) - random) for value in values]


def candidates():
    """What was tried for defaults, on seeds from 101 on.

    Sampled returns (DDPG: deterministic), in brackets of how many seeds.
    """
    rows = [row for row in read("results.csv") if row["variant"].startswith("candidate=")]
    env_ids = sorted({row["env_id"] for row in rows})
    yield from head(["script", "environments × steps, learning rate", *env_ids])

    def rank(pair):
        script, variant = pair
        return SCRIPTS.index(script), "as it is" not in variant, variant

    for script, variant in sorted(grouped(rows, "script", "variant"), key=rank):
        cells = [f"`{script}.py`", variant.removeprefix("candidate=")]
        for env_id in env_ids:
            found = runs(variant=variant, script=script, env_id=env_id)
            cells.append(with_count(scores_of(found, main_mode(script))))
        yield line(cells)


ESTIMATES = [  # environments and seeds
    ("InvertedDoublePendulum-v4", "101"),
    ("InvertedDoublePendulum-v4", "2"),
    ("InvertedPendulum-v4", "101"),
    ("Walker2d-v4", "101"),
]


def estimates():
    """DDPG's training returns and E[Q(s, μ(s))] in two parts of its runs.

    The rewards allow Q at most 1,000 on InvertedDoublePendulum and 100 on InvertedPendulum.
    """
    yield from head(
        [
            "environment, seed",
            "settings",
            "return at 80k to 100k steps",
            "E[Q]",
            "at 280k to 300k",
            "E[Q]",
        ]
    )
    variants = {row["variant"] for row in read("results.csv") if row["script"] == "ddpg"}

    def rank(variant):
        is_other = "=" in variant and "as it is" not in variant
        return is_other, variant

    for env_id, seed in ESTIMATES:
        for variant in sorted(variants, key=rank):
            cells = estimate_cells(variant=variant, script="ddpg", env_id=env_id, seed=seed)
            if set(cells) != {"–"}:
                label = variant.partition("=")[2].partition(" (")[0]
                # the default's row is named like those of the candidates
                yield line([f"{env_id}, {seed}", label or "as it is: 3e-4 for both", *cells])


def estimate_cells(**wanted):
    """Mean return and mean Q from 80k to 100k steps, then from 280k to 300k steps."""
    steps, returns = curves("episodic_return", **wanted)
    _, mean_q = curves("mean_q", **wanted)
    cells = []
    for end in (100_000, 300_000):
        inside = (end - 20_000 < steps) & (steps <= end)
        is_logged = inside.any() and np.isfinite(mean_q).any()
        for values in (returns, mean_q):
            cells.append(number(np.nanmean(values[:, inside])) if is_logged else "–")
    return cells


def side_by_side(script, variants, seeds, column, statistic):
    """In each environment, each variant's sampled returns and a statistic of its curves.

    Of those of the seeds that both variants have; their number stands in brackets.
    """
    for env_id in ENV_IDS:
        sides = []
        for variant in variants:
            rows = runs(variant=variant, script=script, env_id=env_id)
            sides.append({row["seed"]: row for row in rows if int(row["seed"]) in seeds})
        shared = [seed for seed in sides[0] if seed in sides[1]]

        cells = [f"{env_id} ({len(shared)})"]
        for variant, side in zip(variants, sides):
            wanted = {"variant": variant, "script": script, "env_id": env_id}
            values = [curves(column, seed=seed, **wanted)[1] for seed in shared]
            cells.append(mean_and_std(scores_of([side[seed] for seed in shared], "sampled")))
            cells.append(f"{statistic(values):.2f}" if shared else "–")
        yield line(cells)


def bounds():
    """TRPO with D bounded in the mean alone, and at each state too.

    Sampled returns, and each update's largest D, averaged over updates.
    """
    yield from head(
        [
            "environment (seeds)",
            "bound on the mean: return",
            "largest D, nats",
            "also at each state: return",
            "largest D, nats",
        ]
    )
    yield from side_by_side(
        "trpo_continuous", ["race=const-mean", "race=const"], range(109, 113), "kl_max", np.nanmean
    )


def normalization():
    """PPO with its advantages normalized, and as they are.

    Sampled returns, and the largest mean D in a fiftieth of a run.
    """
    yield from head(
        [
            "environment (seeds)",
            "advantages normalized: return",
            "farthest updates, nats",
            "as they are: return",
            "farthest updates, nats",
        ]
    )
    variants = ["", "no-normalization-of-advantages"]
    yield from side_by_side("ppo_continuous", variants, range(1, 4), "kl", np.nanmax)


# --------------------------------------------------------------------------------------------------
# Processes

PROCESSES = {  # label: batch in scaling.csv, variant in results.csv
    "1": ("one", "processes=1"),
    "2, batch kept": ("kept", "processes=2,batch-kept"),
    "2, batch grown": ("grown", "processes=2,batch-grown"),
}


def scaling():
    """PPO's steps/s with one and two processes on two cores, in turn.

    Medians, and medians of each round's ratio.
    """
    env_ids = ["Hopper-v4", "Humanoid-v4"]
    names = ["processes"]
    for env_id in env_ids:
        names += [f"{env_id}, steps/s", "ratio"]
    yield from head(names)
    for label, (batch, _) in PROCESSES.items():
        cells = [label]
        for env_id in env_ids:
            cells += scaling_cells(env_id, batch)
        yield line(cells)


def scaling_cells(env_id, batch):
    """Median steps/s, and its ratio to one process."""
    groups = grouped(read("scaling.csv"), "env_id", "batch")
    one = [float(row["steps_per_second"]) for row in groups[env_id, "one"]]
    rates = [float(row["steps_per_second"]) for row in groups[env_id, batch]]
    median = f"{statistics.median(rates):,.0f}"
    if batch == "one":
        return [median, "1"]
    ratios = [rate / base for rate, base in zip(rates, one)]
    return [median, median_and_range(ratios, "{:.2f}")]


def processes(goal=2_000):
    """What a second process buys.

    PPO on Hopper-v4, with the batch of one process or one twice as large.
    """
    yield from head(
        [
            "processes",
            "steps/s",
            "return after 1M steps, sampled",
            f"minutes until training returns pass {goal:,}",
        ]
    )
    for label, (_, variant) in PROCESSES.items():
        rows = runs(variant=variant)
        rates = [float(row["steps_per_second"]) for row in rows]
        final = mean_and_std(scores_of(rows, "sampled"))
        minutes = ", ".join(minutes_until(goal, variant, rates))
        yield line([label, f"{statistics.median(rates):,.0f}", final, minutes])


def minutes_until(goal, variant, rates):
    """Of each seed, the minutes until its training returns pass the goal."""
    steps, values = curves("episodic_return", variant=variant)
    for rate, returns in zip(rates, values):
        passed = steps[returns > goal]
        yield f"{passed[0] / rate / 60:.1f}" if len(passed) > 0 else "never"


# --------------------------------------------------------------------------------------------------
# Speed

OWN_SPEED = ["environment", "script", "settings", "ours, steps/s", "inside `envs.step`", "MB"]
PEER_SPEED = ["peer", "its steps/s", "ratio"]


def own_speed_cells(rows):
    """Of the rounds of one setting: ours in steps/s, the fraction inside envs.step, memory."""
    rates = [float(row["ours"]) for row in rows]
    inside = statistics.median(float(row["inside"]) for row in rows)
    memory = max(float(row["memory"]) for row in rows)
    labels = [rows[0][name] for name in ("env_id", "script", "settings")]
    return [*labels, median_and_range(rates), f"{inside:.0%}", f"{memory:,.0f}"]


def peer_speed_cells(rows):
    """Of the same rounds: the peer's steps/s, and the ratio of ours to it in each round."""
    peer = rows[0]["peer"]
    if not peer:
        return ["–", "–", "–"]
    rates = [float(row["theirs"]) for row in rows]
    ratios = [float(row["ours"]) / float(row["theirs"]) for row in rows]
    return [peer, median_and_range(rates), median_and_range(ratios, "{:.2f}")]


def speed_table(rows):
    """Ours beside peers, of rows that speed.py has measured."""
    yield from head(OWN_SPEED + PEER_SPEED)
    for group in grouped(rows, "env_id", "script", "settings", "peer").values():
        yield line(own_speed_cells(group) + peer_speed_cells(group))


def update_times(rows):
    """Of DDPG, the time of a step beside that of its update's matrix products alone.

    A step is one of training without the simulator; it includes an update.
    """
    measured = [row for row in rows if row["products"]]
    for (env_id, settings), group in grouped(measured, "env_id", "settings").items():
        seconds = [(1 - float(row["inside"])) / float(row["ours"]) for row in group]
        step = 1e3 * statistics.median(seconds)
        alone = 1e3 * statistics.median(float(row["products"]) for row in group)
        times = f"{step:.2f} ms a step outside the simulator, {alone:.2f} ms its matrix products"
        yield f"{env_id}, {settings}: {times}: {step / alone:.2f}"


def speeds():
    """What speed.py has measured: ours beside peers."""
    return speed_table(read("speed.csv"))


def updates():
    """DDPG's update beside the matrix products in it."""
    for text in update_times(read("speed.csv")):
        yield f"- {text}"


def growth():
    """What speed.py --growth has measured: ours with more environments, or a larger replay."""
    yield from head(OWN_SPEED)
    for group in grouped(read("growth.csv"), "env_id", "script", "settings").values():
        yield line(own_speed_cells(group))


def devices():
    """What speed.py --devices has measured.

    Ours on the CPU and on the GPU of one machine, and the rounds' ratios.
    """
    yield from head(["Hopper-v4", "CPU, steps/s", "GPU, steps/s", "GPU / CPU"])
    groups = {}  # by script and batch; each has rounds, each of these the devices' rates
    for row in read("devices.csv"):
        device, _, batch = row["settings"].partition(", ")
        rounds = groups.setdefault((row["script"], batch), {})
        rounds.setdefault(row["round"], {})[device] = float(row["ours"])
    for (script, batch), rounds in groups.items():
        cells = [f"`{script}.py`, {batch}" if batch else f"`{script}.py`"]
        for device in ("cpu", "cuda"):
            rates = [rates[device] for rates in rounds.values() if device in rates]
            cells.append(", ".join(f"{rate:,.0f}" for rate in rates))
        both = [rates for rates in rounds.values() if len(rates) == 2]
        cells.append(", ".join(f"{rates['cuda'] / rates['cpu']:.2f}" for rates in both))
        yield line(cells)


# --------------------------------------------------------------------------------------------------
# The trust region


def directions():
    """Random directions within single tensors: how far V moves at equal distances, and D.

    Medians over the directions of a tensor; then the largest over the smallest of them.
    """
    yield from head(
        [
            "tensor",
            "equal ‖Δθ‖",
            "mean D",
            "size of the change of V",
            "error of one (95 %)",
            "equal D",
            "‖Δθ‖",
            "size of the change of V",
            "error of one (95 %)",
        ]
    )
    rows = read("trust_region.csv")
    near = grouped([row for row in rows if row["kind"] == "equal-parameters"], "tensor")
    alike = grouped([row for row in rows if row["kind"] == "equal-kl"], "tensor")
    columns = []
    for (tensor,), group in near.items():
        medians = [median_of(group, "norm"), median_of(group, "kl"), size_of_change(group)]
        errors = [half_width(group), half_width(alike[tensor,])]
        group = alike[tensor,]
        medians += [median_of(group, "kl"), median_of(group, "norm"), size_of_change(group)]
        columns.append(medians)
        cells = [two_digits(x) for x in medians]
        cells.insert(3, f"± {two_digits(errors[0])}")
        yield line([tensor, *cells, f"± {two_digits(errors[1])}"])
    ratios = [two_digits(max(column) / min(column)) for column in zip(*columns)]
    yield line(["largest / smallest", *ratios[:3], "", *ratios[3:], ""])


def median_of(rows, name):
    return statistics.median(float(row[name]) for row in rows)


def size_of_change(rows):
    """The median size of a change of V."""
    return statistics.median(abs(float(row["gain"])) for row in rows)


def half_width(rows):
    """Of the median 95 % interval of a change of V."""
    return statistics.median(float(row["gain_high"]) - float(row["gain_low"]) for row in rows) / 2


def two_digits(x):
    return f"{float(f'{x:.2g}'):g}"


# --------------------------------------------------------------------------------------------------
# The Markdown files

TABLES = [
    scripts,
    overview,
    scores,
    below,
    summary,
    races,
    fresh,
    plateau,
    pendulum,
    candidates,
    estimates,
    bounds,
    ablation,
    normalization,
    scaling,
    processes,
    speeds,
    updates,
    growth,
    devices,
    directions,
]


def with_tables(text):
    """A Markdown text with its tables as the committed data have them.

    Below a marker and a blank line, everything up to the next blank line is replaced. ValueError
    where a marker names no table, or has no blank line below it.
    """
    tables = {table.__name__: table for table in TABLES}
    old_lines = text.split("\n")
    lines = []
    while old_lines:
        lines.append(old_lines.pop(0))
        marker = MARKER.fullmatch(lines[-1])
        if marker is None:
            continue
        name = marker[1]
        if name not in tables:
            raise ValueError(f"there is no table {name}, only {', '.join(tables)}")
        blank = old_lines.pop(0) if old_lines else ""
        if blank.strip():
            raise ValueError(f"the marker of table {name} needs a blank line below it")
        while old_lines and old_lines[0].strip():  # the old table
            old_lines.pop(0)
        lines += ["", *tables[name]()]
        if not old_lines:
            lines.append("")  # the file ends with a newline
    return "\n".join(lines)


def rewrite(root):
    """Rewrites the tables in the Markdown files below a folder; yields what stands where."""
    paths = sorted({path for pattern in MARKDOWN_FILES for path in root.glob(pattern)})
    new_texts = {}
    for path in paths:
        try:
            new_texts[path] = with_tables(path.read_text())
        except ValueError as error:
            raise ValueError(f"{path.relative_to(root)}: {error}") from error
    for path, text in new_texts.items():  # nothing is written before all is known to be right
        names = [marker[1] for marker in map(MARKER.fullmatch, text.split("\n")) if marker]
        if names:
            path.write_text(text)
            yield f"{path.relative_to(root)}: {', '.join(names)}"


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--print", action="store_true", help="print all tables, change no file")
    args = parser.parse_args()
    if args.print:
        for table in TABLES:
            print(f"<!-- table: {table.__name__} -->", "", *table(), "", sep="\n")
        return
    try:
        for text in rewrite(ROOT):
            print(text)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
