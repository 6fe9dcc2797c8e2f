"""Reading of a YAML text as plain values, with the line of each of them.

Safe by construction: only plain scalars, lists and mappings are built (no tags, no objects), and size, depth and the
number of values (after aliases are followed) are bounded, so that a "YAML bomb" is refused instead of expanded.

Scalars are those of YAML 1.2's core schema. PyYAML's own are of YAML 1.1, where `1e-4` is a text, `010` is 8, `1:30` is
90 and `no` is false: each a trap in a file of learning rates and names.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from tuner.common.errors import Problem

MAX_CHARACTERS = 1_000_000
MAX_DEPTH = 30
MAX_VALUES = 20_000

Path = tuple[str | int, ...]


_TAG = "tag:yaml.org,2002:"
_NUMBER = r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
_CORE: tuple[tuple[str, str, str], ...] = (  # (tag, form, first characters) of YAML 1.2's core schema, in order
    ("null", r"~|null|Null|NULL|", "~nN"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    ("float", rf"{_NUMBER}|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", "-+.0123456789"),
)
_SCALARS: dict[str, Callable[[str], Any]] = {
    _TAG + "null": lambda _text: None,
    _TAG + "bool": lambda text: text.lower() == "true",
    _TAG + "int": int,
    _TAG + "float": lambda text: float(re.sub(r"\.(inf|nan)$", r"\1", text.lower())),
    _TAG + "str": str,
}


class _Loader(yaml.SafeLoader):
    """A loader that reads plain scalars by the core schema of YAML 1.2 alone."""


_Loader.yaml_implicit_resolvers = {}  # begun anew: those of the base are of YAML 1.1


class _Dumper(yaml.SafeDumper):
    """A dumper that quotes every text that YAML 1.1 or 1.2 would read as something else."""


for _tag, _form, _first in _CORE:
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(_TAG + _tag, re.compile(rf"(?:{_form})\Z"), [*_first, *([""] * (_tag == "null"))])


def dump_document(values: Mapping[str, Any]) -> str:
    """Return plain values as a YAML text that reads back as the same values."""
    return yaml.dump(dict(values), Dumper=_Dumper, sort_keys=False, allow_unicode=True)


@dataclass
class Document:
    """The values of a YAML text, the line (from 1) of each path, and the problems of the text."""

    values: Any = None
    lines: dict[Path, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    overridden: set[Path] = field(default_factory=set)
    """Paths whose values came from the command line, and so have no line."""
    unusable: set[str] = field(default_factory=set)
    """Fields whose values were not usable; something stands in for them, of which nobody wants to hear."""
    left_empty: set[Path] = field(default_factory=set)
    """Paths without a value: somebody may have commented out what stood there; `null` is written on purpose."""
    around_unusable: set[str] = field(default_factory=set)
    """The lists that hold them: what is said of the whole list may be due to them, too."""

    def is_echo(self, field: str) -> bool:
        """Return whether a problem of `field` may be due only to the stand-in for an unusable value."""
        if field in self.around_unusable:
            return True
        ends = [match.start() for match in re.finditer(r"[.\[]|$", field)]
        return bool(self.unusable) and any(field[:end] in self.unusable for end in ends)

    def line(self, path: Path) -> int | None:
        """Return the line of `path`, or of the nearest path around it; None for values from an override."""
        if any(path[: len(override)] == override for override in self.overridden):
            return None
        if path not in self.lines and any(override[: len(path)] == path for override in self.overridden):
            return None
        around = (path[:length] for length in range(len(path), -1, -1))
        return next((self.lines[part] for part in around if part in self.lines), None)


def dotted(path: Path) -> str:
    """Return `("space", "dropout", 0)` as `space.dropout[0]`.

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
    """Return the document of `text`; problems with the text are listed in its `problems`, never raised."""
    document = Document()
    try:
        _check_bounds(text)
        node = yaml.compose(text, Loader=_Loader)
        if node is not None:
            document.values = _Builder(document).build(node, ())
    except _Refused as refused:
        document.problems.append(Problem("", refused.message, refused.line))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        words = " ".join(part for part in (error.context, error.problem) if part)
        document.problems.append(Problem("", f"is not valid YAML: {words}", mark.line + 1 if mark else None))
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        document.problems.append(Problem("", f"must be text; got the character {chr(error.character)!r}", line))
    except (ValueError, OverflowError) as error:  # PyYAML's scanner: numbers in %YAML, escapes beyond Unicode
        document.problems.append(Problem("", f"is not valid YAML: something is out of range: {error}"))
    return document


