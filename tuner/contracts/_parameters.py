"""Hyperparameters of an architecture: it takes their whole ranges, and each makes a difference."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tuner.contracts._behaviour import not_finite, plain_images
from tuner.contracts.check import Check
from tuner.contracts.drawn import digest, drawn_images
from tuner.contracts.networks import ArchitectureSubject
from tuner.models.parameters import Parameter

_LARGER, _FAR_LARGER = 4, 32
"""Images so many times larger are tried, where the author's own code refuses smaller ones; then without numbers."""
_MOST_VALUES = 8
_MOST_COMPANIONS = 24


@dataclass(frozen=True)
class Variant:
    """The fate of one set of values: a fingerprint of all that can be seen of the network, or why there is none."""

    fingerprint: str = ""
    error: Exception | None = None
    is_not_finite: str = ""


def _variant(subject: ArchitectureSubject, changes: Mapping[str, Any]) -> Variant:
    key = json.dumps(dict(changes), sort_keys=True, default=str)
    if key not in subject.variants:
        try:
            subject.variants[key] = _look_at(subject, changes)
        except Exception as error:  # noqa: BLE001  the code of others may raise anything
            subject.variants[key] = Variant(error=error)
    variant: Variant = subject.variants[key]
    return variant


def _look_at(subject: ArchitectureSubject, changes: Mapping[str, Any]) -> Variant:
    if changes and (shapes := subject.shapes_if_large(changes)):
        return Variant(str(shapes))
    built, images = subject.build(changes), drawn_images(subject.shape(), 4)
    parts = [_config(built.features), str([tuple(variable.shape) for variable in built.own_variables])]
    problem = ""
    for words, plain in plain_images(subject.shape()).items():
        if not problem and not np.isfinite(built.run(plain)).all():
            problem = f"features that are not finite for {words}{not_finite(built, plain)}"
    parts.append(digest(built.run(images)))
    for _ in range(3):
        given = built.run(images, training=True)
        parts.append(digest(given))
        if not problem and not np.isfinite(given).all():
            problem = f"features that are not finite in training{not_finite(built, images, training=True)}"
    parts.append(str([float(np.asarray(loss)) for loss in built.features.losses]))
    return Variant("\n".join(parts), is_not_finite=problem)


def _config(model: Any) -> str:
    try:
        return json.dumps(model.get_config(), sort_keys=True, default=str)
    except Exception:  # noqa: BLE001  whether it can be saved is another check
        return ""


def ends_of(parameter: Parameter) -> list[Any]:
    """Return the values at which a hyperparameter is tried: both ends of a range, or each that can be chosen."""
    if parameter.kind == "bool":
        return [False, True]
    if parameter.kind == "choice":
        return list(parameter.values[:_MOST_VALUES])
    return [end for end in (parameter.low, parameter.high) if end is not None]


def _takes_ranges(subject: ArchitectureSubject) -> Iterator[str]:
    for name, parameter in subject.parameters.items():
        for value in ends_of(parameter):
            variant = _variant(subject, {name: value})
            if variant.error is not None and not _is_of_size(subject, {name: value}, variant.error):
                yield f"{name}={value!r} fails: {subject.author.explain(variant.error)}"
            elif variant.is_not_finite:
                yield f"{name}={value!r} gives {variant.is_not_finite}"


def _is_of_size(subject: ArchitectureSubject, changes: Mapping[str, Any], error: Exception) -> bool:
    """Return whether the author's own code refuses these values for small images only, as it may."""
    if not subject.author.is_refusal(error):
        return False
    if subject.takes(changes, _FAR_LARGER * subject.px):
        return True
    try:
        subject.build(changes, subject.shape(px=_LARGER * subject.px))
    except Exception:  # noqa: BLE001  the code of others may raise anything
        return False
    return True


def _uses_each(subject: ArchitectureSubject) -> Iterator[str]:
    for name, parameter in subject.parameters.items():
        values = _apart(parameter)
        if subject.function is not None and not subject.author.reads(subject.function, name):
            yield f"{name} has no effect: its function never reads it; a search would try values of it for nothing"
            continue
        if len(values) < 2 or any(_differs(subject, name, values, one) for one in _companions(subject, name)):
            continue
        pair = f"{values[0]!r} and {values[-1]!r} give one network"
        yield f"{name} has no effect: {pair}; a search would try values of it for nothing"


def _apart(parameter: Parameter) -> list[Any]:
    values = [*ends_of(parameter), parameter.default]
    return [value for place, value in enumerate(values) if value not in values[:place] or isinstance(value, bool)][:4]


def _companions(subject: ArchitectureSubject, name: str) -> Iterator[Mapping[str, Any]]:
    """Yield values of the other hyperparameters beside which one may have an effect: the defaults, then others."""
    yield {}
    others = [
        {other: value}
        for other, parameter in subject.parameters.items()
        if other != name
        for value in ends_of(parameter)
    ]
    yield from others[:_MOST_COMPANIONS]
    yield {key: value for one in others[::-1] for key, value in one.items()}  # all at their lower ends
    yield {key: value for one in others for key, value in one.items()}  # and at their upper ends


def _differs(subject: ArchitectureSubject, name: str, values: list[Any], companions: Mapping[str, Any]) -> bool:
    """Return whether some two of the values give different networks beside the same others; an error tells nothing."""
    found = [_variant(subject, {**companions, name: value}) for value in values]
    usable = {one.fingerprint for one in found if one.error is None}
    return len(usable) > 1


RANGES = Check("ranges", "takes both ends of every range, and gives finite features there", _takes_ranges)
USED = Check("used parameters", "each parameter makes a difference", _uses_each)
