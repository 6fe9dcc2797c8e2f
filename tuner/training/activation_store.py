"""Cached activations on disk: content-addressed entries, bounded in size, the least recently used removed first.

An entry is a folder named by what its values follow from. It holds one plain array with a row for each image of a data
set, of which only those take room on the disk that somebody asked for: rows that have a checksum are there. Beside it
lie the locks of the processes that use it, which the system gives back when they die. Light: no Keras here.

Rows are added by as many as a chunk has, and all processes of a machine that wait for them help: the chunks in which
they lie are claimed by such locks, the rows are computed, written, and then marked with their checksums. A kill loses
those in hand; whoever comes next goes on. Written rows never change, so an entry is read while others add to it.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import shutil
import time
import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock, Timeout

from tuner.common.arrays import is_whole, npy_header
from tuner.common.files import free_bytes, is_held, replacing, write_text
from tuner.training.trial_like import Progress

VERSION = 2
"""Version of the form of an entry, part of every key."""
CHUNK_IMAGES = 256
"""Rows of an array that are claimed together, and missing rows that are computed together."""
BLOCK_BYTES = 4096
"""The least that a file takes on the disk."""
VERIFIED_FOR_S = 3600.0
"""An entry whose file has not been touched since is not read through again within this time."""
ARRAY, CHECKSUMS, META, REFUSED = "activations.npy", "checksums.npy", "meta.json", "refused.json"
USED, VERIFIED, USERS, CLAIMS = "used", "verified.json", "users", "claims"


@dataclass(frozen=True)
class Key:
    """The facts that determine the values of an entry (`identity`, JSON), and the form of its array."""

    identity: Mapping[str, Any]
    shape: tuple[int, ...]
    """`[N, ...]`: a row for each image that there is, whether it is asked for or not."""
    dtype: str
    name: str = ""
    """The name of the data set, for people: the same images may have another one."""

    @property
    def digest(self) -> str:
        """The name of the entry's folder."""
        text = json.dumps([VERSION, dict(self.identity), self.shape, self.dtype], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:24]

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return int(np.prod(self.shape[1:], dtype=np.int64)) * np.dtype(self.dtype).itemsize

    def disk_bytes(self, rows: np.ndarray) -> int:
        """Return the bytes on the disk of `rows` `[R] int64`, ascending: scattered ones take whole blocks."""
        if not len(rows):
            return 0
        start = len(npy_header(self.shape, self.dtype)) + rows * self.row_bytes
        first, last = start // BLOCK_BYTES, (start + self.row_bytes - 1) // BLOCK_BYTES
        shared = int((first[1:] == last[:-1]).sum())
        return BLOCK_BYTES * (int((last - first + 1).sum()) - shared)


@dataclass(frozen=True)
class Entry:
    """One folder of the cache, described for people: `status` is `whole`, `unfinished` (no row yet) or `refused`."""

    folder: Path
    status: str
    size_bytes: int
    used: float
    """Unix time of the last use."""
    in_use: bool
    identity: Mapping[str, Any]
    images: int
    """Rows that are there."""


@dataclass(frozen=True)
class CacheUse:
    """The use that a process has made of the cache in a while."""

    hits: int
    """Entries of which all rows were there when they were needed."""
    misses: int
    """Entries of which rows had to be computed first, here or by others at the same time."""
    size_bytes: int | None
    """Size of all entries of the machine; None: not measured, since nothing was computed here."""


class _Seen(NamedTuple):
    """The rows of an entry that were compared with their checksums, when, and the files as they were then."""

    files: list[list[int]]
    time: float
    rows: np.ndarray
    """`[N] bool`."""


