"""The benchmark of searches that begin with the prior and probes: how it reads a search, and what its prior lacks."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from benchmarks.images.tasks import EPOCHS, HEAD_EPOCHS, TASKS, space
from benchmarks.in_turn import arguments_of, in_turn
from benchmarks.informed import without_base
from benchmarks.informed.__main__ import HERE, WAYS, Outcome, curve, draw, plugins, shares, table
from tests.support.make_record import epoch, small_state, trial_started
from tuner.algorithms import prior
from tuner.session.checks import check_names
from tuner.spec.spec import load_spec, require

PLAIN = [(10.0, 0.5), (100.0, 0.8)]


def outcome(way: str, seed: int, points: list[tuple[float, float]]) -> Outcome:
    return Outcome("flowers", way, seed, 4.0, 0, 3, points)


def test_the_curve_of_a_search_has_its_improvements_in_the_order_of_time():
    state = small_state(
        trial_started(0),
        trial_started(1),
        epoch(0, 1, 0.5, elapsed_s=9.0),
        epoch(1, 1, 0.4, elapsed_s=12.0),
        epoch(1, 2, 0.7, elapsed_s=20.0),
        epoch(0, 2, 0.6, elapsed_s=15.0),
    )
    assert curve(state) == [(9.0, 0.5), (15.0, 0.6), (20.0, 0.7)]


def test_the_share_is_of_the_plain_searchs_time_to_its_last_value_by_seed(tmp_path: Path):
    faster, never = [(20.0, 0.9)], [(20.0, 0.7)]
    outcomes = [
        *(outcome("plain", seed, PLAIN) for seed in (0, 1, 2)),
        outcome("informed", 0, faster),
        outcome("informed", 1, never),
    ]
    assert shares(outcomes, "flowers", "informed") == {0: 0.2, 1: float("inf")}
    assert (
        "after inf of its time to it (median of 2: 0.20, inf); at most 0.5 asked for: not reached"
        in table(outcomes)[-1]
    )
    assert "after 0.20 of" in table(outcomes[:4])[-1] and table(outcomes[:4])[-1].endswith(": reached")
    draw(outcomes, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 10_000


def test_searches_go_in_turn_and_what_is_kept_is_not_run_again(tmp_path: Path):
    ran = []

    def run(name: str, source: str, way: str, seed: int, minutes: float, _folder: Path) -> Outcome:
        ran.append((name, source, way, seed))
        return Outcome(name, way, seed, minutes, 0, 1, PLAIN)

    words = ["--results", str(tmp_path / "new" / "found.jsonl"), "--data", "a=folder:x", "--seeds", "0", "1"]
    for minutes, searches in (("4", 4), ("4", 4), ("5", 8)):
        options = arguments_of("p", "d", 4.0, ["plain", "informed"], [*words, "--minutes", minutes])
        assert [one.way for one in in_turn(options, run, Outcome)] == [
            "plain",
            "informed",
            "informed",
            "plain",
        ]
        assert len(ran) == searches
    assert ran[0] == ("a", "folder:x", "plain", 0)


def test_what_is_searched_is_not_in_the_prior(monkeypatch):
    known = {one.base for one in prior.shipped_prior().studies}
    seen = {}
    monkeypatch.setattr(without_base, "search", lambda rest: seen.update(rest=rest, prior=prior.shipped_prior()) or 0)
    monkeypatch.setattr(prior, "shipped_prior", prior.shipped_prior)  # put back afterwards
    assert without_base.main(["flowers", "f.yaml", "--plan"]) == 0
    assert seen["rest"] == ["f.yaml", "--plan"]
    assert {one.base for one in seen["prior"].studies} == known - {"flowers"} != known
    with pytest.raises(SystemExit, match="BASE must be one of cifar100, "):
        without_base.main(["pets", "f.yaml"])


@pytest.mark.parametrize("name", ["flowers", "hands"])
def test_each_data_set_has_a_file_that_every_way_can_be_set_in(name: str):
    for settings in WAYS.values():
        reading = load_spec(HERE / f"{name}.yaml", list(settings))
        spec = require(reading, check_names(reading, {name: "digits"}))
        assert spec.study == name and len(spec.space["architecture"].values) == 2


@pytest.mark.parametrize(("name", "task"), [("flowers_six", "flowers_30"), ("hands_six", "hands_20")])
def test_the_space_of_six_networks_is_the_one_of_the_tables(name: str, task: str):
    written = yaml.safe_load((HERE / f"{name}.yaml").read_text())
    assert written["space"] == space(TASKS[task])
    assert (written["training"]["max_epochs"], written["training"]["head_epochs"]) == (EPOCHS, HEAD_EPOCHS)
    assert plugins(name) and all(path.is_file() for path in plugins(name)) and not plugins("flowers")
