"""The README's table of scores, from results.csv (our runs) and published.csv (the best published final values).

python benchmark/report.py
"""

import csv
import statistics
from pathlib import Path

HERE = Path(__file__).parent
SCRIPTS = ["reinforce", "a2c_continuous", "ppo_continuous", "trpo_continuous", "ddpg"]
WAYS = ["sampled", "deterministic", "training"]


def read(name):
    with open(HERE / name) as file:
        return list(csv.DictReader(file))


def spread(values):
    """Mean ± standard deviation over seeds."""
    if len(values) < 2:
        return "–"
    return f"{statistics.mean(values):,.0f} ± {statistics.stdev(values):,.0f}"


def scores():
    """One line per script and environment; the way of acting of the published value is the one to compare with."""
    published = {(row["script"], row["env_id"]): row for row in read("published.csv")}
    runs = {}
    for row in read("results.csv"):
        if int(row["steps"]) < 10**6:  # another length is another comparison
            continue
        runs.setdefault((row["script"], row["env_id"]), []).append(row)
    yield "| script | on | seeds | sampled | mean actions | training | best published final value |"
    yield "|---" * 7 + "|"
    for script, env_id in sorted(runs, key=lambda key: (SCRIPTS.index(key[0]), key[1])):
        rows = sorted(runs[script, env_id], key=lambda row: int(row["seed"]))
        ours = {way: [float(row[way]) for row in rows if row[way]] for way in WAYS}
        cells = [spread(ours[way]) for way in WAYS]
        other = "–"
        if best := published.get((script, env_id)):
            here = WAYS.index(best["acting"])
            above = len(rows) > 1 and statistics.mean(ours[best["acting"]]) >= float(best["score"])
            cells[here] = f"**{cells[here]}**" if above else cells[here]
            column = {"deterministic": "mean actions"}.get(best["acting"], best["acting"])
            other = (
                f"{float(best['score']):,.0f}, {column} ({best['source'].split(';')[0].split(' (')[0].split(' [')[0]})"
            )
        yield (
            "| " + " | ".join([f"`{script}.py`", env_id, ", ".join(row["seed"] for row in rows), *cells, other]) + " |"
        )


if __name__ == "__main__":
    print(*scores(), sep="\n")
