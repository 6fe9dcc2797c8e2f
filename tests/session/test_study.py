"""What a session takes over from one that was killed: who waits, who goes on, and from which checkpoint."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support.make_record import epoch, study_created, trial_ended, trial_started
from tuner.runs.directory import RunDirectory
from tuner.runs.events import CheckpointSaved, Event, TrialPaused, TrialResumed
from tuner.runs.record import replay
from tuner.runs.state import RunState
from tuner.session._resolved import resolve
from tuner.session._study import continuation, interrupted_trials, restored_halving, unrecorded_pauses
from tuner.spec.spec import read_spec, require

SEARCH = resolve(
    require(
        read_spec(
            "study: small\ndata: {source: digits}\n"
            "space: {batch_size: 8, learning_rate: 0.01, "
            "architecture: {choose: {dense: {dense_units: {choice: [4]}}}}}\n"
            "training: {max_epochs: 8}\nsearch: {scheduler: asha, grace_epochs: 1, reduction_factor: 2}\n"
        )
    )
)
PROMOTED = TrialResumed(trial=0, epoch=1)


def saved(trial: int, number: int) -> CheckpointSaved:
    return CheckpointSaved(trial=trial, epoch=number, path=f"ray/session-1/trial-{trial:05d}/checkpoint_000000")


def after(*events: Event) -> RunState:
    return replay([study_created(), *events])


def taken_over(state: RunState) -> tuple[list[int], set[int], list[int]]:
    """Who is found to wait, who waits then, and who is given to a worker at once."""
    pauses = list(unrecorded_pauses(state, restored_halving(SEARCH, state)))
    for pause in pauses:
        state.apply(pause)
    halving = restored_halving(SEARCH, state)
    return [pause.trial for pause in pauses], halving.paused, list(interrupted_trials(state, halving))


@pytest.mark.parametrize(
    ("events", "found", "waits", "goes_on"),
    [
        ([], [], set(), [0]),
        ([epoch(0, 1, 0.5)], [], set(), [0]),
        ([epoch(0, 1, 0.5), saved(0, 1)], [0], {0}, []),
        ([epoch(0, 1, 0.5), saved(0, 1), TrialPaused(trial=0, epoch=1)], [], {0}, []),
        ([epoch(0, 1, 0.5), saved(0, 1), TrialPaused(trial=0, epoch=1), PROMOTED], [], set(), [0]),
        ([epoch(0, 1, 0.5), epoch(0, 2, 0.6), saved(0, 1)], [], set(), [0]),
        ([epoch(0, 1, 0.5), epoch(0, 2, 0.6), epoch(0, 3, 0.6), saved(0, 3)], [], set(), [0]),
        ([epoch(0, 1, 0.5), trial_ended(0), saved(0, 1)], [], set(), []),
    ],
    ids=["started", "reported", "kept", "paused", "promoted", "kept before", "kept between", "ended"],
)  # fmt: skip
def test_a_trial_waits_if_it_did_or_had_kept_its_state_at_the_rung_and_else_goes_on(events, found, waits, goes_on):
    assert taken_over(after(trial_started(0), *events)) == (found, waits, goes_on)


@pytest.mark.parametrize(
    ("events", "found", "waits", "goes_on"),
    [
        ([epoch(0, 1, 0.5), saved(0, 1)], [], set(), [0]),
        ([epoch(0, 1, 0.5), epoch(0, 2, 0.6), saved(0, 2)], [], set(), [0]),
        ([epoch(0, 1, 0.5), epoch(0, 2, 0.6), epoch(0, 3, 0.6), epoch(0, 4, 0.6), saved(0, 4)], [0], {0}, []),
    ],
    ids=["first rung", "second rung", "above a quarter of the epochs"],
)  # fmt: skip
def test_a_recipe_of_the_prior_that_was_killed_at_one_of_the_first_rungs_does_not_wait_there(
    events, found, waits, goes_on
):
    state = after(trial_started(0, origin="prior"), *events)
    assert taken_over(state) == (found, waits, goes_on)
    restored = restored_halving(SEARCH, state)
    assert restored.arrive(1, 1, 0.4) and restored.arrive(2, 1, 0.3), "they are compared with it: one of three goes on"


def checkpoint_of(run: RunDirectory) -> Path:
    path = run.path / saved(0, 3).path / "checkpoint.npz"
    path.parent.mkdir(parents=True)
    path.touch()
    return path


def test_a_trial_of_a_run_that_was_copied_goes_on_from_the_checkpoint_in_the_copy(tmp_path, monkeypatch):
    state = after(trial_started(0), epoch(0, 1, 0.5), saved(0, 1))
    original = RunDirectory(tmp_path / "here" / "runs" / "small")
    checkpoint_of(original)
    shutil.copytree(original.path, tmp_path / "there" / "copy")
    shutil.rmtree(tmp_path / "here")
    monkeypatch.chdir(tmp_path / "there")
    unfinished = continuation(0, state, RunDirectory(Path("copy")))
    assert unfinished.resume_from == str(tmp_path / "there" / "copy" / saved(0, 1).path)


def test_a_trial_whose_checkpoint_was_not_copied_begins_anew(tmp_path):
    state = after(trial_started(0), epoch(0, 1, 0.5), saved(0, 1))
    assert continuation(0, state, RunDirectory(tmp_path)).resume_from is None
