"""Staged copies: data sets that stand for the source of their name."""

from __future__ import annotations

import os

import numpy as np
import pytest

from tests.support.make_data import ARRAYS, load, make_folder, write_parquet
from tuner.common.errors import DataError
from tuner.datasets.loading import staged_sources
from tuner.datasets.request import check_source


def test_staged_copies_are_found_by_name_and_the_command_line_wins(tmp_path, monkeypatch) -> None:
    (tmp_path / "data" / "cifar100").mkdir(parents=True)
    write_parquet(tmp_path / "data" / "cifar100" / "train.parquet", 20)
    make_folder(tmp_path / "data" / "kmnist", {"a": 5, "b": 5})
    np.savez(tmp_path / "data" / "own.npz", x_train=np.zeros((4, 2, 2), np.uint8), y_train=np.arange(4) % 2)
    (tmp_path / "data" / "readme.txt").write_text("not data")
    staged = staged_sources({"TUNER_DATA": str(tmp_path / "data")}, {"own": "digits"})
    assert staged["cifar100"] == f"parquet:{tmp_path / 'data' / 'cifar100'}"
    assert staged["kmnist"].startswith("folder:") and staged["own"] == "digits" and len(staged) == 3
    dataset, _ = load("cifar100", tmp_path / "cache", staged=staged)
    assert dataset.name == "cifar100" and dataset.class_names == ("a", "b")
    assert load("tfds:kmnist", tmp_path / "cache", staged=staged)[0].class_names == ("a", "b")
    check_source("own", staged)


def test_a_staged_copy_may_be_given_as_a_path_of_any_kind(tmp_path) -> None:
    make_folder(tmp_path / "classes", {"a": 5, "b": 5})
    (tmp_path / "hub" / "data").mkdir(parents=True)
    write_parquet(tmp_path / "hub" / "data" / "train.parquet", 20)
    (tmp_path / "archive").mkdir()
    np.savez(tmp_path / "archive" / "own.npz", **ARRAYS)
    paths = {"p": "classes", "q": "hub", "r": "archive", "s": "hub/data/train.parquet", "t": "archive/own.npz"}
    staged = staged_sources({}, {name: str(tmp_path / path) for name, path in paths.items()})
    assert staged == {
        "p": f"folder:{tmp_path / 'classes'}",
        "q": f"parquet:{tmp_path / 'hub'}",
        "r": f"npz:{tmp_path / 'archive' / 'own.npz'}",
        "s": f"parquet:{tmp_path / 'hub' / 'data' / 'train.parquet'}",
        "t": f"npz:{tmp_path / 'archive' / 'own.npz'}",
    }
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        DataError, match=r"the staged copy of mine must be Parquet files, one .npz, a table .* or class folders; "
    ):
        staged_sources({}, {"mine": str(tmp_path / "empty")})
    with pytest.raises(DataError, match=r"unknown data source '.*nowhere'"):
        check_source("mine", staged_sources({}, {"mine": str(tmp_path / "nowhere")}))


def test_of_several_folders_of_staged_copies_the_first_wins_and_each_must_exist(tmp_path) -> None:
    for place in ("one", "two"):
        make_folder(tmp_path / place / "pets", {"a": 2, "b": 2})
    make_folder(tmp_path / "two" / "more", {"a": 2, "b": 2})
    both = os.pathsep.join([str(tmp_path / "one"), str(tmp_path / "two")])
    staged = staged_sources({"TUNER_DATA": both}, {})
    assert staged == {"pets": f"folder:{tmp_path / 'one' / 'pets'}", "more": f"folder:{tmp_path / 'two' / 'more'}"}
    with pytest.raises(DataError, match=r"TUNER_DATA must name folders that can be read; got .*three"):
        staged_sources({"TUNER_DATA": str(tmp_path / "three")}, {})
