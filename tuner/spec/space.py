"""The space that a search chooses from: dimensions, and spaces that are conditional by nesting.

A space maps names to dimensions. A `Choose` dimension has branches, each a space of its own whose parameters exist only
in trials of that branch. A configuration is flat: only one branch is active, so plain names suffice. Samplers see
*qualified* names (`architecture.cnn.filters`), so that parameters of different branches are never confused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tuner.common.registry import unknown_name
from tuner.common.words import as_written

Scalar = bool | int | float | str | None
Configuration = dict[str, Scalar]


@dataclass(frozen=True)
class Choice:
    """One of `values`."""

    values: tuple[Scalar, ...]

    def contains(self, value: Scalar) -> bool:
        """Return whether `value` is one of them; 1, 1.0 and true are different values."""
        return any(same_value(value, candidate) for candidate in self.values)

    def describe(self) -> str:
        """Return the dimension in the words of the search-space file."""
        return f"choice of {_listed(self.values)}"


@dataclass(frozen=True)
class Integer:
    """A whole number from `low` to `high`, both included, in steps or on a log scale."""

    low: int
    high: int
    step: int = 1
    log: bool = False

    def contains(self, value: Scalar) -> bool:
        """Return whether `value` is a whole number of the range, on its steps."""
        if isinstance(value, bool) or not isinstance(value, int):
            return False
        return self.low <= value <= self.high and (value - self.low) % self.step == 0

    def describe(self) -> str:
        """Return the dimension in the words of the search-space file."""
        return f"{'log ' if self.log else ''}int {self.low} to {self.high}" + (
            f" step {self.step}" if self.step > 1 else ""
        )


@dataclass(frozen=True)
class Real:
    """A number from `low` to `high`, both included, possibly on a log scale."""

    low: float
    high: float
    log: bool = False

    def contains(self, value: Scalar) -> bool:
        """Return whether `value` is a number of the range."""
        return isinstance(value, int | float) and not isinstance(value, bool) and self.low <= value <= self.high

    def describe(self) -> str:
        """Return the dimension in the words of the search-space file."""
        return f"{'log ' if self.log else ''}float {self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class Choose:
    """One of several branches, each with parameters of its own."""

    branches: Mapping[str, Space]

    @property
    def values(self) -> tuple[str, ...]:
        """The names of the branches."""
        return tuple(self.branches)

    def contains(self, value: Scalar) -> bool:
        """Return whether `value` names a branch."""
        return value in self.branches

    def describe(self) -> str:
        """Return the dimension in the words of the search-space file."""
        return f"choose one of {_listed(self.values)}"


def _listed(values: Sequence[Scalar], most: int = 12) -> str:
    """Return values as they are written in the file; of many, the first ones and their number."""
    words = [_written(value) for value in values[:most]]
    return ", ".join(words) + (f", ... ({len(values)} in all)" if len(values) > most else "")


def _written(value: Scalar) -> str:
    text = "null" if value is None else as_written(value)
    return text if len(text) <= 80 else text[:77] + "..."


Dimension = Choice | Integer | Real | Choose
Space = Mapping[str, Dimension]


def same_value(left: Scalar, right: Scalar) -> bool:
    """Return whether two values are equal and of one type."""
    return type(left) is type(right) and left == right


@dataclass(frozen=True)
class FlatDimension:
    """One dimension of a flattened space: where it stands and when it exists."""

    qualified: str
    name: str
    dimension: Dimension
    conditions: tuple[tuple[str, str], ...] = ()
    """(qualified name of a Choose, branch) pairs that must hold."""


def flatten(space: Space, prefix: str = "", conditions: tuple[tuple[str, str], ...] = ()) -> Iterator[FlatDimension]:
    """Yield all parameters of a space, a Choose before the parameters of its branches."""
    for name, dimension in space.items():
        qualified = _qualified(prefix, name)
        yield FlatDimension(qualified, name, dimension, conditions)
        if isinstance(dimension, Choose):
            for branch, inner in dimension.branches.items():
                yield from flatten(inner, f"{qualified}.{branch}.", (*conditions, (qualified, branch)))


def _qualified(prefix: str, name: str) -> str:
    """Return a name behind those of its branches; that of a strength (`augment.rotate`) begins with its owner's."""
    return prefix + (name.partition(".")[2] or name)


