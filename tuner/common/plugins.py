"""Plugins: own code that registers names, a file or a module, executed once in a process. Light."""

from __future__ import annotations

import atexit
import importlib
import importlib.util
import os
import re
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tuner.common._own_texts import digest_of, texts_of
from tuner.common.errors import InputError, PluginError, first_line, printable
from tuner.common.files import as_typed, shown, user_path
from tuner.common.registry import Origin, Registry, installed_modules, registering


@dataclass(frozen=True)
class Plugin:
    """Own code: a file of Python, or a module of a package."""

    name: str
    """For messages: the name of the file, or of the module."""
    reference: str
    """The absolute path of the file, or the name of the module."""
    sha256: str
    """Of its text; of a module, of all of the package that it is in."""
    module: str
    """The name by which Python knows it, and by which saved layers are found again."""
    registered: tuple[tuple[str, str], ...]
    """Kinds and names of what it registers."""
    texts: Mapping[str, bytes] = field(repr=False)
    """Its files, by their path in the folder from which they are imported: it is loaded from them elsewhere."""


PACKED = "plugins"
"""The folder of own code in the package of a job: files in folders named by their text, packages of Python."""
_loaded: dict[str, Plugin] = {}
_imported: set[str] = set()
"""Modules of own code that the program which calls tuner has imported itself, and then named as a plugin."""
_entries: list[tuple[Registry[Any], str]] = []


def loaded_plugins() -> tuple[Plugin, ...]:
    """Return the plugins of this process, in the order of their loading."""
    return tuple(_loaded.values())


def forget_plugins() -> None:
    """Forget all plugins of this process and what they registered, so that changed ones can be loaded."""
    for registry, name in _entries:
        registry.remove(name)
    for plugin in _loaded.values():
        _forget(set(), plugin.module)
    _entries.clear()
    _loaded.clear()


def load_plugins(references: Iterable[str]) -> tuple[Plugin, ...]:
    """Execute each `FILE.py` or importable `MODULE` once in this process, and return what they are.

    Raises:
        PluginError: one cannot be found, read or executed, or registers nothing or what cannot be.
    """
    return tuple(_load(reference) for reference in dict.fromkeys(references))


def plugin_references(plugins: Any) -> list[str]:
    """Return the references of plugins, of which one may be given alone; raises InputError when they are none."""
    found = [plugins] if isinstance(plugins, str | os.PathLike) else plugins
    if not isinstance(found, list | tuple) or not all(isinstance(each, str | os.PathLike) for each in found):
        raise InputError(f"plugins must be files or modules; got {plugins!r}")
    return [os.fspath(each) for each in found]


def load_unless_imported(references: Iterable[str]) -> tuple[Plugin, ...]:
    """Load plugins, but for those that this program has imported itself: what they register is there already."""
    loaded: list[Plugin] = []
    for reference in dict.fromkeys(references):
        path = _checked_file(reference) if is_file(reference) else None
        name = reference if path is None else path.stem
        file = getattr(sys.modules.get(name), "__file__", None)
        is_here = str(path or reference) not in _loaded and file is not None
        if is_here and (path is None or Path(str(file)).resolve() == path):
            _imported.add(name)
        else:
            loaded.append(_load(reference))
    return tuple(loaded)


def own_modules() -> set[str]:
    """Return the modules of all own code that is known in this process."""
    return {*_imported, *(plugin.module for plugin in _loaded.values()), *installed_modules()}


def how_to_give(references: Iterable[str]) -> str:
    """Return in words how own code is given, in a command and in Python.

    >>> how_to_give(["/gone/own.py"])
    "--plugin own.py (in Python: plugins=['own.py'])"
    """
    names = [as_given(one) for one in references] or ["FILE.py"]
    return f"{' '.join(f'--plugin {one}' for one in names)} (in Python: plugins={names})"


def as_given(reference: str) -> str:
    """Return a reference as it can be given here; of a file of another machine, or of a job's package, its name.

    >>> as_given("my.nets"), as_given("/gone/own.py"), as_given("/tmp/job/plugins/0123456789ab/own.py")
    ('my.nets', 'own.py', 'own.py')
    """
    path = Path(reference)
    if not is_file(reference):
        return reference
    is_packed = re.fullmatch("[0-9a-f]{12}", path.parent.name) and path.parent.parent.name == PACKED
    return as_typed(path) if path.is_file() and not is_packed else path.name


