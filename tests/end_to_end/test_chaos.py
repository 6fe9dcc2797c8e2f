"""A real search is killed at random moments and resumed: nothing is lost, and it ends as an undisturbed one.

In full, in a quarter of an hour: TUNER_CHAOS_KILLS=20 python -m pytest tests/end_to_end/test_chaos.py -s
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.support.chaos import Search, facts, number_of_epochs, table
from tests.support.chaos_kills import plan_kills
from tuner.reports.results import build_results
from tuner.runs.predictions import load_predictions
from tuner.runs.state import RunState

KILLS = int(os.environ.get("TUNER_CHAOS_KILLS", "3"))
SEED = int(os.environ.get("TUNER_CHAOS_SEED", "0"))
TRIALS = 2 + KILLS
SEEDS = 1 + KILLS // 10
SECONDS = 300.0 + 60.0 * KILLS


@pytest.mark.full
def test_a_search_that_is_killed_and_resumed_again_and_again_ends_as_an_undisturbed_one(tmp_path):
    whole = Search(tmp_path / "whole", TRIALS, SEEDS, SEED, SECONDS)
    whole.go([])
    killed = Search(tmp_path / "killed", TRIALS, SEEDS, SEED, SECONDS)
    try:
        killed.go(plan_kills(KILLS, number_of_epochs(whole.state), len(whole.state.finalists), SEED))
    finally:
        print(f"\n{table(killed.kills)}")
    assert len(killed.kills) == KILLS and killed.sessions > 1
    assert not killed.changed
    found = Counter(key for key, _ in facts(killed.run.record))
    assert set(killed.ever) == set(found), "what was reported is there"
    assert set(found.values()) == {1}, "once"
    assert trials_of(killed.state) == trials_of(whole.state)
    assert dict(facts(killed.run.record)) == dict(facts(whole.run.record))
    assert ranking(killed.state) == ranking(whole.state)
    predictions, expected = load_predictions(killed.run.predictions), load_predictions(whole.run.predictions)
    assert predictions is not None and expected is not None
    np.testing.assert_array_equal(predictions.probabilities, expected.probabilities)
    check_files(killed)


def trials_of(state: RunState) -> dict[int, tuple[object, ...]]:
    return {
        trial.number: (trial.configuration, trial.origin, trial.status, trial.reason) for trial in state.trials.values()
    }


def ranking(state: RunState) -> list[tuple[object, ...]]:
    """The leaderboard, the best trial first."""
    return [(row.rank, row.number, row.best, row.status) for row in build_results(state).trials]


def check_files(search: Search) -> None:
    """All that a search leaves is there, and nothing that was half written."""
    for path in (search.run.best_model, search.run.labels, search.report / "index.html"):
        assert path.stat().st_size > 0
    left = [path for path in Path(search.run.path.parent.parent).rglob("*partial*") if "cache" not in path.parts]
    assert not left
