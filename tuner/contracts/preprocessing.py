"""The contract of every preprocessing operation: a function of each image that keeps its word, and is saved with it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np

from tuner.common.errors import PipelineError
from tuner.contracts.check import Check
from tuner.contracts.drawn import drawn_images, is_close
from tuner.contracts.operations import OperationSubject
from tuner.models.preprocessing import parse_preprocess

_SHAPES = ((32, 32, 3), (28, 36, 1))
_SLACK = 1e-5


def _apply(text: str, images: np.ndarray) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(parse_preprocess(text).apply(images)))


def _usable(subject: OperationSubject, shape: tuple[int, int, int]) -> Iterator[str]:
    """Yield the texts that the operation takes for images of this shape; what it refuses is refused before a search."""
    for text in subject.texts():
        try:
            parse_preprocess(text).output_shape(shape)
        except PipelineError:
            continue
        yield text


def _keeps_word(subject: OperationSubject) -> Iterator[str]:
    for shape in _SHAPES:
        images = drawn_images(shape, 3)
        for text in _usable(subject, shape):
            preprocess = parse_preprocess(text)
            said = preprocess.output_shape(shape)
            if max(said) > 256:
                continue
            found = _apply(text, images)
            if found.shape[1:] != tuple(said):
                yield f"{text} says that {list(shape)} becomes {list(said)}, and makes it {list(found.shape[1:])}"
            elif len(found) != len(images):
                yield f"{text} makes {len(found)} images of {len(images)}"
            elif found.dtype != np.float32:
                yield f"{text} must give float32; it gives {found.dtype}"
            elif not np.isfinite(found).all():
                yield f"{text} gives values that are not finite"
            elif problem := _range_problem(text, found):
                yield problem


def _range_problem(text: str, found: np.ndarray) -> str:
    value_range = parse_preprocess(text).value_range
    if value_range is None:
        return ""
    low, high = value_range
    slack = (0.2 if "method=" in text else _SLACK) * (high - low)  # some ways of resizing overshoot at edges
    if low - slack <= found.min() and found.max() <= high + slack:
        return ""
    return f"{text} says that values lie in {low:g} to {high:g}, and gives {found.min():.4g} to {found.max():.4g}"


def _each_by_itself(subject: OperationSubject) -> Iterator[str]:
    images = drawn_images(_SHAPES[0], 6)
    found, again = _apply(subject.text, images), _apply(subject.text, images)
    if not np.array_equal(found, again):
        yield f"{subject.name} gives other values for the same images each time: preprocessing must draw nothing"
    elif not np.allclose(found[4:5], _apply(subject.text, images[4:5]), atol=1e-4):
        yield f"{subject.name} makes of an image what depends on the other images of its batch"


def _is_saved(subject: OperationSubject) -> Iterator[str]:
    shape = _SHAPES[0]
    images, inputs = drawn_images(shape, 3), keras.Input(shape, dtype="float32")
    try:
        model = keras.Model(inputs, parse_preprocess(subject.text).apply(inputs))
    except Exception as error:  # noqa: BLE001  the code of others may raise anything
        yield f"{subject.name} must be made of keras.ops and layers: {subject.author.explain(error)}"
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        try:
            model.save(path)
            loaded = keras.models.load_model(path)
        except Exception as error:  # noqa: BLE001  the code of others may raise anything
            yield f"{subject.name} cannot be saved with a network and loaded again: {subject.author.explain(error)}"
            return
    given = np.asarray(keras.ops.convert_to_numpy(loaded(images)))
    if not is_close(_apply(subject.text, images), given):
        yield f"{subject.name} does something else in a network that has been saved and loaded again"


PREPROCESSING_CHECKS: tuple[Check[OperationSubject], ...] = (
    Check("form", "makes images of the shape, range and type that it says", _keeps_word, True),
    Check("images", "is the same each time, for each image by itself", _each_by_itself),
    Check("file", "is saved with a network and loaded again", _is_saved),
)
