"""Registry of values by name, with one helpful message for an unknown name; the words for nothing."""

from __future__ import annotations

import difflib
import importlib.metadata
import importlib.util
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from tuner.common._own_texts import digest_of, texts_of
from tuner.common.errors import DuplicateNameError, InputError, UnknownNameError, cause_of

Value = TypeVar("Value")
MOST_NAMES = 100
"""More than these are neither listed nor compared: no registry has them, only a file made to exhaust its reader."""


NOTHING = ("none", "no", "off", "false", "null")
NEVER_NOTHING = " and cannot be none"
"""Added to the rule of a setting that cannot be nothing, where somebody writes that it is."""


def is_nothing(value: object) -> bool:
    """Return whether a value says of a setting that it is nothing: `null`, `false`, or one of these words in any case.

    >>> [is_nothing(value) for value in (None, False, "Off", "never", 0, "")]
    [True, True, True, False, False, False]
    """
    return value is None or value is False or (isinstance(value, str) and value.strip().casefold() in NOTHING)


def unknown_name(kind: str, name: object, known: Iterable[str]) -> str:
    """Return the message for an unknown name: the nearest known one, which it may begin, then all of them.

    >>> unknown_name("sampler", "tpf", ["random", "tpe"])
    "unknown sampler 'tpf'; did you mean 'tpe'? (known: random, tpe)"
    >>> unknown_name("metric", "val_acc", ["val_auc", "val_accuracy"])
    "unknown metric 'val_acc'; did you mean 'val_accuracy'? (known: val_accuracy, val_auc)"
    """
    names, written = sorted(known), str(name)
    few, nearest = len(names) <= MOST_NAMES, nearest_name(written, names)
    hint = "; it cannot be none" if is_nothing(name) else f"; did you mean '{nearest}'?" if nearest else ""
    listed = ", ".join(names[:MOST_NAMES]) + ("" if few else f", ... ({len(names)} in all)")
    return f"unknown {kind} {str(name)[:80]!r}{hint} (known: {listed})"


def nearest_name(written: str, names: Sequence[str]) -> str | None:
    """Return the one name that begins as it is written, or else the nearest; None: none is near."""
    begun = [each for each in names if len(written) > 2 and each.startswith(written)]
    few = len(names) <= MOST_NAMES
    near = begun if len(begun) == 1 else difflib.get_close_matches(written, names, n=1, cutoff=0.5) if few else []
    return near[0] if near else None


class Origin(NamedTuple):
    """The own code that an entry comes from."""

    name: str
    """For messages: that of a plugin, or of an installed package."""
    sha256: str
    """Of its text."""


PROGRAM = Origin("this program", "")
"""Where own code comes from that is no plugin: no other process has it."""


class _Registering:
    """The plugin that is being loaded in this process, and the entries that it has registered so far."""

    def __init__(self) -> None:
        self.plugin: Origin | None = None
        self.entries: list[tuple[Registry[Any], str]] = []


_registering = _Registering()


@contextmanager
def registering(plugin: Origin) -> Iterator[list[tuple[Registry[Any], str]]]:
    """Let all that is registered within belong to a plugin, and give it as a list; nothing of it stays if it fails."""
    outer = _registering.plugin, _registering.entries
    _registering.plugin, _registering.entries = plugin, []
    entries = _registering.entries
    try:
        yield entries
    except BaseException:
        for registry, name in entries:
            registry.remove(name)
        raise
    finally:
        _registering.plugin, _registering.entries = outer


_installed: set[str] = set()


def installed_modules() -> frozenset[str]:
    """Return the modules of installed packages that registries have loaded in this process."""
    return frozenset(_installed)


@dataclass(frozen=True)
class Family(Generic[Value]):
    """Names with a prefix that are not listed: `make` gives the value of one, or raises InputError with the reason."""

    prefix: str
    make: Callable[[str], Value]


