"""Costs of a trained network in use: its size as stored, and the time for an image. Knows Keras only."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np

from tuner.datasets.loading import Split
from tuner.models.backend import jit_compile

BATCH_SIZE = 32
MOST_PASSES, FEWEST_PASSES = 200, 3
ENOUGH_S = 0.5
"""After so many seconds no further pass is timed, but for the fewest. A few passes of a small network are over before
other work on the machine has had its turn: of one network, 15 of them gave times apart by 1.7 times."""


def stored_mb(model: Any) -> float:
    """Return the size of all weights of a model as they are stored, in units of 2**20 bytes."""
    return sum(int(np.prod(weight.shape)) * _item_bytes(str(weight.dtype)) for weight in model.weights) / 2**20


def _item_bytes(dtype: str) -> int:
    return 2 if dtype == "bfloat16" else np.dtype(dtype).itemsize  # which NumPy does not know


def seconds_per_image(model: Any, split: Split, clock: Callable[[], float] = time.perf_counter) -> float:
    """Return the seconds from an image in memory to its probabilities: the median of passes after a warm-up.

    The whole network is timed, preprocessing and frozen layers with it, whatever the training reads from a cache, with
    the threads of this process. Other work on the machine makes it longer: hence the median.
    """
    images, _ = split.batch(np.arange(min(BATCH_SIZE, len(split))))
    if not model.compiled:  # Keras would choose XLA, which is slower on CPUs
        model.jit_compile = bool(jit_compile())
    model.predict_on_batch(images)  # traces the network
    passes: list[float] = []
    while len(passes) < FEWEST_PASSES or (len(passes) < MOST_PASSES and sum(passes) < ENOUGH_S):
        started = clock()
        model.predict_on_batch(images)
        passes.append(clock() - started)
    return median(passes) / len(images)
