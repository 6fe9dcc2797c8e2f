"""Side matters of a search, each made to fail in turn: it is said once, and the search and its winner stay."""

from __future__ import annotations

import errno
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from rich.errors import LiveError, MarkupError

from tests.support.make_record import epoch, make_state, study_created, trial_ended, trial_started
from tuner.common.errors import InputError, RunError, TunerError
from tuner.common.files import as_typed
from tuner.execution.metrics_export import Monitor
from tuner.reports import console as console_module
from tuner.reports.console import Limits, SearchConsole
from tuner.runs.directory import RunDirectory
from tuner.runs.events import Event, Notice
from tuner.runs.record import Record
from tuner.session import _finish, _variants
from tuner.session.options import parse_search_options

LIMITS = Limits(trials=2, time_budget_s=None, max_concurrent=1)
FULL = OSError(errno.ENOSPC, "No space left on device")
FAILURES: list[Exception] = [
    FULL,
    PermissionError(errno.EACCES, "Permission denied"),
    BrokenPipeError(errno.EPIPE, "Broken pipe"),
    OSError(errno.EIO, "Input/output error"),
    ValueError("I/O operation on closed file"),
    MarkupError("closing tag doesn't match"),
    LiveError("Only one live display may be active at once"),
    RuntimeError("dictionary changed size during iteration"),
    ZeroDivisionError(),
    MemoryError(),
    TunerError("a deliberate one"),
]


def raising(error: Exception) -> Callable[..., Any]:
    def fail(*_arguments: Any, **_named: Any) -> Any:
        raise error

    return fail


def named(error: Exception) -> str:
    return type(error).__name__


@pytest.fixture
def heard() -> SearchConsole:
    return SearchConsole(Console(file=io.StringIO(), width=300, soft_wrap=True, highlight=False))


def said(console: SearchConsole) -> str:
    file = console.console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


@pytest.fixture
def record(tmp_path: Path, heard: SearchConsole) -> Iterator[Record]:
    opened = Record(tmp_path / "record.jsonl", beside=heard.beside)
    opened.append(study_created())
    yield opened
    opened.close()


def run_trials(record: Record) -> None:
    for number in range(2):
        for event in (trial_started(number), epoch(number, 1, 0.5), Notice(text=f"{number}"), trial_ended(number)):
            record.append(event)


# --- what listens to the record ---


@pytest.mark.parametrize("error", FAILURES, ids=named)
def test_a_listener_of_a_side_matter_that_fails_is_told_of_once_and_the_others_hear_all(error, record, heard):
    all_heard: list[Event] = []
    record.listen(raising(error), "the tracker cannot be reached")
    record.listen(all_heard.append)
    run_trials(record)
    assert len(all_heard) == 8 and len(record.state.trials) == 2
    assert said(heard).count("the tracker cannot be reached") == 1
    assert said(heard).count("the search goes on") == 1


def test_a_listener_that_the_search_depends_on_still_ends_it(record):
    record.listen(raising(ValueError("main")))
    with pytest.raises(ValueError, match="main"):
        run_trials(record)


@pytest.mark.parametrize("error", FAILURES, ids=named)
def test_metrics_that_cannot_be_exported_are_told_of_once(error, record, heard):
    monitor = Monitor(record, 2, raising(error), heard.beside)
    run_trials(record)
    monitor.show_slots(3)
    assert said(heard).count("the metrics cannot be exported") == 1


# --- the console ---


@pytest.mark.parametrize("error", FAILURES, ids=named)
@pytest.mark.parametrize("is_terminal", [False, True], ids=["lines", "terminal"])
def test_a_console_that_cannot_print_ends_nothing(error, is_terminal, record, monkeypatch):
    console = SearchConsole(Console(file=io.StringIO(), force_terminal=is_terminal, width=80))
    monkeypatch.setattr(console.console, "print", raising(error))
    done = []
    with console.preparing("preparing"), console.watching(record, LIMITS):
        run_trials(record)
        console.building(0, 1, 2)
        done.append("the block")
    assert done == ["the block"] and len(record.state.trials) == 2


