"""Augmentation of a proposal: what the search may try, and what could change a label. Pure."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from tuner.proposals._facts import DataFacts

_SIDED = re.compile(
    r"\w|\d+|left|right|up|down|top|bottom|north|south|east|west|clockwise|(counter|anti).?clockwise|"
    r"zero|one|two|three|four|five|six|seven|eight|nine|ten|"
    r"[a-z]+[ _-](left|right|up|down)|(left|right|up|down)[ _-].+|"
    r"arrow.*|.*arrows?|letters?.*|digits?.*|number.*|turn.*|(speed|no|stop|limit)[ _-].*",
    re.IGNORECASE,
)
"""Names of classes that may be another class in a mirror, or upside down."""


VARIED = "varied"
"""The branch of operations with strengths."""


class Augmentation(NamedTuple):
    """The augmentation that the search may try, and why."""

    texts: tuple[str, ...]
    """One-line texts to choose from; with strengths, the first alone."""
    strengths: dict[str, Any]
    """Ranges of the operations of a branch; empty: there are texts alone."""
    why: str


def propose_augmentation(data: DataFacts, px: int, *, is_short: bool, is_kept: bool) -> Augmentation:
    """Return the augmentation for images of `px`; what changes a label is never more than one of the choices.

    If variants of images are kept, each text has its own; else the sampler knows strengths as numbers.
    """
    sided = _sided(data)
    most_px = max(1, round(0.06 * px))
    is_tiny = px < 16
    if not is_kept and not is_short:
        strengths = {"flip": {"choice": ["none", "horizontal"]}, "shift": {"int": [0, 2 * most_px]}}
        strengths |= {} if is_tiny else {"rotate": {"float": [0.0, 20.0]}, "zoom": {"float": [0.0, 0.2]}}
        return Augmentation(("none",), strengths, _why(sided, "a flip is a choice of its own"))
    gentle = f"shift({most_px})" if is_tiny else f"shift({most_px})|rotate(10)|zoom(0.1)"
    if is_short or (sided and is_tiny):
        text, why = (gentle, "a flip is left out") if sided else (f"flip|{gentle}", "images with a flip are one choice")
        return Augmentation(("none", text), {}, _why(sided, why))
    return Augmentation(("none", gentle, f"flip|{gentle}"), {}, _why(sided, "a flip is a choice of its own"))


def _why(sided: str, flip: str) -> str:
    if sided:
        return f"classes such as {sided} may be other ones in a mirror: {flip}"
    return f"a flip changes no label where left and right mean the same: {flip}, which the search judges"


def _sided(data: DataFacts) -> str:
    """Return some classes whose names say that a mirrored image may be of another class; empty where few do."""
    names = [name for name in data.class_names if _SIDED.fullmatch(name.strip())]
    return ", ".join(names[:3]) if len(names) >= max(2, len(data.class_names) // 4) else ""
