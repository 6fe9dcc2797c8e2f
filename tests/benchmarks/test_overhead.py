"""The account of a search beside its training, on hand-made records, and what is said of workers' memory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.overhead import __main__ as overhead
from benchmarks.overhead.account import account, idle_seconds, percentile, render
from benchmarks.overhead.memory import Sample, is_trial_worker, largest_by_worker, render_memory
from tests.support.make_record import epoch, study_created, trial_ended, trial_started, write_record
from tuner.common.errors import RunError
from tuner.runs.events import Event, SessionEnded, SessionStarted, TrialResumed

EVENTS: list[Event] = [
    study_created(time=100.0),
    SessionStarted(time=101.0, resumed=False, max_concurrent=2, sampler="tpe", scheduler="asha"),
    trial_started(0, time=102.0),
    trial_started(1, time=102.5),
    epoch(0, 1, 0.1, time=106.0, seconds=2.0),
    epoch(1, 1, 0.1, time=107.0, seconds=2.0),
    epoch(0, 2, 0.2, time=109.5, seconds=3.0),
    trial_ended(0, time=110.0, setup_s=1.5),
    trial_started(2, time=111.0),
    epoch(2, 1, 0.2, time=113.0, seconds=1.0),
    trial_ended(1, "stopped", "time_budget", time=114.0),
    trial_ended(2, "stopped", "time_budget", time=114.0),
    SessionEnded(time=114.0, reason="time_budget"),
]


def test_the_share_is_training_over_the_time_of_all_slots() -> None:
    found = account(EVENTS, launched=94.0)
    assert (found.slots, found.epochs, found.training_s) == (2, 4, 8.0)
    assert found.share == 8 / (2 * 10)  # the first epoch began at 104
    assert found.share_from_launch == 8 / (2 * 20)
    assert found.session_to_first_epoch_s == 5
    assert account(EVENTS).share_from_launch is None


def test_the_time_of_a_trial_is_split_into_what_was_not_training() -> None:
    first, second, third = account(EVENTS).trials
    assert (first.before_s, first.setup_s, first.between_s, first.after_s, first.idle_s) == (2, 1.5, 0.5, 0.5, None)
    assert first.outside_s + first.training_s == 110 - 102
    assert (second.before_s, second.after_s, second.setup_s) == (2.5, None, None)
    assert (third.idle_s, third.before_s, third.outside_s) == (1, 1, 2)


def test_a_slot_is_empty_from_the_end_of_a_trial_to_the_start_of_the_next() -> None:
    events = [trial_started(0, time=1), trial_started(1, time=1), trial_ended(1, time=4), trial_ended(0, time=5),
              trial_started(2, time=6), trial_started(3, time=6.5)]  # fmt: skip
    assert idle_seconds(events) == {2: 2, 3: 1.5}


@pytest.mark.parametrize(
    ("events", "message"),
    [
        (EVENTS[:-1], "one ended session with an epoch at least; got 1 begun, 0 ended, 4 epochs"),
        ([*EVENTS[:2], EVENTS[-1]], "got 1 begun, 1 ended, 0 epochs"),
        ([*EVENTS, TrialResumed(trial=0, epoch=1)], "must hold trials that ran in one piece; got one that was resumed"),
    ],
)
def test_a_record_that_gives_no_account_is_refused(events: list[Event], message: str) -> None:
    with pytest.raises(RunError, match=message):
        account(events)


def test_a_percentile_is_one_of_the_values() -> None:
    assert [percentile([4.0, 1.0, 3.0, 2.0], percent) for percent in (0, 25, 50, 51, 90)] == [1, 1, 2, 3, 4]


def test_the_table_leaves_out_parts_that_no_trial_has() -> None:
    text = render("run", account([event for event in EVENTS if getattr(event, "trial", 0) == 0]))
    assert "| between epochs | 1 | 0.50 | 0.50 | 0.5 |" in text
    assert "slot empty before" not in text and "launch not known" in text


# --- memory ---


@pytest.mark.parametrize(
    ("title", "is_one"),
    [
        ("ray::ResourceTrainable.train", True),
        ("ray::TrialActor", True),
        ("ray::IDLE", False),
        ("python Trainable", False),
    ],
)
def test_only_rays_workers_that_run_trials_are_looked_at(title: str, is_one: bool) -> None:
    assert is_trial_worker(title) is is_one


def test_workers_are_in_the_order_of_their_first_trial_each_with_its_most() -> None:
    samples = [Sample(2.0, 9, 300.0), Sample(1.0, 7, 500.0), Sample(3.0, 7, 800.0), Sample(3.0, 9, 250.0)]
    assert largest_by_worker(samples) == [800.0, 300.0]


def test_what_the_workers_after_the_first_add_is_compared_with_the_claim() -> None:
    samples = [Sample(1.0, 7, 5000.0), Sample(2.0, 8, 700.0), Sample(3.0, 9, 900.0)]
    assert "Each worker after the first adds at most **900 MB**: below 1 GB." in render_memory(samples, 3)
    assert "**1100 MB**: not below 1 GB" in render_memory([*samples, Sample(4.0, 8, 1100.0)], 3)
    assert "after the first" not in render_memory(samples[:1], 1)


# --- the command ---


def test_records_of_the_race_know_their_launch_and_the_account_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = write_record(tmp_path / "round_1.record.jsonl", EVENTS)
    (tmp_path / "round_1.about.json").write_text(json.dumps({"launched": 94.0}))
    assert overhead.main([str(record), "--out", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out" / "overhead.md").read_text()
    assert "**40.0%** from the begin of the first epoch, 20.0% from launch" in text
    assert text.strip() == capsys.readouterr().out.strip()


def test_so_many_trials_at_once_share_the_cpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overhead.os, "cpu_count", lambda: 2)
    command = overhead.search_command(tmp_path, Path("images.npz"), 60.0, 4)
    assert {"search.max_concurrent=4", "resources.cpus_per_trial=0.5", "search.time_budget=60s"} <= set(command)
    assert not any("cpus_per_trial" in word for word in overhead.search_command(tmp_path, Path("x"), 60.0, None))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--launched", "1"], "--launched must come with one record; got 0"),
        (["--trials-at-once", "0"], "--trials-at-once must be at least 1; got 0"),
        (["--budget", "nan"], "--budget must be above 0 seconds; got nan"),
    ],
)
def test_wrong_options_are_refused(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert overhead.main(arguments) == 2
    assert message in capsys.readouterr().err
