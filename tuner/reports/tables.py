"""The Parquet tables of a run: one row per trial, one row per trial and epoch. docs/tables.md is written from here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tuner.common.files import replacing
from tuner.common.metrics import DEFAULT_METRIC, VALIDATION, asked_values, epoch_objectives, epoch_values
from tuner.common.words import as_written
from tuner.reports.formatting import is_share, metric_words
from tuner.reports.results import STATUSES, Results, TrialResult
from tuner.runs.epoch import Epoch
from tuner.runs.events import Probed, Scalar
from tuner.runs.finalists import value_on_test
from tuner.runs.state import FinalistState

TABLES_VERSION = 1
"""Raised when a column changes its name, type or meaning; a new column does not raise it."""
Type = Literal["string", "int64", "double", "bool"]
_TYPES: dict[Type, Any] = {"string": pa.string(), "int64": pa.int64(), "double": pa.float64(), "bool": pa.bool_()}
_METADATA = {
    "tuner.schema_version": "version of these tables",
    "tuner.study": "the study's name",
    "tuner.metric": "what is optimised; of several metrics the first, which `best` is about",
    "tuner.metrics": "all that is optimised, separated by commas",
    "tuner.mode": "`max` or `min`: whether larger or smaller values of the metric are better",
}


class Column(NamedTuple):
    """A column: its name and type, what it means, and its value for a row's object (None: the field of its name)."""

    name: str
    type: Type
    description: str
    value: Callable[[Any], Any] | None = None


def _optional(path: str) -> Callable[[Any], Any]:
    """Return what takes `a.b` of an object, and None where `a` is None."""
    first, last = attrgetter(path.split(".")[0]), attrgetter(path.split(".")[1])

    def value(row: Any) -> Any:
        found = first(row)
        return None if found is None else last(found)

    return value


def _epochs_in(phase: Any) -> Callable[[TrialResult], int]:
    return lambda trial: trial.epochs_in(phase)


def _meaning(name: str, where: str) -> str:
    """Return what a value of an epoch is, in words."""
    kind = "" if name.startswith(VALIDATION) else "training "
    asked = "; only in studies for it" if asked_values([name]) else ""
    return f"{kind}{metric_words(name)}{' (0 to 1)' if is_share(name) else ''} {where}{asked}"


def _of_epoch(attribute: str, name: str) -> Callable[[TrialResult], float | None]:
    """Return what reads a metric of the epoch that a trial has under a name, None where it has none."""

    def value(trial: TrialResult) -> float | None:
        epoch: Epoch | None = getattr(trial, attribute)
        return None if epoch is None else epoch.metrics.get(name)

    return value


_TRIAL_BEGINNING: tuple[Column, ...] = (
    Column("trial", "int64", "number of the trial, from 0; unique in a study", attrgetter("number")),
    Column(
        "origin",
        "string",
        "who proposed it: `baseline`, `recipe` (the best of an architecture in earlier studies), `portfolio` (earlier "
        "studies), `prior` (the one that comes with tuner), `sampler`, `untried` (near what the sampler had proposed "
        "before), `grid`, `queued`",
    ),
    Column("status", "string", f"one of {', '.join(f'`{status}`' for status in STATUSES)}"),
    Column("reason", "string", "why it ended; null while it has not", lambda trial: trial.reason or None),
    Column("rank", "int64", "1 is the best; null for failed trials and before the first epoch"),
    Column("best", "double", "best value of the study's metric"),
    Column("best_epoch", "int64", "epoch with the best value, the first of equals", _optional("best_epoch.epoch")),
)
_TRIAL_END: tuple[Column, ...] = (
    Column("epochs", "int64", "epochs trained", lambda trial: len(trial.epochs)),
    Column("head_epochs", "int64", "of these, with the backbone frozen", _epochs_in("head")),
    Column("fine_tune_epochs", "int64", "of these, with blocks of the backbone unfrozen", _epochs_in("fine_tune")),
    Column("scratch_epochs", "int64", "of these, of a network without a backbone", _epochs_in("scratch")),
    Column("seconds", "double", "training and validation of all epochs, in seconds"),
    Column("setup_s", "double", "building the model and opening the data, in seconds", _optional("ended.setup_s")),
    Column("node", "string", "the machine that trained it last", _optional("ended.node")),
    Column("started_s", "double", "seconds that the study had run when the trial began"),
    Column("ended_s", "double", "seconds that the study had run when it ended", _optional("ended.elapsed_s")),
    Column("parameters", "int64", "parameters of the model"),
    Column("model_mb", "double", "size of its weights as stored, in 2**20 bytes", _optional("measured.model_mb")),
    Column(
        "seconds_per_image", "double", "inference; null unless it is a metric", _optional("measured.seconds_per_image")
    ),
    Column("is_on_front", "bool", "whether no other trial beats it in all metrics; null with one metric"),
    Column("trainable_parameters", "int64", "trained in the last phase", _optional("ended.trainable_parameters")),
    Column(
        "batch_size_used",
        "int64",
        "images per step; less than `batch_size` when memory ran out once",
        _optional("ended.batch_size_used"),
    ),
    Column(
        "cut",
        "string",
        "where the last phase read cached activations; null: it was trained from the images",
        _optional("ended.cut"),
    ),
    Column("resumed", "int64", "how often it went on, or began anew, after a loss or an interruption"),
)


