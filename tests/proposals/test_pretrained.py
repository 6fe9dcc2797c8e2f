"""The table of pretrained weights agrees with Keras."""

from __future__ import annotations

import pytest

from tuner.models.applications import BACKBONES
from tuner.proposals._pretrained import HOST, PRETRAINED, Pretrained


def test_the_table_has_every_backbone_in_every_width() -> None:
    found = {(one.architecture, one.alpha) for one in PRETRAINED}
    assert found == {(name, alpha) for name, one in BACKBONES.items() for alpha in one.alphas or (None,)}
    assert len(found) == len(PRETRAINED)


@pytest.mark.parametrize(
    ("architecture", "alpha", "px"),
    [("mobilenet_v2", 0.35, 96), ("mobilenet_v2", 1.3, 100), ("mobilenet", 0.25, 128), ("mobilenet", 1.0, 100),
     ("mobilenet_v3_small", 0.75, 100), ("vgg16", None, 64), ("efficientnet_b0", None, 64)],
)  # fmt: skip
def test_the_files_are_those_that_keras_asks_for(
    architecture: str, alpha: float | None, px: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = next(each for each in PRETRAINED if (each.architecture, each.alpha) == (architecture, alpha))
    assert one.file_for(px) == file_asked_for(one, px, monkeypatch)


@pytest.mark.full
@pytest.mark.parametrize("one", PRETRAINED, ids=lambda one: f"{one.architecture}-{one.alpha}")
def test_all_files_are_those_that_keras_asks_for(one: Pretrained, monkeypatch: pytest.MonkeyPatch) -> None:
    px = max(100, one.minimum_px)
    assert one.file_for(px) == file_asked_for(one, px, monkeypatch)


class _Asked(Exception):
    pass


def file_asked_for(one: Pretrained, px: int, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of the file that Keras would download, which it asks for once the network is built: without numbers."""
    import keras
    from keras.src.utils import file_utils

    from tuner.models.backend import symbolic

    asked: list[tuple[str, str]] = []

    def get_file(fname: str, origin: str, **_options: object) -> str:
        asked.append((fname, origin))
        raise _Asked

    monkeypatch.setattr(file_utils, "get_file", get_file)
    options = {} if one.alpha is None else {"alpha": one.alpha}
    application = getattr(keras.applications, BACKBONES[one.architecture].application)
    with pytest.raises(_Asked), symbolic():
        application(weights="imagenet", include_top=False, input_shape=(px, px, 3), **options)
    keras.utils.clear_session()
    assert f"https://{HOST}/" in asked[0][1]
    return asked[0][0]