def branching(space: Space) -> tuple[str, ...]:
    """Return the names of the parameters by whose values configurations differ in kind: architecture, and each choose.

    >>> branching({"learning_rate": Real(0.1, 1), "head": Choose({"a": {}, "b": {}})})
    ('architecture', 'head')
    """
    names = [one.name for one in flatten(space) if isinstance(one.dimension, Choose)]
    return tuple(dict.fromkeys(["architecture", *names]))


def has_branches(space: Space) -> bool:
    """Return whether a search chooses among branches, each with parameters of its own."""
    return any(isinstance(one.dimension, Choose) and len(one.dimension.branches) > 1 for one in flatten(space))


Draw = Callable[[str, str, Dimension], Scalar]
"""(qualified name, name, dimension) -> value."""


def configure(space: Space, draw: Draw, prefix: str = "") -> Configuration:
    """Return the configuration that `draw` chooses; it is asked only for parameters that exist.

    This is define-by-run for any source of values: a random generator, an Optuna trial, an earlier configuration.
    """
    configuration: Configuration = {}
    for name, dimension in space.items():
        qualified = _qualified(prefix, name)
        value = draw(qualified, name, dimension)
        configuration[name] = value
        if isinstance(dimension, Choose):
            configuration |= configure(dimension.branches[str(value)], draw, f"{qualified}.{value}.")
    return configuration


def sample(space: Space, generator: np.random.Generator) -> Configuration:
    """Return a configuration drawn uniformly (log-uniformly where the dimension says so), branch by branch."""
    return configure(space, lambda _qualified, _name, dimension: _draw(dimension, generator))


def vary(space: Space, configuration: Configuration, kept: float, generator: np.random.Generator) -> Configuration:
    """Return a configuration in which about a share `kept` of the values is that of another, and the rest is drawn."""

    def look_up(_qualified: str, name: str, dimension: Dimension) -> Scalar:
        is_kept = name in configuration and generator.random() < kept and dimension.contains(configuration[name])
        return configuration[name] if is_kept else _draw(dimension, generator)

    return configure(space, look_up)


