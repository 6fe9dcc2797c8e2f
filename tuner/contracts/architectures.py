"""The contract of every architecture: its form, its file, and all its checks in the order in which they are told."""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tuner.common.seeds import derive_seed
from tuner.contracts import _behaviour, _parameters, _reproducibility
from tuner.contracts.check import Check
from tuner.contracts.drawn import NUM_CLASSES, drawn_images, is_close
from tuner.contracts.networks import SIZES_PX, ArchitectureSubject, Built
from tuner.models.export import load_model
from tuner.models.parameters import GENERAL


def _describes_itself(subject: ArchitectureSubject) -> Iterator[str]:
    for name, parameter in subject.architecture.parameters.items():
        if problem := parameter.misfit(parameter.default):
            yield f"the default of {name} {problem}"
        if name in GENERAL or name == "architecture":
            yield f"{name} is a hyperparameter of every search; give that of {subject.name} another name"


def _gives_features(subject: ArchitectureSubject) -> Iterator[str]:
    architecture, name = subject.architecture, subject.name
    values = architecture.values_of(subject.configuration())
    if architecture.is_backbone:
        return  # a model, which the head that is put on it pools; whether it can is seen where the network is built
    images = keras.Input(subject.shape(), dtype="float32", name="images")
    if too_small := list(_is_built_at_all(subject)):
        yield from too_small
        return
    given = architecture.build(values, images, derive_seed(1, "dropout"))
    if not isinstance(given, keras.KerasTensor):
        yield f"{name} must return a Keras tensor computed from the symbolic images; it returns {type(given).__name__}"
        return
    shape = tuple(given.shape)
    if len(shape) != 2 or shape[1] is None:
        yield f"{name} must return features [N, F], a vector for each image; it returns {list(shape)}"
    elif shape[0] is not None:
        yield (
            f"{name} must return features [N, F] for any number N of images; it returns [{shape[0]}, {shape[1]}], "
            "whatever the number: an operation joins the images, or fixes how many there are"
        )
    elif shape[1] < 2:
        yield f"{name} returns {shape[1]} feature for each image; at least 2 are needed to tell the class"
    if not keras.backend.is_float_dtype(given.dtype):
        yield f"{name} must return features of floating point; it returns {given.dtype}"
    if not _is_connected(given, images):
        yield f"{name} ignores its input: what it returns is not computed from the images"


def _is_connected(given: Any, images: Any) -> bool:
    waiting, seen = [given], set()
    while waiting:
        tensor = waiting.pop()
        if tensor is images:
            return True
        operation = tensor._keras_history.operation
        if id(operation) not in seen:
            seen.add(id(operation))
            waiting += [one for node in operation._inbound_nodes for one in node.input_tensors]
    return False


def _is_built_at_all(subject: ArchitectureSubject) -> Iterator[str]:
    """Say which images are large enough, where those of the first try are not."""
    failure = _failure(subject, subject.shape())
    if failure is None:
        return
    works = next((px for px in SIZES_PX if px > subject.px and _failure(subject, subject.shape(px=px)) is None), None)
    if works is not None:
        told = f"{subject.author.explain(failure)}; those of {works} px work: say minimum_px={works}"
        yield f"{subject.name} fails for images of {subject.px} px: {told}"


def _builds(subject: ArchitectureSubject) -> Iterator[str]:
    try:
        shape = subject.built().network.model.output_shape
    except ValueError as error:
        yield _of_names(subject, str(error)) or subject.author.explain(error)
        return
    if shape != (None, NUM_CLASSES):
        yield f"the network of {subject.name} must give [N, {NUM_CLASSES}]; it gives {shape}"


def _of_names(subject: ArchitectureSubject, message: str) -> str:
    """Return what is wrong with the names of layers, if that is what Keras says."""
    if "should be unique" not in message:
        return ""
    name = message.partition('"')[2].partition('"')[0]
    return (
        f"two layers of {subject.name} are called {name!r}{subject.author.text_line(name)}; each needs a name of its "
        "own, or none, and then Keras makes one"
    )


