"""Files are written aside, then renamed: a reader sees the old one or the new one, never half of one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path beside `path` to write to; renamed to `path` at the end of the block, removed if the block raises.

    Missing folders are made. Two processes that write the same file do not disturb each other: the last one wins.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield aside
        os.replace(aside, path)  # noqa: PTH105  atomic on every platform
    finally:
        aside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> Path:
    """Write a text file, UTF-8 with newlines as they are; returns its path."""
    with replacing(path) as aside:
        aside.write_bytes(text.encode())
    return path
