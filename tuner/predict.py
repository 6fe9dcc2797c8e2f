"""`python -m tuner.predict RUN IMAGE...`: the most probable labels of images, by the best model of a run.

Light at import: Keras is loaded when there are images to predict.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tuner import __version__
from tuner.common.command_line import CommandParser, run_command
from tuner.common.errors import DataError, InputError, RunError, WeightsError, first_line, printable
from tuner.common.files import shown

if TYPE_CHECKING:
    import numpy as np

    from tuner.runs.directory import RunDirectory

FORMATS = ("table", "csv", "json")
BATCH_SIZE = 32
BATCH_PIXELS = 2**22
"""As many go through a network at a time, for photos of any size are in memory as they were taken."""
_EPILOG = """\
examples:
  python -m tuner.predict runs/digits picture.png                   the five most probable labels
  python -m tuner.predict runs/digits photos/ --format csv          every image in a folder and below
  python -m tuner.predict runs/digits photos/ --top 1 --format json
  python -m tuner.predict --imagenet mobilenet_v2 picture.png       with a stock network and its 1,000 labels

exit status: 0 done, 1 some images could not be read (the others were predicted), 2 wrong input
"""


class Prediction(NamedTuple):
    """One image: its path, and the most probable labels with their probabilities, the first of them first."""

    path: Path
    labels: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Classifier:
    """A model with its labels, for images `[H, W, channels]` of one size, or of any (`px` is None)."""

    labels: Sequence[str]
    px: tuple[int, int] | None
    channels: int
    probabilities: Callable[[np.ndarray], np.ndarray]
    """Of raw images of one size `[N, H, W, channels] uint8`: `[N, K] float32`."""
    fit: str = "crop"
    """How images of other proportions are made to fit `px`."""


def build_predict_parser() -> argparse.ArgumentParser:
    """Return the parser of `python -m tuner.predict`."""
    parser = CommandParser("predict", "Print the most probable labels of images, by the best model of a run.", _EPILOG)
    add = parser.add_argument
    add("paths", nargs="+", type=Path, metavar="PATH", help="a run directory, then images and folders of images")
    add("--imagenet", metavar="NAME", help="predict with a network of Keras Applications instead of a run's model")
    add("--top", type=int, default=5, metavar="N", help="how many labels for each image (default: 5)")
    add("--format", choices=FORMATS, default="table", help="how they are printed (default: table)")
    add("--version", action="version", version=f"tuner {__version__}")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = build_predict_parser()
    options = parser.parse_args(arguments)
    if options.top < 1:
        parser.error(f"--top must be at least 1; got {options.top}")
    run, images = (None, options.paths) if options.imagenet else (options.paths[0], options.paths[1:])
    if not images:
        parser.error("IMAGE must be given: a file, or a folder of images")
    return run_command(lambda: _predict(run, images, options))


def _predict(run: Path | None, paths: Sequence[Path], options: argparse.Namespace) -> int:
    from tuner.common.process import logging_to
    from tuner.runs.directory import open_run

    notices: list[str] = []
    files = list(find_images(paths, notices))
    failures: list[tuple[Path, str]] = []
    with logging_to(open_run(run).log if run is not None else None, is_new=False):  # what libraries say meanwhile
        classifier = load_run_classifier(run) if run is not None else load_imagenet_classifier(options.imagenet)
        found = predict_files(classifier, files, options.top, lambda path, reason: failures.append((path, reason)))
        print_predictions(found, options.format)
    for line in (*(f"{shown(path)} {reason}" for path, reason in failures), *notices):
        print(printable(line), file=sys.stderr)
    return 1 if failures else 0


def find_images(paths: Sequence[Path], notices: list[str]) -> Iterator[Path]:
    """Yield the files that are named, and the images in folders and below, by name; `notices` tell what is left out.

    Raises InputError when nothing is there, or a folder holds no image.
    """
    from tuner.datasets.file_sources import left_out, walk
    from tuner.datasets.images import SUFFIXES

    for path in paths:
        if not os.path.lexists(path):
            raise InputError(f"{path}: must be an image or a folder of images; nothing is there")
        if not path.is_dir():  # of what is no image it is said later that it cannot be decoded
            yield path
            continue
        tree = walk(path, SUFFIXES)
        found = tree.all_files()
        if not found:
            raise InputError(f"{path}: must hold images ({', '.join(SUFFIXES)}); it holds none")
        notices += left_out(tree)
        yield from found


def load_run_classifier(path: Path) -> Classifier:
    """Return the best model of a run as a classifier; raises RunError when no run is there, or it has exported none."""
    from tuner.models.export import load_model
    from tuner.runs.directory import open_run

    run = open_run(path)
    is_state = run.exported == run.best_state
    exported = run.best_state if is_state else run.exported_model()
    try:
        about = json.loads(run.about_best.read_text(encoding="utf-8"))
        labels, (height, width, channels) = [str(label) for label in about["labels"]], map(int, about["image_shape"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise RunError(f"{run.about_best}: cannot be read: {error}") from None
    if not labels or min(height, width) < 1 or channels not in (1, 3):
        shape = [height, width, channels]
        raise RunError(f"{run.about_best}: cannot be read: it must have labels and the shape of an image; got {shape}")
    if is_state:
        return _state_classifier(run, about)
    model = load_model(exported)
    # Version 0.1 exported models that squeeze what is not of their size: for these it is fitted here.
    px = (height, width) if any(layer.name == "to_size" for layer in model.layers) else None
    return Classifier(labels, px, channels, lambda images: model.predict_on_batch(images))


def _state_classifier(run: RunDirectory, about: dict[str, Any]) -> Classifier:
    """Return the state of a training function of one's own as a classifier, for images as that was trained on."""
    from tuner.training.trainable import load_predictor

    height, width, channels = about["image_shape"]
    try:
        predictor = load_predictor(run.best_state, about)
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{run.about_best}: cannot be read: {type(error).__name__}: {error}") from None
    return Classifier(about["labels"], (height, width), channels, predictor, str(about.get("fit", "crop")))


