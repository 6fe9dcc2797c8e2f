"""Sources that come with libraries: scikit-learn's digits, and the downloads of Keras and TensorFlow Datasets.

Light: a library is imported when something of it is read.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from tuner.common.errors import DataError, first_line, is_failed_download
from tuner.datasets.images import EncodedImage
from tuner.datasets.sources import NAMED, PREFIXED, SPLITS, Listed, Listing, Source

DIGITS = tuple("0123456789")
CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
FASHION_MNIST = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
_CIFAR100 = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can
castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin
elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster
man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck
pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk
skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger
tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""
CIFAR100 = tuple(_CIFAR100.split())


def _staging(name: str) -> str:
    return (
        f"stage a copy with --data {name}=SOURCE, for example --data {name}=parquet:FOLDER, "
        f"or put it into a folder {name} below TUNER_DATA"
    )


# --- scikit-learn ---


def _digits_identity(_reference: str) -> Any:
    from importlib.metadata import version

    return version("scikit-learn")


def _read_digits(_reference: str) -> Listing:
    """Return the 1,797 digits of 8x8 pixels; their values 0..16 become 0..255."""
    from sklearn.datasets import load_digits

    loaded = load_digits()
    pixels = np.round(loaded.images * (255 / 16)).astype(np.uint8)
    return Listing(DIGITS, {"train": Listed(loaded.target.astype(np.int64), pixels)})


NAMED.add("digits", Source(_digits_identity, _read_digits))


# --- Keras ---


def _keras_reader(name: str, names: tuple[str, ...]) -> Callable[[str], Listing]:
    def read(_reference: str) -> Listing:
        import keras

        try:
            train, test = getattr(keras.datasets, name).load_data()
        except Exception as error:  # nothing narrower can be named for a failed download; all else is raised again
            if not is_failed_download(error) and not isinstance(error, ValueError):  # ValueError: something else came
                raise
            raise DataError(f"{name} cannot be fetched ({first_line(error)}); {_staging(name)}") from None
        splits = {"train": train, "test": test}
        return Listing(
            names,
            {split: Listed(labels.reshape(-1).astype(np.int64), images) for split, (images, labels) in splits.items()},
        )

    return read


for _name, _names in (
    ("cifar10", CIFAR10),
    ("cifar100", CIFAR100),
    ("mnist", DIGITS),
    ("fashion_mnist", FASHION_MNIST),
):
    NAMED.add(_name, Source(lambda reference: reference, _keras_reader(_name, _names)))


# --- TensorFlow Datasets ---


def _read_tensorflow_dataset(reference: str) -> Listing:
    """Return a data set of TensorFlow Datasets that has features `image` and `label`.

    Images are taken as they are stored and decoded here like all others: they may have different sizes.
    """
    tensorflow_datasets, builder = _tensorflow_dataset(reference)
    features = dict(builder.info.features.items())
    if not isinstance(features.get("image"), tensorflow_datasets.features.Image) or not isinstance(
        features.get("label"), tensorflow_datasets.features.ClassLabel
    ):
        raise DataError(
            f"tfds:{reference} must have an image and a label for each example; it has {', '.join(features)}"
        )
    decoders = tensorflow_datasets.decode.PartialDecoding(
        {"image": True, "label": True}, decoders={"image": tensorflow_datasets.decode.SkipDecoding()}
    )
    splits: dict[str, Listed] = {}
    for split, aliases in SPLITS.items():
        name = next((alias for alias in aliases if alias in builder.info.splits), None)
        if name is not None:
            stored = tensorflow_datasets.as_numpy(builder.as_dataset(split=name, decoders=decoders))
            splits[split] = _listed(stored, f"tfds:{reference} {name}")
    if "train" not in splits:
        raise DataError(f"tfds:{reference} must have a split train; it has {', '.join(builder.info.splits)}")
    return Listing(tuple(features["label"].names), splits)


def _listed(examples: Any, where: str) -> Listed:
    encoded: list[EncodedImage] = []
    labels: list[int] = []
    for example in examples:
        encoded.append(example["image"])
        labels.append(int(example["label"]))
    return Listed(np.array(labels, dtype=np.int64), None, encoded, lambda row: f"{where} image {row}")


def _tensorflow_dataset(reference: str) -> tuple[Any, Any]:
    """Return the library, and the builder of a data set after its download."""
    if ".." in reference or reference.startswith(("/", "~")):
        raise DataError(f"tfds:{reference} must name a data set such as tfds:kmnist, not a place on this machine")
    # TensorFlow would take all memory of a GPU, only to read files.
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")
    try:
        import tensorflow_datasets
    except ImportError as error:
        raise DataError(
            f"tfds:{reference} needs TensorFlow Datasets ({error}): pip install tensorflow-datasets; "
            f"or {_staging(reference)}"
        ) from None
    try:
        builder = tensorflow_datasets.builder(reference)
        builder.download_and_prepare()
    except Exception as error:  # each of its thousands of data sets has code of its own, with errors of its own
        # They have no class in common; what was raised stays behind ours as its cause.
        raise DataError(f"tfds:{reference} cannot be prepared ({first_line(error)}); {_staging(reference)}") from error
    return tensorflow_datasets, builder


PREFIXED.add("tfds", Source(lambda reference: reference, _read_tensorflow_dataset))
