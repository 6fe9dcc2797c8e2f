"""The sections of a leaderboard in Markdown: its trials, its finalists, and the Pareto front of several metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tuner.common.intervals import Interval
from tuner.common.metrics import ACCURACY, LOSS, metric_of, oriented
from tuner.reports.formatting import (
    capital,
    describe_configuration,
    escaped,
    format_advantage,
    format_duration,
    format_gain,
    format_value,
    is_share,
    metric_words,
    reason_words,
    sign_of,
    table,
)
from tuner.reports.results import Results, TrialResult
from tuner.runs.finalists import Difference, Finalist

ROWS = 100
"""Trials shown; more would bury the page, and trials.parquet holds them all."""
CLEARLY_LESS = 0.9
"""The share of parameters or time from which a model counts as smaller or faster."""
MOST_GIVEN_UP = 0.02
"""Most of the value on the test split that is given up for a smaller model: intervals of two trainings are wide."""
_TRIAL_NUMBERS = frozenset({"rank", "trial", "gain", "epochs", "time", "parameters", "trials"})
_FINALIST_NUMBERS = frozenset(
    {"rank", "trial", "seeds", "test accuracy", "test loss", "seed to seed", "folds", "fold to fold"}
)


def trial_sections(results: Results) -> list[list[str]]:
    """Return the sections of trials, each as its lines; those with nothing to say are left out."""
    names = results.differing_within
    sections = [_ranking(results, names), _waiting(results), _failures(results, names)]
    return [section for section in sections if section]


def reason_text(trial: TrialResult) -> str:
    """Say as Markdown why a trial ended."""
    return escaped(reason_words(trial.reason)) or "no reason recorded"


def _ranking(results: Results, names: Sequence[str]) -> list[str]:
    if not results.ranked:
        return []
    shown = list(results.ranked[:ROWS])
    baseline = results.baseline
    if baseline is not None and baseline.rank is not None and baseline.rank > ROWS:
        shown.append(baseline)
    gain = ["gain"] if baseline is not None else []
    header = ["rank", "trial", escaped(results.metric), *gain, "architecture", "configuration", "epochs", "time"]
    header += [*cost_columns(results), "status"]
    rows = [_trial_row(results, trial, names) for trial in shown]
    lines = table(header, rows, _TRIAL_NUMBERS | {escaped(results.metric), *cost_columns(results)})
    return ["## Trials", "", *legend(results), "", *lines]


def legend(results: Results) -> list[str]:
    """Say what the columns mean and which settings all trials share; empty without a ranked trial."""
    if not results.ranked:
        return []
    unit = "percentage points" if is_share(results.metric) else f"units of {escaped(results.metric)}"
    sentences = []
    if results.baseline is not None:
        sentences.append(
            f"Gain: over the baseline, in {unit}; positive is better. It is the difference over {results.repeat}s "
            "where both were trained again, else that after the last epoch that both had reached, where one was ended "
            "before its end."
        )
    sentences.append("Time: training and validation of the trial's epochs.")
    if len(results.ranked) > ROWS:
        sentences.append(f"The best {ROWS} of {len(results.ranked):,} trials; all are in trials.parquet.")
    return [" ".join(sentences), *_shared(results)]


def _shared(results: Results) -> list[str]:
    """List what the table leaves out: settings shared by all trials, then those shared by an architecture's trials."""
    first = results.trials[0].configuration
    hidden = {*results.differing_within, "architecture"}
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


def _trial_row(results: Results, trial: TrialResult, names: Sequence[str]) -> list[str]:
    return [
        str(trial.rank),
        trial.label,
        format_value(results.metric, trial.best),
        *([] if results.baseline is None else [gain_cell(results, trial)[0]]),
        escaped(trial.architecture),
        escaped(describe_configuration(trial.configuration, names)),
        str(len(trial.epochs)),
        format_duration(trial.seconds),
        *(shown for shown, _ in cost_cells(results, trial)),
        status_words(trial),
    ]


def gain_cell(results: Results, trial: TrialResult) -> tuple[str, float | None]:
    """Return the gain over the baseline in words, with what was compared, and as a number."""
    gain = results.gain(trial)
    return (
        ("-", None) if gain is None else (f"{format_gain(results.metric, gain.value)} {gain.basis}".strip(), gain.value)
    )


