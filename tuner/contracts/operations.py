"""The subjects of checks of the one-line language: augmentations and preprocessing operations, with texts to try."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from tuner.contracts.author import Author

_FAR = 10.0
"""In place of a bound that an argument lacks."""


@dataclass(frozen=True)
class OperationSubject:
    """A registered augmentation or preprocessing operation, and what its author calls it."""

    name: str
    arguments: Sequence[Any]
    """Its arguments, as `tuner.models` describes them: name, kind, range or words, default."""
    author: Author
    example: str = ""
    """A text with it, in place of the one that follows from its arguments."""

    @property
    def text(self) -> str:
        """The operation with its defaults; what has none is in the middle of its range."""
        return self.example or self._written({})

    def texts(self) -> Iterator[str]:
        """Yield the operation with its defaults, and with each argument at the ends of its range, once each."""
        yield self.text
        seen = {self.text}
        for argument in self.arguments:
            for value in ends_of(argument):
                text = self._written({argument.name: value})
                if text not in seen:
                    seen.add(text)
                    yield text

    def _written(self, changes: dict[str, Any]) -> str:
        values = {each.name: _middle(each) for each in self.arguments} | changes
        written = ",".join(f"{name}={value}" for name, value in values.items())
        return f"{self.name}({written})" if written else self.name


def ends_of(argument: Any) -> list[Any]:
    """Return the values at which an argument is tried: each word, or both ends of its range."""
    return list(argument.words) if argument.kind is str else [_bound(argument, end) for end in ("low", "high")]


def _bound(argument: Any, end: str) -> int | float:
    value = float(getattr(argument, end))
    value = value if math.isfinite(value) else math.copysign(_FAR, value)
    return int(value) if argument.kind is int else value


def _middle(argument: Any) -> Any:
    if argument.default is not None:
        return argument.default
    if argument.kind is str:
        return argument.words[0]
    middle = (_bound(argument, "low") + _bound(argument, "high")) / 2
    return max(_bound(argument, "low"), int(middle)) if argument.kind is int else middle
