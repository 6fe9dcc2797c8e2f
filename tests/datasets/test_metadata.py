"""Photographs whose pixels are sound and whose metadata are not: none of them is lost."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from PIL import Image, ImageOps, PngImagePlugin

from tuner.common.errors import DataError
from tuner.datasets.images import Header, decode_image, read_header

PICTURE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)).resize((24, 16))
TURNED = (0x112, 3, 1, struct.pack("<HH", 6, 0))
"""An orientation that makes the picture 16 wide and 24 high."""


def encode(form: str, image: Image.Image = PICTURE, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def exif(*entries: tuple[int, int, int, bytes], after: bytes = b"") -> bytes:
    """Return EXIF as a camera might write it: Pillow itself refuses most of what is meant here."""
    written = b"".join(struct.pack("<HHI", tag, kind, number) + value for tag, kind, number, value in entries)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + written + b"\0\0\0\0" + after


def end_of(number: int) -> bytes:
    """Return the place after so many entries, where their longer values are."""
    return struct.pack("<I", 8 + 2 + 12 * number + 4)


ODD_EXIF = {
    "negative resolution": (exif(TURNED, (0x11A, 10, 1, end_of(2)), after=struct.pack("<ii", -1, 0)), True),
    "resolution divided by nothing": (exif(TURNED, (0x11A, 5, 1, end_of(2)), after=bytes(8)), True),
    "resolution as text": (exif(TURNED, (0x11A, 2, 4, b"72\0\0")), True),
    "unit as text": (exif(TURNED, (0x128, 2, 4, b"in\0\0")), True),
    "unknown kind of value": (exif(TURNED, (0x10F, 99, 1, b"abcd")), True),
    "value beyond the end": (exif(TURNED, (0x10F, 2, 500_000, b"\xff\xff\xff\x7f")), True),
    "unknown tag": (exif(TURNED, (0xEEEE, 3, 1, b"\1\0\0\0")), True),
    "text that is no text": (exif(TURNED, (0x10E, 2, 4, b"\xff\xfe\x80\0")), True),
    "directory that points at itself": (exif(TURNED, (0x8769, 4, 1, b"\x08\0\0\0")), True),
    "place that points nowhere": (exif(TURNED, (0x8825, 4, 1, b"\xff\xff\xff\xff")), True),
    "maker's notes that point nowhere": (exif(TURNED, (0x927C, 7, 5000, b"\xff\xff\0\0")), True),
    "same tag twice": (exif(TURNED, TURNED), True),
    "orientation as a long number": (exif((0x112, 4, 1, struct.pack("<I", 6))), True),
    "orientation 0": (exif((0x112, 3, 1, bytes(4))), False),
    "orientation 9": (exif((0x112, 3, 1, struct.pack("<HH", 9, 0))), False),
    "orientation as text": (exif((0x112, 2, 2, b"x\0\0\0")), False),
    "two orientations": (exif((0x112, 3, 2, struct.pack("<HH", 6, 6))), True),
    "cut in the second entry": (exif(TURNED, TURNED)[:-10], True),
    "cut in its head": (exif(TURNED)[:9], False),
    "more entries than there are": (b"II*\0\x08\0\0\0\xff\xff" + exif(TURNED)[10:], True),
    "no EXIF at all": (b"nothing of the kind", False),
    "empty": (b"", False),
    "very long": (exif(TURNED, after=bytes(60_000)), True),
}


def png_with(*chunks: tuple[bytes, bytes], last: bool = False, whole: bytes | None = None) -> bytes:
    content = whole or encode("PNG")
    place = len(content) - 12 if last else 33
    written = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return content[:place] + b"".join(written) + content[place:]


def jpeg_with(*segments: tuple[int, bytes], whole: bytes | None = None) -> bytes:
    content = whole or encode("JPEG", quality=95)
    written = (bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data for marker, data in segments)
    return content[:2] + b"".join(written) + content[2:]


def webp_with(*chunks: tuple[bytes, bytes]) -> bytes:
    flat = encode("WEBP", lossless=True)[12:]
    head = b"VP8X" + struct.pack("<I", 10) + b"\x2c\0\0\0" + struct.pack("<I", 23)[:3] + struct.pack("<I", 15)[:3]
    written = (kind + struct.pack("<I", len(data)) + data + bytes(len(data) % 2) for kind, data in chunks)
    body = b"WEBP" + head + flat + b"".join(written)
    return b"RIFF" + struct.pack("<I", len(body)) + body


LONG = zlib.compress(b"x" * 2_000_000)
PHOTO_EXIF = b"Exif\0\0" + exif(TURNED)
MPF = b"MPF\0II*\0\x08\0\0\0"


def odd_pngs() -> Iterator[tuple[str, bytes, bool]]:
    turned = (b"eXIf", exif(TURNED))
    yield "long text", png_with((b"tEXt", b"workflow\0" + b"x" * 2_000_000), turned), True
    yield "packed text", png_with((b"zTXt", b"workflow\0\0" + LONG), turned), True
    yield "international text", png_with(turned, (b"iTXt", b"workflow\0\1\0\0\0" + LONG)), True
    yield (
        "many texts",
        png_with(*[(b"zTXt", b"%d\0\0" % number + zlib.compress(bytes(10**6))) for number in range(70)]),
        False,
    )
    yield "text at the end", png_with((b"zTXt", b"workflow\0\0" + LONG), last=True), False
    yield "text packed in an unknown way", png_with((b"zTXt", b"a\0\7abc"), turned), True
    yield "text called transparency", png_with((b"tEXt", b"transparency\0yes"), turned), True
    yield "text called exif", png_with((b"tEXt", b"exif\0?")), False
    yield "XMP that is no text", png_with((b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0\xff\xfe")), False


def more_odd_pngs() -> Iterator[tuple[str, bytes, bool]]:
    turned = (b"eXIf", exif(TURNED))
    yield "long profile", png_with((b"iCCP", b"icc\0\0" + LONG), turned), True
    yield "profile packed in an unknown way", png_with((b"iCCP", b"icc\0\7abc")), False
    yield "empty profile", png_with((b"iCCP", b"")), False
    yield "torn profile", png_with((b"iCCP", b"icc\0\0" + LONG[:100]), turned), True
    yield "short gamma", png_with((b"gAMA", b"\0")), False
    yield "short chromaticities", png_with((b"cHRM", b"\0\0")), False
    yield "short resolution", png_with((b"pHYs", b"\0\0"), turned), True
    yield "empty rendering intent", png_with((b"sRGB", b"")), False
    yield "unknown chunk", png_with((b"caNv", bytes(16)), (b"npTc", bytes(32))), False
    yield "moving by a wrong number of frames", png_with((b"acTL", bytes(3))), False
    damaged = bytearray(png_with((b"tEXt", b"Title\0abc")))
    damaged[45] ^= 1
    yield "wrong sum of a text", bytes(damaged), False
    yield "cut in its last text", png_with((b"tEXt", b"Title\0" + b"x" * 5000), last=True)[:-4000], False
    yield "bytes after the end", encode("PNG") + b"trailing" * 1000, False
    info = PngImagePlugin.PngInfo()
    info.add_text("Raw profile type exif", "\nexif\n  8\n0008000201120003\n")
    yield "raw profile that is none", encode("PNG", pnginfo=info), False
    hexadecimal = exif(TURNED).hex()
    info = PngImagePlugin.PngInfo()
    info.add_text("Raw profile type exif", f"\nexif\n      {len(hexadecimal) // 2}\n{hexadecimal}\n")
    yield "raw profile with an orientation", encode("PNG", pnginfo=info), True


def odd_jpegs() -> Iterator[tuple[str, bytes, bool]]:
    turned = (0xE1, PHOTO_EXIF)
    yield "profile in one piece of several", jpeg_with((0xE2, b"ICC_PROFILE\0\1\5" + bytes(60_000)), turned), True
    yield "profile without numbers", jpeg_with((0xE2, b"ICC_PROFILE\0"), turned), True
    yield (
        "profile of a megabyte",
        jpeg_with(*[(0xE2, b"ICC_PROFILE\0%c\x14" % n + bytes(60_000)) for n in range(1, 21)]),
        False,
    )
    yield "short JFIF", jpeg_with((0xE0, b"JFIF\0"), turned), True
    yield "JFIF of no density", jpeg_with((0xE0, b"JFIF\0\1\1\1\0\0\0\0\0\0"), turned), True
    yield "short Adobe segment", jpeg_with((0xEE, b"Adobe"), turned), True
    yield "torn Photoshop segment", jpeg_with((0xED, b"Photoshop 3.0\x008BIM\4\4"), turned), True
    yield "Photoshop resolution too short", jpeg_with((0xED, b"Photoshop 3.0\x008BIM\3\xed\0\0\0\0\0\1a"), turned), True
    yield "XMP that is no text", jpeg_with((0xE1, b"http://ns.adobe.com/xap/1.0/\0\xff\xfe\0"), turned), True
    yield "XMP with an orientation", jpeg_with((0xE1, b'http://ns.adobe.com/xap/1.0/\0<x tiff:Orientation="6"/>')), True
    yield "other parts of XMP", jpeg_with((0xE1, b"http://ns.adobe.com/xmp/extension/\0" + bytes(60_000)), turned), True
    yield "several pictures, of which none is there", jpeg_with((0xE2, MPF + b"\xff\xff" + bytes(40)), turned), True
    yield "torn list of pictures", jpeg_with((0xE2, MPF), turned), True
    entries = [(0xB000, 7, 4, b"0100"), (0xB001, 4, 1, b"\5\0\0\0"), (0xB002, 7, 16, end_of(3))]
    yield "fewer pictures than listed", jpeg_with((0xE2, b"MPF\0" + exif(*entries, after=bytes(16))), turned), True
    yield "empty list of pictures", jpeg_with((0xE2, b"MPF\0" + exif((0xB001, 4, 1, b"\2\0\0\0"))), turned), True
    yield "EXIF twice", jpeg_with(turned, (0xE1, b"Exif\0\0" + b"\xff" * 99)), True
    yield "long comment", jpeg_with((0xFE, b"x" * 65_000), (0xFE, b"\xff\xd9" * 99), turned), True
    yield "bytes between segments", encode("JPEG", quality=95)[:2] + b"\0\0junk" + jpeg_with(turned)[2:], True
    yield "bytes after the end", jpeg_with(turned) + b"trailing\xff\xd8\xff" * 1000, True


def odd_webps() -> Iterator[tuple[str, bytes, bool]]:
    turned = (b"EXIF", exif(TURNED))
    whole = webp_with((b"XMP ", b"x" * 300), turned)
    yield "both", whole, True
    yield "cut in its last chunk", webp_with(turned, (b"XMP ", b"x" * 300))[:-200], True
    yield "cut in EXIF", whole[:-20], False
    yield "bytes after the end", whole + b"trailing" * 99, True
    yield "longer than it is", whole[:4] + struct.pack("<I", 10**6) + whole[8:], True
    yield "shorter than it is", whole[:4] + struct.pack("<I", len(whole) - 100) + whole[8:], True
    yield "XMP longer than the file", webp_with(turned, (b"XMP ", b"")).replace(b"XMP \0\0", b"XMP \xff\xff"), True
    yield "flags of what is not there", webp_with(), False
    yield "unknown chunk", webp_with(turned, (b"what", b"x")), True


def each_odd_image() -> Iterator[object]:
    for name, (data, is_turned) in ODD_EXIF.items():
        yield pytest.param(jpeg_with((0xE1, b"Exif\0\0" + data)), is_turned, id=f"jpeg-exif-{name}")
        yield pytest.param(png_with((b"eXIf", data)), is_turned, id=f"png-exif-{name}")
        yield pytest.param(webp_with((b"EXIF", data)), is_turned, id=f"webp-exif-{name}")
    for form, odd in (("png", odd_pngs), ("png", more_odd_pngs), ("jpeg", odd_jpegs), ("webp", odd_webps)):
        for name, content, is_turned in odd():
            yield pytest.param(content, is_turned, id=f"{form}-{name}")


@pytest.mark.parametrize(("content", "is_turned"), list(each_odd_image()))
def test_odd_metadata_lose_no_image_and_an_orientation_that_can_be_read_counts(content, is_turned, tmp_path) -> None:
    (tmp_path / "odd").write_bytes(content)
    height, width = (24, 16) if is_turned else (16, 24)
    expected = np.asarray(PICTURE.transpose(Image.Transpose.ROTATE_270) if is_turned else PICTURE)
    for encoded in (content, tmp_path / "odd"):
        assert read_header(encoded) == Header(height, width, is_grey=False)
        array = decode_image(encoded, None, grey=False)
        assert array.shape == expected.shape
        assert np.abs(array.astype(int) - expected).mean() < 6
    assert decode_image(content, (8, 8), grey=True).shape == (8, 8, 1)


@pytest.mark.parametrize("odd", [(0xE2, b"ICC_PROFILE\0"), (0xE0, b"JFIF\0"), (0xE1, b"Exif\0\0\xff\xff")])
def test_colours_are_those_that_are_meant_when_metadata_are_left_out(odd) -> None:
    inks = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    for image in (inks, Image.new("RGB", (8, 8), (255, 0, 0))):
        whole = encode("JPEG", image, quality=95, icc_profile=bytes(3000))
        array = decode_image(jpeg_with(odd, whole=whole), None, grey=False)
        np.testing.assert_allclose(array, np.broadcast_to([255, 0, 0], (8, 8, 3)), atol=6)


def test_a_picture_of_several_is_its_first() -> None:
    several = encode("MPO", save_all=True, append_images=[Image.new("RGB", (24, 16))], quality=95)
    assert np.abs(decode_image(several, None, grey=False).astype(int) - np.asarray(PICTURE)).mean() < 6


def _cut(form: str) -> bytes:
    whole = encode(form, ImageOps.scale(PICTURE, 8))
    return whole[: len(whole) // 2]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (png_with((b"zTXt", b"a\0\0" + LONG), whole=_cut("PNG")), "cannot be decoded"),
        (jpeg_with((0xE0, b"JFIF\0"), whole=_cut("JPEG")), "not an image|cannot be decoded"),
        (_cut("WEBP"), "cannot be decoded"),
        (jpeg_with((0xE1, PHOTO_EXIF), whole=b"\xff\xd8\xff\xd9"), "not an image|cannot be decoded"),
        (
            png_with((b"iCCP", b""), whole=encode("PNG")[:33] + b"\0\0\0\0IEND\xaeB`\x82"),
            "not an image|cannot be decoded",
        ),
        (b"RIFF\0\0\0\0WEBPVP8X\0\0\0\0", "cannot be decoded|not an image"),
    ],
    ids=["png", "jpeg", "webp", "jpeg without pixels", "png without pixels", "webp without pixels"],
)
def test_pixels_that_are_not_whole_are_refused_whatever_the_metadata(content, words) -> None:
    with pytest.raises(DataError, match=words):
        decode_image(content, None, grey=False)


def test_an_image_of_too_many_pixels_is_refused_whatever_its_metadata(monkeypatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    odd: Callable[[], Iterator[tuple[str, bytes, bool]]]
    for odd in (odd_pngs, more_odd_pngs, odd_jpegs, odd_webps):
        for _, content, _ in odd():
            with pytest.raises(DataError, match="is too large"):
                decode_image(content, None, grey=False)


def test_nothing_is_said_of_metadata(tmp_path) -> None:
    for number, (data, _) in enumerate(ODD_EXIF.values()):
        (tmp_path / f"{number}.jpg").write_bytes(jpeg_with((0xE1, b"Exif\0\0" + data)))
    script = (
        "import pathlib\nfrom tuner.datasets.images import decode_image\n"
        f"for path in pathlib.Path({str(tmp_path)!r}).iterdir(): decode_image(path, None, grey=False)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr == ""
