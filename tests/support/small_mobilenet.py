"""A MobileNetV2 of its last four blocks, for tests of what is trained, kept and read, whatever the network."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers
from keras.src.applications.mobilenet_v2 import _inverted_res_block as inverted_residual  # it has no public name


def small_mobilenet_v2(input_shape: tuple[int, int, int], alpha: float, weights: None = None, **_: Any) -> keras.Model:
    """Return a network with the names, blocks, cuts and features of `keras.applications.MobileNetV2`, without its top.

    It is made of the same blocks, of which it has a fifth: a network of 154 layers takes seconds to be traced.
    """
    images = keras.Input(input_shape)
    x = layers.Conv2D(16, 3, strides=4, padding="same", use_bias=False, name="Conv1")(images)
    x = layers.ReLU(6.0, name="Conv1_relu")(layers.BatchNormalization(name="bn_Conv1")(x))
    for block, (filters, stride) in {13: (64, 2), 14: (64, 1), 15: (64, 1), 16: (96, 2)}.items():
        x = inverted_residual(x, filters=filters, alpha=alpha, stride=stride, expansion=2, block_id=block)
    x = layers.Conv2D(1280, 1, use_bias=False, name="Conv_1")(x)
    x = layers.ReLU(6.0, name="out_relu")(layers.BatchNormalization(name="Conv_1_bn")(x))
    return keras.Model(images, x, name="mobilenetv2")
