"""Where images come from: one registry entry for each kind. A source lists its images; nothing is decoded yet.

Here are the kinds, and those that come with libraries; `file_sources` has those that are files. Light: what reads a
format is imported when it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tuner import class_names
from tuner.errors import DataError
from tuner.images import EncodedImage
from tuner.registry import Registry, unknown_name

SPLITS = {
    "train": ("train", "training"),
    "test": ("test", "testing"),
    "validation": ("validation", "val", "valid"),
}


@dataclass(frozen=True)
class Listed:
    """The images of one split: pixels `[N, H, W(, C)] uint8`, or encoded files with the names that errors give them."""

    labels: np.ndarray
    pixels: np.ndarray | None = None
    encoded: Sequence[EncodedImage] = ()
    names: Sequence[str] = ()

    def take(self, rows: np.ndarray) -> Listed:
        """Some of the images."""
        if self.pixels is not None:
            return Listed(self.labels[rows], self.pixels[rows])
        return Listed(self.labels[rows], None, [self.encoded[row] for row in rows], [self.names[row] for row in rows])


@dataclass(frozen=True)
class Listing:
    """All that a source offers: `train`, possibly `test` and `validation`."""

    class_names: tuple[str, ...]
    splits: Mapping[str, Listed]


@dataclass(frozen=True)
class Source:
    """`identity(reference)` changes when the data change; `read(reference)` lists them."""

    identity: Callable[[str], Any]
    read: Callable[[str], Listing]


NAMED: Registry[Source] = Registry("data source")
"""Sources that are written as their name."""
PREFIXED: Registry[Source] = Registry("data source")
"""Sources that are written `kind:reference`."""


def find_source(text: str) -> tuple[Source, str]:
    """The source written as `text`, and what follows its colon.

    Raises:
        DataError: there is no such source; the message has the nearest.
    """
    kind, colon, reference = text.partition(":")
    if colon and kind in PREFIXED:
        if not reference.strip():
            raise DataError(f"must name what to read after {kind}:, for example {kind}:data/images; got {text!r}")
        return PREFIXED[kind], reference
    if not colon and text in NAMED:
        return NAMED[text], text
    known = [*NAMED, *(f"{name}:..." for name in PREFIXED)]
    raise DataError(
        f"{unknown_name('data source', text, known)}; a name of your own must be staged with --data NAME=SOURCE"
    )


# --- data sets that come with libraries ---


def _library_version(package: str) -> Callable[[str], Any]:
    def identity(reference: str) -> Any:
        from importlib.metadata import version

        return [reference, version(package)]

    return identity


def _read_digits(_reference: str) -> Listing:
    """Scikit-learn's 1,797 digits of 8x8; 0..16 becomes 0..255."""
    from sklearn.datasets import load_digits

    loaded = load_digits()
    pixels = np.round(loaded.images * (255 / 16)).astype(np.uint8)
    return Listing(class_names.DIGITS, {"train": Listed(loaded.target.astype(np.int64), pixels)})


def _keras_reader(name: str, names: tuple[str, ...]) -> Callable[[str], Listing]:
    def read(_reference: str) -> Listing:
        import keras

        try:
            train, test = getattr(keras.datasets, name).load_data()
        except Exception as error:  # Keras raises the bare class when a download fails
            if type(error) is not Exception and not isinstance(error, OSError):
                raise
            raise DataError(
                f"{name} cannot be fetched ({str(error).splitlines()[0]}); stage a copy with --data {name}=SOURCE, "
                f"for example --data {name}=parquet:FOLDER, or put it into a folder {name} below TUNER_DATA"
            ) from None
        splits = {"train": train, "test": test}
        return Listing(
            names,
            {split: Listed(labels.reshape(-1).astype(np.int64), images) for split, (images, labels) in splits.items()},
        )

    return read


NAMED.add("digits", Source(_library_version("scikit-learn"), _read_digits))
for _name, _names in (
    ("cifar10", class_names.CIFAR10),
    ("cifar100", class_names.CIFAR100),
    ("mnist", class_names.DIGITS),
    ("fashion_mnist", class_names.FASHION_MNIST),
):
    NAMED.add(_name, Source(lambda reference: [reference], _keras_reader(_name, _names)))


def _read_tensorflow_dataset(reference: str) -> Listing:
    """A data set of TensorFlow Datasets with one image and one label per example."""
    try:
        import tensorflow_datasets
    except ImportError:
        raise DataError(
            f"tfds:{reference} needs TensorFlow Datasets, an extra: pip install 'tuner[tfds]'; "
            f"or stage a copy with --data {reference}=SOURCE"
        ) from None
    try:
        builder = tensorflow_datasets.builder(reference)
        builder.download_and_prepare()
    except Exception as error:  # tfds raises what its downloaders raise, of any class
        message = str(error).strip().splitlines() or [type(error).__name__]
        raise DataError(f"tfds:{reference} cannot be prepared: {message[0]}") from error
    splits: dict[str, Listed] = {}
    for split, aliases in SPLITS.items():
        name = next((alias for alias in aliases if alias in builder.info.splits), None)
        if name is not None:
            examples = list(tensorflow_datasets.as_numpy(builder.as_dataset(split=name)))
            labels = np.array([example["label"] for example in examples], dtype=np.int64)
            splits[split] = Listed(labels, np.stack([example["image"] for example in examples]))
    return Listing(tuple(builder.info.features["label"].names), splits)


PREFIXED.add("tfds", Source(lambda reference: [reference], _read_tensorflow_dataset))