class Store:
    """The activations of one machine, as one process sees them; entries it has opened are kept until `release`."""

    def __init__(self, cache_dir: Path) -> None:
        self.root = cache_dir / "activations"
        self._held: dict[Path, FileLock] = {}
        self._seen: dict[Path, _Seen] = {}

    def folder(self, key: Key) -> Path:
        """Return the folder of the entry of `key`, whether it exists or not."""
        return self.root / key.digest

    def open(self, key: Key, rows: np.ndarray) -> np.ndarray | None:
        """Return the array of an entry, memory-mapped and read-only, held from now on; None if it lacks one of `rows`.

        Raises DamagedEntryError when something there is not what was written; the entry has been removed.
        """
        folder = self.folder(key)
        if not (folder / META).exists():
            return None
        self.hold(folder)
        if not (folder / META).is_file():  # removed between the two
            self.release(folder)
            return None
        try:
            problem = form_damage(folder, key) or self._damaged_values(folder)
        except FileNotFoundError:  # another process has found it damaged
            self.release(folder)
            return None
        if problem is not None:
            self.release(folder)
            remove(folder)
            raise DamagedEntryError(f"{folder}: {problem}; it was removed and will be computed again")
        if not self.has(key, rows):
            return None
        _touch(folder / USED)
        mapped: np.ndarray = np.load(folder / ARRAY, mmap_mode="r", allow_pickle=False)
        return mapped

    def _damaged_values(self, folder: Path) -> str | None:
        """Return what is wrong with the values that are there, or None; those read within the hour are not read again.

        When both files have changed others have added rows, and only these are read.
        """
        files, recorded = _files(folder), read_object(folder / VERIFIED)
        is_there = rows_there(folder)
        seen = self._seen.get(folder)
        if seen is None and recorded.get("files") == files:
            seen = _Seen(files, recorded.get("time", 0.0), is_there)
        unread = is_there
        if seen is not None and time.time() - seen.time < VERIFIED_FOR_S:
            if all(now != then for now, then in zip(files, seen.files, strict=True)):
                unread = is_there & ~seen.rows
            elif files == seen.files:
                unread = np.zeros_like(is_there)
        else:
            seen = None
        if unread.any() or seen is None:
            if problem := values_damage(folder, np.flatnonzero(unread)):
                self._seen.pop(folder, None)
                return problem
            seen = _Seen(files, time.time() if seen is None else seen.time, is_there)
            _record_verified(folder, seen)
        self._seen[folder] = seen
        return None

    def missing(self, key: Key, rows: np.ndarray) -> np.ndarray:
        """Return those of `rows` that an entry lacks (values are checked when it is opened)."""
        folder = self.folder(key)
        if not (folder / META).is_file() or not _is_whole(folder, key):
            return rows
        try:
            marks = np.load(folder / CHECKSUMS, mmap_mode="r", allow_pickle=False)
        except FileNotFoundError:  # removed meanwhile
            return rows
        lacking: np.ndarray = rows[marks[rows] == 0]
        return lacking

    def has(self, key: Key, rows: np.ndarray) -> bool:
        """Return whether an entry has all of `rows`."""
        return not len(self.missing(key, rows))

    def refusal(self, key: Key, rows: np.ndarray) -> str | None:
        """Return why values of this kind cannot be stored for some of `rows`, if that is known from an earlier try.

        `rows` `[R] int64` are ascending.
        """
        found = read_object(self.folder(key) / REFUSED)
        known = np.array(found.get("rows", []), dtype=np.int64)
        at = np.minimum(np.searchsorted(rows, known), len(rows) - 1)
        return str(found["refused"]) if (rows[at] == known).any() else None

    def refuse(self, key: Key, reason: str, rows: np.ndarray) -> None:
        """Record that values of this kind cannot be stored for `rows`."""
        path = self.folder(key) / REFUSED
        known = np.union1d(np.array(read_object(path).get("rows", []), dtype=np.int64), rows)
        about = {"identity": dict(key.identity), "name": key.name, "refused": reason, "rows": known.tolist()}
        write_text(path, json.dumps(about))

    def create(self, key: Key) -> None:
        """Make an entry without rows, unless there is one, and hold it; one that is cut short is made anew."""
        folder = self.folder(key)
        if (folder / META).exists() and not _is_whole(folder, key):
            self.release(folder)
            remove(folder)
        self.hold(folder)
        with FileLock(folder / "begin.lock"):
            if (folder / META).exists():
                return
            for name, shape, dtype in ((ARRAY, key.shape, key.dtype), (CHECKSUMS, key.shape[:1], "uint32")):
                header = npy_header(shape, dtype)
                with replacing(folder / name) as aside, aside.open("wb") as file:
                    file.write(header)
                    file.truncate(len(header) + int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize)
            about = {"identity": dict(key.identity), "name": key.name, "shape": key.shape, "dtype": key.dtype}
            write_text(folder / META, json.dumps(about))

    def reserve(self, key: Key, rows: np.ndarray) -> None:
        """Take the room of `rows` on the disk: one that is too small fails before anything is computed."""
        if not hasattr(os, "posix_fallocate") or not len(rows):
            return
        runs = np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1)
        with (self.folder(key) / ARRAY).open("rb+") as file:
            for run in runs:
                os.posix_fallocate(file.fileno(), _offset(key, int(run[0])), len(run) * key.row_bytes)

    def write(self, key: Key, rows: np.ndarray, values: np.ndarray) -> None:
        """Write rows of an entry, then mark them; not through a mapping: on a full disk that kills (SIGBUS)."""
        if not len(rows):
            return
        folder, values = self.folder(key), np.ascontiguousarray(values, dtype=key.dtype)
        marks, marks_at = checksums(values), len(npy_header(key.shape[:1], "uint32"))
        runs = np.split(np.arange(len(rows)), np.flatnonzero(np.diff(rows) > 1) + 1)
        with (folder / ARRAY).open("rb+") as file:
            for run in runs:
                file.seek(_offset(key, int(rows[run[0]])))
                file.write(values[run[0] : run[-1] + 1].data.cast("B"))
        with (folder / CHECKSUMS).open("rb+") as file:
            for run in runs:
                file.seek(marks_at + int(rows[run[0]]) * marks.itemsize)
                file.write(marks[run[0] : run[-1] + 1].data.cast("B"))

    def discard_empty(self, key: Key) -> None:
        """Give back the room of an entry that has no row, unless another process adds some."""
        folder = self.folder(key)
        with contextlib.suppress(FileNotFoundError):
            if rows_there(folder).any():
                return
            self.release(folder)
            if not is_in_use(folder):
                for name in (META, CHECKSUMS, ARRAY):
                    (folder / name).unlink(missing_ok=True)

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