def trial_columns(metrics: Sequence[str] | None = None) -> tuple[Column, ...]:
    """Return the columns after the study's name and before the hyperparameters, for a study's metrics (None: any)."""
    kinds = (("best_epoch", "best_epoch", "`best_epoch`"), ("last", "last_epoch", "the last epoch"))
    values = [
        Column(f"{prefix}_{name}", "double", _meaning(name, f"at {where}"), _of_epoch(attribute, name))
        for prefix, attribute, where in kinds
        for name in _values_for(metrics)
    ]
    return (*_TRIAL_BEGINNING, *values, *_TRIAL_END)


def epoch_columns(metrics: Sequence[str] | None = None) -> tuple[Column, ...]:
    """Return the columns after the study's name and the trial's number, for a study's metrics (None: any)."""
    return (
        Column("epoch", "int64", "counted from 1 over both phases"),
        Column("phase", "string", "`head` (backbone frozen), `fine_tune` (blocks unfrozen) or `scratch` (neither)"),
        Column("seconds", "double", "training and validation of this epoch, in seconds"),
        Column("elapsed_s", "double", "seconds that the study had run when the epoch was done"),
        *(Column(name, "double", _meaning(name, "of this epoch"), _metric(name)) for name in _values_for(metrics)),
        Column("best_so_far", "double", "best value of the study's metric up to here"),
        Column(
            "learning_rate",
            "double",
            "of the head, mean over the steps of this epoch; null where it is not known",
            _metric("learning_rate"),
        ),
    )


def _values_for(metrics: Sequence[str] | None) -> tuple[str, ...]:
    return epoch_values(epoch_objectives() if metrics is None else metrics)


def _metric(name: str) -> Callable[[Epoch], float | None]:
    return lambda epoch: epoch.values.get(name)


_FINALIST: tuple[Column, ...] = (
    Column("trial", "int64", "number of the trial that is trained again", attrgetter("trained.trial")),
    Column(
        "number",
        "int64",
        "number of the seed, or of the fold where the data are parted into folds, from 0; the same for all finalists",
        attrgetter("trained.number"),
    ),
    Column("status", "string", "`completed` or `failed`", attrgetter("trained.status")),
    Column("reason", "string", "why it ended", attrgetter("trained.reason")),
    Column("epochs", "int64", "epochs trained", attrgetter("trained.epochs")),
    Column("best", "double", "best value of the study's metric", attrgetter("trained.best")),
    Column("seconds", "double", "training and validation of all epochs, in seconds", attrgetter("trained.seconds")),
    Column("test_images", "int64", "images of the test split; null until it is read", _optional("tested.images")),
    Column("test_accuracy", "double", "accuracy on them (0 to 1)", _optional("tested.test_accuracy")),
    Column("test_loss", "double", "cross-entropy on them", _optional("tested.test_loss")),
)


def finalist_columns(metrics: Sequence[str] | None = None) -> tuple[Column, ...]:
    """Return the columns after the study's name, for a study's metrics (None: any)."""
    names = [name.removeprefix(VALIDATION) for name in asked_values(epoch_objectives() if metrics is None else metrics)]
    asked = (Column(f"test_{name}", "double", _of_test(name), _tested(name)) for name in names)
    return (*_FINALIST, *asked)


def _of_test(name: str) -> str:
    return f"{metric_words(name)}{' (0 to 1)' if is_share(name) else ''} on them; only in studies for it"


def _tested(name: str) -> Callable[[FinalistState], float | None]:
    return lambda row: None if row.tested is None else value_on_test(row.tested, name)


