"""Trials by their hyperparameters: a slice for each of them, and lines through all of them."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from tuner.common.metrics import Mode
from tuner.common.words import counted
from tuner.reports.figures import style
from tuner.reports.formatting import capital, format_value, is_share, metric_words, shortened
from tuner.reports.results import Results, ResultStatus, TrialResult
from tuner.runs.events import Scalar

MOST_SLICES = 9
MOST_AXES = 10
MOST_LINES = 150
MOST_TICKS = 12

Setting = float | str | None
"""A number, or one of a hyperparameter's choices; None where a trial does not have the hyperparameter."""


class Hyperparameter(NamedTuple):
    """A hyperparameter and the range of its values."""

    name: str
    choices: tuple[str, ...]
    """In their order; empty for a number."""
    low: float | None
    """Lower end of the numbers; None with choices."""
    high: float | None
    is_log: bool
    """Whether its values are spread by factors."""


class SpaceTrial(NamedTuple):
    """One trial in the space."""

    trial: int
    status: ResultStatus
    value: float
    settings: tuple[Setting, ...]
    """One for each hyperparameter."""


class Slices(NamedTuple):
    """Trials by each hyperparameter."""

    metric: str
    hyperparameters: tuple[Hyperparameter, ...]
    trials: tuple[SpaceTrial, ...]
    """The best first."""
    left_out: int
    """Hyperparameters for which there was no room."""


class Parallel(NamedTuple):
    """Trials as lines through all hyperparameters."""

    metric: str
    mode: Mode
    hyperparameters: tuple[Hyperparameter, ...]
    trials: tuple[SpaceTrial, ...]
    """The best first."""
    left_out: int
    """Trials for which there was no room."""


def build_slices(results: Results) -> Slices | None:
    """Return each trial's value by each hyperparameter that differs; None without a result or without such a one."""
    shown = style.sample_evenly(results.ranked, style.MOST_TRIALS)
    every = _build_hyperparameters(results.differing_within, shown)
    if not every:
        return None
    kept = every[:MOST_SLICES]
    return Slices(results.metric, kept, _build_trials(kept, shown), len(every) - len(kept))


def build_parallel(results: Results) -> Parallel | None:
    """Return trials as lines through their hyperparameters; None without a result or with fewer than two of them."""
    names = results.differing[:MOST_AXES]
    if results.winner is None or len(names) < 2:
        return None
    hyperparameters = _build_hyperparameters(names, results.ranked)
    shown = style.sample_evenly(results.ranked, MOST_LINES)
    trials, left_out = _build_trials(hyperparameters, shown), len(results.ranked) - len(shown)
    return Parallel(results.metric, results.mode, hyperparameters, trials, left_out)


def _build_trials(hyperparameters: Sequence[Hyperparameter], trials: Sequence[TrialResult]) -> tuple[SpaceTrial, ...]:
    found = []
    for trial in trials:
        settings = tuple(_setting(hyperparameter, trial) for hyperparameter in hyperparameters)
        found.append(SpaceTrial(trial.number, trial.status, trial.best or 0.0, settings))
    return tuple(found)


def _setting(hyperparameter: Hyperparameter, trial: TrialResult) -> Setting:
    if hyperparameter.name not in trial.configuration:
        return None
    value = trial.configuration[hyperparameter.name]
    return _word(value) if hyperparameter.choices else as_number(value)


def _build_hyperparameters(names: Sequence[str], trials: Sequence[TrialResult]) -> tuple[Hyperparameter, ...]:
    """Return what is known of the values of each hyperparameter that any of the trials has."""
    values = {name: [one.configuration[name] for one in trials if name in one.configuration] for name in names}
    return tuple(_build_hyperparameter(name, found) for name, found in values.items() if found)


def _build_hyperparameter(name: str, values: Sequence[Scalar]) -> Hyperparameter:
    distinct = {_word(value): as_number(value) for value in values}  # true and 1 are different words
    numbers = [number for number in distinct.values() if number is not None]
    if len(numbers) < len(distinct) or len(distinct) <= 2:
        return Hyperparameter(name, _in_order(distinct), None, None, is_log=False)
    low, high = min(numbers), max(numbers)
    every = [number for value in values if (number := as_number(value)) is not None]  # as often as it occurs
    is_log = low > 0 and high >= 20 * low and _is_even_in_logarithms(every)
    return Hyperparameter(name, (), low, high, is_log)


