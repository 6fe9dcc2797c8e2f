"""Each figure in words, for those who cannot see it. Pure."""

from __future__ import annotations

from tuner.figure_data import BestSoFar, Group, Groups, LearningCurves, WinnerCurves
from tuner.wording import capital, format_value, metric_words


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
    return f"{group.label}: {value} of {_trials(group.trials)}" + (f", {failed}" if failed else "")


def _trials(number: int) -> str:
    return f"{number:,} trial{'' if number == 1 else 's'}"


def _epochs(number: int) -> str:
    return f"{number:,} epoch{'' if number == 1 else 's'}"
