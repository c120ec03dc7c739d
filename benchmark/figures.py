"""The figures of the Markdown files, from the CSV files beside this one.

    python benchmark/figures.py  # draws figures/*.png

Curves are means over seeds with bootstrap 95 % intervals.
"""

from pathlib import Path

import matplotlib
import numpy as np
from common import COLORS, ENV_IDS, NAMES, WITH_CRITIC, defaults
from matplotlib.figure import Figure
from tables import curves, first_seeds, grouped, read, runs, scores_of, span

HERE = Path(__file__).parent
BLUE, ORANGE, GREEN = "#0072B2", "#E69F00", "#009E73"  # Okabe and Ito's
STYLE = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 10,
    "axes.titlesize": 10,
}


def draw_band(ax, steps, values, color, label=None):
    """Mean of values (seeds, P), and its bootstrap 95 % interval where there are several seeds."""
    filled = []
    for seed_values in values:
        known = ~np.isnan(seed_values)
        if known.any():
            filled.append(np.interp(steps, steps[known], seed_values[known]))
    if not filled:
        return
    filled = np.array(filled)
    ax.plot(steps / 1e6, filled.mean(0), color=color, label=label, lw=1.6)
    if len(filled) > 1:
        rng = np.random.default_rng(0)
        seeds = rng.integers(len(filled), size=(1_000, len(filled)))
        low, high = np.quantile(filled[seeds].mean(1), [0.025, 0.975], axis=0)
        ax.fill_between(steps / 1e6, low, high, color=color, alpha=0.2, lw=0)


# --------------------------------------------------------------------------------------------------
# Returns


def learning_curves():
    """Figure 3 of the PPO paper (Schulman et al. 2017) with these scripts: seven robotics tasks."""
    figure = Figure(figsize=(10, 5.2))
    axes = figure.subplots(2, 4)
    counts = set()  # of seeds
    for ax, env_id in zip(axes.flat, ENV_IDS):
        for script, color in COLORS.items():
            steps, values = curves("episodic_return", script=script, env_id=env_id)
            draw_band(ax, steps, values, color)
            counts.add(len(values))
        ax.set(title=env_id, xlim=(0, 1))
    for ax in axes[:, 0]:
        ax.set_ylabel("training return")
    for ax in axes[1]:
        ax.set_xlabel("steps, millions")

    legend = axes[1, 3]  # the place of an eighth task
    for script, name in NAMES.items():
        legend.plot([], [], color=COLORS[script], label=name, lw=3)
    legend.axis("off")
    title = f"mean of {span(counts)} seeds,\nbootstrap 95 % interval"
    legend.legend(loc="center", frameon=False, title=title)
    return figure


# --------------------------------------------------------------------------------------------------
# Hyperparameters that decide how far an update goes

HYPERPARAMETERS = {
    "a2c_continuous": "learning_rate",
    "ppo_continuous": "clip_coef",
    "trpo_continuous": "max_kl",
}


def final_returns(script):
    """Sampled returns of seeds 1 to 3 on Hopper-v4, by values of the script's hyperparameter."""
    name = HYPERPARAMETERS[script]
    rows = runs(script=script, env_id="Hopper-v4")
    returns = {defaults(script)[name]: scores_of(first_seeds(rows), "sampled")}
    for row in read("results.csv"):
        label, _, value = row["variant"].partition("=")
        if (label, row["script"], row["env_id"]) == (name, script, "Hopper-v4"):
            returns.setdefault(float(value), []).append(float(row["sampled"]))
    return dict(sorted(returns.items()))


def hyperparameters():
    """A2C on Hopper with several learning rates, which motivates trust regions.

    Beside it final returns of A2C, PPO and TRPO over their own hyperparameters.
    """
    figure = Figure(figsize=(10, 4.2))
    left, right = figure.subplots(1, 2)
    draw_learning_rates(left)
    draw_final_returns(right)
    return figure


