"""Backbones of Keras Applications: their construction, their weights, and the pixel values of these weights."""

from __future__ import annotations

import importlib
import inspect
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import keras
import numpy as np
from keras import layers

from tuner.common.errors import WeightsError, is_failed_download
from tuner.common.process import keras_home
from tuner.common.seeds import derive_seed
from tuner.models.applications import PixelScaling
from tuner.models.blocks import is_automatic_name

# Mean and deviation of each channel in units of the whole value range, as in keras.applications.imagenet_utils. `caffe`
# is BGR: the channels are reversed first.
_MEAN_AND_DEVIATION: dict[PixelScaling, tuple[list[float], list[float]]] = {
    "tf": ([0.5] * 3, [0.5] * 3),
    "torch": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    "by 128": ([128 / 255] * 3, [128 / 255] * 3),
    "0 to 255": ([0.0] * 3, [1 / 255] * 3),
    "caffe": ([103.939 / 255, 116.779 / 255, 123.68 / 255], [1 / 255] * 3),
}


def build_backbone(application: str, values: Mapping[str, Any], shape: tuple[int, int, int], seed: int) -> keras.Model:
    """Return `keras.applications.<application>` without its top, for images of `shape` from `adapt_pixels`.

    Operations that Keras named are renumbered from 0, so that a name means the same in every process. With
    `weights: none` the weights come from `seed`.

    Raises WeightsError when the pretrained weights cannot be fetched or read.
    """
    constructor = getattr(keras.applications, application)
    options: dict[str, Any] = {"include_top": False, "input_shape": tuple(shape)}
    if "include_preprocessing" in inspect.signature(constructor).parameters:
        options["include_preprocessing"] = False  # adapt_pixels does it for every backbone
    if "alpha" in values:
        options["alpha"] = float(values["alpha"])  # the name of the weights file has it as 1.0, never 1
    if values["weights"] == "none":
        backbone = constructor(weights=None, **options)
        number_automatic_names(backbone)
        seed_layers(backbone.layers, derive_seed(seed, "backbone"))
        return backbone
    backbone = _load_pretrained(constructor, application, options)
    number_automatic_names(backbone)
    return backbone


def imagenet_classifier(application: str) -> tuple[keras.Model, list[str], Callable[[Any], Any]]:
    """Return a whole network, its 1,000 labels, and the function that makes its inputs of raw images.

    Raises OSError or ValueError when the weights or the labels cannot be fetched.
    """
    constructor = getattr(keras.applications, application)
    module = importlib.import_module(constructor.__module__)
    model = constructor(weights="imagenet")
    # The labels come in the order of the probabilities: ever lower ones give ever later labels.
    falling = np.linspace(1.0, 0.0, model.output_shape[-1], dtype=np.float32)[None]
    labels = [str(label) for _, label, _ in module.decode_predictions(falling, top=model.output_shape[-1])[0]]
    return model, labels, lambda images: module.preprocess_input(images.astype("float32"))


def _load_pretrained(constructor: Any, application: str, options: Mapping[str, Any]) -> keras.Model:
    try:
        with warnings.catch_warnings():
            # That the weights were trained at 224 px is no surprise: any other size is a choice of the search.
            warnings.filterwarnings("ignore", message="`input_shape` is undefined or non-square")
            return constructor(weights="imagenet", **options)
    except Exception as error:  # nothing narrower can be named for a failed download; all else is raised again
        if not is_failed_download(error) and "corrupted file" not in str(error):
            raise
        raise WeightsError(_describe_missing(application, error)) from error


def _describe_missing(application: str, error: Exception) -> str:
    folder = keras_home() / "models"
    url = re.search(r"https?://\S+/(\S+\.h5)", str(error))
    what = f"the ImageNet weights of {application}"
    otherwise = "or choose `weights: none` to train from scratch"
    if url is None:
        return f"{what} cannot be read ({error}); remove the damaged file from {folder}, {otherwise}"
    return (
        f"{what} cannot be fetched from {url[0]} and are not on this machine; put {url[1]} into {folder} "
        f"($KERAS_HOME/models), {otherwise}"
    )


