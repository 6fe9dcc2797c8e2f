"""What a search with sleeping trials shows of the driver, and what follows for more slots than were tried. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Report:
    """An epoch that has reached the record, or (`seconds` None) a trial that got a slot for the first time."""

    trial: int
    seconds: float | None
    """How long the epoch was slept."""
    at_s: float
    """On the driver's clock."""
    cpu_s: float
    """Processor time of the driver until then."""


@dataclass(frozen=True)
class Summary:
    """What was measured in the window in which all slots were busy."""

    reports: int
    efficiency: float
    """Sleep over slots x window."""
    efficiency_from_start: float
    """The same from the begin of the session: actors start, the first epochs are not there yet."""
    window_s: float
    all_slots_after_s: float
    cpu_per_report_s: float
    """Of the driver, with all that goes with it: suggestions, starts of trials, the record, the console."""
    reports_per_s: float


def summarise(reports: Sequence[Report], slots: int, started_s: float) -> Summary:
    """What `reports` show while all slots were busy.

    That begins when as many epochs have begun as there are slots, and ends one longest epoch before the last report:
    later, some slots sleep in epochs that no report tells of.

    >>> epochs = [Report(n % 2, 1.0, n / 2 + 1.0 + n % 2 * 0.5, n * 0.01) for n in range(40)]
    >>> round(summarise(epochs, 2, 0.0).efficiency, 2)
    1.0
    """
    epochs = [one for one in reports if one.seconds is not None]
    begins = sorted(one.at_s - (one.seconds or 0.0) for one in epochs)
    begin = begins[slots - 1]
    end = epochs[-1].at_s - max(one.seconds or 0.0 for one in epochs)
    inside = [one for one in epochs if begin <= one.at_s <= end]
    if len(inside) < 2:
        raise ValueError(f"the search must be longer; got {len(inside)} epochs while all slots were busy")
    window_s = end - begin
    spent_s = inside[-1].at_s - inside[0].at_s
    return Summary(
        reports=len(epochs),
        efficiency=_slept(epochs, begin, end) / (slots * window_s),
        efficiency_from_start=_slept(epochs, started_s, end) / (slots * (end - started_s)),
        window_s=window_s,
        all_slots_after_s=begin - started_s,
        cpu_per_report_s=(inside[-1].cpu_s - inside[0].cpu_s) / (len(inside) - 1),
        reports_per_s=(len(inside) - 1) / spent_s,
    )


def _slept(epochs: Sequence[Report], begin: float, end: float) -> float:
    """Seconds slept between two moments."""
    overlaps = (min(end, one.at_s) - max(begin, one.at_s - (one.seconds or 0.0)) for one in epochs)
    return sum(max(0.0, overlap) for overlap in overlaps)


def efficiency_at(slots: int, epoch_s: float, report_s: float) -> float:
    """The share of time that slots work when each report keeps the one driver busy for `report_s`.

    Mean value analysis of a closed queue (Reiser & Lavenberg 1980): slots "think" for an epoch, then wait their turn at
    the driver. Durations are taken as exponential, which is worse than they are.

    >>> efficiency_at(1, 9.0, 1.0), round(efficiency_at(1000, 10.0, 0.02), 2)
    (0.9, 0.5)
    """
    waiting = 0.0
    response_s = report_s
    for number in range(1, slots + 1):
        response_s = report_s * (1 + waiting)
        waiting = number / (epoch_s + response_s) * response_s
    return epoch_s / (epoch_s + response_s)
