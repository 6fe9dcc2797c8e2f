"""The benchmark of one line: its files are right, and its difference is that of pairs."""

from __future__ import annotations

import math

import pytest

from benchmarks.one_line.__main__ import HERE, Outcome, difference, table
from tuner.session.checks import check_names
from tuner.spec.spec import load_spec, require


def outcome(way: str, seed: int, value: float | None) -> Outcome:
    return Outcome("flowers", way, seed, 5.0, 290.0, 0, value, value, 0.8, 9, True, True)


@pytest.mark.parametrize("name", ["flowers", "hands"])
def test_the_spaces_by_hand_are_right(name: str) -> None:
    reading = load_spec(HERE / f"{name}.yaml")
    require(reading, check_names(reading, {name: "digits"}))


def test_the_difference_is_that_of_pairs_with_its_interval() -> None:
    found = [outcome("one line", seed, 0.9 + 0.01 * seed) for seed in range(5)]
    found += [outcome("by hand", seed, 0.91 + 0.01 * seed + 0.002 * (seed % 2)) for seed in range(5)]
    mean, low, high, number = difference(found, "flowers") or (0.0, 0.0, 0.0, 0)
    assert number == 5 and mean == pytest.approx(-0.0108) and low < mean < high and high - low < 0.01
    assert "reached" in table(found)[-1]


def test_one_pair_shows_nothing_and_a_failed_search_is_no_pair() -> None:
    pair = [outcome("one line", 0, 0.9), outcome("by hand", 0, 0.8), outcome("one line", 1, None)]
    found = difference(pair, "flowers")
    assert found is not None and found[1] == -math.inf and "not shown" in table(pair)[-1]
    assert difference(pair[:1], "flowers") is None
