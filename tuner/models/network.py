"""The network of a trial: raw images in, preprocessing inside, probabilities out; and the choice of trained layers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers

from tuner.common.errors import InputError
from tuner.common.seeds import derive_seed
from tuner.models._from_scratch import drop, hidden_layers, pool_features
from tuner.models.architectures import ARCHITECTURES, Architecture
from tuner.models.backbones import adapt_pixels, infer, number_automatic_names, seed_layers
from tuner.models.blocks import Block, blocks
from tuner.models.parameters import general
from tuner.models.preprocessing import Preprocess, parse_preprocess


@dataclass(frozen=True)
class TrialModel:
    """A built network; `model` maps raw images `[N, H, W, C]` in 0..255 to probabilities `[N, K] float32`."""

    model: keras.Model
    backbone: keras.Model | None
    """The network of Keras Applications inside `model`, None for a network from scratch."""
    blocks: tuple[Block, ...]
    """The blocks of the backbone, from the output downwards; empty without one."""
    preprocessed: Any = None
    """The symbolic tensor after preprocessing, `[N, h, w, c]`."""
    shrinking: Preprocess | None = None
    """The preprocessing, where it begins by shrinking images, so that it takes shrunk ones too."""
    pixels: Any = None
    """The symbolic tensor that the backbone reads, None without one."""
    maps: Any = None
    """The output of the backbone, `[N, h, w, c]`."""
    pooled: Any = None
    """The input of its head, `[N, F]`."""


def build_model(
    configuration: Mapping[str, Any],
    image_shape: tuple[int, int, int],
    num_classes: int,
    seed: int,
    backbone: keras.Model | None = None,
) -> TrialModel:
    """Return the untrained network of a configuration for raw images `[H, W, C]`, all of it trainable.

    `backbone` is one that was built for the same values, to stand under this head too; None: a new one.

    Everything random comes from `seed` by name: the same arguments give the same initial weights in every process. A
    backbone is always in inference mode, so that a frozen BatchNormalization stays frozen; its scale and offset can be
    trained, its statistics cannot. The model saves and loads without tuner.

    Raises:
        InputError: a value outside its range, or images too small for the architecture.
        WeightsError: the pretrained weights cannot be fetched.
    """
    if "architecture" not in configuration:
        raise InputError(f"architecture must be given, as one of {', '.join(ARCHITECTURES)}")
    architecture = ARCHITECTURES[configuration["architecture"]]
    if num_classes < 2:
        raise InputError(f"num_classes must be at least 2; got {num_classes}")
    values = architecture.values_of(configuration)
    preprocess = parse_preprocess(str(general(configuration, "preprocess")))
    _check_images(architecture, preprocess, image_shape)
    # float32, and not uint8: augmented images have values between the whole ones, which Keras would cut off.
    images = keras.Input(image_shape, dtype="float32", name="images")
    inputs = preprocess.apply(images)
    pixels = maps = pooled = None
    shrinking = preprocess if preprocess.shrinks_to(image_shape) else None
    if architecture.is_backbone:
        backbone = backbone or architecture.build(values, (*inputs.shape[1:3], 3), seed)
        pixels = adapt_pixels(inputs, preprocess.network_range, architecture.pixel_scaling)
        maps = infer(backbone, pixels)
        pooled = pool_features(maps, values["pooling"])
        features = head_features(pooled, values, seed)
    else:
        features = architecture.build(values, inputs, derive_seed(seed, "dropout"))
    name = re.sub(r"\W+", "_", architecture.name)
    model = keras.Model(images, _probabilities(features, num_classes), name=name)
    if backbone is None:
        number_automatic_names(model, layers_too=not architecture.names_layers)
    seed_layers(_ours(model, architecture, backbone), derive_seed(seed, "weights"))
    return TrialModel(
        model, backbone, () if backbone is None else blocks(backbone), inputs, shrinking, pixels, maps, pooled
    )


def _ours(model: keras.Model, architecture: Architecture, backbone: keras.Model | None) -> list[Any]:
    """Return the layers whose weights are still to be drawn: those of a backbone, or of own code, are as built."""
    if backbone is None and architecture.is_own:
        return [model.get_layer("probabilities")]
    return [layer for layer in model.layers if layer is not backbone]


def build_head(configuration: Mapping[str, Any], backbone: keras.Model, num_classes: int, seed: int) -> keras.Model:
    """Build the head that `build_model` puts on `backbone`, by itself: of its maps, with the same initial weights."""
    values = ARCHITECTURES[configuration["architecture"]].values_of(configuration)
    maps = keras.Input(backbone.output_shape[1:], name="maps")
    features = head_features(pool_features(maps, values["pooling"]), values, seed)
    head = keras.Model(maps, _probabilities(features, num_classes), name="head")
    seed_layers(head.layers, derive_seed(seed, "weights"))
    return head


def _probabilities(features: Any, num_classes: int) -> Any:
    return layers.Dense(num_classes, activation="softmax", dtype="float32", name="probabilities")(features)


def _check_images(architecture: Architecture, preprocess: Preprocess, image_shape: tuple[int, int, int]) -> None:
    height, width, channels = preprocess.output_shape(image_shape)
    if min(height, width) < architecture.minimum_px:
        raise InputError(
            f"preprocess must give {architecture.name} images of at least {architecture.minimum_px} px; "
            f"got {height}x{width} from {preprocess.text!r}, add resize({architecture.minimum_px})"
        )
    if architecture.is_backbone and channels not in (1, 3):
        raise InputError(f"preprocess must give {architecture.name} images of 1 or 3 channels; got {channels}")


def head_features(pooled: Any, values: Mapping[str, Any], seed: int) -> Any:
    """Return the features for the softmax from a backbone's pooled maps `[N, F]`, after hidden layers and dropout."""
    x = pooled
    if values["head_batch_normalization"]:
        x = layers.BatchNormalization(name="head_normalization")(x)
    units = [values["head_units"]] * values["head_layers"] if values["head_units"] else []
    return drop(hidden_layers(x, units, prefix="head"), values["dropout"], derive_seed(seed, "dropout"))


