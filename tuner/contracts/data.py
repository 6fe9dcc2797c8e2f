"""The contracts of own metrics and own sources: what a search takes for granted of a number, and of images."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tuner.common.errors import DataError
from tuner.common.metrics import Metric, is_better
from tuner.contracts.author import Author
from tuner.contracts.check import Check
from tuner.contracts.drawn import digest
from tuner.datasets.images import decode_image
from tuner.datasets.sources import Listed, Listing, Source

_CLASSES = (2, 3, 10)
_IMAGES = 60
_DECODED = 20


# --- metrics ---


@dataclass(frozen=True)
class MetricSubject:
    """A registered metric, and what its author calls it."""

    name: str
    metric: Metric
    author: Author

    def value(self, labels: np.ndarray, probabilities: np.ndarray) -> float:
        """Return the metric of copies, so that one check does not disturb the next."""
        return self.measure(labels.copy(), probabilities.copy())

    def measure(self, labels: np.ndarray, probabilities: np.ndarray) -> float:
        """Return the metric of the very arrays."""
        return math.nan if self.metric.measure is None else float(self.metric.measure(labels, probabilities))

    def drawn(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield labels and probabilities of some numbers of classes, mostly right."""
        for classes in _CLASSES:
            if classes >= self.metric.least_classes:
                yield _answers(np.arange(_IMAGES) % classes, classes)


def _answers(labels: np.ndarray, classes: int) -> tuple[np.ndarray, np.ndarray]:
    scores = np.random.default_rng(classes).gumbel(size=(len(labels), classes)) + 2.0 * np.eye(classes)[labels]
    shares = np.exp(scores)
    return labels.astype(np.int64), (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)


def _gives_number(subject: MetricSubject) -> Iterator[str]:
    for labels, probabilities in subject.drawn():
        value = subject.value(labels, probabilities)
        if not math.isfinite(value):
            yield f"{subject.name} gives {value} for {probabilities.shape[1]} classes; it must give a finite number"
        elif subject.metric.unit == "share" and not 0 <= value <= 1:
            yield f'{subject.name} gives {value:.4g}; with unit="share" it must be between 0 and 1'


def _is_repeated(subject: MetricSubject) -> Iterator[str]:
    for labels, probabilities in subject.drawn():
        given = (labels.copy(), probabilities.copy())
        values = [subject.measure(*given) for _ in range(2)]
        if not (np.array_equal(given[0], labels) and np.array_equal(given[1], probabilities)):
            yield f"{subject.name} changes the labels or probabilities that it is given: let it work on copies"
        elif len({*values, subject.value(labels, probabilities)}) > 1:
            yield f"{subject.name} gives another value for the same answers each time: it must draw and keep nothing"


def _is_of_a_set(subject: MetricSubject) -> Iterator[str]:
    for labels, probabilities in subject.drawn():
        order = np.random.default_rng(0).permutation(len(labels))
        one, other = subject.value(labels, probabilities), subject.value(labels[order], probabilities[order])
        if not math.isclose(one, other, rel_tol=1e-4, abs_tol=1e-6):
            yield f"{subject.name} depends on the order of the images: {one:.6g}, and {other:.6g} in another order"


def _has_direction(subject: MetricSubject) -> Iterator[str]:
    for labels, probabilities in subject.drawn():
        classes = probabilities.shape[1]
        right, wrong = (
            subject.value(labels, 0.98 * np.eye(classes, dtype=np.float32)[told % classes] + np.float32(0.02 / classes))
            for told in (labels, labels + 1)
        )
        mode = subject.metric.mode
        if is_better(wrong, right, mode):
            yield (
                f"{subject.name} is {right:.4g} where every answer is right, and {wrong:.4g} where every one is wrong: "
                f'with mode="{mode}" a search would look for the wrong ones; '
                f'say mode="{"min" if mode == "max" else "max"}"'
            )


