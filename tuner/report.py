"""`python -m tuner.report RUN`: the leaderboard, tables and figures of a run, made from its record.

Light at import: pyarrow and matplotlib are loaded when there is something to write. Ray and TensorFlow never are.
"""

from __future__ import annotations

import argparse
import gc
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tuner import __version__
from tuner.common.errors import InputError, TunerError, printable
from tuner.common.files import check_folder, shown
from tuner.reports.live_report import end_with_stdin
from tuner.session.options import CommandParser, run_command

if TYPE_CHECKING:
    from tuner.reports.figures.registry import Format
    from tuner.runs.directory import RunDirectory
    from tuner.runs.state import RunState

_FORMATS: tuple[Format, ...] = ("png", "svg")  # figures.FORMATS, without loading it; a test compares them
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


@dataclass(frozen=True)
class ReportPaths:
    """The files of a report."""

    page: Path
    leaderboard: Path
    trials: Path
    epochs: Path
    finalists: Path
    figures: tuple[Path, ...]


def write_report(
    state: RunState,
    directory: Path,
    retrain_command: str | None = None,
    formats: Sequence[Format] = _FORMATS,
    run: RunDirectory | None = None,
) -> ReportPaths:
    """Write the report of a run as it is known now; files of an earlier report there are replaced one by one.

    `retrain_command` is shown as what trains the best trial again; `formats` are those of the figures; `run` is where
    the exported model and its predictions are, if they are to be shown.

    Raises:
        InputError: `directory` cannot be made.
        RunError: the study's metric is none that epochs measure.
        TunerError: a file cannot be written.
    """
    from tuner.reports.results import build_results
    from tuner.runs.predictions import load_predictions, load_variants

    results = build_results(
        state,
        load_predictions(run.predictions) if run is not None else None,
        load_variants(run.variants) if run is not None else (),
    )
    _make_directory(directory)
    from tuner.common.files import write_text
    from tuner.reports.figures.registry import (
        save_figures,  # matplotlib, which may have to look for fonts: not for what is refused
    )
    from tuner.reports.leaderboard import FigureLink, leaderboard_markdown, page_texts
    from tuner.reports.page import render_page
    from tuner.reports.tables import epochs_table, finalists_table, save_table, trials_table

    has_model = run is not None and run.best_model.is_file() and results.winner is not None
    predict_command = _predict_command(run) if run is not None and has_model else None
    with _writing_to(directory):
        trials = save_table(trials_table(results), directory / "trials.parquet")
        epochs = save_table(epochs_table(results), directory / "epochs.parquet")
        finalists = save_table(finalists_table(results), directory / "finalists.parquet")
        figures = save_figures(results, directory / "figures", formats)
        links = [FigureLink(figure.paths[0].relative_to(directory).as_posix(), figure.alt) for figure in figures]
        text = leaderboard_markdown(results, retrain_command=retrain_command, figures=links)
        leaderboard = write_text(directory / "leaderboard.md", text)
        texts = page_texts(results, retrain_command=retrain_command, predict_command=predict_command)
        page = write_text(directory / "index.html", render_page(results, texts, figures))  # last: it names the others
    return ReportPaths(
        page, leaderboard, trials, epochs, finalists, tuple(path for figure in figures for path in figure.paths)
    )


def _predict_command(run: RunDirectory) -> str:
    """The shell command that predicts with the best model."""
    return f"{shlex.join(['python', '-m', 'tuner.predict', _as_typed(run.path)])} IMAGE..."


def _as_typed(path: Path) -> str:
    """A path as the user would type it."""
    relative = os.path.relpath(path)
    return shown(path if relative.startswith("..") else Path(relative))


def _make_directory(directory: Path) -> None:
    check_folder(directory, "the place of the report")
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{directory}: the folder of the report cannot be made: {error.strerror}") from None


@contextmanager
def _writing_to(directory: Path) -> Iterator[None]:
    try:
        yield
    except (IsADirectoryError, NotADirectoryError, PermissionError) as error:
        raise InputError(
            f"{error.filename2 or error.filename}: the report cannot be written: {error.strerror}"
        ) from None
    except OSError as error:
        raise TunerError(f"{directory}: the report cannot be written: {error.strerror or error}") from None


