"""Use of TensorFlow, here alone: threads, memory, precision, pipelines, and training on several devices at once."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
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
    asked = switch("TUNER_XLA")
    is_asked = asked == "on" or (asked != "off" and has_gpu())
    return "auto" if is_asked and replicas() == 1 else False


STEPS_PER_EXECUTION = 32
"""Steps between two returns to Python: these make cached epochs up to twice as fast, more nothing."""


@dataclass
class _Devices:
    """The devices on which the networks of this process are trained."""

    strategy: Any = None
    """None: the one that TensorFlow takes."""


_DEVICES = _Devices()


def replicate(gpus: float) -> None:
    """Train the networks that this process builds from now on on so many GPUs at once; up to 1, on one device.

    Keras's own `keras.distribution` trains on JAX alone: for TensorFlow its functions that part values do nothing
    (keras/src/backend/tensorflow/distribution_lib.py, which says DO NOT USE).

    Raises:
        InputError: this process sees fewer.
    """
    if gpus <= 1:
        _DEVICES.strategy = None
        return
    import keras
    import tensorflow

    found = keras.distribution.list_devices("cpu" if logical_gpus() else "gpu")
    if len(found) < gpus:
        raise InputError(f"resources.gpus_per_trial is {gpus:g}; this process sees {len(found)} GPUs")
    tensorflow.get_logger().setLevel("ERROR")  # it would tell of each sum over devices
    # On parts of a processor its default, a ring, waits for itself where there are fewer threads than parts.
    summing = tensorflow.distribute.ReductionToOneDevice() if logical_gpus() else None
    devices = [name.upper() for name in found[: int(gpus)]]
    _DEVICES.strategy = tensorflow.distribute.MirroredStrategy(devices, cross_device_ops=summing)


def replicas() -> int:
    """Return the number of devices on which a network of this process is trained at once."""
    return 1 if _DEVICES.strategy is None else int(_DEVICES.strategy.num_replicas_in_sync)


def on_all_devices() -> AbstractContextManager[Any]:
    """Return a context in which variables are made on each device that trains: of networks and of optimizers."""
    return nullcontext() if _DEVICES.strategy is None else _DEVICES.strategy.scope()


def on_one_device(model: Any) -> Any:
    """Return a model that was made within `on_all_devices`, its batches computed by the first of the devices.

    Keras would hand every device the whole of a batch that is predicted by itself, and return it as often.
    """
    model._distribute_strategy = None
    return model


def parted(network: Any) -> Any:
    """Return a network, not yet compiled, that parts its batches among the devices; itself where there is but one."""
    if _DEVICES.strategy is None:
        return network
    return on_one_device(_parted_model()(network.inputs[0], network.outputs[0], name=network.name))


def local(optimizer: Any) -> Any:
    """Return an optimizer that is given sums over all devices, and changes each one's copies of variables alike.

    Keras's own clips the gradients of each device before it adds them up, and cannot accumulate gradients: it asks
    the devices to meet within a branch (https://github.com/keras-team/tf-keras/issues/301).
    """
    if _DEVICES.strategy is not None:
        optimizer.__class__ = type(type(optimizer).__name__, (type(optimizer), _local_optimizer()), {})
    return optimizer


@cache
def _local_optimizer() -> type:
    import keras

    plain: Any = next(one for one in keras.optimizers.Optimizer.__mro__ if one.__name__ == "BaseOptimizer")

    class LocalOptimizer(keras.optimizers.Optimizer):
        """An optimizer whose steps are those of a single device."""

        _apply_weight_decay = plain._apply_weight_decay
        _backend_increment_gradient_accumulators = plain._backend_increment_gradient_accumulators

        def _backend_update_step(self, grads: Any, trainable_variables: Any, learning_rate: Any) -> None:
            pairs = zip(grads, [variable.value for variable in trainable_variables], strict=True)
            for gradient, variable in self._all_reduce_sum_gradients(list(pairs)):
                self.update_step(gradient, variable, learning_rate)

        def _all_reduce_sum_gradients(self, grads_and_vars: Any) -> Any:
            return grads_and_vars

    return LocalOptimizer


@cache
def _parted_model() -> type:
    import keras
    import tensorflow

    strategy_of = tensorflow.distribute
    plain = tensorflow.autograph.experimental.do_not_convert

    class PartedModel(keras.Model):
        """A network that parts each batch among the devices of this process, and adds up what they find.

        What Keras makes of a strategy by itself means each device's loss over its own images, however few the last
        batch leaves it, clips before it adds up, draws the same dropout everywhere, and keeps the first one's moving
        statistics. Here the loss is the mean over the whole batch, measured as on one device; what is drawn differs,
        and moving statistics are the mean of the devices'.
        """

        def train_step(self, data: Any) -> Any:
            x, y, weights = keras.utils.unpack_x_y_sample_weight(data)
            predicted, losses = self._on_each(self._train_part, x, y, weights)
            self._loss_tracker.update_state(tensorflow.add_n(losses), sample_weight=tensorflow.shape(x)[0])
            return self.compute_metrics(x, y, tensorflow.concat(predicted, 0), sample_weight=weights)

        def test_step(self, data: Any) -> Any:
            x, y, weights = keras.utils.unpack_x_y_sample_weight(data)
            predicted = self.predict_step(data)
            loss = self.compute_loss(x, y, predicted, weights, training=False)
            self._loss_tracker.update_state(loss, sample_weight=tensorflow.shape(x)[0])
            return self.compute_metrics(x, y, predicted, sample_weight=weights)

        def predict_step(self, data: Any) -> Any:
            x, _, _ = keras.utils.unpack_x_y_sample_weight(data)
            return tensorflow.concat(self._on_each(self._predict_part, x)[0], 0)

        def fit(self, *arguments: Any, **named: Any) -> Any:
            self._draw_apart()
            try:
                return super().fit(*arguments, **named)
            finally:
                self._agree()

        def evaluate(self, *arguments: Any, **named: Any) -> Any:
            self._agree()
            return super().evaluate(*arguments, **named)

        def _on_each(self, function: Any, *batch: Any) -> list[Any]:
            """Return what the devices return, each result as a list over them."""
            results = _DEVICES.strategy.run(plain(function), args=batch)
            return [_DEVICES.strategy.experimental_local_results(one) for one in results]

        def _part(self, x: Any, *others: Any) -> tuple[Any, ...]:
            """Return the number of own images, the share of the batch that they are, and own rows of all, at least 1.

            The rows of a device without any are one of another's, which then does not count.
            """
            device = strategy_of.get_replica_context().replica_id_in_sync_group
            with tensorflow.device("CPU:0"):  # else each device would be sent the whole batch
                images = tensorflow.shape(x)[0]
                start, stop = device * images // replicas(), (device + 1) * images // replicas()
                rows = [
                    one if one is None else one[start : tensorflow.maximum(stop, start + 1)] for one in (x, *others)
                ]
            return stop - start, tensorflow.cast((stop - start) / images, "float32"), *rows

        def _train_part(self, x: Any, y: Any, weights: Any) -> tuple[Any, Any]:
            own, share, x, y, weights = self._part(x, y, weights)
            counted = tensorflow.ones(tensorflow.shape(x)[:1]) if weights is None else weights
            with tensorflow.GradientTape() as tape:
                predicted = self(x, training=True)
                # Keras has divided by the number of devices
                loss = self.compute_loss(x, y, predicted, counted * share * float(replicas()), training=True)
            variables = self.trainable_weights
            gradients = tape.gradient(loss, variables)
            known = [gradient for gradient in gradients if gradient is not None]
            summed = iter(strategy_of.get_replica_context().all_reduce("SUM", known))
            self.optimizer.apply([one if one is None else next(summed) for one in gradients], variables)
            return predicted[:own], loss

        def _predict_part(self, x: Any) -> tuple[Any]:
            own, _, x = self._part(x)
            return (self(x, training=False)[:own],)

        def _draw_apart(self) -> None:
            """Set the random streams of the devices apart: that of the first is that of one device."""
            for variable in self.variables:
                if variable.name == "seed_generator_state":
                    first, *others = _DEVICES.strategy.experimental_local_results(variable.value)
                    for device, copy in enumerate(others, 1):
                        copy.assign(first + tensorflow.constant([device, 0], first.dtype))

        def _agree(self) -> None:
            """Set what changes untrained, such as moving statistics and their averages, to the devices' mean."""
            leaves = (one for one in self._flatten_layers(include_self=False) if not isinstance(one, keras.Model))
            trained = [layer for layer in leaves if layer.trainable]
            changing = {id(one): one for layer in trained for one in layer.non_trainable_variables}
            kept = (one for one, _ in getattr(self.optimizer, "averages", list)())  # some are computed anew each time
            changing |= {id(one): one for one in kept if isinstance(one, keras.Variable)}
            for variable in changing.values():
                copies = [one.numpy() for one in _DEVICES.strategy.experimental_local_results(variable.value)]
                if variable.name != "seed_generator_state" and not all((copies[0] == one).all() for one in copies):
                    variable.assign(sum(copies) / len(copies))

    return PartedModel


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


def reads_pipelines() -> bool:
    """Return whether `fit` reads the pipelines that are made here, and not only batches one by one."""
    import keras

    return bool(keras.backend.backend() == "tensorflow")


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
