"""The contract of every augmentation: a function of a batch and a seed that keeps its form. Light: no Keras."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from tuner.contracts.check import Check
from tuner.contracts.preprocessing import OperationSubject
from tuner.models.augment.operations import AUGMENTATION, Batch, OnBatch
from tuner.models.augmentation import parse_augment

_SHAPES = ((8, 32, 32, 3), (8, 28, 20, 1), (1, 16, 16, 3))
_SLACK = 1e-3


def drawn_batch(shape: tuple[int, ...] = _SHAPES[0]) -> tuple[np.ndarray, np.ndarray]:
    """Return raw images of all brightnesses, and labels of as many classes."""
    images = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    return images, np.eye(max(2, shape[0]), dtype=np.float32)[: shape[0]]


def _apply(text: str, images: np.ndarray, labels: np.ndarray, seed: int = 5) -> Batch:
    """Return what an operation makes of a batch: of own code as it is returned, before it becomes bytes."""
    augment = parse_augment(text)
    for call in augment.calls:  # none where a strength is nothing
        if isinstance(call.operation.effect, OnBatch):
            return call.operation.effect.apply(call.values, images, labels, np.random.default_rng([seed, 0]))
    return augment.apply(images, labels, seed)


def _keeps_form(subject: OperationSubject) -> Iterator[str]:
    for text in subject.texts():
        for shape in _SHAPES:
            images, labels = drawn_batch(shape)
            try:
                found, told = _apply(text, images, labels)
            except Exception as error:  # noqa: BLE001  the code of others may raise anything
                yield f"{text} fails for images {list(shape)}: {subject.author.explain(error)}"
                break
            if problem := form_problem(found, told, images, labels):
                yield f"{text} {problem}"
                break
            if text == subject.text and found.max() <= 1:
                yield f"{text} gives pixels in 0 to 1; they are in 0 to 255, before and after an augmentation"
                break


def form_problem(found: np.ndarray, told: np.ndarray, images: np.ndarray, labels: np.ndarray) -> str:
    """Return what is wrong with the form of augmented images and labels; empty: nothing."""
    for what, one, before in (("images", found, images), ("labels", told, labels)):
        if not isinstance(one, np.ndarray):
            return f"must give {what} as an array of numpy; it gives {type(one).__name__}"
        if one.shape != before.shape:
            return f"must keep the shape of {what}: {list(before.shape)} became {list(one.shape)}"
        if one.dtype != np.float32 and (what == "labels" or one.dtype != np.uint8):
            return f'must give {what} as float32; it gives {one.dtype}: end with .astype("float32")'
        if not np.isfinite(one).all():
            return f"gives {what} that are not finite"
    if found.size and (found.min() < -_SLACK or found.max() > 255 + _SLACK):
        return f"must keep pixels in 0 to 255; it gives {found.min():.4g} to {found.max():.4g}: np.clip(images, 0, 255)"
    if len(told) and not np.allclose(told.sum(axis=1), 1, atol=1e-4):
        return "must give labels that add up to 1 for each image"
    return ""


def _leaves_input(subject: OperationSubject) -> Iterator[str]:
    """Look at what own code does to its input, although it is given copies: it may be called elsewhere."""
    images, labels = (np.asarray(one, dtype=np.float32) for one in drawn_batch())
    before, calls = (images.copy(), labels.copy()), list[tuple[Any, Any, Any]]()
    with _spied(subject, calls):
        _apply(subject.text, images, labels)
    for given, kept, made in calls or [((images, labels), before, None)]:
        for what, one, was in zip(("images", "labels"), given, kept, strict=False):
            if isinstance(one, np.ndarray) and not np.array_equal(one, was):
                yield f"{subject.name} changes the {what} that it is given: change a copy ({what}.copy()) instead"
        for what, one in zip(("images", "labels"), made if isinstance(made, tuple) else (made,), strict=False):
            if isinstance(one, np.ndarray) and one.dtype.kind != "f" and (what == "labels" or one.dtype != np.uint8):
                yield f"{subject.name} returns {what} of {one.dtype}: what lies between whole numbers is lost"


@contextmanager
def _spied(subject: OperationSubject, calls: list[tuple[Any, Any, Any]]) -> Iterator[None]:
    """Note what the author's function is given, what that was before, and what it returns."""
    effect = getattr(AUGMENTATION[subject.name].effect, "apply", None)
    names = getattr(getattr(effect, "__code__", None), "co_freevars", ())
    cells = getattr(effect, "__closure__", None) or ()
    cell = next((cell for name, cell in zip(names, cells, strict=True) if name == "function"), None)
    if cell is None:  # it is tuner's own
        yield
        return
    function = cell.cell_contents

    def call(*arguments: Any, **options: Any) -> Any:
        kept = tuple(one.copy() if isinstance(one, np.ndarray) else one for one in arguments)
        made = function(*arguments, **options)
        calls.append((arguments, kept, made))
        return made

    cell.cell_contents = call
    try:
        yield
    finally:
        cell.cell_contents = function


