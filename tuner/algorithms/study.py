"""The Optuna study of a search, which is told the real values of trials, and rebuilt from the record."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, Trial, create_trial
from optuna.trial import TrialState as OptunaState

from tuner.algorithms._observations import OTHER_METRICS, direction_of, with_measured
from tuner.algorithms.tpe import CUT, ENDED_BY_ITSELF, EPOCH_SECONDS, FAILED, PAUSED
from tuner.common.metrics import Mode
from tuner.common.seeds import derive_seed
from tuner.runs.events import OVER
from tuner.runs.pareto import other_values
from tuner.runs.state import RunState, TrialState
from tuner.spec.space import (
    Choice,
    Configuration,
    Dimension,
    Integer,
    Real,
    Scalar,
    Space,
    configure,
    count,
    enumerate_configurations,
    misfits,
    sample,
    vary,
)

Origin = Literal["baseline", "sampler", "grid", "queued", "recipe", "portfolio", "prior", "untried"]
"""`untried`: the sampler proposed what had been tried, and this is near it."""

_NEAR, _KEPT, _MOST_DRAWS = 64, 0.8, 10_000
"""Draws near a proposal, their share of its values, and draws at most in search of what was not tried."""


@dataclass(frozen=True)
class Queued:
    """A configuration to be tried as it is, before the sampler is asked."""

    configuration: Configuration
    origin: Origin


@dataclass(frozen=True)
class Suggestion:
    """A trial to run."""

    number: int
    configuration: Configuration
    origin: Origin


@dataclass(frozen=True)
class Unfinished:
    """A trial of an earlier session that goes on from a checkpoint (or from the beginning)."""

    number: int
    configuration: Configuration
    resume_from: str | None


class SearchStudy:
    """A study that suggests configurations and observes trials. It knows Optuna, and nothing of Ray.

    An epoch's value is the best so far. A trial that ended by itself is COMPLETE, a stopped one PRUNED with all the
    values it reported; a failed one is PRUNED too and marked, so that samplers can learn that its region is bad. No
    configuration is suggested twice: a proposal that was tried is FAIL in Optuna, which samplers pass over.
    """

    def __init__(
        self,
        space: Space,
        sampler: BaseSampler,
        mode: Mode,
        queue: Iterable[Queued] = (),
        sampler_may_propose: bool = True,
        other_metrics: Sequence[str] = (),
    ) -> None:
        self._space = space
        self._queue: Iterator[Queued] = iter(queue)
        self._sampler_may_propose = sampler_may_propose
        self.optuna_study = optuna.create_study(direction=direction_of(mode), sampler=sampler)
        self._other_metrics = tuple(other_metrics)
        if self._other_metrics:
            self.optuna_study.set_user_attr(OTHER_METRICS, list(self._other_metrics))
        self._trials: dict[int, Trial] = {}
        self._seconds: dict[int, list[float]] = {}
        self._last_epochs: dict[int, int] = {}
        self._next_number = 0
        self._size, self._tried = count(space), set[frozenset[tuple[str, Scalar]]]()

    def suggest(self) -> Suggestion | None:
        """Return the next trial; None when a grid, or the space itself, is used up."""
        for queued in self._queue:
            if self._is_new(queued.configuration):
                return self._begin(queued.configuration, queued.origin)
        if not self._sampler_may_propose or len(self._tried) >= self._size:
            return None
        trial = self.optuna_study.ask()
        proposed = configure(self._space, lambda *one: suggest_value(trial, *one))
        if self._is_new(proposed):
            return self._begin(proposed, "sampler", trial)
        self.optuna_study.tell(trial, state=OptunaState.FAIL)
        instead = self._untried_near(proposed)
        return self._begin(instead, "untried") if instead is not None else None

    def _is_new(self, configuration: Configuration) -> bool:
        return frozenset(configuration.items()) not in self._tried

    def _begin(self, configuration: Configuration, origin: Origin, trial: Trial | None = None) -> Suggestion:
        number = self._next_number
        self._next_number += 1
        self._tried.add(frozenset(configuration.items()))
        if trial is None:
            self._add(number, configuration)
        else:
            self._trials[number] = trial
        return Suggestion(number, dict(configuration), origin)

    def _untried_near(self, proposed: Configuration) -> Configuration | None:
        """Return a configuration that was not tried and shares most values with a proposal, as far as a few draws tell.

        None where none is left: that is not known beforehand if a range of floats holds only a few.
        """
        generator = np.random.default_rng(derive_seed(0, "untried", self._next_number))
        drawn = [vary(self._space, proposed, _KEPT, generator) for _ in range(_NEAR)]
        if near := [one for one in drawn if self._is_new(one)]:
            return max(near, key=lambda one: len(one.items() & proposed.items()))
        far = (sample(self._space, generator) for _ in range(_MOST_DRAWS))
        others = enumerate_configurations(self._space) if self._size < math.inf else far
        return next((one for one in others if self._is_new(one)), None)

    def observe(self, number: int, epoch: int, value: float, measured: Mapping[str, Any] | None = None) -> None:
        """Report a trial's best value so far at an epoch, and other measurements by name.

        An epoch that is trained again, as after the loss of a worker, says nothing new, as in the record.
        """
        if epoch <= self._last_epochs.get(number, 0):
            return
        self._last_epochs[number] = epoch
        trial, measured = self._trials[number], measured or {}
        if "seconds" in measured:
            self._seconds.setdefault(number, []).append(float(measured["seconds"]))
            trial.set_user_attr(EPOCH_SECONDS, fmean(self._seconds[number]))
        if self._other_metrics and measured:
            shown = self.optuna_study.get_trials(deepcopy=False)[trial.number]
            known, before = shown.user_attrs.get(OTHER_METRICS, {}), shown.intermediate_values
            is_new_best = not before or value != before[max(before)]
            found = with_measured(known, measured, self._other_metrics, is_new_best=is_new_best)
            if found != known:
                trial.set_user_attr(OTHER_METRICS, found)
        trial.report(value, epoch)

    def finish(self, number: int, status: Literal["completed", "stopped", "failed"]) -> None:
        """Report the end of a trial."""
        trial = self._trials[number]
        values = self.optuna_study.get_trials(deepcopy=False)[trial.number].intermediate_values
        if status == "completed" and values:
            trial.set_user_attr(ENDED_BY_ITSELF, True)
            self.optuna_study.tell(trial, values[max(values)])
        else:
            if status == "failed":
                trial.set_user_attr(FAILED, True)
            self.optuna_study.tell(trial, state=OptunaState.PRUNED)

    def pause(self, number: int) -> None:
        """Report that a trial waits at a rung: it is open, but no value is to be expected of it for now."""
        self._trials[number].set_user_attr(PAUSED, True)

    def go_on(self, number: int) -> None:
        """Report that a trial was promoted."""
        self._trials[number].set_user_attr(PAUSED, False)

    def rebuild(self, state: RunState) -> None:
        """Add every trial of a record, as if it had been run here; those that still run stay open.

        Trials whose configuration is not in the space (it was edited) are left out.
        """
        for number in sorted(state.trials):
            recorded = state.trials[number]
            self._next_number = max(self._next_number, number + 1)
            if misfits(self._space, recorded.configuration):
                continue
            self._tried.add(frozenset(recorded.configuration.items()))
            if recorded.origin == "untried":
                self._discard_proposal()
            if recorded.status not in ("running", "paused"):
                values = {epoch.epoch: epoch.best_so_far for epoch in recorded.epochs}
                more: dict[str, Any] = {CUT: True} if recorded.reason in OVER else {}
                if recorded.epochs:
                    more[EPOCH_SECONDS] = fmean(epoch.seconds for epoch in recorded.epochs)
                    if others := other_values(recorded, self._other_metrics):
                        more[OTHER_METRICS] = others
                ended = ended_trial(self._space, recorded.configuration, recorded.status, values, more)
                self.optuna_study.add_trial(ended)
                continue
            self._add(number, recorded.configuration)
            for epoch in recorded.epochs:
                self.observe(number, epoch.epoch, epoch.best_so_far, epoch.measured(_facts(recorded)))
            if recorded.status == "paused":
                self.pause(number)

    def _discard_proposal(self) -> None:
        """Pass over a number of Optuna's, as in the session that found a proposal tried before."""
        self.optuna_study.tell(self.optuna_study.ask(), state=OptunaState.FAIL)

    def _add(self, number: int, configuration: Configuration) -> None:
        """Open a trial with a given configuration."""
        self.optuna_study.enqueue_trial(optuna_parameters(self._space, configuration)[0])
        trial = self.optuna_study.ask()
        configure(self._space, lambda *one: suggest_value(trial, *one))
        self._trials[number] = trial


