"""The one-line language of preprocessing and augmentation: `resize(64)|scale(-1,1)`.

Operations are separated by `|`; each is a registered name with arguments in brackets, by place or by name. The idea is
big_vision's: such a text can be logged, hashed, compared and put into a search space. Light: no Keras here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from tuner.common.errors import PipelineError
from tuner.common.registry import Registry, unknown_name
from tuner.spec.strengths import NotACall, split_calls

MAX_CHARACTERS = 500
NONE = "none"
Value = float | int | str


@dataclass(frozen=True)
class Argument:
    """One argument of an operation: a number in a range, or one of some words. Without a default it must be given."""

    name: str
    kind: type[int] | type[float] | type[str]
    low: float = -math.inf
    high: float = math.inf
    words: tuple[str, ...] = ()
    default: Value | None = None
    is_strength: bool = False
    """Whether the operation changes nothing where this is 0 (and all others of this kind), and is then left out."""

    @property
    def rule(self) -> str:
        """The rule that a value must keep."""
        if self.kind is str:
            return f"must be one of {', '.join(self.words)}"
        noun = "a whole number" if self.kind is int else "a number"
        if math.isinf(self.low) and math.isinf(self.high):
            return f"must be {noun}"
        return f"must be {noun} between {self.low:g} and {self.high:g}"

    def read(self, text: str) -> Value | None:
        """Return the value written as `text`, or None when the argument does not take it."""
        if self.kind is str:
            return text if text in self.words else None
        try:
            value: float = int(text) if self.kind is int else float(text)
        except ValueError:
            return None
        return value if self.low <= value <= self.high else None  # False for NaN


Effect = TypeVar("Effect")


@dataclass(frozen=True)
class Operation(Generic[Effect]):
    """A registered operation: its arguments, its effect, and one line about it."""

    arguments: tuple[Argument, ...]
    effect: Effect
    description: str
    mixes_labels: bool = False
    """True for an augmentation that changes labels too, so that its images cannot be kept without them."""


@dataclass(frozen=True)
class Call(Generic[Effect]):
    """An operation with the values of its arguments."""

    name: str
    values: Mapping[str, Value]
    operation: Operation[Effect]

    @property
    def is_nothing(self) -> bool:
        """Whether all its strengths are 0, so that it changes nothing."""
        strengths = [self.values[each.name] for each in self.operation.arguments if each.is_strength]
        return bool(strengths) and not any(strengths)

    @property
    def text(self) -> str:
        """The call as it is written: defaults left out, numbers in their shortest form."""
        written: list[str] = []
        by_name = False
        for argument in self.operation.arguments:
            if self.values[argument.name] == argument.default:
                by_name = True  # what follows a gap must say which argument it is
                continue
            value = format_value(self.values[argument.name])
            written.append(f"{argument.name}={value}" if by_name else value)
        return f"{self.name}({','.join(written)})" if written else self.name


def format_value(value: Value) -> str:
    """Return a value in its shortest form that reads back the same.

    >>> format_value(64), format_value(-1.0), format_value(0.1), format_value("bilinear")
    ('64', '-1', '0.1', 'bilinear')
    """
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return repr(value) if isinstance(value, float) else str(value)


def parse_pipeline(text: str, registry: Registry[Operation[Effect]]) -> tuple[Call[Effect], ...]:
    """Return the calls written as `text`; `none` and the empty text are the identity.

    Raises PipelineError when the text is not of the form, an operation is unknown, or an argument is not what it takes.
    """
    if len(text) > MAX_CHARACTERS:
        raise PipelineError(f"{registry.kind} text must be at most {MAX_CHARACTERS} characters; got {len(text)}")
    if text.strip() in ("", NONE):
        return ()
    try:
        written = split_calls(text)
    except NotACall as part:
        raise PipelineError(
            f"{registry.kind} must be written name or name(arguments), separated by |; got {str(part)[:60]!r}"
        ) from None
    return tuple(call_of(name, arguments, registry) for name, arguments in written)


def call_of(name: str, arguments: str, registry: Registry[Operation[Effect]]) -> Call[Effect]:
    """Return one call of a registered operation, its arguments as they stand between the brackets of a text.

    Raises PipelineError as `parse_pipeline` does.
    """
    if name not in registry:
        raise PipelineError(unknown_name(registry.kind, name, registry))
    operation = registry[name]
    written = [part.strip() for part in arguments.split(",")] if arguments else []
    return Call(name, _read_arguments(name, written, operation.arguments), operation)


def _read_arguments(name: str, written: list[str], arguments: tuple[Argument, ...]) -> dict[str, Value]:
    """Return the value of every argument: by place, then by name, then by default."""
    known = {argument.name: argument for argument in arguments}
    values: dict[str, Value] = {}
    for place, text in enumerate(written):
        key, equals, value_text = (part.strip() for part in text.partition("="))
        if not equals:
            if "=" in "".join(written[:place]):
                raise PipelineError(
                    f"{name}: what is given by place must come before what is given by name; got {text!r}"
                )
            if place >= len(arguments):
                raise PipelineError(f"{name} must have at most {len(arguments)} arguments; got {len(written)}")
            key, value_text = arguments[place].name, text
        if key not in known:
            raise PipelineError(f"{name}: {unknown_name('argument', key, known)}")
        if key in values:
            raise PipelineError(f"{name}: {key} must be given once")
        value = known[key].read(value_text)
        if value is None:
            raise PipelineError(f"{name}: {key} {known[key].rule}; got {value_text[:40]!r}")
        values[key] = value
    for argument in arguments:
        if argument.name not in values:
            if argument.default is None:
                raise PipelineError(f"{name}: {argument.name} must be given; it {argument.rule}")
            values[argument.name] = argument.default
    return {argument.name: values[argument.name] for argument in arguments}
