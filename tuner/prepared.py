"""The prepared copy of a data set: plain arrays on disk, memory-mapped, one per machine.

All processes of a machine share the pages that the system holds of them. A copy lies in a folder named by what it was
made from; it is built aside by one process, under a lock, and renamed when it is whole: a killed build leaves nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from tuner.errors import DataError
from tuner.images import Header, decode_image, read_header
from tuner.sources import Listed, Listing

VERSION = 1
DEFAULT_PX = 224
NAMES_SHOWN = 10
_CHUNK = 512
Notify = Callable[[str], None]


@dataclass(frozen=True)
class Form:
    """What the images of a copy look like: all of one size, grey or colour; what happens to broken ones."""

    image_px: int | None
    colour: str
    broken_images: str


@dataclass(frozen=True)
class Prepared:
    """A prepared copy on disk."""

    path: Path
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    fingerprint: str
    """SHA-256 over all images, labels and class names."""
    counts: Mapping[str, int]
    """Images in each split that there is."""

    def open(self, split: str) -> tuple[np.ndarray, np.ndarray]:
        """Images `[N, H, W, C] uint8` and labels `[N] int64` of a split, memory-mapped, read-only."""
        images = np.load(self.path / f"{split}_images.npy", mmap_mode="r", allow_pickle=False)
        labels = np.load(self.path / f"{split}_labels.npy", allow_pickle=False)
        return images, labels


def default_cache_dir() -> Path:
    """Where prepared copies are kept: TUNER_CACHE, or the user's cache folder of this system."""
    from platformdirs import user_cache_dir

    return Path(os.environ.get("TUNER_CACHE") or user_cache_dir("tuner", appauthor=False))


def prepare(identity: Any, form: Form, read: Callable[[], Listing], cache_dir: Path, notify: Notify) -> Prepared:
    """The prepared copy of what `read` lists, made if it is not there; `identity` is JSON that changes with the data.

    Raises:
        DataError: an image is broken and that is not to be skipped, or the disk cannot hold the copy.
    """
    key = hashlib.sha256(json.dumps([VERSION, identity, vars(form)], sort_keys=True).encode()).hexdigest()[:24]
    folder = cache_dir / "datasets" / key
    if (existing := _usable(folder)) is not None:
        return existing
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_suffix(".lock")):
            if (existing := _usable(folder)) is not None:  # another process has made it meanwhile
                return existing
            return _build(folder, form, read(), notify)
    except OSError as error:
        raise DataError(f"{folder}: the prepared copy cannot be written: {error}") from error


