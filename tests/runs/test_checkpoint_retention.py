"""Checkpoints that nothing will ask for again are removed; what may be asked for stays."""

from __future__ import annotations

from tests.support.make_record import epoch, study_created, trial_ended, trial_started
from tuner.common.locations import Location
from tuner.runs.checkpoint_retention import CheckpointRemover, remove_old_checkpoints, trials_to_keep
from tuner.runs.directory import RunDirectory
from tuner.runs.events import TrialPaused
from tuner.runs.mirror import Mirror
from tuner.runs.record import Record


def write_run(run: RunDirectory) -> Record:
    """Trial 0 stopped, 1 completed and best of what is over, 2 failed with the best value, 3 waits, 4 runs, ahead."""
    record = Record(run.record)
    record.append(study_created())
    for number, best in enumerate((0.3, 0.6, 0.9, 0.2, 0.7)):
        record.append(trial_started(number))
        record.append(epoch(number, 1, best))
    record.append(trial_ended(0, "stopped", "scheduler"))
    record.append(trial_ended(1))
    record.append(trial_ended(2, "failed", "crashed"))
    record.append(TrialPaused(trial=3, epoch=1))
    return record


def test_what_is_open_and_what_is_best_is_asked_for(tmp_path) -> None:
    record = write_run(RunDirectory(tmp_path))
    assert trials_to_keep(record.state) == {1, 3, 4}
    record.append(trial_ended(4, "failed", "crashed"))
    assert trials_to_keep(record.state) == {1, 3}, "the best was one that ran, and failed"


def test_the_checkpoints_of_trials_that_are_over_are_removed_in_all_sessions(tmp_path) -> None:
    run = RunDirectory(tmp_path)
    state = write_run(run).state
    kept, removed = [], []
    for session in ("session-1", "session-2"):
        for number in range(6):
            folder = tmp_path / "ray" / session / f"trial-{number:05d}-ab12"
            for name in ("checkpoint_000000", "checkpoint_000001"):
                (folder / name).mkdir(parents=True)
                (folder / name / "checkpoint.npz").touch()
                (removed if number in (0, 2) else kept).append(folder / name / "checkpoint.npz")
            (folder / "error.txt").touch()
            kept.append(folder / "error.txt")
    remove_old_checkpoints(run, state)  # trial 5 is not in the record
    assert all(path.exists() for path in kept) and not any(path.exists() for path in removed)
    remove_old_checkpoints(RunDirectory(tmp_path / "other"), state)


def test_a_bucket_is_tidied_as_a_folder_is(bucket, tmp_path) -> None:
    from tuner.common.locations import Location, exists, touch

    run = RunDirectory(tmp_path / "small", Location(f"{bucket}/tuner"))
    state = write_run(run).state
    files = [
        run.ray.child("session-1", f"trial-{number:05d}-ab12", "checkpoint_000000", "checkpoint.npz")
        for number in range(5)
    ]
    for file in files:
        touch(file)
    remove_old_checkpoints(run, state)
    assert [exists(file) for file in files] == [False, True, False, True, True]


class Checkpoint:
    """As Ray's: a path, and a file system that removes it."""

    def __init__(self, path: str, removed: list[str]) -> None:
        self.path, self._removed = path, removed
        self.filesystem = self

    def delete_dir(self, path: str) -> None:
        self._removed.append(path)
        if path == "broken":
            raise OSError("503 slow down")


def test_without_a_storage_a_checkpoint_is_removed_at_once_and_a_failure_is_no_end(tmp_path) -> None:
    write_run(RunDirectory(tmp_path))
    removed: list[str] = []
    removal = CheckpointRemover(RunDirectory(tmp_path))
    for path in ("broken", "a"):
        removal.remove(Checkpoint(path, removed))
    assert removed == ["broken", "a"]


def test_a_checkpoint_of_a_run_that_lies_in_its_storage_itself_is_removed_at_once(tmp_path) -> None:
    run, removed = RunDirectory(tmp_path / "small", Location(str(tmp_path))), list[str]()
    write_run(run)
    CheckpointRemover(run).remove(Checkpoint("a", removed))
    assert removed == ["a"]


def test_a_checkpoint_stays_as_long_as_the_copy_of_the_record_may_name_it(tmp_path) -> None:
    run = RunDirectory(tmp_path / "here", Location(str(tmp_path / "storage")))
    record, removed = write_run(run), list[str]()
    removal, mirror = CheckpointRemover(run), Mirror(run, tmp_path / "report")
    removal.remove(Checkpoint("a", removed))
    assert removed == [], "there is no copy yet"
    mirror.copy_changed()
    record.append(epoch(4, 2, 0.8))
    removal.remove(Checkpoint("b", removed))
    assert removed == ["a"]
    mirror.copy_changed()
    removal.remove(Checkpoint("c", removed))
    assert removed == ["a", "b", "c"]
    assert not (tmp_path / "storage" / "here" / run.copied_bytes.name).exists()
