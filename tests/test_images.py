"""Decoding real files of every kind, made by Pillow."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tuner.errors import DataError
from tuner.images import Header, decode_image, read_header

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
    values = np.array([[0, 257 * 100], [65535, 300]], dtype=np.uint16)
    array = decode_image(encode(Image.fromarray(values), "png"), None, grey=True)
    assert array[:, :, 0].tolist() == [[0, 100], [255, 1]]


def test_cmyk_and_rotated_photographs_are_upright_and_coloured() -> None:
    assert decode_image(encode(Image.new("CMYK", (4, 4), (0, 255, 255, 0)), "jpeg"), None, grey=False).shape == (
        4,
        4,
        3,
    )
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


def test_a_decompression_bomb_is_refused_without_being_unpacked(monkeypatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(DataError, match="is too large"):
        decode_image(encode(Image.new("L", (40, 40)), "png"), None, grey=True)
