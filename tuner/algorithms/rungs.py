"""Where trials are compared, and what a search will cost: arithmetic only.

A rung is an epoch at which a trial must be among the best `1 / reduction_factor` to go on (Jamieson & Talwalkar 2016,
successive halving; Li et al. 2018, arXiv:1810.05934, its asynchronous form).
"""

from __future__ import annotations

from dataclasses import dataclass


def rung_epochs(max_epochs: int, grace_epochs: int, reduction_factor: int) -> tuple[int, ...]:
    """The epochs at which trials are compared, below `max_epochs`.

    Raises:
        ValueError: the epochs would not grow.

    >>> rung_epochs(50, 2, 4)
    (2, 8, 32)
    """
    if grace_epochs < 1 or reduction_factor < 2:
        got = f"{grace_epochs} and {reduction_factor}"
        raise ValueError(f"grace_epochs must be at least 1 and reduction_factor at least 2; got {got}")
    rungs: list[int] = []
    epoch = grace_epochs
    while epoch < max_epochs:
        rungs.append(epoch)
        epoch *= reduction_factor
    return tuple(rungs)


def default_grace_epochs(head_epochs: int, has_unfreezing: bool, max_epochs: int) -> int:
    """The first rung when the file says `auto`: 1, or right after the head phase where blocks are unfrozen.

    One epoch of grace measured best on smooth curves; but before the first unfrozen epoch, head-only trials and deep
    ones have shown the same thing, so a comparison there says nothing.

    >>> default_grace_epochs(3, True, 30), default_grace_epochs(3, False, 30)
    (4, 1)
    """
    return min(head_epochs + 1, max_epochs) if has_unfreezing else 1


def default_reduction_factor(pauses: bool, has_branches: bool) -> int:
    """The reduction factor when the file says `auto`.

    4 measured best where trials are stopped for good, 3 where they wait for their promotion (LCBench: mean regret
    0.041, with 2 0.050). But branches of a space, architectures say, learn at different paces: the first epochs favour
    the quick ones, and 2 lets the half go on which 3 would have lost by them. On conditional problems that no setting
    was chosen on, mean regret was 0.076 with 2 and 0.101 with 3 (benchmarks/LOG.md). In all, a trial of at most 50
    epochs costs 3.8 on average, with 3 it costs 3.3.

    >>> [default_reduction_factor(*one) for one in ((True, True), (True, False), (False, True))]
    [2, 3, 4]
    """
    if not pauses:
        return 4
    return 2 if has_branches else 3


@dataclass(frozen=True)
class Rung:
    """How many of the trials are expected to train to an epoch, and the epochs that all of them spend up to it."""

    epoch: int
    trials: int
    epochs_spent: int


def expected_rungs(trials: int, max_epochs: int, rungs: tuple[int, ...], reduction_factor: int) -> tuple[Rung, ...]:
    """The table of a halving search in which the share `1 / reduction_factor` goes on at each rung.

    Early stopping ends trials earlier, and asynchronous decisions let some more through, so it is an estimate.

    >>> [(rung.epoch, rung.trials) for rung in expected_rungs(64, 30, (1, 4, 16), 4)]
    [(1, 64), (4, 16), (16, 4), (30, 1)]
    """
    table: list[Rung] = []
    previous, remaining, spent = 0, trials, 0
    for epoch in (*rungs, max_epochs):
        spent += remaining * (epoch - previous)
        table.append(Rung(epoch, remaining, spent))
        previous, remaining = epoch, max(1, remaining // reduction_factor)
    return tuple(table)
