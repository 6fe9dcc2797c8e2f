"""The results of a run: each trial as one result, the ranking, the best so far. Pure: values in, values out."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np

from tuner.common.errors import RunError
from tuner.common.intervals import Interval
from tuner.common.metrics import (
    ACCURACY,
    DEFAULT_METRIC,
    Mode,
    epoch_objectives,
    epoch_values,
    metric_of,
    objectives,
    oriented,
)
from tuner.common.plugins import how_to_give
from tuner.common.registry import unknown_name
from tuner.common.words import counted
from tuner.runs.epoch import Epoch, Phase
from tuner.runs.events import (
    GuessTested,
    LabelsDoubted,
    Probed,
    Scalar,
    SessionEnded,
    SessionStarted,
    StudyCreated,
    TrialEnded,
    TrialMeasured,
)
from tuner.runs.expected_gain import HORIZONS_S, ExpectedGain, expected_gain
from tuner.runs.finalists import (
    Difference,
    Finalist,
    gain_on_test,
    gain_over_guess,
    judged_by,
    not_tested,
    summarise_finalists,
)
from tuner.runs.pareto import comparable_values, measured_values, metrics_of, pareto_front
from tuner.runs.predictions import Predictions, Variant
from tuner.runs.state import FinalistState, RunState, Span, TrialState

ResultStatus = Literal["completed", "stopped", "failed", "running", "paused", "unfinished"]
STATUSES: tuple[ResultStatus, ...] = ("completed", "stopped", "failed", "running", "paused", "unfinished")
"""`unfinished`: the session has ended and left the trial to be resumed."""


class Gain(NamedTuple):
    """Advantage of a trial over the baseline, in units of the metric; positive is better."""

    value: float
    baseline: float
    """The baseline's value in this comparison."""
    basis: str
    """What was compared ("over 3 seeds", "after epoch 2"); empty for two trainings that both came to their end."""


class BaselineLine(NamedTuple):
    """The baseline's value as a line in a figure."""

    value: float
    label: str


@dataclass(frozen=True)
class TrialResult:
    """One trial as far as it is known."""

    number: int
    origin: str
    status: ResultStatus
    reason: str
    configuration: Mapping[str, Scalar]
    """The latest one: a population changes the configurations of its members."""
    epochs: tuple[Epoch, ...]
    best: float | None
    """Best value of the metric; None before the first epoch."""
    best_epoch: Epoch | None
    """The epoch with the best value (the first of equals). A member of a population can have inherited `best`."""
    started_s: float
    resumed: int
    ended: TrialEnded | None
    rank: int | None = None
    """Place in the ranking, from 1; None for failed trials and for those without an epoch."""
    measured: TrialMeasured | None = None
    """Size and speed of its network; None before the first epoch."""
    values: Mapping[str, float] = field(default_factory=dict)
    """In each of the study's metrics, as far as they are known."""
    is_on_front: bool | None = None
    """Whether no other trial dominates it; None with one metric."""
    trainable: str | None = None
    """The training function of one's own that trained it; None: it is a network."""
    is_changed: bool = False
    """Whether a population has given it another configuration, and the weights of another trial."""

    @property
    def parameters(self) -> int | None:
        """Parameters of the model, as far as they are known."""
        known = self.measured if self.measured is not None else self.ended
        return None if known is None else known.parameters

    @property
    def architecture(self) -> str:
        """The name of the architecture, or of the training function; empty when nothing names one."""
        return str(self.configuration.get("architecture", self.trainable or ""))

    @property
    def is_baseline(self) -> bool:
        """Whether this is the configuration that the search is measured against."""
        return self.origin == "baseline" and not self.is_changed

    @property
    def label(self) -> str:
        """Its number, marked where it is the baseline."""
        return f"{self.number}{' (baseline)' if self.is_baseline else ''}"

    @property
    def last_epoch(self) -> Epoch | None:
        """The newest epoch."""
        return self.epochs[-1] if self.epochs else None

    @property
    def seconds(self) -> float:
        """Training and validation of all epochs; without building the model."""
        return sum(epoch.seconds for epoch in self.epochs)

    @property
    def last_s(self) -> float:
        """Elapsed seconds of the study when this trial was last heard of."""
        if self.ended is not None:
            return self.ended.elapsed_s
        return self.epochs[-1].elapsed_s if self.epochs else self.started_s

    def best_until(self, epoch: int, metric: str, mode: Mode) -> float | None:
        """Return the best value that its own epochs had up to this one; None without a finite one."""
        found = [one.metrics.get(metric, math.nan) for one in self.epochs if one.epoch <= epoch]
        finite = (value for value in found if math.isfinite(value))
        return max(finite, key=lambda value: oriented(value, mode), default=None)

    def epochs_in(self, phase: Phase) -> int:
        """Epochs trained in one phase."""
        return sum(epoch.phase == phase for epoch in self.epochs)


