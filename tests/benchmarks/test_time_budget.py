"""The benchmark of time budgets: its parts add up, and its table says which searches kept what they promised."""

from __future__ import annotations

import pytest

from benchmarks.time_budget.__main__ import CASES, Outcome, outcome_of, table
from tests.support.make_record import epoch, session_started, small_state, trial_started
from tuner.runs.events import FinalistsStarted, FinalistTrained, Notice, SessionEnded
from tuner.spec.spec import load_spec, require


def outcome(total_s: float, *, report: bool = True, trained: bool = True, status: int = 0) -> Outcome:
    case = next(case for case in CASES if case.name == "hands, 3 min")
    events = [
        session_started(elapsed_s=20.0),
        trial_started(0, elapsed_s=21.0),
        epoch(0, 1, 0.5, elapsed_s=100.0),
        FinalistsStarted(trials=[0], trainings=1, elapsed_s=110.0),
    ]
    ended = FinalistTrained(
        trial=0, number=0, status="completed", reason="max_epochs", epochs=1, best=0.5, seconds=1, elapsed_s=140.0
    )
    events += [ended] if trained else []
    events += [Notice(text="left out for the time budget: 2 more", elapsed_s=150.0)]
    state = small_state(*events, SessionEnded(reason="time_budget", elapsed_s=155.0))
    return outcome_of("quiet", case, total_s, status, state, has_report=report, has_model=True)


def test_the_parts_of_a_search_add_up_to_its_total():
    one = outcome(170.0)
    parts = (one.preparation_s, one.trials_s, one.finalists_s, one.test_s, one.closing_s)
    assert parts == (20.0, 90.0, 30.0, 15.0, 15.0) and sum(parts) == one.total_s
    assert one.left_out.endswith("2 more") and (one.finalists, one.trainings, one.tested) == (1, 1, 0)


@pytest.mark.parametrize(
    ("one", "kept"),
    [
        (outcome(190.0), True),
        (outcome(190.1), False),
        (outcome(170.0, report=False), False),
        (outcome(170.0, trained=False), False),
        (outcome(170.0, status=1), False),
    ],
)
def test_a_promise_is_kept_with_time_report_model_and_finalists(one, kept):
    assert one.is_kept is kept
    assert table([one])[-1] == f"{int(kept)} of 1 searches kept what they promised."


def test_its_files_are_right_and_its_budgets_are_of_2_to_10_minutes():
    assert len(CASES) == 8 and {2, 10} <= {case.minutes for case in CASES} <= set(range(2, 11))
    for file in {case.file for case in CASES}:
        require(load_spec(file, ()), [])