def load_imagenet_classifier(name: str) -> Classifier:
    """Return a network of Keras Applications with its 1,000 labels of ImageNet.

    Raises:
        UnknownNameError: there is no such network.
        WeightsError: its weights or the labels cannot be fetched.
    """
    from tuner.common.errors import UnknownNameError
    from tuner.common.registry import unknown_name
    from tuner.models.architectures import ARCHITECTURES

    known = [each for each in ARCHITECTURES if ARCHITECTURES[each].application is not None]
    if name not in known:
        raise UnknownNameError(unknown_name("network", name, known))
    from tuner.models.backend import configure_backend

    configure_backend()
    from tuner.models.backbones import imagenet_classifier

    try:
        model, labels, scale = imagenet_classifier(str(ARCHITECTURES[name].application))
    except (OSError, ValueError) as error:  # urllib's errors are of both kinds
        raise WeightsError(
            f"the weights of {name} or the labels of ImageNet cannot be fetched: {first_line(error)}; "
            "put both files into the folder models/ of KERAS_HOME"
        ) from None
    height, width, channels = model.input_shape[1:]
    return Classifier(labels, (height, width), channels, lambda images: model.predict_on_batch(scale(images)))


def predict_files(
    classifier: Classifier, files: Sequence[Path], top: int, on_failure: Callable[[Path, str], None]
) -> Iterator[Prediction]:
    """Yield the labels of each image, in order; images that cannot be decoded go to `on_failure` instead."""
    import numpy as np

    for start in range(0, len(files), BATCH_SIZE):
        read: list[tuple[Path, Any]] = []
        with ThreadPoolExecutor(max_workers=4) as pool:
            batch = files[start : start + BATCH_SIZE]
            for path, found in zip(batch, pool.map(lambda path: _decode(path, classifier), batch), strict=True):
                if isinstance(found, str):
                    on_failure(path, found)
                else:
                    read.append((path, found))
        rows = _probabilities(classifier, [image for _, image in read])
        for (path, _), row in zip(read, rows, strict=True):
            order = np.argsort(-row, kind="stable")[:top]
            yield Prediction(path, tuple((classifier.labels[index], float(row[index])) for index in order))


def _probabilities(classifier: Classifier, images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return those of each image, in order; images of one size go through the network together."""
    import numpy as np

    places: dict[tuple[int, ...], list[int]] = {}
    for place, image in enumerate(images):
        places.setdefault(image.shape, []).append(place)
    found: dict[int, np.ndarray] = {}
    for (height, width, *_), together in places.items():
        size = max(1, BATCH_PIXELS // (height * width))
        for chunk in (together[start : start + size] for start in range(0, len(together), size)):
            rows = classifier.probabilities(np.stack([images[place] for place in chunk]))
            found.update(zip(chunk, np.asarray(rows), strict=True))
    return [found[place] for place in range(len(images))]


def _decode(path: Path, classifier: Classifier) -> Any:
    """Return the image as the model takes it, `[H, W, channels] uint8`, or as text why it cannot be."""
    from tuner.datasets.images import decode_image

    try:
        return decode_image(path, classifier.px, classifier.channels == 1, classifier.fit)
    except DataError as error:
        return str(error)


def print_predictions(predictions: Iterator[Prediction], form: str) -> None:
    """Print them as a table, as CSV (a row for each label) or as JSON (an object for each image)."""
    if form == "csv":
        from tuner.reports.formatting import safe_cell

        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(["image", "place", "label", "probability"])
        for one in predictions:
            for place, (label, probability) in enumerate(one.labels, start=1):
                path, name = (safe_cell(printable(text)) for text in (shown(one.path), label))
                writer.writerow([path, place, name, f"{probability:.6f}"])
    elif form == "json":
        rows = []
        for one in predictions:
            labels = [{"label": label, "probability": share} for label, share in one.labels]
            rows.append({"image": shown(one.path), "labels": labels})
        sys.stdout.write(json.dumps(rows, ensure_ascii=False, indent=1) + "\n")
    else:
        _print_table(predictions)


def _print_table(predictions: Iterator[Prediction]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    table.add_column("image", overflow="fold")
    table.add_column("label", overflow="fold")
    table.add_column("probability", justify="right", no_wrap=True)
    for one in predictions:
        for place, (label, probability) in enumerate(one.labels):
            path = "" if place else printable(shown(one.path))
            table.add_row(Text(path), Text(printable(label)), f"{probability:.1%}")
    console = Console()
    (console if console.is_terminal else Console(width=200)).print(table)


if __name__ == "__main__":
    raise SystemExit(main())
