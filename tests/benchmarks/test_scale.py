"""The account of benchmarks.scale on hand-made reports, and that its sleeping trials look like trials to the actor."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from benchmarks.curve_trials import SleepingTrials, draw
from benchmarks.scale import plot
from benchmarks.scale.account import Report, efficiency_at, summarise
from benchmarks.scale.report import Results, load, render
from benchmarks.scale.suggestions import simulate_search
from tuner.datasets.request import DataRequest
from tuner.execution.trial_actor import TrialActor
from tuner.execution.worker_process import Guard, TrialKind, WorkerContext
from tuner.runs.epoch import METRIC, TIME
from tuner.training.settings import TrialSettings


def reports(pause_s: float, slots: int = 2, epochs: int = 40) -> list[Report]:
    """Slots that sleep for a second, then wait; the driver spends 0.01 s on each report."""
    found = [(slot / slots + (1 + pause_s) * number + 1, slot) for slot in range(slots) for number in range(epochs)]
    return [Report(slot, 1.0, at_s, 0.01 * index) for index, (at_s, slot) in enumerate(sorted(found))]


def test_slots_that_wait_between_epochs_are_less_efficient() -> None:
    assert summarise(reports(0.0), 2, 0.0).efficiency == pytest.approx(1)
    assert summarise(reports(0.25), 2, 0.0).efficiency == pytest.approx(0.8, abs=0.01)


def test_what_was_before_all_slots_were_busy_counts_only_from_the_start() -> None:
    late = summarise(reports(0.0), 2, -10.0)
    assert late.efficiency == pytest.approx(1) and late.all_slots_after_s == pytest.approx(10.5)
    assert late.efficiency_from_start == pytest.approx(
        1 - 10.25 / 49, abs=0.01
    )  # one slot slept for half a second more


def test_the_driver_s_time_is_that_between_reports() -> None:
    found = summarise([Report(0, None, 0.5, 0.0), *reports(0.0)], 2, 0.0)
    assert found.cpu_per_report_s == pytest.approx(0.01) and found.reports_per_s == pytest.approx(2)
    assert found.reports == 80


def test_a_search_too_short_to_judge_is_refused() -> None:
    with pytest.raises(ValueError, match="the search must be longer; got 0 epochs while all slots were busy"):
        summarise(reports(0.0, epochs=1), 2, 0.0)


def test_on_paper_a_driver_that_is_busy_all_the_time_bounds_the_reports() -> None:
    assert efficiency_at(1000, 60.0, 0.001) > 0.99
    busy = efficiency_at(1000, 10.0, 0.05)
    assert 1000 * busy / 10.0 == pytest.approx(1 / 0.05, rel=0.001)  # reports a second: what the driver can do
    assert all(efficiency_at(n, 5.0, 0.01) >= efficiency_at(n + 50, 5.0, 0.01) for n in (1, 100, 400))


def actor(epochs: int = 3) -> TrialActor:
    settings = TrialSettings(
        max_epochs=epochs, head_epochs=1, patience=None, min_delta=0.0, metric="val_accuracy", mode="max", seed=7
    )
    trial_kind = TrialKind(partial(SleepingTrials, epoch_s=0.001))
    context = WorkerContext(DataRequest("digits"), {}, None, settings, None, 1.0, trial_kind)
    config: dict[str, Any] = {"trial": 3, "configuration": {"a": 1}, "origin": "sampler", "resume_from": None,
                              "generation": 0}  # fmt: skip

    class Ready(TrialActor):
        """As `tune.with_parameters` makes it, without Ray."""

        def setup(
            self, config: dict[str, Any], context: WorkerContext | None = context, guard: Guard | None = None
        ) -> None:
            super().setup(config, context, guard)

    return Ready(config)


def test_a_sleeping_trial_reports_to_its_end_and_goes_on_from_a_checkpoint(tmp_path: Path) -> None:
    first = actor()
    shown = [first.step() for _ in range(2)]
    first.save_checkpoint(str(tmp_path))
    last = first.step()
    assert [result[TIME] for result in (*shown, last)] == [1, 2, 3]
    assert (last["done"], last["ended_status"], last["ended_reason"]) == (True, "completed", "max_epochs")
    assert shown[0][METRIC] < shown[1][METRIC] < last[METRIC] < 1 and shown[0]["shown"].seconds >= 0.00075
    other = actor()
    other.load_checkpoint(str(tmp_path))
    again = other.step()
    untimed = {"worker_memory_mb": 0, "shown": last["shown"]._replace(seconds=again["shown"].seconds)}
    assert {**again, "worker_memory_mb": 0} == {**last, **untimed}


def test_what_a_trial_is_like_follows_from_its_configuration_alone() -> None:
    assert draw({"a": 1, "b": 2}) == draw({"b": 2, "a": 1}) != draw({"a": 1, "b": 3})


def test_every_new_trial_of_a_simulated_search_is_timed_once() -> None:
    found = simulate_search(40, 4)
    assert [number for number, _ in found] == list(range(40))
    assert all(0 < seconds < 60 for _, seconds in found)


def test_what_was_measured_becomes_tables_and_a_picture(tmp_path: Path) -> None:
    row = {"epoch_s": 5.0, "scheduler": "asha", "all_slots_after_s": 3.0, "cpu_per_report_s": 0.01, "load_average": 2.0,
           "reports_per_s": 80.0, "trials": 5, "reports": 10, "suggestions": [[0, 0.001], [1, 0.003]]}  # fmt: skip
    rows = [{**row, "kind": "efficiency", "slots": slots, "efficiency": share}
            for slots, share in ((1, 0.99), (16, 0.95), (16, 0.97), (16, 0.96))]  # fmt: skip
    rows += [{**row, "kind": kind, "slots": 16} for kind in ("reports", "search")]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    results = load(tmp_path)
    text = render(results)
    assert "| 16 | 0.960 | 0.950 to 0.970 | 3.0 | 10.0 | 2 |" in text
    assert "| asha | 0.50 | 10.0 | 100 | 80 |" in text
    assert "| on Ray | 0 to 500 | 2 | 1 | 3 |" in text
    plot.save(results, tmp_path / "scale.png")
    assert (tmp_path / "scale.png").stat().st_size > 10_000
    plot.save(Results([], []), tmp_path / "empty.png")
    assert not (tmp_path / "empty.png").exists()
    assert render(Results([], [])).strip() == "# How a search grows"
