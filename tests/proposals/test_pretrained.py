"""The table of pretrained weights agrees with Keras."""

from __future__ import annotations

import sys

import pytest

from tuner.models.applications import BACKBONES
from tuner.proposals._pretrained import HOST, PRETRAINED, Pretrained


def test_the_table_has_every_backbone_in_every_width() -> None:
    found = {(one.architecture, one.alpha) for one in PRETRAINED}
    assert found == {(name, alpha) for name, one in BACKBONES.items() for alpha in one.alphas or (None,)}
    assert len(found) == len(PRETRAINED)


OTHER_SIZES = [
    ("mobilenet_v2", 0.35, 96), ("mobilenet_v2", 1.3, 100), ("mobilenet", 0.25, 128), ("mobilenet", 1.0, 100),
    ("mobilenet_v3_small", 0.75, 100), ("vgg16", None, 64), ("efficientnet_b0", None, 64),
]  # fmt: skip
CASES = [
    *((one, max(100, one.minimum_px)) for one in PRETRAINED),
    *(
        (one, px)
        for architecture, alpha, px in OTHER_SIZES
        for one in PRETRAINED
        if (one.architecture, one.alpha) == (architecture, alpha)
    ),
]


@pytest.mark.parametrize(("one", "px"), CASES, ids=lambda each: each if isinstance(each, int) else name_of(each))
@pytest.mark.usefixtures("without_layers")
def test_the_files_are_those_that_keras_asks_for(one: Pretrained, px: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert one.file_for(px) == file_asked_for(one, px, monkeypatch)


def name_of(one: Pretrained) -> str:
    return f"{one.architecture}-{one.alpha}"


class _Anything:
    """Layers, networks and tensors in one: whatever is made of it is itself."""

    shape = (None, 64, 64, 64)

    def __call__(self, *_given: object, **_options: object) -> _Anything:
        return self

    def __getattr__(self, _name: str) -> _Anything:
        return self

    def __add__(self, _other: object) -> _Anything:
        return self

    __mul__ = __rmul__ = __truediv__ = __add__


@pytest.fixture
def without_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the functions of Keras that build a network build nothing: what file they ask for needs no layers.

    That a network takes the file is seen in tests/models/test_weights.py; that each of them is built as Keras builds
    it, in tests/models/test_blocks.py.
    """
    import keras

    functions = {getattr(keras.applications, one.application) for one in BACKBONES.values()}
    modules = {sys.modules[function.__module__] for function in functions}
    for module in {*modules, sys.modules["keras.src.applications.resnet"]}:
        for name, value in vars(module).copy().items():
            is_layer = isinstance(value, type) and issubclass(value, keras.Layer)
            if is_layer or name == "layers":
                monkeypatch.setattr(module, name, _Anything())


class _Asked(Exception):
    pass


def file_asked_for(one: Pretrained, px: int, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of the file that Keras would download, which it asks for once the network is built."""
    import keras
    from keras.src.utils import file_utils

    asked: list[tuple[str, str]] = []

    def get_file(fname: str, origin: str, **_options: object) -> str:
        asked.append((fname, origin))
        raise _Asked

    monkeypatch.setattr(file_utils, "get_file", get_file)
    options = {} if one.alpha is None else {"alpha": one.alpha}
    application = getattr(keras.applications, BACKBONES[one.architecture].application)
    with pytest.raises(_Asked):
        application(weights="imagenet", include_top=False, input_shape=(px, px, 3), **options)
    assert f"https://{HOST}/" in asked[0][1]
    return asked[0][0]
