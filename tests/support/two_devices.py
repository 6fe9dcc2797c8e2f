"""A process of its own whose processor is parted into two devices; prints, as JSON, what training on both shows.

python -m tests.support.two_devices FOLDER
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow

from tests.support.small_mobilenet import small_mobilenet_v2
from tuner.datasets.loading import Dataset, load_dataset
from tuner.datasets.request import DataRequest
from tuner.models.backend import configure_backend
from tuner.models.data_parallel import local, on_all_devices, parted, replicate
from tuner.models.export import load_model
from tuner.training import activations
from tuner.training.activations import Activations
from tuner.training.compiled_models import CompiledModels
from tuner.training.recipes.numbers import Position, numbers_of
from tuner.training.recipes.optimizers import build_optimizer
from tuner.training.settings import ActivationSettings, TrialSettings
from tuner.training.trial import Trial

SETTINGS = TrialSettings(2, 1, None, 0.0, "val_accuracy", "max", 7)
DENSE = {"architecture": "dense", "hidden_layers": 1, "dense_units": 16, "dropout": 0.0, "learning_rate": 0.01}
BACKBONE = {
    "architecture": "mobilenet_v2", "alpha": 0.35, "weights": "none", "preprocess": "resize(32)|scale(-1,1)",
    "unfreeze_depth": 1, "dropout": 0.0, "batch_size": 32, "learning_rate": 0.003,
}  # fmt: skip
BLOCKS = {
    "optimizer": "adamw", "layer_decay": 0.5, "clip_norm": 0.1, "schedule": "cosine", "warmup_epochs": 1,
    "weight_decay": 0.01,
}  # fmt: skip
SMOOTH = {**DENSE, "dropout": 0.4, "batch_size": 30}
REMAINDER_OF_ONE, ODD = 101, 33
"""Of 203 images."""


def data_in(folder: Path) -> Dataset:
    """Return digits of which the last batch is never full, and every image weighs something else."""
    whole = load_dataset(DataRequest("digits"), staged={}, seed=0, cache_dir=folder, notify=lambda _text: None)
    weights = np.linspace(0.5, 2.0, 203, dtype=np.float32)
    train = replace(whole.train.take(np.arange(203)), weights=weights)
    return replace(whole, train=train, validation=whole.validation.take(np.arange(77)))


class ToldTrial(Trial):
    """A trial that keeps the values of its epochs."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.told: list[dict[str, float]] = []

    def to_the_end(self) -> ToldTrial:
        """Train all epochs."""
        while self.ended is None:
            epoch = self.advance()
            assert epoch is not None, self.ended
            self.told.append({**epoch.metrics, "rate": epoch.learning_rate})
        return self


def numbers(trial: ToldTrial) -> list[np.ndarray]:
    """Return what must be the same: values of epochs, weights and predictions."""
    told = [list(epoch.values()) for epoch in trial.told]
    weights = [keras.ops.convert_to_numpy(one) for one in trial.model.variables if "float" in one.dtype]
    return [np.array(told), *weights, trial.probabilities(trial.data.validation)]


def apart(one: list[np.ndarray], other: list[np.ndarray]) -> float:
    """Return the largest difference."""
    return max(float(np.abs(a - b).max()) for a, b in zip(one, other, strict=True))


def on_one_and_two(make: Callable[[], Any]) -> tuple[Any, Any]:
    """Return what is made on one device, and on two."""
    found = []
    for devices in (1, 2):
        replicate(devices)
        found.append(make())
    return found[0], found[1]


def pair(
    configuration: dict[str, Any], data: Dataset, settings: TrialSettings = SETTINGS
) -> tuple[ToldTrial, ToldTrial]:
    """Return a trial that has ended, on one device and on two."""
    return on_one_and_two(lambda: ToldTrial(configuration, data, settings).to_the_end())


def same_trials(data: Dataset, folder: Path) -> Iterator[tuple[str, float]]:
    """Yield how far trials on two devices are from those on one, by what is looked at."""
    recipe = {"gradient_accumulation": 2, "ema": 0.9, "clip_norm": 0.1, "momentum": 0.5, "optimizer": "sgd"}
    weighed = {**DENSE, "batch_size": REMAINDER_OF_ONE, "class_weight": "balanced", "learning_rate": 0.1, **recipe}
    yield "weights, a last batch of one image, sums of gradients", apart(*map(numbers, pair(weighed, data)))
    moved = {**DENSE, "batch_size": ODD, "augment": "flip|mixup(0.3)", "loss": "focal"}
    there = pair(moved, data, replace(SETTINGS, augments_on_device=True))
    assert there[1]._trainer.augment is not None
    yield "images augmented on the device, mixed labels, odd batches", apart(*map(numbers, there))

    def cached() -> ToldTrial:
        kept = Activations(data, ActivationSettings(folder, "float32", 2**30), print)
        trial = ToldTrial({**BACKBONE, **BLOCKS}, data, SETTINGS, kept).to_the_end()
        assert trial.cut is not None
        return trial

    yield "cached activations, an unfrozen block with its own rate", apart(*map(numbers, on_one_and_two(cached)))


