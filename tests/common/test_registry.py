"""Registries, and the one message for a name that nobody knows."""

from __future__ import annotations

import pytest

from tuner.algorithms.samplers import SAMPLERS
from tuner.algorithms.schedulers import SCHEDULERS
from tuner.common.errors import DuplicateNameError, UnknownNameError
from tuner.common.registry import MOST_NAMES, Registry, unknown_name
from tuner.models.architectures import ARCHITECTURES
from tuner.models.augment.operations import AUGMENTATION
from tuner.models.preprocessing import PREPROCESSING

REGISTRIES = {
    "architecture": ARCHITECTURES,
    "augmentation": AUGMENTATION,
    "preprocessing": PREPROCESSING,
    "sampler": SAMPLERS,
    "scheduler": SCHEDULERS,
}


def colours() -> Registry[int]:
    registry: Registry[int] = Registry("colour")
    registry.add("red", 1)
    registry.add("green", 2)
    return registry


def test_a_registry_holds_values_by_name_in_the_order_of_their_registration():
    registry = colours()
    assert registry["green"] == 2 and "red" in registry and "blue" not in registry
    assert list(registry) == ["red", "green"] and len(registry) == 2


def test_add_hands_back_the_value():
    assert Registry("thing").add("one", 1) == 1


def test_a_name_is_registered_once():
    with pytest.raises(DuplicateNameError, match="colour 'red' is registered already, as that of this program"):
        colours().add("red", 3)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gren", r"^unknown colour 'gren'; did you mean 'green'\? \(known: green, red\)$"),
        ("xyz", r"^unknown colour 'xyz' \(known: green, red\)$"),
        (5, r"^unknown colour '5' \(known: green, red\)$"),
        (None, r"^unknown colour 'None'"),
        ([], r"^unknown colour '\[\]'"),
    ],
)
def test_an_unknown_name_is_told_with_the_nearest_and_all_known_ones(name, message):
    with pytest.raises(UnknownNameError, match=message) as caught:
        colours()[name]
    assert caught.value.exit_status == 2


def test_what_is_no_name_is_in_no_registry():
    assert 5 not in colours() and None not in colours() and [] not in colours()


def test_the_message_for_many_names_or_a_long_one_stays_short():
    message = unknown_name("thing", "x" * 10_000, [f"n{number:04}" for number in range(5000)])
    assert f"n{MOST_NAMES - 1:04}, ... (5000 in all)" in message
    assert len(message) < 1000


@pytest.mark.parametrize("kind", REGISTRIES)
def test_every_registry_calls_its_things_by_name_and_has_some(kind):
    registry = REGISTRIES[kind]
    assert registry.kind == kind and len(registry) > 3
    name = next(iter(registry))
    with pytest.raises(UnknownNameError, match=f"unknown {kind} '{name}x'; did you mean '{name}'"):
        registry[f"{name}x"]
    assert all(registry[name].description for name in registry)
