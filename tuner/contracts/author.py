"""The files of the author of some code: where things stand in them, and errors told by their lines. Light."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import os
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import FrameType
from typing import Any

from tuner.common.errors import TunerError, first_line, printable

_RED = re.compile(r"\x1b\[1m(.*?)\x1b\[0m", re.DOTALL)


@dataclass(frozen=True)
class Author:
    """An author, known by a file, or by the folder of a package."""

    place: Path
    seen: Mapping[str, str] = field(default_factory=dict)
    """Lines that did something to the whole process when the code was loaded, and what."""
    before: Mapping[str, Any] = field(default_factory=dict)
    """The state of the process before the code was loaded; empty: not looked at."""

    @classmethod
    def of(cls, reference: str, seen: Mapping[str, str] | None = None) -> Author:
        """Return the author of a plugin: of its file, or of the package that its module is in."""
        if reference.endswith(".py") or os.sep in reference:
            return cls(Path(reference).resolve(), seen or {})
        spec = importlib.util.find_spec(reference.partition(".")[0])
        if spec is None:
            return cls(Path(reference), seen or {})
        places = list(spec.submodule_search_locations or ())
        return cls(Path(places[0] if places else spec.origin or reference).resolve(), seen or {})

    def owns(self, file: str) -> bool:
        """Return whether a file is the author's."""
        path = Path(file)
        return path == self.place or (self.place.is_dir() and path.is_relative_to(self.place))

    def line(self, file: str, number: int) -> str:
        """Return a line of the author's as it is told: `own.py:12`."""
        name = Path(file).relative_to(self.place.parent) if self.place.is_dir() else Path(file).name
        return f"{name}:{number}"

    def explain(self, error: BaseException) -> str:
        """Return one sentence about an error: the author's line that led to it, and its message without a traceback."""
        root = next((one for one in reversed(list(_chain(error))) if self._own_frames(one)), None)
        if root is None or isinstance(root, TunerError):
            return printable(
                str(error) if isinstance(error, TunerError) else f"{type(error).__name__}: {_message(error)}"
            )
        frame = self._own_frames(root)[-1]
        place = f"{self.line(frame.filename, frame.lineno or 0)} (in {frame.name})"
        return printable(f"{type(root).__name__} at {place}: {_message(root)}")

    def is_refusal(self, error: BaseException) -> bool:
        """Return whether the author's own code raises this on purpose: a `raise` stands where it comes from."""
        for one in _chain(error):
            frames = traceback.extract_tb(one.__traceback__)
            last = frames[-1] if frames else None
            if last is not None and self.owns(last.filename) and (last.line or "").lstrip().startswith("raise"):
                return True
        return False

    def _own_frames(self, error: BaseException) -> list[traceback.FrameSummary]:
        return [frame for frame in traceback.extract_tb(error.__traceback__) if self.owns(frame.filename)]

    def class_line(self, kind: type) -> str | None:
        """Return where a class is written; None: it is not the author's."""
        module = sys.modules.get(kind.__module__)
        file = getattr(module, "__file__", None)
        if file is None or not self.owns(str(Path(file).resolve())):
            return None
        try:
            return self.line(str(Path(file).resolve()), inspect.getsourcelines(kind)[1])
        except (OSError, TypeError):
            return self.line(str(Path(file).resolve()), 1)

    def calling_line(self, *, above: int = 1, is_direct: bool = False) -> str | None:
        """Return the author's line that is being executed, the innermost; None: no line of the author's is.

        `above` frames are left out; `is_direct`: only the next one is looked at.
        """
        frame: FrameType | None = sys._getframe(above)
        while frame is not None:
            if self.owns(frame.f_code.co_filename):
                return self.line(frame.f_code.co_filename, frame.f_lineno)
            frame = None if is_direct else frame.f_back
        return None

    @cached_property
    def _trees(self) -> dict[str, ast.Module]:
        files = sorted(self.place.rglob("*.py")) if self.place.is_dir() else [self.place]
        found = {}
        for file in files:
            try:
                found[str(file)] = ast.parse(file.read_text())
            except (OSError, SyntaxError, ValueError):
                continue
        return found

    def calls(self, pattern: str) -> str:
        """Return where functions of such dotted names are called, as ` (own.py:12, own.py:30)`; empty: nowhere."""
        places = [
            self.line(file, node.lineno)
            for file, tree in self._trees.items()
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and re.fullmatch(pattern, ast.unparse(node.func))
        ]
        return f" ({', '.join(dict.fromkeys(places[:4]))})" if places else ""

    def text_line(self, value: str) -> str:
        """Return where a text stands in the author's files, as ` (own.py:12)`; empty: nowhere."""
        for file, tree in self._trees.items():
            for node in ast.walk(tree):
                if isinstance(node, ast.Constant) and node.value == value:
                    return f" ({self.line(file, node.lineno)})"
        return ""

    def mentions(self, text: str) -> int:
        """Return how often a text stands in the author's files."""
        nodes = (node for tree in self._trees.values() for node in ast.walk(tree))
        return sum(isinstance(node, ast.Constant) and node.value == text for node in nodes)

    def reads(self, function: Any, name: str) -> bool:
        """Return whether a function's body may read one of its parameters; True where its text cannot be found."""
        code = getattr(inspect.unwrap(function), "__code__", None)
        if code is None:
            return True
        for file, tree in self._trees.items():
            for node in ast.walk(tree):
                lines = {getattr(node, "lineno", 0), *(each.lineno for each in getattr(node, "decorator_list", ()))}
                if file == code.co_filename and isinstance(node, ast.FunctionDef) and code.co_firstlineno in lines:
                    inner = [each for part in node.body for each in ast.walk(part)]
                    names = {each.id for each in inner if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Load)}
                    return bool({name, "locals"} & names) or node.args.kwarg is not None
        return True


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those that led to it."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)


def _message(error: BaseException) -> str:
    """Return the first line of a message, and of Keras's the part that it underlines."""
    underlined = _RED.search(str(error))
    text = (underlined[1] if underlined else str(error)).strip()
    return (text.splitlines() or [first_line(error)])[0][:300]
