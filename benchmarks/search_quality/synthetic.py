"""Problems that ship with the project: conditional spaces, learning curves that cross, noise.

A configuration has a final value (a bump in each branch, some branches better than others) and a pace: small learning
rates and deep networks learn more slowly and end higher, so what leads after one epoch is seldom what wins. Optima,
weights and paces are drawn from the number of the problem; nothing is tuned to any sampler.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np

from benchmarks.search_quality.problems import Curve, Curves
from tuner.common.seeds import derive_seed
from tuner.spec.space import Choice, Choose, Configuration, Dimension, Integer, Real, Space, sample

SPACE: Space = {
    "learning_rate": Real(1e-4, 1e-1, log=True),
    "batch_size": Choice((32, 64, 128)),
    "dropout": Real(0.0, 0.6),
    "architecture": Choose(
        {
            "dense": {"hidden_layers": Integer(1, 4), "units": Integer(32, 512, log=True)},
            "cnn": {"blocks": Integer(2, 5), "filters": Integer(16, 128, log=True), "smooth": Choice((True, False))},
            "backbone": {
                "unfreeze_depth": Integer(0, 6),
                "head": Choose({"plain": {}, "hidden": {"head_units": Integer(32, 512, log=True)}}),
            },
        }
    ),
}
EPOCHS = 27
SIBLING_DISTANCE = 0.3
"""The range in which what is drawn for a sibling lies around what was drawn for the problem itself."""
PROBLEMS = 6
"""How many are searched while settings are chosen."""
HELD_OUT = range(48, 66)
"""The problems that no setting is chosen on: what a policy finds there is what it is worth. Those between were used for
the choice of asha's reduction factor."""
SAMPLED = 5_000
"""Random configurations from which the best and the median are taken."""


@dataclass(frozen=True)
class Synthetic:
    """Problem number `number`; or a sibling of it, with optima, weights and paces near its own: similar data, say."""

    number: int
    noise: float = 0.01
    """Standard deviation of each epoch's value, as a share of the range between reference and best."""
    sibling: int = 0
    """0: the problem itself."""

    @property
    def name(self) -> str:
        """For tables."""
        suite = "held_out" if self.number in HELD_OUT else "synthetic"
        return f"{suite}-{self.number}" + (f"-sibling-{self.sibling}" if self.sibling else "")

    @property
    def space(self) -> Space:
        """The same for all."""
        return SPACE

    @property
    def max_epochs(self) -> int:
        """Epochs of a full training."""
        return EPOCHS

    @cached_property
    def _sampled(self) -> tuple[float, float, float]:
        generator = np.random.default_rng(derive_seed(self.number, "sampled"))
        curves = [self.exact(sample(SPACE, generator)) for _ in range(SAMPLED)]
        bests = np.array([curve.values.max() for curve in curves])
        return float(bests.max()), float(np.median(bests)), float(np.mean([curve.seconds.sum() for curve in curves]))

    @property
    def best(self) -> float:
        """The best of very many random configurations."""
        return self._sampled[0]

    @property
    def reference(self) -> float:
        """The median of them."""
        return self._sampled[1]

    @property
    def full_training_s(self) -> float:
        """The mean of them."""
        return self._sampled[2]

    def opened(self, seed: int) -> Curves:
        """For one search."""
        return _Open(self, seed)

    def exact(self, configuration: Configuration) -> Curve:
        """The curve without noise."""
        branch = str(configuration["architecture"])
        level = self._drawn("level", branch, 0.55, 0.85)
        loss = 0.0
        for name, place in _places(configuration):
            weight = self._drawn("weight", f"{branch}.{name}", 0.02, 0.35)
            optimum = self._drawn("optimum", f"{branch}.{name}", 0.1, 0.9)
            loss += weight * (place - optimum) ** 2
        final = level + 0.13 - min(loss, 0.5)
        rate = _place(SPACE["learning_rate"], configuration["learning_rate"])
        pace = math.exp(self._drawn("pace", branch, 0.2, 2.2) + 1.6 * (0.6 - rate))
        epochs = np.arange(1, EPOCHS + 1)
        values = final * (1 - np.exp(-((epochs / pace) ** 0.7)))
        seconds = self._drawn("seconds", branch, 1.0, 6.0) * np.ones(EPOCHS)
        return Curve(values, seconds, values)

    def _drawn(self, what: str, name: str, low: float, high: float) -> float:
        return low + (high - low) * _draw(self.number, self.sibling, what, name)


@cache
def _draw(number: int, sibling: int, what: str, name: str) -> float:
    """From [0, 1); kept, because it is asked for at every epoch of every trial."""
    drawn = float(np.random.default_rng(derive_seed(number, what, name)).random())
    if not sibling:
        return drawn
    shift = float(np.random.default_rng(derive_seed(number, "sibling", sibling, what, name)).random()) - 0.5
    return min(1.0, max(0.0, drawn + SIBLING_DISTANCE * shift))


@dataclass
class _Open:
    problem: Synthetic
    seed: int
    answered: int = 0

    def curve(self, configuration: Configuration) -> Curve:
        exact = self.problem.exact(configuration)
        generator = np.random.default_rng(derive_seed(self.seed, "noise", self.answered))
        self.answered += 1
        scale = self.problem.noise * (self.problem.best - self.problem.reference)
        return Curve(exact.values + generator.normal(0, scale, EPOCHS), exact.seconds, exact.values)


def _places(configuration: Configuration) -> list[tuple[str, float]]:
    """(name, place in [0, 1]) of every parameter that the configuration has, but for the branch."""
    found: list[tuple[str, float]] = []

    def walk(space: Space) -> None:
        for name, dimension in space.items():
            value = configuration[name]
            if name != "architecture":
                found.append((name, _place(dimension, value)))
            if isinstance(dimension, Choose):
                walk(dimension.branches[str(value)])

    walk(SPACE)
    return found


def _place(dimension: Dimension, value: object) -> float:
    if isinstance(dimension, Choice | Choose):
        return list(dimension.values).index(value) / max(1, len(dimension.values) - 1)  # type: ignore[arg-type]  # one of its values
    low, high, number = float(dimension.low), float(dimension.high), float(value)  # type: ignore[arg-type]  # a number
    if dimension.log:
        return math.log(number / low) / math.log(high / low)
    return (number - low) / (high - low)
