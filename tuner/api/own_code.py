"""Decorators by which own code registers itself, and the hyperparameters that it declares. Light: no Keras."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

from tuner.common.errors import InputError
from tuner.common.registry import is_nothing, unknown_name
from tuner.models.architectures import ARCHITECTURES
from tuner.models.own_networks import own_network
from tuner.models.parameters import GENERAL, HEAD, Parameter, Scalar

Function = TypeVar("Function", bound=Callable[..., Any])


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
        own = str(name or getattr(function, "__name__", ""))
        called = f"architecture {own}"
        _check_name(called, own)
        found = _check_parameters(called, function, parameters or {}, pixel_scaling is not None)
        words = description or _first_line(function) or f"{own}, own code"
        ARCHITECTURES.add(own, own_network(own, words, function, found, minimum_px, pixel_scaling))
        return function

    return register if function is None else register(function)


def _check_name(called: str, name: str) -> None:
    if not name.isidentifier() or is_nothing(name):
        raise InputError(f'{called}: the name must be a word of letters, digits and _; give another: name="my_net"')


def _first_line(function: Any) -> str:
    return (inspect.getdoc(function) or "").partition("\n")[0].rstrip(".")


def _check_parameters(
    called: str, function: Callable[..., Any], declared: Mapping[str, Parameter], is_backbone: bool
) -> dict[str, Parameter]:
    """Return the declared parameters with their defaults; raises InputError where the function takes others."""
    if not isinstance(declared, Mapping):
        raise InputError(f'{called}: parameters must be by name: {{"width": tuner.Int(16, 256, default=64)}}')
    taken = {**dict.fromkeys(GENERAL, "of every search"), "architecture": "of every search"}
    taken |= dict.fromkeys(HEAD, "of the head on a backbone") if is_backbone else {}
    signature = _signature(called, function)
    others = list(signature.parameters.values())[1:]
    takes_any = any(one.kind is one.VAR_KEYWORD for one in others)
    by_name = {one.name: one for one in others if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)}
    found: dict[str, Parameter] = {}
    for name, parameter in declared.items():
        if not isinstance(parameter, Parameter):
            raise InputError(f"{called}: {name} must be a tuner.Int, Float, Choice or Bool; got {parameter!r:.80}")
        if not isinstance(name, str) or not name.isidentifier():
            raise InputError(f"{called}: the name of a parameter must be a word of letters, digits and _; got {name!r}")
        if name in taken:
            raise InputError(f"{called}: {name} is a hyperparameter {taken[name]} already; choose another name")
        if name not in by_name and not takes_any:
            raise InputError(f"{called}: the function does not take {unknown_name('parameter', name, by_name)}")
        found[name] = _with_default(called, name, parameter, by_name.get(name))
    for name, one in by_name.items():
        if name not in declared and one.default is one.empty:
            raise InputError(
                f"{called}: the function needs {name}, which parameters do not declare: "
                f'add "{name}": tuner.Int(...), or give it a default'
            )
    return found


def _signature(called: str, function: Callable[..., Any]) -> inspect.Signature:
    if not callable(function):
        raise InputError(f"{called}: the decorator belongs to a function; got {function!r:.80}")
    signature = inspect.signature(function)
    first = next(iter(signature.parameters.values()), None)
    if first is None or first.kind not in (first.POSITIONAL_ONLY, first.POSITIONAL_OR_KEYWORD):
        raise InputError(f"{called}: the function must take the images first: def {called.split()[-1]}(images, ...)")
    return signature


def _with_default(called: str, name: str, parameter: Parameter, written: inspect.Parameter | None) -> Parameter:
    """Return a parameter with its default, or else with that of the function."""
    if parameter.default is not None:
        return parameter
    default = None if written is None or written.default is written.empty else written.default
    if default is None:
        raise InputError(f"{called}: {name} must have a default: tuner.{parameter.kind.capitalize()}(..., default=...)")
    if problem := parameter.misfit(default):
        raise InputError(f"{called}: the default of {name} {problem}")
    return replace(parameter, default=default)
