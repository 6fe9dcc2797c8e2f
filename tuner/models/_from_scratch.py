"""Networks from scratch, and the layers that they share with the head of a backbone.

Every layer has a name of its own and every dropout a seed, so that a model depends on nothing built before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from keras import layers

from tuner.common.errors import InputError
from tuner.common.seeds import derive_seed


def pool_features(inputs: Any, pooling: str) -> Any:
    """Return feature maps `[N, h, w, c]` as vectors: `[N, h*w*c]` if flattened, `[N, c]` if pooled over positions.

    So it is with tokens `[N, t, c]`; what is a vector already stays one. A class token comes alone.
    """
    if pooling == "flatten" or len(inputs.shape) == 2:
        return layers.Flatten(name="pooling")(inputs)
    of_maps = {"average": layers.GlobalAveragePooling2D, "max": layers.GlobalMaxPooling2D}
    of_tokens = {"average": layers.GlobalAveragePooling1D, "max": layers.GlobalMaxPooling1D}
    kinds = of_maps if len(inputs.shape) == 4 else {**of_tokens, "class_token": layers.GlobalAveragePooling1D}
    return kinds[pooling](name="pooling")(inputs)


def drop(inputs: Any, rate: float, seed: int, name: str = "dropout") -> Any:
    """Return `inputs` with dropout from a random stream of its own; without a layer where `rate` is 0."""
    return layers.Dropout(rate, seed=derive_seed(seed, name), name=name)(inputs) if rate else inputs


def widths(units: int, growth: float, count: int, maximum: int = 1 << 20) -> list[int]:
    """Return `count` widths, each `growth` times the one before, rounded, between 1 and `maximum`.

    >>> widths(256, 0.5, 2), widths(6, 3.0, 3, maximum=16)
    ([256, 128], [6, 16, 16])
    """
    return [max(1, min(maximum, round(units * growth**index))) for index in range(count)]


def hidden_layers(
    inputs: Any,
    units: Sequence[int],
    *,
    batch_normalization: bool = False,
    dropout: float = 0.0,
    seed: int = 0,
    prefix: str = "dense",
) -> Any:
    """Return the output `[N, units[-1]]` of dense layers with ReLU, each followed by `dropout`."""
    x = inputs
    for number, width in enumerate(units, 1):
        dense = layers.Dense(width, use_bias=not batch_normalization, name=f"{prefix}_{number}")
        x = _activate(dense(x), f"{prefix}_{number}", batch_normalization)
        x = drop(x, dropout, seed, f"{prefix}_{number}_dropout")
    return x


def _activate(inputs: Any, name: str, batch_normalization: bool) -> Any:
    x = layers.BatchNormalization(name=f"{name}_normalization")(inputs) if batch_normalization else inputs
    return layers.ReLU(name=f"{name}_relu")(x)


def _convolve(inputs: Any, filters: int, kernel_px: int, name: str, batch_normalization: bool, **options: Any) -> Any:
    """Return a convolution with ReLU, padded unless `options` say otherwise; normalisation replaces its bias."""
    settings = {"padding": "same", "use_bias": not batch_normalization, **options}
    return _activate(layers.Conv2D(filters, kernel_px, name=name, **settings)(inputs), name, batch_normalization)


def dense_features(values: Mapping[str, Any], inputs: Any, seed: int) -> Any:
    """Return the output of the last hidden layer on the pixels of `inputs`."""
    return hidden_layers(
        layers.Flatten(name="pixels")(inputs),
        widths(values["dense_units"], values["dense_growth"], values["hidden_layers"]),
        batch_normalization=values["batch_normalization"],
        dropout=values["dropout"],
        seed=seed,
    )


class _Convolution(NamedTuple):
    block: int
    name: str
    filters: int
    kernel_px: int
    padding: str
    ends_block: bool


def _convolutions(values: Mapping[str, Any]) -> Iterator[_Convolution]:
    per_block = values["convolutions_per_block"]
    filters = widths(values["filters"], values["filters_growth"], values["blocks"], values["max_filters"])
    for block, width in enumerate(filters, 1):
        kernel_px = values["kernel_px"] + (block - 1) * values["kernel_growth_px"]
        for number in range(1, per_block + 1):
            last = number == per_block
            padding = {"last_valid": "valid" if last else "same"}.get(values["padding"], values["padding"])
            yield _Convolution(block, f"block_{block}_convolution_{number}", width, kernel_px, padding, last)


def _refuse_vanishing(values: Mapping[str, Any], height: int, width: int) -> None:
    """Raise InputError where a convolution or a pooling finds fewer pixels than it needs."""
    side = min(height, width)
    for convolution in _convolutions(values):
        if convolution.padding == "valid":
            side -= convolution.kernel_px - 1
        if convolution.ends_block:
            side //= 2
        if side < 1:
            raise InputError(
                f"blocks must leave at least one pixel of the {height}x{width} px images; "
                f"got {values['blocks']}, and nothing is left in block {convolution.block}"
            )


def cnn_features(values: Mapping[str, Any], inputs: Any, seed: int) -> Any:
    """Return the features of blocks of convolutions, each ended by 2x2 max pooling, then of the dense layers.

    Raises InputError when the images are too small for so many blocks.
    """
    _refuse_vanishing(values, *inputs.shape[1:3])
    normalise, x = values["batch_normalization"], inputs
    for convolution in _convolutions(values):
        name, padding = convolution.name, convolution.padding
        x = _convolve(x, convolution.filters, convolution.kernel_px, name, normalise, padding=padding)
        if convolution.ends_block:
            x = layers.MaxPooling2D(2, name=f"block_{convolution.block}_pooling")(x)
            x = drop(x, values["block_dropout"], seed, f"block_{convolution.block}_dropout")
    x = pool_features(x, values["pooling"])
    units = widths(values["dense_units"], values["dense_growth"], values["dense_layers"])
    return drop(hidden_layers(x, units, batch_normalization=normalise), values["dropout"], seed)


class _Module(NamedTuple):
    """The numbers of filters of one inception module, in the columns of GoogLeNet's table 1."""

    of_1x1: int
    reduction_3x3: int
    of_3x3: int
    reduction_5x5: int
    of_5x5: int
    of_pooling: int

    def times(self, width: float) -> _Module:
        return _Module(*(max(1, round(filters * width)) for filters in self))


