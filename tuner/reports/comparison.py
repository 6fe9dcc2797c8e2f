"""Several runs side by side: at equal time, at equal epochs, and their trials in one ranking. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from tuner.common.errors import InputError
from tuner.reports.results import Results, TrialResult
from tuner.reports.trajectory import TrajectoryPoint, trajectory


class Entrant(NamedTuple):
    """One run of a comparison."""

    name: str
    """Of its directory: two runs of one study have different ones."""
    results: Results
    points: tuple[TrajectoryPoint, ...]

    def best_at(self, elapsed_s: float) -> float | None:
        """The best value that it had after so many seconds."""
        found = [point.best for point in self.points if point.elapsed_s <= elapsed_s]
        return found[-1] if found else None

    @property
    def search_s(self) -> float:
        """Seconds of the search itself, without its finalists."""
        return self.results.finalists_from_s if self.results.finalists_from_s is not None else self.results.elapsed_s


class Comparison(NamedTuple):
    """Runs that optimise the same metric."""

    metric: str
    maximise: bool
    entrants: tuple[Entrant, ...]
    equal_s: float
    """As long as the shortest one ran: until there, all can be compared."""
    same_data: bool


def compare_runs(runs: Sequence[tuple[str, Results]]) -> Comparison:
    """The comparison of runs, given by name.

    Raises:
        InputError: there are fewer than two, one has no study yet, or they optimise different metrics.
    """
    if len(runs) < 2:
        raise InputError(f"a comparison must have at least two runs; got {len(runs)}")
    for name, results in runs:
        if results.study is None:
            raise InputError(f"{name}: must have begun; its record is empty")
    metrics = {results.metric for _, results in runs}
    if len(metrics) > 1:
        told = ", ".join(f"{name}: {results.metric}" for name, results in runs)
        raise InputError(f"runs must optimise the same metric to be compared; got {told}")
    entrants = tuple(Entrant(name, results, trajectory(results)) for name, results in runs)
    prints = {str(results.study.data.get("fingerprint")) for _, results in runs if results.study is not None}
    return Comparison(
        metric=runs[0][1].metric,
        maximise=runs[0][1].maximise,
        entrants=entrants,
        equal_s=min(entrant.search_s for entrant in entrants),
        same_data=len(prints) == 1,
    )


def order_at_equal_time(comparison: Comparison) -> tuple[tuple[Entrant, float | None], ...]:
    """Runs with what they had after the time that all of them ran, the best first."""
    sign = -1.0 if comparison.maximise else 1.0
    found = [(entrant, entrant.best_at(comparison.equal_s)) for entrant in comparison.entrants]
    return tuple(sorted(found, key=lambda pair: (math.inf if pair[1] is None else sign * pair[1], pair[0].name)))


def joint_ranking(comparison: Comparison) -> tuple[tuple[str, TrialResult], ...]:
    """The trials of all runs with a result, the best first; of equals, those of the first run."""
    sign = -1.0 if comparison.maximise else 1.0
    every = [
        (sign * (trial.best or 0.0), place, trial.number, entrant.name, trial)
        for place, entrant in enumerate(comparison.entrants)
        for trial in entrant.results.ranked
    ]
    return tuple((name, trial) for _, _, _, name, trial in sorted(every, key=lambda row: row[:3]))
