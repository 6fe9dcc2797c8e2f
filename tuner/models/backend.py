"""Use of TensorFlow, here alone: threads, memory growth, precision, release of memory."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tuner.common.process import standard_error_to


def all_cpus() -> float:
    """Return the number of CPUs for a process that is alone on the machine."""
    return float(os.cpu_count() or 1)


def configure_backend(cpus: float) -> None:
    """Set the threads of this process to its trial's CPUs, GPU memory to grow on demand, and its precision.

    With more threads than CPUs, trials of one machine fight for the cores. Must be called before the first tensor is
    made; a later call changes nothing. Other Keras backends are left alone.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with _quiet():
        import keras

        if keras.backend.backend() != "tensorflow":
            return
        import tensorflow

    threads = max(1, int(cpus))
    try:
        tensorflow.config.threading.set_intra_op_parallelism_threads(threads)
        tensorflow.config.threading.set_inter_op_parallelism_threads(threads)
        for gpu in tensorflow.config.list_physical_devices("GPU"):
            tensorflow.config.experimental.set_memory_growth(gpu, enable=True)
    except RuntimeError:  # TensorFlow has begun to compute in this process, and keeps what it began with
        return
    details = [
        tensorflow.config.experimental.get_device_details(gpu) for gpu in tensorflow.config.list_physical_devices("GPU")
    ]
    keras.config.set_dtype_policy(dtype_policy([detail.get("compute_capability", (0, 0)) for detail in details]))


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

    Older GPUs have float16 only, which needs its loss scaled and gains little on models of this size.

    >>> dtype_policy([(9, 0)]), dtype_policy([(7, 5)]), dtype_policy([])
    ('mixed_bfloat16', 'float32', 'float32')
    """
    modern = bool(compute_capabilities) and min(compute_capabilities) >= (8, 0)
    return "mixed_bfloat16" if modern else "float32"


def has_gpu() -> bool:
    """Return whether this process computes on a GPU."""
    import keras

    return bool(keras.distribution.list_devices("gpu"))


def jit_compile() -> bool | str:
    """Return whether to compile steps by XLA: on CPUs they become two to four times slower (benchmarks/LOG.md)."""
    import keras

    return "auto" if has_gpu() or keras.backend.backend() != "tensorflow" else False


def steps_per_execution() -> int:
    """Return the steps between two returns to Python: 32 make cached epochs up to twice as fast, more nothing.

    TensorFlow loops over them; other backends would unroll the loop.
    """
    import keras

    return 32 if keras.backend.backend() == "tensorflow" else 1


def gpu_memory() -> tuple[int, int] | None:
    """Return the peak bytes of this process on the first GPU, and its limit; None without a GPU."""
    import keras

    if keras.backend.backend() != "tensorflow" or not has_gpu():
        return None
    import tensorflow
    from tensorflow.python.client import device_lib  # the public API does not tell how large a GPU is

    sizes = [device.memory_limit for device in device_lib.list_local_devices() if device.device_type == "GPU"]
    return int(tensorflow.config.experimental.get_memory_info("GPU:0")["peak"]), int(sizes[0])


def release_memory() -> None:
    """Free the models of an ended trial, so that the next one in this process starts from nothing."""
    import keras

    keras.utils.clear_session(free_memory=True)
