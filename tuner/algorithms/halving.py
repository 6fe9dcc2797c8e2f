"""Asynchronous successive halving by promotion: the trials that wait at a rung, and the one that goes on next. Pure.

Li et al. 2018, "A System for Massively Parallel Hyperparameter Tuning" (arXiv:1810.05934), Algorithm 2: a trial that
reaches a rung waits there; whenever a slot is free, the best waiting trial of the highest rung at which it is among
the top `1 / reduction_factor` goes on; if there is none, a new trial begins. Nothing is ever stopped for good.
"""

from __future__ import annotations

import itertools
import math
from bisect import insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from tuner.common.metrics import Mode, oriented
from tuner.runs.events import Status

EXCUSED = frozenset({"recipe", "prior"})
"""Origins of trials that do not wait at the first rungs: the best known of each architecture, on other data."""


def rung_epochs(max_epochs: int, grace_epochs: int, reduction_factor: int) -> tuple[int, ...]:
    """Return the epochs at which trials are compared, below `max_epochs`.

    Raises ValueError when the epochs would not grow.

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
    """Return the first rung for `auto`: 1, or right after the head phase where blocks are unfrozen.

    One epoch of grace measured best on smooth curves; but before the first unfrozen epoch, head-only trials and deep
    ones have shown the same thing, so a comparison there says nothing.

    >>> default_grace_epochs(3, True, 30), default_grace_epochs(3, False, 30)
    (4, 1)
    """
    return min(head_epochs + 1, max_epochs) if has_unfreezing else 1


def excused_epochs(max_epochs: int) -> int:
    """Return the epochs that excused trials train without waiting at a rung: they wait at the first one above.

    A network from scratch is behind pretrained ones in the first epochs, and may be ahead in the last: a search that
    knows it from the first ones alone turns away from it. On measured tables a quarter of the epochs is worth as much
    as all (benchmarks/LOG.md).

    >>> excused_epochs(30)
    7
    """
    return max_epochs // 4


def default_reduction_factor(pauses: bool, has_branches: bool) -> int:
    """Return the reduction factor for `auto`.

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
    """The number of trials expected to train up to an epoch, and the epochs that all trials spend up to it."""

    epoch: int
    trials: int
    epochs_spent: int


