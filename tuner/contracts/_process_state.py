"""State that a process has once, which own code must leave alone: random generators and settings of Keras."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np

_MARK = "tuner_was_here"


def state() -> dict[str, Any]:
    """Return what can be seen of the process's own state, by the words for it."""
    kind, keys, position, *rest = np.random.get_state()  # noqa: NPY002  it is watched, not used
    context = sys.modules.get("tensorflow.python.eager.context")
    return {
        "the random generator of numpy": (kind, hash(np.asarray(keys).tobytes()), position, *rest),
        "the seed of TensorFlow": context.global_seed() if context is not None else None,
        "keras.config.floatx": keras.config.floatx(),
        "keras.config.epsilon": keras.config.epsilon(),
        "keras.config.image_data_format": keras.config.image_data_format(),
        "the precision of all layers (dtype policy)": keras.config.dtype_policy().name,
        "the working folder": Path.cwd(),
        "environment variables": dict(os.environ),
    }


def changed(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Return the words for what has changed."""
    return [name for name in before if before[name] != after[name]]


@contextmanager
def restored() -> Iterator[None]:
    """Set back afterwards what a check, or the code that it looks at, does to the process."""
    of_numpy, of_python, environment = np.random.get_state(), random.getstate(), dict(os.environ)  # noqa: NPY002  it is kept, not used
    folder, floatx, epsilon = Path.cwd(), keras.config.floatx(), keras.config.epsilon()
    layout, policy = keras.config.image_data_format(), keras.config.dtype_policy()
    try:
        yield
    finally:
        np.random.set_state(of_numpy)  # noqa: NPY002  it is kept, not used
        random.setstate(of_python)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        keras.config.set_floatx(floatx)
        keras.config.set_epsilon(epsilon)
        keras.config.set_image_data_format(layout)
        keras.config.set_dtype_policy(policy)


def mark() -> None:
    """Leave a mark that is lost where Keras is told to forget all that this process has built."""
    keras.src.backend.common.global_state.set_global_attribute(_MARK, True)


def is_marked() -> bool:
    """Return whether the mark is there."""
    return bool(keras.src.backend.common.global_state.get_global_attribute(_MARK))
