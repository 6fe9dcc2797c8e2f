"""A run as Python reads it: tables, figures, the report, the best model and its predictions."""

from __future__ import annotations

import html
import os
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuner.api._notebook import table_html
from tuner.common.errors import InputError, RunError
from tuner.common.files import as_typed, shown, user_path
from tuner.common.locations import download, is_remote, parse_location
from tuner.common.plugins import load_unless_imported, plugin_references
from tuner.common.process import logging_to, settled
from tuner.common.words import counted
from tuner.reports.formatting import format_value
from tuner.reports.results import Results, TrialResult, build_results
from tuner.runs.directory import RunDirectory, open_run
from tuner.runs.mirror import download_run
from tuner.runs.predictions import load_predictions, load_variants
from tuner.runs.record import read_state
from tuner.runs.state import RunState

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame

    from tuner.reports.figures.registry import Format

ROWS_SHOWN = 10


def load_run(
    path: str | os.PathLike[str], plugins: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = ()
) -> Run:
    """Return the run in a directory (`runs/digits`), or its copy in a storage (`s3://bucket/tuner/digits`).

    `plugins` are files or modules of own code that its model or its metrics need; they are loaded then.

    Raises:
        RunError: no run is there, or its record cannot be read.
    """
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"a run must be the path of its directory, or its address in a storage; got {path!r}")
    return Run(os.fspath(path), plugin_references(plugins))


class Report:
    """A written report; a notebook shows the way to its page."""

    def __init__(self, page: Path, problems: Sequence[str]) -> None:
        self.page = page
        self.problems = tuple(problems)
        """What could not be drawn."""

    def __fspath__(self) -> str:
        return str(self.page)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {as_typed(self.page)}>"

    def _repr_html_(self) -> str:
        link = html.escape(as_typed(self.page), quote=True)
        return f'<p>report: <a href="{link}" target="_blank">{link}</a></p>'