def draw_learning_rates(ax):
    learning_rates = final_returns("a2c_continuous")
    shades = matplotlib.colormaps["viridis"](np.linspace(0, 0.9, len(learning_rates)))
    for value, shade in zip(learning_rates, shades):
        is_default = value == defaults("a2c_continuous")["learning_rate"]
        wanted = {"script": "a2c_continuous", "env_id": "Hopper-v4"}
        wanted["variant"] = "" if is_default else f"learning_rate={value:g}"
        steps, values = curves("episodic_return", **wanted)
        draw_band(ax, steps, values[:3], shade, f"{value:g}")
    ax.set(title="A2C, Hopper-v4", xlabel="steps, millions", ylabel="training return", xlim=(0, 1))
    ax.legend(title="learning rate", frameon=False)


def draw_final_returns(ax):
    for script, name in HYPERPARAMETERS.items():
        color = COLORS[script]
        returns = final_returns(script)
        ratios = [value / defaults(script)[name] for value in returns]
        means = [np.mean(x) for x in returns.values()]
        ax.plot(ratios, means, color=color, label=f"{NAMES[script]}: {name}")
        for ratio, seeds in zip(ratios, returns.values()):
            ax.plot([ratio] * len(seeds), seeds, "o", color=color, ms=4, alpha=0.6)
    ax.set(title="Hopper-v4", xlabel="hyperparameter / its default", xscale="log")
    ax.set_ylabel("final return, sampled actions")
    ax.set_ylim(top=1.3 * ax.get_ylim()[1])  # room for the legend
    ax.legend(
        frameon=False,
        title="mean over seeds, each a dot",
        loc="upper center",
        ncols=3,
        handlelength=1,
        fontsize=8,
    )


# --------------------------------------------------------------------------------------------------
# How far updates go


def divergence():
    """What constraint and clip do to an update of the policy.

    Divergence between π_old and π, and quantiles of their ratio; dotted: TRPO's bounds, and 1.
    """
    max_kl = defaults("trpo_continuous")["max_kl"]
    panels = [  # title, columns of curves.csv, dotted line
        ("mean over states of D(π_old ‖ π)", ["kl"], max_kl),
        ("maximum over states", ["kl_max"], 10 * max_kl),
        ("1 % and 99 % of π / π_old", ["ratio_q01", "ratio_q99"], 1),
    ]
    figure = Figure(figsize=(10, 3.6))
    axes = figure.subplots(1, 3)
    for ax, (title, columns, dotted) in zip(axes, panels):
        for script in WITH_CRITIC:
            label = NAMES[script]
            for column in columns:
                steps, values = curves(column, script=script, env_id="Hopper-v4")
                draw_band(ax, steps, values, COLORS[script], label)
                label = None  # one entry in the legend
        ax.set(title=title, xlabel="steps, millions", yscale="log", xlim=(0, 1))
        ax.axhline(dotted, color="grey", lw=0.8, ls=":")
    axes[2].set(yticks=[0.5, 1, 2], yticklabels=["0.5", "1", "2"])
    axes[2].minorticks_off()
    axes[0].set_ylabel("nats, Hopper-v4")
    axes[0].legend(frameon=False)
    return figure


def trust_region():
    """The trust region itself, from the samples of trust_region.py.

    Surrogate and return along TRPO's direction, and changes of the return by random directions
    within some tensors, at equal distances.
    """
    rows = read("trust_region.csv")
    figure = Figure(figsize=(10, 4.2))
    left, right = figure.subplots(1, 2, width_ratios=[3, 2])
    draw_along_the_step(left, [row for row in rows if row["kind"] == "step"])
    draw_random_directions(right, [row for row in rows if row["kind"] != "step"])
    return figure


def signed_root(x):
    return np.sign(x) * np.abs(x) ** 0.5


def signed_square(x):
    return x * np.abs(x)


