"""Augmentation of a proposal: what the search may try, and what could change a label. Pure."""

from __future__ import annotations

import re
from typing import NamedTuple

from tuner.proposals.facts import DataFacts

_SIDED = re.compile(
    r"\w|\d+|left|right|up|down|top|bottom|north|south|east|west|clockwise|(counter|anti).?clockwise|"
    r"zero|one|two|three|four|five|six|seven|eight|nine|ten|"
    r"[a-z]+[ _-](left|right|up|down)|(left|right|up|down)[ _-].+|"
    r"arrow.*|.*arrows?|letters?.*|digits?.*|number.*|turn.*|(speed|no|stop|limit)[ _-].*",
    re.IGNORECASE,
)
"""Names of classes that may be another class in a mirror, or upside down."""


class Augmentation(NamedTuple):
    """The texts that the search may try, and why."""

    texts: tuple[str, ...]
    why: str


def propose_augmentation(data: DataFacts, px: int, *, is_short: bool, is_affordable: bool) -> Augmentation:
    """Return the augmentation for images of `px`; what changes a label is never more than one of the choices."""
    if not is_affordable:
        return Augmentation(
            ("none",), "none: augmented images would take too long to compute in the time that is given"
        )
    shift = f"shift({max(1, round(0.06 * px))})"
    gentle = shift if px < 16 else f"{shift}|rotate(10)|zoom(0.1)"
    mirrored = f"flip|{gentle}"
    if may_have_sides(data):
        texts = ("none", gentle) if is_short or px < 16 else ("none", gentle, mirrored)
        held = (
            "so a flip is left out" if len(texts) == 2 else "so a flip is a choice of its own, which the search judges"
        )
        names = ", ".join(_sided(data)[:3])
        return Augmentation(texts, f"classes such as {names} may be other ones in a mirror, {held}")
    texts = ("none", mirrored) if is_short else ("none", gentle, mirrored)
    return Augmentation(texts, "a flip changes no label if left and right mean the same; the search judges it")


def may_have_sides(data: DataFacts) -> bool:
    """Return whether the names of classes say that a mirrored image may be of another class."""
    return len(_sided(data)) >= max(2, len(data.class_names) // 4)


def _sided(data: DataFacts) -> list[str]:
    return [name for name in data.class_names if _SIDED.fullmatch(name.strip())]
