"""`python -m tuner.report RUN`: the leaderboard, tables and figures of a run, made from its record.

Light at import: pyarrow and matplotlib are loaded when there is something to write. Ray and TensorFlow never are.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tuner.common.command_line import CommandParser, run_command
from tuner.common.errors import InputError, TunerError, printable
from tuner.common.files import check_folder, shown

if TYPE_CHECKING:
    from tuner.reports.figures.registry import Format
    from tuner.runs.state import RunState

_FORMATS: tuple[Format, ...] = ("png", "svg")  # figures.registry.FORMATS, without loading it; a test compares them
_EPILOG = """\
examples:
  python -m tuner.report runs/cifar100                          write reports/cifar100
  python -m tuner.report runs/cifar100 --output /tmp/report     write it elsewhere
  python -m tuner.report runs/cifar100 --format svg             figures for print only
  python -m tuner.report runs/first runs/second                 compare searches: write reports/comparison
  python -m tuner.report --all                                  write reports/index.html, the table of all runs
  python -m tuner.report s3://bucket/tuner/cifar100             of a run in its storage

The run may still be running: the report tells what is known now.
exit status: 0 done, 1 failed, 2 wrong input (nothing was written)
"""


def build_report_parser() -> argparse.ArgumentParser:
    """Return the parser of `python -m tuner.report`."""
    parser = CommandParser(
        "report", "Write the report of a run: one HTML page, the leaderboard, Parquet tables, figures.", _EPILOG
    )
    add = parser.add_argument
    run = "a run directory, for example runs/cifar100, or its copy in a storage, s3://...; several: compared"
    add("runs", nargs="*", metavar="RUN", help=run)
    add("--all", action="store_true", help="a page of all runs in --runs, with links to their reports")
    where = "where runs are kept (default: runs)"
    add("--runs", type=Path, default=Path("runs"), metavar="DIR", dest="runs_dir", help=where)
    output = "where the report goes (default: reports/NAME of the run directory; reports/comparison; reports)"
    add("--output", type=Path, metavar="DIR", help=output)
    formats = "file formats of the figures: png, svg or both (default: both)"
    add("--format", nargs="+", choices=_FORMATS, default=list(_FORMATS), metavar="FORMAT", help=formats)
    parser.add_plugins()
    add("--nice", action="store_true", help="at the lowest priority, to disturb no search")
    add("--end-with-stdin", action="store_true", help=argparse.SUPPRESS)
    parser.add_version()
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = build_report_parser()
    options = parser.parse_args(arguments)
    if options.all == bool(options.runs):
        parser.error("RUN must be given, or --all" if not options.runs else "--all and RUN cannot be used together")
    if options.nice and hasattr(os, "nice"):
        os.nice(19)
    if options.end_with_stdin:
        from tuner.reports.writer import end_with_stdin

        end_with_stdin()
    formats, reports = tuple(dict.fromkeys(options.format)), Path("reports")

    def run() -> int:
        from tuner.common.plugins import load_plugins
        from tuner.common.process import set_surroundings

        set_surroundings()  # before own code imports what heeds them
        load_plugins(options.plugins)
        if options.all:
            return _report_all(options.runs_dir, options.output or reports)
        if len(options.runs) > 1:
            return _compare(options.runs, options.output or reports / "comparison", formats)
        return _report(options.runs[0], options.output, formats)

    return run_command(run)


def _read(text: str) -> tuple[Path, RunState]:
    """Return where a run is, and its state; raises RunError when it cannot be read."""
    from urllib.parse import urlsplit

    from tuner.common.locations import is_remote
    from tuner.runs.mirror import run_at
    from tuner.runs.record import read_state

    with run_at(text) as run:
        address = urlsplit(text)
        place = Path(f"{address.netloc}{address.path}") if is_remote(text) else run.path.resolve()
        return place, read_state(run.record)


def _compare(texts: Sequence[str], output: Path, formats: tuple[Format, ...]) -> int:
    from tuner.common.files import write_text
    from tuner.reports.comparison import compare_runs, distinct_names
    from tuner.reports.results import build_results
    from tuner.reports.writer import make_directory, writing_to

    runs = [_read(text) for text in texts]
    names = [shown(name) for name in distinct_names([place for place, _ in runs])]
    comparison = compare_runs([(name, build_results(state)) for name, (_, state) in zip(names, runs, strict=True)])
    make_directory(output)
    from tuner.reports.comparison import render_comparison  # matplotlib

    with writing_to(output):
        page = write_text(output / "index.html", render_comparison(comparison, output, formats))
    _print_path(page)
    return 0


def _report_all(runs_dir: Path, output: Path) -> int:
    """Write an overview of all runs with links to their reports, and name those that cannot be read."""
    from tuner.common.files import write_text
    from tuner.reports.comparison import render_overview
    from tuner.reports.results import build_results
    from tuner.reports.writer import make_directory, writing_to

    if not runs_dir.is_dir():
        raise InputError(f"--runs must be a folder of runs; {runs_dir} is none")
    check_folder(runs_dir, "--runs", is_written=False)
    found, problems = [], []
    for path in sorted(record.parent for record in runs_dir.glob("*/record.jsonl")):
        try:
            results = build_results(_read(str(path))[1])
        except TunerError as error:
            problems += error.lines()
            continue
        report = Path(path.name) / "index.html"
        found.append((shown(Path(path.name)), results, report.as_posix() if (output / report).is_file() else None))
    make_directory(output)
    with writing_to(output):
        _print_path(write_text(output / "index.html", render_overview(found)))
    for problem in problems:
        print(f"left out: {problem}", file=sys.stderr)
    return 1 if problems else 0


def _report(text: str, output: Path | None, formats: tuple[Format, ...]) -> int:
    from tuner.reports.writer import retrain_command, write_report
    from tuner.runs.mirror import run_at
    from tuner.runs.record import read_state

    with run_at(text) as run:
        state = read_state(run.record)
        folder = output or Path("reports") / run.name
        problems: list[str] = []
        paths = write_report(state, folder, retrain_command(run.path, state), formats, run, problems.append)
    for path in (paths.page, paths.leaderboard, *paths.tables.values(), *paths.figures):
        _print_path(path)
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


def _print_path(path: Path) -> None:
    print(printable(shown(path)))


if __name__ == "__main__":
    gc.disable()  # a large record is a million objects that stay: to look for garbage among them takes long
    raise SystemExit(main())
