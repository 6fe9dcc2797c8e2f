"""A time budget is one promise: searches on simulated clocks, which train, retrain, test, export and report in it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.make_record import epoch, session_started, study_created, trial_ended, trial_started
from tuner.reports.console import SearchConsole
from tuner.runs.directory import RunDirectory
from tuner.runs.events import Event, FinalistsStarted, FinalistTested, FinalistTrained
from tuner.runs.finalists import pack_bits, summarise_finalists
from tuner.runs.forecast import LONGEST_STOP_S, wanted_trainings
from tuner.runs.record import Record
from tuner.runs.state import RunState
from tuner.session._finalists import Trainings, run_finalists
from tuner.session._resolved import Budget
from tuner.session._stopping import FirstEpoch, TimeBudget, too_short

EPOCHS = 6


@dataclass
class Simulated:
    """A machine and a search on it: seconds of epochs, of starts, of the test split, and when all becomes slower."""

    budget_s: float
    slots: int = 2
    start_s: float = 8.0
    epoch_s: float = 1.0
    """Of trial 0; later ones take up to twice as long."""
    test_s: float = 1.0
    closing_starts: float = 1.0
    slow_from_s: float = math.inf
    slower: float = 1.0
    finalists_slower: float = 1.0
    now_s: float = 0.0
    state: RunState = field(default_factory=RunState)

    def elapsed_s(self) -> float:
        return self.now_s

    def append(self, event: Event) -> None:
        self.state.apply(event.model_copy(update={"elapsed_s": self.now_s}))

    def pass_time(self, seconds: float) -> None:
        """Let so much work be done: it takes longer where the machine is slow."""
        before = min(seconds, max(0.0, self.slow_from_s - self.now_s))
        self.now_s += before + (seconds - before) * self.slower

    def epoch_of(self, trial: int) -> float:
        return self.epoch_s * (1 + trial % 5 / 4)


def search(machine: Simulated) -> tuple[float, int, int]:
    """Run a search to its end; return the seconds in all, the trainings of finalists and how many were tested."""
    time = TimeBudget(Budget(1000, machine.budget_s, 3, 3), machine, lambda: machine.slots)
    machine.append(
        study_created(max_epochs=EPOCHS, data={"train_images": 300, "validation_images": 100, "test_images": 0})
    )
    machine.pass_time(0.4 * machine.start_s)
    machine.append(session_started(machine.slots))
    machine.pass_time(machine.start_s)
    _trials(machine, time)
    _finalists(machine, time)
    machine.pass_time(machine.closing_starts * machine.start_s)
    trained = machine.state.finalists.values()
    return machine.now_s, len(trained), sum(one.tested is not None for one in trained)


def _trials(machine: Simulated, time: TimeBudget) -> None:
    """All slots train one trial after the other, an epoch at a time, until the time for trials is over."""
    running: dict[int, float] = {}
    number, done = 0, dict[int, int]()
    while True:
        while len(running) < machine.slots:
            machine.append(trial_started(number))
            running[number], done[number], number = machine.epoch_of(number), 0, number + 1
        step_s = min(0.1 + min(running.values()), 5.0)
        before_s = machine.now_s
        machine.pass_time(step_s)
        taken = machine.now_s - before_s
        for trial in [*running]:
            running[trial] -= step_s
            if running[trial] <= 0:
                done[trial] += 1
                seconds = machine.epoch_of(trial) * taken / step_s
                machine.append(epoch(trial, done[trial], 0.9 - 0.01 * (trial % 7), seconds=seconds))
                running[trial] = machine.epoch_of(trial)
                if done[trial] == EPOCHS:
                    machine.append(trial_ended(trial))
                    del running[trial]
        if time.left_for_trials_s() <= 0:
            break
    machine.now_s += min(LONGEST_STOP_S, 1.0 + max(running.values(), default=0.0))


def _finalists(machine: Simulated, time: TimeBudget) -> None:
    trainings = Trainings(machine, time, wanted_trainings(machine.state, 3, 3))
    running: dict[tuple[int, int], tuple[int, float]] = {}
    ends_s: dict[tuple[int, int], float] = {}
    starting, idle = dict[tuple[int, int], float](), 0
    while (trainings.are_left or running or starting) and trainings.room_s > 0:
        while trainings.are_left and len(running) + len(starting) < machine.slots:
            taken = trainings.take(is_new_process=not idle)
            if taken is not None:
                one, within_s = taken
                ends_s[one.trial, one.number] = math.inf if within_s is None else machine.now_s + within_s
                starting[one.trial, one.number] = 0.0 if idle else machine.start_s
                idle -= bool(idle)
        machine.pass_time(0.2)
        for key in [key for key, left_s in starting.items() if left_s <= 0]:
            del starting[key]
            running[key] = (0, 0.0)
        starting = {key: left_s - 0.2 for key, left_s in starting.items()}
        idle += _one_step(machine, trainings, running, ends_s)
    for place, (trial, seed) in enumerate([*machine.state.finalists]):
        if place and machine.test_s > time.left_before_closing_s():
            break
        machine.pass_time(machine.test_s)
        machine.append(FinalistTested(trial=trial, number=seed, images=1, test_accuracy=1.0, test_loss=0.1,
                                      correct=pack_bits(np.ones(1, dtype=bool))))  # fmt: skip


def _one_step(
    machine: Simulated,
    trainings: Trainings,
    running: dict[tuple[int, int], tuple[int, float]],
    ends_s: dict[tuple[int, int], float],
) -> int:
    """Train all for a moment, and return how many have ended."""
    ended = 0
    for (trial, seed), (done, part_s) in [*running.items()]:
        length_s = machine.epoch_of(trial) * machine.finalists_slower
        done, part_s = (done + 1, 0.0) if part_s + 0.2 >= length_s else (done, part_s + 0.2)
        running[trial, seed] = (done, part_s)
        if part_s == 0.0:
            slow = machine.slower if machine.now_s > machine.slow_from_s else 1.0
            trainings.see(trial, done, length_s * slow)
            is_cut = machine.now_s + length_s * slow > ends_s[trial, seed]
        if part_s == 0.0 and (done == EPOCHS or is_cut):
            del running[trial, seed]
            ended += 1
            machine.append(FinalistTrained(trial=trial, number=seed, status="completed", reason="max_epochs",
                                           epochs=done, best=0.9, seconds=EPOCHS * length_s))  # fmt: skip
    return ended


@settings(max_examples=60, deadline=None)
@given(
    budget_s=st.floats(120, 1200), slots=st.integers(1, 4), start_s=st.floats(2, 20), epoch_s=st.floats(0.2, 20),
    test_s=st.floats(0.1, 10), finalists_slower=st.floats(0.7, 2.0),
)  # fmt: skip
def test_a_search_ends_in_time_with_finalists_wherever_one_fits_easily(
    budget_s, slots, start_s, epoch_s, test_s, finalists_slower
):
    machine = Simulated(
        budget_s, slots, start_s, epoch_s, min(test_s, budget_s / 60), finalists_slower=finalists_slower
    )
    total_s, trained, tested = search(machine)
    assert total_s <= budget_s + max(10.0, 0.05 * budget_s)
    assert tested >= min(trained, 1)
    if 2 * EPOCHS * epoch_s * finalists_slower + 3 * start_s < 0.3 * budget_s:
        assert trained >= 1


@settings(max_examples=60, deadline=None)
@given(
    budget_s=st.floats(180, 1200), slots=st.integers(1, 4), epoch_s=st.floats(0.2, 10), slow_at=st.floats(0, 1),
    slower=st.floats(1, 3),
)  # fmt: skip
def test_a_machine_that_becomes_three_times_slower_midway_breaks_the_promise_by_the_closing_at_most(
    budget_s, slots, epoch_s, slow_at, slower
):
    machine = Simulated(budget_s, slots, 8.0, epoch_s, slow_from_s=slow_at * budget_s, slower=slower)
    total_s, _, _ = search(machine)
    unforeseen_s = 8.0 * slower - 13.0  # export and report, if it became slower when nothing was left to time
    assert total_s <= budget_s + max(10.0, 0.05 * budget_s, unforeseen_s + slower)


def test_a_quiet_machine_trains_all_finalists_with_all_seeds():
    total_s, trained, tested = search(Simulated(240.0))
    assert (trained, tested) == (9, 9) and 200.0 < total_s <= 250.0


def test_on_a_machine_that_becomes_slow_seeds_are_left_out():
    _, trained, tested = search(Simulated(240.0, epoch_s=2.0, slow_from_s=150.0, slower=2.0))
    assert 1 <= trained == tested < 9


# --- what is said ---


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[tuple[Record, list[float]]]:
    now = [1000.0]
    record = Record(tmp_path / "record.jsonl", lambda: now[0])
    record.append(study_created(max_epochs=2))
    record.append(session_started())
    yield record, now
    record.close()


def test_what_is_left_out_is_said_by_seeds_and_finalists(opened):
    record, now = opened
    for trial in (0, 1):
        record.append(trial_started(trial))
        for number in (1, 2):
            now[0] += 10.0
            record.append(epoch(trial, number, 0.6 - 0.1 * trial, seconds=10.0))
        record.append(trial_ended(trial))
    time = TimeBudget(Budget(2, 90.0, 2, 2), record, lambda: 1)
    trainings = Trainings(record, time, wanted_trainings(record.state, 2, 2))
    assert [(one.trial, one.number) for one in trainings.fit(1)] == [(0, 0)]
    assert trainings.take(is_new_process=True) is not None
    now[0] += 20.0
    record.append(FinalistTrained(trial=0, number=0, status="completed", reason="max_epochs", epochs=2, best=0.6,
                                  seconds=20.0))  # fmt: skip
    assert trainings.take(is_new_process=False) is None
    words = trainings.left_out()
    assert words.startswith("left out for the time budget: 1 more training with other seeds, finalist 1; about 1 min")


def test_a_finalist_that_won_before_still_does_when_there_is_no_time_for_one_that_has_overtaken_it(opened):
    record, now = opened
    for trial, value in enumerate((0.1, 0.5, 0.6)):
        record.append(trial_started(trial))
        now[0] += 10.0
        record.append(epoch(trial, 1, value, seconds=10.0))
        record.append(trial_ended(trial))
        if trial == 1:
            record.append(FinalistsStarted(trials=[1, 0], trainings=1))
            for one, best in ((1, 0.5), (0, 0.1)):
                record.append(FinalistTrained(trial=one, number=0, status="completed", reason="max_epochs", epochs=1,
                                              best=best, seconds=10.0))  # fmt: skip
    time = TimeBudget(Budget(3, 31.0, 1, 1), record, lambda: 1)
    context = SimpleNamespace(trial_kind=SimpleNamespace(why_untested="it has no predict"))
    pool: Any = SimpleNamespace(workers=SimpleNamespace(context=context, at_once=lambda: 1))
    run_finalists(time, pool, RunDirectory(record.path.parent), record, SearchConsole(), lambda: False)
    assert [one.trial for one in summarise_finalists(record.state)] == [1, 0]
    assert "finalist 2 (the best trial)" in record.state.notices[-1]


def test_it_is_said_that_the_best_trial_is_left_out(opened):
    record, now = opened
    for trial, seconds in ((0, 60.0), (1, 4.0)):
        record.append(trial_started(trial))
        for number in (1, 2):
            now[0] += seconds
            record.append(epoch(trial, number, 0.6 - 0.1 * trial, seconds=seconds))
        record.append(trial_ended(trial))
    trainings = Trainings(
        record, TimeBudget(Budget(2, 210.0, 2, 1), record, lambda: 1), wanted_trainings(record.state, 2, 1)
    )
    assert [one.trial for one in trainings.fit(1)] == [1]
    record.append(FinalistTrained(trial=1, number=0, status="completed", reason="max_epochs", epochs=2, best=0.5,
                                  seconds=8.0))  # fmt: skip
    assert trainings.left_out().startswith("left out for the time budget: finalist 0 (the best trial); about ")


def of_one_epoch(opened) -> Trainings:
    """The finalists of a search whose only trial has had one epoch."""
    record, now = opened
    record.append(trial_started(0))
    now[0] += 20.0
    record.append(epoch(0, 1, 0.6, seconds=20.0))
    time = TimeBudget(Budget(2, 80.0, 2, 2), record, lambda: 1)
    return Trainings(record, time, wanted_trainings(record.state, 2, 2))


def test_the_best_trial_is_trained_for_as_many_epochs_as_fit_if_all_do_not(opened):
    trainings = of_one_epoch(opened)
    assert [(one.trial, one.number) for one in trainings.fit(1)] == [(0, 0)]
    taken = trainings.take(is_new_process=True)
    assert taken is not None and taken[0].seconds == 40.0 and taken[1] == 80.0 - 20.0 - 13.0 - 1.0  # closing, test
    assert trainings.take(is_new_process=False) is None


def cut(opened, budget_s: float) -> Trainings:
    """The finalists of a search of one trial of two epochs, which was trained again for one of them, and cut."""
    record, now = opened
    record.append(trial_started(0))
    for number in (1, 2):
        now[0] += 20.0
        record.append(epoch(0, number, 0.6, seconds=20.0))
    record.append(trial_ended(0))
    record.append(FinalistTrained(trial=0, number=0, status="completed", reason="time_budget", epochs=1, best=0.6,
                                  seconds=20.0))  # fmt: skip
    time = TimeBudget(Budget(2, budget_s, 1, 1), record, lambda: 1)
    return Trainings(record, time, wanted_trainings(record.state, 1, 1))


def test_a_finalist_that_was_cut_goes_on_when_there_is_more_time(opened):
    trainings = cut(opened, 900.0)
    (kept,) = trainings.fit(1)
    assert (kept.trial, kept.number, kept.seconds) == (0, 0, 20.0)
    assert trainings.take(is_new_process=True) == (kept, None)


def test_it_is_said_how_much_longer_a_finalist_that_was_cut_would_have_taken(opened):
    words = cut(opened, 50.0).left_out()
    assert words.startswith("left out for the time budget: the epochs of trial 0 after 1; about ")
    assert "about 0 s" not in words


def test_a_cut_training_whose_process_was_lost_is_taken_again(opened):
    trainings = of_one_epoch(opened)
    taken = trainings.take(is_new_process=True)
    assert taken is not None and taken[1] is not None, "it may be cut"
    trainings.put_back(taken[0])
    assert trainings.take(is_new_process=True) == taken


def test_nothing_is_said_when_all_was_trained(opened):
    record, _ = opened
    time = TimeBudget(Budget(2, None, 2, 2), record, lambda: 1)
    assert Trainings(record, time, []).left_out() == "" and time.left_s() == math.inf


# --- a budget too short for one epoch ---


def test_first_batches_tell_that_no_epoch_can_end_in_time(opened):
    record, now = opened
    watch = FirstEpoch(TimeBudget(Budget(2, 120.0, 2, 2), record, lambda: 1), lambda _configuration: 100)
    for done in (0, 2, 4):
        watch.see([(0, {}, done)])
        now[0] += 10.0
    assert watch.message is not None  # 2 batches in 10 s: 96 more take 480 s
    assert (
        "search.time_budget (2 min 00 s) is too short for one epoch: by its first batches the first one takes "
        in watch.message
    )
    assert watch.message.endswith("m or more would do")


@pytest.mark.parametrize(
    "seen",
    [
        [[(0, 0)], [(0, 0)], [(0, 0)]],  # nothing is known
        [[(0, 1)], [(0, 1)], [(0, 1)]],  # no batch since the first look
        [[(0, 10)], [(0, 60)], [(0, 90)]],  # quick enough
        [[(0, 2), (1, 0)], [(0, 4), (1, 0)], [(0, 6), (1, 0)]],  # another one has not begun
        [[(0, 2), (1, 40)], [(0, 4), (1, 60)], [(0, 6), (1, 80)]],  # another one is quick enough
        [[], [], []],
    ],
)
def test_a_budget_is_not_given_up_as_long_as_some_first_epoch_may_end(opened, seen):
    record, now = opened
    watch = FirstEpoch(TimeBudget(Budget(2, 120.0, 2, 2), record, lambda: 1), lambda _configuration: 100)
    for running in seen:
        watch.see([(number, {}, done) for number, done in running])
        now[0] += 10.0
    assert watch.message is None


def test_activations_that_take_longer_than_the_budget_are_told_by_their_first_images(opened):
    record, now = opened
    watch = FirstEpoch(TimeBudget(Budget(2, 120.0, 2, 2), record, lambda: 1), lambda _configuration: 100)
    for done in (0, 256, 512):
        watch.build(0, done, 12_000)
        watch.see([(0, {}, 0)])
        now[0] += 10.0
    assert watch.message is not None
    assert "too short for one epoch: by the first images its activations alone take 7 min " in watch.message


@pytest.mark.parametrize(
    "built",
    [
        [(256, 2_000), (1024, 2_000), (1800, 2_000)],  # quick enough
        [(0, 12_000), (0, 12_000), (0, 12_000)],  # nothing is known
        [(900, 1_000), (999, 1_000), (256, 40_000)],  # the images of the next split have just begun
    ],
)
def test_activations_that_may_be_ready_in_time_end_no_search(opened, built):
    record, now = opened
    watch = FirstEpoch(TimeBudget(Budget(2, 120.0, 2, 2), record, lambda: 1), lambda _configuration: 100)
    for done, total in built:
        watch.build(0, done, total)
        watch.see([(0, {}, 0)])
        now[0] += 10.0
    assert watch.message is None


def test_without_a_budget_nothing_is_too_long(opened):
    record, now = opened
    time = TimeBudget(Budget(2, None, 2, 2), record, lambda: 1)
    watch = FirstEpoch(time, lambda _configuration: 10**9)
    for done in (1, 2, 3):
        watch.see([(0, {}, done)])
        now[0] += 100.0
    assert watch.message is None and time.left_for_trials_s() == time.left_before_closing_s() == math.inf
    assert time.share_spent_on_trials() == 0.0


def test_the_share_of_the_time_for_trials_grows_to_the_moment_at_which_finalists_begin(opened):
    record, now = opened
    record.append(trial_started(0))
    now[0] += 10.0
    record.append(epoch(0, 1, 0.6, seconds=10.0))
    shares = []
    for finalists in (0, 2):
        time = TimeBudget(Budget(2, 200.0, finalists, 2), record, lambda: 1)
        shares.append(time.share_spent_on_trials())
    assert 0.05 <= shares[0] < shares[1] < 0.5
    now[0] += 190.0
    time = TimeBudget(Budget(2, 200.0, 2, 2), record, lambda: 1)
    assert time.share_spent_on_trials() == 1.0


def test_too_short_names_setting_value_and_a_way_out():
    assert too_short(60.0, "why", 100.0) == (
        "search.time_budget (1 min 00 s) is too short for one epoch: why; 2m or more would do"
    )


def test_what_was_spent_before_the_record_was_opened_counts(tmp_path):
    with_began = Record(tmp_path / "record.jsonl", lambda: 100.0, began=70.0)
    assert with_began.elapsed_s() == 30.0
    with_began.close()
