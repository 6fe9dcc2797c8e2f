"""What a suggestion takes as a search grows: the product's sampler, searcher and scheduler, without Ray."""

from __future__ import annotations

import sys
import time

from benchmarks.search_quality.product import product
from benchmarks.search_quality.simulator import simulate
from benchmarks.search_quality.synthetic import Synthetic
from tuner.spec.space import Configuration


def simulate_search(trials: int, slots: int) -> list[tuple[int, float]]:
    """(number of the trial, seconds of processor time) of all new trials of a search with `gp` and `asha`."""
    policy = _Timed(trials, slots)
    simulate(Synthetic(0), policy, slots, float("inf"), 0)
    return policy.suggestions


class _Timed:
    """The product as a policy that keeps what each of its suggestions took, and ends after so many trials."""

    def __init__(self, trials: int, slots: int) -> None:
        self._policy = product("gp", "asha")(Synthetic(0), slots, 0)
        self._trials = trials
        self.suggestions: list[tuple[int, float]] = []

    def next_job(self) -> tuple[int, Configuration] | str | None:
        """See Policy."""
        started = time.process_time()
        job = self._policy.next_job()
        seconds = time.process_time() - started
        if isinstance(job, tuple) and job[0] == len(self.suggestions):  # a new one, not a promotion
            if job[0] >= self._trials:
                return "FINISHED"
            self.suggestions.append((job[0], seconds))
            if job[0] % 500 == 0:
                print(f"{job[0]} trials, {seconds:.3f} s", file=sys.stderr, flush=True)
        return job

    def report(self, number: int, epoch: int, value: float, best: float, seconds: float, is_last: bool) -> bool:
        """See Policy."""
        return self._policy.report(number, epoch, value, best, seconds, is_last)
