"""The sampler that compares trials at equal epochs: its rule by hand, and that it finds what random search does not."""

from __future__ import annotations

import math
import statistics

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import FloatDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from tuner.algorithms.samplers import SAMPLERS, SamplerContext
from tuner.algorithms.study import SearchStudy
from tuner.algorithms.tpe import (
    ENDED_BY_ITSELF,
    FAILED,
    EqualEpochTPESampler,
    _values_at,
    _view,
    comparison_epoch,
    value_at,
)
from tuner.spec.space import Choice, Choose, Configuration, Integer, Real, misfits

optuna.logging.set_verbosity(optuna.logging.WARNING)


def frozen(values: dict[int, float], ended: bool = False, failed: bool = False, running: bool = False) -> FrozenTrial:
    state = TrialState.RUNNING if running else TrialState.COMPLETE if ended else TrialState.PRUNED
    return create_trial(
        state=state,
        value=values[max(values)] if ended else None,
        params={"x": 0.5},
        distributions={"x": FloatDistribution(0, 1)},
        intermediate_values=values,
        user_attrs={**({ENDED_BY_ITSELF: True} if ended else {}), **({FAILED: True} if failed else {})},
    )


# --- the value of a trial at an epoch ---


@pytest.mark.parametrize(
    ("trial", "epoch", "expected"),
    [
        (frozen({1: 0.1, 2: 0.2}), 1, 0.1),
        (frozen({1: 0.1, 2: 0.2}), 2, 0.2),
        (frozen({1: 0.1, 2: 0.2}), 3, None),  # it was stopped: nobody knows
        (frozen({1: 0.1, 2: 0.2}, ended=True), 9, 0.2),  # it would not have become better
        (frozen({1: 0.1, 2: 0.2}, running=True), 3, None),
        (frozen({4: 0.4, 8: 0.8}), 2, None),
        (frozen({4: 0.4, 8: 0.8}), 6, 0.4),
        (frozen({}), 1, None),
        (frozen({}, failed=True), 1, None),
    ],
)
def test_a_trial_has_the_value_that_it_had_at_that_epoch(trial, epoch, expected):
    assert value_at(trial, epoch) == expected


# --- the epoch at which trials are compared ---

HALVED = (
    [frozen({1: 0.1}) for _ in range(6)]
    + [frozen({1: 0.1, 4: 0.4})] * 2
    + [frozen({1: 0.1, 4: 0.4, 16: 0.6}, ended=True)]
)


@pytest.mark.parametrize(
    ("trials", "needed", "expected"),
    [
        (HALVED, 1, 16),
        (HALVED, 2, 4),
        (HALVED, 3, 4),
        (HALVED, 4, 1),
        (HALVED, 9, 1),
        (HALVED, 10, None),
        ([], 1, None),
        ([frozen({})] * 5, 1, None),
        # two that came to their own end early count at the epochs that others reached
        ([frozen({1: 0.1, 2: 0.2}, ended=True)] * 2 + [frozen({1: 0.1, 2: 0.2, 9: 0.9})], 3, 9),
    ],
)
def test_the_comparison_is_at_the_largest_epoch_that_enough_trials_reached(trials, needed, expected):
    assert comparison_epoch(trials, needed) == expected


CURVES = st.builds(
    lambda length, ended: frozen({epoch: epoch / 10 for epoch in range(1, length + 1)}, ended=ended and length > 0),
    st.integers(0, 8),
    st.booleans(),
)


@given(st.lists(CURVES, max_size=12), st.integers(1, 6))
def test_no_later_epoch_would_have_had_enough_trials(trials, needed):
    epoch = comparison_epoch(trials, needed)

    def number(at: int) -> int:
        return sum(value_at(trial, at) is not None for trial in trials)

    if epoch is not None:
        assert number(epoch) >= needed
    lasts = {max(trial.intermediate_values) for trial in trials if trial.intermediate_values}
    assert all(number(later) < needed for later in lasts if epoch is None or later > epoch)


# --- the study as the sampler sees it ---


@pytest.mark.parametrize(("direction", "sign"), [("maximize", 1), ("minimize", -1)])
def test_at_one_epoch_failed_trials_and_those_stopped_before_are_below_all_that_were_compared(direction, sign):
    trials = [
        frozen({1: 0.1, 2: 0.1, 3: 0.9}, ended=True),
        frozen({1: 0.3, 2: 0.4}),
        frozen({1: 0.9}),  # stopped before, whatever it showed
        frozen({1: 0.5, 2: 0.99}, failed=True),
        frozen({}, failed=True),
        frozen({}),  # nothing is known of it
        frozen({1: 0.2}, running=True),
    ]
    values = _values_at(trials, 2)
    assert values == [0.1, 0.4, None, None, None, None, None]
    view = _view(optuna.create_study(direction=direction), trials, values)
    seen = view.get_trials()
    assert [trial.state.name for trial in seen] == ["COMPLETE"] * 5 + ["FAIL", "RUNNING"]
    assert [trial.value for trial in seen[:2]] == [0.1, 0.4]
    assert all(sign * trial.value < sign * compared for trial in seen[2:5] for compared in (0.1, 0.4))
    assert view.direction == StudyDirection[direction.upper()]
    assert [trial.number for trial in seen] == list(range(7))


