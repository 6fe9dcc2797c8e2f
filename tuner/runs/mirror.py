"""A copy of a run in its storage, kept up to date while it is searched: a lost driver takes nothing with it."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from pathlib import Path

from tuner.common.errors import RunError, TunerError, first_line
from tuner.common.files import write_text
from tuner.common.locations import (
    Location,
    download,
    exists,
    files_in,
    is_remote,
    parse_location,
    size_bytes,
    upload,
)
from tuner.common.process import in_background
from tuner.runs.directory import RunDirectory, open_run

EVERY_S = 20.0
SHARE = 0.05
"""Most of the time that may be spent on copying: the record of a long search is large."""
REPORT = "report"
"""The folder of the report, in the copy."""
_NOT_COPIED = ("lock", "copied_bytes.txt")


class Mirror:
    """A copier of a run directory and its report to the storage, which remembers the copied state of each file."""

    def __init__(self, run: RunDirectory, report: Path) -> None:
        self._run = run
        self._folders = {report: run.checkpoints.child(REPORT)}
        if run.is_copied:  # else the record would be replaced while it is written
            self._folders = {run.path: run.checkpoints, **self._folders}
        self._copied: dict[Path, tuple[int, int]] = {}

    def copy_changed(self) -> None:
        """Copy every file that has changed since its last copy; raises OSError when the storage cannot be written."""
        for folder, location in self._folders.items():
            for file in sorted(folder.rglob("*") if location.name == REPORT else folder.glob("*")):
                if not file.is_file() or file.name in _NOT_COPIED or file.name.startswith((".", "partial.")):
                    continue
                status = file.stat()
                if file == self._run.record and not status.st_size:
                    continue  # a search that has not begun: its record would keep the name for good
                state = (status.st_size, status.st_mtime_ns)
                if self._copied.get(file) != state:
                    upload(file, location.child(*file.relative_to(folder).parts))
                    self._copied[file] = state
                    if file == self._run.record:
                        write_text(self._run.copied_bytes, str(status.st_size))


@contextmanager
def mirrored(run: RunDirectory, report: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Copy a run and its report to its storage now and then and at the end of the block; do nothing without one.

    What cannot be copied is said once, and tried again.

    Raises TunerError when, at the end, the storage cannot be written; the run directory holds everything.
    """
    if run.storage is None:
        yield
        return
    mirror = Mirror(run, report)
    try:
        with in_background(lambda ended: _copy_until(ended, mirror, run.checkpoints, say)):
            yield
    finally:
        try:
            mirror.copy_changed()
        except OSError as error:
            raise TunerError(
                f"--storage {run.checkpoints.address} could not be written: {first_line(error)}; all is in {run.path}"
            ) from None


def _copy_until(ended: threading.Event, mirror: Mirror, location: Location, say: Callable[[str], None]) -> None:
    wait_s, problem = EVERY_S, ""
    while not ended.wait(wait_s):
        started = time.monotonic()
        try:
            mirror.copy_changed()
            problem = ""
        except OSError as error:
            if not problem:
                say(f"--storage {location.address} cannot be written, and is tried again: {first_line(error)}")
            problem = first_line(error)
        wait_s = max(EVERY_S, (time.monotonic() - started) / SHARE)


def download_run(location: Location, folder: Path, but_for: Container[str] = ()) -> RunDirectory:
    """Copy a run from its storage to `folder`, without some files, the checkpoints and the report, which stay there.

    Raises RunError when it holds no run, cannot be read, or `folder` has one already.
    """
    run = RunDirectory(folder, location.parent)
    if run.record.exists():
        again = f"fetch {location.address} again"
        raise RunError(f"{folder} is there already: go on with that, or move it away and {again}")
    try:
        if not exists(location.child(run.record.name)):
            raise RunError(f"{location.address}: not a run directory: it holds no {run.record.name}")
        names = [name for name in files_in(location) if name != run.record.name and name not in but_for]
        for name in [*names, run.record.name]:  # a folder with a record is a whole one
            download(location.child(name), folder / name)
    except OSError as error:
        raise RunError(f"{location.address}: cannot be read: {first_line(error)}") from None
    return RunDirectory(open_run(folder).path, location.parent)


def refuse_older_copy(run: RunDirectory) -> None:
    """Refuse to go on with a run of which the storage holds more: another machine has gone on with it since.

    What that one has recorded would be replaced there by what is here.

    Raises RunError, also when the storage cannot be read.
    """
    if not run.is_copied:
        return
    stored = run.checkpoints.child(run.record.name)
    try:
        if size_bytes(stored) <= run.record.stat().st_size:
            return
        with tempfile.TemporaryDirectory(prefix="tuner-") as folder:
            copy = Path(folder) / run.record.name
            download(stored, copy)
            there, here = _lines_of(copy), _lines_of(run.record)
    except OSError as error:
        raise RunError(f"{stored.address}: cannot be read: {first_line(error)}") from None
    if there > here:  # else the end of a line that could not be written whole
        raise RunError(
            f"{run.checkpoints.address} has gone on elsewhere: its record has {there} events, that of {run.path} has "
            f"{here}; move {run.path} away and go on with it by --resume {run.checkpoints.address}"
        )


def _lines_of(record: Path) -> int:
    with record.open("rb") as lines:
        return sum(line.endswith(b"\n") for line in lines)


@contextmanager
def run_at(text: str) -> Iterator[RunDirectory]:
    """Open a run by its path, or by its address, of which the files for a report are copied for the time of the block.

    The model and the specification stay in the storage, and with them the commands that would name a copy of them.

    Raises RunError when it is no run, or cannot be read.
    """
    if not is_remote(text):
        yield open_run(Path(text))
        return
    location = parse_location(text, "RUN")
    with tempfile.TemporaryDirectory(prefix="tuner-") as folder:
        run = RunDirectory(Path(folder) / location.name)
        yield download_run(
            location, run.path, (run.best_model.name, run.best_state.name, run.specification.name, run.log.name)
        )
