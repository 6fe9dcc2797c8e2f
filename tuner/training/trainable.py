"""Training functions of other people, as trials: a generator is asked for one epoch after the other. Light: no Keras.

The function is given its configuration and the data without a test split, and yields what each epoch has shown with
the state from which it could go on. All else is as with any trial: patience, checkpoints, the best epoch.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import gc
import inspect
import math
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tuner.common.errors import InputError, RunError, TunerError
from tuner.common.files import user_path
from tuner.common.metrics import METRICS, VALIDATION, epoch_objectives
from tuner.common.plugins import how_to_give
from tuner.common.registry import Registry
from tuner.datasets.loading import Dataset, Split
from tuner.models import architectures
from tuner.models.parameters import Parameter, Scalar, values_of
from tuner.runs.epoch import Epoch
from tuner.training._course import Course
from tuner.training._trainable_data import Facts, TrainingData
from tuner.training._trainable_state import State, StateError, pack, unpack
from tuner.training.checkpoint import (
    Checkpoint,
    load_checkpoint,
    read_checkpoint,
    save_checkpoint,
    write_checkpoint,
)
from tuner.training.failures import EXPLODED, NOT_A_NUMBER, describe_failure
from tuner.training.settings import Ended, TrialSettings
from tuner.training.trial_like import ModelCost, Progress

SIGNATURE = "train(configuration, data, state=None)"
PREDICT_SIGNATURE = "predict(configuration, data, state, images)"
PREDICTED_AT_ONCE = 256
"""Images that `predict` is given at a time."""
SUM_TOLERANCE = 1e-2
"""By how much the probabilities of an image may miss 1 in their sum: those in half precision do by a thousandth."""
ROUNDING = 1e-6
"""By how much a share may lie outside of 0 to 1."""
OWN_END = "ended_by_itself"
"""The reason of a training whose function returned."""
LEARNING_RATE = "learning_rate"


@dataclass(frozen=True)
class YieldedEpoch:
    """The results of an epoch as a training function yields them; `tuner.Epoch` to its author."""

    metrics: Mapping[str, float]
    """Values by name: `val_accuracy`, `val_loss`, `accuracy`, `loss` ...; at least those that a study optimises."""
    state: State = None
    """Everything that the next epoch depends on; None: a training that is interrupted begins anew."""

    def __repr__(self) -> str:
        return f"tuner.Epoch({dict(self.metrics)!r}, ...)" if isinstance(self.metrics, Mapping) else "tuner.Epoch(...)"


class YieldError(TunerError):
    """A mistake in what a training function yields, in the words of its author."""


class PredictError(RunError):
    """A `predict` that is not there, fails, or returns no probabilities, in the words of its author."""


Train = Callable[..., Iterator[YieldedEpoch]]
Predict = Callable[[dict[str, Any], Facts, State, np.ndarray], Any]


@dataclass
class Trainable:
    """A training function with its parameters; `predict` is what tells classes by a state, if it has been given."""

    name: str
    train: Train
    parameters: Mapping[str, Parameter]
    description: str = ""
    changeable: tuple[str, ...] = ()
    """Parameters that a population may change in a running training: the state fits before and after."""
    predicts: Predict | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        self.__doc__ = self.train.__doc__

    def __call__(self, configuration: Mapping[str, Any], data: Any, state: State = None) -> Iterator[YieldedEpoch]:
        """Begin a training, as a search does."""
        return self.train(configuration, data, state)

    def predict(self, function: Predict) -> Predict:
        """Register, as a decorator, what gives `[N, K]` probabilities of classes for `[N, H, W, C] uint8` images."""
        if self.predicts is not None:
            raise InputError(f"{self.words}: predict is given already")
        check_signature(function, ("configuration", "data", "state", "images"), PREDICT_SIGNATURE)
        self.predicts = function
        return function

    @property
    def words(self) -> str:
        """The trainable in messages, with the file that it stands in."""
        return f"trainable {self.name} ({Path(self.file).name})"

    @property
    def file(self) -> str:
        """The file that its function stands in."""
        function: Any = inspect.unwrap(self.train)
        while isinstance(function, functools.partial):
            function = inspect.unwrap(function.func)
        code = getattr(function, "__code__", None) or getattr(type(function).__call__, "__code__", None)
        return "own code" if code is None else str(code.co_filename)

    def values_of(self, configuration: Mapping[str, Any]) -> dict[str, Any]:
        """Return every parameter with its value in `configuration`, or its default.

        Raises:
            InputError: a value is not one that its parameter takes.
        """
        return values_of(self.parameters, configuration)

    def probabilities(
        self, configuration: Mapping[str, Any], data: Facts, state: State, images: np.ndarray
    ) -> np.ndarray:
        """Return what `predict` says of images, `[N, K] float32`, checked.

        Raises:
            PredictError: it is not given, it fails, or what it returns is no probabilities; in the words of its author.
        """
        if self.predicts is None:
            raise PredictError(f"{self.words} has no predict, so it cannot tell the classes of images")
        try:
            found = self.predicts(self.values_of(configuration), data, state, images)
        except Exception as error:  # whatever somebody's own code raises is told in a line
            raise PredictError(f"predict of {self.words} failed: {self.failure(error)}") from error
        if problem := _no_probabilities(found, len(images), data.num_classes):
            raise PredictError(f"predict of {self.words} must return probabilities: {problem}")
        return np.asarray(found, dtype=np.float32)

    def failure(self, error: BaseException) -> str:
        """Return in a line what its code raised, and where in its own file."""
        frames = traceback.extract_tb(error.__traceback__)
        own = [frame.lineno for frame in frames if frame.filename == self.file]
        return describe_failure(error) + (f" ({Path(self.file).name}, line {own[-1]})" if own else "")


TRAINABLES: Registry[Trainable] = Registry("trainable", "tuner.trainables")


def meaning_of_nothing(name: str, networks: Sequence[str] = (), trainable: str | None = None) -> Scalar:
    """Return how a hyperparameter that a file calls nothing is kept, or None: of its trainable, or of networks."""
    if trainable is None or trainable not in TRAINABLES:
        return architectures.meaning_of_nothing(name, networks)
    parameters = TRAINABLES[trainable].parameters
    return parameters[name].nothing if name in parameters else None


def check_signature(function: Any, names: tuple[str, ...], wanted: str) -> None:
    """Refuse a function that cannot be called with these arguments, by their places; raises InputError."""
    if not callable(function):
        raise InputError(f"must be a function {wanted}; got {type(function).__name__}")
    signature = inspect.signature(function)
    try:
        signature.bind(*names)
    except TypeError:
        shown = f"{getattr(function, '__name__', 'it')}{signature}"
        raise InputError(f"{shown} must be a function {wanted}") from None


def _no_probabilities(found: Any, number: int, num_classes: int) -> str | None:
    """Return why what somebody's `predict` returned is no probabilities of so many images; None if it is."""
    try:
        values = np.asarray(found, dtype=np.float64)
    except (TypeError, ValueError):
        return f"an array [{number}, {num_classes}] of numbers; got {type(found).__name__}"
    if values.shape != (number, num_classes):
        return f"an array [{number}, {num_classes}] for {number} images of {num_classes} classes; got {values.shape}"
    if not np.isfinite(values).all():
        return f"numbers between 0 and 1; got {values[~np.isfinite(values)][0]}"
    if values.min(initial=0.0) < -ROUNDING or values.max(initial=0.0) > 1 + ROUNDING:
        worst = values.flat[np.abs(values - 0.5).argmax()]
        return f"numbers between 0 and 1; got {worst:.4g}: are these before a softmax?"
    sums = values.sum(axis=1)
    if number and abs(sums - 1).max() > SUM_TOLERANCE:
        return f"those of an image must sum to 1; got {sums[abs(sums - 1).argmax()]:.4g}"
    return None


