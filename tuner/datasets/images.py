"""Decoding of image files into plain arrays, whatever their format, depth, palette or transparency.

Light: Pillow is imported when an image is read. Everything here is safe to call from several threads.
"""

from __future__ import annotations

import io
import math
import stat
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from tuner.common.errors import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (
    ".jpg",
    ".jpeg",
    ".jfif",
    ".jpe",
    ".png",
    ".bmp",
    ".gif",
    ".webp",
    ".tif",
    ".tiff",
    ".ppm",
    ".pgm",
    ".pbm",
    ".pnm",
)
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
"""No other decoder is tried, whatever a file is named: Pillow has some that start other programs (EPS: Ghostscript)."""
EncodedImage = Path | bytes
FITS = ("crop", "pad", "stretch")
"""How an image becomes one of other proportions: its middle is cut out, the rest is filled, or it is squeezed."""
PAD_VALUE = 128
"""Fills what an image leaves free: mid-grey, which `scale(-1,1)` makes the 0 that convolutions fill borders with."""
DEFAULT_PX = 224
"""Height and width of images of different sizes where nothing asks for any."""
MOST_READ_BYTES = 64 * 2**20
"""A larger file is read in pieces as it is decoded."""
Result = TypeVar("Result")
_SIXTEEN_BITS = ("I;16", "I;16B", "I;16L", "I")
_PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I;16B")
_GREY_MODES = {"1", "L", "LA", "F", *_SIXTEEN_BITS}
_ORIENTATION = 0x0112
_HEAD_BYTES = 16
_UNDO = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}
"""Pillow's numbers of what undoes each orientation; `exif_transpose` writes EXIF again, and fails on odd tags."""
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
    AssertionError,
    struct.error,
    zlib.error,
)
warnings.filterwarnings("ignore", module=r"PIL\.")  # of metadata; what is wrong with pixels is raised


@dataclass(frozen=True)
class Header:
    """The size of an image in pixels once it is upright, and whether it is grey."""

    height: int
    width: int
    is_grey: bool


class AskedSize(NamedTuple):
    """The size of images that the preprocessing of a search asks for."""

    height: int
    width: int
    is_own_asked: bool
    """Whether some of it asks for the images as they are, too."""

    def keeps(self, size: Sequence[int]) -> bool:
        """Return whether images that all have some size (height, width, ...) keep it: they are not larger."""
        return self.is_own_asked or (size[0] <= self.height and size[1] <= self.width)


@dataclass(frozen=True)
class Expected:
    """An expectation of all images by the headers of some."""

    size: tuple[int, int] | None
    """Height and width; None: any."""
    is_grey: bool
    """Whether each has to be grey."""

    def holds_of(self, header: Header) -> bool:
        """Return whether an image is as expected."""
        return (self.size is None or self.size == (header.height, header.width)) and header.is_grey >= self.is_grey


class UnexpectedImage(Exception):
    """An image that is not as expected: those of which the headers were read do not speak for all."""


def read_header(encoded: EncodedImage) -> Header:
    """Return the header of an image, without decoding it where its format allows that.

    Raises:
        DataError: it cannot be read, with the reason.
    """
    return _open(encoded, _header)


def _header(image: Image) -> Header:
    return Header(*_upright_size(image), _is_grey(image))


def _upright_size(image: Image) -> tuple[int, int]:
    width, height = image.size
    # Pillow decodes the whole of a PNG to look for its orientation: only where that matters. The size of a TIFF is that
    # of the upright image already.
    can_be_turned = width != height and image.format != "TIFF"
    return (width, height) if can_be_turned and _orientation(image) in (5, 6, 7, 8) else (height, width)


def _orientation(image: Image) -> int:
    """Return how the image is turned, 1 to 8; 1 where that cannot be read."""
    try:
        found = image.getexif().get(_ORIENTATION)
    except _DAMAGE:
        return 1
    return found if isinstance(found, int) and 1 <= found <= 8 else 1


