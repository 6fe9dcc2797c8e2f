"""User text inside Markdown: class names, paths and values stay what they are, whatever characters they hold."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

# Everything that GitHub's Markdown gives a meaning inside a line. An underscore inside a word has none.
_MEANINGFUL = re.compile(r"[\\`*\[\]<>|~&$#!{}]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
_WHITE = re.compile(r"[\s\x00-\x1f\x7f\u2028\u2029]+")


def escaped(text: object) -> str:
    """`text` on one line, to be read as it is.

    >>> print(escaped("resize(64)|scale(-1,1)"), escaped("mobilenet_v2"), escaped("*bold*"))
    resize(64)\\|scale(-1,1) mobilenet_v2 \\*bold\\*
    """
    return _MEANINGFUL.sub(lambda match: "\\" + match.group(), _WHITE.sub(" ", str(text)).strip())


def table(header: Sequence[str], rows: Iterable[Sequence[str]], numbers: frozenset[str] = frozenset()) -> list[str]:
    """The lines of a table; cells are Markdown already. Columns named in `numbers` are aligned to the right."""
    ruler = ["---:" if name in numbers else "---" for name in header]
    return ["| " + " | ".join(cells) + " |" for cells in (header, ruler, *rows)]


def fenced(text: str, language: str = "") -> list[str]:
    """The lines of a code block; its fence is longer than any run of backticks in `text`.

    >>> fenced("a ``` b")
    ['````', 'a ``` b', '````']
    """
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return [fence + language, *text.rstrip("\n").splitlines(), fence]