def metrics_problem(metrics: Any, wanted: tuple[str, ...]) -> str | None:
    """Return what is wrong with the values of an epoch for a study of `wanted` metrics; None: nothing.

    >>> metrics_problem({"accuracy": 0.5, "val_acc": 0.4}, ("val_accuracy",))
    "accuracy, val_acc, and not val_accuracy, which the study optimises; did you mean it by 'val_acc'?"
    >>> metrics_problem({"val_accuracy": 93.5}, ("val_accuracy",))
    'val_accuracy 93.5; it must be a share between 0 and 1'
    """
    if not isinstance(metrics, Mapping):
        return f"{type(metrics).__name__} for its metrics; they must map names to numbers, {{'val_accuracy': 0.9}}"
    for name, value in metrics.items():
        if not isinstance(name, str):
            return f"a metric of the name {name!r}; it must be text"
        if _as_number(value) is None:
            return f"{name} {_shown(value)}; it must be a number"
    lacking = next((name for name in wanted if name not in metrics), None)
    if lacking is not None:
        return f"{_names(metrics)}, and not {lacking}, which the study optimises{_meant(lacking, metrics)}"
    for name, value in metrics.items():
        number, known = _as_number(value) or 0.0, name.removeprefix(VALIDATION)
        is_share = known in METRICS and METRICS[known].unit == "share"
        if is_share and math.isfinite(number) and not -ROUNDING <= number <= 1 + ROUNDING:
            return f"{name} {number:g}; it must be a share between 0 and 1"
    return None


