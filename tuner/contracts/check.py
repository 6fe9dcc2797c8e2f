"""A check, its outcome, and the way through all checks of one subject. Light."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, Protocol, TypeVar

from tuner.contracts.author import Author


class Subject(Protocol):
    """Code of an author that is registered under a name."""

    @property
    def name(self) -> str:
        """The name."""

    @property
    def author(self) -> Author:
        """The author, to whom errors are told."""


Checked = TypeVar("Checked", bound=Subject)
MOST_PROBLEMS = 5
"""More of one check are counted, not told: they have one cause."""


@dataclass(frozen=True)
class Check(Generic[Checked]):
    """One promise, and the function that yields what breaks it, a sentence for each problem."""

    name: str
    promise: str
    problems: Callable[[Checked], Iterable[str]]
    is_needed: bool = False
    """Whether nothing else can be looked at where it fails."""


@dataclass(frozen=True)
class Outcome:
    """The outcome of one check."""

    check: str
    promise: str
    status: Literal["passed", "failed", "not run"]
    problems: tuple[str, ...] = ()
    seconds: float = 0.0


def outcomes(subject: Checked, checks: Sequence[Check[Checked]]) -> Iterator[Outcome]:
    """Yield the outcome of each check in order; after one that is needed and fails, the others are not run."""
    failed: str | None = None
    for check in checks:
        if failed is not None:
            yield Outcome(check.name, check.promise, "not run", (f"it needs what failed above: {failed}",))
            continue
        started = time.perf_counter()
        problems = problems_of(subject, check)
        seconds = round(time.perf_counter() - started, 3)
        yield Outcome(check.name, check.promise, "failed" if problems else "passed", problems, seconds)
        if problems and check.is_needed:
            failed = check.name


def problems_of(subject: Checked, check: Check[Checked]) -> tuple[str, ...]:
    """Return what breaks a promise, each sentence once; what the author's code raises is one of them."""
    found: list[str] = []
    try:
        found.extend(check.problems(subject))
    except Exception as error:  # noqa: BLE001  the code of others may raise anything, and that is what is asked
        found.append(subject.author.explain(error))
    told = list(dict.fromkeys(found))
    more = len(told) - MOST_PROBLEMS
    return tuple(told[:MOST_PROBLEMS] + ([f"and {more} more of this kind"] if more > 0 else []))
