"""Several runs side by side: at equal time, at equal epochs, their trials in one ranking; and the list of all runs."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from tuner.common.errors import InputError
from tuner.common.metrics import ACCURACY, Mode, oriented
from tuner.common.words import counted
from tuner.reports._leaderboard_sections import interval_words
from tuner.reports._page import Page, PageColumn, PagePart, as_html, page_figure, render, sortable
from tuner.reports.figures.registry import FORMATS, DrawnFigure, Format, save_figure
from tuner.reports.figures.style import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    VERMILLION,
    build_figure,
    set_legend,
    set_metric_axis,
    set_title,
    time_unit,
)
from tuner.reports.formatting import (
    capital,
    describe_configuration,
    escaped,
    format_duration,
    format_value,
    metric_words,
    table,
)
from tuner.reports.results import Results, TrajectoryPoint, TrialResult, trajectory
from tuner.runs.events import StudyCreated
from tuner.runs.state import seconds_outside

LOOKS: list[tuple[str, Any]] = [
    (color, line) for line in ("-", "--", ":") for color in (VERMILLION, BLUE, GREEN, ORANGE, PURPLE, BLACK)
]
_NUMBERS = frozenset({"best", "at equal time", "trials", "epochs", "time", "test accuracy"})


class Entrant(NamedTuple):
    """One run of a comparison."""

    name: str
    """The name of its directory, with folders before it where another run has the same."""
    results: Results
    points: tuple[TrajectoryPoint, ...]
    """Against the seconds of the search itself."""

    def best_at(self, elapsed_s: float) -> float | None:
        """Return the best value that it had after so many seconds."""
        found = [point.best for point in self.points if point.elapsed_s <= elapsed_s]
        return found[-1] if found else None

    @property
    def search_s(self) -> float:
        """Seconds of the search itself, without its finalists, also where it has gone on after some."""
        results = self.results
        ended_s = results.finalists_from_s if results.finalists_from_s is not None else results.elapsed_s
        return seconds_outside(results.finalists_spans, ended_s)


class Comparison(NamedTuple):
    """Runs that optimise the same metric."""

    metric: str
    mode: Mode
    entrants: tuple[Entrant, ...]
    equal_s: float
    """As long as the shortest one ran: until there, all can be compared."""
    unlike: tuple[str, ...]
    """Sentences about what else differs between the runs, so that their values do not compare the searches alone."""


def distinct_names(places: Sequence[Path]) -> list[Path]:
    """Return the names of runs at these places, with as many folders before each as it takes to tell them apart.

    >>> [str(name) for name in distinct_names([Path("/a/runs/digits"), Path("/b/runs/digits"), Path("/b/runs/x")])]
    ['a/runs/digits', 'b/runs/digits', 'x']
    """

    def name_of(place: Path) -> Path:
        others = [other for other in places if other != place]
        ends = range(1, len(place.parts))
        number = next((one for one in ends if all(other.parts[-one:] != place.parts[-one:] for other in others)), None)
        return place if number is None else Path(*place.parts[-number:])

    return [name_of(place) for place in places]


def compare_runs(runs: Sequence[tuple[str, Results]]) -> Comparison:
    """Compare runs, given by name.

    Raises:
        InputError: there are fewer than two, one has no study yet, or they optimise different metrics.
    """
    if len(runs) < 2:
        raise InputError(f"a comparison must have at least two runs; got {len(runs)}")
    for name, results in runs:
        if results.study is None:
            raise InputError(f"{name}: must have begun; its record is empty")
    metrics = {results.metric for _, results in runs}
    if len(metrics) > 1:
        told = ", ".join(f"{name}: {results.metric}" for name, results in runs)
        raise InputError(f"runs must optimise the same metric to be compared; got {told}")
    entrants = tuple(Entrant(name, results, _points(results)) for name, results in runs)
    return Comparison(
        metric=runs[0][1].metric,
        mode=runs[0][1].mode,
        entrants=entrants,
        equal_s=min(entrant.search_s for entrant in entrants),
        unlike=_unlike(runs),
    )


def _points(results: Results) -> tuple[TrajectoryPoint, ...]:
    spans = results.finalists_spans
    return tuple(point._replace(elapsed_s=seconds_outside(spans, point.elapsed_s)) for point in trajectory(results))


def _unlike(runs: Sequence[tuple[str, Results]]) -> tuple[str, ...]:
    """Say what differs besides the searches: data, split and subset of the data, hardware, versions."""
    studies = [(name, results.study) for name, results in runs if results.study is not None]

    def differ(what: str, values: Sequence[str]) -> str | None:
        told = "; ".join(f"{escaped(name)}: {escaped(value)}" for (name, _), value in zip(studies, values, strict=True))
        return f"{what} ({told})." if len(set(values)) > 1 else None

    def asked(study: StudyCreated, key: str) -> str:
        data = study.specification.get("data")
        return str(data.get(key)) if isinstance(data, dict) else "None"

    if len({str(study.data.get("fingerprint")) for _, study in studies}) > 1:
        found = ["**The runs are on different data**, so their values say nothing about which search is better."]
    else:
        numbers = [
            f"{study.data.get('train_images')} training and {study.data.get('validation_images')} validation images, "
            + (f"{study.folds} folds" if study.folds else f"validation_fraction {asked(study, 'validation_fraction')}")
            for _, study in studies
        ]
        size = differ("**They see different subsets or splits of the data**", numbers)
        seeds = differ(
            "Validation splits and subsets that tuner draws are drawn by the seed, so they differ",
            [f"seed {study.seed}" for _, study in studies],
        )
        found = [words for words in (size, seeds) if words is not None]
    sessions = [results.sessions[-1] if results.sessions else None for _, results in runs]
    hardware = [
        f"{study.environment.get('cpus')} CPUs, {study.environment.get('memory_gb')} GB"
        + ("" if last is None else f", {last.max_concurrent} at a time, {last.gpus_per_trial:g} GPUs per trial")
        for (_, study), last in zip(studies, sessions, strict=True)
    ]
    versions = [_versions(study) for _, study in studies]
    other = differ("**They ran on different hardware or with other slots**, so equal time is not equal work", hardware)
    code = differ("They ran with different versions", versions)
    return (*found, *(words for words in (other, code) if words is not None))


def _versions(study: StudyCreated) -> str:
    packages = study.environment.get("packages")
    pairs = packages.items() if isinstance(packages, dict) else ()
    return ", ".join(f"{name} {version}" for name, version in pairs if name in ("tuner", "keras", "tensorflow"))


def order_at_equal_time(comparison: Comparison) -> tuple[tuple[Entrant, float | None], ...]:
    """Return the runs with what they had after the time that all of them ran, the best first."""
    found = [(entrant, entrant.best_at(comparison.equal_s)) for entrant in comparison.entrants]

    def place(pair: tuple[Entrant, float | None]) -> tuple[float, str]:
        entrant, best = pair
        return (math.inf if best is None else -oriented(best, comparison.mode), entrant.name)

    return tuple(sorted(found, key=place))


def joint_ranking(comparison: Comparison) -> tuple[tuple[str, TrialResult], ...]:
    """Return the trials of all runs with a result, the best first; of equals, those of the first run."""
    every = [
        (-oriented(trial.best or 0.0, comparison.mode), place, trial.number, entrant.name, trial)
        for place, entrant in enumerate(comparison.entrants)
        for trial in entrant.results.ranked
    ]
    return tuple((name, trial) for _, _, _, name, trial in sorted(every, key=lambda row: row[:3]))


def render_comparison(comparison: Comparison, directory: Path, formats: Sequence[Format] = FORMATS) -> str:
    """Return the page of a comparison; its figure is written into `directory`/figures."""
    paths = save_figure(lambda: draw_comparison(comparison), directory / "figures", "comparison", formats)
    drawn = DrawnFigure("comparison", paths, describe_comparison(comparison))
    columns, rows = comparison_rows(comparison)
    summary = PagePart("won", "At equal time", [as_html(_summary(comparison))], [page_figure(drawn)], is_first=True)
    leaderboard = PagePart("leaderboard", "Joint leaderboard", [], [], is_first=False)
    return render(
        Page(
            title=" and ".join(entrant.name for entrant in comparison.entrants[:3])
            + (f" and {len(comparison.entrants) - 3} more" if len(comparison.entrants) > 3 else ""),
            kind="Comparison of searches",
            verdict=_verdict(comparison),
            parts=[summary, leaderboard],
            columns=columns,
            rows=rows,
            elapsed_s=max(entrant.results.elapsed_s for entrant in comparison.entrants),
            files=(),
        )
    )


def _verdict(comparison: Comparison) -> str:
    """Say which run was ahead after the time that all of them had."""
    order = order_at_equal_time(comparison)
    (first, value), (second, next_value) = order[0], order[1]
    time = format_duration(comparison.equal_s)
    if value is None:
        return f"After {time}, the time of the shortest run, **none has a result**."
    shown = format_value(comparison.metric, value)
    equal = [escaped(entrant.name) for entrant, other in order if format_value(comparison.metric, other) == shown]
    result = f"with {escaped(comparison.metric)} {shown}**"
    words = f"After {time}, the time of the shortest run, **"
    if len(equal) > 1:
        words += f"{', '.join(equal[:-1])} and {equal[-1]} are level {result}."
    else:
        rest = f"{escaped(second.name)} had {format_value(comparison.metric, next_value)}"
        words += f"{escaped(first.name)} is ahead {result}; {rest}."
    return " ".join([words, *comparison.unlike, "One run each says little: differences between seeds can be as large."])


def _summary(comparison: Comparison) -> str:
    test = f"test {metric_words(_judge(comparison))}"
    header = ["run", "at equal time", "best", test, "95% interval", "trials", "epochs", "time", "winner"]
    rows = [_summary_row(comparison, entrant, value) for entrant, value in order_at_equal_time(comparison)]
    return "\n".join(table(header, rows, _NUMBERS | {test}))


def _judge(comparison: Comparison) -> str:
    """Return the metric by which all of the runs judge on the test split; where they differ, the accuracy."""
    judges = {entrant.results.judge for entrant in comparison.entrants}
    return judges.pop() if len(judges) == 1 else ACCURACY


def _summary_row(comparison: Comparison, entrant: Entrant, value: float | None) -> list[str]:
    results = entrant.results
    winner = results.chosen
    return [
        escaped(entrant.name),
        format_value(comparison.metric, value),
        *_result_cells(results, _judge(comparison)),
        format_duration(entrant.search_s),
        "-" if winner is None else f"{winner.number} ({escaped(winner.architecture)})",
    ]


def _result_cells(results: Results, judge: str = ACCURACY) -> list[str]:
    """Return the best value, that on the test split with its interval, the numbers of trials and epochs."""
    first = results.finalists[0] if results.finalists else None
    tested = None if first is None else first.test_accuracy if judge == ACCURACY else first.test
    return [
        format_value(results.metric, results.winner.best if results.winner else None),
        format_value(judge, tested.mean if tested else None),
        interval_words(judge, tested) if tested else "-",
        f"{len(results.trials):,}",
        f"{results.total_epochs:,}",
    ]


def comparison_rows(comparison: Comparison) -> tuple[list[PageColumn], list[list[Any]]]:
    """Return columns and rows of the joint leaderboard."""
    columns = [
        PageColumn("rank", is_number=True), PageColumn("study", is_number=False), PageColumn("trial", is_number=True),
        PageColumn(comparison.metric, is_number=True), PageColumn("architecture", is_number=False),
        PageColumn("configuration", is_number=False), PageColumn("epochs", is_number=True),
        PageColumn("time", is_number=True), PageColumn("status", is_number=False),
    ]  # fmt: skip
    rows = []
    for rank, (name, trial) in enumerate(joint_ranking(comparison), start=1):
        names = [key for key in trial.configuration if key != "architecture"]
        configuration = describe_configuration(trial.configuration, names)
        pairs: list[tuple[str, float | None]] = [
            (str(rank), rank), (name, 0), (str(trial.number), trial.number),
            (format_value(comparison.metric, trial.best), trial.best), (trial.architecture, 0), (configuration, 0),
            (str(len(trial.epochs)), len(trial.epochs)), (format_duration(trial.seconds), trial.seconds),
            (trial.status, 0),
        ]  # fmt: skip
        rows.append(sortable(columns, pairs))
    return columns, rows


def draw_comparison(comparison: Comparison) -> Figure:
    """Draw the best so far of each run against time and against epochs."""
    figure, (by_time, by_epochs) = build_figure(10.5, 4.8, 2, share_y=True)
    unit, unit_s = time_unit(max(entrant.search_s for entrant in comparison.entrants))
    handles, values = [], []
    for index, entrant in enumerate(comparison.entrants):
        color, line = LOOKS[index % len(LOOKS)]
        handles.append(Line2D([], [], color=color, linestyle=line, linewidth=2, label=entrant.name))
        bests = [point.best for point in entrant.points]
        values += bests
        if not bests:
            continue
        for panel, places, end in (
            (by_time, [point.elapsed_s / unit_s for point in entrant.points], entrant.search_s / unit_s),
            (by_epochs, [float(point.epochs) for point in entrant.points], float(entrant.results.total_epochs)),
        ):
            panel.step([*places, max(end, places[-1])], [*bests, bests[-1]], where="post", color=color,
                       linestyle=line, linewidth=2)  # fmt: skip
    by_time.axvline(comparison.equal_s / unit_s, color=GREY, linewidth=1, linestyle=":")
    set_metric_axis(by_time, "y", comparison.metric, values)
    by_time.set_xlabel(f"time ({unit})")
    by_epochs.set_xlabel("epochs trained, all trials together")
    set_legend(figure, handles, below=True)
    set_title(figure, f"{capital(metric_words(comparison.metric))}: best so far of each run")

    return figure


def describe_comparison(comparison: Comparison) -> str:
    """Say in words how the runs compare."""
    told = "; ".join(
        f"{entrant.name} {format_value(comparison.metric, value)}" for entrant, value in order_at_equal_time(comparison)
    )
    return (
        f"Best {metric_words(comparison.metric)} so far of {len(comparison.entrants)} runs against time and against "
        f"epochs. After {format_duration(comparison.equal_s)}, the time of the shortest: {told}."
    )


def render_overview(runs: Sequence[tuple[str, Results, str | None]]) -> str:
    """Return the page of all studies: name, results and the path of the report, if there is one."""
    header = ["run", "state", "metric", "best", "test accuracy", "95% interval", "trials", "epochs", "time", "data"]
    lines = table(header, [_overview_row(*run) for run in runs], _NUMBERS)
    text = "\n".join(lines) if runs else "There is no run yet."
    return render(
        Page(
            title="All studies",
            kind="Overview",
            verdict=f"{counted(len(runs), 'run')}.",
            parts=[PagePart("won", "Studies", [as_html(text)], [], is_first=True)],
            columns=[],
            rows=[],
            elapsed_s=sum(results.elapsed_s for _, results, _ in runs),
            files=(),
        )
    )


def _overview_row(name: str, results: Results, report: str | None) -> list[str]:
    ended = results.session_ended
    shown = escaped(name)
    return [
        f"[{shown}]({quote(os.fsencode(report))})" if report is not None else shown,
        "running or killed" if ended is None else ended.reason.replace("_", " "),
        escaped(results.metric),
        *_result_cells(results),
        format_duration(results.elapsed_s),
        escaped(results.study.data.get("name", "") if results.study else ""),
    ]
