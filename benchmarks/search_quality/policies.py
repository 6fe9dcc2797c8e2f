"""The policies that are compared, each made anew for every search."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from typing import Any

import optuna

from benchmarks.search_quality.peers import PEERS
from benchmarks.search_quality.problems import Problem
from benchmarks.search_quality.simulator import FakeTrial, Policy
from tuner.halving import Halving
from tuner.rungs import rung_epochs
from tuner.samplers import SAMPLERS
from tuner.schedulers import METRIC, SCHEDULERS, TIME, SchedulerContext
from tuner.searcher import Promotions, StudySearcher
from tuner.space import Configuration, Space, configure
from tuner.study import SearchStudy, Unfinished, ask

MANY = 10**6
Make = Callable[[Problem, int, int], Policy]
"""(problem, slots, seed) -> a policy for one search."""


class ProductPolicy:
    """The product's searcher, sampler and scheduler, called in the order in which Ray calls them."""

    def __init__(
        self, problem: Problem, slots: int, seed: int, sampler: Any, scheduler: str, grace: int, factor: int
    ) -> None:
        entry = SCHEDULERS[scheduler]
        halving = None
        if entry.pauses:
            halving = Halving(rung_epochs(problem.max_epochs, grace, factor), factor, maximise=True)
        context = SchedulerContext("max", problem.max_epochs, grace, factor, {}, halving)
        self._scheduler = entry.build(context)
        if hasattr(self._scheduler, "set_search_properties"):
            self._scheduler.set_search_properties(None, None)
        self._configurations: dict[int, Configuration] = {}
        promotions = Promotions(halving, self._continuation) if halving else None
        study = SearchStudy(problem.space, sampler, "max")
        self.study = study
        self._searcher = StudySearcher(study, "max", MANY, slots, [], 1e9, promotions)
        self._trials: dict[int, FakeTrial] = {}
        self._made = 0

    def _continuation(self, number: int) -> Unfinished:
        return Unfinished(number, self._configurations[number], None)

    def next_job(self) -> tuple[int, Configuration] | str | None:
        """See Policy."""
        trial_id = f"t{self._made:06d}"
        config = self._searcher.suggest(trial_id)
        if config is None or isinstance(config, str):
            return config
        self._made += 1
        number = int(config["trial"])
        self._configurations[number] = config["configuration"]
        trial = self._trials[number] = FakeTrial(trial_id, config)
        self._scheduler.on_trial_add(self, trial)
        return number, config["configuration"]

    def report(self, number: int, epoch: int, value: float, best: float, is_last: bool) -> bool:
        """See Policy."""
        trial = self._trials[number]
        result = {
            TIME: epoch,
            METRIC: best,
            "has_epoch": True,
            "generation": 0,
            "worker_memory_mb": 1.0,
            "ended_status": "completed" if is_last else None,
            "training_iteration": epoch,
        }
        trial.last_result = result
        if not is_last:
            decision = self._scheduler.on_trial_result(self, trial, result)
            if decision == "CONTINUE":
                self._searcher.on_trial_result(trial.trial_id, result)
                return True
        trial.status = "TERMINATED"
        self._scheduler.on_trial_complete(self, trial, result)
        self._searcher.on_trial_complete(trial.trial_id, result)
        return False

    def get_trials(self) -> list[FakeTrial]:
        """As Ray's controller."""
        return list(self._trials.values())


def product(sampler: str, scheduler: str, grace: int = 1, factor: int = 3) -> Make:
    """A policy of the product by the names of its sampler and scheduler."""
    return lambda problem, slots, seed: ProductPolicy(
        problem, slots, seed, SAMPLERS[sampler].build(seed), scheduler, grace, factor
    )


