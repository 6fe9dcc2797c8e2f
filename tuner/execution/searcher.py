"""The bridge between Ray Tune and the study: how many trials run, and what Optuna is told of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ray.tune.search import Searcher

from tuner.algorithms.halving import Halving
from tuner.algorithms.study import SearchStudy, Unfinished
from tuner.cluster.slots import Slots
from tuner.common.metrics import Mode
from tuner.execution.lost_workers import NotPickled
from tuner.runs.epoch import METRIC, StepResult, facts_of

WORKER_GROWTH_MB = 500.0
"""A worker that has grown by this much since its generation began is not used again."""


@dataclass(frozen=True)
class Promotions:
    """The part of a pausing scheduler that a searcher uses."""

    halving: Halving
    continuation: Callable[[int], Unfinished]
    """Returns the continuation of a paused trial."""


def trial_config(
    number: int, configuration: Mapping[str, Any], origin: str, resume_from: str | None = None
) -> dict[str, Any]:
    """Return the config for a worker; the configuration stays in one piece: Ray flattens and merges what it knows."""
    own = {"trial": number, "configuration": dict(configuration), "origin": origin}
    return {**own, "resume_from": resume_from, "generation": 0}


class StudySearcher(NotPickled, Searcher):
    """The searcher of Ray Tune that gives out trials, and tells the study their values.

    It limits how many run at once itself: Ray's ConcurrencyLimiter counts paused trials too, and so starves schedulers
    that pause. It is saved by Ray but never restored: the record is the truth, and the study is rebuilt from it.
    """

    def __init__(
        self,
        study: SearchStudy,
        mode: Mode,
        max_new_trials: int,
        slots: Slots,
        unfinished: list[Unfinished],
        worker_growth_mb: float,
        promotions: Promotions | None = None,
    ) -> None:
        super().__init__(metric=METRIC, mode=mode)
        self._study, self._slots, self._promotions = study, slots, promotions
        self._remaining, self._unfinished = max_new_trials, list(unfinished)
        self._worker_growth_mb = worker_growth_mb
        self._live: dict[str, int] = {}
        self._paused: set[str] = set()
        self._generation = 0
        self._smallest_memory_mb = float("inf")

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the config of the next trial; None while all slots are taken, FINISHED when no more are to come."""
        if len(self._live) - len(self._paused) >= self._slots():
            return None
        if self._unfinished:
            resumed = self._unfinished.pop(0)
            return self._give(trial_id, resumed.number, resumed.configuration, "queued", resumed.resume_from)
        promoted = self._promote(trial_id)
        if promoted is not None:
            return promoted
        suggestion = self._study.suggest() if self._remaining > 0 else None
        if suggestion is None:
            return self._suggest_last(trial_id)
        self._remaining -= 1
        return self._give(trial_id, suggestion.number, suggestion.configuration, suggestion.origin)

    def _suggest_last(self, trial_id: str) -> dict[str, Any] | str | None:
        """Return the config of a promotion that is left when no new trials are to come."""
        if self._promotions is not None and self._live:
            return None  # what runs may be better than what waits
        return self._promote(trial_id, is_final=True) or str(Searcher.FINISHED)

    def _promote(self, trial_id: str, *, is_final: bool = False) -> dict[str, Any] | None:
        """Return the config of the trial that goes on from its rung; None when none does."""
        if self._promotions is None:
            return None
        number = self._promotions.halving.promotable(is_final=is_final)
        if number is None:
            return None
        self._promotions.halving.promote(number)
        self._study.go_on(number)
        waiting = self._promotions.continuation(number)
        return self._give(trial_id, number, waiting.configuration, "queued", waiting.resume_from)

    def _give(
        self, trial_id: str, number: int, configuration: Mapping[str, Any], origin: str, resume_from: str | None = None
    ) -> dict[str, Any]:
        self._live[trial_id] = number
        return {**trial_config(number, configuration, origin, resume_from), "generation": self._generation}

    def on_trial_result(self, trial_id: str, result: StepResult) -> None:
        """Report one epoch to the study."""
        self._watch_memory(result)
        shown = result["shown"]
        if trial_id in self._live and shown is not None:
            measured = shown.measured(facts_of(result))
            self._study.observe(self._live[trial_id], shown.epoch, shown.best_so_far, measured)

    def _watch_memory(self, result: StepResult) -> None:
        """Ask for new workers from now on when a worker of this generation has grown too far."""
        if result["generation"] != self._generation:
            return
        self._smallest_memory_mb = min(self._smallest_memory_mb, result["worker_memory_mb"])
        if result["worker_memory_mb"] > self._smallest_memory_mb + self._worker_growth_mb:
            self._generation += 1
            self._smallest_memory_mb = float("inf")

    def on_trial_complete(self, trial_id: str, result: StepResult | None = None, error: bool = False) -> None:
        """Report to the study how a trial ended: by itself, stopped by the scheduler, or broken."""
        if result is not None and result.get("ended_status") != "failed":
            self.on_trial_result(trial_id, result)
        self._paused.discard(trial_id)
        number = self._live.pop(trial_id, None)
        if number is None:
            return
        if self._promotions is not None and number in self._promotions.halving.paused:
            self._study.pause(number)
            return
        status = result.get("ended_status") if result is not None else None
        self._study.finish(number, "failed" if error else status or "stopped")

    def on_pause(self, trial_id: str) -> None:
        """Free the slot of a paused trial (called by Ray's BOHB form of Hyperband)."""
        self._paused.add(trial_id)

    def on_unpause(self, trial_id: str) -> None:
        """Take a slot again for a paused trial."""
        self._paused.discard(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: the record holds all there is to know."""

    def restore(self, checkpoint_path: str) -> None:
        """Restore nothing: see `save`."""
