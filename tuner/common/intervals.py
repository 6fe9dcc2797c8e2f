"""95% intervals of means, shares and medians. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import NamedTuple

CONFIDENCE = 0.95


class Interval(NamedTuple):
    """A mean with its 95% interval; `low` and `high` are None where one value alone shows no spread."""

    mean: float
    low: float | None
    high: float | None


def mean_interval(values: Sequence[float]) -> Interval:
    """Return the mean and its 95% interval over seeds (Student's t).

    >>> [round(value, 3) for value in mean_interval([0.5, 0.52, 0.54])]
    [0.52, 0.47, 0.57]
    """
    mean = fmean(values)
    if len(values) < 2:
        return Interval(mean, None, None)
    from scipy import stats

    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * stdev(values) / math.sqrt(len(values))
    return Interval(mean, mean - half, mean + half)


def half_width(of_seeds: Sequence[tuple[float, int]], of_images: float) -> float:
    """Return half of a 95% interval from variances of means and their degrees of freedom (Welch-Satterthwaite).

    The variance of the images rests on thousands of them, so it counts as known.
    """
    from scipy import stats

    total = sum(variance for variance, _ in of_seeds) + of_images
    uncertain = sum(variance**2 / freedom for variance, freedom in of_seeds if freedom)
    freedom = total**2 / uncertain if uncertain else math.inf
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom)) * math.sqrt(total)


def wilson_interval(share: float, number: int) -> tuple[float, float]:
    """Return the 95% interval of a share that was observed in `number` draws (Wilson 1927, score interval).

    >>> [round(bound, 4) for bound in wilson_interval(0.5, 100)]
    [0.4038, 0.5962]
    """
    from scipy import stats

    interval = stats.binomtest(round(share * number), number).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def median_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Return the 95% interval of a median, from the ranks of the values (Thompson 1936); None for fewer than six.

    It assumes nothing about how the values are distributed.

    >>> median_interval([1, 2, 3, 4, 5, 6]), median_interval([1, 2, 3])
    ((1, 6), None)
    """
    ordered, number = sorted(values), len(values)
    if number < 6:  # the smallest and the largest of fewer hold the median less often than that
        return None
    from scipy import stats

    below = int(stats.binom.ppf((1 - CONFIDENCE) / 2, number, 0.5))
    return ordered[below - 1], ordered[number - below]
