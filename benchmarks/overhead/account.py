"""The account of a finished run: how the time of its slots was spent. Pure functions over its events.

A slot is a place for one trial at a time. Its time is training (the `seconds` of its epochs: training and validation),
or outside of it: before a trial's first epoch (building the network, opening the data, and for the first trials
computing what is cached), between its epochs, after its last, and between two trials. What an epoch had done when the
budget ran out is in no event and counts as outside in the shares, and is left out of a trial's own seconds.

The record does not say in which worker a trial ran. A trial is taken to follow the trial that had ended first of those
that nothing follows yet: the sum of these gaps does not depend on that choice, a single one may.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tuner.common.errors import RunError
from tuner.runs.events import EpochReported, Event, SessionEnded, SessionStarted, TrialEnded, TrialResumed, TrialStarted

PERCENTILE = 90


@dataclass(frozen=True)
class TrialAccount:
    """The seconds of one trial."""

    number: int
    training_s: float
    before_s: float
    """From its slot to the begin of its first epoch."""
    setup_s: float | None
    """The part of `before_s` for building the model and opening the data; None where the trial's end does not say."""
    between_s: float
    """Between the end of an epoch and the begin of the next, all together."""
    after_s: float | None
    """From its last epoch to its end; None when the search ended it, in the middle of an epoch."""
    idle_s: float | None
    """That its slot had been empty before; None for the first trial of a slot."""

    @property
    def outside_s(self) -> float:
        """All that was not training."""
        return self.before_s + self.between_s + (self.after_s or 0.0) + (self.idle_s or 0.0)


@dataclass(frozen=True)
class Account:
    """How a session spent the time of its slots."""

    slots: int
    epochs: int
    trials: tuple[TrialAccount, ...]
    """Those that finished an epoch, in the order in which they were started."""
    training_s: float
    launched_to_end_s: float | None
    """None when it is not known when the process was launched."""
    session_to_first_epoch_s: float
    """Until that epoch had ended."""
    first_epoch_to_end_s: float
    """From the begin of the first epoch."""

    @property
    def share(self) -> float:
        """Of the slots' time from the begin of the first epoch to the end."""
        return self.training_s / (self.slots * self.first_epoch_to_end_s)

    @property
    def share_from_launch(self) -> float | None:
        """The same from the launch of the process."""
        return None if self.launched_to_end_s is None else self.training_s / (self.slots * self.launched_to_end_s)


def account(events: Iterable[Event], launched: float | None = None) -> Account:
    """The account of a run of one session; `launched` is the Unix time at which its process was started.

    Raises:
        RunError: no session, several, one that is not ended, trials that were paused, or no epoch.
    """
    known = list(events)
    sessions = [event for event in known if isinstance(event, SessionStarted)]
    ends = [event for event in known if isinstance(event, SessionEnded)]
    epochs = sorted((event for event in known if isinstance(event, EpochReported)), key=lambda epoch: epoch.time)
    if (len(sessions), len(ends)) != (1, 1) or not epochs:
        raise RunError(
            "a record must hold one ended session with an epoch at least; "
            f"got {len(sessions)} begun, {len(ends)} ended, {len(epochs)} epochs"
        )
    if any(isinstance(event, TrialResumed) for event in known):
        raise RunError("a record must hold trials that ran in one piece; got one that was resumed")
    end, first = ends[0].time, min(epoch.time - epoch.seconds for epoch in epochs)
    return Account(
        slots=sessions[0].max_concurrent,
        epochs=len(epochs),
        trials=tuple(_trials(known, epochs)),
        training_s=sum(epoch.seconds for epoch in epochs),
        launched_to_end_s=None if launched is None else end - launched,
        session_to_first_epoch_s=epochs[0].time - sessions[0].time,
        first_epoch_to_end_s=end - first,
    )


def _trials(events: Sequence[Event], epochs: Sequence[EpochReported]) -> Iterable[TrialAccount]:
    ends = {event.trial: event for event in events if isinstance(event, TrialEnded)}
    idle = idle_seconds(events)
    for started in (event for event in events if isinstance(event, TrialStarted)):
        own = [epoch for epoch in epochs if epoch.trial == started.trial]
        ended = ends.get(started.trial)
        if own:
            is_cut = ended is None or ended.reason in ("time_budget", "interrupted")
            yield TrialAccount(
                number=started.trial,
                training_s=sum(epoch.seconds for epoch in own),
                before_s=own[0].time - own[0].seconds - started.time,
                setup_s=None if ended is None else ended.setup_s,
                between_s=sum(after.time - after.seconds - before.time for before, after in pairwise(own)),
                after_s=None if is_cut or ended is None else ended.time - own[-1].time,
                idle_s=idle.get(started.trial),
            )


def idle_seconds(events: Iterable[Event]) -> Mapping[int, float]:
    """How long the slot of each trial had been empty, by trial; not of the first trial of a slot."""
    freed: list[float] = []
    found: dict[int, float] = {}
    for event in sorted((event for event in events if isinstance(event, TrialStarted | TrialEnded)), key=_by_time):
        if isinstance(event, TrialEnded):
            freed.append(event.time)
        elif freed:
            found[event.trial] = event.time - freed.pop(0)
    return found


def _by_time(event: Event) -> float:
    return event.time


def percentile(values: Sequence[float], percent: int) -> float:
    """The smallest value that so many percent of all do not exceed; raises IndexError without any.

    >>> percentile([1.0, 2.0, 3.0, 4.0], 50), percentile([1.0, 2.0, 3.0, 4.0], 90)
    (2.0, 4.0)
    """
    return sorted(values)[max(0, -(-len(values) * percent // 100) - 1)]


PARTS: Mapping[str, Callable[[TrialAccount], float | None]] = {
    "outside training, all": lambda trial: trial.outside_s,
    "before the first epoch": lambda trial: trial.before_s,
    "of that, setup": lambda trial: trial.setup_s,
    "between epochs": lambda trial: trial.between_s,
    "after the last epoch": lambda trial: trial.after_s,
    "slot empty before": lambda trial: trial.idle_s,
}


def render(name: str, found: Account) -> str:
    """An account in Markdown."""
    from_launch = found.share_from_launch
    lines = [
        f"## {name}\n",
        f"{found.slots} slots, {len(found.trials)} trials, {found.epochs} epochs.\n",
        f"- share of the slots' time spent in training: **{found.share:.1%}** from the begin of the first epoch, "
        + ("launch not known" if from_launch is None else f"{from_launch:.1%} from launch"),
        f"- first epoch ended {found.session_to_first_epoch_s:.1f} s after the session began",
        "",
        f"| seconds of a trial | trials | median | {PERCENTILE}th percentile | sum |\n|---|---:|---:|---:|---:|",
    ]
    for part, read in PARTS.items():
        values = [value for value in map(read, found.trials) if value is not None]
        if values:
            middle, high = statistics.median(values), percentile(values, PERCENTILE)
            lines.append(f"| {part} | {len(values)} | {middle:.2f} | {high:.2f} | {sum(values):.1f} |")
    lines.append(f"| training | {len(found.trials)} | | | {found.training_s:.1f} |")
    return "\n".join(lines) + "\n"
