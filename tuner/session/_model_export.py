"""The best model as a file that anyone with Keras can use, and what one must know to use it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tuner.common.errors import RunError, first_line
from tuner.common.files import write_text
from tuner.common.locations import Location, fetched
from tuner.common.seeds import trial_seed
from tuner.execution.worker_process import WorkerContext, WorkerProcess
from tuner.models.export import any_size
from tuner.runs.directory import RunDirectory
from tuner.runs.finalists import best_training, finalist_seed, summarise_finalists
from tuner.runs.pareto import comparable_values, metrics_of, pareto_front
from tuner.runs.state import RunState

if TYPE_CHECKING:
    from tuner.training.trial import Trial


def export_best(run: RunDirectory, state: RunState, context: WorkerContext, retrain_command: str | None) -> Path:
    """Write the best model with its best weights and what belongs to it; returns the model's path.

    The model takes raw images `[N, H, W, C]` of any size, values 0..255, and loads without tuner. It is the training
    of the winning finalist that did best on the validation split; without finalists, the best trial.

    Raises:
        RunError: no trial has reported an epoch, or a checkpoint is missing or damaged.
    """
    process = WorkerProcess(context)
    finalists = summarise_finalists(state)
    if finalists:
        number, seed_number = finalists[0].trial, best_training(state, finalists[0].trial)
        trial = load_finalist(process, run, state, number, seed_number or 0)
    else:
        number, trial = _best_trial(process, run, state)
    _save(trial, run.best_model)
    labels = list(trial.data.class_names)
    write_text(run.labels, json.dumps(labels, ensure_ascii=False, indent=1))
    about = {
        "study": state.study.study if state.study else "",
        "trial": number,
        "configuration": dict(trial.configuration),
        "image_shape": list(trial.data.image_shape),
        "labels": labels,
        "retrain": retrain_command,
        "environment": state.study.environment if state.study else {},
    }
    write_text(run.about_best, json.dumps(about, ensure_ascii=False, indent=1))
    return run.best_model


def export_front(run: RunDirectory, state: RunState, context: WorkerContext) -> list[Path]:
    """Write the models of the other finalists that are on the Pareto front, as `export_best` does; returns their paths.

    Raises:
        RunError: a finalist has no checkpoint.
    """
    metrics = metrics_of(state)
    on_front = pareto_front(comparable_values(state), metrics) if len(metrics) > 1 else ()
    process, written = WorkerProcess(context), []
    for finalist in summarise_finalists(state)[1:]:
        if finalist.trial in on_front:
            seed_number = best_training(state, finalist.trial) or 0
            trial = load_finalist(process, run, state, finalist.trial, seed_number)
            written.append(_save(trial, run.front_model(finalist.trial)))
    return written


def _save(trial: Trial, path: Path) -> Path:
    aside = path.with_name("partial." + path.name)
    any_size(trial.model, trial.data.image_shape).save(aside)
    return aside.replace(path)


def load_finalist(process: WorkerProcess, run: RunDirectory, state: RunState, trial: int, seed_number: int) -> Trial:
    """A finalist with its best weights; raises RunError when its checkpoint is missing or damaged."""
    seed = finalist_seed(process.context.settings.seed, seed_number)
    found = process.begin(dict(state.trials[trial].configuration), seed)
    with reading(run.finalist(trial, seed_number)) as folder:
        found.load(folder)
    found.restore_best()
    return found


def _best_trial(process: WorkerProcess, run: RunDirectory, state: RunState) -> tuple[int, Trial]:
    """The best trial of the search with its best weights."""
    best = state.best_trial()
    if best is None:
        raise RunError(f"{run.path}: no trial has reported an epoch, so there is no model to export")
    trial = process.begin(best.configuration, trial_seed(process.context.settings.seed, best.number))
    if best.checkpoint is not None:
        with reading(run.checkpoints.child(best.checkpoint.path)) as folder:
            trial.load(folder)
    while trial.best != best.best and trial.epoch < best.epochs[-1].epoch and trial.ended is None:
        trial.advance()  # checkpoints are not written after every epoch; a search killed at a trial's end may have none
    trial.restore_best()
    return best.number, trial


@contextmanager
def reading(location: Location) -> Iterator[Path]:
    """As `storage.fetched`; raises RunError when the storage cannot be read."""
    try:
        with fetched(location) as folder:
            yield folder
    except OSError as error:
        raise RunError(f"{location.address}: the checkpoint cannot be read: {first_line(error)}") from None
