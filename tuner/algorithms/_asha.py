"""Asynchronous successive halving as in its paper, as a scheduler of Ray Tune."""

from __future__ import annotations

from typing import Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from tuner.algorithms.halving import METRIC, TIME, Halving


class PromotingScheduler(FIFOScheduler):
    """A scheduler that pauses trials at rungs; `halving` chooses which goes on, and the searcher gives it a slot.

    Paused, to Ray, is stopped: the worker has saved a checkpoint at the rung, Ray forgets the trial, and a promotion is
    a new trial of Ray's with the same number that resumes from it. So a paused trial costs a file and nothing else, Ray
    does not go through hundreds of them at every step, and a promotion after a resume of the whole search is the same
    thing as one before.
    """

    def __init__(self, halving: Halving) -> None:
        super().__init__()
        self._halving = halving

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Stop a trial that has to wait at a rung."""
        if not result["has_epoch"]:
            return str(TrialScheduler.CONTINUE)
        number = int(trial.config["trial"])
        waits = self._halving.arrive(number, int(result[TIME]), float(result[METRIC]))
        if waits:  # Ray saves its state first, while other slots may become free
            self._halving.hold(number)
        return str(TrialScheduler.STOP if waits else TrialScheduler.CONTINUE)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Note that a trial has come to its own end, or has left its slot to wait."""
        number = int(trial.config["trial"])
        self._halving.release(number)
        if number not in self._halving.paused:
            failed = result.get("ended_status") == "failed" or METRIC not in result
            self._halving.end(number, None if failed else float(result[METRIC]))

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
