"""Preprocessing variants: deterministic operations on images, part of the model's graph.

Written with keras.ops and built-in layers only, so that a saved model holds its preprocessing and loads without tuner.
Each is a pure function of one image and the text: what a trial trained with is what the saved model applies, whatever
stands beside an image in its batch. Light: Keras is loaded when something is applied.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from tuner.common.errors import PipelineError
from tuner.common.registry import Registry
from tuner.datasets.images import DEFAULT_PX, AskedSize
from tuner.models.backend import jit_compile
from tuner.models.operations import NONE, Argument, Call, Operation, parse_pipeline
from tuner.spec.space import Space, flatten

# Arrays of one number: the bitwise operations of Keras take no Python numbers, and save a plain array as one.
_LOW_BITS = np.array([2**31 - 1])


def normal_noise(raw_images: Any, images: Any, seed: int) -> Any:
    """Return standard normal noise, float32 in the shape of `images`, determined by the raw images and `seed`.

    Each value depends on its position, on all pixels of its own raw image and on `seed`. Raw, because these are whole
    numbers: of values that have been computed, the last bit differs from backend to backend, and that would be enough
    for other noise. Two uniform numbers from one hash of 31 bits per value, then Box & Muller (1958).
    """
    from keras import ops

    # Numbers are combined by exclusive or, never by addition: Keras (3.15) takes the addition of [N, 1, 1, 1] for that
    # of a bias along the rows when a batch has as many images as an image has rows, and adds what is other images'.
    rows, columns = _position_hashes(images, 2 * seed)
    state = _mixed(ops.bitwise_xor(_mixed(ops.bitwise_xor(rows, _image_hash(raw_images, 2 * seed + 1))), columns))
    first = (ops.cast(ops.right_shift(state, np.array([15])), "float32") + 0.5) * 2.0**-16
    second = ops.cast(ops.bitwise_and(state, np.array([2**15 - 1])), "float32") * 2.0**-15
    return ops.sqrt(-2.0 * ops.log(first)) * ops.cos((2.0 * math.pi) * second)


def _mixed(state: Any) -> Any:
    """Return 31-bit numbers permuted such that every bit depends on every other; after lowbias32 (Wellons 2018)."""
    from keras import ops

    for shift, factor in ((16, 0x7FEB352D), (15, 0x046CA68B)):
        state = ops.bitwise_xor(state, ops.right_shift(state, np.array([shift])))
        state = ops.bitwise_and(ops.multiply(state, factor), _LOW_BITS)
    return ops.bitwise_xor(state, ops.right_shift(state, np.array([16])))


def _position_hashes(images: Any, stream: int) -> tuple[Any, Any]:
    """Return 31 bits for each row and each column and channel, `[N, H, 1, 1]` and `[N, 1, W, C] int64`."""
    from keras import ops

    def counted(along: Any, axis: int, constant: Any) -> Any:
        return _mixed(ops.bitwise_xor(ops.cast(ops.cumsum(ops.ones_like(along), axis=axis), "int64"), constant))

    channels = images.shape[3]
    constants = np.random.default_rng(stream).integers(0, 2**31, size=1 + channels)
    return counted(images[:, :, :1, :1], 1, constants[:1]), counted(images[:, :1], 2, constants[1:])


def _image_hash(images: Any, stream: int) -> Any:
    """Return 31 bits for each image from all its pixels, `[N, 1, 1, 1] int64`; exact in any order of adding.

    The pixels are weighted by odd numbers, so that the change of one pixel always changes the sum.
    """
    from keras import ops

    rows, columns = (ops.bitwise_or(hashes, np.array([1])) for hashes in _position_hashes(images, stream))
    steps = ops.cast(ops.floor(ops.clip(images, 0.0, 255.0) + 0.5), "int64")
    by_row = ops.bitwise_and(ops.sum(ops.multiply(steps, columns), axis=(2, 3), keepdims=True), _LOW_BITS)
    weighted = ops.bitwise_and(ops.multiply(by_row, rows), _LOW_BITS)
    return _mixed(ops.bitwise_and(ops.sum(weighted, axis=1, keepdims=True), _LOW_BITS))


Shape = tuple[int, int, int]
"""Height, width, channels."""
Range = tuple[float, float]
"""The values of black and white."""
MAX_PX = 2048


@dataclass(frozen=True)
class Effect:
    """The effect of an operation on images, on their shape and on their value range.

    `apply(values, images, value_range, raw_images)` takes and returns `[N, H, W, C] float32`; the range is that of its
    input, None for standardised images, which have none; the raw images are those that the first operation got.
    """

    apply: Callable[[Mapping[str, Any], Any, Any, Any], Any]
    shape: Callable[[Mapping[str, Any], Shape], Shape] = lambda _values, shape: shape
    range: Callable[[Mapping[str, Any], Range | None], Range | None] = lambda _values, value_range: value_range
    asks: Callable[[Mapping[str, Any]], tuple[int, int] | None] = lambda _values: None
    """The height and width that the operation makes of images, or cuts out of them; None: it leaves them."""
    is_cut: bool = False
    """Whether it takes a part of what it gets."""
    is_pointwise: bool = False
    """Whether each pixel is one linear function of what it was, so that images can as well be shrunk before."""
    needs_range: bool = False
    needs_size: bool = False
    network_range: Range | None = None
    """Black and white as pretrained weights are told of them, where the range is None."""


PREPROCESSING: Registry[Operation[Effect]] = Registry("preprocessing", "tuner.preprocessing")


@dataclass(frozen=True)
class Preprocess:
    """A parsed preprocessing text."""

    calls: tuple[Call[Effect], ...]
    value_range: Range | None
    """The values of black and white after all operations; None after standardise."""
    network_range: Range | None
    """The values that pretrained weights are to take for black and white; None: values that they get as they are."""

    @property
    def text(self) -> str:
        """The text in its one canonical form: equal texts mean equal preprocessing."""
        return "|".join(call.text for call in self.calls) or NONE

    def output_shape(self, shape: Shape) -> Shape:
        """Return the shape after preprocessing of raw images of `shape`: height, width and channels.

        A symbolic image may have None for height and width; what needs to know them must then come after resize.

        Raises PipelineError when an operation cannot be applied to images of that shape.
        """
        for call in self.calls:
            if call.operation.effect.needs_size and not all(shape):
                raise PipelineError(f"{call.name} must come after resize, because the size of the images is not known")
            shape = call.operation.effect.shape(call.values, shape)
        return shape

    def shrinks_to(self, shape: Shape) -> tuple[int, int] | None:
        """Return the height and width to which images of `shape` can be shrunk before anything else is done to them.

        That of a bilinear `resize`, where nothing but pointwise operations stands before it. None: there is none.
        """
        first = next((call for call in self.calls if not call.operation.effect.is_pointwise), None)
        if first is None or first.name != "resize" or first.values["method"] != "bilinear":
            return None
        height, width = _asked(first.values)
        is_smaller = height <= shape[0] and width <= shape[1] and (height, width) != shape[:2]
        return (height, width) if is_smaller else None

    def apply(self, images: Any) -> Any:
        """Return preprocessed images `[N, h, w, c] float32` for raw ones `[N, H, W, C]`, arrays or symbolic."""
        import keras

        self.output_shape(tuple(images.shape[1:]))
        x = raw_images = keras.ops.cast(images, "float32")
        value_range: Range | None = RAW_RANGE
        for call in self.calls:
            effect = call.operation.effect
            x = effect.apply(call.values, x, value_range, raw_images)
            value_range = effect.range(call.values, value_range)
        return x


RAW_RANGE: Range = (0.0, 255.0)
STANDARDISED_RANGE: Range = ((0 - 0.449) / 0.226, (1 - 0.449) / 0.226)
"""Black and white in a standardised image that has ImageNet's mean and deviation, of the three colours together."""


