"""How a race between a candidate and the defaults is decided; for race.py and tables.py."""

import math
import statistics
from typing import NamedTuple

from common import ENV_IDS, LOCOMOTION

STAGES = {  # environments, seeds
    1: (LOCOMOTION, range(101, 109)),
    2: (ENV_IDS, range(109, 117)),
}
SUCCESS = {1: "to stage 2", 2: "taken"}


class Difference(NamedTuple):
    """NaN where there are too few seeds."""

    mean: float
    standard_error: float


def difference(candidate, default):
    """Mean score of the candidate less that of the default, with the unpaired standard error."""
    fewest = min(len(candidate), len(default))
    if fewest == 0:
        return Difference(math.nan, math.nan)
    mean = statistics.mean(candidate) - statistics.mean(default)
    if fewest == 1:
        return Difference(mean, math.nan)
    variance = statistics.variance(candidate) / len(candidate)
    variance += statistics.variance(default) / len(default)
    return Difference(mean, math.sqrt(variance))


def mean_difference(differences):
    """Mean over E environments; its standard error is sqrt(sum of squared errors) / E."""
    mean = statistics.mean(x.mean for x in differences)
    squares = sum(x.standard_error**2 for x in differences)
    return Difference(mean, math.sqrt(squares) / len(differences))


def verdict(stage, differences, num_missing):
    """What the differences, one an environment, decide.

    Where all scores of both sides are equal, so that the standard error is 0, nothing is lower.
    """
    if num_missing > 0:
        return f"runs missing: {num_missing}"
    overall = mean_difference(differences)
    is_higher = overall.mean > 0 and overall.mean >= overall.standard_error
    is_lower_somewhere = any(x.mean < -2 * x.standard_error for x in differences)
    return SUCCESS[stage] if is_higher and not is_lower_somewhere else "not better"


def race_cells(stage, pairs, num_seeds):
    """The end of a table's line: a cell for each pair of scores, their mean, and the verdict.

    Pairs are lists of scores, the candidate's and the default's, one pair an environment, each of
    num_seeds where nothing is missing.
    """
    differences = [difference(*pair) for pair in pairs]
    num_missing = sum(num_seeds - len(scores) for pair in pairs for scores in pair)
    texts = [f"{with_error(x)} {count(*pair)}" for x, pair in zip(differences, pairs)]
    texts.append(with_error(mean_difference(differences)))
    return [*texts, verdict(stage, differences, num_missing)]


def with_error(x):
    """A difference as text, as far as there are seeds for it."""
    if math.isnan(x.mean):
        return "–"
    if math.isnan(x.standard_error):
        return f"{x.mean:+.3f}"
    return f"{x.mean:+.3f} ± {x.standard_error:.3f}"


def count(candidate, default):
    """One number where both sides have as many seeds, else the candidate's and the default's."""
    if len(candidate) == len(default):
        return f"({len(candidate)})"
    return f"({len(candidate)}, {len(default)})"