def freeze(trial_model: TrialModel, unfreeze_depth: int) -> None:
    """Make exactly the top `unfreeze_depth` blocks and the head trainable (0: the head only).

    A model from scratch has no blocks and is always trained whole. Compile after this: that is when Keras reads it.

    Raises InputError when there are not so many blocks.
    """
    known = trial_model.blocks
    if not 0 <= unfreeze_depth <= len(known):
        name = trial_model.model.name
        has = f"{name} has {len(known)} blocks" if known else f"{name} is trained from scratch and has none to unfreeze"
        raise InputError(f"unfreeze_depth must be between 0 and {len(known)} ({has}); got {unfreeze_depth}")
    trial_model.model.trainable = True
    if trial_model.backbone is None:
        return
    trained = {name for block in known[:unfreeze_depth] for name in block.operations}
    trial_model.backbone.trainable = unfreeze_depth > 0
    for layer in trial_model.backbone.layers:
        layer.trainable = layer.name in trained


def block_depths(trial_model: TrialModel, unfreeze_depth: int) -> dict[int, int]:
    """Return for each variable of the top blocks, by its `id`, which block from the output it is of, from 1."""
    if trial_model.backbone is None:
        return {}
    blocks = trial_model.blocks[:unfreeze_depth]
    depths = {name: depth for depth, block in enumerate(blocks, 1) for name in block.operations}
    layers = [layer for layer in trial_model.backbone.layers if layer.name in depths]
    return {id(variable): depths[layer.name] for layer in layers for variable in layer.variables}


def parameter_counts(model: keras.Model) -> tuple[int, int]:
    """Return (all parameters, trained parameters), as `model.summary()` counts them."""
    trainable = sum(int(np.prod(variable.shape)) for variable in model.trainable_weights)
    return int(model.count_params()), trainable
