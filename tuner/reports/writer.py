"""The report of a run as files, made from its record: once, or again and again while a search runs."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from tuner.common.errors import InputError, TunerError, printable
from tuner.common.files import as_typed, check_folder, write_text
from tuner.common.plugins import as_given
from tuner.common.process import environment_with_package, in_background
from tuner.datasets.account.facts import Account, load_account
from tuner.datasets.account.taking import Gallery
from tuner.reports._leaderboard import FigureLink, leaderboard_markdown, page_texts
from tuner.reports._page import as_html, render_data, render_page
from tuner.reports._probe_sections import suspect_sheets
from tuner.reports.data_section import DataView, data_markdown, data_verdict, data_view, draw_sheets, load_sheets
from tuner.reports.formatting import without_folders
from tuner.reports.results import Results, build_results
from tuner.reports.tables import TABLES, save_table
from tuner.runs.directory import RunDirectory
from tuner.runs.finalists import summarise_finalists
from tuner.runs.predictions import load_pictures, load_predictions, load_variants
from tuner.runs.state import RunState

if TYPE_CHECKING:
    from tuner.reports.figures.registry import Format

EVERY_S = 60.0
SHARE = 0.02
"""Most of the time that may go into reports: drawing must not slow the trials down."""
END_S = 10.0


Beside = Callable[[str], AbstractContextManager[None]]
"""Keeps what fails in its block from ending the search: it is said once, after these words (`SearchConsole.beside`)."""


@contextmanager
def reporting(
    run_path: Path, directory: Path, beside: Beside, every_s: float = EVERY_S, plugins: Sequence[str] = ()
) -> Iterator[None]:
    """Write the report of a run into `directory` from time to time, until the end of the block."""
    words = [str(run_path), "--output", str(directory), *(word for one in plugins for word in ("--plugin", one))]
    with in_background(lambda ended: _write_until(ended, words, directory, beside, every_s)):
        yield


def _write_until(ended: threading.Event, words: Sequence[str], directory: Path, beside: Beside, every_s: float) -> None:
    wait_s = every_s
    while not ended.wait(wait_s):
        started = time.monotonic()
        with beside("the report of the running search cannot be written"), tempfile.TemporaryFile() as said:
            process = _start(words, said)
            while process.poll() is None and not ended.wait(0.2):
                continue
            is_done = process.poll() is not None
            _end(process)
            for left in (
                *directory.glob(f".*.{process.pid}.partial"),
                *directory.glob(f"figures/.*.{process.pid}.partial"),
            ):
                left.unlink(missing_ok=True)
            if is_done and process.returncode:
                said.seek(0)
                lines = said.read().decode(errors="replace").strip().splitlines()
                raise TunerError(lines[-1] if lines else f"it ended with status {process.returncode}")
        wait_s = max(every_s, (time.monotonic() - started) / SHARE)


def _start(of_run: Sequence[str], said: IO[bytes]) -> subprocess.Popen[bytes]:
    words = ["-m", "tuner.report", *of_run, "--format", "png", "--nice"]
    # S603 asks whether words of others can get into a command: this is our own module, and without a shell the name of
    # a run is one argument, whatever is in it (tests/end_to_end/test_hostile_names.py).
    return subprocess.Popen(  # noqa: S603  our own module, and no shell: a run's name is one argument
        [sys.executable, *words, "--end-with-stdin"],
        env=environment_with_package(OMP_NUM_THREADS="1"),
        stdin=subprocess.PIPE,  # closed when this process ends, also by a kill
        stdout=subprocess.DEVNULL,
        stderr=said,
    )


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a report at once: files are renamed into place, so that one that is cut off leaves the one before it."""
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdin is not None:
        process.stdin.close()


def end_with_stdin() -> None:
    """End this process as soon as the search that has started it does, however it does.

    What it would write on then could replace the report of the next session by an older one.
    """

    def wait() -> None:
        os.read(0, 1)  # past Python's buffer: a thread that waits in it aborts the process at its end
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