def probe_columns(metric: str = DEFAULT_METRIC) -> tuple[Column, ...]:
    """Return the columns after the study's name and before the hyperparameters, for a study's metric."""
    return (
        Column("method", "string", "how the probe was solved: `ridge` on one-hot labels, in closed form"),
        Column("value", "double", "the study's metric for validation images; null where it failed", _metric_of(metric)),
        Column("val_accuracy", "double", "accuracy for them (0 to 1)", _metric_of(DEFAULT_METRIC)),
        Column("reason", "string", "why it failed; null where it did not"),
        Column("features", "int64", "numbers that the frozen backbone gives of an image, after pooling"),
        Column("images", "int64", "training images that it was solved on: a part of them, classes in proportion"),
        Column("validation_images", "int64", "validation images that it was judged by"),
        Column("seconds", "double", "of a processor, with computing what was not cached yet, in seconds"),
    )


def _metric_of(name: str) -> Callable[[Probed], float | None]:
    return lambda probed: probed.metrics.get(name)


_SUSPECT: tuple[Column, ...] = (
    Column("split", "string", "`train` or `validation`"),
    Column("row", "int64", "number of the image among those as prepared, from 0"),
    Column("name", "string", "what errors call the image"),
    Column("label", "string", "the class that it was given"),
    Column("label_probability", "double", "of this class (0 to 1)"),
    Column("likely", "string", "the class that it looks like"),
    Column("likely_probability", "double", "of that class (0 to 1)"),
)
_STUDY = Column("study", "string", "name of the study")
_TRIAL = Column("trial", "int64", "number of the trial, as in `trials.parquet`")


def trials_table(results: Results) -> Any:
    """Return one row per trial by number, as a `pyarrow.Table`; hyperparameters are the last columns."""
    columns = [_array(column, results.trials) for column in trial_columns(results.metrics)]
    return _table(results, [*columns, *_hyperparameters(results.trials)])


def epochs_table(results: Results) -> Any:
    """Return one row per trial and epoch, by trial, then epoch, as a `pyarrow.Table`."""
    epochs = [epoch for trial in results.trials for epoch in trial.epochs]
    numbers = [trial.number for trial in results.trials for _ in trial.epochs]
    trial = (_field(_TRIAL.name, _TRIAL.type, _TRIAL.description), pa.array(numbers, type=pa.int64()))
    return _table(results, [trial, *(_array(column, epochs) for column in epoch_columns(results.metrics))])


def finalists_table(results: Results) -> Any:
    """Return one row per training of a finalist, by trial, then number, as a `pyarrow.Table`."""
    return _table(results, [_array(column, results.trainings) for column in finalist_columns(results.metrics)])


def probes_table(results: Results) -> Any:
    """Return one row per frozen backbone and preprocessing that was probed, as a `pyarrow.Table`."""
    columns = probe_columns(results.metric)
    arrays = [_array(column, results.probes) for column in columns]
    return _table(results, [*arrays, *_hyperparameters(results.probes, columns)])


def suspect_labels_table(results: Results) -> Any:
    """Return one row per image whose label looks wrong, the surest first, as a `pyarrow.Table`."""
    rows = results.doubted.suspects if results.doubted is not None else []
    return _table(results, [_array(one, rows) for one in _SUSPECT])


TABLES: Mapping[str, Callable[[Results], Any]] = {
    "trials": trials_table,
    "epochs": epochs_table,
    "finalists": finalists_table,
    "probes": probes_table,
    "suspect_labels": suspect_labels_table,
}
"""What makes the table of each name, which is that of its file, too."""


def save_table(table: Any, path: Path) -> Path:
    """Write a table as Parquet, aside and then renamed; return its path."""
    with replacing(path) as aside:
        pq.write_table(table, aside, compression="zstd")
    return path


def _array(column: Column, rows: Sequence[Any]) -> tuple[Any, Any]:
    value = column.value or attrgetter(column.name)
    values: Any = [value(row) for row in rows]
    if column.type == "double" and None not in values:
        values = np.array(values)  # pyarrow takes ten times as long over a list
    return _field(column.name, column.type, column.description), pa.array(values, type=_TYPES[column.type])


def _field(name: str, kind: Type, description: str) -> Any:
    return pa.field(name, _TYPES[kind], metadata={"description": description})


def _table(results: Results, own: Sequence[tuple[Any, Any]]) -> Any:
    """Return a table of columns of its own, behind the name of the study."""
    study = _field(_STUDY.name, _STUDY.type, _STUDY.description)
    columns = [(study, pa.repeat(pa.scalar(results.name, pa.string()), len(own[0][1]))), *own]
    values = (
        str(TABLES_VERSION),
        results.name,
        results.metric,
        ",".join(results.metrics),
        results.mode,
    )
    schema = pa.schema([field for field, _ in columns], metadata=dict(zip(_METADATA, values, strict=True)))
    return pa.Table.from_arrays([array for _, array in columns], schema=schema)


