"""The gain that a search can be expected to make if it goes on: a number, and an interval around it. Pure.

The gain of the time from now to `1 + r` times it is taken to have a logistic distribution that is cut off at none:
`P(gain <= g) = 1 / (1 + rate * exp(-g / scale))`. That is exact, with a rate of `r`, where the values to come are like
those so far and have an exponential tail. Here samplers learn, trials train on and values have a bound, so the rate is
`RATE * r ** RATE_POWER`, and the scale, of what the best value gained lately and of how far apart the best trials are,
grows with `r ** SCALE_POWER`. The constants were chosen on simulated searches and judged on others
(`python -m benchmarks.expected_gain`; benchmarks/LOG.md).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

from tuner.common.metrics import Mode, metric_of, oriented
from tuner.runs.epoch import Epoch
from tuner.runs.state import RunState, moment_outside, seconds_outside

RATE, RATE_POWER, SCALE_POWER = 2.25, 0.66, 0.26
LATELY, APART = 0.051, 0.154
"""Weights of the scale: of the gain since a quarter of the time so far, and of how far apart the best trials are."""
SHORTER = 0.79
"""The mean is so much smaller than that of the distribution, whose upper end is too long for values with a bound."""
HORIZONS_S = {"10 min": 600.0, "hour": 3600.0}
"""The times of which people are told what another one gains."""
FEWEST_TRIALS = 5
"""With fewer values nothing can be said."""
FARTHEST = 4.0
"""Nothing is said of a time that is longer than so many times what the search has run."""
SPLIT, OUTSIDE = 0.1, 0.2
"""Chance of each side of an interval, and of both: of 80% of all cases."""


class ExpectedGain(NamedTuple):
    """The expected gain of the best value, never below 0, and the interval that holds 80% of what may come."""

    mean: float
    low: float
    high: float


class Signs(NamedTuple):
    """The course of a search, as far as a forecast goes by it; of values, the larger is better."""

    ran_s: float
    """Since its first trial began, without finalists, after which it may have gone on."""
    lately: float
    """Gain of the best value since a quarter of that."""
    apart: float
    """Mean distance of the best trials from the first that is not one of them; above 0, if any trials differ."""
    most: float
    """The gain with which the metric is as good as it can be."""


def expected_gain(state: RunState, horizon_s: float) -> ExpectedGain | None:
    """Return what the best value of the metric gains in so many more seconds; None: it is not known, or not yet.

    It is taken for granted that the search goes on as so far: trials do not run out, no value is new in kind. Several
    metrics have no best value.
    """
    signs = signs_of(state)
    if signs is None or not 0 < horizon_s <= FARTHEST * signs.ran_s:
        return None
    ratio = horizon_s / signs.ran_s
    scale = (LATELY * signs.lately + APART * signs.apart) * ratio**SCALE_POWER
    if not scale and signs.most:
        return None  # all trials are alike, say at the share of the largest class: nothing tells what others reach
    gain = distributed(RATE * ratio**RATE_POWER, scale)
    return ExpectedGain(*(min(signs.most, value) for value in gain._replace(mean=SHORTER * gain.mean)))


def is_gain_below(state: RunState, below: float, within_s: float) -> bool:
    """Return whether a search that has run for so many seconds is expected to gain less in so many more."""
    signs, gain = signs_of(state), expected_gain(state, within_s)
    return signs is not None and gain is not None and signs.ran_s >= within_s and gain.mean < below


def signs_of(state: RunState) -> Signs | None:
    """Return the course of a search so far; None where there is too little of it, or nothing to be said."""
    if state.study is not None and len(state.study.all_metrics) > 1:
        return None
    trials = [trial for trial in state.trials.values() if trial.epochs and trial.status != "failed"]
    if len(trials) < FEWEST_TRIALS:
        return None
    began_s = min(trial.started_s for trial in state.trials.values())
    ran_s = seconds_outside(state.finalists_spans, _now_s(state)) - began_s
    values = sorted((oriented(trial.epochs[-1].best_so_far, state.mode) for trial in trials), reverse=True)
    if ran_s <= 0 or not all(map(math.isfinite, values)):
        return None
    curves = [trial.epochs for trial in trials]
    quarter = _best_at(curves, moment_outside(state.finalists_spans, began_s + ran_s / 4), state.mode)
    lately = 0.0 if quarter is None else values[0] - quarter
    return Signs(ran_s, lately, _distance(values), _most(state, values[0]))


def _now_s(state: RunState) -> float:
    """Return the moment up to which trials were trained."""
    ended_s = state.finalists_from_s
    return state.elapsed_s if ended_s is None or state.with_status("running") else ended_s


def _best_at(curves: Sequence[Sequence[Epoch]], moment_s: float, mode: Mode) -> float | None:
    """Return the best value at a moment, larger is better; None before the first epoch."""
    ended = [curve[_epochs_until(curve, moment_s) - 1] for curve in curves if curve[0].elapsed_s <= moment_s]
    return max((oriented(epoch.best_so_far, mode) for epoch in ended), default=None)


def _epochs_until(curve: Sequence[Epoch], moment_s: float) -> int:
    if curve[-1].elapsed_s <= moment_s:  # most of them, and that is quicker
        return len(curve)
    return bisect_right(curve, moment_s, key=lambda epoch: epoch.elapsed_s)


def _distance(values: Sequence[float]) -> float:
    """Return the mean distance of the best values, the root of their number, from the next one.

    Shares of few images are often equal: they differ by half of the smallest step that was seen, if by nothing else.
    """
    number = min(len(values) - 1, math.ceil(math.sqrt(len(values))))
    steps = [value - other for value, other in pairwise(values) if value > other]
    mean = sum(value - values[number] for value in values[:number]) / number
    return max(mean, min(steps, default=0.0) / 2)


def distributed(rate: float, scale: float) -> ExpectedGain:
    """Return the mean and the shortest interval of a logistic distribution that is cut off at 0.

    >>> [round(value, 3) for value in distributed(1.0, 1.0)]
    [0.693, 0.0, 1.386]
    >>> [round(value, 3) for value in distributed(90.0, 1.0)]
    [4.511, 2.303, 6.697]
    """
    is_open = 1 / (1 + rate) < SPLIT  # below: where nothing is likelier than that, it belongs to the interval
    upper = SPLIT if is_open else OUTSIDE
    high = max(0.0, scale * math.log(rate * (1 - upper) / upper))
    return ExpectedGain(
        scale * math.log1p(rate), scale * math.log(rate * SPLIT / (1 - SPLIT)) if is_open else 0.0, high
    )


def _most(state: RunState, best: float) -> float:
    """Return the gain with which the metric is as good as it can be; `best`, larger is better."""
    if metric_of(state.metric).unit != "share":
        return math.inf
    return max(0.0, 1.0 - best if state.mode == "max" else -best)
