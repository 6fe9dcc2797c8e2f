"""A network and its images: it sees them, each by itself, the same each time, and learns from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np

from tuner.contracts.check import Check
from tuner.contracts.drawn import NUM_CLASSES, digest, drawn_images, is_close
from tuner.contracts.networks import ArchitectureSubject, Built, _watched, first_difference, train_step, trainable

_STEPS = 6
_SCALED_AGAIN = 0.05
"""Pixels that reach the first layer with weights at less than this share of their spread have been scaled twice."""


def _sees_images(subject: ArchitectureSubject) -> Iterator[str]:
    images = drawn_images(subject.shape())
    parts = _changed_parts(images)
    whole = drawn_images(subject.shape(), seed=1)
    if not _tells_apart(subject, images, whole):
        yield f"{subject.name} ignores the images: it gives the same features for all of them"
        return
    for part, changed in parts.items():
        if not _tells_apart(subject, images, changed):
            yield f"{subject.name} does not see {part} of the images: what is there changes no feature"


def _changed_parts(images: np.ndarray) -> Mapping[str, np.ndarray]:
    """Return the images with another content in one part, by the words for the part."""
    height, width = images.shape[1] // 2, images.shape[2] // 2
    regions = {
        "the upper half": np.s_[:, :height],
        "the lower half": np.s_[:, height:],
        "the left half": np.s_[:, :, :width],
        "the right half": np.s_[:, :, width:],
        "channel 1 (red)": np.s_[..., 0],
        "channel 2 (green)": np.s_[..., 1],
        "channel 3 (blue)": np.s_[..., 2],
    }
    found = {}
    for words, region in regions.items():
        found[words] = images.copy()
        found[words][region] = 255 - images[region]
    return found


def _tells_apart(subject: ArchitectureSubject, images: np.ndarray, others: np.ndarray) -> bool:
    """Return whether features differ for some image, with some initial weights, in inference or in training.

    In inference, with random weights, what tells images apart may fade on a long way; in training statistics of the
    batch bring it back.
    """
    for seed in (1, 2):
        built = subject.built(seed=seed)
        if not np.array_equal(built.run(images), built.run(others)):
            return True
    one, other = (subject.build().run(each, training=True) for each in (images, others))
    if not np.array_equal(one, other):
        return True
    built = subject.build()  # weights that begin as zeros hide what they are multiplied with until they have moved
    model = trainable(built)
    for number in range(3):
        train_step(built, model, drawn_images(subject.shape(), 6, number), _labels(6))
    return not np.array_equal(built.run(images), built.run(others))


def _labels(count: int) -> np.ndarray:
    return np.eye(NUM_CLASSES, dtype=np.float32)[np.arange(count) % NUM_CLASSES]


def _each_by_itself(subject: ArchitectureSubject) -> Iterator[str]:
    built, images = subject.built(), drawn_images(subject.shape(), 4)
    for layer in built.always_training():
        if isinstance(layer, keras.layers.BatchNormalization):
            yield (
                f"the features of an image depend on the other images of its batch: {built.told(layer)} mixes them "
                "(statistics of the batch in inference); leave out training=True"
            )
            return
    together = built.run(images)
    for count in (1, 3):
        try:
            alone = built.run(images[:count])
        except Exception as error:  # noqa: BLE001  the code of others may raise anything
            yield f"{subject.name} cannot be applied to {count} of 4 images: {subject.author.explain(error)}"
            return
        if alone.shape[0] != count:
            yield f"{subject.name} gives {alone.shape[0]} vectors for {count} images"
            return
        if not is_close(together[:count], alone):
            culprit = first_difference(built.steps(images), built.steps(images[:count]), slice(0, count))
            told = f": {built.told(culprit)} mixes them" if culprit is not None else ""
            yield f"the features of an image depend on the other images of its batch{told}"
            return


def _is_quiet(subject: ArchitectureSubject) -> Iterator[str]:
    built, images = subject.build(), drawn_images(subject.shape(), 3)
    for layer in built.always_training():
        if not isinstance(layer, keras.layers.BatchNormalization):
            yield (
                f"{subject.name} gives other features each time, in inference too: {built.told(layer)}; leave out "
                "training=True"
            )
            return
    before, plain = [digest(np.asarray(variable)) for variable in built.own_variables], built.attributes()
    first = built.steps(images)
    second = built.steps(images)
    after = [digest(np.asarray(variable)) for variable in built.own_variables]
    if not is_close(first[-1].given.astype("float32"), second[-1].given.astype("float32")):
        culprit = first_difference(first, second)
        told = f": {built.told(culprit)}" if culprit is not None else ""
        kind = "Dropout" in type(culprit).__name__ or "Noise" in type(culprit).__name__
        hint = (
            "; leave out training=True" if kind else "; in inference (training=False) nothing may be drawn or counted"
        )
        yield f"{subject.name} gives other features each time, in inference too{told}{hint}"
        return
    moved = [each for each, one, other in zip(built.own_variables, before, after, strict=True) if one != other]
    for variable in moved:
        yield f"inference changes {built.told_variable(variable)}: only training may"
    built.run(images, training=True)
    for told in built.attributes().keys() & plain.keys():
        if built.attributes()[told] != plain[told]:
            yield (
                f"{told} changes when the network is called: what is kept between calls must be a variable of it "
                "or it is lost in a pause, and does not change in a compiled step"
            )


def _scales_once(subject: ArchitectureSubject) -> Iterator[str]:
    if subject.architecture.pixel_scaling == "0 to 255":
        return  # it says that it scales them itself
    built, images = subject.built(), drawn_images(subject.shape(), 8)
    given = _given_pixels(built, images)
    seen: list[tuple[Any, np.ndarray, np.ndarray]] = []

    def see(operation: Any, arguments: tuple[Any, ...], result: Any) -> None:
        if arguments and all(_is_batch(each, len(images)) for each in (arguments[0], result)):
            seen.append((operation, np.asarray(arguments[0]), np.asarray(result)))

    with _watched(see):
        built.features(images, training=False)
    first = next((index for index, (each, _, _) in enumerate(seen) if _has_kernel(each)), None)
    if first is None or given.std() == 0:
        return
    reader, read, _ = seen[first]
    is_small = read.std() < _SCALED_AGAIN * given.std()
    is_far = read.std() > 0 and abs(read.mean()) > 20 * read.std()
    if not (is_small or is_far):
        return
    scaler = next((each for each, _, result in seen[:first] if _is_scaled_again(result, given)), None)
    by = f", by {built.told(scaler)}" if scaler is not None else ""
    yield (
        f"the pixels are scaled twice: {subject.name} gets them scaled by `preprocess` or by its pixel_scaling (here "
        f"from {given.min():.3g} to {given.max():.3g}), and {built.told(reader)} reads them from {read.min():.3g} to "
        f"{read.max():.3g}{by}; leave the scaling inside out"
    )


def _is_batch(tensor: Any, count: int) -> bool:
    shape: Any = getattr(tensor, "shape", ())
    kind = str(getattr(tensor, "dtype", ""))
    return len(shape) > 1 and shape[0] == count and "float" in kind


def _has_kernel(operation: Any) -> bool:
    return any(len(variable.shape) >= 2 for variable in getattr(operation, "trainable_variables", ()))


def _is_scaled_again(result: np.ndarray, given: np.ndarray) -> bool:
    spread = result.std()
    return bool(spread < _SCALED_AGAIN * given.std() or abs(result.mean()) > 20 * spread)


def _given_pixels(built: Built, images: np.ndarray) -> np.ndarray:
    """Return what the author's network gets for raw images."""
    pixels = built.network.pixels
    if pixels is None:
        return images.astype("float32") / 255
    return np.asarray(keras.ops.convert_to_numpy(keras.Model(built.network.model.inputs[0], pixels)(images)))


