"""A look at the images of an account: their sizes, their colours, and which are broken or show nothing."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tuner.common.errors import DataError
from tuner.common.process import usable_cpus
from tuner.common.threads import Threads
from tuner.datasets._decoding import Frame, load_chunk
from tuner.datasets.account.facts import EXAMPLES, THUMBNAIL_PX, ColourFacts, Size, SizeFacts
from tuner.datasets.images import EncodedImage, Original, look_at, read_original
from tuner.datasets.sources import Listed

COMMONEST = 5
MOST_MEASURED = 20_000
"""Prepared images of which the brightness is measured."""
_SEED = 0
_CHUNK_ROWS = 256
_CHUNK_BYTES = 64 * 2**20
_BLANK = 3
"""Values of an image that differ by less show nothing."""


@dataclass
class Examined:
    """The findings of a look at the images of one split."""

    originals: Counter[Original] = field(default_factory=Counter)
    problems: dict[int, str] = field(default_factory=dict)
    """By the row of the image."""
    brightness: list[float] = field(default_factory=list)
    blank: list[int] = field(default_factory=list)

    def measure(self, images: np.ndarray, rows: np.ndarray) -> None:
        """Take the brightness of images `[N, ...] uint8` of some rows, and which show nothing."""
        if len(images):
            flat = images.reshape(len(images), -1)
            self.brightness += flat.mean(axis=1).tolist()
            self.blank += rows[np.ptp(flat, axis=1) < _BLANK].tolist()

    def rows(self, number: int) -> np.ndarray:
        """Return the rows `[M] int64` of `number` images that can be read."""
        good = np.ones(number, dtype=bool)
        good[list(self.problems)] = False
        return np.flatnonzero(good)


def examine(listed: Listed, look: Look, watch: Callable[[int], None]) -> Examined:
    """Look at every image of a split, whatever is wrong with others; `watch` is told of so many after each some."""
    found = Examined()
    rows_at_once = max(1, min(_CHUNK_ROWS, _CHUNK_BYTES // math.prod(look.frame.shape if look.frame else (1,))))
    threads = Threads(min(8, usable_cpus()))
    for start in range(0, len(listed.labels), rows_at_once):
        rows = range(start, min(start + rows_at_once, len(listed.labels)))
        headers = _headers(listed, rows, threads)
        broken = {row: one for row, one in headers.items() if isinstance(one, str)}
        if look.frame is not None:
            images, broken = _decoded(listed, rows, look.frame, threads)
            found.measure(images, np.array([row for row in rows if row not in broken], np.int64))
            look.keep(images, threads)
        found.problems |= broken
        found.originals.update(one for row, one in headers.items() if row not in broken and isinstance(one, Original))
        watch(len(rows))
    return found


@dataclass(frozen=True)
class Look:
    """The way to look at images: decoded in a shape (None: headers alone are read), and handed on to `keep`."""

    frame: Frame | None = None
    keep: Callable[[np.ndarray, Threads], None] = lambda images, threads: None


def _headers(listed: Listed, rows: range, threads: Threads) -> dict[int, Original | str]:
    """Return what each image is, or why its header cannot be read."""
    if listed.pixels is not None:
        height, width, *channels = listed.pixels.shape[1:]
        return dict.fromkeys(rows, Original(width, height, channels in ([], [1]), False, 8, "pixels"))
    encoded = [_fetched(listed.encoded, row) for row in rows]
    return dict(zip(rows, threads.map(_header, encoded), strict=True))


def _fetched(encoded: Sequence[EncodedImage], row: int) -> EncodedImage | DataError:
    """Return an image as it is in the source, or why it cannot be fetched."""
    try:
        return encoded[row]
    except DataError as error:
        return error


def _header(encoded: EncodedImage | DataError) -> Original | str:
    try:
        return str(encoded) if isinstance(encoded, DataError) else read_original(encoded)
    except DataError as error:
        return str(error)


def _decoded(listed: Listed, rows: range, frame: Frame, threads: Threads) -> tuple[np.ndarray, dict[int, str]]:
    """Return the good images of some rows, and why each other is broken, those that cannot be fetched among them."""
    try:
        return load_chunk(listed, rows, frame, threads)
    except DataError as error:
        if len(rows) == 1:
            return np.empty((0, *frame.shape), np.uint8), {rows[0]: str(error)}
    parts = [_decoded(listed, range(row, row + 1), frame, threads) for row in rows]
    return np.concatenate([images for images, _ in parts]), {k: v for _, broken in parts for k, v in broken.items()}


def examine_prepared(listed: Listed, skipped: np.ndarray, images: Any, watch: Callable[[int], None]) -> Examined:
    """Look at the headers of a split that was prepared, of which `skipped` rows were broken, and at prepared images.

    Of many images, some are looked at.
    """
    found = examine(listed, Look(), watch)
    found.problems = {}  # what was prepared is whole, whatever its header says
    for row in skipped.tolist():
        if isinstance(header := _header(_fetched(listed.encoded, row)), Original):
            found.originals[header] -= 1
        try:
            look_at(listed.encoded[row], THUMBNAIL_PX)
        except DataError as error:
            found.problems[row] = str(error)
        else:
            found.problems[row] = "was broken when it was prepared"
    found.originals = +found.originals
    good, number = found.rows(len(listed.labels)), len(images)
    drawn = np.arange(number) if number <= MOST_MEASURED else np.sort(_drawn(number)[:MOST_MEASURED])
    for start in range(0, len(drawn), _CHUNK_ROWS):
        places = drawn[start : start + _CHUNK_ROWS]
        found.measure(np.asarray(images[places]), good[places])
    return found


def _drawn(number: int) -> np.ndarray:
    return np.random.default_rng(_SEED).permutation(number)


def size_facts(originals: Mapping[Original, int]) -> SizeFacts | None:
    """Return the sizes of images; None where there is none."""
    numbers = Counter[tuple[int, int]]()
    for original, number in originals.items():
        numbers[original.width, original.height] += number
    if not numbers:
        return None
    sizes = [Size(width, height, number) for (width, height), number in numbers.items()]
    by_pixels = sorted(sizes, key=lambda size: (size.width * size.height, size.width))
    oblong = sum(size.images for size in sizes if size.width != size.height)
    return SizeFacts(
        len(sizes),
        by_pixels[0],
        by_pixels[-1],
        _median([(size.width, size.images) for size in sizes]),
        _median([(size.height, size.images) for size in sizes]),
        oblong / numbers.total(),
        tuple(sorted(sizes, key=lambda size: (-size.images, size.width, size.height))[:COMMONEST]),
    )


def _median(weighted: Iterable[tuple[int, int]]) -> int:
    """Return the lower median of values, each with how often it occurs.

    >>> _median([(3, 1), (1, 5), (9, 2)])
    1
    """
    pairs = sorted(weighted)
    ends = np.cumsum([number for _, number in pairs])
    return pairs[int(np.searchsorted(ends, (ends[-1] + 1) // 2))][0]


def colour_facts(
    originals: Mapping[Original, int], brightness: Sequence[float], blank: Sequence[str]
) -> ColourFacts | None:
    """Return the colours of images; None where there is none."""
    if not originals:
        return None

    def number(test: Callable[[Original], bool]) -> int:
        return sum(count for original, count in originals.items() if test(original))

    def by(name: Callable[[Original], str]) -> dict[str, int]:
        found = Counter[str]()
        for original, count in originals.items():
            found[name(original)] += count
        return dict(found.most_common())

    grey, total = number(lambda original: original.is_grey), sum(originals.values())
    levels = np.quantile(brightness, (0.05, 0.5, 0.95)).round(1).tolist() if brightness else None
    return ColourFacts(
        grey,
        total - grey,
        number(lambda original: original.is_transparent),
        by(lambda original: str(original.bits)),
        by(lambda original: original.format),
        None if levels is None else (levels[0], levels[1], levels[2]),
        len(brightness),
        len(blank),
        tuple(blank[:EXAMPLES]),
    )
