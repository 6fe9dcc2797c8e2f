"""Data sets: from the name in a search-space file to images, labels and the three splits.

Light: what reads a format is imported when it is read.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tuner import file_sources  # noqa: F401  it registers its sources
from tuner.errors import DataError
from tuner.prepared import Form, Notify, Prepared, default_cache_dir, prepare
from tuner.seeds import derive_seed
from tuner.sources import Listing, find_source

TEST_FRACTION = 0.2
TEST_SEED = 0
"""Not the study's: all studies of a data set without a test split of its own are judged on the same images."""


@dataclass(frozen=True)
class DataRequest:
    """What a search-space file says of its data; see `spec.DataSection` for the ranges."""

    source: str
    validation_fraction: float = 0.1
    image_px: int | None = None
    colour: str = "auto"
    broken_images: str = "fail"
    max_train_images: int | None = None
    max_validation_images: int | None = None


@dataclass(frozen=True)
class Split:
    """Some rows of a memory-mapped array: `images` `[M, H, W, C] uint8`, `rows` and `labels` `[N] int64`."""

    images: np.ndarray
    rows: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Images `[B, H, W, C] uint8` and labels `[B] int64` at `positions` (0 to `len`); only these are read."""
        return self.images[self.rows[positions]], self.labels[positions]


@dataclass(frozen=True)
class Dataset:
    """A data set as a study sees it. The test split is opened by `load_test` and by nothing else."""

    name: str
    source: str
    fingerprint: str
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    train: Split
    validation: Split
    prepared: Prepared

    def load_test(self) -> Split:
        """The test split: for the finalists, once."""
        images, labels = self.prepared.open("test")
        return Split(images, np.arange(len(labels)), labels)


def check_source(source: str, staged: Mapping[str, str]) -> None:
    """See that a source is known; raises DataError with the nearest name."""
    find_source(resolve(source, staged))


def resolve(source: str, staged: Mapping[str, str]) -> str:
    """The source that stands for `source` where a copy is staged under its name (with or without its `tfds:`)."""
    return staged.get(source) or staged.get(source.removeprefix("tfds:")) or source


def staged_sources(environment: Mapping[str, str], overrides: Mapping[str, str]) -> dict[str, str]:
    """Staged copies by name: the subfolders of the folders in TUNER_DATA, then `--data NAME=SOURCE`, which wins."""
    staged: dict[str, str] = {}
    for text in environment.get("TUNER_DATA", "").split(os.pathsep):
        folder = Path(text)
        if text and folder.is_dir():
            for path in sorted(folder.iterdir()):
                source = _source_of(path)
                if source is not None:
                    staged.setdefault(path.stem if path.suffix == ".npz" else path.name, source)
    return {**staged, **overrides}


def _source_of(path: Path) -> str | None:
    """A staged copy as a source, by what lies in it."""
    absolute = path.resolve()
    if path.suffix == ".npz":
        return f"npz:{absolute}"
    if not path.is_dir():
        return None
    if any(path.rglob("*.parquet")):
        return f"parquet:{absolute}"
    return f"folder:{absolute}" if any(inner.is_dir() for inner in path.iterdir()) else None


def load_dataset(
    request: DataRequest, *, staged: Mapping[str, str], seed: int, cache_dir: Path | None, notify: Notify
) -> Dataset:
    """The data set of a request; the first time on a machine, its prepared copy is made.

    A source without a test split gets one (stratified, the same for all studies); one without a validation split gets
    one from the training images (stratified, by the study's `seed`).

    Raises:
        DataError: it cannot be found, read, decoded or split; the message says what to do.
    """
    text = resolve(request.source, staged)
    source, reference = find_source(text)
    form = Form(request.image_px, request.colour, request.broken_images)
    prepared = prepare(
        [text.partition(":")[0], source.identity(reference)],
        form,
        lambda: _with_test(source.read(reference), text),
        cache_dir or default_cache_dir(),
        notify,
    )
    images, labels = prepared.open("train")
    rows = np.arange(len(labels))
    if "validation" in prepared.counts:
        validation_images, validation_labels = prepared.open("validation")
        train = Split(images, rows, labels)
        validation = Split(validation_images, np.arange(len(validation_labels)), validation_labels)
    else:
        split_seed = derive_seed(seed, "validation split")
        kept, held = stratified(labels, request.validation_fraction, split_seed, prepared.class_names, text)
        train, validation = Split(images, kept, labels[kept]), Split(images, held, labels[held])
    return Dataset(
        name=request.source,
        source=text,
        fingerprint=prepared.fingerprint,
        class_names=prepared.class_names,
        image_shape=prepared.image_shape,
        train=_at_most(train, request.max_train_images, derive_seed(seed, "train subset"), prepared.class_names, text),
        validation=_at_most(
            validation,
            request.max_validation_images,
            derive_seed(seed, "validation subset"),
            prepared.class_names,
            text,
        ),
        prepared=prepared,
    )


def _with_test(listing: Listing, source: str) -> Listing:
    """The listing, checked, with a test split made from the training images if it had none."""
    labels = listing.splits["train"].labels
    if len(listing.class_names) < 2:
        raise DataError(f"{source}: must have at least two classes; got {', '.join(listing.class_names) or 'none'}")
    for split, listed in listing.splits.items():
        wrong = listed.labels[(listed.labels < 0) | (listed.labels >= len(listing.class_names))]
        if len(wrong):
            raise DataError(f"{source}: {split} labels must be 0 to {len(listing.class_names) - 1}; got {wrong[0]}")
    if "test" in listing.splits:
        return listing
    kept, held = stratified(labels, TEST_FRACTION, TEST_SEED, listing.class_names, source)
    train = listing.splits["train"]
    return Listing(listing.class_names, {**listing.splits, "train": train.take(kept), "test": train.take(held)})


def stratified(
    labels: np.ndarray, fraction: float, seed: int, class_names: tuple[str, ...], source: str
) -> tuple[np.ndarray, np.ndarray]:
    """(kept, held) rows of `labels` `[N] int64`, sorted: `fraction` of them held out, every class in proportion.

    Raises:
        DataError: a class has too few images to stand on both sides, or the fraction leaves a class out.
    """
    from sklearn.model_selection import train_test_split

    numbers = np.bincount(labels, minlength=len(class_names))
    few = [class_names[index] for index in np.flatnonzero(numbers < 2)]
    if few:
        raise DataError(
            f"{source}: every class must have at least two images to be split; too few: {', '.join(few[:10])}"
        )
    try:
        kept, held = train_test_split(np.arange(len(labels)), test_size=fraction, random_state=seed, stratify=labels)
    except ValueError as error:
        raise DataError(
            f"{source}: {len(labels)} images of {len(class_names)} classes cannot be split by {fraction:g}: {error}"
        ) from None
    return np.sort(kept), np.sort(held)


def _at_most(split: Split, number: int | None, seed: int, class_names: tuple[str, ...], source: str) -> Split:
    """At most `number` images of a split, every class in proportion."""
    if number is None or number >= len(split):
        return split
    _, taken = stratified(split.labels, number / len(split), seed, class_names, source)
    taken = taken[:number]
    return Split(split.images, split.rows[taken], split.labels[taken])
