"""A run directory: all file names in it, its lock, and the choice of a directory for a new or a resumed search."""

from __future__ import annotations

import itertools
import os
import re
import uuid
from collections.abc import Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from tuner.common.errors import RunError, RunInUseError, first_line
from tuner.common.files import user_path, write_text
from tuner.common.locations import Location, exists, files_in, remove, touch
from tuner.runs.events import KERAS, OVER, STATE, StudyCreated
from tuner.runs.record import read_events, read_state
from tuner.runs.state import RunState

_FRONT_MODEL = re.compile(rf"front-[0-9]{{5,}}({re.escape(KERAS)}|{re.escape(STATE)})")


class _File:
    """A file of a run directory by its name."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, run: RunDirectory, _owner: type[RunDirectory]) -> Path:
        return run.path / self._name


@dataclass(frozen=True)
class RunDirectory:
    """The folder `runs/STUDY`, with everything that a search leaves behind."""

    path: Path
    storage: Location | None = None
    """Location of checkpoints that do not lie here; every worker reads and writes them."""

    record = _File("record.jsonl")
    """The record of results, from which the rest can be derived."""
    copied_bytes = _File("copied_bytes.txt")
    """The length in bytes of the record's copy in the storage."""
    specification = _File("specification.yaml")
    """The search-space file as resolved; can be searched again."""
    warm_start = _File("warm_start.json")
    """The facts taken over from earlier studies, so that a resumed session knows the same."""
    log = _File("search.log")
    """Everything that was kept off the console."""
    best_model = _File("best.keras")
    """The best trial's model; takes raw images."""
    best_state = _File("best.npz")
    """The best trial's state, where a training function of one's own was searched."""
    labels = _File("labels.json")
    """The class names in the order of the model's outputs, as a JSON list."""
    about_best = _File("best.json")
    """The configuration of the best model, its labels, and the command that trains it again."""
    predictions = _File("predictions.npz")
    """The predictions of the exported model for the test images."""
    variants = _File("variants.npz")
    """A few images after each variant of preprocessing and augmentation."""
    data = _File("data.json")
    """The account of the data."""
    trackers = _File("trackers.json")
    """The trackers that are told of the search, so that a resumed session goes on telling them."""
    suspects = _File("suspects.npz")
    """Images whose labels look wrong."""
    contact_sheets = _File("contact_sheets.npz")
    """Some training images of each class."""

    @property
    def checkpoints(self) -> Location:
        """The location of checkpoints: the run directory, or its folder in the storage."""
        return Location(str(self.path.resolve())) if self.storage is None else self.storage.child(self.name)

    @property
    def is_copied(self) -> bool:
        """Whether a copy of it is kept in its storage: not where it lies there itself."""
        if self.storage is None or self.checkpoints.is_remote:
            return self.storage is not None
        try:
            return not self.path.samefile(self.checkpoints.address)
        except OSError:  # one of them is not there yet
            return True

    @property
    def ray(self) -> Location:
        """Ray's own folder: one experiment per session, with the trials' checkpoints."""
        return self.checkpoints.child("ray")

    @property
    def exit_reasons(self) -> Path | None:
        """The folder in which a dying process leaves its reason for the driver; None where it is a bucket."""
        return None if self.checkpoints.is_remote else Path(self.checkpoints.address, "exit_reasons")

    def finalist(self, trial: int, number: int, folds: int = 0) -> Location:
        """Return the location of the checkpoint of one training of a finalist; `folds` as in `FinalistsStarted`."""
        return self.checkpoints.child("finalists", f"trial-{trial:05d}-{'fold' if folds else 'seed'}-{number}")

    def front_model(self, trial: int, suffix: str = KERAS) -> Path:
        """Return the path of the model of a finalist on the Pareto front that is not the best."""
        return self.path / f"front-{trial:05d}{suffix}"

    def front_models(self) -> list[Path]:
        """Return the paths of all such models that are there."""
        return sorted(path for path in self.path.glob("front-*") if _FRONT_MODEL.fullmatch(path.name))

    @property
    def exported(self) -> Path | None:
        """The file of the exported best model, of whatever kind; None: there is none yet."""
        return next((path for path in (self.best_model, self.best_state) if path.is_file()), None)

    def exported_model(self) -> Path:
        """Return the path of the exported best network; raises RunError when there is none."""
        if self.exported == self.best_state:
            raise RunError(
                f"{self.path}: its best model is no network of Keras but the state of a training function of its "
                f"author's, {self.best_state.name}; tuner.load_state reads it"
            )
        if not self.best_model.is_file():
            raise RunError(f"{self.path}: has no {self.best_model.name} yet; it is written when the search has ended")
        return self.best_model

    @property
    def name(self) -> str:
        """The run's name, which is the study's, possibly with a number."""
        return self.path.resolve().name  # of `.` and `..` too: reports go to a folder of this name

    @contextmanager
    def locked(self, *, is_new: bool = False) -> Iterator[None]:
        """Hold the lock of this run until the end of the block; the system releases it if the driver dies.

        A storage has no locks: a new run is claimed there for good, by a file that this folder knows the name of. If it
        never begins, it can be begun again from here; from elsewhere, others take the next name, or remove the file.

        Raises:
            RunInUseError: another search is in it, or, if this one `is_new`, has begun there since the name was chosen.
            RunError: it cannot be a run.
        """
        lock = FileLock(self.path / "lock", timeout=0)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._refuse_other_kinds()
            lock.acquire()
        except Timeout:
            raise RunInUseError(f"{self.path}: another search is running in it") from None
        except OSError as error:
            raise RunError(f"{self.path}: the run directory cannot be used: {error.strerror or error}") from None
        try:
            if is_new and _has_record(self) and _study_of(self) is not None:
                raise RunInUseError(f"{self.path}: another search has just begun in it; begin this one again")
            if is_new and self.storage is not None:
                self._claim()
            yield
        finally:
            lock.release()

    def _claim(self) -> None:
        """Claim this run's name in the storage, where another driver may have begun a run of the name just now.

        Each leaves its file first and looks for others then: of two at once both may give way, but never none.
        """
        own, claims = self.path / ".claim", self.checkpoints.child("claims")
        try:
            if not own.is_file():
                write_text(own, uuid.uuid4().hex)
            claim = claims.child(own.read_text())
            touch(claim)
            if files_in(claims) == [claim.name]:
                return
            remove(claim)
            own.unlink()
        except OSError as error:
            raise RunError(f"{self.checkpoints.address}: cannot be claimed: {first_line(error)}") from None
        raise RunInUseError(
            f"{self.checkpoints.address}: another search is being prepared for it, from elsewhere; add --fresh to take "
            f"another name, or remove {claims.address} if none is"
        )

    def _refuse_other_kinds(self) -> None:
        """Refuse a folder where a search will write a file, and a file where it will make a folder."""
        for path in (self.path / "lock", self.record, self.specification, self.log, self.best_model, self.labels):
            if os.path.lexists(path) and not (path.is_file() and os.access(path, os.R_OK | os.W_OK)):
                raise RunError(f"{path}: must be a file that can be read and written, or not there")
        for path in (self.path / "ray", self.path / "finalists"):
            if os.path.lexists(path) and not path.is_dir():
                raise RunError(f"{path}: must be a folder, or not there")