def cost_columns(results: Results) -> list[str]:
    """Return the titles of what a trial's network costs: parameters, the other metrics, whether it is on the front."""
    others = [metric for metric in results.metrics[1:] if metric != "parameters"]
    return ["parameters", *others, *(["front"] if len(results.metrics) > 1 else [])]


def cost_cells(results: Results, trial: TrialResult) -> list[tuple[str, float | None]]:
    """Return the cells of these columns, each with the value of its number."""
    values: dict[str, float | None] = {**trial.values, "parameters": trial.parameters}
    cells: list[tuple[str, float | None]] = [
        (format_value(name, values.get(name)), values.get(name)) for name in cost_columns(results) if name != "front"
    ]
    return cells if len(results.metrics) < 2 else [*cells, ("yes" if trial.is_on_front else "no", 0)]


def status_words(trial: TrialResult) -> str:
    """Say as Markdown in which state a trial is, and why."""
    return f"{trial.status}, {reason_text(trial)}" if trial.reason else trial.status


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
            trial.label,
            reason_text(trial),
            str(len(trial.epochs)),
            escaped(trial.architecture),
            escaped(describe_configuration(trial.configuration, names)),
        ]
        for trial in results.failed[:ROWS]
    ]
    lines = table(["trial", "reason", "epochs", "architecture", "configuration"], rows, _TRIAL_NUMBERS)
    return ["## Failed trials", "", *_failure_kinds(results), *lines]


def _failure_kinds(results: Results) -> list[str]:
    """Count each kind of failure, when there are more than are shown."""
    if len(results.failed) <= ROWS:
        return []
    kinds = Counter(trial.reason.partition(":")[0] for trial in results.failed)
    rows = [[escaped(kind), f"{number:,}"] for kind, number in kinds.most_common(10)]
    more = f"The first {ROWS} of {len(results.failed):,}, after the most frequent kinds; all are in trials.parquet."
    return [more, "", *table(["kind", "trials"], rows, _TRIAL_NUMBERS), ""]


def finalists_section(results: Results) -> list[str]:
    """Return the section of the finalists, as its lines; empty when no finalist was trained."""
    if not results.finalists:
        return []
    metric = f"{escaped(results.metric)}, mean"
    header = [
        "rank",
        "trial",
        metric,
        "95% interval",
        f"{results.repeat} to {results.repeat}",
        f"test {metric_words(results.judge)}",
        "95% interval ",
        *(f"test {name}" for name in (ACCURACY, LOSS) if name != results.judge),
        *(escaped(name) for name in results.metrics[1:]),
        f"{results.repeat}s",
    ]
    rows = [_finalist_row(results, rank, finalist) for rank, finalist in enumerate(results.finalists, start=1)]
    sentences = [
        *_trained_words(results),
        *_choice_words(results),
        *_tested_words(results),
    ]
    others = {escaped(name) for name in results.metrics[1:]}
    lines = table(header, rows, _FINALIST_NUMBERS | {metric, *others, f"test {metric_words(results.judge)}"})
    return ["## Finalists", "", " ".join(sentences), "", *lines, "", *comparisons(results)]


def _trained_words(results: Results) -> list[str]:
    """Say how they were trained again, and what the ranking is by."""
    if not results.folds:
        return [
            "The best trials were trained again with new seeds; they are ranked by the mean on the validation split.",
            "Their first values, by which they were chosen, are not in it.",
        ]
    words = [
        f"The best trials were trained again on each of {results.folds} folds of the training images, with a new seed "
        "on each; they are ranked by the mean over the folds, each validated on its own part.",
        "Their first values, by which they were chosen, are not in it; the images of the first fold, by which they "
        "were chosen, are.",
    ]
    if any(one.trained < results.folds for one in results.finalists):
        words.append("Folds are not equally hard: a finalist that lacks one stands behind those that have more.")
    return words


