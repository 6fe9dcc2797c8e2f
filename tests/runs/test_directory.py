"""Run directories: which one a search gets, and who may be in it."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.make_record import study_created
from tests.support.make_search import write_file
from tuner.cluster.ray_session import Capacity
from tuner.common.errors import InputError, RunError, RunInUseError
from tuner.common.files import write_text
from tuner.common.locations import Location
from tuner.runs.directory import RunDirectory, fresh_run, is_finished, latest_run, new_run, open_run, run_to_resume
from tuner.runs.events import SessionEnded, SessionStarted
from tuner.runs.record import Record
from tuner.search import main
from tuner.session import commands
from tuner.session.options import parse_search_options


def write_run(path: Path, reason: str | None, study: str = "digits") -> RunDirectory:
    """A run whose only session ended for `reason`; None: it was killed."""
    run = RunDirectory(path)
    record = Record(run.record)
    record.append(study_created(study=study))
    record.append(SessionStarted(resumed=False, max_concurrent=1, sampler="random", scheduler="none"))
    if reason is not None:
        record.append(SessionEnded(reason=reason))
    record.close()
    return run


def test_the_first_run_has_the_name_of_its_study(tmp_path):
    run = new_run(tmp_path, "digits")
    assert run.path == tmp_path / "digits" and run.name == "digits"
    assert not run.path.exists(), "choosing writes nothing"


@pytest.mark.parametrize("reason", ["finished", "time_budget", "expected_gain"])
def test_a_finished_run_is_kept_and_the_next_one_gets_a_number(tmp_path, reason):
    write_run(tmp_path / "digits", reason)
    assert new_run(tmp_path, "digits").name == "digits-2"
    write_run(tmp_path / "digits-2", reason)
    assert new_run(tmp_path, "digits").name == "digits-3"


@pytest.mark.parametrize("reason", [None, "interrupted", "error"])
def test_an_unfinished_run_is_not_passed_over(tmp_path, reason):
    run = write_run(tmp_path / "digits", reason)
    with pytest.raises(RunError, match=r"digits holds an unfinished search of this study; add --resume .* --fresh"):
        new_run(tmp_path, "digits")
    assert latest_run(tmp_path, "digits") == run


def test_fresh_takes_the_first_free_name_whatever_the_others_are_like(tmp_path):
    write_run(tmp_path / "digits", None)
    write_run(tmp_path / "digits-2", "finished")
    assert fresh_run(tmp_path, "digits").name == "digits-3"
    assert fresh_run(tmp_path, "other").name == "other"


@pytest.mark.parametrize("content", [b"", b'{"event":"study_crea'])
def test_a_run_that_was_killed_before_its_first_event_is_begun_anew(tmp_path, content):
    (tmp_path / "digits").mkdir()
    (tmp_path / "digits" / "record.jsonl").write_bytes(content)
    assert new_run(tmp_path, "digits").name == "digits"
    with pytest.raises(RunError, match="there is no search to resume"):
        latest_run(tmp_path, "digits")


def test_a_torn_last_line_leaves_the_run_unfinished(tmp_path):
    run = write_run(tmp_path / "digits", "finished")
    text = run.record.read_bytes()
    run.record.write_bytes(text[:-10])
    with pytest.raises(RunError, match="holds an unfinished search"):
        new_run(tmp_path, "digits")
    assert latest_run(tmp_path, "digits") == run


def test_a_record_that_is_damaged_elsewhere_is_refused_and_not_overwritten(tmp_path):
    run = write_run(tmp_path / "digits", "finished")
    run.record.write_bytes(b"garbage\n" + run.record.read_bytes())
    for choose in (new_run, latest_run):
        with pytest.raises(RunError, match=r"record\.jsonl:1: not an event of record version"):
            choose(tmp_path, "digits")


def test_the_latest_run_is_the_one_that_was_written_to_last(tmp_path):
    first, second = write_run(tmp_path / "digits", None), write_run(tmp_path / "digits-2", None)
    os.utime(second.record, (1, 1))
    assert latest_run(tmp_path, "digits") == first


@pytest.mark.parametrize("reason", [None, "interrupted", "error"])
def test_the_run_to_resume_is_the_latest_unfinished_one_also_after_later_ones_are_finished(tmp_path, reason):
    for number, (name, end) in enumerate([("digits", reason), ("digits-2", reason), ("digits-3", "finished")]):
        os.utime(write_run(tmp_path / name, end).record, (number, number))
    assert run_to_resume(tmp_path, "digits").name == "digits-2"
    assert latest_run(tmp_path, "digits").name == "digits-3", "what another search learns from"


def test_an_older_run_with_a_damaged_record_is_no_run_to_resume(tmp_path):
    damaged = write_run(tmp_path / "digits", "interrupted")
    first, *rest = damaged.record.read_text().splitlines(keepends=True)
    damaged.record.write_text("".join([first, "damaged\n", *rest]))
    os.utime(damaged.record, (0, 0))
    write_run(tmp_path / "digits-2", "finished")
    assert run_to_resume(tmp_path, "digits").name == "digits-2"


def test_where_all_runs_are_finished_the_latest_can_be_given_more(tmp_path):
    for number, name in enumerate(["digits-2", "digits"]):
        os.utime(write_run(tmp_path / name, "finished").record, (number, number))
    assert run_to_resume(tmp_path, "digits").name == "digits"


def test_the_run_that_a_new_search_is_refused_for_is_the_one_that_resume_goes_on_with(tmp_path, capsys):
    unfinished = write_run(tmp_path / "small", "interrupted", "small")
    write_run(tmp_path / "small-2", "finished", "small")
    words = [str(write_file(tmp_path)), "--runs", str(tmp_path), "--cache", str(tmp_path / "cache")]
    assert main(words) == 2
    assert f"{unfinished.path} holds an unfinished search of this study; add --resume" in capsys.readouterr().err
    assert main([*words, "--resume"]) == 2
    assert f"{unfinished.specification}: no such" in capsys.readouterr().err, "which it looks for there"


def test_a_study_whose_name_begins_alike_is_another_study(tmp_path):
    write_run(tmp_path / "digits-large", None, "digits-large")
    write_run(tmp_path / "digits-2", None, "digits-2")
    with pytest.raises(RunError, match="digits: there is no search to resume; leave out --resume to begin one"):
        latest_run(tmp_path, "digits")
    assert latest_run(tmp_path, "digits-2").name == "digits-2"


def test_a_run_is_opened_by_its_path(tmp_path):
    run = write_run(tmp_path / "anywhere", None)
    assert open_run(run.path) == run
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(RunError, match=r"not a run directory: it holds no record\.jsonl"):
            open_run(path)


def test_a_run_is_opened_in_a_home_that_the_shell_has_left(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    run = write_run(tmp_path / "runs" / "digits", None)
    assert open_run(Path("~/runs/digits")) == run
    with pytest.raises(InputError, match="~nobody-of-this-name/x: must begin with the home of a user that exists"):
        open_run(Path("~nobody-of-this-name/x"))


def test_a_run_of_another_study_that_has_the_next_name_is_passed_over(tmp_path):
    write_run(tmp_path / "digits", "finished")
    write_run(tmp_path / "digits-2", None, "digits-2")
    assert new_run(tmp_path, "digits").name == "digits-3"
    write_run(tmp_path / "pets-2", "interrupted", "pets")
    assert new_run(tmp_path, "pets-2").name == "pets-2-2"


def test_a_second_search_is_kept_out_while_the_first_one_runs(tmp_path):
    run = RunDirectory(tmp_path / "digits")
    code = (
        "import sys; from pathlib import Path\n"
        "from tuner.common.errors import RunError; from tuner.runs.directory import RunDirectory\n"
        "try:\n with RunDirectory(Path(sys.argv[1])).locked(): print('in')\nexcept RunError as error: print(error)"
    )

    def second() -> str:
        command = [sys.executable, "-c", code, str(run.path)]
        return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout

    with run.locked():
        with pytest.raises(RunError, match="another search is running in it"), run.locked():
            pass
        assert "another search is running in it" in second()
    assert second() == "in\n"


def test_a_new_search_is_kept_out_of_a_run_that_was_begun_since_its_name_was_chosen(tmp_path):
    run = new_run(tmp_path, "digits")
    write_run(tmp_path / "digits", "interrupted")
    with pytest.raises(RunInUseError, match="another search has just begun in it"), run.locked(is_new=True):
        pass
    with run.locked():  # one that goes on with it
        pass


def test_a_search_that_is_to_be_fresh_passes_over_a_run_that_another_is_preparing(tmp_path, monkeypatch):
    begun = []

    def reporting(path: Path, _report: Path, _beside: object, plugins: object):
        begun.append(path.name)
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tuner.reports.writer.reporting", reporting)
    monkeypatch.setattr("tuner.cluster.ray_session.starting_ray", lambda *_: nullcontext(lambda: Capacity(1, 0)))
    monkeypatch.setattr("tuner.session.preparation.prepare", lambda *_: None)
    write_file(tmp_path)
    options = parse_search_options(["small.yaml", "--fresh", "--cache", str(tmp_path / "cache")])
    first, second = RunDirectory(Path("runs/small")), RunDirectory(Path("runs/small-2"))
    with first.locked(), second.locked(), pytest.raises(KeyboardInterrupt):
        commands.run_search(options)
    assert begun == ["small-3"]
    with pytest.raises(KeyboardInterrupt):
        commands.run_search(options)
    assert begun == ["small-3", "small"], "names of runs that never began are free again"


def test_the_lock_is_let_go_when_a_search_fails(tmp_path):
    run = RunDirectory(tmp_path / "digits")
    with pytest.raises(ZeroDivisionError), run.locked():
        _ = 1 // 0
    with run.locked():
        pass


def test_a_text_of_a_run_is_written_whole_and_leaves_nothing_aside(tmp_path):
    run = RunDirectory(tmp_path)
    write_text(run.labels, '["größe"]')
    write_text(run.labels, '["two"]')
    assert run.labels.read_text() == '["two"]'
    assert [path.name for path in tmp_path.iterdir()] == ["labels.json"]


def test_every_file_of_a_run_lies_in_it():
    run = RunDirectory(Path("runs") / "digits")
    paths = [run.record, run.specification, run.log, run.best_model, run.labels]
    assert len(set(paths)) == len(paths) and all(path.parent == run.path for path in paths)
    assert run.ray == Location(str(run.path.resolve() / "ray"))
    stored = RunDirectory(run.path, Location("s3://images/tuner"))
    assert stored.record == run.record and stored.ray == Location("s3://images/tuner/digits/ray")
    assert stored.finalist(3, 1).parent == Location("s3://images/tuner/digits/finalists")


def test_a_run_is_finished_when_its_last_session_is(tmp_path):
    run = write_run(tmp_path / "digits", "finished")
    record = Record(run.record)
    assert is_finished(record.state)
    record.append(SessionStarted(resumed=True, max_concurrent=1, sampler="random", scheduler="none"))
    assert not is_finished(record.state)
    record.close()
