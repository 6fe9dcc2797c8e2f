"""The account of a data set: what is in it, what is wrong with it, and what becomes of it in a search.

Facts only: how they are told is the part of `reports.data_section`. Light: numpy; Pillow when an image is looked at.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from tuner.common.errors import DataError
from tuner.common.files import shown, user_path, write_text
from tuner.common.metrics import DEFAULT_METRIC
from tuner.common.process import usable_cpus
from tuner.datasets.images import EncodedImage, Original, look_at, read_original
from tuner.datasets.prepared import PreparedCopy
from tuner.datasets.sources import SPLITS, Listed, Listing, path_of
from tuner.datasets.splits import OWN_UNIT, fold_rows, hold_out

VERSION = 1
"""Of the form of an account as JSON."""
FEW_IMAGES = 10
"""A class of fewer is told by its name."""
UNEVEN = 3.0
"""Classes whose sizes differ by this factor are worth a word about metrics and weights."""
COMMONEST = 5
EXAMPLES = 20
"""So many copies, conflicts and blank images are told by name."""
THUMBNAIL_PX = 96
MOST_MEASURED = 20_000
"""Prepared images of which the brightness is measured."""
_SEED = 0
_CHUNK_ROWS = 256
_BLANK = 3
"""Values of an image that differ by less show nothing."""


# --- the facts ---


@dataclass(frozen=True)
class ClassFacts:
    """A class, and its images in all and by split."""

    name: str
    images: int
    splits: Mapping[str, int]


@dataclass(frozen=True)
class SplitFacts:
    """A split of a search: given by the source, made by tuner, or what is left of the images it was made of."""

    name: str
    images: int
    origin: Literal["given", "made", "left"]
    share: float | None = None
    """Of the images it was made of, as asked for."""
    seed: int | None = None
    """The seed of the study; None: it is the same for all studies."""
    folds: int | None = None
    """It is the first of so many folds; None: the share was held out."""
    groups: int | None = None
    used: int | None = None
    """So many of its images a search uses; None: all."""


@dataclass(frozen=True)
class Size:
    """A size in pixels, and how many images have it."""

    width: int
    height: int
    images: int


@dataclass(frozen=True)
class SizeFacts:
    """The sizes of the images as they are in the source."""

    different: int
    smallest: Size
    largest: Size
    median_width: int
    median_height: int
    oblong_share: float
    """Share of the images that are no squares."""
    commonest: tuple[Size, ...]


@dataclass(frozen=True)
class ColourFacts:
    """The colours of the images as they are in the source."""

    grey: int
    coloured: int
    transparent: int
    bits: Mapping[str, int]
    """Images by the bits of a channel."""
    formats: Mapping[str, int]
    brightness: tuple[float, float, float] | None
    """Means of images, 0 to 255: 5% of the images are below the first, half below the second, 95% below the last."""
    measured: int
    """Images of which brightness and blankness were measured: all, or so many drawn by chance."""
    blank: int
    """Images that are of one colour."""
    blank_examples: tuple[str, ...]


@dataclass(frozen=True)
class BrokenImage:
    """An image that cannot be read, and why."""

    name: str
    split: str
    reason: str


@dataclass(frozen=True)
class Imbalance:
    """The difference in size between the classes."""

    largest: str
    largest_share: float
    smallest: str
    ratio: float
    """Images of the largest class for one of the smallest."""
    few: tuple[str, ...]
    """Classes with fewer than `FEW_IMAGES` images."""


@dataclass(frozen=True)
class GroupFacts:
    """The groups whose images stay in one split."""

    given_by: str
    number: int
    smallest: int
    median: float
    largest: int
    lone_classes: tuple[str, ...]
    """Classes that live in one group: they cannot be on two sides of a split."""


@dataclass(frozen=True)
class Conflict:
    """One picture under several labels: the names of its images, and the class of each."""

    names: tuple[str, ...]
    classes: tuple[str, ...]


@dataclass(frozen=True)
class CopyFacts:
    """The images that show what another image shows."""

    exact: int
    """Images that could be left out, since an equal one would stay."""
    near: int
    across: Mapping[str, int]
    """Images with a copy in another split that the source gives: `test in train`."""
    examples: tuple[tuple[str, ...], ...]
    conflicts: tuple[Conflict, ...]
    conflicting: int
    """Pictures under several labels, of which `conflicts` has the first."""


@dataclass(frozen=True)
class Account:
    """All that is known of a data set."""

    source: str
    images: int
    """Those that can be read."""
    classes: tuple[ClassFacts, ...]
    splits: tuple[SplitFacts, ...]
    sizes: SizeFacts | None
    colours: ColourFacts | None
    broken: tuple[BrokenImage, ...]
    is_decoded: bool
    """Whether all images were decoded; else only headers were read, and more may be broken."""
    copies: CopyFacts | None
    """None where copies were not looked for."""
    imbalance: Imbalance
    groups: GroupFacts | None
    notices: tuple[str, ...]
    """What is left out of the source, and other things that may not be expected."""
    refusals: tuple[str, ...]
    """Why a search would refuse the data as they are."""
    advice: tuple[str, ...]
    """What to do next."""

    def as_json(self) -> dict[str, Any]:
        """Return plain values by the names of the fields."""
        return {"version": VERSION, **asdict(self)}


def save_account(path: Path, account: Account) -> None:
    """Write an account for the report."""
    write_text(path, json.dumps(account.as_json(), indent=1))


def load_account(path: Path) -> Account | None:
    """Return the account in a file; None when there is none, none that can be read, or one of another version."""
    from pydantic import TypeAdapter

    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        is_right = isinstance(values, dict) and values.pop("version", None) == VERSION
        return TypeAdapter(Account).validate_python(values) if is_right else None
    except (OSError, ValueError, RecursionError):  # pydantic's are ValueErrors
        return None


# --- what the images are ---


@dataclass
class Examined:
    """The findings of a look at the images of one split."""

    originals: Counter[Original] = field(default_factory=Counter)
    problems: dict[int, str] = field(default_factory=dict)
    """By the row of the image."""
    brightness: list[float] = field(default_factory=list)
    blank: list[int] = field(default_factory=list)

    def rows(self, number: int) -> np.ndarray:
        """Return the rows `[M] int64` of `number` images that can be read."""
        good = np.ones(number, dtype=bool)
        good[list(self.problems)] = False
        return np.flatnonzero(good)


class _Seen(NamedTuple):
    original: Original
    brightness: float = math.nan
    is_blank: bool = False


def examine(listed: Listed, *, is_quick: bool, watch: Callable[[int], None]) -> Examined:
    """Look at every image of a split, whatever is wrong with others; if `is_quick`, at its header alone.

    `watch` is told the number of images after each some hundred.
    """
    found = Examined()
    look = _see_header if is_quick else _see
    with ThreadPoolExecutor(max_workers=min(8, usable_cpus())) as pool:
        for start in range(0, len(listed.labels), _CHUNK_ROWS):
            rows = range(start, min(start + _CHUNK_ROWS, len(listed.labels)))
            if listed.pixels is not None:
                _see_pixels(listed.pixels[rows.start : rows.stop], rows, found)
            else:
                encoded = [_fetched(listed.encoded, row) for row in rows]
                for row, seen in zip(rows, pool.map(look, encoded), strict=True):
                    if isinstance(seen, str):
                        found.problems[row] = seen
                        continue
                    found.originals[seen.original] += 1
                    found.brightness += [] if is_quick else [seen.brightness]
                    found.blank += [row] * seen.is_blank
            watch(len(rows))
    return found


def _fetched(encoded: Sequence[EncodedImage], row: int) -> EncodedImage | str:
    """Return an image as it is in the source, or why it cannot be fetched."""
    try:
        return encoded[row]
    except DataError as error:
        return str(error)


def examine_prepared(listed: Listed, skipped: np.ndarray, images: Any, watch: Callable[[int], None]) -> Examined:
    """Look at the headers of a split that was prepared, of which `skipped` rows were broken, and at prepared images.

    Of many images, some are looked at.
    """
    found = examine(listed, is_quick=True, watch=watch)
    for row in skipped.tolist():
        seen = _see(_fetched(listed.encoded, row))
        found.problems[row] = seen if isinstance(seen, str) else "was broken when it was prepared"
    good = found.rows(len(listed.labels))
    number = len(images)
    drawn = np.arange(number) if number <= MOST_MEASURED else np.sort(_drawn(number)[:MOST_MEASURED])
    for start in range(0, len(drawn), _CHUNK_ROWS):
        places = drawn[start : start + _CHUNK_ROWS]
        flat = np.asarray(images[places]).reshape(len(places), -1)
        found.brightness += flat.mean(axis=1).tolist()
        found.blank += good[places[np.ptp(flat, axis=1) < _BLANK]].tolist() if len(good) == number else []
    return found


def _drawn(number: int) -> np.ndarray:
    return np.random.default_rng(_SEED).permutation(number)


def _see_header(encoded: EncodedImage | str) -> _Seen | str:
    try:
        return encoded if isinstance(encoded, str) else _Seen(read_original(encoded))
    except DataError as error:
        return str(error)


def _see(encoded: EncodedImage | str) -> _Seen | str:
    try:
        if isinstance(encoded, str):
            return encoded
        original, small = look_at(encoded, THUMBNAIL_PX)
    except DataError as error:
        return str(error)
    return _Seen(original, float(small.mean()), int(np.ptp(small)) < _BLANK)


def _see_pixels(pixels: np.ndarray, rows: range, found: Examined) -> None:
    height, width, *channels = pixels.shape[1:]
    found.originals[Original(width, height, channels in ([], [1]), False, 8, "pixels")] += len(rows)
    flat = pixels.reshape(len(pixels), -1)
    found.brightness += flat.mean(axis=1).tolist()
    found.blank += (np.flatnonzero(np.ptp(flat, axis=1) < _BLANK) + rows.start).tolist()


def size_facts(originals: Mapping[Original, int]) -> SizeFacts | None:
    """Return the sizes of images; None where there is none."""
    numbers = Counter[tuple[int, int]]()
    for original, number in originals.items():
        numbers[original.width, original.height] += number
    if not numbers:
        return None
    sizes = [Size(width, height, number) for (width, height), number in numbers.items()]
    by_pixels = sorted(sizes, key=lambda size: (size.width * size.height, size.width))
    oblong = sum(size.images for size in sizes if size.width != size.height)
    return SizeFacts(
        len(sizes),
        by_pixels[0],
        by_pixels[-1],
        _median([(size.width, size.images) for size in sizes]),
        _median([(size.height, size.images) for size in sizes]),
        oblong / numbers.total(),
        tuple(sorted(sizes, key=lambda size: (-size.images, size.width, size.height))[:COMMONEST]),
    )


def _median(weighted: Iterable[tuple[int, int]]) -> int:
    """Return the lower median of values, each with how often it occurs.

    >>> _median([(3, 1), (1, 5), (9, 2)])
    1
    """
    pairs = sorted(weighted)
    ends = np.cumsum([number for _, number in pairs])
    return pairs[int(np.searchsorted(ends, (ends[-1] + 1) // 2))][0]


def colour_facts(
    originals: Mapping[Original, int], brightness: Sequence[float], blank: Sequence[str]
) -> ColourFacts | None:
    """Return the colours of images; None where there is none."""
    if not originals:
        return None

    def number(test: Callable[[Original], bool]) -> int:
        return sum(count for original, count in originals.items() if test(original))

    def by(name: Callable[[Original], str]) -> dict[str, int]:
        found = Counter[str]()
        for original, count in originals.items():
            found[name(original)] += count
        return dict(found.most_common())

    grey, total = number(lambda original: original.is_grey), sum(originals.values())
    levels = np.quantile(brightness, (0.05, 0.5, 0.95)).round(1).tolist() if brightness else None
    return ColourFacts(
        grey,
        total - grey,
        number(lambda original: original.is_transparent),
        by(lambda original: str(original.bits)),
        by(lambda original: original.format),
        None if levels is None else (levels[0], levels[1], levels[2]),
        len(brightness),
        len(blank),
        tuple(blank[:EXAMPLES]),
    )


# --- classes and groups ---


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


class GroupGuess(NamedTuple):
    """Parts of the names of images that may say which belong together."""

    pattern: str
    """A regular expression that finds the part, or the name itself, in the path of every image: for `data.group`."""
    parts: int
    images: int
    example: str


_GUESSES = (
    # The images of one patient, video or product in a folder of their own, in the folder of the class.
    r"[^/]+/[^/]+(?=/[^/]+$)",
    # patient07_003.png, video12-frame0001.jpg, 0132_c1s1_001051_00.jpg, S5 (12).jpg
    r"[^/]*?[0-9][^/_.\- ]*(?=[_.\- ][^/]*$)",
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
    for prefix in (shown(user_path(root)), shown(user_path(root).absolute()), shown(Path(root).resolve())):
        if name.startswith(f"{prefix.rstrip('/')}/"):
            return name[len(prefix.rstrip("/")) + 1 :]
    return name


# --- the account ---


@dataclass(frozen=True)
class Gallery:
    """Images that can be shown one by one, with their labels `[N] int64`."""

    class_names: tuple[str, ...]
    labels: np.ndarray
    name: Callable[[int], str]
    picture: Callable[[int], np.ndarray]
    """Returns an image `[H, W, 1 or 3] uint8`, about as small as a thumbnail where it was larger."""


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


def account_of(material: Material, rules: Rules, *, is_quick: bool, watch: Watch) -> tuple[Account, Gallery]:
    """Return the account of data, and the images that a search would train on, to be shown.

    What a prepared copy has is taken from it; else every image is decoded, or if `is_quick`, its header is read.
    """
    return _Looking(material, rules, is_quick, watch).tell()


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
        seen = self._seen()
        rows = {split: found.rows(len(self.listing.splits[split].labels)) for split, found in seen.items()}
        labels = {split: self.listing.splits[split].labels[rows[split]] for split in rows}
        broken = self._broken(seen)
        classes = class_facts(self.listing.class_names, labels)
        splits, training, refused = self._splits(rows)
        guess = self._guess(rows)
        groups = self._groups(rows)
        imbalance = find_imbalance(classes)
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
            copies=None,
            imbalance=imbalance,
            groups=groups,
            notices=self.listing.notices,
            refusals=tuple(dict.fromkeys((*self.material.refusals, *self._refused_for(broken), *refused))),
            advice=(),
        )
        return replace(account, advice=tuple(advise(account, self.rules.aims, guess))), self._gallery(training)

    def _seen(self) -> dict[str, Examined]:
        total, done = sum(len(listed.labels) for listed in self.listing.splits.values()), 0

        def watch(number: int) -> None:
            nonlocal done
            done += number
            self.watch(done, total)

        found = {}
        for split, listed in self.listing.splits.items():
            if self.material.prepared is None:
                found[split] = examine(listed, is_quick=self.is_quick, watch=watch)
            else:
                skipped, (images, _) = self.material.prepared.skipped(split).rows, self.material.prepared.open(split)
                found[split] = examine_prepared(listed, skipped, images, watch)
        return found

    def _name(self, split: str, row: int) -> str:
        return short_name(self.listing.splits[split].name(row), self.material.source)

    def _broken(self, seen: Mapping[str, Examined]) -> tuple[BrokenImage, ...]:
        return tuple(
            BrokenImage(self._name(split, row), split, reason)
            for split, found in seen.items()
            for row, reason in sorted(found.problems.items())
        )

    def _refused_for(self, broken: Sequence[BrokenImage]) -> list[str]:
        """Return why a search would refuse the data for their broken images."""
        if not broken or self.rules.skips_broken:
            return []
        s = "s" * (len(broken) > 1)
        return [f"{len(broken):,} broken image{s}: remove or repair them, or set data.broken_images to skip"]

    def _splits(self, rows: Mapping[str, np.ndarray]) -> tuple[tuple[SplitFacts, ...], np.ndarray, tuple[str, ...]]:
        """Return the splits of a search, the rows to train on, and why it could not make a split."""
        listed = self.listing.splits
        facts = {split: SplitFacts(split, len(rows[split]), "given") for split in listed}
        usable = rows["train"]
        kept, refused = np.arange(len(listed["train"].labels)), []  # broken ones take part in the first split
        for making in self.rules.makes if not self.material.refusals else ():
            if (name := making.name) not in listed:
                try:
                    kept, held = self._held_out(kept, making)
                except DataError as error:
                    refused.append(str(error))
                else:
                    images, folds = len(np.intersect1d(held, usable)), making.folds
                    facts[name] = SplitFacts(name, images, "made", making.share, making.seed, folds=folds)
                    facts["train"] = SplitFacts("train", len(np.intersect1d(kept, usable)), "left")
            kept = np.intersect1d(kept, usable)
        ordered = [facts[name] for name in SPLITS if name in facts]
        told = tuple(replace(one, used=_used(one.images, self.rules.most.get(one.name))) for one in ordered)
        return told, kept, tuple(refused)

    def _held_out(self, rows: np.ndarray, making: Making) -> tuple[np.ndarray, np.ndarray]:
        train = self.listing.splits["train"]
        units = None if train.groups is None else train.groups[rows]
        labels, names, source = train.labels[rows], self.listing.class_names, self.material.source
        if making.folds is None:
            kept, held = hold_out(labels, units, making.share, making.split_seed, names, source)
        else:
            kept, held = fold_rows(labels, units, making.folds, making.split_seed, names, source)[0]
        return rows[kept], rows[held]

    def _guess(self, rows: Mapping[str, np.ndarray]) -> GroupGuess | None:
        train = self.listing.splits["train"]
        if train.groups is not None or train.pixels is not None:
            return None
        return guess_groups([self._name("train", row) for row in rows["train"].tolist()], train.labels[rows["train"]])

    def _groups(self, rows: Mapping[str, np.ndarray]) -> GroupFacts | None:
        listed = self.listing.splits
        if any(each.groups is None for each in listed.values()):
            return None
        groups, labels = (
            np.concatenate([getattr(listed[split], column)[rows[split]] for split in rows])
            for column in ("groups", "labels")
        )
        alone = np.flatnonzero(groups == OWN_UNIT)
        groups[alone] = groups.max(initial=0) + 1 + np.arange(len(alone))
        return find_groups("the source", self.listing.class_names, groups, labels)

    def _gallery(self, training: np.ndarray) -> Gallery:
        train = self.listing.splits["train"]
        return Gallery(
            self.listing.class_names,
            train.labels[training],
            lambda place: self._name("train", int(training[place])),
            lambda place: self._picture(int(training[place])),
        )

    def _picture(self, row: int) -> np.ndarray:
        train = self.listing.splits["train"]
        if train.pixels is not None:
            pixels: np.ndarray = train.pixels[row]
            return pixels if pixels.ndim == 3 else pixels[:, :, None]
        return look_at(train.encoded[row], THUMBNAIL_PX)[1]


def _used(images: int, most: int | None) -> int | None:
    return most if most is not None and most < images else None


def _total(seen: Mapping[str, Examined]) -> Counter[Original]:
    found = Counter[Original]()
    for each in seen.values():
        found.update(each.originals)
    return found


def advise(account: Account, aims: Aims, guess: GroupGuess | None) -> Iterator[str]:
    """Yield what to do next with data of this account, for a study with these aims."""
    balance = account.imbalance
    if account.broken:
        yield "look at the broken images; data.broken_images: skip leaves them out of a search"
    if account.copies is not None and account.copies.conflicting:
        yield "correct the labels of the pictures that stand under several of them"
    if account.copies is not None and account.copies.across:
        yield "take copies out of the splits that the source gives: what is measured on them is too good"
    if balance.ratio >= UNEVEN and set(aims.metrics) & {"val_accuracy", "val_loss"}:
        yield (
            f"the classes differ in size by a factor of {balance.ratio:.3g}: judge by metric: val_balanced_accuracy "
            f"(always {balance.largest} has {1 / max(1, len(account.classes)):.1%} there)"
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
