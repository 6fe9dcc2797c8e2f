"""Whether a network can be saved as a file, and what is loaded is the same network."""

from __future__ import annotations

import inspect
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tuner.contracts.check import Check
from tuner.contracts.drawn import drawn_images, is_close
from tuner.contracts.networks import ArchitectureSubject, Built
from tuner.models.export import load_model


def _saves(subject: ArchitectureSubject) -> Iterator[str]:
    built = subject.built()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        try:
            built.network.model.save(path)
        except Exception as error:  # noqa: BLE001  the code of others may raise anything
            yield from _incomplete(built) or [f"{subject.name} cannot be saved: {subject.author.explain(error)}"]
            return
        yield from _compared(built, path, subject)


def _compared(built: Built, path: Path, subject: ArchitectureSubject) -> Iterator[str]:
    """Yield what is wrong with what was saved of a network."""
    name = subject.name
    try:
        loaded = load_model(path)
    except Exception as error:  # noqa: BLE001  the code of others may raise anything
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
        except NotImplementedError:
            taken = ", ".join(_settings(kind))
            problems.append(
                f"{called} has no get_config, so that it cannot be saved: return its settings ({taken}) there"
            )
            continue
        except Exception as error:  # noqa: BLE001  the code of others may raise anything
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
        except Exception as error:  # noqa: BLE001  the code of others may raise anything
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


SAVES = Check("file", "can be saved, and is the same when it is loaded again", _saves)
