"""Decoding of all listed images into one array per split: all of one shape, written as they come."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tuner.common.arrays import ArrayWriter
from tuner.common.errors import DataError
from tuner.common.process import usable_cpus
from tuner.datasets._encoded_storage import ENCODED, EncodedWriter, Threads, encoded_size
from tuner.datasets.copies import SketchWriter
from tuner.datasets.images import EncodedImage, Header, convert_pixels, decode_image, is_lossy, read_header
from tuner.datasets.sources import Listed, Listing

DEFAULT_PX = 224
CHUNK_ROWS = 512
CHUNK_BYTES = 64 * 2**20
PROGRESS_FROM = 5_000
SAMPLE_IMAGES = 64
"""So many are encoded to tell how large all will be."""
COLUMNS: Mapping[str, type[np.generic]] = {
    "labels": np.int64,
    "groups": np.int64,
    "weights": np.float32,
    "copies": np.int64,
}
"""What a copy may hold for each image beside its pixels, one value each."""
Notify = Callable[[str], None]
Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Form:
    """The form of the images in a copy: their size, grey or colour, and the treatment of broken ones."""

    image_px: int | None
    colour: str
    broken_images: str
    storage: str = "auto"
    jpeg_quality: int | None = None
    """Of all images that are kept encoded; None: see `EncodedWriter`."""

    @property
    def is_storage_open(self) -> bool:
        """Whether the disk decides how images are kept."""
        return self.storage == "auto"

    def kept_as(self, storage: str) -> Form:
        """Return the form of images that are kept as `arrays` or `encoded`: no quality makes two arrays different."""
        return replace(self, storage=storage, jpeg_quality=self.jpeg_quality if storage == ENCODED else None)


@dataclass(frozen=True)
class Written:
    """A split on disk: its labels `[N] int64`, the hash of each file, and the images that are broken."""

    labels: np.ndarray
    hashes: Mapping[str, str]
    """By the name of what the file holds: `images`, and the columns of the listing."""
    broken: np.ndarray
    """Rows of the listing."""
    lossy: int
    """Images that were lossy before, as far as they are kept encoded."""
    problems: tuple[str, ...]


# --- one shape for all ---


def common_shape(listing: Listing, form: Form) -> tuple[Shape, tuple[str, ...]]:
    """Return height, width and channels for all images, and a notice if they are made equal unasked."""
    if form.image_px is not None and form.colour != "auto":
        return (form.image_px, form.image_px, 1 if form.colour == "grey" else 3), ()
    headers = {header for listed in listing.splits.values() for header in _headers(listed)}
    sizes = {(header.height, header.width) for header in headers}
    notices: tuple[str, ...] = ()
    if form.image_px is not None:
        height = width = form.image_px
    elif len(sizes) == 1:
        ((height, width),) = sizes
    else:
        height = width = DEFAULT_PX
    if form.image_px is None and len(sizes) > 1:
        notices = (
            f"the images have {len(sizes)} different sizes: the middle of each is resized to {DEFAULT_PX} px "
            "(data.image_px sets another)",
        )
    grey = form.colour == "grey" or (form.colour == "auto" and all(header.is_grey for header in headers))
    return (height, width, 1 if grey else 3), notices


def _headers(listed: Listed) -> set[Header]:
    """Return the distinct headers of a split, without those of broken files, which are found when they are decoded."""
    if listed.pixels is not None:
        channels = listed.pixels.shape[3] if listed.pixels.ndim == 4 else 1
        return {Header(listed.pixels.shape[1], listed.pixels.shape[2], channels == 1)}
    found: set[Header | None] = set()
    with _threads() as pool:
        for rows in _chunks(len(listed.labels), CHUNK_ROWS):
            found.update(pool.map(_header, (listed.encoded[row] for row in rows)))
    return {header for header in found if header is not None}


def _header(encoded: EncodedImage) -> Header | None:
    try:
        return read_header(encoded)
    except DataError:
        return None


def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=_threads_number())


def _threads_number() -> int:
    return min(8, usable_cpus())


def _chunks(number: int, size: int) -> Iterator[range]:
    for start in range(0, number, size):
        yield range(start, min(start + size, number))


# --- writing ---


def write_split(folder: Path, split: str, listed: Listed, shape: Shape, form: Form, notify: Notify) -> Written:
    """Write images and columns of a split to `{split}_{what}.npy`; broken images are left out and reported.

    Images that are to be kept encoded lie in files of `EncodedWriter` instead.
    """
    number = len(listed.labels)
    good = np.ones(number, dtype=bool)
    problems: list[str] = []
    lossy = 0
    size = max(1, min(CHUNK_ROWS, CHUNK_BYTES // int(np.prod(shape))))
    with (
        _images_writer(folder, split, shape, form) as images,
        SketchWriter(folder, split, shape[2]) as sketches,
        _threads() as pool,
    ):
        for rows in _chunks(number, size):
            arrays, broken = load_chunk(listed, rows, shape, pool)
            sketches.append(arrays, pool)
            good[list(broken)] = False
            if isinstance(images, EncodedWriter):
                are_lossy = _are_lossy(listed, [row for row in rows if row not in broken])
                images.append(arrays, are_lossy)
                lossy += int(are_lossy.sum())
            else:
                images.append(arrays)
            problems += [f"{listed.name(row)} {reason}" for row, reason in broken.items()]
            if number >= PROGRESS_FROM and rows.stop * 5 // number > rows.start * 5 // number and rows.stop < number:
                notify(f"{split}: {rows.stop:,} of {number:,} images prepared")
    hashes = {"images": images.sha256}
    for what, values in listed.columns.items():
        hashes[what] = write_column(folder, split, what, values[good])
    return Written(listed.labels[good], hashes, np.flatnonzero(~good), lossy, tuple(problems))


def _images_writer(folder: Path, split: str, shape: Shape, form: Form) -> ArrayWriter | EncodedWriter:
    if form.storage == ENCODED:
        return EncodedWriter(folder, split, Threads(_threads_number()), form.jpeg_quality)
    return ArrayWriter(folder / f"{split}_images.npy", shape, np.uint8)


def _are_lossy(listed: Listed, rows: Sequence[int]) -> np.ndarray:
    """Return which of some images that can be decoded were lossy, `[B] bool`."""
    return np.array([listed.pixels is None and is_lossy(listed.encoded[row]) for row in rows], dtype=bool)


def encoded_bytes(listing: Listing, shape: Shape, jpeg_quality: int | None) -> int | None:
    """Return about how many bytes all images take when they are encoded, by a few of them; None: all are broken."""
    sizes = []
    for listed in listing.splits.values():
        with _threads() as pool:
            for row in range(0, len(listed.labels), max(1, len(listed.labels) // SAMPLE_IMAGES)):
                images, broken = load_chunk(listed, range(row, row + 1), shape, pool)
                if not broken:
                    sizes.append(encoded_size(images[0], bool(_are_lossy(listed, [row])[0]), jpeg_quality))
    number = sum(len(listed.labels) for listed in listing.splits.values())
    return round(float(np.mean(sizes)) * number) if sizes else None


def write_column(folder: Path, split: str, what: str, values: np.ndarray) -> str:
    """Write one value for each image of a split; return the SHA-256 of all."""
    with ArrayWriter(folder / f"{split}_{what}.npy", (), COLUMNS[what]) as column:
        column.append(values)
    return column.sha256


def load_chunk(
    listed: Listed, rows: range, shape: Shape, pool: ThreadPoolExecutor
) -> tuple[np.ndarray, dict[int, str]]:
    """Return the good images of some rows `[N, H, W, C] uint8`, and for each other row why it is broken."""
    if listed.pixels is not None:
        pixels = listed.pixels[rows.start : rows.stop]
        pixels = pixels if pixels.ndim == 4 else pixels[..., None]
        if pixels.shape[1:] == shape:
            return pixels, {}
        converted = pool.map(lambda image: convert_pixels(image, shape[:2], shape[2] == 1), pixels)
        return np.stack(list(converted)), {}
    # What cannot be fetched ends the build, what cannot be decoded is one broken image.
    found = list(pool.map(lambda encoded: _decode(encoded, shape), (listed.encoded[row] for row in rows)))
    images = [image for image in found if not isinstance(image, str)]
    broken = {row: reason for row, reason in zip(rows, found, strict=True) if isinstance(reason, str)}
    return np.stack(images) if images else np.empty((0, *shape), np.uint8), broken


def _decode(encoded: EncodedImage, shape: Shape) -> np.ndarray | str:
    try:
        return decode_image(encoded, shape[:2], grey=shape[2] == 1)
    except DataError as error:
        return str(error)