def _follows_seed(subject: OperationSubject) -> Iterator[str]:
    images, labels = drawn_batch()
    state = _global_state()
    first = _apply(subject.text, images, labels, 5)
    if _global_state() != state:
        calls = subject.author.calls(r"(np|numpy)\.random\.(?!default_rng|Generator)\w+")
        yield f"{subject.name} uses the one generator of numpy{calls}: draw from the generator that it is given"
    again = _apply(subject.text, images, labels, 5)
    other = _apply(subject.text, images, labels, 6)
    if not all(np.array_equal(one, another) for one, another in zip(first, again, strict=True)):
        yield (
            f"{subject.name} gives other images for the same seed: all that is random must come from the generator "
            "that it is given, and nothing may be kept between calls"
        )
    elif np.array_equal(first[0], other[0]):
        yield f"{subject.name} gives the same images for every seed: nothing in it is drawn from the generator"


def _global_state() -> tuple[int, int]:
    _, keys, position, *_ = np.random.get_state()  # noqa: NPY002  it is watched, not used
    return hash(np.asarray(keys).tobytes()), int(position)


def _changes_images(subject: OperationSubject) -> Iterator[str]:
    images, labels = drawn_batch((64, 9, 11, 3))
    changes = _apply(subject.text, images, labels)[0] - images.astype(np.float32)
    if not changes.any():
        yield f"{subject.name} changes nothing"
    same = np.repeat(images[:1], 64, axis=0)
    altered = _apply(subject.text, same, labels)[0]
    if changes.any() and len({one.tobytes() for one in altered}) == 1 and not _mixed(subject).any():
        yield f"{subject.name} changes all images alike: draw for each, with size=len(images)"


def _mixes_labels(subject: OperationSubject) -> Iterator[str]:
    images, labels = drawn_batch()
    told, is_mixed = _apply(subject.text, images, labels)[1], _mixed(subject)
    is_told = (told != labels).any(axis=1)
    says = AUGMENTATION[subject.name].mixes_labels
    if is_told.any() and not says:
        yield f"{subject.name} changes labels, but does not say so: @tuner.augmentation(mixes_labels=True)"
    if (is_mixed & ~is_told).any():
        yield (
            f"{subject.name} puts parts of other images into an image, and leaves its label as it was: mix labels in "
            "the same shares, or change each image by itself"
        )
    elif says and not is_told.any():
        yield f"{subject.name} says that it mixes labels, and leaves them all as they were"


def _mixed(subject: OperationSubject) -> np.ndarray:
    """Return for each image of a batch whether others make a difference to it; none, if the same seed gives others."""
    images, labels = drawn_batch()
    found, again = (_apply(subject.text, images, labels)[0] for _ in range(2))
    is_mixed = np.zeros(len(images), bool)
    for place in range(len(images) if np.array_equal(found, again) else 0):
        others = images.copy()
        others[place] = 255 - images[place]
        reached = (_apply(subject.text, others, labels)[0] != found).any(axis=(1, 2, 3))
        reached[place] = False
        is_mixed |= reached
    return is_mixed


AUGMENTATION_CHECKS: tuple[Check[OperationSubject], ...] = (
    Check("form", "keeps shape, kind and the range 0 to 255, at the ends of its arguments too", _keeps_form, True),
    Check("input", "leaves the images and labels that it is given as they are", _leaves_input),
    Check("seed", "gives the same for the same seed and something else for another", _follows_seed),
    Check("change", "changes each image in its own way", _changes_images),
    Check("labels", "changes labels where it mixes images, and says so", _mixes_labels),
)
