"""`python -m benchmarks.augmentation`: augmented images per second and per processor second, each way in turn.

*tuner*: `Augment.apply` on batches of 64 random images, by one thread and by more, each a batch, as trials are fed;
*numpy*: the same text by tuner's own arithmetic of commit 51df595;
*keras*: the same operations as Keras's preprocessing layers in `tf.data`, as its documentation shows them.
A ratio is that of processor seconds to those of *tuner* with one thread; medians of all rounds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from itertools import count, islice
from statistics import median

import numpy as np

from benchmarks.augmentation import numpy_version
from benchmarks.augmentation.keras_layers import change_by_keras, has_layers
from tuner.common.command_line import run_command
from tuner.common.threads import Threads
from tuner.models.augmentation import parse_augment

BATCH = 64
TEXTS = (
    "flip",
    "flip|shift(4)",
    "flip|rotate(15)",
    "flip|rotate(15)|zoom(0.2)|brightness(0.2)|contrast(0.2)",
    "noise(0.1)",
    "erase(0.3)",
    "mixup(0.2)",
    "cutmix(1)",
    "color_jitter",
    "blur(2)",
    "random_resized_crop(0.3)",
    "randaugment",
    "trivial_augment",
    "augmix",
)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.augmentation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("texts", nargs="*", default=TEXTS, help="augmentations; all of the table unless given")
    parser.add_argument("--px", type=int, nargs="*", default=[32, 96, 224])
    parser.add_argument("--threads", type=int, nargs="*", default=[2], help="beside one")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="about how long each way is measured in a round")
    options = parser.parse_args(arguments)

    def run() -> int:
        from tuner.models.backend import configure_backend

        configure_backend(max(1, *options.threads))
        print("| augment | px | way | threads | images/s | images/processor s | processor time of tuner's |")
        print("|---|---:|---|---:|---:|---:|---:|")
        for text in options.texts:
            for px in options.px:
                measure(options, text, px)
        return 0

    return run_command(run)


def measure(options: argparse.Namespace, text: str, px: int) -> None:
    """Measure all ways of one text at one size, and print a row for each."""
    images = np.random.default_rng(0).integers(0, 256, (BATCH, px, px, 3), dtype=np.uint8)
    labels = np.eye(10, dtype=np.float32)[np.arange(BATCH) % 10]
    ways = {("tuner", number): by_tuner(text, images, labels, number) for number in (1, *options.threads)}
    for name, make in (("numpy", by_numpy), ("keras", by_keras)):
        way = make(text, images, labels)
        if way is not None:
            ways[name, 1] = way
    found: dict[tuple[str, int], list[tuple[float, float]]] = {way: [] for way in ways}
    for way in ways.values():
        way()  # what is done once
    for _ in range(options.rounds):
        for name, way in ways.items():
            found[name].append(timed(way, options.seconds))
    shown = "`" + text.replace("|", "\\|") + "`"
    of_tuner = median(one for _, one in found["tuner", 1])
    for (name, threads), values in found.items():
        a_second, a_processor_second = (median(each) for each in zip(*values, strict=True))
        ratio = f"{of_tuner / a_processor_second:.2f}"
        print(
            f"| {shown} | {px} | {name} | {threads} | {a_second:,.0f} | {a_processor_second:,.0f} | {ratio} |",
            flush=True,
        )


def timed(way: Callable[[], int], seconds: float) -> tuple[float, float]:
    """Return images per second and per processor second, over passes of about so many seconds."""
    started, started_cpu, images = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - started < seconds:
        images += way()
    return images / (time.perf_counter() - started), images / (time.process_time() - started_cpu)


def by_tuner(text: str, images: np.ndarray, labels: np.ndarray, threads: int) -> Callable[[], int]:
    augment, seeds, pool = parse_augment(text), count(), Threads(threads)

    def augment_one(seed: int) -> int:
        return len(augment.apply(images, labels, seed)[0])

    return lambda: sum(pool.map(augment_one, islice(seeds, 8)))


def by_numpy(text: str, images: np.ndarray, labels: np.ndarray) -> Callable[[], int] | None:
    if any(call.name not in numpy_version.EFFECTS for call in parse_augment(text).calls):
        return None
    seeds = count()
    return lambda: len(numpy_version.augmented(text, images, labels, next(seeds))[0])


def by_keras(text: str, images: np.ndarray, labels: np.ndarray) -> Callable[[], int] | None:
    """Return a pass over 16 batches through `tf.data`; None where Keras has no layer for an operation."""
    import tensorflow

    if not has_layers(text):
        return None
    batches = tensorflow.data.Dataset.from_tensors((images, labels)).repeat(16)
    batches = batches.map(change_by_keras(text), num_parallel_calls=tensorflow.data.AUTOTUNE)
    batches = batches.prefetch(tensorflow.data.AUTOTUNE)

    def go_through() -> int:
        return sum(len(batch) for batch, _ in batches)

    return go_through


if __name__ == "__main__":
    raise SystemExit(main())
