"""What a session takes over from earlier ones: the rungs, the trials that were running, and where each goes on."""

from __future__ import annotations

from collections.abc import Iterator

from tuner.algorithms.halving import Halving
from tuner.algorithms.rungs import rung_epochs
from tuner.algorithms.study import Unfinished
from tuner.common.locations import exists
from tuner.runs.directory import RunDirectory
from tuner.runs.events import TrialPaused
from tuner.runs.state import RunState, TrialState
from tuner.session.plan import grace_epochs, reduction_factor
from tuner.spec.spec import Spec
from tuner.training.checkpoint import FILE_NAME


def restored_halving(spec: Spec, state: RunState) -> Halving:
    """The rungs with the trials that a record already holds."""
    factor = reduction_factor(spec)
    epochs = rung_epochs(spec.training.max_epochs, grace_epochs(spec), factor)
    halving = Halving(epochs, factor, maximise=spec.mode == "max")
    for number in sorted(state.trials):
        trial = state.trials[number]
        best_by_epoch = {epoch.epoch: epoch.best_so_far for epoch in trial.epochs}
        halving.restore(number, best_by_epoch, trial.status, is_promoted=_is_promoted(trial))
    return halving


def _is_promoted(trial: TrialState) -> bool:
    """Whether a trial runs that has waited after the last epoch that it has reported."""
    waited = trial.paused.epoch if trial.paused is not None else 0
    return trial.status == "running" and bool(trial.epochs) and waited == trial.epochs[-1].epoch


def unrecorded_pauses(state: RunState, halving: Halving) -> Iterator[TrialPaused]:
    """What a session that was killed had no time to write: that a trial waits at the rung where its checkpoint is from.

    Of one that has no checkpoint of its last epoch it is not known whether it was to wait: it trains that epoch again.
    """
    for trial in state.with_status("running"):
        kept = trial.checkpoint.epoch if trial.checkpoint is not None else 0
        is_kept = bool(trial.epochs) and kept == trial.epochs[-1].epoch
        if is_kept and halving.is_rung(kept) and not _is_promoted(trial):
            yield TrialPaused(trial=trial.number, epoch=kept)


def interrupted_trials(state: RunState, halving: Halving | None) -> Iterator[int]:
    """Trials without an end that were running, and do not wait for a promotion."""
    for trial in state.trials.values():
        is_open = trial.status in ("running", "paused")  # paused, if the file's scheduler did not pause it: it goes on
        if is_open and (halving is None or trial.number not in halving.paused):
            yield trial.number


def continuation(number: int, state: RunState, run: RunDirectory) -> Unfinished:
    """A trial and its last checkpoint in the record, if that is still there; else it begins anew."""
    trial = state.trials[number]
    folder = run.checkpoints.child(trial.checkpoint.path) if trial.checkpoint else None
    usable = folder is not None and exists(folder.child(FILE_NAME))
    return Unfinished(number, trial.configuration, folder.address if folder and usable else None)
