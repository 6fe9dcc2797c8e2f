"""The decorator by which a training function registers itself as what the trials of a search train. Light: no Keras."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from tuner.algorithms.schedulers import MUTABLE
from tuner.api._declarations import check_declared, first_words, named
from tuner.common.errors import InputError
from tuner.common.registry import unknown_name
from tuner.models.parameters import OF_TRAINABLES, Parameter
from tuner.training.trainable import (
    SIGNATURE,
    TRAINABLES,
    Predict,
    Train,
    Trainable,
    YieldedEpoch,
    check_signature,
    load_state,
)

__all__ = ["Epoch", "load_state", "trainable"]

Epoch = YieldedEpoch
"""What a training function yields after each epoch: `tuner.Epoch(metrics, state)`."""


def trainable(
    function: Any = None,
    *,
    parameters: Mapping[str, Parameter] | None = None,
    name: str | None = None,
    description: str = "",
    changeable: Sequence[str] | None = None,
    predict: Predict | None = None,
) -> Any:
    """Register a generator `train(configuration, data, state=None)`, under its name or another one.

    It yields `tuner.Epoch(metrics, state)` after each epoch; given a `state` that it has yielded, it goes on from there
    as if there had been no stop. `predict(configuration, data, state, images)`, given here or below `@train.predict`,
    returns probabilities `[N, K]` for images `[N, H, W, C] uint8`. `changeable` are the parameters that a population
    may change in a running training (None: those named as tuner's own, such as learning_rate).
    """

    def register(function: Train) -> Trainable:
        own, called = named("trainable", function, name, "my_loop")
        _check_generator(called, function)
        found = _checked_parameters(called, {} if parameters is None else parameters)
        made = Trainable(
            own, function, found, description or first_words(function), _changeable(called, found, changeable)
        )
        if predict is not None:
            made.predict(predict)
        TRAINABLES.add_own(own, made)
        OF_TRAINABLES[own] = found
        return made

    return register if function is None else register(function)


def _check_generator(called: str, function: Any) -> None:
    """Refuse what is no generator function of the right arguments."""
    written = f"def {SIGNATURE}"
    if not callable(function) or isinstance(function, type):
        raise InputError(f"{called}: the decorator belongs to a generator function, {written}; got {function!r:.80}")
    inner = inspect.unwrap(function)
    if inspect.isasyncgenfunction(inner) or inspect.iscoroutinefunction(inner):
        raise InputError(f"{called}: the function must not be async: write it as {written}")
    if not inspect.isgeneratorfunction(inner) and not inspect.isgeneratorfunction(type(inner).__call__):
        raise InputError(
            f"{called}: the function must be a generator, which yields tuner.Epoch(metrics, state) after each epoch; "
            "it has no yield"
        )
    try:
        check_signature(function, ("configuration", "data", "state"), SIGNATURE)
    except InputError as error:
        raise InputError(f"{called}: {error}") from None


def _checked_parameters(called: str, declared: Any) -> dict[str, Parameter]:
    """Return the declared parameters; raises InputError where one is none, or lacks a default."""
    if not isinstance(declared, Mapping):
        raise InputError(f'{called}: parameters must be by name: {{"units": tuner.Int(16, 256, default=64)}}')
    for name, parameter in declared.items():
        check_declared(called, name, parameter)
        if name in RESERVED:
            raise InputError(f"{called}: {name} has a meaning of its own for tuner; choose another name")
        if parameter.default is None:
            kind = parameter.kind.capitalize()
            raise InputError(f"{called}: {name} must have a default: tuner.{kind}(..., default=...)")
    return dict(declared)


RESERVED = ("architecture", "trial", "configuration", "resume_from", "generation", "origin", "mutable")
"""Names that a trial of Ray's, or a table, has for something else."""


def _changeable(called: str, parameters: Mapping[str, Parameter], wanted: Sequence[str] | None) -> tuple[str, ...]:
    if wanted is None:
        return tuple(name for name in parameters if name in MUTABLE)
    names = (wanted,) if isinstance(wanted, str) else tuple(wanted)
    for name in names:
        if name not in parameters:
            raise InputError(f"{called}: changeable: {unknown_name('parameter', name, parameters)}")
    return names
