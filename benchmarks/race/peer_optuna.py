"""Optuna with its Hyperband pruner, as its documentation and its Keras example show it: one process, one study."""

from __future__ import annotations

from typing import Any

import keras
import optuna

from benchmarks.race import workload
from benchmarks.race.peer import Search
from benchmarks.race.peer_model import EpochLog, build_model


class PruneCallback(keras.callbacks.Callback):
    """What KerasPruningCallback of optuna-integration does, with epochs counted from 1 as the pruner's rungs are."""

    def __init__(self, trial: optuna.Trial) -> None:
        super().__init__()
        self._trial = trial

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._trial.report(float((logs or {})["val_accuracy"]), step=epoch + 1)
        if self._trial.should_prune():
            raise optuna.TrialPruned


def suggest(trial: optuna.Trial) -> dict[str, Any]:
    """A configuration of the workload's space."""
    return {
        "unfreeze_depth": trial.suggest_int("unfreeze_depth", *workload.UNFREEZE_DEPTH),
        "head_units": trial.suggest_categorical("head_units", workload.HEAD_UNITS),
        "dropout": trial.suggest_float("dropout", *workload.DROPOUT),
        "learning_rate": trial.suggest_float("learning_rate", *workload.LEARNING_RATE, log=True),
        "batch_size": trial.suggest_categorical("batch_size", workload.BATCH_SIZE),
    }


def run(search: Search) -> None:
    keras.utils.set_random_seed(search.seed)
    data = workload.load_images(search.data)

    def objective(trial: optuna.Trial) -> float:
        keras.backend.clear_session()
        configuration = suggest(trial)
        model = build_model(configuration, search.image_px)
        history = model.fit(
            data["x_train"],
            data["y_train"],
            batch_size=configuration["batch_size"],
            epochs=workload.MAX_EPOCHS,
            validation_data=(data["x_validation"], data["y_validation"]),
            callbacks=[
                EpochLog(search, str(trial.number), configuration),
                keras.callbacks.EarlyStopping("val_accuracy", patience=workload.PATIENCE_EPOCHS),
                PruneCallback(trial),
            ],
            verbose=0,
        )
        return float(max(history.history["val_accuracy"]))

    study = optuna.create_study(
        direction="maximize",
        sampler=optuna.samplers.TPESampler(seed=search.seed),
        pruner=optuna.pruners.HyperbandPruner(min_resource=1, max_resource=workload.MAX_EPOCHS, reduction_factor=3),
    )
    study.enqueue_trial(dict(workload.BASELINE))
    study.optimize(objective)  # until the time is up