def open_plugins(plugins: Iterable[Plugin]) -> None:
    """Load, in a process that may be on another machine, the very plugins that another process has loaded.

    Raises:
        PluginError: one cannot be loaded here.
    """
    for plugin in plugins:
        known = {(one.name, one.sha256) for one in _loaded.values()}  # two modules of a package have its text both
        if (plugin.name, plugin.sha256) not in known:
            reference = plugin.reference if _is_here(plugin) else _unpack(plugin)
            load_plugins([reference])


def _is_here(plugin: Plugin) -> bool:
    """Return whether the same text lies here where it lay there."""
    try:
        if is_file(plugin.reference):
            path = Path(plugin.reference)
            return digest_of({path.name: path.read_bytes()}) == plugin.sha256
        return digest_of(texts_of(*_found_module(plugin.reference))) == plugin.sha256
    except (OSError, PluginError):
        return False


def _unpack(plugin: Plugin) -> str:
    """Write a plugin's text into a folder of this process, and return by what it is loaded from there."""
    folder = Path(tempfile.mkdtemp(prefix="tuner-plugin-")).resolve()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name, text in plugin.texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)
    if is_file(plugin.reference):
        return str(folder / Path(plugin.reference).name)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    return plugin.reference


def is_file(reference: str) -> bool:
    """Return whether a reference is a path, rather than the name of a module.

    >>> is_file("own.py"), is_file("code/own"), is_file("own.nets")
    (True, True, False)
    """
    return reference.endswith(".py") or os.sep in reference


def _load(reference: str) -> Plugin:
    path = _checked_file(reference) if is_file(reference) else None
    key = str(path or reference)
    if key not in _loaded:
        _loaded[key] = _load_file(path) if path is not None else _load_module(reference)
    elif path is not None and digest_of({path.name: _read(path)}) != _loaded[key].sha256:
        raise PluginError(f"{shown(path)}: the plugin has changed since this process loaded it: begin a new one")
    return _loaded[key]


def _checked_file(reference: str) -> Path:
    path = user_path(reference).absolute()
    rule = "--plugin must be a file of Python (own.py) or an importable module (package.module)"
    if path.is_dir():
        files = sorted(one.name for one in path.glob("*.py") if one.name != "__init__.py")
        hint = f"; did you mean {shown(path / files[0])}?" if files else ""
        raise PluginError(f"{rule}; {shown(path)} is a folder{hint}")
    if not path.is_file():
        raise PluginError(f"{rule}; there is no file {shown(path)}")
    if path.suffix != ".py":
        raise PluginError(f"{rule}; got {shown(path)}")
    return path.resolve()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PluginError(f"{shown(path)}: the plugin cannot be read: {error.strerror}") from None


def _load_file(path: Path) -> Plugin:
    name = path.stem
    if "." in name:
        raise PluginError(f"{shown(path)}: the name of a plugin's file must have no point before .py")
    _refuse_shadowing(name, path)
    text = _read(path)
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None:
        raise PluginError(f"{shown(path)}: the plugin cannot be read as Python")
    module = importlib.util.module_from_spec(spec)

    def execute() -> None:
        sys.modules[name] = module
        exec(compile(text, str(path), "exec", dont_inherit=True), module.__dict__)  # noqa: S102 --plugin names it to be run

    origin = Origin(path.name, digest_of({path.name: text}))
    registered = _execute(origin, path, name, execute)
    return Plugin(path.name, str(path), origin.sha256, name, registered, {path.name: text})


def _refuse_shadowing(name: str, path: Path) -> None:
    """Refuse a file that would stand for another module where its name is imported."""
    known = sys.modules.get(name)
    other = getattr(known, "__file__", None) or (name if known is not None else None)
    if known is None:
        try:
            spec = importlib.util.find_spec(name)
        except (ImportError, ValueError):
            spec = None
        other = spec.origin or name if spec is not None and spec.loader is not None else None
    if other is not None and not (Path(other).is_file() and Path(other).resolve() == path):
        raise PluginError(f"{shown(path)}: the name {name} is that of another module ({other}); rename the file")
    if known is not None:
        raise PluginError(f"{shown(path)}: the plugin is imported already, as module {name}; give it once")