class Run:
    """Results of a search, also of one that is running: of a run on this machine always as they are now.

    A run in a storage is copied when it is loaded, and again by `refresh`.
    """

    def __init__(self, address: str, plugins: Sequence[str] = ()) -> None:
        self._address = address
        self._plugins = plugins
        self._has_code = not plugins
        self._copy: tempfile.TemporaryDirectory[str] | None = None
        self._read: tuple[object, RunState, Results] | None = None
        self.refresh()

    def refresh(self) -> Run:
        """Read the run anew, from its storage if it is there; return itself."""
        self._read = None
        if not is_remote(self._address):
            self._run = _opened(user_path(self._address).absolute())
        else:
            location = parse_location(self._address, "a run")
            self._copy = tempfile.TemporaryDirectory(prefix="tuner-")
            folder = RunDirectory(Path(self._copy.name) / location.name)
            self._run = download_run(location, folder.path, (folder.best_model.name, folder.log.name))
        self._now()
        return self

    @property
    def path(self) -> Path:
        """The run directory; of a run in a storage, its copy here."""
        return self._run.path

    @property
    def name(self) -> str:
        """The name of the run, which is that of its study, possibly with a number."""
        return shown(Path(self._run.name))

    @property
    def results(self) -> Results:
        """All trials as the reports see them."""
        return self._now()[1]

    @property
    def status(self) -> str:
        """`running` (or killed), `finished`, `time_budget`, `expected_gain`, `interrupted` or `error`; `not begun`."""
        results = self.results
        if not results.sessions:
            return "not begun"
        return "running" if results.session_ended is None else results.session_ended.reason

    def _now(self) -> tuple[RunState, Results]:
        run = self._run
        stamp = [_stamp(path) for path in (run.record, run.predictions, run.variants)]
        if self._read is None or self._read[0] != stamp:
            state = read_state(_opened(run.path).record)
            kept = (load_predictions(run.predictions), load_variants(run.variants))
            try:
                results = build_results(state, *kept)
            except RunError:  # a metric of own code
                if self._has_code:
                    raise
                self._load_code()
                results = build_results(state, *kept)
            self._read = (stamp, state, results)
        return self._read[1], self._read[2]

    def _load_code(self) -> None:
        """Load own code, once; what has changed since the search is warned of."""
        if not self._has_code:
            from tuner.api.code_of_run import load_code_for

            with _quiet(self._run):
                notices = load_code_for(self._run, self._plugins, load_unless_imported)
            self._has_code = True
            for text in notices:
                warnings.warn(text, stacklevel=3)

    # --- tables ---

    @property
    def trials(self) -> DataFrame:
        """One row for each trial: the columns of `trials.parquet` (docs/tables.md)."""
        from tuner.reports.tables import trials_table

        return _frame(trials_table(self.results))

    @property
    def epochs(self) -> DataFrame:
        """One row for each trial and epoch: the columns of `epochs.parquet`."""
        from tuner.reports.tables import epochs_table

        return _frame(epochs_table(self.results))

    @property
    def finalists(self) -> DataFrame:
        """One row for each training of a finalist: the columns of `finalists.parquet`."""
        from tuner.reports.tables import finalists_table

        return _frame(finalists_table(self.results))

    @property
    def probes(self) -> DataFrame:
        """One row for each frozen backbone and preprocessing that was probed: the columns of `probes.parquet`."""
        from tuner.reports.tables import probes_table

        return _frame(probes_table(self.results))

    @property
    def suspect_labels(self) -> DataFrame:
        """One row for each image whose label looks wrong: the columns of `suspect_labels.parquet`."""
        from tuner.reports.tables import suspect_labels_table

        return _frame(suspect_labels_table(self.results))

    @property
    def leaderboard(self) -> DataFrame:
        """The trials that have a value, the best first: finalists by what they reached when trained again, then others.

        `mean` is a finalist's value over its trainings, `test` its result on the test split, with a 95% interval.
        Hyperparameters of a name that is taken have the suffix `_hyperparameter`, as in the tables.
        """
        import pandas as pd

        from tuner.reports.tables import column_names

        results = self.results
        names = [*_LEADERBOARD, *column_names(results.differing_within, _LEADERBOARD).values()]
        rows = [_row(results, trial, results.differing_within) for trial in _in_order(results)]
        return pd.DataFrame(rows, columns=pd.Index(names), index=pd.RangeIndex(1, len(rows) + 1, name="place"))

    # --- the model ---

    def best_model(self) -> Any:
        """Return the exported model, a `keras.Model` that takes raw images `[N, H, W, C]`, values 0 to 255.

        Raises:
            RunError: the search has not ended yet, or the model cannot be loaded.
        """
        from tuner.api.code_of_run import brought_to
        from tuner.models.export import load_model

        run = self._with_model()
        with _quiet(run):
            return load_model(run.exported_model(), brought_to(run))

    def predict(self, images: Any, top: int = 1) -> DataFrame:
        """Return the most probable labels of images, as `python -m tuner.predict` does: `top` rows for each image.

        `images` is the path of an image or a folder, a source (`"csv:labels.csv"`), several of these, an array
        `[N, H, W]` or `[N, H, W, 1 or 3]`, or a table with a column of images. What cannot be read is warned of.

        Raises:
            InputError: no images are there, or their form is wrong.
            RunError: the run has exported no model yet.
        """
        from tuner.api.classifier import load_run_classifier, prediction_table

        run = self._with_model()
        with _quiet(run):
            table, problems = prediction_table(load_run_classifier(run), images, top)
        for text in problems:
            warnings.warn(text, stacklevel=2)
        return table

    def _with_model(self) -> RunDirectory:
        """Return the run directory with its model in it, which a copy lacks at first; own code is loaded then."""
        self._load_code()
        if self._copy is not None and not self._run.about_best.is_file():
            self.refresh()  # the search may have ended since, and left more than its model
        if self._copy is not None and self._run.exported is None:
            location = parse_location(self._address, "a run")
            try:
                download(location.child(self._run.best_model.name), self._run.best_model)
            except OSError:
                raise RunError(
                    f"{self._address}: has no {self._run.best_model.name} yet; it is written when the search has ended"
                ) from None
        return self._run

    # --- pictures and the report ---

    def figure(self, name: str) -> Figure:
        """Return a figure of the report by its name, such as `learning_curves` (docs/report.md).

        Raises:
            UnknownNameError: there is no such figure.
            RunError: this run has nothing to show in it.
        """
        from tuner.reports.figures.registry import draw_figure

        figure = draw_figure(name, self.results)
        if figure is None:
            raise RunError(f"{self._address}: there is nothing to show in the figure {name}, or not yet")
        setattr(figure, _ASKED_BY_NOTEBOOKS, partial(_as_png, figure))
        return figure

    def report(
        self, output: str | os.PathLike[str] | None = None, formats: Sequence[Format] = ("png", "svg")
    ) -> Report:
        """Write the report, as `python -m tuner.report` does: to `reports/NAME`, or the folder `output`.

        Raises:
            InputError: the folder cannot be written to.
        """
        from tuner.reports.writer import retrain_command, write_report

        state, _ = self._now()
        folder = Path("reports") / self._run.name if output is None else user_path(output)
        problems: list[str] = []
        command = retrain_command(self._run.path, state) if self._copy is None else None
        paths = write_report(state, folder, command, formats, self._run, problems.append)
        return Report(paths.page, problems)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._address}: {self.status}, {counted(len(self.results.trials), 'trial')}>"

    def _repr_html_(self) -> str:
        from tuner.reports.writer import verdict_html

        results = self.results
        names = ("place", "trial", "architecture", results.metric, "status", "epochs")
        rows = [
            (
                place,
                trial.label,
                trial.architecture,
                "" if trial.best is None else format_value(results.metric, trial.best),
                trial.status,
                len(trial.epochs),
            )
            for place, trial in enumerate(_in_order(results)[:ROWS_SHOWN], 1)
        ]
        title = f"<b>{html.escape(results.name or self.name)}</b>: {html.escape(self.status.replace('_', ' '))}"
        return f"<div>{title}{verdict_html(results)}{table_html(names, rows) if rows else ''}</div>"


