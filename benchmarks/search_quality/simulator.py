"""A search in simulated time: the product's own searcher, sampler and scheduler, with trials that only look up curves."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

import numpy as np

from benchmarks.search_quality.problems import Curve, Problem
from tuner.space import Configuration


class Step(NamedTuple):
    """The best value seen so far, from a moment on."""

    seconds: float
    epochs: int
    best: float


class Policy(Protocol):
    """Decides what the slots do. A job is a trial that trains on from where it stands."""

    def next_job(self) -> tuple[int, Configuration] | str | None:
        """(number of the trial, its configuration); None: nothing for now; a word: nothing more is to come."""
        ...

    def report(self, number: int, epoch: int, value: float, best: float, is_last: bool) -> bool:
        """Take in an epoch; whether the trial goes on in its slot. After the last epoch it does not."""
        ...


@dataclass
class _Training:
    """A trial as far as it is trained."""

    curve: Curve
    epoch: int = 0
    best: float = -np.inf


@dataclass
class Search:
    """What came of one simulated search."""

    steps: list[Step] = field(default_factory=list)
    trials: int = 0
    epochs: int = 0
    """Trained within the budget."""

    def best_at(self, seconds: float) -> float:
        """The best value until a moment; NaN before the first epoch."""
        found = [step.best for step in self.steps if step.seconds <= seconds]
        return found[-1] if found else float("nan")


def simulate(problem: Problem, policy: Policy, slots: int, budget_s: float, seed: int) -> Search:
    """Run a policy on `slots` slots until `budget_s` simulated seconds are over."""
    curves = problem.opened(seed)
    trainings: dict[int, _Training] = {}
    queue: list[tuple[float, int, int]] = []
    search, now, order, free, is_over = Search(), 0.0, 0, slots, False
    best = -np.inf
    while True:
        while free and not is_over:
            job = policy.next_job()
            if job is None:
                break
            if isinstance(job, str):
                is_over = True
                break
            number, configuration = job
            if number not in trainings:
                trainings[number] = _Training(curves.curve(configuration))
            training = trainings[number]
            order, free = order + 1, free - 1
            heapq.heappush(queue, (now + float(training.curve.seconds[training.epoch]), order, number))
        if not queue or queue[0][0] > budget_s:
            search.trials = len(trainings)
            return search
        now, _, number = heapq.heappop(queue)
        training = trainings[number]
        value = float(training.curve.values[training.epoch])
        training.epoch += 1
        training.best = max(training.best, value)
        search.epochs += 1
        if value > best:
            best = value
            search.steps.append(Step(now, search.epochs, best))
        is_last = training.epoch == problem.max_epochs
        goes_on = policy.report(number, training.epoch, value, training.best, is_last)
        if goes_on and not is_last:
            order += 1
            heapq.heappush(queue, (now + float(training.curve.seconds[training.epoch]), order, number))
        else:
            free += 1


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
