"""Trials by one setting: by their architecture, by their preprocessing."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tuner.common.words import counted
from tuner.reports.figures.style import (
    BLACK,
    DASHED,
    GREY,
    MOST_TRIALS,
    FigureKind,
    build_baseline_handle,
    build_figure,
    build_handle,
    build_status_handles,
    draw_marks,
    sample_evenly,
    set_legend,
    set_metric_axis,
    set_row_axis,
    set_title,
)
from tuner.reports.formatting import format_value, metric_words
from tuner.reports.results import BaselineLine, Results, ResultStatus, TrialResult

MOST_GROUPS = 24
"""Settings compared in one figure; more would not be legible."""


class GroupTrial(NamedTuple):
    """One trial's best value."""

    setting: str
    trial: int
    status: ResultStatus
    value: float


class Group(NamedTuple):
    """The trials that share one setting, in numbers; None for what is not known without a result."""

    setting: str
    best: float | None
    median: float | None
    middle: tuple[float, float] | None
    """The range of the middle half; None for fewer than four results. No interval: what the search draws, and stops,
    depends on what it has seen."""
    trials: int
    """With a result."""
    failed: int


class Groups(NamedTuple):
    """Trials by one hyperparameter, the group with the best trial first, those without a result last."""

    metric: str
    hyperparameter: str
    groups: tuple[Group, ...]
    trials: tuple[GroupTrial, ...]
    """Trials of one group after another, by rank."""
    left_out: int
    """Groups for which there was no room."""
    baseline: BaselineLine | None


def group_by_architecture(results: Results) -> Groups | None:
    """Return the trials by architecture; None without a result, and of a training function of one's own."""
    if results.study is not None and results.study.trainable is not None:
        return None
    return _build_groups(results, "architecture")


def group_by_preprocessing(results: Results) -> Groups | None:
    """Return the trials by preprocessing variant; None when there are not at least two to compare."""
    groups = _build_groups(results, "preprocess")
    return groups if groups is not None and len(groups.groups) > 1 else None


def _build_groups(results: Results, hyperparameter: str) -> Groups | None:
    if results.winner is None:
        return None
    members: dict[str, list[TrialResult]] = {}
    for trial in (*results.ranked, *results.failed):
        members.setdefault(str(trial.configuration.get(hyperparameter, "not set")), []).append(trial)
    shown = list(members.items())[:MOST_GROUPS]
    return Groups(
        metric=results.metric,
        hyperparameter=hyperparameter,
        groups=tuple(_build_group(setting, trials) for setting, trials in shown),
        trials=tuple(
            GroupTrial(setting, trial.number, trial.status, trial.best or 0.0)
            for setting, trials in shown
            for trial in sample_evenly([trial for trial in trials if trial.rank is not None], MOST_TRIALS)
        ),
        left_out=len(members) - len(shown),
        baseline=results.baseline_line,
    )


def _build_group(setting: str, trials: Sequence[TrialResult]) -> Group:
    """Return the group of `trials`, which come by rank, the failed ones last."""
    values = [trial.best for trial in trials if trial.rank is not None and trial.best is not None]
    return Group(
        setting=setting,
        best=values[0] if values else None,
        median=median(values) if values else None,
        middle=(float(np.quantile(values, 0.25)), float(np.quantile(values, 0.75))) if len(values) > 3 else None,
        trials=len(values),
        failed=len(trials) - len(values),
    )


def draw_groups(data: Groups) -> Figure:
    """Draw each trial's best value by one hyperparameter: a strip per setting, its median as a bar."""
    labels = [_group_label(group) for group in data.groups]
    figure, (panel,) = build_figure(10.5, 2.2 + sum(0.34 + 0.16 * label.count("\n") for label in labels))
    for row, group in enumerate(data.groups):
        _draw_strip(panel, row, [trial for trial in data.trials if trial.setting == group.setting])
        if group.middle is not None:
            panel.plot(group.middle, [row, row], color=BLACK, linewidth=5, alpha=0.3, solid_capstyle="butt", zorder=2)
        if group.median is not None and group.trials > 1:
            panel.plot([group.median] * 2, [row - 0.32, row + 0.32], color=BLACK, linewidth=2.6, zorder=3)
    if data.baseline is not None:
        panel.axvline(data.baseline.value, color=GREY, linewidth=1.2, linestyle=DASHED, zorder=2)
    set_row_axis(panel, labels)
    set_metric_axis(panel, "x", data.metric, [trial.value for trial in data.trials])
    handles = build_status_handles({trial.status for trial in data.trials})
    if any(group.trials > 1 for group in data.groups):
        handles.append(build_handle("|", BLACK, BLACK, "median", 12))
    if any(group.middle is not None for group in data.groups):
        handles.append(Line2D([], [], color=BLACK, linewidth=5, alpha=0.3, label="the middle half"))
    if data.baseline is not None:
        handles.append(build_baseline_handle(data.baseline.label))
    set_legend(figure, handles)
    more = f" ({data.left_out} more left out)" if data.left_out else ""
    set_title(figure, f"Best {metric_words(data.metric)} of each trial, by {_hyperparameter_words(data)}{more}")
    return figure


def _hyperparameter_words(data: Groups) -> str:
    return "preprocessing" if data.hyperparameter == "preprocess" else data.hyperparameter


def _group_label(group: Group) -> str:
    failed = f", {group.failed} failed" if group.failed else ""
    name = textwrap.fill(group.setting, 34, max_lines=3, placeholder=" ...")
    return f"{name}\n{counted(group.trials, 'trial')}{failed}"


def _draw_strip(panel: Any, row: int, trials: Sequence[GroupTrial]) -> None:
    """Draw marks on a line, moved off it a little where there are several, always in the same way."""
    spread = min(0.22, 0.03 * len(trials)) if len(trials) > 1 else 0.0
    heights = row + np.random.default_rng(row).uniform(-spread, spread, len(trials))
    draw_marks(panel, [trial.value for trial in trials], heights, [trial.status for trial in trials])


def describe_groups(data: Groups) -> str:
    """Say in words how the settings compare."""
    words = "; ".join(_group_words(group, data.metric) for group in data.groups)
    more = f" {data.left_out} more are not shown." if data.left_out else ""
    return f"Best {metric_words(data.metric)} of each trial by {_hyperparameter_words(data)}. {words}.{more}"


def _group_words(group: Group, metric: str) -> str:
    failed = f"{group.failed} failed" if group.failed else ""
    if group.best is None:
        return f"{group.setting}: no result, {failed}"
    value = f"best {format_value(metric, group.best)}, median {format_value(metric, group.median)}"
    if group.middle is not None:
        low, high = (format_value(metric, bound) for bound in group.middle)
        value += f" (the middle half {low} to {high})"
    return f"{group.setting}: {value} of {counted(group.trials, 'trial')}" + (f", {failed}" if failed else "")


BY_ARCHITECTURE = FigureKind(group_by_architecture, draw_groups, describe_groups, part="mattered")
BY_PREPROCESSING = FigureKind(group_by_preprocessing, draw_groups, describe_groups, part="mattered")
