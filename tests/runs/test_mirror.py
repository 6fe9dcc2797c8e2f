"""The copy of a run in its storage: kept up to date, brought back, reported."""

from __future__ import annotations

import shutil
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.end_to_end.test_search_resumed import start_search, wait_for_epochs
from tests.support.make_record import epoch, study_created, trial_ended, trial_started
from tests.support.make_search import check_record, write_file
from tuner import report
from tuner.common.errors import RunError, RunInUseError, TunerError
from tuner.common.locations import Location, exists, files_in
from tuner.runs import mirror
from tuner.runs.directory import RunDirectory, fresh_run, new_run
from tuner.runs.mirror import download_run, mirrored, refuse_older_copy
from tuner.runs.record import Record, read_state


def write_run(run: RunDirectory, name: str = "small") -> Record:
    record = Record(run.record)
    record.append(study_created(study=name))
    record.append(trial_started(0, {"architecture": "dense", "learning_rate": 0.01, "batch_size": 32}))
    record.append(epoch(0, 1, 0.5))
    return record


def test_a_run_is_copied_while_it_is_searched_and_at_its_end(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(mirror, "EVERY_S", 0.05)
    run = RunDirectory(tmp_path / "runs" / "small", Location(str(tmp_path / "storage")))
    stored = tmp_path / "storage" / "small"
    record = write_run(run)
    (run.path / "lock").touch()
    (run.path / "ray").mkdir()
    with mirrored(run, tmp_path / "report", print):
        deadline = time.monotonic() + 30
        while not (stored / "record.jsonl").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert len(read_state(stored / "record.jsonl").trials) == 1
        record.append(trial_ended(0))
        (tmp_path / "report" / "figures").mkdir(parents=True)
        (tmp_path / "report" / "figures" / "best.svg").write_text("<svg/>")
    record.close()
    assert (stored / "record.jsonl").read_bytes() == run.record.read_bytes()
    assert sorted(path.name for path in stored.iterdir()) == ["record.jsonl", "report"]
    assert (stored / "report" / "figures" / "best.svg").read_text() == "<svg/>"


def test_a_search_that_has_not_begun_leaves_no_record_in_the_storage_that_would_keep_its_name(tmp_path) -> None:
    run = RunDirectory(tmp_path / "runs" / "small", Location(str(tmp_path / "storage")))
    with mirrored(run, tmp_path / "report", print):
        Record(run.record).close()
        run.log.write_text("no room for the first event")
    assert [path.name for path in (tmp_path / "storage" / "small").iterdir()] == ["search.log"]
    assert new_run(tmp_path / "runs", "small", run.storage) == run


def test_the_record_of_a_run_that_lies_in_its_storage_itself_stays_whole(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(mirror, "EVERY_S", 0.02)
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "index.html").write_text("a page")
    (tmp_path / "storage").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "storage")
    run = RunDirectory(tmp_path / "link" / "small", Location(str(tmp_path / "storage")))
    record = write_run(run)
    with mirrored(run, tmp_path / "report", print):
        deadline = time.monotonic() + 30
        while not (run.path / "report" / "index.html").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        record.append(trial_ended(0))
    record.append(trial_started(1))
    record.close()
    assert sorted(read_state(run.record).trials) == [0, 1] and read_state(run.record).trials[0].ended is not None


def test_a_storage_that_is_lost_is_said_once_and_again_at_the_end(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(mirror, "EVERY_S", 0.02)
    run = RunDirectory(tmp_path / "runs" / "small", Location(str(tmp_path / "storage")))
    write_run(run).close()
    (tmp_path / "storage").write_text("a file where a folder should be")
    said: list[str] = []
    with (
        pytest.raises(TunerError, match=r"could not be written: .*; all is in .*small"),
        mirrored(run, tmp_path / "report", said.append),
    ):
        deadline = time.monotonic() + 60
        while not said and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.5)  # it is tried again and again, and nothing more is said
    assert len(said) == 1 and "is tried again" in said[0]


def test_a_run_is_brought_back_without_its_checkpoints_and_never_over_another(tmp_path) -> None:
    location = Location(str(tmp_path / "storage" / "small"))
    write_run(RunDirectory(tmp_path / "storage" / "small")).close()
    (tmp_path / "storage" / "small" / "ray").mkdir()
    run = download_run(location, tmp_path / "runs" / "small")
    assert run.storage == Location(str(tmp_path / "storage")) and run.checkpoints == location
    assert [path.name for path in run.path.iterdir()] == ["record.jsonl"]
    with pytest.raises(RunError, match="small is there already: go on with that, or move it away"):
        download_run(location, tmp_path / "runs" / "small")
    with pytest.raises(RunError, match="other: not a run directory: it holds no record"):
        download_run(Location(str(tmp_path / "storage" / "other")), tmp_path / "runs" / "other")


def test_a_new_run_never_overwrites_the_copy_of_another_machines(tmp_path) -> None:
    storage = Location(str(tmp_path / "storage"))
    write_run(RunDirectory(tmp_path / "storage" / "small")).close()
    with pytest.raises(
        RunError, match=r"holds a run of this name, which is not here; go on with it by --resume .*small"
    ):
        new_run(tmp_path / "runs", "small", storage)
    assert fresh_run(tmp_path / "runs", "small", storage).name == "small-2"
    assert new_run(tmp_path / "runs", "other", storage).checkpoints == storage.child("other")


