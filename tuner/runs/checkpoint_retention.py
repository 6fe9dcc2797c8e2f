"""CheckpointRemover of checkpoints that nothing will need again, while a search runs and at the end of each session.

A trial that is over is not trained again, and the finalists are trained from the beginning: of all of them, only the
best is still asked for, because it is exported where there are no finalists.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections import deque
from typing import Any

from tuner.common.locations import folders_in, remove_folder
from tuner.runs.directory import RunDirectory
from tuner.runs.state import RunState

CHECKPOINTS_KEPT = 2
"""Per trial that is open: the newest, and the one before, because a pause or a lost worker may still refer to it."""
_TRIAL = re.compile(r"trial-([0-9]+)-")


def trials_to_keep(state: RunState) -> set[int]:
    """Return the trials whose checkpoints may be needed: open ones, the best, and the best that is over.

    The best may be one that still runs, and fail.
    """
    best = state.best_of([*state.with_status("completed"), *state.with_status("stopped")])
    asked_for = {trial.number for trial in (best, state.best_trial()) if trial is not None}
    return asked_for | {trial.number for trial in state.trials.values() if trial.ended is None}


class CheckpointRemover:
    """Remover of single checkpoints while a search runs, as soon as no resumed search can need them.

    That is at once; with a storage, when its copy of the record is as new as the moment when the checkpoint was given
    up: whoever goes on from an older copy asks for what that one names.
    """

    def __init__(self, run: RunDirectory) -> None:
        self._run = run
        self._waiting: deque[tuple[int, Any]] = deque()

    def remove(self, checkpoint: Any) -> None:
        """Remove a checkpoint of Ray's that the record no longer names, as soon as the storage's copy allows it."""
        self._waiting.append((self._run.record.stat().st_size, checkpoint))
        copied = self._copied_bytes()
        while self._waiting and self._waiting[0][0] <= copied:
            _, given_up = self._waiting.popleft()
            with contextlib.suppress(OSError):  # a storage that does not answer; at the end, all of them are removed
                given_up.filesystem.delete_dir(given_up.path)

    def _copied_bytes(self) -> float:
        if not self._run.is_copied:
            return math.inf
        try:
            return int(self._run.copied_bytes.read_text())
        except (OSError, ValueError):
            return 0


def remove_old_checkpoints(run: RunDirectory, state: RunState) -> None:
    """Remove the checkpoints of trials that are over, of all sessions; not while Ray's Tuner runs. Raises OSError."""
    asked_for = trials_to_keep(state)
    for session in folders_in(run.ray):
        for folder in folders_in(session):
            match = _TRIAL.match(folder.name)
            if match is None or int(match[1]) in asked_for or int(match[1]) not in state.trials:
                continue
            for checkpoint in folders_in(folder):
                if checkpoint.name.startswith("checkpoint_"):
                    remove_folder(checkpoint)