def _tells_no_classes(subject: ArchitectureSubject) -> Iterator[str]:
    built = subject.built()
    features = built.run(drawn_images(subject.shape(), 8))
    last = built.features.outputs[0]._keras_history.operation
    activation = getattr(getattr(last, "activation", None), "__name__", "")
    is_share = features.min() >= 0 and np.allclose(features.sum(axis=1), 1, atol=1e-3)
    is_log = features.max() <= 0 and np.allclose(np.exp(features).sum(axis=1), 1, atol=1e-3)
    if (
        is_share
        or is_log
        or (activation in ("softmax", "sigmoid", "log_softmax") and isinstance(last, keras.layers.Dense))
    ):
        yield (
            f"{subject.name} ends in {activation or 'a softmax'}, in {built.told(last)}: return the features before "
            "it; tuner puts the class layer on them itself"
        )


def _is_finite(subject: ArchitectureSubject) -> Iterator[str]:
    shape = subject.shape()
    for preprocess in ("scale(0,1)", "scale(-1,1)"):
        built = subject.build({"preprocess": preprocess})
        for words, images in plain_images(shape).items():
            for training in (False, True):
                if not np.isfinite(built.run(images, training=training)).all():
                    mode = "training" if training else "inference"
                    yield (
                        f"{subject.name} gives features that are not finite for {words} with preprocess {preprocess} "
                        f"in {mode}{not_finite(built, images, training)}"
                    )
                    return


