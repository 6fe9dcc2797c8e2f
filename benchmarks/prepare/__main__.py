"""`python -m benchmarks.prepare --data NAME=PATH`: what preparing costs beside a bare loop with the same library.

The bare loop opens each image with Pillow, decodes it (a JPEG at a fraction of its size where that is enough), cuts
out its middle, resizes it and drops the array. Both are run in turn in one process; what is printed are medians of
processor time, that of hashing the arrays, as a whole and for copies, taken off in the ratio. PATH is a folder of
class folders; `--small N` adds N made-up PNGs of 32 px.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image, ImageOps

from tuner.common.command_line import split_assignments
from tuner.common.process import usable_cpus
from tuner.datasets.copies import SketchWriter, take_copies
from tuner.datasets.file_sources import walk
from tuner.datasets.images import SUFFIXES
from tuner.datasets.loading import load_dataset
from tuner.datasets.request import DataRequest

SMALL_PX = 32
ROWS = 512


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.prepare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", action="append", default=[], metavar="NAME=PATH", help="folder of class folders")
    parser.add_argument("--px", type=int, nargs="*", default=[64, 224], help="sizes of the prepared images")
    parser.add_argument("--small", type=int, default=0, metavar="N", help="also prepare N PNGs of 32 px")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(
        "| images | prepared at | bare loop, us an image | preparing | hashing | ratio without hashing | each round |"
    )
    print("|---|---:|---:|---:|---:|---:|---|")
    for name, path in split_assignments(options.data, "--data").items():
        for px in options.px:
            print(_row(name, Path(path), px, options.rounds), flush=True)
    if options.small:
        with _small_images(options.small) as folder:
            print(_row(f"PNGs of {SMALL_PX} px", folder, None, options.rounds), flush=True)


def _row(name: str, folder: Path, px: int | None, rounds: int) -> str:
    files = walk(folder, SUFFIXES).all_files()
    prepare(folder, px)  # reads the files into memory, and imports what is needed
    measured = [(_processor_seconds(lambda: bare_loop(files, px)), *prepare(folder, px)) for _ in range(rounds)]
    return table_row(name, len(files), px, measured)


def table_row(name: str, images: int, px: int | None, measured: Sequence[tuple[float, float, float]]) -> str:
    """Return a row of the table from processor seconds of each round: bare loop, preparing with hashing, hashing."""
    ratios = [(whole - hashing) / bare for bare, whole, hashing in measured]
    bare, whole, hashing = (median(values) / images * 1e6 for values in zip(*measured, strict=True))
    each = ", ".join(f"{ratio:.2f}" for ratio in ratios)
    size = "their own size" if px is None else f"{px} px"
    return f"| {name}, {images:,} | {size} | {bare:.0f} | {whole:.0f} | {hashing:.0f} | {median(ratios):.2f} | {each} |"


def _processor_seconds(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def bare_loop(files: Sequence[Path], px: int | None) -> None:
    """Decode, cut and resize every image, and keep none."""
    for file in files:
        with Image.open(file) as image:
            if px is None:
                np.asarray(image)
            else:
                image.draft(None, (2 * px, 2 * px))
                np.asarray(ImageOps.fit(image, (px, px), method=Image.Resampling.BILINEAR))


def prepare(folder: Path, px: int | None) -> tuple[float, float]:
    """Return the processor seconds of preparing the images of a folder, and those of hashing what was prepared."""
    with tempfile.TemporaryDirectory() as cache:
        request = DataRequest(f"folder:{folder}", image_px=px)
        options: Mapping[str, str] = {}
        started = time.process_time()
        data = load_dataset(request, staged=options, seed=0, cache_dir=Path(cache), notify=lambda _text: None)
        whole = time.process_time() - started
        images = np.ascontiguousarray(data.prepared.open("train")[0])
        return whole, _processor_seconds(lambda: _hash(images, Path(cache)))


def _hash(images: np.ndarray, folder: Path) -> None:
    """Hash images as preparing does: all of them for the fingerprint, and each to find copies."""
    hashlib.sha256(images.data).hexdigest()
    channels = images.shape[3]
    with SketchWriter(folder, "train", channels) as sketches, ThreadPoolExecutor(usable_cpus()) as pool:
        for start in range(0, len(images), ROWS):
            sketches.append(images[start : start + ROWS], pool)
    take_copies(folder, {"train": len(images)}, channels)


@contextmanager
def _small_images(number: int) -> Iterator[Path]:
    """Return a folder of ten classes of PNGs: smooth colours with some noise, as small photos are."""
    generator = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as work:
        for place in range(number):
            folder = Path(work) / str(place % 10)
            folder.mkdir(exist_ok=True)
            corners = Image.fromarray(generator.integers(0, 256, (4, 4, 3), np.uint8))
            smooth = np.asarray(corners.resize((SMALL_PX, SMALL_PX), Image.Resampling.BICUBIC), np.int16)
            noisy = np.clip(smooth + generator.integers(-8, 9, smooth.shape), 0, 255).astype(np.uint8)
            Image.fromarray(noisy).save(folder / f"{place:06d}.png")
        yield Path(work)


if __name__ == "__main__":
    main()
