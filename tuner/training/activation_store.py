"""Cached activations on disk: content-addressed entries, bounded in size, the least recently used removed first.

An entry is a folder named by what its values follow from. It holds one plain array, the checksums of its chunks, and
the locks of the processes that use it, which the system gives back when they die. Light: no Keras here.

It is built chunk by chunk, and all processes of a machine that wait for it help: a chunk is claimed by such a lock,
computed, written, and marked with its checksum. A killed build loses the chunks in hand; whoever comes next goes on.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import time
import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from tuner.common.arrays import force_to_disk, is_whole, npy_header
from tuner.common.files import free_bytes, write_text
from tuner.training.trial_like import Progress

VERSION = 1
"""Version of the form of an entry, part of every key."""
CHUNK_IMAGES = 256
"""Images that are computed, written and checked together."""
VERIFIED_FOR_S = 3600.0
"""An entry whose file has not been touched since is not read through again within this time."""
ARRAY, META, USED, VERIFIED, USERS = "activations.npy", "meta.json", "used", "verified.json", "users"


@dataclass(frozen=True)
class Key:
    """The facts that determine the values of an entry (`identity`, JSON), and the form of its array."""

    identity: Mapping[str, Any]
    shape: tuple[int, ...]
    """`[N, ...]`: images first."""
    dtype: str

    @property
    def digest(self) -> str:
        """The name of the entry's folder."""
        text = json.dumps([VERSION, dict(self.identity), self.shape, self.dtype], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    @property
    def size_bytes(self) -> int:
        """Bytes of the array."""
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize

    @property
    def chunks(self) -> int:
        """The number of chunks of the array."""
        return -(-self.shape[0] // CHUNK_IMAGES)


@dataclass(frozen=True)
class Entry:
    """One folder of the cache, described for people: `status` is `whole`, `unfinished`, `refused` or `damaged`."""

    folder: Path
    status: str
    size_bytes: int
    used: float
    """Unix time of the last use."""
    in_use: bool
    identity: Mapping[str, Any]


@dataclass(frozen=True)
class CacheUse:
    """The use that a process has made of the cache in a while."""

    hits: int
    """Entries that were there when they were needed."""
    misses: int
    """Entries that had to be computed first, here or by others at the same time."""
    size_bytes: int | None
    """Size of all entries of the machine; None: not measured, since nothing was computed here."""


class Store:
    """The activations of one machine, as one process sees them; entries it has opened are kept until `release`."""

    def __init__(self, cache_dir: Path) -> None:
        self.root = cache_dir / "activations"
        self._held: dict[Path, FileLock] = {}

    def folder(self, key: Key) -> Path:
        """Return the folder of the entry of `key`, whether it exists or not."""
        return self.root / key.digest

    def open(self, key: Key) -> np.ndarray | None:
        """Return the array of an entry, memory-mapped and read-only, held from now on; None if it is not there.

        Raises DamagedEntryError when it was there, and was not what was written; it has been removed.
        """
        folder = self.folder(key)
        if not (folder / ARRAY).exists():
            return None
        self.hold(folder)
        if not (folder / META).is_file():  # removed between the two
            self.release(folder)
            return None
        problem = damage(folder, key)
        if problem is not None:
            self.release(folder)
            remove(folder)
            raise DamagedEntryError(f"{folder}: {problem}; it was removed and will be computed again")
        _touch(folder / USED)
        mapped: np.ndarray = np.load(folder / ARRAY, mmap_mode="r", allow_pickle=False)
        return mapped

    def has(self, key: Key) -> bool:
        """Return whether there is an entry of the right size (its values are checked when it is opened)."""
        folder = self.folder(key)
        return (folder / META).is_file() and is_whole(folder / ARRAY, key.shape, np.dtype(key.dtype))

    def refusal(self, key: Key) -> str | None:
        """Return why values of this kind cannot be stored, if that is known from an earlier try."""
        meta = read_object(self.folder(key) / META)
        return str(meta["refused"]) if "refused" in meta else None

    def refuse(self, key: Key, reason: str) -> None:
        """Record that values of this kind cannot be stored."""
        write_text(self.folder(key) / META, json.dumps({"identity": dict(key.identity), "refused": reason}))

    def hold(self, folder: Path) -> None:
        """Keep others from removing the content of `folder` for as long as this process lives."""
        if folder not in self._held:
            (folder / USERS).mkdir(parents=True, exist_ok=True)
            lock = FileLock(folder / USERS / f"{os.getpid()}-{uuid.uuid4().hex[:8]}.lock")
            lock.acquire()
            self._held[folder] = lock

    def release(self, folder: Path | None = None) -> None:
        """Let others remove `folder` again (None: everything that is held)."""
        for held in [folder] if folder is not None else list(self._held):
            lock = self._held.pop(held, None)
            if lock is not None:
                lock.release()
                Path(lock.lock_file).unlink(missing_ok=True)

    def free_bytes(self) -> int:
        """Return the free bytes of the disk."""
        return free_bytes(self.root)

    def size_bytes(self) -> int:
        """Return the bytes that all entries take on the disk, whole or not."""
        return sum(folder_bytes(folder) for folder in self.root.glob("*") if folder.is_dir())

    def make_room(self, size_bytes: int, max_bytes: int) -> bool:
        """Remove the entries used least recently until `size_bytes` more fit into `max_bytes` and onto the disk.

        What any process uses is never removed. False if that leaves too little room; then nothing more was removed
        than had to be tried.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        with FileLock(self.root / "removal.lock"):
            entries = sorted(list_entries(self.root), key=lambda entry: entry.used)
            total = sum(entry.size_bytes for entry in entries)
            pinned = sum(entry.size_bytes for entry in entries if entry.in_use)
            removable = total - pinned
            if pinned + size_bytes > max_bytes or size_bytes > self.free_bytes() + removable:
                return False
            for entry in entries:
                if total + size_bytes <= max_bytes and size_bytes <= self.free_bytes():
                    break
                if not entry.in_use:
                    remove(entry.folder)
                    total -= entry.size_bytes
            return True


class DamagedEntryError(Exception):
    """An entry was not what had been written; the caller computes it again."""


def damage(folder: Path, key: Key | None = None) -> str | None:
    """Return what is wrong with an entry, or None; its values are read unless that was done within the hour."""
    meta = read_object(folder / META)
    try:
        shape, dtype, checksums = tuple(meta["shape"]), np.dtype(meta["dtype"]), list(meta["checksums"])
    except (KeyError, TypeError):
        return "its description cannot be read"
    if key is not None and (shape, dtype) != (key.shape, np.dtype(key.dtype)):
        return "it is of another shape"
    if not is_whole(folder / ARRAY, shape, dtype):
        return "it is cut short"
    stat = (folder / ARRAY).stat()
    seen = {"size": stat.st_size, "modified": stat.st_mtime_ns}
    before = read_object(folder / VERIFIED)
    if before.get("file") == seen and time.time() - before.get("time", 0) < VERIFIED_FOR_S:
        return None
    if chunk_checksums(np.load(folder / ARRAY, mmap_mode="r", allow_pickle=False)) != checksums:
        return "its values are not those that were written"
    write_text(folder / VERIFIED, json.dumps({"file": seen, "time": time.time()}))
    return None


def chunk_checksums(array: np.ndarray) -> list[int]:
    """Return the CRC-32 of each chunk of an array `[N, ...]`."""
    return [checksum(array[start : start + CHUNK_IMAGES]) for start in range(0, len(array), CHUNK_IMAGES)]


def checksum(rows: np.ndarray) -> int:
    """Return the CRC-32 of the values: it finds accidents, not attackers, who could write the checksum too."""
    return zlib.crc32(np.ascontiguousarray(rows).data.cast("B"))


def write_meta(folder: Path, key: Key, checksums: list[int]) -> None:
    """Write the description of an entry: its identity, its form, and the checksums of its chunks."""
    form = {"shape": key.shape, "dtype": key.dtype, "checksums": checksums}
    write_text(folder / META, json.dumps({"identity": dict(key.identity), **form}))


def list_entries(root: Path) -> Iterator[Entry]:
    """Yield every entry under `root`, whole or not."""
    for folder in sorted(root.glob("*")):
        if not folder.is_dir():
            continue
        meta = read_object(folder / META)
        identity = meta.get("identity", {})
        status = "refused" if "refused" in meta else "whole" if "checksums" in meta else "unfinished"
        with contextlib.suppress(FileNotFoundError):  # removed meanwhile by another process
            size = folder_bytes(folder)
            yield Entry(folder, status, size, last_use(folder), is_in_use(folder), identity)


def folder_bytes(folder: Path) -> int:
    """Return the bytes on the disk: an unfinished array may hold less than its length."""
    size = 0
    with contextlib.suppress(FileNotFoundError):  # the folder is removed meanwhile by another process
        for path in folder.rglob("*"):
            with contextlib.suppress(FileNotFoundError):  # or a file in it
                size += path.stat().st_blocks * 512 if path.is_file() else 0
    return size


def last_use(folder: Path) -> float:
    """Return the Unix time of the last use of an entry; raises FileNotFoundError when it is gone."""
    return (folder / USED if (folder / USED).exists() else folder).stat().st_mtime


def is_in_use(folder: Path) -> bool:
    """Return whether a living process holds `folder`, and remove the locks of dead ones."""
    for path in folder.glob(f"{USERS}/*.lock"):
        try:
            with FileLock(path, timeout=0):
                path.unlink(missing_ok=True)
        except Timeout:
            return True
    return False


def remove(folder: Path) -> None:
    """Remove an entry: renamed first, so that nobody finds half of it."""
    aside = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.removed")
    with contextlib.suppress(FileNotFoundError):
        folder.replace(aside)
    shutil.rmtree(aside, ignore_errors=True)


def _touch(path: Path) -> None:
    with contextlib.suppress(OSError):  # a cache on a disk that only others may write to
        path.touch()


def read_object(path: Path) -> dict[str, Any]:
    """Return the object in a file; empty when it is not there or damaged."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


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
