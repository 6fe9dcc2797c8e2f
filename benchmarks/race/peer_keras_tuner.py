"""KerasTuner's Hyperband, as https://keras.io/keras_tuner/getting_started/ shows it.

The batch size is tuned by a HyperModel with its own `fit`, and trainings stop early by a callback of `search`: both as
documented. Hyperband starts at random: it cannot be told a first configuration.
"""

from __future__ import annotations

from typing import Any

import keras
import keras_tuner

from benchmarks.race import workload
from benchmarks.race.peer import Search
from benchmarks.race.peer_model import EpochLog, build_model


class TransferModel(keras_tuner.HyperModel):
    """The workload's space, its model and its training."""

    def __init__(self, search: Search) -> None:
        super().__init__()
        self._search = search
        self._fits = 0

    def build(self, hp: Any) -> keras.Model:
        configuration = {
            "unfreeze_depth": hp.Int("unfreeze_depth", *workload.UNFREEZE_DEPTH),
            "head_units": hp.Choice("head_units", list(workload.HEAD_UNITS)),
            "dropout": hp.Float("dropout", *workload.DROPOUT),
            "learning_rate": hp.Float("learning_rate", *workload.LEARNING_RATE, sampling="log"),
        }
        hp.Choice("batch_size", list(workload.BATCH_SIZE))  # here and not in fit: known before the first trial
        return build_model(configuration, self._search.image_px)

    def fit(self, hp: Any, model: keras.Model, *args: Any, callbacks: list[Any], **options: Any) -> Any:
        self._fits += 1
        configuration = {name: hp.get(name) for name in workload.BASELINE}
        log = EpochLog(self._search, str(self._fits), configuration)
        return model.fit(*args, batch_size=hp.get("batch_size"), callbacks=[*callbacks, log], **options)


def run(search: Search) -> None:
    keras.utils.set_random_seed(search.seed)
    data = workload.load_images(search.data)
    tuner = keras_tuner.Hyperband(
        TransferModel(search),
        objective="val_accuracy",
        max_epochs=workload.MAX_EPOCHS,
        factor=3,
        hyperband_iterations=1000,  # until the time is up
        seed=search.seed,
        directory=search.scratch,
        project_name="race",
    )
    stop_early = keras.callbacks.EarlyStopping("val_accuracy", patience=workload.PATIENCE_EPOCHS)
    tuner.search(
        data["x_train"],
        data["y_train"],
        validation_data=(data["x_validation"], data["y_validation"]),
        callbacks=[stop_early],
        verbose=0,
    )
