"""The contract of every registered architecture: a new one is tested without a new test."""

from __future__ import annotations

import functools
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.backbones import BACKBONES, EVERY_DEPTH, four_depths
from tuner import models
from tuner.common.errors import InputError, UnknownNameError
from tuner.contracts.architectures import ARCHITECTURE_CHECKS
from tuner.contracts.author import Author
from tuner.contracts.check import outcomes, problems_of
from tuner.contracts.networks import ArchitectureSubject
from tuner.models.architectures import ARCHITECTURES
from tuner.models.network import TrialModel, build_model, freeze
from tuner.models.parameters import Parameter

NAMES = [name for name in ARCHITECTURES if not ARCHITECTURES[name].is_backbone or name in BACKBONES]
NUM_CLASSES = 3


def configuration(name: str) -> dict[str, Any]:
    """Small, with a head that has a normalisation of its own where there is a head."""
    general = {"architecture": name, "preprocess": "scale(0,1)"}
    small = {"weights": "none", "head_units": 4, "head_batch_normalization": True, "dense_units": 8, "filters": 4}
    return general | {key: value for key, value in small.items() if key in ARCHITECTURES[name].parameters}


def size_px(name: str) -> int:
    return max(8, ARCHITECTURES[name].minimum_px)


@functools.lru_cache(maxsize=2)
def subject(name: str) -> ArchitectureSubject:
    small = {key: value for key, value in configuration(name).items() if key in ARCHITECTURES[name].parameters}
    ours = Author(Path(models.__file__).parent)
    return ArchitectureSubject(ARCHITECTURES[name], ours, small=small, own_parameters=frozenset(), px=size_px(name))


def built(name: str, channels: int = 3) -> TrialModel:
    return subject(name).built(shape=(size_px(name), size_px(name), channels)).network


def raw_images(name: str, channels: int = 3, count: int = 2) -> np.ndarray:
    shape = (count, size_px(name), size_px(name), channels)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def predict(model: Any, images: np.ndarray) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(model(images, training=False)))


OF_EVERY_NETWORK = ("parameters", "features", "network", "channels", "smallest images", "seed", "file")
"""Of all checks, those that cost little; the others are for code that was not looked at as ours is."""
BUILT_ANEW = ("channels", "seed")
"""Of these, those that build the network three times more. What makes colour of grey lies before every backbone, and
weights are drawn from the seed and the names of layers, which another test compares; only what draws while it is
trained is a layer's own."""
DRAWS = ("efficientnet_b0", "efficientnet_v2_b0", "convnext_tiny")
"""Backbones of which some layers draw: dropout, and blocks that are left out."""


def checks_of(name: str) -> tuple[str, ...]:
    """The checks of a network: all of them if it is ours, is one of each kind, or draws while it is trained."""
    is_whole = name not in BACKBONES or name in EVERY_DEPTH or name in DRAWS
    return tuple(one for one in OF_EVERY_NETWORK if is_whole or one not in BUILT_ANEW)


@pytest.mark.parametrize("name", NAMES)
def test_an_architecture_keeps_what_is_promised_of_every_one(name: str) -> None:
    for check in ARCHITECTURE_CHECKS:
        if check.name in checks_of(name):
            assert problems_of(subject(name), check) == (), check.promise
    architecture = ARCHITECTURES[name]
    assert architecture.name == name and architecture.description
    assert all(parameter.description for parameter in architecture.parameters.values())


@pytest.mark.full
@pytest.mark.parametrize("name", ["dense", "cnn", "inception"])
def test_a_network_from_scratch_keeps_every_promise(name: str) -> None:
    # At the ends of their ranges, units and filters make networks of gigabytes.
    small = {key: value for key, value in configuration(name).items() if key in ARCHITECTURES[name].parameters}
    whole = ArchitectureSubject(
        ARCHITECTURES[name], Author(Path(models.__file__).parent), small=small, px=size_px(name)
    )
    assert {one.check: one.problems for one in outcomes(whole, ARCHITECTURE_CHECKS) if one.problems} == {}


