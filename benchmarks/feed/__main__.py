"""`python -m benchmarks.feed`: how fast images reach a model, from arrays, encoded images and cached activations.

Of 512 images, a source's (`folder:data/flowers`) or made up, batches of 64 go through Keras's `fit`:
*images/s* and *images/processor s* to a model whose step takes no time;
*waits*: the share of its time that a device waits whose step takes as long as `--step-ms` says, asleep.
Ways: *tuner*, the batches of a trial; *tf.data*, with Keras's layers where images are augmented; *numpy*, tuner's
augmentation of commit 51df595; *decoder*, the decoder's own loop without a model, to which the feeding of arrays is
added (*decoder and arrays*). All are measured in turn; medians of rounds; *of tuner's*: processor time of the way for
an image as a share of tuner's in the same line of work.

A second table has the images per second that train a network (MobileNetV2, alpha 0.35, all of it), augmented on the
way and in the same loop on arrays of images that were augmented before.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tuner.common.command_line import run_command
from tuner.common.process import usable_cpus
from tuner.models.augmentation import parse_augment

if TYPE_CHECKING:
    from benchmarks.feed.ways import Asleep, Feed, Images

AUGMENTS = {"none": "none", "flip": "flip", "recipe": "flip|rotate(15)|zoom(0.2)|brightness(0.2)|contrast(0.2)"}
LEAST_IMAGES, MOST_IMAGES = 256, 65_536
FIRST_STEPS, LEAST_STEPS = 6, 6


class Work(NamedTuple):
    """What is delivered."""

    form: str
    augment: str


WAYS: dict[Work, tuple[str, ...]] = {
    Work("arrays", "none"): ("tuner", "tf.data"),
    Work("arrays", "flip"): ("tuner", "tf.data", "numpy"),
    Work("arrays", "recipe"): ("tuner", "tf.data", "numpy"),
    Work("jpeg", "none"): ("tuner", "tf.data", "decoder"),
    Work("jpeg", "flip"): ("tuner", "tf.data"),
    Work("jpeg", "recipe"): ("tuner", "tf.data"),
    Work("lossless", "none"): ("tuner", "tf.data", "decoder"),
    Work("lossless", "flip"): ("tuner", "tf.data"),
    Work("lossless", "recipe"): ("tuner", "tf.data"),
    Work("activations", "none"): ("tuner",),
}


@dataclass
class Measured:
    """Figures of one way, a number for each round."""

    a_second: list[float] = field(default_factory=list)
    a_processor_second: list[float] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.feed", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", nargs="?", help="for example folder:data/flowers; made-up images unless given")
    parser.add_argument("--px", type=int, nargs="*", default=[32, 96, 224])
    parser.add_argument("--threads", type=int, default=usable_cpus())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.3, help="about how long a way is measured in a round")
    parser.add_argument("--step-ms", type=float, default=20.0, help="a step of the device that sleeps")
    options = parser.parse_args(arguments)

    def run() -> int:
        from tuner.models.backend import configure_backend

        configure_backend(options.threads)
        from benchmarks.feed.ways import Images

        print("| px | from | augment | way | images/s | images/processor s | waits | of tuner's |")
        print("|---:|---|---|---|---:|---:|---:|---:|")
        trained = ["| px | augment | ready-made images/s | augmented images/s | share |", "|---:|---|---:|---:|---:|"]
        for px in options.px:
            with tempfile.TemporaryDirectory() as folder:
                plain = made_up(px) if options.source is None else of_source(options.source, px, Path(folder))
                images = Images(plain, Path(folder), options.threads)
                measure(options, images)
                trained += training(options, images)
        print("\n".join(["", *trained]))
        return 0

    return run_command(run)


def made_up(px: int, number: int = 512) -> np.ndarray:
    """Return images with detail at all scales, as photos have it."""
    import cv2

    generator, images = np.random.default_rng(0), []
    for _ in range(number):
        image = np.zeros((px, px, 3))
        for cells in (2, 4, 8, 16, 32, 64, 128):
            if cells <= px:
                image += cv2.resize(generator.normal(0, 40 / cells**0.5, (cells, cells, 3)), (px, px))
        images.append(np.clip(image + 127, 0, 255).astype(np.uint8))
    return np.stack(images)


def of_source(source: str, px: int, cache: Path, number: int = 512) -> np.ndarray:
    """Return training images of a source."""
    from tuner.datasets.loading import load_dataset, staged_sources
    from tuner.datasets.request import DataRequest

    data = load_dataset(
        DataRequest(source, image_px=px, storage="arrays"),
        staged=staged_sources(os.environ, {}),
        seed=0,
        cache_dir=cache,
        notify=lambda _text: None,
    )
    return data.train.batch(np.arange(min(number, len(data.train))))[0]


@dataclass(frozen=True)
class Run:
    """What one way is asked for in a round: images for a model whose step takes no time, and for one that sleeps."""

    deliver: Callable[[int], None]
    images: int
    asleep: Callable[[int], None] | None
    """None: there is no model."""
    steps: list[tuple[float, float]]
    for_steps: int

    def measure(self, measured: Measured) -> None:
        """Add the figures of a round."""
        started, started_cpu = time.perf_counter(), time.process_time()
        self.deliver(self.images)
        measured.a_second.append(self.images / (time.perf_counter() - started))
        measured.a_processor_second.append(self.images / (time.process_time() - started_cpu))
        if self.asleep is not None:
            self.steps.clear()
            self.asleep(self.for_steps)
            measured.waits.append(waiting(self.steps))


def measure(options: argparse.Namespace, images: Images) -> None:
    """Measure all ways at one size, and print a row for each."""
    from benchmarks.feed import ways

    makers: dict[str, Callable[[Images, str, str], Feed]] = {
        "tuner": ways.by_tuner,
        "tf.data": ways.by_tf_data,
        "numpy": ways.by_numpy,
        "decoder": ways.by_decoder,
    }
    shapes = {"activations": (ways.ACTIVATIONS,)}
    models = {
        shape: (ways.idle_model(shape), ways.idle_model(shape, options.step_ms / 1000))
        for shape in (images.shape, *shapes.values())
    }
    runs = {
        (work, name): prepared(
            options,
            makers[name](images, work.form, AUGMENTS[work.augment]),
            *models[shapes.get(work.form, images.shape)],
        )
        for work, names in WAYS.items()
        for name in names
    }
    found = {each: Measured() for each in runs}
    for _ in range(options.rounds):
        for each, run in runs.items():
            run.measure(found[each])
    for row in rows(images.shape[0], found):
        print(row, flush=True)


def prepared(options: argparse.Namespace, feed: Feed, idle: Asleep, sleeping: Asleep) -> Run:
    """Return a way's run of a round, after what is done once: as many images as take the time that was asked for."""
    from benchmarks.feed.ways import BATCH

    deliver = delivery(feed, idle.model)
    deliver(LEAST_IMAGES)
    started = time.perf_counter()
    deliver(LEAST_IMAGES)
    rate = LEAST_IMAGES / (time.perf_counter() - started)
    number = int(np.clip(rate * options.seconds, LEAST_IMAGES, MOST_IMAGES)) // BATCH * BATCH
    asleep = None if feed(BATCH) is None else delivery(feed, sleeping.model)
    if asleep is not None:
        asleep(2 * BATCH)
    steps = FIRST_STEPS + max(LEAST_STEPS, int(options.seconds / max(options.step_ms / 1000, BATCH / rate)))
    return Run(deliver, number, asleep, sleeping.steps, steps * BATCH)


