"""The contract of every architecture: its checks in the order in which they are told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras

from tuner.common.seeds import derive_seed
from tuner.contracts import _behaviour, _parameters, _reproducibility, _saving
from tuner.contracts.check import Check
from tuner.contracts.drawn import NUM_CLASSES
from tuner.contracts.networks import SIZES_PX, ArchitectureSubject
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


DESCRIBES_ITSELF = Check(
    "parameters", "defaults lie in their ranges, and names are not those of every search", _describes_itself
)
GIVES_FEATURES = Check("features", "gives a vector for each image", _gives_features, is_needed=True)
BUILDS = Check("network", "stands in a network with a class layer, each layer with its own name", _builds, True)
GREY_AND_COLOUR = Check("channels", "takes grey images as well as colour images", _takes_grey_and_colour)
SMALLEST = Check("smallest images", "takes images of minimum_px", _takes_smallest)
OTHER_SIZES = Check("image sizes", "takes images of more than one size", _takes_other_sizes)

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
    _saving.SAVES,
    _reproducibility.PAUSES,
)
