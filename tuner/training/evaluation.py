"""Evaluation of a trained model: probabilities, values of them, and the part of them that a report shows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tuner.common.files import replacing
from tuner.common.intervals import CONFIDENCE
from tuner.common.metrics import ACCURACY, LOSS, VALIDATION, Metric, asked_values, metric_of
from tuner.datasets.loading import Split
from tuner.runs.finalists import pack_bits, pack_floats
from tuner.runs.forecast import resamples
from tuner.training.failures import attempt

BATCH_SIZE = 256
TOP = 5
SHOWN = 24
"""Images of each kind that are kept to be shown."""


def predict_probabilities(model: Any, split: Split, batch_size: int = BATCH_SIZE) -> np.ndarray:
    """Return the probability of each class for each image of a split, `[N, K] float32`."""
    found = []
    for start in range(0, len(split), batch_size):
        images, _ = split.batch(np.arange(start, min(start + batch_size, len(split))))
        found.append(np.asarray(model.predict_on_batch(images), dtype=np.float32))
    return np.concatenate(found)


def measure(names: Iterable[str], labels: np.ndarray, probabilities: np.ndarray) -> dict[str, float]:
    """Return values of predictions by their names, of all images at once; not a number where a probability is none."""
    return _measured(names, labels, probabilities, _value)


def _measured(
    names: Iterable[str], labels: np.ndarray, probabilities: np.ndarray, value: Callable[..., float]
) -> dict[str, float]:
    if not np.isfinite(probabilities).all():
        return dict.fromkeys(names, math.nan)
    return {name: value(metric_of(name), labels, probabilities) for name in names}


def _value(metric: Metric, labels: np.ndarray, probabilities: np.ndarray) -> float:
    if metric.measure is not None:
        return float(metric.measure(labels, probabilities))
    from tuner.models.losses import keras_metric

    of_keras = keras_metric(str(metric.keras))
    of_keras.update_state(np.eye(probabilities.shape[1], dtype=np.float32)[labels], probabilities)
    return float(of_keras.result())


def _value_if_any(metric: Metric, labels: np.ndarray, probabilities: np.ndarray) -> float:
    """Return the value of a metric; not a number where own code fails, as it may where a class has no image."""
    value, _ = attempt(lambda: _value(metric, labels, probabilities))
    return math.nan if value is None else value


def judgement(
    metrics: Sequence[str], labels: np.ndarray, probabilities: np.ndarray, units: np.ndarray | None = None
) -> dict[str, Any]:
    """Return what the record keeps of predictions for the test split, by the names of `events.Tested`.

    `metrics` are the study's; what is drawn again is the first one. Images of a group have the same of the `units`
    `[N] int64`.
    """
    units = units if units is not None and len(np.unique(units)) > 1 else None
    is_told = np.isfinite(probabilities).all(axis=1)  # the first class is the largest where none is a number
    correct = is_told & (probabilities.argmax(axis=1) == labels)
    first = metrics[0].removeprefix(VALIDATION)
    return {
        "images": len(labels),
        "test_accuracy": float(correct.mean()),
        "test_loss": measure([LOSS], labels, probabilities)[LOSS],
        "correct": pack_bits(correct),
        "metrics": _measured(
            [one.removeprefix(VALIDATION) for one in asked_values(metrics)], labels, probabilities, _value_if_any
        ),
        "resampled": "" if first == ACCURACY else pack_floats(resample(first, labels, probabilities, units)),
        "groups": 0 if units is None else len(np.unique(units)),
        "accuracy_resampled": "" if units is None else pack_floats(resample_accuracy(correct, units)),
    }


def resample_accuracy(correct: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Return the accuracy for groups of images drawn again; two right and two wrong ones more are among them."""
    answers = np.concatenate([correct, [True, True, False, False]]).astype(np.float64)
    drawn = _draws(len(correct), _with_four_units_more(units), resamples(len(correct)))
    return _widened(np.array([answers[one].mean() for one in drawn]), units)


def _draws(images: int, units: np.ndarray | None, number: int) -> Iterator[np.ndarray]:
    """Yield rows drawn again with replacement: images, or whole units of them (`[images] int64`)."""
    generator = np.random.default_rng(0)
    if units is None:
        yield from (generator.integers(0, images, images) for _ in range(number))
        return
    numbered = np.unique(units, return_inverse=True)[1]
    count = int(numbered.max()) + 1
    for _ in range(number):
        times = np.bincount(generator.integers(0, count, count), minlength=count)
        yield np.repeat(np.arange(len(numbered)), times[numbered])


