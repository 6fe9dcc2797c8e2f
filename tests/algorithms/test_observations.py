"""What a model learns from trials that were trained for different numbers of epochs."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from tuner.algorithms._observations import Evidence, Observations, evidence_of, levels_of, most_telling, observe
from tuner.algorithms.tpe import ENDED_BY_ITSELF, FAILED, PAUSED


def made(curve: list[float], state: TrialState = TrialState.PRUNED, number: int = 0, **attributes: Any) -> FrozenTrial:
    """A trial with values from epoch 1 on."""
    trial = create_trial(
        state=state,
        value=(curve[-1] if curve else None) if state == TrialState.COMPLETE else None,
        params={"x": 0.5},
        distributions={"x": FloatDistribution(0, 1)},
        intermediate_values=dict(enumerate(curve, start=1)),
        user_attrs=attributes,
    )
    trial.number = number
    return trial


def shown(trials: list[FrozenTrial]) -> list[Evidence]:
    return [evidence_of(trial) for trial in trials]


def test_levels_are_where_trials_were_stopped_or_wait_and_the_furthest_epoch() -> None:
    trials = shown(
        [
            made([0.1]),
            made([0.1] * 3, TrialState.RUNNING, **{PAUSED: True}),
            made([0.1] * 7, TrialState.COMPLETE, **{ENDED_BY_ITSELF: True}),
            made([0.1] * 9),
            made([0.1] * 20, TrialState.RUNNING),
        ]
    )
    assert levels_of(trials) == [1, 3, 9, 20], "not 7: nobody was compared there"


def test_where_a_trial_failed_nothing_is_compared() -> None:
    failed = made([0.1] * 5, **{FAILED: True})
    trials = shown([made([0.1]), made([0.1] * 4), failed, made([0.1] * 8), made([0.1] * 8)])
    assert levels_of(trials) == [1, 4, 8], "not 5, which is too near to 4 to be a level beside it"
    assert levels_of(shown([failed])) == [] and not evidence_of(failed).was_held


def test_levels_that_are_close_together_become_one() -> None:
    found = levels_of(shown([made([0.1] * length) for length in range(1, 41)]))
    assert found[-1] == 40 and len(found) < 10
    assert all(lower * 1.5 <= upper for lower, upper in itertools.pairwise(found))


def test_a_trial_is_seen_at_every_level_that_it_reached() -> None:
    found = observe(shown([made([0.1]), made([0.2, 0.3, 0.4]), made([0.3])]), mode="max")
    assert list(zip(found.owner.tolist(), found.level.tolist(), strict=True)) == [(0, 0), (1, 0), (1, 1), (2, 0)]
    assert np.isfinite(found.target).all() and found.target.std() == pytest.approx(1.0)


def test_what_epochs_alone_bring_does_not_make_a_trial_better() -> None:
    """Ten trials that all gain the same: at both levels a trial stands where it stood."""
    trials = shown([made([level / 10, level / 10, 2 + level / 10]) for level in range(10)] + [made([0.45])])
    found = observe(trials, mode="max")
    by_level = {(owner, level): target for owner, level, target in zip(*found, strict=True)}
    steps = [by_level[owner, 1] - by_level[owner, 0] for owner in range(10)]
    assert abs(float(np.mean(steps))) < 1e-9


def test_one_that_ended_by_itself_counts_at_the_top_with_what_it_had() -> None:
    ended = made([0.5, 0.6], TrialState.COMPLETE, **{ENDED_BY_ITSELF: True})
    found = observe(shown([ended, made([0.1]), made([0.2] * 9)]), mode="max")
    assert (0, 1) in set(zip(found.owner.tolist(), found.level.tolist(), strict=True))


def test_a_failed_trial_is_worse_than_all() -> None:
    trials = shown([made([0.9]), made([0.01]), made([], **{FAILED: True}), made([0.99], TrialState.FAIL)])
    for mode in ("max", "min"):
        found = observe(trials, mode=mode)
        worst = found.target[np.isin(found.owner, [2, 3])]
        assert worst.max() < found.target[np.isin(found.owner, [0, 1])].min()
    assert [one.has_failed for one in trials] == [False, False, True, True]


def test_smaller_values_are_better_when_the_study_says_so() -> None:
    found = observe(shown([made([0.9]), made([0.1]), made([0.5])]), mode="min")
    assert np.argsort(-found.target).tolist() == [1, 2, 0]


def test_values_that_are_no_numbers_are_passed_over() -> None:
    trial = made([0.1, math.nan, math.inf, 0.4])
    assert evidence_of(trial).curve == {1: 0.1, 4: 0.4}
    assert evidence_of(made([math.inf], TrialState.COMPLETE)).has_failed


def test_a_study_without_reported_epochs_is_one_level() -> None:
    trials = [
        create_trial(value=value, params={"x": value}, distributions={"x": FloatDistribution(0, 1)})
        for value in (0.1, 0.7, 0.4)
    ]
    found = observe(shown(trials), mode="max")
    assert found.level.tolist() == [0, 0, 0] and np.argsort(found.target).tolist() == [0, 2, 1]


def test_what_runs_and_has_shown_nothing_is_told_from_what_waits() -> None:
    runs, waits = made([], TrialState.RUNNING), made([], TrialState.RUNNING, **{PAUSED: True})
    reports, stopped = made([0.1], TrialState.RUNNING), made([])
    assert [one.is_unknown for one in shown([runs, waits, reports, stopped])] == [True, False, False, False]
    assert [one.is_informative for one in shown([runs, waits, reports, stopped])] == [False, False, True, False]


def test_the_best_and_the_furthest_are_kept_and_a_spread_of_the_rest() -> None:
    generator = np.random.default_rng(0)
    level = np.repeat([0, 1, 2], [300, 30, 5])
    observations = Observations(np.arange(335), level, generator.normal(size=335))
    kept = most_telling(observations, 80)
    assert len(kept) <= 80 and len(set(kept.tolist())) == len(kept)
    assert set(range(330, 335)) <= set(kept.tolist())
    assert int(np.argmax(observations.target)) in kept and int(np.argmin(observations.target)) in kept
    assert most_telling(observations, 500).tolist() == list(range(335))
