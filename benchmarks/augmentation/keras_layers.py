"""Augmentation texts as Keras's preprocessing layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tuner.models.augmentation import parse_augment


def has_layers(text: str) -> bool:
    """Return whether Keras has a layer for every operation of a text."""
    return all(call.name in _kinds() for call in parse_augment(text).calls)


def change_by_keras(text: str) -> Callable[[Any, Any], Any] | None:
    """Return the function that augments a batch of images and leaves their labels; None where a text is `none`."""
    layers = []
    for call in parse_augment(text).calls:
        number = next(iter(call.values.values()))
        layers.append(_kinds()[call.name](0.0 if isinstance(number, str) else number))

    def change(images: Any, labels: Any) -> Any:
        for layer in layers:
            images = layer(images, training=True)
        return images, labels

    return change if layers else None


def _kinds() -> dict[str, Callable[[float], Any]]:
    import keras

    return {
        "flip": lambda _none: keras.layers.RandomFlip("horizontal"),
        "rotate": lambda degrees: keras.layers.RandomRotation(degrees / 360, fill_mode="nearest"),
        "zoom": lambda fraction: keras.layers.RandomZoom(fraction, fill_mode="nearest"),
        "brightness": lambda fraction: keras.layers.RandomBrightness(fraction),
        "contrast": lambda fraction: keras.layers.RandomContrast(fraction, value_range=(0, 255)),
    }