def ended_trial(
    space: Space, configuration: Configuration, status: str, values: Mapping[int, float], more: Mapping[str, Any]
) -> FrozenTrial:
    """Return an ended trial in Optuna's form; to ask Optuna for it anew would cost a suggestion.

    `values` are the best up to each epoch, `more` user attributes beside those that say how it ended.
    """
    parameters, distributions = optuna_parameters(space, configuration)
    completed = status == "completed" and bool(values)
    marks = {ENDED_BY_ITSELF: True} if completed else {FAILED: True} if status == "failed" else {}
    return create_trial(
        state=OptunaState.COMPLETE if completed else OptunaState.PRUNED,
        value=values[max(values)] if values else None,  # of a stopped trial too: Optuna takes over its last report
        params=parameters,
        distributions=distributions,
        intermediate_values=dict(values),
        user_attrs={**marks, **more},
    )


def optuna_parameters(space: Space, configuration: Configuration) -> tuple[dict[str, Any], dict[str, BaseDistribution]]:
    """Return the parameters of a configuration by qualified names, and the distribution of each, in Optuna's form."""
    parameters: dict[str, Any] = {}
    distributions: dict[str, BaseDistribution] = {}

    def look_up(qualified: str, name: str, dimension: Dimension) -> Scalar:
        if not _is_fixed_strength(name, dimension):
            parameters[qualified] = configuration[name]
            distributions[qualified] = _distribution(dimension)
        return configuration[name]

    configure(space, look_up)
    return parameters, distributions


