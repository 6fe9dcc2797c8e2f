"""Staged copies: data sets that were put onto a machine beforehand, and stand for the source of their name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from tuner.common.errors import DataError
from tuner.common.files import shown, user_path
from tuner.datasets.sources import NAMED, PREFIXED

FILE_KINDS = ("folder", "npz", "parquet")
"""Sources whose reference is a path."""


def staged_sources(environ: Mapping[str, str], overrides: Mapping[str, str]) -> dict[str, str]:
    """Return staged copies by name: those in the folders of TUNER_DATA; `overrides` (`--data NAME=SOURCE`) win.

    TUNER_DATA is one folder or several (`os.pathsep` between them, the first wins). In each, a folder NAME with Parquet
    files, one .npz or class folders, and a file NAME.npz, stand for the data set NAME. An override is a source or the
    path of such a folder.

    Raises:
        DataError: TUNER_DATA names something that is no folder, or an override is neither a source nor such a folder.
    """
    staged: dict[str, str] = {}
    for text in filter(None, environ.get("TUNER_DATA", "").split(os.pathsep)):
        for path in _contents(user_path(text)):
            source = _source_of(path)
            if source is not None:
                staged.setdefault(path.stem if path.suffix == ".npz" else path.name, source)
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
    kind, _, reference = source.partition(":")
    return f"{kind}:{user_path(reference).absolute()}" if kind in FILE_KINDS and reference else source


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
    source = _source_of(path)
    if source is None:
        raise DataError(
            f"the staged copy of {name} must be Parquet files, one .npz or class folders; {shown(path)} has none"
        )
    return source


def _source_of(path: Path) -> str | None:
    """Return the source that a staged copy is, by the names of its files, two levels deep; None if it is none."""
    absolute = path.resolve()
    try:
        if path.is_file():
            kinds = {".npz": "npz", ".parquet": "parquet"}
            return f"{kinds[path.suffix]}:{absolute}" if path.suffix in kinds else None
        inner = [child for child in path.iterdir() if not child.name.startswith(".")]
    except OSError:  # not ours to read: it stages nothing
        return None
    # The hub keeps files in data/, or beside the card of the data set.
    if any(any(place.glob("*.parquet")) for place in (path, path / "data")):
        return f"parquet:{absolute}"
    archives = [child for child in inner if child.suffix == ".npz"]
    if len(archives) == 1:
        return f"npz:{archives[0].resolve()}"
    return f"folder:{absolute}" if any(child.is_dir() for child in inner) else None
