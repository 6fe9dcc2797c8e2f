"""Decoding image files into plain arrays, whatever their format, depth, palette or transparency."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from tuner.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp")
_GREY_MODES = {"1", "L", "LA", "La", "I", "F", "I;16", "I;16B", "I;16L"}
EncodedImage = Path | bytes
Result = TypeVar("Result")


@dataclass(frozen=True)
class Header:
    """What an image file says of itself without being decoded: pixels after its orientation is applied."""

    height: int
    width: int
    is_grey: bool


def read_header(encoded: EncodedImage) -> Header:
    """The header of an image; raises DataError with the reason when it cannot be read."""
    return _open(encoded, lambda image: Header(*_oriented_size(image), image.mode in _GREY_MODES))


def _oriented_size(image: Image) -> tuple[int, int]:
    turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
    width, height = image.size
    return (width, height) if turned else (height, width)


def decode_image(encoded: EncodedImage, px: tuple[int, int] | None, grey: bool) -> np.ndarray:
    """The image as `[H, W, 1 or 3] uint8`, upright; of a moving picture the first frame.

    Transparency is laid over white, as a page would show it; 16 bits become 8 by their upper half. With `px` (height,
    width) the middle is cut out in those proportions and resized, antialiased; nothing is squeezed.

    Raises:
        DataError: the file cannot be decoded, with the reason.
    """
    return _open(encoded, lambda image: _to_array(image, px, grey))


def _open(encoded: EncodedImage, read: Callable[[Image], Result]) -> Result:
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(encoded if isinstance(encoded, Path) else io.BytesIO(encoded)) as image:
                return read(image)
    except UnidentifiedImageError:
        raise DataError("is not an image in a format that can be read") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"is too large: {error}") from None
    # Pillow lets errors of many kinds through when a file is damaged.
    except (OSError, ValueError, SyntaxError, EOFError, IndexError, KeyError, TypeError, MemoryError) as error:
        raise DataError(f"cannot be decoded: {error}") from None


def _to_array(image: Image, px: tuple[int, int] | None, grey: bool) -> np.ndarray:
    from PIL import Image as Pillow
    from PIL import ImageOps

    upright = ImageOps.exif_transpose(_eight_bits(image))
    if "A" in upright.getbands() or "a" in upright.getbands() or "transparency" in upright.info:
        coloured = upright.convert("RGBA")
        upright = Pillow.alpha_composite(Pillow.new("RGBA", coloured.size, "white"), coloured)
    plain = upright.convert("L" if grey else "RGB")
    if px is not None and (plain.height, plain.width) != px:
        plain = ImageOps.fit(plain, (px[1], px[0]), method=Pillow.Resampling.BILINEAR)
    array = np.asarray(plain, dtype=np.uint8)
    return array[:, :, None] if grey else array


def _eight_bits(image: Image) -> Image:
    """16-bit and floating grey as 8-bit grey: Pillow itself cuts values above 255 off."""
    from PIL import Image as Pillow

    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        values = np.asarray(image, dtype=np.float64)
        scale = 257.0 if image.mode.startswith("I;16") or values.max(initial=0.0) > 255 else 1.0
        return Pillow.fromarray(np.clip(np.round(values / scale), 0, 255).astype(np.uint8))
    return image