def _is_grey(image: Image) -> bool:
    """Return whether the format or the palette has no colours; pixels are not looked at."""
    if image.mode == "P":
        colours = np.array(image.getpalette() or [], dtype=np.uint8).reshape(-1, 3)
        return bool((colours == colours[:, :1]).all())
    return image.mode in _GREY_MODES


@dataclass(frozen=True)
class Original:
    """The properties of an image file as it is; its size once it is upright."""

    width: int
    height: int
    is_grey: bool
    is_transparent: bool
    bits: int
    """Of a channel."""
    format: str


def look_at(encoded: EncodedImage, px: int) -> tuple[Original, np.ndarray]:
    """Return what an image file is, and the whole of it `[H, W, 3] uint8`, at most `px` high and wide, over white.

    Raises:
        DataError: it cannot be decoded, with the reason.
    """
    return _open(encoded, lambda image: (_original(image), _small(image, px)))


def read_original(encoded: EncodedImage) -> Original:
    """Return what an image file is by its header, without decoding it where its format allows that.

    Raises:
        DataError: it cannot be read, with the reason.
    """
    return _open(encoded, _original)


def _original(image: Image) -> Original:
    bits = _bits(image)  # first: Pillow forgets it when it looks for the orientation of a PNG
    height, width = _upright_size(image)
    return Original(width, height, _is_grey(image), image.has_transparency_data, bits, image.format or "")


def _bits(image: Image) -> int:
    """Return the bits of a channel in the file; Pillow opens colours of 16 bits as ones of 8."""
    if image.mode in ("1", "F"):
        return 1 if image.mode == "1" else 32
    tiles = getattr(image, "tile", None)
    decoder, _, _, told = tiles[0] if tiles else ("", (), 0, ())
    told = told if isinstance(told, tuple) else (told,)
    is_wide = decoder.startswith("ppm") and isinstance(told[-1], int) and told[-1] > 255  # its largest value
    return 16 if is_wide or image.mode in _SIXTEEN_BITS or ";16" in str(told[:1]) else 8


def _small(image: Image, px: int) -> np.ndarray:
    from PIL import Image as Pillow

    image.draft(None, (2 * px, 2 * px))
    image.load()
    turned = image.transpose(Pillow.Transpose(_UNDO[turn])) if (turn := _orientation(image)) in _UNDO else image
    plain = _over_white(_eight_bits(turned)).convert("RGB")
    plain.thumbnail((px, px), Pillow.Resampling.BILINEAR)
    return np.asarray(plain, dtype=np.uint8)


def is_lossy(encoded: EncodedImage) -> bool:
    """Return whether the format of an image has lost something of it before: JPEG's, and one of the two of WebP."""
    if isinstance(encoded, Path):
        with encoded.open("rb") as file:
            content = file.read(_HEAD_BYTES)
            content = content if not content.startswith(b"RIFF") else content + file.read()
    else:
        content = encoded
    if not content.startswith(b"RIFF"):
        return content.startswith(b"\xff\xd8")
    start = 12
    while (kind := content[start : start + 4]) not in (b"VP8 ", b"VP8L", b""):
        # The frame of a moving picture is a part with parts, after 16 bytes of its own.
        size = int.from_bytes(content[start + 4 : start + 8], "little")
        start += 24 if kind == b"ANMF" else 8 + size + size % 2
    return kind == b"VP8 "


def decode_image(
    encoded: EncodedImage, px: tuple[int, int] | None, grey: bool, fit: str = "crop", expected: Expected | None = None
) -> np.ndarray:
    """Return the image as `[H, W, 1 or 3] uint8`, upright; of a moving picture the first frame.

    Transparency is laid over white, as a page would show it; 16 bits become 8 in proportion. With `px` (height, width)
    it is resized with a bilinear filter that widens with the scale, so that nothing is aliased, in one of the ways of
    `FITS`. Grey is the luma of ITU-R BT.601, as everywhere in Pillow.

    Raises:
        DataError: the file cannot be decoded, with the reason.
        UnexpectedImage: it is none of which `expected` holds.
    """
    return _open(_content(encoded), lambda image: _to_array(image, px, grey, fit, expected))


