"""Own code for the searches that are measured: two small networks, with trained weights and with random ones.

`python -m benchmarks.images networks` has trained the weights on half of CIFAR-100's classes, which no task has. They
lie beside this file. Any size of image will do: the maps are pooled by the head that goes on top.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

import tuner

WEIGHTS = Path(__file__).with_name("networks.npz")
CONVOLUTION = {"use_bias": False, "kernel_initializer": "he_normal"}
"""Random weights that are no better than they must be would give nothing at all behind so many layers."""


def residual(images: Any) -> keras.Model:
    """Return a residual network of 120,000 weights: three stages that each halve the image, pixels from -1 to 1."""
    x = _normalised(layers.Conv2D(16, 3, padding="same", name="stem", **CONVOLUTION)(images), "stem")
    for stage, filters in enumerate((20, 40, 80), start=1):
        name = f"stage{stage}"
        settings = {"padding": "same", **CONVOLUTION}
        inner = layers.Conv2D(filters, 3, strides=2, name=f"{name}_first", **settings)(x)
        inner = _normalised(inner, f"{name}_first")
        inner = layers.Conv2D(filters, 3, name=f"{name}_second", **settings)(inner)
        inner = layers.BatchNormalization(name=f"{name}_second_norm")(inner)
        x = layers.Conv2D(filters, 1, strides=2, name=f"{name}_short", **settings)(x)
        x = layers.Add(name=f"{name}_sum")([x, inner])
        x = layers.ReLU(name=f"{name}_end")(x)
    return keras.Model(images, x)


def separable(images: Any) -> keras.Model:
    """Return a network of depthwise and pointwise convolutions, of 83,000 weights, pixels from -1 to 1."""
    x = _normalised(layers.Conv2D(24, 3, padding="same", name="stem", **CONVOLUTION)(images), "stem")
    for number, (filters, strides) in enumerate(((48, 2), (48, 1), (96, 2), (96, 1), (192, 2), (192, 1)), start=1):
        name = f"block{number}"
        x = layers.DepthwiseConv2D(3, strides, padding="same", use_bias=False, name=f"{name}_depth")(x)
        x = _normalised(x, f"{name}_depth")
        x = _normalised(layers.Conv2D(filters, 1, name=f"{name}_point", **CONVOLUTION)(x), f"{name}_point")
    return keras.Model(images, x)


def _normalised(x: Any, name: str) -> Any:
    return layers.ReLU(name=f"{name}_relu")(layers.BatchNormalization(name=f"{name}_norm")(x))


NETWORKS: dict[str, Callable[[Any], keras.Model]] = {"residual": residual, "separable": separable}


def trained(name: str, images: Any) -> keras.Model:
    """Return a network with the weights beside this file; raises ValueError where they are not those of it."""
    network = NETWORKS[name](images)
    with np.load(WEIGHTS, allow_pickle=False) as kept:
        number = sum(key.startswith(f"{name}/weight") for key in kept.files)
        network.set_weights([kept[f"{name}/weight{place:02}"].astype(np.float32) for place in range(number)])
    return network


def small_residual(images):
    """A small residual network with trained weights."""
    return trained("residual", images)


def small_separable(images):
    """A small network of separable convolutions with trained weights."""
    return trained("separable", images)


def random_residual(images):
    """A small residual network with random weights."""
    return residual(images)


def random_separable(images):
    """A small network of separable convolutions with random weights."""
    return separable(images)


if __name__ == "small_networks":  # given as a plugin; imported by its package, it registers nothing
    for _function in (small_residual, small_separable, random_residual, random_separable):
        tuner.architecture(_function, pixel_scaling="tf", minimum_px=16)
