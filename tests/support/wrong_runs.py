"""Wrong runs and storage: folders that cannot be written to, runs that are foreign, damaged or in use."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock

from tests.support.bad_input import Case
from tests.support.make_record import epoch, study_created, trial_ended, trial_started, write_record
from tests.support.wrong_files import RIGHT, wrong
from tuner.runs.events import Event, SessionEnded, SessionStarted
from tuner.spec.spec import dump_spec, read_spec, require

CONFIGURATION = {"preprocess": "standardise", "augment": "none", "batch_size": 32, "learning_rate": 0.001, "architecture": "cnn", "blocks": 2}  # fmt: skip
WIDENED = RIGHT.replace("space:", "space:\n  weight_decay: {float: [0, 0.1]}").replace(
    "baseline: {", "baseline: {weight_decay: 0, "
)
EDITED = wrong({7: "  batch_size: {choice: [16, 32]}"})


def events(end: str | None = "finished") -> list[Event]:
    """The events of a search of `right.yaml` with two trials."""
    return [
        study_created(study="small", max_epochs=16, specification=require(read_spec(RIGHT)).resolved()),
        SessionStarted(resumed=False, max_concurrent=1, sampler="tpe", scheduler="none"),
        trial_started(0, CONFIGURATION), epoch(0, 1, 0.5), trial_ended(0),
        trial_started(1, CONFIGURATION), epoch(1, 1, 0.4), trial_ended(1),
        *([SessionEnded(reason=end)] if end else []),
    ]  # fmt: skip


def ended(work: Path, end: str | None = "finished") -> Path:
    """A run `runs/small`."""
    run = work / "runs" / "small"
    write_record(run / "record.jsonl", events(end))
    (run / "specification.yaml").write_text(dump_spec(require(read_spec(RIGHT)).resolved()))
    return run


def unfinished(work: Path) -> Path:
    """The same, interrupted."""
    return ended(work, "interrupted")


def best(work: Path, about: str = '{"labels": ["a", "b"], "image_shape": [8, 8, 3]}') -> Path:
    """A run with something in the place of its best model."""
    run = ended(work)
    (run / "best.keras").write_bytes(b"no model")
    (run / "best.json").write_text(about)
    return run


def damaged(change: Callable[[list[bytes]], list[bytes]]) -> Callable[[Path], None]:
    """A run whose record has other lines."""

    def make(work: Path) -> None:
        record = unfinished(work) / "record.jsonl"
        record.write_bytes(b"".join(change(record.read_bytes().splitlines(keepends=True))))

    return make


def with_field(number: int, **values: Any) -> Callable[[Path], None]:
    """A run with other values in one line (from 0) of its record."""

    def change(lines: list[bytes]) -> list[bytes]:
        lines[number] = json.dumps({**json.loads(lines[number]), **values}).encode() + b"\n"
        return lines

    return damaged(change)


def record(make: Callable[[Path], object], *words: str, command: str = "report runs/small") -> Case:
    """A report of a run that `make` has put there."""
    return Case(command, words, make)


LEARN = "search right.yaml --warm-start given.json"
GIVEN = {"kind": "tuner study", "version": 1, "tuner": "0.1.0", "data": {}, "metrics": {"val_accuracy": "max"}, "trials": []}  # fmt: skip


def study(fields: dict[str, Any], *words: str) -> Case:
    """A search that is to learn from a file of a study with these fields."""
    return Case(LEARN, words, lambda work: (work / "given.json").write_text(json.dumps({**GIVEN, **fields})))


_HELD: list[FileLock] = []


def locked(work: Path) -> None:
    """A run that another search is in."""
    lock = FileLock(unfinished(work) / "lock")
    lock.acquire()
    _HELD.append(lock)


def also(make: Callable[[Path], Path], change: Callable[[Path], object]) -> Callable[[Path], None]:
    """A run with one thing different."""

    def make_all(work: Path) -> None:
        change(make(work))

    return make_all


def guarded(command: str, make: Callable[[Path], object], *words: str) -> Case:
    """A command of a user who has only the rights that files give."""
    return Case(command, words, make, is_guarded=True)


RESUME = "search right.yaml --resume"
RUNS: dict[str, Case] = {
    # --- where runs, reports and caches are to be ---
    "runs in a file": Case("search right.yaml --runs right.yaml", ("--runs must be a folder", "right.yaml is a file")),
    "runs below a file": Case("search right.yaml --runs right.yaml/runs", ("--runs must be a folder", "right.yaml is a file"), is_real=True),
    "runs in a pipe": Case("search right.yaml --runs pipe", ("--runs must be a folder", "pipe is "), lambda work: os.mkfifo(work / "pipe")),
    "runs behind a link to nothing": Case("search right.yaml --runs link", ("--runs must be a folder",), lambda work: (work / "link").symlink_to("gone")),
    "runs behind a link to itself": Case("search right.yaml --runs link", ("--runs must be a folder",), lambda work: (work / "link").symlink_to("link")),
    "runs of a long name": Case(f"search right.yaml --runs {'x' * 300}", ("--runs must be a folder",)),
    "runs in a folder of the system": Case("search right.yaml --runs /proc/runs", ("/proc/runs", "No such file or directory")),
    "runs in a folder whose name is no text": Case(f"search right.yaml --runs {os.fsdecode(bytes([255]))}", (r"--runs must have a name that is text in UTF-8; got \xff",)),
    "runs in terminal codes below a file": Case("search right.yaml --runs '\x1b[31m'", ("--runs must be a folder", r"\x1b[31m is a file"), lambda work: (work / "\x1b[31m").write_text("x")),
    "run that is a file": Case("search right.yaml", ("runs/small", "is a file"), lambda work: ((work / "runs").mkdir(), (work / "runs" / "small").write_text("x"))),
    "reports in a file": Case("search right.yaml --reports right.yaml", ("--reports must be a folder", "right.yaml is a file")),
    "reports below a file": Case("search right.yaml --reports right.yaml/x", ("--reports must be a folder", "right.yaml is a file")),
    "report of the study that is a file": Case("search right.yaml", ("reports/small", "is a file"), lambda work: ((work / "reports").mkdir(), (work / "reports" / "small").write_text("x"))),
    "cache below a file": Case("search right.yaml --cache right.yaml/x", ("--cache (or TUNER_CACHE) must be a folder", "right.yaml is a file")),
    "cache of the environment in a file": Case("search right.yaml", ("right.yaml is a file",), environment={"TUNER_CACHE": "right.yaml/x"}),
    "cache of a user that is not there": Case("search right.yaml --cache ~nobody-of-this-name/x", ("~nobody-of-this-name",)),
    # --- a run to go on with ---
    "resume of nothing": Case(RESUME, ("runs/small: there is no search to resume; leave out --resume to begin one",)),
    "resume of a run that is not there": Case("search --resume gone", ("gone: not a run directory: it holds no record.jsonl",)),
    "resume of an empty folder": Case("search --resume runs", ("runs: not a run directory",), lambda work: (work / "runs").mkdir()),
    "resume of a file": Case("search --resume right.yaml", ("right.yaml: not a run directory",)),
    "resume of a run in use": Case(RESUME, ("runs/small: another search is running in it",), locked),
    "resume of another search": Case(f"{RESUME} --set search.seed=5", ("runs/small cannot go on: search.seed (was 0; is 5) must be what it began with", "--fresh"), unfinished),
    "resume of a run whose settings are changed": Case("search --resume runs/small --set training.max_epochs=20", ("runs/small cannot go on: training.max_epochs (was 16; is 20) must be",), unfinished),
    "resume of an edited space": Case(RESUME, ("runs/small cannot go on: space.batch_size.choice (was [32, 64]; is [16, 32]) must be",), also(unfinished, lambda run: (run.parent.parent / "right.yaml").write_text(EDITED))),
    "resume of a space that was edited in the run": Case("search --resume runs/small", ("runs/small cannot go on: space.batch_size.choice (was [32, 64]; is [16, 32]) must be",), also(unfinished, lambda run: (run / "specification.yaml").write_text(EDITED))),
    "resume of a space with one dimension more": Case(RESUME, ("runs/small cannot go on: space.weight_decay.float (was not there; is [0, 0.1]), baseline.weight_decay (was not there; is 0) must be",), also(unfinished, lambda run: (run.parent.parent / "right.yaml").write_text(WIDENED))),
    "resume of a run killed before it began": Case("search --resume runs/small", ("runs/small: there is no search to resume; leave out --resume to begin one",), damaged(lambda _lines: [b'{"event":"study_cr'])),
    "resume of a run of another version": Case(RESUME, ("runs/small/record.jsonl:1: record version must be 7 or 8 or 9 or 10; got 4, which another version of tuner wrote",), with_field(0, schema_version=4)),
    "resume with other data": Case("search --resume runs/small --set data.source=digitz", ("specification.yaml: data.source: unknown data source 'digitz'",), unfinished),
    "resume without a specification": Case("search --resume runs/small", ("runs/small/specification.yaml: no such search-space file",), also(unfinished, lambda run: (run / "specification.yaml").unlink())),
    "resume with a damaged specification": Case("search --resume runs/small", ("runs/small/specification.yaml:1: must map study",), also(unfinished, lambda run: (run / "specification.yaml").write_text("x"))),
    "resume with a specification that is a folder": Case("search --resume runs/small", ("runs/small/specification.yaml: cannot be read as text",), also(unfinished, lambda run: ((run / "specification.yaml").unlink(), (run / "specification.yaml").mkdir()))),
    "resume with a damaged record": Case(RESUME, ("runs/small/record.jsonl:3: not an event of record version",), damaged(lambda lines: [*lines[:2], b"x\n", *lines[2:]])),
    "resume with a lock that is a folder": Case(RESUME, ("runs/small/lock: must be a file that can be read and written, or not there",), also(unfinished, lambda run: (run / "lock").mkdir())),
    "resume with a log that is a folder": Case(RESUME, ("runs/small/search.log: must be a file that can be read and written, or not there",), also(unfinished, lambda run: (run / "search.log").mkdir())),
    "resume with a folder of Ray that is a file": Case(RESUME, ("runs/small/ray: must be a folder, or not there",), also(unfinished, lambda run: (run / "ray").write_text("x"))),
    "unfinished run in the way": Case("search right.yaml", ("runs/small holds an unfinished search of this study; add --resume", "--fresh to begin another"), unfinished),
    "damaged run in the way": Case("search right.yaml", ("runs/small/record.jsonl:1: not an event",), damaged(lambda lines: [b"x\n", *lines])),
    "record that is a folder in the way": Case("search right.yaml", ("runs/small/record.jsonl",), lambda work: (work / "runs/small/record.jsonl").mkdir(parents=True)),
    # --- what others may not read or write ---
    "runs where nothing may be written": guarded("search right.yaml", lambda work: (work / "runs").mkdir(mode=0o500), "--runs must be a folder that can be written to; ", "work/runs cannot be"),
    "report where nothing may be written": guarded("report runs/small", also(ended, lambda run: run.parent.parent.chmod(0o500)), "the place of the report must be a folder that can be written to; "),
    "table where nothing may be written": guarded("export runs/small --csv x.csv", also(ended, lambda run: run.parent.parent.chmod(0o500)), "the folder of --csv must be a folder that can be written to; "),
    "record that may not be read": guarded("export runs/small --csv x.csv", also(ended, lambda run: (run / "record.jsonl").chmod(0)), "runs/small/record.jsonl: cannot be read: Permission denied"),
    "record that may not be written": guarded(RESUME, also(unfinished, lambda run: (run / "record.jsonl").chmod(0o400)), "runs/small/record.jsonl: must be a file that can be read and written, or not there"),
    "run that may not be looked into": guarded("report runs/small", also(ended, lambda run: run.chmod(0)), "runs/small: cannot be looked into: Permission denied"),
    "runs that may not be looked into": guarded("report --all", also(ended, lambda run: run.parent.chmod(0)), "--runs must be a folder that can be read; ", "work/runs cannot be"),
    "cache that may not be looked into": guarded("cache --cache c", lambda work: (work / "c").mkdir(mode=0), "the cache must be a folder that can be read; ", "work/c cannot be"),
    # --- records ---
    "record that is a pipe": record(lambda work: ((work / "runs/small").mkdir(parents=True), os.mkfifo(work / "runs/small/record.jsonl")), "runs/small: not a run directory: it holds no record.jsonl"),
    "record that is a folder": record(lambda work: (work / "runs/small/record.jsonl").mkdir(parents=True), "runs/small: not a run directory"),
    "record that is a device": record(lambda work: ((work / "runs/small").mkdir(parents=True), (work / "runs/small/record.jsonl").symlink_to("/dev/zero")), "runs/small: not a run directory"),
    "record of zero bytes": record(damaged(lambda _lines: [bytes(100), b"\n"]), "runs/small/record.jsonl:1: not an event"),
    "record that is a picture": record(damaged(lambda _lines: [b"\x89PNG\r\n\x1a\n\x00\xff\n"]), "runs/small/record.jsonl:1: not an event"),
    "record in UTF-16": record(damaged(lambda lines: [b"".join(lines).decode().encode("utf-16")]), "runs/small/record.jsonl:1: not an event"),
    "record of a list": record(damaged(lambda _lines: [b"[1, 2]\n"]), "runs/small/record.jsonl:1: not an event"),
    "record of deep brackets": record(damaged(lambda _lines: [b"[" * 100_000, b"\n"]), "runs/small/record.jsonl:1: not an event"),
    "record of terminal codes": record(damaged(lambda _lines: [b"\x1b[2J\x1b]0;owned\x07\n"]), r"runs/small/record.jsonl:1: not an event", r"\x1b[2J"),
    "record torn in the middle": record(damaged(lambda lines: [*lines[:3], lines[3][:40] + b"\n", *lines[4:]]), "runs/small/record.jsonl:4: not an event"),
    "record of another program": record(damaged(lambda _lines: [b'{"trial": 1, "loss": 0.5}\n']), "runs/small/record.jsonl:1: not an event"),
    "record of an earlier version": record(with_field(0, schema_version=4), "runs/small/record.jsonl:1: record version must be 7 or 8 or 9 or 10; got 4, which another version of tuner wrote"),
    "record of a later version": record(with_field(0, schema_version=99), "record version must be 7 or 8 or 9 or 10; got 99"),
    "record of another kind of event": record(with_field(3, event="exploded"), "runs/small/record.jsonl:4: not an event"),
    "record with one field more": record(with_field(3, colour="red"), "runs/small/record.jsonl:4: not an event"),
    "record without its beginning": record(damaged(lambda lines: lines[1:]), "runs/small/record.jsonl:1: must begin with a study; got "),
    "record of two studies": record(damaged(lambda lines: [*lines, lines[0]]), "runs/small/record.jsonl: must be of one study; it begins another one"),
    "record of a trial that never started": record(damaged(lambda lines: [*lines[:2], *lines[3:]]), "trial 0 has events but never started"),
    "record of a trial that starts twice": record(damaged(lambda lines: [*lines, lines[2]]), "runs/small/record.jsonl: trial 0 must start once; it starts again"),
    "record of a metric that nobody measures": record(with_field(0, metric="f1"), "unknown metric 'f1'"),
    # --- files of studies ---
    "study of a later version": study({"version": 2, "tuner": "9.0.0"}, "given.json: version must be 1; got 2, which tuner 9.0.0 wrote: a later tuner than this reads it"),
    "study of another kind": study({"kind": "table"}, "given.json: must be a study, as python -m tuner.export RUN --study FILE writes it; its kind is not 'tuner study'"),
    "study with one field more": study({"colour": "red"}, "given.json: colour: no study has such a field"),
    "study of an epoch without an end": study({"trials": [{"configuration": {}, "status": "won", "epochs": [], "seconds": [], "best": {}}]}, "given.json: trials[0].status must be 'running', 'paused', 'completed', 'stopped' or 'failed'; got 'won'"),
    "study of another metric": study({"metrics": {"val_loss": "min"}}, "search.warm_start: given.json: metric must be one that its epochs measured, val_loss; got val_accuracy"),
    "study in which nothing was trained": study({}, "search.warm_start: given.json holds no trial with an epoch: there is nothing to learn"),
    "study that is torn": Case(LEARN, ("given.json: must be a study, ", "it is no JSON: EOF while parsing a value"), lambda work: (work / "given.json").write_text('{"kind": "tuner study",')),
    "study that is a folder": Case(LEARN, ("search.warm_start: unknown run (a folder, a file of tuner.export --study, or a study in runs) 'given.json'",), lambda work: (work / "given.json").mkdir()),
    "study that may not be read": guarded(LEARN, lambda work: ((work / "given.json").write_text("{}"), (work / "given.json").chmod(0)), "given.json: cannot be read: Permission denied"),
    "study of a run that shows nothing": Case("export runs/small --study x.json", ("runs/small: holds no trial with an epoch: there is nothing for others to learn",), damaged(lambda lines: lines[:3])),
    "retrain from a record without sessions": record(damaged(lambda lines: [lines[0], *lines[2:]]), "runs/small: must say with how many CPUs a trial was trained; its record has no session", command="search --retrain runs/small 0"),
    "two runs of other metrics": Case("report runs/small runs/other", ("runs must optimise the same metric to be compared; got small: val_accuracy, other: val_loss",), lambda work: (ended(work), write_record(work / "runs/other/record.jsonl", [study_created("val_loss")]))),
    "a run that has not begun, compared": Case("report runs/small runs/other", ("other: must have begun; its record is empty",), lambda work: (ended(work), write_record(work / "runs/other/record.jsonl", []))),
    "a page of the report that is a folder": Case("report runs/small --output r", ("r", "index.html"), lambda work: (ended(work), (work / "r" / "index.html").mkdir(parents=True)), may_write=("r",)),
}  # fmt: skip
