"""Decoding real files of every kind, made by Pillow."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from tuner.common.errors import DataError
from tuner.datasets.images import Header, convert_pixels, decode_image, look_at, read_header

RED = (200, 40, 20)


def encode(image: Image.Image, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, format=form, **options)
    return file.getvalue()


@pytest.mark.parametrize("form", ["png", "bmp", "gif", "webp", "jpeg"])
def test_every_format_is_decoded_to_its_colours(form) -> None:
    array = decode_image(encode(Image.new("RGB", (12, 8), RED), form), None, grey=False)
    assert array.shape == (8, 12, 3) and array.dtype == np.uint8
    np.testing.assert_allclose(
        array.reshape(-1, 3).mean(axis=0), RED, atol=12 if form in ("gif", "jpeg", "webp") else 0
    )


def test_grey_palette_and_one_bit_images_are_decoded() -> None:
    grey = Image.new("L", (4, 4), 77)
    assert (decode_image(encode(grey, "png"), None, grey=True) == 77).all()
    assert decode_image(encode(grey, "png"), None, grey=False).shape == (4, 4, 3)
    palette = Image.new("RGB", (4, 4), RED).convert("P", palette=Image.Palette.ADAPTIVE)
    np.testing.assert_allclose(decode_image(encode(palette, "png"), None, grey=False)[0, 0], RED, atol=8)
    assert (decode_image(encode(Image.new("1", (4, 4), 1), "png"), None, grey=True) == 255).all()


def test_transparency_is_laid_over_white() -> None:
    clear = Image.new("RGBA", (4, 4), (*RED, 0))
    assert (decode_image(encode(clear, "png"), None, grey=False) == 255).all()
    half = decode_image(encode(Image.new("RGBA", (4, 4), (0, 0, 0, 128)), "png"), None, grey=False)
    assert abs(int(half[0, 0, 0]) - 127) <= 1
    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([10, 20, 30])
    assert (decode_image(encode(palette, "png", transparency=0), None, grey=False) == 255).all()


def test_sixteen_bits_become_eight_without_being_cut_off() -> None:
    values = np.array([[0, 257 * 100], [65535, 300], [257 * 3 - 100, 257 * 3 + 100]], dtype=np.uint16)
    array = decode_image(encode(Image.fromarray(values), "png"), None, grey=True)
    assert array[:, :, 0].tolist() == [[0, 100], [255, 1], [3, 3]]


def test_cmyk_and_rotated_photographs_are_upright_and_coloured() -> None:
    red = decode_image(encode(Image.new("CMYK", (4, 4), (0, 255, 255, 0)), "jpeg"), None, grey=False)
    np.testing.assert_allclose(red, np.broadcast_to([255, 0, 0], (4, 4, 3)), atol=4)
    wide = Image.new("RGB", (8, 4), "black")
    wide.putpixel((0, 0), (255, 255, 255))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter: the picture is to be shown 4 wide, 8 high
    encoded = encode(wide, "png", exif=exif)
    assert read_header(encoded) == Header(8, 4, is_grey=False)
    array = decode_image(encoded, None, grey=False)
    assert array.shape == (8, 4, 3) and array[0, 3, 0] == 255


def test_the_middle_is_cut_out_before_resizing_and_nothing_is_squeezed() -> None:
    image = np.zeros((10, 30, 3), dtype=np.uint8)
    image[:, 10:20] = 200
    array = decode_image(encode(Image.fromarray(image), "png"), (5, 5), grey=False)
    assert array.shape == (5, 5, 3) and (array[:, 1:4] == 200).all() and (array > 150).all()


def test_a_moving_picture_gives_its_first_frame() -> None:
    frames = [Image.new("L", (4, 4), value) for value in (50, 150)]
    array = decode_image(encode(frames[0], "gif", save_all=True, append_images=frames[1:]), None, grey=True)
    assert (array == 50).all()


def test_what_is_broken_is_refused_with_the_reason(tmp_path: Path) -> None:
    whole = encode(Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)), "png")
    for content, words in (
        (b"", "not an image"),
        (b"hello", "not an image"),
        (whole[: len(whole) // 2], "cannot be decoded"),
    ):
        with pytest.raises(DataError, match=words):
            decode_image(content, None, grey=False)
    (tmp_path / "not.png").mkdir()
    with pytest.raises(DataError, match="cannot be decoded"):
        decode_image(tmp_path / "not.png", None, grey=False)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(("side", "words"), [(40, "is too large: 1,600 pixels"), (80, "is too large: Image size")])
def test_a_decompression_bomb_is_refused_without_being_unpacked(side, words, monkeypatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # 1,600 are above the limit, 6,400 above twice the limit
    encoded = encode(Image.new("L", (side, side)), "png")
    for read in (read_header, lambda image: decode_image(image, None, grey=True)):
        with pytest.raises(DataError, match=words):
            read(encoded)


@pytest.mark.parametrize(("form", "depth"), [("png", 8), ("png", 16), ("tiff", 8), ("tiff", 16)])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_undone_whatever_the_format_and_depth(orientation, form, depth) -> None:
    shown = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10
    undo = {2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}.get(orientation, 1)
    turned = Image.fromarray(shown)
    turned.getexif()[0x0112] = undo
    stored = np.asarray(ImageOps.exif_transpose(turned))
    image = Image.fromarray(stored if depth == 8 else stored.astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112] = orientation
    encoded = encode(image, form, exif=exif)
    assert (decode_image(encoded, None, grey=True)[:, :, 0] == shown).all()
    assert read_header(encoded) == Header(4, 6, is_grey=True)
    original, _ = look_at(encoded, 64)
    assert (original.width, original.height, original.bits) == (6, 4, depth)


@pytest.mark.parametrize(
    ("image", "is_grey"),
    [
        (Image.new("L", (3, 2), 5), True),
        (Image.new("LA", (3, 2), (5, 9)), True),
        (Image.new("1", (3, 2)), True),
        (Image.fromarray(np.zeros((2, 3), np.uint16)), True),
        (Image.linear_gradient("L").crop((0, 0, 3, 2)).convert("P"), True),
        (Image.new("RGB", (3, 2), (9, 9, 8)).convert("P", palette=Image.Palette.ADAPTIVE), False),
        (Image.new("RGB", (3, 2), (9, 9, 9)), False),
        (Image.new("RGBA", (3, 2), (9, 9, 9, 9)), False),
    ],
    ids=["grey", "grey with alpha", "one bit", "16 bits", "grey palette", "colour palette", "colour", "with alpha"],
)
def test_a_header_says_the_size_and_whether_the_format_has_colours(image, is_grey) -> None:
    assert read_header(encode(image, "png")) == Header(2, 3, is_grey)


def test_large_photographs_decoded_at_a_fraction_of_their_size_look_the_same() -> None:
    small = np.random.default_rng(0).integers(0, 256, (12, 16, 3)).astype(np.uint8)
    photograph = Image.fromarray(small).resize((1600, 1200), Image.Resampling.BICUBIC)
    encoded = encode(photograph, "jpeg", quality=95)
    with Image.open(io.BytesIO(encoded)) as whole:
        expected = ImageOps.fit(whole, (64, 64), method=Image.Resampling.BILINEAR)
    difference = np.abs(decode_image(encoded, (64, 64), grey=False).astype(int) - np.asarray(expected))
    assert difference.mean() < 0.5 and difference.max() <= 4


def test_stripes_finer_than_a_pixel_become_grey_instead_of_other_stripes() -> None:
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 32))
    array = decode_image(encode(Image.fromarray(stripes), "png"), (8, 8), grey=True)
    assert (np.abs(array.astype(int) - 128) <= 8).all()


def test_pixels_are_converted_as_the_same_image_in_a_file() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 14, 3)).astype(np.uint8)
    for grey in (True, False):
        from_file = decode_image(encode(Image.fromarray(pixels), "png"), (5, 5), grey)
        assert (convert_pixels(pixels, (5, 5), grey) == from_file).all()
    assert convert_pixels(pixels[:, :, :1], None, grey=False).shape == (9, 14, 3)


def test_formats_whose_decoders_run_other_programs_are_refused_whatever_their_name(tmp_path) -> None:
    (tmp_path / "harmless.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n")
    with pytest.raises(
        DataError, match=r"not an image in a format that is read \(JPEG, PNG, BMP, GIF, WEBP, TIFF, PPM\)"
    ):
        decode_image(tmp_path / "harmless.png", None, grey=False)


def test_a_pipe_named_like_an_image_is_not_waited_for(tmp_path) -> None:
    os.mkfifo(tmp_path / "endless.png")
    with pytest.raises(DataError, match="cannot be decoded: it is a folder, a pipe or a device"):
        read_header(tmp_path / "endless.png")


WHOLE = {
    form: encode(Image.fromarray(np.random.default_rng(1).integers(0, 256, (24, 20, 3)).astype(np.uint8)), form)
    for form in ("png", "bmp", "gif", "webp", "jpeg")
}


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(sorted(WHOLE)), st.data())
def test_a_damaged_file_is_an_image_or_a_reason_and_never_another_error(form, data) -> None:
    content = bytearray(WHOLE[form])
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=6)):
        content[place] = data.draw(st.integers(0, 255))
    damaged = bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        assert decode_image(damaged, (8, 8), grey=False).shape == (8, 8, 3)
    except DataError as error:
        assert str(error).startswith(("is not an image", "cannot be decoded", "is too large"))
