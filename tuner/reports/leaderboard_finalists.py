"""The finalists of a leaderboard as Markdown: what won on new images and seeds, and what can be told apart."""

from __future__ import annotations

from tuner.common.intervals import Interval
from tuner.reports.formatting import format_value, is_share, metric_words
from tuner.reports.markdown import escaped, table
from tuner.reports.results import Results
from tuner.runs.finalists import Finalist

_NUMBERS = frozenset({"rank", "trial", "seeds", "test accuracy", "test loss", "seed to seed"})


def finalists_section(results: Results) -> list[str]:
    """The section, as its lines; empty when no finalist was trained."""
    if not results.finalists:
        return []
    metric = f"{escaped(results.metric)}, mean"
    header = [
        "rank",
        "trial",
        metric,
        "95% interval",
        "seed to seed",
        "test accuracy",
        "95% interval ",
        "test loss",
        *(escaped(name) for name in results.metrics[1:]),
        "seeds",
    ]
    rows = [_row(results, rank, finalist) for rank, finalist in enumerate(results.finalists, start=1)]
    sentences = [
        "The best trials were trained again with new seeds; they are ranked by the mean on the validation split.",
        "Their first values, by which they were chosen, are not in it.",
        *_front_words(results),
        *_tested_words(results),
    ]
    lines = table(header, rows, _NUMBERS | {metric, *(escaped(name) for name in results.metrics[1:])})
    return ["## Finalists", "", " ".join(sentences), "", *lines, "", *comparisons(results)]


def _front_words(results: Results) -> list[str]:
    """How they were chosen where there are several metrics."""
    if len(results.metrics) < 2:
        return []
    return [
        f"Chosen were the best trial by {metric_words(results.metric)} and, from the Pareto front, those that add most "
        f"hypervolume; the winner is the best by {metric_words(results.metric)} all the same."
    ]


def _tested_words(results: Results) -> list[str]:
    if all(finalist.test_accuracy is None for finalist in results.finalists):
        return ["The test split has not been read yet."]
    varying = "new seeds and new images" if max(one.trained for one in results.finalists) > 1 else "new images"
    return [
        f"The test split was read once, when all were trained. Its interval is for {varying}, "
        "that of the validation split for new seeds (Student's t)."
    ]


def _row(results: Results, rank: int, finalist: Finalist) -> list[str]:
    trial = next(one for one in results.trials if one.number == finalist.trial)
    failed = f", {finalist.failed} failed" if finalist.failed else ""
    return [
        str(rank),
        f"{finalist.trial}{' (baseline)' if trial.is_baseline else ''}",
        format_value(results.metric, finalist.validation.mean),
        interval_words(results.metric, finalist.validation),
        "-" if finalist.deviation is None else _deviation(results.metric, finalist.deviation),
        "-" if finalist.test_accuracy is None else format_value("accuracy", finalist.test_accuracy.mean),
        "-" if finalist.test_accuracy is None else interval_words("accuracy", finalist.test_accuracy),
        format_value("loss", finalist.test_loss),
        *(format_value(name, trial.values.get(name)) for name in results.metrics[1:]),
        f"{finalist.trained}{failed}",
    ]


def interval_words(metric: str, interval: Interval) -> str:
    """The bounds of an interval in words.

    >>> interval_words("accuracy", Interval(0.5, 0.45, 0.55)), interval_words("loss", Interval(0.5, None, None))
    ('45.0 to 55.0%', 'not known: one seed')
    """
    if interval.low is None or interval.high is None:
        return "not known: one seed"
    if is_share(metric):
        return f"{100 * interval.low:.1f} to {100 * interval.high:.1f}%"
    return f"{interval.low:.4f} to {interval.high:.4f}"


def _deviation(metric: str, deviation: float) -> str:
    return f"{100 * deviation:.2f} points" if is_share(metric) else f"{deviation:.4f}"


def comparisons(results: Results) -> list[str]:
    """What can be said of the first finalist against the second and against the baseline, on the test images."""
    if not results.finalists or not results.gains:
        return []
    baseline = results.baseline.number if results.baseline is not None else None
    first, second = results.finalists[0], results.finalists[1].trial if len(results.finalists) > 1 else None
    found = []
    if second is not None and second in results.gains and second != baseline:
        found.append(f"- {_against(first.trial, f'trial {second}', results.gains[second])}")
    if baseline in results.gains and baseline is not None:
        found.append(f"- {_against(first.trial, 'the baseline', results.gains[baseline])}{_noise_words(results)}")
    return found


def _against(first: int, other: str, gain: Interval) -> str:
    low, high = gain.low or 0.0, gain.high or 0.0
    words = f"{100 * gain.mean:+.2f} points of test accuracy, 95% interval {100 * low:+.2f} to {100 * high:+.2f}"
    if low > 0:
        return f"Trial {first} is better than {other}: {words}."
    if high < 0:
        return f"Trial {first} is worse than {other} on the test images, though not on the validation images: {words}."
    return f"Trial {first} and {other} cannot be told apart: {words}."


def _noise_words(results: Results) -> str:
    """The gain over the baseline in units of what the seed alone does."""
    baseline = results.baseline
    gain = results.gains.get(baseline.number) if baseline is not None else None
    noise = results.finalists[0].test_deviation
    if gain is None or not noise:
        return ""
    return f" That is {abs(gain.mean) / noise:.1f} times the standard deviation from seed to seed."
