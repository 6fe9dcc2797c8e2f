"""Measurements of the device that trains: speed, waiting, augmentation, memory, precision, numbers beside a CPU's."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal

import keras
import numpy as np

from tuner.common.errors import InputError, RunError
from tuner.common.process import switch, usable_cpus
from tuner.contracts.gpu.numbers import SETTINGS, Epochs, apart, digits, trained, trained_without_gpu
from tuner.datasets.loading import Dataset
from tuner.models import backend
from tuner.models.augment.changes import diagonal_maps, rotation_maps, shift_maps
from tuner.models.augment.changes import move_pixels as moved_on_host
from tuner.models.augment.on_device import move_pixels as moved_on_device
from tuner.training.trial import Trial

AUGMENT = "flip|rotate(15)|zoom(0.2)|brightness(0.2)|contrast(0.2)"
SAME_PRECISION = {"loss": 0.02, "val_loss": 0.03, "accuracy": 0.02, "val_accuracy": 0.03}
"""Shares of losses, and differences of accuracies, by which a GPU in float32 may differ from a CPU in three epochs."""
LESS_PRECISION = {"loss": 0.1, "val_loss": 0.15, "accuracy": 0.05, "val_accuracy": 0.08}
"""The same in mixed precision."""
_PIXELS_APART = 1.0
"""Mean difference of a turned image of 0 to 255: OpenCV places pixels to a 32nd."""
_EPOCHS = 3


@dataclass(frozen=True)
class Size:
    """The size of what is trained."""

    px: int
    images: int
    network: Mapping[str, Any]
    compared_images: int


OF_A_GPU = Size(
    224,
    1536,
    {"architecture": "mobilenet_v2", "alpha": 1.0, "weights": "none", "unfreeze_depth": 17, "batch_size": 64},
    1024,
)
OF_A_CPU = Size(32, 128, {"architecture": "cnn", "blocks": 1, "filters": 4, "dense_units": 8, "batch_size": 32}, 256)
"""Only so that the code is run."""


@dataclass(frozen=True)
class Measured:
    """A finding about one thing; `status` says whether it is as promised, or only told."""

    name: str
    status: Literal["passed", "failed", "measured"]
    told: str
    values: Mapping[str, Any] = field(default_factory=dict)


def measure_device(on_cpu: bool) -> Iterator[Measured]:
    """Yield what is found, as it is found, by a process that has configured its backend.

    Raises:
        InputError: there is no GPU, and it is not to be `on_cpu`.
        RunError: a trial failed.
    """
    if not on_cpu and not backend.has_gpu():
        raise InputError(
            "--gpu: TensorFlow sees no GPU here: its CUDA libraries come with pip install --editable '.[gpu]', and "
            "CUDA_VISIBLE_DEVICES may hide one; --gpu --on-cpu runs the same code on the CPU"
        )
    size = OF_A_CPU if on_cpu else OF_A_GPU
    yield _devices()
    yield _precision()
    yield from _speeds(size)
    yield measured_memory()
    yield _pixels()
    yield from _numbers(size.compared_images)


def _devices() -> Measured:
    found = backend.gpus()
    named = [f"{gpu.name} (compute capability {'.'.join(map(str, gpu.compute_capability))})" for gpu in found]
    told = f"{', '.join(named) or 'none: all is measured on the CPU'}; {usable_cpus()} CPUs feed it"
    return Measured("devices", "measured", told, {"gpus": named, "cpus": usable_cpus()})


def _precision() -> Measured:
    policy, compiled = keras.config.dtype_policy().name, backend.jit_compile()
    told = f"{policy} (TUNER_PRECISION={switch('TUNER_PRECISION')}), steps compiled by XLA: {compiled or 'never'}"
    return Measured("precision", "measured", told, {"policy": policy, "xla": str(compiled)})


def _speeds(size: Size) -> Iterator[Measured]:
    """Yield the images per second of trials fed in three ways, and beside each the time that the device waits.

    It waits for what it takes longer than on one batch that is ready; a validation is in both.
    """
    data = digits(size.px, size.images, size.images // 8, usable_cpus())
    ready = _ready_rate(size, data)
    for name, augment, on_device in (
        ("without augmentation", "none", False),
        ("augmented by the host", AUGMENT, False),
        ("augmented on the device", AUGMENT, True),
    ):
        trial = _begun(size, data, augment, on_device)
        rate = _rate(partial(_train, trial), size.images)
        waits = max(0.0, 1 - rate / ready)
        extra = "spends on that" if on_device else "waits"
        told = (
            f"{rate:,.0f} images/s of {size.px} px, if ready {ready:,.0f}: the device {extra} {waits:.0%} of the time"
        )
        values = {"images_per_s": round(rate, 1), "ready_images_per_s": round(ready, 1), "share": round(waits, 3)}
        yield Measured(name, "measured", told, values)


def _begun(size: Size, data: Dataset, augment: str, on_device: bool) -> Trial:
    settings = replace(SETTINGS, max_epochs=10**6, augments_on_device=on_device)
    preprocess = "scale(-1,1)"
    return Trial({**size.network, "preprocess": preprocess, "augment": augment}, data, settings)


def _train(trial: Trial) -> float:
    """Train an epoch, and return its seconds."""
    epoch = trial.advance()
    if epoch is None:
        raise RunError(f"a trial failed: {trial.ended.reason if trial.ended else 'nobody knows why'}")
    return epoch.seconds


def _rate(train: Callable[[], float], images: int) -> float:
    """Return images per second of the best epoch but the first, which compiles."""
    return images / min([train() for _ in range(1 + _EPOCHS)][1:])


class _Ready(keras.utils.PyDataset):
    """The same batch, so many times."""

    def __init__(self, batch: tuple[np.ndarray, np.ndarray], number: int) -> None:
        super().__init__()
        self._batch, self._number = batch, number

    def __len__(self) -> int:
        return self._number

    def __getitem__(self, _index: int) -> tuple[np.ndarray, np.ndarray]:
        return self._batch


def _ready_rate(size: Size, data: Dataset) -> float:
    """Return the images per second of the same network on one batch that is ready."""
    model = _begun(size, data, "none", False).model
    model.compile(
        "adam",
        "categorical_crossentropy",
        metrics=["accuracy"],
        steps_per_execution=backend.STEPS_PER_EXECUTION,
        jit_compile=backend.jit_compile(),
    )
    batch_size = int(size.network["batch_size"])
    (images, labels), known = data.train.batch(np.arange(batch_size)), np.eye(10, dtype=np.float32)
    batches = _Ready((images, known[labels]), size.images // batch_size)
    others, labels = data.validation.batch(np.arange(len(data.validation)))  # fewer than a batch of a trial's
    validating = _Ready((others, known[labels]), 1)

    def train() -> float:
        started = time.perf_counter()
        model.fit(batches, validation_data=validating, verbose=0)
        return time.perf_counter() - started

    return _rate(train, size.images)


def measured_memory() -> Measured:
    """Return the memory that was taken, and whether it was taken as TUNER_GPU_MEMORY says."""
    held, asked = backend.gpu_memory(), switch("TUNER_GPU_MEMORY")
    if held is None:
        return Measured("memory", "measured", f"no GPU; it would {asked} (TUNER_GPU_MEMORY)", {"asked": asked})
    grows = all(gpu.grows for gpu in backend.gpus())
    told = (
        f"at most {held[0] / 2**30:.2f} of {held[1] / 2**30:.1f} GiB; it is taken {'as needed' if grows else 'at once'}"
    )
    values = {"peak_bytes": held[0], "limit_bytes": held[1], "grows": grows}
    return Measured("memory", "passed" if grows == (asked == "grow") else "failed", told, values)


def _pixels() -> Measured:
    """Return whether the device moves pixels to where the host moves them."""
    images = digits(64, 64, 8).train.images
    by = np.random.default_rng(0)
    maps = rotation_maps(by.uniform(-45, 45, 72)) @ shift_maps(*by.uniform(-5, 5, (2, 72)))
    maps = maps @ diagonal_maps(*by.uniform(0.7, 1.3, (2, 72)))
    expected = np.empty_like(images)
    moved_on_host(np.ascontiguousarray(images), maps, expected)
    found = moved_on_device(keras.ops.convert_to_tensor(images), keras.ops.convert_to_tensor(maps[:, :2], "float32"))
    difference = float(np.abs(keras.ops.convert_to_numpy(found) - expected).mean())
    told = f"turned images differ by {difference:.2f} of 255 from the host's; tolerated: {_PIXELS_APART:g}"
    return Measured("pixels", "passed" if difference < _PIXELS_APART else "failed", told, {"difference": difference})


def _numbers(images: int) -> Iterator[Measured]:
    """Yield whether a small trial gives the numbers that it gives on the CPU: in float32, and in the precision here."""
    expected, policy = trained_without_gpu(images), keras.config.dtype_policy().name
    ways = {"float32": SAME_PRECISION} | ({} if policy == "float32" else {policy: LESS_PRECISION})
    try:
        for name, tolerances in ways.items():
            keras.config.set_dtype_policy(name)
            yield _compared(name, trained(images), expected, tolerances)
    finally:
        keras.config.set_dtype_policy(policy)


def _compared(name: str, found: Epochs, expected: Epochs, tolerances: Mapping[str, float]) -> Measured:
    problems = apart(found, expected, tolerances)
    tolerated = ", ".join(f"{key} {value:g}" for key, value in tolerances.items())
    told = "; ".join(problems) or f"val_loss {found[-1]['val_loss']:.4f}, on the CPU {expected[-1]['val_loss']:.4f}"
    values = {"here": found, "on_cpu": expected}
    return Measured(
        f"numbers in {name}", "failed" if problems else "passed", f"{told} (tolerated: {tolerated})", values
    )
