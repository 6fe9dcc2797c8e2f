"""A trained network as a file for images of any size, loaded and converted again, and what it costs in use."""

from __future__ import annotations

import re
import shutil
import sys
import time
import zipfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from tuner.common.errors import InputError, RunError, first_line
from tuner.common.files import user_path
from tuner.common.plugins import how_to_give, own_modules
from tuner.datasets.images import PAD_VALUE
from tuner.datasets.loading import Split
from tuner.models.architectures import ARCHITECTURES
from tuner.models.backend import jit_compile
from tuner.models.preprocessing import KERNELS, PREPROCESSING, count_pixels, pixel_weights, shrink, weigh_pixels

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


def any_size(model: Any, image_shape: tuple[int, int, int], fit: str = "crop") -> Any:
    """Return a model for raw images of any size, which it fits as `decode_image` does; those of its own size stay."""
    import keras

    height, width, channels = image_shape
    images = keras.Input((None, None, channels), dtype="float32", name="images")
    return keras.Model(images, model(_fitted(images, height, width, fit)), name=model.name)


def _fitted(images: Any, height: int, width: int, fit: str) -> Any:
    """Return images in another size as Pillow resizes them: its bilinear filter is a triangle as wide as the scale.

    By products with matrices, as in `shrink`, since Keras's `Resizing` moves the middle by up to a pixel; rounded after
    each, like Pillow: a network sees the difference.
    """
    from keras import ops

    rows, columns = count_pixels(images)
    (inner_height, row_scale), (inner_width, column_scale) = _inner(ops.max(rows), ops.max(columns), height, width, fit)
    row_weights, in_rows = _weights(rows, height, inner_height, row_scale)
    column_weights, in_columns = _weights(columns, width, inner_width, column_scale)
    fitted = weigh_pixels(images, row_weights, column_weights, _rounded)
    if fit != "pad":
        return fitted
    return fitted + PAD_VALUE * (1.0 - in_rows[None, :, None, None] * in_columns[None, None, :, None])


def _rounded(values: Any) -> Any:
    from keras import ops

    return ops.floor(values + 0.5)


def _inner(rows: Any, columns: Any, height: int, width: int, fit: str) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Return, for each side, how long an image becomes, and its pixels to one of the result; see `FITS`.

    Whole numbers until the division, so that a scale of 1 is exact.
    """
    from keras import ops

    if fit == "crop":
        scale = ops.minimum(rows * width, columns * height) / (height * width)
        return (height, scale), (width, scale)
    if fit == "stretch":
        return (height, rows / height), (width, columns / width)
    is_tall = rows * width >= columns * height  # as `padded_size`
    low = ops.maximum(ops.floor((2 * rows * width + columns) / (2 * columns)), 1.0)
    narrow = ops.maximum(ops.floor((2 * columns * height + rows) / (2 * rows)), 1.0)
    inner_height, inner_width = ops.where(is_tall, float(height), low), ops.where(is_tall, narrow, float(width))
    return (inner_height, rows / inner_height), (inner_width, columns / inner_width)


def _weights(places: Any, size: int, inner: Any, scale: Any) -> tuple[Any, Any]:
    """Return the weights of an image's pixels `[size, N]` along a side, and 1 where there is image, 0 where not."""
    from keras import ops

    index = ops.subtract(np.arange(size, dtype=np.float32), ops.floor((size - ops.cast(inner, "float32")) / 2))
    centres = ops.max(places) / 2 + scale * (index - (inner - 1) / 2)
    is_image = ops.cast(ops.logical_and(index >= 0, index < inner), "float32")
    return pixel_weights(places, centres, scale) * is_image[:, None], is_image


