"""Computing cached activations chunk by chunk; all processes of a machine that wait for the same ones help.

A chunk is claimed by a lock that the system gives back when its process dies, computed, written, and marked with its
checksum. A killed build therefore loses the chunks in hand and nothing else: whoever comes next goes on with the rest.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from tuner.common.arrays import force_to_disk, npy_header
from tuner.common.files import write_text
from tuner.training.activation_store import (
    ARRAY,
    CHUNK_IMAGES,
    Key,
    Store,
    checksum,
    chunk_checksums,
    is_in_use,
    remove,
    write_meta,
)
from tuner.training.trial_like import Progress

Compute = Callable[[int, int], Sequence[np.ndarray]]
"""Rows `start` to `stop` of every array that is built."""
WAITING_S = 0.1
READY, DONE, CLAIMS = "ready", "done", "claims"


class Build:
    """One pass over the images of a split that fills one entry or several; `work` does a part of it.

    Raises OSError from `work` when the disk cannot hold it; what was computed so far stays for a later try.
    """

    def __init__(self, store: Store, keys: Sequence[Key], compute: Compute) -> None:
        self._store, self._keys, self._compute = store, list(keys), compute
        self._images, self._chunks = keys[0].shape[0], keys[0].chunks
        name = hashlib.sha256("/".join(key.digest for key in keys).encode()).hexdigest()[:20]
        self._folder = store.root / f"build-{name}"
        self._is_finished = False

    def work(self, seconds: float) -> Progress:
        """Compute chunks for about `seconds` (at least one, if one is left), or wait for those of others."""
        deadline = time.monotonic() + seconds
        while not self._is_there():
            self._begin()
            left = self._left()
            if not left:
                self._finish()
            elif not any(self._try(chunk) for chunk in left):
                time.sleep(WAITING_S)  # others have claimed all that is left
            if time.monotonic() >= deadline:
                break
        if self._is_there():
            return Progress(self._images, self._images)
        return Progress(min(self._images - 1, (self._chunks - len(self._left())) * CHUNK_IMAGES), self._images)

    def _is_there(self) -> bool:
        """Return whether all entries are complete; the first time, remove the remains of the build."""
        if not self._is_finished and all(self._store.has(key) for key in self._keys):
            self._is_finished = True
            self.give_up()
        return self._is_finished

    def give_up(self) -> None:
        """Remove the remains of the build, unless another process works on it."""
        self._store.release(self._folder)
        if self._folder.exists() and not is_in_use(self._folder):
            remove(self._folder)

    def _begin(self) -> None:
        """Create the folder of the build, or join the processes that have created it."""
        self._store.hold(self._folder)
        if (self._folder / READY).exists():
            return
        with FileLock(self._folder / "begin.lock"):
            if not (self._folder / READY).exists():
                for index, key in enumerate(self._keys):
                    _allocate(self._folder / f"{index}.npy", key)
                for name in (DONE, CLAIMS):
                    (self._folder / name).mkdir(exist_ok=True)
                write_text(self._folder / READY, "")

    def _left(self) -> list[int]:
        """Return the chunks that nobody has finished yet."""
        there = {path.name for path in (self._folder / DONE).glob("*")}
        return [chunk for chunk in range(self._chunks) if str(chunk) not in there]

    def _try(self, chunk: int) -> bool:
        """Compute a chunk unless it is done or another process works on it, and return whether it was computed here."""
        done = self._folder / DONE / str(chunk)
        try:
            with FileLock(self._folder / CLAIMS / f"{chunk}.lock", timeout=0):
                if done.exists():
                    return False
                start = chunk * CHUNK_IMAGES
                arrays = self._compute(start, min(start + CHUNK_IMAGES, self._images))
                for index, (key, rows) in enumerate(zip(self._keys, arrays, strict=True)):
                    _write_rows(self._folder / f"{index}.npy", key, start, rows)
                write_text(done, " ".join(str(checksum(rows)) for rows in arrays))
                return True
        except Timeout:
            return False

    def _finish(self) -> None:
        """Check every chunk against its checksum, then move the arrays to their entries."""
        with FileLock(self._folder / "finish.lock"):
            if self._is_there():
                return
            marks = [(self._folder / DONE / str(chunk)).read_text().split() for chunk in range(self._chunks)]
            for index, key in enumerate(self._keys):
                written = [int(mark[index]) for mark in marks]
                path = self._folder / f"{index}.npy"
                if path.exists() and not self._store.has(key):
                    if wrong := _wrong_chunks(path, written):  # lost by a power cut: computed again
                        for chunk in wrong:
                            (self._folder / DONE / str(chunk)).unlink()
                        return
                    self._move(path, key, written)

    def _move(self, path: Path, key: Key, checksums: list[int]) -> None:
        with path.open("rb+") as file:
            force_to_disk(file)
        aside = self._store.root / f".{key.digest}.{os.getpid()}.partial"
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        path.replace(aside / ARRAY)
        write_meta(aside, key, checksums)
        remove(self._store.folder(key))  # what was there was not whole
        aside.replace(self._store.folder(key))


def _wrong_chunks(path: Path, written: list[int]) -> list[int]:
    found = chunk_checksums(np.load(path, mmap_mode="r", allow_pickle=False))
    return [chunk for chunk, (now, then) in enumerate(zip(found, written, strict=True)) if now != then]


def _allocate(path: Path, key: Key) -> None:
    """Create an array file of full size: a disk that is too small fails before anything is computed."""
    header = npy_header(key.shape, key.dtype)
    with path.open("wb") as file:
        file.write(header)
        size = len(header) + key.size_bytes
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            file.truncate(size)


def _write_rows(path: Path, key: Key, start: int, rows: np.ndarray) -> None:
    """Write rows of an array file, not through a mapping: on a full disk a mapped page kills the process (SIGBUS)."""
    with path.open("rb+") as file:
        file.seek(len(npy_header(key.shape, key.dtype)) + start * key.size_bytes // key.shape[0])
        file.write(np.ascontiguousarray(rows, dtype=key.dtype).data.cast("B"))