def _draw(dimension: Dimension, generator: np.random.Generator) -> Scalar:
    match dimension:
        case Integer(low, high, step, log):
            if log:
                drawn = math.exp(generator.uniform(math.log(low), math.log(high + 1)))
                return min(high, max(low, int(drawn)))
            return low + step * int(generator.integers((high - low) // step + 1))
        case Real(low, high, log):
            if log:
                return min(high, max(low, math.exp(generator.uniform(math.log(low), math.log(high)))))
            return float(generator.uniform(low, high))
        case _:
            return dimension.values[int(generator.integers(len(dimension.values)))]


def count(space: Space) -> int | float:
    """Return the number of different configurations; infinite when a float is among them.

    >>> count({"a": Choice((1, 2)), "b": Choose({"x": {"c": Integer(0, 4)}, "y": {}})})
    12
    """
    total = 1  # a product of whole numbers may be too large for a float
    for dimension in space.values():
        size = _size(dimension)
        if isinstance(size, float):
            return math.inf
        total *= size
    return total


def _size(dimension: Dimension) -> int | float:
    match dimension:
        case Choice(values):
            return len(values)
        case Integer(low, high, step, _):
            return (high - low) // step + 1
        case Real(low, high, _):
            return 1 if low == high else math.inf
        case Choose(branches):
            sizes = [count(inner) for inner in branches.values()]
            return math.inf if math.inf in sizes else sum(sizes)


def enumerate_configurations(space: Space) -> Iterator[Configuration]:
    """Yield every configuration of a finite space, the last name varying fastest, like an odometer.

    Raises:
        ValueError: a float range is not a single point (`count` says whether a space is finite).
    """
    names = list(space)
    if not names:
        yield {}
        return
    name, rest = names[0], {other: space[other] for other in names[1:]}
    for value, inner in _points(space[name]):
        for below in enumerate_configurations(inner):
            for others in enumerate_configurations(rest):
                yield {name: value, **below, **others}


def _points(dimension: Dimension) -> Iterator[tuple[Scalar, Space]]:
    match dimension:
        case Choose(branches):
            yield from branches.items()
        case Integer(low, high, step, _):
            yield from ((value, {}) for value in range(low, high + 1, step))
        case Real(low, high, _):
            if low != high:
                raise ValueError(f"a float range cannot be enumerated; got {low} to {high}")
            yield low, {}
        case Choice(values):
            yield from ((value, {}) for value in values)


def completed(space: Space, configuration: Mapping[str, Scalar]) -> Configuration:
    """Return a configuration with the strengths that its branches leave no choice of, and all strengths in their order.

    >>> space = {"augment": Choose({"weak": {"augment.flip": Choice((True,)), "augment.shift": Integer(0, 4)}})}
    >>> completed(space, {"augment.shift": 2, "augment": "weak"})
    {'augment': 'weak', 'augment.flip': True, 'augment.shift': 2}
    """
    found = dict(configuration)
    for parameter in flatten(space):
        names = [(where.rpartition(".")[2], branch) for where, branch in parameter.conditions]
        if "." not in parameter.name or any(configuration.get(name) != branch for name, branch in names):
            continue
        only = next(_points(parameter.dimension))[0] if _size(parameter.dimension) == 1 else None
        value = found.pop(parameter.name, only)
        if value is not None:
            found[parameter.name] = value
    return found


def misfits(space: Space, configuration: Mapping[str, Scalar]) -> list[tuple[str, str]]:
    """Return (name, message) for each way in which `configuration` is not a point of the space; empty if it is one."""
    found: list[tuple[str, str]] = []
    active: set[str] = set()

    def check(level: Space) -> None:
        for name, dimension in level.items():
            active.add(name)
            if name not in configuration:
                found.append((name, f"must be given: {dimension.describe()}"))
            elif not dimension.contains(configuration[name]):
                found.append((name, f"must be in the space: {dimension.describe()}; got {configuration[name]!r}"))
            elif isinstance(dimension, Choose):
                check(dimension.branches[str(configuration[name])])

    check(space)
    strangers = [name for name in configuration if name not in active]
    return found + (_strangers(space, strangers) if strangers else [])


def _strangers(space: Space, names: Iterable[str]) -> list[tuple[str, str]]:
    """Return (name, message) for names that a configuration must not have: those of other branches, or of none."""
    conditions: dict[str, list[tuple[str, str]]] = {}
    for parameter in flatten(space):
        conditions.setdefault(parameter.name, []).extend(parameter.conditions[-1:])
    found: list[tuple[str, str]] = []
    for name in names:
        owners = ", ".join(f"{where.rpartition('.')[2]} {branch}" for where, branch in conditions.get(name, ()))
        unknown = unknown_name("hyperparameter", name, conditions)
        found.append((name, f"must be left out here: it belongs to {owners}" if owners else unknown))
    return found


EDGE = 0.05
"""Share of a range, at either end, in which a value counts as being at its end."""


def widened(
    dimension: Dimension, value: Scalar, low: float | None = None, high: float | None = None
) -> tuple[str, str] | None:
    """Return at which end of its range a value is ("upper", "lower"), and a wider range as the file writes it.

    None where it is at neither end, where the range ends at what is possible at all (`low`, `high`), and where there is
    too little choice to speak of ends: words, and fewer than three values.

    >>> widened(Real(1e-4, 1e-2, log=True), 0.0099), widened(Real(0.0, 0.5), 0.0, low=0.0)
    (('upper', '{log_float: [0.0001, 0.1]}'), None)
    >>> widened(Choice((32, 64, 128)), 128), widened(Integer(2, 6, step=2), 2, low=1)
    (('upper', '{choice: [32, 64, 128, 256]}'), ('lower', '{int: [1, 6]}'))
    """
    if isinstance(dimension, Choose) or not isinstance(value, int | float) or isinstance(value, bool):
        return None
    if isinstance(dimension, Choice):
        return _widened_choice(dimension, value, (low, high))
    ends = dimension.low, dimension.high
    if isinstance(dimension, Integer) and (ends[1] - ends[0]) // dimension.step < 2:
        return None
    scale: Callable[[float], float] = math.log if dimension.log else float
    width = scale(ends[1]) - scale(ends[0])
    if not width:
        return None
    place = (scale(value) - scale(ends[0])) / width
    is_upper = place >= 1 - EDGE
    if EDGE < place < 1 - EDGE:
        return None
    factor = math.exp(min(width, math.log(4 if isinstance(dimension, Integer) else 10)))
    if dimension.log:
        beyond = ends[1] * factor if is_upper else ends[0] / factor
    else:
        beyond = ends[1] + (ends[1] - ends[0]) if is_upper else ends[0] - (ends[1] - ends[0])
    return _written_range(dimension, is_upper, _within(beyond, ends[0], low, high))


def _within(beyond: float, lowest: float, low: float | None, high: float | None) -> float:
    """Return a new end cut to what is possible; what has been 0 or more stays so where nothing is known of it."""
    floor = low if low is not None else 0.0 if lowest >= 0 else -math.inf
    return min(max(beyond, floor), math.inf if high is None else high)


def _written_range(dimension: Integer | Real, is_upper: bool, beyond: float) -> tuple[str, str] | None:
    low, high = (dimension.low, beyond) if is_upper else (beyond, dimension.high)
    if isinstance(dimension, Integer):
        low, high = math.ceil(low), math.floor(high)
    if (low, high) == (dimension.low, dimension.high) or (dimension.log and low <= 0):
        return None
    kind = f"{'log_' if dimension.log else ''}{'int' if isinstance(dimension, Integer) else 'float'}"
    step = dimension.step if isinstance(dimension, Integer) else 1
    steps = f", step: {step}" if step > 1 and (high - low) % step == 0 else ""
    return "upper" if is_upper else "lower", f"{{{kind}: [{_number(low)}, {_number(high)}]{steps}}}"


def _widened_choice(
    dimension: Choice, value: float, limits: tuple[float | None, float | None]
) -> tuple[str, str] | None:
    """Return the end at which one of several numbers is, and the choice with the next one, in steps or by factors."""
    numbers = [one for one in dimension.values if isinstance(one, int | float) and not isinstance(one, bool)]
    if len(numbers) < len(dimension.values) or len(numbers) < 3 or value not in (min(numbers), max(numbers)):
        return None
    is_upper, ordered = value == max(numbers), sorted(numbers)
    last, before, third = ordered[:-4:-1] if is_upper else ordered[:3]
    is_even = min(ordered) <= 0 or math.isclose(last - before, before - third)
    following = last + (last - before) if is_even else last * last / before
    if all(isinstance(one, int) for one in numbers):
        following = round(following)
    following = _within(following, ordered[0], *limits)
    if following in numbers:
        return None
    listed = [*numbers, following] if (numbers[-1] > numbers[0]) == is_upper else [following, *numbers]
    return "upper" if is_upper else "lower", f"{{choice: [{', '.join(map(_number, listed))}]}}"


def _number(value: float) -> str:
    """Return a number as YAML reads it: with a point before its exponent."""
    text = str(value) if isinstance(value, int) else f"{value:.6g}"
    mantissa, exponent, power = text.partition("e")
    return f"{mantissa}{'' if not exponent or '.' in mantissa else '.0'}{exponent}{power}"
