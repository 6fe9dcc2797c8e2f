"""The schema of all sections of a search-space file but `space`, and our messages for what is wrong in one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import NoneType
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic.fields import FieldInfo

from tuner.common.errors import InputError
from tuner.common.metrics import DEFAULT_METRIC, epoch_objectives, objectives
from tuner.common.registry import NEVER_NOTHING, is_nothing, unknown_name
from tuner.spec.strengths import Finding, Path


@dataclass(frozen=True)
class Nothing:
    """A mark of a setting that can be nothing, where its type does not say how."""

    meaning: Any


def meanings_of_nothing(field: FieldInfo) -> list[Any]:
    """Return how a setting is kept when a file says that it is nothing; none where it cannot be."""
    marked = [mark.meaning for mark in field.metadata if isinstance(mark, Nothing)]
    kinds = _kinds(field.annotation)
    of_kinds: dict[Any, Any] = {NoneType: None, "none": "none", "never": "never", bool: False, list: []}
    return marked or [meaning for kind, meaning in of_kinds.items() if kind in kinds][:1]


def _kinds(annotation: Any) -> list[Any]:
    """Return the types of a union, and the words of a Literal."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return list(parts)
    if origin is Annotated:
        return _kinds(parts[0])
    return [kind for part in parts for kind in _kinds(part)] if parts and origin is not list else [origin or annotation]


class Section(BaseModel):
    """Base of the sections: unknown settings are refused; nothing is converted but the words for nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    without: ClassVar[dict[str, Any] | None] = None
    """The settings of a section that is nothing; None where it cannot be."""

    @field_validator("*", mode="before")
    @classmethod
    def _read_nothing(cls, value: Any, info: ValidationInfo) -> Any:
        field = cls.model_fields[str(info.field_name)]
        if is_nothing(value):
            return next(iter(meanings_of_nothing(field)), value)
        is_yes = (
            bool in _kinds(field.annotation) and isinstance(value, str) and value.casefold() in ("yes", "on", "true")
        )
        return True if is_yes else value


_PART = r"([0-9]{1,9}(?:\.[0-9]{1,6})?)"
_TIME = re.compile(f"(?:{_PART}h)?(?:{_PART}m)?(?:{_PART}s)?")
_LONGEST_S = 1e10
"""A record takes no longer times, and nobody has them: centuries."""


def _to_seconds(value: Any) -> Any:
    """Return `2h`, `20m`, `90s`, `1h30m` or a number of seconds as seconds."""
    if value is None:
        return None
    seconds = 0.0
    if isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value)
    elif isinstance(value, str) and (match := _TIME.fullmatch(value)):
        seconds = sum(float(part) * unit for part, unit in zip(match.groups(), (3600, 60, 1), strict=True) if part)
    if not 0 < seconds <= _LONGEST_S:
        raise ValueError("must be a time such as 90s, 20m, 2h or 1h30m, or none")
    return seconds


def _to_duration(value: Any) -> Any:
    """Return a time that must be given as seconds."""
    if is_nothing(value):
        return value
    try:
        return _to_seconds(value)
    except ValueError:
        raise ValueError("must be a time such as 90s, 20m, 2h or 1h30m") from None


def _to_float(value: Any) -> Any:
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def read_time(text: str, what: str) -> float | None:
    """Return a time of a command line in seconds, None for the words for nothing; an InputError calls it `what`."""
    try:
        seconds: float | None = _to_seconds(None if is_nothing(text) else text)
    except ValueError as error:
        raise InputError(f"{what} {error}; got {text[:60]!r}") from None
    return seconds


Number = Annotated[float, BeforeValidator(_to_float)]
Seconds = Annotated[float | None, BeforeValidator(_to_seconds)]
Duration = Annotated[float, BeforeValidator(_to_duration)]
Auto = Literal["auto"]
AUTO: Auto = "auto"
Value = TypeVar("Value")


def given(value: Value | Auto) -> Value | None:
    """Return what a file gives for a setting; None where it leaves the setting to `auto`."""
    return None if value == AUTO else value


STUDY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
"""Names that a study can have; its runs have this name, or this name and a number: `STUDY-2`."""


def _safe_name(value: str) -> str:
    if not STUDY_NAME.fullmatch(value):
        raise ValueError("must be at most 64 letters, digits, '_', '-' or '.', beginning with a letter or digit")
    return value


def _metric(value: str) -> str:
    if value not in epoch_objectives():
        is_later = value in objectives()
        raise ValueError(_first_rule() if is_later else unknown_name("metric", value, epoch_objectives()))
    return value


def _first_rule() -> str:
    *names, last = objectives()[len(epoch_objectives()) :]
    first = ", ".join(epoch_objectives())
    return (
        f"must be one of {first}, which epochs measure; {', '.join(names)} and {last} can follow it in metrics: [...]"
    )


class ValidationSection(Section):
    """The folds that training images are parted into: each is once the validation split."""

    folds: Annotated[int, Field(ge=2, le=20)]


class ColumnsSection(Section):
    """The names of the columns of a table by what they mean; none: a usual name."""

    path: str | None = None
    label: str | None = None
    split: str | None = None
    group: str | None = None
    weight: str | None = None


class DataSection(Section):
    """The source of the images and how they are split."""

    source: str
    validation_fraction: Annotated[Number, Field(gt=0, lt=1)] = 0.1
    image_px: Annotated[int, Field(ge=4, le=2048)] | None = None
    colour: Literal["auto", "rgb", "grey"] = "auto"
    broken_images: Literal["fail", "skip"] = "fail"
    max_train_images: Annotated[int, Field(ge=2)] | None = None
    max_validation_images: Annotated[int, Field(ge=2)] | None = None
    layout: Literal["auto", "classes", "splits"] = "auto"
    storage: Literal["auto", "arrays", "encoded"] = "auto"
    jpeg_quality: Annotated[int, Field(ge=1, le=100)] | None = None
    validation: ValidationSection | None = None
    columns: ColumnsSection | None = None
    group: str | None = None
    fit: Literal["crop", "pad", "stretch"] = "crop"


class EarlyStoppingSection(Section):
    """Early stopping as in Keras: the metric must improve by more than `min_delta` within `patience` epochs."""

    patience: Annotated[int, Field(ge=1)] = 5
    min_delta: Annotated[Number, Field(ge=0), Nothing(0.0)] = 1e-4


class TrainingSection(Section):
    """The length of a trial's training, its early stopping, and where its images are augmented."""

    max_epochs: Annotated[int, Field(ge=1, le=100_000)] = 30
    head_epochs: Annotated[int, Field(ge=1)] = 3
    early_stopping: EarlyStoppingSection | None = EarlyStoppingSection()
    augment_on: Literal["auto", "host", "device"] = "auto"


