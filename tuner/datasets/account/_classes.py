"""The classes of an account, their imbalance, and the groups that are given or that paths suggest."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np

from tuner.common.files import shown, user_path
from tuner.datasets.account.facts import FEW_IMAGES, ClassFacts, GroupFacts, GroupGuess, Imbalance
from tuner.datasets.sources import path_of


def class_facts(names: Sequence[str], labels: Mapping[str, np.ndarray]) -> tuple[ClassFacts, ...]:
    """Return the images of each class in each split; `labels` are those of the splits, -1 where one is withheld."""
    numbers = {split: np.bincount(found[found >= 0], minlength=len(names)).tolist() for split, found in labels.items()}
    return tuple(
        ClassFacts(name, sum(each[label] for each in numbers.values()), {k: v[label] for k, v in numbers.items()})
        for label, name in enumerate(names)
    )


def find_imbalance(classes: Sequence[ClassFacts]) -> Imbalance:
    """Return how the classes differ in size."""
    ordered = sorted(classes, key=lambda one: one.images)
    smallest, largest, total = ordered[0], ordered[-1], sum(one.images for one in classes)
    few = tuple(one.name for one in ordered if one.images < FEW_IMAGES)
    ratio = largest.images / max(1, smallest.images)
    return Imbalance(largest.name, largest.images / max(1, total), smallest.name, ratio, few)


def find_groups(given_by: str, names: Sequence[str], groups: np.ndarray, labels: np.ndarray) -> GroupFacts:
    """Return facts of the groups `[N]` of images with `labels` `[N] int64`."""
    _, inverse, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    lone = [name for label, name in enumerate(names) if len(np.unique(inverse[labels == label])) == 1]
    return GroupFacts(given_by, len(sizes), int(sizes.min()), float(np.median(sizes)), int(sizes.max()), tuple(lone))


_GUESSES = (
    # The images of one patient, video or product in a folder of their own, in the folder of the class.
    r"[^/]+/[^/]+(?=/[^/]+$)",
    # patient07_003.png, video12-frame0001.jpg, 0132_c1s1_001051_00.jpg, S5 (12).jpg; 17.png is numbered, no more
    r"(?<![0-9])(?![0-9]+\.[^./]+$)[^/]*?[0-9][^/_.\- ]*(?=[_.\- ][^/]*$)",
    # p012v3.png
    r"[A-Za-z]+[0-9]+(?=[A-Za-z]+[0-9]+\.[^./]+$)",
)
_ITSELF = r"[^/]+$"
"""The name of an image that shows no part: a group of its own."""
_LEAST_MATCHED = 0.9
_LEAST_PER_PART = 2.0


def guess_groups(names: Sequence[str], labels: np.ndarray) -> GroupGuess | None:
    """Return what the names of images say of groups, if they say something: a question to the user, no more.

    Parts that are no more than the classes, or nearly as many as the images, tell nothing.
    """
    for guess in _GUESSES if len(names) else ():
        found = [match[0] if (match := re.search(guess, name)) else None for name in names]
        parts = Counter(part for part in found if part is not None)
        if parts.total() < _LEAST_MATCHED * len(names) or len(parts) <= len(np.unique(labels)):
            continue
        if parts.total() >= _LEAST_PER_PART * len(parts):
            part, images = parts.most_common(1)[0]
            return GroupGuess(_simplest_pattern(guess, names, found), len(parts), images, part)
    return None


def _simplest_pattern(guess: str, names: Sequence[str], found: Sequence[str | None]) -> str:
    """Return the simplest pattern that finds these parts in all names; a name without a part stands for itself."""
    shapes = {re.sub("[0-9]+", "[0-9]+", re.escape(part).replace("\\ ", " ")) for part in found if part is not None}
    shape = shapes.pop() if len(shapes) == 1 else guess
    wanted = [part or name.rpartition("/")[2] for part, name in zip(found, names, strict=True)]
    for pattern in (f"({shape})", f"({shape})[_.\\- ][^/]*$", f"({shape}|{_ITSELF})"):
        matches = [re.search(pattern, name) for name in names]
        if [match[1] if match else None for match in matches] == wanted:
            return pattern
    return f"({guess}|{_ITSELF})"


def short_name(name: str, source: str) -> str:
    """Return the name of an image without the way to its source.

    >>> short_name("/data/pets/cat/1.png", "folder:/data/pets"), short_name("image 7", "digits")
    ('cat/1.png', 'image 7')
    """
    root = path_of(source)
    if root is None:
        return name
    for path in (user_path(root), user_path(root).absolute(), user_path(root).resolve()):
        prefix = shown(path).rstrip("/")
        if name.startswith(f"{prefix}/"):
            return name[len(prefix) + 1 :]
    for way in _ways_to(user_path(root).absolute().parent):
        name = name.replace(way, "")  # of a table: its rows name images
    return name


@lru_cache(maxsize=16)
def _ways_to(folder: Path) -> tuple[str, ...]:
    """Return how paths in a folder may begin: a table has the images that it names without links in their paths."""
    return tuple(dict.fromkeys(f"{shown(way)}/" for way in (folder, folder.resolve()) if way != Path("/")))


def without_way(text: str, source: str) -> str:
    """Return a message without the way to the source, which is nothing to show to others."""
    root = path_of(source)
    path = shown(user_path(root).absolute()) if root is not None else ""
    return text.replace(path, Path(path).name) if len(path) > 1 else text
