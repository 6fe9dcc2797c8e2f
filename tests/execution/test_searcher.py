"""The bridge to Ray, driven as Ray drives it, without starting Ray."""

from __future__ import annotations

from typing import Any

import pytest
from optuna.samplers import RandomSampler
from optuna.trial import TrialState
from ray.tune.search import Searcher

from tests.support.told import told
from tuner.algorithms.halving import Halving
from tuner.algorithms.study import Queued, SearchStudy, Unfinished
from tuner.execution.searcher import Promotions, StudySearcher
from tuner.spec.space import Choice, Real

SPACE = {"learning_rate": Real(1e-4, 1e-1, log=True), "batch_size": Choice((32, 64))}


def make(trials: int = 10, slots: int = 2, unfinished: tuple[Unfinished, ...] = (), growth_mb: float = 100.0) -> Any:
    study = SearchStudy(SPACE, RandomSampler(seed=0), "max")
    return StudySearcher(study, "max", trials, lambda: slots, list(unfinished), growth_mb), study


def result(epoch: int, best: float, memory_mb: float = 500.0, generation: int = 0, **more: Any) -> dict[str, Any]:
    return told(epoch, best, worker_memory_mb=memory_mb, generation=generation, **more)


def test_no_more_trials_than_slots_are_given_out():
    searcher, _ = make(slots=2)
    first, second = searcher.suggest("a"), searcher.suggest("b")
    assert (first["trial"], second["trial"]) == (0, 1)
    assert searcher.suggest("c") is None
    searcher.on_trial_complete("a", result(1, 0.5, ended_status="completed"))
    assert searcher.suggest("c")["trial"] == 2


def test_a_paused_trial_leaves_its_slot_to_another_until_it_goes_on():
    searcher, _ = make(slots=1)
    searcher.suggest("a")
    searcher.on_pause("a")
    assert searcher.suggest("b")["trial"] == 1
    searcher.on_pause("b")
    searcher.on_unpause("a")
    assert searcher.suggest("c") is None


def test_the_search_is_finished_when_the_trials_are_used_up():
    searcher, _ = make(trials=1)
    searcher.suggest("a")
    assert searcher.suggest("b") == Searcher.FINISHED


def test_unfinished_trials_of_an_earlier_session_come_first_and_do_not_count():
    earlier = Unfinished(7, {"learning_rate": 0.01, "batch_size": 32}, "somewhere")
    searcher, _ = make(trials=1, slots=5, unfinished=(earlier,))
    config = searcher.suggest("a")
    assert (config["trial"], config["resume_from"]) == (7, "somewhere")
    assert searcher.suggest("b")["resume_from"] is None
    assert searcher.suggest("c") == Searcher.FINISHED


def test_optuna_is_told_what_a_stopped_trial_showed():
    searcher, study = make()
    searcher.suggest("a")
    for epoch, best in ((1, 0.3), (2, 0.4)):
        searcher.on_trial_result("a", result(epoch, best))
    searcher.on_trial_complete("a", result(3, 0.45, ended_status=None))
    (trial,) = study.optuna_study.trials
    assert trial.state == TrialState.PRUNED
    assert trial.intermediate_values == {1: 0.3, 2: 0.4, 3: 0.45}


@pytest.mark.parametrize("last", [None, result(0, 0.0, ended_status="failed")])
def test_a_broken_trial_is_marked_as_failed_and_never_left_running(last):
    searcher, study = make()
    searcher.suggest("a")
    searcher.on_trial_complete("a", last, error=last is None)
    (trial,) = study.optuna_study.trials
    assert trial.state == TrialState.PRUNED and trial.user_attrs == {"failed": True}
    assert trial.intermediate_values == {}


def test_a_trial_that_ended_by_itself_is_complete_with_its_best_value():
    searcher, study = make()
    searcher.suggest("a")
    searcher.on_trial_result("a", result(1, 0.3))
    searcher.on_trial_complete("a", result(2, 0.6, ended_status="completed"))
    (trial,) = study.optuna_study.trials
    assert trial.state == TrialState.COMPLETE and trial.value == 0.6