def load_model(path: Path, brought: Sequence[str] = ()) -> Any:
    """Return the Keras model in a file, with layers of the plugins that are loaded, and of installed packages.

    `brought` are the references of the plugins that it was searched with, for the message that one is missing.

    Raises:
        RunError: it cannot be loaded; of own code that no plugin here has, the message has the name.
    """
    from tuner.models.backend import configure_backend

    configure_backend()
    try:
        model = _read(path)
    except (OSError, ValueError, TypeError, KeyError, zipfile.BadZipFile) as error:
        unknown = _UNKNOWN.search(str(error))
        if unknown is not None:
            raise RunError(
                f"{path}: holds the {unknown[1]} {unknown[2]} of own code, which is not loaded; give the file or "
                f"module that it stands in: {how_to_give(brought)}"
            ) from None
        raise RunError(f"{path}: cannot be loaded as a Keras model: {first_line(error)}") from None
    model.jit_compile = False  # XLA would compile it for each size of images anew
    return model


_UNKNOWN = re.compile(r"Could not locate (class|function) '([^']+)'")


def _read(path: Path) -> Any:
    import keras

    read = partial(keras.models.load_model, path, compile=False, safe_mode=True)
    try:
        return read(custom_objects=_own_objects())
    except (TypeError, ValueError) as error:
        if _UNKNOWN.search(str(error)) is None:
            raise
    for registry in (ARCHITECTURES, PREPROCESSING):  # to list all loads what installed packages offer
        len(registry)
    return read(custom_objects=_own_objects())


def _own_objects() -> dict[str, Any]:
    """Return the classes and functions of own code by name; Keras itself finds those registered with it alone."""
    packages = {name.partition(".")[0] for name in own_modules()}
    return {
        value.__name__: value
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] in packages
        for value in vars(module).values()
        if callable(value) and hasattr(value, "__name__") and _package_of(value) in packages
    }


def _package_of(value: Any) -> str:
    return str(getattr(value, "__module__", "")).partition(".")[0]


def save_model_as(exported: Path, path: Path, form: str, brought: Sequence[str] = ()) -> Path:
    """Write an exported model in another form, `tf_saved_model` (a folder) or `litert` (a file), and return its path.

    Raises:
        RunError: the model cannot be loaded or converted.
    """
    path = user_path(path).absolute()
    _refuse_other_files(path, form)
    model = load_model(exported, brought)
    suffix = ".tflite" if form == "litert" and path.suffix != ".tflite" else ""  # Keras takes no other
    aside = path.with_name(f".partial.{path.name}{suffix}")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        if form == "litert":
            model = _shrinking_by_products(model)
        model.export(str(aside), format=form, verbose=False)
        if path.is_dir():
            shutil.rmtree(path)  # an earlier export of ours, or empty
        aside.replace(path)
    except Exception as error:  # noqa: BLE001  converters raise classes of their own for what a format cannot express
        raise RunError(f"{exported}: cannot be written as {form}: {_unknown_to(form, error)}") from None
    finally:
        _remove(aside)
    return path


def _shrinking_by_products(model: Any) -> Any:
    """Return a model of the same layers that shrinks images by products with matrices: LiteRT has no antialiasing."""
    import keras
    from keras.src.ops.image import Resize  # which has no public name

    def replace(operation: Any) -> Any:
        if not isinstance(operation, Resize) or not operation.antialias or operation.interpolation not in KERNELS:
            return operation
        if operation.crop_to_aspect_ratio or operation.pad_to_aspect_ratio or operation.data_format != "channels_last":
            return operation  # of own code
        return lambda images: shrink(images, operation.size, operation.interpolation)

    return keras.models.clone_model(model, clone_function=replace, recursive=True)


def _unknown_to(form: str, error: Exception) -> str:
    """Return in one line why a model cannot be converted: the operations that the form lacks, where they are told."""
    names = dict.fromkeys(re.findall(r"'(tf\.\w+)' op is neither a custom op nor a flex op", str(error)))
    return f"{form} has no {', '.join(names)}" if names else first_line(error)


def _refuse_other_files(path: Path, form: str) -> None:
    """Refuse to replace anything but an earlier export."""
    if form == "tf_saved_model" and path.exists():
        is_ours = path.is_dir() and (not any(path.iterdir()) or (path / "saved_model.pb").is_file())
        if not is_ours:
            raise InputError(
                f"--saved-model must be a new folder or that of an earlier export; {path} holds other files"
            )


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
