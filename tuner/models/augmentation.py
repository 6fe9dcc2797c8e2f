"""Augmentation of training images: random operations on raw images, in the input pipeline, never in the saved model.

Written in numpy: a batch of 128 small images takes some milliseconds, and everything random comes from one seed that is
given, so that an epoch can be trained again exactly. Light: no Keras here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from tuner.common.errors import PipelineError
from tuner.common.registry import Registry, is_nothing, unknown_name
from tuner.models._operations import NONE, Argument, Call, Operation, call_of, parse_pipeline
from tuner.models.parameters import Parameter, Scalar
from tuner.spec.space import Choose, Dimension, Integer, Real, Space
from tuner.spec.strengths import OWNER

Value = TypeVar("Value")

Batch = tuple[np.ndarray, np.ndarray]
"""Images `[N, H, W, C] float32` in 0..255 and labels `[N, K] float32` that add up to 1."""
Effect = Callable[[Mapping[str, Any], np.ndarray, np.ndarray, np.random.Generator], Batch]

AUGMENTATION: Registry[Operation[Effect]] = Registry("augmentation", "tuner.augmentations")


@dataclass(frozen=True)
class Augment:
    """Operations in the order in which they are applied, whether they were written as a text or as strengths."""

    calls: tuple[Call[Effect], ...]

    @property
    def text(self) -> str:
        """The text in its one canonical form."""
        return "|".join(call.text for call in self.calls) or NONE

    @property
    def is_identity(self) -> bool:
        """Whether no operation is applied."""
        return not self.calls

    @property
    def mixes_labels(self) -> bool:
        """Whether labels are changed too, so that an image that is kept would need a label of its own."""
        return any(call.operation.mixes_labels for call in self.calls)

    def apply(self, images: np.ndarray, labels: np.ndarray, seed: int) -> Batch:
        """Return augmented images `[N, H, W, C] float32` and labels `[N, K] float32`, the same for the same arguments.

        `images` are raw, in 0..255; `labels` are one-hot, and only what `mixes_labels` changes them. Every image is
        changed by itself.
        """
        batch = np.asarray(images, dtype=np.float32), np.asarray(labels, dtype=np.float32)
        for place, call in enumerate(self.calls):
            # A generator for each place: what one operation draws does not depend on what the others do.
            batch = call.operation.effect(call.values, *batch, np.random.default_rng([seed, place]))
        return batch


def parse_augment(text: str) -> Augment:
    """Return the augmentation written as `text`, for example `flip|shift(4)`; `none` is the identity.

    Raises PipelineError with the operation, the argument, the rule and the value.
    """
    return _augment(parse_pipeline(text, AUGMENTATION))


def augment_of(configuration: Mapping[str, Any]) -> Augment:
    """Return the augmentation of a configuration: that of its strengths (`augment.rotate`), or that of its text.

    >>> augment_of({"augment": "standard", "augment.rotate": 12.5, "augment.shift": 0, "augment.flip": True}).text
    'rotate(12.5)|flip'

    Raises PipelineError as `parse_augment` does.
    """
    operations = by_operation(configuration)
    if operations:
        calls = (call_with(operation, values) for operation, values in operations.items())
        return _augment(call for call in calls if call is not None)
    written = configuration.get(OWNER, NONE)
    return Augment(()) if is_nothing(written) else parse_augment(str(written))


def by_operation(parameters: Mapping[str, Value]) -> dict[str, dict[str, Value]]:
    """Return what belongs to each operation, by its arguments' names; the nameless one is given by place.

    >>> by_operation({"augment": "own", "augment.rotate": 5, "augment.darken.least": 0.1, "augment.darken.most": 0.4})
    {'rotate': {'': 5}, 'darken': {'least': 0.1, 'most': 0.4}}
    """
    found: dict[str, dict[str, Value]] = {}
    for name, value in parameters.items():
        owner, _, rest = name.partition(".")
        if owner == OWNER and rest:
            operation, _, argument = rest.partition(".")
            found.setdefault(operation, {})[argument] = value
    return found


def call_with(operation: str, values: Mapping[str, Any]) -> Call[Effect] | None:
    """Return an operation with the values of its arguments; None where it is to be left out.

    Raises PipelineError as `parse_augment` does.
    """
    by_place = values.get("", NONE)
    if "" in values and is_nothing(by_place):
        return None
    arguments = ",".join(f"{name}={value}" for name, value in values.items())
    if "" in values:
        arguments = "" if by_place is True else str(by_place)
    return call_of(_registered(operation), arguments, AUGMENTATION)


def _registered(operation: str) -> str:
    """Return the name of an operation; `shift_2` is shift for the second time."""
    return operation if operation in AUGMENTATION else re.sub(r"_[2-9]$", "", operation)


def strength_parameter(operation: str, argument: str) -> Parameter:
    """Return the parameter that a strength is; `argument` is empty where it is given by place.

    Raises PipelineError where there is none of these names.
    """
    name = _registered(operation)
    if name not in AUGMENTATION:
        raise PipelineError(unknown_name(AUGMENTATION.kind, operation, AUGMENTATION))
    arguments = {each.name: each for each in AUGMENTATION[name].arguments}
    if argument and argument not in arguments:
        raise PipelineError(unknown_name(f"argument of {name}", argument, arguments))
    if not arguments:
        return Parameter("bool", default=False)
    found = arguments[argument] if argument else next(iter(arguments.values()))
    if found.kind is str:
        return Parameter("choice", values=(NONE, *found.words), default=found.default)
    low, high = (None if math.isinf(bound) else bound for bound in (found.low, found.high))
    return Parameter("int" if found.kind is int else "float", low, high, default=found.default)


def strength_bounds(name: str) -> tuple[float | None, float | None]:
    """Return what a strength can be at least and at most; None where nothing is known of it."""
    try:
        parameter = strength_parameter(*_parts(name))
    except PipelineError:
        return None, None
    return parameter.low, parameter.high


def _parts(name: str) -> tuple[str, str]:
    """Return the operation and the argument of a strength's name."""
    _, operation, argument = (*name.split(".", 2), "")[:3]
    return operation, argument