def _bears_little(subject: MetricSubject) -> Iterator[str]:
    """Yield what goes wrong with few images, classes without images, and answers that are sure to the last."""
    classes, present = max(3, subject.metric.least_classes), max(1, subject.metric.least_present)
    few = np.arange(max(4, 2 * present)) % present
    sure = np.eye(classes, dtype=np.float32)[few]
    cases = {
        f"a split with images of {present} of {classes} classes": _answers(few, classes),
        "answers that are sure and right": (few.astype(np.int64), sure),
        "answers that are sure and wrong": (few.astype(np.int64), np.roll(sure, 1, axis=1)),
    }
    for words, (labels, probabilities) in cases.items():
        try:
            value = subject.value(labels, probabilities)
        except Exception as error:  # noqa: BLE001  a metric of others: it is told as the problem, and the other cases tried
            yield f"{subject.name} fails for {words}: {subject.author.explain(error)}{_HINT}"
        else:
            if not math.isfinite(value):
                yield f"{subject.name} gives {value} for {words}{_HINT}"


_HINT = "; a metric that needs more classes says least_classes or least_present"
METRIC_CHECKS: tuple[Check[MetricSubject], ...] = (
    Check("value", "gives a finite number, a share between 0 and 1", _gives_number, True),
    Check("again", "is the same for the same answers, and leaves these as they are", _is_repeated),
    Check("order", "does not depend on the order of the images", _is_of_a_set),
    Check("direction", "is better for right answers than for wrong ones", _has_direction),
    Check("edges", "gives a number for few images and sure answers too", _bears_little),
)


# --- sources ---


@dataclass(frozen=True)
class SourceSubject:
    """A registered source, what it is given to read, and what its author calls it."""

    name: str
    source: Source
    reference: str
    author: Author

    def read(self) -> Listing:
        """Return the listing."""
        return self.source.read(self.reference)


def _is_listed(subject: SourceSubject) -> Iterator[str]:
    listing = subject.read()
    used = {int(label) for split in listing.splits.values() for label in np.unique(split.labels)}
    if len(used) < 2:
        yield f"{subject.name} has images of {len(used)} class; to be told apart there must be two"
    in_train = {int(label) for label in np.unique(listing.splits["train"].labels)}
    for name in sorted(used - in_train):
        yield f"{subject.name} has no image of the class {listing.class_names[name]} to train on"


def _is_identified(subject: SourceSubject) -> Iterator[str]:
    one, other = (subject.source.identity(subject.reference) for _ in range(2))
    if json.dumps(one, sort_keys=True) != json.dumps(other, sort_keys=True):
        yield (
            f"the identity of {subject.name} is another each time, so that its images would be prepared and its "
            "activations computed anew for each search: it must follow from the data"
        )


def _is_read_again(subject: SourceSubject) -> Iterator[str]:
    one, other = subject.read(), subject.read()
    for name, split in one.splits.items():
        if name not in other.splits or _content(split) != _content(other.splits[name]):
            yield f"{subject.name} gives other images, labels or another order of {name} each time it is read"


def _content(split: Listed) -> list[str]:
    return [digest(split.labels), *(_image_digest(split, row) for row in range(len(split.labels)))]


def _image_digest(split: Listed, row: int) -> str:
    if split.pixels is not None:
        return digest(split.pixels[row])
    image: Any = split.encoded[row]
    return digest(np.frombuffer(image.read_bytes() if isinstance(image, Path) else bytes(image), np.uint8))


def _is_decoded(subject: SourceSubject) -> Iterator[str]:
    for name, split in subject.read().splits.items():
        if split.pixels is not None:
            continue
        for row in range(min(_DECODED, len(split.labels))):
            try:
                decode_image(split.encoded[row], None, False)
            except DataError as error:
                yield f"{split.name(row)} of {name} {error}"


def _is_parted(subject: SourceSubject) -> Iterator[str]:
    seen: dict[str, str] = {}
    for name, split in subject.read().splits.items():
        own = {_image_digest(split, row) for row in range(len(split.labels))}
        for other in sorted({seen[one] for one in own & seen.keys()}):
            number = sum(seen.get(one) == other for one in own)
            yield f"{subject.name} has {number} images in {name} that are in {other} too: what is tested was trained on"
        seen |= dict.fromkeys(own, name)


SOURCE_CHECKS: tuple[Check[SourceSubject], ...] = (
    Check("listing", "gives images and labels of two classes or more, each with images to train on", _is_listed, True),
    Check("identity", "has an identity that is the same as long as the data are", _is_identified),
    Check("again", "gives the same images in the same order each time", _is_read_again),
    Check("images", "gives images that can be decoded", _is_decoded),
    Check("splits", "has no image in two splits", _is_parted),
)
