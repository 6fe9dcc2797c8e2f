"""Schedules of the learning rate: pure functions of a step in a phase whose length is known."""

from __future__ import annotations

from typing import Any

import numpy as np

SCHEDULES = ("constant", "cosine", "linear", "one_cycle", "plateau")
IN_STEPS = ("cosine", "linear", "one_cycle")
"""Those that change the rate from step to step; the others do between epochs at most."""
RISE = 0.3
"""The share of a phase in which `one_cycle` rises, unless warm-up epochs are given."""
START = 1 / 25
"""The factor at which `one_cycle` begins."""
PLATEAU_FACTOR, PLATEAU_EPOCHS = 0.5, 2
"""`plateau` multiplies the rate by this when so many epochs have brought no improvement."""


def factor(schedule: str, step: Any, steps: Any, warm_up: Any, numeric: Any = np) -> Any:
    """Return what the rate is multiplied by at a step (from 0) of a phase of so many, in the first of which it rises.

    `numeric` is numpy or `keras.ops`: one rule for what is trained and what is told. One-cycle is that of Smith and
    Topin (arXiv:1708.07120) for the rate alone, with fastai's cosine for its fall.

    >>> [round(float(factor("cosine", step, 8, 2)), 2) for step in range(8)]
    [0.5, 1.0, 1.0, 0.93, 0.75, 0.5, 0.25, 0.07]
    >>> [round(float(factor("linear", step, 4, 0)), 2) for step in range(4)]
    [1.0, 0.75, 0.5, 0.25]
    """
    risen = numeric.minimum(1.0, (step + 1.0) / numeric.maximum(warm_up, 1.0))
    if schedule == "one_cycle":
        risen = START + (1.0 - START) * risen
    if schedule not in IN_STEPS:
        return risen
    fallen = numeric.clip((step - warm_up) / numeric.maximum(steps - warm_up, 1.0), 0.0, 1.0)
    left = 1.0 - fallen if schedule == "linear" else 0.5 * (1.0 + numeric.cos(np.pi * fallen))
    return risen * left