def _choice_words(results: Results) -> list[str]:
    """Say how they were chosen where there are several metrics."""
    if len(results.metrics) < 2:
        return []
    return [
        f"Chosen were the best trial by {metric_words(results.metric)} and, from the Pareto front, those that add most "
        f"hypervolume; the winner is the best by {metric_words(results.metric)} all the same."
    ]


def _tested_words(results: Results) -> list[str]:
    if not results.test_readings and results.not_tested:
        return [f"They are not tested, and the test split has not been read: {escaped(results.not_tested)}."]
    if not results.test_readings:
        return ["The test split has not been read yet."]
    repeat, judge = results.repeat, metric_words(results.judge)
    if max(one.tested for one in results.finalists) < 2:
        words = (
            f"With one {repeat}, the interval of test {judge} is for new images alone; what another {repeat} does is "
            "unknown."
        )
    elif results.folds:
        words = (
            f"The intervals of test {judge} are for the mean over other folds of these training images and for new "
            "test images; those of validation are for as many other images, parted in the same way (Student's t, wider "
            "as folds share training images: Nadeau and Bengio 2003)."
        )
    else:
        words = (
            f"The intervals of test {judge} are for the mean over new seeds and for new images, those of the "
            "validation split for new seeds (Student's t)."
        )
    if results.test_readings == 1:
        return ["The test split was read once, when all were trained.", words]
    return [
        f"The test split was read in {results.test_readings} sessions, each time when all its finalists were "
        "trained. The ranking never follows from it; but whoever went on because of what an earlier reading said has "
        "chosen by it, and the last result is optimistic to that extent.",
        words,
    ]


def _finalist_row(results: Results, rank: int, finalist: Finalist) -> list[str]:
    trial = results.trial(finalist.trial)
    values = trial.values if trial is not None else {}
    failed = f", {finalist.failed} failed" if finalist.failed else ""
    accuracy = finalist.test_accuracy.mean if finalist.test_accuracy is not None else None
    return [
        str(rank),
        trial.label if trial is not None else str(finalist.trial),
        format_value(results.metric, finalist.validation.mean),
        interval_words(results.metric, finalist.validation),
        "-" if finalist.deviation is None else _deviation(results.metric, finalist.deviation),
        "-" if finalist.test is None else format_value(results.judge, finalist.test.mean),
        "-" if finalist.test is None else interval_words(results.judge, finalist.test),
        *([] if results.judge == ACCURACY else [format_value(ACCURACY, accuracy)]),
        *([] if results.judge == LOSS else [format_value(LOSS, finalist.test_loss)]),
        *(format_value(name, values.get(name)) for name in results.metrics[1:]),
        f"{finalist.trained}{failed}",
    ]


def interval_words(metric: str, interval: Interval) -> str:
    """Return the bounds of an interval in words.

    >>> interval_words("accuracy", Interval(0.5, 0.45, 0.55)), interval_words("loss", Interval(0.5, None, None))
    ('45.0 to 55.0%', 'not known: too few trainings or images')
    """
    if interval.low is None or interval.high is None:
        return "not known: too few trainings or images"
    if is_share(metric):
        return f"{100 * interval.low:.1f} to {100 * interval.high:.1f}%"
    return f"{interval.low:.4f} to {interval.high:.4f}"


def _deviation(metric: str, deviation: float) -> str:
    return f"{100 * deviation:.2f} points" if is_share(metric) else f"{deviation:.4f}"


def comparisons(results: Results) -> list[str]:
    """Compare the first finalist with each of the others on the test images; say which have not been compared."""
    if not any(finalist.tested for finalist in results.finalists):
        return []
    found = [_against(results, other.trial) for other in results.finalists[1:]]
    found += [words for words in (_baseline_fate(results), recommendation(results)) if words]
    if len(results.finalists) > 2:
        found.append("The others were not compared with each other, and each interval is for one comparison by itself.")
    return [f"- {line}" for line in found]


def brief_comparisons(results: Results) -> list[str]:
    """Say in a few sentences what follows for the second finalist, for the baseline, and which one to take."""
    others = [finalist.trial for finalist in results.finalists[1:]]
    baseline = results.baseline.number if results.baseline is not None else None
    shown = dict.fromkeys([*others[:1], *([baseline] if baseline in others else [])])
    found = [_against(results, trial) for trial in shown if trial is not None]
    return [words for words in (*found, _baseline_fate(results), recommendation(results)) if words]


