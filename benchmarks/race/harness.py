"""Running legs: each alone, in a process group of its own, ended with everything that it started."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import psutil

from benchmarks.race.legs import LEGS, Leg, Start, tuner_record
from benchmarks.race.results import Run, best_steps, parse_epochs, within
from tuner.common.errors import InputError, RunError

ROOT = Path(__file__).parents[2]
MARK = "TUNER_RACE_RUN"
"""Set in the environment of a leg: everything it starts inherits it, also what leaves its process group."""
PROGRESS_EVERY_S = 30.0
EXEC_S = 0.05
"""A process that is just starting a program has no environment for a moment, and so no mark."""


@dataclass(frozen=True)
class Kept:
    """The files of one run."""

    folder: Path
    size: str
    leg: str
    round: int

    def _file(self, suffix: str) -> Path:
        return self.folder / self.size / self.leg / f"round_{self.round}{suffix}"

    @property
    def epochs(self) -> Path:
        return self._file(".jsonl")

    @property
    def about(self) -> Path:
        """Written last: where it is, the run is finished."""
        return self._file(".about.json")

    @property
    def log(self) -> Path:
        return self._file(".log")

    @property
    def record(self) -> Path:
        """Tuner's own record, for a closer look."""
        return self._file(".record.jsonl")

    @property
    def cache(self) -> Path:
        """What a leg keeps for one that follows it."""
        return self._file(".cache")


def load_run(kept: Kept, budget_s: float) -> Run | None:
    """A finished run, None if it is not; raises InputError when it was run with another budget."""
    if not kept.about.exists():
        return None
    about = json.loads(kept.about.read_text())
    if about["budget_s"] != budget_s:
        raise InputError(
            f"--budget must be that of the results in {kept.folder} ({about['budget_s']:g}); got {budget_s:g}, "
            "choose another --out"
        )
    return parse_epochs(kept.epochs.read_text(), str(kept.epochs))


def run_missing(
    folder: Path,
    sizes: Sequence[str],
    legs: Sequence[str],
    rounds: int,
    budget_s: float,
    data: Path | None,
    say: Callable[[str], None],
) -> tuple[dict[str, dict[str, list[Run]]], int]:
    """All runs by size and leg, the finished ones from `folder`, and how many failed; without data nothing is run."""
    runs: dict[str, dict[str, list[Run]]] = {size: {leg: [] for leg in legs} for size in sizes}
    failures = 0
    for number, size, leg in itertools.product(range(1, rounds + 1), sizes, legs):
        kept = Kept(folder, size, leg, number)
        run = load_run(kept, budget_s)
        if run is None and data is not None:
            say(f"round {number} of {rounds}, {size}, {leg}: {budget_s:g} s")
            try:
                is_followed = any(LEGS[other].follows == leg for other in legs)
                run = run_leg(kept, data, budget_s, say, keep_cache=is_followed)
                clear_followed(kept)
                say(f"  done: {describe(run, budget_s)}")
            except RunError as error:
                failures += 1
                say(f"  {error}")
        if run is not None:
            runs[size][leg].append(run)
    return {size: {leg: found for leg, found in of.items() if found} for size, of in runs.items()}, failures


def clear_followed(kept: Kept) -> None:
    """Remove the cache that was kept for a leg which has finished."""
    if LEGS[kept.leg].follows:
        shutil.rmtree(replace(kept, leg=LEGS[kept.leg].follows).cache, ignore_errors=True)


