"""Metrics of trials: their names and units, which of two values is better, and several metrics at once. Pure.

`METRICS` has one entry for each thing that is measured. What Keras measures has a value of the training images, under
the entry's name, and one of the validation images, under `val_` and the name; only the latter can be optimised. What
has a function of predictions alone is measured of the validation images, where a study asks for it. All other entries
are facts of a trial, known after its first epoch.

Points of several metrics are arrays `[n, metrics] float` in which larger is better throughout (`oriented_points`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tuner.common import _measures
from tuner.common.registry import Registry

Mode = Literal["max", "min"]
"""Whether the largest or the smallest value is the best."""
Unit = Literal["share", "number", "count", "ms", "MB"]
"""Forms of shown values: in percent, with four decimals, as a whole number, seconds as milliseconds, in MB."""
VALIDATION = "val_"
"""Begins the name of a value of the validation images."""
ACCURACY, LOSS = "accuracy", "loss"
DEFAULT_METRIC = "val_accuracy"


Measure = Callable[[np.ndarray, np.ndarray], float]


@dataclass(frozen=True)
class Metric:
    """One thing that trials are measured by."""

    mode: Mode
    words: str
    """Its name for people."""
    unit: Unit = "number"
    keras: str | None = None
    """Keras's name of a metric that it measures in every epoch, or the loss; None: Keras does not measure it.
    Labels are one row per image with a share for each class, so that it must be a metric of that kind."""
    measure: Measure | None = None
    """Its value of labels `[N] int64` and probabilities `[N, K] float32`, of all images of a split at once."""
    least_classes: int = 2
    """The fewest classes of data with which it says anything."""
    least_present: int = 1
    """The fewest classes that must have images."""
    counts_answers: bool = False
    """Whether it counts right and wrong answers, so that a few right ones alone may show no spread."""


METRICS: Registry[Metric] = Registry("metric", "tuner.metrics")
METRICS.add("accuracy", Metric("max", "accuracy", "share", "categorical_accuracy", _measures.accuracy))
METRICS.add("loss", Metric("min", "loss", keras=LOSS, measure=_measures.cross_entropy))
METRICS.add(
    "balanced_accuracy",
    Metric("max", "balanced accuracy", "share", measure=_measures.balanced_accuracy, counts_answers=True),
)
METRICS.add("macro_f1", Metric("max", "macro F1", "share", measure=_measures.macro_f1, counts_answers=True))
METRICS.add("auc", Metric("max", "AUC", "share", measure=_measures.auc, least_present=2))
METRICS.add(
    "top5_accuracy",
    Metric("max", "top-5 accuracy", "share", measure=_measures.top5_accuracy, least_classes=6, counts_answers=True),
)
METRICS.add("parameters", Metric("min", "parameters", "count"))
METRICS.add("seconds_per_image", Metric("min", "inference time", "ms"))
METRICS.add("model_mb", Metric("min", "model size", "MB"))


def metric_of(name: str) -> Metric:
    """Return the entry of a value's name; raises UnknownNameError where there is none.

    >>> metric_of("val_loss").mode, metric_of("loss").mode, metric_of("model_mb").unit
    ('min', 'min', 'MB')
    """
    return METRICS[name.removeprefix(VALIDATION)]


def short_number(value: float) -> str:
    """Return a number for people: three significant digits, and of a large one all before its point, no power of ten.

    >>> short_number(0.001234), short_number(12.345), short_number(999.7), short_number(1250.0), short_number(-2e6)
    ('0.00123', '12.3', '1,000', '1,250', '-2,000,000')
    """
    return f"{value:,.0f}" if 999.5 <= abs(value) < 1e15 else f"{value:.3g}"


def epoch_values(metrics: Iterable[str] = ()) -> tuple[str, ...]:
    """Return the names of all that is measured in every epoch of a study for these metrics, the loss first.

    >>> epoch_values(["val_auc", "parameters"])
    ('loss', 'accuracy', 'val_loss', 'val_accuracy', 'val_auc')
    """
    names = sorted(_measured_by_keras(), key=lambda name: METRICS[name].keras != LOSS)
    return (*names, *(VALIDATION + name for name in names), *asked_values(metrics))


def asked_values(metrics: Iterable[str]) -> tuple[str, ...]:
    """Return those of a study's metrics that are measured in every epoch because it asks for them.

    >>> asked_values(["val_auc", "val_loss", "parameters"])
    ('val_auc',)
    """
    known = epoch_objectives()
    return tuple(name for name in dict.fromkeys(metrics) if name in known and metric_of(name).keras is None)


def epoch_objectives() -> tuple[str, ...]:
    """Return what can be optimised and is measured in every epoch: what schedulers can compare.

    >>> epoch_objectives()[:3]
    ('val_accuracy', 'val_loss', 'val_balanced_accuracy')
    """
    return tuple(VALIDATION + name for name in METRICS if name not in facts())


def objectives() -> tuple[str, ...]:
    """Return all that can be optimised.

    >>> objectives()[-4:]
    ('val_top5_accuracy', 'parameters', 'seconds_per_image', 'model_mb')
    """
    return (*epoch_objectives(), *facts())


def facts() -> tuple[str, ...]:
    """Return what a trial's network is measured by once, after its first epoch.

    >>> facts()
    ('parameters', 'seconds_per_image', 'model_mb')
    """
    return tuple(name for name in METRICS if METRICS[name].keras is None and METRICS[name].measure is None)


def _measured_by_keras() -> list[str]:
    return [name for name in METRICS if METRICS[name].keras is not None]


def oriented(value: float, mode: Mode) -> float:
    """Return the value, with the other sign where less is better: of the results, the larger is the better one.

    >>> oriented(0.5, "max"), oriented(0.5, "min")
    (0.5, -0.5)
    """
    return value * (1.0 if mode == "max" else -1.0)  # of a whole number, too, a float: it is compared with infinity


def is_better(value: float, than: float, mode: Mode) -> bool:
    """Return whether a value is better than another; one that is not a number never is.

    >>> is_better(0.2, 0.1, "max"), is_better(0.2, 0.1, "min"), is_better(0.1, 0.1, "max")
    (True, False, False)
    """
    return oriented(value, mode) > oriented(than, mode)


SUM_WEIGHT = 0.05
"""Weight of the sum in the augmented Chebyshev scalarisation, as in ParEGO (Knowles 2006)."""


def oriented_points(points: np.ndarray, metrics: Sequence[str]) -> np.ndarray:
    """Return values of metrics, float [n, metrics], those to be minimised with the other sign."""
    signs = np.array([oriented(1.0, metric_of(metric).mode) for metric in metrics])
    turned: np.ndarray = points.reshape(-1, len(metrics)) * signs
    return turned


def front(points: np.ndarray) -> np.ndarray:
    """Return the indices, int [f], of the points that no other dominates, the best in the first metric first.

    Equal points are all on the front, or none of them is.

    >>> front(np.array([[1.0, 3.0], [2.0, 2.0], [1.0, 2.0], [3.0, 0.0]])).tolist()
    [3, 1, 0]
    """
    order = np.lexsort([np.arange(len(points)), *-points.T[::-1]])
    kept: list[int] = []
    for place in order:  # what comes later is not better in the first column that differs, so it dominates no earlier
        rivals = points[kept]
        if not ((rivals >= points[place]).all(axis=1) & (rivals > points[place]).any(axis=1)).any():
            kept.append(int(place))
    return np.array(kept, dtype=int)


def hypervolume(points: np.ndarray, reference: np.ndarray) -> float:
    """Return the volume that the points dominate above `reference`, float [metrics]; 0 without a point above it.

    Each point adds what it dominates and those after it do not (While, Bradstreet & Barone 2012, WFG).

    >>> hypervolume(np.array([[2.0, 1.0], [1.0, 3.0]]), np.zeros(2))
    4.0
    """
    above = points[(points > reference).all(axis=1)]
    return _volume(above[front(above)] - reference) if len(above) else 0.0


def _volume(points: np.ndarray) -> float:
    """Return the volume between 0 and points above 0 of which none dominates another."""
    if points.shape[1] == 1:
        return float(points.max())
    if points.shape[1] == 2:  # the first column descends
        heights = np.maximum.accumulate(points[:, 1])
        return float((points[:, 0] * np.diff(heights, prepend=0.0)).sum())
    total = 0.0
    for place, point in enumerate(points):
        limited = np.minimum(points[place + 1 :], point)
        total += float(point.prod()) - (_volume(limited[front(limited)]) if len(limited) else 0.0)
    return total


def shares_beaten(points: np.ndarray) -> np.ndarray:
    """Return for each metric the share of all points to which a point is at least equal, float [n, metrics].

    Neither units nor outliers matter to it.

    >>> shares_beaten(np.array([[0.9, -4e6], [0.8, -1e3], [0.8, -2e3], [0.1, -1e9]])).tolist()
    [[1.0, 0.5], [0.75, 1.0], [0.75, 0.75], [0.25, 0.25]]
    """
    columns = [np.searchsorted(np.sort(column), column, side="right") for column in points.T]
    return np.stack(columns, axis=1) / max(1, len(points))


def most_volume(points: np.ndarray, number: int) -> list[int]:
    """Return at most `number` indices: 0, then greedily the point, if any, that adds most hypervolume above 0."""
    chosen, reference = [0], np.zeros(points.shape[1])
    while len(chosen) < number:
        before = hypervolume(points[chosen], reference)
        gains = [hypervolume(points[[*chosen, place]], reference) - before for place in range(len(points))]
        best = int(np.argmax(gains))
        if gains[best] <= 1e-12:
            break
        chosen.append(best)
    return chosen[:number]


def chebyshev(points: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the augmented Chebyshev scalarisation (Knowles 2006, ParEGO, equation 2), float [n]; larger is better.

    The distance to the ideal point, by the metric in which it weighs most: for each point of the front there are
    weights, float [metrics], under which it is the best one, also where the front is not convex.

    >>> points = np.array([[3.0, 0.0], [1.4, 1.4], [0.0, 3.0]])
    >>> [int(chebyshev(points, np.array(weights)).argmax()) for weights in ([0.9, 0.1], [0.5, 0.5], [0.1, 0.9])]
    [0, 1, 2]
    """
    if not len(points):
        return np.zeros(0)
    distances = weights * (points.max(axis=0) - points)
    utilities: np.ndarray = -(distances.max(axis=1) + SUM_WEIGHT * distances.sum(axis=1))
    return utilities
