"""Models on disk: saved ones load without tuner; pretrained weights are found, missed and told from damaged ones."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from tests.support import needs
from tests.support.backbones import EVERY_DEPTH
from tuner.models.network import build_model

VGG16_FEATURES = {"architecture": "vgg16", "weights": "none", "pooling": "flatten", "head_units": 256, "dropout": 0.5}


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    quiet = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment}
    return subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, env=quiet)


@pytest.mark.full
def test_a_saved_model_loads_and_predicts_where_tuner_is_not_installed(tmp_path: Path) -> None:
    built = build_model({**VGG16_FEATURES, "preprocess": "resize(32)|scale(0,1)"}, (20, 24, 1), 2, seed=0)
    images = np.random.default_rng(0).integers(0, 256, (2, 20, 24, 1), dtype=np.uint8)
    expected = keras.ops.convert_to_numpy(built.model(images, training=False))
    built.model.save(tmp_path / "model.keras")
    np.savez(tmp_path / "expected.npz", images=images, expected=expected)
    code = (
        "import sys; sys.modules['tuner'] = None\n"
        "import keras, numpy\n"
        f"model = keras.models.load_model({str(tmp_path / 'model.keras')!r})\n"
        f"data = numpy.load({str(tmp_path / 'expected.npz')!r})\n"
        "found = keras.ops.convert_to_numpy(model(data['images'], training=False))\n"
        "numpy.testing.assert_allclose(found, data['expected'], rtol=1e-5, atol=1e-6)\n"
    )
    outcome = run_python(code)
    assert outcome.returncode == 0, outcome.stderr[-2000:]


# All are loaded alike; which file each asks for is seen in tests/proposals/test_pretrained.py.
MISSING = """
from tuner.models.architectures import ARCHITECTURES
from tuner.common.errors import WeightsError
from tests.support.backbones import EVERY_DEPTH
for name in EVERY_DEPTH:
    architecture = ARCHITECTURES[name]
    try:
        architecture.build(architecture.values_of({}), (architecture.minimum_px, architecture.minimum_px, 3), 0)
    except WeightsError as error:
        print("REFUSED", name, str(error))
"""


@pytest.mark.full
def test_weights_that_cannot_be_fetched_are_told_by_file_and_folder(tmp_path: Path) -> None:
    nowhere = "http://127.0.0.1:9"  # the discard port: no download, also on a machine with internet
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), nowhere)
    outcome = run_python(MISSING, KERAS_HOME=str(tmp_path), **proxies, no_proxy="", NO_PROXY="")
    refused = [line for line in outcome.stdout.splitlines() if "REFUSED" in line]
    assert [line.split()[1] for line in refused] == [*EVERY_DEPTH], outcome.stderr[-2000:]
    for line in refused:
        assert f".h5 into {tmp_path / 'models'} ($KERAS_HOME/models)" in line
        assert "`weights: none`" in line
    assert "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5" in refused[0]


@pytest.mark.full
def test_damaged_weights_are_told_with_their_folder(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5").write_bytes(b"not HDF5")
    outcome = run_python(
        "from tuner.models.architectures import ARCHITECTURES\n"
        "architecture = ARCHITECTURES['mobilenet_v2']\n"
        "architecture.build(architecture.values_of({}), (32, 32, 3), 0)\n",
        KERAS_HOME=str(tmp_path),
    )
    assert "tuner.common.errors.WeightsError: the ImageNet weights of MobileNetV2 cannot be read" in outcome.stderr
    assert f"remove the damaged file from {folder}" in outcome.stderr


def test_pretrained_weights_tell_images_apart_and_do_not_depend_on_the_seed() -> None:
    weights = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_224_no_top.h5"
    needs.keras_home(f"models/{weights}")  # random weights would tell nothing
    configuration = {"architecture": "mobilenet_v2", "alpha": 0.35, "preprocess": "resize(64)|scale(-1,1)"}
    first, other = (build_model(configuration, (32, 32, 3), 10, seed) for seed in (1, 2))
    assert first.backbone is not None
    assert other.backbone is not None
    for one, another in zip(first.backbone.get_weights(), other.backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(one, another)
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    images[1] = 255 - images[0] // 4
    dark, light = keras.ops.convert_to_numpy(first.model(images, training=False))
    assert np.abs(dark - light).max() > 0.01
    heads = [built.model.get_layer("probabilities").get_weights()[0] for built in (first, other)]
    assert not np.array_equal(*heads)
