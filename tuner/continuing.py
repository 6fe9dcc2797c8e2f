"""What a session takes over from earlier ones: the rungs, the trials that were running, and where each goes on."""

from __future__ import annotations

from collections.abc import Iterator

from tuner.checkpoint import FILE_NAME
from tuner.halving import Halving
from tuner.plan import grace_epochs, reduction_factor
from tuner.run_state import RunState
from tuner.rungs import rung_epochs
from tuner.runs import RunDirectory
from tuner.spec import Spec
from tuner.study import Unfinished


def restored_halving(spec: Spec, state: RunState) -> Halving:
    """The rungs with the trials that a record already holds."""
    factor = reduction_factor(spec)
    epochs = rung_epochs(spec.training.max_epochs, grace_epochs(spec), factor)
    halving = Halving(epochs, factor, maximise=spec.mode == "max")
    for number in sorted(state.trials):
        trial = state.trials[number]
        halving.restore(number, {epoch.epoch: epoch.best_so_far for epoch in trial.epochs}, trial.status)
    return halving


def interrupted_trials(state: RunState, halving: Halving | None) -> Iterator[int]:
    """Trials without an end that were running, and do not wait for a promotion."""
    for trial in state.trials.values():
        is_open = trial.status in ("running", "paused")  # paused, if the file's scheduler did not pause it: it goes on
        if is_open and (halving is None or trial.number not in halving.paused):
            yield trial.number


def continuation(number: int, state: RunState, run: RunDirectory) -> Unfinished:
    """A trial and the newest checkpoint of it that is still there."""
    trial = state.trials[number]
    path = run.path / trial.checkpoint.path if trial.checkpoint else None
    usable = path is not None and (path / FILE_NAME).is_file()
    return Unfinished(number, trial.configuration, str(path.resolve()) if path and usable else None)
