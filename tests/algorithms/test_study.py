"""The Optuna study is told the truth, and a study rebuilt from a record is the one that was lived."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, TrialState

from tests.support.make_record import epoch as reported
from tests.support.make_record import study_created, trial_ended, trial_started
from tuner.algorithms.samplers import SAMPLERS, IndependentRandomSampler, SamplerContext
from tuner.algorithms.study import Queued, SearchStudy, Suggestion
from tuner.algorithms.tpe import CUT, ENDED_BY_ITSELF, FAILED
from tuner.runs.events import Event
from tuner.runs.record import replay
from tuner.runs.state import RunState
from tuner.spec.space import Choice, Choose, Integer, Real, Space, misfits, sample

SPACE = {
    "learning_rate": Real(1e-4, 1e-1, log=True),
    "batch_size": Choice((32, 64)),
    "architecture": Choose(
        {"cnn": {"blocks": Integer(1, 3), "dropout": Real(0.0, 0.5)}, "dense": {"units": Integer(8, 64, 8)}}
    ),
}
BASELINE = {"learning_rate": 0.001, "batch_size": 32, "architecture": "dense", "units": 16}
STATUSES = ("completed", "stopped", "stopped", "completed", "failed")


def make(
    sampler: str = "random",
    mode: str = "max",
    queue: list[Queued] | None = None,
    space: Space = SPACE,
    **more: Any,
) -> SearchStudy:
    return SearchStudy(space, SAMPLERS[sampler].build(SamplerContext(0)), mode, queue or [], **more)


def trial(study: SearchStudy, number: int = -1) -> FrozenTrial:
    return study.optuna_study.get_trials()[number]


# --- what Optuna is told ---


def test_a_trial_that_ended_by_itself_is_complete_with_its_best_and_every_epoch():
    study = make()
    number = study.suggest().number
    for epoch, best in ((1, 0.2), (2, 0.5), (3, 0.5)):
        study.observe(number, epoch, best)
    study.finish(number, "completed")
    assert trial(study).state == TrialState.COMPLETE and trial(study).value == 0.5
    assert trial(study).intermediate_values == {1: 0.2, 2: 0.5, 3: 0.5}
    assert trial(study).user_attrs == {ENDED_BY_ITSELF: True}


def test_a_stopped_trial_is_pruned_with_every_value_that_it_showed():
    study = make()
    number = study.suggest().number
    study.observe(number, 1, 0.2)
    study.observe(number, 2, 0.3)
    study.finish(number, "stopped")
    assert trial(study).state == TrialState.PRUNED and trial(study).intermediate_values == {1: 0.2, 2: 0.3}
    assert trial(study).user_attrs == {}


def test_a_failed_trial_is_marked_and_keeps_what_it_showed():
    study = make()
    number = study.suggest().number
    study.observe(number, 1, 0.9)
    study.finish(number, "failed")
    assert trial(study).state == TrialState.PRUNED and trial(study).intermediate_values == {1: 0.9}
    assert trial(study).user_attrs == {FAILED: True}


def test_a_trial_that_ended_before_its_first_epoch_says_nothing():
    study = make()
    study.finish(study.suggest().number, "completed")
    assert trial(study).state == TrialState.PRUNED and trial(study).intermediate_values == {}
    assert trial(study).user_attrs == {}


@pytest.mark.parametrize(("mode", "best"), [("max", 0.8), ("min", 0.3)])
def test_the_direction_is_that_of_the_metric(mode, best):
    study = make(mode=mode)
    for value in (0.3, 0.8, 0.5):
        number = study.suggest().number
        study.observe(number, 1, value)
        study.finish(number, "completed")
    assert study.optuna_study.best_value == best


def test_parameters_are_told_by_their_qualified_names():
    study = make(queue=[Queued(BASELINE, "baseline")])
    study.suggest()
    assert trial(study).params == {
        "learning_rate": 0.001, "batch_size": 32, "architecture": "dense", "architecture.dense.units": 16,
    }  # fmt: skip


STRENGTHS = {
    **SPACE,
    "augment": Choose(
        {
            "none": {},
            "weak": {"augment.flip": Choice((True,)), "augment.shift": Choice((2,))},
            "strong": {"augment.rotate": Real(0, 30), "augment.shift": Integer(0, 4)},
        }
    ),
}


def test_strengths_are_numbers_to_a_sampler_and_what_a_branch_fixes_is_known_by_the_branch():
    weak = {**BASELINE, "augment": "weak", "augment.flip": True, "augment.shift": 2}
    strong = {**BASELINE, "augment": "strong", "augment.rotate": 7.5, "augment.shift": 0}
    study = make(queue=[Queued(one, "baseline") for one in (weak, strong)], space=STRENGTHS)
    assert [study.suggest().configuration for _ in range(2)] == [weak, strong]
    told = [{name: value for name, value in trial(study, number).params.items() if "aug" in name} for number in (0, 1)]
    assert told == [
        {"augment": "weak"},
        {"augment": "strong", "augment.strong.rotate": 7.5, "augment.strong.shift": 0},
    ]
    assert isinstance(trial(study).distributions["augment.strong.rotate"], FloatDistribution)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_study_of_strengths_is_rebuilt_and_goes_on_as_it_would_have(sampler):
    life = Life(sampler, space=STRENGTHS).run(24)
    rebuilt = life.rebuilt(sampler)
    assert facts(rebuilt) == facts(life.study)
    assert [rebuilt.suggest() for _ in range(3)] == [life.study.suggest() for _ in range(3)]
    assert all(misfits(STRENGTHS, one.configuration) == [] for one in life.state().trials.values())


# --- what is suggested ---


def test_the_queue_comes_first_and_keeps_its_origins():
    other = {**BASELINE, "units": 64}
    study = make(queue=[Queued(BASELINE, "baseline"), Queued(other, "grid")])
    assert study.suggest() == Suggestion(0, BASELINE, "baseline")
    assert study.suggest() == Suggestion(1, other, "grid")
    assert study.suggest().origin == "sampler"


def test_a_grid_ends_with_its_queue():
    study = make(queue=[Queued(BASELINE, "grid")], sampler_may_propose=False)
    assert study.suggest() is not None
    assert study.suggest() is None and study.suggest() is None
    assert len(study.optuna_study.trials) == 1


def test_a_suggestion_is_a_copy():
    study = make(queue=[Queued(BASELINE, "baseline")])
    study.suggest().configuration["units"] = 0
    assert BASELINE["units"] == 16


def test_numbers_are_counted_from_0_without_gaps():
    study = make(queue=[Queued(BASELINE, "baseline")])
    assert [study.suggest().number for _ in range(4)] == [0, 1, 2, 3]


# --- no configuration twice ---

BRANCHES = Choose({"linear": {}, "dense": {"units": Choice((8, 16))}})
FEW: dict[str, tuple[dict[str, Any], int | float]] = {
    "one point": ({"rate": Choice((0.1,))}, 1),
    "two of one choice": ({"rate": Choice((0.1, 0.2)), "size": Integer(4, 4)}, 2),
    "a float that is a point": ({"rate": Real(0.1, 0.1), "size": Integer(1, 3)}, 3),
    "steps": ({"size": Integer(8, 64, 8)}, 8),
    "log steps": ({"size": Integer(1, 6, log=True)}, 6),
    "nothing as a value": ({"augment": Choice(("none", None, False)), "size": Integer(1, 2)}, 6),
    "branches of different size": ({"architecture": BRANCHES, "batch": Choice((1, 2, 3))}, 9),
    "a branch without a choice": (
        {"architecture": Choose({"linear": {}, "dense": {"dropout": Real(0.0, 0.5)}})},
        math.inf,
    ),
}
"""Spaces by what is small in them, and the number of their configurations."""


def suggested(study: SearchStudy, most: int, paused: bool = False) -> list[dict[str, Any]]:
    """Ask for trials until there are no more, each the better the larger its values are."""
    found: list[dict[str, Any]] = []
    while len(found) < most and (suggestion := study.suggest()) is not None:
        found.append(suggestion.configuration)
        numbers = [value for value in suggestion.configuration.values() if isinstance(value, int | float)]
        study.observe(suggestion.number, 1, float(sum(numbers)), {"seconds": 1.0})
        if not paused:
            study.finish(suggestion.number, "completed")
    return found


@pytest.mark.parametrize(
    ("sampler", "name"),
    [(one, name) for one in SAMPLERS for name in FEW if FEW[name][1] < math.inf or not SAMPLERS[one].tries_all],
)
def test_each_configuration_of_a_small_space_is_suggested_once_and_then_none(sampler, name):
    space, size = FEW[name]
    for paused in (False, True):
        study = SearchStudy(space, SAMPLERS[sampler].build(SamplerContext(0)), "max")
        found = suggested(study, 20, paused)
        assert len({frozenset(one.items()) for one in found}) == len(found) == min(size, 20)
        assert study.suggest() is None or size == math.inf


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("first", [3, 7])
def test_a_resumed_search_of_a_small_space_goes_on_as_the_undisturbed_one_and_repeats_nothing(sampler, first):
    space = FEW["branches of different size"][0]

    def make_small() -> SearchStudy:
        return SearchStudy(space, SAMPLERS[sampler].build(SamplerContext(0)), "max")

    lived, events = make_small(), [study_created()]
    whole = []
    while (one := lived.suggest()) is not None:
        whole.append(one)
        lived.observe(one.number, 1, 0.1 * one.configuration["batch"])
        lived.finish(one.number, "completed")
        if len(whole) <= first:
            events += [trial_started(one.number, one.configuration, origin=one.origin)]
            events += [reported(one.number, 1, 0.1 * one.configuration["batch"]), trial_ended(one.number, "completed")]
    resumed = make_small()
    resumed.rebuild(replay(events))
    rest = []
    while (one := resumed.suggest()) is not None:
        rest.append(one)
        resumed.observe(one.number, 1, 0.1 * one.configuration["batch"])
        resumed.finish(one.number, "completed")
    assert len(whole) == 9 and whole[first:] == rest


def test_a_queue_that_names_a_configuration_twice_or_one_of_the_record_tries_it_once():
    study = make(queue=[Queued(BASELINE, "baseline"), Queued(BASELINE, "portfolio"), Queued(BASELINE, "grid")])
    assert [study.suggest().origin for _ in range(2)] == ["baseline", "sampler"]


def test_what_is_tried_instead_of_a_repeated_proposal_is_near_it():
    study = SearchStudy({f"x{number}": Integer(0, 9) for number in range(6)}, IndependentRandomSampler(0), "max")
    proposed = study.suggest().configuration
    near = study._untried_near(proposed)
    assert near != proposed and len(near.items() & proposed.items()) == 5


# --- rebuilt from a record ---


class Life:
    """A search that was lived: the study that was told of it, and the events of its record."""

    def __init__(
        self, sampler: str, mode: str = "max", queue: list[Queued] | None = None, space: Space = SPACE
    ) -> None:
        self._space = space
        self.study = make(sampler, mode, queue, space)
        self.events: list[Event] = [study_created(metric="val_accuracy" if mode == "max" else "val_loss")]

    def begin(self) -> Suggestion:
        suggestion = self.study.suggest()
        self.events.append(trial_started(suggestion.number, suggestion.configuration, origin=suggestion.origin))
        return suggestion

    def epoch(self, number: int, epoch: int, best: float) -> None:
        self.study.observe(number, epoch, best, {"seconds": 2.0})
        self.events.append(reported(number, epoch, best))

    def end(self, number: int, status: Any) -> None:
        self.study.finish(number, status)
        self.events.append(trial_ended(number, status))

    def run(self, trials: int, at_once: int = 1) -> Life:
        """Trials side by side, of different lengths and ends."""
        running: list[Suggestion] = []
        for _ in range(trials):
            running.append(self.begin())
            if len(running) == at_once:
                self.finish(running.pop(0))
        for suggestion in running:
            self.finish(suggestion)
        return self

    def finish(self, suggestion: Suggestion) -> None:
        status = STATUSES[suggestion.number % len(STATUSES)]
        quality = -abs(math.log10(suggestion.configuration["learning_rate"]) + 2)
        for epoch in range(1, {"completed": 6, "stopped": 3, "failed": 1}[status]):
            self.epoch(suggestion.number, epoch, quality - 1 / epoch)
        self.end(suggestion.number, status)

    def state(self) -> RunState:
        return replay(self.events)

    def rebuilt(self, sampler: str, mode: str = "max") -> SearchStudy:
        study = make(sampler, mode, space=self._space)
        study.rebuild(self.state())
        return study


def facts(study: SearchStudy) -> list[tuple[Any, ...]]:
    """What a sampler may look at, of every trial."""
    names = ("number", "state", "params", "distributions", "values", "intermediate_values", "user_attrs")
    return [tuple(getattr(trial, name) for name in names) for trial in study.optuna_study.get_trials()]


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("at_once", [1, 3])
def test_a_rebuilt_study_is_the_one_that_was_lived(sampler, at_once):
    life = Life(sampler, queue=[Queued(BASELINE, "baseline")]).run(12, at_once)
    assert facts(life.rebuilt(sampler)) == facts(life.study)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("trials", [4, 24])
def test_a_rebuilt_study_goes_on_with_the_suggestions_that_the_lived_one_would_have_made(sampler, trials):
    life = Life(sampler).run(trials)
    rebuilt = life.rebuilt(sampler)
    assert [rebuilt.suggest() for _ in range(3)] == [life.study.suggest() for _ in range(3)]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_that_trials_ran_side_by_side_changes_nothing_of_it(sampler):
    life = Life(sampler).run(24, at_once=4)
    assert life.rebuilt(sampler).suggest() == life.study.suggest()


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_trials_that_still_ran_stay_open_and_go_on(sampler):
    life = Life(sampler, mode="min").run(10)
    open_trial = life.begin()
    life.epoch(open_trial.number, 1, 0.4)
    rebuilt = life.rebuilt(sampler, mode="min")
    assert facts(rebuilt) == facts(life.study)
    for study in (rebuilt, life.study):
        study.observe(open_trial.number, 2, 0.3, {"seconds": 2.0})
        study.finish(open_trial.number, "completed")
    assert facts(rebuilt) == facts(life.study)
    assert rebuilt.suggest() == life.study.suggest()


def test_an_epoch_that_was_trained_again_after_a_restart_is_told_once():
    life = Life("random")
    number = life.begin().number
    life.epoch(number, 1, 0.1)
    life.epoch(number, 2, 0.2)
    life.events.append(life.events[-2])
    assert trial(life.rebuilt("random")).intermediate_values == {1: 0.1, 2: 0.2}


def test_trials_outside_the_space_are_left_out_but_their_numbers_are_not_given_again():
    life = Life("random", queue=[Queued({**BASELINE, "units": 16}, "baseline")]).run(3)
    state = life.state()
    state.trials[1].configuration["batch_size"] = 48
    study = make("random")
    study.rebuild(state)
    assert len(study.optuna_study.trials) == 2
    assert study.suggest().number == 3


@pytest.mark.parametrize(("reason", "is_cut"), [("time_budget", True), ("expected_gain", True), ("scheduler", False)])
def test_a_rebuilt_study_tells_what_a_scheduler_stopped_from_what_the_end_of_the_search_did(reason, is_cut):
    study, configuration = make("gp"), sample(SPACE, np.random.default_rng(0))
    ended = [trial_started(0, configuration), reported(0, 1, 0.5), trial_ended(0, "stopped", reason)]
    study.rebuild(replay([study_created(), *ended]))
    (trial,) = study.optuna_study.get_trials()
    assert (CUT in trial.user_attrs) is is_cut and trial.state == TrialState.PRUNED


def test_a_rebuilt_queue_is_asked_before_the_sampler():
    study = make("random", queue=[Queued(BASELINE, "grid")])
    study.rebuild(Life("random").run(2).state())
    assert study.suggest() == Suggestion(2, BASELINE, "grid")