def plain_images(shape: tuple[int, int, int]) -> dict[str, np.ndarray]:
    """Return raw images that are likely to give what is not finite, by the words for them."""
    return {
        "black images": np.zeros((2, *shape), np.uint8),
        "white images": np.full((2, *shape), 255, np.uint8),
        "images": drawn_images(shape, 2),
    }


def not_finite(built: Built, images: np.ndarray, training: bool = False) -> str:
    """Return which operation first gives something that is not finite, as `: layer ...`."""
    for step in built.steps(images, training=training):
        if step.given.dtype.kind == "f" and not np.isfinite(step.given).all():
            return f": {built.told(step.operation)} gives the first"
    return ""


def _trains(subject: ArchitectureSubject) -> Iterator[str]:
    built = subject.build()
    frozen = [layer for layer in built.layers() if not layer.trainable and _own_trained(layer)]
    if frozen and built.network.backbone is None:
        yield (
            f"{built.told(frozen[0])} is frozen (trainable=False), but all of a network from scratch is trained; "
            "declare pixel_scaling and return the keras.Model: then it is a backbone, frozen below unfreeze_depth"
        )
    model = trainable(built)
    weights = [variable for variable in built.own_variables if variable.trainable]
    if not weights:
        yield f"{subject.name} has no weights that are trained: nothing of it is learned but the class layer above it"
        return
    start = [np.asarray(variable) for variable in weights]
    moved = [False] * len(weights)
    labels = _labels(6)
    for number in range(_STEPS):
        images = drawn_images(subject.shape(), 6, number)
        images[-2], images[-1] = 0, 255
        loss = train_step(built, model, images, labels)
        now = [np.asarray(variable) for variable in weights]
        broken = [variable for variable, value in zip(weights, now, strict=True) if not np.isfinite(value).all()]
        if not np.isfinite(loss) or broken:
            what = f"{built.told_variable(broken[0])} is not finite" if broken else f"the loss is {loss}"
            yield f"after {number + 1} steps of training {what}: a gradient is not finite"
            return
        moved = [was or not np.array_equal(one, other) for was, one, other in zip(moved, start, now, strict=True)]
        if all(moved):
            return
    for variable, has_moved in zip(weights, moved, strict=True):
        if not has_moved:
            yield (
                f"no gradient reaches {built.told_variable(variable)}: it is never used, or what follows it has no "
                "gradient (rounding, argmax, a cast to whole numbers, stop_gradient)"
            )


def _own_trained(layer: Any) -> bool:
    """Return whether a layer has weights of its own that would be trained."""
    return bool(layer._trainable_variables)


SEES_IMAGES = Check("images", "the features depend on all of the images", _sees_images)
EACH_BY_ITSELF = Check("batches", "the features of an image do not depend on the other images", _each_by_itself)
QUIET_INFERENCE = Check("inference", "gives the same features each time, without dropout", _is_quiet)
SCALES_ONCE = Check("pixel values", "pixels are scaled once", _scales_once)
NO_CLASSES = Check("class layer", "ends before the class layer", _tells_no_classes)
FINITE = Check("finite", "gives finite features, for black and white images too", _is_finite)
TRAINS = Check("training", "every weight is trained", _trains)
