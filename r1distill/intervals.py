"""How sure a score is: 95% intervals over problems, by scipy.

Problems, not answers, are what is drawn at random, so that several samples of one problem count as one draw.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from r1distill.errors import MissingPackageError

CONFIDENCE = 0.95
RESAMPLES = 9999
BOOTSTRAP_SEED = 0
"""Fixed, so that the same rows give the same interval to the last digit."""


class Interval(NamedTuple):
    """A value and the bounds of its 95% interval, in the value's unit."""

    value: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """True when 0 lies outside."""
        return self.low > 0 or self.high < 0


def pass_at_1(by_problem: Sequence[Sequence[bool]]) -> Interval:
    """Share of right answers, averaged within each problem first.

    One answer per problem: Wilson's score interval (Wilson 1927, JASA 22:209); several: percentile bootstrap over
    problems (Efron 1979, Annals of Statistics 7:1). Raises MissingPackageError without scipy.
    """
    means = [sum(answers) / len(answers) for answers in by_problem]
    if any(len(answers) > 1 for answers in by_problem):
        return mean_interval(means, 0.0, 1.0)
    low, high = wilson(round(sum(means)), len(means))
    return Interval(sum(means) / len(means), low, high)


def paired_difference(first: Sequence[float], second: Sequence[float]) -> Interval:
    """Mean of first - second over the same problems, with its bootstrap interval (problems resampled in pairs)."""
    return mean_interval([a - b for a, b in zip(first, second, strict=True)], -1.0, 1.0)


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """The bounds of Wilson's score interval for a share."""
    found = _stats().binomtest(successes, trials).proportion_ci(CONFIDENCE, method="wilson")
    return float(found.low), float(found.high)


def mean_interval(values: Sequence[float], least: float, most: float) -> Interval:
    """The mean of values between `least` and `most`, with its percentile bootstrap interval.

    Equal values have nothing to resample, yet n of them are no proof for all: a share of up to 1 - Wilson's lower bound
    of n in n may differ, at worst by being `least` or `most`.
    """
    mean = sum(values) / len(values)
    if math.isclose(min(values), max(values), abs_tol=1e-12):
        alike, _ = wilson(len(values), len(values))
        return Interval(mean, alike * mean + (1 - alike) * least, alike * mean + (1 - alike) * most)
    import numpy

    found = _stats().bootstrap(
        (list(values),), numpy.mean, n_resamples=RESAMPLES, confidence_level=CONFIDENCE, method="percentile",
        rng=numpy.random.default_rng(BOOTSTRAP_SEED), batch=500,
    )  # fmt: skip
    return Interval(mean, float(found.confidence_interval.low), float(found.confidence_interval.high))


def _stats() -> Any:
    try:
        import scipy.stats
    except ImportError:
        raise MissingPackageError("Intervals need scipy: pip install 'r1distill[report]'.") from None
    return scipy.stats
