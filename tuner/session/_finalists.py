"""Training of finalists on Ray, and their test on the test split; `runs.finalists` chooses them and sums them up."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from tuner.common.files import DISK_FULL, disk_full_error
from tuner.execution.finalist_actor import FinalistStep, Lost, Pool
from tuner.execution.worker_process import WorkerContext
from tuner.models.backend import all_cpus
from tuner.reports.console import SearchConsole
from tuner.runs.directory import RunDirectory
from tuner.runs.events import FinalistsStarted, FinalistTested, FinalistTrained
from tuner.runs.finalists import (
    FinalistTraining,
    best_training,
    finalist_trials,
    pack_bits,
    remaining_trainings,
    summarise_finalists,
)
from tuner.runs.predictions import load_predictions
from tuner.runs.record import Record
from tuner.session._finish import TrainedModels
from tuner.session._resolved import Budget
from tuner.training.evaluation import cross_entropy, predict_probabilities, save_predictions

if TYPE_CHECKING:
    from tuner.datasets.loading import Split
    from tuner.training.trial import Trial


def run_finalists(
    budget: Budget,
    pool: Pool,
    run: RunDirectory,
    record: Record,
    console: SearchConsole,
    should_stop: Callable[[], bool],
) -> None:
    """Train the best trials again with every seed, then read the test split; skip what the record already has."""
    chosen = finalist_trials(record.state, budget.finalists)
    before = record.state.finalists_started
    if chosen and (before is None or (tuple(before.trials), before.seeds) != (chosen, budget.finalist_seeds)):
        record.append(FinalistsStarted(trials=list(chosen), seeds=budget.finalist_seeds))
    missing = remaining_trainings(record.state, chosen, budget.finalist_seeds)
    if missing:
        names = ", ".join(str(trial) for trial in chosen)
        console.say(
            f"finalists: trials {names} are trained again, each with {budget.finalist_seeds} seeds; then the test split"
        )
        with closing(pool):
            _train(missing, pool, run, record, console, should_stop)
    if chosen and not should_stop():
        with console.preparing("judging the finalists on the test split"):
            _judge(pool.workers.context, run, record)


def _train(
    wanted: Sequence[FinalistTraining],
    pool: Pool,
    run: RunDirectory,
    record: Record,
    console: SearchConsole,
    should_stop: Callable[[], bool],
) -> None:
    """Train each training to its own end, as many at a time as trials were, and record it."""
    waiting = deque(wanted)
    spent: dict[tuple[int, int], float] = {}
    done = 0
    while (waiting or pool.is_busy) and not should_stop():
        while waiting and pool.has_room:
            training = waiting.popleft()
            pool.begin(training, run.finalist(training.trial, training.seed_number))
        record.beat()
        for training, step in pool.finished():
            key = (training.trial, training.seed_number)
            if isinstance(step, Lost):
                if step.reason.startswith(DISK_FULL):
                    raise disk_full_error(run.path, step.reason)
                if not step.is_final:
                    waiting.append(training)
                    continue
                step = FinalistStep(0, None, 0.0, None, (), ("failed", step.reason))
            for text in step.notices:
                console.say(text)
            spent[key] = max(spent.get(key, 0.0), step.seconds)  # of a lost worker nothing new is known
            if step.ended is not None:
                done += 1
                event = _trained(training, step, spent[key])
                record.append(event)
                console.say(_words(event, done, len(wanted), record))


def _trained(training: FinalistTraining, step: FinalistStep, seconds: float) -> FinalistTrained:
    status, reason = step.ended or ("failed", "")
    return FinalistTrained(
        trial=training.trial,
        seed_number=training.seed_number,
        status="completed" if status == "completed" else "failed",
        reason=reason,
        epochs=step.epoch,
        best=step.best,
        seconds=seconds,
    )


def _words(event: FinalistTrained, done: int, total: int, record: Record) -> str:
    metric = record.state.study.metric if record.state.study else "metric"
    value = "no result" if event.best is None else f"{metric} {event.best:.4f} after {event.epochs} epochs"
    reason = f" ({event.reason})" if event.status == "failed" else ""
    return f"finalist {done} of {total}: trial {event.trial}, seed {event.seed_number}: {event.status}{reason}, {value}"


def _judge(context: WorkerContext, run: RunDirectory, record: Record) -> None:
    """Read the test split for all trained finalists that have not been judged, and keep the best one's predictions.

    This is the one place that reads it, and it does so when nothing is left to be chosen: which finalist has won, and
    which of its trainings is exported, follows from the validation split alone.
    """
    untested = [
        (key, finalist.trained)
        for key, finalist in sorted(record.state.finalists.items())
        if finalist.tested is None and finalist.trained.status == "completed"
    ]
    ranked = summarise_finalists(record.state)
    if not ranked:
        return
    winner = (ranked[0].trial, best_training(record.state, ranked[0].trial) or 0)
    kept = load_predictions(run.predictions)
    if not untested and kept is not None and tuple(kept.of) == winner:
        return
    models = TrainedModels(replace(context, cpus=all_cpus()), run, record.state)  # nothing is trained now
    of_winner = None
    for key, trained in untested:
        probabilities, test = _of_test_split(models.finalist(*key))
        correct = np.argmax(probabilities, axis=1) == test.labels
        record.append(
            FinalistTested(
                trial=trained.trial,
                seed_number=trained.seed_number,
                images=len(test),
                test_accuracy=float(correct.mean()),
                test_loss=cross_entropy(probabilities, test.labels),
                correct=pack_bits(correct),
            )
        )
        of_winner = probabilities if key == winner else of_winner
    if of_winner is None:  # it was judged in an earlier session, when another one was ahead
        of_winner, test = _of_test_split(models.finalist(*winner))
    save_predictions(run.predictions, winner, of_winner, test)


def _of_test_split(trial: Trial) -> tuple[np.ndarray, Split]:
    """Return a finalist's probabilities for the test split, and that split."""
    test = trial.data.load_test()
    return predict_probabilities(trial.model, test), test
