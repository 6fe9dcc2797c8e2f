"""`python -m tuner.new SOURCE`: write a search-space file for images, with a comment for each choice.

Light at import: numpy and Pillow are loaded when there are images to look at, Ray when GPUs are counted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from tuner.common.command_line import CommandParser, run_command, split_assignments, verbatim

_EPILOG = """\
examples:
  python -m tuner.new folder:data/flowers                      writes flowers.yaml, or flowers-2.yaml if that is there
  python -m tuner.new folder:data/flowers --time 5m            for a search of five minutes
  python -m tuner.new csv:data/labels.csv --output first.yaml
  python -m tuner.new folder:scans --set "data.group=(patient_[0-9]+)"

A search with the file: python -m tuner.search FILE. Both at once: python -m tuner.search SOURCE
exit status: 0 the file is written, 2 wrong input (nothing is written)
"""


def build_new_parser() -> argparse.ArgumentParser:
    """Return the parser of `python -m tuner.new`."""
    parser = CommandParser(
        "new", "Write a search-space file for images, after a look at them and at this machine.", _EPILOG
    )
    add = parser.add_argument
    add(
        "source",
        metavar="SOURCE",
        help="a source as in data.source, for example folder:data/flowers; or the path of images",
    )
    add(
        "--output",
        type=Path,
        metavar="FILE",
        help="the file to write, which must not be there (default: of the source's name)",
    )
    limit = "of a search with the file, as 90s, 20m or 2h, or none (default: 30m)"
    add("--time", type=verbatim, metavar="TIME", help=limit)
    setting = "set a setting of the section data, the value in YAML: --set data.layout=classes (repeatable)"
    add("--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides", help=setting)
    staged = "take data set NAME from SOURCE, for example cifar100=parquet:/data/cifar100 (repeatable)"
    add("--data", action="append", default=[], metavar="NAME=SOURCE", help=staged)
    add(
        "--runs",
        type=Path,
        default=Path("runs"),
        metavar="DIR",
        help="where runs are kept, whose names are taken (default: runs)",
    )
    add("--cache", type=Path, metavar="DIR", help="where prepared data are kept (default: the user's cache)")
    parser.add_plugins()
    parser.add_version()
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = build_new_parser()
    options = parser.parse_args(arguments)
    wrong = [one for one in options.overrides if not one.strip().startswith("data.")]
    if wrong:
        parser.error(f"--set must begin with data. here: all else is changed in the file; got {wrong[0][:60]!r}")
    return run_command(lambda: _write(options))


def _write(options: argparse.Namespace) -> int:
    from tuner.common.errors import InputError
    from tuner.common.files import user_path
    from tuner.datasets.loading import staged_sources
    from tuner.datasets.prepared import default_cache_dir
    from tuner.models.own_networks import load_own_code
    from tuner.proposals.asking import SPACE_FILES, source_asked_for
    from tuner.proposals.making import DEFAULT_TIME, Asked, make_file
    from tuner.spec.schema import read_time

    load_own_code(options.plugins)
    staged = staged_sources(os.environ, split_assignments(options.data))
    source = source_asked_for(options.source, staged)
    if source is None:
        got = "such a file" if options.source.lower().endswith(SPACE_FILES) else "a file that holds none"
        raise InputError(f"{options.source}: must be images, for which a search-space file is written; got {got}")
    cache = user_path(options.cache or default_cache_dir()).absolute()
    time_s = read_time(options.time or DEFAULT_TIME, "--time")
    output = None if options.output is None else user_path(options.output)
    made = make_file(Asked(source, time_s, tuple(options.overrides), staged, cache, options.runs, output))
    sys.stdout.write("\n".join(made.lines) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
