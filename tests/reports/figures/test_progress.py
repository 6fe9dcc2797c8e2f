"""The best so far as data."""

from __future__ import annotations

from tests.support.make_record import make_state
from tuner.reports.figures.progress import build_best_so_far
from tuner.reports.results import build_results


def test_the_best_so_far_ends_at_the_winner_and_shows_every_trial():
    results = build_results(make_state(30))
    data = build_best_so_far(results)
    assert data.points[-1].best == results.winner.best
    assert {outcome.trial for outcome in data.outcomes} == {trial.number for trial in results.trials}
    assert data.baseline.value == results.baseline.best
    assert (data.elapsed_s, data.epochs) == (results.elapsed_s, results.total_epochs)
    assert max(outcome.epochs for outcome in data.outcomes) <= data.epochs
