"""Registry of architectures, with their parameters, ranges and defaults. Light: Keras is loaded when one is built.

A new backbone of Keras Applications is one line at the bottom; its blocks are found from its graph (`blocks`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tuner.common.errors import InputError
from tuner.common.registry import Registry
from tuner.models.parameters import GENERAL, Parameter, PixelScaling, Scalar


@dataclass(frozen=True)
class Architecture:
    """The parameters and the builder of one kind of network.

    `build(values, inputs, seed)`, with `values` from `values_of`, returns for a backbone the `keras.Model` without its
    top for images of the shape `inputs`, `(h, w, 3)`; for a network from scratch the features `[N, F]`, from which the
    class is told, of the symbolic images `inputs`, `[N, h, w, c]`.
    """

    name: str
    description: str
    parameters: Mapping[str, Parameter]
    minimum_px: int
    """The smallest height and width that `build` takes (with the default parameters)."""
    build: Callable[[Mapping[str, Any], Any, int], Any]
    application: str | None = None
    """The name of a backbone in keras.applications."""
    pixel_scaling: PixelScaling | None = None
    backbone_parameters: tuple[str, ...] | None = None
    """The only parameters, with `weights`, that a backbone's `build` reads: trials that differ in others share it,
    and with `weights: imagenet` also those of other seeds. None: it may read any, and the seed."""
    names_layers: bool = False
    """Whether `build` names every layer. Those names stay; otherwise layers are numbered anew, as Keras would name
    them in a new process. Initial weights follow from the names."""

    @property
    def is_backbone(self) -> bool:
        """Whether this is a network of Keras Applications under a head, rather than one from scratch."""
        return self.application is not None

    def values_of(self, configuration: Mapping[str, Any]) -> dict[str, Any]:
        """Return every parameter of this architecture with its value in `configuration`, or its default.

        Raises:
            InputError: a value is not one that its parameter takes.
        """
        values = {name: configuration.get(name, parameter.default) for name, parameter in self.parameters.items()}
        for name, parameter in self.parameters.items():
            if problem := parameter.misfit(values[name]):
                raise InputError(f"{name} {problem}")
        return values


ARCHITECTURES: Registry[Architecture] = Registry("architecture")


def _dropout(default: float, where: str) -> Parameter:
    return Parameter("float", low=0.0, high=0.9, default=default, description=f"share of values dropped {where}")


def _choice(description: str, default: str, *values: str) -> Parameter:
    return Parameter("choice", values=values, default=default, description=description)


_POOLING = "how a feature map becomes a vector"
_BATCH_NORMALIZATION = Parameter("bool", default=False, description="normalise by batch before each ReLU")
_DENSE_UNITS = Parameter("int", low=1, high=16_384, default=512, description="units of the first hidden dense layer")
_DENSE_GROWTH = Parameter("float", low=0.1, high=4.0, default=1.0, description="units times this at each next layer")


def _add_from_scratch(name: str, description: str, minimum_px: int, parameters: Mapping[str, Parameter]) -> None:
    """Register a network whose features the function `NAME_features` of `_from_scratch` builds."""

    def build(values: Mapping[str, Any], inputs: Any, seed: int) -> Any:
        from tuner.models import _from_scratch

        return getattr(_from_scratch, f"{name}_features")(values, inputs, seed)

    ARCHITECTURES.add(name, Architecture(name, description, parameters, minimum_px, build, names_layers=True))


_add_from_scratch(
    "dense",
    "hidden dense layers on the pixels",
    1,
    {
        "hidden_layers": Parameter("int", low=0, high=20, default=3, description="hidden dense layers (ReLU)"),
        "dense_units": _DENSE_UNITS,
        "dense_growth": _DENSE_GROWTH,
        "dropout": _dropout(0.0, "after each hidden layer"),
        "batch_normalization": _BATCH_NORMALIZATION,
    },
)
_add_from_scratch(
    "cnn",
    "blocks of convolutions and max pooling, then dense layers",
    4,
    {
        "blocks": Parameter("int", low=1, high=8, default=2, description="blocks, each ending in 2x2 max pooling"),
        "convolutions_per_block": Parameter("int", low=1, high=6, default=2, description="convolutions (ReLU)"),
        "filters": Parameter("int", low=1, high=2048, default=32, description="filters in the first block"),
        "filters_growth": Parameter("float", low=0.5, high=4.0, default=2.0, description="times this per block"),
        "max_filters": Parameter("int", low=1, high=4096, default=512, description="filters where growth ends"),
        "kernel_px": Parameter("int", low=1, high=15, default=3, description="kernel of the first block"),
        "kernel_growth_px": Parameter("int", low=0, high=4, default=0, description="kernel grows by this per block"),
        "padding": _choice(
            "last_valid: only the last convolution of each block is unpadded", "same", "same", "valid", "last_valid"
        ),
        "block_dropout": _dropout(0.0, "after each block"),
        "pooling": _choice(_POOLING, "flatten", "flatten", "average", "max"),
        "dense_layers": Parameter("int", low=0, high=10, default=1, description="hidden dense layers (ReLU)"),
        "dense_units": _DENSE_UNITS,
        "dense_growth": _DENSE_GROWTH,
        "dropout": _dropout(0.5, "before the softmax"),
        "batch_normalization": _BATCH_NORMALIZATION,
    },
)
_add_from_scratch(
    "inception",
    "a 7x7 stem of stride 2 and GoogLeNet's inception modules",
    4,
    {
        "stem_filters": Parameter("int", low=1, high=512, default=64, description="filters of the 7x7 stem"),
        "stem_pooling": Parameter("bool", default=True, description="3x3 max pooling of stride 2 after the stem"),
        "modules": Parameter("int", low=1, high=9, default=2, description="modules, with GoogLeNet's filters"),
        "width": Parameter("float", low=0.1, high=4.0, default=1.0, description="times GoogLeNet's filters"),
        "reduction": Parameter("bool", default=False, description="1x1 convolutions before 3x3 and 5x5"),
        "pooling": _choice(_POOLING, "average", "average", "max", "flatten"),
        "dropout": _dropout(0.0, "before the softmax"),
        "batch_normalization": _BATCH_NORMALIZATION,
    },
)

_HEAD = {
    "weights": _choice("none: random weights from the seed", "imagenet", "imagenet", "none"),
    "unfreeze_depth": Parameter(
        "int", low=0, default=0, description="blocks trained after the head phase, from the output; 0: head only"
    ),
    "pooling": _choice(_POOLING, "average", "average", "max", "flatten"),
    "head_batch_normalization": Parameter("bool", default=False, description="normalise by batch after pooling"),
    "head_layers": Parameter("int", low=1, high=10, default=1, description="hidden dense layers, if head_units"),
    "head_units": Parameter("int", low=0, high=16_384, default=0, description="units of each; 0: no hidden layers"),
    "dropout": _dropout(0.0, "before the softmax"),
}


def _add_backbone(
    name: str, application: str, pixel_scaling: PixelScaling, minimum_px: int = 32, alphas: tuple[float, ...] = ()
) -> None:
    """Register a network of Keras Applications; `alphas` are the widths for which there are ImageNet weights."""

    def build(values: Mapping[str, Any], inputs: Any, seed: int) -> Any:
        from tuner.models.backbones import build_backbone

        return build_backbone(application, values, inputs, seed)

    width = {"alpha": Parameter("choice", values=alphas, default=1.0, description="width")} if alphas else {}
    description, own = f"{application} of Keras Applications under a head", (*width, "weights")
    facts = (application, pixel_scaling, own, True)
    ARCHITECTURES.add(name, Architecture(name, description, {**width, **_HEAD}, minimum_px, build, *facts))


_add_backbone("mobilenet_v2", "MobileNetV2", "tf", alphas=(0.35, 0.5, 0.75, 1.0, 1.3, 1.4))
_add_backbone("mobilenet_v3_small", "MobileNetV3Small", "tf", alphas=(0.75, 1.0))
_add_backbone("mobilenet_v3_large", "MobileNetV3Large", "tf", alphas=(0.75, 1.0))
_add_backbone("vgg16", "VGG16", "caffe")
_add_backbone("resnet50_v2", "ResNet50V2", "tf")
_add_backbone("inception_v3", "InceptionV3", "tf", minimum_px=75)
_add_backbone("densenet121", "DenseNet121", "torch")
_add_backbone("efficientnet_v2_b0", "EfficientNetV2B0", "torch")
_add_backbone("convnext_tiny", "ConvNeXtTiny", "torch")


def meaning_of_nothing(name: str) -> Scalar:
    """Return how a hyperparameter that a file calls nothing is kept (0 for a dropout); None where it cannot be."""
    owners = [GENERAL, *(ARCHITECTURES[each].parameters for each in ARCHITECTURES)]
    return next((owner[name].nothing for owner in owners if name in owner), None)
