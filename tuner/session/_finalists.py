"""Training of finalists on Ray, and their test on the test split; `runs.finalists` chooses them and sums them up."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from statistics import median
from typing import TYPE_CHECKING

from tuner.common.files import DISK_FULL, disk_full_error
from tuner.common.process import usable_cpus
from tuner.common.words import counted, noun_for
from tuner.execution.finalist_actor import FinalistStep, Lost, Pool
from tuner.execution.worker_process import WorkerContext
from tuner.reports.console import SearchConsole
from tuner.reports.formatting import format_seconds
from tuner.runs.directory import RunDirectory
from tuner.runs.events import FinalistsStarted, FinalistTested, FinalistTrained, GuessTested
from tuner.runs.finalists import (
    NOT_TESTED,
    TIME_BUDGET,
    FinalistTraining,
    best_training,
    finalist_trials,
    not_tested,
    summarise_finalists,
    training_of,
    with_earlier_finalists,
)
from tuner.runs.forecast import Wanted, expected_epochs, fit_trainings, wanted_trainings
from tuner.runs.pareto import metrics_of
from tuner.runs.predictions import load_predictions
from tuner.runs.record import Record
from tuner.session._finish import TrainedModels
from tuner.session._stopping import TimeBudget
from tuner.training.evaluation import guess, judgement, save_predictions
from tuner.training.trainable import PredictError

if TYPE_CHECKING:
    import numpy as np

    from tuner.datasets.loading import Dataset, Split
    from tuner.training.trial_like import TrainedTrial


def run_finalists(
    time: TimeBudget,
    pool: Pool,
    run: RunDirectory,
    record: Record,
    console: SearchConsole,
    should_stop: Callable[[], bool],
) -> None:
    """Train the best trials again with every seed or on every fold, then read the test split.

    What the record already has is skipped. With a time budget, what does not fit is left out: trainings of a finalist,
    then finalists.
    """
    state, budget, why_untested = record.state, time.budget, pool.workers.context.trial_kind.why_untested
    chosen = finalist_trials(state, budget.finalists)
    trainings = Trainings(record, time, wanted_trainings(state, budget.finalists, budget.trainings_each))
    kept = trainings.fit(pool.workers.at_once())
    known = [*((one.trial, one.number) for one in kept), *state.finalists]
    now = tuple(one for one in chosen if any(one == trial for trial, _ in known))
    shown = with_earlier_finalists(state, now)
    number = 1 + max((number for trial, number in known if trial in shown), default=-1)
    before = state.finalists_started
    if shown and (before is None or (tuple(before.trials), before.trainings) != (shown, number)):
        record.append(FinalistsStarted(trials=list(shown), trainings=number, folds=budget.folds))
    if kept:
        names = f"trial {now[0]} is" if len(now) == 1 else f"trials {', '.join(map(str, now))} are"
        console.say(
            f"finalists: {names} trained again, {_repeats(number, budget.folds)} each"
            f"{'' if why_untested else '; then the test split'}{_left(time)}"
        )
        with closing(pool):
            _train(trainings, pool, run, record, console, should_stop)
    if shown and why_untested and not not_tested(record.state):
        console.note(record, f"{NOT_TESTED}{why_untested}")
    if shown and not why_untested and not should_stop():
        try:
            with console.preparing("judging the finalists on the test split"):
                trainings.untested = _judge(pool.workers.context, run, record, time)
        except PredictError as error:
            console.note(record, f"{NOT_TESTED}{error}")
    if not should_stop() and (words := trainings.left_out()):
        console.note(record, words)


def _repeats(number: int, folds: int) -> str:
    """Say with how many seeds a finalist is trained, or on how many folds.

    >>> _repeats(3, 0), _repeats(3, 3), _repeats(2, 3), _repeats(1, 0)
    ('3 seeds', 'on 3 folds', 'on 2 of 3 folds', '1 seed')
    """
    if not folds:
        return counted(number, "seed")
    return f"on {number}{'' if number == folds else f' of {folds}'} folds"


def _left(time: TimeBudget) -> str:
    """Say what is left of a time budget."""
    left_s = time.left_s()
    return "" if math.isinf(left_s) else f"; {format_seconds(max(0.0, left_s))} left for all"


class Trainings:
    """The trainings that finalists lack, as long as there is time for them; what was timed corrects the forecast."""

    def __init__(self, record: Record, time: TimeBudget, wanted: Sequence[Wanted]) -> None:
        self._record, self.time, self._waiting = record, time, deque(wanted)
        self._wanted, self._out = tuple(wanted), set[int]()
        self._folds = time.budget.folds
        self._expected = expected_epochs(record.state, {one.trial for one in wanted})
        self._ratios: deque[float] = deque(maxlen=PACED_BY)
        self._costs = time.costs(list(self._expected))
        self._to_test = 0
        self._starts_s = [self._costs.start_s]
        self.fitting = 0
        """Trainings that were forecast to fit."""
        self.untested = 0

    def fit(self, slots: int) -> tuple[Wanted, ...]:
        """Return the trainings that fit by the forecast."""
        room_s, test_s, first = self.time.left_before_closing_s(), self._costs.test_s, self._wanted[:1]
        self._starts_s = [self._costs.start_s] * slots
        kept = fit_trainings(self._wanted, room_s, self._starts_s, test_s).kept
        if (
            first
            and first[0] not in kept
            and self._fits(first[0]._replace(seconds=first[0].least_s), self._costs.start_s)
        ):
            kept = (*first, *fit_trainings(self._wanted, room_s - test_s, self._starts_s[1:], test_s).kept)
        self.fitting = len(kept)
        return kept

    @property
    def room_s(self) -> float:
        """Seconds that are left for training, without those that the test split takes with what is trained."""
        return self.time.left_before_closing_s() - self._costs.test_s * self._to_test

    @property
    def are_left(self) -> bool:
        """Whether some have not begun."""
        return bool(self._waiting)

    @property
    def pace(self) -> float:
        """Factor by which epochs take longer than they were forecast."""
        return median(self._ratios) if self._ratios else 1.0

    def see(self, trial: int, epoch: int, seconds: float) -> None:
        """Take in the seconds of an epoch; the first of a process compiles, and says little."""
        expected_s = self._expected.get(trial, ())
        if 1 < epoch <= len(expected_s):
            self._ratios.append(seconds / max(1e-3, expected_s[epoch - 1]))
            self.time.pace = self.pace

    def take(self, *, is_new_process: bool) -> tuple[Wanted, float | None] | None:
        """Take the next training that can be done and tested in time, if it begins now; drop those that cannot.

        With the seconds that it may take, if it may be cut: only the first of all, the best trial's, is.
        """
        start_s = self._costs.start_s if is_new_process else 0.0
        while self._waiting:
            one = self._waiting.popleft()
            least_s = one.least_s if one == self._wanted[0] else math.inf
            for seconds in (one.seconds, least_s):
                paced = one._replace(seconds=self.pace * seconds)
                if one.trial in self._out or not self._fits(paced, start_s):
                    continue
                self._to_test += 1
                if seconds == one.seconds:
                    return one, None
                self._out.add(one.trial)  # its other trainings would not be cut alike
                return one, max(0.0, self.room_s)
            self._out.add(one.trial)
        return None

    def _fits(self, one: Wanted, start_s: float) -> bool:
        return bool(fit_trainings([one], self.room_s, [start_s], self._costs.test_s).kept)

    def put_back(self, one: Wanted) -> None:
        """Take back a training whose process was lost: what has begun is next, even if later ones did not fit."""
        self._to_test -= 1
        self._out.discard(one.trial)
        self._waiting.appendleft(one)

    def left_out(self) -> str:
        """Say what was left out for want of time; empty if nothing was."""
        trained = self._record.state.finalists
        missing = [one for one in self._wanted if (one.trial, one.number) not in trained]
        cut = [one.trained for one in trained.values() if one.trained.reason == TIME_BUDGET]
        if self.time.budget.time_s is None or not (missing or cut or self.untested):
            return ""
        whole = [trial for trial in dict.fromkeys(one.trial for one in missing) if (trial, 0) not in trained]
        more, of = (
            sum(one.trial not in whole for one in missing),
            "on other folds" if self._folds else "with other seeds",
        )
        best = finalist_trials(self._record.state, 1)
        names = [f"{one} (the best trial)" if one in best else str(one) for one in whole]
        words = [
            *(f"the epochs of trial {one.trial} after {one.epochs}" for one in cut),
            *([f"{counted(more, 'more training')} {of}"] if more else []),
            *([f"{noun_for(len(whole), 'finalist')} {', '.join(names)}"] if whole else []),
            *([f"the test split for {self.untested}"] if self.untested else []),
        ]
        rests = [Wanted(one.trial, one.number, sum(self._expected.get(one.trial, [])[one.epochs :])) for one in cut]
        more_s = fit_trainings([*rests, *missing], math.inf, self._starts_s, self._costs.test_s).seconds
        return f"left out for the time budget: {', '.join(words)}; about {format_seconds(more_s)} more were needed"


PACED_BY = 6
"""The latest epochs that say how fast finalists train now."""


def _train(
    trainings: Trainings,
    pool: Pool,
    run: RunDirectory,
    record: Record,
    console: SearchConsole,
    should_stop: Callable[[], bool],
) -> None:
    """Train each training to its own end, as many at a time as trials were, and record it; cut what takes too long."""
    wanted: dict[tuple[int, int], Wanted] = {}
    spent: dict[tuple[int, int], float] = {}
    done = 0
    while (trainings.are_left or pool.is_busy) and not should_stop() and trainings.room_s > 0:
        while trainings.are_left and pool.has_room:
            taken = trainings.take(is_new_process=not pool.has_idle)
            if taken is not None:
                one, within_s = taken
                wanted[one.trial, one.number] = one
                training = training_of(record.state, one.trial, one.number)
                pool.begin(training, run.finalist(one.trial, one.number, training.folds), within_s)
        record.beat()
        for training, step in pool.finished() if pool.is_busy else []:
            key = (training.trial, training.number)
            if isinstance(step, Lost):
                if step.reason.startswith(DISK_FULL):
                    raise disk_full_error(run.path, step.reason)
                if not step.is_final:
                    trainings.put_back(wanted[key])
                    continue
                step = FinalistStep(0, None, 0.0, None, (), ("failed", step.reason))
            for text in step.notices:
                console.say(text)
            if step.epoch_s is not None:
                trainings.see(training.trial, step.epoch, step.epoch_s)
            spent[key] = max(spent.get(key, 0.0), step.seconds)  # of a lost worker nothing new is known
            if step.ended is not None:
                event = _trained(training, step, spent[key])
                record.append(event)
                done += 1
                console.say(f"{_words(event, done, max(done, trainings.fitting), record)}{_left(trainings.time)}")


def _trained(training: FinalistTraining, step: FinalistStep, seconds: float) -> FinalistTrained:
    status, reason = step.ended or ("failed", "")
    return FinalistTrained(
        trial=training.trial,
        number=training.number,
        status="completed" if status == "completed" else "failed",
        reason=reason,
        epochs=step.epoch,
        best=step.best,
        seconds=seconds,
    )


def _words(event: FinalistTrained, done: int, total: int, record: Record) -> str:
    metric = record.state.study.metric if record.state.study else "metric"
    value = "no result" if event.best is None else f"{metric} {event.best:.4f} after {counted(event.epochs, 'epoch')}"
    reason = f" ({event.reason})" if event.status == "failed" else ""
    folds = record.state.folds
    which = f"fold {event.number + 1} of {folds}" if folds else f"seed {event.number}"
    return f"finalist {done} of {total}: trial {event.trial}, {which}: {event.status}{reason}, {value}"


def _judge(context: WorkerContext, run: RunDirectory, record: Record, time: TimeBudget) -> int:
    """Read the test split for all trained finalists that have not been judged, and keep the best one's predictions.

    This is the one place that reads it, and it does so when nothing is left to be chosen: which finalist has won, and
    which of its trainings is exported, follows from the validation split alone. The winner is the first, so that it is
    judged even if there is no time for the others; return how many are left.
    """
    ranked = summarise_finalists(record.state)
    ranks = {finalist.trial: rank for rank, finalist in enumerate(ranked)}
    if not ranked:
        return 0
    winner = (ranked[0].trial, best_training(record.state, ranked[0].trial) or 0)
    untested = sorted(
        (
            key
            for key, finalist in record.state.finalists.items()
            if finalist.tested is None and finalist.trained.status == "completed"
        ),
        key=lambda key: (key != winner, ranks.get(key[0], len(ranks)), key),
    )
    kept = load_predictions(run.predictions)
    has_predictions = kept is not None and tuple(kept.of) == winner
    if not untested and has_predictions:
        return 0
    metrics = metrics_of(record.state)
    models = TrainedModels(replace(context, cpus=usable_cpus()), run, record.state)  # nothing is trained now
    for place, key in enumerate(untested):
        if place and time.costs([key[0]]).test_s > time.left_before_closing_s():
            return len(untested) - place
        trial = models.finalist(*key)
        probabilities, test = _of_test_split(trial)
        if record.state.guess_tested is None:
            record.append(_guess_tested(trial.data, test, metrics))
        found = judgement(metrics, test.labels, probabilities, trial.data.test_units())
        record.append(FinalistTested(trial=key[0], number=key[1], **found))
        if key == winner:
            has_predictions = True
            save_predictions(run.predictions, winner, probabilities, test)
    if not has_predictions:  # it was judged in an earlier session, when another one was ahead
        save_predictions(run.predictions, winner, *_of_test_split(models.finalist(*winner)))
    return 0


def _guess_tested(data: Dataset, test: Split, metrics: Sequence[str]) -> GuessTested:
    """Return the result on the test split of whoever knows the classes' shares and looks at no image."""
    largest, probabilities = guess(data.train, test, len(data.class_names))
    return GuessTested(
        largest_class=data.class_names[largest],
        share=float((test.labels == largest).mean()),
        **judgement(metrics, test.labels, probabilities, data.test_units()),
    )


def _of_test_split(trial: TrainedTrial) -> tuple[np.ndarray, Split]:
    """Return a finalist's probabilities for the test split, and that split."""
    test = trial.data.load_test()
    return trial.probabilities(test), test
