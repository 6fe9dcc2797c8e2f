"""95% intervals of means and shares. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from statistics import fmean, stdev
from typing import Literal, NamedTuple

import numpy as np

CONFIDENCE = 0.95


class Interval(NamedTuple):
    """A mean with its 95% interval; `low` and `high` are None where one value alone shows no spread."""

    mean: float
    low: float | None
    high: float | None


def mean_interval(values: Sequence[float], folds: int = 0) -> Interval:
    """Return the mean and its 95% interval over seeds (Student's t), or over some of so many `folds`.

    Values of folds differ by their seeds, their training and their validation images; they share training images, so
    that they are more alike than those of new images would be. Hence the variance of the mean is taken for 1/(folds-1),
    the share of validation to training images, larger (Nadeau and Bengio 2003): the interval is for other images of
    the same kind, as many, parted in the same way.

    >>> [round(value, 3) for value in mean_interval([0.5, 0.52, 0.54])]
    [0.52, 0.47, 0.57]
    >>> [round(value, 3) for value in mean_interval([0.5, 0.52, 0.54], folds=3)]
    [0.52, 0.441, 0.599]
    """
    mean = fmean(values)
    if len(values) < 2:
        return Interval(mean, None, None)
    from scipy import special

    share = 1 / len(values) + (1 / (folds - 1) if folds else 0.0)
    half = float(special.stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2)) * stdev(values) * math.sqrt(share)
    return Interval(mean, mean - half, mean + half)


def crossed_interval(table: np.ndarray, added: Sequence[float]) -> Interval:
    """Return the 95% interval of the mean of `[seeds, images]`, for new seeds and new images; no bounds for one seed.

    A row may as well be a training on a fold: then it is for other folds of the same training images.

    Two-way random effects. What images add (and seeds by chance, image by image) rests on all images and counts as
    known; what seeds add beyond it rests on a few, hence Student's t. The halves are squared and added (Zou & Donner
    2008), as Satterthwaite's degrees of freedom hold 87% with two seeds. A part of the known variance is taken from
    what seeds show, so that seeds that do not matter do not widen the interval: how large a part is chosen by numerical
    integration, under which 93 to 98% of intervals hold the truth whatever the variances are.
    `added` are values of images that would change the mean little, so that no spread is never taken for certainty.
    """
    seeds, images = table.shape
    mean, of_seeds, of_images = float(table.mean()), table.mean(axis=1), table.mean(axis=0)
    if seeds < 2:
        return Interval(mean, None, None)
    padded = np.concatenate([of_images, added])
    known = float(padded.var()) / len(padded)
    residuals = table - of_seeds[:, None] - of_images + mean
    both = float((residuals**2).sum()) / ((seeds - 1) * max(1, images - 1) * images * seeds)
    return _of_both(of_seeds, known, both, float(padded.mean()) - mean)


def images_interval(values: np.ndarray, added: Sequence[float]) -> Interval:
    """Return the 95% interval of the mean of one seed's values for images, for new images alone; `added` as above."""
    padded, mean = np.concatenate([values, added]), float(values.mean())
    return _of_both(np.array([mean]), float(padded.var()) / len(padded), 0.0, float(padded.mean()) - mean)


def resampled_interval(values: Sequence[float], resampled: np.ndarray) -> Interval:
    """Return the same of a value of whole sets of images that has no formula; with one seed, for new images alone.

    `values` are those of the seeds, `resampled` `[seeds, resamples]` theirs for images drawn again with replacement,
    the same ones for all (bootstrap, Efron 1979): by them it is known what images add.
    """
    of_images, seeds = resampled.mean(axis=0), len(values)
    if not np.isfinite(of_images).any():  # no draw has a value, as where each lacks a class that the metric needs
        return Interval(fmean(values), None, None)
    known, shift = float(np.nanvar(of_images)), float(np.nanmean(of_images)) - fmean(values)
    both = float(np.nanvar(resampled - of_images, axis=1).sum()) / (max(1, seeds - 1) * seeds)
    return _of_both(np.array(values), known, both, shift)


def _of_both(of_seeds: np.ndarray, known: float, both: float, shift: float) -> Interval:
    """Return the interval of the mean of seeds, where `known` is the variance that images add to it.

    `both` is the part of it that images add for each seed anew, `shift` how much higher the middle for images is.
    """
    from scipy import special

    mean, seeds, of_new_seeds = float(of_seeds.mean()), len(of_seeds), 0.0
    if seeds > 1:
        taken = 0.05 + min(1.0, both / known if known else 0.0) * (0.7 - 0.55 / (seeds - 1))
        excess = max(0.0, float(of_seeds.var(ddof=1)) / seeds - taken * known)
        of_new_seeds = float(special.stdtrit(seeds - 1, (1 + CONFIDENCE) / 2)) ** 2 * excess
    half = float(special.ndtri((1 + CONFIDENCE) / 2)) * math.sqrt(known)
    return Interval(
        mean,
        mean - math.hypot(max(0.0, half - shift), math.sqrt(of_new_seeds)),
        mean + math.hypot(max(0.0, half + shift), math.sqrt(of_new_seeds)),
    )


def wilson_interval(share: float, number: int) -> tuple[float, float]:
    """Return the 95% interval of a share that was observed in `number` draws (Wilson 1927, score interval).

    >>> [round(bound, 4) for bound in wilson_interval(0.5, 100)]
    [0.4038, 0.5962]
    """
    return _share_interval(round(share * number), number, CONFIDENCE, "wilson")


@lru_cache(maxsize=4096)
def _share_interval(
    right: int, number: int, confidence: float, method: Literal["wilson", "exact"]
) -> tuple[float, float]:
    from scipy import stats

    interval = stats.binomtest(right, number).proportion_ci(confidence, method=method)
    return float(interval.low), float(interval.high)


def selected_interval(share: float, number: int, candidates: int) -> tuple[float, float]:
    """Return an interval that holds the true share of the best of so many candidates in at least 95% of cases.

    Each candidate's exact interval (Clopper & Pearson 1934) has its part of the 5% (Bonferroni), so that those of all
    hold together, whichever is the best and however the candidates depend on each other.

    >>> [round(bound, 4) for bound in selected_interval(0.5, 100, 24)]
    [0.3454, 0.6546]
    """
    confidence = 1 - (1 - CONFIDENCE) / max(1, candidates)
    return _share_interval(round(share * number), number, confidence, "exact")