def _with_four_units_more(units: np.ndarray) -> np.ndarray:
    return np.concatenate([units, units.max() + 1 + np.arange(4)])


def _widened(values: np.ndarray, units: np.ndarray | None) -> np.ndarray:
    """Return values of draws as far from their mean as so few units ask for (Student's t): they are too alike."""
    if units is None:
        return values
    from scipy import special

    units_drawn, upper = len(np.unique(units)), (1 + CONFIDENCE) / 2
    wider = special.stdtrit(units_drawn - 1, upper) / special.ndtri(upper) * math.sqrt(units_drawn / (units_drawn - 1))
    middle = np.nanmean(values) if np.isfinite(values).any() else math.nan
    widened: np.ndarray = middle + wider * (values - middle)
    return widened


def resample(metric: str, labels: np.ndarray, probabilities: np.ndarray, units: np.ndarray | None = None) -> np.ndarray:
    """Return the metric's values for images drawn again with replacement, the same ones for the same labels.

    With `units` `[N] int64`, whole units are drawn: images of a group are alike, and say less than as many others.
    Where it counts answers, among them are two right and two wrong ones more of the rarest class (after Agresti and
    Coull 1998): that its few images were all right is not that none will be wrong. Anything else has them where it
    would show no spread at all.
    """
    entry, number = metric_of(metric), resamples(probabilities.size)

    def drawn(labels: np.ndarray, probabilities: np.ndarray, units: np.ndarray | None) -> np.ndarray:
        places = _draws(len(labels), units, number)
        return np.array([_value_if_any(entry, labels[one], probabilities[one]) for one in places])

    if not np.isfinite(probabilities).all():
        return np.full(number, math.nan)
    values = np.zeros(1) if entry.counts_answers else drawn(labels, probabilities, units)
    known = values[np.isfinite(values)]  # images of one class alone have no AUC
    if not len(known) or np.ptp(known) <= 1e-9:
        more = None if units is None else _with_four_units_more(units)
        values = drawn(*_with_four_more(labels, probabilities), more)
    return _widened(values, units)


def _with_four_more(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the predictions with two right and two wrong ones more of the rarest class that has images."""
    counts = np.bincount(labels, minlength=probabilities.shape[1])
    rarest = int(np.where(counts > 0, counts, len(labels) + 1).argmin())
    right = np.arange(len(counts)) == rarest
    wrong = ~right / max(1, len(counts) - 1)
    more = np.stack([right, right, wrong, wrong]).astype(probabilities.dtype)
    return np.concatenate([labels, np.full(4, rarest)]), np.concatenate([probabilities, more])


def guess(train: Split, test: Split, num_classes: int) -> tuple[int, np.ndarray]:
    """Return the largest class of the training images, and their shares of classes as probabilities of test images."""
    counts = np.bincount(train.labels, minlength=num_classes)
    return int(counts.argmax()), np.tile((counts / counts.sum()).astype(np.float32), (len(test), 1))


def choose_shown(labels: np.ndarray, probabilities: np.ndarray, number: int = SHOWN) -> np.ndarray:
    """Return the rows to show, `[S] int64`: the most confident mistakes, and random ones from right and wrong."""
    predicted, confidence = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    right = np.flatnonzero(predicted == labels)
    confident = wrong[np.argsort(-confidence[wrong], kind="stable")][:number]
    generator = np.random.default_rng(0)
    drawn = [generator.permutation(rows)[:number] for rows in (right, np.setdiff1d(wrong, confident))]
    return np.concatenate([confident, *drawn]).astype(np.int64)


def save_predictions(path: Path, of: tuple[int, int], probabilities: np.ndarray, split: Split) -> None:
    """Write the part of a model's predictions that a report shows; `of` are the finalist and its seed."""
    top = np.argsort(-probabilities, axis=1, kind="stable")[:, :TOP]
    rows = choose_shown(split.labels, probabilities)
    with replacing(path) as aside, aside.open("wb") as file:
        np.savez_compressed(
            file,
            of=np.array(of),
            labels=split.labels,
            classes=top,
            probabilities=np.take_along_axis(probabilities, top, axis=1),
            rows=rows,
            images=split.batch(rows)[0],
        )