def is_finished(state: RunState) -> bool:
    """Return whether the run's last session was the end of the search."""
    return state.session_ended is not None and state.session_ended.reason in OVER


def _has_record(run: RunDirectory) -> bool:
    try:
        return run.record.is_file()
    except OSError as error:
        raise RunError(f"{run.path}: cannot be looked into: {error.strerror}") from None


def new_run(runs_dir: Path, study: str, storage: Location | None = None) -> RunDirectory:
    """Return the run directory of a new search: `STUDY`, or `STUDY-2` and so on after finished ones.

    Raises RunError when the latest run of the study is unfinished, so that going on with it is probably what is wanted;
    or the storage has one of this name, from another machine.
    """
    for number in itertools.count(1):
        run = RunDirectory(runs_dir / (study if number == 1 else f"{study}-{number}"), storage)
        state = read_state(run.record) if _has_record(run) else RunState()
        if state.study is None:  # nothing there, or killed before its first event was written
            if _is_stored(run):
                raise RunError(
                    f"{run.checkpoints.address} holds a run of this name, which is not here; go on with it by "
                    f"--resume {run.checkpoints.address}, or add --fresh to begin another beside it"
                )
            return run
        if state.study.study == study and not is_finished(state):
            raise RunError(
                f"{run.path} holds an unfinished search of this study; add --resume to go on with it, "
                "--fresh to begin another beside it"
            )
    raise AssertionError  # itertools.count never ends


