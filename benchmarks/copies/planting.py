"""Copies of images as people make them: saved again, resized, cropped, made brighter or grey."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance

Change = Callable[[Image.Image, np.random.Generator], Image.Image]


def saved_as_jpeg(quality: int) -> Change:
    def change(image: Image.Image, _generator: np.random.Generator) -> Image.Image:
        content = io.BytesIO()
        image.save(content, "JPEG", quality=quality)
        return Image.open(content)

    return change


def resized(scale: float) -> Change:
    return lambda image, _generator: image.resize((round(image.width * scale), round(image.height * scale)))


def cropped(share: float) -> Change:
    """Cut off this share of height and width, from two sides in random parts."""

    def change(image: Image.Image, generator: np.random.Generator) -> Image.Image:
        width, height = image.size
        left, top = generator.uniform(0, width * share), generator.uniform(0, height * share)
        box = (left, top, left + width * (1 - share), top + height * (1 - share))
        return image.resize(image.size, Image.Resampling.BILINEAR, box=box)

    return change


CHANGES: dict[str, Change] = {
    "the same pixels": lambda image, _generator: image,
    "JPEG 95": saved_as_jpeg(95),
    "JPEG 75": saved_as_jpeg(75),
    "JPEG 50": saved_as_jpeg(50),
    "1.5 times the size": resized(1.5),
    "0.75 times the size": resized(0.75),
    "half the size": resized(0.5),
    "cropped by 2%": cropped(0.02),
    "cropped by 5%": cropped(0.05),
    "brighter by 20%": lambda image, _generator: ImageEnhance.Brightness(image).enhance(1.2),
    "darker by 20%": lambda image, _generator: ImageEnhance.Brightness(image).enhance(0.8),
    "more contrast by 20%": lambda image, _generator: ImageEnhance.Contrast(image).enhance(1.2),
    "less contrast by 20%": lambda image, _generator: ImageEnhance.Contrast(image).enhance(0.8),
    "grey": lambda image, _generator: image.convert("L"),
}


def to_image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def to_pixels(image: Image.Image, shape: tuple[int, ...]) -> np.ndarray:
    """Return an image as it would be prepared: in one shape with all others."""
    image = image.convert("L" if shape[2] == 1 else "RGB")
    if image.size != (shape[1], shape[0]):
        image = image.resize((shape[1], shape[0]), Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(shape)


def copies_of(images: np.ndarray, kind: str, seed: int = 0) -> np.ndarray:
    """Return copies of images `[N, H, W, C] uint8`."""
    generator = np.random.default_rng(seed)
    change = CHANGES[kind]
    return np.stack([to_pixels(change(to_image(image), generator), image.shape) for image in images])
