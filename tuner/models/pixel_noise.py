"""Noise that is a function of the image it is added to: no state, no dependence on the batch.

A counter-based generator in whole numbers, so that the same image gets the same noise on every backend, in every batch,
in training and in the saved model. int64, although 31 bits are enough: TensorFlow keeps int32 tensors of a GPU on the
host. Positions are counted in the graph, so that no image-sized constants are saved and sizes may be unknown.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

# Arrays of one number: the bitwise operations of Keras take no Python numbers, and save a plain array as one.
_LOW_BITS = np.array([2**31 - 1])


def normal_noise(raw_images: Any, images: Any, seed: int) -> Any:
    """Standard normal noise, float32 and of the shape of `images`, for the raw images `[N, H, W, C]` in 0..255.

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
    """A permutation of 31 bits in which every bit depends on every other; after lowbias32 (Wellons 2018)."""
    from keras import ops

    for shift, factor in ((16, 0x7FEB352D), (15, 0x046CA68B)):
        state = ops.bitwise_xor(state, ops.right_shift(state, np.array([shift])))
        state = ops.bitwise_and(ops.multiply(state, factor), _LOW_BITS)
    return ops.bitwise_xor(state, ops.right_shift(state, np.array([16])))


def _position_hashes(images: Any, stream: int) -> tuple[Any, Any]:
    """31 bits for each row and for each column and channel of the images, `[N, H, 1, 1]` and `[N, 1, W, C] int64`."""
    from keras import ops

    def counted(along: Any, axis: int, constant: Any) -> Any:
        return _mixed(ops.bitwise_xor(ops.cast(ops.cumsum(ops.ones_like(along), axis=axis), "int64"), constant))

    channels = images.shape[3]
    constants = np.random.default_rng(stream).integers(0, 2**31, size=1 + channels)
    return counted(images[:, :, :1, :1], 1, constants[:1]), counted(images[:, :1], 2, constants[1:])


def _image_hash(images: Any, stream: int) -> Any:
    """31 bits for each image from all its pixels, `[N, 1, 1, 1] int64`; exact in any order of adding.

    The pixels are weighted by odd numbers, so that the change of one pixel always changes the sum.
    """
    from keras import ops

    rows, columns = (ops.bitwise_or(hashes, np.array([1])) for hashes in _position_hashes(images, stream))
    steps = ops.cast(ops.floor(ops.clip(images, 0.0, 255.0) + 0.5), "int64")
    by_row = ops.bitwise_and(ops.sum(ops.multiply(steps, columns), axis=(2, 3), keepdims=True), _LOW_BITS)
    weighted = ops.bitwise_and(ops.multiply(by_row, rows), _LOW_BITS)
    return _mixed(ops.bitwise_and(ops.sum(weighted, axis=1, keepdims=True), _LOW_BITS))