def fresh_run(runs_dir: Path, study: str, storage: Location | None = None, in_use: Container[str] = ()) -> RunDirectory:
    """Return the first run directory of the study's name that is free, whatever state the others are in.

    Another driver may choose the same until one of them has it `locked`; the other then passes it over by `in_use`. A
    run that was locked and never begun is chosen again by the next search, with a `storage` by one in the same folder.
    """
    names = itertools.chain([study], (f"{study}-{number}" for number in itertools.count(2)))
    runs = (RunDirectory(runs_dir / name, storage) for name in names if name not in in_use)
    return next(run for run in runs if not _has_record(run) and not _is_stored(run))


def _is_stored(run: RunDirectory) -> bool:
    try:
        return run.storage is not None and exists(run.checkpoints.child(run.record.name))
    except OSError as error:
        raise RunError(f"{run.checkpoints.address}: cannot be looked into: {first_line(error)}") from None


def latest_run(runs_dir: Path, study: str) -> RunDirectory:
    """Return the newest run of a study; raises RunError when there is none."""
    return _newest_first(runs_dir, study)[0]


def run_to_resume(runs_dir: Path, study: str) -> RunDirectory:
    """Return the newest unfinished run of a study; where all are finished, the newest, which may get more to spend.

    Raises RunError when there is none.
    """
    newest, *older = _newest_first(runs_dir, study)
    if is_finished(read_state(newest.record)):
        return next(filter(_is_unfinished, older), newest)
    return newest


def _is_unfinished(run: RunDirectory) -> bool:
    """Say whether a run can go on; one of which the record is damaged cannot."""
    try:
        return not is_finished(read_state(run.record))
    except RunError:
        return False


def _newest_first(runs_dir: Path, study: str) -> list[RunDirectory]:
    """Return the runs of a study, that which was written to last first; raises RunError when there is none."""
    paths = [path for path in runs_dir.glob(f"{study}*") if re.fullmatch(r"(-[0-9]+)?", path.name[len(study) :])]
    runs = [run for run in map(RunDirectory, paths) if _has_record(run) and _study_of(run) == study]
    if not runs:
        raise RunError(f"{runs_dir / study}: there is no search to resume; leave out --resume to begin one")
    return sorted(runs, key=lambda run: run.record.stat().st_mtime, reverse=True)


def _study_of(run: RunDirectory) -> str | None:
    """Return the study of a run: `digits-2` may be the second run of `digits`, or the first of `digits-2`."""
    first = next(read_events(run.record), None)
    return first.study if isinstance(first, StudyCreated) else None


def open_run(path: Path) -> RunDirectory:
    """Return the run at `path`, which may begin with a home; raises RunError when that is not a run directory."""
    run = RunDirectory(user_path(path))
    if not _has_record(run):
        raise RunError(f"{path}: not a run directory: it holds no record.jsonl")
    return run
