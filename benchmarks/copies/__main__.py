"""`python -m benchmarks.copies SOURCE...`: which planted copies are found among real images, what else is, how fast.

Copies of some images are planted among all of them, one kind at a time. The table tells how many of the kind are
found, and for the images as they are: how many are held to be copies, and the processor time for each image of hashes
and small versions, and of looking up and confirming. Needs TUNER_DATA and KERAS_HOME for sources that are not
embedded (see CONTRIBUTING.md).
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks.copies.planting import CHANGES, copies_of
from tuner.datasets.copies import find_copies, sketch_images
from tuner.datasets.loading import load_dataset, staged_sources
from tuner.datasets.request import DataRequest

_CHUNK = 512


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.copies", description=__doc__)
    parser.add_argument("sources", nargs="*", default=["digits"], metavar="SOURCE")
    parser.add_argument("--planted", type=int, default=200, help="copies of each kind")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for source in options.sources:
            dataset = load_dataset(
                DataRequest(source), staged=staged_sources(os.environ, {}), seed=0, cache_dir=Path(folder),
                notify=lambda text: print(f"> {text}"),
            )  # fmt: skip
            measure(source, [dataset.prepared.open(split)[0] for split in dataset.prepared.counts], options.planted)


def measure(source: str, parts: list[np.ndarray], planted: int) -> None:
    """Print what is found among the images of a source."""
    number = sum(map(len, parts))
    start = time.process_time()
    sketched = [sketch(part) for part in parts]
    hashed = time.process_time()
    found = find_copies(np.concatenate([hashes for hashes, _ in sketched]), [small for _, small in sketched])
    done = time.process_time()
    grouped = found.groups[found.groups >= 0]
    print(
        f"\n{source}: {number:,} images of {parts[0].shape[1]} px; {len(grouped):,} ({len(grouped) / number:.2%}) in "
        f"{len(np.unique(grouped)):,} groups of at most {np.bincount(grouped, minlength=1).max()}, "
        f"{number - len(np.unique(found.exact)):,} with the pixels of another; hashing "
        f"{1e6 * (hashed - start) / number:.0f} µs an image, looking up and confirming "
        f"{1e6 * (done - hashed) / number:.0f} µs\n\n| planted | found |\n|---|---:|"
    )
    rows = np.sort(np.random.default_rng(0).choice(len(parts[0]), min(planted, len(parts[0])), replace=False))
    originals = parts[0][rows]
    for kind in CHANGES:
        if kind == "grey" and originals.shape[3] == 1:
            continue
        more = sketch(copies_of(originals, kind))
        every = [*sketched, more]
        groups = find_copies(np.concatenate([hashes for hashes, _ in every]), [small for _, small in every]).groups
        is_found = (groups[number:] >= 0) & (groups[number:] == groups[rows])
        print(f"| {kind} | {is_found.mean():.1%} |", flush=True)


def sketch(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return hashes and small versions of images, some at a time."""
    with ThreadPoolExecutor(2) as pool:
        chunks = [sketch_images(images[start : start + _CHUNK], pool) for start in range(0, len(images), _CHUNK)]
    return np.concatenate([hashes for hashes, _ in chunks]), np.concatenate([small for _, small in chunks])


if __name__ == "__main__":
    main()
