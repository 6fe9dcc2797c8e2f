"""`python -m tuner.predict RUN IMAGE...`: the most probable labels of images, by the best model of a run.

Light at import: Keras is loaded when there are images to predict.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tuner.common.command_line import CommandParser, run_command
from tuner.common.errors import printable

if TYPE_CHECKING:
    from tuner.api.classifier import Prediction

FORMATS = ("table", "csv", "json")
_EPILOG = """\
examples:
  python -m tuner.predict runs/digits picture.png                   the five most probable labels
  python -m tuner.predict runs/digits photos/ --format csv          every image in a folder and below
  python -m tuner.predict runs/digits csv:images.csv                every image that a table names
  python -m tuner.predict runs/digits photos/ --top 1 --format json
  python -m tuner.predict --imagenet mobilenet_v2 picture.png       with a stock network and its 1,000 labels

exit status: 0 done, 1 some images could not be read (the others were predicted), 2 wrong input
"""


def build_predict_parser() -> argparse.ArgumentParser:
    """Return the parser of `python -m tuner.predict`."""
    parser = CommandParser("predict", "Print the most probable labels of images, by the best model of a run.", _EPILOG)
    add = parser.add_argument
    what = "a run directory, then images, folders of images and sources, for example csv:images.csv"
    add("paths", nargs="+", metavar="PATH", help=what)
    add("--imagenet", metavar="NAME", help="predict with a network of Keras Applications instead of a run's model")
    add("--top", type=int, default=5, metavar="N", help="how many labels for each image (default: 5)")
    add("--format", choices=FORMATS, default="table", help="how they are printed (default: table)")
    parser.add_plugins()
    parser.add_version()
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = build_predict_parser()
    options = parser.parse_args(arguments)
    if options.top < 1:
        parser.error(f"--top must be at least 1; got {options.top}")
    run, images = (None, options.paths) if options.imagenet else (options.paths[0], options.paths[1:])
    if not images:
        parser.error("IMAGE must be given: a file, a folder of images, or a source")
    return run_command(lambda: _predict(run, images, options))


def _predict(place: str | None, texts: Sequence[str], options: argparse.Namespace) -> int:
    from tuner.api.classifier import find_pictures, load_imagenet_classifier, load_run_classifier, predict_pictures
    from tuner.api.code_of_run import load_code_for
    from tuner.common.process import logging_to
    from tuner.models.own_networks import load_own_code
    from tuner.runs.directory import open_run

    run = None if place is None else open_run(Path(place))
    notices = [] if run is None else load_code_for(run, options.plugins)
    if run is None:
        load_own_code(options.plugins)
    pictures = list(find_pictures(texts, notices))
    failures: list[tuple[str, str]] = []
    with logging_to(None if run is None else run.log, is_new=False):  # what libraries say meanwhile
        classifier = load_imagenet_classifier(options.imagenet) if run is None else load_run_classifier(run)
        found = predict_pictures(classifier, pictures, options.top, lambda *failure: failures.append(failure))
        print_predictions(found, options.format)
    for line in (*(f"{name} {reason}" for name, reason in failures), *notices):
        print(printable(line), file=sys.stderr)
    return 1 if failures else 0


def print_predictions(predictions: Iterator[Prediction], form: str) -> None:
    """Print them as a table, as CSV (a row for each label) or as JSON (an object for each image)."""
    if form == "csv":
        from tuner.reports.formatting import safe_cell

        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(["image", "place", "label", "probability"])
        for one in predictions:
            for place, (label, probability) in enumerate(one.labels, start=1):
                path, name = (safe_cell(printable(text)) for text in (one.image, label))
                writer.writerow([path, place, name, f"{probability:.6f}"])
    elif form == "json":
        rows = []
        for one in predictions:
            labels = [{"label": label, "probability": share} for label, share in one.labels]
            rows.append({"image": one.image, "labels": labels})
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
            path = "" if place else printable(one.image)
            table.add_row(Text(path), Text(printable(label)), f"{probability:.1%}")
    console = Console()
    (console if console.is_terminal else Console(width=200)).print(table)


if __name__ == "__main__":
    raise SystemExit(main())