def _check_bounds(text: str) -> None:
    """Refuse a text that would exhaust the parser, which recurses once per level."""
    if len(text) > MAX_CHARACTERS:
        raise _Refused(f"must be at most {MAX_CHARACTERS:,} characters; got {len(text):,}", None)
    depth = nodes = 0
    for event in yaml.parse(text, Loader=_Loader):
        line = event.start_mark.line + 1 if event.start_mark else None
        nodes += isinstance(event, yaml.NodeEvent)
        if nodes > 2 * MAX_VALUES:  # keys are nodes too
            raise _Refused(_TOO_MANY, line)
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise _Refused(f"must be nested at most {MAX_DEPTH} levels deep", line)
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


_TOO_MANY = f"must hold at most {MAX_VALUES:,} values, {MAX_DEPTH} levels deep, aliases followed"


class _Builder:
    """Builder of plain values from YAML nodes; it counts them, because aliases can repeat a node without end."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._count = 0

    def build(self, node: yaml.Node, path: Path) -> Any:
        line = node.start_mark.line + 1
        self._document.lines.setdefault(path, line)
        self._count += 1
        if self._count > MAX_VALUES or len(path) > MAX_DEPTH:
            raise _Refused(_TOO_MANY, line)
        if isinstance(node, yaml.CollectionNode) and node.tag not in (_TAG + "map", _TAG + "seq"):
            return self._unusable(node, path, "must be a plain list or mapping", node.tag, "")
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, (*path, index)) for index, item in enumerate(node.value)]
        return self._scalar(node, path)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            key = str(key_node.value)
            if wrong := _wrong_key(key_node):
                self._document.problems.append(Problem(dotted(path), wrong, line))
            elif key in values:
                first = self._document.line((*path, key))
                message = f"must be given once; first on line {first}"
                self._document.problems.append(Problem(dotted((*path, key)), message, line))
            else:
                self._document.lines[(*path, key)] = line
                values[key] = self.build(value_node, (*path, key))
        return values

    def _scalar(self, node: yaml.Node, path: Path) -> Any:
        text = str(node.value)
        if not text and node.tag == _TAG + "null":
            self._document.left_empty.add(path)
        try:
            value = _SCALARS[node.tag](text)
        except (KeyError, ValueError):  # a tag of its own, a tag that does not fit, thousands of digits
            return self._unusable(node, path, "must be plain text or a number", text, "")
        if isinstance(value, int) and abs(value) > 2**53:
            return self._unusable(node, path, "must be smaller than 2**53", text, 0)
        if isinstance(value, float) and not math.isfinite(value):
            return self._unusable(node, path, "must be a finite number", text, 0.0)
        if isinstance(value, str) and _has_control_characters(value):
            return self._unusable(node, path, "must be text without control characters", text, "")
        return value

    def _unusable(self, node: yaml.Node, path: Path, rule: str, text: str, instead: Any) -> Any:
        shown = text[:60] if isinstance(instead, int | float) else repr(text[:60])
        self._document.problems.append(Problem(dotted(path), f"{rule}; got {shown}", node.start_mark.line + 1))
        self._document.unusable.add(dotted(path))
        if path and isinstance(path[-1], int):
            self._document.around_unusable.add(dotted(path[:-1]))
        return instead


def _wrong_key(node: yaml.Node) -> str | None:
    """Return the problem with the key of a mapping, or None."""
    if not isinstance(node, yaml.ScalarNode):
        return "must have plain names as keys; got a list or a mapping"
    if node.value == "<<" and node.style is None:
        return "must not merge (<<): write the settings out"
    if not node.value.isprintable() or len(node.value) > 200:
        return f"must have plain names as keys; got {node.value[:60]!r}"
    return None


def _has_control_characters(text: str) -> bool:
    """Return whether the text has characters that no file or terminal takes (lone surrogates among them)."""
    return any(unicodedata.category(character) in ("Cc", "Cs") for character in text if character not in "\n\t")
