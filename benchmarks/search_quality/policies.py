"""The policies that are compared, each made anew for every search."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from functools import partial

import optuna

from benchmarks.search_quality.peers import PEERS
from benchmarks.search_quality.problems import Problem
from benchmarks.search_quality.product import Make, product
from benchmarks.search_quality.simulator import FakeTrial, Policy
from benchmarks.search_quality.warm import warm_started, warm_started_by, warm_started_by_siblings, with_prior
from tuner.algorithms.study import suggest_value
from tuner.spec.space import Configuration, Space, configure


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

    def report(self, number: int, epoch: int, value: float, best: float, seconds: float, is_last: bool) -> bool:
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
        return trial.number, configure(self._space, lambda *one: suggest_value(trial, *one))

    def report(self, number: int, epoch: int, value: float, best: float, seconds: float, is_last: bool) -> bool:
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
        configure(space, lambda *one: suggest_value(trial, *one))

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
    "random + asha(1,2)": product("random", "asha", 1, 2),
    "random + asha(1,3)": product("random", "asha", 1, 3),
    "tpe + asha_stopping(1,4)": product("tpe", "asha_stopping", 1, 4),
    "tpe + asha(1,3)": product("tpe", "asha", 1, 3),
    "gp + asha(1,3)": product("gp", "asha", 1, 3),
    "gp + asha(1,2)": product("gp", "asha", 1, 2),
    "gp + asha, warm start": warm_started,
    "gp per second + asha, warm start": partial(warm_started, per_second=True),
    "gp + asha, warm start, siblings": warm_started_by_siblings,
    "gp + asha, prior": with_prior,
    "gp per second + asha, prior": partial(with_prior, per_second=True),
    "gp per second + asha(1,3)": product("gp", "asha", 1, 3, per_second=True),
    "gp per second + asha(1,2)": product("gp", "asha", 1, 2, per_second=True),
    "gp per second + asha(1,3), budget known": product("gp", "asha", 1, 3, per_second=True, knows_budget=True),
    "gp per second + asha(1,2), budget known": product("gp", "asha", 1, 2, per_second=True, knows_budget=True),
    "gp per second + asha, prior, budget known": partial(with_prior, per_second=True, knows_budget=True),
    "Ray: OptunaSearch + ASHA(1,4)": ray_optuna(1, 4),
    "Optuna: TPE + Hyperband pruner": optuna_hyperband,
    **PEERS,
}
SERIES: dict[str, Make] = {
    f"gp per second + asha, warm start by {studies} studies of {configurations}": partial(
        warm_started_by, studies=studies, configurations=configurations
    )
    for studies in (3, 8, 30)
    for configurations in (5, 20, 60)
}
"""What is learnt of few and of many, small and large studies; only where it is asked for."""
OF_SUITE = {
    "gp + asha, warm start, siblings": "synthetic",
    "gp + asha, prior": "images",
    "gp per second + asha, prior": "images",
    "gp per second + asha, prior, budget known": "images",
}
"""Policies for which problems of other suites have not what they need."""
