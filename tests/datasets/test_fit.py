"""Images of other sizes and proportions become those of a prepared copy: how large, and by which of three ways."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.make_data import load
from tuner.common.errors import DataError
from tuner.datasets import _decoding
from tuner.datasets.images import FITS, PAD_VALUE, AskedSize, convert_pixels, decode_image
from tuner.datasets.loading import describe_data
from tuner.datasets.request import DataRequest

Size = tuple[int, int]


def folder(root: Path, sizes: Iterable[Size], classes: int = 2, grey: bool = False) -> Path:
    """Noise of some sizes (height, width), each in every class."""
    generator = np.random.default_rng(0)
    for name in "abc"[:classes]:
        (root / name).mkdir(parents=True)
        for number, size in enumerate(sizes):
            pixels = generator.integers(0, 256, size if grey else (*size, 3), np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number:04d}.png")
    return root


@pytest.mark.parametrize("grey", [False, True])
def test_a_padded_image_is_there_as_a_whole_and_the_rest_is_grey(grey) -> None:
    white = np.full((30, 60, 3), 255, np.uint8)
    wide = convert_pixels(white, (20, 20), grey, "pad")
    assert (wide[5:15] == 255).all() and (wide[:5] == PAD_VALUE).all() and (wide[15:] == PAD_VALUE).all()
    tall = convert_pixels(white.transpose(1, 0, 2), (20, 20), grey, "pad")
    assert (tall == wide.transpose(1, 0, 2)).all()


def test_a_stretched_image_has_its_borders_and_a_cropped_one_its_middle() -> None:
    striped = np.zeros((10, 40, 3), np.uint8)
    striped[:, :10], striped[:, 30:] = 100, 200
    assert (convert_pixels(striped, (10, 20), False, "stretch")[:, [0, -1], 0] == [100, 200]).all()
    assert (convert_pixels(striped, (10, 20), False, "crop") == 0)[:, 1:-1].all()


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (3, 7), (16, 24), (17, 24), (300, 200)])
def test_every_image_becomes_the_size_that_is_wanted(fit, size) -> None:
    image = np.full((*size, 3), 77, np.uint8)
    fitted = convert_pixels(image, (16, 24), False, fit)
    assert fitted.shape == (16, 24, 3) and set(np.unique(fitted)) <= {77, PAD_VALUE}


@pytest.mark.parametrize("fit", FITS)
def test_pixels_are_fitted_as_the_same_image_in_a_file(fit, tmp_path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (31, 50, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    assert (
        decode_image(tmp_path / "image.png", (9, 14), False, fit) == convert_pixels(pixels, (9, 14), False, fit)
    ).all()


def test_an_archive_of_arrays_is_fitted_too(tmp_path) -> None:
    images = np.full((20, 10, 20, 3), 200, np.uint8)
    np.savez(tmp_path / "data.npz", x_train=images, y_train=np.arange(20) % 2)
    data, _ = load(f"npz:{tmp_path / 'data.npz'}", tmp_path / "cache", image_px=8, fit="pad")
    assert (data.train.images[:, :2] == PAD_VALUE).all() and (data.train.images[:, 2:6] == 200).all()


def test_what_is_no_way_to_fit_is_named(tmp_path) -> None:
    with pytest.raises(DataError, match=r"data\.fit: unknown fit 'padd'; did you mean 'pad'\?"):
        load("digits", tmp_path, fit="padd")


MIXED = [(40, 60), (61, 30), (20, 20)]


@pytest.mark.parametrize(
    ("sizes", "asked", "image_px", "shape", "words"),
    [
        (MIXED, None, None, (224, 224), "3 different sizes"),
        (MIXED, AskedSize(96, 96, False), None, (96, 96), "to 96 px, the largest that space.preprocess asks for"),
        (MIXED, AskedSize(24, 32, False), None, (24, 32), "to 24x32 px"),
        (MIXED, AskedSize(16, 16, True), None, (16, 16), "to 16 px"),
        (MIXED, AskedSize(96, 96, False), 10, (10, 10), ""),
        ([(40, 60)], None, None, (40, 60), ""),
        ([(40, 60)], AskedSize(64, 64, False), None, (40, 60), "data.fit does nothing: resize in space.preprocess"),
        ([(40, 60)], AskedSize(80, 120, False), None, (40, 60), ""),
        ([(40, 60)], AskedSize(40, 60, False), None, (40, 60), ""),
        ([(40, 60)], AskedSize(32, 32, False), None, (32, 32), "are all of 40x60 px"),
        ([(40, 60)], AskedSize(48, 48, False), None, (48, 48), "are all of 40x60 px"),
        ([(40, 60)], AskedSize(32, 32, True), None, (40, 60), ""),
        ([(40, 60)], AskedSize(32, 32, False), 12, (12, 12), ""),
    ],
)
def test_the_size_is_the_users_or_what_is_asked_for_or_the_images_own(sizes, asked, image_px, shape, words, tmp_path):
    root = folder(tmp_path / "images", sizes * (12 // len(sizes)))
    data, said = load(f"folder:{root}", tmp_path / "cache", asked=asked, image_px=image_px)
    assert data.image_shape == (*shape, 3)
    assert words in "".join(said) and bool(said) == bool(words)


def test_a_plan_says_too_that_images_which_keep_their_size_are_squeezed(tmp_path) -> None:
    source, cache = f"folder:{folder(tmp_path / 'images', [(40, 60)] * 12)}", tmp_path / "cache"
    known = [describe_data(DataRequest(source, fit=fit, asked=AskedSize(64, 64, False)), {}, cache) for fit in FITS]
    load(source, cache)
    known += [describe_data(DataRequest(source, fit=fit, asked=AskedSize(64, 64, False)), {}, cache) for fit in FITS]
    for words, fit in zip(known, FITS * 2, strict=True):
        text = f"squeezes them to other proportions (with data.image_px they are made to fit: {fit})"
        assert (text in "".join(words.notices)) == (fit != "stretch"), fit


@pytest.mark.parametrize("fit", FITS)
def test_it_is_said_how_the_images_are_made_to_fit(fit, tmp_path) -> None:
    _, said = load(f"folder:{folder(tmp_path / 'images', MIXED * 4)}", tmp_path / "cache", fit=fit)
    how = {"crop": "the middle of each", "pad": "each is resized as a whole, the rest is grey", "stretch": "squeezed"}
    assert how[fit] in said[0] and "data.image_px sets another" in said[0]


def test_images_that_keep_their_size_have_one_copy_whatever_is_asked_and_however_they_would_be_fitted(tmp_path) -> None:
    source, cache = f"folder:{folder(tmp_path / 'images', [(20, 20)] * 12)}", tmp_path / "cache"
    copies = {
        load(source, cache, asked=asked, fit=fit)[0].prepared.path
        for asked in (None, AskedSize(20, 20, False), AskedSize(64, 96, False), AskedSize(8, 8, True))
        for fit in FITS
    }
    assert len(copies) == 1
    smaller = load(source, cache, asked=AskedSize(8, 8, False))[0]
    assert smaller.image_shape == (8, 8, 3) and smaller.prepared.path not in copies


@pytest.mark.parametrize(
    ("usual", "odd", "options", "shape"),
    [
        (((8, 8), False), ((8, 9), False), {}, (224, 224, 3)),
        (((8, 8), False), ((8, 9), False), {"asked": AskedSize(12, 12, False)}, (12, 12, 3)),
        (((8, 8), True), ((8, 8), False), {}, (8, 8, 3)),
        (((8, 8), True), ((8, 8), False), {"image_px": 6}, (6, 6, 3)),
        (((8, 9), True), ((9, 8), True), {}, (224, 224, 1)),
    ],
    ids=["another size", "another size than asked", "colour among grey", "colour among grey, sized", "turned"],
)
def test_one_odd_image_among_many_that_no_sample_shows_is_seen(usual, odd, options, shape, tmp_path, monkeypatch):
    monkeypatch.setattr(_decoding, "BATCH_ROWS", 2)
    (size, grey), (odd_size, odd_grey) = usual, odd
    root = folder(tmp_path / "images", [size] * 40, grey=grey)
    pixels = np.zeros(odd_size if odd_grey else (*odd_size, 3), np.uint8)
    Image.fromarray(pixels).save(root / "b" / "0034.png")
    frames = []
    likely = _decoding.likely_frame
    monkeypatch.setattr(
        "tuner.datasets.prepared.likely_frame", lambda *given: frames.append(likely(*given)) or frames[0]
    )
    data, _ = load(f"folder:{root}", tmp_path / "cache", **options)
    assert frames[0].expected is not None and frames[0].shape != shape
    assert data.image_shape == shape and not list((tmp_path / "cache" / "datasets").glob("*.partial"))
