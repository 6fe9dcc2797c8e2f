"""The labels of images by the best model of a run, or by a stock network: for the command and for Python alike."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tuner.api._data import as_bytes, encoded, is_pillow, is_table, plain_array, table_images
from tuner.common.errors import DataError, InputError, RunError, WeightsError, first_line, printable
from tuner.common.files import shown, user_path
from tuner.datasets.request import is_source, list_unlabelled

if TYPE_CHECKING:
    from pandas import DataFrame

    from tuner.datasets.images import EncodedImage
    from tuner.datasets.sources import Listed
    from tuner.runs.directory import RunDirectory

BATCH_SIZE = 32
BATCH_PIXELS = 2**22
"""As many go through a network at a time, for photos of any size are in memory as they were taken."""


class Picture(NamedTuple):
    """An image to be labelled: its name, and what reads it: its file, its encoded bytes, or pixels `[H, W, 1 or 3]`."""

    name: str
    read: Callable[[], EncodedImage | np.ndarray]


class Prediction(NamedTuple):
    """One image: its name, and the most probable labels with their probabilities, the first of them first."""

    image: str
    labels: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Classifier:
    """A model with its labels, for images `[H, W, channels]` of one size, or of any (`px` is None)."""

    labels: Sequence[str]
    px: tuple[int, int] | None
    channels: int
    probabilities: Callable[[np.ndarray], np.ndarray]
    """Of raw images of one size `[N, H, W, channels] uint8`: `[N, K] float32`."""
    fit: str = "crop"
    """How images of other proportions are made to fit `px`."""


def find_pictures(texts: Iterable[str], notices: list[str]) -> Iterator[Picture]:
    """Yield the images that are named: files, those in folders and below by name, those of sources (`csv:labels.csv`).

    `notices` tell what is left out.

    Raises InputError when nothing is there, or a folder or source holds no image.
    """
    for text in texts:
        path = Path(text) if os.path.lexists(text) else user_path(text)
        if os.path.lexists(path):  # of what is no image it is said later that it cannot be decoded
            yield from map(_of_file, _in_folder(path, notices) if path.is_dir() else [path])
        elif not is_source(text):
            raise InputError(f"{text}: must be an image, a folder of images or a source; nothing is there")
        else:
            for listed in list_unlabelled(text):
                yield from pictures_of(listed)


def _in_folder(path: Path, notices: list[str]) -> list[Path]:
    from tuner.datasets.file_sources import left_out, walk
    from tuner.datasets.images import SUFFIXES

    tree = walk(path, SUFFIXES)
    found = tree.all_files()
    if not found:
        raise InputError(f"{path}: must hold images ({', '.join(SUFFIXES)}); it holds none")
    notices += left_out(tree)
    return found


def _of_file(path: Path) -> Picture:
    return Picture(shown(path), lambda: path)


def pictures_of(listed: Listed) -> Iterator[Picture]:
    """Yield the images of a listing; files are named by their paths."""
    if listed.pixels is not None:
        for row, pixels in enumerate(listed.pixels):
            yield Picture(listed.name(row), partial(_with_channels, pixels))
        return
    for row in range(len(listed.encoded)):
        name = shown(file) if isinstance(listed.encoded, list) and isinstance(file := listed.encoded[row], Path) else ""
        yield Picture(name or listed.name(row), partial(listed.encoded.__getitem__, row))


def _with_channels(pixels: np.ndarray) -> np.ndarray:
    return pixels if pixels.ndim == 3 else pixels[:, :, None]


def load_run_classifier(run: RunDirectory) -> Classifier:
    """Return the best model of a run as a classifier; raises RunError when it has exported none, or a damaged one."""
    from tuner.api.code_of_run import brought_to
    from tuner.models.export import load_model

    is_state = run.exported == run.best_state
    exported = run.best_state if is_state else run.exported_model()
    try:
        about = json.loads(run.about_best.read_text(encoding="utf-8"))
        labels, (height, width, channels) = [str(label) for label in about["labels"]], map(int, about["image_shape"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise RunError(f"{run.about_best}: cannot be read: {error}") from None
    if not labels or min(height, width) < 1 or channels not in (1, 3):
        shape = [height, width, channels]
        raise RunError(f"{run.about_best}: cannot be read: it must have labels and the shape of an image; got {shape}")
    if is_state:
        return _state_classifier(run, about)
    model = load_model(exported, brought_to(run))
    # Version 0.1 exported models that squeeze what is not of their size: for these it is fitted here.
    px = (height, width) if any(layer.name == "to_size" for layer in model.layers) else None
    return Classifier(labels, px, channels, lambda images: model.predict_on_batch(images))


def _state_classifier(run: RunDirectory, about: dict[str, Any]) -> Classifier:
    """Return the state of a training function of one's own as a classifier, for images as that was trained on."""
    from tuner.api.code_of_run import brought_to
    from tuner.training.trainable import load_predictor

    height, width, channels = about["image_shape"]
    try:
        predictor = load_predictor(run.best_state, about, brought_to(run))
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{run.about_best}: cannot be read: {type(error).__name__}: {error}") from None
    return Classifier(about["labels"], (height, width), channels, predictor, str(about.get("fit", "crop")))


