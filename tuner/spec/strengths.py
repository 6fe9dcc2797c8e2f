"""Operations and their strengths: the branches of `augment: {choose: ...}`, and the one-line texts that mean the same.

A branch maps operations, in the order in which they are applied, to strengths, each a dimension of its own; or it is a
text. Either becomes parameters such as `augment.rotate`, or `augment.OPERATION.ARGUMENT` where arguments are named. An
operation for the second time is `shift_2`. Which operations there are, and what they take, is not known here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tuner.common.registry import is_nothing, unknown_name
from tuner.spec.space import Space

OWNER = "augment"
"""The hyperparameter whose branches are of this form."""
Path = tuple[str | int, ...]
Finding = tuple[Path, str]
_CALL = re.compile(r"\s*([A-Za-z_]\w*)\s*(?:\(([^()]*)\))?\s*")
_EXAMPLE = "a text such as flip|shift(2), or operations with their strengths such as {rotate: {float: [0, 30]}}"


class NotACall(ValueError):
    """A part of a text that is not of the form `name` or `name(arguments)`."""


def split_calls(text: str) -> list[tuple[str, str]]:
    """Return names and arguments of the operations in a text, in order; raises NotACall with the part that is none.

    >>> split_calls("flip|shift( 4 )")
    [('flip', ''), ('shift', '4')]
    """
    found = []
    for part in text.split("|"):
        match = _CALL.fullmatch(part)
        if match is None:
            raise NotACall(part)
        found.append((match[1], (match[2] or "").strip()))
    return found


@dataclass(frozen=True)
class Strength:
    """One parameter of a branch, not yet read: its name, what stands in the file, and where."""

    name: str
    raw: Any
    path: Path


def read_branch(raw: Any, path: Path, kinds: frozenset[str]) -> tuple[list[Strength], list[Finding]]:
    """Return the parameters of one branch, and what is wrong with its form; `kinds` are the words of a dimension."""
    if is_nothing(raw):
        return [], []
    if isinstance(raw, str):
        try:
            return list(_of_text(raw, path)), []
        except NotACall as part:
            return [], [(path, f"must be written name or name(arguments), separated by |; got {str(part)[:60]!r}")]
    if not isinstance(raw, dict):
        return [], [(path, f"must be {_EXAMPLE}; got {str(raw)[:60]}")]
    strengths: list[Strength] = []
    findings: list[Finding] = []
    for operation, value in raw.items():
        here = (*path, operation)
        if wrong := _misfit(operation, value):
            findings.append((here, wrong))
        elif isinstance(value, dict) and value and not kinds & value.keys():
            lists = [name for name, one in value.items() if isinstance(one, list)]  # no argument is one
            findings += [((*here, name), unknown_name("kind of dimension", name, kinds)) for name in lists]
            given = {name: one for name, one in value.items() if name not in lists}
            strengths += [Strength(f"{OWNER}.{operation}.{name}", one, (*here, name)) for name, one in given.items()]
        else:
            strengths.append(Strength(f"{OWNER}.{operation}", True if value == {} else value, here))
    return strengths, findings


def _misfit(operation: str, value: Any) -> str | None:
    if not operation.isidentifier():
        return f"must be an operation's name, its strength behind the colon; got {operation[:60]!r}"
    if value is None:  # nobody can say whether it is meant to be applied
        return f"must be a strength, {{}} for what {operation} has by itself, or none to leave it out; got nothing"
    if isinstance(value, list):
        return f"must be a strength, {{float: [low, high]}} or another range, or {{choice: [...]}}; got {value!r:.60}"
    return None


def _of_text(text: str, path: Path) -> Iterator[Strength]:
    seen: dict[str, int] = {}
    for operation, arguments in split_calls(text):
        seen[operation] = seen.get(operation, 0) + 1
        number = f"_{seen[operation]}" if seen[operation] > 1 else ""
        yield Strength(f"{OWNER}.{operation}{number}", _plain(arguments) if arguments else True, path)


def _plain(text: str) -> int | float | str:
    """Return a number that is written as such, and any other text as it is."""
    for kind in (int, float):
        try:
            value = kind(text)
        except ValueError:
            continue
        return value if math.isfinite(value) else text
    return text


def branch_findings(branches: Mapping[str, Space], path: Path) -> Iterator[Finding]:
    """Yield branches whose names say something else than they hold, and those that are there twice.

    A branch without operations is known by its name alone, wherever a configuration is read.
    """
    seen: dict[tuple[Any, ...], str] = {}
    for name, branch in branches.items():
        identity = tuple(branch.items())
        if is_nothing(name) and branch:
            yield (*path, name), "must be called otherwise: it has operations"
        elif not branch and not is_nothing(name):
            yield (*path, name), f"must be called none, for it has no operations; or be {_EXAMPLE}"
        elif identity in seen:
            yield (*path, name), f"must differ from {seen[identity]}: both are the same"
        seen.setdefault(identity, name)
