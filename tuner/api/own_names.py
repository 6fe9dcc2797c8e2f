"""Configurations without the names that somebody has chosen: of own code, of branches, of folders with weights.

The words that come with tuner are kept. Every other becomes a number, the same one wherever it stands, as `own 3`:
with a space in it, it is the name of nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from tuner.common.errors import PipelineError
from tuner.common.registry import Registry, is_nothing
from tuner.models.augment.operations import AUGMENTATION
from tuner.models.augmentation import by_operation, call_with, parse_augment, registered_name, strength_parameter
from tuner.models.operations import Call
from tuner.models.parameters import GENERAL, OF_ARCHITECTURES, Parameter, Scalar
from tuner.models.preprocessing import PREPROCESSING, parse_preprocess
from tuner.spec.strengths import OWNER

ARCHITECTURE, PREPROCESS = "architecture", "preprocess"
_HUB = ("weights", "pooling"), ("pretrained", "class_token")
"""Parameters of KerasHub's backbones that take words which no others take."""
_PRESET = r"keras_hub:[\w.-]+"
"""A published backbone; one that was saved is known by its folder."""


def without_own_names() -> Callable[[Mapping[str, Scalar]], dict[str, Scalar]]:
    """Return what returns a configuration without names that somebody has chosen; it numbers them as they come."""
    numbers: dict[str, int] = {}

    def hidden(word: str) -> str:
        return f"own {numbers.setdefault(word, len(numbers) + 1)}"

    def shown_name(name: str) -> str:
        owner, _, rest = name.partition(".")
        if owner == OWNER and rest:
            return name if _is_strength(name) else f"{OWNER}.{hidden(rest)}"
        return name if name == ARCHITECTURE or any(_of_this_name(name)) else hidden(name)

    def shown(configuration: Mapping[str, Scalar]) -> dict[str, Scalar]:
        return {
            shown_name(name): hidden(value) if isinstance(value, str) and not _is_known(name, value) else value
            for name, value in configuration.items()
        }

    return shown


def _of_this_name(name: str) -> Iterator[Parameter]:
    """Yield the parameters that come with tuner and have this name."""
    for parameters in (GENERAL, *OF_ARCHITECTURES.values()):
        if name in parameters:
            yield parameters[name]


def _is_known(name: str, value: str) -> bool:
    """Return whether a text that a parameter has is of words that come with tuner."""
    if is_nothing(value):
        return True
    if name == ARCHITECTURE:
        return value in OF_ARCHITECTURES or re.fullmatch(_PRESET, value) is not None
    try:
        if name == PREPROCESS:
            return _come_with_tuner(parse_preprocess(value).calls, PREPROCESSING)
        if name == OWNER:
            return _come_with_tuner(parse_augment(value).calls, AUGMENTATION)
        if strengths := by_operation({name: value}):
            return _is_strength(name) and all(call_with(*one) is not None for one in strengths.items())
    except PipelineError:
        return False
    is_hubs = name in _HUB[0] and value in _HUB[1]
    return is_hubs or any(value in one.values for one in _of_this_name(name))


def _is_strength(name: str) -> bool:
    """Return whether a parameter is the strength of an operation that comes with tuner."""
    ((operation, arguments),) = by_operation({name: None}).items()
    try:
        strength_parameter(operation, *arguments)
    except PipelineError:
        return False
    return AUGMENTATION.origin(registered_name(operation)) is None


def _come_with_tuner(calls: Iterable[Call[Any]], registry: Registry[Any]) -> bool:
    return all(registry.origin(call.name) is None for call in calls)
