"""The data settings of a search-space file, their checks, and the listing of the source that they describe."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tuner.common.errors import DataError, InputError
from tuner.common.registry import unknown_name
from tuner.datasets import _library_sources, staging
from tuner.datasets._encoded_storage import ARRAYS, ENCODED
from tuner.datasets.file_sources import existing
from tuner.datasets.images import FITS, AskedSize
from tuner.datasets.sources import (
    NAMED,
    PREFIXED,
    Listed,
    Listing,
    Source,
    alike_names,
    as_described,
    compile_group,
    find_source,
    first_names,
    group_by_path,
    group_notices,
    is_pattern,
    path_of,
)
from tuner.datasets.staging import resolve, staged_sources

SOURCE_MODULES = (*staging.SOURCE_MODULES, _library_sources)
"""Imported so that their sources are registered: `find_source` knows those of no other module."""
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


def check_group(
    group: str | None, columns: Mapping[str, str | None] | None, source: str, staged: Mapping[str, str]
) -> None:
    """Check that `data.group` is a column where there are some, or a pattern over paths; raises DataError.

    It must not say other groups than `data.columns` does.
    """
    text = resolve(source, staged)
    if group is None:
        return
    if (other := (columns or {}).get("group")) not in (None, group):
        raise DataError(f"must be left out where data.columns says that groups are in {other!r}; got {group!r}")
    if is_pattern(group):
        compile_group(group)
    elif find_source(text)[0].with_columns is None:
        raise DataError(
            f"must be a pattern with one group in parentheses, for example '(.*)_', for {text} has no columns; "
            f"got {group!r}"
        )
    if path_of(text) is None:
        raise DataError(f"can be set where images have paths or columns; those of {text} have none")


def contradictions(
    source: str,
    layout: str,
    columns: Mapping[str, str | None] | None,
    group: str | None,
    staged: Mapping[str, str],
) -> Iterator[tuple[str, str]]:
    """Yield the name of each setting that the source does not go with, and why; its own where nobody knows it."""
    checks: tuple[tuple[str, Callable[[], None]], ...] = (
        ("source", lambda: check_source(source, staged)),
        ("layout", lambda: check_layout(layout, source, staged)),
        ("columns", lambda: check_columns(columns, source, staged)),
        ("group", lambda: check_group(group, columns, source, staged)),
    )
    for name, check in checks:
        try:
            check()
        except InputError as error:
            yield name, str(error)
            if name == "source":
                return


def check_source_exists(source: str, staged: Mapping[str, str]) -> None:
    """Check that the folder or file of a source is there, if it has one; raises DataError."""
    resolved = resolve(source, staged)
    path = path_of(resolved)
    if path is not None:
        existing(path, resolved.partition(":")[0])


def described_source(request: DataRequest, text: str) -> tuple[Source, str]:
    """Return the source that reads `text` as a request says, and the text after its colon."""
    source, reference = find_source(text)
    check_columns(request.columns, text, {})
    check_group(request.group, request.columns, text, {})
    return as_described(source, request.layout, request.columns, request.group), reference


def read_listing(request: DataRequest, text: str) -> Listing:
    """Return the listing of a source, checked, without splits that have no labels and classes that have no images."""
    return checked(list_images(request, text), text)


def list_images(request: DataRequest, text: str) -> Listing:
    """Return the listing of a source without splits that have no labels."""
    source, reference = described_source(request, text)
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


def is_source(text: str) -> bool:
    """Return whether a text is meant as a source, and not as a path."""
    return text in NAMED or re.match(r"[a-z]+:[^/\\]", text) is not None or text.partition(":")[0] in PREFIXED


def list_unlabelled(text: str) -> Sequence[Listed]:
    """Return the images of a source, which need no labels; raises DataError where there are none."""
    source, reference = find_source(resolve(text, staged_sources(os.environ, {})))
    found = source.unlabelled(reference) if source.unlabelled else list(source.read(reference).splits.values())
    if not sum(len(listed.labels) for listed in found):
        raise DataError(f"{text}: must hold images; it holds none")
    return found


def checked(listing: Listing, text: str) -> Listing:
    """Return a listing without the classes that have no images, with a word on its groups; raises DataError."""
    _check_listing(listing, text)
    listing = _without_unused(listing, text)
    return replace(listing, notices=(*listing.notices, *group_notices(listing, text), *_weight_notices(listing, text)))


def _weight_notices(listing: Listing, source: str) -> tuple[str, ...]:
    """Return a notice of classes whose training images all weigh 0; raises DataError where all images do."""
    train = listing.splits["train"]
    if train.weights is None:
        return ()
    if not train.weights.any():
        raise DataError(f"{source}: the weight of some image to train on must be above 0; all are 0")
    lost = np.setdiff1d(train.labels, train.labels[train.weights > 0])
    names = first_names(listing.class_names[label] for label in lost)
    return (f"{source}: nothing is learnt of {names}: all training images there weigh 0",) if len(lost) else ()


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


def refuse_folds(request: DataRequest, splits: Container[str], source: str) -> None:
    """Refuse folds of a source that gives a validation split."""
    if request.folds is not None and "validation" in splits:
        raise DataError(
            f"data.validation must be left out with {source}, which has a validation split of its own; "
            "or give the data without that split, and the training images are parted into folds"
        )
