"""Fixtures shared by the tests: real, small data, and one local Ray for all of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("tuner", deadline=None)  # a machine at work on other things is slow, not wrong
settings.load_profile("tuner")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where prepared data are kept during the tests: never the user's cache."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def small_digits(cache_dir: Path):
    """240 training and 80 validation images of scikit-learn's digits."""
    from tuner.datasets import DataRequest, load_dataset

    request = DataRequest("digits", max_train_images=240, max_validation_images=80)
    return load_dataset(request, staged={}, seed=0, cache_dir=cache_dir, notify=lambda _text: None)


@pytest.fixture(scope="session")
def few_digits(cache_dir: Path):
    """60 training and 30 validation images of them."""
    from tuner.datasets import DataRequest, load_dataset

    request = DataRequest("digits", max_train_images=60, max_validation_images=30)
    return load_dataset(request, staged={}, seed=0, cache_dir=cache_dir, notify=lambda _text: None)


@pytest.fixture
def everything_is_worth_keeping(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep activations whatever the rule says: small images and shallow cuts would be trained from the images."""
    from tuner import activations

    if "by_the_rule" not in request.node.name:
        monkeypatch.setattr(activations, "is_worth_keeping", lambda *_: True)


@pytest.fixture(scope="session")
def local_ray_session() -> Iterator[None]:
    """One Ray on this machine for all searches of the tests."""
    from tuner.cluster import local_ray

    with local_ray():
        yield
