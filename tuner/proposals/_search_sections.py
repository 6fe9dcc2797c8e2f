"""The sections of a proposal on how trials are compared and trained, for how long, and on finalists. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from tuner.common.metrics import DEFAULT_METRIC, short_number
from tuner.proposals._facts import DataFacts, Wish
from tuner.proposals._networks import Networks
from tuner.proposals._settings import Setting, time_text

_TRIALS = 400


def metric_setting(data: DataFacts) -> Setting:
    """Return the metric that trials are compared by."""
    if not data.is_uneven:
        return Setting("metric", DEFAULT_METRIC, _even(data.imbalance))
    why = (
        f"{data.largest_class} has {short_number(data.imbalance)} times the images of {data.smallest_class}: here "
        "every class counts alike, and always naming the largest gains nothing"
    )
    return Setting("metric", "val_balanced_accuracy", why)


def _even(imbalance: float) -> str:
    """Return in words how little the classes differ in size.

    >>> _even(1.0), _even(2.5)
    ('all classes have about as many images', 'the largest class has no more than 2.5 times the images of the smallest')
    """
    if imbalance < 1.1:
        return "all classes have about as many images"
    return f"the largest class has no more than {short_number(imbalance)} times the images of the smallest"


def training_settings(data: DataFacts, wish: Wish, networks: Networks) -> tuple[Setting, ...]:
    """Return for how many epochs a trial is trained at the most, and when it ends before."""
    epochs = 60 if data.is_few else 16 if wish.is_short else 40
    head = (Setting("head_epochs", 2 if wish.is_short else 5),) if networks.pretrained else ()
    stopping = (Setting("patience", 12 if data.is_few else 6), Setting("min_delta", 1.0e-4))
    return (Setting("max_epochs", epochs), *head, Setting("early_stopping", stopping))


def search_settings(wish: Wish, networks: Networks) -> tuple[Setting, ...]:
    """Return the time and the number of trials."""
    if wish.time_s is None:
        return (Setting("trials", 64, "no time is given: so many configurations are tried"), Setting("seed", 0))
    why = "for all: the look at the data, trials (as many as fit), finalists, report"
    grace_why = "so many epochs are trained before trials are compared, some of them with unfrozen blocks"
    grace = (Setting("grace_epochs", 5, grace_why),) if wish.is_short and networks.pretrained else ()
    budget = Setting("time_budget", time_text(wish.time_s), why)
    return (budget, Setting("trials", _TRIALS), Setting("seed", 0), *grace)


def finalists_setting(wish: Wish, *, has_folds: bool) -> Iterator[Setting]:
    """Yield how many finalists are trained, where there is little time for them."""
    if wish.is_short:
        each = () if has_folds else (Setting("seeds", 1),)
        yield Setting("finalists", (Setting("count", 1), *each), "few, so that trials have the time")
