"""Training finalists on Ray, and judging them on the test split: what `finalists` chooses and sums up happens here."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import ray
from ray.exceptions import RayError

from tuner.backend import all_cpus
from tuner.best_model import load_finalist
from tuner.checkpoint import FILE_NAME
from tuner.evaluation import cross_entropy, predict_probabilities, save_predictions
from tuner.events import FinalistsStarted, FinalistTested, FinalistTrained
from tuner.failures import attempt
from tuner.finalists import (
    Training,
    best_training,
    finalist_seed,
    finalist_trials,
    pack_bits,
    summarise_finalists,
    trainings,
)
from tuner.packing import Packing
from tuner.predictions import load_predictions
from tuner.progress import SearchConsole
from tuner.record import Record
from tuner.runs import RunDirectory
from tuner.schema import FinalistsSection
from tuner.worker_process import WorkerContext, WorkerProcess

if TYPE_CHECKING:
    from tuner.trial import Trial

CHECKPOINT_EVERY_S = 5.0
LOST_WORKERS_PER_TRAINING = 2
WAIT_S = 1.0


@dataclass(frozen=True)
class Step:
    """What an epoch of a finalist showed."""

    epoch: int
    best: float | None
    seconds: float
    """Of this epoch."""
    notices: tuple[str, ...]
    ended: tuple[str, str] | None
    """Status and reason."""


class FinalistActor:
    """Trains finalists in a process of its own, one after the other. Runs as a Ray actor."""

    def __init__(self, context: WorkerContext) -> None:
        self._process = WorkerProcess(context)
        self._trial: Trial | None = None
        self._failure = ""
        self._folder = Path()
        self._saved = time.monotonic()

    def begin(self, training: Training, folder: str) -> None:
        """Take on a training, from its checkpoint if there is one."""
        self._folder, self._trial = Path(folder), None
        self._process.release()

        def build() -> Trial:
            seed = finalist_seed(self._process.context.settings.seed, training.seed_number)
            trial = self._process.begin(training.configuration, seed)
            if (self._folder / FILE_NAME).is_file():
                trial.load(self._folder)
            return trial

        self._trial, failure = attempt(build)
        self._failure = failure or ""

    def step(self) -> Step:
        """Train an epoch; at the end, the checkpoint is that of the whole training."""
        trial = self._trial
        if trial is None:
            return Step(0, None, 0.0, self._taken_notices(), ("failed", self._failure))
        epoch = trial.advance() if trial.ended is None else None
        if trial.ended is not None or time.monotonic() - self._saved >= CHECKPOINT_EVERY_S:
            self._folder.mkdir(parents=True, exist_ok=True)
            trial.save(self._folder)
            self._saved = time.monotonic()
        ended = (trial.ended.status, trial.ended.reason) if trial.ended else None
        return Step(trial.epoch, trial.best, epoch.seconds if epoch else 0.0, self._taken_notices(), ended)

    def _taken_notices(self) -> tuple[str, ...]:
        taken = tuple(self._process.notices)
        self._process.notices.clear()
        return taken


class _Pool:
    """Actors and the trainings they are at."""

    def __init__(self, context: WorkerContext, packing: Packing) -> None:
        self._context = replace(context, cpus=packing.cpus_per_trial)
        self._make = ray.remote(FinalistActor).options(num_cpus=packing.cpus_per_trial, num_gpus=packing.gpus_per_trial)
        self._size = packing.trials
        self._idle: list[Any] = []
        self._busy: dict[Any, tuple[Any, Training]] = {}

    @property
    def has_room(self) -> bool:
        return len(self._busy) < self._size

    @property
    def is_busy(self) -> bool:
        return bool(self._busy)

    def begin(self, training: Training, folder: Path) -> None:
        """Give a training to an idle actor, or to a new one."""
        actor = self._idle.pop() if self._idle else self._make.remote(self._context)
        actor.begin.remote(training, str(folder.resolve()))
        self._go_on(actor, training)

    def _go_on(self, actor: Any, training: Training) -> None:
        self._busy[actor.step.remote()] = (actor, training)

    def finished(self) -> list[tuple[Training, Step | RayError]]:
        """Epochs that have ended since the last call, waiting for one a little while; their trainings go on."""
        ready, _ = ray.wait(list(self._busy), num_returns=1, timeout=WAIT_S)
        found: list[tuple[Training, Step | RayError]] = []
        for reference in ready:
            actor, training = self._busy.pop(reference)
            try:
                step: Step = ray.get(reference)
            except RayError as error:  # the process was killed: what it trained goes on in another
                ray.kill(actor)
                found.append((training, error))
                continue
            found.append((training, step))
            if step.ended is None:
                self._go_on(actor, training)
            else:
                self._idle.append(actor)
        return found

    def close(self) -> None:
        """End all processes."""
        for actor in [*self._idle, *(actor for actor, _ in self._busy.values())]:
            ray.kill(actor)


def run_finalists(
    section: FinalistsSection,
    context: WorkerContext,
    packing: Packing,
    run: RunDirectory,
    record: Record,
    console: SearchConsole,
    should_stop: Callable[[], bool],
) -> None:
    """Train the best trials again with every seed, then read the test split; nothing in the record is done again."""
    chosen = finalist_trials(record.state, section.count)
    before = record.state.finalists_started
    if chosen and (before is None or (tuple(before.trials), before.seeds) != (chosen, section.seeds)):
        record.append(FinalistsStarted(trials=list(chosen), seeds=section.seeds))
    missing = trainings(record.state, chosen, section.seeds)
    if missing:
        names = ", ".join(str(trial) for trial in chosen)
        console.say(
            f"finalists: trials {names} are trained again, each with {section.seeds} seeds; then the test split"
        )
        _train(missing, context, packing, run, record, console, should_stop)
    if chosen and not should_stop():
        with console.preparing("judging the finalists on the test split"):
            _judge(context, run, record)


def _train(
    wanted: Sequence[Training],
    context: WorkerContext,
    packing: Packing,
    run: RunDirectory,
    record: Record,
    console: SearchConsole,
    should_stop: Callable[[], bool],
) -> None:
    """Train each to its own end, as many at a time as trials were; what was trained is in the record."""
    waiting, pool = deque(wanted), _Pool(context, packing)
    lost: Counter[tuple[int, int]] = Counter()
    spent: dict[tuple[int, int], float] = {}
    done = 0
    try:
        while (waiting or pool.is_busy) and not should_stop():
            while waiting and pool.has_room:
                training = waiting.popleft()
                pool.begin(training, run.finalist(training.trial, training.seed_number))
            for training, step in pool.finished():
                key = (training.trial, training.seed_number)
                if isinstance(step, RayError):
                    lost[key] += 1
                    if lost[key] <= LOST_WORKERS_PER_TRAINING:
                        waiting.append(training)
                        continue
                    step = Step(0, None, 0.0, (), ("failed", f"worker lost: {type(step).__name__}"))
                for text in step.notices:
                    console.say(text)
                spent[key] = spent.get(key, 0.0) + step.seconds
                if step.ended is not None:
                    done += 1
                    event = _trained(training, step, spent[key])
                    record.append(event)
                    console.say(_words(event, done, len(wanted), record))
    finally:
        pool.close()


def _trained(training: Training, step: Step, seconds: float) -> FinalistTrained:
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
    """Read the test split, for all trained finalists that have not been judged; keep what the best one says of it.

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
    process = WorkerProcess(replace(context, cpus=all_cpus()))  # nothing is trained now
    test = process.open_data().load_test()
    of_winner = None
    for key, trained in untested:
        trial = load_finalist(process, run, record.state, *key)
        probabilities = predict_probabilities(trial.model, test)
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
        of_winner = predict_probabilities(load_finalist(process, run, record.state, *winner).model, test)
    save_predictions(run.predictions, winner, of_winner, test)