def as_number(value: Scalar) -> float | None:
    """Return a value as a number; None for words, and for true and false, which are words too."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _is_even_in_logarithms(numbers: Sequence[float]) -> bool:
    """Say whether the middle one of some positive numbers is nearer to the geometric middle of their range."""
    middle, low, high = median(numbers), min(numbers), max(numbers)
    share, share_of_logarithms = (middle - low) / (high - low), math.log(middle / low) / math.log(high / low)
    return abs(share_of_logarithms - 0.5) < abs(share - 0.5)


def _in_order(distinct: Mapping[str, float | None]) -> tuple[str, ...]:
    """Return words in alphabetical order, behind the numbers in theirs."""
    return tuple(sorted(distinct, key=lambda word: (math.inf if (number := distinct[word]) is None else number, word)))


def _word(value: Scalar) -> str:
    return f"{value:.3g}" if isinstance(value, float) else "none" if value is None else str(value)


def draw_slices(data: Slices) -> Figure:
    """Draw a small panel for each hyperparameter."""
    number = len(data.hyperparameters)
    columns = min(3, number)
    rows = math.ceil(number / columns)
    figure, panels = style.build_figure(10.5, 1.0 + 2.5 * rows, columns, rows, share_y=True)
    for index, hyperparameter in enumerate(data.hyperparameters):
        having = [trial for trial in data.trials if trial.settings[index] is not None]
        _draw_slice(panels[index], hyperparameter, having, [trial.settings[index] for trial in having])
    for panel in panels[number:]:
        panel.set_visible(False)
    shown = [trial for trial in data.trials if any(setting is not None for setting in trial.settings)]
    for panel in panels[::columns]:
        style.set_metric_axis(panel, "y", data.metric, [trial.value for trial in shown])
    style.set_legend(figure, style.build_status_handles({trial.status for trial in shown}), below=True)
    style.set_title(figure, f"{capital(metric_words(data.metric))} of each trial, by each hyperparameter")
    return figure


def _draw_slice(
    panel: Any, hyperparameter: Hyperparameter, trials: Sequence[SpaceTrial], settings: Sequence[Setting]
) -> None:
    choices = hyperparameter.choices
    places = np.array([choices.index(str(setting)) if choices else setting for setting in settings], dtype=float)
    if choices:
        places = places + np.random.default_rng(0).uniform(-0.16, 0.16, len(places))  # or they hide each other
        labels = [shortened(word, 24) for word in choices]
        turned = sum(map(len, labels)) > 28
        panel.set_xticks(range(len(labels)), labels, rotation=30 if turned else 0, ha="right" if turned else "center")
        panel.set_xlim(-0.5, len(labels) - 0.5)
    values, statuses = [trial.value for trial in trials], [trial.status for trial in trials]
    style.draw_marks(panel, places, values, statuses, size=4.5, edge_width=1.2, zorder=3)
    if hyperparameter.is_log:
        style.set_log_axis(panel)
    panel.set_title(hyperparameter.name)


def describe_slices(data: Slices) -> str:
    """Say in words which hyperparameters the slices show."""
    names = ", ".join(hyperparameter.name for hyperparameter in data.hyperparameters)
    return f"{capital(metric_words(data.metric))} of each trial by {names}, one panel each."


def draw_parallel(data: Parallel) -> Figure:
    """Draw each trial as a line through its hyperparameters to its value, the best ones darkest and on top."""
    figure, (panel,) = style.build_figure(10.5, 5.0)
    last = len(data.hyperparameters)
    values = [trial.value for trial in data.trials]
    low, high = min(values), max(values)
    norm = Normalize(low, high) if high > low else Normalize(low - 0.5, low + 0.5)
    colors = mpl.colormaps["viridis_r" if data.mode == "max" else "viridis"]
    _draw_lines(panel, data, norm, colors)
    for index, hyperparameter in enumerate(data.hyperparameters):
        panel.axvline(index, color=style.GREY, linewidth=1, zorder=3)
        for place, word in _axis_ticks(hyperparameter):
            panel.text(index - 0.03, place, shortened(word, 18), fontsize=8, ha="right", va="center", zorder=5,
                       bbox={"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 0.6})  # fmt: skip
    panel.axvline(last, color=style.BLACK, linewidth=1.4, zorder=3)
    for place in (0.0, 0.5, 1.0):
        value = low + place * (high - low)
        words = f"{100 * value:.1f}%" if is_share(data.metric) else f"{value:.3g}"
        panel.text(last + 0.04, place, words, fontsize=8, ha="left", va="center")
    names = [textwrap.fill(one.name.replace("_", " "), 10, break_long_words=False) for one in data.hyperparameters]
    panel.set_xticks(range(last + 1), [*names, metric_words(data.metric).replace(" ", "\n")], fontsize=8)
    panel.set_xlim(-0.75, last + 0.45)
    panel.set_ylim(-0.06, 1.06)
    panel.set_yticks([])
    panel.grid(visible=False)
    for spine in panel.spines.values():
        spine.set_visible(False)
    bar = figure.colorbar(ScalarMappable(norm, colors), ax=panel, shrink=0.8, pad=0.02)
    style.set_metric_axis(bar.ax, "y", data.metric, [])
    more = f", {len(data.trials)} of {len(data.trials) + data.left_out:,}" if data.left_out else ""
    style.set_title(figure, f"Trials through their hyperparameters{more}")
    return figure


def _draw_lines(panel: Any, data: Parallel, norm: Normalize, colors: Any) -> None:
    """Draw the lines, the worst first: the best lie on top."""
    segments = []
    for trial in reversed(data.trials):
        points = [
            (float(index), _axis_place(hyperparameter, setting))
            for index, (hyperparameter, setting) in enumerate(zip(data.hyperparameters, trial.settings, strict=True))
            if setting is not None
        ]
        segments.append([*points, (float(len(trial.settings)), float(norm(trial.value)))])
    panel.add_collection(
        LineCollection(segments, colors=[colors(norm(trial.value)) for trial in reversed(data.trials)], linewidths=1.1,
                       alpha=0.75 if len(segments) < 100 else 0.45, zorder=2, rasterized=len(segments) > 100)
    )  # fmt: skip


def _axis_place(hyperparameter: Hyperparameter, setting: Setting) -> float:
    """Return where a setting stands on an axis, between 0 (below) and 1."""
    choices, low, high = hyperparameter.choices, hyperparameter.low, hyperparameter.high
    if isinstance(setting, str):
        return choices.index(setting) / (len(choices) - 1) if len(choices) > 1 else 0.5
    if setting is None or low is None or high is None or high == low:
        return 0.5
    if hyperparameter.is_log:
        return math.log(setting / low) / math.log(high / low)
    return (setting - low) / (high - low)


def _axis_ticks(hyperparameter: Hyperparameter) -> list[tuple[float, str]]:
    """Return places on an axis with their words, at most as many as can be read."""
    low, high = hyperparameter.low, hyperparameter.high
    if low is None or high is None:
        step = math.ceil(len(hyperparameter.choices) / MOST_TICKS)
        return [(_axis_place(hyperparameter, choice), choice) for choice in hyperparameter.choices[::step]]
    middle = math.sqrt(low * high) if hyperparameter.is_log else (low + high) / 2
    return [(_axis_place(hyperparameter, value), f"{value:.3g}") for value in (low, middle, high)]


def describe_parallel(data: Parallel) -> str:
    """Say in words what the lines go through."""
    names = ", ".join(hyperparameter.name for hyperparameter in data.hyperparameters)
    best = data.trials[0]
    return (
        f"{len(data.trials)} of {counted(len(data.trials) + data.left_out, 'trial')} as lines through {names} to their "
        f"{metric_words(data.metric)}; the best, trial {best.trial}, reaches {format_value(data.metric, best.value)}. "
        "Good trials are dark."
    )


PARALLEL_COORDINATES = style.FigureKind(build_parallel, draw_parallel, describe_parallel, part="mattered")
SLICES = style.FigureKind(build_slices, draw_slices, describe_slices, part="mattered")
