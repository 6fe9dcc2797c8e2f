"""The console of a search: plain lines, the live picture, the time that is left; with a clock that tests turn."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from tests.support.make_record import epoch, make_state, small_state, study_created, trial_ended, trial_started
from tuner.reports.console import (
    HEARTBEAT_S,
    ROWS,
    Limits,
    SearchConsole,
    describe_end,
    describe_search,
    describe_trial,
    draw_search,
    time_left_s,
)
from tuner.reports.formatting import format_seconds
from tuner.runs.record import Record

LIMITS = Limits(trials=10, time_budget_s=None, max_concurrent=2)
CONFIGURATION = {
    "architecture": "cnn",
    "preprocess": "scale(0,1)",
    "learning_rate": 0.00123456,
    "blocks": 2,
    "norm": None,
    "batch_normalization": True,
}


class Clock:
    """Time that stands still until it is turned on."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def record(tmp_path: Path, clock: Clock) -> Iterator[Record]:
    opened = Record(tmp_path / "record.jsonl", clock)
    opened.append(study_created())
    yield opened
    opened.close()


def plain(width: int = 200) -> Console:
    return Console(file=io.StringIO(), width=width, soft_wrap=True, highlight=False, force_terminal=False)


def terminal(width: int = 120) -> Console:
    return Console(
        file=io.StringIO(), width=width, record=True, force_terminal=True, color_system="truecolor", _environ={}
    )


def lines(console: Console) -> list[str]:
    return console.file.getvalue().splitlines()


# --- durations ---


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (8.4, "8 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (3599, "59 min 59 s"), (3599.7, "1 h 00 min"),
     (7322, "2 h 02 min"), (360_000, "100 h 00 min"), (None, "?")],
)  # fmt: skip
def test_durations_are_rounded_without_sixty_seconds(seconds, words):
    assert format_seconds(seconds) == words


# --- the time that is left ---


def ended(number: int):
    return small_state(
        *[
            event
            for trial in range(number)
            for event in (trial_started(trial), epoch(trial, 1, 0.5), trial_ended(trial))
        ]
    )


@pytest.mark.parametrize(
    ("state", "limits", "elapsed_s", "expected"),
    [
        (small_state(), LIMITS, 50.0, None),
        (small_state(trial_started(0)), LIMITS, 50.0, None),
        (ended(2), LIMITS, 50.0, 213.0),  # 8 trials to come, at 25 s each, and 13 s for export and report
        (ended(10), LIMITS, 50.0, 13.0),
        (ended(12), LIMITS, 50.0, 13.0),  # those of an earlier session with more trials
        (small_state(), Limits(10, 120.0, 2), 50.0, 70.0),
        (ended(2), Limits(10, 120.0, 2), 50.0, 70.0),
        (ended(2), Limits(10, 1000.0, 2), 50.0, 280.0),
        (ended(2), Limits(10, 40.0, 2), 50.0, 0.0),
    ],
)  # fmt: skip
def test_the_time_left_is_that_of_trials_and_closing_or_of_the_budget_whichever_is_shorter(
    state, limits, elapsed_s, expected
):
    assert time_left_s(state, limits, elapsed_s) == expected


# --- plain lines ---


def test_a_trial_is_described_by_what_was_chosen_for_it():
    state = small_state(trial_started(0, CONFIGURATION))
    assert (
        describe_trial(state.trials[0]) == "cnn (learning_rate 0.00123, blocks 2, norm none, batch_normalization true)"
    )


def test_every_trial_that_ends_is_a_line(record, clock):
    console = plain()
    with SearchConsole(console, clock).watching(record, LIMITS):
        record.append(trial_started(0, CONFIGURATION))
        record.append(epoch(0, 1, 0.5))
        record.append(epoch(0, 2, 0.4, best=0.5))
        record.append(trial_ended(0, "completed", "early_stopping"))
        record.append(trial_started(1))
        record.append(epoch(1, 1, 0.3))
        record.append(trial_ended(1, "stopped", "scheduler"))
        record.append(trial_started(2))
        record.append(trial_ended(2, "failed", "out of memory: tried 64 and 32"))
    assert lines(console) == [
        "trial 0 completed (early stopping): val_accuracy 0.5000 after 2 epochs, the best so far; "
        "cnn (learning_rate 0.00123, blocks 2, norm none, batch_normalization true)",
        "trial 1 stopped (scheduler): val_accuracy 0.3000 after 1 epoch; cnn",
        "trial 2 failed (out of memory: tried 64 and 32): no epoch; cnn",
    ]


def test_a_sign_of_life_comes_when_nothing_has_been_said_for_long(record, clock):
    console = plain()
    with SearchConsole(console, clock).watching(record, LIMITS):
        record.append(trial_started(0, {"architecture": "cnn"}))
        for number in range(1, 9):
            clock.now += HEARTBEAT_S / 3
            record.append(epoch(0, number, 0.1 * number))
    said = lines(console)
    assert said == [
        "1 running, 0 completed, 0 stopped, 0 failed of 10 trials; best so far: val_accuracy 0.3000, trial 0, cnn; "
        "time left not known yet",
        "1 running, 0 completed, 0 stopped, 0 failed of 10 trials; best so far: val_accuracy 0.6000, trial 0, cnn; "
        "time left not known yet",
    ]