@dataclass(frozen=True)
class Results:
    """A run at one moment: all trials by number, and the ranking."""

    study: StudyCreated | None
    """None when the record is empty."""
    sessions: tuple[SessionStarted, ...]
    session_ended: SessionEnded | None
    notices: tuple[str, ...]
    elapsed_s: float
    trials: tuple[TrialResult, ...]
    finalists: tuple[Finalist, ...] = ()
    """The best mean on the validation split first."""
    trainings: tuple[FinalistState, ...] = ()
    """Trainings of all finalists, by trial and number."""
    gains: Mapping[int, Difference] = field(default_factory=dict)
    """By how much the first finalist is better on the test images than each of the others."""
    judge: str = ACCURACY
    """The metric by which they are judged there, without `val_`."""
    guess: GuessTested | None = None
    """What is reached there without looking at an image."""
    gain_over_guess: Interval | None = None
    """By how much the first finalist is better than that."""
    test_readings: int = 0
    """Sessions that read the test split."""
    predictions: Predictions | None = None
    """Predictions of the exported model for the test images."""
    variants: tuple[Variant, ...] = ()
    """A few images as preprocessing and augmentation make them."""
    folds: int = 0
    """The folds that finalists were trained on; 0: they were trained with several seeds."""
    not_tested: str = ""
    """Why no finalist can be judged on the test split; empty: they can."""
    probes: tuple[Probed, ...] = ()
    """What frozen features gave before anything was trained."""
    doubted: LabelsDoubted | None = None
    """Labels that look wrong; None: they were not looked at."""
    finalists_from_s: float | None = None
    """Elapsed seconds when the search was over and the finalists began."""
    finalists_s: float = 0.0
    """Seconds that finalists took, in all sessions."""
    finalists_spans: tuple[Span, ...] = ()
    """The parts of the elapsed time that these are."""
    expected_gains: Mapping[str, ExpectedGain | None] = field(default_factory=dict)
    """What another ten minutes and another hour of trials are expected to gain, by these names; None: not known."""

    @property
    def repeat(self) -> str:
        """The word for what differs between the trainings of a finalist."""
        return "fold" if self.folds else "seed"

    @property
    def name(self) -> str:
        """The study's name."""
        return self.study.study if self.study else ""

    @property
    def metric(self) -> str:
        """The metric that is optimised, of several the first."""
        return self.study.metric if self.study else DEFAULT_METRIC

    @property
    def metrics(self) -> tuple[str, ...]:
        """All that is optimised, the metric first."""
        return self.study.all_metrics if self.study else (self.metric,)

    @cached_property
    def front(self) -> tuple[TrialResult, ...]:
        """The trials that no other dominates, the best by the first metric first; empty with one metric."""
        return tuple(trial for trial in self.ranked if trial.is_on_front)

    @property
    def mode(self) -> Mode:
        """Whether the largest or the smallest value of the metric is the best."""
        return self.study.mode if self.study else metric_of(DEFAULT_METRIC).mode

    @cached_property
    def ranked(self) -> tuple[TrialResult, ...]:
        """Trials with a rank, the best first."""
        return tuple(sorted((trial for trial in self.trials if trial.rank), key=lambda trial: trial.rank or 0))

    @property
    def is_open(self) -> bool:
        """Whether the ranking can still change by going on."""
        ended = self.session_ended
        return (
            ended is None
            or ended.reason in ("interrupted", "error")
            or any(trial.status in ("running", "unfinished") for trial in self.trials)
        )

    @property
    def winner(self) -> TrialResult | None:
        """The best trial; None before the first epoch, and when all have failed."""
        return self.ranked[0] if self.ranked else None

    @cached_property
    def chosen(self) -> TrialResult | None:
        """The trial that is exported: the first finalist's, without finalists the winner."""
        if not self.finalists:
            return self.winner
        return self.trial(self.finalists[0].trial)

    @cached_property
    def baseline(self) -> TrialResult | None:
        """The trial of the baseline's configuration, in whatever state; None of one that a population has changed."""
        return next((trial for trial in self.trials if trial.is_baseline), None)

    @property
    def has_lost_baseline(self) -> bool:
        """Whether a population has changed the trial of the baseline."""
        return any(trial.origin == "baseline" and trial.is_changed for trial in self.trials)

    @property
    def baseline_line(self) -> BaselineLine | None:
        """The baseline's mean over trainings, else its best value and how far it was trained; None without a value."""
        baseline = self.baseline
        if baseline is None or baseline.rank is None or baseline.best is None:
            return None
        if (again := self.finalist(baseline)) is not None:
            return BaselineLine(again.validation.mean, f"baseline, over {counted(again.trained, self.repeat)}")
        is_done = baseline.status == "completed" or not baseline.epochs
        return BaselineLine(
            baseline.best, "baseline" if is_done else f"baseline, after {counted(baseline.epochs[-1].epoch, 'epoch')}"
        )

    @cached_property
    def failed(self) -> tuple[TrialResult, ...]:
        """Failed trials, by number."""
        return tuple(trial for trial in self.trials if trial.status == "failed")

    @cached_property
    def waiting(self) -> tuple[TrialResult, ...]:
        """Trials that have not failed and have no value yet, by number."""
        return tuple(trial for trial in self.trials if trial.rank is None and trial.status != "failed")

    @cached_property
    def counts(self) -> dict[ResultStatus, int]:
        """Number of trials of each status that occurs."""
        found = Counter(trial.status for trial in self.trials)
        return {status: found[status] for status in STATUSES if found[status]}

    @cached_property
    def total_epochs(self) -> int:
        """Epochs trained by all trials together."""
        return sum(len(trial.epochs) for trial in self.trials)

    @cached_property
    def differing(self) -> tuple[str, ...]:
        """Hyperparameters that tell trials apart, in the order in which they appear.

        These are the ones with several values, and those that only some trials of one architecture have; what one
        architecture alone has, with one value, says no more than the architecture does.
        """
        values: dict[str, set[tuple[type, Scalar]]] = {}
        holders: Counter[tuple[str, str]] = Counter()
        sizes = Counter(trial.architecture for trial in self.trials)
        for trial in self.trials:
            for name, value in trial.configuration.items():
                values.setdefault(name, set()).add((type(value), value))  # 1, 1.0 and true are different settings
                holders[name, trial.architecture] += 1
        partly = {name for (name, architecture), number in holders.items() if number < sizes[architecture]}
        return tuple(name for name, found in values.items() if len(found) > 1 or name in partly)

    @property
    def differing_within(self) -> list[str]:
        """The same without the architecture, which has a column of its own."""
        return [name for name in self.differing if name != "architecture"]

    def trial(self, number: int) -> TrialResult | None:
        """Return the trial of this number; None when the record has none."""
        return next((trial for trial in self.trials if trial.number == number), None)

    def finalist(self, trial: TrialResult) -> Finalist | None:
        """Return what came of training this trial again; None where it was not."""
        return next((one for one in self.finalists if one.trial == trial.number), None)

    def gain(self, trial: TrialResult) -> Gain | None:
        """Return how much better than the baseline `trial` is; None when that is unknown, and for the baseline.

        Finalists are compared over their trainings. Where the trial or the baseline was ended before its end, both
        count for what they showed at the last epoch that both had reached: more training is no merit by itself.
        """
        baseline = self.baseline
        if baseline is None or baseline.rank is None or trial.rank is None or trial.is_baseline:
            return None
        ours, theirs = self.finalist(trial), self.finalist(baseline)
        if ours is not None and theirs is not None:
            trained = counted(theirs.trained, self.repeat)
            trained = trained if ours.trained == theirs.trained else f"{ours.trained} and {trained}"
            return self._gain(ours.validation.mean, theirs.validation.mean, f"over {trained}")
        open_ones = [one.epochs[-1].epoch for one in (trial, baseline) if one.status != "completed" and one.epochs]
        if not open_ones:
            return self._gain(trial.best, baseline.best, "")
        epoch = min(open_ones)
        value, before = (one.best_until(epoch, self.metric, self.mode) for one in (trial, baseline))
        return self._gain(value, before, f"after epoch {epoch}")

    def _gain(self, value: float | None, baseline: float | None, basis: str) -> Gain | None:
        if value is None or baseline is None:
            return None
        return Gain(oriented(value - baseline, self.mode), baseline, basis)


