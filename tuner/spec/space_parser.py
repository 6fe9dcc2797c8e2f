"""The parser of the `space` section of a search-space file: dimensions, and every problem with them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

from tuner.common.registry import is_nothing, unknown_name
from tuner.spec.space import Choice, Choose, Dimension, Integer, Real, Scalar, Space, flatten
from tuner.spec.strengths import OWNER, Finding, Path, branch_findings, read_branch

_KINDS = ("choice", "int", "log_int", "float", "log_float", "choose")
_LISTED = ", ".join(_KINDS)


def parse_space(
    raw: Any, path: Path = ("space",), outer: frozenset[str] = frozenset()
) -> tuple[dict[str, Dimension], list[Finding]]:
    """Return the space written as `raw` and all its problems, each with its path; nothing is raised."""
    if not isinstance(raw, dict) or (not raw and path == ("space",)):
        return {}, [(path, f"must map names to what may be chosen; got {_shown(raw)}")]
    space: dict[str, Dimension] = {}
    findings: list[Finding] = []
    names = outer | frozenset(raw)
    for name, value in raw.items():
        here = (*path, name)
        if not name.isidentifier():
            hint = f": strengths stand in a branch of {OWNER}" if name.startswith(f"{OWNER}.") else ""
            findings.append((here, f"must be a name of letters, digits and underscores; got {name[:60]!r}{hint}"))
        elif name in outer:
            findings.append((here, "must not repeat a name that exists outside this branch"))
        else:
            dimension, found = _parse_dimension(value, here, names)
            findings += found
            if dimension is not None:
                space[name] = dimension
    return space, findings + list(_clashes(space, path))


def _clashes(space: Space, path: Path) -> Iterator[Finding]:
    """Yield names that stand in branches of two neighbours: both may be active, and would be one parameter."""
    owners: dict[str, str] = {}
    for name, dimension in space.items():
        if isinstance(dimension, Choose):
            inner = {parameter.name for branch in dimension.branches.values() for parameter in flatten(branch)}
            for repeated in sorted(inner & set(owners)):
                yield (*path, name), f"must not have {repeated} in a branch: a branch of {owners[repeated]} has it too"
            owners |= dict.fromkeys(inner, name)


def _parse_dimension(raw: Any, path: Path, outer: frozenset[str]) -> tuple[Dimension | None, list[Finding]]:
    if raw is None or isinstance(raw, str | int | float | bool):
        return Choice((raw,)), []  # a plain value is a constant
    if not isinstance(raw, dict):
        return None, [(path, f"must be a value, {{choice: [...]}} or another of {_LISTED}; got {_shown(raw)}")]
    kinds = [kind for kind in _KINDS if kind in raw]
    if unknown := [key for key in raw if key not in (*_KINDS, "step")]:
        return None, [((*path, key), unknown_name("kind of dimension", key, _KINDS)) for key in unknown]
    if len(kinds) != 1:
        return None, [(path, f"must have exactly one of {_LISTED}; got {', '.join(raw) or 'nothing'}")]
    kind = kinds[0]
    if "step" in raw and kind != "int":
        return None, [((*path, "step"), f"must be left out with {kind}: only int has steps")]
    here = (*path, kind)
    if kind == "choose":
        return _parse_choose(raw[kind], here, outer, path[-1] == OWNER)
    if kind == "choice":
        return _parse_choice(raw[kind], here)
    return _parse_range(kind, raw[kind], 1 if is_nothing(step := raw.get("step")) else step, here)


def _parse_choose(
    raw: Any, path: Path, outer: frozenset[str], has_strengths: bool
) -> tuple[Dimension | None, list[Finding]]:
    if not isinstance(raw, dict) or not raw:
        return None, [(path, f"must map each branch to its parameters; got {_shown(raw)}")]
    branches: dict[str, Space] = {}
    findings: list[Finding] = []
    for branch, inner in raw.items():
        if not re.fullmatch(r"[\w:/-]+", branch):  # a dot would make qualified names ambiguous
            findings.append(((*path, branch), f"must be a name of letters, digits, '_' and '-'; got {branch[:60]!r}"))
        if has_strengths:
            space, found = _parse_strengths(inner, (*path, branch), outer)
        else:
            space, found = parse_space({} if is_nothing(inner) else inner, (*path, branch), outer)
        branches[branch] = space
        findings += found
    if has_strengths and not findings:
        findings += branch_findings(branches, path)
    return Choose(branches), findings


def _parse_strengths(raw: Any, path: Path, outer: frozenset[str]) -> tuple[dict[str, Dimension], list[Finding]]:
    """Return a branch of operations with their strengths, and its problems."""
    strengths, findings = read_branch(raw, path, frozenset((*_KINDS, "step")))
    space: dict[str, Dimension] = {}
    for strength in strengths:
        if isinstance(strength.raw, dict) and "choose" in strength.raw:
            findings.append((strength.path, "must not branch: a branch of its own does the same"))
            continue
        dimension, found = _parse_dimension(strength.raw, strength.path, outer)
        findings += found
        if dimension is not None:
            space[strength.name] = dimension
    return space, findings


def _parse_choice(raw: Any, path: Path) -> tuple[Dimension | None, list[Finding]]:
    if not isinstance(raw, list) or not raw:
        return None, [(path, f"must be a list of values; got {_shown(raw)}")]
    values: dict[tuple[str, Scalar], Scalar] = {}
    findings: list[Finding] = []
    for index, value in enumerate(raw):
        if not (value is None or isinstance(value, str | int | float | bool)):
            findings.append(((*path, index), f"must be a plain value; got {_shown(value)}"))
        elif (_kind(value), value) in values:
            findings.append(((*path, index), f"must not be listed twice; got {_shown(value)}"))
        else:
            values[_kind(value), value] = value
    kinds = {kind for kind, _ in values}
    if len(kinds) > 1:
        findings.append(
            (path, f"must be of one type, so that tables have typed columns; got {' and '.join(sorted(kinds))}")
        )
    return Choice(tuple(values.values())), findings


def _kind(value: Scalar) -> str:
    if isinstance(value, bool):
        return "true/false"
    if isinstance(value, int | float):
        return "numbers"
    return "nothing" if value is None else "text"


def _parse_range(kind: str, raw: Any, step: Any, path: Path) -> tuple[Dimension | None, list[Finding]]:
    whole = kind.endswith("int")
    number = int if whole else (int, float)
    good = (
        isinstance(raw, list)
        and len(raw) == 2
        and all(isinstance(end, number) and not isinstance(end, bool) for end in raw)
    )
    if not good:
        return None, [(path, f"must be [low, high], two {'whole ' if whole else ''}numbers; got {_shown(raw)}")]
    low, high = raw
    if low > high:
        return None, [(path, f"must be [low, high] with low at most high; got {_shown(raw)}")]
    if kind.startswith("log") and low <= 0:
        return None, [(path, f"must be above 0 on a log scale; got {_shown(raw)}")]
    if math.isinf(high - low):
        return None, [(path, f"must be [low, high] with a finite distance; got {_shown(raw)}")]
    if whole and (not isinstance(step, int) or isinstance(step, bool) or step < 1 or (high - low) % step):
        return None, [((*path[:-1], "step"), f"must be a whole number that divides {high - low}; got {_shown(step)}")]
    if whole:
        return Integer(low, high, step, kind.startswith("log")), []
    return Real(float(low), float(high), kind.startswith("log")), []


def _shown(value: Any) -> str:
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
