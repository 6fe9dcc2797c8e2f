"""The operations of the one-line language, with texts to try; the contract of every preprocessing operation.

It is a function of each image that keeps its word, and is saved with it.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tuner.common.errors import PipelineError
from tuner.contracts.author import Author
from tuner.contracts.check import Check
from tuner.contracts.drawn import drawn_images, is_close
from tuner.models.preprocessing import parse_preprocess

_FAR = 10.0
"""In place of a bound that an argument lacks."""
_SHAPES = ((32, 32, 3), (28, 36, 1))
_SLACK = 1e-5


@dataclass(frozen=True)
class OperationSubject:
    """A registered augmentation or preprocessing operation, and what its author calls it."""

    name: str
    arguments: Sequence[Any]
    """Its arguments, as `tuner.models` describes them: name, kind, range or words, default."""
    author: Author
    example: str = ""
    """A text with it, in place of the one that follows from its arguments."""

    @property
    def text(self) -> str:
        """The operation with its defaults; what has none is in the middle of its range."""
        return self.example or self._written({})

    def texts(self) -> Iterator[str]:
        """Yield the operation with its defaults, and with each argument at the ends of its range, once each."""
        yield self.text
        seen = {self.text}
        for argument in self.arguments:
            for value in ends_of(argument):
                text = self._written({argument.name: value})
                if text not in seen:
                    seen.add(text)
                    yield text

    def _written(self, changes: dict[str, Any]) -> str:
        values = {each.name: _middle(each) for each in self.arguments} | changes
        written = ",".join(f"{name}={value}" for name, value in values.items())
        return f"{self.name}({written})" if written else self.name


def ends_of(argument: Any) -> list[Any]:
    """Return the values at which an argument is tried: each word, or both ends of its range."""
    return list(argument.words) if argument.kind is str else [_bound(argument, end) for end in ("low", "high")]


def _bound(argument: Any, end: str) -> int | float:
    value = float(getattr(argument, end))
    value = value if math.isfinite(value) else math.copysign(_FAR, value)
    return int(value) if argument.kind is int else value


def _middle(argument: Any) -> Any:
    if argument.default is not None:
        return argument.default
    if argument.kind is str:
        return argument.words[0]
    middle = (_bound(argument, "low") + _bound(argument, "high")) / 2
    return max(_bound(argument, "low"), int(middle)) if argument.kind is int else middle


# --- preprocessing ---


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
