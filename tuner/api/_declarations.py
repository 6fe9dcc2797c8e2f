"""Declarations of own code: names, and parameters that must be those of the function below the decorator."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from tuner.common.errors import InputError
from tuner.common.registry import is_nothing, unknown_name
from tuner.models.parameters import Parameter

Function = TypeVar("Function", bound=Callable[..., Any])


def named(kind: str, function: Any, name: str | None, example: str = "my_net") -> tuple[str, str]:
    """Return the name of own code, and with its kind; raises InputError where it is no word."""
    own = str(name or getattr(function, "__name__", ""))
    if not own.isidentifier() or is_nothing(own):
        raise InputError(
            f'{kind} {own}: the name must be a word of letters, digits and _; give another: name="{example}"'
        )
    return own, f"{kind} {own}"


def first_words(function: Any) -> str:
    return (inspect.getdoc(function) or "").partition("\n")[0].rstrip(".")


def check_parameters(
    called: str,
    function: Callable[..., Any],
    declared: Mapping[str, Parameter],
    given: Sequence[str],
    taken: Mapping[str, str],
    *,
    needs_defaults: bool = True,
) -> dict[str, Parameter]:
    """Return the declared parameters with their defaults; raises InputError where the function takes others.

    `given` are the arguments that it gets by place; `taken` are names that cannot be declared, and whose they are.
    """
    if not isinstance(declared, Mapping):
        raise InputError(f'{called}: parameters must be by name: {{"width": tuner.Int(16, 256, default=64)}}')
    others = _others(called, function, given)
    takes_any = any(one.kind is one.VAR_KEYWORD for one in others)
    by_name = {one.name: one for one in others if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)}
    found: dict[str, Parameter] = {}
    for name, parameter in declared.items():
        check_declared(called, name, parameter)
        if name in taken:
            raise InputError(f"{called}: {name} is a hyperparameter {taken[name]} already; choose another name")
        if name not in by_name and not takes_any:
            raise InputError(f"{called}: the function does not take {unknown_name('parameter', name, by_name)}")
        found[name] = _with_default(called, name, parameter, by_name.get(name), needs_defaults)
    for name, one in by_name.items():
        if name not in declared and one.default is one.empty:
            raise InputError(
                f"{called}: the function needs {name}, which parameters do not declare: "
                f'add "{name}": tuner.Int(...), or give it a default'
            )
    return found


def check_declared(called: str, name: Any, parameter: Any) -> None:
    """Refuse what is no parameter, or has no name that an argument can have."""
    if not isinstance(parameter, Parameter):
        raise InputError(f"{called}: {name} must be a tuner.Int, Float, Choice or Bool; got {parameter!r:.80}")
    if not isinstance(name, str) or not name.isidentifier():
        raise InputError(f"{called}: the name of a parameter must be a word of letters, digits and _; got {name!r}")


def _others(called: str, function: Callable[..., Any], given: Sequence[str]) -> list[inspect.Parameter]:
    """Return the arguments of a function behind those that it gets by place."""
    if not callable(function):
        raise InputError(f"{called}: the decorator belongs to a function; got {function!r:.80}")
    every = list(inspect.signature(function).parameters.values())
    first = every[: len(given)]
    if len(first) < len(given) or any(one.kind in (one.KEYWORD_ONLY, one.VAR_KEYWORD) for one in first):
        what = " and ".join(given)
        raise InputError(
            f"{called}: the function must take the {what} first: def {called.split()[-1]}({', '.join(given)}, ...)"
        )
    return every[len(given) :]


def _with_default(
    called: str, name: str, parameter: Parameter, written: inspect.Parameter | None, is_needed: bool
) -> Parameter:
    """Return a parameter with its default, or else with that of the function."""
    if parameter.default is not None:
        return parameter
    default = None if written is None or written.default is written.empty else written.default
    if default is None and not is_needed:
        return parameter
    if default is None:
        raise InputError(f"{called}: {name} must have a default: tuner.{parameter.kind.capitalize()}(..., default=...)")
    if problem := parameter.misfit(default):
        raise InputError(f"{called}: the default of {name} {problem}")
    return replace(parameter, default=default)
