"""What delivers batches of images to a model: tuner, `tf.data` as its documentation shows it, and loops by hand."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np

from benchmarks.augmentation import numpy_version
from benchmarks.augmentation.keras_layers import change_by_keras
from tuner.common.seeds import derive_seed
from tuner.common.threads import Threads
from tuner.datasets._encoded_storage import EncodedImages, EncodedWriter, encode_image
from tuner.datasets.loading import Split
from tuner.models.augmentation import parse_augment
from tuner.training._batches import Batches

BATCH = 64
CLASSES = 10
ACTIVATIONS = 1280
"""Values of an image where MobileNetV2's head is trained."""
Feed = Callable[[int], Any]
"""Data for `fit` with so many images; or, of a way that needs no model, what has been read of them: None."""


@dataclass(frozen=True)
class Images:
    """The same images in every form, with labels."""

    plain: np.ndarray
    folder: Path
    """Where they are kept encoded as tuner does."""
    threads: int

    @property
    def labels(self) -> np.ndarray:
        """A class for each."""
        return np.arange(len(self.plain)) % CLASSES

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of one of them."""
        height, width, channels = self.plain.shape[1:]
        return height, width, channels

    def split(self, form: str) -> Split:
        """Return them as tuner reads them: `arrays`, `jpeg`, `lossless` or `activations`."""
        images: np.ndarray | EncodedImages = self.plain
        if form in ("jpeg", "lossless"):
            if not (self.folder / form).exists():
                (self.folder / form).mkdir()
                with EncodedWriter(self.folder / form, "train", Threads(self.threads)) as writer:
                    writer.append(self.plain, np.full(len(self.plain), form == "jpeg"))
            images = EncodedImages(self.folder / form, "train", self.shape, self.threads)
        if form == "activations":
            images = np.random.default_rng(0).random((len(self.plain), ACTIVATIONS)).astype(np.float16)
        return Split(images, np.arange(len(self.plain)), self.labels)

    def files(self, form: str) -> list[bytes]:
        """Return the content of a JPEG or PNG file for each."""
        import cv2

        if form == "jpeg":
            return [encode_image(image, 95) for image in self.plain]
        return [cv2.imencode(".png", image)[1].tobytes() for image in self.plain]

    def order(self, number: int) -> np.ndarray:
        """Return so many places in an order drawn once for all."""
        generator = np.random.default_rng(0)
        rounds = [generator.permutation(len(self.plain)) for _ in range(-(-number // len(self.plain)))]
        return np.concatenate(rounds)[:number]


def by_tuner(images: Images, form: str, text: str) -> Feed:
    """Return the batches of a trial."""
    split, augment = images.split(form), parse_augment(text)
    told = None if augment.is_identity else augment
    return lambda number: Batches(split, CLASSES, BATCH, images.order(number), told, 0, threads=images.threads)


class ByHand(keras.utils.PyDataset):
    """Batches as in a loop of one's own with tuner's augmentation of commit 51df595."""

    def __init__(self, images: Images, text: str, order: np.ndarray) -> None:
        super().__init__()
        self._images, self._text, self._order = images, text, order

    def __len__(self) -> int:
        return -(-len(self._order) // BATCH)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        rows = self._order[index * BATCH : (index + 1) * BATCH]
        labels = np.eye(CLASSES, dtype=np.float32)[self._images.labels[rows]]
        return numpy_version.augmented(self._text, self._images.plain[rows], labels, derive_seed(0, index))


def by_numpy(images: Images, _form: str, text: str) -> Feed:
    """Return the batches of arrays and numpy."""
    return lambda number: ByHand(images, text, images.order(number))


def by_tf_data(images: Images, form: str, text: str) -> Feed:
    """Return a pipeline of `tf.data`, with Keras's layers where images are augmented."""
    import tensorflow

    auto = tensorflow.data.AUTOTUNE
    content = images.plain if form == "arrays" else np.array(images.files(form), dtype=object)
    kept = tensorflow.data.Dataset.from_tensor_slices((content, np.eye(CLASSES, dtype=np.float32)[images.labels]))
    decode = tensorflow.io.decode_jpeg if form == "jpeg" else tensorflow.io.decode_png

    def decoded(file: Any, label: Any) -> Any:
        return tensorflow.ensure_shape(decode(file, channels=images.shape[2]), images.shape), label

    def feed(number: int) -> Any:
        data = kept.shuffle(len(images.plain)).repeat().take(number)
        data = data if form == "arrays" else data.map(decoded, num_parallel_calls=auto)
        data = data.batch(BATCH)
        change = change_by_keras(text)
        return (data if change is None else data.map(change, num_parallel_calls=auto)).prefetch(auto)

    return feed


def by_decoder(images: Images, form: str, _text: str) -> Feed:
    """Return the decoder's own loop over the bytes that tuner keeps, in one thread: all that it can give."""
    import cv2

    images.split(form)
    folder = images.folder / form
    content, index = np.fromfile(folder / "train_images.bin", np.uint8), np.load(folder / "train_index.npy")
    files = [content[start:end].copy() for start, end in pairwise(index)]
    flags = cv2.IMREAD_GRAYSCALE if images.shape[2] == 1 else cv2.IMREAD_COLOR_RGB

    def read(number: int) -> None:
        for row in images.order(number).tolist():
            cv2.imdecode(files[row], flags)

    return read


class Asleep(NamedTuple):
    """A model whose step sleeps as a host does while a device computes, and when each has begun and ended."""

    model: keras.Model
    steps: list[tuple[float, float]]


def idle_model(shape: tuple[int, ...], step_seconds: float = 0.0) -> Asleep:
    """Return a model whose training step takes no time, or so many seconds, which is when it tells of its steps."""
    import tensorflow

    steps: list[tuple[float, float]] = []

    def sleep() -> None:
        began = time.perf_counter()
        time.sleep(step_seconds)
        steps.append((began, time.perf_counter()))

    class Idle(keras.Model):
        """A model that learns nothing."""

        def train_step(self, _batch: object) -> Mapping[str, float]:
            """Sleep."""
            if step_seconds:
                tensorflow.py_function(sleep, [], [])
            return {"loss": 0.0}

    inputs = keras.Input(shape)
    model = Idle(inputs, keras.layers.Flatten()(inputs))
    model.compile(optimizer="sgd", loss="mse", jit_compile=False)
    return Asleep(model, steps)
