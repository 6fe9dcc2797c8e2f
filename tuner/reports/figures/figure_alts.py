"""Each figure in words, for those who cannot see it. Pure."""

from __future__ import annotations

from tuner.reports.figures.figure_data import BestSoFar, Group, Groups, LearningCurves, WinnerCurves
from tuner.reports.figures.figure_data_cost import Cost, Flow
from tuner.reports.figures.figure_data_importance import Importances
from tuner.reports.figures.figure_data_pareto import Pareto
from tuner.reports.figures.figure_data_predictions import ClassAccuracy, Confusion, Examples, Pictures
from tuner.reports.figures.figure_data_space import Parallel, Slices
from tuner.reports.formatting import capital, format_duration, format_value, metric_words


def learning_curves_alt(data: LearningCurves) -> str:
    """The figure in words."""
    winner = data.best[0]
    unfrozen = sum(curve.unfrozen_at is not None for curve in data.best)
    marks = f"; dots mark where {unfrozen} of them unfreeze blocks of their backbone" if unfrozen else ""
    rest = f", {data.rest_total} others faint behind them" if data.rest_total else ""
    return (
        f"{capital(metric_words(data.metric))} by epoch of the best {_trials(len(data.best))}{rest}{marks}. The best "
        f"is trial {winner.trial}, with {format_value(data.metric, winner.best)} "
        f"over {_epochs(len(winner.epochs))}."
    )


def winner_curves_alt(data: WinnerCurves) -> str:
    """The figure in words."""
    unfrozen = f" Blocks of the backbone are unfrozen from epoch {data.unfrozen_at} on." if data.unfrozen_at else ""
    at = data.epochs.index(data.best_epoch)
    values = ", ".join(
        f"{name} {format_value(metric, series[at])}"
        for name, metric, series in (
            ("validation accuracy", "val_accuracy", data.val_accuracy),
            ("training accuracy", "accuracy", data.accuracy),
            ("validation loss", "val_loss", data.val_loss),
            ("training loss", "loss", data.loss),
        )
    )
    return (
        f"Accuracy and loss of {data.label} in training and validation over {_epochs(len(data.epochs))}. It is best "
        f"at epoch {data.best_epoch}: {values}.{unfrozen}"
    )


def best_so_far_alt(data: BestSoFar) -> str:
    """The figure in words."""
    first, last = data.points[0], data.points[-1]
    share = last.elapsed_s / data.elapsed_s if data.elapsed_s > 0 else 1.0
    return (
        f"Best {metric_words(data.metric)} so far against elapsed time and against epochs trained: from "
        f"{format_value(data.metric, first.best)} to {format_value(data.metric, last.best)} (trial {last.trial}), "
        f"reached after {share:.0%} of the time and {last.epochs} of {_epochs(data.epochs)}. "
        "Marks show each trial's result by status."
    )


def groups_alt(data: Groups) -> str:
    """The figure in words."""
    words = "; ".join(_group_words(group, data.metric) for group in data.groups)
    more = f" {data.left_out} more are not shown." if data.left_out else ""
    return f"Best {metric_words(data.metric)} of each trial by {data.what}. {words}.{more}"


def _group_words(group: Group, metric: str) -> str:
    failed = f"{group.failed} failed" if group.failed else ""
    if group.best is None:
        return f"{group.label}: no result, {failed}"
    value = f"best {format_value(metric, group.best)}, median {format_value(metric, group.median)}"
    low, high = group.interval or (None, None)
    interval = f" (95% interval {format_value(metric, low)} to {format_value(metric, high)})" if group.interval else ""
    return f"{group.label}: {value}{interval} of {_trials(group.trials)}" + (f", {failed}" if failed else "")


def _trials(number: int) -> str:
    return f"{number:,} trial{'' if number == 1 else 's'}"


def _epochs(number: int) -> str:
    return f"{number:,} epoch{'' if number == 1 else 's'}"


def cost_alt(data: Cost) -> str:
    """The figure in words."""
    values = {point.trial: point for point in data.points}
    first, last = values[data.front_seconds[0]], values[data.front_seconds[-1]]
    words = (
        f"{capital(metric_words(data.metric))} of {_trials(len(data.points))} against training time and number of "
        f"parameters. The cheapest trial on the front is trial {first.trial}: {format_value(data.metric, first.value)} "
        f"after {format_duration(first.seconds)}"
    )
    if last.trial == first.trial:
        return f"{words}; none is better."
    return (
        f"{words}; the best is trial {last.trial}: {format_value(data.metric, last.value)} after "
        f"{format_duration(last.seconds)}; {len(data.front_seconds)} trials are on the front."
    )