def build_results(
    state: RunState, predictions: Predictions | None = None, variants: tuple[Variant, ...] = ()
) -> Results:
    """Return the results of a run as its record tells them now.

    Raises:
        RunError: the study's metric is none that epochs measure.
    """
    for index, name in enumerate(state.study.all_metrics if state.study is not None else ()):
        known = objectives() if index else epoch_values(epoch_objectives())
        if name not in known:
            plugins = state.study.plugins if state.study is not None else ()
            own = f"; own code of its search is not loaded: {how_to_give(plugins)}" if plugins else ""
            raise RunError(unknown_name("metric", name, known) + own)
    has_ended = state.session_ended is not None
    finalists = summarise_finalists(state)
    plain = [_result(state, state.trials[number], has_ended) for number in sorted(state.trials)]
    return Results(
        study=state.study,
        sessions=tuple(state.sessions),
        session_ended=state.session_ended,
        notices=tuple(state.notices),
        elapsed_s=state.elapsed_s,
        trials=_with_ranks(_with_values(state, plain), state.mode),
        finalists=finalists,
        trainings=tuple(state.finalists[key] for key in sorted(state.finalists)),
        gains=_gains(state, finalists),
        judge=judged_by(state),
        guess=state.guess_tested,
        gain_over_guess=gain_over_guess(state, finalists[0].trial) if finalists else None,
        test_readings=len(state.tested_in),
        predictions=predictions,
        variants=variants,
        folds=state.folds,
        not_tested=not_tested(state),
        probes=tuple(state.probes),
        doubted=state.doubted,
        finalists_from_s=state.finalists_from_s,
        finalists_s=state.finalists_s,
        finalists_spans=tuple(state.finalists_spans),
        expected_gains={name: expected_gain(state, seconds) for name, seconds in HORIZONS_S.items()},
    )