def _label(results: Results, trial: int) -> str:
    is_baseline = results.baseline is not None and results.baseline.number == trial
    return f"the baseline (trial {trial})" if is_baseline else f"trial {trial}"


def _against(results: Results, other: int) -> str:
    first, name, gain = (
        capital(_label(results, results.finalists[0].trial)),
        _label(results, other),
        results.gains.get(other),
    )
    if gain is None:
        return f"{first} and {name} have not been compared: one of them has not been tested."
    (mean, low, high), number, repeat = gain.points, gain.trainings, results.repeat
    points = format_advantage(results.judge, mean)
    if low is None or high is None:
        why = f"one {repeat} each" if number == 1 else f"no {repeat} that both were trained with"
        turned = f"which another {repeat} may turn round"
        return f"{first} and {name} cannot be compared, there being {why}: {points}, {turned}."
    between = f"95% interval {format_gain(results.judge, low)} to {format_gain(results.judge, high)}"
    words = f"{points}, {between}, {number} {repeat}s each"
    match sign_of(results.judge, low, high):
        case 1:
            return f"{first} is better than {name}: {words}."
        case -1:
            return f"{first} is worse than {name} on the test images, though not on the validation images: {words}."
    return f"{first} and {name} cannot be told apart: {words}."


def _baseline_fate(results: Results) -> str:
    """Say why there is no gain over the baseline, where there is none."""
    baseline = results.baseline
    if baseline is None and results.has_lost_baseline:
        return "The population has changed the baseline while it trained, so no gain can be stated."
    if baseline is None:
        return "The search had no baseline to compare with."
    name = f"the baseline (trial {baseline.number})"
    if baseline.number == results.finalists[0].trial:
        return f"The winner is {name}: the search found nothing better on the validation split."
    if any(finalist.trial == baseline.number for finalist in results.finalists):
        return ""
    if baseline.status == "failed":
        return f"{capital(name)} failed, so no gain can be stated: {reason_text(baseline)}."
    if baseline.rank is None:
        return f"{capital(name)} has no value, so it was not trained again and no gain can be stated."
    trained = [one.trained for one in results.trainings if one.trained.trial == baseline.number]
    if not trained:
        return f"{capital(name)} was not trained again, so no gain can be stated."
    reason = escaped(reason_words(trained[0].reason))
    again = "on the folds" if results.folds else "with new seeds"
    return f"All trainings of {name} {again} failed, so no gain can be stated: {reason}."


def recommendation(results: Results) -> str:
    """Say which of the finalists that cannot be told apart from the first to take, and why; empty without any."""
    first = results.chosen
    equal = [
        trial
        for other in results.finalists[1:]
        if (trial := results.trial(other.trial)) is not None
        and _is_equal(results.judge, results.gains.get(trial.number))
        and _overlap(results.finalists[0].validation, other.validation)
    ]
    if first is None or not equal:
        return ""
    name = _label(results, first.number)
    for metric, words, unit in (("parameters", "smaller", " parameters"), ("seconds_per_image", "faster", " an image")):
        own = _cost(first, metric)
        others = [(value, trial.number) for trial in equal if (value := _cost(trial, metric)) is not None]
        if own is not None and others and min(others)[0] <= CLEARLY_LESS * own:
            value, number = min(others)
            costs = f"{format_value(metric, value)}{unit} instead of {format_value(metric, own)}"
            return (
                f"Recommended: {_label(results, number)}. It cannot be told apart from {name} and is {words}: {costs}; "
                "`--retrain` trains it."
            )
    if _cost(first, "parameters") is None and _cost(first, "seconds_per_image") is None:
        return f"Recommended: {name}. Whether one that cannot be told apart from it is smaller or faster is not known."
    within = f"{100 * MOST_GIVEN_UP:g} points" if is_share(results.judge) else f"{MOST_GIVEN_UP:g}"
    return (
        f"Recommended: {name}. Of those that cannot be told apart from it, none within {within} is smaller or faster."
    )


