"""Loading of data sets: from the name in a search-space file to images, labels and the three splits.

Light: what reads a format is imported when it is read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tuner.common.errors import DataError
from tuner.common.files import format_size, user_path
from tuner.common.process import usable_cpus
from tuner.common.seeds import derive_seed
from tuner.datasets._decoding import Form, Frame, Notify, certain_frame, likely_frame
from tuner.datasets._encoded_storage import EncodedImages
from tuner.datasets.account.facts import Account
from tuner.datasets.account.taking import Aims, Gallery, Making, Material, Rules, Watch, account_of
from tuner.datasets.copies import keep_together
from tuner.datasets.images import DEFAULT_PX
from tuner.datasets.prepared import (
    PreparedCopy,
    default_cache_dir,
    find_prepared,
    open_copy,
    prepare,
    refuse_lost_by_test,
)
from tuner.datasets.request import (
    DataRequest,
    checked,
    described_source,
    list_images,
    read_listing,
    refuse_folds,
)
from tuner.datasets.sources import (
    Listing,
    describe_classes,
    first_names,
    path_of,
)
from tuner.datasets.splits import OWN_UNIT, fold_rows, hold_out, join_units, subset_stratified, without_test
from tuner.datasets.staging import resolve, staged_sources

__all__ = [
    "Dataset",
    "Split",
    "describe_data",
    "find_prepared_data",
    "image_names",
    "load_dataset",
    "look_at_data",
    "staged_sources",
]

TEST_FRACTION = 0.2
TEST_SEED = 0
"""Not the study's: all studies of a data set without a test split of its own are judged on the same images."""