@pytest.mark.parametrize("kind", ["folder", "bucket"])
def test_a_run_that_has_gone_on_elsewhere_is_not_gone_on_with_from_an_older_copy(kind, tmp_path, request) -> None:
    store = str(tmp_path / "storage") if kind == "folder" else f"{request.getfixturevalue('bucket')}/gone_on"
    first = RunDirectory(tmp_path / "first" / "small", Location(store))
    write_run(first).close()
    refuse_older_copy(first)  # nothing is there, as where the checkpoints have been moved
    with mirrored(first, tmp_path / "report", print):
        pass
    refuse_older_copy(first)
    second = download_run(first.checkpoints, tmp_path / "second" / "small")
    with mirrored(second, tmp_path / "report", print):
        record = Record(second.record)
        record.append(trial_ended(0))
        record.close()
    refuse_older_copy(second)
    words = r"small has gone on elsewhere: its record has 4 events, that of .*first/small has 3; move .* by --resume "
    with pytest.raises(RunError, match=words):
        refuse_older_copy(first)


def test_a_line_that_could_not_be_written_whole_is_none_that_another_machine_has_written(tmp_path) -> None:
    run = RunDirectory(tmp_path / "small", Location(str(tmp_path / "storage")))
    write_run(run).close()
    with mirrored(run, tmp_path / "report", print), run.record.open("ab") as file:
        file.write(b'{"event":"no')
    Record(run.record).close()  # which cuts it off
    refuse_older_copy(run)


@pytest.mark.parametrize("kind", ["folder", "bucket"])
def test_of_two_machines_with_one_storage_one_gets_a_name_before_there_is_a_record(kind, tmp_path, request) -> None:
    store = str(tmp_path / "storage") if kind == "folder" else f"{request.getfixturevalue('bucket')}/claimed"
    first, second = (fresh_run(tmp_path / name, "small", Location(store)) for name in ("first", "second"))
    assert first.name == second.name == "small"
    for _ in range(2):  # the search of the first never began, and is begun again
        with first.locked(is_new=True):
            pass
        refused = pytest.raises(RunInUseError, match="is being prepared for it, from elsewhere; add --fresh to take")
        with refused, second.locked(is_new=True):
            pass
    with fresh_run(tmp_path / "second", "small", Location(store), {"small"}).locked(is_new=True):
        assert len(files_in(Location(store).child("small-2", "claims"))) == 1
    with second.locked():  # one that goes on with it, brought here
        assert files_in(Location(store).child("small")) == []


def test_two_machines_that_take_a_name_at_the_same_time_never_both_get_it(tmp_path) -> None:
    storage, together = Location(str(tmp_path / "storage")), threading.Barrier(2)

    def take(machine: str, name: str) -> bool:
        together.wait()
        try:
            with RunDirectory(tmp_path / machine / name, storage).locked(is_new=True):
                return True
        except RunInUseError:
            return False

    with ThreadPoolExecutor(2) as pool:
        for number in range(50):
            assert sum(pool.map(take, ("first", "second"), [f"small-{number}"] * 2)) < 2


@pytest.mark.full
def test_a_search_on_a_bucket_goes_on_after_its_machine_is_lost(
    bucket, tmp_path, cache_dir, capsys, monkeypatch
) -> None:
    file = write_file(tmp_path, sampler="gp", scheduler="asha", trials=8)
    first, second = tmp_path / "first", tmp_path / "second"
    alone = ("--set", "search.max_concurrent=1")  # one process that loads its libraries, not two
    process = start_search(first, file, cache_dir, "--storage", f"{bucket}/tuner", *alone)
    wait_for_epochs(first / "runs" / "small" / "record.jsonl", 12)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 130, output
    stored = Location(f"{bucket}/tuner/small")
    assert exists(stored.child("record.jsonl"))
    assert not (first / "runs" / "small" / "ray").exists(), "checkpoints are in the bucket alone"
    shutil.rmtree(first)
    process = start_search(second, None, cache_dir, "--resume", stored.address, "--set", "finalists.count=1",
                           "--set", "finalists.seeds=1", *alone)  # fmt: skip
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    state = check_record(second / "runs" / "small" / "record.jsonl")
    assert len(state.trials) == 8 and [session.storage for session in state.sessions] == [f"{bucket}/tuner"] * 2
    assert sum(trial.resumed for trial in state.trials.values()) <= 2, "only those that were running"
    assert {"best.keras", "record.jsonl", "labels.json", "specification.yaml"} <= set(files_in(stored))
    assert exists(stored.child("report", "index.html"))
    secrets = [path for path in second.rglob("*") if path.is_file() and b"not-to-be-seen" in path.read_bytes()]
    assert not secrets and "not-to-be-seen" not in output
    monkeypatch.chdir(second)
    assert report.main([stored.address, "--output", "from_bucket", "--format", "svg"]) == 0
    page = (second / "from_bucket" / "leaderboard.md").read_text()
    assert f"| 1 | {state.best_trial().number} |" in page or "won with test accuracy" in page
