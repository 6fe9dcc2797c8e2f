"""Batches of an epoch: made ahead by any number of threads, always the same, and gone with the epoch."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest

import tuner
from tuner.common.errors import DataError
from tuner.datasets.loading import Split
from tuner.models.augment.operations import AUGMENTATION
from tuner.models.augmentation import parse_augment
from tuner.training import _batches
from tuner.training._batches import Batches, Stream

IMAGES = np.random.default_rng(0).integers(0, 256, (60, 12, 10, 3)).astype(np.uint8)
SPLIT = Split(IMAGES, np.arange(60), np.arange(60) % 4)
WEIGHTS = np.random.default_rng(1).random(60, dtype=np.float32)
TEXTS = ["flip", "flip|rotate(20)|noise(0.1)|erase(0.3)", "randaugment|mixup(0.4)", "augmix", "cutmix(1)|shift(2)"]


class Watched:
    """Images that tell when rows are read."""

    def __init__(self, on_read: Callable[[np.ndarray], None]) -> None:
        self._on_read = on_read
        self.shape, self.dtype = IMAGES.shape, IMAGES.dtype

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        self._on_read(rows)
        return IMAGES[rows]


def split_of(on_read: Callable[[np.ndarray], None]) -> Split:
    images: Any = Watched(on_read)
    return replace(SPLIT, images=images)


def batches_of(
    split: Split = SPLIT, text: str = "flip", threads: int = 2, size: int = 8, weights: np.ndarray | None = None
) -> Batches:
    return Batches(split, 4, size, np.arange(60)[::-1], parse_augment(text), 3, weights=weights, threads=threads)


def threads_alive() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("batches")]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
def test_an_epoch_is_the_same_by_any_number_of_threads_however_often_it_is_read(text, weights) -> None:
    with batches_of(text=text, threads=1, weights=weights) as alone:
        wanted = [alone[index] for index in range(len(alone))]
    for threads in (2, 3, 16):
        with batches_of(text=text, threads=threads, weights=weights) as batches:
            for order in (range(len(batches)), range(2), range(len(batches)), reversed(range(len(batches)))):
                for index in order:
                    for found, one in zip(batches[index], wanted[index], strict=True):
                        np.testing.assert_array_equal(found, one)


@pytest.mark.parametrize(("threads", "held_bytes", "most"), [(2, 2**28, 4), (3, 2**28, 6), (2, 1, 2), (3, 1, 3)])
def test_batches_are_made_before_they_are_asked_for_and_no_more_than_memory_allows(
    threads, held_bytes, most, monkeypatch
) -> None:
    monkeypatch.setattr(_batches, "AHEAD_BYTES", held_bytes)
    read: list[int] = []
    with batches_of(split_of(lambda rows: read.append(int(rows[0]))), threads=threads, size=4) as batches:
        for asked in (1, 2, 3):
            batches[asked - 1]
            until = time.monotonic() + 10
            while len(read) < asked + most and time.monotonic() < until:
                time.sleep(0.001)
            time.sleep(0.01)
            assert len(read) == asked + most
        assert 1 <= len(threads_alive()) <= threads
    assert not threads_alive() and len(read) <= 3 + most


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("error", [DataError("row 20 is damaged"), MemoryError("none left")], ids=["data", "memory"])
def test_what_making_a_batch_raises_is_raised_by_the_block_and_not_what_keras_makes_of_it(threads, error) -> None:
    def fail(rows: np.ndarray) -> None:
        if 20 in rows:
            raise error

    inputs = keras.Input((12, 10, 3))
    model = keras.Model(inputs, keras.layers.Dense(4)(keras.layers.Flatten()(inputs)))
    model.compile(loss="mse")
    with pytest.raises(type(error), match=str(error)), batches_of(split_of(fail), threads=threads) as batches:
        model.fit(batches, shuffle=False, verbose=0)
    assert not threads_alive()


def test_what_training_raises_is_not_hidden_by_what_is_read_ahead_meeting_the_end_of_threads() -> None:
    """Else a device without memory would be no reason to halve the batch."""

    def read_slowly(rows: np.ndarray) -> None:
        time.sleep(0.1 if rows[0] % 4 == 1 else 0.01)

    def read_ahead(batches: Batches) -> None:
        with suppress(RuntimeError, CancelledError):
            for index in range(len(batches)):
                batches[index]

    with pytest.raises(MemoryError, match="of the device"), batches_of(split_of(read_slowly), size=2) as batches:
        reader = threading.Thread(target=read_ahead, args=(batches,))
        reader.start()
        time.sleep(0.05)
        raise MemoryError("of the device")
    reader.join()


@pytest.mark.parametrize("read", [0, 1, 5])
def test_threads_end_with_the_block_when_it_is_interrupted(read) -> None:
    with pytest.raises(KeyboardInterrupt), batches_of() as batches:
        for index in range(read):
            batches[index]
        raise KeyboardInterrupt
    assert not threads_alive()


def test_threads_end_when_training_is_interrupted() -> None:
    class Interrupting(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            raise KeyboardInterrupt

    inputs = keras.Input((12, 10, 3))
    model = keras.Model(inputs, keras.layers.Dense(4)(keras.layers.Flatten()(inputs)))
    model.compile(loss="mse")
    with pytest.raises(KeyboardInterrupt), batches_of(size=2) as batches:
        model.fit(batches, shuffle=False, verbose=0, callbacks=[Interrupting()])
    assert not threads_alive()


def mirrored(images, labels, generator):
    """Mirror half of the images; what pointed to the left, class 0, then points to the right, class 1."""
    turned = generator.random(len(images)) < 0.5
    images[turned], labels[turned] = images[turned][:, :, ::-1], labels[turned][:, [1, 0, 2, 3]]
    return images, labels


def halved(images, labels, generator):
    """Mix each image with the one as far from the end."""
    return (images + images[::-1]) / 2, (labels + labels[::-1]) / 2


def of_one_class(images, labels, generator):
    """Mix each image with the next one of its class, which the largest share of its label is."""
    classes = labels.argmax(axis=1)
    following = np.arange(len(classes))
    for one in np.unique(classes):
        rows = np.flatnonzero(classes == one)
        following[rows] = np.roll(rows, -1)
    return (images + images[following]) / 2, (labels + labels[following]) / 2


def test_own_code_finds_the_class_of_images_whose_weight_is_0() -> None:
    tuner.augmentation(of_one_class, mixes_labels=True)
    weights = np.where(np.arange(60) % 3 == 0, np.float32(0), WEIGHTS)
    try:
        plain, weighted = (batches_of(text="of_one_class", threads=1, weights=each) for each in (None, weights))
        for index in range(len(plain)):
            own = weights[::-1][index * 8 : index * 8 + 8]
            (images, targets), (same_images, same_targets, found) = plain[index], weighted[index]
            np.testing.assert_array_equal(images, same_images)
            np.testing.assert_array_equal(targets, same_targets)
            # the 60 images are of classes 3, 2, 1, 0, 3, ...: of a batch, the next one of a class is 4 places on
            np.testing.assert_allclose(found, (own + np.roll(own, -4)) / 2, rtol=1e-6, atol=1e-12)
    finally:
        AUGMENTATION.remove("of_one_class")


@pytest.mark.parametrize(
    ("function", "weighed"),
    [(mirrored, lambda weights: weights), (halved, lambda weights: (weights + weights[::-1]) / 2)],
    ids=["of classes", "of images"],
)
def test_own_code_that_changes_labels_is_given_those_of_the_classes_where_images_have_weights_too(
    function, weighed
) -> None:
    tuner.augmentation(function, mixes_labels=True)
    text = f"{function.__name__}|shift(1)"
    try:
        plain, weighted = batches_of(text=text, threads=1), batches_of(text=text, threads=1, weights=WEIGHTS)
        for index in range(len(plain)):
            (images, targets), (same_images, same_targets, found) = plain[index], weighted[index]
            np.testing.assert_array_equal(images, same_images)
            np.testing.assert_array_equal(targets, same_targets)
            np.testing.assert_allclose(found, weighed(WEIGHTS[::-1][index * 8 : index * 8 + 8]), rtol=1e-6)
    finally:
        AUGMENTATION.remove(function.__name__)


def test_images_that_are_not_augmented_need_no_threads() -> None:
    with Batches(SPLIT, 4, 8, np.arange(60), None, 0, threads=4) as batches:
        assert len(batches[0]) == 2 and not threads_alive()


@pytest.mark.parametrize("text", TEXTS)
def test_a_stream_gives_batches_of_several_forms_one_after_the_other_as_they_are(text) -> None:
    stream = Stream()
    for asked in ({}, {"size": 7}, {"weights": WEIGHTS}, {}):
        with batches_of(text=text, **asked) as batches, batches_of(text=text, **asked) as wanted:
            pipeline = stream.of(batches)
            assert int(pipeline.cardinality()) == len(batches)
            for index, found in enumerate(pipeline.as_numpy_iterator()):
                for part, one in zip(found, wanted[index], strict=True):
                    np.testing.assert_array_equal(part, one)
            assert index == len(batches) - 1


def test_what_making_a_batch_raised_in_a_stream_is_what_is_raised() -> None:
    def fail(rows: np.ndarray) -> None:
        if rows[0] < 40:
            raise DataError("no such image")

    model = keras.Sequential([keras.Input((12, 10, 3)), keras.layers.Flatten(), keras.layers.Dense(4)])
    model.compile(loss="mse", jit_compile=False)
    stream = Stream()
    with pytest.raises(DataError, match="no such image"), batches_of(split_of(fail)) as batches:
        model.fit(stream.of(batches), verbose=0)
    with batches_of() as batches:
        assert len(model.fit(stream.of(batches), verbose=0).history["loss"]) == 1
