"""The text of own code, and the digest by which it is known."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from tuner.common.errors import PluginError
from tuner.common.files import shown

MOST_BYTES = 20 * 2**20
"""The text of a plugin travels with every trial's process; what is larger holds data."""


def texts_of(file: Path, folder: Path) -> dict[str, bytes]:
    """Return the text of a module's file, or of all files of the package that it is in."""
    top = file.relative_to(folder).parts[0]
    files = [file] if top == file.name else sorted((folder / top).rglob("*.py"))
    texts = {one.relative_to(folder).as_posix(): one.read_bytes() for one in files}
    if sum(map(len, texts.values())) > MOST_BYTES:
        raise PluginError(f"{shown(folder / top)}: the code of a plugin must be at most {MOST_BYTES >> 20} MB")
    return texts


def digest_of(texts: Mapping[str, bytes]) -> str:
    """Return the SHA-256 of the text of one file, or of all files with their names."""
    if len(texts) == 1:
        return hashlib.sha256(next(iter(texts.values()))).hexdigest()
    digest = hashlib.sha256()
    for name, text in sorted(texts.items()):
        digest.update(f"{name}\0{hashlib.sha256(text).hexdigest()}\n".encode())
    return digest.hexdigest()
