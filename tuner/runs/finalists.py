"""Finalists: the best trials, trained again several times, and judged on the test split when all are trained.

They are trained with several seeds or, where the data are parted into folds, on each of these. The value that made a
trial the best of many is partly luck. Trained again it is not: so the winner is the finalist with the best mean on the
validation split, and the test split, which nothing has read before, says how good it is.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import NamedTuple

import numpy as np

from tuner.common.intervals import (
    Interval,
    crossed_interval,
    images_interval,
    mean_interval,
    resampled_interval,
    wilson_interval,
)
from tuner.common.metrics import ACCURACY, LOSS, VALIDATION, metric_of, oriented
from tuner.common.seeds import derive_seed
from tuner.runs.events import Configuration, FinalistTested, Tested
from tuner.runs.pareto import front_finalists, metrics_of
from tuner.runs.state import FinalistState, RunState

TIME_BUDGET = "time_budget"
"""The reason of a training that was cut for want of time: with more of it, it goes on."""


class FinalistTraining(NamedTuple):
    """One training of a finalist."""

    trial: int
    number: int
    configuration: Configuration
    folds: int = 0
    """The folds of the data, of which `number` is one; 0: it is the number of a seed."""

    @property
    def fold(self) -> int:
        """The fold that it validates on."""
        return self.number if self.folds else 0


class Difference(NamedTuple):
    """The advantage of a finalist over another on the test split, in the metric that `judged_by` names."""

    points: Interval
    """In shares, not points, or in units of the metric; positive is better. No bounds, and so no verdict, for fewer
    than two trainings."""
    trainings: int
    """Seeds or folds with which both were trained and tested."""


class Finalist(NamedTuple):
    """The results of the trainings of one finalist."""

    trial: int
    trained: int
    failed: int
    validation: Interval
    """The study's metric, over seeds, or over folds, each with its own validation part."""
    deviation: float | None
    """Standard deviation of the metric from seed to seed, or from fold to fold; None with fewer than two."""
    test: Interval | None
    """The metric that `judged_by` names, on the test split: for new trainings and new images, with one training for new
    images; None before the test split was read."""
    test_accuracy: Interval | None
    """The same of the accuracy."""
    tested: int
    """Trainings that were tested."""
    model: int | None
    """The number of the one training whose model is exported."""
    model_test: Interval | None
    """Its value on the test split, for new images."""
    test_loss: float | None
    groups: int = 0
    """Groups of the test images, of which intervals are for new ones; 0: each image stands for itself."""


NOT_TESTED = "the finalists are not tested: "
"""Begins the notice of finalists that the test split says nothing of; the reason follows."""


def not_tested(state: RunState) -> str:
    """Return why no finalist can be judged on the test split, as the record says it; empty: they can."""
    found = next((text for text in state.notices if text.startswith(NOT_TESTED)), "")
    return "" if any(one.tested for one in state.finalists.values()) else found.removeprefix(NOT_TESTED)


def finalist_trials(state: RunState, count: int) -> tuple[int, ...]:
    """Return the best `count` trials, followed by the baseline if it is none of them: the gain is over it.

    With several metrics the best by the first, then those of the Pareto front, as `pareto.front_finalists` chooses
    them; where the front has fewer, the best of the others.
    """
    scored = [
        (-oriented(trial.best, state.mode), trial.number)
        for trial in state.trials.values()
        if trial.best is not None and math.isfinite(trial.best) and trial.status != "failed"
    ]
    ranked = [number for _, number in sorted(scored)]
    of_front = front_finalists(state, count) if len(metrics_of(state)) > 1 else ()
    best = list(dict.fromkeys([*ranked[:1], *of_front, *ranked]))[:count]
    known = {number for _, number in scored}
    baseline = [
        trial.number
        for trial in state.trials.values()
        if trial.is_baseline and trial.number in known and trial.number not in best
    ]
    return tuple(best + baseline) if best else ()


def with_earlier_finalists(state: RunState, chosen: Sequence[int]) -> tuple[int, ...]:
    """Return the finalists that were chosen, and those of earlier sessions that have a value, before the baseline.

    What has been trained again stays in the comparison, whatever later trials have shown once.
    """
    with_value = {trial for trial, _ in state.finalists if best_training(state, trial) is not None}
    ranked = finalist_trials(state, len(state.trials))
    earlier = [trial for trial in ranked if trial in with_value and trial not in chosen]
    baseline = [trial for trial in chosen[-1:] if state.trials[trial].is_baseline]
    return (*chosen[: len(chosen) - len(baseline)], *earlier, *baseline)


def remaining_trainings(state: RunState, trials: Sequence[int], trainings_each: int) -> list[FinalistTraining]:
    """Return the trainings that are left, by number: if interrupted, all finalists have about as many.

    Those that were cut are among them.
    """
    return [
        training_of(state, trial, number)
        for number in range(trainings_each)
        for trial in trials
        if (trial, number) not in state.finalists or epochs_of_cut(state, trial, number)
    ]