def number_automatic_names(model: keras.Model, *, layers_too: bool = True) -> None:
    """Rename the operations that Keras named, counted in the order of the graph: `add_18` is `add_1` of this model.

    Keras counts all that a process has built. What is drawn from a seed by name must not depend on that. `layers_too`:
    not where layers were given names, since `dense_1` may be one.
    """
    operations = getattr(model, "operations", None) or model.layers
    automatic = [
        operation
        for operation in operations
        if is_automatic_name(operation) and (layers_too or not isinstance(operation, keras.Layer))
    ]
    taken = {operation.name for operation in operations} - {operation.name for operation in automatic}
    counts: Counter[str] = Counter()
    for operation in automatic:
        kind = re.sub(r"_\d+$", "", operation.name)
        while f"{kind}_{counts[kind]}" in taken:
            counts[kind] += 1
        operation.name = f"{kind}_{counts[kind]}"
        counts[kind] += 1
    for inner in operations:
        if isinstance(inner, keras.Model):
            number_automatic_names(inner)


def seed_layers(chosen: Iterable[Any], seed: int) -> None:
    """Draw every random weight of these layers again, from `seed` and the name of the layer; constants stay.

    So it is with random streams that were not given a seed. Keras Applications take no seed, and layers built without
    one draw from the process's global generator.
    """
    for layer in chosen:
        _seed_layer(layer, layer.name, seed)


def _seed_layer(layer: Any, name: str, seed: int) -> None:
    if isinstance(layer, keras.Model):
        seed_layers(layer.layers, derive_seed(seed, name))
        return
    for attribute, value in list(vars(layer).items()):
        if attribute.endswith("_initializer"):
            _draw_again(layer, attribute, derive_seed(seed, name, attribute))
        elif isinstance(value, keras.random.SeedGenerator) and value.get_config()["seed"] is None:
            value.state.assign(keras.random.SeedGenerator(derive_seed(seed, name, attribute)).state)
    # Layers within a layer (of attention, or around a cell) have names that Keras made: their place is their name.
    for place, inner in enumerate(layer._flatten_layers(include_self=False, recursive=False)):
        _seed_layer(inner, f"{name}/{place}", seed)


def _draw_again(layer: Any, attribute: str, seed: int) -> None:
    initializer = getattr(layer, attribute)
    settings = initializer.get_config() if isinstance(initializer, keras.Initializer) else {}
    stem = attribute.removesuffix("_initializer")
    # `recurrent_kernel` has a `recurrent_initializer`; DepthwiseConv2D draws its `kernel` with `depthwise_initializer`.
    names = (stem, f"{stem}_kernel", *(["kernel"] if stem == "depthwise" else []))
    variable = next((getattr(layer, name) for name in names if hasattr(layer, name)), None)
    if "seed" in settings and variable is not None:
        drawn = type(initializer).from_config({**settings, "seed": seed})
        variable.assign(drawn(variable.shape, dtype=variable.dtype))


def adapt_pixels(inputs: Any, value_range: tuple[float, float] | None, scaling: PixelScaling | None) -> Any:
    """Return `inputs` `[N, h, w, 1 or 3]` as the `[N, h, w, 3]` that ImageNet weights were trained on.

    Grey images are repeated. `value_range`: black and white in `inputs` (`Preprocess.network_range`); None says that
    there is no such range: the values are passed on as they are, and so they are where `scaling` is None.
    """
    x = layers.Concatenate(name="grey_to_rgb")([inputs] * 3) if inputs.shape[-1] == 1 else inputs
    if value_range is None or scaling is None:
        return x
    low, high = value_range
    means, deviations = _MEAN_AND_DEVIATION[scaling]
    if scaling == "caffe":
        x = keras.ops.flip(x, axis=-1)
    mean = [low + share * (high - low) for share in means]
    variance = [(share * (high - low)) ** 2 for share in deviations]
    if mean == [0.0] * 3 and variance == [1.0] * 3:
        return x
    return layers.Normalization(mean=mean, variance=variance, name="imagenet_scaling")(x)


def infer(network: keras.Model, inputs: Any) -> Any:
    """Return `network(inputs)`, which stays in inference mode while the model around it is trained.

    Statistics that follow small batches would destroy what the weights behind them have learned (keras.io, "Transfer
    learning and fine-tuning"). `training=False` alone, as told there, does not do it in Keras 3.15: a functional model
    hands its own `training=True` on to every operation that takes the argument, over the one it was called with
    (`operation_fn` in keras/src/models/functional.py), and the moving averages of all unfrozen layers move. So the
    network says that it does not take it. A test of all backbones holds Keras to this.
    """
    network._call_context_args = set()
    return network(inputs, training=False)
