"""What goes wrong in a trial is that trial's result: caught in one place, and told in one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from tuner.errors import first_line

Result = TypeVar("Result")
OUT_OF_MEMORY = "out of memory"
OUT_OF_MEMORY_ERRORS = {"MemoryError", "ResourceExhaustedError", "OutOfMemoryError"}


def attempt(action: Callable[[], Result]) -> tuple[Result | None, str | None]:
    """What `action` returns and None; or None and, in one line for the tables, why it failed."""
    try:
        return action(), None
    except Exception as error:  # noqa: BLE001  the one place: whatever breaks in a trial is that trial's result
        return None, describe_failure(error)


def describe_failure(error: BaseException) -> str:
    """One line: the kind of failure and the first line of its message.

    >>> describe_failure(MemoryError("cannot hold [128, 64]"))
    'out of memory: cannot hold [128, 64]'
    """
    kind = OUT_OF_MEMORY if type(error).__name__ in OUT_OF_MEMORY_ERRORS else type(error).__name__
    return f"{kind}: {first_line(error)}"[:300]
