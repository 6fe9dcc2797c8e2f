"""Configurations of any Optuna space, conditional ones too, as points for a model. Pure.

Optuna knows a space by the parameters of past trials. The condition under which a parameter exists is learnt from
them: a choice explains it if the parameter was there whenever that choice had one of some values, and only then.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

ABSENT = 0.5
"""Place of a parameter that does not exist: the middle, equally far from both ends."""


class ChoiceAxis:
    """The axis of a choice: each value has an equal share of [0, 1]."""

    def __init__(self, distribution: CategoricalDistribution) -> None:
        self._distribution = distribution
        self.coordinates = len(distribution.choices)

    def place(self, value: Any) -> float:
        """Return the middle of a value's share; NaN for a value that is none of the choices."""
        try:
            return (self._distribution.to_internal_repr(value) + 0.5) / self.coordinates
        except ValueError:
            return math.nan

    def value(self, place: float) -> Any:
        """Return the choice at a place."""
        return self._distribution.choices[int(self.indices(np.array([place]))[0])]

    def indices(self, places: np.ndarray) -> np.ndarray:
        """Return the index of the choice at each place, int [n] (0 where it is NaN)."""
        found: np.ndarray = np.clip(np.nan_to_num(places) * self.coordinates, 0, self.coordinates - 1).astype(int)
        return found

    def points(self, places: np.ndarray, there: np.ndarray) -> list[np.ndarray]:
        """Return a coordinate for each choice, such that choices are at distance 1; 0 for parameters not there."""
        indices = self.indices(places)
        return [np.where(there & (indices == choice), math.sqrt(0.5), 0.0) for choice in range(self.coordinates)]


class RangeAxis:
    """The axis of a range of numbers, linear or logarithmic; values in steps have cells of equal size."""

    coordinates = 1

    def __init__(self, distribution: IntDistribution | FloatDistribution) -> None:
        self._lowest, self._highest = distribution.low, distribution.high
        self._step, self._log = distribution.step, distribution.log
        self._is_whole = isinstance(distribution, IntDistribution)
        half = 0.5 * (self._step or 0)
        self._low, self._high = distribution.low - half, distribution.high + half

    def place(self, value: Any) -> float:
        """Return the place of a value, the middle of its cell; NaN for a value outside the range."""
        if not isinstance(value, int | float) or not self._lowest <= value <= self._highest:
            return math.nan
        return float(self._places(np.array([value], dtype=float))[0])

    def value(self, place: float) -> Any:
        """Return the number at a place."""
        number = float(self._values(np.array([place]))[0])
        return round(number) if self._is_whole else number

    def points(self, places: np.ndarray, there: np.ndarray) -> list[np.ndarray]:
        """Return the places, each moved to that of the step it is rounded to."""
        return [np.where(there, self._places(self._values(places)), ABSENT)]

    def _values(self, places: np.ndarray) -> np.ndarray:
        width = self._high - self._low
        values = self._low * (self._high / self._low) ** places if self._log else self._low + places * width
        if self._step is not None:
            values = self._lowest + np.round((values - self._lowest) / self._step) * self._step
        return np.clip(values, self._lowest, self._highest)

    def _places(self, values: np.ndarray) -> np.ndarray:
        if self._low == self._high:
            return np.full_like(values, ABSENT)
        found: np.ndarray = (
            np.log(values / self._low) / math.log(self._high / self._low)
            if self._log
            else (values - self._low) / (self._high - self._low)
        )
        return found


def axis_of(distribution: BaseDistribution) -> ChoiceAxis | RangeAxis:
    """Return the axis of a distribution of Optuna's; raises TypeError for one that is not among its three."""
    if isinstance(distribution, CategoricalDistribution):
        return ChoiceAxis(distribution)
    if isinstance(distribution, IntDistribution | FloatDistribution):
        return RangeAxis(distribution)
    raise TypeError(f"a distribution must be categorical, int or float; got {type(distribution).__name__}")


@dataclass(frozen=True, eq=False)
class Condition:
    """The condition under which a parameter exists: another one, a choice, has one of these values."""

    parameter: int
    """Its place in the list of parameters."""
    is_one: np.ndarray
    """bool [choices]: whether a choice is one of them."""


