"""The decorator of trackers of one's own, and their base. Light."""

from __future__ import annotations

from typing import Any

from tuner.common.errors import InputError
from tuner.trackers.tracker import TRACKERS
from tuner.trackers.tracker import Tracker as Tracker


def tracker(kind: type | None = None, *, name: str | None = None) -> Any:
    """Register a class derived from `tuner.Tracker`: `--tracker NAME=PLACE` tells it of a search as it happens.

    Its name is that of the class in small letters, or another one.
    """

    def register(kind: type) -> type:
        own = str(name or getattr(kind, "__name__", "").lower())
        called = f"tracker {own}"
        if not own.isidentifier():
            raise InputError(f'{called}: the name must be a word of letters, digits and _; give another: name="mine"')
        if not (isinstance(kind, type) and issubclass(kind, Tracker)):
            raise InputError(f"{called}: the decorator belongs to a class derived from tuner.Tracker; got {kind!r}")
        lacking = [each for each in ("__init__", "take") if getattr(kind, each) is getattr(Tracker, each)]
        if lacking:
            raise InputError(f"{called}: the class must have {' and '.join(lacking)} of its own")
        TRACKERS.add_own(own, kind)
        return kind

    return register if kind is None else register(kind)
