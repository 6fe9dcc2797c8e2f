"""A search whose first trials fail for the same reason is given up: what is wrong is not their configurations."""

from __future__ import annotations

from collections import Counter

from tuner.runs.events import Event, TrialEnded, TrialResumed, TrialStarted
from tuner.training.failures import kind_of

FIRST_TRIALS = 10
"""Of a session. More than half of them must fail for the same reason; a search of five trials is never given up."""


class FirstTrials:
    """Told of every event of a session; `reason` says why the search is to be given up, once it is.

    The trials are those that begin or go on first, so that a session that is resumed after the cause is gone is not
    held up by what an earlier one saw.
    """

    def __init__(self) -> None:
        self._first: dict[int, str] = {}
        self.reason: str | None = None

    def __call__(self, event: Event) -> None:
        """Take in one event."""
        match event:
            case TrialStarted() | TrialResumed() if len(self._first) < FIRST_TRIALS:
                self._first.setdefault(event.trial, "")
            case TrialEnded(status="failed") if event.trial in self._first:
                self._first[event.trial] = event.reason
                self._judge(kind_of(event.reason), event.reason)

    def _judge(self, kind: str, latest: str) -> None:
        number = Counter(kind_of(reason) for reason in self._first.values() if reason)[kind]
        if self.reason is None and number > FIRST_TRIALS // 2:
            self.reason = (
                f"{number} of the first {FIRST_TRIALS} trials failed for the same reason, the latest with: {latest}"
            )