class Encoding:
    """Parameters in a fixed order; a configuration is a row of numbers in [0, 1], one per parameter."""

    def __init__(self, distributions: Mapping[str, BaseDistribution]) -> None:
        self.distributions = dict(distributions)
        self.names = tuple(self.distributions)
        self._conditions: dict[int, Condition] = {}
        self._axes = {name: axis_of(distribution) for name, distribution in self.distributions.items()}
        self._choices = {index: axis for index, axis in enumerate(self._axes.values()) if isinstance(axis, ChoiceAxis)}
        self.groups = np.repeat(np.arange(len(self.names)), [axis.coordinates for axis in self._axes.values()])
        """int [coordinates]: the parameter that each coordinate of `points` belongs to."""

    @property
    def branching(self) -> list[int]:
        """The places of the choices on which it depends, as far as is known, whether others exist."""
        return sorted({condition.parameter for condition in self._conditions.values()})

    def row(self, parameters: Mapping[str, Any]) -> np.ndarray:
        """Return a configuration as float [parameters]; NaN for parameters it lacks, or values outside the space."""
        return np.array(
            [axis.place(parameters[name]) if name in parameters else math.nan for name, axis in self._axes.items()]
        )

    def parameters(self, row: np.ndarray) -> dict[str, Any]:
        """Return the values of a row, of all parameters, whether they exist there or not."""
        return {name: axis.value(float(place)) for (name, axis), place in zip(self._axes.items(), row, strict=True)}

    def points(self, rows: np.ndarray) -> np.ndarray:
        """Return rows as points, float [n, coordinates], between which a kernel can measure distances.

        Numbers stand where they will be rounded to, choices each in a coordinate of their own at distance 1 from each
        other, and what does not exist in the middle.
        """
        exists = self.existing(rows)
        columns = [
            column
            for index, axis in enumerate(self._axes.values())
            for column in axis.points(rows[:, index], exists[:, index])
        ]
        return np.column_stack(columns)

    def existing(self, rows: np.ndarray) -> np.ndarray:
        """Return which parameters of each row exist, bool [n, parameters], by the conditions learnt; NaN never does."""
        exists: np.ndarray = ~np.isnan(rows)
        chosen: dict[int, np.ndarray] = {}
        for index in sorted(self._conditions, key=self._depth):  # each behind the one that its condition is about
            condition = self._conditions[index]
            if condition.parameter not in chosen:
                chosen[condition.parameter] = self._choices[condition.parameter].indices(rows[:, condition.parameter])
            is_one = condition.is_one[chosen[condition.parameter]]
            exists[:, index] &= exists[:, condition.parameter] & is_one
        return exists

    def _depth(self, index: int) -> int:
        """Return how many conditions a parameter depends on; a circle, possible by chance with few trials, is cut."""
        depth = 0
        while index in self._conditions and depth < len(self.names):
            index, depth = self._conditions[index].parameter, depth + 1
        return depth

    def learn(self, rows: np.ndarray) -> None:
        """Learn from past trials, given as rows, under which condition each parameter exists."""
        there = ~np.isnan(rows)
        found: dict[int, Condition] = {}
        times = there.sum(axis=0)  # that a parameter was there
        for owner, axis in self._choices.items():
            # [choices, parameters]: in how many rows with a choice a parameter is there, and in how many it is not
            of_choice = np.zeros((axis.coordinates, len(rows)))
            of_choice[axis.indices(rows[:, owner]), np.arange(len(rows))] = there[:, owner]
            with_it = of_choice @ there
            without_it = of_choice.sum(axis=1)[:, None] - with_it
            explained = (with_it.sum(axis=0) == times) & ~((with_it > 0) & (without_it > 0)).any(axis=0)
            for index in map(int, np.flatnonzero(explained & (times < len(rows)))):
                better = found.get(index)
                if index != owner and (better is None or times[owner] < times[better.parameter]):
                    found[index] = Condition(owner, with_it[:, index] > 0)  # the innermost choice explains most
        self._conditions = found