# Szegedy et al., "Going deeper with convolutions" (2015), table 1: 3a to 5b. The maps are halved after 3b and after 4e.
_GOOGLENET = (
    _Module(64, 96, 128, 16, 32, 32),
    _Module(128, 128, 192, 32, 96, 64),
    _Module(192, 96, 208, 16, 48, 64),
    _Module(160, 112, 224, 24, 64, 64),
    _Module(128, 128, 256, 24, 64, 64),
    _Module(112, 144, 288, 32, 64, 64),
    _Module(256, 160, 320, 32, 128, 128),
    _Module(256, 160, 320, 32, 128, 128),
    _Module(384, 192, 384, 48, 128, 128),
)
_HALVED_AFTER = (2, 7)


def inception_features(values: Mapping[str, Any], inputs: Any, seed: int) -> Any:
    """Return the pooled features of `modules` inception modules after a 7x7 stem of stride 2.

    The published CIFAR-10 model says only: grey 32x32, two modules after a 7x7/2 stem, 1,245,738 parameters. The layout
    was found by counting the parameters of 17 million others (stems, filters of both modules, with and without 1x1
    reductions, projection and batch normalisation, sizes of the last map; up to two hidden layers): one has that number
    with GoogLeNet's own filters throughout and no hidden layer: a stem of 64, modules 3a and 3b *without* the 1x1
    reductions before 3x3 and 5x5, global pooling, softmax. These are the defaults. The number cannot tell whether
    pooling follows the stem, since it has no parameters; it does here, as in GoogLeNet.
    """
    normalise = values["batch_normalization"]
    x = _convolve(inputs, values["stem_filters"], 7, "stem", normalise, strides=2)
    if values["stem_pooling"]:
        x = layers.MaxPooling2D(3, strides=2, padding="same", name="stem_pooling")(x)
    for number, module in enumerate(_GOOGLENET[: values["modules"]], 1):
        x = _inception_module(x, module.times(values["width"]), f"module_{number}", values["reduction"], normalise)
        if number in _HALVED_AFTER and number < values["modules"]:
            x = layers.MaxPooling2D(3, strides=2, padding="same", name=f"module_{number}_halving")(x)
    return drop(pool_features(x, values["pooling"]), values["dropout"], seed)


def _inception_module(inputs: Any, module: _Module, name: str, reduction: bool, normalise: bool) -> Any:
    before_3x3 = before_5x5 = inputs
    if reduction:
        before_3x3 = _convolve(inputs, module.reduction_3x3, 1, f"{name}_reduction_3x3", normalise)
        before_5x5 = _convolve(inputs, module.reduction_5x5, 1, f"{name}_reduction_5x5", normalise)
    pooled = layers.MaxPooling2D(3, strides=1, padding="same", name=f"{name}_pooling")(inputs)
    branches = [
        _convolve(inputs, module.of_1x1, 1, f"{name}_1x1", normalise),
        _convolve(before_3x3, module.of_3x3, 3, f"{name}_3x3", normalise),
        _convolve(before_5x5, module.of_5x5, 5, f"{name}_5x5", normalise),
        _convolve(pooled, module.of_pooling, 1, f"{name}_projection", normalise),
    ]
    return layers.Concatenate(name=name)(branches)
