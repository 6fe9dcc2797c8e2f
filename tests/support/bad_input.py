"""Bad input: a place to try it in, the command as a user types it, and what must hold of every refusal."""

from __future__ import annotations

import importlib
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.needs import without_roots_rights
from tests.support.wrong_files import RIGHT

SECONDS = 60.0
"""Until a command counts as hanging. What is asked for is 10; a machine at work on other things is slow."""
LONGEST = 2_500
"""Characters of a message: ten broken images with their paths."""


def nothing(_place: Path) -> None:
    """For a case that needs no files of its own."""


@dataclass(frozen=True)
class Case:
    """One wrong input. `command` is what follows `python -m tuner.`, typed in a folder that has `right.yaml`."""

    command: str
    words: tuple[str, ...]
    """What the message must contain."""
    make: Callable[[Path], object] = nothing
    """Puts more files into the folder."""
    problems: int = 1
    """Lines of the message."""
    may_write: tuple[str, ...] = ()
    """What the command is given to write to, in the folder."""
    environment: Mapping[str, str] = field(default_factory=dict)
    is_real: bool = False
    """In a process of its own: a sample, and whatever would take the tests along if it went wrong."""
    is_guarded: bool = False
    """In a process of its own that may do only what the rights of a file allow, even if root has started it."""


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    status: int
    output: str
    error: str


def refuse(case: Case, place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Outcome:
    """Run a case in an empty folder `place` and see that it is refused as everything wrong must be."""
    work = place / "work"
    for folder in (work, place / "home", place / "temporary"):
        folder.mkdir()
    (work / "right.yaml").write_text(RIGHT)
    case.make(work)
    before = snapshot(place)
    environment = {"HOME": str(place / "home"), "TMPDIR": str(place / "temporary"), "COLUMNS": "10000"}
    # What libraries keep for themselves, once for all cases.
    environment |= {"MPLCONFIGDIR": str(place.parent / "matplotlib"), "KERAS_HOME": str(place.parent / "keras")}
    removed = ("TUNER_DATA", "TUNER_CACHE", "XDG_CACHE_HOME")
    run = _run_process if case.is_real or case.is_guarded else _run_here
    found = run(case, work, {**environment, **case.environment}, removed, monkeypatch, capfd)
    assert found.status == 2, f"the status must be 2; got {found.status}: {found.output}{found.error}"
    check_message(case, found.error, found.output)
    allowed = [work / name for name in case.may_write]
    written = [
        path for path in changed(before, snapshot(place)) if not any(path.is_relative_to(one) for one in allowed)
    ]
    assert not written, f"written elsewhere: {written}"
    return found


def check_message(case: Case, error: str, output: str) -> None:
    """One message of so many lines as there are problems, with what it must say and nothing a terminal would obey."""
    assert "Traceback" not in error + output
    assert error.endswith("\n")
    message = error[:-1]
    if message.startswith("usage: "):
        message = message[message.rindex("\npython -m tuner.") + 1 :]
        module, first, *_ = [*case.command.split(), ""]
        assert message.startswith((f"python -m tuner.{module}: error: ", f"python -m tuner.{module} {first}: error: "))
    assert message.count("\n") + 1 == case.problems, message
    assert len(message) < LONGEST * case.problems, message
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]", message + output)
    for words in case.words:
        assert words in message, message


def snapshot(place: Path) -> dict[Path, tuple[int, int, int, str]]:
    """Everything below a folder: kind and rights, size, time of change, where a link leads."""
    found: dict[Path, tuple[int, int, int, str]] = {}
    for where, folders, files in os.walk(place):
        for name in (*folders, *files):
            path = Path(where, name)
            status = path.lstat()
            is_folder = path.is_dir() and not path.is_symlink()
            found[path] = (
                status.st_mode,
                0 if is_folder else status.st_size,
                0 if is_folder else status.st_mtime_ns,  # what is new or gone in a folder is seen by itself
                str(path.readlink()) if path.is_symlink() else "",
            )
    return found


def changed(before: Mapping[Path, object], after: Mapping[Path, object]) -> list[Path]:
    """What is new, gone or different."""
    return sorted(path for path in {*before, *after} if before.get(path) != after.get(path))


def _run_here(
    case: Case,
    work: Path,
    environment: Mapping[str, str],
    removed: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Outcome:
    """The function that `python -m tuner.X` calls, called in this process."""
    with monkeypatch.context() as patched:
        patched.chdir(work)
        patched.setattr(tempfile, "tempdir", None)
        for name in removed:
            patched.delenv(name, raising=False)
        for name, value in environment.items():
            patched.setenv(name, value)
        module, *arguments = shlex.split(case.command)
        capfd.readouterr()
        try:
            status = importlib.import_module(f"tuner.{module}").main(arguments)
        except SystemExit as end:  # argparse
            status = end.code
        captured = capfd.readouterr()
    return Outcome(int(status or 0), captured.out, captured.err)


def _run_process(
    case: Case,
    work: Path,
    environment: Mapping[str, str],
    removed: tuple[str, ...],
    _monkeypatch: pytest.MonkeyPatch,
    _capfd: pytest.CaptureFixture[str],
) -> Outcome:
    module, *arguments = shlex.split(case.command)
    inherited = {name: value for name, value in os.environ.items() if name not in removed}
    result = subprocess.run(
        [*(without_roots_rights() if case.is_guarded else []), sys.executable, "-m", f"tuner.{module}", *arguments],
        cwd=work,
        env={**inherited, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", **environment},
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=SECONDS,
        check=False,
    )
    return Outcome(result.returncode, result.stdout.decode(), result.stderr.decode())
