"""Decoding of all listed images into one array per split: all of one shape, written as they come."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from tuner.common.arrays import ArrayWriter
from tuner.common.errors import DataError
from tuner.common.process import keep_freed_memory, usable_cpus
from tuner.common.threads import Threads
from tuner.datasets._encoded_storage import ENCODED, EncodedWriter, encoded_size
from tuner.datasets.copies import SketchWriter
from tuner.datasets.images import (
    DEFAULT_PX,
    AskedSize,
    EncodedImage,
    Expected,
    Header,
    convert_pixels,
    decode_image,
    is_lossy,
    read_header,
)
from tuner.datasets.sources import Listed, Listing

CHUNK_ROWS = 512
BATCH_ROWS = 16
"""So many images are a task of a thread: handing out a small image takes longer than decoding it."""
SAMPLE_BATCHES = 8
"""Of as many batches, evenly spaced, the headers are read to see what may be expected of all images."""
CHUNK_BYTES = 8 * 2**20
"""Of pixels: what is decoded is hashed and written while the processor still has it at hand."""
FIRST_ROWS = 16
WORTH_THREADS_S = 120e-6
"""Several threads decode images of which the first take longer; with others they would wait for Python's lock."""
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
    """Height and width, where the user gives them."""
    asked: AskedSize | None
    """The size that the preprocessing of a search asks for."""
    colour: str
    fit: str
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

    def keeps(self, size: Sequence[int]) -> bool:
        """Return whether images that all have some size (height, width, ...) keep it if none is given."""
        return self.asked is None or self.asked.keeps(size)


@dataclass(frozen=True)
class Frame:
    """The one shape that all images of a copy get, and what is to be said of it."""

    shape: Shape
    fit: str
    is_own_size: bool
    """Whether it follows from the images alone, which all have it."""
    notices: tuple[str, ...]
    expected: Expected | None
    """What must hold of each image for the frame to be right; None: it is known."""


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


