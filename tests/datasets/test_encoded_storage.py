"""Encoded images: read as an array is, without loss where nothing was lost before, refused where a file is damaged."""

from __future__ import annotations

import multiprocessing
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tuner.common.errors import DataError
from tuner.common.threads import Threads
from tuner.datasets._encoded_storage import (
    EncodedImages,
    EncodedWriter,
    are_whole,
    encode_image,
    images_path,
    index_path,
)


def noise(number: int, shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (number, *shape), dtype=np.uint8)


def photos(number: int, px: int, channels: int = 3) -> np.ndarray:
    """Smooth colours that differ from channel to channel, as photos do and noise does not."""
    y, x, c = np.meshgrid(np.arange(px), np.arange(px), np.arange(channels), indexing="ij")
    waves = [np.sin((x * (1 + c) + 3 * row) / px * 3) + np.cos((y - row) / px * (2 + c)) for row in range(number)]
    return ((np.array(waves) + 2) / 4 * 255).astype(np.uint8)


def stored(folder: Path, images: np.ndarray, lossy: bool = False, threads: int = 1, **options) -> EncodedImages:
    with EncodedWriter(folder, "train", Threads(threads), **options) as writer:
        for start in range(0, len(images), 5):
            part = images[start : start + 5]
            writer.append(part, np.full(len(part), lossy))
    return EncodedImages(folder, "train", images.shape[1:], threads)


# --- as an array ---

