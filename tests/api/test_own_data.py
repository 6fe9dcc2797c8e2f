"""Augmentations, preprocessing, sources and metrics of own code, and entry points of installed packages."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import tuner
from tests.support.make_data import make_folder
from tuner.common.errors import DataError, InputError, PipelineError
from tuner.common.metrics import METRICS, epoch_objectives, metric_of
from tuner.common.registry import Registry
from tuner.datasets.loading import load_dataset
from tuner.datasets.request import DataRequest, check_source
from tuner.datasets.sources import NAMED, PREFIXED
from tuner.models.architectures import ARCHITECTURES
from tuner.models.augmentation import AUGMENTATION, augment_of, parse_augment
from tuner.models.preprocessing import PREPROCESSING, parse_preprocess
from tuner.session.checks import check_names
from tuner.spec.spec import read_spec

REGISTRIES: tuple[Registry[Any], ...] = (ARCHITECTURES, AUGMENTATION, PREPROCESSING, METRICS, NAMED, PREFIXED)


@pytest.fixture(autouse=True)
def restored():
    before = [(registry, set(registry)) for registry in REGISTRIES]
    yield
    for registry, names in before:
        for name in set(registry) - names:
            registry.remove(name)


def test_an_own_augmentation_is_read_applied_and_seeded_as_ours():
    @tuner.augmentation(parameters={"fraction": tuner.Float(0, 0.95), "kind": tuner.Choice("add", "times")})
    def darken(images, generator, fraction, kind):
        """Down by up to this fraction."""
        images *= generator.uniform(1 - fraction, 1, (len(images), 1, 1, 1))
        return images if kind == "times" else images - 1.0

    augment = parse_augment("flip|darken(0.3,times)")
    assert augment.text == "flip|darken(0.3,times)" and not augment.mixes_labels
    assert (
        parse_augment("darken(0.3)").text == "darken(0.3)"
        and AUGMENTATION["darken"].description == "Down by up to this fraction"
    )
    images, labels = np.full((4, 3, 3, 1), 200, np.uint8), np.eye(4, dtype=np.float32)
    made, same = augment.apply(images, labels, 1), augment.apply(images, labels, 1)
    np.testing.assert_array_equal(made[0], same[0])
    assert made[0].dtype == np.uint8 and made[0].max() <= 200 and (images == 200).all()
    for text, message in {
        "darken": "fraction", "darken(2)": "must be a number between 0 and 0.95", "darken(0.1,no)": "one of add, times",
        "darkn(1)": "did you mean 'darken'",
    }.items():  # fmt: skip
        with pytest.raises(PipelineError, match=message):
            parse_augment(text)


def augmented(**strengths: Any) -> dict[str, Any]:
    """A search-space file whose augmentation is `tinted` with these strengths."""
    choose = {"none": {}, "own": {"tinted": strengths}}
    space = {"architecture": "dense", "augment": {"choose": choose}}
    return {"study": "own", "data": {"source": "digits"}, "space": space}


def test_choices_of_an_own_augmentation_are_written_in_branches_as_anywhere_in_a_file():
    seen = []

    @tuner.augmentation(
        parameters={
            "clip": tuner.Bool(default=True),
            "power": tuner.Choice(0.5, 2, default=2),
            "kind": tuner.Choice("a", "b"),
        }
    )
    def tinted(images, generator, clip, power, kind):
        seen.append((clip, power, kind))
        return images

    for strengths in (
        {"clip": False, "power": 0.5, "kind": "b"},
        {"clip": {"choice": [True, False]}, "power": {"choice": [0.5, 2]}, "kind": {"choice": ["a", "b"]}},
        {"clip": "true", "power": "0.5", "kind": "b"},
    ):
        reading = read_spec(yaml.safe_dump(augmented(**strengths)))
        assert not [*reading.problems, *check_names(reading, {})]
        branch = reading.space["augment"].branches["own"]
        for place in (0, -1):
            values = {name: dimension.values[place] for name, dimension in branch.items()}
            images, labels = np.zeros((2, 3, 3, 1), np.uint8), np.eye(2, dtype=np.float32)
            augment_of({"augment": "own", **values}).apply(images, labels, 0)
    assert seen == [(False, 0.5, "b")] * 2 + [(True, 0.5, "a"), (False, 2, "b")] + [(True, 0.5, "b")] * 2


@pytest.mark.parametrize(
    ("strengths", "message"),
    [
        ({"clip": 1, "kind": "a"}, "must be one of true, false; got 1"),
        ({"power": 0.7, "kind": "a"}, "must be one of 0.5, 2; got 0.7"),
        ({"kind": {"choice": ["a", "none"]}}, "must be one of a, b and cannot be none; got 'none'"),
    ],
)
def test_choices_of_an_own_augmentation_that_it_has_not_are_refused(strengths, message):
    tuner.augmentation(
        lambda images, generator, clip, power, kind: images,
        name="tinted",
        parameters={
            "clip": tuner.Bool(default=True),
            "power": tuner.Choice(0.5, 2, default=2),
            "kind": tuner.Choice("a", "b"),
        },
    )
    reading = read_spec(yaml.safe_dump(augmented(**strengths)))
    assert [problem.message for problem in check_names(reading, {})] == [message]


def test_an_own_augmentation_that_mixes_labels_says_so():
    @tuner.augmentation(mixes_labels=True)
    def swap(images, labels, generator):
        order = generator.permutation(len(images))
        return images[order], labels[order]

    assert parse_augment("swap").mixes_labels
    images = np.arange(4, dtype=np.float32).reshape(4, 1, 1, 1)
    made, labels = parse_augment("swap").apply(images, np.eye(4, dtype=np.float32), 3)
    np.testing.assert_array_equal(made.ravel(), labels.argmax(axis=1))


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda images: None, r"must return images as an array \[2, 3, 3, 1\]; got a NoneType"),
        (lambda images: images[:1], r"got \[1, 3, 3, 1\]"),
        (lambda images: (images, images), r"got a tuple"),
    ],
)
def test_an_augmentation_that_returns_no_images_fails_by_name(made, message):
    tuner.augmentation(lambda images, generator: made(images), name="wrong")
    with pytest.raises(InputError, match=f"augmentation wrong: .*{message}"):
        parse_augment("wrong").apply(np.zeros((2, 3, 3, 1)), np.eye(2), 0)


def test_own_preprocessing_is_part_of_the_network_with_its_range_and_shape():
    import keras

    @tuner.preprocessing(parameters={"power": tuner.Float(0.1, 5)}, value_range=(0, 1))
    def gamma(images, power, value_range):
        low, high = value_range
        return ((images - low) / (high - low)) ** power

    @tuner.preprocessing(
        parameters={"times": tuner.Int(1, 4)}, output_shape=lambda shape, times: (*shape[:2], shape[2] * times)
    )
    def repeat(images, times):
        return keras.ops.concatenate([images] * times, axis=-1)

    tuner.preprocessing(lambda images: images[:, 1:], name="wrong")
    preprocess = parse_preprocess("gamma(2)|repeat(3)")
    assert preprocess.value_range == (0.0, 1.0) and preprocess.output_shape((4, 4, 1)) == (4, 4, 3)
    made = np.asarray(preprocess.apply(np.full((1, 4, 4, 1), 51.0, np.float32)))
    np.testing.assert_allclose(made, np.full((1, 4, 4, 3), 0.04), rtol=1e-5)
    with pytest.raises(PipelineError, match=r"preprocessing wrong: .*\[N, 4, 4, 1\].* got \[1, 3, 4, 1\]"):
        parse_preprocess("wrong").apply(np.zeros((1, 4, 4, 1), np.float32))
    with pytest.raises(PipelineError, match="gamma must come before standardise"):
        parse_preprocess("standardise|gamma(2)")


def test_an_own_metric_can_be_searched_for():
    @tuner.metric(mode="min", unit="share", least_classes=3)
    def worst_share(labels, probabilities):
        return max((probabilities.argmax(axis=1) == label).mean() for label in range(3))

    entry = metric_of("val_worst_share")
    assert "val_worst_share" in epoch_objectives() and (entry.mode, entry.words) == ("min", "worst share")
    assert entry.measure is not None and entry.measure(np.array([0, 1]), np.eye(3)[[0, 0]]) == 1.0
    tuner.metric(lambda labels, probabilities: "much", name="wrong")
    with pytest.raises(InputError, match="metric wrong: the function must return a number; it returns 'much'"):
        METRICS["wrong"].measure(np.array([0]), np.eye(2))


def test_an_own_source_is_checked_read_and_split_and_read_anew_when_it_changes(cache_dir, tmp_path):
    @tuner.source(is_path=True, suffixes=(".npy",))
    def scans(reference):
        images = np.load(Path(reference) / "images.npy")
        return {"train": (images, ["cat", "dog"] * (len(images) // 2)), "test": (images[:4], ["cat", "dog"] * 2)} | (
            {} if len(images) < 50 else {"validation": (images[:2], ["cat", "dog"])}
        )

    @tuner.source(class_names=("zero", "one"))
    def drawn():
        return np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8), [0, 1] * 20

    np.save(tmp_path / "images.npy", np.random.default_rng(0).integers(0, 256, (40, 8, 8, 3), dtype=np.uint8))
    check_source(f"scans:{tmp_path}", {})
    check_source("drawn", {})

    def read(source: str):
        request = DataRequest(source, validation_fraction=0.2)
        return load_dataset(request, staged={}, seed=0, cache_dir=cache_dir, notify=print)

    first = read(f"scans:{tmp_path}")
    assert first.class_names == ("cat", "dog") and len(first.train) == 32 and first.test_images == 4
    np.save(
        tmp_path / "images.npy", np.zeros((60, 8, 8, 3), np.uint8) + np.arange(60, dtype=np.uint8)[:, None, None, None]
    )
    assert read(f"scans:{tmp_path}").fingerprint != first.fingerprint
    assert read("drawn").class_names == ("zero", "one")


def test_files_of_an_own_source_are_named_by_their_paths_and_other_images_by_their_numbers(cache_dir, tmp_path):
    root = make_folder(tmp_path / "pets", {"cat": 4, "dog": 4})
    (root / "dog" / "image 2.png").write_bytes(b"broken")

    @tuner.source
    def pets():
        return [*sorted(root.rglob("*.png")), b"no image"], ["cat"] * 4 + ["dog"] * 5

    with pytest.raises(DataError, match=r"2 broken images: .*pets/dog/image 2.png is not an image.*; image 8 is not"):
        load_dataset(DataRequest("pets"), staged={}, seed=0, cache_dir=cache_dir, notify=print)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (None, r"must return \(images, labels\); got NoneType"),
        ((np.zeros((2, 4, 4)), [0, 1]), r"uint8, or a list of paths or bytes; got \[2, 4, 4\] of float64"),
        ((np.zeros((2, 4, 4), np.uint8), [0]), "one for each of 2 images"),
        ((np.zeros((2, 4, 4), np.uint8), [0.5, 1]), "must be numbers or texts"),
        (([3, 4], [0, 1]), "a list of paths or bytes; got a int"),
        ({"training": (np.zeros((2, 4, 4), np.uint8), [0, 1])}, "splits must be train, test, validation; got training"),
        ({"test": (np.zeros((2, 4, 4), np.uint8), [0, 1])}, "there must be a split train"),
        ((np.zeros((2, 4, 4), np.uint8), [0, 5]), "without gaps"),
    ],
)
def test_a_source_that_gives_no_images_is_told_in_one_line(made, message):
    tuner.source(lambda: made, name="wrong")
    with pytest.raises(DataError, match=f"data source wrong.*{message}"):
        NAMED["wrong"].read("")


REFUSED: dict[str, tuple[Any, str]] = {
    "no generator": (lambda: tuner.augmentation(lambda images: images, name="a"), "must take the images and generator"),
    "not declared": (lambda: tuner.augmentation(lambda i, g, by: i, name="a"), "needs by, which parameters do not"),
    "text of brackets": (
        lambda: tuner.augmentation(lambda i, g, by: i, name="a", parameters={"by": tuner.Choice("a|b", "c")}),
        r"values that can stand in a text, without",
    ),
    "taken": (lambda: tuner.augmentation(lambda i, g: i, name="flip"), "augmentation 'flip' is registered already"),
    "range": (
        lambda: tuner.preprocessing(lambda i: i, name="a", value_range=(1, 0)),
        r"value_range must be \(low, high",
    ),
    "mode": (
        lambda: tuner.metric(lambda a, b: 0, name="a", mode="largest"),
        "mode must be one of max, min; got",
    ),
    "unit": (lambda: tuner.metric(lambda a, b: 0, name="a", unit="percent"), "unit must be one of share, number"),
    "val_": (lambda: tuner.metric(lambda a, b: 0, name="val_a"), "must not begin with val_"),
    "own metric": (lambda: tuner.metric(lambda a, b: 0, name="accuracy"), "'accuracy' is registered already"),
    "arguments": (lambda: tuner.metric(lambda labels: 0, name="a"), "must take the labels and probabilities first"),
    "path": (lambda: tuner.source(lambda: 0, name="a", is_path=True), "must take the path as its reference"),
    "source": (lambda: tuner.source(lambda: 0, name="digits"), "'digits' is registered already"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_wrong_own_code_is_refused_with_the_rule(case):
    declare, message = REFUSED[case]
    with pytest.raises(InputError, match=message):
        declare()


PACKAGE = """
    import tuner

    @tuner.architecture
    def packaged_net(images):
        return images

    @tuner.augmentation
    def packaged_flip(images, generator):
        return images[:, ::-1]

    @tuner.metric
    def packaged_metric(labels, probabilities):
        return 0.5

    @tuner.preprocessing
    def packaged_op(images):
        return images

    @tuner.source
    def packaged_data(reference):
        return None

    from dataclasses import replace
    from tuner.algorithms.samplers import SAMPLERS
    from tuner.algorithms.schedulers import SCHEDULERS

    packaged_sampler = replace(SAMPLERS["gp"], description="mine")
    packaged_scheduler = replace(SCHEDULERS["asha"], description="mine")
