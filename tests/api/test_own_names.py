"""Words that come with tuner are shown; what somebody has named is not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tuner.api.own_names import without_own_names
from tuner.models.augment.operations import AUGMENTATION
from tuner.models.parameters import GENERAL, OF_ARCHITECTURES


@pytest.fixture(autouse=True)
def own_flip() -> Iterator[None]:
    """An operation that this program has registered, and so does not come with tuner."""
    AUGMENTATION.add("own_flip", AUGMENTATION["flip"])
    yield
    AUGMENTATION.remove("own_flip")


@pytest.mark.parametrize(
    "configuration",
    [
        {"preprocess": "grayscale|resize(64)|scale(-1,1)", "augment": "flip(both)|shift(2)"},
        {"preprocess": "none", "augment": "none", "optimizer": "sgd", "schedule": "cosine", "loss": "focal"},
        {"architecture": "mobilenet_v2", "weights": "imagenet", "pooling": "max", "alpha": 0.35},
        {"architecture": "keras_hub:vit_base_patch16_224_imagenet", "weights": "pretrained", "pooling": "class_token"},
        {"architecture": "cnn", "padding": "last_valid", "batch_normalization": True, "momentum": None},
        {
            "augment": "none",
            "augment.flip": "both",
            "augment.shift_2": 3,
            "augment.rotate": 12.5,
            "augment.zoom": "none",
        },
    ],
    ids=lambda one: next(iter(one)),
)
def test_what_comes_with_tuner_is_shown_as_it_is(configuration) -> None:
    assert without_own_names()(configuration) == configuration


def test_every_word_of_a_parameter_that_comes_with_tuner_is_shown() -> None:
    shown = without_own_names()
    for parameters in (GENERAL, *OF_ARCHITECTURES.values()):
        for name, parameter in parameters.items():
            for value in (*parameter.values, parameter.default):
                assert shown({name: value}) == {name: value}


@pytest.mark.parametrize(
    ("configuration", "expected"),
    [
        ({"architecture": "own_net"}, {"architecture": "own 1"}),
        ({"architecture": "keras_hub:/home/me/vit"}, {"architecture": "own 1"}),
        ({"architecture": "keras_hub:~/vit"}, {"architecture": "own 1"}),
        ({"preprocess": "own_op|scale(0,1)"}, {"preprocess": "own 1"}),
        ({"augment": "own_flip"}, {"augment": "own 1"}),
        ({"augment": "shift(2)|own_flip(both)"}, {"augment": "own 1"}),
        ({"augment": "weak", "augment.shift": 2}, {"augment": "own 1", "augment.shift": 2}),
        ({"augment.own_flip": True, "augment.own_flip_2": "both"}, {"augment.own 1": True, "augment.own 2": "own 3"}),
        ({"augment.shift.own": 0.5}, {"augment.own 1": 0.5}),
        ({"augment.flip": "own word"}, {"augment.flip": "own 1"}),
        ({"optimizer": "own_adam"}, {"optimizer": "own 1"}),
        ({"own_rate": 0.5, "own_kind": "wide"}, {"own 1": 0.5, "own 2": "own 3"}),
    ],
    ids=lambda one: str(next(iter(one.values()))),
)  # fmt: skip
def test_what_somebody_has_named_becomes_a_number(configuration, expected) -> None:
    assert without_own_names()(configuration) == expected


def test_one_name_is_one_number_and_another_is_another() -> None:
    shown = without_own_names()
    found = [shown({"architecture": name})["architecture"] for name in ("a", "b", "a")]
    assert found == ["own 1", "own 2", "own 1"]
