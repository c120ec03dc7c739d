"""Decides on hyperparameters: candidates race the defaults of a script, in two stages.

    python benchmark/race.py ppo_continuous --stage 1 \\
        --candidate "4x512=--num-envs 4 --num-steps 512" |
        xargs -P 2 -I{} sh -c '{}'
    python benchmark/race.py ppo_continuous --stage 1 --table \\
        --candidate "4x512=--num-envs 4 --num-steps 512"

The first command prints one command a line for each run that has not finished; the second prints
the table of the results so far. A candidate is NAME=OPTIONS of the script's command line. What
options cannot express is a changed copy of the script: NAME=PATH.py OPTIONS.

The score of a run is 0 for random actions and 1 for the best published final value of the same
script and environment, in the mode of that value. In each environment the difference of two means
over seeds has the unpaired standard error, since equal seeds hardly correlate runs.

Stage 1: three environments, seeds 101 to 108. A candidate reaches stage 2 if its mean difference
is positive and at least one standard error, and no environment is below -2 standard errors.
Stage 2: seven environments, seeds 109 to 116. The same rule decides on these fresh seeds alone.
A run without a result or without a score is missing. Nothing is decided until none is missing.

`python benchmark/collect.py --variants --results-only runs/race/*/*` keeps the results, for the
table in races.md. Another race of the same script, against new defaults, needs another
folder, named race2 or so.

A run that was started with other arguments is an error, not a result: after a change of the
defaults or of a candidate, name another folder (--runs) or another candidate.
"""

import argparse
import json
import math
import os
import re
import shlex
import sys
from pathlib import Path
from typing import NamedTuple

from common import SCRIPTS, defaults
from sweep import command, finished
from tables import head, line, published, read
from verdicts import STAGES, race_cells

# arguments that no candidate may set
RESERVED = {"env_id", "seed", "total_timesteps", "run_dir", "evaluate", "capture_video"}


class Side(NamedTuple):
    """The defaults, or a candidate."""

    name: str
    program: str  # path without .py, absolute or from the repository's root
    options: list  # of the program's command line
    arguments: dict  # all arguments as these options set them, less RESERVED


class Run(NamedTuple):
    side: Side
    env_id: str
    seed: int
    run_dir: Path


# --------------------------------------------------------------------------------------------------
# Sides and their runs


class Parser(argparse.ArgumentParser):
    """Raises ValueError in place of an exit."""

    def error(self, message):
        raise ValueError(message)


def read_arguments(program, options):
    """All arguments of a program as these options set them; ValueError where it has no such."""
    try:
        fields = defaults(program)
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"cannot read Args in {program}.py: {error}") from error
    parser = Parser(add_help=False, allow_abbrev=False)
    for name, value in fields.items():
        option = "--" + name.replace("_", "-")
        if name in RESERVED:
            continue
        if isinstance(value, bool):
            parser.add_argument(option, action=argparse.BooleanOptionalAction, default=value)
        else:
            parser.add_argument(option, type=type(value), default=value)
    return vars(parser.parse_args(options))


def default_side(script):
    return Side("default", script, [], read_arguments(script, []))


def candidate_side(text, default):
    """The candidate that NAME=OPTIONS or NAME=PATH.py OPTIONS describes."""
    name, equals, rest = text.partition("=")
    if not equals or not re.fullmatch(r"\w[\w.+-]*", name):
        raise ValueError(f"--candidate {text}: not NAME=OPTIONS, with a name such as 4x512")
    program = default.program
    try:
        options = shlex.split(rest)
        if options and options[0].endswith(".py"):
            program = os.path.abspath(options.pop(0)).removesuffix(".py")
        arguments = read_arguments(program, options)
    except ValueError as error:
        raise ValueError(f"--candidate {name}: {error}") from error
    if (program, arguments) == (default.program, default.arguments):
        raise ValueError(f"--candidate {name}: nothing differs from the defaults")
    return Side(name, program, options, arguments)


def all_runs(race):
    """The runs of a race, seed outermost: an interrupted race has whole seeds of all sides."""
    for seed in race.seeds:
        for env_id in race.env_ids:
            for side in race.sides:
                name = f"{env_id}__{race.script}__{seed}".replace("/", "_").replace(":", "_")
                # a variant as collect.py and the table of races want it
                run_dir = race.runs / f"{race.runs.name}={side.name}" / name
                yield Run(side, env_id, seed, run_dir)


