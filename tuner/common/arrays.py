"""Plain .npy files of which the number of rows is known only at the end, and a check of them that reads no data."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import zipfile
import zlib
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np

DAMAGED_ARCHIVE = (
    *(OSError, EOFError, zipfile.BadZipFile, zlib.error, struct.error),  # of the file and its members
    *(ValueError, KeyError, TypeError),  # of what stands in it: members that lack, headers of another form
    AttributeError,  # of a file that is a single array, and so has none of an archive's parts
    RuntimeError,  # flipped bits say that a member is encrypted, or packed as zipfile does not know
    *(MemoryError, OverflowError),  # flipped bits make a shape too large
)
"""Exceptions of numpy and zipfile when they read a damaged .npz file (see tests/training/test_checkpoint.py)."""


class ArrayWriter:
    """Context manager that writes an array to a new .npy file row by row; numpy can memory-map the file afterwards.

    Rows are written, not mapped: on a full disk a write raises OSError, where a mapped page kills the process (SIGBUS).
    """

    def __init__(self, path: Path, row_shape: tuple[int, ...], dtype: Any) -> None:
        self.rows = 0
        self._row_shape = row_shape
        self._dtype = np.dtype(dtype)
        self._digest = hashlib.sha256()
        self._file = path.open("xb")
        self._file.write(self._header())

    def _header(self) -> bytes:
        return npy_header((self.rows, *self._row_shape), self._dtype)

    def append(self, rows: np.ndarray) -> None:
        """Add `rows` `[N, *row_shape]`."""
        data = np.ascontiguousarray(rows, dtype=self._dtype).reshape(len(rows), *self._row_shape)
        content = data.data.cast("B") if data.size else b""
        self._file.write(content)
        self._digest.update(content)
        self.rows += len(rows)

    @property
    def sha256(self) -> str:
        """SHA-256 over all values written so far."""
        return self._digest.hexdigest()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        with self._file as file:
            if error is None:
                file.seek(0)
                file.write(self._header())
                force_to_disk(file)


def npy_header(shape: tuple[int, ...], dtype: Any) -> bytes:
    """Return the header of a .npy file; numpy pads it: with any number of rows it has the same length."""
    header = io.BytesIO()
    description = np.lib.format.dtype_to_descr(np.dtype(dtype))
    np.lib.format.write_array_header_1_0(header, {"descr": description, "fortran_order": False, "shape": shape})
    return header.getvalue()


def force_to_disk(file: IO[bytes]) -> None:
    """Force an open file to the disk: before the rename that makes it valid, or a power cut leaves zeros."""
    file.flush()
    os.fsync(file.fileno())


def is_whole(path: Path, shape: tuple[int, ...], dtype: Any) -> bool:
    """Return whether a .npy file has this shape, type and length; only its header is read."""
    try:
        with path.open("rb") as file:
            if np.lib.format.read_magic(file) != (1, 0):
                return False
            found_shape, fortran, found_dtype = np.lib.format.read_array_header_1_0(file)
            length = file.tell() + int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
            return (
                found_shape == shape
                and not fortran
                and found_dtype == np.dtype(dtype)
                and os.fstat(file.fileno()).st_size == length
            )
    except (OSError, ValueError):
        return False
