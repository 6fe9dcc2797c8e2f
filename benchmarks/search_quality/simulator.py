"""A search in simulated time: the product's own searcher, sampler and scheduler; trials only look up curves."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np

from benchmarks.curve_trials import CurveTrial
from benchmarks.search_quality.problems import Curve, Problem
from tuner.spec.space import Configuration


class Step(NamedTuple):
    """What the best value seen so far is worth without its noise, from a moment on."""

    seconds: float
    epochs: int
    best: float


class Asked(NamedTuple):
    """A job that the policy gave."""

    seconds: float
    """Simulated: when."""
    trials: int
    """Begun until then, this one included."""
    cpu_s: float
    """Real: what the policy has computed until then."""


class Clock:
    """The share of the budget that is over, for a policy that is told it. Such a search is one of that budget alone."""

    share = 0.0

    def __call__(self) -> float:
        """The share."""
        return self.share


class Policy(Protocol):
    """Decides what the slots do. A job is a trial that trains on from where it stands."""

    def next_job(self) -> tuple[int, Configuration] | str | None:
        """(number of the trial, its configuration); None: nothing for now; a word: nothing more is to come."""
        ...

    def report(self, number: int, epoch: int, value: float, best: float, seconds: float, is_last: bool) -> bool:
        """Take in an epoch and what it took; whether the trial goes on in its slot (after its last epoch: no)."""
        ...


class SimulatedTrial(CurveTrial):
    """A trial in simulated time: it follows a curve of the problem."""

    def __init__(self, curve: Curve) -> None:
        super().__init__(curve.values, curve.seconds)
        self._exact = curve.exact

    @property
    def next_epoch_s(self) -> float:
        """Simulated seconds that the next epoch takes."""
        return float(self.epoch_seconds[self.epoch])

    @property
    def exact_value(self) -> float:
        """What the last epoch showed, without its noise."""
        return float(self._exact[self.epoch - 1])


@dataclass
class Search:
    """What came of one simulated search."""

    steps: list[Step] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    trials: int = 0
    epochs: int = 0
    """Trained within the budget."""

    def best_at(self, seconds: float) -> float:
        """What the best value seen until a moment is worth; NaN before the first epoch."""
        found = [step.best for step in self.steps if step.seconds <= seconds]
        return found[-1] if found else float("nan")

    def trials_at(self, seconds: float) -> int:
        """Trials begun until a moment."""
        return max((asked.trials for asked in self.asked if asked.seconds <= seconds), default=0)

    def suggestion_ms_at(self, seconds: float) -> float:
        """What the policy computed for one job, in the mean until a moment: choosing it, and taking in its epochs."""
        found = [asked.cpu_s for asked in self.asked if asked.seconds <= seconds]
        return 1000 * found[-1] / len(found) if found else float("nan")


def simulate(
    problem: Problem,
    policy: Policy,
    slots: int,
    budget_s: float,
    seed: int,
    cpu_s: Callable[[], float] = time.process_time,
) -> Search:
    """Run a policy on `slots` slots until `budget_s` simulated seconds are over.

    A policy without a `clock` is not told the budget, and the end touches nothing that came before: what a search found
    until a moment is the same whether it ends there or later.

    Args:
        problem: What is searched.
        policy: Who searches.
        slots: Trials at a time.
        budget_s: Simulated seconds.
        seed: Of the problem's noise.
        cpu_s: The processor time of the process that the policy computes in.
    """
    simulation, clock = _Simulation(problem, policy, slots, seed, cpu_s), getattr(policy, "clock", None)
    while simulation.fill() and simulation.queue[0].at_s <= budget_s:
        simulation.step()
        if clock is not None:
            clock.share = simulation.now_s / budget_s
    simulation.search.trials = len(simulation.trials)
    return simulation.search


class _Due(NamedTuple):
    """A trial whose epoch ends at a moment; of one moment, the one that began first."""

    at_s: float
    order: int
    number: int


Answer = TypeVar("Answer")


class _Simulation:
    def __init__(self, problem: Problem, policy: Policy, slots: int, seed: int, cpu_s: Callable[[], float]) -> None:
        self.search, self.queue = Search(), list[_Due]()
        self.trials: dict[int, SimulatedTrial] = {}
        self._curves, self._policy, self._slots = problem.opened(seed), policy, slots
        self.now_s, self._order, self._is_over, self._best = 0.0, 0, False, -np.inf
        self._cpu_s, self._spent_s = cpu_s, 0.0

    def _of_policy(self, call: Callable[..., Answer], *arguments: object) -> Answer:
        """A call of the policy, whose processor time is added up."""
        start = self._cpu_s()
        answer = call(*arguments)
        self._spent_s += self._cpu_s() - start
        return answer

    def fill(self) -> bool:
        """Give all free slots a trial; whether any trains."""
        while len(self.queue) < self._slots and not self._is_over:
            job = self._of_policy(self._policy.next_job)
            if job is None:
                break
            if isinstance(job, str):
                self._is_over = True
                break
            number, configuration = job
            if number not in self.trials:
                self.trials[number] = SimulatedTrial(self._curves.curve(configuration))
            self.search.asked.append(Asked(self.now_s, len(self.trials), self._spent_s))
            self._train(number)
        return bool(self.queue)

    def _train(self, number: int) -> None:
        self._order += 1
        ends_s = self.now_s + self.trials[number].next_epoch_s
        heapq.heappush(self.queue, _Due(ends_s, self._order, number))

    def step(self) -> None:
        """The next epoch that ends."""
        self.now_s, _, number = heapq.heappop(self.queue)
        trial = self.trials[number]
        shown = trial.advance()
        value, is_last = shown.metrics["val_accuracy"], trial.ended is not None
        self.search.epochs += 1
        if value > self._best:
            self._best = value
            self.search.steps.append(Step(self.now_s, self.search.epochs, trial.exact_value))
        told = (number, shown.epoch, value, shown.best_so_far, shown.seconds, is_last)
        goes_on = self._of_policy(self._policy.report, *told)
        if goes_on and not is_last:
            self._train(number)


class FakeTrial:
    """What schedulers look at of a trial of Ray's."""

    def __init__(self, trial_id: str, config: dict[str, Any]) -> None:
        self.trial_id, self.config = trial_id, config
        self.status, self.last_result = "RUNNING", {}
        self.PENDING, self.PAUSED, self.RUNNING = "PENDING", "PAUSED", "RUNNING"

    @property
    def is_saving(self) -> bool:
        """Never: there is nothing to save."""
        return False

    def __repr__(self) -> str:
        return self.trial_id
