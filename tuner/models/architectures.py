"""Registry of architectures, with their parameters, ranges and defaults. Light: Keras is loaded when one is built.

A new backbone of Keras Applications is one line in `applications`; its blocks are found from its graph (`blocks`).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tuner.common.registry import Family, Registry
from tuner.models.applications import BACKBONES, Backbone, PixelScaling
from tuner.models.parameters import GENERAL, OF_ARCHITECTURES, Parameter, Scalar, values_of

PRETRAINED = "imagenet"
"""The `weights` of a backbone that begins with trained ones."""


@dataclass(frozen=True)
class Architecture:
    """The parameters and the builder of one kind of network.

    `build(values, inputs, seed)`, with `values` from `values_of`, returns for a backbone the `keras.Model` without its
    top for images of the shape `inputs`, `(h, w, 3)`, which gives maps, tokens or a vector; for a network from scratch
    the features `[N, F]`, from which the class is told, of the symbolic images `inputs`, `[N, h, w, c]`.
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
    is_own: bool = False
    """Whether `build` is own code: what it draws is drawn when it is built, and its weights are left as they are."""

    @property
    def is_backbone(self) -> bool:
        """Whether this is a network under a head, such as one of Keras Applications, rather than one from scratch."""
        return self.pixel_scaling is not None

    def values_of(self, configuration: Mapping[str, Any]) -> dict[str, Any]:
        """Return every parameter of this architecture with its value in `configuration`, or its default.

        Raises:
            InputError: a value is not one that its parameter takes.
        """
        return values_of(self.parameters, configuration)


def _of_keras_hub(name: str) -> Architecture:
    """Return the architecture of a preset, from the module that builds it and itself needs this one."""
    made: Architecture = importlib.import_module("tuner.models.hub_backbones").hub_architecture(name)
    return made


ARCHITECTURES: Registry[Architecture] = Registry(
    "architecture", "tuner.architectures", family=Family("keras_hub:", _of_keras_hub)
)


def _add_from_scratch(name: str, description: str, minimum_px: int) -> None:
    """Register a network whose features the function `NAME_features` of `_from_scratch` builds."""

    def build(values: Mapping[str, Any], inputs: Any, seed: int) -> Any:
        from tuner.models import _from_scratch

        return getattr(_from_scratch, f"{name}_features")(values, inputs, seed)

    ARCHITECTURES.add(
        name, Architecture(name, description, OF_ARCHITECTURES[name], minimum_px, build, names_layers=True)
    )


_add_from_scratch("dense", "hidden dense layers on the pixels", 1)
_add_from_scratch("cnn", "blocks of convolutions and max pooling, then dense layers", 4)
_add_from_scratch("inception", "a 7x7 stem of stride 2 and GoogLeNet's inception modules", 4)


def _add_backbone(name: str, backbone: Backbone) -> None:
    """Register a network of Keras Applications."""

    def build(values: Mapping[str, Any], inputs: Any, seed: int) -> Any:
        from tuner.models.backbones import build_backbone

        return build_backbone(backbone.application, values, inputs, seed)

    parameters = OF_ARCHITECTURES[name]
    description = f"{backbone.application} of Keras Applications under a head"
    facts = (backbone.application, backbone.pixel_scaling, (*{"alpha"} & parameters.keys(), "weights"), True)
    ARCHITECTURES.add(name, Architecture(name, description, parameters, backbone.minimum_px, build, *facts))


for _name, _backbone in BACKBONES.items():
    _add_backbone(_name, _backbone)


def meaning_of_nothing(name: str, architectures: Sequence[str] = ()) -> Scalar:
    """Return how a hyperparameter that a file calls nothing is kept (0 for a dropout); None where it cannot be.

    It is one of `architectures`, as far as these have it: own ones may call a number or a switch as others do.
    """
    if name.startswith("augment."):
        from tuner.models.augmentation import meaning_of_no_strength  # with numpy, which the registry does without

        return meaning_of_no_strength(name)
    names = [*(each for each in architectures if each in ARCHITECTURES), *ARCHITECTURES]
    owners = [GENERAL, *(ARCHITECTURES[each].parameters for each in names)]
    return next((owner[name].nothing for owner in owners if name in owner), None)