def test_before_enough_trials_have_values_none_is_compared():
    trials = [frozen({1: 0.1}), frozen({}, failed=True), frozen({1: 0.1}, running=True)]
    view = _view(optuna.create_study(), trials, _values_at(trials, None))
    assert [trial.state.name for trial in view.get_trials()] == ["FAIL", "FAIL", "RUNNING"]


# --- searching ---

CONDITIONAL = {
    "rate": Real(1e-5, 1.0, log=True),
    "momentum": Real(0.0, 1.0),
    "decay": Real(0.0, 1.0),
    "architecture": Choose(
        {
            "good": {"width": Integer(1, 64), "norm": Choice((True, False))},
            "poor": {"depth": Integer(1, 64), "drop": Real(0.0, 1.0)},
        }
    ),
}
EPOCHS = (1, 4, 16)


def quality(configuration: Configuration) -> float:
    """Best, 1.0, at a rate of 1e-3, momentum 0.8, decay 0.3, the good architecture, width 48, with norm."""
    distance = abs(math.log10(float(configuration["rate"])) + 3) / 5
    distance += abs(float(configuration["momentum"]) - 0.8) + abs(float(configuration["decay"]) - 0.3)
    if configuration["architecture"] == "poor":
        return 0.3 - distance - 0.2 * float(configuration["drop"])
    return 1.0 - distance - abs(int(configuration["width"]) - 48) / 64 - (0 if configuration["norm"] else 0.2)


def halving_search(name: str, seed: int, trials: int = 60) -> tuple[float, list[Configuration]]:
    """The best quality of a search in which only the best third goes on at each rung, as in ASHA."""
    study = SearchStudy(CONDITIONAL, SAMPLERS[name].build(SamplerContext(seed)), "max")
    shown: dict[int, list[float]] = {epoch: [] for epoch in EPOCHS}
    tried = []
    for _ in range(trials):
        suggestion = study.suggest()
        tried.append(suggestion.configuration)
        status = "completed"
        for epoch in EPOCHS:
            value = quality(suggestion.configuration) - 1 / epoch  # more training is better, whatever is trained
            study.observe(suggestion.number, epoch, value)
            shown[epoch].append(value)
            if value < sorted(shown[epoch], reverse=True)[(len(shown[epoch]) - 1) // 3]:
                status = "stopped"
                break
        study.finish(suggestion.number, status)
    return max(quality(configuration) for configuration in tried), tried


def test_the_sampler_finds_better_configurations_than_random_search_when_most_trials_are_stopped_early():
    best: dict[str, float] = {}
    late: dict[str, float] = {}
    for name in ("random", "tpe"):
        found = [halving_search(name, seed) for seed in range(5)]
        best[name] = statistics.mean(value for value, _ in found)
        late[name] = statistics.mean(quality(point) for _, tried in found for point in tried[40:])
    assert best["tpe"] > best["random"] + 0.1
    assert late["tpe"] > late["random"] + 0.4, "and most of what it proposes is good"


def test_the_sampler_does_not_copy_the_first_trial_that_was_trained_long():
    # The first trial is poor, and the only one with a value at epoch 16, higher than any at epoch 1.
    study = SearchStudy({"x": Real(0.0, 1.0)}, EqualEpochTPESampler(seed=0), "max")
    proposed = []
    for number in range(40):
        suggestion = study.suggest()
        x = float(suggestion.configuration["x"])
        proposed.append(x)
        last = 16 if number == 0 else 1
        for epoch in range(1, last + 1):
            study.observe(suggestion.number, epoch, x + epoch)
        study.finish(suggestion.number, "stopped")
    assert statistics.mean(proposed[20:]) > 0.7


def test_the_sampler_leaves_a_region_in_which_trials_fail():
    study = SearchStudy({"x": Real(0.0, 1.0)}, EqualEpochTPESampler(seed=0), "max")
    proposed = []
    for _ in range(40):
        suggestion = study.suggest()
        x = float(suggestion.configuration["x"])
        proposed.append(x)
        if x < 0.5:
            study.finish(suggestion.number, "failed")
            continue
        study.observe(suggestion.number, 1, 0.5)  # all others are alike
        study.finish(suggestion.number, "completed")
    assert statistics.mean(x < 0.5 for x in proposed[20:]) < 0.3


def test_a_suggestion_depends_on_the_trials_and_the_seed_and_nothing_else():
    _, first = halving_search("tpe", 1, trials=25)
    _, again = halving_search("tpe", 1, trials=25)
    _, other = halving_search("tpe", 2, trials=25)
    assert first == again != other


def test_running_trials_keep_others_away():
    study = SearchStudy(CONDITIONAL, EqualEpochTPESampler(seed=0, random_fraction=0.0), "max")
    for _ in range(15):
        suggestion = study.suggest()
        study.observe(suggestion.number, 1, quality(suggestion.configuration))
        study.finish(suggestion.number, "completed")
    together = [study.suggest().configuration for _ in range(6)]
    assert all(misfits(CONDITIONAL, configuration) == [] for configuration in together)
    assert len({repr(configuration) for configuration in together}) == 6
