"""What a process keeps between trials changes no number: a trial at a used bench is the trial at a new one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import keras
import numpy as np
import pytest

from tests.support.other_architectures import OTHERS, register
from tests.support.small_mobilenet import small_mobilenet_v2
from tuner.models.backbones import build_backbone
from tuner.models.parameters import OPTIMIZERS
from tuner.training.activations import Activations
from tuner.training.compiled_models import (
    STRUCTURES_KEPT,
    TRAINERS_KEPT,
    AdjustableDropout,
    Backbone,
    CompiledModels,
)
from tuner.training.settings import ActivationSettings, TrialSettings
from tuner.training.trial import Trial

SETTINGS = TrialSettings(
    max_epochs=2, head_epochs=1, patience=None, min_delta=0.0, metric="val_accuracy", mode="max", seed=7
)
CNN = {
    "architecture": "cnn", "blocks": 1, "convolutions_per_block": 1, "filters": 4, "dense_units": 16, "dropout": 0.4,
    "block_dropout": 0.2, "batch_normalization": True, "batch_size": 48, "learning_rate": 0.003,
}  # fmt: skip
DENSE = {"architecture": "dense", "hidden_layers": 2, "dense_units": 16, "dropout": 0.3, "learning_rate": 0.003}
BACKBONE = {
    "architecture": "mobilenet_v2", "alpha": 0.35, "weights": "imagenet", "preprocess": "resize(32)|scale(-1,1)",
    "unfreeze_depth": 1, "dropout": 0.2, "batch_size": 60, "learning_rate": 0.003, "head_units": 8,
    "head_batch_normalization": True,
}  # fmt: skip


@pytest.fixture
def weights_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights that, like those of ImageNet, do not depend on the seed of the trial; of a small network."""
    from tuner.models import backbones

    def without_weights(weights: str | None, **options: Any) -> keras.Model:
        model = small_mobilenet_v2(**options)
        backbones.seed_layers(model.layers, 1)
        return model

    monkeypatch.setattr(keras.applications, "MobileNetV2", without_weights)


def numbers(
    configuration: dict[str, Any], data: Any, bench: CompiledModels | None, seed: int = 7
) -> list[dict[str, Any]]:
    trial = Trial(configuration, data, replace(SETTINGS, seed=seed), compiled_models=bench)
    found = []
    while trial.ended is None:
        epoch = trial.advance()
        assert epoch is not None
        found.append({**epoch._asdict(), "seconds": 0})
    return found


@pytest.mark.parametrize(
    ("first", "changes"),
    [
        (CNN, [{"dropout": 0.1, "block_dropout": 0.5, "learning_rate": 0.01, "batch_size": 80}]),
        (DENSE, [{"dropout": 0.6}]),
        # The last has another structure on the same backbone.
        (BACKBONE, [{"dropout": 0.5, "learning_rate": 0.001}, {"unfreeze_depth": 2}, {"head_units": 4}]),
        ({**DENSE, "optimizer": "sgd"}, [{"optimizer": "rmsprop", "weight_decay": 0.01, "label_smoothing": 0.1}]),
    ],
    ids=["cnn", "dense", "backbone", "another optimizer"],
)
def test_a_trial_at_a_used_bench_gives_the_numbers_of_one_at_a_new_bench(
    first, changes, small_digits, weights_of_their_own
):
    bench = CompiledModels()
    before = numbers(first, small_digits, bench)
    for change in changes:
        second = {**first, **change}
        assert numbers(second, small_digits, bench, seed=11) == numbers(second, small_digits, None, seed=11), change
    assert numbers(first, small_digits, bench) == before


def test_trials_of_one_structure_share_what_is_compiled(small_digits):
    bench = CompiledModels()
    numbers(DENSE, small_digits, bench)
    one = bench.take(DENSE, small_digits.image_shape, 10, 1)
    other = bench.take(
        {**DENSE, "dropout": 0.5, "learning_rate": 0.1, "batch_size": 7}, small_digits.image_shape, 10, 2
    )
    assert one is other
    assert one.trainer(DENSE, 0, None).network is one.trainer({**DENSE, "dropout": 0.9}, 0, None).network
    without = bench.take({**DENSE, "dropout": 0.0}, small_digits.image_shape, 10, 1)
    assert without is not one  # there is no dropout layer in it


def test_a_bench_keeps_a_bounded_number_of_structures(small_digits):
    bench = CompiledModels()
    for units in range(1, STRUCTURES_KEPT + 4):
        bench.take({**DENSE, "dense_units": units}, small_digits.image_shape, 10, 0)
    assert len(bench._structures) == STRUCTURES_KEPT


