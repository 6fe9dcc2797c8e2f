"""Decorators by which own code registers itself, and the hyperparameters that it declares. Light: no Keras."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tuner.api._declarations import Function, check_parameters, first_words, named
from tuner.common.errors import InputError
from tuner.models.architectures import ARCHITECTURES
from tuner.models.own_networks import own_network
from tuner.models.parameters import GENERAL, HEAD, Parameter, Scalar


def Int(low: int, high: int, *, default: int | None = None, description: str = "") -> Parameter:
    """Return a hyperparameter of whole numbers from `low` to `high`, both included."""
    return _checked(Parameter("int", low=low, high=high, default=default, description=description), int)


def Float(low: float, high: float, *, default: float | None = None, description: str = "") -> Parameter:
    """Return a hyperparameter of numbers from `low` to `high`, both included."""
    return _checked(Parameter("float", low=low, high=high, default=default, description=description), float)


def Choice(*values: Scalar, default: Scalar = None, description: str = "") -> Parameter:
    """Return a hyperparameter that is one of some values; the first is the default, unless another is given."""
    if len(values) == 1 and isinstance(values[0], list | tuple):
        values = tuple(values[0])
    if not values or any(not isinstance(one, bool | int | float | str) for one in values):
        raise InputError(f"tuner.Choice must have values, each a text, a number or a truth value; got {values!r}")
    if len(set(map(repr, values))) < len(values):
        raise InputError(f"tuner.Choice must have each value once; got {', '.join(map(repr, values))}")
    chosen = Parameter("choice", values=values, default=default, description=description)
    return _checked(replace(chosen, default=values[0]) if default is None else chosen, object)


def Bool(*, default: bool = False, description: str = "") -> Parameter:
    """Return a hyperparameter that is true or false."""
    return _checked(Parameter("bool", default=default, description=description), bool)


def _checked(parameter: Parameter, kind: type) -> Parameter:
    """Return a hyperparameter whose range and default are right."""
    name = f"tuner.{parameter.kind.capitalize()}"
    if parameter.kind in ("int", "float"):
        for bound in (parameter.low, parameter.high):
            if isinstance(bound, bool) or not isinstance(bound, (int, kind)) or bound in (float("inf"), float("-inf")):
                raise InputError(
                    f"{name} must have {'whole' if kind is int else 'finite'} numbers as bounds; got {bound!r}"
                )
        if parameter.low is None or parameter.high is None or not parameter.low <= parameter.high:
            raise InputError(f"{name}: low must be at most high; got {parameter.low!r} and {parameter.high!r}")
    if parameter.default is not None and (problem := parameter.misfit(parameter.default)):
        raise InputError(f"{name}: default {problem}")
    return parameter


def architecture(
    function: Function | None = None,
    *,
    parameters: Mapping[str, Parameter] | None = None,
    name: str | None = None,
    description: str = "",
    minimum_px: int = 1,
    pixel_scaling: str | None = None,
) -> Any:
    """Register a function as an architecture, under its name or another one.

    The function takes the symbolic images `[N, h, w, c]` and its parameters by name. It returns the features `[N, F]`,
    from which the class is told; or, where `pixel_scaling` says which pixel values it reads, a `keras.Model` without a
    top, whose maps `[N, h, w, c]` or vectors `[N, F]` go under the head of tuner's own backbones: then it has their
    hyperparameters of the head, and `unfreeze_depth`.
    """

    def register(function: Function) -> Function:
        own, called = named("architecture", function, name)
        taken = {**dict.fromkeys([*GENERAL, "architecture"], "of every search")}
        taken |= dict.fromkeys(HEAD, "of the head on a backbone") if pixel_scaling is not None else {}
        found = check_parameters(called, function, parameters or {}, ["images"], taken)
        words = description or first_words(function) or f"{own}, own code"
        ARCHITECTURES.add_own(own, own_network(own, words, function, found, minimum_px, pixel_scaling))
        return function

    return register if function is None else register(function)
