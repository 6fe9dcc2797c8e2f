"""A study as a file that can be given away: what its trials showed, and facts of its data; for others to learn from.

There is no image in it, and no name that somebody has chosen unless it is asked for. Text that a person can read: one
line for each trial. Light: Optuna is not loaded.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, model_validator
from pydantic_core import from_json

from tuner import __version__
from tuner.common.errors import RunError, first_line
from tuner.common.files import write_text
from tuner.common.metrics import METRICS, VALIDATION, Mode, epoch_objectives, is_better, metric_of
from tuner.datasets.sources import path_of
from tuner.runs.directory import RunDirectory
from tuner.runs.epoch import Epoch
from tuner.runs.events import Count, Probed, Seconds, Status
from tuner.runs.state import RunState, TrialState
from tuner.spec.space import Configuration, Scalar

KIND, VERSION = "tuner study", 1
MOST_MB = 64
"""A larger file is none of ours: a thousand trials of a hundred epochs have about four."""
DIGITS, DIGITS_OF_SECONDS = 6, 3
"""Significant digits that are kept: a validation split of a million images has no more."""
_MOST = 2**63
Shown = Callable[[Mapping[str, Scalar]], Configuration]
"""Returns a configuration as it is shown to others."""


def _plain(value: Any) -> Any:
    is_number = isinstance(value, int | float) and math.isfinite(value) and -_MOST <= value < _MOST
    if not (is_number or value is None or isinstance(value, str)):
        raise ValueError("must be text, a number, true, false or null")
    return value


_Configuration = dict[str, Annotated[Any, AfterValidator(_plain)]]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ClassSizes(_Part):
    """The training images of the smallest class, of the one in the middle, and of the largest."""

    smallest: Count
    median: Count
    largest: Count


class DataFacts(_Part):
    """The facts of the data of a study; None: its record does not know them."""

    name: str | None = None
    """None: it is not told."""
    classes: Count | None = None
    train_images: Count | None = None
    validation_images: Count | None = None
    images_per_class: ClassSizes | None = None
    height_px: Count | None = None
    width_px: Count | None = None
    channels: Count | None = None

    @property
    def words(self) -> str:
        """The data for people: by their name, or else by their numbers."""
        return self.name or f"{self.train_images or 0:,} images of {self.classes or 0:,} classes"


class ShownTrial(_Part):
    """One trial: its configuration, and what each of its epochs has shown."""

    configuration: _Configuration
    status: Status
    epochs: list[Annotated[int, Field(ge=1, lt=2**31)]]
    seconds: list[Seconds]
    """Of each epoch: training and validation."""
    best: dict[str, list[FiniteFloat | None]]
    """By metric, the best value up to each epoch; None: the epoch has no value that is a number."""

    @model_validator(mode="after")
    def _has_a_value_for_each_epoch(self) -> Self:
        if any(later <= earlier for earlier, later in zip(self.epochs, self.epochs[1:], strict=False)):
            raise ValueError("epochs must be in their order")
        if wrong := next((name for name, column in self._columns() if len(column) != len(self.epochs)), None):
            raise ValueError(f"{wrong} must have a value for each of {len(self.epochs)} epochs")
        return self

    def _columns(self) -> list[tuple[str, Sequence[Any]]]:
        return [("seconds", self.seconds), *((f"best.{name}", values) for name, values in self.best.items())]

    def best_by_epoch(self, metric: str) -> dict[int, float]:
        """Return the best value of a metric up to each epoch that has one."""
        values = self.best.get(metric, [])
        return {epoch: value for epoch, value in zip(self.epochs, values, strict=False) if value is not None}


class ShownProbe(_Part):
    """The result of a probe of one frozen backbone under one preprocessing."""

    configuration: _Configuration
    """As much of one as its features depend on."""
    method: str
    metrics: dict[str, FiniteFloat]
    features: Count
    images: Count
    validation_images: Count
    seconds: Seconds


class StudyFile(_Part):
    """A study as others see it."""

    kind: Literal["tuner study"] = "tuner study"
    version: Literal[1] = 1
    tuner: str
    """The version of tuner that wrote it."""
    name: str | None = None
    """None: it is not told."""
    data: DataFacts
    metrics: dict[str, Mode]
    """What the epochs of its trials measured and a study can be judged by, and what is best of each."""
    trials: list[ShownTrial]
    probes: list[ShownProbe] = []

    @model_validator(mode="after")
    def _knows_its_metrics(self) -> Self:
        for number, trial in enumerate(self.trials):
            if more := trial.best.keys() - self.metrics.keys():
                raise ValueError(f"trials[{number}].best must be of the file's metrics; got {min(more)}")
        return self


def study_of(run: RunDirectory, state: RunState, shown: Shown, *, is_named: bool) -> StudyFile:
    """Return the study of a run, its configurations as they are `shown`, with its own name and others if `is_named`.

    Raises:
        RunError: nothing was trained in it, or what was tried cannot be told without names.
    """
    if state.study is None or not any(trial.epochs for trial in state.trials.values()):
        raise RunError(f"{run.path}: holds no trial with an epoch: there is nothing for others to learn")
    if state.study.trainable is not None and not is_named:
        raise RunError(
            f"{run.path}: was searched with a training function of its author's, whose hyperparameters have names of "
            "its own; add --names to write them"
        )
    metrics = _metrics(state, is_named=is_named)
    try:
        return StudyFile(
            tuner=__version__,
            name=run.name if is_named else None,
            data=_data_facts(state.study.data, is_named=is_named),
            metrics=metrics,
            trials=[_trial(one, metrics, shown) for one in state.trials.values()],
            probes=[_probe(one, metrics, shown) for one in state.probes if one.metrics],
        )
    except ValidationError as error:  # a number that no file can hold
        raise RunError(f"{run.path}: cannot be written as a study: {_first_problem(error)}") from None


def recorded_metrics(state: RunState) -> list[str]:
    """Return what the epochs of a run have measured and a study can be judged by."""
    measured = {name for trial in state.trials.values() for epoch in trial.epochs for name in epoch.metrics}
    return [name for name in dict.fromkeys([*epoch_objectives(), state.metric]) if name in measured]


def best_values(epochs: Sequence[Epoch], metric: str, mode: Mode) -> list[float | None]:
    """Return the best value of a metric up to each epoch; None for an epoch without a number of its own."""
    found: list[float | None] = []
    best = math.nan
    for epoch in epochs:
        value = epoch.metrics.get(metric, math.nan)
        if math.isfinite(value):
            best = value if math.isnan(best) or is_better(value, best, mode) else best
        found.append(best if math.isfinite(value) else None)
    return found


def _metrics(state: RunState, *, is_named: bool) -> dict[str, Mode]:
    """Return the metrics of a run that are shown, and what is best of each; those of own code have names of its own."""
    found: dict[str, Mode] = {}
    for name in recorded_metrics(state):
        known = name.removeprefix(VALIDATION)
        if known not in METRICS:  # of code that is not here
            if is_named:
                found[name] = state.mode
        elif is_named or METRICS.origin(known) is None:
            found[name] = metric_of(name).mode
    return found


def _data_facts(data: Mapping[str, Any], *, is_named: bool) -> DataFacts:
    """Return the facts that a record has of its data; what it does not know, or is no number, is left out."""
    shape, classes = data.get("image_shape"), data.get("class_names")
    height, width, channels = shape if isinstance(shape, list) and len(shape) == 3 else (None, None, None)
    return DataFacts(
        name=_without_way(str(data.get("name", ""))) if is_named else None,
        classes=len(classes) if isinstance(classes, list) else None,
        train_images=_count(data.get("train_images")),
        validation_images=_count(data.get("validation_images")),
        images_per_class=_class_sizes(data.get("images_per_class")),
        height_px=_count(height),
        width_px=_count(width),
        channels=_count(channels),
    )


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and 0 <= value < 2**31 else None


def _class_sizes(value: Any) -> ClassSizes | None:
    try:
        return ClassSizes.model_validate(value)
    except ValidationError:  # a record of before they were recorded
        return None


def _without_way(source: str) -> str:
    """Return a source without the folders that its data lie in.

    >>> _without_way("folder:/home/me/pets"), _without_way("cifar100")
    ('pets', 'cifar100')
    """
    path = path_of(source)
    return source if path is None else Path(path).name


def _trial(trial: TrialState, metrics: Mapping[str, Mode], shown: Shown) -> ShownTrial:
    columns = {name: best_values(trial.epochs, name, mode) for name, mode in metrics.items()}
    return ShownTrial(
        configuration=_rounded_all(shown(trial.configuration)),
        status=trial.status,
        epochs=[epoch.epoch for epoch in trial.epochs],
        seconds=[rounded(epoch.seconds, DIGITS_OF_SECONDS) for epoch in trial.epochs],
        best={name: [None if one is None else rounded(one) for one in values] for name, values in columns.items()},
    )


def _probe(probed: Probed, metrics: Mapping[str, Mode], shown: Shown) -> ShownProbe:
    return ShownProbe(
        configuration=_rounded_all(shown(probed.configuration)),
        method=probed.method,
        metrics={name: rounded(one) for name, one in probed.metrics.items() if name in metrics and math.isfinite(one)},
        features=probed.features,
        images=probed.images,
        validation_images=probed.validation_images,
        seconds=rounded(probed.seconds, DIGITS_OF_SECONDS),
    )


def _rounded_all(configuration: Configuration) -> Configuration:
    return {name: rounded(value) if isinstance(value, float) else value for name, value in configuration.items()}


def rounded(value: float, digits: int = DIGITS) -> float:
    """Return a number with so many significant digits.

    >>> rounded(0.123456789), rounded(1234567.8), rounded(12.345, 3)
    (0.123457, 1234570.0, 12.3)
    """
    return float(f"{value:.{digits}g}")


def save_study(study: StudyFile, path: Path) -> Path:
    """Write a study as JSON, a line for each trial and probe; returns the path."""
    fields = (f"{json.dumps(name)}: {_written(value)}" for name, value in study.model_dump().items())
    return write_text(path, "{\n" + ",\n".join(fields) + "\n}\n")


def _written(value: Any) -> str:
    if isinstance(value, list) and value:
        return "[\n" + ",\n".join(map(_written, value)) + "\n]"
    return json.dumps(value, separators=(",", ":"))


def read_study(path: Path) -> StudyFile:
    """Return the study in a file.

    Raises:
        RunError: it cannot be read, is no study, or was written by a later tuner; the message names file and field.
    """
    rule = "must be a study, as python -m tuner.export RUN --study FILE writes it"
    try:
        if path.stat().st_size > MOST_MB * 2**20:
            raise RunError(f"{path}: {rule}; it has more than {MOST_MB} MB")
        values = from_json(path.read_bytes())
    except OSError as error:
        raise RunError(f"{path}: cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise RunError(f"{path}: {rule}; it is no JSON: {first_line(error)}") from None
    if not isinstance(values, dict) or values.get("kind") != KIND:
        raise RunError(f"{path}: {rule}; its kind is not {KIND!r}")
    version = values.get("version")
    if version != VERSION or isinstance(version, bool):
        is_later = isinstance(version, int) and version > VERSION
        by = f", which tuner {values.get('tuner')!s:.20} wrote: a later tuner than this reads it" if is_later else ""
        raise RunError(f"{path}: version must be {VERSION}; got {version!r:.40}{by}")
    try:
        return StudyFile.model_validate(values)
    except ValidationError as error:
        raise RunError(f"{path}: {_first_problem(error)}") from None


def _first_problem(error: ValidationError) -> str:
    """Return the first problem of a file: field, rule, value."""
    first = error.errors(include_url=False)[0]
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
    if first["type"] == "missing":
        return f"{field} must be given"
    if first["type"] == "extra_forbidden":
        return f"{field}: no study has such a field"
    said = first["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    is_told = isinstance(first["input"], dict | StudyFile | ShownTrial)  # by the rule itself
    between = ": " if field and not said.startswith("must") else " "
    return f"{field}{between}{said}".strip() + ("" if is_told else f"; got {first['input']!r:.60}")


def studies_beside(path: Path) -> list[str]:
    """Return the files in the folder of a path that may be studies: what a misspelt one may have been meant to be."""
    try:
        return [str(one) for one in path.parent.glob("*.json") if one.is_file()] if path.suffix else []
    except (OSError, ValueError):  # no such folder can be: its name is too long, or has a null byte
        return []
