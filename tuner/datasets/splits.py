"""Splits of labelled images into parts: held-out rows, folds and subsets, classes in proportion.

Pure: from labels, units and seeds to rows. A unit is a number for images that must stay on one side, as those of one
patient, or copies of one picture; -1 stands for an image that is a unit of its own.
"""

from __future__ import annotations

import math
import warnings
from bisect import bisect_right
from fractions import Fraction

import numpy as np

from tuner.common.errors import DataError

OWN_UNIT = -1
TRAINED = -1
"""In place of the number of a fold: trained on in every fold."""
_DENOMINATORS = (10, 20, 50, 200)
"""To hold out a fraction, units are dealt out to so many folds at most, of which some are held out."""
Parts = tuple[np.ndarray, np.ndarray]
"""Rows that are kept and rows that are held out, both ascending."""


def join_units(*numbers: np.ndarray | None) -> np.ndarray | None:
    """Return the units `[N] int64` that follow from groups in several respects, each `[N] int64` or None.

    Images that share a group in any respect are of one unit, and so are those that hang together by others. None: no
    image hangs together with another.

    >>> join_units(np.array([7, 7, 8, -1]), np.array([-1, 0, 0, -1])).tolist()
    [0, 0, 0, 1]
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    given = [each for each in numbers if each is not None]
    if not given:
        return None
    images = len(given[0])
    rows, nodes, nodes_so_far = [], [], images
    for each in given:
        in_group = np.flatnonzero(each != OWN_UNIT)
        names, inverse = np.unique(each[in_group], return_inverse=True)
        rows.append(in_group)
        nodes.append(nodes_so_far + inverse)
        nodes_so_far += len(names)
    ends = np.concatenate(rows), np.concatenate(nodes)
    graph = coo_array((np.ones(len(ends[0]), bool), ends), shape=(nodes_so_far, nodes_so_far))
    found: np.ndarray = connected_components(graph, directed=False)[1][:images].astype(np.int64)
    numbered = np.unique(found, return_inverse=True)[1].astype(np.int64)
    return None if len(np.unique(numbered)) == images else numbered


def without_test(source: str) -> str:
    """Return what messages call a source of which the test images are held out: it has fewer images, also of a class.

    >>> without_test("folder:pets")
    'folder:pets, without its test images'
    """
    return f"{source}, without its test images"


def hold_out(
    labels: np.ndarray, units: np.ndarray | None, fraction: float, seed: int, class_names: tuple[str, ...], source: str
) -> Parts:
    """Return the rows of `labels` `[N] int64` to keep and to hold out: about `fraction`, the classes in proportion.

    With `units` none lies on both sides. Every class is kept, and held out too where it has two units that allow it:
    the part that is held out may be larger or smaller than asked for; where units are given, from 1/200 to 199/200.

    Raises:
        DataError: a class has too few images to stand on both sides, the fraction leaves a class out, or units have
            every class once.
    """
    unit_of_row = join_units(units)
    if unit_of_row is None:
        return split_stratified(labels, fraction, seed, class_names, source)
    shares = [Fraction(fraction).limit_denominator(most) for most in _DENOMINATORS]
    share = next((each for each in shares if abs(each - fraction) <= 0.05 * min(fraction, 1 - fraction)), shares[-1])
    least = Fraction(1, _DENOMINATORS[-1])
    share = min(max(share, least), 1 - least)  # of a smaller fraction the nearest is 0, which is no number of folds
    dealt = _deal(labels, unit_of_row, share.denominator, seed)
    chosen = _most_like_the_whole(labels, dealt, share.denominator)[: share.numerator]
    is_held = np.isin(dealt, chosen)
    is_held = _with_classes_on_both_sides(labels, unit_of_row, is_held)
    if not is_held.any():
        raise DataError(
            f"{source}: {len(labels)} images in {_numbered_groups(unit_of_row)} cannot be split: "
            "every group has the only images of a class"
        )
    return np.flatnonzero(~is_held), np.flatnonzero(is_held)


def fold_rows(
    labels: np.ndarray, units: np.ndarray | None, folds: int, seed: int, class_names: tuple[str, ...], source: str
) -> tuple[Parts, ...]:
    """Return the rows to train on and to validate on of each of some folds, the classes in proportion.

    No unit lies on both sides, and every class is trained on in each. A unit that alone has images of a class is
    therefore in no fold: it is trained on in all. Where there are none, the folds have every row once.

    Raises:
        DataError: a class has one image, or there are too few images or units for so many folds.
    """
    unit_of_row = join_units(units)
    in_groups = "" if unit_of_row is None else f" in {_numbered_groups(unit_of_row)}"
    if unit_of_row is None:
        _refuse_single(labels, class_names, source)
        unit_of_row = np.arange(len(labels))
    dealt = _spread_classes(labels, unit_of_row, _deal(labels, unit_of_row, folds, seed), folds)
    found = tuple((np.flatnonzero(dealt != fold), np.flatnonzero(dealt == fold)) for fold in range(folds))
    if lacking := sum(not len(held) for _, held in found):
        raise DataError(
            f"{source}: {len(labels)} images{in_groups} are too few for {folds} folds: {lacking} would be without any"
        )
    return found


def _numbered_groups(unit_of_row: np.ndarray) -> str:
    number = int(unit_of_row.max()) + 1
    return "one group that stays together" if number == 1 else f"{number} groups that stay together"


def single_unit_classes(labels: np.ndarray, units: np.ndarray | None) -> np.ndarray:
    """Return the labels whose images are all of one unit: they cannot be both trained on and judged."""
    unit_of_row = join_units(units)
    if unit_of_row is None:
        unit_of_row = np.arange(len(labels))
    return np.array([label for label, home in _homes(labels, unit_of_row).items() if len(home) == 1], dtype=np.int64)


def split_stratified(
    labels: np.ndarray, fraction: float, seed: int, class_names: tuple[str, ...], source: str
) -> Parts:
    """Return the rows of `labels` `[N] int64` to keep and to hold out, ascending, the classes in proportion.

    `fraction` of each class is held out, but for one image of a class of which none would be kept.

    Raises:
        DataError: a class has too few images to stand on both sides, or the fraction leaves a class out.
    """
    from sklearn.model_selection import train_test_split

    _refuse_single(labels, class_names, source)
    rows = np.arange(len(labels), dtype=np.int64)
    try:
        kept, held = train_test_split(rows, test_size=fraction, random_state=seed, stratify=labels)
    except ValueError:
        held_images = math.ceil(fraction * len(labels))
        raise DataError(
            f"{source}: {len(labels)} images of {len(class_names)} classes cannot be split by {fraction:g}: both parts "
            f"must hold an image of every class; they would have {len(labels) - held_images} and {held_images} images"
        ) from None
    lost = np.setdiff1d(labels, labels[kept])  # a large fraction takes all of a small class
    back = np.array([held[labels[held] == label][0] for label in lost], dtype=np.int64)
    return np.sort(np.concatenate([kept, back])), np.setdiff1d(held, back)


def _refuse_single(labels: np.ndarray, class_names: tuple[str, ...], source: str) -> None:
    numbers = np.bincount(labels, minlength=len(class_names))
    few = [class_names[index] for index in np.flatnonzero(numbers < 2)]
    if few:
        more = f" and {len(few) - 10} more" if len(few) > 10 else ""
        raise DataError(
            f"{source}: every class must have at least two images to be split; too few: {', '.join(few[:10])}{more}"
        )


def subset_stratified(labels: np.ndarray, number: int, seed: int, field: str) -> np.ndarray:
    """Return `number` rows of `labels` `[N] int64`, ascending: classes in proportion, at least one image of each.

    Subsets of one seed lie in each other: a larger one has all rows of a smaller one. Each class is shuffled, its k-th
    image of n stands at k/n, and the first `number` of all are taken.

    Raises:
        DataError: there are more classes than `number`.
    """
    classes, numbers = np.unique(labels, return_counts=True)
    if number < len(classes):
        raise DataError(f"{field} must be at least the number of classes, {len(classes)}; got {number}")
    generator = np.random.default_rng(seed)
    place = np.empty(len(labels))
    for name, count in zip(classes, numbers, strict=True):
        place[labels == name] = generator.permutation(count) / count
    return np.sort(np.argsort(place, kind="stable")[:number])


# --- units dealt out to folds ---


def _deal(labels: np.ndarray, unit_of_row: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """Return the fold `[N] int64` of each row: whole units, folds and classes of like size.

    Units of several images are dealt out by the library, one by one; then single images, of which there may be a
    million, to the folds that have fewest of their class.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    is_single = np.bincount(unit_of_row)[unit_of_row] == 1
    dealt = np.full(len(labels), TRAINED, dtype=np.int64)
    rows = np.flatnonzero(~is_single)
    # The library refuses more folds than a class has images, or than there are units, and a single fold.
    parted = min(folds, len(np.unique(unit_of_row[rows])), int(np.bincount(labels[rows], minlength=1).max()))
    if parted == 1:
        dealt[rows] = 0
    elif parted:
        splitter = StratifiedGroupKFold(parted, shuffle=True, random_state=seed)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "The least populated class", UserWarning)
            for fold, (_, held) in enumerate(splitter.split(rows, labels[rows], unit_of_row[rows])):
                dealt[rows[held]] = fold
    generator = np.random.default_rng(seed)
    sizes = np.bincount(dealt[rows], minlength=folds)
    for label in np.unique(labels[is_single]):
        there = np.bincount(dealt[~is_single & (labels == label)], minlength=folds)
        singles = np.flatnonzero(is_single & (labels == label))
        added = _fill_up(there, sizes, len(singles), generator)
        dealt[generator.permutation(singles)] = np.repeat(np.arange(folds), added)
        sizes += added
    return dealt


