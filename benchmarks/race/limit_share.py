"""Tuner's share of the limit: the same epochs of the same trials, by a search and by a bare loop. Pure functions.

Both are timed from the begin of their first epoch: by then tuner has computed the activations that its trials read, and
the bare loop has loaded them. Both clocks stop at the end of epoch N in the order of finishing, N being the number of
epochs that both finished, also after the budget of the race: tuner's own begins when it has started up, and where the
bare loop has trained all that tuner has, the work is the same to the last epoch. Where it has trained less, the epochs
differ by what tuner, with several trials at a time, had in hand at that moment.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.race.results import Run


@dataclass(frozen=True)
class LimitShare:
    """Medians over the rounds that can be compared."""

    rounds: int
    epochs: float
    """That both finished."""
    tuner_s: float
    """From the begin of the first epoch to the end of the last of these."""
    limit_s: float
    share: float
    """Of the limit's epochs per second; above 1 where tuner is quicker than a bare loop."""
    least: float
    """The worst round."""


def seconds_for(run: Run, epochs: int) -> float:
    """From the begin of the first epoch to the end of the one that finished as number `epochs`.

    Raises:
        IndexError: the run has not so many.
    """
    return run[epochs - 1].elapsed_s - min(epoch.elapsed_s - epoch.seconds for epoch in run)


def share_of_limit(tuner: Sequence[Run], limit: Sequence[Run]) -> LimitShare | None:
    """How the rounds of the bare loop stand to tuner's; None when none can be compared.

    Rounds belong together when the bare loop trained the trials of that round of tuner: one of a leg may be missing.
    """
    times = []
    for bare in limit:
        searched = next((run for run in tuner if bare and _trials(bare) <= _trials(run)), None)
        if searched is not None and (epochs := min(len(bare), len(searched))):
            times.append((epochs, seconds_for(searched, epochs), seconds_for(bare, epochs)))
    if not times:
        return None
    shares = [limit_s / tuner_s for _, tuner_s, limit_s in times]
    epochs, tuner_s, limit_s = (statistics.median(column) for column in zip(*times, strict=True))
    return LimitShare(len(times), epochs, tuner_s, limit_s, statistics.median(shares), min(shares))


def _trials(run: Run) -> set[str]:
    return {json.dumps([epoch.trial, dict(epoch.configuration)], sort_keys=True) for epoch in run}