def _gains(state: RunState, finalists: tuple[Finalist, ...]) -> dict[int, Difference]:
    """Return by how much the first finalist is better than each other one that was tested."""
    found = {other.trial: gain_on_test(state, finalists[0].trial, other.trial) for other in finalists[1:]}
    return {trial: gain for trial, gain in found.items() if gain is not None}


def _result(state: RunState, trial: TrialState, has_ended: bool) -> TrialResult:
    best = trial.best
    return TrialResult(
        number=trial.number,
        origin=trial.origin,
        status="unfinished" if trial.status == "running" and has_ended else trial.status,
        reason=trial.reason,
        configuration=dict(trial.configuration),
        epochs=tuple(trial.epochs),
        best=best if best is not None and math.isfinite(best) else None,
        best_epoch=_best_epoch(trial.epochs, state.metric, state.mode),
        started_s=trial.started_s,
        resumed=trial.resumed,
        ended=trial.ended,
        measured=trial.measured,
        trainable=state.study.trainable if state.study is not None else None,
        is_changed=trial.is_changed,
    )


def _with_values(state: RunState, trials: list[TrialResult]) -> list[TrialResult]:
    """Return the trials with their values in all metrics where there are several, and whether they are on the front."""
    metrics = metrics_of(state)
    if len(metrics) < 2:
        return trials
    on_front, own = set(pareto_front(comparable_values(state), metrics)), state.trials
    return [
        replace(one, values=measured_values(own[one.number], metrics), is_on_front=one.number in on_front)
        for one in trials
    ]


