"""`python -m tuner.report RUN`: the leaderboard, tables and figures of a run, made from its record.

Light at import: pyarrow and matplotlib are loaded when there is something to write. Ray and TensorFlow never are.
"""

from __future__ import annotations

import argparse
import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tuner import __version__
from tuner.cli import run_command
from tuner.errors import InputError, RunError, TunerError

if TYPE_CHECKING:
    from tuner.figures import Format
    from tuner.record import RunState

_FORMATS: tuple[Format, ...] = ("png", "svg")  # figures.FORMATS, without loading it; a test compares them
_EPILOG = """\
examples:
  python -m tuner.report runs/cifar100                          write reports/cifar100
  python -m tuner.report runs/cifar100 --output /tmp/report     write it elsewhere
  python -m tuner.report runs/cifar100 --format svg             figures for print only

The run may still be running: the report tells what is known now.
exit status: 0 done, 1 failed, 2 wrong input (nothing was written)
"""


@dataclass(frozen=True)
class ReportPaths:
    """The files of a report."""

    leaderboard: Path
    trials: Path
    epochs: Path
    figures: tuple[Path, ...]


def write_report(
    state: RunState,
    directory: Path,
    retrain_command: str | None = None,
    formats: Sequence[Format] = _FORMATS,
) -> ReportPaths:
    """Write the report of a run as it is known now; files of an earlier report there are replaced one by one.

    `retrain_command` is shown as what trains the best trial again; `formats` are those of the figures.

    Raises:
        InputError: `directory` cannot be made.
        RunError: the study's metric is none that epochs measure.
        TunerError: a file cannot be written.
    """
    from tuner.figures import save_figures
    from tuner.files import write_text
    from tuner.leaderboard import FigureLink, leaderboard_markdown
    from tuner.results import build_results
    from tuner.tables import epochs_table, save_table, trials_table

    results = build_results(state)
    _make_directory(directory)
    with _writing_to(directory):
        trials = save_table(trials_table(results), directory / "trials.parquet")
        epochs = save_table(epochs_table(results), directory / "epochs.parquet")
        figures = save_figures(results, directory / "figures", formats)
        links = [FigureLink(figure.paths[0].relative_to(directory).as_posix(), figure.alt) for figure in figures]
        text = leaderboard_markdown(results, retrain_command=retrain_command, figures=links)
        leaderboard = write_text(directory / "leaderboard.md", text)  # last: it names the others
    return ReportPaths(leaderboard, trials, epochs, tuple(path for figure in figures for path in figure.paths))


def _make_directory(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{directory}: must be a folder for the report; it cannot be made: {error.strerror}") from None


@contextmanager
def _writing_to(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise TunerError(f"{directory}: the report cannot be written: {error.strerror or error}") from None


def retrain_command(run_path: Path, state: RunState) -> str | None:
    """The shell command that trains the best trial again, with its seed and the data the search was given.

    None when there is no best trial, or when the run directory no longer holds the specification.
    """
    best = state.best_trial()
    if best is None or state.study is None or not (run_path / "specification.yaml").is_file():
        return None
    relative = os.path.relpath(run_path)
    path = str(run_path) if relative.startswith("..") else relative
    words = ["--retrain", path, str(best.number), *_data_options(state.study.command)]
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
    parser = argparse.ArgumentParser(
        prog="python -m tuner.report",
        description="Write the leaderboard, the Parquet tables and the figures of a run.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="a run directory, for example runs/cifar100")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="where the report goes (default: reports/NAME, with the name of the run directory)",
    )
    parser.add_argument(
        "--format",
        nargs="+",
        choices=_FORMATS,
        default=list(_FORMATS),
        metavar="FORMAT",
        help="file formats of the figures: png, svg or both (default: both)",
    )
    parser.add_argument("--version", action="version", version=f"tuner {__version__}")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    options = build_report_parser().parse_args(arguments)
    output = options.output or Path("reports") / options.run.resolve().name
    return run_command(lambda: _report(options.run, output, tuple(dict.fromkeys(options.format))))


def _report(run_path: Path, output: Path, formats: tuple[Format, ...]) -> int:
    from tuner.record import read_state
    from tuner.runs import open_run

    run = open_run(run_path)
    try:
        state = read_state(run.record)
    except OSError as error:
        raise RunError(f"{run.record}: cannot be read: {error.strerror or error}") from None
    paths = write_report(state, output, retrain_command(run.path, state), formats)
    for path in (paths.leaderboard, paths.trials, paths.epochs, *paths.figures):
        print(path)  # noqa: T201  what the command is asked for
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
