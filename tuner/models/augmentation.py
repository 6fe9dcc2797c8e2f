"""Augmentation of training images: random operations on raw images, in the input pipeline, never in the saved model.

On bytes, by OpenCV. Everything random is drawn for a batch from one seed, before a pixel is touched: so an epoch can be
trained again exactly, and images can be shrunk by the interpolation that augments them. Of operations on single images
that stand beside each other, those that move pixels become one map, so that an image is interpolated once; what changes
values follows, in the order written. Light: neither Keras nor OpenCV is loaded before it is needed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, TypeVar

import numpy as np

from tuner.common.errors import PipelineError
from tuner.common.registry import is_nothing, unknown_name
from tuner.common.words import as_written
from tuner.models.augment.changes import move_pixels
from tuner.models.augment.operations import AUGMENTATION, Batch, Drawn, Effect, OnImages, Shape
from tuner.models.operations import NONE, Call, call_of, parse_pipeline
from tuner.models.parameters import Parameter, Scalar
from tuner.spec.space import Choose, Dimension, Integer, Real, Space
from tuner.spec.strengths import OWNER

Value = TypeVar("Value")


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

    @property
    def mixes_rows(self) -> bool:
        """Whether labels are changed, if at all, by mixing whole rows: of own code nobody knows."""
        effects = [call.operation.effect for call in self.calls if call.operation.mixes_labels]
        return all(not isinstance(effect, OnImages) and effect.mixes_rows for effect in effects)

    @property
    def at_any_size(self) -> bool:
        """Whether images can be shrunk before as well as after, with one result but for interpolation."""
        return all(call.operation.effect.at_any_size for call in self.calls)

    def apply(self, images: np.ndarray, labels: np.ndarray, seed: int, size_px: tuple[int, int] | None = None) -> Batch:
        """Return augmented images `[N, H, W, C] uint8` and labels `[N, K] float32`, the same for the same seed.

        `images` are raw, in 0..255; `labels` are one-hot, and only what `mixes_labels` changes them. Images are shrunk
        to a height and width of `size_px` on the way; what is written in pixels is in those of the raw images.
        """
        batch = _as_bytes(images), np.asarray(labels, dtype=np.float32)
        shape, size_px = batch[0].shape, size_px or batch[0].shape[1:3]
        # A generator for each place: what one operation draws does not depend on what the others do.
        drawn: list[Drawn] = []
        for place, call in enumerate(self.calls):
            generator, effect = np.random.default_rng([seed, place]), call.operation.effect
            if isinstance(effect, OnImages):
                drawn.append(effect.draw(call.values, shape, generator))
                continue
            batch = effect.apply(call.values, _changed(batch[0], drawn, shape, size_px), batch[1], generator)
            batch, drawn = (_as_bytes(batch[0]), batch[1]), []
        return _changed(batch[0], drawn, shape, size_px), batch[1]


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
    arguments = ",".join(f"{name}={as_written(value)}" for name, value in values.items())
    if "" in values:
        arguments = "" if by_place is True else str(by_place)
    return call_of(registered_name(operation), arguments, AUGMENTATION)


def registered_name(operation: str) -> str:
    """Return the name of an operation; `shift_2` is shift for the second time."""
    return operation if operation in AUGMENTATION else re.sub(r"_[2-9]$", "", operation)


def strength_parameter(operation: str, argument: str) -> Parameter:
    """Return the parameter that a strength is; `argument` is empty where it is given by place.

    Raises PipelineError where there is none of these names.
    """
    name = registered_name(operation)
    if name not in AUGMENTATION:
        raise PipelineError(unknown_name(AUGMENTATION.kind, operation, AUGMENTATION))
    arguments = {each.name: each for each in AUGMENTATION[name].arguments}
    if argument and argument not in arguments:
        raise PipelineError(unknown_name(f"argument of {name}", argument, arguments))
    if not arguments:
        return Parameter("bool", default=False)
    found = arguments[argument] if argument else next(iter(arguments.values()))
    if found.kind is str:
        by_place = () if argument else (NONE,)  # which leaves the operation out
        return Parameter("choice", values=(*by_place, *found.words), default=found.default)
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
    registered = registered_name(operation)
    arguments = AUGMENTATION[registered].arguments if registered in AUGMENTATION and not argument else None
    if arguments is None or not arguments:
        return None if arguments is None else False
    if arguments[0].is_strength and not any(each.is_strength for each in arguments[1:]):
        return 0
    return NONE if arguments[0].kind is str else None


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
        call = left.pop(0) if left and left[0].name == registered_name(operation) else None
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


def _as_bytes(images: np.ndarray) -> np.ndarray:
    if images.dtype == np.uint8:
        return images
    rounded: np.ndarray = np.clip(np.rint(images), 0, 255).astype(np.uint8)
    return rounded


def _changed(images: np.ndarray, drawn: Sequence[Drawn], shape: Shape, size_px: tuple[int, int]) -> np.ndarray:
    """Return changed images of a size; what was drawn was drawn for images of a shape."""
    is_shrunk = images.shape[1:3] != size_px
    if not drawn and not is_shrunk:
        return images
    moving = [one.maps for one in drawn if one.maps is not None]
    if is_shrunk and not moving:
        moving = [np.tile(np.eye(3), (len(images), 1, 1))]
    into = np.empty((len(images), *size_px, images.shape[3]), np.uint8)
    if moving:
        move_pixels(images, reduce(np.matmul, moving), into, shape[1:3])
    else:
        into[...] = images
    for one in drawn:
        for image, changes in zip(into, one.changes, strict=False):  # there are none, or a list for each
            for change in changes:
                change(image)
    return into
