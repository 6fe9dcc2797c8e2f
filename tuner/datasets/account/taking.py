"""The account of a data set: what is in it, what is wrong with it, and what becomes of it in a search.

Light: numpy; Pillow when an image is looked at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np

from tuner.common.errors import DataError
from tuner.common.files import shown
from tuner.common.metrics import DEFAULT_METRIC, short_number
from tuner.common.words import counted
from tuner.datasets._decoding import Frame
from tuner.datasets.account._classes import (
    class_facts,
    find_groups,
    find_imbalance,
    guess_groups,
    short_name,
    without_way,
)
from tuner.datasets.account._images import Examined, Look, colour_facts, examine, examine_prepared, size_facts
from tuner.datasets.account.copies import CopyAccount, Examples, take_account
from tuner.datasets.account.facts import (
    EXAMPLES,
    FEW_IMAGES,
    THUMBNAIL_PX,
    Account,
    BrokenImage,
    Conflict,
    GroupFacts,
    GroupGuess,
    SplitFacts,
)
from tuner.datasets.copies import SketchWriter, keep_together, take_copies
from tuner.datasets.images import Original, look_at
from tuner.datasets.prepared import PreparedCopy, refuse_lost, refuse_lost_by_test
from tuner.datasets.sources import SPLITS, Listing, path_of
from tuner.datasets.splits import OWN_UNIT, fold_rows, hold_out, subset_stratified, without_test

SHOWN_ALIKE, MOST_ALIKE = 12, 6
"""Groups of copies of each kind that are shown as pictures, and images of one."""
UNEVEN = 3.0
"""Classes whose sizes differ by this factor are worth a word about metrics and weights."""


class Alike(NamedTuple):
    """Images that are held to be one picture: what is said of them, names and pictures."""

    about: str
    is_conflict: bool
    names: tuple[str, ...]
    pictures: tuple[Callable[[], np.ndarray], ...]


@dataclass(frozen=True)
class Gallery:
    """Images that can be shown one by one, with their labels `[N] int64`."""

    class_names: tuple[str, ...]
    labels: np.ndarray
    name: Callable[[int], str]
    picture: Callable[[int], np.ndarray]
    """Returns an image `[H, W, 1 or 3] uint8`, about as small as a thumbnail where it was larger."""
    alike: tuple[Alike, ...] = ()
    """The first pictures under several labels, then the first of the other copies."""


@dataclass(frozen=True)
class Aims:
    """The metrics and hyperparameters of a study, as far as it matters to what is advised."""

    metrics: tuple[str, ...] = (DEFAULT_METRIC,)
    hyperparameters: frozenset[str] = frozenset()
    seed: int = 0


class Making(NamedTuple):
    """A split that is made where the source gives none: its share of the images that are left for training."""

    name: str
    share: float
    split_seed: int
    seed: int | None
    """The study's; None: it does not depend on the study."""
    folds: int | None = None
    """The split is the first of so many; None: the share is held out."""


@dataclass(frozen=True)
class Rules:
    """The rules by which a search takes its images."""

    makes: tuple[Making, ...]
    """The splits that are made, one after the other."""
    most: Mapping[str, int | None]
    """So many images of a split are used; None: all."""
    skips_broken: bool
    grouped_by: str
    """The column or pattern of groups, if there are some."""
    aims: Aims


Watch = Callable[[int, int], None]
"""Told how many images have been looked at, of how many."""


@dataclass(frozen=True)
class Material:
    """All that an account is taken of: a listing with the name of its source, and its prepared copy if there is one."""

    source: str
    listing: Listing
    refusals: tuple[str, ...]
    """Why a search would refuse the listing."""
    prepared: PreparedCopy | None
    frame: Frame
    """The shape that prepared images would have, and how they become so."""


