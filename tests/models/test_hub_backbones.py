"""Backbones of KerasHub by their presets: small random ones of each family, and the messages about those that lack."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from tests.support.hub_backbones import BACKBONES, BLOCKS, PX, save_preset
from tuner.common.errors import InputError, WeightsError
from tuner.models.architectures import ARCHITECTURES
from tuner.models.hub_backbones import FAMILIES, build_hub_backbone, known_presets
from tuner.models.network import build_model, freeze
from tuner.session.checks import check_names
from tuner.spec.spec import read_spec
from tuner.training.cut_points import above, below, place_below, places

IMAGES = np.random.default_rng(0).integers(0, 256, (3, PX, PX, 3)).astype("float32")
TOKENS = ("vit", "dinov2", "dinov3", "deit")


@pytest.fixture(scope="module")
def presets(tmp_path_factory):
    made = {}

    def preset(family: str) -> str:
        if family not in made:
            made[family] = save_preset(family, tmp_path_factory.mktemp(family) / "preset")
        return f"keras_hub:{made[family]}"

    return preset


def built(name: str, **values):
    return build_model({"architecture": name, "preprocess": "scale(0,1)", **values}, (PX, PX, 3), 4, 0)


FEW = ("vit",)
EVERY = [family if family in FEW else pytest.param(family, marks=pytest.mark.full) for family in BACKBONES]


@pytest.mark.parametrize("family", EVERY)
def test_a_backbone_gives_what_kerashub_gives_and_is_cut_at_each_of_its_blocks(presets, family):
    import keras_hub

    network = built(presets(family))
    theirs = keras_hub.models.Backbone.from_preset(presets(family).partition(":")[2])
    pixels = IMAGES / 127.5 - 1
    expected = np.asarray(theirs(dict.fromkeys(theirs.input, pixels) if isinstance(theirs.input, dict) else pixels))
    if family in TOKENS:
        expected = expected[:, :1]
    np.testing.assert_allclose(np.asarray(network.backbone(IMAGES)), expected, rtol=1e-4, atol=1e-4)
    assert len(network.blocks) == BLOCKS.get(family, len(network.blocks)) and network.blocks
    whole = np.asarray(network.model(IMAGES))
    known = places(network)
    for depth in range(len(network.blocks)):
        place = place_below(network, known, depth)
        if place is None:
            continue
        kept, _ = below(network, None, [place], "float32")(IMAGES)
        np.testing.assert_allclose(np.asarray(above(network, place, lambda layer: layer)(kept)), whole, atol=1e-5)


@pytest.mark.full
def test_a_saved_network_of_each_family_is_loaded_by_keras_alone(presets, tmp_path):
    expected = {}
    np.save(tmp_path / "images.npy", IMAGES)
    for family in BACKBONES:
        network = built(presets(family))
        expected[family] = np.asarray(network.model(IMAGES))
        network.model.save(tmp_path / f"{family}.keras")
    script = (
        "import keras, numpy as np, pathlib\n"
        f"folder = pathlib.Path({str(tmp_path)!r})\n"
        "images = np.load(folder / 'images.npy')\n"
        "for path in folder.glob('*.keras'):\n"
        "    np.save(path.with_suffix('.npy'), np.asarray(keras.saving.load_model(path)(images)))\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    for family, whole in expected.items():
        np.testing.assert_allclose(np.load(tmp_path / f"{family}.npy"), whole, atol=1e-5, err_msg=family)


def test_depth_trains_the_blocks_nearest_the_output(presets):
    network = built(presets("vit"))
    freeze(network, 0)
    assert len(network.model.trainable_weights) == 2  # of the head
    counts = []
    for depth in range(5):
        freeze(network, depth)
        counts.append(len(network.backbone.trainable_weights))
    assert counts[0] == 0 and counts == sorted(set(counts)) and counts[-1] == len(network.backbone.weights)


def test_pooling_chooses_the_class_token_or_the_mean(presets):
    parameters = ARCHITECTURES[presets("vit")].parameters
    assert parameters["pooling"].values == ("class_token", "average", "max")
    assert parameters["pooling"].default == "class_token"
    one, mean = (built(presets("vit"), pooling=pooling) for pooling in ("class_token", "average"))
    tokens = np.asarray(mean.backbone(IMAGES))
    np.testing.assert_allclose(np.asarray(one.backbone(IMAGES))[:, 0], tokens[:, 0], atol=1e-5)
    assert places(one)[-1].name == "pooled class_token" and places(mean)[-1].name == "pooled average"


@pytest.mark.parametrize("family", ["vit", pytest.param("resnet", marks=pytest.mark.full)])
def test_random_weights_follow_from_the_seed(presets, family):
    def weights(seed: int) -> list[np.ndarray]:
        name = presets(family).partition(":")[2]
        made = build_hub_backbone(name, {"weights": "none", "pooling": "average"}, (PX, PX, 3), seed)
        return [np.asarray(variable) for variable in made.weights]

    first, again, other = weights(0), weights(0), weights(1)
    assert all(np.array_equal(one, two) for one, two in zip(first, again, strict=True))
    assert any(not np.array_equal(one, two) for one, two in zip(first, other, strict=True))


def test_images_of_another_size_than_the_weights_are_refused_with_the_sizes(presets):
    with pytest.raises(InputError, match=r"takes no images of 48x48.*trained with.*weights: none"):
        build_model({"architecture": presets("vit"), "preprocess": "resize(48)"}, (PX, PX, 3), 4, 0)
    other = build_model(
        {"architecture": presets("vit"), "preprocess": "resize(48)", "weights": "none"}, (PX, PX, 3), 4, 0
    )
    assert other.model.output_shape == (None, 4)
    with pytest.raises(InputError, match="divisible by"):
        build_model({"architecture": presets("vit"), "preprocess": "resize(50)", "weights": "none"}, (PX, PX, 3), 4, 0)


def test_a_preset_that_cannot_be_fetched_is_named_with_what_it_needs_and_where_that_is_looked_for(
    monkeypatch, tmp_path
):
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path))
    name = "vit_base_patch16_224_imagenet"
    for weights in ("pretrained", "none"):
        with pytest.raises(WeightsError) as refused:
            built(f"keras_hub:{name}", preprocess="resize(224)", weights=weights)
        words = (name, "config.json", "cannot be fetched", "kaggle://keras/vit", str(tmp_path), "$KAGGLEHUB_CACHE")
        assert all(word in str(refused.value) for word in words) and "\n" not in str(refused.value)


# --- without Keras ---

FILE = "study: s\ndata: {source: digits}\nspace: {preprocess: none, architecture: WHAT}\n"


def problems(what: str) -> list[str]:
    reading = read_spec(FILE.replace("WHAT", what), "f")
    return [one.describe("f") for one in (*reading.problems, *check_names(reading, {}))]


def test_presets_are_known_from_kerashubs_own_tables():
    known = known_presets()
    assert known["vit_base_patch16_224_imagenet"].handle.startswith("kaggle://keras/vit/")
    assert {one.family for one in known.values()} == set(FAMILIES) and len(known) > 70


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("keras_hub:vit_base_patch16_224_imagenet", ""),
        ("{choice: ['keras_hub:dinov2_small', cnn]}", ""),
        ("{choose: {'keras_hub:dinov2_small': {unfreeze_depth: {int: [0, 12]}, pooling: average}}}", ""),
        ("keras_hub:vit_base_patch16_224", "unknown preset of an image backbone in keras_hub:PRESET"),
        ("keras_hub:bert_base_en", "in keras_hub:PRESET 'bert_base_en'"),
        ("{choice: [cnn, 'keras_hub:']}", "architecture.choice[1]: unknown preset"),
        ("keras_hub:swin_tiny_224", "keras_hub:swin_tiny_224 is not offered: its layers cannot be saved"),
        ("keras_hub:mit_b0_ade20k_512", "is not offered: its layers come back with other weights"),
        ("keras_hub:/no/folder", "or a folder that KerasHub saved one in"),
        ("kerashub:dinov2_small", "unknown architecture 'kerashub:dinov2_small'"),
        ("{choose: {'keras_hub:dinov2_small': {pooling: flatten}}}", "must be one of class_token, average, max"),
        ("{choose: {'keras_hub:dinov2_small': {weights: imagenet}}}", "weights must be one of pretrained, none"),
        ("{choose: {'keras_hub:dinov2_small': {depth: 2}}}", "unknown hyperparameter 'depth'"),
    ],
)  # fmt: skip
def test_a_preset_is_an_architecture_and_a_wrong_one_is_told_with_the_nearest(what, words):
    found = problems(what)
    assert len(found) == bool(words) and all(words in one for one in found)


def test_a_folder_is_named_by_its_whole_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "preset").mkdir()
    for text in ("preset", "./preset"):
        words = f"keras_hub:{text} must name its folder by the whole path"
        refusal = ARCHITECTURES.refusal(f"keras_hub:{text}")
        assert words in refusal and f"did you mean keras_hub:{tmp_path}/preset?" in refusal


def test_a_folder_of_another_kind_is_refused(tmp_path):
    (problem,) = problems(f"keras_hub:{tmp_path}")
    assert "config.json cannot be read" in problem
    (tmp_path / "config.json").write_text(json.dumps({"module": "keras_hub.src.models.bert.bert_backbone"}))
    assert "must be of vit, dinov2" in ARCHITECTURES.refusal(f"keras_hub:{tmp_path}")
    folder = tmp_path / "swin"
    folder.mkdir()
    module = "keras_hub.src.models.swin_transformer.swin_transformer_backbone"
    (folder / "config.json").write_text(json.dumps({"module": module}))
    assert "is not offered: its layers cannot be saved" in ARCHITECTURES.refusal(f"keras_hub:{folder}")


def test_presets_are_checked_without_loading_keras():
    script = (
        "import sys\nfrom tuner.models.architectures import ARCHITECTURES\n"
        "assert 'keras_hub:dinov2_small' in ARCHITECTURES and 'keras_hub:x' not in ARCHITECTURES\n"
        "assert 'keras_hub:dinov2_small' not in list(ARCHITECTURES)\n"
        "assert not {'keras', 'keras_hub', 'tensorflow'} & set(sys.modules)\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