def epochs_of_cut(state: RunState, trial: int, number: int) -> int:
    """Return the epochs that a training has had, if it was cut for want of time; 0: it has not begun, or is done."""
    known = state.finalists.get((trial, number))
    return known.trained.epochs if known is not None and known.trained.reason == TIME_BUDGET else 0


def training_of(state: RunState, trial: int, number: int) -> FinalistTraining:
    """Return a training of a finalist, once it is known what the numbers of trainings are."""
    return FinalistTraining(trial, number, dict(state.trials[trial].configuration), state.folds)


def finalist_seed(study_seed: int, number: int) -> int:
    """Return the seed of a training, the same for all finalists, and another than any trial's, on folds too."""
    return derive_seed(study_seed, "finalist", number)


def pack_bits(correct: np.ndarray) -> str:
    """Return `[N] bool` as text for the record.

    >>> unpack_bits(pack_bits(np.array([True, False, True])), 3).tolist()
    [True, False, True]
    """
    return base64.b64encode(np.packbits(correct).tobytes()).decode("ascii")


def pack_floats(values: np.ndarray) -> str:
    """Return numbers as text for the record, in float32.

    >>> unpack_floats(pack_floats(np.array([0.5, -1.0]))).tolist()
    [0.5, -1.0]
    """
    return base64.b64encode(values.astype("<f4").tobytes()).decode("ascii")


def unpack_floats(text: str) -> np.ndarray:
    """Return the numbers that `pack_floats` was given, as float64."""
    return np.frombuffer(base64.b64decode(text), dtype="<f4").astype(np.float64)


def unpack_bits(text: str, number: int) -> np.ndarray:
    """Return the `[N] bool` that `pack_bits` was given."""
    return np.unpackbits(np.frombuffer(base64.b64decode(text), dtype=np.uint8), count=number).astype(bool)


def summarise_finalists(state: RunState) -> tuple[Finalist, ...]:
    """Return all finalists with a value, the best mean on the validation split first.

    Folds are not equally hard, so one that lacks a fold stands behind those that have more.
    """
    started = state.finalists_started
    if started is None:
        return ()
    found = [one for one in (_summarise(state, trial) for trial in started.trials) if one is not None]
    lacking = {one.trial: state.folds - one.trained if state.folds else 0 for one in found}
    return tuple(
        sorted(found, key=lambda one: (lacking[one.trial], -oriented(one.validation.mean, state.mode), one.trial))
    )


def _trainings_of(state: RunState, trial: int) -> list[FinalistState]:
    return [finalist for (number, _), finalist in sorted(state.finalists.items()) if number == trial]


def _summarise(state: RunState, trial: int) -> Finalist | None:
    own = _trainings_of(state, trial)
    done = [one.trained.best for one in own if one.trained.status == "completed"]
    values = [value for value in done if value is not None and math.isfinite(value)]
    if not values:
        return None
    tested, exported, judge = _tested(state, trial), best_training(state, trial), judged_by(state)
    model = tested.get(exported or 0)
    return Finalist(
        trial=trial,
        trained=len(values),
        failed=len(own) - len(values),
        validation=_clipped(mean_interval(values, folds=state.folds), state.metric),
        deviation=stdev(values) if len(values) > 1 else None,
        test=_test_interval(list(tested.values()), judge) if tested else None,
        test_accuracy=_test_interval(list(tested.values()), ACCURACY) if tested else None,
        tested=len(tested),
        model=exported,
        model_test=_test_interval([model], judge) if model is not None else None,
        test_loss=fmean(test.test_loss for test in tested.values()) if tested else None,
        groups=max((test.groups for test in tested.values()), default=0),
    )


def _clipped(interval: Interval, metric: str) -> Interval:
    """Return an interval cut to what the metric can be: a share 0 to 1, a loss 0 or more; any other's as it is."""
    is_share = metric_of(metric).unit == "share"
    is_loss = metric.removeprefix(VALIDATION) == LOSS and interval.mean >= 0
    if not (is_share or is_loss) or interval.low is None or interval.high is None:
        return interval
    return Interval(interval.mean, max(0.0, interval.low), min(1.0, interval.high) if is_share else interval.high)


def best_training(state: RunState, trial: int) -> int | None:
    """Return the number of the training with the best validation value (the first of equals): its model is exported.

    On folds the values are of different images, so that it is as much the easiest fold's as the best.
    """
    done = [
        (-oriented(one.trained.best, state.mode), number)
        for (own, number), one in state.finalists.items()
        if own == trial and one.trained.status == "completed"
        and one.trained.best is not None and math.isfinite(one.trained.best)
    ]  # fmt: skip
    return min(done)[1] if done else None


def judged_by(state: RunState) -> str:
    """Return the metric by which finalists are judged on the test split, without `val_`.

    It is the study's; in records of earlier versions, which hold the accuracy alone, that one.
    """
    tests = [one.tested for one in state.finalists.values() if one.tested is not None]
    return state.metric.removeprefix(VALIDATION) if all(one.resampled for one in tests) else ACCURACY


def value_on_test(test: Tested, metric: str) -> float | None:
    """Return a value on the test split, of a metric without `val_`; None where it is not known."""
    return {ACCURACY: test.test_accuracy, LOSS: test.test_loss}.get(metric, test.metrics.get(metric))