def _takes_grey_and_colour(subject: ArchitectureSubject) -> Iterator[str]:
    """Take a refusal of grey images as meant: preprocessing can give colour images."""
    failure = _failure(subject, subject.shape(1))
    if failure is not None and not subject.author.is_refusal(failure):
        yield f"{subject.name} fails for grey images (1 channel): {subject.author.explain(failure)}"


def _takes_smallest(subject: ArchitectureSubject) -> Iterator[str]:
    smallest = subject.architecture.minimum_px
    if smallest == 1 and subject.architecture.is_own:
        return  # not said: what is too small is seen in a search
    found = list(_fails(subject, subject.shape(px=smallest), f"images of minimum_px={smallest}"))
    if not found:
        return
    works = next((px for px in _larger(smallest) if not list(_fails(subject, subject.shape(px=px), ""))), None)
    hint = f"; the smallest that works is {works}: say minimum_px={works}" if works else ""
    yield found[0] + hint


def _larger(smallest: int) -> Iterator[int]:
    yield from (px for px in (*range(smallest + 1, 17), *range(18, 65, 2), 75, 96, 128, 224) if px > smallest)


def _takes_other_sizes(subject: ArchitectureSubject) -> Iterator[str]:
    """Refusals of one's own are taken as meant, unless one size alone is left."""
    squares = [px for px in SIZES_PX if px > subject.px]
    tried = [_failure(subject, subject.shape(px=px)) for px in squares[:2]]
    if None not in tried:
        tried += [_failure(subject, subject.shape(px=px)) for px in squares[2:]]
    failures = [failure for failure in tried if failure is not None]
    told = [subject.author.explain(one) for one in failures if not subject.author.is_refusal(one)]
    if failures and None not in tried:
        yield (
            f"{subject.name} takes images of {subject.px}x{subject.px} px only; a search may choose any size: "
            f"{subject.author.explain(failures[0])}"
        )
        return
    yield from told[:1]


def _failure(subject: ArchitectureSubject, shape: tuple[int, int, int]) -> Exception | None:
    try:
        subject.build(shape=shape)
    except Exception as error:  # noqa: BLE001  the code of others may raise anything
        return error
    return None


def _fails(subject: ArchitectureSubject, shape: tuple[int, int, int], kind: str) -> Iterator[str]:
    try:
        subject.built(shape=shape)
    except Exception as error:  # noqa: BLE001  the code of others may raise anything
        yield f"{subject.name} fails for {kind}: {subject.author.explain(error)}"


# --- the file that a network is saved as ---


def _saves(subject: ArchitectureSubject) -> Iterator[str]:
    built = subject.built()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        try:
            built.network.model.save(path)
        except Exception as error:  # noqa: BLE001  layers of others are asked for their settings: it is told as the problem
            yield from _incomplete(built) or [f"{subject.name} cannot be saved: {subject.author.explain(error)}"]
            return
        yield from _compared(built, path, subject)


def _compared(built: Built, path: Path, subject: ArchitectureSubject) -> Iterator[str]:
    """Yield what is wrong with what was saved of a network."""
    name = subject.name
    try:
        loaded = load_model(path)
    except Exception as error:  # noqa: BLE001  layers of others are made anew: it is told as the problem
        why = _incomplete(built) or [f"{name} was saved, but cannot be loaded again: {_explained(built, error)}"]
        yield from why
        return
    images = drawn_images(subject.shape())
    features = keras.Model(loaded.inputs[0], loaded.get_layer("probabilities").input)
    found = np.asarray(keras.ops.convert_to_numpy(features(images, training=False)), dtype=np.float32)
    if not is_close(built.run(images), found):
        yield f"{name} gives other features when it has been saved and loaded again: a weight or a setting is not saved"
        return
    lost = [problem for layer in built.layers() for problem in _lost(built, loaded, layer)]
    yield from lost or _incomplete(built)


def _explained(built: Built, error: Exception) -> str:
    text = str(error)
    unknown = next((kind for kind in _own_kinds(built) if f" {kind.__name__} " in text), None)
    if "of own code, which is not loaded" in text and unknown is not None:
        return (
            f"its class {unknown.__name__} ({built.author.class_line(unknown)}) is not found by its name: let "
            "it stand outside of functions"
        )
    if "lambda" in text.lower():
        layer = next((one for one in built.layers() if isinstance(one, keras.layers.Lambda)), None)
        where = f" of {built.told(layer)}" if layer is not None else ""
        return f"the code{where} is a lambda, which Keras does not load; use operations of keras.ops, or a layer class"
    return built.author.explain(error)