def expected_rungs(trials: int, max_epochs: int, rungs: tuple[int, ...], reduction_factor: int) -> tuple[Rung, ...]:
    """Return the table of a halving search in which the share `1 / reduction_factor` goes on at each rung.

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


class Bracket(NamedTuple):
    """A bracket of Hyperband: its places for trials, and the epochs up to which they train before it is halved."""

    trials: int
    epochs: tuple[int, ...]
    """Ascending; at the last one, which may lie below the longest training, its trials end."""


def brackets(max_epochs: int, reduction_factor: int) -> tuple[Bracket, ...]:
    """Return the brackets of one round of Ray's Hyperband, the largest first, by its own rounding.

    >>> brackets(30, 4)
    (Bracket(trials=16, epochs=(1, 4, 16)), Bracket(trials=6, epochs=(7, 28)), Bracket(trials=3, epochs=(30,)))
    """
    number = round(math.log(max_epochs) / math.log(reduction_factor)) + 1
    found: list[Bracket] = []
    for halvings in reversed(range(number)):
        first = int(max_epochs * reduction_factor**-halvings)
        if first:  # else Ray leaves the bracket out
            places = math.ceil(number / (halvings + 1) * reduction_factor**halvings)
            epochs = (min(first * reduction_factor**halving, max_epochs) for halving in range(halvings + 1))
            found.append(Bracket(places, tuple(epochs)))
    return tuple(found)


def bracket_epochs(max_epochs: int, reduction_factor: int) -> tuple[int, ...]:
    """Return the epochs below `max_epochs` at which brackets of Hyperband compare or end their trials.

    >>> bracket_epochs(30, 4)
    (1, 4, 7, 16, 28)
    """
    every = {epoch for bracket in brackets(max_epochs, reduction_factor) for epoch in bracket.epochs}
    return tuple(sorted(every - {max_epochs}))


def expected_in_brackets(trials: int, max_epochs: int, reduction_factor: int) -> tuple[Rung, ...]:
    """Return the table of a search in brackets of Hyperband, which are filled one after the other, round by round.

    >>> [(rung.epoch, rung.trials) for rung in expected_in_brackets(25, 30, 4)]
    [(1, 25), (4, 13), (7, 10), (16, 6), (28, 5), (30, 3)]
    """
    ends: list[int] = []
    for places, epochs in itertools.cycle(brackets(max_epochs, reduction_factor)):
        if len(ends) >= trials:
            break
        remaining = min(places, trials - len(ends))
        for epoch in epochs[:-1]:
            places = math.ceil(places / reduction_factor)
            ends += [epoch] * max(0, remaining - places)
            remaining = min(remaining, places)
        ends += [epochs[-1]] * remaining
    return tuple(
        Rung(epoch, sum(end >= epoch for end in ends), sum(min(end, epoch) for end in ends))
        for epoch in (*bracket_epochs(max_epochs, reduction_factor), max_epochs)
    )


@dataclass
class _Rung:
    """The trials that have reached an epoch, and those of them that have gone on."""

    epoch: int
    reached: list[tuple[float, int]] = field(default_factory=list)
    """(loss, trial), the best first; the earlier trial of equals first."""
    gone_on: set[int] = field(default_factory=set)
    members: set[int] = field(default_factory=set)

    def enter(self, trial: int, loss: float) -> None:
        self.members.add(trial)
        insort(self.reached, (loss, trial))

    def leave(self, trial: int) -> None:
        self.members.remove(trial)
        self.reached = [(loss, other) for loss, other in self.reached if other != trial]

    def best_waiting(self, places: int, paused: set[int], held: set[int]) -> int | None:
        """Return the best of the first `places` trials that waits and is free to go on."""
        for _, trial in self.reached[:places]:
            if trial not in self.gone_on and trial in paused and trial not in held:
                return trial
        return None


class Halving:
    """The rungs of a search and the trials at them.

    A trial waits from `arrive` (at a rung) until `promote`. Values that are not numbers come last. A trial that ended
    by itself keeps its place at the rungs above: others must be better than what it showed, not than nothing. An
    excused one counts at the rungs up to `excused_epochs` as any other, but does not wait there.
    """

    def __init__(self, rungs: Sequence[int], reduction_factor: int, *, mode: Mode, excused_epochs: int = 0) -> None:
        self._rungs = [_Rung(epoch) for epoch in rungs]
        self._reduction_factor = reduction_factor
        self._mode: Mode = mode
        self._excused: set[int] = set()
        self._excused_epochs = excused_epochs
        self.paused: set[int] = set()
        self._held: set[int] = set()

    def is_rung(self, epoch: int) -> bool:
        """Return whether trials are compared at an epoch."""
        return any(rung.epoch == epoch for rung in self._rungs)

    def excuse(self, trial: int) -> None:
        """Let a trial pass the first rungs, whatever it shows there."""
        self._excused.add(trial)

    def passes(self, trial: int, epoch: int) -> bool:
        """Return whether a trial is excused from waiting at an epoch."""
        return trial in self._excused and epoch <= self._excused_epochs

    def arrive(self, trial: int, epoch: int, value: float) -> bool:
        """Enter a trial's best value so far at an epoch, and return whether it has to wait there."""
        rung = next((rung for rung in self._rungs if rung.epoch == epoch), None)
        if rung is None or trial in rung.members:
            return False
        rung.enter(trial, self._loss(value))
        self.paused.add(trial)
        if self.passes(trial, epoch) or self.promotable() == trial:  # the slot that it has just left would be given it
            self.promote(trial)
            return False
        return True

    def hold(self, trial: int) -> None:
        """Keep a waiting trial from being promoted until its state is saved and it has left its slot."""
        self._held.add(trial)

    def release(self, trial: int) -> None:
        """Allow a held trial to be promoted: it has left its slot."""
        self._held.discard(trial)

    def end(self, trial: int, value: float | None) -> None:
        """End the waiting of a trial that has come to its own end (with its best value) or failed (None)."""
        self.paused.discard(trial)
        self._held.discard(trial)
        for rung in self._rungs:
            if trial not in rung.members and value is not None:
                rung.enter(trial, self._loss(value))
            rung.gone_on.add(trial)

    def withdraw(self, trial: int) -> None:
        """Withdraw a trial that was lost before its state was saved at a rung: it will arrive there again."""
        self._held.discard(trial)
        if trial not in self.paused:
            return
        self.paused.remove(trial)
        for rung in self._rungs:
            if trial in rung.members and trial not in rung.gone_on:
                rung.leave(trial)

    def promotable(self, *, is_final: bool = False) -> int | None:
        """Return the trial that goes on next; None when no waiting one is good enough among those that came.

        `is_final`: no more trials come, so at every rung the best one goes on, however few have reached it.
        """
        for rung in reversed(self._rungs):
            places = max(int(is_final), len(rung.reached) // self._reduction_factor)
            trial = rung.best_waiting(places, self.paused, self._held)
            if trial is not None:
                return trial
        return None

    def promote(self, trial: int) -> None:
        """Let a waiting trial go on from the highest rung that it has reached."""
        self.paused.remove(trial)
        for rung in self._rungs:
            if trial in rung.members:
                rung.gone_on.add(trial)

    def restore(
        self, trial: int, best_by_epoch: Mapping[int, float], status: Status, *, is_promoted: bool = False
    ) -> None:
        """Enter a trial of an earlier session; a paused one waits at its last rung.

        Only one that came to its own end counts at the rungs above: what was stopped might have become better. One that
        was running when it reached a rung, and was not promoted from there since, arrives there again: whether it was
        to wait, or had come to its own end, is not known.
        """
        last = max(best_by_epoch, default=0)
        for rung in self._rungs:
            if rung.epoch in best_by_epoch and (rung.epoch < last or status != "running" or is_promoted):
                rung.enter(trial, self._loss(best_by_epoch[rung.epoch]))
                if rung.epoch < last or is_promoted:
                    rung.gone_on.add(trial)
        if status in ("completed", "stopped", "failed"):
            self.end(trial, best_by_epoch.get(last) if status == "completed" else None)
        elif status == "paused" and self.is_rung(last):
            self.paused.add(trial)

    def _loss(self, value: float) -> float:
        return -oriented(value, self._mode) if math.isfinite(value) else math.inf
