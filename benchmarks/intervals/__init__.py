"""How often 95% intervals of finalists hold the truth: planted accuracies, the product's own functions."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from scipy import special

from tuner.common.intervals import Interval, mean_interval, selected_interval
from tuner.runs.events import FinalistsStarted, FinalistTested, FinalistTrained, StudyCreated, TrialStarted
from tuner.runs.finalists import gain_on_test, pack_bits, summarise_finalists
from tuner.runs.state import RunState

Images = Literal["same", "mixed", "own"]
"""Whether images are hard for every seed, for each its own, or half and half: three kinds of crossed variance."""
GAIN = 0.02
APART = 0.6
"""Half the distance of the means of two classes of standard deviation 1."""


class Case(NamedTuple):
    """Two finalists, the first by `GAIN` more accurate on average."""

    images: int
    seeds: int
    deviation: float
    """Standard deviation of the true accuracy from seed to seed."""
    accuracy: float = 0.9
    kind: Images = "mixed"
    ratio: float = 1.0
    """How much more the second one varies."""


class Held(NamedTuple):
    """Shares of the intervals that held the truth."""

    mean: float
    difference: float


def simulate(case: Case, repetitions: int, seed: int = 0) -> Held:
    """Return how often the intervals of a finalist's accuracy, and of the difference of two, held the truth."""
    generator = np.random.default_rng(seed)
    held = np.zeros(2)
    for _ in range(repetitions):
        hardness = special.ndtri(generator.random(case.images))
        state = RunState()
        state.apply(StudyCreated(study="planted", metric="val_accuracy", mode="max", seed=0, max_epochs=1,
                                 specification={}, data={}, environment={}, command=[]))  # fmt: skip
        state.apply(FinalistsStarted(trials=[0, 1], trainings=case.seeds))
        for trial, accuracy in enumerate((case.accuracy, case.accuracy - GAIN)):
            state.apply(TrialStarted(trial=trial, configuration={}, origin="sampler"))
            deviation = case.deviation * (case.ratio if trial else 1)
            for number in range(case.seeds):
                rate = float(np.clip(generator.normal(accuracy, deviation), 0, 1))
                _add(state, trial, number, _answers(case.kind, rate, hardness, generator))
        first = next(one for one in summarise_finalists(state) if one.trial == 0)
        gain = gain_on_test(state, 0, 1)
        assert first.test_accuracy is not None and gain is not None  # noqa: S101  every training was tested
        held += [_holds(first.test_accuracy, case.accuracy), _holds(gain.points, GAIN)]
    return Held(*(held / repetitions))


def _answers(kind: Images, rate: float, hardness: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    own = {"same": 0.0, "mixed": 0.4, "own": 1.0}[kind]
    difficulty = hardness * (1 - own) ** 0.5 + generator.normal(size=len(hardness)) * own**0.5
    right: np.ndarray = difficulty < special.ndtri(rate)
    return right


def _add(state: RunState, trial: int, number: int, correct: np.ndarray) -> None:
    state.apply(FinalistTrained(trial=trial, number=number, status="completed", reason="max_epochs", epochs=1,
                                best=0.5, seconds=1.0))  # fmt: skip
    state.apply(FinalistTested(trial=trial, number=number, images=len(correct), test_loss=1.0,
                               test_accuracy=float(correct.mean()), correct=pack_bits(correct)))  # fmt: skip


def _holds(interval: Interval, truth: float) -> bool:
    return interval.low is not None and interval.high is not None and interval.low <= truth <= interval.high


def simulate_selection(trials: int, images: int, spread: float, repetitions: int, seed: int = 0) -> float:
    """Return how often the interval of the best of many trials holds its true accuracy.

    The trials' true accuracies are around 0.8, with this standard deviation; all answer the same images.
    """
    generator = np.random.default_rng(seed)
    held = 0
    for _ in range(repetitions):
        rates = np.clip(generator.normal(0.8, spread, trials), 0, 1)
        hardness = special.ndtri(generator.random(images))
        right = [_answers("mixed", float(rate), hardness, generator).mean() for rate in rates]
        best = int(np.argmax(right))
        low, high = selected_interval(float(right[best]), images, trials)
        held += low <= rates[best] <= high
    return held / repetitions


class FoldsHeld(NamedTuple):
    """Shares of the intervals over folds that held the truth: as they are, and without what is added for folds."""

    with_addition: float
    without: float


def simulate_folds(images: int, features: int, folds: int, repetitions: int, seed: int = 0) -> FoldsHeld:
    """Return how often the interval over folds held the mean accuracy of classifiers trained on as many new images.

    The classifier is linear, of two Gaussian classes, so that its true accuracy is known.
    """
    generator = np.random.default_rng(seed)
    trained_on = images * (folds - 1) // folds
    truth = float(np.mean([_accuracy(_fitted(*_drawn(trained_on, features, generator))) for _ in range(1000)]))
    held = np.zeros(2)
    for _ in range(repetitions):
        inputs, signs = _drawn(images, features, generator)
        fold = np.empty(images, dtype=int)
        for sign in (-1, 1):
            own = np.flatnonzero(signs == sign)
            fold[generator.permutation(own)] = np.arange(len(own)) % folds
        values = [_share_right(inputs, signs, fold == number) for number in range(folds)]
        held += [_holds(mean_interval(values, folds=known), truth) for known in (folds, 0)]
    return FoldsHeld(*(held / repetitions))


def _drawn(images: int, features: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return `[images, features + 1]`, the last 1, and the classes -1 and 1, which differ in the first feature."""
    signs = np.where(np.arange(images) % 2 == 0, 1.0, -1.0)
    inputs = np.concatenate([generator.normal(size=(images, features)), np.ones((images, 1))], axis=1)
    inputs[:, 0] += APART * signs
    return inputs, signs


def _fitted(inputs: np.ndarray, signs: np.ndarray) -> np.ndarray:
    weights: np.ndarray = np.linalg.lstsq(inputs, signs, rcond=None)[0]
    return weights


def _accuracy(weights: np.ndarray) -> float:
    length = float(np.linalg.norm(weights[:-1]))
    return float(np.mean(special.ndtr((APART * weights[0] + weights[-1] * np.array([-1, 1])) / length)))


def _share_right(inputs: np.ndarray, signs: np.ndarray, is_held: np.ndarray) -> float:
    weights = _fitted(inputs[~is_held], signs[~is_held])
    return float(np.mean((inputs[is_held] @ weights > 0) == (signs[is_held] > 0)))
