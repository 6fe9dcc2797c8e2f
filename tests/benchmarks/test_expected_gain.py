"""The benchmark of expected gains: states at a moment, what counts as inside, and where a search would have ended."""

from __future__ import annotations

import pytest

from benchmarks.expected_gain.__main__ import (
    LCBENCH_CHOOSING,
    Row,
    Stop,
    Wanted,
    Watching,
    best_value,
    fit,
    run,
    searches,
    stop_table,
    table,
)
from benchmarks.search_quality.policies import POLICIES
from benchmarks.search_quality.simulator import simulate
from benchmarks.search_quality.synthetic import HELD_OUT, Synthetic
from tuner.runs.expected_gain import ExpectedGain, Signs

WANTED = Wanted("synthetic", 0, 0.01, "random + asha(1,3)", 2, 0, 3.0)


def row(gain: ExpectedGain, came: float) -> Row:
    return Row(WANTED, 0.25, 1.0, Signs(0.25, 0.1, 0.1, 1.0), gain, came, came)


def test_the_state_at_a_moment_is_that_of_the_simulation():
    problem = Synthetic(0)
    watching = Watching(POLICIES[WANTED.policy](problem, 2, 0))
    total_s = 3 * problem.full_training_s / 2
    search = simulate(problem, watching, 2, total_s, 0)
    assert len(watching.began_s) == search.trials and sum(map(len, watching.epochs.values())) == search.epochs
    for step in search.steps:
        state = watching.state_at(step.seconds)
        best = state.best_trial()
        assert best is not None and best.epochs[-1].elapsed_s == pytest.approx(step.seconds)
    for moment_s in (0.3 * total_s, total_s):
        assert len(watching.state_at(moment_s).trials) == search.trials_at(moment_s)
    assert best_value(watching.state_at(0.0)) < 0


def test_a_search_is_asked_and_the_tables_say_what_came():
    came = run(WANTED)
    assert came.rows and all(one.came >= 0 and one.gain.low <= one.gain.high for one in came.rows)
    assert set(fit(came.rows)) == {"RATE", "RATE_POWER", "SCALE_POWER", "LATELY", "APART", "SHORTER"}
    assert any(line.startswith(f"| policy {WANTED.policy} | {len(came.rows)} | ") for line in table(came.rows))


@pytest.mark.parametrize(
    ("gain", "came", "is_held"),
    [
        (ExpectedGain(0.1, 0.0, 0.2), 0.0, True),
        (ExpectedGain(0.1, 0.0, 0.2), 0.2, True),
        (ExpectedGain(0.1, 0.0, 0.2), 0.21, False),
        (ExpectedGain(0.1, 0.05, 0.2), 0.0, False),
        (ExpectedGain(0.0, 0.0, 0.0), 0.0, True),
    ],
)
def test_a_gain_is_inside_an_interval_with_its_ends(gain, came, is_held):
    assert row(gain, came).is_held is is_held
    assert table([row(gain, came)])[2].startswith(f"| all | 1 | {'100%' if is_held else '0%'} |")


def test_what_would_have_ended_is_told_with_what_it_would_have_missed():
    lines = stop_table([Stop(0.005, 0.5, 0.001, 0.01), Stop(0.005, 0.7, 0.003, 0.03)], 4)
    assert lines[2] == "| 0.005 of the range | 2 of 4 | 0.6000 | 0.0020 | 0.0200 |"
    assert lines[3].startswith("| 0.02 of the range | 0 of 4 |")


def test_nothing_is_judged_on_what_it_was_chosen_on():
    chosen, judged = (
        {(one.family, one.number) for one in searches(suite, ["random"], 1, 20.0)} for suite in ("choosing", "judging")
    )
    assert not chosen & judged and {number for family, number in judged if family == "held_out"} == set(HELD_OUT)
    assert {number for family, number in chosen if family == "lcbench"} == set(range(LCBENCH_CHOOSING))