def _own_kinds(built: Built) -> list[type]:
    return [kind for kind in {type(layer): None for layer in built.layers()} if built.author.class_line(kind)]


def _incomplete(built: Built) -> list[str]:
    """Return for each class of the author's what its `get_config` does not say."""
    problems = []
    kind: Any
    for kind in _own_kinds(built):
        layer = next(each for each in built.layers() if type(each) is kind)
        called = f"{kind.__name__} ({built.author.class_line(kind)})"
        try:
            config = layer.get_config()
        except NotImplementedError:  # Keras's own, for a layer without one
            taken = ", ".join(_settings(kind))
            problems.append(
                f"{called} has no get_config, so that it cannot be saved: return its settings ({taken}) there"
            )
            continue
        except Exception as error:  # noqa: BLE001  a method of others: it is told as the problem
            problems.append(f"{called}: get_config fails: {built.author.explain(error)}")
            continue
        missing = [name for name in _settings(kind) if name not in config]
        if missing:
            problems.append(
                f"{called}: get_config leaves out {', '.join(missing)}, which __init__ takes: "
                "a loaded network would have another value, or none"
            )
            continue
        try:
            kind.from_config(config)
        except Exception as error:  # noqa: BLE001  a constructor of others: it is told as the problem
            hint = "; let __init__ take **options, and give them to super().__init__" if "keyword" in str(error) else ""
            problems.append(f"{called} cannot be made again from its get_config: {built.author.explain(error)}{hint}")
    return problems


def _settings(kind: type) -> list[str]:
    """Return the arguments of a class's `__init__` by name."""
    parameters = list(inspect.signature(vars(kind).get("__init__", kind)).parameters.values())
    parameters = parameters[1:] if "__init__" in vars(kind) else parameters
    named = [each for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)]
    return [each.name for each in named]


def _lost(built: Built, loaded: Any, layer: Any) -> Iterator[str]:
    """Yield the settings of an own layer that are others in the loaded network."""
    if not built.author.class_line(type(layer)):
        return
    other = next((each for each in loaded._flatten_layers() if each.name == layer.name), None)
    if other is None:
        return
    for name in _settings(type(layer)):
        one, another = getattr(layer, name, None), getattr(other, name, None)
        if isinstance(one, bool | int | float | str) and one != another:
            yield f"{built.told(layer)}: {name} is {one!r}, and {another!r} once it has been saved and loaded again"


DESCRIBES_ITSELF = Check(
    "parameters", "defaults lie in their ranges, and names are not those of every search", _describes_itself
)
GIVES_FEATURES = Check("features", "gives a vector for each image", _gives_features, is_needed=True)
BUILDS = Check("network", "stands in a network with a class layer, each layer with its own name", _builds, True)
GREY_AND_COLOUR = Check("channels", "takes grey images as well as colour images", _takes_grey_and_colour)
SMALLEST = Check("smallest images", "takes images of minimum_px", _takes_smallest)
OTHER_SIZES = Check("image sizes", "takes images of more than one size", _takes_other_sizes)
SAVES = Check("file", "can be saved, and is the same when it is loaded again", _saves)

ARCHITECTURE_CHECKS: tuple[Check[ArchitectureSubject], ...] = (
    DESCRIBES_ITSELF,
    GIVES_FEATURES,
    BUILDS,
    GREY_AND_COLOUR,
    SMALLEST,
    OTHER_SIZES,
    _behaviour.SEES_IMAGES,
    _behaviour.EACH_BY_ITSELF,
    _behaviour.QUIET_INFERENCE,
    _behaviour.SCALES_ONCE,
    _behaviour.NO_CLASSES,
    _behaviour.FINITE,
    _parameters.RANGES,
    _parameters.USED,
    _behaviour.TRAINS,
    _reproducibility.SAME_SEED,
    _reproducibility.OTHER_SEED,
    _reproducibility.LEAVES_PROCESS,
    _reproducibility.FRESH_PROCESS,
    SAVES,
    _reproducibility.PAUSES,
)