def retrain_command(run_path: Path, state: RunState) -> str | None:
    """The shell command that trains the best trial again, with its seed and the data the search was given.

    None when there is no best trial, or when the run directory no longer holds the specification.
    """
    from tuner.runs.finalists import summarise_finalists

    finalists = summarise_finalists(state)
    best = state.trials[finalists[0].trial] if finalists else state.best_trial()
    if best is None or state.study is None or not (run_path / "specification.yaml").is_file():
        return None
    words = ["--retrain", _as_typed(run_path), str(best.number), *_data_options(state.study.command)]
    return shlex.join(["python", "-m", "tuner.search", *words])


def _data_options(command: Sequence[str]) -> list[str]:
    """The options of a search's command line that say where its data are."""
    found: list[str] = []
    for word, following in zip(command, [*command[1:], ""], strict=True):
        if word in ("--data", "--cache") and following:
            found += [word, following]
        elif word.startswith(("--data=", "--cache=")):
            found.append(word)
    return found


def build_report_parser() -> argparse.ArgumentParser:
    """The parser of `python -m tuner.report`."""
    parser = CommandParser(
        prog="python -m tuner.report",
        description="Write the report of a run: one HTML page, the leaderboard, Parquet tables, figures.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "runs",
        nargs="*",
        metavar="RUN",
        help="a run directory, for example runs/cifar100, or its copy in a storage, s3://...; several: compared",
    )
    parser.add_argument("--all", action="store_true", help="a page of all runs in --runs, with links to their reports")
    parser.add_argument(
        "--runs",
        type=Path,
        default=Path("runs"),
        metavar="DIR",
        dest="runs_dir",
        help="where runs are kept (default: runs)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="where the report goes (default: reports/NAME of the run directory; reports/comparison; reports)",
    )
    parser.add_argument(
        "--format",
        nargs="+",
        choices=_FORMATS,
        default=list(_FORMATS),
        metavar="FORMAT",
        help="file formats of the figures: png, svg or both (default: both)",
    )
    parser.add_argument("--nice", action="store_true", help="at the lowest priority, to disturb no search")
    parser.add_argument("--end-with-stdin", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--version", action="version", version=f"tuner {__version__}")
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
        end_with_stdin()
    formats, reports = tuple(dict.fromkeys(options.format)), Path("reports")
    if options.all:
        return run_command(lambda: _report_all(options.runs_dir, options.output or reports))
    if len(options.runs) > 1:
        return run_command(lambda: _compare(options.runs, options.output or reports / "comparison", formats))
    (run,) = options.runs
    return run_command(lambda: _report(run, options.output, formats))


def _read(text: str) -> tuple[str, RunState]:
    """A run's name and its state; raises RunError when it cannot be read."""
    from tuner.runs.mirror import opened
    from tuner.runs.record import read_state

    with opened(text) as run:
        return shown(Path(run.name)), read_state(run.record)


def _compare(texts: Sequence[str], output: Path, formats: tuple[Format, ...]) -> int:
    from tuner.reports.comparison import compare_runs
    from tuner.reports.results import build_results

    runs = [_read(text) for text in texts]
    comparison = compare_runs([(name, build_results(state)) for name, state in runs])
    _make_directory(output)
    from tuner.common.files import write_text
    from tuner.reports.comparison_page import render_comparison  # matplotlib

    with _writing_to(output):
        page = write_text(output / "index.html", render_comparison(comparison, output, formats))
    _print_path(page)
    return 0


def _report_all(runs_dir: Path, output: Path) -> int:
    """Runs that cannot be read are named, and the others reported."""
    from tuner.common.files import write_text
    from tuner.reports.comparison_page import render_overview
    from tuner.reports.results import build_results

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
    _make_directory(output)
    with _writing_to(output):
        _print_path(write_text(output / "index.html", render_overview(found)))
    for problem in problems:
        print(f"left out: {problem}", file=sys.stderr)
    return 1 if problems else 0


def _report(text: str, output: Path | None, formats: tuple[Format, ...]) -> int:
    from tuner.runs.mirror import opened
    from tuner.runs.record import read_state

    with opened(text) as run:
        state = read_state(run.record)
        folder = output or Path("reports") / run.name
        paths = write_report(state, folder, retrain_command(run.path, state), formats, run)
    for path in (paths.page, paths.leaderboard, paths.trials, paths.epochs, paths.finalists, *paths.figures):
        _print_path(path)
    return 0


def _print_path(path: Path) -> None:
    print(printable(shown(path)))


if __name__ == "__main__":
    gc.disable()  # a large record is a million objects that stay: to look for garbage among them takes long
    raise SystemExit(main())
