"""The product as a policy: its own searcher, sampler and scheduler."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from benchmarks.search_quality.problems import Problem
from benchmarks.search_quality.simulator import Clock, FakeTrial, Policy
from tuner.algorithms.halving import Halving, excused_epochs, rung_epochs
from tuner.algorithms.samplers import SAMPLERS, SamplerContext
from tuner.algorithms.schedulers import SCHEDULERS, SchedulerContext
from tuner.algorithms.study import Queued, SearchStudy, Unfinished
from tuner.common.metrics import Mode, oriented
from tuner.execution.searcher import Promotions, StudySearcher
from tuner.runs.epoch import METRIC, TIME, Epoch
from tuner.spec.space import Configuration

MANY = 10**6
Make = Callable[[Problem, int, int], Policy]
"""(problem, slots, seed) -> a policy for one search."""


class ProductPolicy:
    """The product's searcher, sampler and scheduler, called in the order in which Ray calls them.

    One that minimises (`mode`) is told the curves' values with the other sign.
    """

    def __init__(
        self,
        problem: Problem,
        slots: int,
        seed: int,
        sampler: Any,
        scheduler: str,
        grace: int,
        factor: int,
        queue: Sequence[Queued] = (),
        other_metrics: Sequence[str] = (),
        mode: Literal["max", "min"] = "max",
        clock: Clock | None = None,
    ) -> None:
        entry = SCHEDULERS[scheduler]
        halving = None
        if entry.pauses:
            rungs, excused = rung_epochs(problem.max_epochs, grace, factor), excused_epochs(problem.max_epochs)
            halving = Halving(rungs, factor, mode=mode, excused_epochs=excused)
        context = SchedulerContext(mode, problem.max_epochs, grace, factor, {}, halving)
        self._scheduler = entry.build(context)
        if hasattr(self._scheduler, "set_search_properties"):
            self._scheduler.set_search_properties(None, None)
        self.configurations: dict[int, Configuration] = {}
        promotions = Promotions(halving, self._continuation) if halving else None
        study = SearchStudy(problem.space, sampler, mode, queue, other_metrics=other_metrics)
        self.study = study
        self._searcher = StudySearcher(study, mode, MANY, lambda: slots, [], 1e9, promotions)
        self._trials: dict[int, FakeTrial] = {}
        self._made = 0
        self._mode: Mode = mode
        self.clock = clock

    def _continuation(self, number: int) -> Unfinished:
        return Unfinished(number, self.configurations[number], None)

    def next_job(self) -> tuple[int, Configuration] | str | None:
        """See Policy."""
        trial_id = f"t{self._made:06d}"
        config = self._searcher.suggest(trial_id)
        if config is None or isinstance(config, str):
            return config
        self._made += 1
        number = int(config["trial"])
        self.configurations[number] = config["configuration"]
        trial = self._trials[number] = FakeTrial(trial_id, config)
        self._scheduler.on_trial_add(self, trial)
        return number, config["configuration"]

    def report(self, number: int, epoch: int, value: float, best: float, seconds: float, is_last: bool) -> bool:
        """See Policy."""
        trial = self._trials[number]
        result = {
            TIME: epoch,
            METRIC: oriented(best, self._mode),
            "shown": Epoch(epoch, "scratch", seconds, 0.0, oriented(best, self._mode), {}),
            "generation": 0,
            "worker_memory_mb": 1.0,
            "ended_status": "completed" if is_last else None,
            "training_iteration": epoch,
            **self.facts(number),
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

    def facts(self, number: int) -> dict[str, float]:
        """What else a worker would report of a trial, by name."""
        return {}

    def get_trials(self) -> list[FakeTrial]:
        """As Ray's controller."""
        return list(self._trials.values())


def product(
    sampler: str,
    scheduler: str,
    grace: int = 1,
    factor: int = 2,
    *,
    per_second: bool = False,
    knows_budget: bool = False,
) -> Make:
    """A policy of the product by the names of its sampler and scheduler."""

    def make(problem: Problem, slots: int, seed: int) -> Policy:
        clock = Clock()
        built = SAMPLERS[sampler].build(SamplerContext(seed, per_second=per_second, share_spent=clock))
        return ProductPolicy(
            problem, slots, seed, built, scheduler, grace, factor, clock=clock if knows_budget else None
        )

    return make
