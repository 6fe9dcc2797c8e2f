"""Plans, suggestions and stops are those of `tests/recorded`, where the reason for each change is kept."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.behaviour import (
    PLANS,
    SEARCH_SPACES,
    SIMULATED_SEARCHES,
    SUGGESTIONS,
    is_same,
    plan_facts,
    recorded,
    simulated_jobs,
)
from tests.support.record_behaviour import write

ANEW = 'if this is meant: python -m tests.support.record_behaviour "REASON"'


@pytest.mark.parametrize("path", SEARCH_SPACES, ids=lambda path: path.stem)
def test_a_search_space_file_has_the_plan_that_was_recorded(path) -> None:
    assert plan_facts(path) == recorded(PLANS).get(path.stem), ANEW


@pytest.mark.parametrize("search", SIMULATED_SEARCHES, ids=lambda search: search.name)
def test_a_simulated_search_makes_the_decisions_that_were_recorded(search) -> None:
    found: list[Any] = json.loads(json.dumps(simulated_jobs(search)))
    before = recorded(SUGGESTIONS).get(search.name, [])
    for number, (now, then) in enumerate(zip(found, before, strict=False)):
        assert is_same(now, then), f"job {number} is {now}, was {then}; {ANEW}"
    assert len(found) == len(before), ANEW


def test_what_was_recorded_is_what_is_compared_and_says_why() -> None:
    assert set(recorded(PLANS)) == {path.stem for path in SEARCH_SPACES}, ANEW
    assert set(recorded(SUGGESTIONS)) == {search.name for search in SIMULATED_SEARCHES}, ANEW
    for path in (PLANS, SUGGESTIONS):
        assert all(len(reason.split()) > 3 for reason in json.loads(path.read_text())["reasons"])


def test_recording_anew_keeps_the_earlier_reasons(tmp_path) -> None:
    path, cases = tmp_path / "new" / "plans.json", {"one": {"trials": 1}, "two": [{"trial": 0}, {"trial": 1}]}
    for reason in ("the first", "the second"):
        write(path, cases, reason)
    assert json.loads(path.read_text()) == {"reasons": ["the first", "the second"], "cases": cases}


@pytest.mark.parametrize("other", [{"rate": 0.1000001}, {"rate": 1}, {"rate": 0.1, "units": 2}, {"units": 0.1}, [0.1]])
def test_the_comparison_sees_another_value_and_another_name(other) -> None:
    assert is_same({"rate": 0.1}, {"rate": 0.1 + 1e-15})
    assert not is_same({"rate": 0.1}, other)
