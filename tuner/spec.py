"""The search-space file: its schema, and loading it with every problem at once, each with its line."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from tuner.document import Document, dotted, read_document
from tuner.errors import InputError, Problem, SpecError
from tuner.registry import unknown_name
from tuner.space import Configuration, Dimension, misfits
from tuner.space_parser import parse_space

METRICS: dict[str, Literal["max", "min"]] = {"val_accuracy": "max", "val_loss": "min"}


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def _to_seconds(value: Any) -> Any:
    """`2h`, `20m`, `90s`, `1h30m` or a number of seconds, as seconds."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, str) or value == "none":
        return None if value == "none" else value
    match = re.fullmatch(
        r"(?:(\d{1,6}(?:\.\d{1,6})?)h)?(?:(\d{1,9}(?:\.\d{1,6})?)m)?(?:(\d{1,9}(?:\.\d{1,6})?)s)?", value
    )
    if not value or match is None:
        raise ValueError("must be a time such as 90s, 20m, 2h or 1h30m")
    return sum(float(part) * unit for part, unit in zip(match.groups(), (3600, 60, 1), strict=True) if part)


def _to_float(value: Any) -> Any:
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _to_text(value: Any) -> Any:
    return "none" if value is None else value


Number = Annotated[float, BeforeValidator(_to_float)]
Seconds = Annotated[float | None, BeforeValidator(_to_seconds)]
Auto = Literal["auto"]


def _safe_name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", value):
        raise ValueError("must be at most 64 letters, digits, '_', '-' or '.', beginning with a letter or digit")
    return value


def _metric(value: str) -> str:
    if value not in METRICS:
        raise ValueError(unknown_name("metric", value, METRICS))
    return value


class DataSection(_Section):
    """Where the images come from and how they are split."""

    source: str
    validation_fraction: Annotated[Number, Field(gt=0, lt=1)] = 0.1
    image_px: Annotated[int, Field(ge=4, le=2048)] | None = None
    colour: Literal["auto", "rgb", "grey"] = "auto"
    broken_images: Literal["fail", "skip"] = "fail"
    max_train_images: Annotated[int, Field(ge=2)] | None = None
    max_validation_images: Annotated[int, Field(ge=2)] | None = None


class EarlyStoppingSection(_Section):
    """As keras.callbacks.EarlyStopping: the metric must improve by more than `min_delta` within `patience` epochs."""

    patience: Annotated[int, Field(ge=1)] = 5
    min_delta: Annotated[Number, Field(ge=0)] = 1e-4


class TrainingSection(_Section):
    """How a trial trains."""

    max_epochs: Annotated[int, Field(ge=1, le=100_000)] = 30
    head_epochs: Annotated[int, Field(ge=1)] = 3
    early_stopping: EarlyStoppingSection | None = EarlyStoppingSection()


class SearchSection(_Section):
    """How configurations are chosen, which trials go on, and when the search ends."""

    sampler: Annotated[str, BeforeValidator(_to_text)] = "auto"
    scheduler: Annotated[str, BeforeValidator(_to_text)] = "auto"
    trials: Annotated[int, Field(ge=1, le=1_000_000)] = 64
    time_budget: Seconds = None
    max_concurrent: Annotated[int, Field(ge=1)] | Auto = "auto"
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    grace_epochs: Annotated[int, Field(ge=1)] | Auto = "auto"
    reduction_factor: Annotated[int, Field(ge=2, le=100)] = 4


class ResourcesSection(_Section):
    """What one trial occupies."""

    cpus_per_trial: Annotated[Number, Field(gt=0, le=4096)] = 1.0
    gpus_per_trial: Annotated[Number, Field(ge=0, le=64)] = 0.0


_SECTIONS: dict[str, type[_Section]] = {
    "data": DataSection,
    "training": TrainingSection,
    "search": SearchSection,
    "resources": ResourcesSection,
}
_TOP_LEVEL = ("study", "data", "metric", "space", "baseline", "training", "search", "resources")