@pytest.mark.parametrize(
    ("name", "channels"),
    [(name, channels) for name in NAMES for channels in (1, 3) if channels == 3 or "channels" in checks_of(name)],
)
def test_raw_images_become_probabilities(name: str, channels: int) -> None:
    probabilities = predict(built(name, channels).model, raw_images(name, channels))
    assert probabilities.shape == (2, NUM_CLASSES)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    if not ARCHITECTURES[name].is_backbone:  # with random weights, what tells images apart fades on the long way
        assert not np.array_equal(*probabilities), "two images, one answer"


@pytest.mark.parametrize("name", ["dense", "cnn", "inception", "mobilenet_v2"])
def test_bytes_and_floats_are_the_same_images(name: str) -> None:
    images = raw_images(name)
    np.testing.assert_array_equal(
        predict(built(name).model, images), predict(built(name).model, images.astype(np.float32))
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_random_weight_depends_on_the_seed_and_no_two_are_drawn_alike(name: str) -> None:
    first, other = built(name), build_model(configuration(name), (size_px(name), size_px(name), 3), NUM_CLASSES, seed=2)
    drawn = [value for value in first.model.get_weights() if value.min() < value.max()]
    drawn_2 = [value for value in other.model.get_weights() if value.min() < value.max()]
    assert len(drawn) == len(drawn_2) >= 2
    assert all((one != another).mean() > 0.9 for one, another in zip(drawn, drawn_2, strict=True))
    starts = [(value.shape, *value.ravel()[:4].tolist()) for value in drawn]
    assert len(set(starts)) == len(starts)
    if first.backbone is not None and other.backbone is not None:  # whatever was built before
        assert [one.name for one in first.backbone.operations] == [one.name for one in other.backbone.operations]


@pytest.mark.parametrize("name", BACKBONES)
def test_each_depth_frees_one_more_block_and_no_head_is_ever_frozen(name: str) -> None:
    trial_model, backbone = built(name), built(name).backbone
    assert backbone is not None
    head = {id(variable) for variable in trial_model.model.weights} - {id(variable) for variable in backbone.weights}
    freeze(trial_model, 0)
    assert backbone.trainable_weights == []
    before: set[int] = set()
    for depth in range(1, len(trial_model.blocks) + 1):
        freeze(trial_model, depth)
        now = {id(variable) for variable in backbone.trainable_weights}
        layers = [layer for layer in backbone.layers if layer.name in trial_model.blocks[depth - 1].operations]
        assert now - before == {id(variable) for layer in layers for variable in layer.trainable_weights} != set()
        assert before < now
        assert sum(id(variable) in head for variable in trial_model.model.trainable_weights) >= 4
        before = now
    assert all(variable.trainable == (id(variable) in before) for variable in backbone.weights)


@pytest.mark.parametrize("name", NAMES)
def test_a_training_step_moves_exactly_what_is_unfrozen_and_no_statistics_of_the_backbone(name: str) -> None:
    trial_model = built(name)
    model, targets = trial_model.model, np.eye(NUM_CLASSES, dtype=np.float32)[[0, 1, 2, 0]]
    images = raw_images(name, count=4)
    start = model.get_weights()
    depths = four_depths(len(trial_model.blocks))
    for depth in depths if name not in BACKBONES or name in EVERY_DEPTH else depths[-2:]:
        freeze(trial_model, depth)
        # A tiny epsilon makes every step of Adam visible, however small the gradient; 1e-3 keeps the network alive.
        model.compile(keras.optimizers.Adam(1e-3, epsilon=1e-30), "categorical_crossentropy", run_eagerly=True)
        model.train_on_batch(images, targets)
        backbone = set() if trial_model.backbone is None else set(map(id, trial_model.backbone.weights))
        trained = set(map(id, model.trainable_weights))
        for variable, before, after in zip(model.weights, start, model.get_weights(), strict=True):
            if id(variable) in backbone or "moving" not in variable.name:  # the head's statistics may follow
                moved = not np.array_equal(before, after)
                assert moved == (id(variable) in trained), f"depth {depth}: {variable.path}"
        model.set_weights(start)


@pytest.mark.parametrize("name", BACKBONES)
def test_more_blocks_than_there_are_cannot_be_unfrozen(name: str) -> None:
    count = len(built(name).blocks)
    with pytest.raises(InputError, match=rf"unfreeze_depth must be between 0 and {count} \({name} has {count} blocks"):
        freeze(built(name), count + 1)


@pytest.mark.parametrize("name", [name for name in NAMES if ARCHITECTURES[name].minimum_px > 1])
def test_images_smaller_than_the_minimum_are_refused_with_what_helps(name: str) -> None:
    smallest = ARCHITECTURES[name].minimum_px
    with pytest.raises(InputError, match=rf"of at least {smallest} px; got .*resize\({smallest}\)"):
        build_model(configuration(name), (smallest, smallest - 1, 3), NUM_CLASSES, seed=0)


def test_importing_the_registry_does_not_import_keras() -> None:
    code = "import sys, tuner.models.architectures; sys.exit('keras' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_unknown_architecture_is_answered_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'mobilenet_v2'"):
        build_model({"architecture": "mobilenetv2"}, (32, 32, 3), 10, seed=0)