@dataclass(frozen=True)
class ReportPaths:
    """The files of a report."""

    page: Path
    leaderboard: Path
    tables: Mapping[str, Path]
    """By their names."""
    figures: tuple[Path, ...]


def write_report(
    state: RunState,
    directory: Path,
    retrain_command: str | None = None,
    formats: Sequence[Format] = ("png", "svg"),
    run: RunDirectory | None = None,
    say: Callable[[str], None] | None = None,
) -> ReportPaths:
    """Write the report of a run as it is known now; files of an earlier report there are replaced one by one.

    `retrain_command` is shown as what trains the best trial again; `formats` are those of the figures; `run` is where
    the exported model and its predictions are, if they are to be shown; `say` is told of figures that cannot be drawn,
    which are left out then.

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

    has_model = run is not None and run.exported is not None and results.winner is not None
    predict_command = _predict_command(run, state) if run is not None and has_model else None
    with writing_to(directory):
        tables = {name: save_table(make(results), directory / f"{name}.parquet") for name, make in TABLES.items()}
        figures = save_figures(results, directory / "figures", formats, say)
        links = [FigureLink(figure.paths[0].relative_to(directory).as_posix(), figure.alt) for figure in figures]
        account = load_account(run.data) if run is not None else None
        data = data_markdown(account) if account is not None else ()
        text = leaderboard_markdown(results, retrain_command=retrain_command, figures=links, data=data)
        leaderboard = write_text(directory / "leaderboard.md", text)
        view = _view(run, account, results) if run is not None and account is not None else None
        shows_suspects = view is not None and bool(view.suspects)
        texts = page_texts(
            results,
            retrain_command=retrain_command,
            predict_command=predict_command,
            shows_suspects=shows_suspects,
        )
        page = write_text(directory / "index.html", render_page(results, texts, figures, view))  # it names the others
    return ReportPaths(page, leaderboard, tables, tuple(path for figure in figures for path in figure.paths))


def _view(run: RunDirectory, account: Account, results: Results) -> DataView:
    """Return what the page of a run shows of its data."""
    suspects = suspect_sheets(results, load_pictures(run.suspects))
    return data_view(account, load_sheets(run.contact_sheets))._replace(suspects=suspects)


def verdict_html(results: Results) -> str:
    """Return in a paragraph of HTML what won, as at the top of the report."""
    return as_html(page_texts(results).verdict)


def write_data_page(path: Path, account: Account, gallery: Gallery | None) -> None:
    """Write the page of a data set, with contact sheets of the classes in `gallery`.

    Raises:
        InputError: `path` cannot be written to.
    """
    sheets = draw_sheets(gallery) if gallery is not None else ()
    source = printable(without_folders(account.source))
    with writing_to(path.parent):
        write_text(path, render_data(source, data_verdict(account), data_view(account, sheets)))


def _predict_command(run: RunDirectory, state: RunState) -> str:
    """Return the shell command that predicts with the best model, with the own code that it needs."""
    words = ["python", "-m", "tuner.predict", as_typed(run.path)]
    own = plugin_options(state)
    return f"{shlex.join(words)} IMAGE...{' ' if own else ''}{shlex.join(own)}"


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
    words = ["--retrain", as_typed(run_path), str(best.number), *_options(state.study.command, ("--data", "--cache"))]
    words += plugin_options(state)
    return shlex.join(["python", "-m", "tuner.search", *words])


def plugin_options(state: RunState) -> list[str]:
    """Return the options of a command that needs the own code of a run."""
    plugins = state.study.plugins if state.study else ()
    return [word for one in plugins for word in ("--plugin", as_given(one))]


def _options(command: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return the options of these names from a search's command line, such as those that say where its data are."""
    found: list[str] = []
    for word, following in zip(command, [*command[1:], ""], strict=True):
        if word in names and following:
            found += [word, following]
        elif word.startswith(tuple(f"{name}=" for name in names)):
            found.append(word)
    return found
