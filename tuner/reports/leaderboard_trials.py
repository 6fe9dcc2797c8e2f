"""The trials of a leaderboard as Markdown tables: the ranking, those without a result, the failed ones with reasons."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tuner.reports.formatting import describe_configuration, format_duration, format_gain, format_value, is_share
from tuner.reports.markdown import escaped, table
from tuner.reports.results import Results, TrialResult

ROWS = 100
"""Trials shown; more would bury the page, and trials.parquet holds them all."""
FRONT_WORDS = {True: "yes", False: "no"}
_NUMBERS = frozenset({"rank", "trial", "gain", "epochs", "time", "parameters", "trials"})


def trial_sections(results: Results) -> list[list[str]]:
    """The sections, each as its lines; those with nothing to say are left out."""
    names = results.differing_within
    sections = [_ranking(results, names), _waiting(results), _failures(results, names)]
    return [section for section in sections if section]


def reason_words(trial: TrialResult) -> str:
    """Why a trial ended, as Markdown."""
    is_word = trial.reason.isidentifier()  # max_epochs, early_stopping: ours; anything else is an error's message
    return escaped(trial.reason.replace("_", " ") if is_word else trial.reason) or "no reason recorded"


def _ranking(results: Results, names: Sequence[str]) -> list[str]:
    if not results.ranked:
        return []
    shown = list(results.ranked[:ROWS])
    baseline = results.baseline
    if baseline is not None and baseline.rank is not None and baseline.rank > ROWS:
        shown.append(baseline)
    gain_title = "gain" if baseline is not None else None
    header = ["rank", "trial", escaped(results.metric), gain_title, "architecture", "configuration", "epochs", "time"]
    header += [*cost_columns(results), "status"]
    rows = [_row(results, trial, names) for trial in shown]
    lines = table([name for name in header if name], rows, _NUMBERS | {escaped(results.metric), *cost_columns(results)})
    return ["## Trials", "", *_legend(results, names), "", *lines]


def legend(results: Results) -> list[str]:
    """What the columns mean and which settings all trials share; empty without a ranked trial."""
    return _legend(results, results.differing_within) if results.ranked else []


def _legend(results: Results, names: Sequence[str]) -> list[str]:
    unit = "percentage points" if is_share(results.metric) else f"units of {escaped(results.metric)}"
    sentences = []
    if results.baseline is not None:
        sentences.append(f"Gain: over the baseline, in {unit}; positive is better.")
    sentences.append("Time: training and validation of the trial's epochs.")
    if len(results.ranked) > ROWS:
        sentences.append(f"The best {ROWS} of {len(results.ranked):,} trials; all are in trials.parquet.")
    return [" ".join(sentences), *_shared(results, names)]


def _shared(results: Results, names: Sequence[str]) -> list[str]:
    """What the table leaves out: settings that all trials share, then those that an architecture's trials share."""
    first = results.trials[0].configuration
    hidden = {*names, "architecture"}
    common = [name for name in first if all(name in trial.configuration for trial in results.trials)]
    shown = describe_configuration(first, [name for name in common if name not in hidden])
    lines = [f"In all trials: {escaped(shown)}."] if shown else []
    firsts: dict[str, TrialResult] = {}
    for trial in results.trials:
        firsts.setdefault(trial.architecture, trial)
    for architecture, trial in firsts.items():
        own = [name for name in trial.configuration if name not in hidden and name not in common]
        if own:
            settings = escaped(describe_configuration(trial.configuration, own))
            lines.append(f"In all trials of {escaped(architecture)}: {settings}.")
    return lines


def _row(results: Results, trial: TrialResult, names: Sequence[str]) -> list[str]:
    mark = " (baseline)" if trial.is_baseline else ""
    return [
        str(trial.rank),
        f"{trial.number}{mark}",
        format_value(results.metric, trial.best),
        *([] if results.baseline is None else [format_gain(results.metric, results.gain(trial))]),
        escaped(trial.architecture),
        escaped(describe_configuration(trial.configuration, names)),
        str(len(trial.epochs)),
        format_duration(trial.seconds),
        *(shown for shown, _ in cost_cells(results, trial)),
        status_words(trial),
    ]


def cost_columns(results: Results) -> list[str]:
    """Titles of what a trial's network costs: its parameters, the other metrics, and whether it is on the front."""
    others = [metric for metric in results.metrics[1:] if metric != "parameters"]
    return ["parameters", *others, *(["front"] if len(results.metrics) > 1 else [])]


def cost_cells(results: Results, trial: TrialResult) -> list[tuple[str, float | None]]:
    """The cells of these columns, each with the value of its number."""
    cells: list[tuple[str, float | None]] = [(format_value("parameters", trial.parameters), trial.parameters)]
    for name in cost_columns(results)[1:]:
        value = trial.values.get(name)
        is_front = name == "front"
        cells.append((FRONT_WORDS[bool(trial.is_on_front)], 0) if is_front else (format_value(name, value), value))
    return cells


def status_words(trial: TrialResult) -> str:
    """A trial's status with its reason, as Markdown."""
    return f"{trial.status}, {reason_words(trial)}" if trial.reason else trial.status


def _waiting(results: Results) -> list[str]:
    if not results.waiting:
        return []
    numbers = ", ".join(f"{trial.number} ({trial.status})" for trial in results.waiting[:ROWS])
    more = f" and {len(results.waiting) - ROWS:,} more" if len(results.waiting) > ROWS else ""
    return ["## Without a result", "", f"These trials have not reported an epoch: {numbers}{more}."]


def _failures(results: Results, names: Sequence[str]) -> list[str]:
    if not results.failed:
        return []
    rows = [
        [
            f"{trial.number}{' (baseline)' if trial.is_baseline else ''}",
            reason_words(trial),
            str(len(trial.epochs)),
            escaped(trial.architecture),
            escaped(describe_configuration(trial.configuration, names)),
        ]
        for trial in results.failed[:ROWS]
    ]
    lines = table(["trial", "reason", "epochs", "architecture", "configuration"], rows, _NUMBERS)
    return ["## Failed trials", "", *_failure_kinds(results), *lines]


def _failure_kinds(results: Results) -> list[str]:
    """How often each kind of failure occurred, when there are more than are shown."""
    if len(results.failed) <= ROWS:
        return []
    kinds = Counter(trial.reason.partition(":")[0] for trial in results.failed)
    rows = [[escaped(kind), f"{number:,}"] for kind, number in kinds.most_common(10)]
    more = f"The first {ROWS} of {len(results.failed):,}, after the most frequent kinds; all are in trials.parquet."
    return [more, "", *table(["kind", "trials"], rows, _NUMBERS), ""]
