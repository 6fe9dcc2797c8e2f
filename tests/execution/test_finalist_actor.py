"""The actor of finalists without Ray: what it does with a training that was cut."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray.exceptions import RayActorError

from tuner.cluster import key_value_store
from tuner.cluster.slots import Packing
from tuner.common.locations import Location
from tuner.datasets.request import DataRequest
from tuner.execution.finalist_actor import FinalistActor, FinalistStep, Lost, Pool
from tuner.execution.lost_workers import HangWatch
from tuner.execution.worker_process import Guard, TrialKind, WorkerContext, Workers
from tuner.runs.epoch import Epoch
from tuner.runs.finalists import FinalistTraining
from tuner.training.checkpoint import FILE_NAME
from tuner.training.settings import Ended, TrialSettings
from tuner.training.trial_like import Progress

SETTINGS = TrialSettings(
    max_epochs=3, head_epochs=2, patience=None, min_delta=0.0, metric="val_accuracy", mode="max", seed=1
)
TRAINING = FinalistTraining(4, 0, {})


class Counting:
    """A trial of three epochs, whose checkpoint is their number and its end."""

    def __init__(self) -> None:
        self.epoch, self.seconds, self.best = 0, 0.0, 0.5
        self.ended: Ended | None = None

    def work_on_activations(self, _seconds: float) -> Progress:
        return Progress(0, 0)

    def advance(self) -> Epoch:
        self.epoch += 1
        self.ended = Ended("completed", "max_epochs") if self.epoch == SETTINGS.max_epochs else None
        return Epoch(self.epoch, "scratch", 1.0, 0.1, self.best, {"val_accuracy": self.best})

    def save(self, directory: Path) -> None:
        ended = self.ended and [self.ended.status, self.ended.reason]
        (directory / FILE_NAME).write_text(json.dumps([self.epoch, ended]))

    def load(self, directory: Path) -> None:
        self.epoch, ended = json.loads((directory / FILE_NAME).read_text())
        self.ended = Ended(*ended) if ended else None


class Countings:
    """The maker of such trials."""

    def __init__(self, *_about: Any) -> None:
        pass

    def begin(self, *_about: Any, **_more: Any) -> Counting:
        return Counting()

    def release(self) -> None:
        pass


@pytest.fixture
def actor(tmp_path: Path) -> FinalistActor:
    return actor_of("one search", tmp_path)


def actor_of(search: str, folder: Path, **kind: Any) -> FinalistActor:
    made: Any = TrialKind(**{"make": Countings, **kind})
    return FinalistActor(WorkerContext(DataRequest("digits"), {}, folder, SETTINGS, None, 1.0, made), Guard(), search)


def test_a_finalist_that_was_cut_goes_on_to_its_own_end_when_it_is_begun_again(actor, tmp_path) -> None:
    place = Location(str(tmp_path / "finalist"))
    actor.begin(TRAINING, place, within_s=0.0)
    step = actor.step()
    assert (step.epoch, step.ended) == (1, ("completed", "time_budget"))
    actor.begin(TRAINING, place)
    assert [actor.step().epoch, actor.step().ended] == [2, ("completed", "max_epochs")]


def test_a_finalist_that_has_ended_by_itself_is_not_trained_further(actor, tmp_path) -> None:
    place = Location(str(tmp_path / "finalist"))
    actor.begin(TRAINING, place)
    while actor.step().ended is None:
        continue
    actor.begin(TRAINING, place)
    step = actor.step()
    assert (step.epoch, step.epoch_s, step.ended) == (3, None, ("completed", "max_epochs"))


def test_finalists_of_two_searches_on_a_cluster_give_signs_of_life_of_their_own(tmp_path, monkeypatch) -> None:
    kept: dict[str, str] = {}
    monkeypatch.setattr(key_value_store, "put", kept.__setitem__)
    monkeypatch.setattr(key_value_store, "delete", lambda key: kept.pop(key, None))
    alive: list[Any] = []

    class Telling(Countings):
        def __init__(self, _context: WorkerContext, on_batch: Any, _notify: Any) -> None:
            alive.append(on_batch)

    both = [actor_of(name, tmp_path, make=Telling, sign_every_s=0.0) for name in ("first", "second")]
    for number, one in enumerate(both):
        one.begin(TRAINING, Location(str(tmp_path / str(number))))
        for _ in range(2):
            alive[number](1)
    assert len(kept) == 2
    while both[0].step().ended is None:
        continue
    assert len(kept) == 1


class FarActor:
    """An actor as Ray shows it; every step is the end of its training, as long as it lives."""

    def __init__(self) -> None:
        self.is_dead = False
        ended = FinalistStep(1, 0.5, 1.0, 1.0, (), ("completed", "max_epochs"))
        self.is_up, self.begin, self.step = map(self._answering, (True, None, ended))

    def _answering(self, answer: Any) -> SimpleNamespace:
        return SimpleNamespace(remote=lambda *_about: (self, object(), answer))


def test_processes_that_died_while_they_had_nothing_to_do_are_no_losses_of_the_next_training(
    tmp_path, monkeypatch
) -> None:
    actors: list[FarActor] = []

    def make(*_about: Any) -> FarActor:
        actors.append(FarActor())
        return actors[-1]

    def get(reference: tuple[FarActor, object, Any]) -> Any:
        if reference[0].is_dead:
            raise RayActorError(error_msg="The actor is dead because its node has died.")
        return reference[2]

    remote = SimpleNamespace(options=lambda **_asked: SimpleNamespace(remote=make))
    for name, stand_in in (("remote", lambda _class: remote), ("get", get), ("kill", lambda _actor: None)):
        monkeypatch.setattr(ray, name, stand_in)
    monkeypatch.setattr(ray, "wait", lambda asked, **_how: (asked, []))
    context = WorkerContext(DataRequest("digits"), {}, tmp_path, SETTINGS, None, 1.0)
    pool = Pool(Workers(context, Packing(4, 1.0, 0.0), None, Guard()), HangWatch(None, 0))

    def trained(numbers: list[int]) -> list[FinalistStep | Lost]:
        for number in numbers:
            pool.begin(FinalistTraining(4, number, {}), Location(str(tmp_path)))
        found: list[FinalistStep | Lost] = []
        while pool.is_busy:
            found += [step for _, step in pool.finished()]
        return found

    assert len(trained([0, 1, 2, 3])) == len(actors) == 4
    for one in actors:
        one.is_dead = True
    (step,) = trained([4])
    assert isinstance(step, FinalistStep) and len(actors) == 5
