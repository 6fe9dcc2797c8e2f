"""The account of a data set: what is in it, what is wrong with it, and what becomes of it in a search.

Facts only: how they are told is the part of `reports.data_section`. Light: numpy; Pillow when an image is looked at.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, NamedTuple

import numpy as np

from tuner.common.errors import DataError
from tuner.common.files import shown, user_path, write_text
from tuner.common.metrics import DEFAULT_METRIC
from tuner.common.process import usable_cpus
from tuner.datasets._decoding import Frame, load_chunk
from tuner.datasets.copies import CopyAccount, Examples, SketchWriter, keep_together, take_account, take_copies
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
_CHUNK_BYTES = 64 * 2**20
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
    copies: CopyAccount | None
    """None where copies were not looked for."""
    conflicts: tuple[Conflict, ...]
    """The first of the pictures under several labels."""
    imbalance: Imbalance
    groups: GroupFacts | None
    weights: tuple[float, float] | None
    """The smallest and the largest weight of a training image; None: all weigh 1."""
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

    def measure(self, images: np.ndarray, rows: np.ndarray) -> None:
        """Take the brightness of images `[N, ...] uint8` of some rows, and which show nothing."""
        if len(images):
            flat = images.reshape(len(images), -1)
            self.brightness += flat.mean(axis=1).tolist()
            self.blank += rows[np.ptp(flat, axis=1) < _BLANK].tolist()

    def rows(self, number: int) -> np.ndarray:
        """Return the rows `[M] int64` of `number` images that can be read."""
        good = np.ones(number, dtype=bool)
        good[list(self.problems)] = False
        return np.flatnonzero(good)


def examine(listed: Listed, look: Look, watch: Callable[[int], None]) -> Examined:
    """Look at every image of a split, whatever is wrong with others; `watch` is told of so many after each some."""
    found = Examined()
    rows_at_once = max(1, min(_CHUNK_ROWS, _CHUNK_BYTES // math.prod(look.frame.shape if look.frame else (1,))))
    with ThreadPoolExecutor(max_workers=min(8, usable_cpus())) as pool:
        for start in range(0, len(listed.labels), rows_at_once):
            rows = range(start, min(start + rows_at_once, len(listed.labels)))
            headers = _headers(listed, rows, pool)
            broken = {row: one for row, one in headers.items() if isinstance(one, str)}
            if look.frame is not None:
                images, broken = _decoded(listed, rows, look.frame, pool)
                found.measure(images, np.array([row for row in rows if row not in broken], np.int64))
                look.keep(images, pool)
            found.problems |= broken
            found.originals.update(
                one for row, one in headers.items() if row not in broken and isinstance(one, Original)
            )
            watch(len(rows))
    return found


@dataclass(frozen=True)
class Look:
    """The way to look at images: decoded in a shape (None: headers alone are read), and handed on to `keep`."""

    frame: Frame | None = None
    keep: Callable[[np.ndarray, Executor], None] = lambda images, pool: None


def _headers(listed: Listed, rows: range, pool: Executor) -> dict[int, Original | str]:
    """Return what each image is, or why its header cannot be read."""
    if listed.pixels is not None:
        height, width, *channels = listed.pixels.shape[1:]
        return dict.fromkeys(rows, Original(width, height, channels in ([], [1]), False, 8, "pixels"))
    encoded = [_fetched(listed.encoded, row) for row in rows]
    return dict(zip(rows, pool.map(_header, encoded), strict=True))


def _fetched(encoded: Sequence[EncodedImage], row: int) -> EncodedImage | DataError:
    """Return an image as it is in the source, or why it cannot be fetched."""
    try:
        return encoded[row]
    except DataError as error:
        return error


def _header(encoded: EncodedImage | DataError) -> Original | str:
    try:
        return str(encoded) if isinstance(encoded, DataError) else read_original(encoded)
    except DataError as error:
        return str(error)


def _decoded(listed: Listed, rows: range, frame: Frame, pool: ThreadPoolExecutor) -> tuple[np.ndarray, dict[int, str]]:
    """Return the good images of some rows, and why each other is broken, those that cannot be fetched among them."""
    try:
        return load_chunk(listed, rows, frame, pool)
    except DataError as error:
        if len(rows) == 1:
            return np.empty((0, *frame.shape), np.uint8), {rows[0]: str(error)}
    parts = [_decoded(listed, range(row, row + 1), frame, pool) for row in rows]
    return np.concatenate([images for images, _ in parts]), {k: v for _, broken in parts for k, v in broken.items()}


def examine_prepared(listed: Listed, skipped: np.ndarray, images: Any, watch: Callable[[int], None]) -> Examined:
    """Look at the headers of a split that was prepared, of which `skipped` rows were broken, and at prepared images.

    Of many images, some are looked at.
    """
    found = examine(listed, Look(), watch)
    found.problems = {}  # what was prepared is whole, whatever its header says
    for row in skipped.tolist():
        try:
            look_at(listed.encoded[row], THUMBNAIL_PX)
        except DataError as error:
            found.problems[row] = str(error)
        else:
            found.problems[row] = "was broken when it was prepared"
    good, number = found.rows(len(listed.labels)), len(images)
    drawn = np.arange(number) if number <= MOST_MEASURED else np.sort(_drawn(number)[:MOST_MEASURED])
    for start in range(0, len(drawn), _CHUNK_ROWS):
        places = drawn[start : start + _CHUNK_ROWS]
        found.measure(np.asarray(images[places]), good[places])
    return found


def _drawn(number: int) -> np.ndarray:
    return np.random.default_rng(_SEED).permutation(number)


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
    for path in (user_path(root), user_path(root).absolute(), user_path(root).resolve()):
        prefix = shown(path).rstrip("/")
        if name.startswith(f"{prefix}/"):
            return name[len(prefix) + 1 :]
    folder = shown(user_path(root).absolute().parent).rstrip("/")
    return name.replace(f"{folder}/", "")  # of a table: its rows name images


def _without_way(text: str, source: str) -> str:
    """Return a message without the way to the source, which is nothing to show to others."""
    root = path_of(source)
    path = shown(user_path(root).absolute()) if root is not None else ""
    return text.replace(path, Path(path).name) if len(path) > 1 else text


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
        refusals = (*self.material.refusals, *self._refused_for(broken), *refused)
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
            notices=tuple(_without_way(text, self.material.source) for text in self.listing.notices),
            refusals=tuple(dict.fromkeys(_without_way(text, self.material.source) for text in refusals)),
            advice=(),
        )
        return replace(account, advice=tuple(advise(account, self.rules.aims, guess))), self._gallery(training)

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
        members: dict[int, list[tuple[str, int]]] = {}
        for split, numbers in groups.items():
            for row in np.flatnonzero(numbers != OWN_UNIT).tolist():
                members.setdefault(int(numbers[row]), []).append((split, row))
        found: list[Conflict] = []
        for images in members.values():
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

    def _refused_for(self, broken: Sequence[BrokenImage]) -> list[str]:
        """Return why a search would refuse the data for their broken images."""
        if not broken or self.rules.skips_broken:
            return []
        s = "s" * (len(broken) > 1)
        return [f"{len(broken):,} broken image{s}: remove or repair them, or set data.broken_images to skip"]

    def _splits(
        self, rows: Mapping[str, np.ndarray], copies: _Copies | None
    ) -> tuple[tuple[SplitFacts, ...], np.ndarray, tuple[str, ...]]:
        """Return the splits of a search, the rows to train on, and why it could not make a split."""
        listed = self.listing.splits
        facts = {
            split: SplitFacts(split, len(rows[split]), "given", groups=self._groups_in(split, rows[split]))
            for split in listed
        }
        usable = rows["train"]
        kept, refused = np.arange(len(listed["train"].labels)), []  # broken ones take part in the first split
        for making in self.rules.makes if not self.material.refusals else ():
            if (name := making.name) not in listed:
                try:
                    kept, held = self._held_out(kept, making, copies)
                except DataError as error:
                    refused.append(str(error))
                else:
                    ours, rest = (np.intersect1d(each, usable) for each in (held, kept))
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
            kept = np.intersect1d(kept, usable)
        ordered = [facts[name] for name in SPLITS if name in facts]
        told = tuple(replace(one, used=_used(one.images, self.rules.most.get(one.name))) for one in ordered)
        return told, kept, tuple(refused)

    def _groups_in(self, split: str, rows: np.ndarray) -> int | None:
        """Return in how many groups some images of a split are; None: no groups are given."""
        groups = self.listing.splits[split].groups
        if groups is None:
            return None
        alone = int(np.count_nonzero(groups[rows] == OWN_UNIT))
        return len(np.unique(groups[rows])) + max(0, alone - 1)

    def _held_out(self, rows: np.ndarray, making: Making, copies: _Copies | None) -> tuple[np.ndarray, np.ndarray]:
        train = self.listing.splits["train"]
        groups = None if train.groups is None else train.groups[rows]
        units, _ = keep_together(train.labels[rows], groups, None if copies is None else copies.groups["train"][rows])
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
        return find_groups(self.rules.grouped_by, self.listing.class_names, groups, labels)

    def _weights(self, rows: np.ndarray) -> tuple[float, float] | None:
        weights = self.listing.splits["train"].weights
        if weights is None or not len(rows):
            return None
        return float(weights[rows].min()), float(weights[rows].max())

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
    if account.copies is not None and account.copies.conflicts:
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
