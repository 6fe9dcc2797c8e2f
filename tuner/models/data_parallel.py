"""Training of one network on several devices at once: each batch is parted among them, what they find is added up."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow

from tuner.common.errors import InputError
from tuner.common.process import logical_gpus


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
    return on_one_device(_PartedModel(network.inputs[0], network.outputs[0], name=network.name))


def local(optimizer: Any) -> Any:
    """Return an optimizer that is given sums over all devices, and changes each one's copies of variables alike.

    Keras's own clips the gradients of each device before it adds them up, and cannot accumulate gradients: it asks
    the devices to meet within a branch (https://github.com/keras-team/tf-keras/issues/301).
    """
    if _DEVICES.strategy is not None:
        optimizer.__class__ = type(type(optimizer).__name__, (type(optimizer), _LocalOptimizer), {})
    return optimizer


_PLAIN: Any = next(one for one in keras.optimizers.Optimizer.__mro__ if one.__name__ == "BaseOptimizer")


class _LocalOptimizer(keras.optimizers.Optimizer):
    """An optimizer whose steps are those of a single device."""

    _apply_weight_decay = _PLAIN._apply_weight_decay
    _backend_increment_gradient_accumulators = _PLAIN._backend_increment_gradient_accumulators

    def _backend_update_step(self, grads: Any, trainable_variables: Any, learning_rate: Any) -> None:
        pairs = zip(grads, [variable.value for variable in trainable_variables], strict=True)
        for gradient, variable in self._all_reduce_sum_gradients(list(pairs)):
            self.update_step(gradient, variable, learning_rate)

    def _all_reduce_sum_gradients(self, grads_and_vars: Any) -> Any:
        return grads_and_vars


class _PartedModel(keras.Model):
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
        results = _DEVICES.strategy.run(tensorflow.autograph.experimental.do_not_convert(function), args=batch)
        return [_DEVICES.strategy.experimental_local_results(one) for one in results]

    def _part(self, x: Any, *others: Any) -> tuple[Any, ...]:
        """Return the number of own images, the share of the batch that they are, and own rows of all, at least 1.

        The rows of a device without any are one of another's, which then does not count.
        """
        device = tensorflow.distribute.get_replica_context().replica_id_in_sync_group
        with tensorflow.device("CPU:0"):  # else each device would be sent the whole batch
            images = tensorflow.shape(x)[0]
            start, stop = device * images // replicas(), (device + 1) * images // replicas()
            rows = [one if one is None else one[start : tensorflow.maximum(stop, start + 1)] for one in (x, *others)]
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
        summed = iter(tensorflow.distribute.get_replica_context().all_reduce("SUM", known))
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
