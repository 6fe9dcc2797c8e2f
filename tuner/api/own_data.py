"""Decorators of own code for data: augmentations, preprocessing, sources of images, metrics. Light: no Keras."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np

from tuner.api._declarations import Function, check_parameters, first_words, named
from tuner.common.errors import DataError, InputError, PipelineError, cause_of
from tuner.common.files import shown, user_path
from tuner.common.metrics import METRICS, Metric, Mode, Unit
from tuner.common.words import as_written
from tuner.datasets.sources import NAMED, PREFIXED, SPLITS, Listed, Listing, Source, number_labels
from tuner.models.augment.operations import AUGMENTATION, Batch, OnBatch
from tuner.models.operations import Argument, Operation
from tuner.models.parameters import Parameter
from tuner.models.preprocessing import PREPROCESSING, Effect, Range, Shape

Parameters = Mapping[str, Parameter]
_SAME = "same"


def augmentation(
    function: Function | None = None,
    *,
    parameters: Parameters | None = None,
    name: str | None = None,
    description: str = "",
    mixes_labels: bool = False,
) -> Any:
    """Register a function as an augmentation of training images, for texts such as `flip|darken(0.3)`.

    It takes raw images `[N, H, W, C] float32` in 0..255, a generator of numpy from which all that is random must come,
    and its parameters by name, and returns images of the same shape. One that `mixes_labels` takes the labels `[N, K]`
    behind the images, and returns images and labels; where images have weights, it is called once more with each row of
    the labels times its image's weight. Several threads may call it at once, each for a batch.
    """

    def register(function: Function) -> Function:
        own, called = named("augmentation", function, name)
        given = ["images", "labels", "generator"] if mixes_labels else ["images", "generator"]
        found = check_parameters(called, function, parameters or {}, given, {}, needs_defaults=False)
        arguments = tuple(_argument(called, each, parameter) for each, parameter in found.items())

        def effect(
            values: Mapping[str, Any], images: np.ndarray, labels: np.ndarray, drawn: np.random.Generator
        ) -> Batch:
            inner, floats = _read(found, values), images.astype(np.float32)
            if not mixes_labels:
                return _alike(called, "images", function(floats, drawn, **inner), images), labels
            made = function(floats, labels.copy(), drawn, **inner)
            if not isinstance(made, tuple) or len(made) != 2:
                raise InputError(f"{called}: with mixes_labels, the function must return images and labels")
            return _alike(called, "images", made[0], images), _alike(called, "labels", made[1], labels)

        words = description or first_words(function) or f"{own}, own code"
        AUGMENTATION.add_own(own, Operation(arguments, OnBatch(effect), words, mixes_labels))
        return function

    return register if function is None else register(function)


def preprocessing(
    function: Function | None = None,
    *,
    parameters: Parameters | None = None,
    name: str | None = None,
    description: str = "",
    value_range: Any = _SAME,
    output_shape: Callable[..., Shape] | None = None,
) -> Any:
    """Register a function as a preprocessing operation, which becomes a part of the model.

    It takes symbolic images `[N, h, w, c] float32` and its parameters by name, and returns images, by operations of
    Keras alone. `value_range` are the values of black and white that it gives: `(low, high)`, None where there are none
    afterwards; not given: those that it got. A function that takes `value_range` itself gets the pair of its input.
    `output_shape(shape, **parameters)` returns height, width and channels; not given: they stay.
    """

    def register(function: Function) -> Function:
        own, called = named("preprocessing", function, name)
        asks_range = callable(function) and "value_range" in inspect.signature(function).parameters
        checked = _without_range(function) if asks_range else function
        taken = {"value_range": "that every operation can take"}
        found = check_parameters(called, checked, parameters or {}, ["images"], taken, needs_defaults=False)
        arguments = tuple(_argument(called, each, parameter) for each, parameter in found.items())
        gives = _checked_range(called, value_range)

        def shape(values: Mapping[str, Any], before: Shape) -> Shape:
            return before if output_shape is None else _shape(called, output_shape(before, **_read(found, values)))

        def apply(values: Mapping[str, Any], images: Any, before: Range, _raw: Any) -> Any:
            more = {"value_range": before} if asks_range else {}
            made = function(images, **_read(found, values), **more)
            expected = shape(values, tuple(images.shape[1:]))
            if tuple(getattr(made, "shape", ())[1:]) != tuple(expected):
                raise PipelineError(
                    f"{called}: the function must return images [N, {', '.join(map(str, expected))}], or say with "
                    f"output_shape what it returns; got {list(getattr(made, 'shape', ()))}"
                )
            return made

        effect = Effect(
            apply, shape, lambda _values, before: before if gives == _SAME else gives, needs_range=asks_range
        )
        words = description or first_words(function) or f"{own}, own code"
        PREPROCESSING.add_own(own, Operation(arguments, effect, words))
        return function

    return register if function is None else register(function)


def metric(
    function: Function | None = None,
    *,
    mode: Mode = "max",
    unit: Unit = "number",
    name: str | None = None,
    description: str = "",
    least_classes: int = 2,
    least_present: int = 1,
) -> Any:
    """Register a function as a metric: a study asks for it as `val_` and its name.

    It takes the labels `[N] int64` and the probabilities `[N, K] float32` of all images of a split, and returns a
    number, of which the largest (`mode="max"`) or the smallest is the best.
    """

    def register(function: Function) -> Function:
        own, called = named("metric", function, name)
        check_parameters(called, function, {}, ["labels", "probabilities"], {})
        for word, value, known in (("mode", mode, get_args(Mode)), ("unit", unit, get_args(Unit))):
            if value not in known:
                raise InputError(f"{called}: {word} must be one of {', '.join(known)}; got {value!r}")
        if own.startswith("val_"):
            raise InputError(f"{called}: the name must not begin with val_: that is put before it")

        def measure(labels: np.ndarray, probabilities: np.ndarray) -> float:
            value = function(labels, probabilities)
            try:
                return float(value)
            except (TypeError, ValueError):
                raise InputError(f"{called}: the function must return a number; it returns {value!r:.80}") from None

        words = description or own.replace("_", " ")
        entry = Metric(mode, words, unit, measure=measure, least_classes=least_classes, least_present=least_present)
        METRICS.add_own(own, entry)
        return function

    return register if function is None else register(function)


def source(
    function: Function | None = None,
    *,
    name: str | None = None,
    class_names: Iterable[str] = (),
    identity: Callable[..., Any] | None = None,
    is_path: bool = False,
    suffixes: Iterable[str] = (),
) -> Any:
    """Register a function as a source of images, written `NAME`, or `NAME:REFERENCE` where it takes a reference.

    It returns `(images, labels)`, or such a pair for each of `train`, `test` and `validation`, by name. Images are an
    array `[N, H, W(, 1 or 3)] uint8`, or a list of paths or of the bytes of image files; labels are numbers from 0, or
    texts. What is read is kept until `identity` (of the reference) or the code changes; not given: of a source that
    `is_path`, names, sizes and times of its files; of others, the reference.
    """

    def register(function: Function) -> Function:
        own, called = named("data source", function, name)
        every = list(inspect.signature(function).parameters.values()) if callable(function) else []
        takes = any(one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD) for one in every[:1])
        check_parameters(called, function, {}, ["reference"] if takes else [], {})
        if is_path and not takes:
            raise InputError(f"{called}: the function must take the path as its reference: def {own}(reference)")
        registry = PREFIXED if takes else NAMED

        def read(reference: str) -> Listing:
            try:
                made = function(str(user_path(reference)) if is_path else reference) if takes else function()
            except (DataError, OSError) as error:
                raise DataError(f"{called}: {cause_of(error)}") from None
            return _listing(called, made, tuple(class_names))

        def identified(reference: str) -> Any:
            origin = registry.origin(own)
            of_data = reference if identity is None else identity(*([reference] if takes else []))
            if identity is None and is_path:
                of_data = _files_digest(user_path(reference))
            return [own, None if origin is None else origin.sha256, json.loads(json.dumps(of_data, default=str))]

        registry.add_own(own, Source(identified, read, is_path, tuple(suffixes)))
        return function

    return register if function is None else register(function)


# --- what decorators share ---


def _argument(called: str, name: str, parameter: Parameter) -> Argument:
    """Return a parameter as the argument of an operation that is written in a text."""
    if parameter.kind in ("int", "float"):
        kind: type[int] | type[float] = int if parameter.kind == "int" else float
        low, high = float(parameter.low or 0), float(parameter.high or 0)
        default = parameter.default if isinstance(parameter.default, int | float) else None
        return Argument(name, kind, low, high, default=default)
    words = tuple(_words(parameter))
    for word in words:
        if not word or set(word) & set("|(),=") or word != word.strip():
            raise InputError(f"{called}: {name} must have values that can stand in a text, without |(),=; got {word!r}")
    default_word = next((word for word, value in _words(parameter).items() if value == parameter.default), None)
    return Argument(name, str, words=words, default=default_word)


def _words(parameter: Parameter) -> dict[str, Any]:
    """Return the values of a choice by how they are written."""
    if parameter.kind == "bool":
        return {"true": True, "false": False}
    return {as_written(value): value for value in parameter.values}


def _read(declared: Parameters, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of arguments as the function takes them."""
    return {
        name: values[name] if parameter.kind in ("int", "float") else _words(parameter)[values[name]]
        for name, parameter in declared.items()
    }


