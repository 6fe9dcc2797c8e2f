"""Registry of values by name, with one helpful message for an unknown name; the words for nothing."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import Generic, TypeVar

from tuner.common.errors import UnknownNameError

Value = TypeVar("Value")
MOST_NAMES = 100
"""More than these are neither listed nor compared: no registry has them, only a file made to exhaust its reader."""


NOTHING = ("none", "no", "off", "false", "null")
NEVER_NOTHING = " and cannot be none"
"""Added to the rule of a setting that cannot be nothing, where somebody writes that it is."""


def is_nothing(value: object) -> bool:
    """Return whether a value says of a setting that it is nothing: `null`, `false`, or one of these words in any case.

    >>> [is_nothing(value) for value in (None, False, "Off", "never", 0, "")]
    [True, True, True, False, False, False]
    """
    return value is None or value is False or (isinstance(value, str) and value.strip().casefold() in NOTHING)


def unknown_name(kind: str, name: object, known: Iterable[str]) -> str:
    """Return the message for an unknown name: the nearest known one, which it may begin, then all of them.

    >>> unknown_name("sampler", "tpf", ["random", "tpe"])
    "unknown sampler 'tpf'; did you mean 'tpe'? (known: random, tpe)"
    >>> unknown_name("metric", "val_acc", ["val_auc", "val_accuracy"])
    "unknown metric 'val_acc'; did you mean 'val_accuracy'? (known: val_accuracy, val_auc)"
    """
    names, written = sorted(known), str(name)
    few = len(names) <= MOST_NAMES
    begun = [each for each in names if len(written) > 2 and each.startswith(written)]
    nearest = begun if len(begun) == 1 else difflib.get_close_matches(written, names, n=1, cutoff=0.5) if few else []
    hint = "; it cannot be none" if is_nothing(name) else f"; did you mean '{nearest[0]}'?" if nearest else ""
    listed = ", ".join(names[:MOST_NAMES]) + ("" if few else f", ... ({len(names)} in all)")
    return f"unknown {kind} {str(name)[:80]!r}{hint} (known: {listed})"


class Registry(Generic[Value]):
    """Values by name; `kind` is the word used in messages."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._values: dict[str, Value] = {}

    def add(self, name: str, value: Value) -> Value:
        """Register `value` under `name`; a name is registered once."""
        if name in self._values:
            raise ValueError(f"{self.kind} {name!r} is registered already")
        self._values[name] = value
        return value

    def __getitem__(self, name: str) -> Value:
        """Return the value of `name`; raises UnknownNameError with the nearest name."""
        try:
            return self._values[name]
        except (KeyError, TypeError):
            raise UnknownNameError(unknown_name(self.kind, name, self._values)) from None

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)
