"""The best trial's model as a file that anyone with Keras can use."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from tuner.backend import configure_backend
from tuner.datasets import Dataset
from tuner.errors import RunError
from tuner.files import write_text
from tuner.record import RunState
from tuner.runs import RunDirectory
from tuner.seeds import trial_seed
from tuner.trial_settings import ActivationSettings, TrialSettings


def export_best(
    run: RunDirectory,
    state: RunState,
    dataset: Dataset,
    settings: TrialSettings,
    activations: ActivationSettings | None,
    cpus: float,
) -> Path:
    """Write the best trial's model with its best weights, and the class names beside it; returns the model's path.

    The model takes raw images `[N, H, W, C]` of the data set's size, values 0..255, and loads without tuner.

    Raises:
        RunError: no trial has a checkpoint.
    """
    best = state.best_trial()
    if best is None or best.checkpoint is None:
        raise RunError(f"{run.path}: no trial has a checkpoint, so there is no model to export")
    configure_backend(cpus)
    from tuner.activations import Activations
    from tuner.trial import Trial

    kept = Activations(dataset, activations, notify=lambda _text: None) if activations else None
    trial = Trial(best.configuration, dataset, replace(settings, seed=trial_seed(settings.seed, best.number)), kept)
    trial.load(run.path / best.checkpoint.path)
    while trial.best != best.best and trial.epoch < best.epochs[-1].epoch and trial.ended is None:
        trial.advance()  # checkpoints are not written after every epoch
    trial.restore_best()
    aside = run.best_model.with_name("partial." + run.best_model.name)
    trial.model.save(aside)
    aside.replace(run.best_model)
    write_text(run.labels, json.dumps(list(dataset.class_names), ensure_ascii=False, indent=1))
    return run.best_model