_ASKED_BY_NOTEBOOKS = "_repr_png_"
_LEADERBOARD = (
    *("trial", "architecture", "status", "best", "mean", "test", "test_low", "test_high"),
    *("epochs", "seconds", "parameters"),
)


def _in_order(results: Results) -> list[TrialResult]:
    again = [trial for one in results.finalists if (trial := results.trial(one.trial)) is not None]
    return [*again, *(trial for trial in results.ranked if trial not in again)]


def _row(results: Results, trial: TrialResult, names: Sequence[str]) -> list[Any]:
    finalist = results.finalist(trial)
    mean = None if finalist is None else finalist.validation.mean
    test = (None, None, None) if finalist is None or finalist.test is None else tuple(finalist.test)[:3]
    beginning = [trial.number, trial.architecture, trial.status, trial.best, mean, *test]
    end = [len(trial.epochs), trial.seconds, trial.parameters]
    return [*beginning, *end, *(trial.configuration.get(name) for name in names)]


def _frame(table: Any) -> DataFrame:
    """Return an Arrow table as pandas has it, whole numbers and truth values whole where some are missing."""
    import pandas as pd
    import pyarrow as pa

    kinds = {pa.int64(): pd.Int64Dtype(), pa.bool_(): pd.BooleanDtype()}
    frame: DataFrame = table.to_pandas(types_mapper=kinds.get)
    return frame


def _opened(path: Path) -> RunDirectory:
    """Return the run at a path; raises RunError, which names the runs that lie in it, when it is none."""
    try:
        return open_run(path)
    except RunError as error:
        try:
            inner = sorted(one.parent.name for one in path.glob("*/record.jsonl"))
        except OSError:
            inner = []
        if not inner:
            raise RunError(str(error).replace(str(path), as_typed(path), 1)) from None
        raise RunError(f"{error}; it holds runs: {', '.join(inner[:10])}") from None


@contextmanager
def _quiet(run: RunDirectory) -> Iterator[None]:
    """Settle what Keras needs for the time of the block, and keep what libraries say in the log, as the commands do."""
    with settled(), logging_to(run.log, is_new=False):
        yield


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _as_png(figure: Figure) -> bytes:
    """Return a figure as a picture, in the style of the reports."""
    from tuner.reports.figures.registry import figure_png

    return figure_png(figure)