def damage(folder: Path) -> str | None:
    """Return what is wrong with an entry after reading all that is there, or None."""
    problem = form_damage(folder)
    if problem is None:
        files, is_there = _files(folder), rows_there(folder)
        problem = values_damage(folder, np.flatnonzero(is_there))
        if problem is None:
            _record_verified(folder, _Seen(files, time.time(), is_there))
    return problem


def form_damage(folder: Path, key: Key | None = None) -> str | None:
    """Return what is wrong with the files of an entry, as far as no value is read, or None."""
    meta = read_object(folder / META)
    try:
        found = Key(meta["identity"], tuple(meta["shape"]), np.dtype(meta["dtype"]).name)
    except (KeyError, TypeError):
        return "its description cannot be read"
    if key is not None and (found.shape, found.dtype) != (key.shape, key.dtype):
        return "it is of another shape"
    return None if _is_whole(folder, found) else "it is cut short"


def values_damage(folder: Path, rows: np.ndarray) -> str | None:
    """Return what is wrong with the values of `rows` `[R] int64`, or None."""
    array = np.load(folder / ARRAY, mmap_mode="r", allow_pickle=False)
    marks = np.load(folder / CHECKSUMS, mmap_mode="r", allow_pickle=False)
    for start in range(0, len(rows), CHUNK_IMAGES):
        some = rows[start : start + CHUNK_IMAGES]
        if (checksums(array[some]) != marks[some]).any():
            return "its values are not those that were written"
    return None


def checksums(rows: np.ndarray) -> np.ndarray:
    """Return the CRC-32 `[R] uint32` of each row, never 0: that stands for a row that is not there.

    It finds accidents, not attackers, who could write the checksum too.
    """
    flat = np.ascontiguousarray(rows).reshape(len(rows), -1).view(np.uint8)
    return np.array([zlib.crc32(row.data) or 1 for row in flat], dtype=np.uint32)


def rows_there(folder: Path) -> np.ndarray:
    """Return `[N] bool`, whether each row of an entry is there."""
    found: np.ndarray = np.load(folder / CHECKSUMS, allow_pickle=False) != 0
    return found


def _is_whole(folder: Path, key: Key) -> bool:
    return is_whole(folder / ARRAY, key.shape, np.dtype(key.dtype)) and is_whole(
        folder / CHECKSUMS, key.shape[:1], np.uint32
    )


def _files(folder: Path) -> list[list[int]]:
    stats = [(folder / name).stat() for name in (ARRAY, CHECKSUMS)]
    return [[stat.st_size, stat.st_mtime_ns] for stat in stats]


def _record_verified(folder: Path, seen: _Seen) -> None:
    with contextlib.suppress(OSError):  # a cache on a disk that only others may write to
        write_text(folder / VERIFIED, json.dumps({"files": seen.files, "time": seen.time}))