def _fill_up(there: np.ndarray, sizes: np.ndarray, number: int, generator: np.random.Generator) -> np.ndarray:
    """Return how many of `number` images each fold gets, that those with `there` images each become most alike.

    What is left over goes to the folds of the smallest `sizes`, in any order where they are equal.
    """
    lowest = int(there.min())
    levels = range(lowest, lowest + number + 2)
    level = levels[bisect_right(levels, number, key=lambda each: int(np.maximum(0, each - there).sum())) - 1]
    added: np.ndarray = np.maximum(0, level - there)
    order = generator.permutation(len(there))
    order = order[np.argsort(sizes[order] + added[order], kind="stable")]
    left = order[there[order] <= level][: number - int(added.sum())]
    added[left] += 1
    return added


def _most_like_the_whole(labels: np.ndarray, dealt: np.ndarray, folds: int) -> np.ndarray:
    """Return the folds that are not empty, first those that come nearest to an equal share of every class."""
    counts = np.zeros((folds, int(labels.max()) + 1))
    np.add.at(counts, (dealt, labels), 1)
    distances = np.abs(counts - np.bincount(labels) / folds).sum(axis=1)
    ordered = np.argsort(distances, kind="stable")
    found: np.ndarray = ordered[counts[ordered].any(axis=1)]
    return found


