"""Noise that is a function of the image it is added to: no state, no dependence on the batch.

A counter-based generator in whole numbers small enough to be exact in float32 (below 2**24), so that the same image
gets the same noise on every backend, in every batch, in training and in the saved model. Integers proper would do on a
CPU; TensorFlow keeps int32 tensors of a GPU on the host.
"""

from __future__ import annotations

from typing import Any

import numpy as np

_PRIME = 4093  # the largest prime whose square, and some, stays below 2**24


def normal_noise(raw_images: Any, shape: tuple[int, int, int], seed: int) -> Any:
    """Standard normal noise `[N, *shape] float32` for raw images `[N, H, W, C]` in 0..255.

    Each value depends on its position, on all pixels of its own raw image and on `seed`. Raw, because these are whole
    numbers: of values that have been computed, the last bit differs from backend to backend, and that would be enough
    for other noise. Two uniform numbers per value by three rounds of squaring modulo a prime, then Box & Muller (1958).
    """
    from keras import ops

    constants = np.random.default_rng(seed).integers(1, _PRIME, size=(2, 8))
    first, second = (_uniform(raw_images, shape, row) for row in constants)
    return ops.sqrt(-2.0 * ops.log(first)) * ops.cos((2.0 * np.pi) * second)


def _uniform(raw_images: Any, shape: tuple[int, int, int], constants: np.ndarray) -> Any:
    """Numbers in (0, 1), `[N, *shape]`."""
    from keras import ops

    height, width, channels = shape
    rows = np.arange(height, dtype=np.float64)[None, :, None, None]
    columns = np.arange(width * channels, dtype=np.float64).reshape(1, 1, width, channels)
    # Subtracted, never added: Keras (3.15) takes the addition of [N, 1, 1, 1] for that of a bias along the rows when a
    # batch has as many images as an image has rows, and adds the keys of other images.
    minus_key = -_image_key(raw_images, constants[:2])
    state = ops.subtract(_mixed(rows, columns, constants[2:4]), minus_key)  # below 3 primes
    for row_constant, offset in ((constants[4], constants[5]), (constants[6], constants[7])):
        state = ops.mod(state, _PRIME)
        position = _mixed(rows, columns, (row_constant, offset))
        state = ops.mod(ops.square(state), _PRIME) + position - minus_key
    state = ops.mod(ops.square(ops.mod(state, _PRIME)) + float(constants[0]), _PRIME)
    return (state + 0.5) / _PRIME


def _mixed(rows: np.ndarray, columns: np.ndarray, constants: Any) -> np.ndarray:
    """A number below 2 primes for each position, `[1, H, W, C] float32`, computed exactly beforehand."""
    return ((rows * float(constants[0])) % _PRIME + (columns * float(constants[1])) % _PRIME).astype(np.float32)


def _image_key(images: Any, constants: np.ndarray) -> Any:
    """A number below the prime for each image, `[N, 1, 1, 1]`, from all its pixels; exact in any order of adding."""
    from keras import ops

    height, width, channels = images.shape[1:]
    steps = ops.floor(ops.clip(images, 0.0, 255.0) + 0.5)
    weights = 1.0 + (np.arange(width * channels) * int(constants[0]) % 7).reshape(1, 1, width, channels)
    by_row = ops.mod(ops.sum(steps * weights.astype(np.float32), axis=(2, 3), keepdims=True), _PRIME)
    row_weights = 1.0 + (np.arange(height) * int(constants[1]) % (_PRIME - 1)).reshape(1, height, 1, 1)
    weighted = ops.mod(by_row * row_weights.astype(np.float32), _PRIME)
    key = ops.mod(ops.sum(weighted, axis=1, keepdims=True), _PRIME)
    return ops.mod(ops.square(key) + float(constants[0]), _PRIME)
