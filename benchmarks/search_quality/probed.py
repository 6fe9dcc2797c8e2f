"""A policy that is told what frozen features give, beside its trials, at the price that the product may pay for it.

The probes are those of the tables, in the order of the product. They take a slot from when the first epoch has ended
until 5% of the budget is spent, each its share by the processor time that was measured: what the product spends at
most. Of these small data sets all of them would take more than that where few trials are searched; of larger ones, of
which a probe still looks at a thousand images, less.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.images import problems
from benchmarks.images.problems import task_of
from benchmarks.images.tables import METRIC, read_tables
from benchmarks.search_quality.problems import Problem
from benchmarks.search_quality.product import ProductPolicy
from benchmarks.search_quality.simulator import Beside
from tuner.algorithms.samplers import SAMPLERS, SamplerContext
from tuner.algorithms.study import Queued
from tuner.algorithms.warm_start import WarmStart
from tuner.runs.events import Probed
from tuner.runs.state import RunState

SHARE = 0.05
"""Of the time budget, in processor time."""


class ProbedPolicy(ProductPolicy):
    """`gp` with `asha`, which sees the probes of a task of images; LookupError: the problem is none of images."""

    def __init__(
        self,
        problem: Problem,
        slots: int,
        seed: int,
        factor: int,
        warm: WarmStart,
        *,
        per_second: bool,
    ) -> None:
        context = SamplerContext(seed, earlier=warm.trials, per_second=per_second)
        queue = [Queued(configuration, "portfolio") for configuration in warm.portfolio]
        super().__init__(problem, slots, seed, SAMPLERS["gp"].build(context), "asha", 1, factor, queue)
        self._probes = probes_of(problem)
        self._known = RunState()

    def beside(self, budget_s: float) -> Beside:
        """Return the probes as jobs beside the trials, of a budget in seconds by the clock."""
        every = sum(one.seconds for one in self._probes)
        return Beside([SHARE * budget_s * one.seconds / every for one in self._probes], self._take)

    def _take(self, number: int) -> None:
        self._known.apply(self._probes[number])
        self.study.see_probes(self._known)


def probes_of(problem: Problem) -> Sequence[Probed]:
    """Return what was probed of a problem's task; LookupError: it is none of images."""
    if not (task := task_of(problem.name)):
        raise LookupError(problem.name)
    return [
        Probed(configuration=one["configuration"], method="ridge", metrics=one["metrics"], seconds=one["seconds"])
        for one in read_tables(problems.TABLES)[task].facts["probes"]
        if METRIC in one["metrics"]
    ]
