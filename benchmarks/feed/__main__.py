"""`python -m benchmarks.feed SOURCE`: images per second and per processor second, from arrays and from encoded images.

Three ways, each an epoch's order over and over, in turn, medians of all rounds:
*bare*: `cv2.imdecode` over the same bytes in memory, one thread, nothing kept: all that the library can give;
*read*: batches of `Split.batch`, as everything in tuner reads images;
*fed*: the batches of a trial through `fit` to a model whose step does nothing, in epochs of 12,800 images, with Keras's
own work: beside it, the sum of that (`fed` from arrays) and *bare* as a share of what it takes.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import numpy as np

from tuner.common.command_line import run_command
from tuner.datasets.loading import Dataset, load_dataset, staged_sources
from tuner.datasets.request import DataRequest

BATCH = 64
FED_IMAGES = 12_800


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.feed", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", help="for example folder:data/flowers")
    parser.add_argument("--px", type=int, nargs="*", default=[32, 96, 224])
    parser.add_argument("--threads", type=int, nargs="*", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="about how long each way is measured in a round")
    options = parser.parse_args(arguments)

    def run() -> int:
        from tuner.models.backend import configure_backend

        configure_backend(max(options.threads))
        print("| px | images | way | threads | images/s | images/processor s | of bare (fed: and of fed from arrays) |")
        print("|---:|---|---|---:|---:|---:|---:|")
        with tempfile.TemporaryDirectory() as folder:
            for px in options.px:
                measure(options, px, Path(folder))
        return 0

    return run_command(run)


def measure(options: argparse.Namespace, px: int, cache: Path) -> None:
    """Measure all ways at one size, and print a row for each."""
    ways: dict[tuple[str, str, int], Callable[[], int]] = {}
    for storage in ("arrays", "encoded"):
        request = DataRequest(options.source, image_px=px, storage=storage)
        for threads in options.threads if storage == "encoded" else options.threads[:1]:
            data = load_dataset(
                request,
                staged=staged_sources(os.environ, {}),
                seed=0,
                cache_dir=cache,
                notify=lambda _text: None,
                threads=threads,
            )
            ways[storage, "read", threads] = reading(data)
            ways[storage, "fed", threads] = feeding(data)
            if (storage, "bare", 1) not in ways and storage == "encoded":
                ways[storage, "bare", 1] = decoding(data)
                print_size(data, px)
    found: dict[tuple[str, str, int], list[tuple[float, float]]] = {way: [] for way in ways}
    for _ in range(options.rounds):
        for way in ways:
            found[way].append(timed(ways[way], options.seconds))
    taken = {way: 1 / median(one for _, one in values) for way, values in found.items()}  # processor seconds an image
    own = {"bare": 0.0, "read": 0.0, "fed": taken["arrays", "fed", options.threads[0]]}
    for way in sorted(ways):
        storage, name, threads = way
        least = taken["encoded", "bare", 1] + own[name]
        share = f"{least / taken[way]:.2f}" if storage == "encoded" else "-"
        a_second = median(one for one, _ in found[way])
        print(
            f"| {px} | {storage} | {name} | {threads} | {a_second:,.0f} | {1 / taken[way]:,.0f} | {share} |", flush=True
        )


def print_size(data: Dataset, px: int) -> None:
    """Say how large the encoded images are, and how large a million would be."""
    size = sum(file.stat().st_size for file in data.prepared.path.iterdir())
    number = sum(data.prepared.counts.values())
    print(
        f"{px} px: {number:,} images in {size / 1e6:.1f} MB: {size / number / 1e3:.2f} GB for a million",
        flush=True,
    )


def timed(way: Callable[[], int], seconds: float) -> tuple[float, float]:
    """Return images per second and per processor second, over passes of about so many seconds."""
    started, started_cpu, images = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - started < seconds:
        images += way()
    return images / (time.perf_counter() - started), images / (time.process_time() - started_cpu)


def orders(data: Dataset) -> Callable[[], np.ndarray]:
    generator = np.random.default_rng(0)
    return lambda: generator.permutation(len(data.train))


def reading(data: Dataset) -> Callable[[], int]:
    """Return one pass over all training images, batch by batch."""
    order = orders(data)

    def read() -> int:
        rows = order()
        for start in range(0, len(rows), BATCH):
            data.train.batch(rows[start : start + BATCH])
        return len(rows)

    return read


def decoding(data: Dataset) -> Callable[[], int]:
    """Return one pass of the decoder over the bytes of all training images."""
    import cv2

    folder, order = data.prepared.path, orders(data)
    content, index = np.fromfile(folder / "train_images.bin", np.uint8), np.load(folder / "train_index.npy")
    images = [content[index[row] : index[row + 1]].copy() for row in data.train.rows]
    flags = cv2.IMREAD_GRAYSCALE if data.image_shape[2] == 1 else cv2.IMREAD_COLOR_RGB

    def decode() -> int:
        rows = order()
        for row in rows.tolist():
            cv2.imdecode(images[row], flags)
        return len(rows)

    return decode


def feeding(data: Dataset) -> Callable[[], int]:
    """Return one epoch of `fit` of a model that does nothing."""
    import keras

    from tuner.training._batches import Batches

    class Idle(keras.Model):
        """A model whose training step takes no time."""

        def train_step(self, _batch: object) -> dict[str, float]:
            return {"loss": 0.0}

    inputs = keras.Input(data.image_shape)
    model, order = Idle(inputs, keras.layers.Flatten()(inputs)), orders(data)
    model.compile(optimizer="sgd", loss="mse")

    def feed() -> int:
        rows = np.concatenate([order() for _ in range(-(-FED_IMAGES // len(data.train)))])[:FED_IMAGES]
        model.fit(Batches(data.train, len(data.class_names), BATCH, rows, None, 0), shuffle=False, verbose=0)
        return len(rows)

    feed()  # traced
    return feed


if __name__ == "__main__":
    raise SystemExit(main())
