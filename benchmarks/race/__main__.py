"""`python -m benchmarks.race`: run what is missing, then write the table and the picture."""

from __future__ import annotations

import argparse
import importlib.util
import math
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import platformdirs

from tuner.common.command_line import run_command
from tuner.common.errors import InputError

EPILOG = """\
needs TUNER_DATA (a folder with cifar100/train.parquet), KERAS_HOME (a folder with models/ and MobileNetV2's weights),
and keras-tuner for the leg of that name (pip install keras-tuner==1.4.8).

examples:
  python -m benchmarks.race --out DIR                            all of it: sizes x legs x rounds x 400 s
  python -m benchmarks.race --out DIR --sizes small --rounds 1   one round at 64 px
  python -m benchmarks.race --out DIR --report                   table and picture of what is there
"""


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.race",
        description="The same search by tuner and its peers in the same time, each alone on the machine, in turn.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--out", type=Path, default=Path("reports/race"), metavar="DIR", help="results; finished runs there are kept")
    add("--rounds", type=int, default=3, metavar="N", help="how often each leg runs, with seeds 1 to N (default: 3)")
    add("--budget", type=float, default=400.0, metavar="S", help="seconds for each run from its launch (default: 400)")
    add("--legs", default="", metavar="A,B", help="only these (default: all)")
    add("--sizes", default="", metavar="A,B", help="only these: small, resized (default: both)")
    add(
        "--images", type=Path, default=None, metavar="DIR", help="where the images are prepared (default: a user cache)"
    )
    add("--report", action="store_true", help="run nothing: table and picture of the finished runs")
    return parser


def choose(text: str, known: Sequence[str], option: str) -> list[str]:
    """The names in `text`, in the order of `known`; all without any. Raises InputError for one that is unknown."""
    named = [name.strip() for name in text.split(",") if name.strip()] or list(known)
    for name in named:
        if name not in known:
            raise InputError(f"{option} must name some of {', '.join(known)}; got {name!r}")
    return [name for name in known if name in named]


def race(options: argparse.Namespace) -> int:
    """Run what is missing and report; 1 if a run failed."""
    # After --help has been answered.
    from benchmarks.race.harness import run_missing
    from benchmarks.race.legs import LEGS
    from benchmarks.race.report import write_report
    from benchmarks.race.workload import SIZES

    if options.rounds < 1:
        raise InputError(f"--rounds must be at least 1; got {options.rounds}")
    if not (options.budget > 0 and math.isfinite(options.budget)):
        raise InputError(f"--budget must be above 0 seconds; got {options.budget}")
    sizes, legs = choose(options.sizes, list(SIZES), "--sizes"), choose(options.legs, list(LEGS), "--legs")
    say = partial(print, flush=True)
    data = None if options.report else prepare(legs, options.images)
    runs, failures = run_missing(options.out, sizes, legs, options.rounds, options.budget, data, say)
    for path in write_report(runs, options.budget, options.out):
        say(str(path))
    return 1 if failures else 0


def prepare(legs: Sequence[str], images: Path | None) -> Path:
    """The images for all legs; raises InputError saying what is missing on this machine."""
    from benchmarks.race.legs import LEGS
    from benchmarks.race.workload import check_weights, find_parquet, prepare_images

    parquet = find_parquet(os.environ)
    check_weights(os.environ)
    for leg in legs:
        if importlib.util.find_spec(LEGS[leg].needs or "numpy") is None:
            raise InputError(f"{LEGS[leg].needs} must be installed for the leg {leg}: pip install {LEGS[leg].package}")
    return prepare_images(parquet, images or Path(platformdirs.user_cache_dir("tuner-race"))).absolute()


def main(arguments: Sequence[str] | None = None) -> int:
    options = build_parser().parse_args(arguments)
    return run_command(lambda: race(options))


if __name__ == "__main__":
    raise SystemExit(main())
