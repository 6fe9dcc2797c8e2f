"""The small networks trained on half of CIFAR-100's classes; one file of float16 weights, without pickles."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.images.tasks import SUPERCLASSES, TRAINED_ON
from tuner.common.files import replacing
from tuner.common.seeds import derive_seed

if TYPE_CHECKING:
    import keras

    from tuner.datasets.loading import Split

CLASSES = tuple(name for group in TRAINED_ON for name in SUPERCLASSES[group])
PX, SHIFT_PX, BATCH = 32, 4, 128
RATE = 3e-3
"""Of Adam at its highest; a share of it after each epoch along half a cosine."""


def networks(path: Path, epochs: int, cache: Path) -> None:
    """Train the networks that a file lacks, and add each to it when it is trained: a kill loses the one in hand.

    Raises:
        DataError: CIFAR-100 is not at hand.
    """
    from benchmarks.images.small_networks import NETWORKS
    from tuner.models.backend import configure_backend

    arrays = _read(path)
    missing = [name for name in NETWORKS if f"{name}/accuracy" not in arrays]
    if missing:
        configure_backend()
        train, validation = (_of_classes(split, names) for split, names in _splits(cache))
    for name in missing:
        arrays |= {f"{name}/{part}": value for part, value in _trained(name, train, validation, epochs).items()}
        with replacing(path) as aside, aside.open("wb") as file:
            np.savez_compressed(file, **arrays)
    for name in NETWORKS:
        print(f"{name}: {float(arrays[f'{name}/accuracy']):.1%} of images that it was not trained on")


def _read(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        return {}
    with np.load(path, allow_pickle=False) as kept:
        return {key: kept[key] for key in kept.files}


def _splits(cache: Path) -> Iterator[tuple[Split, tuple[str, ...]]]:
    """Yield training images and those held out of them, each with the names of all classes."""
    from tuner.datasets.loading import load_dataset
    from tuner.datasets.request import DataRequest, staged_sources

    request = DataRequest("cifar100", validation_fraction=0.1)
    data = load_dataset(request, staged=staged_sources(os.environ, {}), seed=0, cache_dir=cache, notify=print)
    yield data.train, data.class_names
    yield data.validation, data.class_names


def _of_classes(split: Split, names: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return images `[N, H, W, C] uint8` of the classes that are trained on, and the places of these among them."""
    numbers = np.array([names.index(name) for name in CLASSES])
    images, labels = split.batch(np.flatnonzero(np.isin(split.labels, numbers)))
    order = np.argsort(numbers)
    return images, order[np.searchsorted(numbers[order], labels)]


Images = tuple[np.ndarray, np.ndarray]


def _trained(name: str, train: Images, validation: Images, epochs: int) -> dict[str, Any]:
    """Return the weights of a network after its training, and its accuracy with them as they are kept."""
    import keras

    from benchmarks.images.small_networks import NETWORKS

    keras.utils.set_random_seed(derive_seed(0, "networks", name))
    backbone = NETWORKS[name](keras.Input((PX, PX, 3)))
    model = _with_head(backbone, -(-len(train[0]) // BATCH) * epochs)
    generator = np.random.default_rng(derive_seed(0, "networks", name, "images"))
    for epoch in range(epochs):
        shown = model.fit(_scaled(moved(train[0], generator)), train[1], BATCH, verbose=0).history
        print(f"{name}: epoch {epoch + 1} of {epochs}: {shown['accuracy'][-1]:.1%} of its images", flush=True)
    kept = [weight.astype(np.float16) for weight in backbone.get_weights()]
    backbone.set_weights([weight.astype(np.float32) for weight in kept])
    accuracy = model.evaluate(_scaled(validation[0]), validation[1], BATCH, verbose=0, return_dict=True)["accuracy"]
    return {f"weight{place:02}": weight for place, weight in enumerate(kept)} | {"accuracy": np.array(accuracy)}


def _with_head(backbone: keras.Model, steps: int) -> keras.Model:
    import keras

    x = keras.layers.GlobalAveragePooling2D()(backbone.output)
    x = keras.layers.Dense(len(CLASSES), activation="softmax")(x)
    model = keras.Model(backbone.input, x)
    rate = keras.optimizers.schedules.CosineDecay(RATE, steps)
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def moved(images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return images `[N, H, W, C]`, half of them mirrored, each shifted by some pixels, edges repeated."""
    number, height, width, _ = images.shape
    padded = np.pad(images, ((0, 0), (SHIFT_PX, SHIFT_PX), (SHIFT_PX, SHIFT_PX), (0, 0)), "edge")
    down, right = generator.integers(0, 2 * SHIFT_PX + 1, (2, number))
    rows = down[:, None] + np.arange(height)
    columns = right[:, None] + np.arange(width)
    mirrored = generator.random(number) < 0.5
    columns[mirrored] = columns[mirrored, ::-1]
    found: np.ndarray = padded[np.arange(number)[:, None, None], rows[:, :, None], columns[:, None, :]]
    return found


def _scaled(images: np.ndarray) -> np.ndarray:
    return images.astype(np.float32) / 127.5 - 1.0
