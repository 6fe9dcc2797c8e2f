"""Probes beside the trials of a search: when they begin, what they may spend, what the record is told. No Ray."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest
from ray.exceptions import RayError

from tests.support.make_record import epoch, session_started, study_created, trial_started
from tuner.cluster.slots import Packing
from tuner.datasets.request import DataRequest
from tuner.execution import probing
from tuner.execution.probing import ProbeActor, Probes
from tuner.execution.worker_process import Guard, WorkerContext
from tuner.runs.events import LabelsDoubted, Probed
from tuner.runs.record import Record, read_state
from tuner.training.settings import TrialSettings

SETTINGS = TrialSettings(2, 1, None, 0.0, "val_accuracy", "max", 0)
ASKED = [{"architecture": "mobilenet_v2", "preprocess": f"resize({size})"} for size in (32, 64, 100)]


class Doubts(NamedTuple):
    event: LabelsDoubted
    pictures: np.ndarray


def probed(configuration: dict[str, Any], value: float, seconds: float = 2.0) -> Probed:
    values = {"val_accuracy": value}
    return Probed(configuration=configuration, method="ridge", metrics=values, features=1280, seconds=seconds)


def doubts() -> Doubts:
    event = LabelsDoubted(configuration=ASKED[1], images=10, suspects=[], found=0, accuracy=0.5)
    return Doubts(event, np.zeros((2, 3, 3, 1), np.uint8))


class FakeProcess:
    """Gives the answers that it was made with, one each time it is asked."""

    def __init__(self, *answers: Any) -> None:
        self.left, self.asked, self.ended = list(answers), [], False

    def ask(self, what: str, configuration: dict[str, Any], left_s: float, *more: Any) -> None:
        assert more == ((1280,) if what == "doubt" else ())
        self.asked.append((what, configuration["preprocess"], left_s))
        self.told_s = 0.0

    def spent_s(self) -> float:
        self.told_s += 0.4
        return self.told_s

    def answers(self) -> list[Any]:
        answer = self.left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return [] if answer == "not yet" else [answer]

    def end(self) -> None:
        self.ended = True


@pytest.fixture
def record(tmp_path):
    record = Record(tmp_path / "record.jsonl")
    record.append(study_created())
    record.append(trial_started(0))
    yield record
    record.close()


def run(record: Record, process: FakeProcess, limit_s: float = 10.0, asked: Any = ASKED) -> list[np.ndarray]:
    """Look again and again, until nothing is left to be answered."""
    kept: list[np.ndarray] = []
    probes = Probes(record, asked, limit_s, lambda: process, kept.append)
    probes.see()
    assert not process.asked, "no epoch has ended yet"
    record.append(epoch(0, 1, 0.5))
    for _ in range(len(process.left) + 2):
        probes.see()
    probes.close()
    return kept


def test_all_are_probed_one_after_the_other_and_labels_by_the_best(record):
    answers = [probed(one, value) for one, value in zip(ASKED, (0.5, 0.8, 0.6), strict=True)]
    process = FakeProcess("not yet", *answers[:2], "not yet", answers[2], doubts())
    kept = run(record, process)
    assert process.asked == [
        ("probe", "resize(32)", 10), ("probe", "resize(64)", 8), ("probe", "resize(100)", 6), ("doubt", "resize(64)", 4)
    ]  # fmt: skip
    assert [one.metrics["val_accuracy"] for one in record.state.probes] == [0.5, 0.8, 0.6]
    assert record.state.doubted is not None and len(kept) == 1 and process.ended and not record.state.notices


@pytest.mark.parametrize(
    ("answers", "asked", "notice"),
    [
        ([probed(ASKED[0], 0.5), None], ["probe", "probe"], "1 of 3 were probed in the 10 s"),
        ([*(probed(one, 0.5) for one in ASKED), None], [*["probe"] * 3, "doubt"], "labels were not looked at in the"),
        ([*(probed(one, 0.5) for one in ASKED), "too few"], [*["probe"] * 3, "doubt"], "not looked at: too few"),
        ([RayError("it died")], ["probe"], "no longer probed: it died"),
    ],
    ids=["time is spent", "no time for labels", "labels that cannot be told", "a process that dies"],
)
def test_what_cannot_be_done_is_said_once_and_the_search_goes_on(record, answers, asked, notice):
    process = FakeProcess(*answers)
    run(record, process)
    assert [what for what, *_ in process.asked] == asked and process.ended
    (said,) = record.state.notices
    assert notice in said


def test_a_backbone_that_fails_leaves_the_others(record):
    failed = Probed(configuration=ASKED[0], method="ridge", reason="out of memory", seconds=1.0)
    run(record, FakeProcess(failed, probed(ASKED[1], 0.5), probed(ASKED[2], 0.4), doubts()))
    assert [one.reason for one in record.state.probes] == ["out of memory", None, None]
    assert record.state.doubted is not None


def test_a_session_that_goes_on_probes_what_is_missing_within_what_is_left(record):
    for one in ASKED[:2]:
        record.append(probed(one, 0.5, seconds=4.0))
    process = FakeProcess(probed(ASKED[2], 0.9, seconds=1.0), doubts())
    run(record, process)
    assert process.asked == [("probe", "resize(100)", 2), ("doubt", "resize(100)", 1)]


def see_all(record: Record, process: FakeProcess) -> None:
    """Look as often as there are answers, and end, in a session whose trials have shown something before."""
    probes = Probes(record, ASKED, 10.0, lambda: process, lambda _pictures: None)
    for _ in range(len(process.left) + 1):
        probes.see()
    probes.close()


def test_a_session_that_goes_on_does_not_spend_again_what_was_cut_short(record, monkeypatch):
    monkeypatch.setattr(probing, "TOLD_EVERY_S", 0.0)
    record.append(epoch(0, 1, 0.5))
    see_all(record, first := FakeProcess(probed(ASKED[0], 0.5, seconds=4.0), *["not yet"] * 3))
    assert first.asked[-1][1] == "resize(64)" and record.state.probe_s == pytest.approx(5.2)
    record.append(session_started(resumed=True))
    see_all(record, again := FakeProcess("not yet", probed(ASKED[1], 0.8, seconds=2.0), None))
    assert again.asked == [("probe", "resize(64)", pytest.approx(4.8)), ("probe", "resize(100)", pytest.approx(2.8))]
    assert record.state.probe_s == pytest.approx(10), "a probe's own time is counted once, and all is spent"
    record.append(session_started(resumed=True))
    see_all(record, last := FakeProcess())
    assert not last.asked
    assert read_state(record.path).probe_s == pytest.approx(10), "what is read again is what was written"


@pytest.mark.parametrize(
    ("answers", "spent_s"),
    [([None], 10.0), (["too few"], 3.8), ([RayError("it died")], 3.8), ([], 3.8)],
    ids=["no time for labels", "labels that cannot be told", "a process that dies", "a search that is killed"],
)
def test_labels_that_were_not_looked_at_have_cost_their_time(answers, spent_s, record, monkeypatch):
    monkeypatch.setattr(probing, "TOLD_EVERY_S", 0.0)
    for event in (*(probed(one, 0.5, seconds=1.0) for one in ASKED), epoch(0, 1, 0.5)):
        record.append(event)
    process = FakeProcess("not yet", "not yet", *answers)
    probes = Probes(record, ASKED, 10.0, lambda: process, lambda _pictures: None)
    for _ in range(len(process.left) + 1):
        probes.see()
    assert record.state.probe_s == pytest.approx(spent_s)


@pytest.mark.parametrize("why", ["nothing is asked for", "all is done", "the time is spent"])
def test_where_nothing_is_left_to_do_no_process_is_started(record, why):
    for one in ASKED[: 0 if why == "nothing is asked for" else 3]:
        record.append(probed(one, 0.5, seconds=5.0 if why == "the time is spent" else 1.0))
    if why == "all is done":
        record.append(doubts().event)
    process = FakeProcess()
    run(record, process, asked=[] if why == "nothing is asked for" else ASKED)
    assert not process.asked and not process.ended


def node_id(name: str) -> str:
    return name.encode().ljust(28).hex()


class FakeRay:
    """Stands for Ray: what actors are made with, and that they are killed."""

    def __init__(self, **cpus: int) -> None:
        """The CPUs of each node, of which the search is on `head`."""
        self.cpus, self.made, self.killed, self.node = cpus, list[Any](), 0, ""
        self.removed: tuple[Any, ...] = ()

    def nodes(self) -> list[dict[str, Any]]:
        return [{"NodeID": node_id(name), "Alive": name != "gone", "Resources": {"CPU": n} if n else {}}
                for name, n in self.cpus.items()]  # fmt: skip

    def get_runtime_context(self) -> Any:
        return SimpleNamespace(get_node_id=lambda: node_id("head"))

    def remote(self, kind: Any) -> FakeRay:
        self.kind = kind
        return self

    def options(self, num_cpus: float, scheduling_strategy: Any) -> Any:
        assert num_cpus == 0 and scheduling_strategy.soft
        self.node = bytes.fromhex(scheduling_strategy.node_id).decode().strip()
        return SimpleNamespace(remote=self.make)

    def make(self, *given: Any, **settings: Any) -> Any:
        if self.kind is shutil.rmtree:
            self.removed = (*given, self.node)
            return shutil.rmtree(*given, **settings)
        self.made.extend(given)
        return SimpleNamespace(probe=SimpleNamespace(remote=lambda *_asked: "asked"))

    def get(self, _done: Any, timeout: float) -> None:
        assert self.killed and timeout > 0

    def delete(self, key: str) -> None:
        assert key.startswith("probe-")

    def kill(self, _actor: Any) -> None:
        self.killed += 1

    def wait(self, asked: list[Any], timeout: float) -> None:
        assert asked == ["asked"] and self.killed and timeout > 0


@pytest.mark.parametrize(("gpus", "nodes"), [(0.0, {"head": 2}), (0.5, {"head": 2}), (0.5, {"head": 0, "worker": 4})])
def test_a_probe_beside_trials_on_gpus_keeps_its_features_apart_and_leaves_none_of_them(
    gpus, nodes, record, monkeypatch
):
    fake = FakeRay(**nodes)
    monkeypatch.setattr(probing, "ray", fake)
    monkeypatch.setattr(probing, "key_value_store", fake)
    workers: Any = SimpleNamespace(packing=Packing(1, 1, gpus), context=None, guard=None)
    probes = Probes.on_ray(workers, record, ASKED, 10.0, lambda _pictures: None)
    record.append(epoch(0, 1, 0.5))
    probes.see()
    apart = fake.made[2]
    assert (apart is not None) == bool(gpus)
    if apart is not None:
        (apart / "features.npy").write_text("7")
    probes.close()
    assert fake.killed == 1 and (apart is None or not apart.exists())
    assert fake.removed == ((str(apart), "worker") if "worker" in nodes else ()), "it lies on the node of the probe"


@pytest.mark.parametrize("apart", [None, Path("apart")])
@pytest.mark.parametrize("gpus", [None, 0.0, 0.5])
def test_a_probe_sees_no_gpu_wherever_it_keeps_features(apart, gpus, monkeypatch, tmp_path):
    monkeypatch.setattr(probing.os, "nice", lambda _more: 0)
    found: list[WorkerContext] = []
    monkeypatch.setattr(probing, "WorkerProcess", lambda context, _guard: found.append(context))
    context = WorkerContext(DataRequest("digits"), {}, None, SETTINGS, None, 4.0, gpus=gpus)
    monkeypatch.chdir(tmp_path)
    ProbeActor(context, Guard(), apart, "name")
    assert apart is None or (apart.stat().st_mode & 0o777) == 0o700
    assert (found[0].gpus, found[0].cpus) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("gpus", "given", "seen"),
    [(0.0, "0,1", "-1"), (0, "", "-1"), (0.5, "1", "1"), (2.0, "0,1", "0,1"), (None, "0,1", "0,1")],
    ids=["none asked for", "none there", "a part of one", "several", "in a program of its own"],
)
def test_a_trial_that_asks_for_no_gpu_sees_none_before_anything_is_loaded(gpus, given, seen, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    made: list[str] = []
    kind: Any = SimpleNamespace(make=lambda *_: made.append(os.environ["CUDA_VISIBLE_DEVICES"]))
    WorkerContext(DataRequest("digits"), {}, None, SETTINGS, None, 1.0, kind, gpus=gpus).trials()
    assert made == [seen]


@pytest.mark.parametrize(
    ("cpus", "node"),
    [({"other": 2, "head": 2}, "head"), ({"head": 0, "gone": 8, "other": 2}, "other"), ({"head": 0}, "head")],
    ids=["a search beside trials", "a bare head", "no node yet"],
)
def test_a_probe_runs_where_trials_can(cpus, node, record, monkeypatch):
    monkeypatch.setattr(probing, "ray", fake := FakeRay(**cpus))
    monkeypatch.setattr(probing, "key_value_store", fake)
    workers: Any = SimpleNamespace(packing=Packing(1, 1, 0.0), context=None, guard=None)
    record.append(epoch(0, 1, 0.5))
    Probes.on_ray(workers, record, ASKED, 10.0, lambda _pictures: None).see()
    assert fake.node == node
