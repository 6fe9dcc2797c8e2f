"""Decoding of image files into plain arrays, whatever their format, depth, palette or transparency.

Light: Pillow is imported when an image is read. Everything here is safe to call from several threads.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from tuner.common.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp")
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP")
"""No other decoder is tried, whatever a file is named: Pillow has some that start other programs (EPS: Ghostscript)."""
EncodedImage = Path | bytes
Result = TypeVar("Result")
_GREY_MODES = {"1", "L", "LA", "I;16"}
_ORIENTATION = 0x0112
# Pillow lets errors of many kinds through when a file is damaged (tests/datasets/test_images.py damages some thousand).
_DAMAGE = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    MemoryError,
    RuntimeError,
    struct.error,
    zlib.error,
)


@dataclass(frozen=True)
class Header:
    """The size of an image in pixels once it is upright, and whether it is grey."""

    height: int
    width: int
    is_grey: bool


def read_header(encoded: EncodedImage) -> Header:
    """Return the header of an image, without decoding it where its format allows that.

    Raises:
        DataError: it cannot be read, with the reason.
    """
    return _open(encoded, lambda image: Header(*_upright_size(image), _is_grey(image)))


def _upright_size(image: Image) -> tuple[int, int]:
    width, height = image.size
    # Pillow decodes the whole of a PNG to look for its orientation: only where that matters.
    if width != height and image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8):
        return width, height
    return height, width


def _is_grey(image: Image) -> bool:
    """Return whether the format or the palette has no colours; pixels are not looked at."""
    if image.mode == "P":
        colours = np.array(image.getpalette() or [], dtype=np.uint8).reshape(-1, 3)
        return bool((colours == colours[:, :1]).all())
    return image.mode in _GREY_MODES


def decode_image(encoded: EncodedImage, px: tuple[int, int] | None, grey: bool) -> np.ndarray:
    """Return the image as `[H, W, 1 or 3] uint8`, upright; of a moving picture the first frame.

    Transparency is laid over white, as a page would show it; 16 bits become 8 in proportion. With `px` (height, width)
    the largest middle part of those proportions is resized with a bilinear filter that widens with the scale, so that
    nothing is squeezed or aliased. Grey is the luma of ITU-R BT.601, as everywhere in Pillow.

    Raises:
        DataError: the file cannot be decoded, with the reason.
    """
    return _open(encoded, lambda image: _to_array(image, px, grey))


def convert_pixels(pixels: np.ndarray, px: tuple[int, int] | None, grey: bool) -> np.ndarray:
    """Return an array `[H, W, 1 or 3] uint8` as `decode_image` would give it."""
    from PIL import Image

    return _to_array(Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels), px, grey)


def _open(encoded: EncodedImage, read: Callable[[Image], Result]) -> Result:
    from PIL import Image, UnidentifiedImageError

    try:
        _refuse_without_content(encoded)
        with Image.open(encoded if isinstance(encoded, Path) else io.BytesIO(encoded), formats=FORMATS) as image:
            _refuse_bomb(image.width * image.height, Image.MAX_IMAGE_PIXELS)
            return read(image)
    except UnidentifiedImageError:
        raise DataError(f"is not an image in a format that is read ({', '.join(FORMATS)})") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"is too large: {error}") from None
    except _DAMAGE as error:
        raise DataError(f"cannot be decoded: {str(error) or type(error).__name__}") from None


def _refuse_without_content(encoded: EncodedImage) -> None:
    """Refuse a pipe or a device, which would be waited for without end, and an empty image."""
    if isinstance(encoded, Path):
        if not encoded.is_file():
            raise DataError("cannot be decoded: it is a folder, a pipe or a link to nothing")
    elif not encoded:
        raise DataError("is not an image: it is empty")


def _refuse_bomb(pixels: int, most: int | None) -> None:
    # Pillow only warns up to twice its limit, and turning that warning into an error is not safe in threads.
    if most is not None and pixels > most:
        raise DataError(f"is too large: {pixels:,} pixels, the limit of Pillow is {most:,}")


def _to_array(image: Image, px: tuple[int, int] | None, grey: bool) -> np.ndarray:
    from PIL import Image as Pillow
    from PIL import ImageOps

    if px is not None:
        # JPEG can be decoded at 1/2, 1/4 or 1/8 of its size. Twice what is wanted leaves the filter enough to average:
        # 224 px of 4000x3000: 0.28 s -> 0.06 s, no value differs by more than 2 of 255.
        image.draft(None, (2 * max(px), 2 * max(px)))
    # The orientation before the depth: it is lost when 16 bits become 8.
    plain = _over_white(_eight_bits(ImageOps.exif_transpose(image))).convert("L" if grey else "RGB")
    if px is not None and (plain.height, plain.width) != px:
        plain = ImageOps.fit(plain, (px[1], px[0]), method=Pillow.Resampling.BILINEAR)
    array = np.asarray(plain, dtype=np.uint8)
    return array[:, :, None] if grey else array


def _eight_bits(image: Image) -> Image:
    """Return 16-bit grey as 8-bit grey, 65535 as 255; Pillow itself clips values above 255."""
    from PIL import Image as Pillow

    if image.mode != "I;16":
        return image
    values = np.asarray(image, dtype=np.uint32)
    return Pillow.fromarray(((values + 128) // 257).astype(np.uint8))


def _over_white(image: Image) -> Image:
    from PIL import Image as Pillow

    if not image.has_transparency_data:
        return image
    coloured = image.convert("RGBA")
    return Pillow.alpha_composite(Pillow.new("RGBA", coloured.size, "white"), coloured)
