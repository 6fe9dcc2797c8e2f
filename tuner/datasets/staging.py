"""Staged copies: data sets that were put onto a machine beforehand, and stand for the source of their name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from tuner.common.errors import DataError
from tuner.common.files import shown, user_path
from tuner.datasets import _manifest_source, _npz_source, _parquet_source, file_sources
from tuner.datasets.sources import NAMED, PREFIXED, path_of

SOURCE_MODULES = (file_sources, _npz_source, _parquet_source, _manifest_source)
"""Imported so that their sources are registered: copies are looked for among those. `loading` imports the others."""


def staged_sources(environ: Mapping[str, str], overrides: Mapping[str, str]) -> dict[str, str]:
    """Return staged copies by name: those in the folders of TUNER_DATA; `overrides` (`--data NAME=SOURCE`) win.

    TUNER_DATA is one folder or several (`os.pathsep` between them, the first wins). In each, a folder NAME with Parquet
    files, one .npz or class folders, and a file NAME.npz or NAME.parquet, stand for the data set NAME; so does what
    other kinds of sources find. An override is a source or the path of such a folder.

    Raises:
        DataError: TUNER_DATA names something that is no folder, or an override is neither a source nor such a folder.
    """
    staged: dict[str, str] = {}
    for text in filter(None, environ.get("TUNER_DATA", "").split(os.pathsep)):
        for path in _contents(user_path(text)):
            source = source_at(path)
            if source is not None:
                staged.setdefault(path.stem if path.is_file() else path.name, source)
    return {**staged, **{name: _source_or_path(name, text) for name, text in overrides.items()}}


def resolve(source: str, staged: Mapping[str, str]) -> str:
    """Return the source that stands for `source` where a copy is staged under its name, with or without its `tfds:`."""
    for name in (source, source.removeprefix("tfds:")):
        if name in staged:
            return _source_or_path(name, staged[name])
    return source


def absolute_source(source: str) -> str:
    """Return `source` with an absolute path, if it has one: workers do not run in the folder of the search.

    >>> absolute_source("digits"), absolute_source("folder:/data/pets")
    ('digits', 'folder:/data/pets')
    """
    path = path_of(source)
    return source if path is None else f"{source.partition(':')[0]}:{user_path(path).absolute()}"


def _contents(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise DataError(
            f"TUNER_DATA must name folders that can be read; got {shown(folder)}: {error.strerror}"
        ) from None


def _source_or_path(name: str, text: str) -> str:
    kind, colon, _ = text.partition(":")
    if text in NAMED or (colon and kind in PREFIXED):
        return text
    path = user_path(text)
    if not path.exists():
        return text  # not a path: find_source says which source may have been meant
    source = source_named_by(path)
    if source is None:
        *others, last = [PREFIXED[kind].staged_as for kind in _latest_first() if PREFIXED[kind].staged_as]
        raise DataError(f"the staged copy of {name} must be {', '.join(others)} or {last}; {shown(path)} has none")
    return source


def source_at(path: Path) -> str | None:
    """Return the source that reads what lies at a path, by names of files two levels deep; None if none does."""
    absolute = path.resolve()
    for kind in _latest_first():
        try:
            found = PREFIXED[kind].find_staged(absolute)
        except OSError:  # not ours to read: it stages nothing
            return None
        if found is not None:
            return f"{kind}:{found.resolve()}"
    return None


def source_named_by(path: Path) -> str | None:
    """Return the source that reads a path which a user has named: as `source_at`, or as its suffix says.

    The latter is a table whose columns have no usual names, which `data.columns` gives.
    """
    kind = path.suffix.lower().removeprefix(".")
    by_suffix = f"{kind}:{path.resolve()}" if kind in PREFIXED and path.is_file() else None
    return source_at(path) or by_suffix


def _latest_first() -> list[str]:
    """Return the kinds of sources in the order in which they are tried: any folder of folders is tried last."""
    return list(PREFIXED)[::-1]
