"""Backbones of KerasHub, by the names of its presets: `keras_hub:PRESET`, or `keras_hub:FOLDER` of one that was saved.

Their names are read from KerasHub's tables without loading it. A backbone is flattened into one graph with its scaling
of pixels, and an encoder that is a list of blocks into these blocks, so that depth and places to cut are found as in
every other network. Light: Keras and KerasHub are loaded when one is built.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from tuner.common.errors import InputError, WeightsError, first_line, is_failed_download
from tuner.common.files import user_path
from tuner.common.registry import unknown_name
from tuner.common.seeds import derive_seed
from tuner.models.architectures import Architecture
from tuner.models.parameters import HEAD, Parameter

PREFIX = "keras_hub:"
CLASS_TOKEN = "class_token"  # noqa: S105 no password
_WITH_CLASS_TOKEN = ("vit", "dinov2", "dinov3", "deit")
_OF_MAPS = ("cspnet", "densenet", "efficientnet", "hgnetv2", "mobilenet", "resnet", "vgg", "xception")
FAMILIES = (*_WITH_CLASS_TOKEN, *_OF_MAPS)
"""KerasHub's folders of backbones that read images and give features of one size."""
_REFUSED = {
    "swin_transformer": "its layers cannot be saved within a network (KerasHub 0.32), so that best.keras cannot be",
    "mit": "its layers come back with other weights from a saved network (KerasHub 0.32): best.keras would be wrong",
}
"""Families that could be cut at their blocks, and why they are not offered."""
_REFUSED_NAMES = {"swin": "swin_transformer", "mit": "mit"}
"""How the names of their presets begin."""


class Preset(NamedTuple):
    """A preset of KerasHub: the folder of its code, and where its files are fetched from."""

    family: str
    handle: str


@cache
def known_presets() -> dict[str, Preset]:
    """Return the presets of image backbones in the installed KerasHub; none where it is not installed."""
    found = importlib.util.find_spec("keras_hub")
    folders = [Path(each) / "src" / "models" for each in (found.submodule_search_locations or ())] if found else []
    known: dict[str, Preset] = {}
    for path in (path for folder in folders for family in FAMILIES for path in folder.glob(f"{family}/*_presets.py")):
        for statement in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Dict):
                entries = ast.literal_eval(statement.value)
                known |= {name: Preset(path.parent.name, one["kaggle_handle"]) for name, one in entries.items()}
    return known


def hub_architecture(name: str) -> Architecture:
    """Return the architecture `keras_hub:PRESET`; raises InputError where KerasHub or the preset is not known."""
    text = name.removeprefix(PREFIX)
    family = _family_of(text)

    def build(values: Mapping[str, Any], inputs: Any, seed: int) -> Any:
        return build_hub_backbone(text, values, inputs, seed)

    return Architecture(
        name=name,
        description=f"{text} of KerasHub under a head",
        parameters=_parameters(family),
        minimum_px=16,
        build=build,
        pixel_scaling="0 to 255",  # its own scaling is a part of it
        backbone_parameters=("weights", "pooling"),
    )


def _parameters(family: str) -> dict[str, Parameter]:
    """Return what a backbone of a family has: how tokens become a vector, and the head of every backbone."""
    if family in _WITH_CLASS_TOKEN:
        poolings: tuple[str, ...] = (CLASS_TOKEN, "average", "max")
    else:
        poolings = ("average", "max", "flatten")
    return {
        **HEAD,
        "weights": replace(HEAD["weights"], values=("pretrained", "none"), default="pretrained"),
        "pooling": replace(HEAD["pooling"], values=poolings, default=poolings[0]),
    }


