"""Settings of TensorFlow, and what else it alone can do: threads, memory, precision, pipelines of batches."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tuner.common.errors import InputError, last_line
from tuner.common.process import (
    keras_home,
    logical_gpus,
    set_surroundings,
    standard_error_to,
    switch,
    usable_cpus,
)


def configure_backend(cpus: float | None = None) -> None:
    """Set the threads of this process (None: all CPUs), GPU memory to grow on demand, and what keras.json would set.

    With more threads than CPUs, trials of one machine fight for the cores. Must be called before the first tensor is
    made; a later call changes no threads.

    Raises:
        InputError: Keras or TensorFlow cannot be loaded, or a program has loaded Keras with another backend before.
    """
    set_surroundings()
    if switch("TUNER_GPU_MEMORY") == "all":
        del os.environ["TF_FORCE_GPU_ALLOW_GROWTH"]  # it would win over what is configured below
    try:
        with _quiet():
            import keras
            import tensorflow
    except Exception as error:  # two libraries and what they import, each with errors of its own
        hint = f"; look at {keras_home() / 'keras.json'}" if "configuration" in str(error) else ""
        raise InputError(
            f"Keras must load with TensorFlow; {type(error).__name__}: {last_line(error)}{hint}"
        ) from error
    if keras.backend.backend() != "tensorflow":
        raise InputError(f"KERAS_BACKEND must be tensorflow before Keras is loaded; it is {keras.backend.backend()}")
    keras.config.set_image_data_format("channels_last")
    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)
    keras.config.set_max_epochs(None)
    keras.config.set_max_steps_per_epoch(None)
    threads = max(1, int(cpus or usable_cpus()))
    try:
        tensorflow.config.threading.set_intra_op_parallelism_threads(threads)
        tensorflow.config.threading.set_inter_op_parallelism_threads(threads)
        for gpu in tensorflow.config.list_physical_devices("GPU"):
            tensorflow.config.experimental.set_memory_growth(gpu, enable=switch("TUNER_GPU_MEMORY") == "grow")
        if number := logical_gpus():
            parts = [tensorflow.config.LogicalDeviceConfiguration()] * number
            tensorflow.config.set_logical_device_configuration(tensorflow.config.list_physical_devices("CPU")[0], parts)
    except RuntimeError:  # TensorFlow has begun to compute in this process, and keeps what it began with
        return
    keras.config.set_dtype_policy(dtype_policy([gpu.compute_capability for gpu in gpus()]))


def hide_gpus() -> None:
    """Let this process, and what it starts, see no GPU; must be called before TensorFlow, or another library, looks."""
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"


@contextmanager
def _quiet() -> Iterator[None]:
    """Drop TensorFlow's messages about itself while it loads; all else on standard error is written afterwards.

    TensorFlow 2.21 does so before it looks at TF_CPP_MIN_LOG_LEVEL, and past Python: the file descriptor itself must
    be turned away.
    """
    with tempfile.TemporaryFile() as file:
        try:
            with standard_error_to(file):
                yield
        finally:
            file.seek(0)
            os.write(2, b"".join(line for line in file if not line.startswith(_TOLD)))


_TOLD = (b"I0000 ", b"WARNING: All log messages before absl::InitializeLog()")


def dtype_policy(compute_capabilities: Sequence[tuple[int, int]]) -> str:
    """Return the precision of a process with such GPUs: mixed bfloat16 if all have it (Ampere, 8.0), else float32.

    What TUNER_PRECISION says comes first. Older GPUs have float16 only, which needs its loss scaled and gains little on
    models of this size.

    >>> dtype_policy([(9, 0)]), dtype_policy([(7, 5)]), dtype_policy([])
    ('mixed_bfloat16', 'float32', 'float32')
    """
    if (asked := switch("TUNER_PRECISION")) in ("float32", "mixed_bfloat16"):
        return asked
    modern = bool(compute_capabilities) and min(compute_capabilities) >= (8, 0)
    return "mixed_bfloat16" if modern else "float32"


@dataclass(frozen=True)
class Gpu:
    """A GPU of this process, as TensorFlow tells of it."""

    name: str
    compute_capability: tuple[int, int]
    grows: bool
    """Whether its memory is taken as it is needed."""


def gpus() -> list[Gpu]:
    """Return the GPUs that TensorFlow sees."""
    from tensorflow import config

    found = []
    for device in config.list_physical_devices("GPU"):
        details = config.experimental.get_device_details(device)
        name, capability = details.get("device_name", device.name), details.get("compute_capability", (0, 0))
        found.append(Gpu(name, capability, bool(config.experimental.get_memory_growth(device))))
    return found


def has_gpu() -> bool:
    """Return whether this process computes on a GPU."""
    import keras

    return bool(keras.distribution.list_devices("gpu"))


def jit_compile() -> bool | str:
    """Return whether to compile steps by XLA: on CPUs they become two to four times slower (benchmarks/LOG.md).

    Steps on several devices are not one program of one device, and cannot be.
    """
    from tuner.models.data_parallel import replicas

    asked = switch("TUNER_XLA")
    is_asked = asked == "on" or (asked != "off" and has_gpu())
    return "auto" if is_asked and replicas() == 1 else False


STEPS_PER_EXECUTION = 32
"""Steps between two returns to Python: these make cached epochs up to twice as fast, more nothing."""


def gpu_memory() -> tuple[int, int] | None:
    """Return the peak bytes of this process on the first GPU, and its limit; None without a GPU."""
    if not has_gpu():
        return None
    import tensorflow
    from tensorflow.python.client import device_lib  # the public API does not tell how large a GPU is

    sizes = [device.memory_limit for device in device_lib.list_local_devices() if device.device_type == "GPU"]
    return int(tensorflow.config.experimental.get_memory_info("GPU:0")["peak"]), int(sizes[0])


@contextmanager
def symbolic() -> Iterator[None]:
    """Let networks that are built here take no memory: nothing is computed, not even initial weights.

    Keras lists variables that have no numbers yet, and would make these when any later network is built.
    """
    import keras
    import tensorflow
    from keras.src.backend.common import global_state  # the list has no public name

    listed = list(global_state.get_global_attribute(_WITHOUT_NUMBERS) or [])
    try:
        with keras.StatelessScope(initialize_variables=False), tensorflow.Graph().as_default():
            yield
    finally:
        global_state.set_global_attribute(_WITHOUT_NUMBERS, listed)


_WITHOUT_NUMBERS = "uninitialized_variables"


def release_memory() -> None:
    """Free the models of an ended trial, so that the next one in this process starts from nothing."""
    import keras

    keras.utils.clear_session(free_memory=True)


Form = tuple[tuple[tuple[int, ...], str], ...]
"""Of each part of a batch, its shape without the number of images, and its type."""


def pipeline(read: Callable[[], Iterator[tuple[Any, ...]]], form: Form) -> Any:
    """Return a pipeline of the batches of arrays that `read` yields, which is called anew whenever it is read."""
    import tensorflow

    specs = tuple(tensorflow.TensorSpec((None, *shape), kind) for shape, kind in form)
    return tensorflow.data.Dataset.from_generator(read, output_signature=specs)


def read_ahead(made: Any, batches: int) -> Any:
    """Return a pipeline of so many batches, of which the next are asked for while one is worked on."""
    import tensorflow

    known = made.apply(tensorflow.data.experimental.assert_cardinality(batches))
    return known.prefetch(tensorflow.data.AUTOTUNE)