class _Names(_Section):
    study: Annotated[str, AfterValidator(_safe_name)]
    metric: Annotated[str, AfterValidator(_metric)] = "val_accuracy"


@dataclass(frozen=True)
class Spec:
    """A search-space file, checked: what it says is of the right shape (whether names are known is `checks`' part)."""

    study: str
    data: DataSection
    metric: str
    space: Mapping[str, Dimension]
    baseline: Configuration | None
    training: TrainingSection
    search: SearchSection
    resources: ResourcesSection
    raw: Mapping[str, Any]
    """The file's values with overrides, as they were written."""

    @property
    def mode(self) -> Literal["max", "min"]:
        """Whether the metric is to be maximised or minimised."""
        return METRICS[self.metric]

    def resolved(self) -> dict[str, Any]:
        """Plain values with every default written out; a search-space file again when dumped as YAML."""
        sections = {
            "data": self.data.model_dump(),
            "metric": self.metric,
            "space": self.raw["space"],
            "training": self.training.model_dump(),
            "search": self.search.model_dump(),
            "resources": self.resources.model_dump(),
        }
        baseline = {} if self.baseline is None else {"baseline": dict(self.baseline)}
        return {"study": self.study, **sections, **baseline}


@dataclass(frozen=True)
class SpecReading:
    """A search-space file as far as it could be read: the problems, and the spec when there are none.

    The parts that are right by themselves are there in any case, so that the names in them can be checked at the same
    time: a user sees all problems at once.
    """

    file: str
    document: Document
    problems: tuple[Problem, ...]
    spec: Spec | None
    space: Mapping[str, Dimension] = field(default_factory=dict)
    data: DataSection | None = None
    training: TrainingSection | None = None
    search: SearchSection | None = None

    def problem(self, path: Sequence[str | int], message: str) -> Problem:
        """A problem at `path`, with its line."""
        return Problem(dotted(tuple(path)), message, self.document.line(tuple(path)))