def meaning_of_no_strength(name: str) -> Scalar:
    """Return how a strength that a file calls nothing is kept; None where its word is."""
    operation, argument = _parts(name)
    registered = _registered(operation)
    arguments = AUGMENTATION[registered].arguments if registered in AUGMENTATION and not argument else None
    if arguments is None or not arguments:
        return None if arguments is None else False
    return 0 if arguments[0].is_strength else NONE if arguments[0].kind is str else None


def restated(configuration: Mapping[str, Scalar], space: Space) -> Mapping[str, Scalar]:
    """Return a configuration whose augmentation is said as `space` says it; the same one where that says no such thing.

    A text becomes the branch with its operations in their order, an operation that the text lacks is at nothing; and
    strengths become the text that they are.

    >>> space = {"augment": Choose({"own": {"augment.rotate": Real(0, 30), "augment.shift": Integer(0, 4)}})}
    >>> restated({"augment": "rotate(5)"}, space)
    {'augment': 'own', 'augment.rotate': 5.0, 'augment.shift': 0}
    """
    dimension = space.get(OWNER)
    try:
        calls = augment_of(configuration).calls if OWNER in configuration else None
    except PipelineError:  # of code that is not here
        calls = None
    if dimension is None or calls is None:
        return configuration
    others = {name: value for name, value in configuration.items() if name.partition(".")[0] != OWNER}
    if isinstance(dimension, Choose):
        placed = {name: _placed(calls, branch) for name, branch in dimension.branches.items()}
        fitting = {name: values for name, values in placed.items() if values is not None}
        if not fitting:
            return configuration
        best = min(fitting, key=lambda name: _moved(fitting[name], dimension.branches[name]))
        return {**others, OWNER: best, **fitting[best]}
    texts = [value for value in getattr(dimension, "values", ()) if isinstance(value, str)]
    same = next((text for text in texts if augment_of({OWNER: text}).calls == calls), None)
    return configuration if same is None else {**others, OWNER: same}


def _placed(calls: Sequence[Call[Effect]], branch: Space) -> dict[str, Scalar] | None:
    """Return the strengths with which a branch says these calls, in its ranges or not; None where it cannot."""
    left, found = list(calls), dict[str, Scalar]()
    for operation, dimensions in by_operation(branch).items():
        call = left.pop(0) if left and left[0].name == _registered(operation) else None
        for argument, dimension in dimensions.items():
            value = _strength_in(dimension, operation, argument, call)
            if value is None:
                return None
            found[f"{OWNER}.{operation}.{argument}".rstrip(".")] = value
    return None if left else found


