"""A search as Python asks for it: the same words as on the command line, with the same checks and errors."""

from __future__ import annotations

import hashlib
import html
import io
import json
import os
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from rich.console import Console

from tuner.api import _notebook
from tuner.api._data import source_of
from tuner.api.running import RunningSearch, run_to_the_end
from tuner.common.command_line import CommandParser
from tuner.common.errors import InputError, Problem, SpecError, UnknownNameError
from tuner.common.files import check_folder, user_path, write_text
from tuner.common.plugins import plugin_references
from tuner.common.registry import unknown_name
from tuner.datasets.prepared import BROUGHT, default_cache_dir
from tuner.reports.console import SearchConsole
from tuner.session.options import build_search_parser, parse_search_options
from tuner.spec.spec import dump_spec

if TYPE_CHECKING:
    from tuner.api.run import Run

_OWN = ("help", "version", "plan", "inline", "retrain", "plugin")
"""Options of the command that are none here: methods, or arguments of a study."""


class Plan(str):
    """The text of `--plan`, shown as it is."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(self)}</pre>"


class Study:
    """A search to come: a space, data and own code.

    `spec` is the path of a search-space file, or its values as a dictionary; None: `tuner` proposes a space for the
    data. `data`, where the space has no source or another is meant, is a source as in a file (`"folder:photos"`),
    arrays `(images, labels)` or `((images, labels), (images, labels))` for training and test, or a table (pandas,
    Polars, Arrow) with a column of images, as paths or bytes. `plugins` are files or modules of own code. All
    else are options of `python -m tuner.search` by their names, with `_` for `-`: `cache="cache"`, `runs="runs"`,
    `set={"search.trials": 8}`.

    Raises:
        InputError: of another form, or an option that there is not.
    """

    def __init__(
        self,
        spec: str | os.PathLike[str] | Mapping[str, Any] | None = None,
        data: Any = None,
        *,
        plugins: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
        **options: Any,
    ) -> None:
        if spec is None and data is None:
            raise InputError("spec or data must be given: a search-space file, or a source such as 'folder:photos'")
        cache = _cache(options)
        self._is_dictionary = isinstance(spec, Mapping)
        source = None if data is None else source_of(data, cache)
        self._first = _first_words(spec, source, cache)
        self._plugins = plugin_references(plugins)
        self._options = options
        self._words({})

    def _words(self, options: Mapping[str, Any], *more: str) -> list[str]:
        """Return the words of the command line; raises InputError where they contradict, before anything runs."""
        parser = build_search_parser()
        parser.raises = True
        together = {**self._options, **options}
        if "set" in self._options and "set" in options:
            together["set"] = [*_repeated(self._options["set"]), *_repeated(options["set"])]
        words = [*self._first, *(f"--plugin={each}" for each in self._plugins)]
        words += [*option_words(parser, together), *more]
        parse_search_options(words, parser)
        return words

    def plan(self, **options: Any) -> Plan:
        """Return what the search would do, as `--plan` says it: space, rungs, epochs, disk use, warnings.

        Raises:
            InputError: what the command would refuse.
        """
        search = RunningSearch(self._words(options, "--plan"), SearchConsole(Console(file=io.StringIO())))
        try:
            return Plan(search.plan())
        except KeyboardInterrupt:
            search.stop()
            raise
        except SpecError as error:
            raise self._without_lines(error) from None

    @overload
    def run(
        self, time: str | float | timedelta | None = None, *, background: Literal[False] = False, **options: Any
    ) -> Run: ...
    @overload
    def run(
        self, time: str | float | timedelta | None = None, *, background: Literal[True], **options: Any
    ) -> RunningSearch: ...
    def run(
        self, time: str | float | timedelta | None = None, *, background: bool = False, **options: Any
    ) -> Run | RunningSearch:
        """Search, in a process of its own as the command would, and return the run; Ctrl-C stops and keeps everything.

        `time` is what all may take ("30m", seconds). In the `background`, what is returned at once can be waited for,
        asked and stopped. `resume=True` goes on with the study's latest
        unfinished run, `fresh=True` begins another.

        Raises:
            InputError: what the command would refuse: nothing was trained then.
            TunerError: what ended it.
        """
        words = self._words(options, *_time_words(time))
        if background:
            return RunningSearch(words, _notebook.KeptConsole(), self._plugins)
        try:
            console = _notebook.NotebookConsole() if _notebook.is_notebook() else SearchConsole()
            return run_to_the_end(words, console, self._plugins)
        except SpecError as error:
            raise self._without_lines(error) from None

    def _without_lines(self, error: SpecError) -> SpecError:
        """Return what is wrong with a dictionary in terms of the dictionary, which has no lines."""
        if not self._is_dictionary:
            return error
        return SpecError("spec", [Problem(each.field, each.message) for each in error.problems])

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {' '.join(self._words({}))}>"


def _cache(options: Mapping[str, Any]) -> Path:
    folder = user_path(options.get("cache") or default_cache_dir()).absolute()
    check_folder(folder, "cache (or TUNER_CACHE)", is_written=not folder.exists())
    return folder


def _first_words(spec: Any, source: str | None, cache: Path) -> list[str]:
    """Return the words that say what is searched, on which data."""
    if spec is None:
        return [str(source)]
    if isinstance(spec, Mapping):
        text = dump_spec(_plain(spec, "spec"))
        file = cache / BROUGHT / f"space-{hashlib.sha256(text.encode()).hexdigest()[:16]}.yaml"
        written = str(file if file.is_file() else write_text(file, text))
    elif isinstance(spec, str | os.PathLike):
        written = os.fspath(spec)
        if "\n" in written:
            raise InputError("spec must be the path of a file, or a dictionary; got a text of several lines")
    else:
        raise InputError(f"spec must be the path of a file, a dictionary or None; got {type(spec).__name__}")
    return [written, *([] if source is None else [f"--set=data.source={json.dumps(source, ensure_ascii=False)}"])]


def _plain(value: Any, place: str) -> Any:
    """Return values as a file may hold them."""
    if isinstance(value, Mapping):
        return {_key(key, place): _plain(inner, f"{place}.{key}") for key, inner in value.items()}
    if isinstance(value, list | tuple | set | np.ndarray):
        return [_plain(inner, f"{place}[{index}]") for index, inner in enumerate(value)]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if value is None or type(value) in (str, int, float, bool):
        return value
    raise InputError(
        f"{place} must be a text, a number, true, false, a list or a dictionary; got {type(value).__name__}"
    )


def _key(key: Any, place: str) -> Any:
    if isinstance(key, str | int | float | bool):
        return key
    raise InputError(f"{place} must have texts as keys; got {type(key).__name__}")


def _time_words(time: str | float | timedelta | None) -> tuple[str, ...]:
    """Return the words that say how long all may take."""
    if time is None:
        return ()
    if isinstance(time, str):
        return (f"--time={time}",)
    seconds = time.total_seconds() if isinstance(time, timedelta) else time
    if not isinstance(seconds, int | float) or isinstance(seconds, bool):
        raise InputError(f"time must be a text such as '30m', or seconds; got {time!r}")
    return (f"--time={np.format_float_positional(seconds, trim='-')}s",)


# --- options as words ---


def option_words(parser: CommandParser, options: Mapping[str, Any]) -> list[str]:
    """Return the words of a command line for options by their names.

    Raises:
        InputError: there is no such option, or it takes no such value.
    """
    known = {name: action for name, action in parser.keywords().items() if name not in _OWN}
    words: list[str] = []
    for name, value in options.items():
        if name not in known:
            hint = "; a setting of the file is given as set={'search.trials': 8}"
            raise UnknownNameError(f"{unknown_name('option', name, known)}{hint}")
        action, option = known[name], f"--{name.replace('_', '-')}"
        if value is None or value is False:
            continue
        if action.nargs == 0 or (action.nargs == "?" and value is True):
            if value is not True:
                raise InputError(f"{name} must be True or False; got {value!r}")
            words.append(option)
        elif value is True:
            raise InputError(f"{name} must have a value; got True")
        elif action.nargs == "+":
            words += [option, *([_text(each) for each in _repeated(value)] or ["none"])]
        else:
            values = _repeated(value) if type(action).__name__ == "_AppendAction" else [value]
            words += [f"{option}={_text(each)}" for each in values]
    return words


def _repeated(value: Any) -> list[Any]:
    """Return the values of an option that may be given several times; of a dictionary, `name=value` each."""
    if isinstance(value, Mapping):
        return [f"{name}={_in_yaml(inner)}" for name, inner in value.items()]
    return list(value) if isinstance(value, list | tuple) else [value]


def _in_yaml(value: Any) -> str:
    plain = _plain(value, "set")
    return plain if isinstance(plain, str) and "\n" not in plain else json.dumps(plain, ensure_ascii=False)


def _text(value: Any) -> str:
    if isinstance(value, str | os.PathLike):
        return os.fspath(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value)
    raise InputError(f"an option must be a text, a path or a number; got {type(value).__name__}")
