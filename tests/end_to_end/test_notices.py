"""Which of the things that are said in a search are new, and which were said before."""

from __future__ import annotations

from tuner.runs.events import Notice
from tuner.runs.record import replay

CACHE = "cached activations are not used: the disk is full; training from the images, which takes longer"
LOST = "trial {} begins anew in another process: worker lost: the node was removed"


def recorded(*texts: str) -> list[str]:
    return replay(Notice(text=text) for text in texts).notices


def test_what_every_worker_process_says_is_recorded_once() -> None:
    assert recorded(CACHE, CACHE, LOST.format(3), CACHE, LOST.format(4), CACHE) == [
        CACHE, LOST.format(3), LOST.format(4),
    ]  # fmt: skip


def test_what_is_so_again_is_said_again() -> None:
    few = "4 at a time now, 8 before: 2 nodes with CPUs, shared with 1 other search"
    many = "8 at a time now, 4 before: 2 nodes with CPUs"
    assert recorded(few, CACHE, few, many, CACHE, few, many) == [few, CACHE, many, few, many]