def _value(test: Tested, metric: str) -> float:
    value = value_on_test(test, metric)
    return math.nan if value is None else value


def _test_interval(tested: Sequence[Tested], metric: str) -> Interval:
    """Return the interval of a metric for new images, and for new trainings if there are several."""
    if (drawn := _drawn(tested, metric)) is not None:
        return _clipped(resampled_interval([_value(one, metric) for one in tested], drawn), metric)
    if len(tested) == 1:
        share = tested[0].test_accuracy
        return Interval(share, *wilson_interval(share, tested[0].images))
    # Two right and two wrong ones more (Agresti and Coull 1998): no images were wrong is not that none will be.
    return _clipped(crossed_interval(np.stack([_answers(one) for one in tested]), [0, 0, 1, 1]), metric)


def _drawn(tested: Sequence[Tested], metric: str) -> np.ndarray | None:
    """Return a metric's values for test images drawn again, `[tests, draws]`; None for an accuracy that has a formula.

    It has none where images are of groups: their answers hang together.
    """
    texts = [one.accuracy_resampled if metric == ACCURACY else one.resampled for one in tested]
    return None if metric == ACCURACY and not all(texts) else np.stack([unpack_floats(text) for text in texts])


def gain_on_test(state: RunState, trial: int, other: int) -> Difference | None:
    """Return how much better a finalist is than another on the test images, for new trainings and new images.

    Both had the same images, seeds and folds, so what is hard for both cancels out. None before the test.
    """
    ours, theirs, metric = _tested(state, trial), _tested(state, other), judged_by(state)
    if not ours or not theirs:
        return None
    shared = sorted(set(ours) & set(theirs))
    if len(shared) < 2:
        pairs = [(ours[number], theirs[number]) for number in shared]
        mine, other_ones = zip(*pairs, strict=True) if pairs else (list(ours.values()), list(theirs.values()))
        means = [fmean(_value(one, metric) for one in tests) for tests in (mine, other_ones)]
        return Difference(Interval(oriented(means[0] - means[1], metric_of(metric).mode), None, None), len(shared))
    return Difference(_advantage([ours[one] for one in shared], [theirs[one] for one in shared], metric), len(shared))


def gain_over_guess(state: RunState, trial: int) -> Interval | None:
    """Return how much better a finalist is on the test images than a guess that looks at none; None where unknown.

    For new trainings and new images; with one training, for new images alone.
    """
    ours, guess = list(_tested(state, trial).values()), state.guess_tested
    if not ours or guess is None:
        return None
    return _advantage(ours, [guess] * len(ours), judged_by(state))


def _advantage(ours: Sequence[Tested], theirs: Sequence[Tested], metric: str) -> Interval:
    """Return the interval of the mean advantage of tests over others, one by one; positive is better.

    With one test it is for new images alone. That of a share ends where ours would be 0 or 1.
    """
    return _possible(_unlimited_advantage(ours, theirs, metric), _test_interval(theirs, metric), metric)


def _possible(advantage: Interval, theirs: Interval, metric: str) -> Interval:
    """Return an advantage over a share cut to what is possible, as far as it is known how high that share is."""
    mean, low, high = advantage
    if metric_of(metric).unit != "share" or low is None or high is None or theirs.low is None or theirs.high is None:
        return advantage
    is_max = metric_of(metric).mode == "max"
    fewest, most = (-theirs.high, 1 - theirs.low) if is_max else (theirs.low - 1, theirs.high)
    return Interval(mean, max(low, fewest), min(high, most))


def _unlimited_advantage(ours: Sequence[Tested], theirs: Sequence[Tested], metric: str) -> Interval:
    sign = oriented(1.0, metric_of(metric).mode)
    pairs = list(zip(ours, theirs, strict=True))
    mine, other_ones = _drawn(ours, metric), _drawn(theirs, metric)
    if mine is not None and other_ones is not None:
        values = np.array([sign * (_value(one, metric) - _value(other, metric)) for one, other in pairs])
        drawn = sign * (mine - other_ones)
        if not np.isfinite(drawn).any(axis=1).all():  # no draw has a value of both
            return Interval(float(values.mean()), None, None)
        # What was added to images that were drawn is the same for both, and makes their difference too small.
        return resampled_interval(values.tolist(), drawn + (values - np.nanmean(drawn, axis=1))[:, None])
    table = np.stack([_answers(one) - _answers(other) for one, other in pairs])
    # One image more for each of the two, after Agresti and Min (2005): few images on which they differ show no spread.
    return crossed_interval(table, [-1, 1]) if len(table) > 1 else images_interval(table[0], [-1, 1])


def _tested(state: RunState, trial: int) -> dict[int, FinalistTested]:
    """Return the tests of a finalist by the number of the training."""
    return {one.tested.number: one.tested for one in _trainings_of(state, trial) if one.tested is not None}


def _answers(test: Tested) -> np.ndarray:
    """Return `[images] float64`, 1 where the finalist was right."""
    return unpack_bits(test.correct, test.images).astype(np.float64)
