"""The pure parts of schedulers: what a population may change, and where its changes end."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.told import told
from tuner.algorithms._ray_schedulers import PromotingScheduler
from tuner.algorithms.halving import Halving
from tuner.algorithms.samplers import SAMPLERS
from tuner.algorithms.schedulers import (
    MUTABLE,
    SCHEDULERS,
    SchedulerContext,
    clip_to_space,
    mutable_dimensions,
    numeric,
)
from tuner.models.parameters import GENERAL
from tuner.spec.space import Choice, Choose, Integer, Real

SPACE = {
    "preprocess": Choice(("a", "b")),
    "augment": Choice(("none", "flip")),
    "batch_size": Integer(32, 128, 32),
    "learning_rate": Real(1e-4, 1e-2, log=True),
    "weight_decay": Real(0.1, 0.1),
    "label_smoothing": Choice((0.1,)),
    "architecture": Choose({"cnn": {"filters": Choice((8, 16))}}),
}


def test_a_population_changes_what_leaves_the_weights_usable_and_a_choice():
    strengths = {"augment.shift": Integer(0, 4), "augment.flip": Choice((True,)), "augment.rotate": Real(0, 9)}
    one = mutable_dimensions({"augment": Choose({"own": strengths})})
    assert list(one) == ["augment.shift", "augment.rotate"]
    assert mutable_dimensions({"augment": Choose({"none": {}, "own": strengths})}) == {}
    assert mutable_dimensions(SPACE) == {name: SPACE[name] for name in ("learning_rate", "batch_size", "augment")}
    assert mutable_dimensions({"architecture": SPACE["architecture"]}) == {}


def test_what_a_population_may_change_are_hyperparameters_that_every_architecture_has():
    assert set(MUTABLE) <= set(GENERAL)
    assert not {"preprocess", "optimizer"} & set(MUTABLE), "the weights and the optimizer's state would not fit"


def test_ranges_of_numbers_are_told_from_choices():
    assert set(numeric(SPACE)) == {"batch_size", "learning_rate", "weight_decay"}


@pytest.mark.parametrize(
    ("dimension", "value", "expected"),
    [
        (Real(1e-4, 1e-2), 0.012, 1e-2),
        (Real(1e-4, 1e-2), 0.00008, 1e-4),
        (Real(1e-4, 1e-2), 0.005, 0.005),
        (Integer(32, 128, 32), 76.8, 64),  # 64 x 1.2
        (Integer(32, 128, 32), 153.6, 128),
        (Integer(32, 128, 32), 25.6, 32),
        (Integer(1, 9), 2.4, 2),
        (Integer(1, 100, log=True), 0.8, 1),
    ],
)
def test_a_perturbed_number_goes_back_to_the_nearest_in_the_space(dimension, value, expected):
    clipped = clip_to_space({"x": value, "other": "kept"}, {"x": dimension})
    assert clipped == {"x": expected, "other": "kept"}
    assert type(clipped["x"]) is type(expected) and dimension.contains(clipped["x"])


@given(
    st.integers(-100, 100),
    st.integers(0, 20),
    st.integers(1, 9),
    st.floats(-1e4, 1e4),
    st.floats(-1, 1),
    st.floats(0, 9),
)
def test_whatever_a_population_makes_of_a_number_ends_in_the_space(low, steps, step, value, real_low, width):
    mutable = {"whole": Integer(low, low + steps * step, step), "real": Real(real_low, real_low + width)}
    config = {"whole": value, "real": value, "word": "none"}
    clipped = clip_to_space(config, {**mutable, "word": Choice(("none", "flip"))})
    assert all(dimension.contains(clipped[name]) for name, dimension in mutable.items())
    assert clipped["word"] == "none" and config["whole"] == value, "what was given is not changed"


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_scheduler_says_what_it_does_and_goes_with_a_sampler_that_there_is(name):
    entry = SCHEDULERS[name]
    assert entry.description and entry.description[-1] != "."
    assert entry.sampler is None or entry.sampler in SAMPLERS
    assert not (entry.is_population and entry.halves)


class FakeTrial:
    """What the scheduler looks at of a trial of Ray's."""

    PENDING = "PENDING"

    def __init__(self, number: int, status: str = "RUNNING", origin: str = "sampler") -> None:
        self.trial_id, self.status = f"t{number}", status
        self.config = {"trial": number, "origin": origin}

    def should_recover(self) -> bool:
        return False


