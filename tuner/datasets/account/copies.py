"""The account of copies among images: numbers, examples by name, and what a user is told of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from tuner.datasets.copies import MOST_IN_GROUP, Found
from tuner.datasets.splits import OWN_UNIT

EXAMPLES = 3
Examples = tuple[tuple[str, ...], ...]
"""Names of images, two by two."""


@dataclass(frozen=True)
class Across:
    """The images of a given split that are copies of images of one before it."""

    split: str
    earlier: str
    images: int
    examples: Examples


@dataclass(frozen=True)
class CopyAccount:
    """The copies in a data set, as numbers and examples; images are named as in every other message."""

    copies: int
    """Images that are copies of an earlier one."""
    exact_copies: int
    """Of these, such as have the same pixels as an earlier one."""
    groups: int
    largest_group: int
    in_cut_chains: int
    """Images in chains of near copies that were too long to be kept together."""
    conflicts: int
    """Groups that stand under several labels."""
    examples: Examples
    conflict_examples: Examples
    across: tuple[Across, ...]

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> CopyAccount:
        """Return the account that `dataclasses.asdict` made JSON of."""
        pairs = {name: _pairs_of(values[name]) for name in ("examples", "conflict_examples")}
        across = tuple(Across(**{**each, "examples": _pairs_of(each["examples"])}) for each in values["across"])
        return cls(**{**values, **pairs, "across": across})


def _pairs_of(values: Sequence[Sequence[str]]) -> Examples:
    return tuple(map(tuple, values))


def take_account(
    found: Found, labels: Mapping[str, np.ndarray], name: Callable[[str, int], str], class_names: Sequence[str]
) -> CopyAccount:
    """Return the account of copies among images that lie split by split; `name(split, row)` names one."""
    splits = list(labels)
    split_of = np.repeat(np.arange(len(splits)), [len(each) for each in labels.values()])
    row_of = np.concatenate([np.arange(len(each)) for each in labels.values()])
    label_of = np.concatenate(list(labels.values()))
    groups = _members(found.groups)
    conflicts = [group for group in groups if len(np.unique(label_of[group])) > 1]

    def named(image: int, *more: str) -> str:
        split = splits[split_of[image]]
        notes = [*([split] if len(splits) > 1 else []), *more]
        text = name(split, int(row_of[image]))
        return f"{text} ({', '.join(notes)})" if notes else text

    def in_conflict(group: np.ndarray) -> tuple[str, ...]:
        images = group[0], group[label_of[group] != label_of[group[0]]][0]
        return tuple(named(image, class_names[label_of[image]]) for image in images)

    def across(earlier: int, later: int) -> Across:
        shared = [group for group in groups if {earlier, later} <= set(split_of[group].tolist())]
        images = sum(int((split_of[group] == later).sum()) for group in shared)
        first = [[group[split_of[group] == split][0] for split in (later, earlier)] for group in shared[:EXAMPLES]]
        return Across(splits[later], splits[earlier], images, tuple(tuple(map(named, pair)) for pair in first))

    return CopyAccount(
        copies=sum(map(len, groups)) - len(groups),
        exact_copies=len(found.exact) - len(np.unique(found.exact)),
        groups=len(groups),
        largest_group=max(map(len, groups), default=0),
        in_cut_chains=found.cut,
        conflicts=len(conflicts),
        examples=tuple((named(group[0]), named(group[1])) for group in groups[:EXAMPLES]),
        conflict_examples=tuple(in_conflict(group) for group in conflicts[:EXAMPLES]),
        across=tuple(each for pair in combinations(range(len(splits)), 2) if (each := across(*pair)).images),
    )


def _members(groups: np.ndarray) -> list[np.ndarray]:
    """Return the images of each group, ascending."""
    grouped = np.flatnonzero(groups != OWN_UNIT)
    order = grouped[np.argsort(groups[grouped], kind="stable")]
    return np.split(order, np.flatnonzero(np.diff(groups[order])) + 1) if len(order) else []


def describe_copies(account: CopyAccount, is_split_here: bool) -> tuple[str, ...]:
    """Return the notices of an account; `is_split_here`: some split is made by tuner, the source does not give all."""
    found = []
    if account.copies:
        done = "kept on one side of the splits that are made" if is_split_here else "left where they are"
        number = _numbered(account.copies, "image is a copy", "images are copies")
        exact = f"{account.exact_copies:,} with the same pixels"
        found.append(f"{number} of others, {exact}: {done}; {_equal(account.examples)}")
    for across in account.across:
        number = _numbered(across.images, f"{across.split} image is a copy", f"{across.split} images are copies")
        found.append(
            f"{number} of {across.earlier} images: left there, since the source gives these splits; "
            f"results on them are too good; {_equal(across.examples)}"
        )
    if account.conflicts:
        number = _numbered(account.conflicts, "picture stands", "pictures stand")
        found.append(f"{number} under several labels: left as they are; {_equal(account.conflict_examples)}")
    if account.in_cut_chains:
        found.append(
            f"{account.in_cut_chains:,} images hang together as near copies in chains of more than {MOST_IN_GROUP}, as "
            f"frames of a video do: kept together in groups of at most {MOST_IN_GROUP}; data.group keeps all together"
        )
    return tuple(found)


def _numbered(number: int, one: str, several: str) -> str:
    return f"{number:,} {one if number == 1 else several}"


def _equal(examples: Examples) -> str:
    return "; ".join(" = ".join(pair) for pair in examples)
