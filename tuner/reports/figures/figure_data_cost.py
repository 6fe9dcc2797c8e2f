"""What a search cost and where it spent it: value against seconds and parameters; who went on at each rung. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from tuner.algorithms.halving import default_grace_epochs, default_reduction_factor, rung_epochs
from tuner.reports.figures.figure_data import OUTCOMES, spread
from tuner.reports.results import Results, ResultStatus, TrialResult
from tuner.spec.space import has_branches
from tuner.spec.space_parser import parse_space


class CostPoint(NamedTuple):
    """One trial: what it reached and what it cost."""

    trial: int
    status: ResultStatus
    value: float
    seconds: float
    """Training and validation of all its epochs."""
    parameters: int | None
    is_baseline: bool


class Cost(NamedTuple):
    """Trials by what they reached and what they cost."""

    metric: str
    maximise: bool
    points: tuple[CostPoint, ...]
    front_seconds: tuple[int, ...]
    """Trials that no other one beats in both value and seconds, the cheapest first."""
    front_parameters: tuple[int, ...]
    """The same for parameters."""


class RungFlow(NamedTuple):
    """What became of the trials that reached a rung."""

    epoch: int
    entered: int
    went_on: int
    stopped: int
    """By the scheduler, or by the budget."""
    ended: int
    """By themselves: early stopping, or all epochs trained."""
    failed: int
    open: int
    """Running, or to be resumed."""


class Flow(NamedTuple):
    """All rungs of a search, the first epoch first."""

    rungs: tuple[RungFlow, ...]
    trials: int
    without_epoch: int


def cost(results: Results) -> Cost | None:
    """What trials reached against what they cost; None without a trial with a result."""
    if results.winner is None:
        return None
    points = {trial.number: _point(trial) for trial in results.ranked}
    sign = 1.0 if results.maximise else -1.0
    every = list(points.values())
    front_seconds = cheapest_front([(point.seconds, sign * point.value, point.trial) for point in every])
    front_parameters = cheapest_front(
        [(float(point.parameters), sign * point.value, point.trial) for point in every if point.parameters is not None]
    )
    kept = {trial.number for trial in spread(results.ranked, OUTCOMES)} | set(front_seconds) | set(front_parameters)
    shown = tuple(points[number] for number in points if number in kept)
    return Cost(results.metric, results.maximise, shown, front_seconds, front_parameters)


def _point(trial: TrialResult) -> CostPoint:
    return CostPoint(trial.number, trial.status, trial.best or 0.0, trial.seconds, trial.parameters, trial.is_baseline)


def cheapest_front(points: Sequence[tuple[float, float, int]]) -> tuple[int, ...]:
    """Of `(cost, value, trial)` those with the highest value at their cost or below, the cheapest first."""
    best, front = float("-inf"), []
    for _, value, trial in sorted(points, key=lambda point: (point[0], -point[1], point[2])):
        if value > best:
            best = value
            front.append(trial)
    return tuple(front)


def rung_flow(results: Results) -> Flow | None:
    """How many trials entered each rung and what became of them; None without a trial with an epoch.

    Rungs are the epochs at which the scheduler compared trials; without one, those at which it would have.
    """
    lengths = {trial.number: trial.epochs[-1].epoch for trial in results.trials if trial.epochs}
    if not lengths or results.study is None:
        return None
    borders = (*_rungs(results), results.study.max_epochs)
    found, begin = [], 1
    for border in borders:
        inside = [trial for trial in results.trials if lengths.get(trial.number, 0) >= begin]
        if not inside:
            break
        here = [trial for trial in inside if lengths[trial.number] <= border]
        on = len(inside) - len(here)
        kinds = Counter(_fate(trial) for trial in here)
        found.append(
            RungFlow(border, len(inside), on, kinds["stopped"], kinds["ended"], kinds["failed"], kinds["open"])
        )
        begin = border + 1
    return Flow(tuple(found), len(results.trials), len(results.trials) - len(lengths))


def _fate(trial: TrialResult) -> str:
    return {"completed": "ended", "stopped": "stopped", "failed": "failed"}.get(trial.status, "open")


def _rungs(results: Results) -> tuple[int, ...]:
    """The epochs of the rungs, from the settings in the record."""
    study = results.study
    if study is None:
        return ()
    search, training = study.specification.get("search", {}), study.specification.get("training", {})
    fine = any(epoch.phase == "fine_tune" for trial in results.trials for epoch in trial.epochs)
    grace = search.get("grace_epochs", "auto")
    if not isinstance(grace, int):
        grace = default_grace_epochs(int(training.get("head_epochs", 0)), fine, study.max_epochs)
    factor = search.get("reduction_factor", "auto")
    if not isinstance(factor, int) or factor < 2:
        space, _ = parse_space(study.specification.get("space"))
        pauses = any(session.scheduler == "asha" for session in results.sessions)
        factor = default_reduction_factor(pauses, has_branches(space))
    return rung_epochs(study.max_epochs, max(1, grace), factor)
