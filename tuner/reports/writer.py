"""The report of a run as files: page, leaderboard, tables and figures, made from its record."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tuner.common.errors import InputError, TunerError
from tuner.common.files import check_folder, shown, write_text
from tuner.reports._leaderboard import FigureLink, leaderboard_markdown, page_texts
from tuner.reports._page import render_page
from tuner.reports._tables import epochs_table, finalists_table, save_table, trials_table
from tuner.reports.results import build_results
from tuner.runs.directory import RunDirectory
from tuner.runs.finalists import summarise_finalists
from tuner.runs.predictions import load_predictions, load_variants
from tuner.runs.state import RunState

if TYPE_CHECKING:
    from tuner.reports.figures.registry import Format


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
    formats: Sequence[Format] = ("png", "svg"),
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
    results = build_results(
        state,
        load_predictions(run.predictions) if run is not None else None,
        load_variants(run.variants) if run is not None else (),
    )
    make_directory(directory)
    from tuner.reports.figures.registry import save_figures  # matplotlib may have to look for fonts: not before

    has_model = run is not None and run.best_model.is_file() and results.winner is not None
    predict_command = _predict_command(run) if run is not None and has_model else None
    with writing_to(directory):
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
    """Return the shell command that predicts with the best model."""
    return f"{shlex.join(['python', '-m', 'tuner.predict', _as_typed(run.path)])} IMAGE..."


def _as_typed(path: Path) -> str:
    """Return a path as the user would type it."""
    relative = os.path.relpath(path)
    return shown(path if relative.startswith("..") else Path(relative))


def make_directory(directory: Path) -> None:
    """Make the folder of a report.

    Raises:
        InputError: it cannot be made.
    """
    check_folder(directory, "the place of the report")
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{directory}: the folder of the report cannot be made: {error.strerror}") from None


@contextmanager
def writing_to(directory: Path) -> Iterator[None]:
    """Raise InputError or TunerError, with the path, for what the system says while the block writes a report."""
    try:
        yield
    except (IsADirectoryError, NotADirectoryError, PermissionError) as error:
        raise InputError(
            f"{error.filename2 or error.filename}: the report cannot be written: {error.strerror}"
        ) from None
    except OSError as error:
        raise TunerError(f"{directory}: the report cannot be written: {error.strerror or error}") from None


def retrain_command(run_path: Path, state: RunState) -> str | None:
    """Return the shell command that trains the best trial again, with its seed and the data the search was given.

    None when there is no best trial, or when the run directory no longer holds the specification.
    """
    finalists = summarise_finalists(state)
    best = state.trials[finalists[0].trial] if finalists else state.best_trial()
    if best is None or state.study is None or not (run_path / "specification.yaml").is_file():
        return None
    words = ["--retrain", _as_typed(run_path), str(best.number), *_data_options(state.study.command)]
    return shlex.join(["python", "-m", "tuner.search", *words])


def _data_options(command: Sequence[str]) -> list[str]:
    """Return the options of a search's command line that say where its data are."""
    found: list[str] = []
    for word, following in zip(command, [*command[1:], ""], strict=True):
        if word in ("--data", "--cache") and following:
            found += [word, following]
        elif word.startswith(("--data=", "--cache=")):
            found.append(word)
    return found