def _family_of(text: str) -> str:
    if importlib.util.find_spec("keras_hub") is None:
        raise InputError(f"architecture {PREFIX}{text} needs KerasHub: pip install --editable '.[keras-hub]'")
    folder = user_path(text)
    if not text or not folder.is_dir():
        if (begun := _REFUSED_NAMES.get(text.partition("_")[0])) is not None:
            raise InputError(f"architecture {PREFIX}{text} is not offered: {_REFUSED[begun]}")
        if text not in known_presets():
            raise InputError(
                f"{unknown_name(f'preset of an image backbone in {PREFIX}PRESET', text, known_presets())}; "
                "or a folder that KerasHub saved one in"
            )
        return known_presets()[text].family
    if not folder.is_absolute():
        raise InputError(
            f"architecture {PREFIX}{text} must name its folder by the whole path, for processes that train are "
            f"elsewhere; did you mean {PREFIX}{folder.absolute()}?"
        )
    try:
        module = str(json.loads((folder / "config.json").read_text(encoding="utf-8"))["module"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"architecture {PREFIX}{text}: {folder}/config.json cannot be read: {error}") from None
    family = module.split(".")[-2] if "." in module else module
    if family in _REFUSED:
        raise InputError(f"architecture {PREFIX}{text} is not offered: {_REFUSED[family]}")
    if family not in FAMILIES:
        raise InputError(
            f"architecture {PREFIX}{text}: must be of {', '.join(FAMILIES)}; {folder} holds one of {family}"
        )
    return family


def build_hub_backbone(text: str, values: Mapping[str, Any], shape: tuple[int, int, int], seed: int) -> Any:
    """Return the backbone of a preset as one graph of its blocks, for images of `shape` with values from 0 to 255.

    Raises:
        WeightsError: its files cannot be fetched.
        InputError: it takes no images of this size.
    """
    import keras

    from tuner.models.backbones import number_automatic_names
    from tuner.models.own_networks import seeded

    with seeded(derive_seed(seed, "backbone")):
        backbone, scale, offset = _load(text, values["weights"] != "none", shape)
    images = keras.Input(shape, dtype="float32", name="pixels")
    x = keras.layers.Rescaling(scale, offset, name="pixel_scaling")(images)
    features = backbone.call(dict.fromkeys(backbone.input, x) if isinstance(backbone.input, dict) else x)
    network = opened(keras.Model(images, features))
    if values["pooling"] == CLASS_TOKEN:
        first = keras.layers.Cropping1D((0, network.outputs[0].shape[1] - 1), name=CLASS_TOKEN)
        network = keras.Model(network.inputs[0], first(network.outputs[0]))
    for layer in network._flatten_layers(include_self=False):
        _keep_to_constructor(layer)
    network.name = re.sub(r"\W+", "_", Path(text).name)
    number_automatic_names(network)
    return network


def _load(text: str, load_weights: bool, shape: tuple[int, int, int]) -> tuple[Any, Any, Any]:
    """Return a backbone for images of a size, and the scale and the offset of its pixels."""
    import keras_hub

    name = str(user_path(text)) if user_path(text).is_dir() else text
    try:
        made = keras_hub.models.Backbone.from_preset(name, load_weights=load_weights, image_shape=shape)
    except Exception as error:  # nothing narrower can be named for a failed download; all else is told as its size
        if is_failed_download(error) or type(error).__module__.startswith(("requests", "kagglehub", "urllib3")):
            raise WeightsError(_describe_missing(text, error)) from error
        if isinstance(error, ValueError | TypeError):
            height, width = shape[:2]
            raise InputError(
                f"architecture {PREFIX}{text} takes no images of {height}x{width} ({first_line(error)}): give it "
                "images of the size that it was trained with, by preprocess, or choose `weights: none`"
            ) from error
        raise
    try:
        converter = keras_hub.layers.ImageConverter.from_preset(name)
    except (OSError, ValueError):  # it was saved without one: it reads pixels as they are
        return made, 1.0, 0.0
    scale = 1.0 if converter.scale is None else converter.scale
    return made, scale, 0.0 if converter.offset is None else converter.offset


def _describe_missing(text: str, error: Exception) -> str:
    handle = known_presets()[text].handle if text in known_presets() else text
    cache_folder = Path(os.environ.get("KAGGLEHUB_CACHE") or Path.home() / ".cache" / "kagglehub")
    place = cache_folder / "models" / handle.removeprefix("kaggle://")
    return (
        f"the preset {text} of KerasHub (config.json, image_converter.json and its weights) cannot be fetched from "
        f"{handle} and is not on this machine: it is looked for in {place} ($KAGGLEHUB_CACHE); put its files there, or "
        f"name their folder, {PREFIX}FOLDER ({type(error).__name__})"
    )


def opened(network: Any) -> Any:
    """Return a functional network in which each layer that is a chain of blocks is these blocks.

    One whose blocks cannot be called by themselves stays as it is: it is one block.
    """
    import keras

    def call(operation: Any, *arguments: Any, **settings: Any) -> Any:
        chain = _chain_of(operation)
        if chain is None:
            return operation(*arguments, **settings)
        return _opened_call(operation, chain, arguments, settings)

    return keras.models.clone_model(network, call_function=call, clone_function=lambda operation: operation)


def _chain_of(layer: Any) -> str | None:
    """Return the attribute in which a layer holds its blocks, a list of at least two layers of one kind."""
    import keras

    if not isinstance(layer, keras.Layer) or isinstance(layer, keras.Model):
        return None
    lists = {str(name): value for name, value in vars(layer).items() if isinstance(value, list | tuple)}
    for name, held in lists.items():
        is_chain = len(held) > 1 and len({type(one) for one in held}) == 1
        if is_chain and not name.startswith("_") and all(isinstance(one, keras.Layer) and one.weights for one in held):
            return name
    return None


def _opened_call(layer: Any, chain: str, arguments: tuple[Any, ...], settings: Mapping[str, Any]) -> Any:
    """Return what a layer gives when its blocks are parts of the graph, each under the layer's name and its own."""
    from tuner.models.blocks import is_automatic_name

    for inner in layer._flatten_layers(include_self=False, recursive=False):
        if not is_automatic_name(inner) and not inner.name.startswith(layer.name):
            inner.name = f"{layer.name}_{inner.name}"
    held = vars(layer)[chain]
    if type(layer).__name__ == "DeiTEncoder":  # its blocks give None beside their tokens, which no graph holds
        vars(layer)[chain] = [_alone(block, arguments[0]) for block in held]
    try:
        given = layer.call(*arguments, **settings)
    finally:
        vars(layer)[chain] = held
    first = given[0] if isinstance(given, tuple) else given
    return layer(*arguments, **settings) if None in first.shape[1:] else given  # what has no size cannot be kept


def _keep_to_constructor(layer: Any) -> None:
    """Let a layer of KerasHub tell only what its constructor takes, so that a saved model loads; some tell more."""
    if type(layer).__module__.startswith("keras_hub."):
        given, known = (
            layer.get_config,
            {*inspect.signature(type(layer).__init__).parameters, "name", "trainable", "dtype"},
        )
        layer.get_config = lambda: {name: value for name, value in given().items() if name in known}


def _alone(block: Any, tokens: Any) -> Callable[..., tuple[Any, None]]:
    """Return a block as a network that gives its tokens alone."""
    import keras

    inputs = keras.Input(tokens.shape[1:], name="tokens")
    network = keras.Model(inputs, block(inputs, return_attention_scores=True)[0], name=block.name)
    return lambda given, **_settings: (network(given), None)