def _as_number(value: Any) -> float | None:
    """Return a number of Python's or numpy's, also of an array of one value, as a float; None if it is none."""
    if isinstance(value, bool | np.bool_ | str | bytes):
        return None
    try:
        array = np.asarray(value)
        return float(array.reshape(())) if array.dtype.kind in "iuf" and array.size == 1 else None
    except (TypeError, ValueError):
        return None


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _names(metrics: Mapping[str, Any]) -> str:
    return ", ".join(sorted(metrics)[:20]) or "no metric"


def _meant(lacking: str, metrics: Mapping[str, Any]) -> str:
    """Return which of the names may have been meant, in words."""
    begun = [name for name in metrics if lacking.startswith(name) and len(name) > len(VALIDATION)]
    found = (begun or difflib.get_close_matches(lacking, list(metrics), n=1) or [""])[0]
    return f"; did you mean it by '{found}'?" if found else ""


class TrainableTrial:
    """A configuration in training by somebody's own function; like a `Trial` to all that drives it.

    What the function does wrong ends the trial, with a reason in its author's words.
    """

    cut: None = None
    parameters: None = None
    trainable_parameters: None = None
    model_suffix = ".npz"

    def __init__(
        self,
        trainable: Trainable,
        configuration: Mapping[str, Any],
        data: Dataset,
        settings: TrialSettings,
        on_batch: Callable[[int], None] = lambda _epoch: None,
    ) -> None:
        started = time.perf_counter()
        self.trainable, self.configuration, self.data = trainable, dict(configuration), data
        self.settings, self._values = settings, trainable.values_of(configuration)
        self.epoch, self.seconds = 0, 0.0
        self.ended: Ended | None = None
        self._course = Course(settings)
        self._running: Iterator[YieldedEpoch] | None = None
        self._state: tuple[Any, list[np.ndarray]] = (None, [])
        self._best_state = self._state
        self._given = TrainingData(data, settings.seed, lambda: on_batch(self.epoch + 1))
        size = self._values.get("batch_size")
        self.batch_size_used = size if isinstance(size, int) and not isinstance(size, bool) else None
        self.setup_s = time.perf_counter() - started

    @property
    def best(self) -> float | None:
        """The best value of the metric so far."""
        return self._course.best

    @property
    def images_per_epoch(self) -> int:
        """The training images."""
        return len(self.data.train)

    def work_on_activations(self, seconds: float) -> Progress:
        """Do nothing: what is frozen, only the author knows."""
        return Progress(0, 0)

    def advance(self) -> Epoch | None:
        """Ask the function for its next epoch; None if there is none, or it failed in it (see `ended`)."""
        if self.ended is not None:
            raise TunerError(f"the trial has ended ({self.ended.reason}); it cannot be advanced")
        started = time.perf_counter()
        try:
            yielded = next(self._going_on())
        except StopIteration:
            self.ended = Ended("completed", OWN_END)
            if not self.epoch:
                self._fail(f"{self.trainable.words} ended before it had yielded an epoch")
            return None
        except (Exception, SystemExit) as error:  # noqa: BLE001  what somebody's own code raises is its trial's result
            self._fail(self.trainable.failure(error))
            return None
        try:
            return self._take(yielded, time.perf_counter() - started)
        except YieldError as error:
            self._fail(str(error))
            return None

    def _going_on(self) -> Iterator[YieldedEpoch]:
        """Return the generator, begun or gone on with from the state that the trial is in."""
        if self._running is None:
            if self.epoch and self._state[0] is None:  # one that was cut, with nothing that it could go on from
                self.epoch, self._course = 0, Course(self.settings)
            self._running = self.trainable.train(dict(self._values), self._given, unpack(*self._state))
            if not hasattr(self._running, "__next__"):
                raise TypeError(f"{self.trainable.name} must yield tuner.Epoch; it returned {_shown(self._running)}")
        return self._running

    def _fail(self, reason: str) -> None:
        self.ended = Ended("failed", reason)
        self.close()

    def _take(self, yielded: Any, seconds: float) -> Epoch:
        """Take in an epoch: its values, its state, and the end that follows; raises YieldError where it cannot be."""
        epoch, words = self.epoch + 1, f"{self.trainable.words} yielded"
        if not isinstance(yielded, YieldedEpoch):
            kind = type(yielded).__name__
            raise YieldError(f"{words} {kind} at epoch {epoch}; it must yield tuner.Epoch(metrics, state)")
        if problem := metrics_problem(yielded.metrics, self._wanted()):
            raise YieldError(f"{words} at epoch {epoch} {problem}")
        metrics = {name: float(_as_number(value) or 0.0) for name, value in yielded.metrics.items()}
        if failure := _not_finite(metrics, epoch):
            raise YieldError(failure)
        try:
            state = pack(yielded.state)
        except StateError as error:
            raise YieldError(f"{words} at epoch {epoch} a state that cannot be kept: {error}") from None
        if self.trainable.predicts is not None and state[0] is None:
            raise YieldError(f"{words} at epoch {epoch} no state; predict needs one: tuner.Epoch(metrics, state)")
        return self._conclude(epoch, metrics, state, seconds)

    def _wanted(self) -> tuple[str, ...]:
        """Return the metrics of the study that every epoch must have."""
        known = epoch_objectives()
        return tuple(name for name in (self.settings.metric, *self.settings.other_metrics) if name in known)

    def _conclude(
        self, epoch: int, metrics: dict[str, float], state: tuple[Any, list[np.ndarray]], seconds: float
    ) -> Epoch:
        rate = metrics.pop(LEARNING_RATE, None)
        own = _as_number(self._values.get(LEARNING_RATE))
        value = metrics[self.settings.metric]
        self.epoch, self.seconds, self._state = epoch, self.seconds + seconds, state
        if self._course.take(value):
            self._best_state = state
        self.ended = self._course.end(epoch)
        if self.ended is not None:
            self.close()
        return Epoch(
            epoch=epoch,
            phase="scratch",
            seconds=seconds,
            learning_rate=next((one for one in (rate, own) if one is not None), math.nan),
            best_so_far=value if self.best is None else self.best,
            metrics=metrics,
        )

    def measure(self) -> ModelCost:
        """Return that nobody knows the costs of the network, if it is one."""
        return ModelCost()

    def close(self) -> None:
        """End the generator, so that what it holds is freed now; what it raises then changes nothing."""
        running, self._running = self._running, None
        if running is not None and hasattr(running, "close"):
            with contextlib.suppress(Exception, SystemExit):
                running.close()
            del running
            gc.collect()

    def save(self, directory: Path) -> None:
        """Write a checkpoint from which `load` goes on as if there had been no stop."""
        is_best = self._best_state is self._state
        counters = {
            "epoch": self.epoch,
            "seconds": self.seconds,
            **self._course.counters(),
            "ended": None if self.ended is None else [self.ended.status, self.ended.reason],
            "state": self._state[0],
            "best_state": None if is_best else self._best_state[0],
            "is_best": is_best,
        }
        arrays = {"state": self._state[1], "best_state": [] if is_best else self._best_state[1]}
        save_checkpoint(directory, Checkpoint(counters, arrays))

    def load(self, directory: Path) -> None:
        """Resume from a checkpoint; raises RunError when it is damaged, of another kind, or without a state."""
        checkpoint = load_checkpoint(directory)
        counters, arrays = checkpoint.counters, checkpoint.arrays
        if "is_best" not in counters or "best_state" not in arrays:
            raise RunError(f"{directory}: the checkpoint is not of a trainable")
        ended = Ended(*counters["ended"]) if counters["ended"] else None
        if counters["state"] is None and ended is None:
            raise RunError(f"{self.trainable.words} yielded no state from which it could go on")
        self.epoch, self.seconds = int(counters["epoch"]), float(counters["seconds"])
        self._course.restore(counters)
        self.close()
        self._state = (counters["state"], list(arrays["state"]))
        is_best = counters["is_best"]
        self._best_state = self._state if is_best else (counters["best_state"], list(arrays["best_state"]))
        self.ended = ended or self._course.end(self.epoch)

    def restore_best(self) -> None:
        """Return to the state of the best epoch."""
        self.close()
        self._state = self._best_state

    def probabilities(self, split: Split) -> np.ndarray:
        """Return the probability of each class for each image of a split, `[N, K] float32`, by the present state."""
        data = Facts(self._given.class_names, self._given.image_shape, self.settings.seed)
        state, found = unpack(*self._state), []
        for start in range(0, len(split), PREDICTED_AT_ONCE):
            images, _ = split.batch(np.arange(start, min(start + PREDICTED_AT_ONCE, len(split))))
            found.append(self.trainable.probabilities(self.configuration, data, state, images))
        return np.concatenate(found)

    def save_model(self, path: Path) -> None:
        """Write the present state, which `load_state` reads."""
        structure, arrays = self._state
        counters = {"exported_state": structure, "seed": self.settings.seed}
        write_checkpoint(path, Checkpoint(counters, {"state": arrays}))


