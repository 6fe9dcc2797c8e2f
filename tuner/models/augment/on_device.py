"""Augmentation in the graph of a training step, on the device that trains: the second way of the same operations.

Drawn from the same distributions as on the host, by Keras' stateless generators: batch `i` of a seed is always the
same. All that moves pixels becomes one map, as there. Nothing here is a matrix product: on a GPU those are rounded to
ten bits. Only operations that XLA compiles are used, so that a step with augmentation is compiled as one without is.
What stands in no table here (policies, blur, own code) stays on the host.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from tuner.models.augment.operations import Effect
from tuner.models.operations import Call

Tensor = Any
Numbers = Mapping[str, Any]
"""The arguments of an operation: words as they are, numbers as variables, since they differ from trial to trial."""
Change = Callable[[Tensor], Tensor]

_OF_A_BATCH, _OF_A_CALL = 10_000, 16
"""Places in the series of a seed: a batch, and each operation in it, draws from its own, whatever others draw."""
_QUANTILES = np.linspace(0, 1, 1025)


class Draw:
    """Random draws for the images of a batch `[N, H, W, C]`."""

    def __init__(self, generator: keras.random.SeedGenerator, images: Tensor) -> None:
        self._generator = generator
        self.number, self.height, self.width, self.channels = ops.shape(images)

    def uniform(self, low: Tensor = 0.0, high: Tensor = 1.0) -> Tensor:
        """Draw a number for each image."""
        return low + (high - low) * keras.random.uniform((self.number,), seed=self._generator)

    def whole(self, low: Tensor, below: Tensor) -> Tensor:
        """Draw a whole number for each image."""
        return ops.minimum(ops.floor(self.uniform(low, below)), below - 1.0)

    def values(self, kind: Callable[..., Tensor]) -> Tensor:
        """Draw a number for each value of each image, of a distribution of `keras.random`."""
        return kind((self.number, self.height, self.width, self.channels), seed=self._generator)

    def beta(self, quantiles: Tensor) -> Tensor:
        """Draw from a distribution that is given by its quantiles: XLA has no beta."""
        place = self.uniform(0.0, len(_QUANTILES) - 1.0)
        below = ops.minimum(ops.floor(place), len(_QUANTILES) - 2.0)
        low, high = (ops.take(quantiles, ops.cast(below, "int32") + step) for step in (0, 1))
        return low + (place - below) * (high - low)

    def partners(self) -> Tensor:
        """Draw an order of the images."""
        return ops.argsort(self.uniform())


# --- moving pixels ---


def _maps(*rows: Sequence[Tensor]) -> Tensor:
    """Return maps `[N, 2, 3]`, as `changes` describes them, from the numbers `[N]` in their two rows."""
    like = next(one for row in rows for one in row if not isinstance(one, float))
    return ops.stack([ops.stack([ops.zeros_like(like) + one for one in row], axis=-1) for row in rows], axis=1)


def _flip(numbers: Numbers, draw: Draw) -> Tensor:
    sides = {}
    for name in ("horizontal", "vertical"):
        is_asked = numbers["direction"] in (name, "both")
        sides[name] = ops.where(draw.uniform() < 0.5, -1.0, 1.0) if is_asked else ops.ones((draw.number,))
    return _maps((sides["horizontal"], 0.0, 0.0), (0.0, sides["vertical"], 0.0))


def _shift(numbers: Numbers, draw: Draw) -> Tensor:
    right, down = (draw.whole(-numbers["px"], numbers["px"] + 1.0) for _ in range(2))
    return _maps((1.0, 0.0, -right), (0.0, 1.0, -down))


def _rotate(numbers: Numbers, draw: Draw) -> Tensor:
    angles = draw.uniform(-numbers["degrees"], numbers["degrees"]) * (math.pi / 180)
    return _maps((ops.cos(angles), -ops.sin(angles), 0.0), (ops.sin(angles), ops.cos(angles), 0.0))


def _zoom(numbers: Numbers, draw: Draw) -> Tensor:
    factors = 1.0 / draw.uniform(1.0 - numbers["fraction"], 1.0 + numbers["fraction"])
    return _maps((factors, 0.0, 0.0), (0.0, factors, 0.0))


def _random_resized_crop(numbers: Numbers, draw: Draw) -> Tensor:
    area, ratio = draw.uniform(numbers["area"], 1.0), ops.exp(draw.uniform(math.log(3 / 4), math.log(4 / 3)))
    columns, rows = (ops.minimum(1.0, ops.sqrt(area * by)) for by in (ratio, 1.0 / ratio))
    right, down = (
        draw.uniform(-0.5, 0.5) * (1.0 - part) * ops.cast(size, "float32")
        for part, size in ((columns, draw.width), (rows, draw.height))
    )
    return _maps((columns, 0.0, right), (0.0, rows, down))


def _after(first: Tensor, second: Tensor) -> Tensor:
    """Return the maps that lead through `second`, and then through `first`."""
    turned = ops.sum(first[:, :, :2, None] * second[:, None, :, :], axis=2)
    moved = ops.concatenate([ops.zeros_like(first[:, :, :2]), first[:, :, 2:]], axis=2)
    return turned + moved


def move_pixels(images: Tensor, maps: Tensor) -> Tensor:
    """Return images `[N, H, W, C]` as float32, seen through maps `[N, 2, 3]`: linearly, the edge repeated."""
    number, height, width, channels = ops.shape(images)
    bottom, right = (ops.cast(size - 1, "float32") for size in (height, width))
    columns = (ops.arange(width, dtype="float32") - right / 2)[None, None, :]
    rows = (ops.arange(height, dtype="float32") - bottom / 2)[None, :, None]
    column, row = (
        maps[:, axis, 0, None, None] * columns
        + maps[:, axis, 1, None, None] * rows
        + maps[:, axis, 2, None, None]
        + last / 2
        for axis, last in ((0, right), (1, bottom))
    )
    flat = ops.reshape(images, (number * height * width, channels))
    start = ops.arange(number, dtype="int32")[:, None, None] * (height * width)

    def at(row: Tensor, column: Tensor) -> Tensor:
        place = ops.cast(ops.clip(row, 0.0, bottom), "int32") * width + ops.cast(ops.clip(column, 0.0, right), "int32")
        return ops.cast(ops.take(flat, start + place, axis=0), "float32")

    top, left = ops.floor(row), ops.floor(column)
    down, across = (row - top)[..., None], (column - left)[..., None]
    upper = at(top, left) * (1.0 - across) + at(top, left + 1.0) * across
    lower = at(top + 1.0, left) * (1.0 - across) + at(top + 1.0, left + 1.0) * across
    return upper * (1.0 - down) + lower * down


# --- changing values ---


def _each(numbers: Tensor) -> Tensor:
    return numbers[:, None, None, None]


def _blend(images: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    return ops.clip(other + _each(factor) * (images - other), 0.0, 255.0)


def _around_mean(images: Tensor, factor: Tensor) -> Tensor:
    return _blend(images, ops.mean(images, axis=(1, 2, 3), keepdims=True), factor)


def _brightness(numbers: Numbers, draw: Draw) -> Change:
    amounts = draw.uniform(-numbers["fraction"], numbers["fraction"]) * 255.0
    return lambda images: ops.clip(images + _each(amounts), 0.0, 255.0)


def _contrast(numbers: Numbers, draw: Draw) -> Change:
    factors = draw.uniform(1.0 - numbers["fraction"], 1.0 + numbers["fraction"])
    return lambda images: _around_mean(images, factors)


def _color_jitter(numbers: Numbers, draw: Draw) -> Change:
    names = ("brightness", "contrast", "saturation")
    light, contrast, saturation = (draw.uniform(1.0 - numbers[name], 1.0 + numbers[name]) for name in names)
    turn = draw.uniform(-numbers["hue"], numbers["hue"])

    def change(images: Tensor) -> Tensor:
        images = _around_mean(_blend(images, 0.0, light), contrast)
        if images.shape[-1] != 3:
            return images
        grey = 0.299 * images[..., :1] + 0.587 * images[..., 1:2] + 0.114 * images[..., 2:]
        hue, *others = ops.split(ops.image.rgb_to_hsv(_blend(images, grey, saturation) / 255.0), 3, axis=-1)
        turned = ops.concatenate([(hue + _each(turn)) % 1.0, *others], axis=-1)
        return ops.clip(ops.image.hsv_to_rgb(turned) * 255.0, 0.0, 255.0)

    return change


def _noise(numbers: Numbers, draw: Draw) -> Change:
    added = draw.values(keras.random.normal) * (numbers["stddev"] * 255.0)
    return lambda images: ops.clip(images + added, 0.0, 255.0)


def _erase(numbers: Numbers, draw: Draw) -> Change:
    height, width = (ops.cast(size, "float32") for size in (draw.height, draw.width))
    area = draw.uniform(ops.minimum(0.02, numbers["fraction"]), numbers["fraction"]) * height * width
    ratio = ops.exp(draw.uniform(math.log(0.3), -math.log(0.3)))
    rows = ops.floor(ops.clip(ops.sqrt(area * ratio), 1.0, height))
    columns = ops.floor(ops.clip(ops.sqrt(area / ratio), 1.0, width))
    top, left = draw.whole(0.0, height - rows + 1.0), draw.whole(0.0, width - columns + 1.0)
    is_chosen, noise = draw.uniform() < 0.5, ops.floor(draw.values(keras.random.uniform) * 256.0)
    within = _box(draw, top, top + rows, left, left + columns)
    return lambda images: ops.where(ops.logical_and(within, _each(is_chosen)), noise, images)


def _box(draw: Draw, top: Tensor, bottom: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Return `[N, H, W, 1]`: whether a pixel lies in the rectangle of its image."""
    row = ops.arange(draw.height, dtype="float32")[None, :, None, None]
    column = ops.arange(draw.width, dtype="float32")[None, None, :, None]
    is_in_rows = ops.logical_and(row >= _each(top), row < _each(bottom))
    return ops.logical_and(is_in_rows, ops.logical_and(column >= _each(left), column < _each(right)))