"""
POINTS = """
    [tuner.architectures]
    packaged_net = packaged_code:packaged_net
    broken_net = broken_code:net
    [tuner.augmentations]
    packaged_flip = packaged_code:packaged_flip
    [tuner.preprocessing]
    packaged_op = packaged_code:packaged_op
    [tuner.metrics]
    packaged_metric = packaged_code:packaged_metric
    [tuner.sources]
    packaged_data = packaged_code:packaged_data
    [tuner.samplers]
    packaged_sampler = packaged_code:packaged_sampler
    no_sampler = packaged_code:PACKAGE
    [tuner.schedulers]
    packaged_scheduler = packaged_code:packaged_scheduler
"""


def test_an_installed_package_offers_names_by_entry_points_and_a_broken_one_matters_to_who_asks(tmp_path):
    for name, text in {
        "packaged_code.py": PACKAGE + "\n    PACKAGE = 3\n",
        "broken_code.py": "import tuner\nraise RuntimeError('out of order')\n",
        "packaged-1.2.dist-info/METADATA": "Metadata-Version: 2.1\nName: packaged\nVersion: 1.2\n",
        "packaged-1.2.dist-info/entry_points.txt": POINTS,
    }.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text))
    code = """
        import sys
        from tuner.search import main
        from tuner.models.architectures import ARCHITECTURES
        assert "packaged_code" not in sys.modules
        assert "cnn" in ARCHITECTURES and "packaged_code" not in sys.modules
        from tuner.models.augmentation import AUGMENTATION
        from tuner.models.preprocessing import PREPROCESSING
        from tuner.algorithms.samplers import SAMPLERS
        from tuner.algorithms.schedulers import SCHEDULERS
        from tuner.common.metrics import METRICS, epoch_objectives
        from tuner.datasets.sources import PREFIXED
        from tuner.common.errors import UnknownNameError
        every = [ARCHITECTURES, AUGMENTATION, PREPROCESSING, METRICS, PREFIXED, SAMPLERS, SCHEDULERS]
        names = ["net", "flip", "op", "metric", "data", "sampler", "scheduler"]
        for registry, name in zip(every, names):
            assert f"packaged_{name}" in registry and f"packaged_{name}" in list(registry), name
            origin = registry.origin(f"packaged_{name}")
            assert origin.name == "the installed package packaged" and len(origin.sha256) == 64, origin
        assert "val_packaged_metric" in epoch_objectives() and ARCHITECTURES.origin("cnn") is None
        for registry, name, said in (
            (ARCHITECTURES, "broken_net", "the installed package packaged fails with RuntimeError: out of"),
            (SAMPLERS, "no_sampler", "registers nothing and is no SamplerEntry"),
            (ARCHITECTURES, "packaged_ne", "did you mean 'packaged_net'?"),
        ):
            try:
                registry[name]
            except UnknownNameError as error:
                assert said in str(error), error
            else:
                raise AssertionError(name)
    """
    environment = {
        "PYTHONPATH": f"{tmp_path}:{Path(tuner.__file__).parents[1]}",
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
    }
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, env=environment)
