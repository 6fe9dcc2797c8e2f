"""Backbones with random weights, each built once for all tests of it that run one after the other."""

from __future__ import annotations

import functools
from typing import Any

from tuner.models.architectures import ARCHITECTURES

EVERY_BACKBONE = [name for name in ARCHITECTURES if ARCHITECTURES[name].is_backbone]
BACKBONES = [
    *("mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large", "mobilenet", "vgg16", "resnet50", "resnet50_v2"),
    *("inception_v3", "inception_resnet_v2", "xception", "densenet121", "efficientnet_b0", "efficientnet_v2_b0"),
    *("convnext_tiny", "nasnet_mobile"),
]
"""One of each kind, for all tests; the others are deeper or wider, and are tested by their graphs."""
EVERY_DEPTH = ("mobilenet_v2", "vgg16", "convnext_tiny")
"""A residual one, a plain one and one like a transformer: each of their depths is tested, of the others four."""


def four_depths(count: int) -> list[int]:
    """Unfreeze depths: none, one, half and all of `count` blocks."""
    return sorted({0, min(1, count), count // 2, count})


def depths_of(name: str, count: int) -> list[int]:
    """Unfreeze depths to test: all from none to `count` blocks, or four of them."""
    return list(range(count + 1)) if name in EVERY_DEPTH else four_depths(count)


@functools.lru_cache(maxsize=2)
def backbone(name: str) -> Any:
    """The backbone for the smallest images that it takes."""
    architecture = ARCHITECTURES[name]
    shape = (architecture.minimum_px, architecture.minimum_px, 3)
    return architecture.build(architecture.values_of({"weights": "none"}), shape, 0)


@functools.lru_cache(maxsize=2)
def as_keras_builds_it(name: str) -> Any:
    """The network of `keras.applications` for the smallest images that it takes, its own preprocessing included."""
    import keras  # all tests are put in order by this module, and many need no Keras

    size = ARCHITECTURES[name].minimum_px
    constructor = getattr(keras.applications, str(ARCHITECTURES[name].application))
    return constructor(include_top=False, weights=None, input_shape=(size, size, 3))
