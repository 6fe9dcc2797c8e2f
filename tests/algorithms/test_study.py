"""The Optuna study is told the truth, and a study rebuilt from a record is the one that was lived."""

from __future__ import annotations

import math
from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState

from tests.support.make_record import epoch as reported
from tests.support.make_record import study_created, trial_ended, trial_started
from tuner.algorithms.samplers import SAMPLERS, SamplerContext
from tuner.algorithms.study import Queued, SearchStudy, Suggestion
from tuner.algorithms.tpe import ENDED_BY_ITSELF, FAILED
from tuner.runs.events import Event
from tuner.runs.record import replay
from tuner.runs.state import RunState
from tuner.spec.space import Choice, Choose, Integer, Real

SPACE = {
    "learning_rate": Real(1e-4, 1e-1, log=True),
    "batch_size": Choice((32, 64)),
    "architecture": Choose(
        {"cnn": {"blocks": Integer(1, 3), "dropout": Real(0.0, 0.5)}, "dense": {"units": Integer(8, 64, 8)}}
    ),
}
BASELINE = {"learning_rate": 0.001, "batch_size": 32, "architecture": "dense", "units": 16}
STATUSES = ("completed", "stopped", "stopped", "completed", "failed")


def make(sampler: str = "random", mode: str = "max", queue: list[Queued] | None = None, **more: Any) -> SearchStudy:
    entry = SAMPLERS[sampler]
    return SearchStudy(SPACE, entry.build(SamplerContext(0)), mode, queue or [], sampler_replays=entry.replays, **more)


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


# --- rebuilt from a record ---


class Life:
    """A search that was lived: the study that was told of it, and the events of its record."""

    def __init__(self, sampler: str, mode: str = "max", queue: list[Queued] | None = None) -> None:
        self.study = make(sampler, mode, queue)
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
        study = make(sampler, mode)
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


@pytest.mark.parametrize("sampler", ["tpe", "random", "grid"])
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


def test_a_rebuilt_queue_is_asked_before_the_sampler():
    study = make("random", queue=[Queued(BASELINE, "grid")])
    study.rebuild(Life("random").run(2).state())
    assert study.suggest() == Suggestion(2, BASELINE, "grid")
