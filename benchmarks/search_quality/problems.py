"""What is searched: spaces with known learning curves."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tuner.common.seeds import derive_seed
from tuner.spec.space import Configuration, Integer, Real, Space

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
    """One task of tabulated curves; a configuration is answered by the nearest one that this search has not had."""

    name: str
    space: Space
    unit: np.ndarray
    """float [configurations, dimensions]: the tabulated configurations in the unit cube."""
    values: np.ndarray
    """float [configurations, epochs]."""
    seconds: np.ndarray
    """float [configurations, epochs]."""
    noise: float = 0.0
    """Standard deviation of what is added to each value, as a share of the range between reference and best."""

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

    def place(self, configuration: Mapping[str, Any]) -> np.ndarray:
        """A configuration in the unit cube."""
        return np.array([_unit(self.space[name], configuration[name]) for name in self.space])


class _OpenTable:
    def __init__(self, table: Table, seed: int) -> None:
        self._table, self._seed = table, seed
        self._free = np.ones(len(table.unit), bool)

    def curve(self, configuration: Configuration) -> Curve:
        distances = np.sum((self._table.unit - self._table.place(configuration)) ** 2, axis=1)
        row = int(np.argmin(np.where(self._free, distances, np.inf)))
        self._free[row] = False
        exact = values = self._table.values[row]
        if self._table.noise:
            generator = np.random.default_rng(derive_seed(self._seed, "noise", row))
            scale = self._table.noise * (self._table.best - self._table.reference)
            values = values + generator.normal(0, scale, len(values))
        return Curve(values, self._table.seconds[row], exact)


def _unit(dimension: Any, value: Any) -> float:
    low, high = float(dimension.low), float(dimension.high)
    if dimension.log:
        return float(np.log(value / low) / np.log(high / low))
    return (float(value) - low) / (high - low)


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
