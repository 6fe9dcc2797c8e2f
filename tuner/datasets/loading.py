"""Loading of data sets: from the name in a search-space file to images, labels and the three splits.

Light: what reads a format is imported when it is read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tuner.common.errors import DataError
from tuner.common.files import user_path
from tuner.common.registry import unknown_name
from tuner.common.seeds import derive_seed
from tuner.datasets import _library_sources, staging
from tuner.datasets._decoding import Form, Frame, Notify, certain_frame
from tuner.datasets._encoded_storage import ARRAYS, ENCODED, EncodedImages
from tuner.datasets.account.facts import Account
from tuner.datasets.account.taking import Aims, Gallery, Making, Material, Rules, Watch, account_of
from tuner.datasets.copies import keep_together
from tuner.datasets.file_sources import existing
from tuner.datasets.images import DEFAULT_PX, FITS, AskedSize
from tuner.datasets.prepared import PreparedCopy, default_cache_dir, find_prepared, prepare
from tuner.datasets.sources import (
    Listing,
    Source,
    alike_names,
    as_described,
    compile_group,
    describe_classes,
    find_source,
    first_names,
    group_by_path,
    group_notices,
    is_pattern,
    path_of,
)
from tuner.datasets.splits import OWN_UNIT, fold_rows, hold_out, subset_stratified
from tuner.datasets.staging import resolve, staged_sources

__all__ = [
    "DataRequest",
    "Dataset",
    "Split",
    "check_columns",
    "check_group",
    "check_layout",
    "check_source",
    "check_source_exists",
    "describe_data",
    "find_prepared_data",
    "load_dataset",
    "look_at_data",
    "staged_sources",
]

SOURCE_MODULES = (*staging.SOURCE_MODULES, _library_sources)
"""Imported so that their sources are registered: `find_source` knows those of no other module."""
TEST_FRACTION = 0.2
TEST_SEED = 0
"""Not the study's: all studies of a data set without a test split of its own are judged on the same images."""
MOST_FOLDS = 20
CHOICES = {
    "layout": ("auto", "classes", "splits"),
    "colour": ("auto", "rgb", "grey"),
    "fit": FITS,
    "broken_images": ("fail", "skip"),
    "storage": ("auto", ARRAYS, ENCODED),
}