def parse_preprocess(text: str) -> Preprocess:
    """Return the preprocessing written as `text`, for example `grayscale|resize(64)|scale(-1,1)`.

    Raises PipelineError with the operation, the argument, the rule and the value.
    """
    calls = parse_pipeline(text, PREPROCESSING)
    value_range: Range | None = RAW_RANGE
    network_range: Range | None = RAW_RANGE
    for call in calls:
        if call.operation.effect.needs_range and value_range is None:
            raise PipelineError(f"{call.name} must come before standardise, after which there is no range of values")
        value_range = call.operation.effect.range(call.values, value_range)
        network_range = call.operation.effect.network_range or call.operation.effect.range(call.values, network_range)
    return Preprocess(calls, value_range, network_range)


def asked_size(texts: Iterable[str]) -> AskedSize | None:
    """Return the size that images need for some preprocessing texts: the largest that any begins with.

    Of sizes of different proportions, a square of the longest side. A text that cuts something out before it resizes
    asks for the images as they are, or for as many pixels as where nothing is asked for. None: no text asks for any.

    >>> asked_size(["grayscale|resize(64)", "resize(96)|crop(32)"])
    AskedSize(height=96, width=96, is_own_asked=False)
    >>> asked_size(["resize(64,width_px=96)", "none"]), asked_size(["scale(0,1)"])
    (AskedSize(height=64, width=96, is_own_asked=True), None)
    """
    asked: set[tuple[int, int]] = set()
    is_own_asked = False
    for text in texts:
        first = next((call for call in parse_preprocess(text).calls if call.operation.effect.asks(call.values)), None)
        size = first.operation.effect.asks(first.values) if first else None
        is_cut = first is not None and first.operation.effect.is_cut
        is_own_asked |= size is None or is_cut
        if size is not None:
            asked.add((max(size[0], DEFAULT_PX), max(size[1], DEFAULT_PX)) if is_cut else size)
    if not asked:
        return None
    height, width = max(asked)
    if any(height * other_width != width * other_height for other_height, other_width in asked):
        height = width = max(side for size in asked for side in size)
    return AskedSize(height, width, is_own_asked)


