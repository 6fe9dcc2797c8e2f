"""The Pareto front of a leaderboard as Markdown: the trials that no other beats in all metrics, and the baseline."""

from __future__ import annotations

from tuner.common.metrics import METRICS
from tuner.reports.formatting import capital, describe_configuration, format_value, metric_words
from tuner.reports.leaderboard_trials import ROWS, status_words
from tuner.reports.markdown import escaped, table
from tuner.reports.results import Results, TrialResult


def front_section(results: Results) -> list[str]:
    """The section, as its lines; empty with one metric, and before a trial is known in all of them."""
    if not results.front:
        return []
    shown = results.front[:ROWS]
    header = ["trial", *(escaped(metric) for metric in results.metrics)]
    lines = table(
        [*header, "architecture", "configuration", "epochs", "status"],
        [_row(results, trial) for trial in shown],
        frozenset({*header, "epochs"}),
    )
    more = [f"The first {ROWS} of {len(results.front):,}; all are in trials.parquet.", ""]
    return [
        "## Pareto front", "", " ".join([*_meaning(results), *_winner_words(results)]), "",
        *(more if len(results.front) > ROWS else []), *lines, *_baseline(results),
    ]  # fmt: skip


def _row(results: Results, trial: TrialResult) -> list[str]:
    return [
        f"{trial.number}{' (baseline)' if trial.is_baseline else ''}",
        *(format_value(metric, trial.values[metric]) for metric in results.metrics),
        escaped(trial.architecture),
        escaped(describe_configuration(trial.configuration, results.differing_within)),
        str(len(trial.epochs)),
        status_words(trial),
    ]


def _meaning(results: Results) -> list[str]:
    """What the front is, and what its values are worth."""
    number, known = len(results.front), sum(len(trial.values) == len(results.metrics) for trial in results.ranked)
    names = [metric_words(metric) for metric in results.metrics]
    metrics = f"{', '.join(names[:-1])} and {names[-1]}"
    found = [
        f"{number} of {known} trials {'is' if number == 1 else 'are'} on the front of {metrics}: "
        "no other trial is as good in all of them and better in one.",
        "Values are those of one training each, so neighbours on the front may change places.",
    ]
    if any(trial.status in ("stopped", "paused") for trial in results.front):
        found.append(
            f"The scheduler compares {names[0]} only: a trial that was stopped shows what it had reached until then."
        )
    return found


def _winner_words(results: Results) -> list[str]:
    chosen = results.chosen
    first = metric_words(results.metric)
    by = f"the best by {first}{', over several seeds' if results.finalists else ''}"
    if chosen is None:
        return []
    words = [f"The winner, whose model is exported as best.keras, is {by}: trial {chosen.number}."]
    others = [one.trial for one in results.finalists[1:] if one.trial in {trial.number for trial in results.front}]
    if others:
        names = ", ".join(f"front-{trial:05d}.keras" for trial in others)
        words.append(f"The other finalists on the front are beside it: {names}.")
    return words


def _baseline(results: Results) -> list[str]:
    """What the front offers to those who have the baseline: as good in the first metric, and cheaper."""
    baseline = results.baseline
    if baseline is None or len(baseline.values) < len(results.metrics):
        return []
    first, lines = results.metric, []
    sign = 1.0 if METRICS[first] == "max" else -1.0
    able = [trial for trial in results.front if sign * (trial.values[first] - baseline.values[first]) >= 0]
    for metric in results.metrics[1:] if able else ():
        turn = 1.0 if METRICS[metric] == "min" else -1.0
        best = min(able, key=lambda trial: turn * trial.values[metric])
        before, now = baseline.values[metric], best.values[metric]
        if best is baseline or turn * (now - before) >= 0:
            lines.append(
                f"- {capital(metric_words(metric))}: no trial is as good as the baseline in {metric_words(first)} "
                f"with less than its {format_value(metric, before)}."
                if METRICS[metric] == "min"
                else f"- {capital(metric_words(metric))}: no trial as good in {metric_words(first)} beats the baseline."
            )
            continue
        times = f", {now / before:.2g} times as much" if before > 0 and METRICS[metric] == "min" else ""
        lines.append(
            f"- {capital(metric_words(metric))}: trial {best.number} is no worse than the baseline in "
            f"{metric_words(first)} ({format_value(first, best.values[first])} against "
            f"{format_value(first, baseline.values[first])}) with {format_value(metric, now)} instead of "
            f"{format_value(metric, before)}{times}."
        )
    return ["", *lines] if lines else []