def load_spec(path: Path, overrides: Sequence[str] = ()) -> SpecReading:
    """The reading of the file at `path`, after `overrides` (each `key=value`, the value in YAML).

    Raises:
        InputError: the file cannot be opened as text.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path}: no such search-space file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text: {error}") from None
    return read_spec(text, str(path), overrides)


def read_spec(text: str, file: str = "search space", overrides: Sequence[str] = ()) -> SpecReading:
    """The reading of a search-space text; what is wrong is in its `problems`, nothing is raised."""
    document = read_document(text)
    problems = list(document.problems)
    values = document.values
    if not problems and not isinstance(values, dict):
        problems.append(Problem("", f"must map {', '.join(_TOP_LEVEL)} to their settings; got {str(values)[:60]!r}", 1))
    if not isinstance(values, dict):
        return SpecReading(file, document, tuple(problems), None)
    for override in overrides:
        problems += _override(values, document, override)
    return _validate(file, document, values, problems)


def _override(values: dict[str, Any], document: Document, override: str) -> list[Problem]:
    """Set one `a.b.c=value`; the value is YAML, so `--set search.trials=8` is a number."""
    key, equals, text = override.partition("=")
    field = f"--set {override[:100]}"
    if not equals or not key.strip():
        return [Problem(field, "must be written key=value, for example search.trials=8")]
    *parents, last = key.strip().split(".")
    inner = read_document(text)
    if inner.problems:
        return [Problem(field, inner.problems[0].message)]
    target: Any = values
    for parent in parents:
        target = target.setdefault(parent, {})
        if not isinstance(target, dict):
            return [Problem(field, f"must name a setting; {parent!r} has none below it")]
    target[last] = inner.values
    path = (*parents, last)
    document.overridden.add(path)
    return []


def _validate(file: str, document: Document, values: dict[str, Any], problems: list[Problem]) -> SpecReading:
    reading = SpecReading(file, document, (), None)
    for key in values:
        if key not in _TOP_LEVEL:
            problems.append(reading.problem((key,), unknown_name("section", key, _TOP_LEVEL)))
    names = _section(_Names, {key: values[key] for key in ("study", "metric") if key in values}, (), reading, problems)
    sections = {
        key: _section(model, values.get(key, {} if key != "data" else None), (key,), reading, problems)
        for key, model in _SECTIONS.items()
    }
    space, findings = parse_space(values.get("space"))
    problems += [reading.problem(path, message) for path, message in findings]
    baseline = _baseline(values, space if not findings else None, reading, problems)
    spec = None
    if not problems and names is not None:
        spec = Spec(study=names.study, metric=names.metric, space=space, baseline=baseline, raw=values, **sections)
    parts = {key: sections[key] for key in ("data", "training", "search")}
    return SpecReading(file, document, tuple(problems), spec, space, **parts)


def _section(
    model: type[_Section], values: Any, path: tuple[str, ...], reading: SpecReading, problems: list[Problem]
) -> Any:
    """The validated section, or None with its problems added."""
    if not isinstance(values, dict):
        got = "nothing" if values is None else repr(values)[:60]
        problems.append(reading.problem(path, f"must map {', '.join(model.model_fields)} to values; got {got}"))
        return None
    try:
        return model.model_validate(values)
    except ValidationError as error:
        problems += _translate(model, path, error, reading)
        return None


def _translate(
    model: type[_Section], path: tuple[str, ...], error: ValidationError, reading: SpecReading
) -> list[Problem]:
    """Pydantic's errors in our words, the value last; the members of a union are one problem."""
    rules: dict[tuple[str | int, ...], tuple[list[str], str]] = {}
    for detail in error.errors():
        location = tuple(part for part in detail["loc"] if isinstance(part, int) or not _is_union_tag(part))
        rule, show_value = _rule(model, location, detail)
        got = (
            f"; got {str(detail['input'])[:60]!r}"
            if isinstance(detail["input"], str)
            else f"; got {str(detail['input'])[:60]}"
        )
        rules.setdefault(location, ([], got if show_value else ""))[0].append(rule)
    return [
        reading.problem((*path, *location), " or ".join(dict.fromkeys(found)).replace(" or must be ", " or ") + got)
        for location, (found, got) in rules.items()
    ]


def _rule(model: type[_Section], location: tuple[str | int, ...], detail: Any) -> tuple[str, bool]:
    """What must hold, and whether the value helps to see it."""
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
    """Pydantic puts the tried member of a union into the location: `constrained-int`, `literal['auto']`."""
    return bool(re.search(r"[\[\](-]", part)) or part in {"int", "float", "str", "none"}


def _fields_at(model: type[BaseModel], location: Sequence[str | int]) -> list[str]:
    if location == ("early_stopping",):
        return list(EarlyStoppingSection.model_fields)
    return list(model.model_fields)


_RULES = {
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "string_type": "must be text",
    "model_type": "must map names to values",
    "model_attributes_type": "must map names to values",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
}


def _baseline(
    values: dict[str, Any], space: Mapping[str, Dimension] | None, reading: SpecReading, problems: list[Problem]
) -> Configuration | None:
    baseline = values.get("baseline")
    if baseline is None:
        return None
    plain = isinstance(baseline, dict) and all(
        value is None or isinstance(value, str | int | float | bool) for value in baseline.values()
    )
    if not plain:
        problems.append(reading.problem(("baseline",), f"must map names to plain values; got {str(baseline)[:60]!r}"))
        return None
    if space is not None:
        problems += [reading.problem(("baseline", name), message) for name, message in misfits(space, baseline)]
    return dict(baseline)


def require(reading: SpecReading, more: Sequence[Problem] = ()) -> Spec:
    """The spec of a reading without problems; raises SpecError with all of them otherwise."""
    problems = (*reading.problems, *more)
    if problems or reading.spec is None:
        raise SpecError(reading.file, problems)
    return reading.spec


def dump_spec(resolved: Mapping[str, Any]) -> str:
    """A resolved specification as the text of a search-space file."""
    return yaml.safe_dump(dict(resolved), sort_keys=False, allow_unicode=True)