def _is_equal(metric: str, gain: Difference | None) -> bool:
    """Say whether two finalists cannot be told apart, and the second was not much worse either."""
    if gain is None or gain.points.low is None:
        return False
    return sign_of(metric, *gain.points[1:]) == 0 and gain.points.mean <= MOST_GIVEN_UP


def _overlap(first: Interval, second: Interval) -> bool:
    """Say whether validation does not tell two finalists apart: the test split alone chooses nothing."""
    if first.low is None or first.high is None or second.low is None or second.high is None:
        return True
    return first.low <= second.high and second.low <= first.high


def _cost(trial: TrialResult, metric: str) -> float | None:
    return trial.parameters if metric == "parameters" else getattr(trial.measured, metric, None)


def front_section(results: Results) -> list[str]:
    """Return the section of the front, as its lines; empty with one metric, and before a trial is known in all."""
    if not results.front:
        return []
    shown = results.front[:ROWS]
    header = ["trial", *(escaped(metric) for metric in results.metrics)]
    lines = table(
        [*header, "architecture", "configuration", "epochs", "status"],
        [_front_row(results, trial) for trial in shown],
        frozenset({*header, "epochs"}),
    )
    more = [f"The first {ROWS} of {len(results.front):,}; all are in trials.parquet.", ""]
    return [
        "## Pareto front", "", " ".join([*_meaning(results), *_winner_words(results)]), "",
        *(more if len(results.front) > ROWS else []), *lines, *_beside_the_baseline(results),
    ]  # fmt: skip


def _front_row(results: Results, trial: TrialResult) -> list[str]:
    return [
        trial.label,
        *(format_value(metric, trial.values[metric]) for metric in results.metrics),
        escaped(trial.architecture),
        escaped(describe_configuration(trial.configuration, results.differing_within)),
        str(len(trial.epochs)),
        status_words(trial),
    ]


def _meaning(results: Results) -> list[str]:
    """Say what the front is, and what its values are worth."""
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
    by = f"the best by {first}{f', over several {results.repeat}s' if results.finalists else ''}"
    if chosen is None:
        return []
    name = results.study.model_name if results.study is not None else ""
    words = [f"The winner, whose model is exported as {name}, is {by}: trial {chosen.number}."]
    others = [one.trial for one in results.finalists[1:] if one.trial in {trial.number for trial in results.front}]
    if others:
        names = ", ".join(f"front-{trial:05d}{Path(name).suffix}" for trial in others)
        words.append(f"The other finalists on the front are beside it: {names}.")
    return words


def _beside_the_baseline(results: Results) -> list[str]:
    """List what the front offers beside the baseline: as good in the first metric, and cheaper."""
    baseline = results.baseline
    if baseline is None or baseline.rank is None or len(baseline.values) < len(results.metrics):
        return []
    first, lines = results.metric, []
    able = [trial for trial in results.front if _advantage(trial, baseline, first) >= 0]
    for metric in results.metrics[1:] if able else ():
        mode = metric_of(metric).mode
        best = max(able, key=lambda trial: oriented(trial.values[metric], mode))
        before, now = baseline.values[metric], best.values[metric]
        if best is baseline or _advantage(best, baseline, metric) <= 0:
            lines.append(
                f"- {capital(metric_words(metric))}: no trial is as good as the baseline in {metric_words(first)} "
                f"with less than its {format_value(metric, before)}."
                if mode == "min"
                else f"- {capital(metric_words(metric))}: no trial as good in {metric_words(first)} beats the baseline."
            )
            continue
        times = f", {now / before:.2g} times as much" if before > 0 and mode == "min" else ""
        lines.append(
            f"- {capital(metric_words(metric))}: trial {best.number} is no worse than the baseline in "
            f"{metric_words(first)} ({format_value(first, best.values[first])} against "
            f"{format_value(first, baseline.values[first])}) with {format_value(metric, now)} instead of "
            f"{format_value(metric, before)}{times}."
        )
    return ["", *lines] if lines else []


def _advantage(trial: TrialResult, other: TrialResult, metric: str) -> float:
    """Return by how much a trial is better than another in a metric of which both have a value."""
    return oriented(trial.values[metric] - other.values[metric], metric_of(metric).mode)
