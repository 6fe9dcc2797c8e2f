"""What the documents say, taken out of their Markdown: blocks, commands, links, headings, tables, paths."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.support import ROOT

FOR_USERS = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
"""The pages whose every command and every YAML block is run or read by a test."""
DOCUMENTS = (
    *FOR_USERS,
    *(ROOT / name for name in ("ARCHITECTURE.md", "CONTRIBUTING.md")),
    *sorted((ROOT / "cluster").rglob("*.md")),
)
"""Also those for whoever changes tuner, or brings up a cluster; not what is history, and not the benchmarks' own."""


class Block(NamedTuple):
    """A piece of code in a document; `language` is empty where it is indented instead of fenced."""

    document: Path
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        """Where it stands, for messages and the names of tests."""
        return f"{self.document.relative_to(ROOT)}:{self.line}"


def blocks(document: Path) -> Iterator[Block]:
    """Yield the fenced and the indented blocks of a document, in order."""
    language: str | None = None
    kept: list[str] = []
    began = 0
    for number, line in enumerate([*document.read_text(encoding="utf-8").splitlines(), "end"], 1):
        fence = re.match(r"```(\w*)", line)
        is_code = language is None and line.startswith("    ")
        if kept and language is None and not is_code and line.strip():
            yield Block(document, began, "", "\n".join(kept).rstrip() + "\n")
            kept = []
        if fence and language is None:
            language, began = fence[1] or "text", number + 1
        elif fence and language is not None:
            yield Block(document, began, language, "\n".join(kept) + "\n")
            language, kept = None, []
        elif language is not None:
            kept.append(line)
        elif is_code or (kept and not line.strip()):
            began = began if kept else number
            kept.append(line[4:])


def prose(document: Path) -> str:
    """Return a document without its fenced and indented blocks."""
    text = re.sub(r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return "\n".join(line for line in text.splitlines() if not line.startswith("    "))


def inline_codes(document: Path) -> list[str]:
    """Return what stands between single backticks, with line breaks as spaces."""
    return [re.sub(r"\s+", " ", code) for code in re.findall(r"`([^`]+)`", prose(document))]


class Command(NamedTuple):
    """A command of a document: its words, comments taken away."""

    place: str
    words: tuple[str, ...]

    @property
    def text(self) -> str:
        """The command on one line, without its quotes."""
        return " ".join(self.words)


def shell_commands(document: Path) -> Iterator[Command]:
    """Yield the commands of the indented blocks; one goes on where a line ends with a backslash or an open quote."""
    for block in blocks(document):
        pending = ""
        for offset, line in enumerate(block.text.splitlines() if not block.language else ()):
            pending = f"{pending} {line.strip()}" if pending else line
            if pending.endswith("\\"):
                pending = pending[:-1]
                continue
            try:
                words = shlex.split(pending, comments=True)
            except ValueError:  # a quote is still open
                continue
            pending = ""
            if words:
                yield Command(f"{document.relative_to(ROOT)}:{block.line + offset}", tuple(words))


def module_commands(document: Path) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Yield (place, module, arguments) of each `python -m tuner.X ...`, also within other commands and in the prose."""
    found = [(command.place, command.words) for command in shell_commands(document)]
    for code in inline_codes(document):
        if re.match(r"python -m tuner\.[a-z]+ ", code):  # with arguments: otherwise it is only named
            found.append((f"{document.relative_to(ROOT)}: {code}", tuple(shlex.split(code))))
    while found:
        place, words = found.pop()
        found += [(place, tuple(shlex.split(word))) for word in words if "python -m tuner." in word]
        for index, word in enumerate(words[:-1]):
            if word == "-m" and re.match(r"tuner\.[a-z]", words[index + 1]):
                ended = next((end for end, each in enumerate(words) if each in ("&&", "|", ";") and end > index), None)
                yield place, words[index + 1], words[index + 2 : ended]


def anchors(document: Path) -> set[str]:
    """Return the anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


def links(document: Path) -> list[tuple[str, str]]:
    """Return (path, anchor) of every relative link and picture; either may be empty."""
    targets = re.findall(r"\]\(([^)\s]+)\)", prose(document))
    pairs = [target.partition("#")[::2] for target in targets if "://" not in target]
    return [(path, anchor) for path, anchor in pairs]


def table(document: Path, first_heading: str) -> list[list[str]]:
    """Return the rows, as cells, of the table whose first heading cell is `first_heading`."""
    rows: list[list[str]] = []
    inside = False
    for line in document.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]
        if not line.startswith("|"):
            inside = False
        elif inside and not set(line) <= set("|- :"):
            rows.append(cells)
        inside = inside or (line.startswith("|") and cells[0] == first_heading)
    return rows


def codes_of(cell: str) -> list[str]:
    """Return what stands between backticks in a cell of a table."""
    return re.findall(r"`([^`]+)`", cell)
