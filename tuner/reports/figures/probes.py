"""Probes of frozen features, beside what training has made of the same backbone."""

from __future__ import annotations

import textwrap
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from tuner.common.metrics import Mode, oriented
from tuner.reports.figures import style
from tuner.reports.formatting import describe_configuration, format_value, metric_words
from tuner.reports.results import Results, TrialResult
from tuner.runs.events import Probed

MOST_PROBES = 24


class ProbePoint(NamedTuple):
    """One frozen backbone under one preprocessing."""

    words: str
    value: float
    """Of the probe."""
    trial: int | None
    """The best one on the same backbone and preprocessing; None: there is none."""
    trained: float | None
    """Its value."""


class Probes(NamedTuple):
    """Probes, the best value first."""

    metric: str
    mode: Mode
    points: tuple[ProbePoint, ...]
    left_out: int


def build_probes(results: Results) -> Probes | None:
    """Return what frozen features gave, beside the best trial of each; None without a value."""
    known = [one for one in results.probes if results.metric in one.metrics]
    if not known:
        return None
    known.sort(key=lambda one: -oriented(one.metrics[results.metric], results.mode))
    names = _differing([dict(one.configuration) for one in known])
    points = [_point(results, one, names) for one in known]
    return Probes(results.metric, results.mode, tuple(points[:MOST_PROBES]), len(points[MOST_PROBES:]))


def _differing(configurations: list[dict[str, object]]) -> list[str]:
    """Return the names that tell probes apart, the architecture always among them."""
    names = dict.fromkeys(name for one in configurations for name in one)
    return [name for name in names if name == "architecture" or len({str(one.get(name)) for one in configurations}) > 1]


def _point(results: Results, probed: Probed, names: list[str]) -> ProbePoint:
    best = best_trial_of(results, probed)
    words = describe_configuration(probed.configuration, names)
    trial, trained = (None, None) if best is None else (best.number, best.best)
    return ProbePoint(words, probed.metrics[results.metric], trial, trained)


def best_trial_of(results: Results, probed: Probed) -> TrialResult | None:
    """Return the best trial on the backbone of a probe; what a trial does not name is as in the probe."""
    wanted = {name: value for name, value in probed.configuration.items() if name != "pooling"}
    return next(
        (one for one in results.ranked if all(one.configuration.get(name, of) == of for name, of in wanted.items())),
        None,
    )


def draw_probes(data: Probes) -> Figure:
    """Draw a row for each backbone and preprocessing: its probe, and how far training came from there."""
    labels = [textwrap.fill(one.words, 44, max_lines=3, placeholder=" ...") for one in data.points]
    figure, (panel,) = style.build_figure(10.5, 1.8 + sum(0.32 + 0.16 * label.count("\n") for label in labels))
    rows = np.arange(len(data.points))
    for row, one in enumerate(data.points):
        if one.trained is not None:
            panel.plot([one.value, one.trained], [row, row], color=style.FAINT, linewidth=2.0, zorder=2)
            panel.plot([one.trained], [row], "o", mfc="white", mec=style.BLACK, ms=6.5, mew=1.4, zorder=3)
    values = [one.value for one in data.points]
    panel.plot(values, rows, "s", mfc=style.BLUE, mec=style.BLUE, ms=6.5, zorder=4)
    style.set_row_axis(panel, labels)
    trained = [one.trained for one in data.points if one.trained is not None]
    style.set_metric_axis(panel, "x", data.metric, [*values, *trained])
    handles = [style.build_handle("s", style.BLUE, style.BLUE, "probe of frozen features")]
    if trained:
        handles.append(style.build_handle("o", "white", style.BLACK, "best trial on them"))
    style.set_legend(figure, handles, below=True)
    more = f" ({data.left_out} more left out)" if data.left_out else ""
    style.set_title(figure, f"What frozen features give{more}")
    return figure


def describe_probes(data: Probes) -> str:
    """Say in words what each probe reached."""
    told = [
        f"{one.words}: {format_value(data.metric, one.value)}"
        + ("" if one.trained is None else f", trained {format_value(data.metric, one.trained)} (trial {one.trial})")
        for one in data.points
    ]
    more = f" {data.left_out} more are not shown." if data.left_out else ""
    words = f"{metric_words(data.metric)} of a linear classifier of frozen features, before anything was trained"
    return f"What frozen features give: {words}. {'; '.join(told)}.{more}"


PROBES = style.FigureKind(build_probes, draw_probes, describe_probes, part="mattered")