def resumed(data: Dataset, folder: Path) -> Iterator[tuple[str, float]]:
    """Yield how far trials that go on from a checkpoint, or use an earlier network, are from those that need not."""
    expected = numbers(ToldTrial(SMOOTH, data, SETTINGS).to_the_end())
    models = CompiledModels()
    ToldTrial(
        {**SMOOTH, "learning_rate": 0.1, "dropout": 0.1, "batch_size": 60}, data, SETTINGS, None, models
    ).to_the_end()
    yield "an earlier network", apart(numbers(ToldTrial(SMOOTH, data, SETTINGS, None, models).to_the_end()), expected)
    paused = ToldTrial(SMOOTH, data, SETTINGS, None, models)
    paused.advance()
    paused.save(folder)
    going_on = ToldTrial(SMOOTH, data, SETTINGS, None, models)
    going_on.load(folder)
    yield "a checkpoint", apart(numbers(going_on.to_the_end())[1:], expected[1:])


def without_memory(data: Dataset) -> tuple[int, float]:
    """Return the size of batches of a trial whose first epoch had no memory, and how far it is from one with that.

    Its metrics are those of predictions.
    """
    asked = replace(SETTINGS, other_metrics=("val_balanced_accuracy",))

    def made() -> ToldTrial:
        trial = ToldTrial({**DENSE, "batch_size": 32}, data, asked)
        fit, calls = trial._trainer.network.fit, []

        def failing(*arguments: Any, **named: Any) -> Any:
            calls.append(None)
            if len(calls) == 1:
                raise tensorflow.errors.ResourceExhaustedError(None, None, "no memory")
            return fit(*arguments, **named)

        trial._trainer.network.fit = failing
        return trial.to_the_end()

    one, two = on_one_and_two(made)
    return two.batch_size_used, apart(numbers(one), numbers(two))


def exported(data: Dataset, folder: Path) -> float:
    """Return how far predictions on one device are from a trial's on two: of an exported model, and of a checkpoint."""
    trial = ToldTrial(SMOOTH, data, SETTINGS).to_the_end()
    expected = trial.probabilities(data.validation)
    trial.save_model(folder / "model.keras")
    (folder / "trial").mkdir()
    trial.save(folder / "trial")
    replicate(1)
    again = ToldTrial(SMOOTH, data, SETTINGS)
    again.load(folder / "trial")
    rows = np.arange(len(data.validation))
    loaded = load_model(folder / "model.keras").predict_on_batch(data.validation.batch(rows)[0])
    return max(apart([one], [expected]) for one in (loaded, again.probabilities(data.validation)))


NOISY = {**DENSE, "batch_normalization": True, "dropout": 0.2, "ema": 0.9, "batch_size": ODD}


def noisy(data: Dataset) -> tuple[float, float]:
    """Return the accuracies after some epochs with dropout and batch statistics, on one device and on two."""
    trials = pair(NOISY, data, replace(SETTINGS, max_epochs=12))
    optimizer = trials[1].optimizer
    averages = [average for average, _ in optimizer.averages()]
    assert len(averages) > len(trials[1].model.trainable_variables)  # those of batch statistics too
    for variable in (*trials[1].model.variables, *optimizer.variables, *averages):
        copies = [copy.numpy() for copy in variable.value.values]
        assert variable.name == "seed_generator_state" or all((copies[0] == copy).all() for copy in copies), variable
    return trials[0].told[-1]["val_accuracy"], trials[1].told[-1]["val_accuracy"]


OPTIMIZERS = ("lamb", "muon", "schedule_free_adamw")
"""Those whose steps are not of single numbers, or that keep what is trained elsewhere."""


def optimized(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return weights after some steps with an optimizer on one device, and on two; sums of rows of unequal size."""
    x, y = np.random.default_rng(0).normal(size=(2, 21, 4)).astype(np.float32)
    configuration = {"optimizer": name, "clip_norm": 0.5}

    def trained() -> Any:
        with on_all_devices():
            inputs = keras.Input((4,))
            hidden = keras.layers.Dense(4, kernel_initializer="ones", kernel_regularizer="l2")(inputs)
            network = keras.Model(
                inputs, keras.layers.Dense(4, kernel_initializer="ones", name="probabilities")(hidden)
            )
            optimizer = local(build_optimizer(configuration))
        network = parted(network)
        network.compile(optimizer=optimizer, loss="mse", jit_compile=False, steps_per_execution=4)
        with on_all_devices():
            optimizer.build(network.trainable_variables)
        optimizer.begin_phase()
        optimizer.begin_epoch(0.1, numbers_of(configuration, Position(0, 2, 5)))
        network.fit(x, y, batch_size=5, epochs=2, shuffle=False, verbose=0)
        return np.concatenate([keras.ops.convert_to_numpy(one).ravel() for one in network.trainable_variables])

    return on_one_and_two(trained)


def main(folder: Path) -> dict[str, Any]:
    """Return all that is looked at."""
    configure_backend(2)
    activations.is_worth_keeping = lambda *_: True
    keras.applications.MobileNetV2 = small_mobilenet_v2
    data = data_in(folder)
    found: dict[str, Any] = {"same": dict(same_trials(data, folder))}
    found["devices"] = len(tensorflow.config.list_logical_devices("CPU"))
    found["resumed"] = dict(resumed(data, folder))
    found["halved"] = without_memory(data)
    found["exported"] = exported(data, folder)
    found["noisy"] = noisy(data)
    found["optimizers"] = {name: apart(*([one] for one in optimized(name))) for name in OPTIMIZERS}
    return found


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
