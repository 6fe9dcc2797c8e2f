"""The meaning of one word of a command line: a search-space file, or a source of images."""

from __future__ import annotations

import difflib
import os
import re
import unicodedata
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from tuner.common.errors import InputError
from tuner.common.files import as_typed, shown, user_path
from tuner.common.registry import is_nothing
from tuner.datasets.file_sources import ARCHIVES
from tuner.datasets.images import SUFFIXES
from tuner.datasets.request import check_source  # with it, all sources are in their registries
from tuner.datasets.sources import NAMED, PREFIXED, path_of
from tuner.datasets.staging import source_named_by

SPACE_FILES = (".yaml", ".yml")
_FALLBACK = "images"
_SHOWN = 300


def source_asked_for(text: str, staged: Mapping[str, str]) -> str | None:
    """Return the source that is meant by `text`, a bare path of images too; None: it names a search-space file.

    Raises:
        InputError: it is neither; the message has the nearest name.
    """
    kind, colon, _ = text.partition(":")
    if (colon and kind in PREFIXED) or text in NAMED or text in staged:
        check_source(text, staged)
        return text
    path = user_path(text)
    if text.lower().endswith(SPACE_FILES):
        return None  # whoever reads it says what is wrong with it
    if os.path.lexists(path):
        return _source_on_disk(text, path)
    if colon:
        check_source(text, staged)
    raise InputError(
        f"{text[:_SHOWN]}: no such search-space file (.yaml), no folder or file of images, and no data set of this name"
        f"{_nearest(path, [*NAMED, *staged])}"
    )


def _source_on_disk(text: str, path: Path) -> str | None:
    """Return the source that reads what lies at a path; None for a file that is none of images."""
    found = source_named_by(path)
    if found is None and path.is_dir():
        return f"folder:{text}"
    if found is None:
        suffix = path.suffix.lower()
        if suffix in ARCHIVES:
            raise InputError(
                f"{text}: must be unpacked: an archive is not read; name the folder or table that it holds"
            )
        if suffix in SUFFIXES:
            raise InputError(f"{text}: must be a folder of images in class folders, or a table of them; got one image")
        return None
    kind, _, reference = found.partition(":")
    is_itself = Path(reference) == path.resolve()
    return f"{kind}:{text if is_itself else as_typed(Path(reference))}"


def _nearest(path: Path, names: Iterable[str]) -> str:
    """Return a question with the name that may have been meant; empty where none is near."""
    known = {name.casefold(): name for name in names}
    with suppress(OSError, ValueError):  # there is no such folder
        known |= {one.name.casefold(): shown(path.parent / one.name) for one in path.parent.iterdir()}
    nearest = difflib.get_close_matches(path.name.casefold(), known, n=1)
    return f"; did you mean {known[nearest[0]]!r}?" if nearest else ""


def source_as_written(source: str, is_elsewhere: bool) -> str:
    """Return a source as it stands in a file: as it was typed, but for paths of a file that lies elsewhere.

    Raises:
        InputError: it cannot be written as text.
    """
    if not source.isprintable():
        raise InputError(
            f"{shown(Path(source))}: must have a name of printable text in UTF-8 to stand in a file; "
            "rename it, or name it with --data NAME=SOURCE"
        )
    reference = path_of(source)
    if reference is None or not is_elsewhere:
        return source
    return f"{source.partition(':')[0]}:{user_path(reference).absolute()}"


def study_name(source: str) -> str:
    """Return a name for the study of a source, which is that of its file too.

    >>> [study_name(text) for text in ("folder:data/My photos/", "npz:a/b.npz", "tfds:a/b:1.0.0", "folder:Ärzte")]
    ['My-photos', 'b', 'a-b-1.0.0', 'Arzte']
    """
    reference = path_of(source)
    text = source.partition(":")[2] if reference is None and source.partition(":")[0] in PREFIXED else source
    if reference is not None:
        path = user_path(reference)
        path = path if path.name not in ("", "..") else path.resolve()  # `.` has no name of its own
        text = path.stem if path.suffix and not path.is_dir() else path.name
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", plain).strip("-._")[:50].rstrip("-.")
    if not name:
        return _FALLBACK
    return f"{_FALLBACK}-{name}" if is_nothing(name) else name
