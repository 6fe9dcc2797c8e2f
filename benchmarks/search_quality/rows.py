"""What searches found, as rows of a CSV file that grows with every finished search."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from tuner.common.errors import InputError

SHARES = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.75, 1.0)
"""Of a budget: where a search is read off."""


class Row(NamedTuple):
    """The regret of one search after a share of its budget."""

    policy: str
    problem: str
    slots: int
    budget: float
    seed: int
    share: float
    regret: float
    trials: int
    """Begun within the whole budget."""
    noise: float = 0.0
    suggestion_ms: float = float("nan")
    """Processor time of the policy for one job, in the mean over the whole budget."""


class Found(NamedTuple):
    """What a search and its budget are known by."""

    policy: str
    problem: str
    slots: int
    budget: float
    seed: int
    noise: float


def found(row: Row) -> Found:
    """To which search, at which budget, a row belongs."""
    return Found(row.policy, row.problem, row.slots, row.budget, row.seed, row.noise)


def read_rows(path: Path) -> list[Row]:
    """The rows of all searches that are complete in a file; none where there is no file.

    A run that was killed leaves at most one torn line and one search with too few rows: both are as if never searched.

    Raises:
        InputError: the file has other columns.
    """
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        lines = list(csv.reader(file))
    if lines[:1] != [list(Row._fields)]:
        raise InputError(f"{path} must have the columns {', '.join(Row._fields)}; got {', '.join((lines or [[]])[0])}")
    rows = [_row(line) for line in lines[1:] if len(line) == len(Row._fields) and line[-1]]
    shares: dict[Found, set[float]] = {}
    for row in rows:
        shares.setdefault(found(row), set()).add(row.share)
    return once(row for row in rows if shares[found(row)] == set(SHARES))


def once(rows: Iterable[Row]) -> list[Row]:
    """Rows without what was searched twice, of which the first counts."""
    kept: dict[tuple[Found, float], Row] = {}
    for row in rows:
        kept.setdefault((found(row), row.share), row)
    return list(kept.values())


def _row(line: Sequence[str]) -> Row:
    policy, problem, slots, budget, seed, share, regret, trials, noise, suggestion_ms = line
    return Row(
        policy, problem, int(slots), float(budget), int(seed), float(share), float(regret), int(trials), float(noise),
        float(suggestion_ms),
    )  # fmt: skip


def write_rows(rows: Iterable[Row], path: Path) -> None:
    """All rows as CSV, written aside and then renamed."""
    aside = path.with_suffix(".part")
    with aside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(Row._fields)
        writer.writerows(rows)
    aside.replace(path)


def append_rows(rows: Iterable[Row], path: Path) -> None:
    """More rows at the end of a file, on the disk when this returns."""
    with path.open("a", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
        file.flush()
        os.fsync(file.fileno())
