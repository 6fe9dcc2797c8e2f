"""Failures of trials, which are the trials' results: caught here, described in one line, and sorted into kinds."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import TypeVar

from tuner.common.errors import first_line

Result = TypeVar("Result")
NOT_A_NUMBER = "not a number"
EXPLODED = "loss exploded"
OUT_OF_MEMORY = "out of memory"
HUNG = "hung"
CRASHED = "crashed"
WORKER_LOST = "worker lost"
KINDS = (NOT_A_NUMBER, EXPLODED, OUT_OF_MEMORY, HUNG, CRASHED)
"""The words with which a reason begins, before a colon, where what follows makes no other reason of it."""
OUT_OF_MEMORY_ERRORS = {"MemoryError", "ResourceExhaustedError", "OutOfMemoryError"}
HOPELESS = 1000.0
"""A training loss of so many times what guessing costs, log(classes), leaves no hope. Of 48 trainings of digits with
high rates, the 23 that came above it in an epoch ended at the accuracy of guessing; one that learned had 73 times."""


ADVICE = {
    NOT_A_NUMBER: "try smaller learning rates, and look at what space.preprocess makes of the values",
    EXPLODED: "try smaller learning rates, and look at what space.preprocess makes of the values",
    OUT_OF_MEMORY: "try smaller batches or images, or give a trial more with resources.memory_gb_per_trial",
}
"""What to do about failures by their kind; for any other, the log tells more."""


def attempt(action: Callable[[], Result]) -> tuple[Result | None, str | None]:
    """Return the result of `action` and None; or None and, in one line for the tables, why it failed."""
    try:
        return action(), None
    # All that a network, a library or a disk raises in a trial is its result, told to sampler, record and report; a
    # narrower list would let one bad configuration end the search. KeyboardInterrupt and SystemExit are no Exception.
    except Exception as error:  # noqa: BLE001  whatever a trial raises is its result, and must not end the search
        return None, describe_failure(error)


def describe_failure(error: BaseException) -> str:
    """Return one line: the kind of failure and the first line of its message.

    >>> describe_failure(MemoryError("cannot hold [128, 64]"))
    'out of memory: cannot hold [128, 64]'
    """
    kind = OUT_OF_MEMORY if type(error).__name__ in OUT_OF_MEMORY_ERRORS else type(error).__name__
    return f"{kind}: {first_line(error)}"[:300]


def loss_failure(history: Mapping[str, float], epoch: int, num_classes: int) -> str | None:
    """Return why an epoch's values leave no hope; None when they do not.

    The validation loss may be large for a while (statistics of batch normalisation that lag behind), so that only one
    that is infinite counts.

    >>> loss_failure({"loss": math.nan, "val_loss": 2.0}, 3, 10)
    'not a number: loss is nan at epoch 3'
    >>> loss_failure({"loss": 5000.0, "val_loss": 2.0}, 1, 10)
    'loss exploded: loss is 5e+03 at epoch 1, more than 1000 times that of guessing'
    """
    for name, value in history.items():
        if math.isnan(value):
            return f"{NOT_A_NUMBER}: {name} is {value} at epoch {epoch}"
    for name, value in history.items():
        if math.isinf(value):
            return f"{EXPLODED}: {name} is {value} at epoch {epoch}"
    if history["loss"] > HOPELESS * math.log(max(2, num_classes)):
        loss = f"{history['loss']:.3g}"
        return f"{EXPLODED}: loss is {loss} at epoch {epoch}, more than {HOPELESS:g} times that of guessing"
    return None


def kind_of(reason: str) -> str:
    """Return the kind of a reason: one that has a name, or the reason with `#` for its numbers.

    >>> kind_of("out of memory: cannot hold [128, 64]"), kind_of("ValueError: 3 is not 4")
    ('out of memory', 'ValueError: # is not #')
    """
    kind = reason.partition(":")[0]
    return kind if kind in KINDS else re.sub(r"[0-9]+(\.[0-9]+)?", "#", reason)
