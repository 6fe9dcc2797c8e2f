"""The contract of every training function: it trains, goes on from its state, and depends on nothing else. Light."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from tuner.common.metrics import epoch_objectives
from tuner.contracts.author import Author
from tuner.contracts.check import Check
from tuner.contracts.drawn import digest, drawn_dataset
from tuner.models.parameters import Parameter
from tuner.runs.epoch import Epoch
from tuner.training.checkpoint import load_checkpoint
from tuner.training.settings import TrialSettings
from tuner.training.trainable import Trainable, TrainableTrial

_SHAPE = (32, 32, 3)
_EPOCHS = 2
_ENDS = 4
"""Most values of a parameter that are tried."""


@dataclass
class TrainableSubject:
    """A registered training function under test, and the trainings that it has had."""

    trainable: Trainable
    author: Author
    trainings: dict[str, Training] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of the training function."""
        return self.trainable.name

    @cached_property
    def metric(self) -> str:
        """The metric of its trials: that of most studies, or the first that it tells of the validation split."""
        for metric in dict.fromkeys(("val_accuracy", *epoch_objectives())):
            trial = self.trial({}, metric)
            trial.advance()
            trial.close()
            if trial.ended is None or f"and not {metric}" not in trial.ended.reason:
                return metric
        return "val_accuracy"

    def trial(self, changes: Mapping[str, Any], metric: str | None = None) -> TrainableTrial:
        """Return a trial that has not been begun."""
        settings = TrialSettings(_EPOCHS, 0, None, 0.0, metric or self.metric, "max", seed=3)
        return TrainableTrial(self.trainable, changes, drawn_dataset(_SHAPE), settings)

    def trained(self, changes: Mapping[str, Any]) -> Training:
        """Return what a training of some epochs has shown, which is trained once for the same values."""
        key = repr(sorted(changes.items()))
        if key not in self.trainings:
            self.trainings[key] = _train(self.trial(changes))
        return self.trainings[key]


@dataclass(frozen=True)
class Training:
    """The epochs of a training, all that was kept of it, and why it failed, if it did."""

    epochs: tuple[Epoch, ...]
    states: tuple[str | None, ...]
    failure: str | None


def _train(trial: TrainableTrial) -> Training:
    epochs, states = [], []
    while trial.ended is None and (epoch := trial.advance()) is not None:
        epochs.append(epoch)
        states.append(_state_of(trial))
    ended = trial.ended
    failure = ended.reason if ended is not None and ended.status == "failed" else None
    return Training(tuple(epochs), tuple(states), failure)


def _state_of(trial: TrainableTrial) -> str | None:
    """Return a text of all that is kept of a trial to go on from; None: nothing."""
    with tempfile.TemporaryDirectory() as folder:
        trial.save(Path(folder))
        kept = load_checkpoint(Path(folder))
    structure = kept.counters["state"]
    return None if structure is None else f"{structure!r} {[digest(each) for each in kept.arrays['state']]}"


def _trains(subject: TrainableSubject) -> Iterator[str]:
    training = subject.trained({})
    if training.failure is not None:
        yield training.failure
    elif len(training.epochs) < _EPOCHS:
        yield (
            f"{subject.name} ends by itself after {len(training.epochs)} epoch: yield one after the other; how many "
            "are trained is for the search to say"
        )


def _repeats(subject: TrainableSubject) -> Iterator[str]:
    one, other = subject.trained({}), _train(subject.trial({}))
    if problem := _difference(one.epochs, other.epochs):
        yield (
            f"two trainings of the same configuration and data.seed differ ({problem}): draw all that is random from "
            "data.seed and the epoch, and keep nothing between calls"
        )


def _difference(ones: tuple[Epoch, ...], others: tuple[Epoch, ...]) -> str:
    """Return the first value in which two trainings differ, in words; empty: they are alike."""
    for one, other in zip(ones, others, strict=False):
        for name, value in one.metrics.items():
            another = other.metrics.get(name, float("nan"))
            if not np.isclose(value, another, rtol=1e-4, atol=1e-6, equal_nan=True):
                return f"{name} of epoch {one.epoch} is {value:.6g}, then {another:.6g}"
    return "" if len(ones) == len(others) else f"{len(ones)} epochs, then {len(others)}"


def _goes_on(subject: TrainableSubject) -> Iterator[str]:
    whole, paused, resumed = subject.trained({}), subject.trial({}), subject.trial({})
    if None in whole.states:
        yield (
            f"{subject.name} yields no state: a trial that is paused or interrupted begins anew; "
            "yield tuner.Epoch(metrics, state)"
        )
        return
    paused.advance()
    with tempfile.TemporaryDirectory() as folder:
        paused.save(Path(folder))
        paused.close()
        resumed.load(Path(folder))
    rest = _train(resumed)
    if rest.failure is not None:
        yield f"given the state of epoch 1, {subject.name} fails: {rest.failure}"
    elif problem := _difference(whole.epochs[1:], rest.epochs):
        yield (
            f"{subject.name} goes on differently from the state of epoch 1 ({problem}): all that the next epoch "
            "depends on belongs into the state, the number of the epoch and the optimizer too"
        )


def _takes_ranges(subject: TrainableSubject) -> Iterator[str]:
    for name, parameter in subject.trainable.parameters.items():
        for value in _ends(parameter):
            training = subject.trained({name: value})
            if training.failure is not None:
                yield f"{name}={value!r} fails: {training.failure}"


def _ends(parameter: Parameter) -> list[Any]:
    if parameter.kind == "bool":
        return [False, True]
    if parameter.kind == "choice":
        return list(parameter.values[:_ENDS])
    return [end for end in (parameter.low, parameter.high) if end is not None]


def _uses_each(subject: TrainableSubject) -> Iterator[str]:
    """Compare states too: what an epoch shows of a few images is too coarse to tell two values apart."""
    if None in subject.trained({}).states:
        return
    for name, parameter in subject.trainable.parameters.items():
        found = [subject.trained({name: value}) for value in _ends(parameter)] + [subject.trained({})]
        seen = {f"{each.states} {[epoch.metrics for epoch in each.epochs]}" for each in found if each.failure is None}
        if len(found) > 2 and len(seen) == 1:
            is_read = subject.author.mentions(name) > 1
            why = "the code never reads it" if not is_read else f"{_ends(parameter)[0]!r} and others train alike"
            yield f"{name} has no effect: {why}; a search would try values of it for nothing"


def _predicts(subject: TrainableSubject) -> Iterator[str]:
    if subject.trainable.predicts is None:
        return  # said in the report of a search: not tested
    trial = subject.trial({})
    trial.advance()
    split = trial.data.validation
    whole, some = (trial.probabilities(split.take(np.arange(count))) for count in (len(split), 2))
    trial.close()
    if not np.allclose(whole[:2], some, atol=1e-4):
        yield "what predict says of an image depends on the other images"


TRAINABLE_CHECKS: tuple[Check[TrainableSubject], ...] = (
    Check("epochs", "yields one epoch after the other, with what a study needs", _trains, is_needed=True),
    Check("seed", "the same configuration and seed train alike", _repeats),
    Check("pause", "goes on from a state as if there had been no stop", _goes_on),
    Check("ranges", "takes both ends of every range", _takes_ranges),
    Check("used parameters", "each parameter makes a difference", _uses_each),
    Check("predict", "predict gives probabilities, for each image by itself", _predicts),
)
