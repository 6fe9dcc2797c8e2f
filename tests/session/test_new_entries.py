"""One entry in a registry is all that a source or a scheduler of someone else's needs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
import pytest

from tests.support.make_data import ARRAYS, load
from tests.support.make_record import epoch, study_created, trial_ended, trial_started
from tests.support.wrong_files import RIGHT
from tuner.algorithms.schedulers import SCHEDULERS
from tuner.common.errors import DataError
from tuner.datasets.request import check_source_exists
from tuner.datasets.sources import PREFIXED
from tuner.datasets.staging import absolute_source, staged_sources
from tuner.jobs._upload import local_data, write_package
from tuner.reports._leaderboard import leaderboard_markdown
from tuner.reports.figures.cost import build_rungs
from tuner.reports.results import Results, build_results
from tuner.runs.events import Resolved, SessionStarted
from tuner.runs.state import RunState
from tuner.session._resolved import ResolvedSearch, resolve
from tuner.session.checks import check_names
from tuner.session.session import resolved_settings
from tuner.spec.schema import DataSection
from tuner.spec.spec import read_spec, require


@pytest.fixture
def archive_source(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register a source of files with a suffix of its own."""
    npz = PREFIXED["npz"]

    def find(path: Path) -> Path | None:
        return next(iter(sorted(path.glob("*.arrays"))), None) if path.is_dir() else None

    entry = replace(npz, suffixes=(".arrays",), staged_as="a file .arrays", find_staged=find)
    monkeypatch.setitem(PREFIXED._values, "arrays", entry)


@pytest.mark.usefixtures("archive_source")
def test_a_source_of_files_is_staged_found_checked_sent_and_read_by_its_entry(tmp_path, cache_dir) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    with (folder / "digits.arrays").open("wb") as file:
        np.savez(file, **ARRAYS)
    (folder / "notes.npz").write_text("not data")
    staged = staged_sources({"TUNER_DATA": str(tmp_path)}, {})
    assert staged == {"mine": f"arrays:{folder / 'digits.arrays'}"}
    assert load("mine", cache_dir, staged=staged)[0].source == staged["mine"]
    assert absolute_source("arrays:x") == f"arrays:{Path('x').absolute()}"
    check_source_exists("mine", staged)
    with pytest.raises(DataError, match=r"arrays:.*nowhere must name a folder or file that exists"):
        check_source_exists(f"arrays:{tmp_path / 'nowhere'}", {})
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(
        DataError,
        match=r"must be a file \.arrays, Parquet files, one \.npz, a table .* or class folders",
    ):
        staged_sources({}, {"other": str(empty)})
    data = local_data(DataSection(source=f"arrays:{folder}"), {}, [], PurePosixPath("/shared"))
    assert data is not None
    (tmp_path / "search.yaml").write_text(RIGHT)
    package = write_package(tmp_path / "zip", tmp_path / "search.yaml", data, [], {}, PurePosixPath("/shared"))
    assert package.data_source is not None and package.data_source.startswith("arrays:/shared/data/mine-")


@pytest.fixture
def other_schedulers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register a population of numbers, and a scheduler that pauses."""
    monkeypatch.setitem(SCHEDULERS._values, "herd", replace(SCHEDULERS["pb2"], description="a herd", sampler=None))
    monkeypatch.setitem(SCHEDULERS._values, "waits", replace(SCHEDULERS["asha"], description="waits at rungs"))


def problems(*overrides: str) -> list[str]:
    reading = read_spec(RIGHT, "f", overrides)
    return [problem.describe("f") for problem in [*reading.problems, *check_names(reading, {})]]


def search_of(*overrides: str) -> ResolvedSearch:
    return resolve(require(read_spec(RIGHT, "f", overrides)))


@pytest.mark.usefixtures("other_schedulers")
def test_a_population_of_someone_else_is_checked_planned_and_told_of_as_one() -> None:
    assert problems("search.scheduler=herd", "search.sampler=auto") == []
    (refused,) = problems("search.scheduler=herd", "search.sampler=tpe")
    assert "must be auto or random with herd, which copies and perturbs; got tpe" in refused
    assert search_of("search.scheduler=herd", "search.sampler=auto").policy.sampler.value == "random"
    assert "this is the latest one" in leaderboard_markdown(results_of("herd"))
    assert "this is the latest one" not in leaderboard_markdown(results_of("waits"))


@pytest.mark.usefixtures("other_schedulers")
def test_a_scheduler_of_someone_else_that_pauses_has_the_rungs_of_one_in_plan_and_figure() -> None:
    branches = "space={architecture: {choose: {cnn: {}, dense: {}}}}"
    for name in ("asha", "waits"):
        search = search_of(f"search.scheduler={name}", "search.sampler=auto", branches, "baseline={architecture: cnn}")
        assert search.policy.reduction_factor.value == 2
        flow = build_rungs(results_of(name, resolved_settings(search, None)))
        last = study_created(max_epochs=8).max_epochs
        compared = [rung for rung in search.policy.compared_at if rung < last]
        assert flow is not None and [rung.epoch for rung in flow.rungs] == [*compared, last] != [last]


def results_of(scheduler: str, resolved: Resolved | None = None) -> Results:
    """Return those of a search with one trial, in a space with two branches."""
    space = {"x": {"choose": {"a": {}, "b": {}}}}
    written = {"search": {"grace_epochs": 1}, "training": {"head_epochs": 0}, "space": space}
    state = RunState()
    for event in (
        study_created(max_epochs=8, specification=written),
        SessionStarted(resumed=False, max_concurrent=1, sampler="random", scheduler=scheduler, resolved=resolved),
        trial_started(0),
        *(epoch(0, number, 0.1 * number) for number in range(1, 9)),
        trial_ended(0, "completed", "max_epochs"),
    ):
        state.apply(event)
    return build_results(state)
