"""Fixtures shared by the tests: real, small data, and one local Ray for all of them."""

from __future__ import annotations

import logging
import os
import signal
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# A machine at work on other things is slow, not wrong; and everyone tries the same examples.
settings.register_profile("tuner", deadline=None, derandomize=True)
settings.load_profile("tuner")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if "PYTEST_XDIST_WORKER" in os.environ:
    for library in ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(library, "1")  # each would take all cores for each of the processes


if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # So begins what a shell without job control puts into the background; tests look at what Ctrl-C does.
    signal.signal(signal.SIGINT, signal.default_int_handler)


STARTS_RAY = (
    *("bad_trials", "chaos", "connection", "elastic", "lab", "mirror", "monitoring_run", "search", "search_resumed"),
    *("submit", "trackers", "python", "image_measuring"),
)
"""Modules of tests that start Ray in processes of their own, for some of their tests at least."""


QUICK_BACKBONES = ("mobilenet_v2", "vgg16")
"""Of these, tests that begin with building a backbone are in the quick tier too."""


@pytest.hookimpl(tryfirst=True)  # pytest-xdist looks at the groups in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Say which tests pytest-xdist gives to one process, and put those of one backbone side by side.

    All that start Ray: two of them would share the cores twice. All of one backbone, whatever they test of it: it is
    built once (`tests.support.backbones`), and given back before the next one, since nine of them would take 8 GB.
    """
    from tests.support.backbones import BACKBONES

    for item in items:
        name = item.path.stem.removeprefix("test_")
        backbone = _backbone_of(item, BACKBONES)
        if name in STARTS_RAY or "local_ray_session" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("ray"))
        elif backbone is not None:
            item.add_marker(pytest.mark.xdist_group(backbone))
            if backbone not in QUICK_BACKBONES:
                item.add_marker(pytest.mark.full)
    items.sort(key=lambda item: BACKBONES.index(found) + 1 if (found := _backbone_of(item, BACKBONES)) else 0)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Write how long each part of each test took into the file that TUNER_TEST_DURATIONS names."""
    file = os.environ.get("TUNER_TEST_DURATIONS")
    if file and "PYTEST_XDIST_WORKER" not in os.environ:
        with Path(file).open("a") as durations:
            durations.write(f"{report.duration:.2f}\t{report.when}\t{report.outcome}\t{report.nodeid}\n")


def _backbone_of(item: pytest.Item, backbones: list[str]) -> str | None:
    name = item.callspec.params.get("name") if isinstance(item, pytest.Function) and hasattr(item, "callspec") else None
    return name if isinstance(name, str) and name in backbones else None


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where prepared data are kept during the tests: never the user's cache."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def small_digits(cache_dir: Path):
    """240 training and 80 validation images of scikit-learn's digits."""
    from tuner.datasets.loading import load_dataset
    from tuner.datasets.request import DataRequest

    request = DataRequest("digits", max_train_images=240, max_validation_images=80)
    return load_dataset(request, staged={}, seed=0, cache_dir=cache_dir, notify=lambda _text: None)


@pytest.fixture(scope="session")
def few_digits(cache_dir: Path):
    """60 training and 30 validation images of them."""
    from tuner.datasets.loading import load_dataset
    from tuner.datasets.request import DataRequest

    request = DataRequest("digits", max_train_images=60, max_validation_images=30)
    return load_dataset(request, staged={}, seed=0, cache_dir=cache_dir, notify=lambda _text: None)


@pytest.fixture
def everything_is_worth_keeping(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep activations whatever the rule says: small images and shallow cuts would be trained from the images."""
    from tuner.training import activations

    if "by_the_rule" not in request.node.name:
        monkeypatch.setattr(activations, "is_worth_keeping", lambda *_: True)


@pytest.fixture(scope="module")
def small_mobilenet() -> Iterator[None]:
    """Let MobileNetV2 be a small one in a module that is not of its layers; all real ones: test_cached_backbones."""
    import keras

    from tests.support.small_mobilenet import small_mobilenet_v2

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(keras.applications, "MobileNetV2", small_mobilenet_v2)
        yield


@pytest.fixture(scope="session")
def local_ray_session() -> Iterator[None]:
    """One Ray on this machine for all searches of the tests; trials that sleep need none of a network's libraries."""
    from tuner.cluster.ray_session import local_ray

    with local_ray(preloads=False):
        yield


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of an empty bucket of a real S3 server on loopback; the environment has what it takes to use it."""
    import botocore.session
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # a line for every request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    values = {"AWS_ACCESS_KEY_ID": "anyone", "AWS_SECRET_ACCESS_KEY": "not-to-be-seen", "AWS_REGION": "us-east-1"}
    for name, value in {**values, "AWS_ENDPOINT_URL": f"http://{host}:{port}"}.items():
        monkeypatch.setenv(name, value)
    client = botocore.session.get_session().create_client("s3", "us-east-1", endpoint_url=f"http://{host}:{port}")
    client.create_bucket(Bucket="images")
    yield "s3://images"
    urllib.request.urlopen(urllib.request.Request(f"http://{host}:{port}/moto-api/reset", method="POST")).close()
    server.stop()