def account_of(material: Material, rules: Rules, *, is_quick: bool, watch: Watch) -> tuple[Account, Gallery]:
    """Return the account of data, and the images that a search would train on, to be shown.

    What a prepared copy has is taken from it; else every image is decoded, or if `is_quick`, its header is read.
    """
    return _Looking(material, rules, is_quick, watch).tell()


class _Copies(NamedTuple):
    """The copies that were found: an account of them, and their groups by the rows of the listing of each split."""

    account: CopyAccount
    groups: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class _Looking:
    """One look at all images."""

    material: Material
    rules: Rules
    is_quick: bool
    watch: Watch

    @property
    def listing(self) -> Listing:
        """The listing that is looked at."""
        return self.material.listing

    def tell(self) -> tuple[Account, Gallery]:
        """Return the account and the training images."""
        seen, copies = self._seen()
        rows = {split: found.rows(len(self.listing.splits[split].labels)) for split, found in seen.items()}
        labels = {split: self.listing.splits[split].labels[rows[split]] for split in rows}
        broken, guess = self._broken(seen), self._guess(rows)
        classes = class_facts(self.listing.class_names, labels)
        splits, training, refused = self._splits(rows, copies)
        refusals = (*self.material.refusals, *self._refused_for(broken, labels), *refused)
        account = Account(
            source=self.material.source,
            images=sum(map(len, rows.values())),
            classes=classes,
            splits=splits,
            sizes=size_facts(_total(seen)),
            colours=colour_facts(
                _total(seen),
                [value for found in seen.values() for value in found.brightness],
                [self._name(split, row) for split, found in seen.items() for row in found.blank],
            ),
            broken=broken,
            is_decoded=not self.is_quick or self.material.prepared is not None,
            copies=None if copies is None else copies.account,
            conflicts=() if copies is None else self._conflicts(copies.groups),
            imbalance=find_imbalance(classes),
            groups=self._groups(rows),
            weights=self._weights(rows["train"]),
            notices=tuple(without_way(text, self.material.source) for text in self.listing.notices),
            refusals=tuple(dict.fromkeys(without_way(text, self.material.source) for text in refusals)),
            advice=(),
            group_guess=guess,
        )
        return replace(account, advice=tuple(advise(account, self.rules.aims))), self._gallery(training, copies)

    def _seen(self) -> tuple[dict[str, Examined], _Copies | None]:
        """Return what is seen of the images of each split, and the copies among them if they are looked for."""
        total, done = sum(len(listed.labels) for listed in self.listing.splits.values()), 0

        def watch(number: int) -> None:
            nonlocal done
            done += number
            self.watch(done, total)

        prepared, found = self.material.prepared, dict[str, Examined]()
        if prepared is not None:
            for split, listed in self.listing.splits.items():
                skipped, (images, _) = prepared.skipped(split).rows, prepared.open(split)
                found[split] = examine_prepared(listed, skipped, images, watch)
            return found, self._prepared_copies(prepared, found)
        if self.is_quick:
            return {split: examine(listed, Look(), watch) for split, listed in self.listing.splits.items()}, None
        frame = self.material.frame
        with TemporaryDirectory(prefix="tuner-") as name:
            for split, listed in self.listing.splits.items():
                with SketchWriter(Path(name), split, frame.shape[2]) as sketches:
                    found[split] = examine(listed, Look(frame, sketches.append), watch)
            return found, self._new_copies(Path(name), found)

    def _prepared_copies(self, prepared: PreparedCopy, seen: Mapping[str, Examined]) -> _Copies:
        def short(pairs: Examples) -> Examples:
            return tuple(tuple(short_name(name, self.material.source) for name in pair) for pair in pairs)

        known = prepared.copies
        account = replace(
            known,
            examples=short(known.examples),
            conflict_examples=short(known.conflict_examples),
            across=tuple(replace(each, examples=short(each.examples)) for each in known.across),
        )
        return _Copies(
            account, {split: self._put_back(split, seen, prepared.column(split, "copies")) for split in seen}
        )

    def _new_copies(self, folder: Path, seen: Mapping[str, Examined]) -> _Copies | None:
        listed = self.listing.splits
        order = [split for split in ("train", "validation", "test") if split in seen]
        rows = {split: seen[split].rows(len(listed[split].labels)) for split in order}
        numbers = {split: len(rows[split]) for split in order}
        if not any(numbers.values()) or self.material.refusals:  # labels may be none of the classes
            return None
        found = take_copies(folder, numbers, self.material.frame.shape[2])
        account = take_account(
            found,
            {split: listed[split].labels[rows[split]] for split in order},
            lambda split, row: self._name(split, int(rows[split][row])),
            self.listing.class_names,
        )
        parts = np.split(found.groups, np.cumsum(list(numbers.values()))[:-1])
        return _Copies(
            account, {split: self._put_back(split, seen, part) for split, part in zip(order, parts, strict=True)}
        )

    def _put_back(self, split: str, seen: Mapping[str, Examined], groups: np.ndarray | None) -> np.ndarray:
        """Return the groups of copies by the rows of the listing."""
        number = len(self.listing.splits[split].labels)
        found = np.full(number, OWN_UNIT, dtype=np.int64)
        if groups is not None:
            found[seen[split].rows(number)] = groups
        return found

    def _conflicts(self, groups: Mapping[str, np.ndarray]) -> tuple[Conflict, ...]:
        """Return the first of the groups of copies that stand under several labels."""
        found: list[Conflict] = []
        for images in _members(groups):
            labels = [int(self.listing.splits[split].labels[row]) for split, row in images]
            if len(set(labels)) > 1 and len(found) < EXAMPLES:
                names = tuple(self._name(split, row) for split, row in images[:EXAMPLES])
                found.append(Conflict(names, tuple(self.listing.class_names[label] for label in labels[:EXAMPLES])))
        return tuple(found)

    def _name(self, split: str, row: int) -> str:
        return short_name(self.listing.splits[split].name(row), self.material.source)

    def _broken(self, seen: Mapping[str, Examined]) -> tuple[BrokenImage, ...]:
        return tuple(
            BrokenImage(self._name(split, row), split, reason)
            for split, found in seen.items()
            for row, reason in sorted(found.problems.items())
        )

    def _refused_for(self, broken: Sequence[BrokenImage], labels: Mapping[str, np.ndarray]) -> list[str]:
        """Return why a search would refuse the data for their broken images; `labels` are those of the others."""
        if not broken or (self.rules.skips_broken and self.material.refusals):  # labels may be none of the classes
            return []
        if not self.rules.skips_broken:
            return [f"{counted(len(broken), 'broken image')}: remove or repair them, or set data.broken_images to skip"]
        try:
            refuse_lost(self.listing, labels)
        except DataError as error:
            return [str(error)]
        return []

    def _splits(
        self, rows: Mapping[str, np.ndarray], copies: _Copies | None
    ) -> tuple[tuple[SplitFacts, ...], np.ndarray, tuple[str, ...]]:
        """Return the splits of a search, the rows to train on, and why it could not make a split."""
        listed = self.listing.splits
        facts = {
            split: SplitFacts(split, len(rows[split]), "given", groups=self._groups_in(split, rows[split]))
            for split in listed
        }
        usable, parts = rows["train"], {split: (split, rows[split]) for split in listed}
        kept, refused = np.arange(len(listed["train"].labels)), []  # broken ones take part in the first split
        for making in self.rules.makes if not self.material.refusals else ():
            if (name := making.name) not in listed:
                is_test_made = "test" in facts.keys() - listed.keys()
                try:
                    kept, held = self._held_out(kept, making, copies, is_test_made=is_test_made)
                    ours, rest = (np.intersect1d(each, usable) for each in (held, kept))
                    if name == "test":
                        readable, names = listed["train"].labels[usable], self.listing.class_names
                        kept_rows, held_rows = np.searchsorted(usable, rest), np.searchsorted(usable, ours)
                        refuse_lost_by_test(readable, kept_rows, held_rows, names, self.material.source)
                except DataError as error:
                    refused.append(str(error))
                else:
                    facts[name] = SplitFacts(
                        name,
                        len(ours),
                        "made",
                        making.share,
                        making.seed,
                        making.folds,
                        self._groups_in("train", ours),
                    )
                    facts["train"] = SplitFacts("train", len(rest), "left", groups=self._groups_in("train", rest))
                    parts |= {name: ("train", ours), "train": ("train", rest)}
            kept = np.intersect1d(kept, usable)
        ordered = [facts[name] for name in SPLITS if name in facts]
        told = tuple(replace(one, used=_used(one.images, self.rules.most.get(one.name))) for one in ordered)
        for one in told if not (self.material.refusals or refused) else ():  # a search is told the first one alone
            split, there = parts[one.name]
            refused += _refused_limit(one, listed[split].labels[there])
        return told, kept, tuple(refused)

    def _groups_in(self, split: str, rows: np.ndarray) -> int | None:
        """Return in how many groups some images of a split are; None: no groups are given."""
        groups = self.listing.splits[split].groups
        if groups is None:
            return None
        alone = int(np.count_nonzero(groups[rows] == OWN_UNIT))
        return len(np.unique(groups[rows])) + max(0, alone - 1)

    def _held_out(
        self, rows: np.ndarray, making: Making, copies: _Copies | None, *, is_test_made: bool
    ) -> tuple[np.ndarray, np.ndarray]:
        train = self.listing.splits["train"]
        groups = None if train.groups is None else train.groups[rows]
        units, _ = keep_together(train.labels[rows], groups, None if copies is None else copies.groups["train"][rows])
        labels, names, source = train.labels[rows], self.listing.class_names, self.material.source
        source = without_test(source) if is_test_made else source
        if making.folds is None:
            kept, held = hold_out(labels, units, making.share, making.split_seed, names, source)
        else:
            kept, held = fold_rows(labels, units, making.folds, making.split_seed, names, source)[0]
        return rows[kept], rows[held]

    def _guess(self, rows: Mapping[str, np.ndarray]) -> GroupGuess | None:
        """Return what paths say of groups; None where images are no files, and `data.group` can be no pattern."""
        train, source, there = self.listing.splits["train"], self.material.source, rows["train"].tolist()
        if train.groups is not None or train.pixels is not None or path_of(source) is None:
            return None
        paths: list[str] = []
        for row in there:
            if not isinstance(file := train.encoded[row], Path):
                return None
            paths.append(short_name(shown(file), source))
        return guess_groups(paths, train.labels[rows["train"]])

    def _groups(self, rows: Mapping[str, np.ndarray]) -> GroupFacts | None:
        """Return facts of the groups of the images that can be read; None: none are given, or no image can be read."""
        listed = self.listing.splits
        if any(each.groups is None for each in listed.values()) or not any(map(len, rows.values())):
            return None
        groups, labels = (
            np.concatenate([getattr(listed[split], column)[rows[split]] for split in rows])
            for column in ("groups", "labels")
        )
        alone = np.flatnonzero(groups == OWN_UNIT)
        groups[alone] = groups.max(initial=0) + 1 + np.arange(len(alone))
        return find_groups(self.rules.grouped_by, self.listing.class_names, groups, labels)

    def _weights(self, rows: np.ndarray) -> tuple[float, float] | None:
        weights = self.listing.splits["train"].weights
        if weights is None or not len(rows):
            return None
        return float(weights[rows].min()), float(weights[rows].max())

    def _alike(self, groups: Mapping[str, np.ndarray]) -> tuple[Alike, ...]:
        """Return the first groups of copies, those under several labels first, of each the first few images."""
        found: dict[bool, list[Alike]] = {True: [], False: []}
        for images in _members(groups):
            labels = [int(self.listing.splits[split].labels[row]) for split, row in images]
            is_conflict = len(set(labels)) > 1
            if len(found[is_conflict]) == SHOWN_ALIKE:
                continue
            shown = images[:MOST_ALIKE]
            if is_conflict and len({*labels[:MOST_ALIKE]}) == 1:
                shown = [
                    *shown[:-1],
                    next(one for one, label in zip(images, labels, strict=True) if label != labels[0]),
                ]
            classes = list(dict.fromkeys(self.listing.class_names[label] for label in labels if label >= 0))
            found[is_conflict].append(
                Alike(
                    f"{len(images):,} images, {' or '.join(classes[:EXAMPLES])}",
                    is_conflict,
                    tuple(self._name(split, row) for split, row in shown),
                    tuple(partial(self._picture, row, split) for split, row in shown),
                )
            )
        return (*found[True], *found[False])

    def _gallery(self, training: np.ndarray, copies: _Copies | None) -> Gallery:
        train = self.listing.splits["train"]
        return Gallery(
            self.listing.class_names,
            train.labels[training],
            lambda place: self._name("train", int(training[place])),
            lambda place: self._picture(int(training[place])),
            () if copies is None else self._alike(copies.groups),
        )

    def _picture(self, row: int, split: str = "train") -> np.ndarray:
        listed = self.listing.splits[split]
        if listed.pixels is not None:
            pixels: np.ndarray = listed.pixels[row]
            return pixels if pixels.ndim == 3 else pixels[:, :, None]
        return look_at(listed.encoded[row], THUMBNAIL_PX)[1]


