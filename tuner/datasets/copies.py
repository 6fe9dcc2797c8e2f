"""Copies among images: exact ones by a hash of their pixels, near ones by a perceptual hash and their small versions.

Near copies are what saving again, resizing, a slight crop, other brightness, contrast or the loss of colours make of a
picture; mirrored ones are others. Precision comes first. The images are those of the prepared copy, and no work or
memory grows faster than their number:

- Every image has a small version of 32 px, and the hash of it that the library `imagehash` calls `phash`: 64 bits.
- Bands: images that share two of the eight bytes of their hashes are looked at, neighbours in order only, so that
  many images of one hash cost no more. Any two within 6 bits share two bytes, most within 10 do.
- Where images are so alike that there are many pairs, only the nearest hashes count: the hash says no more.
- A pair is judged by what is left of the details of one small version when those of the other are fitted to it:
  brightness and contrast, a shift and a change of size of a few percent. How little must be left follows from how many
  pairs are half alike, since chance makes the fewer pairs the nearer (`_threshold`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Self

import numpy as np

from tuner.common.threads import Threads
from tuner.datasets.splits import OWN_UNIT, join_units, single_unit_classes

SMALL_PX = 32
"""What `imagehash.phash` makes of an image before it looks at frequencies."""
MOST_IN_GROUP = 50
"""Different pictures in a group of near copies: longer chains, as of a video's frames, are cut into such groups."""
NEIGHBOURS = 16
"""So many images that follow in a band are looked at."""
MOST_BITS, FEWEST_BITS = 10, 2
PAIRS_PER_IMAGE = 2
"""Pairs that are looked at closely; where there are more, only those of the nearest hashes."""
PAIRS_KEPT = 4
"""So many pairs each image keeps at least where even the nearest are more: what hangs together still does."""
LEAST_DETAIL = 1.5
"""Standard deviation of the details of a small version, in grey levels: flat images are near copies of nothing."""
LARGEST_RESIDUAL = 0.15
HALF_ALIKE = (0.2, 0.3, 0.5)
"""Bounds of two ranges of residuals of pairs that are half alike: no copies, but the nearest of other pictures."""
LEAST_POWER = 3.0
MOVED_FROM = 0.3
"""Pairs up to this residual are compared again after one image has been moved onto the other."""
CHANCE_PAIRS_PER_IMAGE = 0.0002
LEAST_CHROMA = 4.0
LEAST_CHROMA_LIKENESS = 0.8
_CHUNK_PAIRS = 2048
_BLUR_PX, _DETAIL_PX, _FARTHEST_PX = 0.7, 2.0, 3.0
_MOVES = 2
_PLACE = (np.arange(SMALL_PX, dtype=np.float32) - (SMALL_PX - 1) / 2) / SMALL_PX
"""Places of pixels between -0.5 and 0.5."""


# --- one image ---


