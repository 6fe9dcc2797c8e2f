"""Trials by their hyperparameters: slices of one each, and lines through all of them. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import NamedTuple

from tuner.reports.figures.figure_data import OUTCOMES, spread
from tuner.reports.results import Results, ResultStatus, TrialResult
from tuner.runs.events import Scalar

SLICES = 9
AXES = 10
LINES = 150
CATEGORIES = 12


class SlicePoint(NamedTuple):
    """One trial in a slice."""

    trial: int
    status: ResultStatus
    place: float
    value: float


class Slice(NamedTuple):
    """Trials by one hyperparameter."""

    name: str
    is_log: bool
    categories: tuple[str, ...]
    """At places 0, 1, ...; empty for a number."""
    points: tuple[SlicePoint, ...]


class Slices(NamedTuple):
    """Trials by each hyperparameter."""

    metric: str
    items: tuple[Slice, ...]
    left_out: int


class Axis(NamedTuple):
    """A hyperparameter as an axis: where its values stand between 0 (below) and 1."""

    name: str
    ticks: tuple[tuple[float, str], ...]


class Line(NamedTuple):
    """One trial: its place on each axis, None where it does not have that hyperparameter."""

    trial: int
    value: float
    places: tuple[float | None, ...]


class Parallel(NamedTuple):
    """Trials as lines through all hyperparameters."""

    metric: str
    maximise: bool
    axes: tuple[Axis, ...]
    lines: tuple[Line, ...]
    """The worst first, so that the best are drawn on top."""
    total: int


def as_number(value: Scalar) -> float | None:
    """A value as a number; None for words, and for true and false, which are words too."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def slices(results: Results) -> Slices | None:
    """Each trial's value by each hyperparameter that differs; None without a result or without such a one."""
    names = results.differing_within
    shown = spread(results.ranked, OUTCOMES)
    if not shown or not names:
        return None
    items = [item for name in names if (item := _slice(name, shown)) is not None]
    return Slices(results.metric, tuple(items[:SLICES]), max(0, len(items) - SLICES)) if items else None


def _slice(name: str, trials: Sequence[TrialResult]) -> Slice | None:
    having = [trial for trial in trials if name in trial.configuration]
    if not having:
        return None
    axis = _Scale([trial.configuration[name] for trial in having])
    points = tuple(
        SlicePoint(trial.number, trial.status, axis.raw(trial.configuration[name]), trial.best or 0.0)
        for trial in having
    )
    return Slice(name, axis.is_log, tuple(axis.categories), points)


class _Scale:
    """Where the values of a hyperparameter stand on an axis."""

    def __init__(self, values: Sequence[Scalar]) -> None:
        distinct = {_word(value): as_number(value) for value in values}  # true and 1 are different words
        numbers = [number for number in distinct.values() if number is not None]
        is_numeric = len(numbers) == len(distinct)
        self.categories = [] if is_numeric and len(distinct) > 2 else _in_order(distinct)
        self.is_log = False
        if not self.categories:
            self.low, self.high = min(numbers), max(numbers)
            every = [number for value in values if (number := as_number(value)) is not None]  # as often as it occurs
            self.is_log = self.low > 0 and self.high >= 20 * self.low and _is_even_in_logarithms(every)

    def raw(self, value: Scalar) -> float:
        """The value itself, or the place of its category."""
        return float(self.categories.index(_word(value))) if self.categories else as_number(value) or 0.0

    def place(self, value: Scalar) -> float:
        """Between 0 and 1."""
        if self.categories:
            return self.raw(value) / max(1, len(self.categories) - 1) if len(self.categories) > 1 else 0.5
        if self.high == self.low:
            return 0.5
        if self.is_log:
            return math.log(self.raw(value) / self.low) / math.log(self.high / self.low)
        return (self.raw(value) - self.low) / (self.high - self.low)

    def ticks(self) -> tuple[tuple[float, str], ...]:
        """Places between 0 and 1 with their words."""
        if self.categories:
            last = max(1, len(self.categories) - 1)
            places = [index / last if len(self.categories) > 1 else 0.5 for index in range(len(self.categories))]
            return tuple(zip(places, self.categories, strict=True))
        middle = math.sqrt(self.low * self.high) if self.is_log else (self.low + self.high) / 2
        return tuple((self.place(value), f"{value:.3g}") for value in (self.low, middle, self.high))


def _is_even_in_logarithms(numbers: Sequence[float]) -> bool:
    """Whether the middle one of some positive numbers is nearer to the geometric middle of their range."""
    middle, low, high = median(numbers), min(numbers), max(numbers)
    share, share_of_logarithms = (middle - low) / (high - low), math.log(middle / low) / math.log(high / low)
    return abs(share_of_logarithms - 0.5) < abs(share - 0.5)


def _in_order(distinct: Mapping[str, float | None]) -> list[str]:
    """Words in alphabetical order, behind the numbers in theirs."""
    return sorted(distinct, key=lambda word: (math.inf if (number := distinct[word]) is None else number, word))


def _word(value: Scalar) -> str:
    return f"{value:.3g}" if isinstance(value, float) else "none" if value is None else str(value)


def parallel(results: Results) -> Parallel | None:
    """Trials as lines through their hyperparameters; None without a result or with fewer than two axes."""
    names = results.differing[:AXES]
    if results.winner is None or len(names) < 2:
        return None
    scales = {
        name: _Scale([trial.configuration[name] for trial in results.ranked if name in trial.configuration])
        for name in names
        if any(name in trial.configuration for trial in results.ranked)
    }
    lines = [
        Line(
            trial.number,
            trial.best or 0.0,
            tuple(
                scale.place(trial.configuration[name]) if name in trial.configuration else None
                for name, scale in scales.items()
            ),
        )
        for trial in reversed(spread(results.ranked, LINES))
    ]
    axes = tuple(Axis(name, _few(scale.ticks())) for name, scale in scales.items())
    return Parallel(results.metric, results.maximise, axes, tuple(lines), len(results.ranked))


def _few(ticks: tuple[tuple[float, str], ...]) -> tuple[tuple[float, str], ...]:
    """At most as many ticks as can be read."""
    if len(ticks) <= CATEGORIES:
        return ticks
    step = math.ceil(len(ticks) / CATEGORIES)
    return ticks[::step]