class StopWhenSection(Section):
    """The end of a search that gains little more: of its metric, expected in the time to come."""

    expected_gain_below: Annotated[Number, Field(gt=0, allow_inf_nan=False)]
    within: Duration


class SearchSection(Section):
    """The choice of configurations, of the trials that go on, and of the end of the search."""

    sampler: str = "auto"
    scheduler: Annotated[str, Nothing("none")] = "auto"
    trials: Annotated[int, Field(ge=1, le=1_000_000)] = 64
    time_budget: Seconds = None
    stop_when: StopWhenSection | None = None
    max_concurrent: Annotated[int, Field(ge=1)] | Auto = "auto"
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    grace_epochs: Annotated[int, Field(ge=1)] | Auto = "auto"
    reduction_factor: Annotated[int, Field(ge=2, le=100)] | Auto = "auto"
    warm_start: list[str] = []
    prior: Annotated[Literal["auto", "shipped", "none"], Nothing("none")] = "auto"
    improvement_per_second: bool | Auto = "auto"
    hung_after_epochs: Annotated[Number, Field(ge=2)] | Literal["never"] = 20.0
    probe: bool | Auto = "auto"


class ResourcesSection(Section):
    """The resources that one trial occupies."""

    cpus_per_trial: Annotated[Number, Field(gt=0, le=4096)] | Auto = "auto"
    gpus_per_trial: Annotated[Annotated[Number, Field(ge=0, le=4096)] | Auto, Nothing(0.0)] = "auto"
    memory_gb_per_trial: Annotated[Number, Field(gt=0)] | Literal["auto", "none"] = "auto"

    @field_validator("gpus_per_trial")
    @classmethod
    def _no_gpu_is_parted_beside_whole_ones(cls, value: float | Auto) -> float | Auto:
        if value != "auto" and value > 1 and value % 1:
            raise ValueError(
                "must be a share of one GPU, such as 0.5, or a whole number of GPUs that train a trial together"
            )
        return value


class ActivationsSection(Section):
    """The cache of activations of frozen layers, which are read instead of being computed in every epoch."""

    without = {"enabled": False}
    enabled: bool = True
    dtype: Literal["float16", "float32"] = "float16"
    views: Annotated[int, Field(ge=1, le=1000)] | None = None
    max_gb: Annotated[Number, Field(gt=0)] = 50.0


class FinalistsSection(Section):
    """The number of best trials that are trained again before the test split is read, and of their seeds.

    With folds, each is trained once on each fold instead.
    """

    without = {"count": 0}
    count: Annotated[int, Field(ge=0, le=100), Nothing(0)] = 3
    seeds: Annotated[int, Field(ge=1, le=100)] = 3