def run_leg(kept: Kept, data: Path, budget_s: float, say: Callable[[str], None], *, keep_cache: bool = False) -> Run:
    """Run a leg and keep what it did, with `keep_cache` also its cache.

    Raises:
        RunError: it ended by itself, with an error, before the budget was spent, or it finished no epoch.
    """
    leg = LEGS[kept.leg]
    kept.about.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="race-"))
    try:
        busy_percent = psutil.cpu_percent(interval=3.0)
        if busy_percent > 10:
            say(f"  others keep {busy_percent:.0f}% of this machine busy: what follows is not to be trusted")
        results = (kept.folder / kept.size).absolute()  # a leg runs in another folder
        start = Start(kept.leg, kept.size, kept.round, budget_s, time.time(), data, scratch, results)
        status, ended_s = _run_process(leg, start, kept.log, say)
        run = leg.read_epochs(start)
        if (status not in (None, 0) and ended_s < budget_s) or not run:
            raise RunError(
                f"{kept.size}/{kept.leg} round {kept.round}: no result, exit status {status}; see {kept.log}"
            )
        if tuner_record(start).exists():
            shutil.copyfile(tuner_record(start), kept.record)
        if keep_cache:
            shutil.rmtree(kept.cache, ignore_errors=True)
            shutil.move(start.cache, kept.cache)
        kept.epochs.write_text("".join(json.dumps(asdict(epoch)) + "\n" for epoch in run))
        about = {"budget_s": budget_s, "launched": start.launched, "ended_s": ended_s, "exit_status": status}
        _write_aside(kept.about, json.dumps({**about, "busy_before_percent": busy_percent}) + "\n")
        return run
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _write_aside(path: Path, text: str) -> None:
    aside = path.with_suffix(".partial")
    aside.write_text(text)
    aside.replace(path)


def _run_process(leg: Leg, start: Start, log: Path, say: Callable[[str], None]) -> tuple[int | None, float]:
    """The exit status, None if it had to be ended, and the seconds after which it was."""
    mark = uuid.uuid4().hex
    with log.open("wb") as output:
        process = subprocess.Popen(
            leg.command(start),
            cwd=ROOT,
            env=_environment(os.environ, mark),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status = _wait(process, leg, start, say)
            return status, time.time() - start.launched
        finally:
            _end(process, mark)


def _environment(own: Mapping[str, str], mark: str) -> dict[str, str]:
    """What all legs get alike: TensorFlow as the backend, nothing but errors from it, this repository importable."""
    path = os.pathsep.join(filter(None, [str(ROOT), own.get("PYTHONPATH", "")]))
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONUNBUFFERED": "1"}
    keras_home = {"KERAS_HOME": str(Path(own["KERAS_HOME"]).absolute())} if "KERAS_HOME" in own else {}
    return {**own, **quiet, **keras_home, "KERAS_BACKEND": "tensorflow", "PYTHONPATH": path, MARK: mark}


def _wait(process: subprocess.Popen[bytes], leg: Leg, start: Start, say: Callable[[str], None]) -> int | None:
    """Wait until it ends or has to; the exit status or None."""
    deadline = start.launched + start.budget_s + leg.grace_s
    while (left_s := deadline - time.time()) > 0:
        try:
            return process.wait(min(PROGRESS_EVERY_S, left_s))
        except subprocess.TimeoutExpired:
            elapsed_s = time.time() - start.launched
            if elapsed_s < start.budget_s:
                say(f"  {elapsed_s:4.0f} s: {describe(leg.read_epochs(start), start.budget_s)}")
    return None


def describe(run: Run, budget_s: float) -> str:
    """A run so far in a few words."""
    counted = within(run, budget_s)
    steps = best_steps(counted)
    return f"{len(counted)} epochs" + (f", best {steps[-1][1]:.4f} after {steps[-1][0]:.0f} s" if steps else "")


def _end(process: subprocess.Popen[bytes], mark: str) -> None:
    """Kill the process, its group, and whatever carries its mark (Ray's daemons may lead groups of their own)."""
    with contextlib.suppress(ProcessLookupError):  # all of the group may have ended by itself
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    looks_without_any = 0
    for _ in range(40):
        left = [other for other in psutil.process_iter() if _carries(other, mark)]
        for other in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                other.kill()
        psutil.wait_procs(left, timeout=1)
        looks_without_any = 0 if left else looks_without_any + 1
        if looks_without_any == 2:
            return
        time.sleep(EXEC_S)


def _carries(process: psutil.Process, mark: str) -> bool:
    try:
        return process.environ().get(MARK) == mark
    except (psutil.Error, OSError):
        return False
