"""Importance of each hyperparameter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from tuner.common.metrics import oriented
from tuner.reports.figures.space import as_number
from tuner.reports.figures.style import BLACK, BLUE, FigureKind, build_figure, set_row_axis, set_title
from tuner.reports.formatting import counted, metric_words
from tuner.reports.results import Results, TrialResult
from tuner.runs.events import Scalar

SAMPLED = 600
"""Trials from which importance is estimated: more change nothing and take long."""
LEAST_TRIALS = 8
LEAST_COMPARED = 0.4
"""Share of the trials that must have reached the epoch at which they are compared."""
FOLDS = 5
TREES = 30
PERMUTATIONS = 8


class Importance(NamedTuple):
    """The share of the differences between trials that a hyperparameter explains."""

    name: str
    share: float
    """Share of the metric's variance that is lost when this hyperparameter's values are shuffled (below 0: none)."""
    low: float
    high: float
    """The 10th and 90th percentile over shuffles."""
    trials: int
    """Those that have it; its share is told from them alone."""


class Importances(NamedTuple):
    """All hyperparameters, the most important first."""

    metric: str
    epoch: int
    """At which trials are compared; those that were stopped before are left out."""
    trials: int
    left_out: int
    explained: float
    """Share of the variance that the model explains on trials that it has not seen (R2)."""
    items: tuple[Importance, ...]


def build_importances(results: Results) -> Importances | None:
    """Return how much each hyperparameter matters; None when there are too few trials to tell.

    Trials are compared at one epoch, so that those which were stopped early count for what they showed until there and
    not as if they had been trained to their end. A random forest is fitted to the values there (Breiman 2001), and each
    hyperparameter is shuffled among the trials that have it, on trials that the trees have not seen.
    """
    names = results.differing
    epoch = _compared_epoch(results)
    if epoch is None or not names:
        return None
    rows = [(trial, value) for trial in results.trials if (value := _best_until(trial, results, epoch)) is not None]
    usable = len(rows)
    generator = np.random.default_rng(0)
    if usable > SAMPLED:
        rows = [rows[index] for index in sorted(generator.choice(usable, SAMPLED, replace=False))]
    values = np.array([value for _, value in rows])
    if len(rows) < LEAST_TRIALS or float(np.ptp(values)) == 0:
        return None
    table = np.column_stack([_codes([trial.configuration.get(name) for trial, _ in rows]) for name in names])
    held = [np.array([name in trial.configuration for trial, _ in rows]) for name in names]
    explained, items = _permutation_importance(names, table, values, held, generator)
    return Importances(results.metric, epoch, usable, len(results.trials) - usable, explained, items)


def _permutation_importance(
    names: Sequence[str],
    table: np.ndarray,
    values: np.ndarray,
    held: Sequence[np.ndarray],
    generator: np.random.Generator,
) -> tuple[float, tuple[Importance, ...]]:
    """Return R2 on unseen trials and the importance of each column, by folds."""
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.model_selection import KFold

    total = float(np.sum((values - values.mean()) ** 2))
    error = 0.0
    losses = np.zeros((len(names), PERMUTATIONS))
    for seen, unseen in KFold(FOLDS, shuffle=True, random_state=0).split(table):
        forest = RandomForestRegressor(TREES, min_samples_leaf=2, random_state=0, n_jobs=1)
        forest.fit(table[seen], values[seen])
        shuffled = [
            _shuffled(table[unseen], column, held[column][unseen], generator)
            for column in range(len(names))
            for _ in range(PERMUTATIONS)
        ]
        predicted = forest.predict(np.concatenate([table[unseen], *shuffled])).reshape(-1, len(unseen))
        errors = np.sum((values[unseen] - predicted) ** 2, axis=1)
        error += float(errors[0])
        losses += (errors[1:] - errors[0]).reshape(len(names), PERMUTATIONS)
    # Shuffling loses twice the variance that goes with a column: it is replaced by an independent one.
    shares = losses / (2 * total)
    items = []
    for name, row, have in zip(names, shares, held, strict=True):
        low, high = np.percentile(row, [10, 90])
        items.append(Importance(name, float(row.mean()), float(low), float(high), int(have.sum())))
    return 1 - error / total, tuple(sorted(items, key=lambda item: -item.share))


def _shuffled(table: np.ndarray, column: int, held: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return the table with one column shuffled among the trials that have it."""
    changed, having = table.copy(), np.flatnonzero(held)
    changed[having, column] = changed[generator.permutation(having), column]
    return changed