# --- mixing images ---

Mixed = tuple[Tensor, Tensor, Tensor]
"""The images, the share that each keeps of its own label, and the image whose label it takes for the rest."""


def _mixup(numbers: Numbers, images: Tensor, draw: Draw) -> Mixed:
    share, partner = draw.beta(numbers["alpha"]), draw.partners()
    return _blend(images, ops.take(images, partner, axis=0), share), share, partner


def _cutmix(numbers: Numbers, images: Tensor, draw: Draw) -> Mixed:
    height, width = (ops.cast(size, "float32") for size in (draw.height, draw.width))
    side, row, column = ops.sqrt(1.0 - draw.beta(numbers["alpha"])), draw.uniform(0.0, height), draw.uniform(0.0, width)
    (top, bottom), (left, right) = (
        [ops.floor(ops.clip(middle + sign * side * size / 2, 0.0, size)) for sign in (-1.0, 1.0)]
        for middle, size in ((row, height), (column, width))
    )
    partner = draw.partners()
    mixed = ops.where(_box(draw, top, bottom, left, right), ops.take(images, partner, axis=0), images)
    return mixed, 1.0 - (bottom - top) * (right - left) / (height * width), partner


_MOVES: Mapping[str, Callable[[Numbers, Draw], Tensor]] = {
    "flip": _flip,
    "shift": _shift,
    "rotate": _rotate,
    "zoom": _zoom,
    "random_resized_crop": _random_resized_crop,
}
_CHANGES: Mapping[str, Callable[[Numbers, Draw], Change]] = {
    "brightness": _brightness,
    "contrast": _contrast,
    "color_jitter": _color_jitter,
    "noise": _noise,
    "erase": _erase,
}
_MIXES: Mapping[str, Callable[[Numbers, Tensor, Draw], Mixed]] = {"mixup": _mixup, "cutmix": _cutmix}


