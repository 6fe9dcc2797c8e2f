"""A search that ends because little more is to be gained: when that is seen, and what is said."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from tests.support.make_record import epoch, study_created, trial_started
from tuner.runs.events import Event, Notice
from tuner.runs.state import RunState
from tuner.session._stopping import LittleGain
from tuner.spec.schema import StopWhenSection

STOP = StopWhenSection(expected_gain_below=0.01, within=40.0)


@dataclass
class Simulated:
    """A record on a clock that tests turn."""

    state: RunState = field(default_factory=RunState)
    now_s: float = 0.0

    def elapsed_s(self) -> float:
        return self.now_s

    def append(self, event: Event) -> None:
        self.state.apply(event.model_copy(update={"elapsed_s": self.now_s}))


def ended_after(values: list[float], stop: StopWhenSection | None = STOP, **study: object) -> int | None:
    """The trials, of one epoch and ten seconds each, after which a search with these values ends."""
    record = Simulated()
    little_gain = LittleGain(stop, record)
    record.append(study_created(**study))
    for trial, value in enumerate(values):
        record.append(trial_started(trial))
        record.now_s += 10.0
        event = epoch(trial, 1, value)
        record.append(event)
        little_gain(event)
        if little_gain.is_seen():
            notices = [text for text in record.state.notices if text.startswith("search.stop_when: another 40 s are ")]
            assert len(notices) == 1 and notices[0].endswith(", less than 0.01; no more trials are trained")
            return trial + 1
        assert not record.state.notices
    return None


STANDS_STILL = [0.5, 0.501, 0.502, 0.501, 0.502, 0.501, 0.502, 0.501]
RISES = [0.1 * place for place in range(9)]


@pytest.mark.parametrize(
    ("values", "stop", "study", "trials"),
    [
        (STANDS_STILL, STOP, {}, [5]),  # the fewest of which anything is said
        (STANDS_STILL, STOP.model_copy(update={"within": 90.0}), {}, [None]),  # the last ends at 80 s
        (RISES, STOP, {}, [None]),
        ([*RISES, *[0.8] * 40], STOP, {}, range(len(RISES) + 2, len(RISES) + 40)),
        (STANDS_STILL, None, {}, [None]),
        (STANDS_STILL, STOP, {"metrics": ["val_accuracy", "parameters"]}, [None]),
    ],
)
def test_a_search_ends_when_it_stands_still_and_has_run_for_as_long_as_is_looked_ahead(values, stop, study, trials):
    assert ended_after(values, stop, **study) in trials


def test_the_same_epochs_are_looked_at_once():
    record = Simulated()
    little_gain = LittleGain(STOP, record)
    record.append(study_created())
    for trial, value in enumerate(STANDS_STILL):
        record.now_s += 10.0
        for event in (trial_started(trial), epoch(trial, 1, value)):
            record.append(event)
    assert little_gain.is_seen() and not little_gain.is_seen()
    record.now_s += 10.0
    little_gain(Notice(text="something else"))
    assert not little_gain.is_seen()
    little_gain(epoch(0, 1, 0.5))
    assert little_gain.is_seen()