def load_imagenet_classifier(name: str) -> Classifier:
    """Return a network of Keras Applications with its 1,000 labels of ImageNet.

    Raises:
        UnknownNameError: there is no such network.
        WeightsError: its weights or the labels cannot be fetched.
    """
    from tuner.common.errors import UnknownNameError
    from tuner.common.registry import unknown_name
    from tuner.models.architectures import ARCHITECTURES

    known = [each for each in ARCHITECTURES if ARCHITECTURES[each].application is not None]
    if name not in known:
        raise UnknownNameError(unknown_name("network", name, known))
    from tuner.models.backend import configure_backend

    configure_backend()
    from tuner.models.backbones import imagenet_classifier

    try:
        model, labels, scale = imagenet_classifier(str(ARCHITECTURES[name].application))
    except (OSError, ValueError) as error:  # urllib's errors are of both kinds
        raise WeightsError(
            f"the weights of {name} or the labels of ImageNet cannot be fetched: {first_line(error)}; "
            "put both files into the folder models/ of KERAS_HOME"
        ) from None
    height, width, channels = model.input_shape[1:]
    return Classifier(labels, (height, width), channels, lambda images: model.predict_on_batch(scale(images)))


def predict_pictures(
    classifier: Classifier, pictures: Sequence[Picture], top: int, on_failure: Callable[[str, str], None]
) -> Iterator[Prediction]:
    """Yield the labels of each image, in order; images that cannot be decoded go to `on_failure` instead."""
    for start in range(0, len(pictures), BATCH_SIZE):
        read: list[tuple[str, Any]] = []
        with ThreadPoolExecutor(max_workers=4) as pool:
            batch = pictures[start : start + BATCH_SIZE]
            for picture, found in zip(batch, pool.map(lambda each: _decode(each, classifier), batch), strict=True):
                if isinstance(found, str):
                    on_failure(picture.name, found)
                else:
                    read.append((picture.name, found))
        rows = _probabilities(classifier, [image for _, image in read])
        for (name, _), row in zip(read, rows, strict=True):
            order = np.argsort(-row, kind="stable")[:top]
            yield Prediction(name, tuple((classifier.labels[index], float(row[index])) for index in order))


def _probabilities(classifier: Classifier, images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return those of each image, in order; images of one size go through the network together."""
    places: dict[tuple[int, ...], list[int]] = {}
    for place, image in enumerate(images):
        places.setdefault(image.shape, []).append(place)
    found: dict[int, np.ndarray] = {}
    for (height, width, *_), together in places.items():
        size = max(1, BATCH_PIXELS // (height * width))
        for chunk in (together[start : start + size] for start in range(0, len(together), size)):
            rows = classifier.probabilities(np.stack([images[place] for place in chunk]))
            found.update(zip(chunk, np.asarray(rows), strict=True))
    return [found[place] for place in range(len(images))]


def _decode(picture: Picture, classifier: Classifier) -> Any:
    """Return the image as the model takes it, `[H, W, channels] uint8`, or as text why it cannot be."""
    from tuner.datasets.images import convert_pixels, decode_image

    is_grey = classifier.channels == 1
    try:
        content = picture.read()
        if isinstance(content, np.ndarray):
            return convert_pixels(content, classifier.px, is_grey, classifier.fit)
        return decode_image(content, classifier.px, is_grey, classifier.fit)
    except DataError as error:
        return str(error)


def prediction_table(classifier: Classifier, images: Any, top: int) -> tuple[DataFrame, list[str]]:
    """Return the most probable labels of images of any form, `top` rows for each, and what cannot be read.

    Raises:
        InputError: no images are there, or their form is wrong.
    """
    import pandas as pd

    if not isinstance(top, int) or isinstance(top, bool) or top < 1:
        raise InputError(f"top must be a whole number of at least 1; got {top!r}")
    notices: list[str] = []
    pictures = list(_pictures_in(images, notices))
    if not pictures:
        raise InputError("images must be given; there are none")
    failures: list[str] = []
    found = predict_pictures(classifier, pictures, top, lambda name, why: failures.append(f"{name} {why}"))
    rows = [
        (one.image, place, label, probability)
        for one in found
        for place, (label, probability) in enumerate(one.labels, 1)
    ]
    table = pd.DataFrame(rows, columns=pd.Index(["image", "place", "label", "probability"]))
    return table, [printable(text) for text in (*failures, *notices)]


def _pictures_in(images: Any, notices: list[str]) -> Iterator[Picture]:
    """Yield images that are paths and sources, arrays, encoded bytes, images of Pillow, or cells of a table."""
    if isinstance(images, str | os.PathLike):
        yield from find_pictures([os.fspath(images)], notices)
    elif isinstance(images, bytes) or is_pillow(images):
        yield from _of_values([images], notices)
    elif is_table(images):
        yield from _of_values(table_images(images), notices)
    elif isinstance(images, list | tuple) and all(map(_is_one, images)):
        yield from _of_values(images, notices)
    else:
        several = isinstance(images, list | tuple) and all(np.ndim(each) in (2, 3) for each in images)
        parts = [plain_array(each, f"image {row}")[None] for row, each in enumerate(images)] if several else [images]
        named = {f"image {row}" if several else "images": plain_array(part, "images") for row, part in enumerate(parts)}
        pixels = [one for array in as_bytes(named) for one in array]
        yield from (Picture(str(row), partial(_with_channels, each)) for row, each in enumerate(pixels))


def _is_one(image: Any) -> bool:
    return isinstance(image, str | os.PathLike | bytes) or is_pillow(image)


def _of_values(images: Iterable[Any], notices: list[str]) -> Iterator[Picture]:
    for row, image in enumerate(images):
        if isinstance(image, str | os.PathLike):
            yield from find_pictures([os.fspath(image)], notices)
        else:
            yield Picture(str(row), partial(encoded, image))