SHAPES = [(8, 8, 1), (28, 28, 1), (32, 32, 3), (5, 7, 3), (1, 1, 3), (1, 1, 1), (1, 40, 3), (3, 2, 1), (64, 33, 3)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("threads", [1, 3])
def test_what_lost_nothing_before_is_read_bit_for_bit(tmp_path, shape, threads) -> None:
    images = noise(11, shape)
    found = stored(tmp_path, images, threads=threads)
    assert found.shape == images.shape and found.dtype == images.dtype and len(found) == 11
    np.testing.assert_array_equal(found[np.arange(11)], images)


@pytest.mark.parametrize(
    "rows",
    [
        np.array([3, 3, 0, 10]),
        np.array([], dtype=np.int64),
        np.array([-1, -11]),
        slice(2, 5),
        slice(None),
        [1, 2],
        np.arange(11) % 2 == 0,
    ],
    ids=str,
)
@pytest.mark.parametrize("threads", [1, 2])
def test_rows_mean_what_they_mean_to_an_array(tmp_path, rows, threads) -> None:
    images = noise(11, (6, 6, 3))
    found = stored(tmp_path, images, threads=threads)[rows]
    np.testing.assert_array_equal(found, images[rows])
    assert found.dtype == np.uint8 and found.flags.writeable


@pytest.mark.parametrize("rows", [np.array([11]), np.array([0, -12])], ids=str)
def test_rows_that_are_not_there_are_refused(tmp_path, rows) -> None:
    with pytest.raises(IndexError):
        stored(tmp_path, noise(11, (6, 6, 3)))[rows]


def test_they_are_read_alike_by_threads_and_in_other_processes(tmp_path) -> None:
    images = noise(64, (16, 16, 3))
    found = stored(tmp_path, images, threads=2)
    rows = [np.random.default_rng(seed).permutation(64) for seed in range(16)]
    with ThreadPoolExecutor(8) as pool:
        for taken, read in zip(rows, pool.map(found.__getitem__, rows), strict=True):
            np.testing.assert_array_equal(read, images[taken])
    sent = pickle.loads(pickle.dumps(found))  # noqa: S301  pickled on this line: so Ray sends it to a worker
    np.testing.assert_array_equal(sent[rows[0]], images[rows[0]])
    forked = multiprocessing.get_context("fork").Process(target=_exit_if_equal, args=(found, images))
    forked.start()
    forked.join(30)
    assert forked.exitcode == 7


def _exit_if_equal(found: EncodedImages, images: np.ndarray) -> None:
    raise SystemExit(7 if (found[np.arange(64)] == images).all() else 1)


# --- what is lost ---


@pytest.mark.parametrize(("px", "channels"), [(32, 3), (96, 3), (64, 1)])
def test_what_was_lossy_becomes_jpeg_that_is_hardly_different(tmp_path, px, channels) -> None:
    images = photos(6, px, channels)
    found = stored(tmp_path, images, lossy=True)
    content = images_path(tmp_path, "train").read_bytes()
    assert content.startswith(b"\xff\xd8") and len(content) < images.nbytes / 2
    assert 0 < np.abs(found[np.arange(6)].astype(int) - images).mean() < 2


def test_one_quality_for_all_is_smaller_and_coarser(tmp_path) -> None:
    images = photos(6, 64)
    sizes, errors = [], []
    for quality in (60, 95):
        folder = tmp_path / str(quality)
        folder.mkdir()
        found = stored(folder, images, lossy=False, jpeg_quality=quality)
        sizes.append(images_path(folder, "train").stat().st_size)
        errors.append(np.abs(found[np.arange(6)].astype(int) - images).mean())
    assert sizes[0] < sizes[1] and errors[0] > errors[1] > 0


def test_the_colours_of_single_pixels_survive_jpeg() -> None:
    from tuner.datasets._encoded_storage import decode_stored

    red_and_blue = np.zeros((16, 16, 3), np.uint8)
    red_and_blue[:, ::2, 0] = red_and_blue[:, 1::2, 2] = 200
    found = decode_stored(encode_image(red_and_blue, 95), red_and_blue.shape).astype(int)
    assert np.abs(found - red_and_blue).mean() < 12  # 60 with halved colours


@pytest.mark.parametrize("lossy", [False, True])
def test_the_hash_is_that_of_the_values_as_they_are_read(tmp_path, lossy) -> None:
    from tuner.common.arrays import ArrayWriter

    images = photos(9, 16)
    with EncodedWriter(tmp_path, "train", Threads(2)) as writer:
        writer.append(images[:4], np.full(4, lossy))
        writer.append(images[:0], np.full(0, lossy))
        writer.append(images[4:], np.full(5, lossy))
    with ArrayWriter(tmp_path / "array.npy", images.shape[1:], np.uint8) as array:
        array.append(EncodedImages(tmp_path, "train", images.shape[1:], 1)[np.arange(9)])
    assert writer.sha256 == array.sha256


# --- damage ---


@pytest.mark.parametrize(
    "damage",
    [
        lambda images, index: images.write_bytes(images.read_bytes()[:-1]),
        lambda images, index: images.write_bytes(images.read_bytes() + b"\0"),
        lambda images, index: images.unlink(),
        lambda images, index: images.write_bytes(b""),
        lambda images, index: index.unlink(),
        lambda images, index: index.write_bytes(index.read_bytes()[:-8]),
        lambda images, index: np.save(index, np.zeros(7, np.int64)),
        lambda images, index: np.save(index, np.load(index).astype(np.int32)),
        lambda images, index: np.save(index, np.load(index)[:-1]),
    ],
    ids=["cut", "longer", "gone", "empty", "no index", "index cut", "zeros", "other type", "a row less"],
)
def test_files_that_are_not_whole_are_noticed_before_they_are_read(tmp_path, damage) -> None:
    stored(tmp_path, noise(6, (8, 8, 3)))
    assert are_whole(tmp_path, "train", 6) and not are_whole(tmp_path, "train", 5)
    damage(images_path(tmp_path, "train"), index_path(tmp_path, "train"))
    assert not are_whole(tmp_path, "train", 6)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("damage", [b"\0" * 40, b"GIF89a" + b"\0" * 34], ids=["zeros", "another format"])
def test_an_image_that_was_damaged_is_refused_with_its_number_and_a_way_out(tmp_path, threads, damage) -> None:
    images = noise(6, (8, 8, 3))
    stored(tmp_path, images)
    file, index = images_path(tmp_path, "train"), np.load(index_path(tmp_path, "train"))
    content = bytearray(file.read_bytes())
    content[index[4] : index[4] + len(damage)] = damage
    file.write_bytes(content)
    found = EncodedImages(tmp_path, "train", (8, 8, 3), threads)
    with pytest.raises(DataError, match=r"train_images.bin: image 4 cannot be decoded.*clear --damaged"):
        found[np.array([1, 3, 4])]
    np.testing.assert_array_equal(found[np.array([3, 5])], images[[3, 5]])


def test_images_of_another_size_than_they_must_have_are_refused(tmp_path) -> None:
    stored(tmp_path, noise(3, (8, 8, 3)))
    with pytest.raises(DataError, match="image 0 cannot be decoded"):
        EncodedImages(tmp_path, "train", (9, 8, 3), 1)[np.array([0])]


def test_nothing_is_left_open_after_writing_failed(tmp_path) -> None:
    with pytest.raises(RuntimeError), EncodedWriter(tmp_path, "train", Threads(1)) as writer:
        writer.append(noise(2, (8, 8, 3)), np.zeros(2, bool))
        raise RuntimeError
    assert not are_whole(tmp_path, "train", 2)
