"""A run in the files of others: CSV, LaTeX, an Optuna study."""

from __future__ import annotations

import csv
from argparse import Namespace
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuner.common.errors import InputError, RunError, first_line, without_passwords
from tuner.common.files import check_file, check_folder, replacing, user_path
from tuner.reports.formatting import describe_configuration, format_duration, format_value, safe_cell
from tuner.reports.results import Results, TrialResult
from tuner.runs.directory import RunDirectory
from tuner.runs.events import SessionStarted, StudyCreated
from tuner.runs.state import RunState

if TYPE_CHECKING:
    from optuna.study import Study as OptunaStudy

    from tuner.spec.space import Space

LATEX_ROWS = 20
_LATEX = str.maketrans({
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "\n": " ", "\t": " ", "\r": " ",
})  # fmt: skip


def check_targets(options: Namespace) -> None:
    """Raise InputError for a place named by the options that cannot be written to, before anything is written."""
    for name in ("csv", "latex", "study", "litert"):
        if path := getattr(options, name):
            check_file(user_path(path), f"--{name}")
    if options.saved_model:
        check_folder(user_path(options.saved_model), "--saved-model")


def save_csv(results: Results, path: Path) -> Path:
    """Write all trials with all columns of trials.parquet, those with a rank first; no cell is a formula."""
    from tuner.reports.tables import trials_table

    table = trials_table(results)
    rows = sorted(table.to_pylist(), key=lambda row: (row["rank"] is None, row["rank"] or 0, row["trial"]))
    with replacing(path) as aside, aside.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([safe_cell(name) for name in table.column_names])
        for row in rows:
            cells = ["" if value is None else value for value in row.values()]
            writer.writerow([safe_cell(cell) if isinstance(cell, str) else cell for cell in cells])
    return path


def save_latex(results: Results, path: Path) -> Path:
    """Write the best trials as a table for a paper, with the rules of the package booktabs."""
    names = results.differing_within
    metric = latex_text(results.metric.replace("_", " "))
    lines = [
        r"% needs \usepackage{booktabs}",
        r"\begin{tabular}{rrrllrr}",
        r"\toprule",
        rf"rank & trial & {metric} & architecture & configuration & epochs & time \\",
        r"\midrule",
        *(_latex_row(results, trial, names) for trial in results.ranked[:LATEX_ROWS]),
        r"\bottomrule",
        r"\end{tabular}",
    ]
    with replacing(path) as aside:
        aside.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _latex_row(results: Results, trial: TrialResult, names: Sequence[str]) -> str:
    cells = [
        str(trial.rank),
        trial.label,
        format_value(results.metric, trial.best),
        trial.architecture,
        describe_configuration(trial.configuration, names),
        str(len(trial.epochs)),
        format_duration(trial.seconds),
    ]
    return " & ".join(latex_text(cell) for cell in cells) + r" \\"


def latex_text(text: str) -> str:
    r"""Escape `text` for LaTeX.

    >>> print(latex_text("mobilenet_v2 & 50%"))
    mobilenet\_v2 \& 50\%
    """
    return text.translate(_LATEX)


def save_optuna(run: RunDirectory, state: RunState, url: str) -> str:
    """Add the run as a new study to an Optuna storage; return the name of the study there.

    Completed trials are COMPLETE, stopped ones PRUNED, failed ones FAIL, all with the values of their epochs, so that
    `optuna-dashboard` shows them; what still runs is left out.

    Raises:
        InputError: the storage cannot be opened, or has a study of this name.
        RunError: the specification of the run is missing.
    """
    import optuna
    from optuna.samplers import RandomSampler
    from sqlalchemy.exc import SQLAlchemyError

    from tuner.algorithms.study import SearchStudy
    from tuner.spec.spec import load_spec, require

    if state.study is None or not run.specification.is_file():
        raise RunError(f"{run.path}: must hold the specification of its search; there is no {run.specification.name}")
    spec = require(load_spec(run.specification))
    search = SearchStudy(spec.space, RandomSampler(seed=0), spec.mode)
    search.rebuild(state)
    study = search.optuna_study
    try:
        made = optuna.create_study(storage=url, study_name=run.name, direction=study.direction)
    except optuna.exceptions.DuplicatedStudyError:
        place = without_passwords(url)
        raise InputError(f"--optuna must name a storage without a study {run.name!r}; {place} has one") from None
    except (ImportError, ValueError, SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        rule = "--optuna must be an address such as sqlite:///study.db"
        raise InputError(without_passwords(f"{rule}; {url}: {first_line(error)}")) from None
    made.set_metric_names([spec.metric])
    made.add_trials(_optuna_trials(spec.space, study, state))
    return run.name


def _optuna_trials(space: Space, study: OptunaStudy, state: RunState) -> list[Any]:
    """Return the ended trials as Optuna keeps them, with the times at which they ran."""
    from optuna.trial import TrialState as OptunaState

    from tuner.algorithms.tpe import FAILED
    from tuner.spec.space import misfits

    ended = study.get_trials(states=(OptunaState.COMPLETE, OptunaState.PRUNED))  # not what was proposed in vain
    numbers = [
        number
        for number, trial in sorted(state.trials.items())
        if trial.status not in ("running", "paused") and not misfits(space, trial.configuration)
    ]
    for number, trial in zip(numbers, ended, strict=True):
        recorded = state.trials[number]
        if trial.user_attrs.get(FAILED):
            trial.state, trial.value = OptunaState.FAIL, None
        trial.user_attrs = {"trial": number, "reason": recorded.reason, "origin": recorded.origin}
        end_s = recorded.ended.elapsed_s if recorded.ended is not None else recorded.started_s
        trial.datetime_start, trial.datetime_complete = (_moment(state, one) for one in (recorded.started_s, end_s))
    return ended


def _moment(state: RunState, elapsed_s: float) -> datetime:
    """Return when a study had run for so many seconds, as its sessions tell: between two of them it did not run."""
    begun: list[StudyCreated | SessionStarted] = [*([state.study] if state.study is not None else []), *state.sessions]
    latest = next((one for one in reversed(begun) if one.elapsed_s <= elapsed_s), begun[0])
    return datetime.fromtimestamp(latest.time + elapsed_s - latest.elapsed_s)