def _strength_in(dimension: Dimension, operation: str, argument: str, call: Call[Effect] | None) -> Scalar:
    """Return the value with which a dimension says a call, or with None that there is none; None where it cannot."""
    if isinstance(dimension, Integer | Real):
        if call is None:
            parameter = meaning_of_no_strength(f"{OWNER}.{operation}") if not argument else None
            return parameter if parameter is not None and dimension.contains(parameter) else None
        return call.values[argument or next(iter(call.values))]
    for value in dimension.values:
        same = call_with(operation, {argument: value})
        is_none = same is None or same.is_nothing
        if (call is None and is_none) or (call is not None and same is not None and same.values == call.values):
            return value
    return None


def _moved(values: Mapping[str, Scalar], branch: Space) -> tuple[int, int]:
    """Return how many of the strengths lie outside their ranges, and how many there are."""
    return sum(not branch[name].contains(value) for name, value in values.items()), len(values)


def _augment(calls: Iterable[Call[Effect]]) -> Augment:
    return Augment(tuple(call for call in calls if not call.is_nothing))


def _flip(values: Mapping[str, Any], images: np.ndarray, labels: np.ndarray, generator: np.random.Generator) -> Batch:
    flipped = images.copy()
    for axis, name in ((2, "horizontal"), (1, "vertical")):
        if values["direction"] in (name, "both"):
            chosen = generator.random(len(images)) < 0.5
            flipped[chosen] = np.flip(flipped[chosen], axis=axis)
    return flipped, labels


def _shift(values: Mapping[str, Any], images: np.ndarray, labels: np.ndarray, generator: np.random.Generator) -> Batch:
    """Shift by whole pixels in both directions; the edge is repeated where nothing is left."""
    number, height, width, _ = images.shape
    down, right = generator.integers(-values["px"], values["px"] + 1, size=(2, number, 1))
    rows = np.clip(np.arange(height) - down, 0, height - 1)
    columns = np.clip(np.arange(width) - right, 0, width - 1)
    return images[np.arange(number)[:, None, None], rows[:, :, None], columns[:, None, :]], labels


def _rotate(values: Mapping[str, Any], images: np.ndarray, labels: np.ndarray, generator: np.random.Generator) -> Batch:
    angles = np.deg2rad(generator.uniform(-values["degrees"], values["degrees"], len(images)))
    cosine, sine = np.cos(angles), np.sin(angles)
    return _transform(images, np.stack([cosine, -sine, sine, cosine], axis=1).reshape(-1, 2, 2)), labels


def _zoom(values: Mapping[str, Any], images: np.ndarray, labels: np.ndarray, generator: np.random.Generator) -> Batch:
    factors = 1.0 / generator.uniform(1 - values["fraction"], 1 + values["fraction"], len(images))
    return _transform(images, factors[:, None, None] * np.eye(2)), labels


def _transform(images: np.ndarray, matrices: np.ndarray) -> np.ndarray:
    """Return each image sampled at `matrix @ (row, column)` around its centre, bilinear, the edge repeated."""
    number, height, width, channels = images.shape
    linear = matrices.astype(np.float32)[..., None, None]
    down = np.arange(height, dtype=np.float32)[None, :, None] - (height - 1) / 2
    right = np.arange(width, dtype=np.float32)[None, None, :] - (width - 1) / 2
    rows = np.clip(linear[:, 0, 0] * down + linear[:, 0, 1] * right + (height - 1) / 2, 0, height - 1)
    columns = np.clip(linear[:, 1, 0] * down + linear[:, 1, 1] * right + (width - 1) / 2, 0, width - 1)
    top, left = rows.astype(np.int32), columns.astype(np.int32)
    row_share, column_share = ((at - np.floor(at))[..., None] for at in (rows, columns))
    # One index into all pixels, and float32: 128 images of 32 px take 4 ms; by image, row and column in float64, 33 ms.
    corner = (np.arange(number)[:, None, None] * height + top) * width + left
    to_right, to_bottom = left < width - 1, np.where(top < height - 1, width, 0)
    pixels = images.reshape(-1, channels)

    def between(here: np.ndarray) -> np.ndarray:
        values: np.ndarray = np.take(pixels, here, axis=0)
        values += (np.take(pixels, here + to_right, axis=0) - values) * column_share
        return values

    upper = between(corner)
    upper += (between(corner + to_bottom) - upper) * row_share
    return upper


