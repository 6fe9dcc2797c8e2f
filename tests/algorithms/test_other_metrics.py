"""Several metrics in a study: what samplers see of them, and that they search for a front."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from optuna.trial import TrialState

from tests.support.make_record import epoch as reported
from tests.support.make_record import study_created, trial_ended, trial_started
from tests.support.told import told
from tuner.algorithms._observations import OTHER_METRICS, reached, with_measured
from tuner.algorithms.samplers import SAMPLERS, SamplerContext
from tuner.algorithms.study import SearchStudy
from tuner.common.metrics import front, hypervolume
from tuner.execution.searcher import StudySearcher
from tuner.runs.events import Event, TrialMeasured
from tuner.runs.record import replay
from tuner.spec.space import Choice, Choose, Integer, Real, misfits

SPACE = {
    "learning_rate": Real(1e-4, 1e-1, log=True),
    "architecture": Choose(
        {
            "cnn": {"filters": Integer(4, 256, log=True)},
            "dense": {"units": Integer(8, 512, log=True), "norm": Choice((True, False))},
        }
    ),
}
ABLE = [name for name in SAMPLERS if not SAMPLERS[name].knows_one_metric]
METRICS = ("val_accuracy", "parameters", "val_loss")


def size(configuration: dict[str, Any]) -> int:
    if configuration["architecture"] == "cnn":
        return 100 * int(configuration["filters"])
    return 50 * int(configuration["units"]) * (1 + configuration["norm"])


def accuracy(configuration: dict[str, Any], epoch: int = 9) -> float:
    rate = (np.log10(configuration["learning_rate"]) + 2.5) ** 2 / 5
    branch = 0.05 if configuration["architecture"] == "dense" else 0.0
    return float(0.3 + 0.12 * np.log10(size(configuration)) - rate - branch) * (1 - 0.5**epoch)


def make(name: str, seed: int = 0, others: tuple[str, ...] = METRICS[1:]) -> SearchStudy:
    return SearchStudy(SPACE, SAMPLERS[name].build(SamplerContext(seed)), "max", other_metrics=others)


class Life:
    """A search that was lived: the study that was told of it, and the events of its record."""

    def __init__(self, name: str, trials: int, seed: int = 0) -> None:
        self.study = make(name, seed)
        self.events: list[Event] = [study_created(metrics=list(METRICS))]
        for _ in range(trials):
            self.live()

    def live(self) -> None:
        one = self.study.suggest()
        assert one is not None and not misfits(SPACE, one.configuration)
        status = ("completed", "stopped", "stopped", "failed")[one.number % 4]
        self.events.append(trial_started(one.number, one.configuration, origin=one.origin))
        facts = {"parameters": size(one.configuration)}
        best = -np.inf
        for epoch in range(1, {"completed": 6, "stopped": 3, "failed": 2}[status]):
            value = accuracy(one.configuration, epoch) - 0.2 * (epoch == 3)  # the best is not always the last
            best, loss = max(best, value), 2.0 - value + 0.01 * epoch
            self.study.observe(
                one.number, epoch, best, {**facts, "val_loss": loss, "val_accuracy": value, "seconds": 2.0}
            )
            self.events.append(reported(one.number, epoch, value, best, val_loss=loss))
            if epoch == 1:
                self.events.append(TrialMeasured(trial=one.number, **facts))
        self.study.finish(one.number, status)
        self.events.append(trial_ended(one.number, status))


def facts(study: SearchStudy) -> list[tuple[Any, ...]]:
    """Return what a sampler looks at: not what was proposed in vain."""
    known = [one for one in study.optuna_study.get_trials() if one.state != TrialState.FAIL]
    return [(one.params, one.state, one.values, one.user_attrs) for one in known]


# --- what a study is told ---


def test_another_metric_of_every_epoch_counts_at_the_best_epoch_and_a_fact_as_it_was_first_measured():
    study = make("random")
    number = study.suggest().number
    study.observe(number, 1, 0.5, {"parameters": 10, "val_loss": 1.0})
    study.observe(number, 2, 0.6, {"parameters": 99, "val_loss": 0.8})
    study.observe(number, 3, 0.6, {"parameters": 99, "val_loss": 0.1})
    (trial,) = study.optuna_study.get_trials()
    assert trial.user_attrs == {OTHER_METRICS: {"parameters": 10, "val_loss": 0.8}}
    assert reached(study.optuna_study, trial) == [0.6, 10, 0.8]


def test_an_epoch_that_is_trained_again_changes_nothing_of_what_a_study_knows():
    study = make("random")
    number = study.suggest().number
    for epoch, best, loss in ((1, 0.5, 1.0), (2, 0.6, 0.8), (3, 0.7, 0.4)):
        study.observe(number, epoch, best, {"val_loss": loss, "seconds": 2.0})
    before = facts(study)
    for epoch, best, loss in ((2, 0.6, 0.8), (3, 0.7, 0.4)):  # its worker was lost, and its checkpoint is of epoch 1
        study.observe(number, epoch, best, {"val_loss": loss, "seconds": 9.0})
    assert facts(study) == before and before[0][3][OTHER_METRICS] == {"val_loss": 0.4}


def test_what_is_no_number_is_not_taken_for_a_measurement():
    measured = {"parameters": None, "model_mb": float("nan"), "seconds_per_image": 0.1}
    assert with_measured({}, measured, list(measured), is_new_best=True) == {"seconds_per_image": 0.1}


def test_a_study_of_one_metric_keeps_nothing_beside_it():
    study = make("gp", others=())
    study.observe(study.suggest().number, 1, 0.5, {"parameters": 10, "val_loss": 1.0})
    assert study.optuna_study.user_attrs == {} and study.optuna_study.get_trials()[0].user_attrs == {}


def test_the_searcher_passes_on_what_a_worker_measures():
    study = make("nsga2", others=("parameters",))
    searcher = StudySearcher(study, "max", 9, lambda: 2, [], 100.0)
    searcher.suggest("a")
    searcher.on_trial_result("a", told(1, 0.4, parameters=7))
    assert study.optuna_study.get_trials()[0].user_attrs[OTHER_METRICS] == {"parameters": 7}


# --- what is suggested ---


@pytest.mark.parametrize("name", [name for name in ABLE if name != "grid"])
@pytest.mark.parametrize("trials", [6, 40])
def test_a_rebuilt_study_goes_on_as_the_one_that_was_lived(name, trials):
    life = Life(name, trials)
    rebuilt = make(name)
    rebuilt.rebuild(replay(life.events))
    assert facts(rebuilt) == facts(life.study)
    assert [rebuilt.suggest() for _ in range(3)] == [life.study.suggest() for _ in range(3)]


@pytest.mark.parametrize("name", ["gp", "nsga2"])
def test_suggestions_follow_from_the_seed_and_look_at_all_metrics(name):
    one, same, other = (facts(Life(name, 40, seed).study) for seed in (3, 3, 4))
    assert one == same != other
    alone, several = make(name, others=()), make(name)
    for study in (alone, several):
        study.rebuild(replay(Life(name, 40, 3).events))
    assert [alone.suggest() for _ in range(4)] != [several.suggest() for _ in range(4)]


@pytest.mark.parametrize("name", ["gp", "nsga2"])
def test_a_front_is_found_that_random_search_does_not_find(name):
    def volume(sampler: str, seed: int) -> float:
        study = make(sampler, seed, ("parameters",))
        points = []
        for _ in range(60):
            one = study.suggest()
            point = (accuracy(one.configuration), size(one.configuration))
            study.observe(one.number, 1, point[0], {"parameters": point[1]})
            study.finish(one.number, "completed")
            points.append((point[0] - 0.3, 5 - np.log10(point[1])))
        return hypervolume(np.array(points), np.zeros(2))

    seeds = range(4)
    ours, at_random = ([volume(sampler, seed) for seed in seeds] for sampler in (name, "random"))
    assert np.mean(ours) > np.mean(at_random)


@pytest.mark.parametrize("name", ["gp", "nsga2"])
def test_where_trials_fail_no_front_is_looked_for(name):
    """What fails is small: by its size alone it would be on the front."""
    study = make(name, others=("parameters",))
    asked = []
    for _ in range(64):
        one = study.suggest()
        fails = one.configuration["architecture"] == "dense"
        asked.append(fails)
        study.observe(one.number, 1, 0.5, {"parameters": 1 if fails else 10**6})
        study.finish(one.number, "failed" if fails else "completed")
    assert np.mean(asked[32:]) < 0.4


def test_nsga2_crosses_the_parameters_of_branches_too():
    """All trials of a branch have one value, so that at random another would come up at once."""
    study = make("nsga2", others=("parameters",))
    events: list[Event] = [study_created(metrics=["val_accuracy", "parameters"])]
    for number in range(40):
        configuration = {"learning_rate": 0.01, "architecture": "cnn", "filters": 32}
        events += [trial_started(number, configuration, origin="sampler"), reported(number, 1, 0.5)]
        events += [TrialMeasured(trial=number, parameters=3200), trial_ended(number)]
    study.rebuild(replay(events))
    asked = [study.suggest().configuration for _ in range(20)]
    same = [one["filters"] == 32 for one in asked if one["architecture"] == "cnn"]
    assert np.mean(same) > 0.3, "a copy of a parent is changed in one value"


def test_the_front_of_a_search_is_that_of_its_values():
    life = Life("gp", 20)
    found = [reached(life.study.optuna_study, one) for one in life.study.optuna_study.get_trials()]
    assert all(values is not None and len(values) == 3 for values in found)
    assert len(front(np.array(found) * [1, -1, -1])) >= 2