def _compared_epoch(results: Results) -> int | None:
    """Return the latest epoch that a good share of the trials have reached, or ended before by themselves."""
    lengths = sorted((trial.epochs[-1].epoch for trial in results.trials if trial.epochs), reverse=True)
    needed = max(LEAST_TRIALS, math.ceil(LEAST_COMPARED * len(lengths)))
    return lengths[needed - 1] if len(lengths) >= needed else None


def _best_until(trial: TrialResult, results: Results, epoch: int) -> float | None:
    """Return the best value up to an epoch; None for trials that were cut off before, and for those without a value."""
    if not trial.epochs or (trial.epochs[-1].epoch < epoch and trial.status != "completed"):
        return None
    found = [one.metrics.get(results.metric, math.nan) for one in trial.epochs if one.epoch <= epoch]
    finite = [value for value in found if math.isfinite(value)]
    if not finite:
        return None
    return max(finite, key=lambda value: oriented(value, results.mode))


def _codes(values: Sequence[Scalar]) -> np.ndarray:
    """Return a column for the forest: numbers as they are (on a log scale where they span two decades), words as codes.

    What a trial does not have stands apart from all values, below them.
    """
    present = [value for value in values if value is not None]
    numbers = [number for value in present if (number := as_number(value)) is not None]
    if numbers and len(numbers) == len(present):
        is_log = min(numbers) > 0 and max(numbers) >= 100 * min(numbers)
        scaled = np.log(numbers) if is_log else np.array(numbers)
        column = np.full(len(values), scaled.min() - 1.0)
        column[[value is not None for value in values]] = scaled
        return column
    known = {word: index for index, word in enumerate(sorted({str(value) for value in values if value is not None}))}
    return np.array([-1.0 if value is None else float(known[str(value)]) for value in values])


def draw_importances(data: Importances) -> Figure:
    """Draw a bar for each hyperparameter, with its range over shuffles."""
    figure, (panel,) = build_figure(10.5, 1.4 + 0.34 * len(data.items))
    for row, item in enumerate(data.items):
        panel.barh(row, max(0.0, item.share), color=BLUE, height=0.6, zorder=3)
        panel.plot([max(0.0, item.low), max(0.0, item.high)], [row, row], color=BLACK, linewidth=1.6, zorder=4)
    labels = [
        item.name if item.trials == data.trials else f"{item.name} ({item.trials} trials have it)"
        for item in data.items
    ]
    set_row_axis(panel, labels)
    panel.set_xlim(left=0)
    panel.set_xlabel(f"share of the differences in {metric_words(data.metric)} that is lost when it is shuffled")
    set_title(figure, f"What mattered, compared after epoch {data.epoch}")
    return figure


def describe_importances(data: Importances) -> str:
    """Say in words how much each hyperparameter matters."""
    items = ", ".join(f"{item.name} {max(0.0, item.share):.0%}" for item in data.items)
    return (
        f"How much of the differences between {counted(data.trials, 'trial')} each hyperparameter explains, compared "
        f"after epoch {data.epoch}: {items}. A model of all of them explains {max(0.0, data.explained):.0%} on trials "
        f"that it has not seen; {data.left_out} trials that were ended before are left out."
    )


IMPORTANCE = FigureKind(build_importances, draw_importances, describe_importances, part="mattered")