def test_a_configuration_without_an_architecture_is_refused() -> None:
    with pytest.raises(InputError, match="architecture must be given, as one of dense, cnn"):
        build_model({}, (32, 32, 3), 10, seed=0)


REFUSED = [
    (Parameter("float", low=0, high=0.9), 1.2, "must be between 0 and 0.9; got 1.2"),
    (Parameter("float", low=0, high=0.9), math.nan, "must be between 0 and 0.9; got nan"),
    (Parameter("float", low=0), math.inf, "must be at least 0; got inf"),
    (Parameter("float", low=0, high=0.9), "much", "must be a number between 0 and 0.9; got 'much'"),
    (Parameter("int", low=0), -1, "must be at least 0; got -1"),
    (Parameter("int", high=5), 6, "must be at most 5; got 6"),
    (Parameter("int", low=1, high=8), 2.0, "must be a whole number between 1 and 8; got 2.0"),
    (Parameter("int", low=0, high=8), True, "must be a whole number between 0 and 8; got True"),
    (Parameter("choice", values=(0.35, 1.0)), 0.4, "must be one of 0.35, 1.0; got 0.4"),
    (Parameter("choice", values=(0.35, 1.0)), True, "must be one of 0.35, 1.0; got True"),
    (Parameter("bool"), 1, "must be true or false; got 1"),
    (Parameter("text"), None, "must be text and cannot be none; got None"),
    (Parameter("choice", values=("a",)), "b" * 200, "must be one of a; got '" + "b" * 76 + "..."),
]


@pytest.mark.parametrize(("parameter", "value", "message"), REFUSED)
def test_a_value_that_does_not_fit_is_told_the_rule_and_itself(parameter: Parameter, value: Any, message: str) -> None:
    assert parameter.misfit(value) == message


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        (Parameter("float", low=0, high=1), 1),
        (Parameter("choice", values=(0.35, 1.0)), 1),
        (Parameter("int", low=0), 10**30),
        (Parameter("int"), -(10**30)),
        (Parameter("bool"), False),
        (Parameter("text"), ""),
    ],
)
def test_values_that_fit_pass(parameter: Parameter, value: Any) -> None:
    assert parameter.misfit(value) is None


@given(st.floats(allow_nan=False), st.floats(allow_nan=False))
def test_a_range_fits_where_both_ends_fit(low: float, high: float) -> None:
    parameter = Parameter("float", low=-3, high=5.5)
    fits = all(-3 <= end <= 5.5 for end in (low, high))
    assert (parameter.range_misfit(low, high) is None) == fits


def test_a_range_that_does_not_fit_is_told_which_end() -> None:
    assert Parameter("float", low=0, high=0.9).range_misfit(0.1, 1.2) == "must be between 0 and 0.9; got 1.2"
    assert Parameter("int", low=0).range_misfit(0, 2.5) == "must be a whole number of at least 0; got 2.5"
    message = "must be one of average, max, not a range; got 0 to 1"
    assert Parameter("choice", values=("average", "max")).range_misfit(0, 1) == message


def test_a_value_of_a_configuration_is_checked_by_its_parameter() -> None:
    with pytest.raises(InputError, match=r"alpha must be one of 0.35, 0.5, 0.75, 1.0, 1.3, 1.4; got 2.0"):
        ARCHITECTURES["mobilenet_v2"].values_of({"alpha": 2.0})
    assert ARCHITECTURES["dense"].values_of({"dense_units": 7, "batch_size": 3})["dense_units"] == 7