def _best_epoch(epochs: Iterable[Epoch], metric: str, mode: Mode) -> Epoch | None:
    """Return the epoch with the best value, the first of equals; None where no value is finite."""
    finite = [epoch for epoch in epochs if math.isfinite(epoch.metrics.get(metric, math.nan))]
    return max(finite, key=lambda epoch: oriented(epoch.metrics[metric], mode), default=None)


def _with_ranks(trials: list[TrialResult], mode: Mode) -> tuple[TrialResult, ...]:
    """Rank the trials, the best first, the earlier of equals first; a failed trial has no model, so it has no rank."""
    scored = [
        (-oriented(trial.best, mode), trial.number)
        for trial in trials
        if trial.best is not None and trial.status != "failed"
    ]
    ranks = {number: rank for rank, (_, number) in enumerate(sorted(scored), start=1)}
    return tuple(replace(trial, rank=ranks.get(trial.number)) for trial in trials)


class TrajectoryPoint(NamedTuple):
    """A moment at which the search found something better."""

    elapsed_s: float
    epochs: int
    """Epochs trained by all trials until then."""
    trial: int
    best: float


class Outcome(NamedTuple):
    """Result of one trial, and when it was known."""

    trial: int
    status: ResultStatus
    elapsed_s: float
    epochs: int
    """Epochs trained by all trials until then."""
    value: float | None


def trajectory(results: Results) -> tuple[TrajectoryPoint, ...]:
    """Return the best so far against elapsed seconds and against epochs trained: one point for each improvement.

    Epochs of failed trials count as trained; their values do not, as they left no model.
    """
    epochs = [(trial, epoch) for trial in results.trials for epoch in trial.epochs]
    if not epochs:
        return ()
    times = np.array([epoch.elapsed_s for _, epoch in epochs])
    values = np.array([
        -math.inf if trial.status == "failed" else oriented(epoch.best_so_far, results.mode) for trial, epoch in epochs
    ])  # fmt: skip
    order = np.argsort(times, kind="stable")
    bests = np.fmax.accumulate(np.where(np.isfinite(values), values, -math.inf)[order])
    improved = np.flatnonzero(bests > np.concatenate(([-math.inf], bests[:-1])))
    found = [(int(place), *epochs[order[place]]) for place in improved]
    return tuple(
        TrajectoryPoint(epoch.elapsed_s, place + 1, trial.number, epoch.best_so_far) for place, trial, epoch in found
    )


def outcomes(results: Results) -> tuple[Outcome, ...]:
    """Return each trial at the moment it was last heard of, by number."""
    times = np.sort([epoch.elapsed_s for trial in results.trials for epoch in trial.epochs])
    epochs = np.searchsorted(times, [trial.last_s for trial in results.trials], side="right")
    return tuple(
        Outcome(trial.number, trial.status, trial.last_s, int(before), trial.best)
        for trial, before in zip(results.trials, epochs, strict=True)
    )
