"""The search-space files that come with tuner: each can be planned, its baseline is the published model and trains."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from tests.support import ROOT, needs
from tuner.models.architectures import ARCHITECTURES
from tuner.models.network import build_model, freeze, parameter_counts
from tuner.models.parameters import general
from tuner.search import main
from tuner.spec.spec import load_spec

FILES = sorted((ROOT / "search_spaces").glob("*.yaml"))
SHAPES = {  # what each data set looks like: height, width, channels, classes
    "digits": (8, 8, 1, 10),
    "cifar10": (32, 32, 3, 10),
    "cifar100": (32, 32, 3, 100),
    "fashion_mnist": (28, 28, 1, 10),
    "tfds:kmnist": (28, 28, 1, 10),
    "tfds:rock_paper_scissors": (300, 300, 3, 3),
    "folder:data/fingers": (224, 224, 3, 4),
    "folder:data/cats_and_dogs": (150, 150, 3, 2),
}
PUBLISHED_PARAMETERS = {"cifar10_cnn": 1_250_858, "cifar10_inception": 1_245_738}


def test_every_system_of_the_design_has_its_file() -> None:
    assert {file.stem for file in FILES} >= {
        "cifar10",
        "cifar100",
        "cifar10_cnn",
        "cifar10_inception",
        "cifar10_transfer",
        "digits",
        "fashion_mnist",
        "fingers",
        "fingers_transfer",
        "kmnist",
        "rock_paper_scissors",
        "vgg16_features",
    }


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_file_passes_the_plan(file, capsys) -> None:
    assert main([str(file), "--plan"]) == 0
    output = capsys.readouterr().out
    assert file.stem in output and "rungs" in output and "baseline (trial 0)" in output


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_baseline_builds_and_trains_one_step_on_images_of_its_shape(file) -> None:
    spec = load_spec(file).spec
    assert spec is not None and spec.baseline is not None
    *shape, num_classes = SHAPES[spec.data.source]
    # Random weights: the layers are the same, and those of ImageNet are not on every machine.
    is_backbone = ARCHITECTURES[str(spec.baseline["architecture"])].is_backbone
    configuration = {**spec.baseline, **({"weights": "none"} if is_backbone else {})}
    built = build_model(configuration, (shape[0], shape[1], shape[2]), num_classes, seed=0)
    if file.stem in PUBLISHED_PARAMETERS:
        assert parameter_counts(built.model)[0] == PUBLISHED_PARAMETERS[file.stem]
    freeze(built, int(spec.baseline.get("unfreeze_depth") or 0))
    built.model.compile(optimizer="adam", loss="categorical_crossentropy", run_eagerly=True)  # one step: not traced
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (2, *shape)).astype(np.uint8)
    before = [keras.ops.convert_to_numpy(variable) for variable in built.model.trainable_variables]
    loss = built.model.train_on_batch(images, np.eye(num_classes)[[0, 1]])
    assert np.isfinite(loss) and general(configuration, "batch_size") >= 1
    changed = [
        not np.array_equal(old, keras.ops.convert_to_numpy(new))
        for old, new in zip(before, built.model.trainable_variables, strict=True)
    ]
    assert any(changed)


@pytest.mark.full
@pytest.mark.parametrize("name", ["cifar100_small", "fashion_mnist"])
def test_a_baseline_trains_on_the_real_images_where_they_are(name, cache_dir, capsys) -> None:
    if name == "cifar100_small":
        needs.staged_images("cifar100")
        needs.keras_home("models/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_224_no_top.h5")
    else:
        needs.keras_home("datasets/fashion-mnist")
    file = next(file for file in FILES if file.stem == name)
    options = ["--set", "data.max_train_images=400", "--set", "data.max_validation_images=200",
               "--set", "training.max_epochs=2", "--set", "search.grace_epochs=auto"]  # fmt: skip
    assert main([str(file), "--inline", "--cache", str(cache_dir), *options]) == 0
    assert "epoch 2/2" in capsys.readouterr().out