def _load_module(reference: str) -> Plugin:
    if not all(part.isidentifier() for part in reference.split(".")):
        raise PluginError(
            f"--plugin must be a file of Python (own.py) or an importable module (package.module); got {reference!r}"
        )
    file, folder = _found_module(reference)
    texts = texts_of(file, folder)
    is_new = reference not in sys.modules
    origin = Origin(reference, digest_of(texts))
    registered = _execute(origin, file, reference, lambda: importlib.import_module(reference))
    if not is_new and not registered:
        raise PluginError(f"plugin {reference}: the module is imported already; give it once")
    return Plugin(reference, reference, origin.sha256, reference, registered, texts)


def _found_module(reference: str) -> tuple[Path, Path]:
    """Return the file of a module, and the folder that its topmost package or file lies in."""
    top = reference.partition(".")[0]
    try:
        root = importlib.util.find_spec(top)
        spec = importlib.util.find_spec(reference) if root is not None else None
    except Exception as error:  # noqa: BLE001 to look for a module runs the package around it
        found = sys.modules.get(top)
        if isinstance(error, ModuleNotFoundError) and error.name and f"{reference}.".startswith(f"{error.name}."):
            raise PluginError(f"plugin {reference}: no such module can be imported: {first_line(error)}") from None
        raise _failure(reference, Path(getattr(found, "__file__", None) or reference), error) from None
    if spec is None or root is None or spec.origin is None or not Path(spec.origin).is_file():
        beside = Path(f"{reference}.py")
        hint = f"; did you mean the file {beside}?" if beside.is_file() else ""
        raise PluginError(
            f"plugin {reference}: no such module can be imported{hint or '; is its folder in PYTHONPATH?'}"
        )
    file = Path(spec.origin).resolve()
    places = list(root.submodule_search_locations or ())
    return file, Path(places[0]).resolve().parent if places else file.parent


def _execute(origin: Origin, file: Path, module: str, execute: Callable[[], object]) -> tuple[tuple[str, str], ...]:
    """Execute a plugin, and return kinds and names of what it registers; nothing of one that fails stays."""
    before = set(sys.modules)
    try:
        with registering(origin) as entries:
            execute()
            if not entries:
                raise PluginError(
                    f"{shown(file)}: the plugin registers nothing; it must hold a function below "
                    "@tuner.architecture, @tuner.augmentation or another of tuner's decorators"
                )
            _entries.extend(entries)
            return tuple((registry.kind, found) for registry, found in entries)
    except PluginError:
        _forget(before, module)
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001 whatever own code raises
        _forget(before, module)
        raise _failure(origin.name, file, error) from None


def _forget(before: set[str], module: str) -> None:
    """Forget a module that failed, and those of its package that it imported, so that it can be loaded again."""
    top = module.partition(".")[0]
    for name in set(sys.modules) - before:
        if name == top or name.startswith(f"{top}."):
            del sys.modules[name]


def _failure(name: str, file: Path, error: BaseException) -> PluginError:
    """Return the one line about what a plugin raised: where in its own code, and what."""
    if isinstance(error, SyntaxError) and error.filename:
        return PluginError(f"{shown(Path(error.filename))}:{error.lineno}: {type(error).__name__}: {error.msg}")
    frames = [one for one in traceback.extract_tb(error.__traceback__) if _is_own(Path(one.filename), file)]
    place = f"{shown(Path(frames[-1].filename))}:{frames[-1].lineno}" if frames else shown(file)
    if isinstance(error, InputError):
        return PluginError(f"{place}: {error}")
    return PluginError(f"{place}: the plugin {name} cannot be loaded: {_told(error, file)}")


def _is_own(path: Path, file: Path) -> bool:
    return path == file or (path.is_absolute() and path.parent.is_relative_to(file.parent) and path.suffix == ".py")


def _told(error: BaseException, file: Path) -> str:
    if isinstance(error, SystemExit):
        return "it ends the program"
    missing = getattr(error, "name", None) if isinstance(error, ImportError) else None
    if isinstance(error, ImportError) and "relative import" in str(error):
        return (
            "a relative import (from . import ...) needs a package: give the plugin as a module, "
            "--plugin PACKAGE.MODULE, with the folder of the package in PYTHONPATH"
        )
    if (
        missing
        and "." not in missing
        and ((file.parent / f"{missing}.py").is_file() or (file.parent / missing).is_dir())
    ):
        return (
            f"what lies beside it ({missing}) is not imported: a plugin of several files is a package, "
            "--plugin PACKAGE.MODULE, with its folder in PYTHONPATH"
        )
    return printable(f"{type(error).__name__}: {first_line(error)}")