def test_the_promoting_scheduler_stops_what_waits_and_lets_the_rest_go_on():
    halving = Halving((1, 3), 3, mode="max")
    scheduler = PromotingScheduler(halving)
    results = [told(1, best) for best in (0.1, 0.2, 0.9)]
    decisions = [scheduler.on_trial_result(None, FakeTrial(number), one) for number, one in enumerate(results)]
    assert decisions == ["STOP", "STOP", "CONTINUE"]
    word_of_the_cache = told(1, 0.0, shown=None)
    assert scheduler.on_trial_result(None, FakeTrial(7), word_of_the_cache) == "CONTINUE"
    scheduler.on_trial_complete(None, FakeTrial(0), results[0])
    assert halving.paused == {0, 1}, "to wait is no end"
    scheduler.on_trial_error(None, FakeTrial(1))
    assert halving.paused == {0} and "1 trials are paused" in scheduler.debug_string()


def test_what_the_prior_proposes_does_not_wait_at_the_first_rungs_even_after_a_resume():
    scheduler = PromotingScheduler(Halving((1, 3), 2, mode="max", excused_epochs=2))
    for number, origin in enumerate(("prior", "sampler", "portfolio")):
        scheduler.on_trial_add(None, FakeTrial(number, origin=origin))
    scheduler.on_trial_add(None, FakeTrial(0, origin="queued"))
    results = [told(1, best) for best in (0.1, 0.2, 0.15)]
    decisions = [scheduler.on_trial_result(None, FakeTrial(number), one) for number, one in enumerate(results)]
    assert decisions == ["CONTINUE", "CONTINUE", "STOP"], "the second is the better one of two"
    assert scheduler.on_trial_result(None, FakeTrial(0), told(3, 0.1)) == "STOP"


def test_no_trial_is_promoted_while_ray_still_saves_it():
    halving = Halving((1, 3), 2, mode="max")
    scheduler = PromotingScheduler(halving)
    results = [told(1, best) for best in (0.9, 0.1)]
    for number, result in enumerate(results):
        assert scheduler.on_trial_result(None, FakeTrial(number), result) == "STOP"
    scheduler.on_trial_complete(None, FakeTrial(1), results[1])
    assert halving.promotable() is None
    scheduler.on_trial_complete(None, FakeTrial(0), results[0])
    assert halving.promotable() == 0


def test_a_trial_that_failed_at_a_rung_keeps_no_place_there():
    halving = Halving((1, 3), 2, mode="max")
    scheduler = PromotingScheduler(halving)
    scheduler.on_trial_complete(None, FakeTrial(0), {"ended_status": "failed", "best_so_far": 0.9, "epoch": 0})
    assert not halving.arrive(1, 1, 0.1) or halving.promotable() is None
    assert halving.arrive(2, 1, 0.05) and halving.promotable() == 1


CONTROLLER = SimpleNamespace(get_live_trials=list)


def decide(rule: Any, number: int, epochs: range, shown: dict[int, dict[int, float]], signs: int = 0) -> list[str]:
    """What a rule decides after each epoch of a trial until it stops it, given signs of life in between."""
    found = []
    rule.on_trial_add(CONTROLLER, FakeTrial(number))
    for epoch in epochs:
        best = (number * 3 % 10) / 10 + epoch / 100
        shown.setdefault(number, {})[epoch] = best
        for _ in range(signs):
            assert rule.on_trial_result(CONTROLLER, FakeTrial(number), told(epoch - 1, best, shown=None)) == "CONTINUE"
        found.append(rule.on_trial_result(CONTROLLER, FakeTrial(number), told(epoch, best)))
        if found[-1] == "STOP":
            break
    return found


def rule_of(name: str, shown: dict[int, dict[int, float]]) -> Any:
    return SCHEDULERS[name].build(SchedulerContext("max", 9, 1, 3, {}, shown=shown))


@pytest.mark.parametrize("name", ["asha_stopping", "median"])
def test_a_rule_that_stops_trials_decides_after_a_resume_as_it_would_have_without(name):
    lived, shown = rule_of(name, {}), dict[int, dict[int, float]]()
    for number in range(6):
        decide(lived, number, range(1, 9), shown)
    decide(lived, 6, range(1, 3), shown)
    resumed = rule_of(name, {number: dict(best_by_epoch) for number, best_by_epoch in shown.items()})
    rest = [(6, range(3, 9)), *((number, range(1, 9)) for number in (9, 7, 8, 10, 11))]
    whole = [decide(lived, *one, shown) for one in rest]
    assert [decide(resumed, *one, shown) for one in rest] == whole
    assert ["STOP"] in whole and any(one[-1] == "CONTINUE" for one in whole)


@pytest.mark.parametrize("name", ["asha_stopping", "median"])
def test_signs_of_life_change_nothing_of_what_a_rule_decides(name):
    quiet, lively = rule_of(name, {}), rule_of(name, {})
    whole = [decide(quiet, number, range(1, 9), {}) for number in range(12)]
    assert [decide(lively, number, range(1, 9), {}, signs=number % 4) for number in range(12)] == whole


def test_the_promoting_scheduler_needs_its_rungs():
    with pytest.raises(ValueError, match="halving must be given"):
        SCHEDULERS["asha"].build(SchedulerContext("max", 9, 1, 3, {}))
