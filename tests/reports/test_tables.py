"""The Parquet tables, as pandas, pyarrow and DuckDB read them."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support import ROOT
from tests.support.make_record import DOUBTED, EVIL, PROBES, epoch, make_state, small_state, trial_ended, trial_started
from tuner.common.metrics import epoch_objectives, epoch_values
from tuner.reports.results import build_results
from tuner.reports.tables import (
    TABLES,
    column_names,
    column_type,
    describe_schema,
    epoch_columns,
    epochs_table,
    save_table,
    trial_columns,
    trials_table,
)
from tuner.runs.events import SessionEnded, TrialResumed
from tuner.runs.state import RunState

PAGE = ROOT / "docs" / "tables.md"


def trials_of(*configurations):
    state = small_state(*(trial_started(number, values) for number, values in enumerate(configurations)))
    return trials_table(build_results(state))


def test_a_trial_is_one_row_with_its_best_and_its_last_values():
    state = small_state(
        trial_started(0, {"architecture": "cnn", "learning_rate": 0.1}, elapsed_s=2.0),
        epoch(0, 1, 0.4, phase="head", seconds=1.5),
        TrialResumed(trial=0, epoch=1),
        epoch(0, 2, 0.6, phase="fine_tune", seconds=2.0),
        epoch(0, 3, 0.5, 0.6, phase="fine_tune", seconds=2.0),
        trial_ended(0, "completed", "early_stopping", parameters=100, trainable_parameters=7, batch_size_used=16,
                    setup_s=0.5, node="worker-2", cut="block_15_add", elapsed_s=9.0),
    )  # fmt: skip
    (row,) = trials_table(build_results(state)).to_pylist()
    assert row == {
        "study": "cifar100", "trial": 0, "origin": "baseline", "status": "completed", "reason": "early_stopping",
        "rank": 1, "best": 0.6, "best_epoch": 2,
        "best_epoch_loss": 0.7, "best_epoch_accuracy": 0.65, "best_epoch_val_loss": 0.8, "best_epoch_val_accuracy": 0.6,
        "last_loss": 0.75, "last_accuracy": 0.55, "last_val_loss": 0.8500000000000001, "last_val_accuracy": 0.5,
        "epochs": 3, "head_epochs": 1, "fine_tune_epochs": 2, "scratch_epochs": 0, "seconds": 5.5, "setup_s": 0.5,
        "node": "worker-2",
        "started_s": 2.0, "ended_s": 9.0, "parameters": 100, "trainable_parameters": 7, "batch_size_used": 16,
        "cut": "block_15_add", "model_mb": None, "seconds_per_image": None, "is_on_front": None,
        "resumed": 1, "architecture": "cnn", "learning_rate": 0.1,
    }  # fmt: skip


def test_what_is_not_known_is_null():
    state = small_state(
        trial_started(0), trial_started(1), trial_ended(1, "failed", "MemoryError"), SessionEnded(reason="interrupted")
    )
    unfinished, failed = trials_table(build_results(state)).to_pylist()
    assert (unfinished["status"], unfinished["reason"], unfinished["ended_s"]) == ("unfinished", None, None)
    assert (failed["status"], failed["reason"], failed["best"], failed["rank"]) == ("failed", "MemoryError", None, None)
    for row in (unfinished, failed):
        assert row["best_epoch"] is row["last_val_loss"] is row["parameters"] is None
        assert (row["epochs"], row["seconds"]) == (0, 0.0)


def test_an_epoch_is_one_row_with_its_phase():
    state = small_state(
        trial_started(3), epoch(3, 1, 0.4, phase="head"), epoch(3, 2, 0.3, 0.4, phase="fine_tune", learning_rate=1e-4)
    )
    rows = epochs_table(build_results(state)).to_pylist()
    assert [(row["trial"], row["epoch"], row["phase"]) for row in rows] == [(3, 1, "head"), (3, 2, "fine_tune")]
    assert [(row["val_accuracy"], row["best_so_far"], row["learning_rate"]) for row in rows] == [
        (0.4, 0.4, 1e-3), (0.3, 0.4, 1e-4),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("values", "kind", "expected"),
    [
        ([1, 2, None], "int64", [1, 2, None]),
        ([1, 2.5, None], "double", [1.0, 2.5, None]),
        ([True, None, False], "bool", [True, None, False]),
        (["a", None, "b"], "string", ["a", None, "b"]),
        ([64, "auto", 0.5], "string", ["64", "auto", "0.5"]),
        ([True, 1, None], "string", ["true", "1", None]),
        ([None, None, None], "string", [None, None, None]),
        ([2**63, 1, None], "string", ["9223372036854775808", "1", None]),
        ([2**63 - 1, -(2**63), None], "int64", [2**63 - 1, -(2**63), None]),
        ([2**53 + 1, 0.5, None], "string", ["9007199254740993", "0.5", None]),
    ],
)
def test_a_hyperparameter_has_the_type_that_holds_all_its_values(values, kind, expected):
    table = trials_of(*({"always": 0, **({} if value is None else {"a": value})} for value in [*values, None]))
    if "a" not in table.column_names:  # nowhere given
        table = trials_of(*({"a": value} for value in [*values, None]))
    assert str(table.schema.field("a").type) == kind
    assert table["a"].to_pylist() == [*expected, None]


def test_a_hyperparameter_of_a_taken_name_gets_a_suffix():
    table = trials_of({"epochs": 5, "Best": 1, "epochs_hyperparameter": 7, "dropout": 0.1})
    (row,) = table.to_pylist()
    assert row["epochs"] == 0
    assert row["best"] is None
    assert row["Best_hyperparameter"] == 1
    assert (row["epochs_hyperparameter"], row["epochs_hyperparameter_hyperparameter"], row["dropout"]) == (5, 7, 0.1)
    assert table.schema.field("epochs_hyperparameter").metadata[b"description"].startswith(b"hyperparameter 'epochs'")


@given(st.lists(st.text(max_size=6) | st.sampled_from(["study", "TRIAL", "best", "a", "A"]), unique=True))
def test_columns_have_names_that_sql_can_tell_apart(names):
    columns = column_names(names)
    fixed = {"study", *(column.name for column in trial_columns())}
    assert list(columns) == names
    lowered = [name.lower() for name in columns.values()]
    assert len(set(lowered)) == len(lowered)
    assert not fixed & set(lowered)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)


@settings(max_examples=100, deadline=None)
@given(st.lists(SCALARS, min_size=1, max_size=6))
def test_no_mixture_of_values_breaks_the_table_or_changes_a_number(values):
    table = trials_of(*({"a": value} for value in values))
    stored = table["a"].to_pylist()
    kind = column_type(values)
    for value, found in zip(values, stored, strict=True):
        assert (value is None) == (found is None)
        if kind != "string":
            assert found == value
        elif isinstance(value, int | float) and not isinstance(value, bool):
            assert type(value)(found) == value


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    results = build_results(make_state(30, end="interrupted"))
    save_table(trials_table(results), folder / "trials.parquet")
    save_table(epochs_table(results), folder / "epochs.parquet")
    return results, folder


def test_pandas_reads_the_tables(written):
    results, folder = written
    trials = pd.read_parquet(folder / "trials.parquet", dtype_backend="pyarrow").set_index("trial")
    assert len(trials) == 30
    assert trials["rank"].idxmin() == results.winner.number
    assert str(trials["unfreeze_depth"].dtype) == "int64[pyarrow]"  # whole numbers stay whole where some are missing
    plain = pd.read_parquet(folder / "epochs.parquet")
    assert plain.groupby("trial").size().to_dict() == {
        trial.number: len(trial.epochs) for trial in results.trials if trial.epochs
    }


def test_duckdb_reads_the_tables_and_joins_them(written):
    results, folder = written
    trials, epochs = duckdb.read_parquet(f"{folder}/trials.parquet"), duckdb.read_parquet(f"{folder}/epochs.parquet")
    assert (len(trials), len(epochs)) == (30, results.total_epochs)
    rows = duckdb.sql(
        """select t.trial, t.best, max(e.val_accuracy), count(*) from trials t join epochs e using (study, trial)
           group by all order by t.trial"""
    ).fetchall()
    assert rows == [
        (trial.number, trial.best, trial.best, len(trial.epochs)) for trial in results.trials if trial.epochs
    ]
    found = duckdb.execute("select key, value from parquet_kv_metadata(?)", [f"{folder}/trials.parquet"]).fetchall()
    keys = dict(found)
    assert keys[b"tuner.study"] == b"cifar100"


def test_the_files_say_what_they_are_and_what_each_column_means(written):
    _, folder = written
    for name in ("trials", "epochs"):
        schema = pq.read_schema(folder / f"{name}.parquet")
        own = {key: value for key, value in schema.metadata.items() if key.startswith(b"tuner.")}
        assert own == {
            b"tuner.schema_version": b"1", b"tuner.study": b"cifar100", b"tuner.metric": b"val_accuracy",
            b"tuner.metrics": b"val_accuracy", b"tuner.mode": b"max",
        }  # fmt: skip
        assert all(field.metadata[b"description"] for field in schema)


def test_a_run_without_trials_has_tables_without_rows(tmp_path):
    for state in (RunState(), small_state()):
        results = build_results(state)
        trials, epochs = trials_table(results), epochs_table(results)
        assert trials.column_names == ["study", *(column.name for column in trial_columns(results.metrics))]
        assert epochs.column_names == ["study", "trial", *(column.name for column in epoch_columns(results.metrics))]
        assert len(pq.read_table(save_table(trials, tmp_path / "trials.parquet"))) == len(epochs) == 0


def test_every_value_of_an_epoch_is_in_both_tables():
    for metrics in ((), ("val_auc", "parameters"), epoch_objectives()):
        names, values = {column.name for column in trial_columns(metrics)}, epoch_values(metrics)
        assert all(f"best_epoch_{value}" in names and f"last_{value}" in names for value in values)
        assert set(values) < {column.name for column in epoch_columns(metrics)}
        assert "val_macro_f1" not in names or "val_macro_f1" in metrics


def test_a_table_that_cannot_be_written_leaves_the_old_one_and_nothing_else(tmp_path, monkeypatch):
    path = save_table(trials_of({"a": 1}), tmp_path / "trials.parquet")
    before = path.read_bytes()

    def torn(_table, aside, **_options):
        Path(aside).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tuner.reports.tables.pq.write_table", torn)
    with pytest.raises(OSError, match="No space left"):
        save_table(trials_of({"a": 2}), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_the_page_about_the_tables_is_current():
    assert PAGE.read_text(encoding="utf-8") == describe_schema(), "write docs/tables.md again with describe_schema()"


def test_probes_and_suspect_labels_are_tables_of_their_own():
    state = small_state(*PROBES, DOUBTED)
    found = {name: TABLES[name](build_results(state)).to_pylist() for name in ("probes", "suspect_labels")}
    assert found["probes"] == [
        {"study": "cifar100", "method": "ridge", "value": 0.6, "val_accuracy": 0.6, "reason": None, "features": 1280,
         "images": 1000, "validation_images": 500, "seconds": 2.0, "architecture": "mobilenet_v2", "alpha": 0.35,
         "preprocess": "resize(64)|scale(-1,1)", "images_hyperparameter": None},
        {"study": "cifar100", "method": "ridge", "value": None, "val_accuracy": None, "reason": "out of memory",
         "features": 0, "images": 0, "validation_images": 0, "seconds": 1.0, "architecture": "own", "alpha": None,
         "preprocess": "none", "images_hyperparameter": 3},
    ]  # fmt: skip
    assert found["suspect_labels"] == [
        {"study": "cifar100", "split": "validation", "row": 7, "name": EVIL, "label": EVIL, "label_probability": 0.1,
         "likely": "cat", "likely_probability": 0.75},
    ]  # fmt: skip
    empty = {name: make(build_results(RunState())).num_rows for name, make in TABLES.items()}
    assert set(empty.values()) == {0}
