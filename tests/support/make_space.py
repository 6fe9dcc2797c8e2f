"""Hypothesis strategies for spaces as they are written and as they are meant."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from tuner.spec.space import Choice, Choose, Dimension, Integer, Real

NAMES = ("a", "b", "c", "alpha", "batch_size", "größe", "_x", "class", "int", "choice", "no", "e1")
BRANCHES = (*NAMES, "mobilenet-v2", "1", "true", "null")
TRICKY = (
    "",
    " ",
    "1e-4",
    "010",
    "1:30",
    "no",
    "~",
    "null",
    ".nan",
    "# x",
    "a: b",
    "- a",
    "<<",
    "{",
    "2026-01-01",
    "é\n",
)
TEXTS = st.sampled_from(TRICKY) | st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=5)
WHOLE = st.integers(-(10**6), 10**6)
NUMBERS = st.floats(-1e6, 1e6).map(lambda value: value + 0.0)  # no -0.0, which equals 0.0
POSITIVE = st.floats(1e-9, 1e6)


@dataclass
class Written:
    """A space as it stands in a file (`raw`), and what it means (`space`)."""

    raw: dict[str, Any] = field(default_factory=dict)
    space: dict[str, Dimension] = field(default_factory=dict)


@st.composite
def plain_dimensions(draw: st.DrawFn, finite: bool) -> tuple[Any, Dimension]:
    """One dimension that does not branch."""
    kinds = ["constant", "choice", "int", "step"] + ([] if finite else ["log_int", "float", "log_float"])
    kind = draw(st.sampled_from(kinds))
    if kind == "constant":
        value = draw(TEXTS | WHOLE | NUMBERS | st.booleans() | st.none())
        return value, Choice((value,))
    if kind == "choice":
        values = draw(st.sampled_from([TEXTS, WHOLE, NUMBERS, WHOLE | NUMBERS, st.booleans()]))
        chosen = draw(st.lists(values, min_size=1, max_size=3, unique=True))
        return {"choice": chosen}, Choice(tuple(chosen))
    if kind in ("int", "step"):
        low, step = draw(WHOLE), draw(st.integers(1, 1000)) if kind == "step" else 1
        high = low + step * draw(st.integers(0, 3 if finite else 1000))
        return {"int": [low, high], **({"step": step} if kind == "step" else {})}, Integer(low, high, step)
    if kind == "log_int":
        low, high = sorted(draw(st.tuples(*[st.integers(1, 10**6)] * 2)))
        return {"log_int": [low, high]}, Integer(low, high, log=True)
    low, high = sorted(draw(st.tuples(*[POSITIVE if kind == "log_float" else NUMBERS | st.integers(-9, 9)] * 2)))
    return {kind: [low, high]}, Real(float(low), float(high), kind == "log_float")


@st.composite
def spaces(
    draw: st.DrawFn, finite: bool = False, depth: int = 2, taken: frozenset[str] = frozenset(), least: int = 1
) -> Written:
    """A valid space: names are used once among those that can be active together."""
    free = [name for name in NAMES if name not in taken]
    names = draw(st.lists(st.sampled_from(free), min_size=least, max_size=3, unique=True)) if free else []
    written, taken = Written(), taken | set(names)
    for name in names:
        if depth and draw(st.booleans()):
            branches = draw(st.lists(st.sampled_from(BRANCHES), min_size=1, max_size=3, unique=True))
            inner = {branch: draw(spaces(finite, depth - 1, taken, least=0)) for branch in branches}
            taken |= {used for branch in inner.values() for used in names_in(branch.space)}
            written.raw[name] = {"choose": {branch: part.raw or None for branch, part in inner.items()}}
            written.space[name] = Choose({branch: part.space for branch, part in inner.items()})
        else:
            written.raw[name], written.space[name] = draw(plain_dimensions(finite))
    return written


def names_in(space: dict[str, Dimension]) -> set[str]:
    """All names of a space, at any depth."""
    found = set(space)
    for dimension in space.values():
        if isinstance(dimension, Choose):
            for inner in dimension.branches.values():
                found |= names_in(dict(inner))
    return found