def asked_by(space: Space) -> AskedSize | None:
    """Return the size that images need for the preprocessing of a space: of its plan, search and account alike.

    A text that cannot be read asks for none: a search refuses it, and to an account it does not matter.
    """
    dimensions = [parameter.dimension for parameter in flatten(space) if parameter.name == "preprocess"]
    texts = [str(text) for dimension in dimensions for text in getattr(dimension, "values", ())]
    return asked_size(filter(_can_be_read, texts))


def _can_be_read(text: str) -> bool:
    try:
        parse_preprocess(text)
    except PipelineError:
        return False
    return True


def _add(name: str, effect: Effect, description: str, *arguments: Argument) -> None:
    PREPROCESSING.add(name, Operation(arguments, effect, description))


# --- values ---


def _scale(values: Mapping[str, Any], images: Any, value_range: Range, _raw: Any) -> Any:
    (low, high), new_low, new_high = value_range, values["low"], values["high"]
    factor = (new_high - new_low) / (high - low)
    return images * factor + (new_low - low * factor)


def _scale_range(values: Mapping[str, Any], _range: Range | None) -> Range:
    if not values["low"] < values["high"]:
        raise PipelineError(f"scale: low must be below high; got {values['low']:g} and {values['high']:g}")
    return float(values["low"]), float(values["high"])


def _standardise(_values: Mapping[str, Any], images: Any, _range: Range | None, _raw: Any) -> Any:
    """Return images of mean 0 and deviation 1, as tf.image.per_image_standardization: no division by 0 if blank."""
    from keras import ops

    size = float(images.shape[1] * images.shape[2] * images.shape[3])
    centred = images - ops.mean(images, axis=(1, 2, 3), keepdims=True)
    deviation = ops.sqrt(ops.mean(ops.square(centred), axis=(1, 2, 3), keepdims=True))
    return centred / ops.maximum(deviation, size**-0.5)


def _invert(_values: Mapping[str, Any], images: Any, value_range: Range, _raw: Any) -> Any:
    return (value_range[0] + value_range[1]) - images


_add("scale", Effect(_scale, range=_scale_range, needs_range=True, is_pointwise=True),
     "black becomes low, white becomes high",
     Argument("low", float, -1e30, 1e30), Argument("high", float, -1e30, 1e30))  # fmt: skip