def _homes(labels: np.ndarray, unit_of_row: np.ndarray) -> dict[int, np.ndarray]:
    """Return the units of each label."""
    order = np.argsort(labels, kind="stable")
    present, starts = np.unique(labels[order], return_index=True)
    return {
        int(label): np.unique(units)
        for label, units in zip(present, np.split(unit_of_row[order], starts[1:]), strict=True)
    }


def _with_classes_on_both_sides(labels: np.ndarray, unit_of_row: np.ndarray, is_held: np.ndarray) -> np.ndarray:
    """Return what is held out after units have changed sides: the smallest that bring a class where it lacks."""
    sizes, homes = np.bincount(unit_of_row), _homes(labels, unit_of_row)
    is_out = np.zeros(len(sizes), dtype=bool)
    is_out[unit_of_row] = is_held
    by_size = {label: home[np.argsort(sizes[home], kind="stable")] for label, home in homes.items()}
    for home in by_size.values():
        if is_out[home].all():
            is_out[home[0]] = False
    for home in by_size.values():
        if not is_out[home].any():
            for unit in home:
                inside = np.unique(labels[unit_of_row == unit])
                if all((~is_out[homes[int(label)]]).sum() > 1 for label in inside):
                    is_out[unit] = True
                    break
    changed: np.ndarray = is_out[unit_of_row]
    return changed


def _spread_classes(labels: np.ndarray, unit_of_row: np.ndarray, dealt: np.ndarray, folds: int) -> np.ndarray:
    """Return the folds after units have changed theirs: no fold has all images of a class.

    A unit that would in every fold stays in none, which is written -1.
    """
    sizes, homes = np.bincount(unit_of_row), _homes(labels, unit_of_row)
    fold_of_unit = np.empty(len(sizes), dtype=np.int64)
    fold_of_unit[unit_of_row] = dealt
    for home in homes.values():
        if (fold_of_unit[home] != fold_of_unit[home[0]]).any() or fold_of_unit[home[0]] == TRAINED:
            continue
        unit = home[np.argmin(sizes[home])]
        others = [homes[int(label)] for label in np.unique(labels[unit_of_row == unit])]
        others = [rest[rest != unit] for rest in others]
        fold_images = np.bincount(fold_of_unit[fold_of_unit >= 0], sizes[fold_of_unit >= 0], minlength=folds)
        free = (
            fold
            for fold in np.argsort(fold_images, kind="stable").tolist()
            if all((fold_of_unit[rest] != fold).any() for rest in others)
        )
        fold_of_unit[unit] = next(free, TRAINED)
    changed: np.ndarray = fold_of_unit[unit_of_row]
    return changed
