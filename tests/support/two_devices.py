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

from tuner.datasets.loading import Dataset, load_dataset
from tuner.datasets.request import DataRequest
from tuner.models.backend import configure_backend, local, on_all_devices, parted, replicate
from tuner.models.export import load_model
from tuner.training import activations
from tuner.training.activations import Activations
from tuner.training.compiled_models import CompiledModels
from tuner.training.settings import ActivationSettings, TrialSettings
from tuner.training.trial import Trial

SETTINGS = TrialSettings(2, 1, None, 0.0, "val_accuracy", "max", 7)
DENSE = {"architecture": "dense", "hidden_layers": 1, "dense_units": 16, "dropout": 0.0, "learning_rate": 0.01}
BACKBONE = {
    "architecture": "mobilenet_v2", "alpha": 0.35, "weights": "none", "preprocess": "resize(32)|scale(-1,1)",
    "unfreeze_depth": 1, "dropout": 0.0, "batch_size": 32, "learning_rate": 0.003,
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


def advanced(trial: Trial) -> Trial:
    """Return a trial after all its epochs, whose values are kept as `told`."""
    trial.told = []  # type: ignore[attr-defined]
    while trial.ended is None:
        epoch = trial.advance()
        assert epoch is not None, trial.ended
        trial.told.append({**epoch.metrics, "rate": epoch.learning_rate})  # type: ignore[attr-defined]
    return trial


def numbers(trial: Trial) -> list[np.ndarray]:
    """Return what must be the same: values of epochs, weights and predictions."""
    told = [list(epoch.values()) for epoch in trial.told]  # type: ignore[attr-defined]
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


def same_trials(data: Dataset, folder: Path) -> Iterator[tuple[str, float]]:
    """Yield how far trials on two devices are from those on one, by what is looked at."""
    ways: dict[str, dict[str, Any]] = {
        "weights, a last batch of one image": {**DENSE, "batch_size": REMAINDER_OF_ONE, "class_weight": "balanced"},
        "mixed labels, odd batches": {**DENSE, "batch_size": ODD, "augment": "mixup(0.3)", "loss": "focal"},
    }
    for name, configuration in ways.items():
        yield name, apart(*map(numbers, on_one_and_two(lambda: advanced(Trial(configuration, data, SETTINGS)))))  # noqa: B023
    there = replace(SETTINGS, augments_on_device=True)
    moved = {**DENSE, "batch_size": ODD, "augment": "flip|mixup(0.3)"}
    pair = on_one_and_two(lambda: advanced(Trial(moved, data, there)))
    assert pair[1]._trainer.augment is not None
    yield "images augmented on the device", apart(*map(numbers, pair))
    asked = replace(SETTINGS, other_metrics=("val_balanced_accuracy",))
    predicted = on_one_and_two(lambda: advanced(Trial({**DENSE, "batch_size": ODD}, data, asked)))
    yield "values of predictions", apart(*map(numbers, predicted))

    def cached() -> Trial:
        kept = Activations(data, ActivationSettings(folder, "float32", 2**30), print)
        trial = advanced(Trial(BACKBONE, data, SETTINGS, kept))
        assert trial.cut is not None
        return trial

    yield "cached activations, unfrozen block", apart(*map(numbers, on_one_and_two(cached)))


def resumed(data: Dataset, folder: Path) -> Iterator[tuple[str, float]]:
    """Yield how far trials that go on from a checkpoint, or use an earlier network, are from those that need not."""
    expected = numbers(advanced(Trial(SMOOTH, data, SETTINGS)))
    models = CompiledModels()
    advanced(Trial({**SMOOTH, "learning_rate": 0.1, "dropout": 0.1, "batch_size": 60}, data, SETTINGS, None, models))
    yield "an earlier network", apart(numbers(advanced(Trial(SMOOTH, data, SETTINGS, None, models))), expected)
    paused, going_on = Trial(SMOOTH, data, SETTINGS), Trial(SMOOTH, data, SETTINGS)
    paused.advance()
    paused.save(folder)
    going_on.load(folder)
    yield "a checkpoint", apart(numbers(advanced(going_on))[1:], expected[1:])


def without_memory(data: Dataset) -> tuple[int, float]:
    """Return the size of batches of a trial whose first epoch had no memory, and how far it is from one with that."""

    def made() -> Trial:
        trial = Trial({**DENSE, "batch_size": 32}, data, SETTINGS)
        fit, asked = trial._trainer.network.fit, []

        def failing(*arguments: Any, **named: Any) -> Any:
            asked.append(None)
            if len(asked) == 1:
                raise tensorflow.errors.ResourceExhaustedError(None, None, "no memory")
            return fit(*arguments, **named)

        trial._trainer.network.fit = failing
        return advanced(trial)

    one, two = on_one_and_two(made)
    return two.batch_size_used, apart(numbers(one), numbers(two))


def exported(data: Dataset, path: Path) -> float:
    """Return how far predictions of an exported model, loaded on one device, are from the trial's."""
    trial = advanced(Trial(SMOOTH, data, SETTINGS))
    trial.save_model(path)
    images = data.validation.batch(np.arange(20))[0]
    return apart([load_model(path).predict_on_batch(images)], [trial.probabilities(data.validation)[:20]])


def noisy(data: Dataset) -> tuple[float, float]:
    """Return the accuracies after some epochs with dropout and batch statistics, on one device and on two."""
    configuration = {
        **BACKBONE,
        "unfreeze_depth": 0,
        "head_batch_normalization": True,
        "head_units": 32,
        "dropout": 0.2,
    }
    settings = replace(SETTINGS, max_epochs=6)
    trials = on_one_and_two(lambda: advanced(Trial(configuration, data, settings)))
    for variable in trials[1].model.variables:
        copies = [copy.numpy() for copy in variable.value.values]
        assert variable.name == "seed_generator_state" or all((copies[0] == copy).all() for copy in copies), variable
    return tuple(trial.told[-1]["val_accuracy"] for trial in trials)  # type: ignore[return-value]


OPTIMIZERS: dict[str, Callable[[], Any]] = {
    "clipped": lambda: keras.optimizers.Adam(0.1, clipnorm=0.01),
    "clipped as a whole": lambda: keras.optimizers.SGD(0.1, global_clipnorm=0.01, momentum=0.9),
    "accumulating, averaging": lambda: keras.optimizers.AdamW(0.1, gradient_accumulation_steps=2, use_ema=True),
    "with a product of its own": lambda: keras.optimizers.Nadam(0.1),
}


def optimized(make: Callable[[], Any]) -> tuple[np.ndarray, np.ndarray]:
    """Return weights after some steps with an optimizer on one device, and on two; sums of rows of unequal size."""
    x, y = np.random.default_rng(0).normal(size=(2, 21, 4)).astype(np.float32)

    def trained() -> Any:
        with on_all_devices():
            inputs = keras.Input((4,))
            outputs = keras.layers.Dense(4, kernel_initializer="ones", kernel_regularizer="l2")(inputs)
            optimizer = local(make())
            network = keras.Model(inputs, outputs)
        network = parted(network)
        network.compile(optimizer=optimizer, loss="mse", jit_compile=False, steps_per_execution=4)
        with on_all_devices():
            optimizer.build(network.trainable_variables)
        network.fit(x, y, batch_size=5, epochs=2, shuffle=False, verbose=0)
        return np.concatenate([keras.ops.convert_to_numpy(one).ravel() for one in network.trainable_variables])

    return on_one_and_two(trained)


def main(folder: Path) -> dict[str, Any]:
    """Return all that is looked at."""
    configure_backend(2)
    activations.is_worth_keeping = lambda *_: True
    data = data_in(folder)
    found: dict[str, Any] = {"same": dict(same_trials(data, folder))}
    found["devices"] = len(tensorflow.config.list_logical_devices("CPU"))
    found["resumed"] = dict(resumed(data, folder))
    found["halved"] = without_memory(data)
    found["exported"] = exported(data, folder / "model.keras")
    found["noisy"] = noisy(data)
    found["optimizers"] = {name: apart(*([one] for one in optimized(make))) for name, make in OPTIMIZERS.items()}
    return found


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