def list_entries(root: Path) -> Iterator[Entry]:
    """Yield every entry under `root`, whole or not."""
    for folder in sorted(root.glob("*")):
        if not folder.is_dir():
            continue
        refused, meta = read_object(folder / REFUSED), read_object(folder / META)
        identity, images = (meta or refused).get("identity", {}), images_there(folder)
        status = "whole" if meta and images else "refused" if refused else "unfinished"
        with contextlib.suppress(FileNotFoundError):  # removed meanwhile by another process
            size = folder_bytes(folder)
            yield Entry(folder, status, size, last_use(folder), is_in_use(folder), identity, images)


def images_there(folder: Path) -> int:
    """Return how many rows an entry has, 0 where that cannot be read."""
    try:
        return int(rows_there(folder).sum())
    except (OSError, ValueError):
        return 0


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
        except OSError:  # of another user, who removes it himself
            if is_held(path):
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


def _offset(key: Key, row: int) -> int:
    return len(npy_header(key.shape, key.dtype)) + row * key.row_bytes


Compute = Callable[[np.ndarray], Sequence[np.ndarray]]
"""The values of some rows, ascending, for every entry that is built."""
WAITING_S = 0.1


class Build:
    """One pass over `rows` `[R] int64`, ascending, of an array of images that adds to one entry or several what lacks.

    Raises OSError from `work` when the disk cannot hold it; what was computed so far stays.
    """

    def __init__(self, store: Store, keys: Sequence[Key], rows: np.ndarray, compute: Compute) -> None:
        self._store, self._keys, self._rows, self._compute = store, list(keys), rows, compute
        self._has_begun = False

    def work(self, seconds: float) -> Progress:
        """Compute rows for about `seconds` (at least some, if any are left), or wait for those of others."""
        deadline = time.monotonic() + seconds
        while len(left := self._left()):
            self._begin(left)
            # As many rows at a time as a chunk has, though they be of several: batches that are not full cost as much.
            if not any(self._try(rows) for rows in np.split(left, range(CHUNK_IMAGES, len(left), CHUNK_IMAGES))):
                time.sleep(WAITING_S)  # others have claimed all that is left
            if time.monotonic() >= deadline:
                break
        number = len(self._rows)
        return Progress(number - len(self._left()), number)

    def give_up(self) -> None:
        """Give back the room that nothing was written to."""
        for key in self._keys:
            self._store.discard_empty(key)

    def _left(self) -> np.ndarray:
        """Return the rows that some entry lacks."""
        lacking = [self._store.missing(key, self._rows) for key in self._keys]
        return lacking[0] if len(lacking) == 1 else np.unique(np.concatenate(lacking))

    def _begin(self, left: np.ndarray) -> None:
        """Create the entries with room for the rows that are left, or join the processes that have."""
        with contextlib.suppress(FileNotFoundError):  # removed meanwhile, as it was damaged: then the next time
            for key in self._keys:
                self._store.create(key)
                if not self._has_begun:
                    self._store.reserve(key, left)
            self._has_begun = True

    def _try(self, rows: np.ndarray) -> bool:
        """Compute rows unless another process works on their chunks, and return whether any was computed here."""
        with contextlib.ExitStack() as claims:
            try:
                for key, chunk in itertools.product(self._keys, np.unique(rows // CHUNK_IMAGES)):
                    claims.enter_context(_claimed(self._store.folder(key), int(chunk)))
            except Timeout:
                return False
            lacking = [self._store.missing(key, rows) for key in self._keys]
            rows = np.unique(np.concatenate(lacking))
            if not len(rows):
                return False
            arrays = self._compute(rows)
            with contextlib.suppress(FileNotFoundError):  # removed meanwhile: all is computed again
                for key, own, values in zip(self._keys, lacking, arrays, strict=True):
                    self._store.write(key, own, values[np.searchsorted(rows, own)])
            return True


@contextlib.contextmanager
def _claimed(folder: Path, chunk: int) -> Iterator[None]:
    """Hold the claim to a chunk; raises Timeout when another process does."""
    lock = FileLock(folder / CLAIMS / f"{chunk}.lock", timeout=0)
    with lock:
        try:
            yield
        finally:  # while it is held: two that claim it at the same time write the same
            Path(lock.lock_file).unlink(missing_ok=True)