@dataclass(frozen=True)
class Split:
    """Some rows of a memory-mapped array, or of encoded images that are read as one: `images[rows]`, and nothing else.

    `images` `[M, H, W, C] uint8` is the whole array, `rows` `[N] int64` are the images of the split in it, and
    `labels` `[N] int64` are theirs: `images[rows[i]]` has the label `labels[i]` and the weight `weights[i]`.
    """

    images: np.ndarray | EncodedImages
    rows: np.ndarray
    labels: np.ndarray
    weights: np.ndarray | None = None
    """`[N] float32`; None: all weigh 1."""

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, positions: np.ndarray) -> Split:
        """Return the split of the images at `positions` (0 to `len`)."""
        weights = None if self.weights is None else self.weights[positions]
        return Split(self.images, self.rows[positions], self.labels[positions], weights)

    def batch(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return images `[B, H, W, C] uint8` and labels `[B] int64` at `positions` (0 to `len`), reading only these."""
        return self.images[self.rows[positions]], self.labels[positions]


@dataclass(frozen=True)
class Dataset:
    """A data set as a study sees it. The test images are reached by `load_test` and by nothing else."""

    name: str
    source: str
    fingerprint: str
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    train: Split
    validation: Split
    prepared: PreparedCopy
    parts: Callable[[int], tuple[Split, Split]]
    """Training and validation split of each fold; of fold 0 where there are none."""
    test_rows: np.ndarray | None
    """Rows of the training images as prepared that are held out for testing; None: the source has a test split."""
    fit: str = "crop"
    """How images of other proportions were made to fit."""
    threads: int = 1
    """Threads that may work on images in this process."""

    def fold(self, number: int) -> Dataset:
        """Return the data set with the training and validation split of a fold, from 0; a search uses the first."""
        train, validation = self.parts(number)
        return replace(self, train=train, validation=validation)

    def load_test(self) -> Split:
        """Return the test split, which only the finalists see, once."""
        if self.test_rows is None:
            return _whole(self.prepared, "test")
        return _whole(self.prepared, "train").take(self.test_rows)

    def test_units(self) -> np.ndarray | None:
        """Return the unit `[N] int64` of each test image, equal for those of a group; None: each is its own."""
        groups = self.prepared.column("test" if self.test_rows is None else "train", "groups")
        return join_units(groups if groups is None or self.test_rows is None else groups[self.test_rows])

    @property
    def test_images(self) -> int:
        """The number of images in the test split."""
        return self.prepared.counts["test"] if self.test_rows is None else len(self.test_rows)


def load_dataset(
    request: DataRequest,
    *,
    staged: Mapping[str, str],
    seed: int,
    cache_dir: Path | None,
    notify: Notify,
    threads: int | None = None,
    copy: Path | None = None,
) -> Dataset:
    """Return the data set of a request; the first time on a machine, its prepared copy is made.

    Where the prepared copy at `copy` is there, it is taken, and the source is not looked at.

    A source without a test split gets one (stratified, the same for all studies); one without a validation split gets
    one from the training images (stratified, by the study's `seed`), or the first of its folds. So many `threads`
    decode images that are kept encoded; None: one for each CPU that this process may use.

    Raises:
        DataError: it cannot be found, read, decoded or split; the message says what to do.
    """
    text = resolve(request.source, staged)
    prepared = None if copy is None else open_copy(copy)
    prepared = prepared or prepare(
        *_identity(request, text), lambda: read_listing(request, text), cache_dir or default_cache_dir(), notify
    )
    prepared = replace(prepared, threads=threads)
    kept, test_rows = _test_rows(prepared, text)
    _tell_what_is_apart(prepared, kept, notify)
    parts = partial(_limited_parts, prepared, kept, request, seed, text)
    train, validation = parts(0)
    own_size = prepared.image_shape[:2] if prepared.is_own_size else None
    for notice in (*_squeezed(own_size, request), *_part_notices(prepared, kept, test_rows, validation, request)):
        notify(notice)
    return Dataset(
        name=request.source,
        source=text,
        fingerprint=prepared.fingerprint,
        class_names=prepared.class_names,
        image_shape=prepared.image_shape,
        train=train,
        validation=validation,
        prepared=prepared,
        parts=parts,
        test_rows=test_rows,
        fit=request.fit,
        threads=threads or usable_cpus(),
    )


def find_prepared_data(request: DataRequest, staged: Mapping[str, str], cache_dir: Path) -> PreparedCopy | None:
    """Return the prepared copy of the data of a request; None if it has not been made on this machine.

    Raises:
        DataError: the source is unknown, or not there.
    """
    return find_prepared(*_identity(request, resolve(request.source, staged)), cache_dir)


def image_names(request: DataRequest, staged: Mapping[str, str], prepared: PreparedCopy) -> Callable[[str, int], str]:
    """Return what names an image, by its split of the source and its row in the prepared copy, as errors do.

    Raises:
        DataError: the source cannot be listed any more, or images came, went or got other labels since it was prepared:
            then a row is that of another image.
    """
    text = resolve(request.source, staged)
    listing = read_listing(request, text)
    if not _is_of(prepared, listing) or not _has_labels_of(prepared, listing):
        raise DataError(f"{text}: images cannot be named by their rows: it has changed since it was prepared")
    rows = {
        split: np.delete(np.arange(len(listed.labels)), prepared.skipped(split).rows)
        for split, listed in listing.splits.items()
    }
    return lambda split, row: listing.splits[split].name(int(rows[split][row]))


@dataclass(frozen=True)
class DataWords:
    """Facts of data before they are prepared, for a plan; without words where the data are not here."""

    classes: str = ""
    prepared: str = ""
    """The size of the prepared images, and how they are kept."""
    num_classes: int | None = None
    notices: tuple[str, ...] = ()


def describe_data(request: DataRequest, staged: Mapping[str, str], cache_dir: Path) -> DataWords:
    """Return what is known of the data of a request, without decoding or downloading.

    Raises:
        DataError: they are here, and cannot be understood.
    """
    text = resolve(request.source, staged)
    path = path_of(text)
    if path is not None and not user_path(path).exists():
        return DataWords()
    prepared = find_prepared_data(request, staged, cache_dir)
    if prepared is not None:
        refuse_folds(request, prepared.counts, text)
        size = sum(file.stat().st_size for file in prepared.path.iterdir())
        kept = f"{_shape_words(prepared.image_shape)}, {prepared.storage}, {format_size(size)}, prepared before"
        notices = (*prepared.notices, *_squeezed(prepared.image_shape[:2] if prepared.is_own_size else None, request))
        return DataWords(prepared.describe_classes(), kept, len(prepared.class_names), notices)
    if path is None:
        return DataWords()
    listing = read_listing(request, text)
    refuse_folds(request, listing.splits, text)
    classes = describe_classes(listing.class_names, [each.labels for each in listing.splits.values()])
    kept, own_size = _expected(request, listing)
    notices = (*listing.notices, *_squeezed(own_size, request))
    return DataWords(classes, kept, len(listing.class_names), notices)


def _squeezed(own_size: tuple[int, int] | None, request: DataRequest) -> tuple[str, ...]:
    """Return a notice where images keep the size that all have, and preprocessing makes other proportions of them."""
    asked = request.asked
    if own_size is None or asked is None or asked.is_own_asked or request.image_px or request.fit == "stretch":
        return ()
    (height, width), (asked_height, asked_width) = own_size, asked[:2]
    if height * asked_width == width * asked_height:
        return ()
    return (
        f"the images are all of {height}x{width} px and keep that size, so that data.fit does nothing: resize in "
        f"space.preprocess squeezes them to other proportions (with data.image_px they are made to fit: {request.fit})",
    )


def _shape_words(shape: tuple[int, int, int]) -> str:
    return f"{shape[0]}x{shape[1]} px, {'grey' if shape[2] == 1 else 'colour'}"


def _expected(request: DataRequest, listing: Listing) -> tuple[str, tuple[int, int] | None]:
    """Return in words the size of images that are not prepared yet, by a few headers, and what they take as arrays.

    With it the size that all have, where they keep it.
    """
    try:
        frame = likely_frame(listing, _form(request))
    except DataError:  # images that cannot be fetched
        return "", None
    shape = frame.shape
    size = format_size(sum(len(listed.labels) for listed in listing.splits.values()) * math.prod(shape))
    kept = {
        "auto": f"arrays of {size} if the disk has room, else encoded",
        "arrays": f"arrays of {size}",
        "encoded": f"encoded; arrays would take {size}",
    }[request.storage]
    return f"{_shape_words(shape)}, {kept}", shape[:2] if frame.is_own_size else None


def _identity(request: DataRequest, text: str) -> tuple[list[Any], Form]:
    """Return the key of a prepared copy: its source with the present state of its files, and the form of its images."""
    source, reference = described_source(request, text)
    return [text.partition(":")[0], source.identity(reference), request.group], _form(request)


def _form(request: DataRequest) -> Form:
    return Form(
        request.image_px,
        request.asked if request.image_px is None else None,
        request.colour,
        request.fit,
        request.broken_images,
        storage=request.storage,
        jpeg_quality=request.jpeg_quality,
    )


def look_at_data(
    request: DataRequest,
    *,
    staged: Mapping[str, str],
    cache_dir: Path,
    aims: Aims,
    is_quick: bool = False,
    watch: Watch = lambda done, total: None,
) -> tuple[Account, Gallery]:
    """Return the account of the data of a request, and the images that a search would train on, to be shown.

    Nothing is prepared, and nothing but that there is nothing to list ends it.

    Raises:
        DataError: there is nothing that can be listed.
    """
    text = resolve(request.source, staged)
    listing, refusals = list_images(request, text), tuple[str, ...]()
    try:
        listing = checked(listing, text)
        refuse_folds(request, listing.splits, text)
    except DataError as error:
        refusals = (str(error),)
    prepared = None if refusals else find_prepared_data(request, staged, cache_dir)
    if prepared is not None and not _is_of(prepared, listing):
        prepared = None
    folds = request.folds
    share = request.validation_fraction if folds is None else 1 / folds
    seed = derive_seed(aims.seed, "validation split" if folds is None else "folds")
    rules = Rules(
        (
            Making("test", TEST_FRACTION, TEST_SEED, None),
            Making("validation", share, seed, aims.seed, folds),
        ),
        {"train": request.max_train_images, "validation": request.max_validation_images},
        request.broken_images == "skip",
        request.group or "the source",
        aims,
    )
    nothing = Frame((0, 0, 0), request.fit, is_own_size=False, notices=(), expected=None)
    frame = _frame(request, listing) if prepared is None and not is_quick else nothing
    return account_of(Material(text, listing, refusals, prepared, frame), rules, is_quick=is_quick, watch=watch)


def _is_of(prepared: PreparedCopy, listing: Listing) -> bool:
    """Return whether a copy has the images of a listing, but for those that were skipped."""
    return {split: len(listed.labels) for split, listed in listing.splits.items()} == {
        split: number + len(prepared.skipped(split).rows) for split, number in prepared.counts.items()
    }


def _has_labels_of(prepared: PreparedCopy, listing: Listing) -> bool:
    """Return whether a copy that is of a listing has the classes of its images, one by one."""
    return prepared.class_names == listing.class_names and all(
        np.array_equal(np.delete(listed.labels, prepared.skipped(split).rows), prepared.labels(split))
        for split, listed in listing.splits.items()
    )


def _frame(request: DataRequest, listing: Listing) -> Frame:
    """Return the frame of prepared images, as far as it can be known."""
    try:
        return certain_frame(listing, _form(request))
    except DataError:  # images that cannot be fetched
        return Frame((DEFAULT_PX, DEFAULT_PX, 3), request.fit, is_own_size=False, notices=(), expected=None)


def _test_rows(prepared: PreparedCopy, source: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the rows of the training images that are not for testing, and those that are; None: a split is given.

    Skipped images take part, so that one that is repaired changes sides for no other.
    """
    labels = prepared.labels("train")
    if "test" in prepared.counts:
        return np.arange(len(labels), dtype=np.int64), None
    skipped = prepared.skipped("train")
    groups, copies = prepared.column("train", "groups"), prepared.column("train", "copies")
    groups = None if groups is None else skipped.put_back(groups, skipped.groups)
    copies = None if copies is None else skipped.put_back(copies, np.full(len(skipped.rows), OWN_UNIT))
    every = skipped.put_back(labels, skipped.labels)
    units, _ = keep_together(every, groups, copies)
    parts = hold_out(every, units, TEST_FRACTION, TEST_SEED, prepared.class_names, source)
    kept, held = map(skipped.without, parts)
    refuse_lost_by_test(labels, kept, held, prepared.class_names, source)
    return kept, held


def _limited_parts(
    prepared: PreparedCopy, kept: np.ndarray, request: DataRequest, seed: int, source: str, fold: int
) -> tuple[Split, Split]:
    """Return training and validation split of a fold, each of as many images as it may have."""
    train, validation = _train_and_validation(prepared, kept, request, seed, source, fold)
    seeds = [derive_seed(seed, f"{name} subset") for name in ("train", "validation")]
    return (
        _at_most(train, request.max_train_images, seeds[0], "max_train_images"),
        _at_most(validation, request.max_validation_images, seeds[1], "max_validation_images"),
    )


def _train_and_validation(
    prepared: PreparedCopy, kept: np.ndarray, request: DataRequest, seed: int, source: str, fold: int
) -> tuple[Split, Split]:
    """Return training and validation split of the `kept` rows; the second is the source's own or taken from them."""
    refuse_folds(request, prepared.counts, source)
    train = _whole(prepared, "train").take(kept)
    if "validation" in prepared.counts:
        return train, _whole(prepared, "validation")
    units, _ = _units(prepared, kept)
    source = source if "test" in prepared.counts else without_test(source)
    if request.folds is None:
        split_seed, fraction = derive_seed(seed, "validation split"), request.validation_fraction
        trained, held = hold_out(train.labels, units, fraction, split_seed, prepared.class_names, source)
        return train.take(trained), train.take(held)
    try:
        folds = fold_rows(train.labels, units, request.folds, derive_seed(seed, "folds"), prepared.class_names, source)
    except DataError as error:
        raise DataError(f"data.validation.folds: {error}") from None
    trained, held = folds[fold]
    return train.take(trained), train.take(held)


def _units(prepared: PreparedCopy, rows: np.ndarray) -> tuple[np.ndarray | None, np.ndarray]:
    """Return the units of these training images, and the labels whose copies are not kept together."""
    groups, copies = (prepared.column("train", name) for name in ("groups", "copies"))
    groups, copies = (None if each is None else each[rows] for each in (groups, copies))
    return keep_together(prepared.labels("train")[rows], groups, copies)


def _tell_what_is_apart(prepared: PreparedCopy, kept: np.ndarray, notify: Notify) -> None:
    """Say of which classes copies are split, since they have no other images."""
    parted = {"test": np.arange(prepared.counts["train"]), "validation": kept}
    apart = [_units(prepared, rows)[1] for split, rows in parted.items() if split not in prepared.counts]
    labels = np.unique(np.concatenate([np.empty(0, np.int64), *apart]))
    if len(labels):
        notify(
            f"{first_names(prepared.class_names[label] for label in labels)}: all images are copies of each other and "
            "split as if they were not: the class could otherwise not be both trained and judged"
        )


def _part_notices(
    prepared: PreparedCopy, kept: np.ndarray, test_rows: np.ndarray | None, validation: Split, request: DataRequest
) -> Iterator[str]:
    """Yield what is to be said of parts that groups have made much larger or smaller, or left without a class."""
    labels = prepared.labels("train")
    made = [] if test_rows is None else [("test", TEST_FRACTION, labels[test_rows], len(labels))]
    is_given = "validation" in prepared.counts or request.folds is not None or request.max_validation_images is not None
    made += [] if is_given else [("validation", request.validation_fraction, validation.labels, len(kept))]
    for name, wanted, held, number in made:
        if not 2 / 3 <= len(held) / number / wanted <= 3 / 2 and abs(len(held) - wanted * number) > 1:
            yield (
                f"the {name} split has {len(held):,} of {number:,} images ({_percent(len(held) / number)}, not "
                f"{_percent(wanted)}): images that belong together stay together"
            )
        if len(lacking := np.setdiff1d(labels, held)):
            classes = first_names(prepared.class_names[label] for label in lacking)
            yield f"the {name} split has no image of {classes}: they cannot be judged there"


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= 0.01 else f"{share:.2%}"


def _whole(prepared: PreparedCopy, split: str) -> Split:
    images, labels = prepared.open(split)
    return Split(images, np.arange(len(labels), dtype=np.int64), labels, prepared.column(split, "weights"))


def _at_most(split: Split, number: int | None, seed: int, field: str) -> Split:
    """Return at most `number` images of a split, every class in proportion."""
    if number is None or number >= len(split):
        return split
    return split.take(subset_stratified(split.labels, number, seed, f"data.{field}"))
