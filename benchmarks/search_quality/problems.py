"""What is searched: spaces with known learning curves."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tuner.common.seeds import derive_seed
from tuner.spec.space import Choice, Choose, Configuration, Dimension, Integer, Real, Scalar, Space, flatten

LCBENCH = "TUNER_LCBENCH"
"""Environment variable: the file lcbench_tables.npz, or its folder."""


@dataclass(frozen=True)
class Curve:
    """What training a configuration would show: one value and one duration per epoch."""

    values: np.ndarray
    """float [max_epochs], larger is better: what is seen."""
    seconds: np.ndarray
    """float [max_epochs]."""
    exact: np.ndarray
    """float [max_epochs]: the values without their noise."""


class Problem(Protocol):
    """A space and the learning curve of each of its configurations."""

    name: str
    space: Space
    max_epochs: int
    best: float
    """The best value there is (for a function: the best of very many)."""
    reference: float
    """What a random configuration reaches, in the median."""
    full_training_s: float
    """Seconds that a random configuration takes to train to its end, on average."""

    def opened(self, seed: int) -> Curves:
        """The problem for one search: what is used up in it, and its noise."""
        ...


class Curves(Protocol):
    """The curves of one search."""

    def curve(self, configuration: Configuration) -> Curve:
        """The curve of a configuration."""
        ...


@dataclass(frozen=True)
class Table:
    """One task of tabulated curves; a configuration is answered by the nearest one that this search has not had.

    That is one of the same branch; where the search has had all of these, the nearest of them.
    """

    name: str
    space: Space
    unit: np.ndarray
    """float [configurations, dimensions]: the tabulated configurations in the unit cube (`places`)."""
    values: np.ndarray
    """float [configurations, epochs]."""
    seconds: np.ndarray
    """float [configurations, epochs]."""
    noise: float = 0.0
    """Standard deviation of what is added to each value, as a share of the range between reference and best."""
    branches: Sequence[Branch] = ()
    """The branch of each configuration; none: the space has no branches."""

    @property
    def max_epochs(self) -> int:
        """Epochs of a full training."""
        return int(self.values.shape[1])

    @cached_property
    def best(self) -> float:
        """The best value of the table."""
        return float(self.values.max())

    @cached_property
    def reference(self) -> float:
        """The best value of a curve, in the median."""
        return float(np.median(self.values.max(axis=1)))

    @cached_property
    def full_training_s(self) -> float:
        """The mean over the table."""
        return float(self.seconds.sum(axis=1).mean())

    def opened(self, seed: int) -> Curves:
        """For one search."""
        return _OpenTable(self, seed)


class _OpenTable:
    def __init__(self, table: Table, seed: int) -> None:
        self._table, self._seed = table, seed
        self._free = np.ones(len(table.unit), bool)

    def curve(self, configuration: Configuration) -> Curve:
        table, (branch, place) = self._table, place_of(self._table.space, configuration)
        distances = np.sum((table.unit[:, : len(place)] - place) ** 2, axis=1)
        if table.branches:
            distances[[other != branch for other in table.branches]] = np.inf
        is_new = self._free & np.isfinite(distances)
        row = int(np.argmin(np.where(is_new, distances, np.inf) if is_new.any() else distances))
        self._free[row] = False
        exact = values = table.values[row]
        if table.noise:
            generator = np.random.default_rng(derive_seed(self._seed, "noise", row))
            scale = table.noise * (table.best - table.reference)
            values = values + generator.normal(0, scale, len(values))
        return Curve(values, table.seconds[row], exact)


Branch = tuple[Scalar, ...]
"""What a configuration has chosen wherever the space branches."""


def place_of(space: Space, configuration: Mapping[str, Any]) -> tuple[Branch, np.ndarray]:
    """The branch of a configuration, and its place in the unit cube of the parameters that exist there.

    Numbers that may be chosen lie at equal distances, other values all at a distance of 1.
    """
    branch: dict[str, Scalar] = {}
    coordinates: list[float] = []
    for parameter in flatten(space):
        if any(branch.get(where) != name for where, name in parameter.conditions):
            continue
        value = configuration[parameter.name]
        if isinstance(parameter.dimension, Choose):
            branch[parameter.qualified] = value
        else:
            coordinates += _coordinates(parameter.dimension, value)
    return tuple(branch.values()), np.array(coordinates)


def places(space: Space, configurations: Sequence[Configuration]) -> tuple[np.ndarray, list[Branch]]:
    """The places of configurations, float [configurations, dimensions], 0 where a branch has fewer; their branches."""
    found = [place_of(space, configuration) for configuration in configurations]
    unit = np.zeros((len(found), max(len(place) for _, place in found)))
    for row, (_, place) in enumerate(found):
        unit[row, : len(place)] = place
    return unit, [branch for branch, _ in found]


def _coordinates(dimension: Dimension, value: Any) -> list[float]:
    if isinstance(dimension, Choice):
        number, last = dimension.values.index(value), len(dimension.values) - 1
        if all(isinstance(one, int | float) and not isinstance(one, bool) for one in dimension.values):
            return [number / max(1, last)]
        return [np.sqrt(0.5) * (number == place) for place in range(last + 1)]
    low, high = float(dimension.low), float(dimension.high)  # type: ignore[union-attr]  # a range: no Choose comes here
    if dimension.log:  # type: ignore[union-attr]  # as above
        return [float(np.log(value / low) / np.log(high / low))]
    return [(float(value) - low) / (high - low)]


LCBENCH_SPACE: Space = {
    "batch_size": Integer(16, 512, log=True),
    "learning_rate": Real(1e-4, 1e-1, log=True),
    "momentum": Real(0.1, 0.99),
    "weight_decay": Real(1e-5, 1e-1),
    "num_layers": Integer(1, 5),
    "max_units": Integer(64, 1024, log=True),
    "max_dropout": Real(0.0, 1.0),
}
"""The space of Zimmer, Lindauer & Hutter 2021 (arXiv:2006.13799), as YAHPO tabulates it."""


def lcbench(noise: float = 0.0) -> list[Table] | str:
    """The nine tasks; a reason where they are not at hand."""
    place = os.environ.get(LCBENCH)
    if not place:
        return f"{LCBENCH} must name lcbench_tables.npz or its folder; it is not set"
    path = Path(place)
    path = path / "lcbench_tables.npz" if path.is_dir() else path
    if not path.is_file():
        return f"{LCBENCH} must name lcbench_tables.npz or its folder; {path} is not there"
    with np.load(path, allow_pickle=False) as file:
        tables = {key: file[key] for key in file.files}
    return [
        Table(
            name=f"lcbench-{task}",
            space=LCBENCH_SPACE,
            unit=tables["unit"][index].astype(float),
            values=tables["validation_accuracy"][index].astype(float) / 100,
            seconds=tables["epoch_seconds"][index].astype(float),
            noise=noise,
        )
        for index, task in enumerate(tables["tasks"])
    ]
