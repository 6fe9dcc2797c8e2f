"""Devices to train on at once; what training on them gives is in tests/training/test_several_devices.py."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from tuner.common.errors import InputError
from tuner.models.data_parallel import on_all_devices, replicas, replicate


def test_a_process_that_sees_too_few_gpus_refuses_a_trial_on_several() -> None:
    with pytest.raises(InputError, match=r"gpus_per_trial is 99; this process sees \d+ GPUs"):
        replicate(99)
    replicate(0.5)
    assert replicas() == 1 and isinstance(on_all_devices(), nullcontext)