class RayPolicy:
    """Ray's OptunaSearch and ASHAScheduler as their documentation combines them: their own objects, nothing of ours."""

    def __init__(self, problem: Problem, slots: int, seed: int, grace: int, factor: int) -> None:
        from ray.tune.schedulers import ASHAScheduler
        from ray.tune.search.optuna import OptunaSearch

        self._searcher = OptunaSearch(define_by_run(problem.space), metric="value", mode="max", seed=seed)
        self._scheduler = ASHAScheduler(
            "training_iteration", "value", "max", max_t=problem.max_epochs, grace_period=grace, reduction_factor=factor
        )
        self._trials: dict[int, FakeTrial] = {}

    def next_job(self) -> tuple[int, Configuration] | str | None:
        """See Policy."""
        number = len(self._trials)
        config = self._searcher.suggest(f"t{number:06d}")
        trial = self._trials[number] = FakeTrial(f"t{number:06d}", dict(config))
        self._scheduler.on_trial_add(self, trial)
        return number, {name.rpartition(".")[2]: value for name, value in config.items()}

    def report(self, number: int, epoch: int, value: float, best: float, is_last: bool) -> bool:
        """See Policy; the value is the running best, which is in its favour."""
        trial = self._trials[number]
        result = {"training_iteration": epoch, "value": best}
        trial.last_result = result
        if not is_last and self._scheduler.on_trial_result(self, trial, result) == "CONTINUE":
            self._searcher.on_trial_result(trial.trial_id, result)
            return True
        self._scheduler.on_trial_complete(self, trial, result)
        self._searcher.on_trial_complete(trial.trial_id, result)
        return False


class OptunaPolicy:
    """Optuna alone: its sampler and its pruner, asked and told as in its documentation."""

    def __init__(
        self, problem: Problem, sampler: optuna.samplers.BaseSampler, pruner: optuna.pruners.BasePruner
    ) -> None:
        self._study = optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner)
        self._space = problem.space
        self._trials: dict[int, optuna.Trial] = {}

    def next_job(self) -> tuple[int, Configuration] | str | None:
        """See Policy."""
        trial = self._study.ask()
        self._trials[trial.number] = trial
        return trial.number, configure(self._space, lambda *place: ask(trial, *place))

    def report(self, number: int, epoch: int, value: float, best: float, is_last: bool) -> bool:
        """See Policy."""
        trial = self._trials[number]
        trial.report(best, epoch)
        if is_last:
            self._study.tell(trial, best)
        elif trial.should_prune():
            self._study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            return True
        return False


def define_by_run(space: Space) -> Callable[[optuna.Trial], None]:
    """A space as OptunaSearch takes conditional ones."""

    def suggest(trial: optuna.Trial) -> None:
        configure(space, lambda *place: ask(trial, *place))

    return suggest


def ray_optuna(grace: int = 1, factor: int = 4) -> Make:
    """OptunaSearch and ASHA."""
    return lambda problem, slots, seed: RayPolicy(problem, slots, seed, grace, factor)


def optuna_hyperband(problem: Problem, slots: int, seed: int) -> Policy:
    """TPE with the Hyperband pruner."""
    pruner = optuna.pruners.HyperbandPruner(min_resource=1, max_resource=problem.max_epochs, reduction_factor=3)
    return OptunaPolicy(problem, optuna.samplers.TPESampler(seed=seed), pruner)


def quiet() -> None:
    """No words of Optuna's and Ray's about every trial."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    logging.getLogger("ray").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")


POLICIES: dict[str, Make] = {
    "random": product("random", "none"),
    "random + asha_stopping(1,4)": product("random", "asha_stopping", 1, 4),
    "random + asha(1,3)": product("random", "asha", 1, 3),
    "tpe + asha_stopping(1,4)": product("tpe", "asha_stopping", 1, 4),
    "tpe + asha(1,3)": product("tpe", "asha", 1, 3),
    "gp + asha(1,3)": product("gp", "asha", 1, 3),
    "Ray: OptunaSearch + ASHA(1,4)": ray_optuna(1, 4),
    "Optuna: TPE + Hyperband pruner": optuna_hyperband,
    **PEERS,
}
