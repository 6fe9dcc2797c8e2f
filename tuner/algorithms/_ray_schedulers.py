"""Schedulers of Ray Tune, told the best value so far at each epoch, and ASHA as in its paper as one of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ray import tune
from ray.tune import schedulers

from tuner.algorithms.halving import EXCUSED, Halving
from tuner.algorithms.schedulers import SchedulerContext, clip_to_space, numeric
from tuner.runs.epoch import METRIC, TIME, StepResult
from tuner.spec.space import Dimension, Integer, Real


class PromotingScheduler(schedulers.FIFOScheduler):
    """A scheduler that pauses trials at rungs; `halving` chooses which goes on, and the searcher gives it a slot.

    Paused, to Ray, is stopped: the worker has saved a checkpoint at the rung, Ray forgets the trial, and a promotion is
    a new trial of Ray's with the same number that resumes from it. So a paused trial costs a file and nothing else, Ray
    does not go through hundreds of them at every step, and a promotion after a resume of the whole search is the same
    thing as one before.
    """

    def __init__(self, halving: Halving) -> None:
        super().__init__()
        self._halving = halving

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Excuse the first recipe of each architecture from waiting at the first rungs."""
        if trial.config["origin"] in EXCUSED:
            self._halving.excuse(int(trial.config["trial"]))

    def on_trial_result(self, tune_controller: Any, trial: Any, result: StepResult) -> str:
        """Stop a trial that has to wait at a rung."""
        if result["shown"] is None:
            return str(schedulers.TrialScheduler.CONTINUE)
        number = int(trial.config["trial"])
        waits = self._halving.arrive(number, result["epoch"], result["best_so_far"])
        if waits:  # Ray saves its state first, while other slots may become free
            self._halving.hold(number)
        return str(schedulers.TrialScheduler.STOP if waits else schedulers.TrialScheduler.CONTINUE)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: StepResult) -> None:
        """Note that a trial has come to its own end, or has left its slot to wait."""
        number = int(trial.config["trial"])
        self._halving.release(number)
        if number not in self._halving.paused:
            best = result.get("best_so_far") if result.get("ended_status") != "failed" else None
            self._halving.end(number, best)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Note that a trial's worker was lost: the trial starts again, or fails after too many losses."""
        number = int(trial.config["trial"])
        if trial.should_recover():
            self._halving.withdraw(number)
        else:
            self._halving.end(number, None)

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """Return the first pending trial; Ray's own version goes through all trials that ever were."""
        pending = [trial for trial in tune_controller.get_live_trials() if trial.status == trial.PENDING]
        return min(pending, key=lambda trial: str(trial.trial_id), default=None)

    def debug_string(self) -> str:
        """Return a line for Ray's logs."""
        return f"asha: {len(self._halving.paused)} trials are paused"


def build_none(_context: SchedulerContext) -> Any:
    """Return the scheduler that lets every trial go on."""
    return schedulers.FIFOScheduler()


def build_asha(context: SchedulerContext) -> Any:
    """Return the paper's ASHA."""
    if context.halving is None:
        raise ValueError("halving must be given to a scheduler that pauses; got None")
    return PromotingScheduler(context.halving)


def _compared(context: SchedulerContext) -> dict[str, Any]:
    """Return what all schedulers of Ray are told: the values that they compare, and when."""
    return {"time_attr": TIME, "metric": METRIC, "mode": context.mode}


@dataclass(frozen=True)
class _Numbered:
    """A trial as rules of Ray's know it: by its number, which stays when a search is resumed."""

    trial_id: int


class _WithRecord(schedulers.FIFOScheduler):
    """An addition to rules of Ray's that stop trials: they go by epochs alone, and know those of earlier sessions."""

    def remember(self, shown: Mapping[int, Mapping[int, float]]) -> None:
        """Take in the best values by epoch of trials of earlier sessions, by number, without a decision."""
        for number, best_by_epoch in shown.items():
            for epoch, best in best_by_epoch.items():
                super().on_trial_add(None, _Numbered(number))  # which the end of a trial takes back
                super().on_trial_complete(None, _Numbered(number), {TIME: epoch, METRIC: best})

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """Take in a trial that begins or goes on."""
        super().on_trial_add(tune_controller, _of(trial))

    def on_trial_result(self, tune_controller: Any, trial: Any, result: StepResult) -> str:
        """Decide about a trial after an epoch; a sign of life in between is none."""
        if result["shown"] is None:
            return str(schedulers.TrialScheduler.CONTINUE)
        return str(super().on_trial_result(tune_controller, _of(trial), result))

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: StepResult) -> None:
        """Take in the last epoch of a trial."""
        super().on_trial_complete(tune_controller, _of(trial), result)

    def on_trial_remove(self, tune_controller: Any, trial: Any) -> None:
        """Forget a trial that is not run."""
        super().on_trial_remove(tune_controller, _of(trial))


def _of(trial: Any) -> _Numbered:
    return _Numbered(int(trial.config["trial"]))


class _StoppingHalving(_WithRecord, schedulers.ASHAScheduler):
    """Ray's ASHA."""


class _MedianRule(_WithRecord, schedulers.MedianStoppingRule):
    """Ray's rule of the median."""


def build_asha_stopping(context: SchedulerContext) -> Any:
    """Return Ray's ASHA, which stops trials and never goes back."""
    epochs = {"max_t": context.max_epochs, "grace_period": context.grace_epochs}
    rule = _StoppingHalving(**_compared(context), **epochs, reduction_factor=context.reduction_factor)
    rule.remember(context.shown)
    return rule


def build_hyperband(context: SchedulerContext) -> Any:
    """Return Hyperband in the paper's order, largest bracket first; Ray keeps that form under BOHB's name."""
    factor = context.reduction_factor
    return schedulers.HyperBandForBOHB(**_compared(context), max_t=context.max_epochs, reduction_factor=factor)


def build_median(context: SchedulerContext) -> Any:
    """Return the rule of the median of running averages."""
    rule = _MedianRule(**_compared(context), grace_period=context.grace_epochs, min_samples_required=3)
    rule.remember(context.shown)
    return rule


def _of_population(context: SchedulerContext) -> dict[str, Any]:
    """Return what both schedulers of populations are told."""
    return {
        **_compared(context),
        "perturbation_interval": context.grace_epochs,
        "custom_explore_fn": lambda config: clip_to_space(config, context.mutable),
    }


def build_pbt(context: SchedulerContext) -> Any:
    """Return population based training."""
    mutations = {name: _mutations(dimension) for name, dimension in context.mutable.items()}
    return schedulers.PopulationBasedTraining(**_of_population(context), hyperparam_mutations=mutations)


def build_pb2(context: SchedulerContext) -> Any:
    """Return population based bandits."""
    from ray.tune.schedulers.pb2 import PB2  # it needs more libraries than the others

    bounds = {name: [bound.low, bound.high] for name, bound in numeric(context.mutable).items()}
    return PB2(**_of_population(context), hyperparam_bounds=bounds)


def _mutations(dimension: Dimension) -> Any:
    """Return a dimension as Ray's population based training resamples it."""
    match dimension:
        case Integer(low, high, _, log):
            return tune.lograndint(low, high + 1) if log else tune.randint(low, high + 1)
        case Real(low, high, log):
            return tune.loguniform(low, high) if log else tune.uniform(low, high)
        case _:
            return list(dimension.values)