def test_a_trial_that_is_reported_to_end_twice_is_counted_once():
    searcher, study = make(slots=1)
    searcher.suggest("a")
    searcher.on_trial_complete("a", result(1, 0.3, ended_status="completed"))
    searcher.on_trial_complete("a")
    assert len(study.optuna_study.trials) == 1
    assert searcher.suggest("b") is not None


def test_a_worker_that_has_grown_begins_a_new_generation_once():
    searcher, _ = make(slots=9, growth_mb=100)
    searcher.suggest("a")
    searcher.on_trial_result("a", result(1, 0.1, memory_mb=500))
    assert searcher.suggest("b")["generation"] == 0
    searcher.on_trial_result("a", result(2, 0.2, memory_mb=601))
    assert searcher.suggest("c")["generation"] == 1
    searcher.on_trial_result("a", result(3, 0.2, memory_mb=900))  # of the old generation: says nothing new
    searcher.on_trial_result("c", result(1, 0.2, memory_mb=480, generation=1))
    assert searcher.suggest("d")["generation"] == 1


def test_a_grid_ends_when_it_is_used_up():
    queue = [Queued({"learning_rate": 0.01, "batch_size": size}, "grid") for size in (32, 64)]
    study = SearchStudy(SPACE, RandomSampler(seed=0), "max", queue, sampler_may_propose=False)
    searcher = StudySearcher(study, "max", 99, lambda: 9, [], 100.0)
    assert [searcher.suggest(name)["configuration"]["batch_size"] for name in "ab"] == [32, 64]
    assert searcher.suggest("c") == Searcher.FINISHED


def make_promoting(trials: int, slots: int = 1) -> tuple[StudySearcher, SearchStudy, Halving]:
    """A searcher beside a scheduler that pauses at epochs 1 and 3, one of three going on."""
    study, halving = SearchStudy(SPACE, RandomSampler(seed=0), "max"), Halving((1, 3), 3, mode="max")
    given: dict[int, Any] = {}

    class Remembering(StudySearcher):
        def suggest(self, trial_id: str) -> Any:
            config = super().suggest(trial_id)
            if isinstance(config, dict):
                given[config["trial"]] = config["configuration"]
            return config

    promotions = Promotions(halving, lambda number: Unfinished(number, given[number], f"checkpoint of {number}"))
    return Remembering(study, "max", trials, lambda: slots, [], 100.0, promotions), study, halving


def reach(searcher: StudySearcher, halving: Halving, trial_id: str, number: int, epoch: int, best: float) -> bool:
    """A trial reports a rung's epoch, as Ray passes it on; whether it waits there."""
    waits = halving.arrive(number, epoch, best)
    if waits:
        searcher.on_trial_complete(trial_id, result(epoch, best))
    else:
        searcher.on_trial_result(trial_id, result(epoch, best))
    return waits


def test_a_promotion_comes_before_a_new_trial_and_goes_on_from_its_checkpoint():
    searcher, study, halving = make_promoting(trials=9)
    for number, best in enumerate((0.5, 0.3, 0.2)):
        config = searcher.suggest(f"t{number}")
        assert config["trial"] == number and config["resume_from"] is None
        assert reach(searcher, halving, f"t{number}", number, 1, best)
    promoted = searcher.suggest("again")
    assert (promoted["trial"], promoted["resume_from"]) == (0, "checkpoint of 0")
    assert searcher.suggest("full") is None, "it takes the slot"
    states = [trial.state for trial in study.optuna_study.get_trials()]
    assert states == [TrialState.RUNNING] * 3, "what waits is open: nothing is known yet of how it ends"


def test_when_the_trials_are_used_up_the_rungs_are_emptied_from_the_top():
    searcher, _, halving = make_promoting(trials=2)
    for number, best in enumerate((0.4, 0.5)):
        searcher.suggest(f"t{number}")
        assert reach(searcher, halving, f"t{number}", number, 1, best)
    assert searcher.suggest("a")["trial"] == 1, "the best one, although a third of two is none"
    assert searcher.suggest("b") is None, "what runs may be better than what waits"
    searcher.on_trial_complete("a", result(2, 0.6, ended_status="completed"))
    halving.end(1, 0.6)
    assert searcher.suggest("c") == Searcher.FINISHED, "at most one of each rung goes on"