def can_go_there(calls: Sequence[Call[Effect]]) -> bool:
    """Return whether all operations are among those of the device."""
    return all(call.name in {*_MOVES, *_CHANGES, *_MIXES} for call in calls)


def form_of(calls: Sequence[Call[Effect]]) -> list[Any]:
    """Return what is compiled of operations: all but the numbers among their arguments."""
    return [[call.name, *(value for value in call.values.values() if isinstance(value, str))] for call in calls]


class DeviceAugment:
    """Operations as a function in a graph; their numbers and the seed are variables that `start` sets."""

    def __init__(self, calls: Sequence[Call[Effect]]) -> None:
        self._generator = keras.random.SeedGenerator(0, name="augment")
        self._calls = [(call.name, {name: _variable(value) for name, value in _values(call)}) for call in calls]

    def start(self, calls: Sequence[Call[Effect]], seed: int, batch: int = 0) -> None:
        """Set the numbers of operations of the same form, and the seed and the number of the next batch."""
        for (_, numbers), call in zip(self._calls, calls, strict=True):
            for name, value in _values(call):
                if not isinstance(value, str):
                    numbers[name].assign(value)
        self._generator.state.assign([seed % (2**31 - 2), batch * _OF_A_BATCH])

    def apply(self, images: Tensor, labels: Tensor, weights: Tensor | None = None) -> tuple[Any, Any, Any]:
        """Return augmented images in bytes, labels and weights of images mixed alike; go on to the next batch."""
        state = self._generator.state
        begun, draw = state.value * 1, Draw(self._generator, images)
        maps, changes = None, list[Change]()
        for place, (name, numbers) in enumerate(self._calls):
            state.assign(begun + ops.convert_to_tensor([0, place * _OF_A_CALL], dtype=state.dtype))
            if name in _MOVES:
                moved = _MOVES[name](numbers, draw)
                maps = moved if maps is None else _after(maps, moved)
            elif name in _CHANGES:
                changes.append(_CHANGES[name](numbers, draw))
            else:
                images, own, partner = _MIXES[name](numbers, _changed(images, maps, changes), draw)
                maps, changes, rest = None, [], 1.0 - own
                labels = own[:, None] * labels + rest[:, None] * ops.take(labels, partner, axis=0)
                weights = None if weights is None else own * weights + rest * ops.take(weights, partner, axis=0)
        state.assign(begun + ops.convert_to_tensor([0, _OF_A_BATCH], dtype=state.dtype))
        return ops.cast(ops.round(_changed(images, maps, changes)), "uint8"), labels, weights


def augment_in_steps(network: keras.Model, augment: DeviceAugment) -> None:
    """Let the training steps of a network change their batches first; validation and prediction do not."""
    train_step = network.train_step

    def augmented_step(data: Any) -> Any:
        return train_step(augment.apply(*keras.utils.unpack_x_y_sample_weight(data)))

    network.train_step = augmented_step


def _changed(images: Tensor, maps: Tensor | None, changes: Sequence[Change]) -> Tensor:
    images = ops.cast(images, "float32") if maps is None else move_pixels(images, maps)
    for change in changes:
        images = change(images)
    return images


def _values(call: Call[Effect]) -> list[tuple[str, Any]]:
    """Return the arguments of a call by name: words, numbers, and of mixes the quantiles of the shares."""
    from scipy.special import betaincinv

    return [
        (name, betaincinv(float(value), float(value), _QUANTILES) if call.name in _MIXES else value)
        for name, value in call.values.items()
    ]


def _variable(value: Any) -> Any:
    return value if isinstance(value, str) else keras.Variable(value, dtype="float32", trainable=False, name="strength")