def test_a_sign_of_life_tells_the_time_left_once_it_is_known(record, clock):
    console = plain()
    with SearchConsole(console, clock).watching(record, LIMITS):
        record.append(trial_started(0))
        clock.now += 20
        record.append(epoch(0, 1, 0.5))
        record.append(trial_ended(0))
        record.append(trial_started(1))
        clock.now += HEARTBEAT_S
        record.append(epoch(1, 1, 0.4))
    assert lines(console)[-1].endswith("; about 7 min 43 s left")  # 9 trials to come, at 50 s each, and the report


def test_brackets_in_a_reason_are_shown_as_they_are(record, clock):
    console = plain()
    with SearchConsole(console, clock).watching(record, LIMITS):
        record.append(trial_started(0))
        record.append(trial_ended(0, "failed", "OOM at shape[128,64] [red]now[/red]"))
    assert "(OOM at shape[128,64] [red]now[/red]): no epoch" in lines(console)[0]


def test_a_failed_trial_is_never_the_best():
    state = small_state(trial_started(0), epoch(0, 1, 0.9), trial_ended(0, "failed", "not a number"))
    assert "best so far" not in describe_end(state, state.trials[0].ended)


def test_what_is_prepared_is_said_and_on_a_terminal_how_long_it_took(clock):
    for console, expected in ((plain(), ["reading images ..."]), (terminal(), ["reading images: 1 min 05 s"])):
        with SearchConsole(console, clock).preparing("reading images"):
            clock.now += 65
        if console.record:
            assert expected[0] in console.export_text()
        else:
            assert lines(console) == expected


def test_nothing_is_said_of_what_was_quick(clock):
    console = terminal()
    with SearchConsole(console, clock).preparing("reading images"):
        clock.now += 0.5
    assert "reading images:" not in console.export_text()


# --- the live picture ---


def drawn(state, limits: Limits = LIMITS, elapsed_s: float = 100.0, width: int = 120) -> str:
    console = terminal(width)
    console.print(draw_search(state, limits, elapsed_s))
    return console.export_text()


def test_the_picture_of_a_search_that_has_just_begun():
    text = drawn(small_state())
    assert "cifar100" in text and "best so far: none yet" in text
    assert (
        "1 min 40 s elapsed, time left not known yet; 0 running, 0 completed, 0 stopped, 0 failed of 10 trials" in text
    )


def test_the_picture_shows_running_trials_with_their_epochs_and_not_those_that_ended():
    state = small_state(
        trial_started(0),
        epoch(0, 1, 0.5),
        trial_ended(0),
        trial_started(1, {"architecture": "dense", "units": 64}),
        epoch(1, 1, 0.4),
        epoch(1, 2, 0.3, best=0.4, phase="fine_tune"),
        trial_started(2),
    )
    text = drawn(state)
    rows = {
        line.split()[1]: line for line in text.splitlines() if line.startswith("│ ") and line.split()[1].isdecimal()
    }
    assert set(rows) == {"1", "2"}
    assert "2/20" in rows["1"] and "fine tune" in rows["1"] and "0.3000" in rows["1"] and "0.4000" in rows["1"]
    assert "dense (units 64)" in rows["1"]
    assert "0/20" in rows["2"] and "starting" in rows["2"]
    assert "best so far: val_accuracy 0.5000, trial 0" in text


def test_the_picture_has_a_bounded_number_of_rows():
    state = small_state(*[trial_started(number) for number in range(ROWS + 8)])
    text = drawn(state)
    assert text.count("starting") == ROWS and "and 8 more" in text
    assert len(text.splitlines()) < ROWS + 8


@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_picture_keeps_within_the_width_of_the_terminal(width):
    text = drawn(make_state(20, end=None), width=width)
    assert max(len(line) for line in text.splitlines()) <= width


def test_the_picture_of_a_loss_shows_losses():
    text = drawn(small_state(trial_started(0), epoch(0, 1, 0.5, best=0.85), metric="val_loss"))
    assert "best so far: val_loss 0.8500" in text and "0.8500" in text


def test_the_picture_is_drawn_again_and_again_on_a_terminal_and_is_gone_at_the_end(record, clock):
    console = terminal()
    with SearchConsole(console, clock).watching(record, LIMITS):
        record.append(trial_started(0))
    written = console.file.getvalue()
    assert "elapsed" in written and "trial 0" not in console.export_text().splitlines()[-1]
    assert "\x1b[2K" in written, "the lines of the picture are erased"


# --- what more time would gain ---


def rising(trials: int, **study: object):
    """A search of one epoch a trial, a minute each."""
    return small_state(
        *[
            event
            for trial in range(trials)
            for event in (
                trial_started(trial, elapsed_s=60.0 * trial),
                epoch(trial, 1, 0.5 + 0.01 * trial, elapsed_s=60.0 * (trial + 1)),
                trial_ended(trial, elapsed_s=60.0 * (trial + 1)),
            )
        ],
        **study,
    )


@pytest.mark.parametrize(
    ("state", "ten_minutes", "hour"),
    [
        (rising(4), False, False),
        (rising(5), True, False),
        (rising(15), True, True),
        (rising(15, metrics=["val_accuracy", "parameters"]), False, False),
    ],
)
def test_a_sign_of_life_and_the_picture_tell_what_more_time_would_gain_once_that_is_known(state, ten_minutes, hour):
    for text in (describe_search(state, LIMITS, 900.0), drawn(state, elapsed_s=900.0)):
        assert ("another 10 min 0.0" in text) is ten_minutes
        assert ("another hour 0.0" in text) is hour
        assert ("(80% interval 0.0" in text) is (ten_minutes or hour)


def test_a_search_that_has_ended_gains_nothing_more():
    assert "expected to gain" not in describe_search(rising(15), LIMITS, None)