class Registry(Generic[Value]):
    """Values by name; `kind` is the word used in messages.

    `entry_points` is the group in which installed packages offer more of them. It is loaded once, when a name is asked
    for that is not there, or all are listed. A package that cannot be loaded matters to those who ask for its names.
    """

    def __init__(self, kind: str, entry_points: str | None = None, family: Family[Value] | None = None) -> None:
        self.kind = kind
        self._family = family
        self._of_family: dict[str, Value] = {}
        self._values: dict[str, Value] = {}
        self._origins: dict[str, Origin] = {}
        self._entry_points = entry_points
        self._problems: dict[str, str] = {}

    def add(self, name: str, value: Value) -> Value:
        """Register `value` under `name`; a name is registered once."""
        is_ours = str(sys._getframe(1).f_globals.get("__name__")).startswith("tuner.")
        return self._add(name, value, None if is_ours else _registering.plugin or PROGRAM)

    def add_own(self, name: str, value: Value) -> Value:
        """Register what belongs to the plugin that is being loaded, or else to the program that calls tuner."""
        return self._add(name, value, _registering.plugin or PROGRAM)

    def _add(self, name: str, value: Value, origin: Origin | None) -> Value:
        if name in (self._values if origin is None else self):
            raise DuplicateNameError(f"{self.kind} {name!r} is registered already, as {self._owner(name)}")
        self._values[name] = value
        if origin is not None:
            self._origins[name] = origin
            _registering.entries.append((self, name))
        return value

    def remove(self, name: str) -> None:
        """Remove what a plugin registered that has failed."""
        self._values.pop(name, None)
        self._origins.pop(name, None)

    def origin(self, name: str) -> Origin | None:
        """Return the own code that registered a name; None: it is tuner's own."""
        return self._origins.get(name)

    def _owner(self, name: str) -> str:
        return f"that of {self._origins[name].name}" if name in self._origins else "tuner's own"

    def __getitem__(self, name: str) -> Value:
        """Return the value of `name`; raises UnknownNameError with the nearest name."""
        if self._is_of_family(name):
            return self._made(name)
        if name in self:
            return self._values[name]
        if problem := self._problems.get(str(name)):
            raise UnknownNameError(f"{self.kind} {name!r} cannot be loaded: {problem}")
        raise UnknownNameError(unknown_name(self.kind, name, self._values))

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str):
            return False
        if self._is_of_family(name):
            return not self.refusal(name)
        if name not in self._values:
            self._load_entry_points()
        return name in self._values

    def refusal(self, name: str) -> str:
        """Return why there is no such name; empty: there is."""
        try:
            self[name]
        except InputError as error:
            return str(error)
        return ""

    def _is_of_family(self, name: str) -> bool:
        return self._family is not None and isinstance(name, str) and name.startswith(self._family.prefix)

    def _made(self, name: str) -> Value:
        if self._family is None:
            raise UnknownNameError(unknown_name(self.kind, name, self._values))
        if name not in self._of_family:
            self._of_family[name] = self._family.make(name)
        return self._of_family[name]

    def __iter__(self) -> Iterator[str]:
        self._load_entry_points()
        return iter(self._values)

    def __len__(self) -> int:
        self._load_entry_points()
        return len(self._values)

    def _load_entry_points(self) -> None:
        if self._entry_points is None:
            return
        group, self._entry_points = self._entry_points, None  # what is loaded may look here itself
        offered = list(importlib.metadata.entry_points(group=group))
        times = Counter(point.name for point in offered)
        for point in offered:
            package = point.dist.name if point.dist is not None else point.module
            if times[point.name] > 1:
                self._problems[point.name] = f"more than one installed package offers it, {package} among them"
                continue
            try:
                self._take_up(point, Origin(f"the installed package {package}", _installed_digest(point.module)))
            except Exception as error:  # noqa: BLE001 others' code; it matters to who asks for the name
                self._problems[point.name] = f"the installed package {package} fails with {cause_of(error)}"

    def _take_up(self, point: importlib.metadata.EntryPoint, origin: Origin) -> None:
        """Load an entry point, and register its object unless the loading of its module has registered something."""
        known = set(self._values)
        with registering(origin):
            found = point.load()
            _installed.add(point.module)
            if point.name in self._values or set(self._values) != known:
                return
            kinds = {type(value) for value in self._values.values()}
            if type(found) not in kinds:
                words = " or ".join(sorted(kind.__name__ for kind in kinds))
                raise TypeError(f"it registers nothing and is no {words}")
            self.add_own(point.name, found)


def _installed_digest(module: str) -> str:
    """Return the SHA-256 of an installed module's text, or of all of the package that it is in."""
    top = importlib.util.find_spec(module.partition(".")[0])
    if top is None or top.origin is None:
        raise ModuleNotFoundError(f"there is no module {module}")
    file = Path(top.origin).resolve()
    return digest_of(texts_of(file, file.parent.parent if top.submodule_search_locations else file.parent))
