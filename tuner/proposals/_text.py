"""The text of a proposal: a search-space file with a comment for each choice. Pure."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from tuner.common.errors import printable
from tuner.proposals._proposal import Proposal
from tuner.proposals._settings import Setting

_WIDTH = 108
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*(\([A-Za-z0-9_,.=-]*\))?")
"""Texts that YAML reads as they are, if they are no word of its own."""
_WORDS = re.compile(r"y|n|yes|no|true|false|on|off|null|none", re.IGNORECASE)


def proposal_text(proposal: Proposal, head: str, group_pattern: str | None = None, group_question: str = "") -> str:
    """Return the text of the file, with `head` above it; a `group_pattern` becomes a question in a comment."""
    lines = [*_comment(head, 0)]
    for setting in proposal.settings:
        lines += _lines(setting, 0)
        if setting.name == "data" and group_pattern is not None:
            lines += [
                *_comment(f"{group_question} If so, take the # away:", 2),
                f"  # group: {_scalar(printable(group_pattern))}",
            ]
    return "\n".join(lines) + "\n"


def _lines(setting: Setting, depth: int) -> Iterator[str]:
    """Yield the lines of a setting at a depth of spaces, its reason above or behind it."""
    indent, name = " " * depth, _scalar(setting.name)
    inner = setting.value if isinstance(setting.value, tuple) else None
    line = f"{indent}{name}:" if inner is not None else f"{indent}{name}: {_flow(setting.value)}"
    behind = f"{line}  # {printable(setting.why)}"
    if setting.why and (len(behind) > _WIDTH or "\n" in line):
        yield from _comment(setting.why, depth)
    yield behind if setting.why and len(behind) <= _WIDTH else line
    for one in inner or ():
        yield from _lines(one, depth + 2)


def _comment(text: str, depth: int) -> Iterator[str]:
    """Yield a text as lines of a comment."""
    mark = f"{' ' * depth}# "
    for line in textwrap.wrap(printable(text), _WIDTH - len(mark), break_long_words=False, break_on_hyphens=False):
        yield mark + line


def _flow(value: Any) -> str:
    """Return a value on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_scalar(str(name))}: {_flow(each)}" for name, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return _scalar(value)


def _scalar(value: Any) -> str:
    """Return a value as YAML reads it back; what need not be quoted is not.

    >>> print(*map(_scalar, (True, 3e-4, 1e-5, 32, "none", "off", "scale(-1,1)", "a: b", "30m", "1e3")), sep=" | ")
    true | 0.0003 | 1.0e-05 | 32 | none | "off" | "scale(-1,1)" | "a: b" | 30m | "1e3"
    """
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return re.sub(r"^(-?[0-9]+)e", r"\1.0e", repr(value))
    if isinstance(value, int):
        return str(value)
    text = str(value)
    is_time = re.fullmatch(r"([0-9.]+[hms])+", text) is not None
    is_plain = (
        _PLAIN.fullmatch(text) is not None and "," not in text and not (_WORDS.fullmatch(text) and text != "none")
    )
    return text if is_plain or is_time else _quoted(text)


def _quoted(text: str) -> str:
    r"""Return a text in quotes, what cannot be printed as its number.

    >>> print(_quoted('a "b" \\ \u2028'), _quoted("\U000e0001"))
    "a \"b\" \\ \u2028" "\U000e0001"
    """
    escaped = json.dumps(text, ensure_ascii=False)
    numbers = (
        one if one.isprintable() else f"\\u{ord(one):04x}" if ord(one) < 65536 else f"\\U{ord(one):08x}"
        for one in escaped
    )
    return "".join(numbers)