def sketch_images(images: np.ndarray, threads: Threads) -> tuple[np.ndarray, np.ndarray]:
    """Return hashes `[B, 3] uint64` and small versions `[B, 32, 32, C] uint8` of images `[B, H, W, C] uint8`.

    The first two numbers are a hash of all pixels, the third is perceptual.
    """
    if not len(images):
        return np.empty((0, 3), np.uint64), np.empty((0, SMALL_PX, SMALL_PX, images.shape[3]), np.uint8)
    per_task = max(1, min(64, 2**20 // int(images[0].size)))
    parts = [images[start : start + per_task] for start in range(0, len(images), per_task)]
    digests, small = (np.concatenate(each) for each in zip(*threads.map(_sketch, parts), strict=True))
    return np.column_stack([digests, perceptual_hashes(small)]), small


def _sketch(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    import cv2

    digests = [hashlib.sha256(np.ascontiguousarray(image).data).digest()[:16] for image in images]
    small = [cv2.resize(image, (SMALL_PX, SMALL_PX), interpolation=cv2.INTER_AREA) for image in images]
    shape = (len(images), SMALL_PX, SMALL_PX, images.shape[3])
    return np.frombuffer(b"".join(digests), np.uint64).reshape(-1, 2), np.stack(small).reshape(shape)


def perceptual_hashes(small: np.ndarray) -> np.ndarray:
    """Return what `imagehash.phash` gives for each small version, `[B] uint64`: the same bits, many images at once."""
    from scipy.fftpack import dct

    frequencies = dct(dct(_luma(small), axis=1), axis=2)[:, :8, :8].reshape(len(small), 64)
    bits = frequencies > np.median(frequencies, axis=1, keepdims=True)
    return np.packbits(bits, axis=1).view(">u8").astype(np.uint64).reshape(-1)


def _luma(small: np.ndarray) -> np.ndarray:
    """Return grey images as Pillow makes them, `[B, 32, 32] uint8`."""
    if small.shape[3] == 1:
        return small[..., 0]
    weights = np.array([19595, 38470, 7471], np.uint32)
    return ((small.astype(np.uint32) @ weights + 0x8000) >> 16).astype(np.uint8)


class SketchWriter:
    """Context manager that writes hashes and small versions of the images of a split, aside, until copies are found."""

    def __init__(self, folder: Path, split: str, channels: int) -> None:
        self._row = _sketch_row(channels)
        self._file = _sketch_file(folder, split).open("xb")

    def append(self, images: np.ndarray, threads: Threads) -> None:
        """Add images `[B, H, W, C] uint8`."""
        rows = np.empty(len(images), self._row)
        rows["hashes"], rows["small"] = sketch_images(images, threads)
        self._file.write(rows.tobytes())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def sketch_bytes(channels: int) -> int:
    """Return the bytes that the sketch of an image takes on disk while a copy is prepared."""
    return _sketch_row(channels).itemsize


def _sketch_row(channels: int) -> np.dtype[np.void]:
    return np.dtype([("hashes", np.uint64, (3,)), ("small", np.uint8, (SMALL_PX, SMALL_PX, channels))])


def _sketch_file(folder: Path, split: str) -> Path:
    return folder / f"{split}.sketches"


# --- all images ---


def take_copies(folder: Path, numbers: Mapping[str, int], channels: int) -> Found:
    """Return the copies among the images that `SketchWriter` wrote, so many of each split, and remove what it wrote."""
    files = [(_sketch_file(folder, split), number) for split, number in numbers.items()]
    row = _sketch_row(channels)
    parts = [np.memmap(file, row, "r", shape=(number,)) for file, number in files if number]
    found = find_copies(np.concatenate([part["hashes"] for part in parts]), [part["small"] for part in parts])
    for file, _ in files:
        file.unlink()
    return found


@dataclass(frozen=True)
class Found:
    """The copies among images: `groups` `[N] int64`, -1 for images that are copies of none.

    `exact` `[N] int64` numbers the images of equal pixels alike; `cut` images are in chains that were cut.
    """

    groups: np.ndarray
    exact: np.ndarray
    cut: int


def find_copies(hashes: np.ndarray, small: Sequence[np.ndarray]) -> Found:
    """Return the copies among images with hashes `[N, 3] uint64`, and small versions in parts `[n, 32, 32, C] uint8`.

    Images of equal pixels are always of one group, near copies of at most 50 different pictures.
    """
    pixels = np.ascontiguousarray(hashes[:, :2]).view(np.dtype((np.void, 16))).reshape(-1)
    _, firsts, exact = np.unique(pixels, return_index=True, return_inverse=True)
    pairs = _near_copies(hashes[firsts, 2], _Parts(small, firsts))
    pictures, cut = _group(pairs, len(firsts))
    members = pictures[exact]
    sizes = np.bincount(members)
    groups = np.where(sizes[members] > 1, members, OWN_UNIT)
    in_group = groups != OWN_UNIT
    groups[in_group] = np.unique(groups[in_group], return_inverse=True)[1]
    return Found(groups.astype(np.int64), exact.astype(np.int64), int(np.isin(pictures[exact], cut).sum()))


class _Parts:
    """Rows of arrays that lie one after the other: those that are asked for are read, in their order on disk."""

    def __init__(self, parts: Sequence[np.ndarray], rows: np.ndarray) -> None:
        self._parts = parts
        self._starts = np.cumsum([0, *(len(part) for part in parts)])
        self._rows = rows

    def __getitem__(self, places: np.ndarray) -> np.ndarray:
        rows = self._rows[places]
        found = np.empty((len(rows), *self._parts[0].shape[1:]), np.uint8)
        part_of_row = np.searchsorted(self._starts, rows, side="right") - 1
        for number in np.unique(part_of_row):
            there = np.flatnonzero(part_of_row == number)
            there = there[np.argsort(rows[there])]
            found[there] = self._parts[number][rows[there] - self._starts[number]]
        return found


def _near_copies(hashes: np.ndarray, small: _Parts) -> np.ndarray:
    """Return pairs of near copies `[P, 2]`."""
    pairs = _candidates(hashes)
    residuals, moved, has_other_colours = _compare(pairs, small)
    is_copy = (moved <= _threshold(residuals, len(hashes))) & ~has_other_colours
    found: np.ndarray = pairs[is_copy]
    return found


def _candidates(hashes: np.ndarray) -> np.ndarray:
    """Return pairs `[P, 2]` of images whose hashes differ in few bits, each once; the more pairs, the fewer bits."""
    number, enough = np.uint64(len(hashes)), PAIRS_PER_IMAGE * len(hashes)
    found, bits = np.empty(0, np.uint64), MOST_BITS
    for first, second in combinations(range(8), 2):
        more = [low * number + high for low, high in _in_band(hashes, first, second, bits)]
        found = np.unique(np.concatenate([found, *more]))
        distances = np.bitwise_count(hashes[found // number] ^ hashes[found % number]).astype(np.int64)
        within = np.cumsum(np.bincount(distances, minlength=bits + 1))
        bits = min(bits, max(FEWEST_BITS, int(np.searchsorted(within, enough, side="right")) - 1))
        found = found[distances <= bits]
    pairs = np.column_stack([found // number, found % number]).astype(np.int64)
    return pairs if len(pairs) <= enough else pairs[_ranks(pairs).min(axis=1) < PAIRS_KEPT]


def _ranks(pairs: np.ndarray) -> np.ndarray:
    """Return the how many-th pair `[P, 2]` of each of its two images a pair is."""
    found = np.empty_like(pairs)
    for side in range(2):
        order = np.argsort(pairs[:, side], kind="stable")
        ordered = pairs[order, side]
        found[order, side] = np.arange(len(order)) - np.searchsorted(ordered, ordered)
    return found


def _in_band(hashes: np.ndarray, first: int, second: int, bits: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield pairs of images that share two bytes of their hashes, differ in few bits, and follow in order."""
    octets = [(hashes >> np.uint64(56 - 8 * place)) & np.uint64(255) for place in (first, second)]
    band = (octets[0] << np.uint64(8)) | octets[1]
    order = np.argsort((band << np.uint64(48)) | (hashes >> np.uint64(16)), kind="stable").astype(np.uint64)
    band, there = band[order], np.arange(len(hashes))
    for step in range(1, NEIGHBOURS + 1):
        there = there[there + step < len(hashes)]
        there = there[band[there] == band[there + step]]
        one, other = order[there], order[there + step]
        is_close = np.bitwise_count(hashes[one] ^ hashes[other]) <= bits
        yield np.minimum(one, other)[is_close], np.maximum(one, other)[is_close]


def _threshold(residuals: np.ndarray, images: int) -> float:
    """Return the residual up to which pairs are copies: by chance two of 10,000 images would seem to be one.

    Pairs of different pictures become fewer with a power of the residual, at least the third (measured on Fashion-MNIST
    and digits; the fifth on photos of hands). So those that are half alike tell how many to expect below any other.
    """
    less, low, high = HALF_ALIKE
    nearer = max(1, int(np.count_nonzero((residuals >= less) & (residuals < low))))
    farther = int(np.count_nonzero((residuals >= low) & (residuals < high)))
    if not farther:
        return LARGEST_RESIDUAL
    growth = np.log((farther / (high - low)) / (nearer / (low - less))) / np.log((low + high) / (less + low))
    power = max(LEAST_POWER, 1 + float(growth))
    expected_at_1 = farther / images / (high**power - low**power)
    return min(LARGEST_RESIDUAL, float((CHANCE_PAIRS_PER_IMAGE / expected_at_1) ** (1 / power)))


# --- two images ---


def _compare(pairs: np.ndarray, small: _Parts) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return for each pair the residual as it is, the residual once one image is moved, and whether colours differ."""
    residuals, has_other_colours = np.ones(len(pairs)), np.zeros(len(pairs), bool)
    moved = np.ones(len(pairs))
    for chunk in _chunks(len(pairs)):
        images, places = np.unique(pairs[chunk], return_inverse=True)
        one, other = np.asarray(places).reshape(-1, 2).T
        found = small[images]
        grey = _luma(found)
        details = _Details.of(grey)
        residuals[chunk] = _residuals(details.take(one), details.take(other))
        near = np.flatnonzero(residuals[chunk] <= MOVED_FROM)
        moved[chunk.start + near] = _residuals_once_moved(grey, details, one[near], other[near])
        if found.shape[3] == 3:
            has_other_colours[chunk] = _have_other_colours(_chroma(found), one, other)
    return residuals, np.minimum(residuals, moved), has_other_colours


def _chunks(number: int) -> Iterator[slice]:
    for start in range(0, number, _CHUNK_PAIRS):
        yield slice(start, start + _CHUNK_PAIRS)


@dataclass(frozen=True)
class _Details:
    """The details of grey images, and how they change with a shift to the right, downwards, and with the size.

    `changes` `[B, 4, 1024] float32` are the details themselves and the three changes, `products` `[B, 4, 4]` their
    sums of products, `strength` `[B]` is the standard deviation of the details.
    """

    changes: np.ndarray
    products: np.ndarray
    strength: np.ndarray

    @classmethod
    def of(cls, grey: np.ndarray) -> _Details:
        """Return the details of images `[B, 32, 32]`."""
        from scipy.ndimage import gaussian_filter1d

        unit = np.eye(SMALL_PX, dtype=np.float32)
        blur, wide = (gaussian_filter1d(unit, px, axis=0) for px in (_BLUR_PX, _DETAIL_PX))
        slope = np.asarray(np.gradient(unit, axis=0))
        smooth = blur @ grey.astype(np.float32) @ blur.T
        right, down = smooth @ slope.T, slope @ smooth
        changes = np.stack([smooth, right, down, right * _PLACE + down * _PLACE[:, None]], axis=1)
        changes -= wide @ changes @ wide.T
        middle = changes[:, 0, 4:-4, 4:-4]  # at the border even a plain slope seems to have details
        changes = changes.reshape(len(grey), 4, SMALL_PX**2)
        return cls(changes, changes @ changes.transpose(0, 2, 1), middle.std(axis=(1, 2)))

    def take(self, places: np.ndarray) -> _Details:
        """Return the details of some of the images."""
        return _Details(self.changes[places], self.products[places], self.strength[places])


def _residuals(one: _Details, other: _Details) -> np.ndarray:
    """Return the larger share of the details of either image that those of the other do not explain."""
    both = np.maximum(_unexplained(one, other), _unexplained(other, one))
    has_details = (one.strength >= LEAST_DETAIL) & (other.strength >= LEAST_DETAIL)
    found: np.ndarray = np.where(has_details, both, 1.0)
    return found


def _unexplained(source: _Details, target: _Details) -> np.ndarray:
    weights, common = _fit(source, target)
    explained = (weights * common).sum(axis=1) / (target.products[:, 0, 0] + 1e-6)
    found: np.ndarray = np.where(weights[:, 0] > 0, 1 - explained, 1.0)
    return found


def _fit(source: _Details, target: _Details) -> tuple[np.ndarray, np.ndarray]:
    """Return how much of each change of the source is in the target, `[P, 4]`, and their products with it."""
    common = np.einsum("nip,np->ni", source.changes, target.changes[:, 0]).astype(np.float64)
    products = source.products.astype(np.float64)
    size = np.trace(products, axis1=1, axis2=2)[:, None, None]
    return np.linalg.solve(products + (1e-4 * size + 1e-6) * np.eye(4), common[..., None])[..., 0], common


def _residuals_once_moved(grey: np.ndarray, details: _Details, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the residuals after that image of each pair which shows more has been moved onto the other.

    A fit holds to first order only: it tells where to, and is made anew there.
    """
    weights, _ = _fit(details.take(one), details.take(other))
    shows_more = weights[:, 3] <= 0
    source, target = np.where(shows_more, one, other), np.where(shows_more, other, one)
    wanted = details.take(target)
    moved, there = grey[source].astype(np.float32), details.take(source)
    for _ in range(_MOVES):
        moved = _move(moved, _fit(there, wanted)[0])
        there = _Details.of(moved)
    return _residuals(there, wanted)


def _move(images: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return images `[P, 32, 32] float32` shifted and resized as `weights` `[P, 4]` say, by a few pixels at most."""
    import cv2

    scale = np.maximum(np.abs(weights[:, :1]), 1e-3)
    shifts = np.clip(weights[:, 1:] / scale, -_FARTHEST_PX, _FARTHEST_PX).astype(np.float32)
    columns, rows = np.meshgrid(*[np.arange(SMALL_PX, dtype=np.float32)] * 2)
    moved = [
        cv2.remap(
            image,
            columns + right + larger * _PLACE,
            rows + down + larger * _PLACE[:, None],
            cv2.INTER_CUBIC,
            borderMode=cv2.BORDER_REPLICATE,
        )
        for image, (right, down, larger) in zip(images, shifts, strict=True)
    ]
    return np.stack(moved) if moved else images


def _chroma(small: np.ndarray) -> np.ndarray:
    """Return how much redder and bluer than grey `[B, 128] float32` small versions are, at 8 px."""
    pooled = small.reshape(len(small), 8, 4, 8, 4, 3).mean(axis=(2, 4), dtype=np.float32)
    grey = pooled @ np.array([0.299, 0.587, 0.114], np.float32)
    found: np.ndarray = (pooled[..., ::2] - grey[..., None]).reshape(len(small), -1)
    return found


def _have_other_colours(chroma: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return for which pairs the colours differ; a grey image may be the copy of a coloured one."""
    strength = np.sqrt((chroma**2).mean(axis=1))
    is_coloured = strength >= LEAST_CHROMA
    likeness = (chroma[one] * chroma[other]).mean(axis=1) / np.maximum(strength[one] * strength[other], 1e-6)
    found: np.ndarray = is_coloured[one] & is_coloured[other] & (likeness < LEAST_CHROMA_LIKENESS)
    return found


# --- groups ---


def _group(pairs: np.ndarray, pictures: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the group `[N]` of each picture, and the groups that are parts of longer chains.

    Chains of more than 50 pictures are cut into equal parts, along a walk from picture to near picture.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components, depth_first_order

    graph = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(pictures, pictures)).tocsr()
    count, groups = connected_components(graph, directed=False)
    groups = groups.astype(np.int64)
    cut: list[int] = []
    for chain in np.flatnonzero(np.bincount(groups, minlength=count) > MOST_IN_GROUP):
        first = int(np.argmax(groups == chain))
        walk = depth_first_order(graph, first, directed=False, return_predecessors=False)
        for part in np.array_split(walk, -(-len(walk) // MOST_IN_GROUP)):
            groups[part] = count + len(cut)
            cut.append(count + len(cut))
    numbers, numbered = np.unique(groups, return_inverse=True)
    return numbered, np.searchsorted(numbers, np.array(cut, np.int64))


# --- what stays together ---


def keep_together(
    labels: np.ndarray, groups: np.ndarray | None, copies: np.ndarray | None
) -> tuple[np.ndarray | None, np.ndarray]:
    """Return the units of images that stay on one side where they are split, and labels whose copies do not.

    Copies stay together like the images of a group. But where all images of a class would be one unit by that, they
    are taken for different ones: the class could not be both trained and judged.
    """
    units = join_units(groups, copies)
    if copies is None:
        return units, np.empty(0, np.int64)
    single = np.setdiff1d(single_unit_classes(labels, units), single_unit_classes(labels, join_units(groups)))
    if len(single):
        apart = np.isin(copies, copies[np.isin(labels, single) & (copies != OWN_UNIT)])
        units = join_units(groups, np.where(apart, OWN_UNIT, copies))
    return units, single
