"""The account of data: taken once for a prepared copy and what is asked of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tuner.datasets.loading import load_dataset
from tuner.datasets.request import DataRequest
from tuner.execution.worker_process import TrialKind
from tuner.reports.data_section import load_sheets
from tuner.runs.directory import RunDirectory
from tuner.session import preparation
from tuner.session._resolved import resolve
from tuner.session.preparation import Prepared, keep_account
from tuner.spec.spec import read_spec, require

SPACE = """
study: small
data: {source: digits}
space: {batch_size: 8, learning_rate: 0.01, architecture: {choose: {dense: {dense_units: {choice: [4, 8]}}}}}
search: {trials: 2}
"""


def test_later_searches_of_the_same_data_take_over_the_account_and_others_do_not(tmp_path: Path, monkeypatch):
    request, cache = DataRequest("digits", max_train_images=60), tmp_path / "cache"
    dataset = load_dataset(request, staged={}, seed=0, cache_dir=cache, notify=lambda _text: None)
    prepared = Prepared(request, {}, cache, dataset, TrialKind())
    study = resolve(require(read_spec(SPACE))).study
    runs = [RunDirectory(tmp_path / f"run-{number}") for number in range(4)]
    keep_account(study, prepared, runs[0])
    kept = list(dataset.prepared.path.glob("account-*"))
    assert len(kept) == 1 and sorted(path.name for path in kept[0].iterdir()) == ["contact_sheets.npz", "data.json"]

    def look(*_asked: object, **_more: object) -> None:
        pytest.fail("looked at again")

    with monkeypatch.context() as patched:
        patched.setattr(preparation, "look_at_data", look)
        keep_account(study, prepared, runs[1])
        with pytest.raises(pytest.fail.Exception):
            keep_account(replace(study, seed=7), prepared, runs[2])
        with pytest.raises(pytest.fail.Exception):
            fewer = replace(prepared, request=replace(request, max_train_images=50))
            keep_account(study, fewer, runs[2])
    assert runs[1].data.read_bytes() == runs[0].data.read_bytes()
    assert len(load_sheets(runs[1].contact_sheets)) == 10
    (kept[0] / runs[0].contact_sheets.name).unlink()
    keep_account(study, prepared, runs[3])
    assert runs[3].data.read_bytes() == runs[0].data.read_bytes(), "what is not whole is taken again"
    assert len(load_sheets(runs[3].contact_sheets)) == 10 == len(load_sheets(kept[0] / "contact_sheets.npz"))
