"""Decisions of the product as JSON: plans of search-space files; suggestions and stops in simulated time.

Nothing is trained, and no Ray runs. `record_behaviour` keeps what is found here, `test_same_behaviour` compares.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from benchmarks.search_quality.policies import quiet
from benchmarks.search_quality.product import ProductPolicy
from benchmarks.search_quality.simulator import simulate
from benchmarks.search_quality.synthetic import Synthetic
from benchmarks.search_quality.warm import as_earlier
from tests.support import ROOT
from tuner.algorithms.samplers import SAMPLERS, SamplerContext
from tuner.algorithms.study import Queued
from tuner.algorithms.warm_start import NOTHING, WarmStart, warm_start
from tuner.session._plan import most_epochs, plan_warnings, planned_rungs
from tuner.session._resolved import resolve
from tuner.spec.space import count
from tuner.spec.spec import load_spec, require

RECORDED = ROOT / "tests" / "recorded"
PLANS, SUGGESTIONS = RECORDED / "plans.json", RECORDED / "suggestions.json"
SEARCH_SPACES = sorted((ROOT / "search_spaces").glob("*.yaml"))
TRIALS = 26
"""How many a simulated search begins."""
TOLERANCE = 1e-9
"""Relative, of a number with a fraction. Between NumPy's and OpenBLAS's code for processors with AVX-512, with AVX2 and
with neither, and for one and two threads, at most 2e-15 was measured, and no other choice."""


def recorded(path: Path) -> Any:
    """Return the cases of a file of recorded behaviour, by name."""
    return json.loads(path.read_text())["cases"]


def is_same(one: Any, other: Any) -> bool:
    """Return whether two JSON values are equal, numbers with a fraction but for their last bits."""
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=TOLERANCE)
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(is_same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(is_same, one, other))
    return type(one) is type(other) and bool(one == other)


def plan_facts(path: Path) -> dict[str, Any]:
    """Return what `--plan` says of a search-space file, without its wording."""
    search = resolve(require(load_spec(path)))
    policy, configurations = search.policy, count(search.study.space)
    return {
        "sampler": list(policy.sampler),
        "scheduler": list(policy.scheduler),
        "expects_improvement_per_second": policy.weighs_seconds,
        "configurations": "infinite" if math.isinf(configurations) else configurations,
        "trials": search.budget.trials,
        "grace_epochs": policy.grace_epochs,
        "reduction_factor": policy.reduction_factor.value,
        "rungs": [[rung.epoch, rung.trials, rung.epochs_spent] for rung in planned_rungs(search)],
        "epochs_at_most": most_epochs(search),
        "warnings": plan_warnings(search),
    }


@dataclass(frozen=True)
class SimulatedSearch:
    """A search of a synthetic problem: a space with branches, curves that cross, noise."""

    sampler: str
    scheduler: str
    mode: Literal["max", "min"] = "max"
    other_metrics: Sequence[str] = ()
    per_second: bool = False
    after_another: bool = False
    """Whether it begins with what a search of a problem like its own found."""
    problem: int = 3
    slots: int = 2
    seed: int = 5

    @property
    def name(self) -> str:
        """Words for a test's name."""
        words = [self.sampler, self.scheduler, self.mode, *self.other_metrics]
        told = {"per second": self.per_second, "after another": self.after_another}
        return " ".join([*words, *(word for word, holds in told.items() if holds)])


SIMULATED_SEARCHES = (
    SimulatedSearch("random", "none"),
    SimulatedSearch("gp", "asha"),
    SimulatedSearch("gp", "asha", "min", per_second=True, problem=1),
    SimulatedSearch("gp", "asha", after_another=True),
    SimulatedSearch("gp", "none", other_metrics=("parameters",), problem=4, slots=1),
    SimulatedSearch("tpe", "asha_stopping", "min", problem=1),
    SimulatedSearch("tpe", "asha", problem=2),
    SimulatedSearch("cmaes", "asha", problem=2),
    SimulatedSearch("qmc", "none", slots=1),
    SimulatedSearch("nsga2", "none", other_metrics=("parameters",), problem=4),
)


class _LoggedPolicy(ProductPolicy):
    """The product's policy that begins `TRIALS` trials, and keeps what it gave out and how far each job was trained."""

    def __init__(self, search: SimulatedSearch) -> None:
        problem = Synthetic(search.problem)
        warm = _found_before(problem, search.seed + 1) if search.after_another else NOTHING
        context = SamplerContext(search.seed, TRIALS, warm.trials, per_second=search.per_second)
        super().__init__(
            problem,
            search.slots,
            search.seed,
            SAMPLERS[search.sampler].build(context),
            search.scheduler,
            grace=1,
            factor=2,
            queue=[
                *(Queued(configuration, "recipe") for configuration in warm.recipes),
                *(Queued(configuration, "portfolio") for configuration in warm.portfolio),
            ],
            other_metrics=search.other_metrics,
            mode=search.mode,
        )
        self.jobs: list[dict[str, Any]] = []

    def next_job(self) -> tuple[int, Any] | str | None:
        """See Policy."""
        if len(self.configurations) == TRIALS:
            return "all have begun"
        job = super().next_job()
        if isinstance(job, tuple):
            number, configuration = job
            is_new = all(one["trial"] != number for one in self.jobs)
            self.jobs.append({"trial": number, **({"configuration": configuration} if is_new else {})})
        return job

    def report(self, number: int, epoch: int, value: float, best: float, seconds: float, is_last: bool) -> bool:
        """See Policy."""
        goes_on = super().report(number, epoch, value, best, seconds, is_last)
        if not goes_on:
            job = next(one for one in reversed(self.jobs) if one["trial"] == number)
            job["until_epoch"] = epoch
        return goes_on

    def facts(self, number: int) -> dict[str, float]:
        """Return a size that grows with what the configuration says of units and filters."""
        configuration = self.configurations[number]
        return {"parameters": float(sum(configuration.get(name, 0) for name in ("units", "filters", "head_units")))}


def _found_before(problem: Synthetic, seed: int) -> WarmStart:
    """Return what a random search of a similar problem leaves to a later one."""
    other = replace(problem, sibling=1)
    policy = ProductPolicy(other, 1, seed, SAMPLERS["random"].build(SamplerContext(seed)), "none", grace=1, factor=2)
    simulate(other, policy, 1, 16 * other.full_training_s, seed)
    earlier = as_earlier(other.name, policy.configurations, policy.study.optuna_study.trials)
    return warm_start([earlier], problem.space, None, "max")


def simulated_jobs(search: SimulatedSearch) -> list[dict[str, Any]]:
    """Return the jobs of a simulated search in order.

    A job is a trial that begins (with its configuration) or goes on, and the epoch at which the scheduler stopped or
    paused it, or at which it came to its end.
    """
    quiet()
    policy = _LoggedPolicy(search)
    simulate(Synthetic(search.problem), policy, search.slots, math.inf, search.seed)
    return policy.jobs
