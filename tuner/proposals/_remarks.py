"""Remarks on a proposal, for its user: what was chosen and why, and what should be known of the data. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

from tuner.common.words import counted
from tuner.proposals._facts import DataFacts, Machine, Wish
from tuner.proposals._networks import Networks
from tuner.proposals._settings import Setting, is_section, time_text

_PREPARED_S, _MOST_PREPARED_SHARE = 1e-3, 0.3
"""Seconds of a core to prepare an image, and the share of the time from which on that is said."""
_TOLD = (
    ("data", "data.source"),
    ("validation", "data.validation"),
    ("validation", "data.validation_fraction"),
    ("fit", "data.fit"),
    ("broken", "data.broken_images"),
    ("images", "data.max_train_images"),
    ("metric", "metric"),
    ("image size", "space.preprocess"),
    ("networks", "space.architecture"),
    ("augment", "space.augment"),
    ("baseline", "baseline"),
    ("time", "search.time_budget"),
    ("time", "search.trials"),
)
"""Settings whose reasons are told, by what they are about."""


class Remark(NamedTuple):
    """A sentence for the user: what it is about, and what was chosen or should be known."""

    about: str
    text: str


def remarks_on(
    settings: tuple[Setting, ...], data: DataFacts, machine: Machine, wish: Wish, networks: Networks
) -> Iterator[Remark]:
    """Yield the remarks on settings that are proposed, and on the facts that they follow from."""
    reasons = {path: (value, why) for path, value, why in _reasons(settings)}
    reasons["space.architecture"] = (None, networks.why)  # what is missing is told by itself
    for about, path in _TOLD:
        value, why = reasons.get(path, (None, ""))
        if why:
            yield Remark(about, f"{value}: {why}" if isinstance(value, str | int | float) else why)
    if networks.missing:
        yield Remark("missing", networks.missing)
    prepared_s = _PREPARED_S * data.images / machine.cpus
    if prepared_s > _MOST_PREPARED_SHARE * wish.counted_s:
        yield Remark(
            "time", f"to prepare the images takes about {time_text(60 * math.ceil(prepared_s / 60))} of it, once"
        )
    yield from _remarks_on_data(data)


def _reasons(settings: tuple[Setting, ...], above: str = "") -> Iterator[tuple[str, Any, str]]:
    """Yield the path of each setting, its value and its reason."""
    for one in settings:
        yield f"{above}{one.name}", one.value, one.why
        if is_section(one.value):
            yield from _reasons(one.value, f"{above}{one.name}.")


def _remarks_on_data(data: DataFacts) -> Iterator[Remark]:
    if data.copies:
        text = f"{counted(data.copies, 'image')} nearly equal to another: copies stay on one side of a split"
        yield Remark("copies", text)
    if data.conflicts:
        names = (
            f", such as {' = '.join(data.conflict.names[:2])} ({', '.join(data.conflict.classes[:2])})"
            if data.conflict
            else ""
        )
        yield Remark("two labels", f"{counted(data.conflicts, 'picture')} under several labels{names}: correct them")
    if data.group_guess is not None:
        yield Remark("groups", f"{group_question(data)} If so, give the file data.group: '{data.group_guess.pattern}'")


def group_question(data: DataFacts) -> str:
    """Return the question whether images belong together; empty where nothing says so."""
    guess = data.group_guess
    if guess is None:
        return ""
    return (
        f"Do images belong together whose paths share a part, such as the {guess.images:,} of {guess.example} "
        f"({guess.parts:,} parts in all)? Those of one patient, product or scene must stay on one side of a split."
    )