@dataclass(frozen=True)
class DataRequest:
    """The data settings of a search-space file, with the rules of `schema.DataSection`.

    Raises:
        DataError: a value breaks its rule.
    """

    source: str
    layout: str = "auto"
    validation_fraction: float = 0.1
    image_px: int | None = None
    colour: str = "auto"
    fit: str = "crop"
    broken_images: str = "fail"
    max_train_images: int | None = None
    max_validation_images: int | None = None
    storage: str = "auto"
    jpeg_quality: int | None = None
    validation: Mapping[str, int] | None = None
    """`folds`: parts of the training images of which each can be the validation split; None: a fraction is held out."""
    columns: Mapping[str, str | None] | None = None
    group: str | None = None
    asked: AskedSize | None = None
    """No setting: the size that the preprocessing of a search asks for."""

    def __post_init__(self) -> None:
        if not self.source.strip():
            raise DataError(f"data.source must name a data set; got {self.source!r}")
        if not 0 < self.validation_fraction < 1:
            raise DataError(f"data.validation_fraction must be above 0 and below 1; got {self.validation_fraction}")
        if self.image_px is not None and not 4 <= self.image_px <= 2048:
            raise DataError(f"data.image_px must be 4 to 2048; got {self.image_px}")
        for field, known in CHOICES.items():
            if getattr(self, field) not in known:
                raise DataError(f"data.{field}: {unknown_name(field, getattr(self, field), known)}")
        for field in ("max_train_images", "max_validation_images"):
            number = getattr(self, field)
            if number is not None and number < 2:
                raise DataError(f"data.{field} must be at least 2; got {number}")
        if self.jpeg_quality is not None and not 1 <= self.jpeg_quality <= 100:
            raise DataError(f"data.jpeg_quality must be 1 to 100; got {self.jpeg_quality}")
        if self.jpeg_quality is not None and self.storage == ARRAYS:
            raise DataError("data.jpeg_quality must be none with data.storage arrays, which lose nothing")
        if self.folds is not None and not 2 <= self.folds <= MOST_FOLDS:
            raise DataError(f"data.validation.folds must be 2 to {MOST_FOLDS}; got {self.folds}")

    def kept_as(self, storage: str) -> DataRequest:
        """Return the request for images that are kept as `arrays` or `encoded`."""
        return replace(self, storage=storage, jpeg_quality=self.jpeg_quality if storage == ENCODED else None)

    def kept_as_before(self, storage: str) -> DataRequest:
        """Return the request for images that are kept as `storage` says, unless it says itself how."""
        return self.kept_as(storage) if self.storage == "auto" else self

    @property
    def folds(self) -> int | None:
        """The number of folds; None where a fraction is held out."""
        return None if self.validation is None else self.validation["folds"]


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

    def fold(self, number: int) -> Dataset:
        """Return the data set with the training and validation split of a fold, from 0; a search uses the first."""
        train, validation = self.parts(number)
        return replace(self, train=train, validation=validation)

    def load_test(self) -> Split:
        """Return the test split, which only the finalists see, once."""
        if self.test_rows is None:
            return _whole(self.prepared, "test")
        return _whole(self.prepared, "train").take(self.test_rows)

    @property
    def test_images(self) -> int:
        """The number of images in the test split."""
        return self.prepared.counts["test"] if self.test_rows is None else len(self.test_rows)


def check_source(source: str, staged: Mapping[str, str]) -> None:
    """Check that a source is known; raises DataError with the nearest name."""
    find_source(resolve(source, staged))


def check_layout(layout: str, source: str, staged: Mapping[str, str]) -> None:
    """Check that a source has a layout, if one is given; raises DataError."""
    text = resolve(source, staged)
    if layout != "auto" and find_source(text)[0].with_layout is None:
        raise DataError(f"must be auto with {text}: only folders have a layout; got {layout!r}")


def check_columns(columns: Mapping[str, str | None] | None, source: str, staged: Mapping[str, str]) -> None:
    """Check that a source has columns, if names of some are given; raises DataError."""
    text = resolve(source, staged)
    if columns is not None and find_source(text)[0].with_columns is None:
        raise DataError(f"can be set for tables alone (csv:, jsonl:, parquet:); {text} has no columns")


def check_group(group: str | None, source: str, staged: Mapping[str, str]) -> None:
    """Check that `data.group` is a column where there are some, or a pattern over paths; raises DataError."""
    text = resolve(source, staged)
    if group is None:
        return
    if is_pattern(group):
        compile_group(group)
    elif find_source(text)[0].with_columns is None:
        raise DataError(
            f"must be a pattern with one group in parentheses, for example '(.*)_', for {text} has no columns; "
            f"got {group!r}"
        )
    if path_of(text) is None:
        raise DataError(f"can be set where images have paths or columns; those of {text} have none")


def check_source_exists(source: str, staged: Mapping[str, str]) -> None:
    """Check that the folder or file of a source is there, if it has one; raises DataError."""
    resolved = resolve(source, staged)
    path = path_of(resolved)
    if path is not None:
        existing(path, resolved.partition(":")[0])