def _usable(folder: Path) -> Prepared | None:
    """The copy in `folder`, unless it is not there, cut short or of another version."""
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        if meta["version"] != VERSION or any(
            (folder / name).stat().st_size != size for name, size in meta["sizes"].items()
        ):
            return None
        height, width, channels = meta["image_shape"]
        return Prepared(
            folder, tuple(meta["class_names"]), (height, width, channels), meta["fingerprint"], meta["counts"]
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _build(folder: Path, form: Form, listing: Listing, notify: Notify) -> Prepared:
    aside = folder.with_suffix(".partial")
    for leftover in (aside, folder):
        shutil.rmtree(leftover, ignore_errors=True)
    aside.mkdir()
    shape = _common_shape(listing, form, notify)
    digest = hashlib.sha256(json.dumps(list(listing.class_names)).encode())
    counts: dict[str, int] = {}
    for split, listed in listing.splits.items():
        images, labels = _write_split(aside, split, listed, shape, form, notify)
        counts[split] = len(labels)
        for start in range(0, len(labels), _CHUNK):
            digest.update(images[start : start + _CHUNK].tobytes())
        digest.update(labels.tobytes())
    sizes = {path.name: path.stat().st_size for path in aside.iterdir()}
    meta = {
        "version": VERSION,
        "class_names": list(listing.class_names),
        "image_shape": list(shape),
        "fingerprint": digest.hexdigest(),
        "counts": counts,
        "sizes": sizes,
    }
    (aside / "meta.json").write_text(json.dumps(meta, indent=1), encoding="utf-8")
    aside.replace(folder)
    return Prepared(folder, listing.class_names, shape, digest.hexdigest(), counts)


# --- one shape for all ---


def _common_shape(listing: Listing, form: Form, notify: Notify) -> tuple[int, int, int]:
    headers = [header for listed in listing.splits.values() for header in _headers(listed)]
    sizes = {(header.height, header.width) for header in headers}
    if form.image_px is not None:
        height = width = form.image_px
    elif len(sizes) == 1:
        ((height, width),) = sizes
    else:
        height = width = DEFAULT_PX
        notify(
            f"the images have {len(sizes)} different sizes: the middle of each is resized to {DEFAULT_PX} px "
            "(data.image_px sets another)"
        )
    grey = form.colour == "grey" or (form.colour == "auto" and all(header.is_grey for header in headers))
    return height, width, 1 if grey else 3


def _headers(listed: Listed) -> list[Header]:
    """The distinct headers of a split; broken files have none, and are found when they are decoded."""
    if listed.pixels is not None:
        channels = listed.pixels.shape[3] if listed.pixels.ndim == 4 else 1
        return [Header(listed.pixels.shape[1], listed.pixels.shape[2], channels == 1)]
    found: set[Header] = set()
    for encoded in listed.encoded:
        try:
            found.add(read_header(encoded))
        except DataError:
            continue
    return list(found)


# --- writing ---


def _write_split(
    folder: Path, split: str, listed: Listed, shape: tuple[int, int, int], form: Form, notify: Notify
) -> tuple[np.ndarray, np.ndarray]:
    path = folder / f"{split}_images.npy"
    number = len(listed.labels)
    images: np.memmap[Any, Any] = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(number, *shape))
    good = np.ones(number, dtype=bool)
    problems: list[str] = []
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, number, _CHUNK):
            rows = range(start, min(start + _CHUNK, number))
            for row, image, problem in pool.map(lambda row: _load(listed, row, shape), rows):
                if image is None:
                    good[row] = False
                    problems.append(problem)
                else:
                    images[row] = image
            if number >= 20 * _CHUNK and (start // _CHUNK) % 20 == 19:
                notify(f"{split}: {rows.stop:,} of {number:,} images prepared")
    labels = listed.labels.astype(np.int64)
    if problems:
        _judge_broken(problems, form, split, notify)
        images, labels = _without(path, images, good), labels[good]
    images.flush()
    np.save(folder / f"{split}_labels.npy", labels, allow_pickle=False)
    return images, labels


def _load(listed: Listed, row: int, shape: tuple[int, int, int]) -> tuple[int, np.ndarray | None, str]:
    try:
        return row, _pixels(listed, row, shape), ""
    except DataError as error:
        return row, None, f"{listed.names[row]} {error}"


def _pixels(listed: Listed, row: int, shape: tuple[int, int, int]) -> np.ndarray:
    height, width, channels = shape
    if listed.pixels is None:
        return decode_image(listed.encoded[row], (height, width), grey=channels == 1)
    image: np.ndarray = listed.pixels[row]
    image = image if image.ndim == 3 else image[:, :, None]
    if image.shape == shape:
        return image
    return _convert(image, shape)


def _convert(image: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """An array of another size or number of channels, by way of a lossless file."""
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(file, format="BMP")
    return decode_image(file.getvalue(), shape[:2], grey=shape[2] == 1)


def _judge_broken(problems: list[str], form: Form, split: str, notify: Notify) -> None:
    shown = "; ".join(problems[:NAMES_SHOWN])
    more = f" and {len(problems) - NAMES_SHOWN} more" if len(problems) > NAMES_SHOWN else ""
    words = f"{len(problems)} broken {split} image{'s' if len(problems) > 1 else ''}: {shown}{more}"
    if form.broken_images == "fail":
        raise DataError(f"{words}; remove or repair them, or set data.broken_images to skip")
    notify(f"skipped {words}")


def _without(path: Path, images: np.memmap[Any, Any], good: np.ndarray) -> np.memmap[Any, Any]:
    """The file at `path` rewritten with the good rows only."""
    kept = path.with_suffix(".kept.npy")
    target: np.memmap[Any, Any] = np.lib.format.open_memmap(
        kept, mode="w+", dtype=np.uint8, shape=(int(good.sum()), *images.shape[1:])
    )
    for place, row in enumerate(np.flatnonzero(good)):
        target[place] = images[row]
    target.flush()
    kept.replace(path)
    return target