def delivery(feed: Feed, model: Any) -> Callable[[int], None]:
    """Return the function that delivers so many images to a model."""

    def deliver(number: int) -> None:
        data = feed(number)
        if data is None:
            return
        try:
            model.fit(data, shuffle=False, verbose=0)
        finally:
            getattr(data, "__exit__", lambda *_none: None)(None, None, None)

    return deliver


def training(options: argparse.Namespace, images: Images) -> list[str]:
    """Return rows of what trains on images that are augmented on the way, and on ready-made ones."""
    from benchmarks.feed import ways
    from tuner.models.network import build_model

    configuration = {"architecture": "mobilenet_v2", "alpha": 0.35, "weights": "none", "preprocess": "scale(-1,1)"}
    model = build_model(configuration, images.shape, ways.CLASSES, 0).model
    model.compile(optimizer="sgd", loss="categorical_crossentropy")
    table = []
    for augment in ("flip", "recipe"):
        labels = np.eye(ways.CLASSES, dtype=np.float32)[images.labels]
        ready = replace(images, plain=parse_augment(AUGMENTS[augment]).apply(images.plain, labels, 0)[0])
        both = [ways.by_tuner(ready, "arrays", "none"), ways.by_tuner(images, "arrays", AUGMENTS[augment])]
        ways_on = [delivery(feed, model) for feed in both]
        for deliver in ways_on:
            deliver(2 * ways.BATCH)  # what is done once
        found: list[list[float]] = [[], []]
        for _ in range(options.rounds):
            for deliver, taken in zip(ways_on, found, strict=True):
                started = time.perf_counter()
                deliver(LEAST_IMAGES)
                taken.append(time.perf_counter() - started)
        share = median(one / other for one, other in zip(*found, strict=True))
        rates = [f"{LEAST_IMAGES / median(taken):,.0f}" for taken in found]
        table.append(f"| {images.shape[0]} | {augment} | {rates[0]} | {rates[1]} | {share:.2f} |")
    return table


def waiting(steps: Sequence[tuple[float, float]]) -> float:
    """Return the share of its time that a device waits between its steps (begin and end each, in seconds).

    The first are left out: meanwhile `fit` does what it does once, and batches that were made before are used up.
    """
    counted = steps[FIRST_STEPS:]
    return 1 - sum(end - begin for begin, end in counted) / (counted[-1][1] - counted[0][0])


def rows(px: int, found: dict[tuple[Work, str], Measured]) -> list[str]:
    """Return the rows of the table for one size."""
    table = []
    for (work, name), measured in found.items():
        a_processor_second = median(measured.a_processor_second)
        waits = f"{median(measured.waits):.0%}" if measured.waits else "-"
        own = median(found[work, "tuner"].a_processor_second)
        shown = [px, work.form, work.augment]
        figures = [f"{median(measured.a_second):,.0f}", f"{a_processor_second:,.0f}", waits]
        table.append([*shown, name, *figures, f"{own / a_processor_second:.2f}"])
        if name == "decoder":
            arrays = median(found[Work("arrays", "none"), "tuner"].a_processor_second)
            both = 1 / (1 / a_processor_second + 1 / arrays)
            table.append([*shown, "decoder and arrays", "-", f"{both:,.0f}", "-", f"{own / both:.2f}"])
    return ["| " + " | ".join(map(str, row)) + " |" for row in table]


if __name__ == "__main__":
    raise SystemExit(main())
