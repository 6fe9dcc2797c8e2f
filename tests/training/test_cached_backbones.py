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
from tuner.models.network import build_model
from tuner.training.cut_points import PrecisionError, above, below, check_precision, place_below, places

pytestmark = pytest.mark.usefixtures("everything_is_worth_keeping")


def configuration_of(name: str, **changes: Any) -> dict[str, Any]:
    px = ARCHITECTURES[name].minimum_px
    return {"architecture": name, "weights": "none", "preprocess": f"resize({px})|scale(-1,1)", **changes}


@pytest.mark.full
@pytest.mark.parametrize("name", BACKBONES)
def test_a_backbone_gives_at_every_depth_from_the_cache_what_it_gives_from_the_images(name: str, few_digits):
    network = build_model(configuration_of(name), few_digits.image_shape, 10, 0)
    images = few_digits.train.batch(np.arange(3))[0]
    whole = keras.ops.convert_to_numpy(network.model(images, training=False))
    known = places(network)
    *outputs, check = below(network, None, known, "float16").predict_on_batch(images)
    try:
        check_precision(check)
    except PrecisionError:  # random weights may give what float16 cannot hold; the product keeps float32 then
        *outputs, check = below(network, None, known, "float32").predict_on_batch(images)
    by_name = dict(zip([place.name for place in known], outputs, strict=True))
    for depth in depths_of(name, len(network.blocks) - 1):
        place = place_below(network, known, depth)
        if place is not None:
            rest = above(network, place, lambda layer: layer)
            found = keras.ops.convert_to_numpy(rest(by_name[place.name].astype(np.float32), training=False))
            np.testing.assert_allclose(found, whole, rtol=0.02, atol=2e-3, err_msg=f"{name}, unfreeze_depth {depth}")


@pytest.mark.full
@pytest.mark.parametrize("name", BACKBONES)
def test_training_every_backbone_from_the_cache_agrees_with_training_it_from_the_images(
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