def likely_frame(listing: Listing, form: Form) -> Frame:
    """Return the frame that the headers of a few images of every part of a listing speak for."""
    seen: set[Header] = set()
    is_every = True
    for listed in listing.splits.values():
        rows = range(len(listed.labels))
        batches = -(-len(rows) // BATCH_ROWS)
        places = sorted({batches * place // SAMPLE_BATCHES for place in range(SAMPLE_BATCHES)})
        is_every = is_every and (listed.pixels is not None or len(places) == batches)
        for place in places:
            seen |= _headers(listed, rows[place * BATCH_ROWS : (place + 1) * BATCH_ROWS])
            if _is_size_known(seen, form) and _is_colour_known(seen, form):
                return _frame(seen, form, is_every=False)
    if not seen:
        return certain_frame(listing, form)
    frame = _frame(seen, form, is_every)
    if is_every:
        return frame
    size = None if _is_size_known(seen, form) else frame.shape[:2]
    return replace(frame, expected=Expected(size, is_grey=not _is_colour_known(seen, form)))


def certain_frame(listing: Listing, form: Form) -> Frame:
    """Return the frame for all images, for which so many headers are read as are needed to know it."""
    seen: set[Header] = set()
    threads = Threads(_threads_number())
    for listed, rows in (
        (each, rows) for each in listing.splits.values() for rows in _chunks(range(len(each.labels)), CHUNK_ROWS)
    ):
        seen = seen.union(*threads.map(partial(_headers, listed), _batches(rows)))
        if _is_size_known(seen, form) and _is_colour_known(seen, form):
            return _frame(seen, form, is_every=False)
    return _frame(seen, form, is_every=True)


def _is_size_known(seen: set[Header], form: Form) -> bool:
    """Return whether no further header can change the size of the frame."""
    sizes = _sizes(seen)
    return form.image_px is not None or len(sizes) > 1 or not all(map(form.keeps, sizes))


def _is_colour_known(seen: set[Header], form: Form) -> bool:
    return form.colour != "auto" or not all(header.is_grey for header in seen)


def _sizes(seen: set[Header]) -> set[tuple[int, int]]:
    return {(header.height, header.width) for header in seen}


def _frame(seen: set[Header], form: Form, is_every: bool) -> Frame:
    """Return the frame for images of some headers: of all of them, or of so many that it is known."""
    sizes = _sizes(seen)
    is_own = form.image_px is None and len(sizes) == 1 and all(map(form.keeps, sizes))
    notices: tuple[str, ...] = ()
    if form.image_px is not None:
        size = (form.image_px, form.image_px)
    elif is_own:
        (size,) = sizes
    else:
        size = form.asked[:2] if form.asked else (DEFAULT_PX, DEFAULT_PX)
        notices = (_size_notice(sizes, size, form, is_every),) if sizes else ()
    grey = form.colour == "grey" or (form.colour == "auto" and all(header.is_grey for header in seen))
    return Frame((*size, 1 if grey else 3), form.fit, is_own, notices, None)


def _size_notice(sizes: set[tuple[int, int]], size: tuple[int, int], form: Form, is_every: bool) -> str:
    """Return what is done to images that are made equal unasked, and why in this size."""
    number = f"{'' if is_every else 'at least '}{len(sizes)} different sizes"
    have = f"have {number}" if len(sizes) > 1 else "are all of {}x{} px".format(*next(iter(sizes)))
    how = {
        "crop": "the middle of each is resized",
        "pad": "each is resized as a whole, the rest is grey",
        "stretch": "each is squeezed",
    }[form.fit]
    px = f"{size[0]} px" if size[0] == size[1] else f"{size[0]}x{size[1]} px"
    why = "the largest that space.preprocess asks for" if form.asked else "for space.preprocess asks for no size"
    return f"the images {have}: {how} to {px}, {why} (data.image_px sets another)"


def _headers(listed: Listed, rows: Sequence[int]) -> set[Header]:
    """Return the distinct headers of some images, without those of broken files, found when they are decoded."""
    if listed.pixels is not None:
        channels = listed.pixels.shape[3] if listed.pixels.ndim == 4 else 1
        return {Header(listed.pixels.shape[1], listed.pixels.shape[2], channels == 1)}
    return {header for row in rows if (header := _header(listed.encoded[row])) is not None}


def _header(encoded: EncodedImage) -> Header | None:
    try:
        return read_header(encoded)
    except DataError:
        return None


def _threads_number() -> int:
    return min(8, usable_cpus())


def _chunks(rows: range, size: int) -> Iterator[range]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def _batches(rows: range) -> Iterator[range]:
    return _chunks(rows, BATCH_ROWS)


# --- writing ---


def write_split(folder: Path, split: str, listed: Listed, frame: Frame, form: Form, notify: Notify) -> Written:
    """Write images and columns of a split to `{split}_{what}.npy`; broken images are left out and reported.

    Images that are to be kept encoded lie in files of `EncodedWriter` instead.
    """
    number = len(listed.labels)
    good = np.ones(number, dtype=bool)
    problems: list[str] = []
    lossy = 0
    keep_freed_memory()
    size = max(1, min(CHUNK_ROWS, CHUNK_BYTES // int(np.prod(frame.shape))))
    threads = Threads(1)
    space = np.empty((min(size, number), *frame.shape), np.uint8)
    with (
        _images_writer(folder, split, frame.shape, form) as images,
        SketchWriter(folder, split, frame.shape[2]) as sketches,
    ):
        first = min(FIRST_ROWS, size)
        for rows in (range(number)[:first], *_chunks(range(number)[first:], size)):
            started = time.perf_counter()
            arrays, broken = load_chunk(listed, rows, frame, threads, space[: len(rows)])
            if rows.start == 0 and time.perf_counter() - started > WORTH_THREADS_S * len(rows):
                threads = Threads(_threads_number())
            sketches.append(arrays, threads)
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


def encoded_bytes(listing: Listing, frame: Frame, jpeg_quality: int | None) -> int | None:
    """Return about how many bytes all images take when they are encoded, by a few of them; None: all are broken."""
    sizes = []
    for listed in listing.splits.values():
        for row in range(0, len(listed.labels), max(1, len(listed.labels) // SAMPLE_IMAGES)):
            images, broken = load_chunk(listed, range(row, row + 1), frame, Threads(1))
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
    listed: Listed, rows: range, frame: Frame, threads: Threads, space: np.ndarray | None = None
) -> tuple[np.ndarray, dict[int, str]]:
    """Return the good images of some rows `[N, H, W, C] uint8`, and for each other row why it is broken.

    They may be in `space`, `[len(rows), H, W, C] uint8`, if it is given.
    """
    if listed.pixels is not None:
        pixels = listed.pixels[rows.start : rows.stop]
        pixels = pixels if pixels.ndim == 4 else pixels[..., None]
        if pixels.shape[1:] == frame.shape:
            return pixels, {}
    images = np.empty((len(rows), *frame.shape), np.uint8) if space is None else space
    broken: dict[int, str] = {}

    def load(batch: range) -> None:
        for row in batch:
            try:
                images[row - rows.start] = _load(listed, row, frame)
            except DataError as error:
                broken[row] = str(error)

    threads.map(load, _batches(rows))
    if not broken:
        return images, {}
    good = np.array([row not in broken for row in rows])
    return images[good], dict(sorted(broken.items()))


def _load(listed: Listed, row: int, frame: Frame) -> np.ndarray:
    px, grey = frame.shape[:2], frame.shape[2] == 1
    if listed.pixels is not None:
        image = listed.pixels[row]
        return convert_pixels(image if image.ndim == 3 else image[..., None], px, grey, frame.fit)
    return decode_image(listed.encoded[row], px, grey, frame.fit, frame.expected)
