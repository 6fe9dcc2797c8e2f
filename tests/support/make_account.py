"""An account of a data set that was never there, and pictures of one."""

from __future__ import annotations

import numpy as np

from tuner.datasets.account.facts import (
    Account,
    BrokenImage,
    ClassFacts,
    ColourFacts,
    Imbalance,
    Size,
    SizeFacts,
    SplitFacts,
)
from tuner.datasets.account.taking import Gallery


def make_account() -> Account:
    """Return the account of 95 images of one class and 5 of another, of which one more is broken."""
    size = Size(320, 240, 100)
    return Account(
        source="folder:/home/me/pets",
        images=100,
        classes=(ClassFacts("a", 95, {"train": 95}), ClassFacts("b", 5, {"train": 5})),
        splits=(SplitFacts("train", 80, "left", groups=30), SplitFacts("test", 20, "made", 0.2)),
        sizes=SizeFacts(1, size, size, 320, 240, 1.0, (size,)),
        colours=ColourFacts(10, 90, 0, {"8": 100}, {"JPEG": 100}, (40.0, 120.0, 200.0), 100, 0, ()),
        broken=(BrokenImage("a/torn.png", "train", "is empty"),),
        is_decoded=True,
        copies=None,
        conflicts=(),
        imbalance=Imbalance("a", 0.95, "b", 19.0, ("b",)),
        groups=None,
        weights=None,
        notices=(),
        refusals=(),
        advice=("judge by another metric",),
    )


def make_gallery(classes: dict[str, int]) -> Gallery:
    """Return so many pictures of each class, each of another grey."""
    labels = np.repeat(np.arange(len(classes)), list(classes.values()))

    def picture(place: int) -> np.ndarray:
        return np.full((10, 14, 1), place % 256, dtype=np.uint8)

    return Gallery(tuple(classes), labels, lambda place: f"image {place}", picture)
