"""The contract of cached activations: for every backbone and depth, the numbers that training from the images gives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from tests.support.backbones import BACKBONES, depths_of
from tests.support.cached_training import SETTINGS, epochs_of, kept
from tuner.models.architectures import ARCHITECTURES
from tuner.models.network import TrialModel, build_model, freeze
from tuner.training.cut_points import PrecisionError, above, below, check_precision, place_below, places

pytestmark = pytest.mark.usefixtures("everything_is_worth_keeping")


def configuration_of(name: str, **changes: Any) -> dict[str, Any]:
    px = ARCHITECTURES[name].minimum_px
    return {"architecture": name, "weights": "none", "preprocess": f"resize({px})|scale(-1,1)", **changes}


TRAINED = ("mobilenet_v2", "vgg16", "resnet50", "efficientnet_b0", "convnext_tiny")
"""With normalisation of batches, without any, with sums that grow, with dropout, and with layers of Keras's networks
alone. What is read, in which order, and what trains on it does not depend on the backbone; that the two networks are
the same, forwards and backwards, is seen of every one below."""


@pytest.mark.full
@pytest.mark.parametrize("name", BACKBONES)
def test_a_backbone_gives_at_every_depth_from_the_cache_what_it_gives_from_the_images(name: str, few_digits):
    network = build_model(configuration_of(name, dropout=0.0), few_digits.image_shape, 10, 0)
    images, labels = few_digits.train.batch(np.arange(3))
    whole = keras.ops.convert_to_numpy(network.model(images, training=False))
    known = places(network)
    *outputs, check = below(network, None, known, "float16")(images, training=False)
    try:
        check_precision(keras.ops.convert_to_numpy(check))
    except PrecisionError:  # random weights may give what float16 cannot hold; the product keeps float32 then
        *outputs, check = below(network, None, known, "float32")(images, training=False)
    by_name = dict(zip([place.name for place in known], map(keras.ops.convert_to_numpy, outputs), strict=True))
    for depth in depths_of(name, len(network.blocks) - 1):
        place = place_below(network, known, depth)
        if place is not None:
            rest = above(network, place, lambda layer: layer)
            found = keras.ops.convert_to_numpy(rest(by_name[place.name].astype(np.float32), training=False))
            np.testing.assert_allclose(found, whole, rtol=0.02, atol=2e-3, err_msg=f"{name}, unfreeze_depth {depth}")
    if (place := place_below(network, known, 1)) is not None:  # the whole of NASNet is one block
        kept_here, _ = below(network, None, [place], "float32")(images, training=False)
        targets = np.eye(10, dtype=np.float32)[labels]
        whole_step = step_of(network, network.model, images, targets)
        for one, other in zip(
            step_of(network, above(network, place, lambda layer: layer), kept_here, targets), whole_step, strict=True
        ):
            np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3 * max(np.abs(other).max(), 1e-9))


def step_of(network: TrialModel, model: keras.Model, given: Any, targets: np.ndarray) -> list[np.ndarray]:
    """Return what a step of gradient descent at depth 1 changes in each weight, which stays as it was."""
    freeze(network, 1)
    variables = network.model.trainable_variables
    before = [keras.ops.convert_to_numpy(one).copy() for one in variables]
    model.compile(keras.optimizers.SGD(1.0), "categorical_crossentropy", run_eagerly=True)
    model.train_on_batch(given, targets)
    moved = [keras.ops.convert_to_numpy(one) - start for one, start in zip(variables, before, strict=True)]
    for one, start in zip(variables, before, strict=True):
        one.assign(start)
    return moved


@pytest.mark.full
@pytest.mark.parametrize("name", TRAINED)
def test_training_a_backbone_from_the_cache_agrees_with_training_it_from_the_images(
    name: str, few_digits, tmp_path: Path
):
    # Residual sums of random weights that nothing normalises grow so much that large steps are steps at random.
    learning_rate = 1e-3 if name == "resnet50" else 1e-2
    configuration = configuration_of(name, unfreeze_depth=1, dropout=0.2, batch_size=30, learning_rate=learning_rate)
    unfrozen = replace(SETTINGS, head_epochs=0)
    cached, plain = (epochs_of(configuration, few_digits, way, unfrozen) for way in (kept(few_digits, tmp_path), None))
    for one, other in zip(cached, plain, strict=True):
        assert one.phase == other.phase == "fine_tune"
        assert (one.metrics["loss"], one.metrics["val_loss"]) == pytest.approx(
            (other.metrics["loss"], other.metrics["val_loss"]), rel=0.02
        )
