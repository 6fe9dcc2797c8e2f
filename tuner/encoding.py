"""Configurations of any Optuna space, conditional ones too, as points for a model. Pure.

What Optuna shows of a space are the parameters of past trials. Under which condition a parameter exists is learnt from
them: it is explained by a choice if it was there whenever that choice had one of some values, and only then.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

ABSENT = 0.5
"""Where a parameter that does not exist stands: the middle, at the same distance from all that it could be."""


@dataclass(frozen=True)
class Condition:
    """A parameter exists when another one, a choice, has one of these values."""

    parameter: int
    """Its place in the list of parameters."""
    choices: frozenset[int]


class Encoding:
    """Parameters in a fixed order; a configuration is a row of numbers in [0, 1], one per parameter."""

    def __init__(self, distributions: Mapping[str, BaseDistribution]) -> None:
        self.distributions = dict(distributions)
        self.names = tuple(self.distributions)
        self._conditions: dict[int, Condition] = {}
        places = [
            [index] * (_choices(distribution) if isinstance(distribution, CategoricalDistribution) else 1)
            for index, distribution in enumerate(self.distributions.values())
        ]
        self.groups = np.array([index for place in places for index in place], dtype=int)
        """int [coordinates]: the parameter that each coordinate of `points` belongs to."""

    def row(self, parameters: Mapping[str, Any]) -> np.ndarray:
        """Float [parameters]: a configuration; NaN for what it does not have, or what is not in the space any more."""
        return np.array([_unit(self.distributions[name], parameters.get(name, _MISSING)) for name in self.names])

    def parameters(self, row: np.ndarray) -> dict[str, Any]:
        """The values of a row: of all parameters, whether they exist there or not."""
        return {
            name: _value(distribution, float(place))
            for (name, distribution), place in zip(self.distributions.items(), row, strict=True)
        }

    def points(self, rows: np.ndarray) -> np.ndarray:
        """Float [n, coordinates]: rows as points between which a kernel can measure distances.

        Numbers stand where they will be rounded to, choices each in a coordinate of their own at distance 1 from each
        other, and what does not exist in the middle.
        """
        exists = self.existing(rows)
        columns: list[np.ndarray] = []
        for index, distribution in enumerate(self.distributions.values()):
            column, there = rows[:, index], exists[:, index]
            if isinstance(distribution, CategoricalDistribution):
                chosen = _choice(distribution, column)
                for choice in range(_choices(distribution)):
                    columns.append(np.where(there & (chosen == choice), math.sqrt(0.5), 0.0))
            else:
                columns.append(np.where(there, _rounded(distribution, column), ABSENT))
        return np.column_stack(columns)

    def existing(self, rows: np.ndarray) -> np.ndarray:
        """Bool [n, parameters]: which parameters of each row exist, by the conditions learnt; NaN never does."""
        exists: np.ndarray = ~np.isnan(rows)
        for index in sorted(self._conditions, key=self._depth):  # each behind the one that its condition is about
            condition = self._conditions[index]
            owner = self.distributions[self.names[condition.parameter]]
            assert isinstance(owner, CategoricalDistribution)  # noqa: S101  only choices are conditions
            chosen = _choice(owner, rows[:, condition.parameter])
            exists[:, index] &= exists[:, condition.parameter] & np.isin(chosen, list(condition.choices))
        return exists

    def _depth(self, index: int) -> int:
        """How many conditions a parameter stands under; of a circle, which chance can make of few trials, enough."""
        depth = 0
        while index in self._conditions and depth < len(self.names):
            index, depth = self._conditions[index].parameter, depth + 1
        return depth

    def learn(self, rows: np.ndarray) -> None:
        """Take from past trials, as rows, under which condition each parameter exists."""
        there = ~np.isnan(rows)
        choices = {
            index: _choice(distribution, rows[:, index])
            for index, distribution in enumerate(self.distributions.values())
            if isinstance(distribution, CategoricalDistribution)
        }
        found: dict[int, Condition] = {}
        for index in range(len(self.names)):
            if there[:, index].all():
                continue
            for owner, chosen in choices.items():
                if owner == index or not there[there[:, index], owner].all():
                    continue
                values = frozenset(int(value) for value in chosen[there[:, index]])
                if not (np.isin(chosen, list(values)) & there[:, owner] & ~there[:, index]).any():
                    better = found.get(index)
                    if better is None or there[:, owner].sum() < there[:, better.parameter].sum():
                        found[index] = Condition(owner, values)  # the innermost choice explains most
        self._conditions = found


_MISSING = object()


def _choices(distribution: CategoricalDistribution) -> int:
    return len(distribution.choices)


def _choice(distribution: CategoricalDistribution, column: np.ndarray) -> np.ndarray:
    """Int [n]: the index of the choice for places in [0, 1]."""
    number = _choices(distribution)
    places: np.ndarray = np.clip(np.nan_to_num(column, nan=0.0) * number, 0, number - 1).astype(int)
    return places


def _steps(distribution: IntDistribution | FloatDistribution) -> int | None:
    """How many values a range has; None for a continuous one."""
    if isinstance(distribution, FloatDistribution) and distribution.step is None:
        return None
    step = distribution.step or 1
    return math.floor((distribution.high - distribution.low) / step + 1e-9) + 1


def _unit(distribution: BaseDistribution, value: Any) -> float:
    """The place of a value in [0, 1]: for values in steps the middle of their cell."""
    if value is _MISSING:
        return math.nan
    if isinstance(distribution, CategoricalDistribution):
        try:
            return (distribution.to_internal_repr(value) + 0.5) / _choices(distribution)
        except ValueError:
            return math.nan
    assert isinstance(distribution, IntDistribution | FloatDistribution)  # noqa: S101  Optuna has no others
    if not isinstance(value, int | float) or not distribution.low <= value <= distribution.high:
        return math.nan
    low, high = _edges(distribution)
    if low == high:
        return 0.5
    if distribution.log:
        return math.log(value / low) / math.log(high / low)
    return (value - low) / (high - low)


def _edges(distribution: IntDistribution | FloatDistribution) -> tuple[float, float]:
    """The range, widened by half a step on both sides for values in steps."""
    if _steps(distribution) is None:
        return distribution.low, distribution.high
    half = 0.5 * (distribution.step or 1)
    return distribution.low - half, distribution.high + half


def _value(distribution: BaseDistribution, place: float) -> Any:
    """The value at a place in [0, 1]."""
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices[int(_choice(distribution, np.array([place]))[0])]
    assert isinstance(distribution, IntDistribution | FloatDistribution)  # noqa: S101  Optuna has no others
    low, high = _edges(distribution)
    value = low * (high / low) ** place if distribution.log else low + place * (high - low)
    if _steps(distribution) is not None:
        step = distribution.step or 1
        value = distribution.low + round((value - distribution.low) / step) * step
    value = min(distribution.high, max(distribution.low, value))
    return int(value) if isinstance(distribution, IntDistribution) else float(value)


def _rounded(distribution: BaseDistribution, column: np.ndarray) -> np.ndarray:
    """Places moved to those of the values that they become."""
    assert isinstance(distribution, IntDistribution | FloatDistribution)  # noqa: S101  the caller has looked
    number = _steps(distribution)
    if number is None:
        return column
    low, high = _edges(distribution)
    step = distribution.step or 1
    if low == high:
        return np.full_like(column, 0.5)
    raw = low * (high / low) ** column if distribution.log else low + column * (high - low)
    cell = np.clip(np.round((raw - distribution.low) / step), 0, number - 1)
    value = distribution.low + cell * step
    place: np.ndarray = np.log(value / low) / math.log(high / low) if distribution.log else (value - low) / (high - low)
    return place