def _members(groups: Mapping[str, np.ndarray]) -> list[list[tuple[str, int]]]:
    """Return split and row of the images of each group of copies."""
    found: dict[int, list[tuple[str, int]]] = {}
    for split, numbers in groups.items():
        for row in np.flatnonzero(numbers != OWN_UNIT).tolist():
            found.setdefault(int(numbers[row]), []).append((split, row))
    return list(found.values())


def _used(images: int, most: int | None) -> int | None:
    return most if most is not None and most < images else None


def _refused_limit(split: SplitFacts, labels: np.ndarray) -> list[str]:
    """Return why a search could not use as few of the images of a split, with `labels` `[N] int64`, as it is to."""
    try:
        if split.used is not None:
            subset_stratified(labels, split.used, 0, f"data.max_{split.name}_images")
    except DataError as error:
        return [str(error)]
    return []


def _total(seen: Mapping[str, Examined]) -> Counter[Original]:
    found = Counter[Original]()
    for each in seen.values():
        found.update(each.originals)
    return found


def advise(account: Account, aims: Aims) -> Iterator[str]:
    """Yield what to do next with data of this account, for a study with these aims."""
    balance, guess = account.imbalance, account.group_guess
    if account.broken:
        yield "look at the broken images; data.broken_images: skip leaves them out of a search"
    if account.copies is not None and account.copies.conflicts:
        yield "correct the labels of the pictures that stand under several of them"
    if account.copies is not None and account.copies.across:
        yield "take copies out of the splits that the source gives: what is measured on them is too good"
    if balance.ratio >= UNEVEN and set(aims.metrics) & {"val_accuracy", "val_loss"}:
        yield (
            f"the classes differ in size by a factor of {short_number(balance.ratio)}: judge by metric: "
            f"val_balanced_accuracy (always {balance.largest} has {1 / max(1, len(account.classes)):.1%} there)"
        )
    if balance.ratio >= UNEVEN and "class_weight" not in aims.hyperparameters:
        yield "let the search try class_weight: {choice: [none, balanced]} in its space"
    if balance.few:
        yield f"find more images of the classes with fewer than {FEW_IMAGES}, or join them with others"
    if guess is not None:
        yield (
            f"do images belong together whose paths share a part, such as the {guess.images:,} of {guess.example} "
            f"({guess.parts:,} parts in all)? If they show one patient, product or scene, keep them on one side of a "
            f"split: data.group: '{guess.pattern}'"
        )