_add("standardise",
     Effect(_standardise, range=lambda _values, _range: None, needs_size=True, network_range=STANDARDISED_RANGE),
     "each image to mean 0 and deviation 1; pretrained weights see it with ImageNet's")  # fmt: skip
_add("invert", Effect(_invert, needs_range=True, is_pointwise=True), "black becomes white")


# --- geometry ---


def _resize(values: Mapping[str, Any], images: Any, _range: Range | None, _raw: Any) -> Any:
    from keras import ops

    height, width, _ = _resize_shape(values, tuple(images.shape[1:]))
    # Antialiasing changes nothing else, and is slow; images of unknown size (None) may be larger.
    shrinks = height < (images.shape[1] or math.inf) or width < (images.shape[2] or math.inf)
    if shrinks and values["method"] in KERNELS and jit_compile():
        return shrink(images, (height, width), values["method"])
    return ops.image.resize(
        images, (height, width), interpolation=values["method"], antialias=shrinks, data_format="channels_last"
    )


def shrink(images: Any, size: tuple[int, int], method: str) -> Any:
    """Return images `[N, h, w, C]` of `size` as `keras.ops.image.resize` with `antialias` does, by one of `KERNELS`.

    That is one operation, which neither XLA nor LiteRT has; on a CPU, it is quicker than two products with matrices.
    """
    from keras import ops

    def weights(places: Any, px: int) -> Any:
        scale = ops.max(places) / px
        return pixel_weights(places, scale * (np.arange(px, dtype=np.float32) + 0.5), scale, method)

    rows, columns = count_pixels(images)
    return weigh_pixels(images, weights(rows, size[0]), weights(columns, size[1]))


def count_pixels(images: Any) -> tuple[Any, Any]:
    """Return 1, 2, ... along each side, `[H]` and `[W] float32`: the sizes of symbolic images may not be known."""
    from keras import ops

    rows, columns = ops.ones_like(images[:1, :, :1, :1]), ops.ones_like(images[:1, :1, :, :1])
    return ops.cumsum(ops.sum(rows, axis=(0, 2, 3))), ops.cumsum(ops.sum(columns, axis=(0, 1, 3)))


def pixel_weights(places: Any, centres: Any, scale: Any, method: str = "bilinear") -> Any:
    """Return the weights `[S, N]` of pixels along a side, counted from 1, in new ones with these centres `[S]`.

    A kernel as wide as `scale`, the old pixels to a new one, and never narrower than an old one. Weights sum to 1, or
    are 0 where no pixel is near.
    """
    from keras import ops

    weights = KERNELS[method](ops.abs(places[None, :] - 0.5 - centres[:, None]) / ops.maximum(scale, 1.0))
    return weights / ops.maximum(ops.sum(weights, axis=1, keepdims=True), 1e-6)


def weigh_pixels(images: Any, rows: Any, columns: Any, rounded: Callable[[Any], Any] = lambda values: values) -> Any:
    """Return images `[N, h, w, C]` by weights of rows `[h, H]` and columns `[w, W]`, `rounded` after each of the two.

    Along the rows of pixels first, as Pillow does.
    """
    from keras import ops

    planes = ops.matmul(ops.transpose(images, (0, 3, 1, 2)), ops.transpose(columns))
    planes = ops.matmul(rows, rounded(planes))
    return rounded(ops.transpose(planes, (0, 2, 3, 1)))


def _triangle(distances: Any) -> Any:
    from keras import ops

    return ops.relu(1.0 - distances)


def _cubic(distances: Any) -> Any:
    """Return weights of Keys' kernel (1981)."""
    from keras import ops

    near = (1.5 * distances - 2.5) * distances * distances + 1.0
    far = ((2.5 - 0.5 * distances) * distances - 4.0) * distances + 2.0
    return ops.where(distances < 1.0, near, ops.where(distances < 2.0, far, 0.0))


def _lanczos(distances: Any, radius: float) -> Any:
    from keras import ops

    angles = math.pi * ops.maximum(distances, 1e-6)
    weights = radius * ops.sin(angles) * ops.sin(angles / radius) / ops.square(angles)
    return ops.where(distances < radius, weights, 0.0)