def _facts(recorded: TrialState) -> dict[str, Any]:
    """Return the measured facts of a trial's network, by the names of metrics."""
    return {} if recorded.measured is None else recorded.measured.model_dump(exclude={"event", "time", "elapsed_s"})


def _distribution(dimension: Dimension) -> BaseDistribution:
    match dimension:
        case Integer(low, high, step, log):
            return IntDistribution(low, high, log=log, step=step)
        case Real(low, high, log):
            return FloatDistribution(low, high, log=log)
        case _:
            return CategoricalDistribution(dimension.values)


def _is_fixed_strength(name: str, dimension: Dimension) -> bool:
    """Return whether a branch of operations leaves no choice of this one: samplers then know the branch alone."""
    return "." in name and isinstance(dimension, Choice) and len(dimension.values) == 1


def suggest_value(trial: Trial, qualified: str, name: str, dimension: Dimension) -> Scalar:
    """Return Optuna's proposal for one dimension."""
    if isinstance(dimension, Choice) and _is_fixed_strength(name, dimension):
        return dimension.values[0]
    match dimension:
        case Integer(low, high, step, log):
            return trial.suggest_int(qualified, low, high, step=step, log=log)
        case Real(low, high, log):
            return trial.suggest_float(qualified, low, high, log=log)
        case _:
            return trial.suggest_categorical(qualified, dimension.values)
