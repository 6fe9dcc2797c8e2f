"""Addresses of MLflow, and names and values that it takes: tables of kinds."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow.utils.validation import _validate_metric_name, _validate_param, _validate_tag

from tuner.common.errors import InputError, without_passwords
from tuner.trackers._mlflow_address import read_address
from tuner.trackers._mlflow_names import LONGEST_TAG, LONGEST_VALUE, LONGEST_VALUE_BEFORE, safe_name, safe_value

NAMES = [
    "dropout", "augment.rotate", "val_accuracy", "f1/macro", "Größe", "层数", "a b", "a:b",
    "", " ", ".", "..", "../x", "a/../b", "./a", "/a", "a/", "a//b", "a/./b", ".hidden", "..a",
    "a[0]", "a=b", "a%", "a\nb", "a\tb", "a\0b", "a\\b", "lr (log)", "🙂", "a" * 250, "a" * 251, "层" * 300,
    "a/" * 200, "x\ud800y", "a'b", 'a"b', "a;drop table",
]  # fmt: skip
VALUES = [None, True, 3, 0.5, float("nan"), float("inf"), "", "none", "日本", "🙂", "a\nb", "a\0b", "x\ud800",
          "x" * 500, "x" * 501, "x" * 6000, "x" * 6001, "层" * 7000, -0.0, 10**30]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_every_name_becomes_one_that_mlflow_takes(name: str) -> None:
    _validate_metric_name(safe_name(name))
    _validate_param(safe_name(name), "value")
    safe_name(name).encode()


def test_different_names_stay_different_and_right_ones_as_they_are() -> None:
    assert len({safe_name(name) for name in NAMES}) == len(NAMES)
    assert [safe_name(name) for name in NAMES[:8]] == NAMES[:8]
    assert all(safe_name(safe_name(name)) == safe_name(name) for name in NAMES)


@pytest.mark.parametrize("longest", [LONGEST_VALUE, LONGEST_VALUE_BEFORE, LONGEST_TAG])
@pytest.mark.parametrize("value", VALUES, ids=lambda value: ascii(value)[:20])
def test_every_value_becomes_a_text_that_mlflow_takes(value: object, longest: int) -> None:
    text = safe_value(value, longest)
    assert len(text) <= longest
    _validate_param("name", text)
    _validate_tag("name", text)
    assert text.encode() and "\0" not in text if str(value) else text == ""


def test_long_values_that_differ_at_their_ends_stay_different() -> None:
    assert safe_value("x" * 7000 + "a") != safe_value("x" * 7000 + "b")


# text, what MLflow is given, what is shown, name and password
RIGHT = [
    ("http://127.0.0.1:5000", "http://127.0.0.1:5000", "http://127.0.0.1:5000", None, None),
    ("https://mlflow.example.org/team/", "https://mlflow.example.org/team", "https://mlflow.example.org/team", None, None),
    ("http://me:secret@host:5000", "http://host:5000", "http://host:5000", "me", "secret"),
    ("http://me:se%40cr%2Fet@host", "http://host", "http://host", "me", "se@cr/et"),
    ("http://me:se@cret@host", "http://host", "http://host", "me", "se@cret"),
    ("http://[::1]:5000", "http://[::1]:5000", "http://[::1]:5000", None, None),
    ("HTTP://host", "http://host", "http://host", None, None),
    ("sqlite:////data/m.db", "sqlite:////data/m.db", "sqlite:////data/m.db", None, None),
    ("postgresql://me:secret@db/m?sslmode=require", "postgresql://me:secret@db/m?sslmode=require", "postgresql://db/m", None, None),
    ("mysql+pymysql://me:secret@db/m", "mysql+pymysql://me:secret@db/m", "mysql+pymysql://db/m", None, None),
    ("databricks", "databricks", "databricks", None, None),
    ("databricks://profile", "databricks://profile", "databricks://profile", None, None),
]  # fmt: skip


@pytest.mark.parametrize(("text", "uri", "shown", "user", "password"), RIGHT, ids=[row[0] for row in RIGHT])
def test_an_address_is_told_apart_from_its_password(text, uri, shown, user, password) -> None:
    address = read_address(text, Path("/runs"))
    assert (address.uri, address.shown, address.user, address.password) == (uri, shown, user, password)
    assert "secret" not in address.shown


def test_without_an_address_the_runs_are_in_a_file_beside_them() -> None:
    assert read_address("", Path("/data/runs")).uri == "sqlite:////data/runs/mlflow.db"
    assert read_address("sqlite:///own.db", Path("/data/runs")).file == Path("own.db").absolute()


WRONG = [
    ("localhost:5000", "did you mean http://localhost:5000?"),
    ("mlflow.example.org:80/team", "did you mean http://mlflow.example.org:80/team?"),
    ("localhost", "did you mean http://localhost?"),
    ("htp://host", "did you mean http://?"),
    ("sqlit:///m.db", "did you mean sqlite://?"),
    ("sqlite://m.db", "a file is written sqlite:///FOLDER/NAME.db"),
    ("sqlite:///", "a file is written"),
    ("mlruns", "sqlite:///mlruns/mlflow.db is a file there"),
    ("./mlruns/", "sqlite:///./mlruns/mlflow.db is a file there"),
    ("file:///data/mlruns", "sqlite:////data/mlruns/mlflow.db is a file there"),
    ("digits.yaml", "the search-space file stands before --mlflow"),
    ("http://", "it names no host"),
    ("http://:5000", "it names no host"),
    ("http://host:port", "the port must be a number"),
    ("http://host:70000", "the port must be a number"),
    ("http://host/?token=secret", "? and # do not belong to it"),
    ("http://host/#/experiments/1", "? and # do not belong to it"),
    ("http://me@host", "a name needs a password"),
    ("http://:secret@host", "a name needs a password"),
    ("http://me:se/cret@host", "the port must be a number"),
    ("me:secret@host:5000", "it must begin with http"),
    (" http://host", "blanks"),
    ("http://ho\nst", "control characters"),
    ("http://me:secret@ho st", "blanks"),
    ("http://me:my secret@host", "blanks"),
    ("ftp://host", "must be the address of an MLflow"),
    ("s3://bucket/runs", "must be the address of an MLflow"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "words"), WRONG, ids=[ascii(row[0]) for row in WRONG])
def test_a_wrong_address_is_refused_with_what_was_probably_meant(text: str, words: str) -> None:
    with pytest.raises(InputError, match="--mlflow must be the address of an MLflow") as caught:
        read_address(text, Path("/runs"))
    assert words in str(caught.value)
    assert "secret" not in str(caught.value) and "cret@" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://host:5000/x", "http://host:5000/x"),
        ("http://me:secret@host", "http://***@host"),
        ("--mlflow=http://me:a@b:c@host/x", "--mlflow=http://***@host/x"),
        ("a http://me:secret@h and postgresql://u:secret@h/d", "a http://***@h and postgresql://***@h/d"),
        ("http://h/?token=secret&x=1 b", "http://h/?token=***&x=1 b"),
        ("postgresql://h/d?x=1&PASSWORD=secret", "postgresql://h/d?x=1&PASSWORD=***"),
        ("the key=word stays", "the key=word stays"),
        ("sqlite:////home/me@firm/x.db, file:///a@b", "sqlite:////home/me@firm/x.db, file:///a@b"),
        ("sqlite+pysqlcipher://:secret@/x.db", "sqlite+pysqlcipher://***@/x.db"),
        ("mail me@host", "mail me@host"),
        ("", ""),
    ],
)
def test_no_text_shows_a_password(text: str, shown: str) -> None:
    assert without_passwords(text) == shown
