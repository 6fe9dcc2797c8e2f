"""Shares of the figure "What mattered" against planted ones, as `benchmarks.importance` makes them up."""

from __future__ import annotations

import pytest

from benchmarks.importance.__main__ import PROBLEMS, judge, study


@pytest.mark.parametrize("name", ["one architecture", "additive, rungs", "conditional", "interacting"])
def test_planted_shares_are_found(name) -> None:
    problem = PROBLEMS[name]
    found = study(problem, 60, 0)
    shares = {item.name: item.share for item in found.items}
    assert all(abs(share - problem.truth.get(one, 0.0)) < 0.2 for one, share in shares.items()), "one study alone"
    assert shares.keys() >= problem.truth.keys() and found.epoch == 1


@pytest.mark.parametrize("trials", [20, 60])
def test_noise_shows_no_bar(trials) -> None:
    assert not study(PROBLEMS["noise"], trials, 0).items


PLANTED = [name for name in PROBLEMS if PROBLEMS[name].truth and name != "half noise"]
LARGER = ("additive", "conditional", "interacting")
"""Of the three kinds of truth, one each is seen to be found better with more trials, which take twice as long."""


@pytest.mark.full
@pytest.mark.parametrize(("name", "trials"), [*((name, 60) for name in PLANTED), *((name, 120) for name in LARGER)])
def test_shares_are_within_a_tenth_of_the_truth_in_the_mean_and_in_the_median_study(name, trials) -> None:
    outcome = judge(PROBLEMS[name], trials, 8)
    assert outcome.told > 0.8 and outcome.bias < 0.1 and outcome.error < (0.1 if trials > 60 else 0.15)


@pytest.mark.full
@pytest.mark.parametrize("trials", [20, 40])
def test_at_most_one_study_of_pure_noise_in_twenty_shows_a_bar(trials) -> None:
    outcome = judge(PROBLEMS["noise"], trials, 40)
    assert outcome.false <= 0.05