KERNELS: Mapping[str, Callable[[Any], Any]] = {
    "bilinear": _triangle,
    "bicubic": _cubic,
    "lanczos3": partial(_lanczos, radius=3.0),
    "lanczos5": partial(_lanczos, radius=5.0),
}
"""Weights of pixels by their distance, for each way of resizing that looks at more than one."""


def _resize_shape(values: Mapping[str, Any], shape: Shape) -> Shape:
    return values["px"], values["width_px"] or values["px"], shape[2]


def _crop(values: Mapping[str, Any], images: Any, _range: Range | None, _raw: Any) -> Any:
    from keras import layers

    height, width, _ = _crop_shape(values, tuple(images.shape[1:]))
    return layers.CenterCrop(height, width, data_format="channels_last", dtype="float32")(images)


def _crop_shape(values: Mapping[str, Any], shape: Shape) -> Shape:
    height, width, channels = _resize_shape(values, shape)
    if height > shape[0] or width > shape[1]:
        raise PipelineError(f"crop: px must be at most the image's {shape[0]}x{shape[1]}; got {height}x{width}")
    return height, width, channels


_PX = (Argument("px", int, 1, MAX_PX), Argument("width_px", int, 0, MAX_PX, default=0))
_METHOD = Argument("method", str, words=("bilinear", "bicubic", "nearest", "lanczos3", "lanczos5"), default="bilinear")


def _asked(values: Mapping[str, Any]) -> tuple[int, int]:
    return values["px"], values["width_px"] or values["px"]


_add("resize", Effect(_resize, shape=_resize_shape, asks=_asked),
     "to px by px (or by width_px); antialiased when it shrinks", *_PX, _METHOD)  # fmt: skip
_add(
    "crop",
    Effect(_crop, shape=_crop_shape, asks=_asked, is_cut=True, needs_size=True),
    "the middle px by px (or by width_px)",
    *_PX,
)


# --- channels ---


def _grayscale(_values: Mapping[str, Any], images: Any, _range: Range | None, _raw: Any) -> Any:
    from keras import ops

    return images if images.shape[-1] == 1 else ops.image.rgb_to_grayscale(images, data_format="channels_last")


def _grayscale_shape(_values: Mapping[str, Any], shape: Shape) -> Shape:
    return _with_channels("grayscale", shape, 1)


def _rgb(_values: Mapping[str, Any], images: Any, _range: Range | None, _raw: Any) -> Any:
    from keras import ops

    return images if images.shape[-1] == 3 else ops.concatenate([images] * 3, axis=-1)


def _rgb_shape(_values: Mapping[str, Any], shape: Shape) -> Shape:
    return _with_channels("rgb", shape, 3)


def _with_channels(operation: str, shape: Shape, channels: int) -> Shape:
    if shape[2] not in (1, 3):
        raise PipelineError(f"{operation} must have images of 1 or 3 channels; got {shape[2]}")
    return (*shape[:2], channels)


_add(
    "grayscale", Effect(_grayscale, shape=_grayscale_shape, is_pointwise=True), "one channel, by ITU-R 601 luma weights"
)
_add("rgb", Effect(_rgb, shape=_rgb_shape, is_pointwise=True), "three channels, grey repeated")


# --- noise and smoothing ---


def _smooth(values: Mapping[str, Any], images: Any, _range: Range | None, _raw: Any) -> Any:
    from keras import ops

    size = values["size_px"]
    return ops.average_pool(images, size, strides=1, padding="same", data_format="channels_last")


def _noise(values: Mapping[str, Any], images: Any, value_range: Range, raw_images: Any) -> Any:
    from keras import ops

    low, high = value_range
    noise = normal_noise(raw_images, images, values["seed"])
    return ops.clip(images + noise * (values["stddev"] * (high - low)), low, high)


_add("smooth", Effect(_smooth), "mean over size_px by size_px neighbours", Argument("size_px", int, 2, 31))
_add("noise", Effect(_noise, needs_range=True),
     "Gaussian noise of stddev times the value range, clipped to it; always the same for the same image",
     Argument("stddev", float, 0.0, 10.0), Argument("seed", int, 0, 2**31 - 1, default=0))  # fmt: skip
