"""Checks of paths before writing, and writing aside then renaming: a reader sees the old or the new file, never half.

A command sees before it begins whether it can write to the places it is given, and what room their disks have.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from tuner.common.errors import DiskFullError, InputError

DISK_FULL = "disk full"
_WRITER = re.compile(r"\.([0-9]+)\.partial$")
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_NO_ROOM_WORDS = re.compile(rf"\[errno ({'|'.join(map(str, _NO_ROOM))})\]|no space left|quota exceeded", re.IGNORECASE)


def shown(path: Path) -> str:
    """Return a path as text that can be printed, whatever bytes are in it."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def as_typed(path: Path) -> str:
    """Return a path as a user of this folder would type it; as it is, if it lies elsewhere or this folder is gone."""
    try:
        relative = os.path.relpath(path)
    except OSError:
        return shown(path)
    return shown(path) if relative.startswith("..") else shown(Path(relative))


def user_path(text: str | os.PathLike[str]) -> Path:
    """Return the path that a user has written, `~` and `~name` expanded; raises InputError for an unknown user."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise InputError(f"{text}: must begin with the home of a user that exists, if with ~") from None


def check_folder(path: Path, what: str, *, is_written: bool = True) -> None:
    """Check that `path` is, or can become, a folder to write to (to read, if not `is_written`); nothing is made.

    Raises InputError when it cannot; the message calls it `what`.
    """
    rule = f"{what} must be a folder that can be {'written to' if is_written else 'read'}"
    try:
        str(path).encode()
    except UnicodeEncodeError:  # not every library takes the bytes of a name as they are
        raise InputError(f"{what} must have a name that is text in UTF-8; got {shown(path)}") from None
    try:
        place = _nearest(path.absolute())
        mode = place.stat().st_mode
    except OSError as error:  # a link to nothing or to itself, a name that is too long
        raise InputError(f"{rule}; {path}: {error.strerror}") from None
    if not stat.S_ISDIR(mode):
        raise InputError(f"{rule}; {place} is {'a file' if stat.S_ISREG(mode) else 'a pipe or a device'}")
    right = os.W_OK if is_written else os.R_OK if place == path.absolute() else os.F_OK
    if not os.access(place, right | os.X_OK):
        raise InputError(f"{rule}; {place} cannot be")


def _nearest(path: Path) -> Path:
    """Return the path if it exists, or its nearest parent that does."""
    for place in (path, *path.parents):
        try:
            place.lstat()
        except (FileNotFoundError, NotADirectoryError):
            continue
        return place
    return path


def free_bytes(folder: Path) -> int:
    """Return the free bytes on the disk of a folder, which need not exist; raises OSError when it cannot be asked."""
    return shutil.disk_usage(_nearest(Path(os.path.realpath(folder)))).free  # a link may lead to another disk


def format_size(size_bytes: float) -> str:
    """Return a size in bytes as text for people, in KiB, MiB or GiB.

    >>> format_size(0), format_size(2000), format_size(3 * 2**20), format_size(5 * 2**30)
    ('0.0 KiB', '2.0 KiB', '3.0 MiB', '5.0 GiB')
    """
    unit, divisor = next((pair for pair in (("GiB", 2**30), ("MiB", 2**20)) if size_bytes >= pair[1]), ("KiB", 2**10))
    return f"{size_bytes / divisor:,.1f} {unit}"


def check_file(path: Path, what: str) -> None:
    """Check that `path` is a file or free, in a folder to write to; raises InputError as `check_folder` does."""
    if os.path.lexists(path) and not path.is_file():
        raise InputError(f"{what} must be a file; {path} is {'a folder' if path.is_dir() else 'a pipe or a device'}")
    check_folder(path.parent, f"the folder of {what}")


def is_disk_full(problem: BaseException | str) -> bool:
    """Return whether an error, or a library's message, is about a full disk or a used-up quota.

    >>> is_disk_full(OSError(28, "No space left on device")), is_disk_full("OSError: [Errno 13] Permission denied")
    (True, False)
    """
    if isinstance(problem, OSError) and problem.errno is not None:
        return problem.errno in _NO_ROOM
    return _NO_ROOM_WORDS.search(str(problem)) is not None


def disk_full_error(path: Path, loss: str = "") -> DiskFullError:
    """Return the error for a run that cannot be written any more; `loss` is the reason why a trial was lost.

    >>> print(disk_full_error(Path("runs/a"), "disk full: [Errno 28] No space left on device: '/tmp/x', on 10.0.0.2"))
    runs/a: the disk is full ([Errno 28] No space left on device: '/tmp/x', on 10.0.0.2); make room, then go on with \
--resume: what was reported is kept
    """
    said = f" ({loss.removeprefix(DISK_FULL).removeprefix(': ')})" if loss else ""
    return DiskFullError(
        f"{path}: the disk is full{said}; make room, then go on with --resume: what was reported is kept"
    )


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; it is renamed to `path` at the end of the block, removed on an error.

    Missing folders are made. Two processes that write the same file do not disturb each other: the last one wins.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        yield aside
        aside.replace(path)  # atomic on every platform
    finally:
        aside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> Path:
    """Write a text file, UTF-8 with newlines as they are; returns its path."""
    with replacing(path) as aside:
        aside.write_bytes(text.encode())
    return path


def is_written(aside: Path) -> bool:
    """Return whether the process that writes an unfinished file is there."""
    process = _WRITER.search(aside.name)
    return process is not None and psutil.pid_exists(int(process[1]))


def remove_leftovers(folder: Path) -> None:
    """Remove from `folder`, at every depth, the unfinished files of processes that were killed."""
    for aside in folder.rglob(".*.partial"):
        if _WRITER.search(aside.name) is not None and not is_written(aside):
            aside.unlink(missing_ok=True)


def is_held(lock: Path) -> bool:
    """Return whether a process holds a lock file that can only be read: it is another user's, or its whole disk is so.

    One of which that cannot be told counts as held.
    """
    try:
        import fcntl  # not on Windows

        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except (ImportError, OSError):
        return True
    return False


def remove_empty(folder: Path) -> None:
    """Remove a folder if it is empty; a folder with something in it stays."""
    with suppress(OSError):
        folder.rmdir()
