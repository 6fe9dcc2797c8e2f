"""The cost of a search: values against seconds and parameters, and who went on at each rung."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter

from tuner.common.metrics import Mode, oriented
from tuner.common.words import counted
from tuner.reports.figures import style
from tuner.reports.formatting import capital, format_duration, format_value, metric_words
from tuner.reports.results import Results, ResultStatus


class CostTrial(NamedTuple):
    """One trial with its value and its costs."""

    trial: int
    status: ResultStatus
    value: float
    seconds: float
    """Training and validation of all its epochs."""
    parameters: int | None
    is_baseline: bool


class Cost(NamedTuple):
    """Trials by what they reached and what they cost."""

    metric: str
    mode: Mode
    trials: tuple[CostTrial, ...]
    """By rank."""
    front_seconds: tuple[int, ...]
    """Trials that no other one beats in both value and seconds, the cheapest first."""
    front_parameters: tuple[int, ...]
    """The same for parameters."""
    left_out: int
    """Trials for which there was no room."""


def build_cost(results: Results) -> Cost | None:
    """Return what trials reached against what they cost; None without a trial with a result."""
    if results.winner is None:
        return None
    every = [
        CostTrial(trial.number, trial.status, trial.best or 0.0, trial.seconds, trial.parameters, trial.is_baseline)
        for trial in results.ranked
    ]
    values = {one.trial: oriented(one.value, results.mode) for one in every}
    front_seconds = find_cheapest_front([(one.seconds, values[one.trial], one.trial) for one in every])
    front_parameters = find_cheapest_front(
        [(float(one.parameters), values[one.trial], one.trial) for one in every if one.parameters is not None]
    )
    kept = (
        {one.trial for one in style.sample_evenly(every, style.MOST_TRIALS)}
        | set(front_seconds)
        | set(front_parameters)
    )
    shown = tuple(one for one in every if one.trial in kept)
    return Cost(results.metric, results.mode, shown, front_seconds, front_parameters, len(every) - len(shown))


def find_cheapest_front(trials: Sequence[tuple[float, float, int]]) -> tuple[int, ...]:
    """Return of `(cost, value, trial)` those with the highest value at their cost or below, the cheapest first."""
    best, front = float("-inf"), []
    for _, value, trial in sorted(trials, key=lambda one: (one[0], -one[1], one[2])):
        if value > best:
            best = value
            front.append(trial)
    return tuple(front)


def draw_cost(data: Cost) -> Figure:
    """Draw the metric against seconds and against parameters, the Pareto front of each as a line."""
    with_parameters = [one for one in data.trials if one.parameters is not None]
    figure, panels = style.build_figure(10.5, 4.6, 2 if with_parameters else 1, share_y=True)
    unit, unit_s = style.time_unit(max(one.seconds for one in data.trials))
    _draw_panel(panels[0], data.trials, [one.seconds / unit_s for one in data.trials], data.front_seconds)
    panels[0].set_xlabel(f"training time of the trial ({unit})")
    if with_parameters:
        places = [float(one.parameters or 0) for one in with_parameters]
        _draw_panel(panels[1], with_parameters, places, data.front_parameters)
        panels[1].set_xlabel("parameters")
        panels[1].xaxis.set_major_formatter(FuncFormatter(lambda value, _position: number_words(value)))
    style.set_metric_axis(panels[0], "y", data.metric, [one.value for one in data.trials])
    handles = style.build_status_handles({one.status for one in data.trials})
    handles.append(Line2D([], [], color=style.BLACK, linewidth=1.6, label="best at that cost or below"))
    if any(one.is_baseline for one in data.trials):
        handles.append(style.build_handle("o", "none", style.BLACK, "baseline", 11))
    style.set_legend(figure, handles, below=True)
    style.set_title(figure, f"{capital(metric_words(data.metric))} against what a trial costs")
    return figure


def _draw_panel(panel: Any, trials: Sequence[CostTrial], places: Sequence[float], front: Sequence[int]) -> None:
    """Draw marks by status and the front as a staircase; by factors where costs differ by more than ten times."""
    values, statuses = [one.value for one in trials], [one.status for one in trials]
    style.draw_marks(panel, places, values, statuses, edge_width=1.3, zorder=3)
    by_trial = {one.trial: (place, one.value) for place, one in zip(places, trials, strict=True)}
    steps = [by_trial[trial] for trial in front]
    if steps:
        end = max(places)
        panel.step([*(place for place, _ in steps), end], [*(value for _, value in steps), steps[-1][1]],
                   where="post", color=style.BLACK, linewidth=1.6, zorder=4)  # fmt: skip
    for place, one in zip(places, trials, strict=True):
        if one.is_baseline:
            panel.plot([place], [one.value], "o", mfc="none", mec=style.BLACK, ms=11, mew=1.4, zorder=5)
    positive = [place for place in places if place > 0]
    if positive and max(positive) > 10 * min(positive):
        style.set_log_axis(panel)


def number_words(value: float) -> str:
    """Return a number of parameters for an axis.

    >>> number_words(1_250_000), number_words(40_000), number_words(12)
    ('1.25 M', '40 k', '12')
    """
    if value >= 1e6:
        return f"{value / 1e6:g} M"
    return f"{value / 1e3:g} k" if value >= 1e3 else f"{value:g}"


def describe_cost(data: Cost) -> str:
    """Say in words what trials reached at which cost."""
    by_trial = {one.trial: one for one in data.trials}
    first, last = by_trial[data.front_seconds[0]], by_trial[data.front_seconds[-1]]
    number = len(data.trials) + data.left_out
    of_all = f"{len(data.trials):,} of " if data.left_out else ""
    costs = "training time and number of parameters" if data.front_parameters else "training time"
    words = (
        f"{capital(metric_words(data.metric))} of {of_all}{counted(number, 'trial')} against {costs}. "
        f"The cheapest trial on the front is trial {first.trial}: "
        f"{format_value(data.metric, first.value)} after {format_duration(first.seconds)}"
    )
    if last.trial == first.trial:
        return f"{words}; none is better."
    return (
        f"{words}; the best is trial {last.trial}: {format_value(data.metric, last.value)} after "
        f"{format_duration(last.seconds)}; {len(data.front_seconds)} trials are on the front."
    )


class RungOutcome(NamedTuple):
    """A rung, and how many of the trials that reached it went on or ended there."""

    epoch: int
    entered: int
    went_on: int
    stopped: int
    """By the scheduler, or by the budget."""
    ended: int
    """By themselves: early stopping, or all epochs trained."""
    failed: int
    waiting: int
    """Not promoted, or not yet."""
    open: int
    """Running, or to be resumed."""


class Rungs(NamedTuple):
    """All rungs of a search, the first epoch first."""

    rungs: tuple[RungOutcome, ...]
    trials: int


class Fate(NamedTuple):
    """The look of trials with the same fate at a rung."""

    field: str
    """The field of `RungOutcome` with their number."""
    color: str
    words: str


FATES = (
    Fate("went_on", style.BLUE, "went on"),
    Fate("ended", "#7FB8D9", "ended by themselves"),
    Fate("stopped", style.ORANGE, "stopped"),
    Fate("failed", style.VERMILLION, "failed"),
    Fate("waiting", "#F3D38C", "wait to go on"),
    Fate("open", style.FAINT, "running or unfinished"),
)


_FATE_OF: Mapping[ResultStatus, str] = {
    "completed": "ended", "stopped": "stopped", "failed": "failed", "paused": "waiting",
}  # fmt: skip


def build_rungs(results: Results) -> Rungs | None:
    """Return how many trials entered each rung and what became of them; None without a trial with an epoch.

    Rungs are the epochs at which the scheduler compared trials; without one, those at which it would have.
    """
    lengths = {trial.number: trial.epochs[-1].epoch for trial in results.trials if trial.epochs}
    if not lengths or results.study is None:
        return None
    borders = (*_rung_epochs(results), results.study.max_epochs)
    found, begin = [], 1
    for border in borders:
        inside = [trial for trial in results.trials if lengths.get(trial.number, 0) >= begin]
        if not inside:
            break
        here = [trial for trial in inside if lengths[trial.number] <= border]
        on = len(inside) - len(here)
        kinds = Counter(_FATE_OF.get(trial.status, "open") for trial in here)
        found.append(RungOutcome(border, len(inside), on, *(kinds[fate] for fate in RungOutcome._fields[3:])))
        begin = border + 1
    return Rungs(tuple(found), len(results.trials))


def _rung_epochs(results: Results) -> tuple[int, ...]:
    """Return the epochs of the rungs, as the record has them of the last session."""
    known = [session.resolved for session in results.sessions if session.resolved is not None]
    return tuple(known[-1].rungs) if known else ()


def draw_rungs(data: Rungs) -> Figure:
    """Draw a bar for each rung: how many entered, and what became of them there."""
    figure, (panel,) = style.build_figure(10.5, 1.6 + 0.55 * len(data.rungs))
    for row, rung in enumerate(data.rungs):
        left = 0
        for fate in FATES:
            width = getattr(rung, fate.field)
            if width:
                panel.barh(row, width, left=left, color=fate.color, height=0.62, zorder=3)
                if width >= 0.045 * data.trials:
                    ink = "white" if fate.field in ("went_on", "failed") else style.BLACK
                    panel.text(left + width / 2, row, f"{width}", ha="center", va="center", color=ink, zorder=4)
            left += width
    begins = [1, *(rung.epoch + 1 for rung in data.rungs[:-1])]
    labels = [
        f"epoch {rung.epoch}" if begin == rung.epoch else f"epochs {begin} to {rung.epoch}"
        for begin, rung in zip(begins, data.rungs, strict=True)
    ]
    style.set_row_axis(panel, labels)
    panel.set_xlabel("trials that trained there")
    panel.spines["left"].set_color(style.GREY)
    used = [fate for fate in FATES if any(getattr(rung, fate.field) for rung in data.rungs)]
    style.set_legend(figure, [Patch(color=fate.color, label=fate.words) for fate in used], below=True)
    style.set_title(figure, "Rungs: who went on, and who did not")
    return figure


def describe_rungs(data: Rungs) -> str:
    """Say in words what became of the trials at each rung."""
    parts = []
    for rung in data.rungs:
        numbers = ((getattr(rung, fate.field), fate.words) for fate in FATES)
        told = ", ".join(f"{number} {words}" for number, words in numbers if number)
        parts.append(f"up to epoch {rung.epoch}: {rung.entered} trained, {told}")
    return f"What became of {counted(data.trials, 'trial')} at each rung. {capital('; '.join(parts))}."


COST = style.FigureKind(build_cost, draw_cost, describe_cost, part="cost")
RUNGS = style.FigureKind(build_rungs, draw_rungs, describe_rungs, part="cost")
