"""What is promised of a GPU, as far as a machine without one can tell."""

from __future__ import annotations

import pytest

from tuner.common.errors import InputError
from tuner.contracts.gpu.measurements import LESS_PRECISION, SAME_PRECISION, measure_device, measured_memory
from tuner.contracts.gpu.numbers import apart
from tuner.models import backend

EPOCH = {"loss": 1.0, "val_loss": 0.5, "accuracy": 0.8, "val_accuracy": 0.7}
VAL_LOSS = "epoch 2: val_loss is 0.6000, and 0.5000 on the CPU"
NO_LOSS = "epoch 2: loss is nan, and 1.0000 on the CPU"


@pytest.mark.parametrize(
    ("changes", "same", "less"),
    [
        ({}, [], []),
        ({"loss": 1.019, "val_accuracy": 0.729}, [], []),
        ({"loss": 1.05}, ["epoch 2: loss is 1.0500, and 1.0000 on the CPU"], []),
        ({"val_accuracy": 0.65}, ["epoch 2: val_accuracy is 0.6500, and 0.7000 on the CPU"], []),
        ({"val_loss": 0.6}, [VAL_LOSS], [VAL_LOSS]),
        ({"loss": float("nan")}, [NO_LOSS], [NO_LOSS]),
    ],
)
def test_numbers_that_lie_apart_are_told_with_their_epoch(changes, same, less) -> None:
    found, expected = [EPOCH, {**EPOCH, **changes}], [EPOCH, EPOCH]
    assert apart(found, expected, SAME_PRECISION) == same
    assert apart(found, expected, LESS_PRECISION) == less
    assert apart(found[:1], expected, SAME_PRECISION) == ["1 epochs in place of 2"]


@pytest.mark.parametrize(
    ("word", "grows", "status"), [("grow", True, "passed"), ("grow", False, "failed"), ("all", False, "passed")]
)
def test_memory_is_taken_as_the_switch_says(monkeypatch, word, grows, status) -> None:
    monkeypatch.setenv("TUNER_GPU_MEMORY", word)
    monkeypatch.setattr(backend, "gpu_memory", lambda: (3 * 2**30, 16 * 2**30))
    monkeypatch.setattr(backend, "gpus", lambda: [backend.Gpu("a GPU", (9, 0), grows)])
    found = measured_memory()
    assert found.status == status and found.told.startswith("at most 3.00 of 16.0 GiB; ")
    monkeypatch.setattr(backend, "gpu_memory", lambda: None)
    assert measured_memory().told == f"no GPU; it would {word} (TUNER_GPU_MEMORY)"


def test_a_machine_without_a_gpu_is_told_what_to_do() -> None:
    with pytest.raises(InputError, match=r"--gpu: TensorFlow sees no GPU here: .*\[gpu\].*--on-cpu"):
        next(measure_device(on_cpu=False))