def pareto_alt(data: Pareto) -> str:
    """The figure in words."""
    panel = data.panels[0]
    words = (
        f"{capital(metric_words(data.metric))} against {' and '.join(metric_words(one.metric) for one in data.panels)}"
    )
    (cheap, low), (dear, high) = panel.stairs[0], panel.stairs[-1]
    ends = f"{format_value(data.metric, low)} with {format_value(panel.metric, cheap)}"
    if len(panel.stairs) > 1:
        ends += f" to {format_value(data.metric, high)} with {format_value(panel.metric, dear)}"
    return (
        f"{words} of {_trials(data.trials)}, {data.on_front} of them on the Pareto front. "
        f"Against {metric_words(panel.metric)} it goes from {ends}."
    )


def flow_alt(data: Flow) -> str:
    """The figure in words."""
    parts = []
    for rung in data.rungs:
        fates = (
            ("went on", rung.went_on), ("ended by themselves", rung.ended), ("stopped", rung.stopped),
            ("failed", rung.failed), ("running or unfinished", rung.open),
        )  # fmt: skip
        told = ", ".join(f"{number} {word}" for word, number in fates if number)
        parts.append(f"up to epoch {rung.epoch}: {rung.entered} trained, {told}")
    return f"What became of {_trials(data.trials)} at each rung. {capital('; '.join(parts))}."


def importances_alt(data: Importances) -> str:
    """The figure in words."""
    items = ", ".join(f"{item.name} {max(0.0, item.share):.0%}" for item in data.items)
    return (
        f"How much of the differences between {_trials(data.trials)} each hyperparameter explains, compared after "
        f"epoch {data.epoch}: {items}. A model of all of them explains {max(0.0, data.explained):.0%} on trials that "
        f"it has not seen; {data.left_out} trials that were ended before are left out."
    )


def slices_alt(data: Slices) -> str:
    """The figure in words."""
    names = ", ".join(item.name for item in data.items)
    return f"{capital(metric_words(data.metric))} of each trial by {names}, one panel each."


def parallel_alt(data: Parallel) -> str:
    """The figure in words."""
    names = ", ".join(axis.name for axis in data.axes)
    best = data.lines[-1]
    return (
        f"{len(data.lines)} of {_trials(data.total)} as lines through {names} to their {metric_words(data.metric)}; "
        f"the best, trial {best.trial}, reaches {format_value(data.metric, best.value)}. Good trials are dark."
    )


def confusion_alt(data: Confusion) -> str:
    """The figure in words."""
    pairs = "; ".join(f"{true} as {predicted} {number} of {total}" for true, predicted, number, total in data.pairs[:5])
    most = f" Most often confused: {pairs}." if pairs else ""
    return (
        f"Confusion matrix of {len(data.class_names)} classes on {data.images:,} test images, {data.accuracy:.2%} "
        f"right; classes that are taken for each other stand side by side.{most}"
    )


def class_accuracy_alt(data: ClassAccuracy) -> str:
    """The figure in words."""
    pairs = list(zip(data.class_names, data.accuracy, strict=True))
    worst = ", ".join(f"{name} {share:.0%}" for name, share in pairs[:3])
    best = ", ".join(f"{name} {share:.0%}" for name, share in pairs[:-4:-1])
    return f"Test accuracy of each of {len(pairs)} classes with 95% intervals. Worst: {worst}. Best: {best}."


def examples_alt(data: Examples) -> str:
    """The figure in words."""
    told = "; ".join(
        f"{item.true} {'recognised' if item.is_right else f'taken for {item.labels[0][0]}'} ({item.labels[0][1]:.0%})"
        for item in data.items
    )
    return f"{data.title}: {told}."


def variants_alt(data: Pictures) -> str:
    """The figure in words."""
    texts = "; ".join(row.text for row in data.rows)
    number = len(data.rows[0].images)
    return f"{number} validation images, a row for each variant of preprocessing and augmentation: {texts}."