@pytest.mark.parametrize("name", ["label_smoothing", "optimizer", "gradient_accumulation"])
def test_a_structure_keeps_a_bounded_number_of_compiled_forms_those_used_last(name: str, small_digits):
    structure = CompiledModels().take(DENSE, small_digits.image_shape, 10, 0)
    values = {
        "label_smoothing": [number / 100 for number in range(TRAINERS_KEPT + 3)],
        "optimizer": OPTIMIZERS[: TRAINERS_KEPT + 3],
        "gradient_accumulation": range(1, TRAINERS_KEPT + 4),
    }[name]
    first, *others = [{**DENSE, name: value} for value in values]
    kept = structure.trainer(first, 0, None)
    networks = []
    for other in others:
        networks.append(structure.trainer(other, 0, None).network)
        assert structure.trainer(first, 0, None) is kept
    assert len(structure._trainers) == TRAINERS_KEPT
    assert structure.trainer(others[-1], 0, None).network is networks[-1]
    assert structure.trainer(others[0], 0, None).network is not networks[0]


def test_dropout_follows_its_rate_without_being_built_again():
    plain = keras.layers.Dropout(0.25, seed=3)
    inputs = keras.Input((1000,))
    layer = AdjustableDropout(plain, keras.Variable(0.25, trainable=False))
    model = keras.Model(inputs, layer(inputs))
    ones = np.ones((50, 1000), dtype=np.float32)
    for rate in (0.25, 0.6, 0.0):
        layer.rate.assign(rate)
        dropped = keras.ops.convert_to_numpy(model(ones, training=True))
        assert (dropped == 0).mean() == pytest.approx(rate, abs=0.01)
        assert dropped.mean() == pytest.approx(1.0, abs=0.02)
        np.testing.assert_array_equal(keras.ops.convert_to_numpy(model(ones, training=False)), ones)


@pytest.fixture
def other_architectures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Architectures as others write them, known as long as the test runs."""
    register(monkeypatch)


@pytest.mark.usefixtures("other_architectures")
@pytest.mark.parametrize("name", OTHERS)
def test_an_architecture_of_someone_else_trains_at_a_used_bench_as_at_a_new_one(name: str, few_digits):
    first, changes, _ = OTHERS[name]
    first, bench = {"architecture": name, **first}, CompiledModels()
    second = {**first, **changes}
    numbers(first, few_digits, bench)
    assert numbers(second, few_digits, bench, seed=11) == numbers(second, few_digits, None, seed=11)


@pytest.mark.usefixtures("other_architectures")
@pytest.mark.parametrize("name", OTHERS)
def test_every_dropout_layer_trains_at_the_rate_and_in_the_kind_that_it_was_built_with(name: str, few_digits):
    first, changes, is_shared = OTHERS[name]
    bench, structures = CompiledModels(), []
    for number, configuration in enumerate(({**first}, {**first, **changes})):
        configuration["architecture"] = name
        structure = bench.take(configuration, few_digits.image_shape, 10, number)
        network = structure.trainer(configuration, 0, None).network
        assert trained_dropout(network) == built_dropout(structure.trial_model.model), configuration
        fresh = CompiledModels().take(configuration, few_digits.image_shape, 10, number)
        assert built_dropout(structure.trial_model.model) == built_dropout(fresh.trial_model.model)
        structures.append(structure)
    assert (structures[0] is structures[1]) == is_shared


def built_dropout(model: keras.Model) -> list[tuple[str, float]]:
    """Return the kind of each layer with a rate, in order, and the rate."""
    found = [layer for layer in model._flatten_layers() if hasattr(layer, "rate")]
    replaced = [layer._plain for layer in found if isinstance(layer, AdjustableDropout)]
    found = [layer for layer in found if not any(layer is plain for plain in replaced)]
    return [(type(layer).__name__, round(float(layer.rate), 6)) for layer in found]


def trained_dropout(network: keras.Model) -> list[tuple[str, float]]:
    """Return the same of a network that is trained, where `AdjustableDropout` stands for Keras's own."""
    return [(kind.replace("AdjustableDropout", "Dropout"), rate) for kind, rate in built_dropout(network)]


def test_the_weights_of_a_backbone_are_known_by_the_same_digest_in_every_process(monkeypatch):
    """Its dropout layers, which it does not use, draw their seeds anew in each; activations are kept by the digest."""
    build = keras.applications.EfficientNetV2B0
    monkeypatch.setattr(
        keras.applications, "EfficientNetV2B0", lambda weights, **options: build(weights=None, **options)
    )
    values = {"weights": "imagenet"}
    models = [build_backbone("EfficientNetV2B0", values, (32, 32, 3), 0) for _ in range(2)]
    models[1].set_weights(models[0].get_weights())
    assert len({Backbone.of(model).weights for model in models}) == 1


@pytest.mark.full
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_a_trial_trains_in_the_mixed_precision_of_a_gpu(policy: str, small_digits, tmp_path, weights_of_their_own):
    keras.config.set_dtype_policy(policy)
    try:
        activations = Activations(small_digits, ActivationSettings(tmp_path, "float16", 2**30), print)
        for way in (activations, None):
            trial = Trial({**BACKBONE, "unfreeze_depth": 0}, small_digits, SETTINGS, way)
            trial.advance()
            epoch = trial.advance()
            assert epoch is not None and epoch.metrics["loss"] < 3.0, trial.ended
            assert all(variable.dtype == "float32" for variable in trial.model.trainable_variables)
    finally:
        keras.config.set_dtype_policy("float32")