def load_dataset(
    request: DataRequest,
    *,
    staged: Mapping[str, str],
    seed: int,
    cache_dir: Path | None,
    notify: Notify,
    threads: int | None = None,
) -> Dataset:
    """Return the data set of a request; the first time on a machine, its prepared copy is made.

    A source without a test split gets one (stratified, the same for all studies); one without a validation split gets
    one from the training images (stratified, by the study's `seed`), or the first of its folds. So many `threads`
    decode images that are kept encoded; None: one for each CPU that this process may use.

    Raises:
        DataError: it cannot be found, read, decoded or split; the message says what to do.
    """
    text = resolve(request.source, staged)
    prepared = prepare(
        *_identity(request, text), lambda: _read(request, text), cache_dir or default_cache_dir(), notify
    )
    prepared = replace(prepared, threads=threads)
    kept, test_rows = _test_rows(prepared, text)
    _tell_what_is_apart(prepared, kept, notify)
    parts = partial(_limited_parts, prepared, kept, request, seed, text)
    train, validation = parts(0)
    for notice in _part_notices(prepared, kept, test_rows, validation, request):
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
    )


def find_prepared_data(request: DataRequest, staged: Mapping[str, str], cache_dir: Path) -> PreparedCopy | None:
    """Return the prepared copy of the data of a request; None if it has not been made on this machine.

    Raises:
        DataError: the source is unknown, or not there.
    """
    return find_prepared(*_identity(request, resolve(request.source, staged)), cache_dir)


def describe_data(request: DataRequest, staged: Mapping[str, str], cache_dir: Path) -> tuple[str, tuple[str, ...]]:
    """Return the classes of a request in words, and the notices of its source, without decoding or downloading.

    No words where the data are neither prepared nor here.

    Raises:
        DataError: they are here, and cannot be understood.
    """
    text = resolve(request.source, staged)
    path = path_of(text)
    if path is not None and not user_path(path).exists():
        return "", ()
    prepared = find_prepared_data(request, staged, cache_dir)
    if prepared is not None:
        _refuse_folds(request, prepared.counts, text)
        return prepared.describe_classes(), prepared.notices
    if path is None:
        return "", ()
    listing = _read(request, text)
    _refuse_folds(request, listing.splits, text)
    return describe_classes(listing.class_names, [each.labels for each in listing.splits.values()]), listing.notices


def _identity(request: DataRequest, text: str) -> tuple[list[Any], Form]:
    """Return the key of a prepared copy: its source with the present state of its files, and the form of its images."""
    source, reference = _laid_out(request, text)
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


def _laid_out(request: DataRequest, text: str) -> tuple[Source, str]:
    """Return the source that reads `text` as a request says, and the text after its colon."""
    source, reference = find_source(text)
    check_columns(request.columns, text, {})
    check_group(request.group, text, {})
    return as_described(source, request.layout, request.columns, request.group), reference


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
    listing, refusals = _listed(request, text), tuple[str, ...]()
    try:
        listing = _checked(listing, text)
        _refuse_folds(request, listing.splits, text)
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


def _frame(request: DataRequest, listing: Listing) -> Frame:
    """Return the frame of prepared images, as far as it can be known."""
    try:
        return certain_frame(listing, _form(request))
    except DataError:  # images that cannot be fetched
        return Frame((DEFAULT_PX, DEFAULT_PX, 3), request.fit, is_own_size=False, notices=(), expected=None)


def _read(request: DataRequest, text: str) -> Listing:
    """Return the listing of a source, checked, without splits that have no labels and classes that have no images."""
    return _checked(_listed(request, text), text)


def _checked(listing: Listing, text: str) -> Listing:
    _check_listing(listing, text)
    listing = _without_unused(listing, text)
    return replace(listing, notices=(*listing.notices, *group_notices(listing, text)))


def _listed(request: DataRequest, text: str) -> Listing:
    """Return the listing of a source without splits that have no labels."""
    source, reference = _laid_out(request, text)
    listing = source.read(reference)
    if request.group is not None and is_pattern(request.group):
        listing = group_by_path(listing, request.group, existing(reference, text.partition(":")[0]))
    withheld = [
        split
        for split, listed in listing.splits.items()
        if split != "train" and (listed.labels == -1).all() and len(listed.labels)
    ]
    notices = [
        f"{text}: {len(listing.splits[split].labels):,} images of {split} not used: their labels are withheld"
        for split in withheld
    ]
    if twins := alike_names(listing.class_names):
        notices.append(f"{text}: classes of their own, though their names are alike: {first_names(twins)}")
    splits = {split: listed for split, listed in listing.splits.items() if split not in withheld}
    return replace(listing, splits=splits, notices=(*listing.notices, *notices))