def _alike(called: str, what: str, made: Any, before: np.ndarray) -> np.ndarray:
    """Return what an augmentation made of images or labels, as float32; raises InputError where its shape differs."""
    found = np.asarray(made, dtype=np.float32) if isinstance(made, np.ndarray) else made
    if not isinstance(found, np.ndarray) or found.shape != before.shape:
        got = list(found.shape) if isinstance(found, np.ndarray) else f"a {type(made).__name__}"
        raise InputError(f"{called}: the function must return {what} as an array {list(before.shape)}; got {got}")
    return found


def _without_range(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that shows all arguments but the range of values, to be compared with what is declared."""
    signature = inspect.signature(function)
    kept = [one for one in signature.parameters.values() if one.name != "value_range"]

    def shown(*_arguments: Any) -> None: ...

    vars(shown)["__signature__"] = signature.replace(parameters=kept)
    return shown


def _checked_range(called: str, value_range: Any) -> Any:
    if value_range is None or value_range == _SAME:
        return value_range
    if isinstance(value_range, tuple | list) and len(value_range) == 2 and value_range[0] < value_range[1]:
        return float(value_range[0]), float(value_range[1])
    raise InputError(f"{called}: value_range must be (low, high), or None where there is none; got {value_range!r}")


def _shape(called: str, shape: Any) -> Shape:
    if isinstance(shape, tuple | list) and len(shape) == 3 and all(isinstance(size, int) for size in shape):
        return shape[0], shape[1], shape[2]
    raise PipelineError(f"{called}: output_shape must return height, width and channels; got {shape!r}")


def _listing(called: str, made: Any, class_names: tuple[str, ...]) -> Listing:
    """Return what a source's function gave as a listing; raises DataError where it is none."""
    splits = made if isinstance(made, Mapping) else {"train": made}
    if unknown := set(splits) - set(SPLITS):
        raise DataError(f"{called}: splits must be {', '.join(SPLITS)}; got {', '.join(sorted(map(str, unknown)))}")
    if "train" not in splits:
        raise DataError(f"{called}: there must be a split train")
    pairs = {split: _pair(f"{called}, {split}", pair) for split, pair in splits.items()}
    labels = {split: found for split, (_, found) in pairs.items()}
    names, numbers = number_labels(labels, class_names, called)
    if over := [split for split, found in numbers.items() if len(found) and found.max() >= len(names)]:
        raise DataError(f"{called}: labels must be below {len(names)}, the number of class names; not so in {over[0]}")
    return Listing(names, {split: _listed(images, numbers[split]) for split, (images, _) in pairs.items()})


def _listed(images: np.ndarray | list[Path | bytes], labels: np.ndarray) -> Listed:
    """Return the images of a split; files are named by their paths."""
    if isinstance(images, np.ndarray):
        return Listed(labels, images)

    def name(row: int) -> str:
        image = images[row]
        return shown(image) if isinstance(image, Path) else f"image {row}"

    return Listed(labels, None, images, name)


def _pair(called: str, pair: Any) -> tuple[Any, np.ndarray]:
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise DataError(f"{called}: the function must return (images, labels); got {type(pair).__name__}")
    images, labels = pair
    found = np.asarray(labels)
    if found.dtype.kind == "O":
        found = np.asarray([str(label) for label in labels])
    if found.ndim != 1 or found.dtype.kind not in "iuUb" or len(found) != len(images) or not len(found):
        raise DataError(
            f"{called}: labels must be numbers or texts, one for each of {len(images)} images; got an array "
            f"{list(found.shape)} of {found.dtype}"
        )
    if isinstance(images, np.ndarray):
        if images.dtype != np.uint8 or images.ndim not in (3, 4) or images.shape[3:] not in ((), (1,), (3,)):
            raise DataError(
                f"{called}: images must be an array [N, H, W] or [N, H, W, 1 or 3] of uint8, or a list of paths or "
                f"bytes; got {list(images.shape)} of {images.dtype}"
            )
        return images, found
    return [_encoded(called, image) for image in images], found


def _encoded(called: str, image: Any) -> Path | bytes:
    if isinstance(image, bytes):
        return image
    if isinstance(image, str | Path):
        return user_path(image).absolute()
    raise DataError(f"{called}: images must be an array, or a list of paths or bytes; got a {type(image).__name__}")


def _files_digest(path: Path) -> str:
    """Return a digest of names, sizes and times of all files at a path; raises DataError where nothing is."""
    if not path.exists():
        raise DataError(f"{path}: must be a folder or file that exists")
    digest = hashlib.sha256()
    for file in [path] if path.is_file() else sorted(one for one in path.rglob("*") if one.is_file()):
        status = file.stat()
        digest.update(json.dumps([file.relative_to(path).as_posix(), status.st_size, status.st_mtime_ns]).encode())
    return digest.hexdigest()
