"""95% intervals of finalists hold the truth as often as they say, whatever images and seeds add."""

from __future__ import annotations

import itertools

import pytest

from benchmarks.intervals import Case, simulate, simulate_folds, simulate_selection

FEW = [
    Case(360, 2, 0.0), Case(360, 2, 0.03, kind="same"), Case(360, 3, 0.01), Case(360, 5, 0.003, kind="own"),
    Case(10_000, 2, 0.01, kind="same"), Case(10_000, 3, 0.003),
]  # fmt: skip
ALL = [
    Case(images, seeds, deviation, accuracy, kind)
    for images, seeds, accuracy, kind in itertools.product(
        (360, 10_000), (2, 3, 5), (0.75, 0.95), ("same", "mixed", "own")
    )
    for deviation in (0.0, 0.003, 0.01, 0.02)
]


@pytest.mark.parametrize("case", FEW, ids=str)
def test_intervals_hold_in_a_short_simulation(case: Case) -> None:
    held = simulate(case, 200)
    assert all(0.895 <= share <= 1.0 for share in held), held  # 93 to 98%, and 2.3 standard errors of 200 draws


@pytest.mark.full
@pytest.mark.parametrize(("images", "repetitions"), [(360, 200), (10_000, 60)])
def test_intervals_hold_between_93_and_98_of_100(images: int, repetitions: int) -> None:
    """Each case within 2.6 standard errors of the range, and the mean of all cases inside it."""
    cases = [case for case in ALL if case.images == images]
    shares = [share for case in cases for share in simulate(case, repetitions)]
    error = 2.6 * (0.95 * 0.05 / repetitions) ** 0.5
    outside = [share for share in shares if not 0.93 - error <= share <= 0.98 + error]
    assert len(outside) <= 0.02 * len(shares), outside
    assert 0.94 <= sum(shares) / len(shares) <= 0.98


@pytest.mark.full
def test_a_finalist_that_varies_three_times_as_much_from_seed_to_seed_does_not_spoil_the_difference() -> None:
    for seeds in (2, 3, 5):
        assert 0.92 <= simulate(Case(360, seeds, 0.01, ratio=3.0), 1000).difference <= 0.99


@pytest.mark.parametrize("spread", [0.0, 0.03])
def test_the_interval_of_the_best_of_many_trials_holds(spread: float) -> None:
    assert simulate_selection(24, 300, spread, 150) >= 0.93


@pytest.mark.parametrize(("images", "features", "folds"), [(200, 10, 3), (200, 10, 5), (100, 30, 5)])
def test_intervals_over_folds_hold_where_those_of_independent_values_would_not(images, features, folds) -> None:
    held = simulate_folds(images, features, folds, 300)
    assert 0.93 <= held.with_addition <= 1.0 and held.without < held.with_addition, held