def _without_unused(listing: Listing, source: str) -> Listing:
    """Return the listing without the classes of which there is no image.

    Raises:
        DataError: a class has images, and none of them is for training.
    """
    names, trained = np.array(listing.class_names), np.unique(listing.splits["train"].labels)
    every = np.unique(np.concatenate([listed.labels for listed in listing.splits.values()]))
    if untrained := np.setdiff1d(every, trained).tolist():
        raise DataError(
            f"{source}: every class must have training images; there is none of {first_names(names[untrained])}"
        )
    if len(every) == len(names):
        return listing
    unused = np.delete(names, every)
    splits = {
        split: replace(listed, labels=np.searchsorted(every, listed.labels).astype(np.int64))
        for split, listed in listing.splits.items()
    }
    notice = f"{source}: {len(unused)} of {len(names)} classes left out, for no image is of them: {first_names(unused)}"
    names_used = tuple(names[every].tolist())
    return replace(listing, class_names=names_used, splits=splits, notices=(*listing.notices, notice))


def _check_listing(listing: Listing, source: str) -> None:
    names = listing.class_names
    if len(names) < 2:
        raise DataError(f"{source}: must have at least two classes; got {', '.join(names) or 'none'}")
    if len(set(names)) < len(names):
        twice = sorted(name for name, number in Counter(names).items() if number > 1)
        raise DataError(f"{source}: class names must be different; got {', '.join(twice[:10])} more than once")
    for split, listed in listing.splits.items():
        if not len(listed.labels):
            raise DataError(f"{source}: {split} must hold at least one image; it holds none")
        wrong = listed.labels[(listed.labels < 0) | (listed.labels >= len(names))]
        if len(wrong):
            raise DataError(f"{source}: {split} labels must be 0 to {len(names) - 1}; got {wrong[0]}")


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
    lost = np.setdiff1d(labels, labels[kept])
    if len(lost) or not len(held):
        what = (
            f"train an image of {first_names(prepared.class_names[label] for label in lost)}" if len(lost) else "test"
        )
        raise DataError(f"{source}: too many images are broken to split the others: none is left for {what}")
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
    _refuse_folds(request, prepared.counts, source)
    train = _whole(prepared, "train").take(kept)
    if "validation" in prepared.counts:
        return train, _whole(prepared, "validation")
    units, _ = _units(prepared, kept)
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


def _refuse_folds(request: DataRequest, splits: Container[str], source: str) -> None:
    """Refuse folds of a source that gives a validation split."""
    if request.folds is not None and "validation" in splits:
        raise DataError(
            f"data.validation must be left out with {source}, which has a validation split of its own; "
            "or give the data without that split, and the training images are parted into folds"
        )


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
                f"the {name} split has {len(held):,} of {number:,} images ({len(held) / number:.0%}, not "
                f"{wanted:.0%}): images that belong together stay together"
            )
        if len(lacking := np.setdiff1d(labels, held)):
            classes = first_names(prepared.class_names[label] for label in lacking)
            yield f"the {name} split has no image of {classes}: they cannot be judged there"


def _whole(prepared: PreparedCopy, split: str) -> Split:
    images, labels = prepared.open(split)
    return Split(images, np.arange(len(labels), dtype=np.int64), labels, prepared.column(split, "weights"))


def _at_most(split: Split, number: int | None, seed: int, field: str) -> Split:
    """Return at most `number` images of a split, every class in proportion."""
    if number is None or number >= len(split):
        return split
    return split.take(subset_stratified(split.labels, number, seed, f"data.{field}"))
