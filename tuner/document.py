"""A YAML text as plain values, with the line of every one of them.

Safe by construction: only plain scalars, lists and mappings are built (no tags, no objects), and size, depth and the
number of values (after aliases are followed) are bounded, so that a "YAML bomb" is refused instead of expanded.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import yaml

from tuner.errors import Problem

MAX_CHARACTERS = 1_000_000
MAX_DEPTH = 30
MAX_VALUES = 50_000

Path = tuple[str | int, ...]


@dataclass
class Document:
    """The values of a YAML text, the line (from 1) of each path, and what was wrong with the text."""

    values: Any = None
    lines: dict[Path, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    overridden: set[Path] = field(default_factory=set)
    """Paths whose values came from the command line, and so have no line."""

    def line(self, path: Path) -> int | None:
        """The line of `path`, or of the nearest thing around it that has one; None for an overridden value."""
        if any(path[: len(override)] == override for override in self.overridden):
            return None
        for length in range(len(path), -1, -1):
            if path[:length] in self.lines:
                return self.lines[path[:length]]
        return None


def dotted(path: Path) -> str:
    """`("space", "dropout", 0)` as `space.dropout[0]`.

    >>> dotted(("space", "dropout", 0))
    'space.dropout[0]'
    """
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


class _Refused(Exception):
    def __init__(self, message: str, line: int | None) -> None:
        super().__init__(message)
        self.message, self.line = message, line


def read_document(text: str) -> Document:
    """The document of `text`; what cannot be read is in its `problems`, never raised."""
    document = Document()
    try:
        _check_bounds(text)
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is not None:
            document.values = _Builder(document).build(node, ())
    except _Refused as refused:
        document.problems.append(Problem("", refused.message, refused.line))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        words = " ".join(part for part in (error.context, error.problem) if part)
        document.problems.append(Problem("", f"is not valid YAML: {words}", mark.line + 1 if mark else None))
    except yaml.YAMLError as error:
        document.problems.append(Problem("", f"is not valid YAML: {str(error).splitlines()[0]}"))
    return document


def _check_bounds(text: str) -> None:
    """Refuse what would exhaust the parser: it recurses once per level."""
    if len(text) > MAX_CHARACTERS:
        raise _Refused(f"must be at most {MAX_CHARACTERS:,} characters; got {len(text):,}", None)
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise _Refused(
                    f"must be nested at most {MAX_DEPTH} levels deep",
                    (event.start_mark.line + 1) if event.start_mark else None,
                )
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


class _Builder:
    """Builds plain values from YAML nodes; counts them, because aliases can repeat a node without end."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._resolver = yaml.SafeLoader("")
        self._count = 0

    def build(self, node: yaml.Node, path: Path) -> Any:
        line = node.start_mark.line + 1
        self._document.lines.setdefault(path, line)
        self._count += 1
        if self._count > MAX_VALUES or len(path) > MAX_DEPTH:
            raise _Refused(f"must hold at most {MAX_VALUES:,} values, {MAX_DEPTH} levels deep, aliases followed", line)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]
        return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise _Refused("must have plain names as keys", line)
            key = str(key_node.value)
            if key in values:
                self._document.problems.append(
                    Problem(
                        dotted((*path, key)),
                        f"must be given once; first on line {self._document.line((*path, key))}",
                        line,
                    )
                )
                continue
            self._document.lines[(*path, key)] = line
            values[key] = self.build(value_node, (*path, key))
        return values

    def _scalar(self, node: yaml.Node, path: Path) -> Any:
        line = node.start_mark.line + 1
        try:
            value = self._resolver.construct_object(node)
        except (yaml.YAMLError, ValueError, OverflowError):
            value = None
            self._document.problems.append(
                Problem(dotted(path), f"must be plain text or a number; got {str(node.value)[:60]!r}", line)
            )
        if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 2**53:
            self._document.problems.append(
                Problem(dotted(path), f"must be smaller than 2**53; got {node.value[:30]}", line)
            )
            return 0
        if isinstance(value, float) and not math.isfinite(value):
            self._document.problems.append(Problem(dotted(path), f"must be a finite number; got {node.value}", line))
            return 0.0
        if not isinstance(value, Hashable) or not isinstance(value, str | int | float | bool | None):
            return str(node.value)  # dates and the like stay the text that was written
        return value