SECTIONS: dict[str, type[Section]] = {
    "data": DataSection,
    "training": TrainingSection,
    "search": SearchSection,
    "resources": ResourcesSection,
    "activations": ActivationsSection,
    "finalists": FinalistsSection,
}
TOP_LEVEL = (
    "study",
    "data",
    "metric",
    "metrics",
    "trainable",
    "space",
    "baseline",
    "training",
    "search",
    "resources",
    "activations",
    "finalists",
)


class Names(Section):
    """The settings at the top level that are no sections."""

    study: Annotated[str, AfterValidator(_safe_name)]
    metric: Annotated[str, AfterValidator(_metric)] = DEFAULT_METRIC
    metrics: list[str] | None = None
    trainable: str | None = None


def metrics_findings(metrics: Sequence[str]) -> Iterator[Finding]:
    """Yield the problems with the names in a list of metrics."""
    if not metrics:
        yield ("metrics",), "must name at least one metric, the one that the scheduler compares first; got []"
    for index, name in enumerate(metrics):
        if name not in objectives():
            yield ("metrics", index), unknown_name("metric", name, objectives())
        elif name in metrics[:index]:
            yield ("metrics", index), f"must be named once; got {name!r} again"
        elif index == 0 and name not in epoch_objectives():
            yield ("metrics", index), f"{_first_rule()}; got {name!r}"


def read_section(model: type[Section], values: Any, path: Path) -> tuple[Any, list[Finding]]:
    """Return the section written as `values` (None when something is wrong with it), and all its problems."""
    if not isinstance(values, dict):
        never = NEVER_NOTHING if is_nothing(values) else "" if model.without is None else ", or be none"
        return None, [(path, f"must map {', '.join(model.model_fields)} to values{never}; got {shown(values)}")]
    try:
        return model.model_validate(values), []
    except ValidationError as error:
        return None, [((*path, *location), message) for location, message in _translate(model, error)]


def _translate(model: type[Section], error: ValidationError) -> Iterator[Finding]:
    """Yield pydantic's errors in our words, the value last; the members of a union are one problem."""
    rules: dict[Path, tuple[list[str], str, Any]] = {}
    for detail in error.errors():
        location = _location(detail)
        rule, shows_value = _rule(model, location, detail)
        got = f"; got {shown(detail['input'])}" if shows_value else ""
        rules.setdefault(location, ([], got, detail["input"]))[0].append(rule)
    for location, (found, got, value) in rules.items():
        rule = " or ".join(dict.fromkeys(found)).replace(" or must be ", " or ")
        yield location, rule + (_of_nothing(model, location, value) if got and "none" not in rule else "") + got


def _of_nothing(model: type[Section], location: Sequence[str | int], value: Any) -> str:
    """Return what is to be said of the words for nothing where a value is wrong."""
    field = _fields_at(model, location[:-1]).get(str(location[-1]))
    if field is None:
        return ""
    if is_nothing(value):
        return NEVER_NOTHING
    return ", or none" if meanings_of_nothing(field) in ([None], [[]]) else ""


def _location(detail: Any) -> tuple[str | int, ...]:
    """Return the path of the value; the last part of an unknown setting is the user's own word, so it always stays."""
    *around, last = detail["loc"]
    kept = [part for part in around if isinstance(part, int) or not _is_union_tag(part)]
    if detail["type"] == "extra_forbidden" or isinstance(last, int) or not _is_union_tag(last):
        kept.append(last)
    return tuple(kept)


def shown(value: Any) -> str:
    """Return a value as it stands in a file, shortened."""
    if value is None or isinstance(value, bool):
        return "nothing" if value is None else str(value).lower()
    return f"{value[:60]!r}" if isinstance(value, str) else str(value)[:60]


def _rule(model: type[Section], location: tuple[str | int, ...], detail: Any) -> tuple[str, bool]:
    """Return the rule that is broken, and whether the message should show the value."""
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        return unknown_name("setting", str(location[-1]), _fields_at(model, location[:-1])), False
    if kind == "missing":
        return "must be given", False
    if kind == "value_error":
        rule = str(context["error"])
        return rule, not rule.startswith("unknown")
    return _RULES[kind].format(**context) if kind in _RULES else f"must be right: {detail['msg']}", True


def _is_union_tag(part: str) -> bool:
    """Return whether pydantic put this part into the path for a member of a union, as in `literal['auto']`."""
    return bool(re.search(r"[\[\](-]", part)) or part in {"int", "float", "str", "none"}


def _fields_at(model: type[BaseModel], location: Sequence[str | int]) -> dict[str, FieldInfo]:
    for name in location:
        inner = _kinds(model.model_fields[name].annotation) if name in model.model_fields else []
        model = next((kind for kind in inner if isinstance(kind, type) and issubclass(kind, Section)), model)
    return model.model_fields


_RULES = {
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "string_type": "must be text",
    "list_type": "must be a list, written [one, two]",
    "model_type": "must map names to values",
    "model_attributes_type": "must map names to values",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
}
