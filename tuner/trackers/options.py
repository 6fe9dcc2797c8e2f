"""The options that name trackers, the same for every command. Light: nothing heavy is loaded for --help."""

from __future__ import annotations

import argparse
from collections.abc import Collection
from typing import Any

from tuner.common.registry import is_nothing


def add_tracker_options(parser: argparse.ArgumentParser, words: str = "show the search while it runs") -> None:
    """Add `--mlflow`, `--tensorboard` and `--tracker` to a command that can do what `words` say."""
    add = parser.add_argument
    mlflow = (
        f"{words} in MLflow: http://HOST:5000 or sqlite:///FILE.db (default: the variable MLFLOW_TRACKING_URI, else "
        "mlflow.db beside the runs)"
    )
    add("--mlflow", nargs="?", const="", metavar="URI", help=mlflow)
    add("--tensorboard", metavar="DIR", help=f"{words} in TensorBoard, by files in a folder")
    others = "the same for one of a plugin or an installed package (docs/trackers.md); none: no tracker (repeatable)"
    add("--tracker", action="append", default=[], metavar="NAME[=PLACE]", dest="trackers", help=others)


def trackers_asked_for(
    parser: argparse.ArgumentParser, parsed: argparse.Namespace, without_record: Collection[str] = ()
) -> tuple[str, ...] | None:
    """Return what the options ask for, as NAME or NAME=PLACE; None where they say nothing: all is as it was before.

    Exits with a usage line where one stands beside an option that keeps no record.
    """
    values: dict[str, Any] = vars(parsed)
    asked = [one for one in values["trackers"] if not is_nothing(one)]
    options = ["tracker"] * len(asked)
    for name in ("mlflow", "tensorboard"):
        if (place := values[name]) is not None:
            asked.append(f"{name}={place}" if place else name)
            options.append(name)
    for mode in without_record if asked else ():
        parser.error(f"--{options[0]} and --{mode} cannot be used together: --{mode} keeps no record")
    return tuple(asked) if asked or values["trackers"] else None
