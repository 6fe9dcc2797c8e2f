"""Ray Tune with OptunaSearch and the ASHA scheduler, as Ray's documentation shows it: a function, one CPU per trial.

Better off than with the documented defaults: actors are reused (TensorFlow is imported once per worker, not per
trial), no checkpoint is written, no dashboard runs, and the arrays are put into the object store once. TensorFlow's
threads are left as they are; Ray sets OMP_NUM_THREADS=1 in its workers. There is no early stopping beside ASHA: this
searcher is told the last value, and a trial that ends by itself never enters ASHA's later rungs.
"""

from __future__ import annotations

import os
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch

from benchmarks.race import workload
from benchmarks.race.peer import Search


def train(configuration: dict[str, Any], search: Search, data: dict[str, Any]) -> None:
    """One trial, in a worker."""
    import keras
    from ray.tune.integration.keras import TuneReportCheckpointCallback

    from benchmarks.race.peer_model import EpochLog, build_model

    keras.backend.clear_session()
    keras.utils.set_random_seed(search.seed)
    model = build_model(configuration, search.image_px)
    model.fit(
        data["x_train"],
        data["y_train"],
        batch_size=configuration["batch_size"],
        epochs=workload.MAX_EPOCHS,
        validation_data=(data["x_validation"], data["y_validation"]),
        callbacks=[
            EpochLog(search, tune.get_context().get_trial_id(), configuration),
            TuneReportCheckpointCallback(metrics=["val_accuracy"], checkpoint_on=[]),
        ],
        verbose=0,
    )


def run(search: Search) -> None:
    cpus = os.cpu_count() or 1
    ray.init(num_cpus=cpus, include_dashboard=False)
    trainable = tune.with_parameters(train, search=search, data=workload.load_images(search.data))
    tuner = tune.Tuner(
        tune.with_resources(trainable, {"cpu": 1}),
        param_space={
            "unfreeze_depth": tune.randint(workload.UNFREEZE_DEPTH[0], workload.UNFREEZE_DEPTH[1] + 1),
            "head_units": tune.choice(workload.HEAD_UNITS),
            "dropout": tune.uniform(*workload.DROPOUT),
            "learning_rate": tune.loguniform(*workload.LEARNING_RATE),
            "batch_size": tune.choice(workload.BATCH_SIZE),
        },
        tune_config=tune.TuneConfig(
            metric="val_accuracy",
            mode="max",
            search_alg=OptunaSearch(points_to_evaluate=[dict(workload.BASELINE)], seed=search.seed),
            scheduler=ASHAScheduler(max_t=workload.MAX_EPOCHS, grace_period=1, reduction_factor=3),
            num_samples=10_000,  # until the time is up
            max_concurrent_trials=cpus,
        ),
        run_config=tune.RunConfig(storage_path=str(search.scratch), name="race"),
    )
    tuner.fit()