def _hyperparameters(
    trials: Sequence[TrialResult | Probed], beside: Sequence[Column] | None = None
) -> list[tuple[Any, Any]]:
    names = list(dict.fromkeys(name for trial in trials for name in trial.configuration))
    columns = []
    taken = None if beside is None else [column.name for column in beside]
    for name, unique in column_names(names, taken).items():
        values = [trial.configuration.get(name) for trial in trials]
        kind = column_type(values)
        field = _field(unique, kind, f"hyperparameter {name!r}; null where a trial has none of this name")
        columns.append((field, pa.array([_converted(value, kind) for value in values], type=_TYPES[kind])))
    return columns


def column_names(hyperparameters: Iterable[str], beside: Iterable[str] | None = None) -> Mapping[str, str]:
    """Return the column of each hyperparameter: its name, with `_hyperparameter` added where that is taken.

    Taken are the names of the columns `beside` them (None: those of trials).

    Names that differ in case only count as taken: to SQL they are one.

    >>> column_names(["dropout", "epochs"])
    {'dropout': 'dropout', 'epochs': 'epochs_hyperparameter'}
    """
    taken = {"study", *((column.name for column in trial_columns()) if beside is None else beside)}
    columns = {}
    for name in hyperparameters:
        unique = name
        while unique.lower() in taken:
            unique += "_hyperparameter"
        taken.add(unique.lower())
        columns[name] = unique
    return columns


def column_type(values: Iterable[Scalar]) -> Type:
    """Return the type that holds all of `values`: whole and other numbers together are double, any other mixture text.

    >>> column_type([1, None, 2.5]), column_type([True, None]), column_type([64, "auto"]), column_type([None])
    ('double', 'bool', 'string', 'string')
    """
    present = [value for value in values if value is not None]
    kinds = {type(value) for value in present}
    if kinds == {bool}:
        return "bool"
    if kinds == {int} and all(-(2**63) <= value < 2**63 for value in present if isinstance(value, int)):
        return "int64"
    if kinds == {float} or (kinds == {int, float} and all(_exact(value) for value in present)):
        return "double"
    return "string"


def _exact(value: Any) -> bool:
    """Say whether a double holds the number; a larger integer would silently become another one."""
    return isinstance(value, float) or abs(value) <= 2**53


def _converted(value: Scalar, kind: Type) -> Any:
    if value is None or kind != "string" or isinstance(value, str):
        return value
    return as_written(value)


def describe_schema() -> str:
    """Describe the tables in Markdown, for people: docs/tables.md."""
    return "\n".join(
        [
            "# The tables of a run",
            "",
            "Written by `describe_schema()` of `tuner/reports/tables.py`; a test says when this page is out of date.",
            "",
            "`reports/STUDY/trials.parquet` and the files beside it are read by pandas, pyarrow, DuckDB and everything",
            "else that reads Parquet. Each column's description is also in the files, in the metadata of its field.",
            "With pandas, `read_parquet(path, dtype_backend=\"pyarrow\")` keeps whole numbers whole where some are",
            "missing.",
            "",
            "## `trials.parquet`: one row per trial",
            "",
            *_describe((_STUDY, *trial_columns())),
            "| one per hyperparameter | int64, double, bool or string | its value, under its own name "
            "(`architecture`, `learning_rate`, ...); null where a trial has none of this name. Whole and other numbers "
            "together are double, any other mixture is text. A name that is one of the columns above gets the suffix "
            "`_hyperparameter`. |",
            "",
            "## `epochs.parquet`: one row per trial and epoch",
            "",
            *_describe((_STUDY, _TRIAL, *epoch_columns())),
            "",
            "## `finalists.parquet`: one row per training of a finalist",
            "",
            *_describe((_STUDY, *finalist_columns())),
            "",
            "## `probes.parquet`: one row per frozen backbone and preprocessing that was probed",
            "",
            *_describe((_STUDY, *probe_columns())),
            "| those of the backbone | int64, double, bool or string | hyperparameters on which its features depend: "
            "`architecture`, `preprocess`, `weights`, ...; as in `trials.parquet`. |",
            "",
            "## `suspect_labels.parquet`: one row per image whose label looks wrong",
            "",
            *_describe((_STUDY, *_SUSPECT)),
            "",
            "## Metadata of all files",
            "",
            "| key | value |",
            "|---|---|",
            *(f"| `{key}` | {meaning} |" for key, meaning in _METADATA.items()),
            "",
        ]
    )  # fmt: skip


def _describe(columns: Iterable[Column]) -> list[str]:
    rows = [f"| `{column.name}` | {column.type} | {column.description} |" for column in columns]
    return ["| column | type | meaning |", "|---|---|---|", *rows]