def draw_along_the_step(ax, rows):
    size = np.array([float(row["size"]) for row in rows])
    labels = {"gain": "V(θ~) - V(θ)", "surrogate": "surrogate, in units of V"}
    for (name, label), color in zip(labels.items(), (BLUE, ORANGE)):
        middle, low, high = (
            np.array([float(row[name + end]) for row in rows]) for end in ("", "_low", "_high")
        )
        ax.fill_between(size, low, high, color=color, alpha=0.2, lw=0)
        ax.plot(size, middle, color=color, label=label)
    ax.axvline(1, color="grey", ls=":", lw=0.8)
    ax.set_xscale("function", functions=(signed_root, signed_square))
    ax.set(xticks=[-1, 0, 1, 4, 9, 16], xlabel="step along TRPO's direction; 1: to the bound δ")
    ax.set(ylim=(-16, 22), ylabel="change of the discounted return, 95 % intervals")
    ax.legend(frameon=False, loc="upper left")


def draw_random_directions(ax, rows):
    kinds = {"equal-parameters": "equal ‖Δθ‖", "equal-kl": "equal D"}
    tensors = list(dict.fromkeys(row["tensor"] for row in rows))
    colors = matplotlib.colormaps["viridis"](np.linspace(0, 0.85, len(tensors)))
    for place, kind in enumerate(kinds):
        for i, (name, color) in enumerate(zip(tensors, colors)):
            found = [row for row in rows if (row["kind"], row["tensor"]) == (kind, name)]
            sizes = [abs(float(row["gain"])) for row in found]
            x = place + (i - (len(tensors) - 1) / 2) * 0.16 + np.linspace(-0.06, 0.06, len(sizes))
            ax.plot(x, sizes, "o", ms=4, color=color, label=None if place else name)
            ax.plot(x[[0, -1]], [np.median(sizes)] * 2, "-", color=color)
    ax.set(title="ten random directions within each tensor", yscale="log")
    ax.set(ylim=(0.01, 40), ylabel="size of the change of the discounted return")
    ax.set(xticks=range(len(kinds)), xticklabels=kinds.values(), xlim=(-0.5, 1.5))
    ax.legend(frameon=False, fontsize=8, loc="lower left")


# --------------------------------------------------------------------------------------------------
# Speed


def pace():
    """Steps per second of each script and its peer."""
    return draw_speed(read("speed.csv"))


def draw_speed(rows):
    """Steps per second at each side's defaults, of rows that speed.py has measured.

    Medians, and from least to most.
    """
    environments = grouped([row for row in rows if row["settings"] == "own"], "env_id")
    figure = Figure(figsize=(5 * len(environments), 3.6))
    axes = figure.subplots(1, len(environments), squeeze=False, sharey=True)[0]
    for ax, ((env_id,), env_rows) in zip(axes, environments.items()):
        scripts = grouped(reversed(env_rows), "script")  # from the bottom to the top
        draw_bars(ax, 0.2, scripts, "ours", BLUE, "this script")
        draw_bars(ax, -0.2, scripts, "theirs", ORANGE, "peer")
        ax.set(title=env_id, xlabel="steps per second, one core")
        ax.set(yticks=range(len(scripts)), yticklabels=[script for (script,) in scripts])
        ax.legend(loc="lower right")
    return figure


def draw_bars(ax, offset, scripts, column, color, label):
    for place, rows in enumerate(scripts.values()):
        rates = [float(row[column]) for row in rows if row[column]]
        if rates:
            median = np.median(rates)
            error = [[median - min(rates)], [max(rates) - median]]
            ax.barh(place + offset, median, 0.38, xerr=error, color=color, label=label)
            label = None  # one entry in the legend


# --------------------------------------------------------------------------------------------------

FIGURES = {  # file: function
    "learning_curves.png": learning_curves,
    "step_sizes.png": hyperparameters,
    "divergence.png": divergence,
    "trust_region.png": trust_region,
    "pace.png": pace,
}


def save(figure, path):
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def main():
    matplotlib.rcParams.update(STYLE)
    folder = HERE / "figures"
    folder.mkdir(exist_ok=True)
    for name, draw in FIGURES.items():
        save(draw(), folder / name)
        print(folder / name)


if __name__ == "__main__":
    main()
