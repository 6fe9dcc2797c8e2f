"""`python -m benchmarks.prepare --data NAME=PATH`: what preparing costs beside a bare loop with the same library.

The bare loop opens each image with Pillow, decodes it (a JPEG at a fraction of its size where that is enough), cuts
out its middle, resizes it and drops the array. Both are run in turn in one process; what is printed are medians of
processor time. Hashing, of the arrays as a whole and for copies, is timed where preparing does it, and taken off in the
ratio; what writing to the files takes is told beside it. PATH is a folder of class folders; `--small N` adds N made-up
PNGs of 32 px.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import wraps
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
from PIL import Image, ImageOps

from tuner.common import arrays
from tuner.common.command_line import split_assignments
from tuner.datasets import copies, prepared
from tuner.datasets.file_sources import walk
from tuner.datasets.images import SUFFIXES
from tuner.datasets.loading import load_dataset
from tuner.datasets.request import DataRequest

SMALL_PX = 32


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
        "| images | prepared at | bare loop, us an image | preparing | hashing | writing | ratio without hashing "
        "| each round |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---|")
    for name, path in split_assignments(options.data).items():
        for px in options.px:
            print(_row(name, Path(path), px, options.rounds), flush=True)
    if options.small:
        with _small_images(options.small) as folder:
            print(_row(f"PNGs of {SMALL_PX} px", folder, None, options.rounds), flush=True)


class Taken(NamedTuple):
    """Processor seconds of a round: those of preparing hold those of hashing and writing."""

    bare: float
    preparing: float
    hashing: float
    writing: float

    @property
    def ratio(self) -> float:
        """Preparing without hashing, as a multiple of the bare loop."""
        return (self.preparing - self.hashing) / self.bare


def _row(name: str, folder: Path, px: int | None, rounds: int) -> str:
    files = walk(folder, SUFFIXES).all_files()
    prepare(folder, px)  # reads the files into memory, and imports what is needed
    measured = [Taken(_processor_seconds(lambda: bare_loop(files, px)), *prepare(folder, px)) for _ in range(rounds)]
    return table_row(name, len(files), px, measured)


def table_row(name: str, images: int, px: int | None, measured: Sequence[Taken]) -> str:
    """Return a row of the table from what each round took."""
    cells = " | ".join(f"{median(values) / images * 1e6:.0f}" for values in zip(*measured, strict=True))
    each = ", ".join(f"{one.ratio:.2f}" for one in measured)
    size = "their own size" if px is None else f"{px} px"
    return f"| {name}, {images:,} | {size} | {cells} | {median(one.ratio for one in measured):.2f} | {each} |"


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


def prepare(folder: Path, px: int | None) -> tuple[float, float, float]:
    """Return the processor seconds of preparing the images of a folder, and of these such as hash and write."""
    taken: dict[str, float] = defaultdict(float)
    timed = (
        (copies.SketchWriter, "append", "hashing"),
        (prepared, "take_copies", "hashing"),
        (arrays.ArrayWriter, "append", "writing"),
    )
    with tempfile.TemporaryDirectory() as cache, ExitStack() as patches:
        for owner, name, what in timed:
            patches.enter_context(mock.patch.object(owner, name, _counted(getattr(owner, name), taken, what)))
        request = DataRequest(f"folder:{folder}", image_px=px)
        options: Mapping[str, str] = {}
        started = time.process_time()
        data = load_dataset(request, staged=options, seed=0, cache_dir=Path(cache), notify=lambda _text: None)
        whole = time.process_time() - started
        images = np.ascontiguousarray(data.prepared.open("train")[0])
        digest = _processor_seconds(lambda: hashlib.sha256(images.data).hexdigest())  # which writing does as it goes
        return whole, taken["hashing"] + digest, taken["writing"] - digest


def _counted(work: Callable[..., Any], taken: dict[str, float], what: str) -> Callable[..., Any]:
    """Return a function that adds the processor seconds of its calls: nothing but its own threads runs meanwhile."""

    @wraps(work)
    def counted(*arguments: Any, **named: Any) -> Any:
        started = time.process_time()
        result = work(*arguments, **named)
        taken[what] += time.process_time() - started
        return result

    return counted


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