def convert_pixels(pixels: np.ndarray, px: tuple[int, int] | None, grey: bool, fit: str = "crop") -> np.ndarray:
    """Return an array `[H, W, 1 or 3] uint8` as `decode_image` would give it."""
    from PIL import Image

    return _to_array(Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels), px, grey, fit)


def as_file(image: Image) -> bytes:
    """Return an image of Pillow as a PNG file, which is decoded as the file that it was opened from would be: upright.

    What PNG cannot hold becomes colours of 8 bits, with their transparency (CMYK, YCbCr, integers of 32 bits).

    Raises:
        DataError: it cannot be decoded or kept, with the reason.
    """
    from PIL import Image as Pillow

    content = io.BytesIO()
    try:
        image.load()  # of a TIFF, Pillow turns it then
        turned = image.transpose(Pillow.Transpose(_UNDO[turn])) if (turn := _orientation(image)) in _UNDO else image
        plain = turned if turned.mode in _PNG_MODES else _eight_bits(turned)
        if plain.mode not in _PNG_MODES:
            plain = plain.convert("RGBA" if plain.has_transparency_data else "RGB")
        plain.save(content, format="PNG")
    except _DAMAGE as error:
        raise DataError(f"cannot be decoded: {str(error) or type(error).__name__}") from None
    return content.getvalue()