def check_runs(race):
    """Raises ValueError where a run was started with other arguments than the race gives it."""
    for run in all_runs(race):
        try:
            recorded = json.loads((run.run_dir / "args.json").read_text())
        except (OSError, ValueError):  # not started, or at this moment
            continue
        expected = run.side.arguments | {"total_timesteps": race.total_timesteps}
        for name, value in expected.items():
            old = recorded.get(name, value)
            if old != value:
                change = f"was started with {name} {old}, not {value}"
                raise ValueError(f"{run.run_dir} {change}: choose another name or --runs")


def commands(race):
    """The commands of all runs that have not finished."""
    for run in all_runs(race):
        if not finished(run.run_dir, race.total_timesteps):
            side = run.side
            arguments = (run.env_id, run.seed, race.total_timesteps, run.run_dir)
            yield command(side.program, *arguments, side.options)


# --------------------------------------------------------------------------------------------------
# Scores


def read_score(run, race):
    """The score of a run; None where the run or its score is missing."""
    if not finished(run.run_dir, race.total_timesteps):
        return None
    result = json.loads((run.run_dir / "result.json").read_text())
    best = published()[race.script, run.env_id]
    mode = best["acting"]
    if mode == "training":
        mean_return = result.get("training_return")
    else:
        mean_return = result.get(mode, {}).get("mean")
    if mean_return is None or not math.isfinite(mean_return):
        return None
    (random,) = [float(row["score"]) for row in read("random.csv") if row["env_id"] == run.env_id]
    return (mean_return - random) / (float(best["score"]) - random)


def scores_by_side(race):
    """Scores over seeds, {(name of the side, environment): list}; missing runs have none."""
    scores = {(side.name, env_id): [] for side in race.sides for env_id in race.env_ids}
    for run in all_runs(race):
        score = read_score(run, race)
        if score is not None:
            scores[run.side.name, run.env_id].append(score)
    return scores


# --------------------------------------------------------------------------------------------------
# The table


def table(race):
    """A line for each candidate.

    Differences of scores ± standard errors, in brackets the number of seeds.
    """
    yield from head(["candidate", *race.env_ids, "mean", "verdict"])
    scores = scores_by_side(race)
    default, *candidates = race.sides
    for side in candidates:
        pairs = [(scores[side.name, x], scores[default.name, x]) for x in race.env_ids]
        yield line([side.name, *race_cells(race.stage, pairs, len(race.seeds))])


# --------------------------------------------------------------------------------------------------
# The command line


def parse_options():
    """The race: the options, with what the stage and the script fill in, and its sides."""
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("script", choices=SCRIPTS)
    parser.add_argument("--stage", type=int, choices=STAGES, required=True)
    parser.add_argument(
        "--candidate",
        action="append",
        required=True,
        metavar="NAME=OPTIONS",
        help="NAME=[PATH.py] OPTIONS; may be repeated",
    )
    parser.add_argument("--table", action="store_true", help="print the table of results so far")
    parser.add_argument("--env-ids", nargs="+", help="default: those of the stage")
    parser.add_argument("--seeds", nargs="+", type=int, help="default: those of the stage")
    parser.add_argument("--total-timesteps", type=int, help="default: that of the script")
    parser.add_argument("--runs", type=Path, default=Path("runs/race"), help="parent of all runs")
    race = parser.parse_args()

    env_ids, seeds = STAGES[race.stage]
    race.env_ids = race.env_ids or env_ids
    race.seeds = race.seeds or list(seeds)
    if race.total_timesteps is None:
        race.total_timesteps = defaults(race.script)["total_timesteps"]
    default = default_side(race.script)
    race.sides = [default, *(candidate_side(text, default) for text in race.candidate)]
    return race


def check_options(race):
    """Raises ValueError for what no race can be run with, or no table made of."""
    names = [side.name for side in race.sides]
    for what, values in [("name", names), ("env-id", race.env_ids), ("seed", race.seeds)]:
        for value in values:
            if values.count(value) > 1:
                raise ValueError(f"the {what} {value} is there twice")
    if race.total_timesteps < 1:
        raise ValueError(f"--total-timesteps {race.total_timesteps} is not positive")
    if not race.table:
        return
    if len(race.seeds) < 2:
        raise ValueError("--table needs two seeds or more: one has no standard error")
    for env_id in race.env_ids:
        if (race.script, env_id) not in published():
            raise ValueError(f"--table needs a published value of {race.script} in {env_id}")


def main():
    try:
        race = parse_options()
        check_options(race)
        check_runs(race)
        lines = list(table(race) if race.table else commands(race))
    except ValueError as error:
        print("error: " + " ".join(str(error).split()), file=sys.stderr)  # in one line
        sys.exit(2)
    for text in lines:
        print(text)


if __name__ == "__main__":
    main()