@pytest.mark.parametrize("error", FAILURES, ids=named)
@pytest.mark.parametrize(("is_terminal", "drawing"), [(True, "draw_search"), (False, "describe_end")])
def test_progress_that_cannot_be_drawn_is_told_of_once(error, is_terminal, drawing, tmp_path, monkeypatch):
    console = SearchConsole(Console(file=io.StringIO(), force_terminal=is_terminal, width=200))
    record = Record(tmp_path / "record.jsonl", beside=console.beside)
    record.append(study_created())
    monkeypatch.setattr(console_module, drawing, raising(error))
    with console.watching(record, LIMITS):
        run_trials(record)
    assert said(console).count("the progress cannot be shown") == 1


class _Broken(io.StringIO):
    """Standard output that takes nothing; it has no file of its own, as that of a notebook."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    def write(self, _text: str) -> int:
        raise self._error


@pytest.mark.parametrize("error", FAILURES[:5], ids=named)
def test_a_standard_output_that_takes_nothing_is_told_of_in_the_log(error, monkeypatch, caplog):
    monkeypatch.setattr("sys.stdout", _Broken(error))
    SearchConsole().say("hello")
    assert "standard output cannot be written, and the search goes on" in caplog.text


def test_no_standard_output_at_all_ends_nothing(monkeypatch):
    monkeypatch.setattr("sys.stdout", None)
    SearchConsole().say("hello")


# --- the end of a search ---


@pytest.fixture
def finish(tmp_path, heard, monkeypatch) -> Callable[[], bool]:
    """The end of a search that has a winner, without a network."""
    run = RunDirectory(tmp_path / "run")
    run.path.mkdir()
    state = make_state(4)
    monkeypatch.setattr(_finish, "ignore_hangup", lambda: None)  # for this process, and all that it starts
    monkeypatch.setattr(_finish, "export_best", lambda run, *_: run.best_model)
    for module, name in ((_variants, "build_variants"), (_finish, "save_variants"), (_finish, "export_front")):
        monkeypatch.setattr(module, name, lambda *_: [])
    monkeypatch.setattr(_finish, "write_report", lambda *_, **__: SimpleNamespace(page=Path("index.html")))
    training = SimpleNamespace(augmented_on=lambda _place: None)
    study = SimpleNamespace(metric="val_accuracy", network_space={}, seed=0)
    search: Any = SimpleNamespace(study=study, training=training)
    prepared: Any = SimpleNamespace(worker_context=lambda *_: None, dataset=None)
    options = parse_search_options(["small.yaml", "--reports", str(tmp_path)])
    return lambda: _finish.finish_session(search, prepared, run, ("finished", state), options, heard)


LAST: dict[str, tuple[object, str, str]] = {
    "report": (_finish, "write_report", "the report was not written: "),
    "result in words": (_finish, "_say_result", "the result cannot be summed up: "),
    "images of variants": (_variants, "build_variants", "the report lacks its examples of images: "),
    "file of variants": (_finish, "save_variants", "the report lacks its examples of images: "),
    "other models": (_finish, "export_front", "the other models of the Pareto front were not exported: "),
}


@pytest.mark.parametrize("error", FAILURES, ids=named)
@pytest.mark.parametrize("name", LAST)
def test_what_fails_at_the_end_leaves_the_winner(name, error, finish, heard, monkeypatch):
    module, function, words = LAST[name]
    monkeypatch.setattr(module, function, raising(error))
    assert finish() is True
    assert said(heard).count(words) == 1
    assert "model: " in said(heard) and ("report: " in said(heard)) == (name != "report")


def test_a_report_that_was_not_written_can_be_written_later(finish, heard, monkeypatch):
    monkeypatch.setattr(_finish, "write_report", raising(InputError("reports: the report cannot be written")))
    assert finish()
    assert "reports: the report cannot be written; write it with: python -m tuner.report " in said(heard)


@pytest.mark.parametrize("error", [*FAILURES, RunError("its checkpoint is damaged")], ids=named)
def test_a_model_that_is_not_exported_is_no_success_but_is_reported(error, finish, heard, monkeypatch):
    monkeypatch.setattr(_finish, "export_best", raising(error))
    assert finish() is False
    assert said(heard).count("the best model was not exported: ") == 1 and "report: " in said(heard)


def test_a_path_is_told_from_a_folder_that_is_gone(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert as_typed(tmp_path / "run") == str(tmp_path / "run")
