"""One configuration trained once: two phases, early stopping, checkpoints. Knows Keras, and nothing of Ray.

A trial is advanced one epoch at a time by whoever drives it: `run_trial` in this process, a Ray actor in a search.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tuner.common.errors import RunError, TunerError
from tuner.common.metrics import LOSS, VALIDATION, epoch_values
from tuner.common.seeds import derive_seed
from tuner.datasets.loading import Dataset, Split
from tuner.models.augment.on_device import can_go_there
from tuner.models.augmentation import Augment, augment_of
from tuner.models.data_parallel import on_all_devices, on_one_device
from tuner.models.export import any_size, seconds_per_image, stored_mb
from tuner.models.losses import image_weights
from tuner.models.network import freeze, parameter_counts
from tuner.models.parameters import general
from tuner.models.preprocessing import parse_preprocess
from tuner.runs.epoch import Epoch, Phase
from tuner.training._batches import Batches
from tuner.training._course import Course
from tuner.training.activations import Activations, FrozenPart
from tuner.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from tuner.training.compiled_models import UNWEIGHTED, CompiledModels
from tuner.training.cut_points import Place, places
from tuner.training.evaluation import measure, predict_probabilities
from tuner.training.failures import OUT_OF_MEMORY, attempt, loss_failure
from tuner.training.recipes.averaging import Averages
from tuner.training.recipes.numbers import Position, base_rate, mean_rate, numbers_of
from tuner.training.settings import VALIDATION_BATCH_SIZE, Ended, TrialSettings, phase_of, phase_span
from tuner.training.trial_like import ModelCost, Progress, drive


class Trial:
    """A configuration in training: `advance` trains one epoch, until `ended` says how the trial ended by itself.

    With `activations`, frozen layers are run once and read from then on; without, they are run in every epoch. The
    networks of `compiled_models`, from earlier trials of this process, are used again; only one trial at a time may use
    it. `on_batch` is told of every batch, with the number of the epoch.
    """

    model_suffix = ".keras"

    def __init__(
        self,
        configuration: Mapping[str, Any],
        data: Dataset,
        settings: TrialSettings,
        activations: Activations | None = None,
        compiled_models: CompiledModels | None = None,
        on_batch: Callable[[int], None] = lambda _epoch: None,
    ) -> None:
        started = time.perf_counter()
        self.configuration, self.data, self.settings = dict(configuration), data, settings
        self._mean_rate = math.nan
        self.epoch, self.seconds = 0, 0.0  # of all its epochs, those of earlier processes too
        self.ended: Ended | None = None
        self._course = Course(settings)
        self.batch_size_used = int(general(configuration, "batch_size"))
        self._best_weights: list[np.ndarray] = []
        augment = augment_of(configuration)
        self._augment = None if augment.is_identity else augment
        preprocess = parse_preprocess(str(general(configuration, "preprocess")))
        self._augmented_px = preprocess.shrinks_to(data.image_shape) if augment.at_any_size else None
        self._activations, self._on_batch = activations, on_batch
        self._weights = image_weights(configuration, data.train.labels, data.train.weights)
        compiled_models = compiled_models or CompiledModels()
        self._training, self._validation = compiled_models.training_stream, compiled_models.validation_stream
        self._build(compiled_models)
        self.setup_s = time.perf_counter() - started

    def _build(self, compiled_models: CompiledModels) -> None:
        seed = derive_seed(self.settings.seed, "model")
        shape, num_classes = self.data.image_shape, len(self.data.class_names)
        with on_all_devices():
            self._structure = compiled_models.take(self.configuration, shape, num_classes, seed)
        self._built = self._structure.trial_model
        self.model, backbone = on_one_device(self._built.model), self._structure.backbone
        self._unfreeze_depth = int(self.configuration.get("unfreeze_depth") or 0) if backbone is not None else 0
        freeze(self._built, self._unfreeze_depth)
        self.parameters, self.trainable_parameters = parameter_counts(self.model)
        # What stays frozen in the last phase never changes: it comes back from the weights file or the seed.
        frozen = set() if backbone is None else {id(variable) for variable in backbone.model.non_trainable_variables}
        self._changing = [variable for variable in self.model.variables if id(variable) not in frozen]
        self._part: FrozenPart | None = None
        if backbone is not None and self._activations is not None:
            known = places(self._built)
            self._part = FrozenPart(self._built, self.configuration, backbone.weights, known, self._augment)
        self._enter_phase(self._phase_of(1))

    def _phase_of(self, epoch: int) -> Phase:
        return phase_of(epoch, self._built.backbone is not None, self._unfreeze_depth, self.settings.head_epochs)

    def _enter_phase(self, phase: Phase) -> None:
        """Freeze the layers that this phase does not train, and start a new optimizer for the others."""
        self.phase: Phase = phase
        self._course.begin_phase()
        self._start_trainer()

    def _start_trainer(self) -> None:
        depth = self._depth_of(self.phase)
        self._place = self._cut(depth)
        is_there = self.settings.augments_on_device and self._place is None
        augment = (
            self._augment if self._augment is not None and is_there and can_go_there(self._augment.calls) else None
        )
        self._trainer = self._structure.trainer(self.configuration, depth, self._place, augment)
        self._averages = Averages(self._trainer.own)

    def _depth_of(self, phase: Phase) -> int:
        return self._unfreeze_depth if phase == "fine_tune" else 0

    def _cut(self, unfreeze_depth: int) -> Place | None:
        """Return the place to read activations from while so many blocks are trained; None: from the images."""
        if self._activations is None or self._part is None:
            return None
        return self._activations.place(self._part, unfreeze_depth)

    def _learning_rate(self) -> float:
        factor = general(self.configuration, "fine_tune_learning_rate_factor") if self.phase == "fine_tune" else 1.0
        return float(general(self.configuration, "learning_rate")) * float(factor)

    def _begin_epoch(self, steps: int) -> None:
        """Set the numbers of the optimizer for the next epoch, of so many steps."""
        rate, position = self._learning_rate(), self._position(steps)
        self._mean_rate = mean_rate(self.configuration, rate, position)
        numbers = numbers_of(self.configuration, position)
        self._trainer.own.begin_epoch(base_rate(self.configuration, rate, position), numbers)

    def _position(self, steps: int) -> Position:
        """Return the place of the next epoch in its phase; the epoch has so many steps."""
        before, epochs = phase_span(self.phase, self._unfreeze_depth, self.settings)
        return Position(self.epoch - before, epochs, steps, self._course.reductions, self._depth_of(self.phase))

    def work_on_activations(self, seconds: float) -> Progress:
        """Do some of the work that the cache lacks for the next epoch, for about so long; `advance` would do all."""
        if self._activations is None or self._part is None:
            return Progress(0, 0)
        phase = self._phase_of(self.epoch + 1)
        depths = {self._depth_of(phase), self._unfreeze_depth}
        # Blocks that have been trained no longer give what the key says.
        frozen_below = self._depth_of(self.phase)
        try:
            return self._activations.work(self._part, depths, frozen_below, self.epoch + 1, seconds)
        except OSError as error:
            self._activations.lose(self._part, str(error))
            return Progress(0, 0)

    def _splits(self) -> tuple[Split, Split]:
        """Return the data for the next epoch; the trainer changes to raw images when the cache has been lost."""
        while self._activations is not None and self._part is not None and self._place is not None:
            while not self.work_on_activations(60.0).is_finished:
                continue
            if self._cut(self._depth_of(self.phase)) is None:
                optimizer_state = [keras.ops.convert_to_numpy(variable) for variable in self.optimizer.variables]
                self._start_trainer()
                _assign(self.optimizer.variables, optimizer_state)
                break
            try:
                found = self._activations.splits(self._part, self._place, self.epoch + 1)
            except OSError as error:  # such as an entry of somebody else's, which cannot be held here
                self._activations.lose(self._part, str(error))
                continue
            if found is not None:
                return found
        return self.data.train, self.data.validation

    @property
    def best(self) -> float | None:
        """The best value of the metric so far."""
        return self._course.best

    @property
    def optimizer(self) -> Any:
        """The optimizer of the current phase."""
        return self._trainer.network.optimizer

    @property
    def cut(self) -> str | None:
        """The place whose cached activations the current phase reads; None: it trains from the images."""
        return self._place.name if self._place else None

    def advance(self) -> Epoch | None:
        """Train and validate one epoch, and return its results; None if the trial failed in it (see `ended`)."""
        if self.ended is not None:
            raise TunerError(f"the trial has ended ({self.ended.reason}); it cannot be advanced")
        fitted, failure = attempt(self._fit_epoch)
        self._averages.put_back()
        if fitted is None:
            if failure is not None and failure.startswith(OUT_OF_MEMORY) and self._halve_batch():
                return self.advance()
            self.ended = Ended("failed", str(failure))
            return None
        history, seconds = fitted
        self.epoch += 1
        failure = loss_failure(history, self.epoch, len(self.data.class_names))
        if failure is not None:
            self.ended = Ended("failed", failure)
            return None
        return self._conclude(history, seconds)

    def _fit_epoch(self) -> tuple[dict[str, float], float]:
        """Train and validate, and return the values of the epoch and the seconds that it took."""
        if self._phase_of(self.epoch + 1) != self.phase:  # here, since an optimizer of more blocks needs memory too
            self._enter_phase(self._phase_of(self.epoch + 1))
        train, validation = self._splits()
        started = time.perf_counter()
        epoch, seed, num_classes = self.epoch + 1, self.settings.seed, len(self.data.class_names)
        augment_seed, told = derive_seed(seed, "augment", epoch), partial(self._on_batch, epoch)
        order = np.random.default_rng(derive_seed(seed, "order", epoch)).permutation(len(train))
        weights, threads, size = self._weights, self.data.threads, self.batch_size_used
        augment = self._start_augmenting(augment_seed)
        rows = np.arange(len(validation))
        validating = Batches(validation, num_classes, VALIDATION_BATCH_SIZE, rows, None, seed, told)
        network, asked = self._trainer.network, self.settings.asked
        making = Batches(
            train, num_classes, size, order, augment, augment_seed, told, weights, threads, self._augmented_px
        )
        self._begin_epoch(len(making))
        with validating, making as batches:
            fitted = network.fit(
                self._training.of(batches),
                validation_data=None if asked else self._validation.of(validating),
                shuffle=False,
                verbose=0,
                callbacks=[self._averages],
            )
        history = {name: float(values[-1]) for name, values in fitted.history.items()}
        history.pop(UNWEIGHTED, None)
        if asked:
            names = epoch_values(asked)
            with validating:
                probabilities = network.predict(self._validation.of(validating), verbose=0, callbacks=[self._averages])
            history |= measure([one for one in names if one.startswith(VALIDATION)], validation.labels, probabilities)
        elif VALIDATION + UNWEIGHTED in history:
            history[VALIDATION + LOSS] = history.pop(VALIDATION + UNWEIGHTED)
        return history, time.perf_counter() - started

    def _start_augmenting(self, seed: int) -> Augment | None:
        """Start the augmentation of an epoch, and return what is to be done of it on the host."""
        if self._augment is None or self._place is not None:  # cached activations are those of augmented images
            return None
        if self._trainer.augment is None:
            return self._augment
        self._trainer.augment.start(self._augment.calls, seed)
        return None

    def _halve_batch(self) -> bool:
        """Halve the batch size, once; return False if that was done before, or cannot be, or does not help."""
        if self.batch_size_used < int(general(self.configuration, "batch_size")) or self.batch_size_used < 2:
            return False
        self.batch_size_used //= 2
        _, failure = attempt(self._start_trainer)
        return failure is None

    def _conclude(self, history: Mapping[str, float], seconds: float) -> Epoch:
        """Return what the epoch showed, and take it in: the best weights, the patience, the end."""
        value = history[self.settings.metric]
        if self._course.take(value):
            self._best_weights = self._averages.validated(self._changing)
        self.ended, self.seconds = self._end(), self.seconds + seconds
        return Epoch(
            epoch=self.epoch,
            phase=self.phase,
            seconds=seconds,
            learning_rate=self._mean_rate,
            best_so_far=value if self.best is None else self.best,
            metrics={name: history[name] for name in epoch_values(self.settings.asked)},
        )

    def _end(self) -> Ended | None:
        """Return the end of the trial if it has come: `patience` counts in its last phase only."""
        return self._course.end(self.epoch, is_last_phase=self.phase == self._phase_of(self.settings.max_epochs))

    @property
    def images_per_epoch(self) -> int:
        """The training images of an epoch."""
        return len(self.data.train)

    def measure(self) -> ModelCost:
        """Measure the size of the network and, where that is asked for, its time for an image."""
        size_mb = stored_mb(self.model)
        if not self.settings.times_inference:
            return ModelCost(size_mb)
        seconds, problem = attempt(lambda: seconds_per_image(self.model, self.data.validation))
        return ModelCost(size_mb, seconds, problem)

    def restore_best(self) -> None:
        """Set the model to the weights of its best epoch, as Keras' `restore_best_weights` does."""
        _assign(self._changing, self._best_weights)

    def probabilities(self, split: Split) -> np.ndarray:
        """Return the probability of each class for each image of a split, `[N, K] float32`."""
        return predict_probabilities(self.model, split)

    def save_model(self, path: Path) -> None:
        """Write the network for raw images of any size, which loads without tuner."""
        any_size(self.model, self.data.image_shape, self.data.fit).save(path)

    def save(self, directory: Path) -> None:
        """Write a checkpoint from which `load` goes on as if there had been no stop."""
        counters = {
            "epoch": self.epoch,
            "seconds": self.seconds,
            **self._course.counters(),
            "batch_size": int(general(self.configuration, "batch_size")),
            "batch_size_used": self.batch_size_used,
            "ended": None if self.ended is None else [self.ended.status, self.ended.reason],
        }
        arrays = {
            "weights": [keras.ops.convert_to_numpy(variable) for variable in self._changing],
            "optimizer": [keras.ops.convert_to_numpy(variable) for variable in self.optimizer.variables],
            "best_weights": self._best_weights,
        }
        save_checkpoint(directory, Checkpoint(counters, arrays))

    def load(self, directory: Path) -> None:
        """Resume from a checkpoint; raises RunError when it is damaged or of another model."""
        checkpoint = load_checkpoint(directory)
        counters, arrays = checkpoint.counters, checkpoint.arrays
        self.epoch = int(counters["epoch"])
        if counters.get("batch_size", self.batch_size_used) == self.batch_size_used:  # a population may change it
            self.batch_size_used = int(counters["batch_size_used"])
        self.seconds = float(counters.get("seconds", 0.0))  # checkpoints of an earlier tuner lack it
        self._enter_phase(self._phase_of(max(1, self.epoch)))
        _assign(self._changing, arrays["weights"])
        if arrays["optimizer"]:
            _assign(self.optimizer.variables, arrays["optimizer"])
        self._course.restore(counters)
        self._best_weights = list(arrays["best_weights"])
        self.ended = Ended(*counters["ended"]) if counters["ended"] else self._end()


def _assign(variables: list[Any], arrays: Any) -> None:
    shapes, stored = [tuple(variable.shape) for variable in variables], [array.shape for array in arrays]
    if shapes != stored:
        raise RunError(f"the checkpoint is of another model: {len(stored)} arrays where the model has {len(shapes)}")
    for variable, array in zip(variables, arrays, strict=True):
        variable.assign(array)


def run_trial(
    configuration: Mapping[str, Any],
    data: Dataset,
    *,
    settings: TrialSettings,
    report: Callable[[Epoch], None],
    resume_from: Path | None = None,
    checkpoint_directory: Path | None = None,
    activations: Activations | None = None,
) -> Trial:
    """Train a trial of `configuration` to its own end, and return it with its best weights.

    `report` is called once per epoch, after the checkpoint of that epoch was written (if there is a directory for it).
    """
    trial = Trial(configuration, data, settings, activations)
    if resume_from is not None:
        trial.load(resume_from)
    drive(trial, report, checkpoint_directory)
    if trial.best is not None:
        trial.restore_best()
    return trial