def _not_finite(metrics: Mapping[str, float], epoch: int) -> str | None:
    """Return why the values of an epoch leave no hope; None when they do not."""
    for kind, is_so in ((NOT_A_NUMBER, math.isnan), (EXPLODED, math.isinf)):
        for name, value in metrics.items():
            if is_so(value):
                return f"{kind}: {name} is {value} at epoch {epoch}"
    return None


def load_state(path: str | Path) -> State:
    """Return the state in a file that a search has exported, `best.npz`; nothing is unpickled.

    Raises:
        InputError: it begins with the home of a user that there is not.
        RunError: the file is missing, damaged, or none of these.
    """
    return unpack(*_exported(user_path(path))[:2])


def _exported(path: Path) -> tuple[Any, list[np.ndarray], int]:
    """Return structure and arrays of an exported state, and the seed of its training."""
    checkpoint = read_checkpoint(path)
    if "exported_state" not in checkpoint.counters or "state" not in checkpoint.arrays:
        raise RunError(f"{path}: is not the state of a trainable that a search has exported (best.npz)")
    return checkpoint.counters["exported_state"], list(checkpoint.arrays["state"]), int(checkpoint.counters["seed"])


def load_predictor(
    path: Path, about: Mapping[str, Any], brought: Sequence[str] = ()
) -> Callable[[np.ndarray], np.ndarray]:
    """Return what tells the classes of images `[N, H, W, C] uint8` by an exported state; `about` is its best.json.

    Raises:
        RunError: the state cannot be read, its training function is not known here, or has no `predict`.
    """
    name = str(about["trainable"])
    if name not in TRAINABLES:
        raise RunError(
            f"{path}: is the state of trainable {name}, which is not known here; give the file or module that "
            f"registers it: {how_to_give(brought)}"
        )
    trainable, (structure, arrays, seed) = TRAINABLES[name], _exported(path)
    if trainable.predicts is None:
        raise RunError(f"{path}: {trainable.words} has no predict, so it cannot tell the classes of images")
    height, width, channels = (int(size) for size in about["image_shape"])
    facts = Facts(tuple(str(label) for label in about["labels"]), (height, width, channels), seed)
    state = unpack(structure, arrays)
    return lambda images: trainable.probabilities(about["configuration"], facts, state, images)