def padded_size(size: tuple[int, int], px: tuple[int, int]) -> tuple[int, int]:
    """Return height and width of a whole image of some `size` inside `px`: one is that of `px`, the other rounded.

    >>> padded_size((60, 80), (32, 32)), padded_size((3, 400), (32, 64))
    ((24, 32), (1, 64))
    """
    (height, width), (most_height, most_width) = size, px
    if height * most_width >= width * most_height:
        return most_height, max(1, (2 * width * most_height + height) // (2 * height))
    return max(1, (2 * height * most_width + width) // (2 * width)), most_width


def _open(encoded: EncodedImage, read: Callable[[Image], Result]) -> Result:
    """Return what `read` makes of the opened image: where that fails, of the same pixels without their metadata."""
    from PIL import Image, UnidentifiedImageError

    try:
        _refuse_without_content(encoded)
        try:
            return _read(encoded, read)
        except _DAMAGE:
            for bare in _without_metadata(encoded):
                with suppress(*_DAMAGE):
                    return _read(bare, read)
            raise
    except UnidentifiedImageError:
        raise DataError(f"is not an image in a format that is read ({', '.join(FORMATS)})") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(f"is too large: {error}") from None
    except _DAMAGE as error:
        raise DataError(f"cannot be decoded: {str(error) or type(error).__name__}") from None


def _read(encoded: EncodedImage, read: Callable[[Image], Result]) -> Result:
    from PIL import Image

    with Image.open(encoded if isinstance(encoded, Path) else io.BytesIO(encoded), formats=FORMATS) as image:
        _refuse_bomb(image.width * image.height, Image.MAX_IMAGE_PIXELS)
        return read(image)


def _content(encoded: EncodedImage) -> EncodedImage:
    """Return the content of a file: Pillow reads it faster than in pieces; a file that is too large stays one."""
    if not isinstance(encoded, Path):
        return encoded
    try:
        found = encoded.stat()
        if not stat.S_ISREG(found.st_mode) or found.st_size > MOST_READ_BYTES:
            return encoded
        with encoded.open("rb", buffering=0) as file:
            return file.read() or encoded  # an empty one is named as one that is no image
    except (OSError, ValueError):
        return encoded


# --- metadata, which never lose an image ---


def _without_metadata(encoded: EncodedImage) -> Iterator[bytes]:
    """Yield the file with no metadata but EXIF's, which say how it is turned, then without these, too."""
    content = encoded.read_bytes() if isinstance(encoded, Path) else encoded
    for beginning, strip in ((b"\x89PNG", _strip_png), (b"\xff\xd8", _strip_jpeg), (b"RIFF", _strip_webp)):
        if content.startswith(beginning):
            yield strip(content, True)
            yield strip(content, False)


def _strip_png(content: bytes, keeps_exif: bool) -> bytes:
    kinds = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"} | ({b"eXIf"} if keeps_exif else set())
    kept, start = bytearray(content[:8]), 8
    while start < len(content):
        end = start + 12 + int.from_bytes(content[start : start + 4], "big")
        if content[start + 4 : start + 8] in kinds:
            kept += content[start:end]
        start = end
    return bytes(kept)


def _strip_jpeg(content: bytes, keeps_exif: bool) -> bytes:
    """Return all but the application's segments and comments before the first scan; JFIF's and Adobe's tell colours."""
    kept, start = bytearray(content[:2]), 2
    while (start := content.find(b"\xff", start)) >= 0:
        marker = content[start + 1 : start + 2]
        if marker in _SCAN_OR_END:
            return bytes(kept) + content[start:]
        if marker in _WITHOUT_LENGTH:
            start += 1
            continue
        end = start + 2 + int.from_bytes(content[start + 2 : start + 4], "big")
        data = content[start + 4 : end]
        is_colours = data.startswith((b"JFIF\0", b"Adobe")) and len(data) >= 12
        is_metadata = b"\xe0" <= marker <= b"\xef" or marker == b"\xfe"
        if not is_metadata or is_colours or (keeps_exif and data.startswith(b"Exif\0")):
            kept += content[start:end]
        start = end
    return bytes(kept)


_SCAN_OR_END = (b"\xda", b"\xd9", b"")
_WITHOUT_LENGTH = (b"\x00", b"\x01", b"\xff", *(bytes([marker]) for marker in range(0xD0, 0xD9)))


def _strip_webp(content: bytes, keeps_exif: bool) -> bytes:
    kinds = {b"VP8X", b"ALPH", b"VP8 ", b"VP8L", b"ANIM", b"ANMF"} | ({b"EXIF"} if keeps_exif else set())
    kept, start = bytearray(b"WEBP"), 12
    while start + 8 <= len(content):
        end = start + 8 + (size := int.from_bytes(content[start + 4 : start + 8], "little")) + size % 2
        if (kind := content[start : start + 4]) in kinds and end <= len(content):
            chunk = content[start:end]
            # Flags of what follows: profile 0x20, XMP 0x04, EXIF 0x08.
            kept += (
                chunk
                if kind != b"VP8X"
                else chunk[:8] + bytes(flags & (0xDB if keeps_exif else 0xD3) for flags in chunk[8:9]) + chunk[9:]
            )
        start = end
    return b"RIFF" + len(kept).to_bytes(4, "little") + bytes(kept)


def _refuse_without_content(encoded: EncodedImage) -> None:
    """Refuse a pipe or a device, which would be waited for without end, and an empty image."""
    if isinstance(encoded, Path):
        try:
            if stat.S_ISREG(encoded.stat().st_mode):
                return
        except (FileNotFoundError, NotADirectoryError):
            what = "is a link to nothing" if encoded.is_symlink() else "is not there"
            raise DataError(what) from None
        except (OSError, ValueError) as error:
            raise DataError(f"cannot be looked at: {error}") from None
        raise DataError("cannot be decoded: it is a folder, a pipe or a device")
    if not encoded:
        raise DataError("is not an image: it is empty")


def _refuse_bomb(pixels: int, most: int | None) -> None:
    # Pillow only warns up to twice its limit, and turning that warning into an error is not safe in threads.
    if most is not None and pixels > most:
        raise DataError(f"is too large: {pixels:,} pixels, the limit of Pillow is {most:,}")


def _to_array(
    image: Image, px: tuple[int, int] | None, grey: bool, fit: str, expected: Expected | None = None
) -> np.ndarray:
    from PIL import Image as Pillow

    if expected is not None and not expected.holds_of(_header(image)):
        raise UnexpectedImage
    if px is not None:
        # JPEG can be decoded at 1/2, 1/4 or 1/8 of its size. Twice what is wanted leaves the filter enough to average:
        # 224 px of 4000x3000: 0.28 s -> 0.06 s, no value differs by more than 2 of 255.
        image.draft(None, (2 * max(px), 2 * max(px)))
    image.load()  # before the orientation: what is wrong with its pixels is not to be taken for metadata
    turned = image.transpose(Pillow.Transpose(_UNDO[turn])) if (turn := _orientation(image)) in _UNDO else image
    plain, mode = _over_white(_eight_bits(turned)), "L" if grey else "RGB"
    plain = plain if plain.mode == mode else plain.convert(mode)  # which copies the image even if nothing changes
    if px is not None and (plain.height, plain.width) != px:
        plain = _fitted(plain, px, fit)
    array = np.asarray(plain, dtype=np.uint8)
    return array[:, :, None] if grey else array


def _fitted(image: Image, px: tuple[int, int], fit: str) -> Image:
    """Return an image of height and width `px`; `models.export` does the same in the graph of an exported model."""
    from PIL import Image as Pillow

    (height, width), whole = px, (0.0, 0.0, float(image.width), float(image.height))
    if fit == "crop":
        return _resized(image, px, _middle(image.size, px))
    if fit == "stretch":
        return _resized(image, px, whole)
    inner_height, inner_width = padded_size((image.height, image.width), px)
    page = Pillow.new(image.mode, (width, height), (PAD_VALUE,) * len(image.getbands()))
    inner = _resized(image, (inner_height, inner_width), whole)
    page.paste(inner, ((width - inner_width) // 2, (height - inner_height) // 2))
    return page


Box = tuple[float, float, float, float]
"""Left, top, right and bottom."""


def _middle(size: tuple[int, int], px: tuple[int, int]) -> Box:
    """Return the largest middle part of the proportions of `px` (height, width) of an image (width, height)."""
    (width, height), (wanted_height, wanted_width) = size, px
    if width * wanted_height >= height * wanted_width:
        part = wanted_width * height / wanted_height
        return (width - part) / 2, 0.0, (width + part) / 2, float(height)
    part = wanted_height * width / wanted_width
    return 0.0, (height - part) / 2, float(width), (height + part) / 2


def _resized(image: Image, px: tuple[int, int], box: Box) -> Image:
    """Return a part of an image in height and width `px`, resized along its rows first.

    Asked for both at once, Pillow takes either first, by the sizes, and rounds in between: one number in four differs.
    """
    from PIL.Image import Resampling

    (height, width), (left, top, right, bottom) = px, box
    reach = max(1.0, (bottom - top) / height)
    first, last = max(0, math.floor(top - reach)), min(image.height, math.ceil(bottom + reach))
    used = image if last - first == image.height else image.crop((0, first, image.width, last))
    narrow = used.resize((width, used.height), Resampling.BILINEAR, (left, 0, right, used.height))
    return narrow.resize((width, height), Resampling.BILINEAR, (0, top - first, width, bottom - first))


def _eight_bits(image: Image) -> Image:
    """Return 16-bit grey as 8-bit grey, 65535 as 255; Pillow itself clips values above 255."""
    from PIL import Image as Pillow

    if image.mode == "F":
        raise ValueError("its pixels are floats, of which nobody knows what is white")
    if image.mode not in _SIXTEEN_BITS:
        return image
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError(f"its pixels must be 0 to 65535; got {values.min()} to {values.max()}")
    return Pillow.fromarray(((values + 128) // 257).astype(np.uint8))


def _over_white(image: Image) -> Image:
    from PIL import Image as Pillow

    if not image.has_transparency_data:
        return image
    coloured = image.convert("RGBA")
    return Pillow.alpha_composite(Pillow.new("RGBA", coloured.size, "white"), coloured)
