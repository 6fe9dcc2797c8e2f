"""Signs of life within an epoch: few, of the right epoch, and read as what they are."""

from __future__ import annotations

import time
from collections.abc import Iterator

import numpy as np
import pytest

from tuner.cluster import key_value_store
from tuner.execution import heartbeat
from tuner.execution.heartbeat import GIVE_EVERY_S, Pulse, Signs
from tuner.training._batches import Batches
from tuner.training.settings import TrialSettings
from tuner.training.trial import Trial


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """In place of the store that a cluster shares."""
    kept: dict[str, str] = {}
    monkeypatch.setattr(key_value_store, "put", kept.__setitem__)
    monkeypatch.setattr(key_value_store, "get", kept.get)
    monkeypatch.setattr(key_value_store, "delete", lambda key: kept.pop(key, None))
    return kept


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    clock = [1000.0]
    monkeypatch.setattr(heartbeat.time, "monotonic", lambda: clock[0])
    yield clock


def test_a_long_epoch_gives_a_sign_now_and_then_and_a_short_one_none(store, now) -> None:
    pulse, signs = Pulse(), Signs()
    pulse.begin("a")
    for epoch in (1, 2, 3):
        for _ in range(5):
            now[0] += GIVE_EVERY_S / 6
            pulse(epoch)
    assert store == {} and not signs.is_new("a", 2)
    given = 0
    for _ in range(12):
        now[0] += GIVE_EVERY_S / 2
        pulse(3)
        given += signs.is_new("a", 2)
    assert given == 6 and not signs.is_new("a", 2), "each is new once"


def test_a_sign_of_an_epoch_that_is_known_to_be_over_is_none(store, now) -> None:
    pulse = Pulse()
    pulse.begin("a")
    pulse(3)
    now[0] += GIVE_EVERY_S
    pulse(3)
    assert not Signs().is_new("a", 3) and Signs().is_new("a", 2) and not Signs().is_new("b", 0)


def test_what_is_over_leaves_nothing(store, now) -> None:
    pulse = Pulse()
    for name in ("a", "b"):
        pulse.begin(name)
        pulse(1)
        now[0] += GIVE_EVERY_S
        pulse(1)
        assert list(store) == [f"alive-{name}"]
    pulse.end()
    pulse(1)
    assert store == {}


def test_as_long_as_a_block_lasts_signs_are_given_but_not_for_ever(store, monkeypatch) -> None:
    monkeypatch.setattr(heartbeat, "GIVE_EVERY_S", 0.01)
    pulse = Pulse()
    pulse.begin("a")
    with pulse.during(4):
        deadline = time.monotonic() + 60
        while "alive-a" not in store and time.monotonic() < deadline:
            time.sleep(0.01)
        assert store["alive-a"].startswith("4 ")
        monkeypatch.setattr(heartbeat, "GIVEN_AT_MOST_S", 0.0)  # the time for it is over
        time.sleep(1)
        last = store["alive-a"]
        time.sleep(0.1)
        assert store["alive-a"] == last


def test_a_trial_tells_of_every_batch_that_it_trains_and_validates(few_digits) -> None:
    told: list[int] = []
    settings = TrialSettings(
        max_epochs=2, head_epochs=0, patience=None, min_delta=0.0, metric="val_accuracy", mode="max", seed=0
    )
    configuration = {"architecture": "dense", "dense_units": 16, "hidden_layers": 1, "batch_size": 20}
    trial = Trial(configuration, few_digits, settings, on_batch=told.append)
    trial.advance()
    trial.advance()
    assert set(told) == {1, 2} and min(told.count(epoch) for epoch in (1, 2)) >= 3 + 1


def test_batches_are_the_same_whoever_is_told(few_digits) -> None:
    order = np.arange(len(few_digits.train))
    quiet, told = (Batches(few_digits.train, 10, 20, order, None, 0, *more) for more in ((), (lambda: None,)))
    np.testing.assert_array_equal(quiet[1][0], told[1][0])