def _mixup(values: Mapping[str, Any], images: np.ndarray, labels: np.ndarray, generator: np.random.Generator) -> Batch:
    """Mix pairs of images, and their labels, by convex combinations (Zhang et al. 2018, arXiv:1710.09412)."""
    share = generator.beta(values["alpha"], values["alpha"], len(images)).astype(np.float32)
    partner = generator.permutation(len(images))
    of_images, of_labels = share[:, None, None, None], share[:, None]
    mixed = of_images * images + (1 - of_images) * images[partner]
    return mixed, of_labels * labels + (1 - of_labels) * labels[partner]


def _erase(values: Mapping[str, Any], images: np.ndarray, labels: np.ndarray, generator: np.random.Generator) -> Batch:
    """Fill a rectangle with noise in half of the images (Zhong et al. 2020, arXiv:1708.04896)."""
    number, height, width, channels = images.shape
    area = generator.uniform(min(0.02, values["fraction"]), values["fraction"], number) * height * width
    ratio = np.exp(generator.uniform(np.log(0.3), np.log(1 / 0.3), number))
    rows = np.clip(np.sqrt(area * ratio), 1, height).astype(int)
    columns = np.clip(np.sqrt(area / ratio), 1, width).astype(int)
    top = (generator.random(number) * (height - rows + 1)).astype(int)
    left = (generator.random(number) * (width - columns + 1)).astype(int)
    down, right = np.arange(height)[None, :], np.arange(width)[None, :]
    inside_rows = (down >= top[:, None]) & (down < (top + rows)[:, None])
    inside_columns = (right >= left[:, None]) & (right < (left + columns)[:, None])
    chosen = np.less(generator.random(number), 0.5)[:, None, None]
    inside = (inside_rows[:, :, None] & inside_columns[:, None, :] & chosen)[..., None]
    noise = generator.uniform(0, 255, (number, height, width, channels)).astype(np.float32)
    return np.where(inside, noise, images), labels


def _brightness(
    values: Mapping[str, Any], images: np.ndarray, labels: np.ndarray, generator: np.random.Generator
) -> Batch:
    change = generator.uniform(-values["fraction"], values["fraction"], (len(images), 1, 1, 1)) * 255
    return np.clip(images + change.astype(np.float32), 0, 255), labels


def _contrast(
    values: Mapping[str, Any], images: np.ndarray, labels: np.ndarray, generator: np.random.Generator
) -> Batch:
    factor = generator.uniform(1 - values["fraction"], 1 + values["fraction"], (len(images), 1, 1, 1))
    mean = images.mean(axis=(1, 2), keepdims=True)
    return np.clip(mean + (images - mean) * factor.astype(np.float32), 0, 255), labels


def _noise(values: Mapping[str, Any], images: np.ndarray, labels: np.ndarray, generator: np.random.Generator) -> Batch:
    noise = generator.standard_normal(images.shape, dtype=np.float32) * (values["stddev"] * 255)
    return np.clip(images + noise, 0, 255).astype(np.float32), labels


_STDDEV = Argument("stddev", float, 0.0, 1.0, is_strength=True)
_FRACTION = Argument("fraction", float, 0.0, 0.95, is_strength=True)
_DIRECTION = Argument("direction", str, words=("horizontal", "vertical", "both"), default="horizontal")
for _name, _effect, _argument, _description in (
    ("flip", _flip, _DIRECTION, "mirrored, in half of the images"),
    ("shift", _shift, Argument("px", int, 0, 256, is_strength=True), "by up to px whole pixels in both directions"),
    ("rotate", _rotate, Argument("degrees", float, 0.0, 180.0, is_strength=True), "by up to so many degrees"),
    ("zoom", _zoom, _FRACTION, "in or out by up to this fraction"),
    ("erase", _erase, _FRACTION, "a rectangle of up to this fraction filled with noise, in half of the images"),
    ("brightness", _brightness, _FRACTION, "up or down by up to this fraction of the range"),
    ("contrast", _contrast, _FRACTION, "times 1 plus or minus up to this fraction"),
    ("noise", _noise, _STDDEV, "Gaussian, stddev times the range, new in every epoch"),
):
    AUGMENTATION.add(_name, Operation((_argument,), _effect, _description))
_ALPHA = Argument("alpha", float, 0.0, 10.0, is_strength=True)
_MIXED = "pairs of images and of their labels mixed, Beta(alpha, alpha)"
AUGMENTATION.add("mixup", Operation((_ALPHA,), _mixup, _MIXED, mixes_labels=True))
