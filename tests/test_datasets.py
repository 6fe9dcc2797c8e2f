"""Data sets of every kind, from real files: splits, subsets, staged copies, the prepared copy, refusals."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from pyarrow import parquet

from tuner.datasets import DataRequest, Dataset, check_source, load_dataset, staged_sources
from tuner.errors import DataError
from tuner.splits import split_stratified

CLASSES = {"cat": 12, "dog": 18, "été🐟": 10}


def picture(value: int, size: tuple[int, int] = (8, 8)) -> Image.Image:
    return Image.fromarray(np.full((*size, 3), value, dtype=np.uint8))


def make_folder(root: Path, classes: dict[str, int] = CLASSES, suffix: str = "png") -> Path:
    value = 0
    for name, number in classes.items():
        (root / name).mkdir(parents=True)
        for index in range(number):
            picture((value := value + 1) % 256).save(root / name / f"image {index}.{suffix}")
    return root


def load(source: str, cache: Path, seed: int = 0, **options) -> tuple[Dataset, list[str]]:
    said: list[str] = []
    staged = options.pop("staged", {})
    request = DataRequest(source, **{"validation_fraction": 0.25, **options})
    return load_dataset(request, staged=staged, seed=seed, cache_dir=cache, notify=said.append), said


def images_of(dataset: Dataset) -> dict[str, set[bytes]]:
    splits = {"train": dataset.train, "validation": dataset.validation, "test": dataset.load_test()}
    return {
        name: {image.tobytes() for image in split.batch(np.arange(len(split)))[0]} for name, split in splits.items()
    }


def test_a_folder_is_split_into_three_parts_that_share_no_image_with_every_class_in_proportion(tmp_path) -> None:
    dataset, _ = load(f"folder:{make_folder(tmp_path / 'pets')}", tmp_path / "cache")
    assert dataset.class_names == ("cat", "dog", "été🐟")
    assert dataset.image_shape == (8, 8, 3)
    parts = images_of(dataset)
    assert (len(parts["train"]), len(parts["validation"]), len(parts["test"])) == (24, 8, 8)
    assert not parts["train"] & parts["validation"] and not (parts["train"] | parts["validation"]) & parts["test"]
    assert np.bincount(dataset.load_test().labels).tolist() == [2, 4, 2]


def test_the_seed_changes_the_validation_split_and_never_the_test_split(tmp_path) -> None:
    source = f"folder:{make_folder(tmp_path / 'pets')}"
    first, again, other = (images_of(load(source, tmp_path / "cache", seed=seed)[0]) for seed in (0, 0, 1))
    assert first == again and first["test"] == other["test"] and first["validation"] != other["validation"]


def test_folders_named_after_splits_are_the_splits(tmp_path) -> None:
    for split in ("train", "val", "test"):
        make_folder(tmp_path / "pets" / split, {"a": 4, "b": 6})
    dataset, _ = load(f"folder:{tmp_path / 'pets'}", tmp_path / "cache")
    assert (len(dataset.train), len(dataset.validation), len(dataset.load_test())) == (10, 10, 10)


def test_images_of_any_size_and_depth_become_one_shape_and_that_is_said(tmp_path) -> None:
    root = make_folder(tmp_path / "pets", {"a": 4, "b": 4})
    picture(9, (20, 30)).save(root / "a" / "large.jpg")
    Image.new("L", (5, 6)).save(root / "b" / "grey.gif")
    Image.fromarray(np.full((9, 9), 4000, np.uint16)).save(root / "b" / "deep.png")
    dataset, said = load(f"folder:{root}", tmp_path / "cache")
    assert dataset.image_shape == (224, 224, 3) and "4 different sizes" in said[0]
    dataset, said = load(f"folder:{root}", tmp_path / "cache", image_px=16, colour="grey")
    assert dataset.image_shape == (16, 16, 1) and not said


def test_grey_images_stay_grey_unless_asked_otherwise(tmp_path, cache_dir) -> None:
    for name in ("a", "b"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for index in range(5):
            Image.new("L", (8, 8), index).save(tmp_path / "pets" / name / f"{index}.png")
    assert load(f"folder:{tmp_path / 'pets'}", tmp_path / "cache")[0].image_shape == (8, 8, 1)
    assert load(f"folder:{tmp_path / 'pets'}", tmp_path / "cache", colour="rgb")[0].image_shape == (8, 8, 3)
    assert load("digits", cache_dir, colour="rgb", image_px=10)[0].image_shape == (10, 10, 3)


def test_broken_images_are_named_and_fail_the_load_or_are_skipped_as_the_file_says(tmp_path) -> None:
    root = make_folder(tmp_path / "pets", {"a": 10, "b": 10})
    (root / "a" / "empty.png").write_bytes(b"")
    (root / "b" / "torn.png").write_bytes((root / "b" / "image 1.png").read_bytes()[:50])
    with pytest.raises(DataError, match=r"2 broken|1 broken") as failure:
        load(f"folder:{root}", tmp_path / "cache")
    assert "data.broken_images" in str(failure.value)
    dataset, said = load(f"folder:{root}", tmp_path / "cache", broken_images="skip")
    assert sum(len(part) for part in images_of(dataset).values()) == 20
    assert "empty.png is not an image" in " ".join(said) and "torn.png" in " ".join(said)


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        ({"only": 5}, "must have at least two classes; got only"),
        ({"a": 5, "b": 1}, "every class must have at least two images to be split; too few: b"),
        ({"a": 5, "empty": 0}, "a class folder must hold images"),
        ({}, "must have at least two classes; got none"),
    ],
)
def test_folders_that_cannot_be_a_data_set_are_refused(classes, words, tmp_path) -> None:
    (tmp_path / "pets").mkdir()
    with pytest.raises(DataError, match=words):
        load(f"folder:{make_folder(tmp_path / 'pets', classes)}", tmp_path / "cache")


def test_a_loop_of_links_ends(tmp_path) -> None:
    root = make_folder(tmp_path / "pets", {"a": 6, "b": 6})
    (root / "a" / "loop").symlink_to(root, target_is_directory=True)
    assert len(load(f"folder:{root}", tmp_path / "cache")[0].load_test()) == 3


def write_parquet(path: Path, number: int, names: tuple[str, ...] = ("a", "b"), column: str = "image") -> None:
    rows = []
    for index in range(number):
        file = io.BytesIO()
        picture(index).save(file, format="PNG")
        rows.append({"bytes": file.getvalue(), "path": f"{index}.png"})
    features = {"features": {"label": {"_type": "ClassLabel", "names": list(names)}}}
    table = pa.table({column: rows, "label": [index % len(names) for index in range(number)]})
    parquet.write_table(table.replace_schema_metadata({"huggingface": json.dumps({"info": features})}), path)


def test_parquet_in_the_layout_of_the_hub_is_read_with_its_class_names(tmp_path) -> None:
    (tmp_path / "hub").mkdir()
    write_parquet(tmp_path / "hub" / "train-00000-of-00002.parquet", 20, ("ape", "bee"))
    write_parquet(tmp_path / "hub" / "train-00001-of-00002.parquet", 20, ("ape", "bee"))
    write_parquet(tmp_path / "hub" / "test.parquet", 10, ("ape", "bee"))
    dataset, _ = load(f"parquet:{tmp_path / 'hub'}", tmp_path / "cache")
    assert dataset.class_names == ("ape", "bee")
    assert (len(dataset.train), len(dataset.validation), len(dataset.load_test())) == (30, 10, 10)
    single, _ = load(f"parquet:{tmp_path / 'hub' / 'test.parquet'}", tmp_path / "cache")
    assert len(single.load_test()) == 2


def test_wrong_parquet_and_npz_files_are_refused_with_what_they_hold(tmp_path) -> None:
    parquet.write_table(pa.table({"x": [1], "label": [0]}), tmp_path / "wrong.parquet")
    with pytest.raises(DataError, match=r"must have the columns image .* got x: int64, label: int64"):
        load(f"parquet:{tmp_path / 'wrong.parquet'}", tmp_path / "cache")
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        load(f"parquet:{tmp_path / 'torn.parquet'}", tmp_path / "cache")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(DataError, match=r"must hold train\*.parquet; got none"):
        load(f"parquet:{tmp_path / 'nothing'}", tmp_path / "cache")
    np.savez(tmp_path / "floats.npz", x_train=np.zeros((4, 8, 8)), y_train=np.zeros(4))
    with pytest.raises(DataError, match=r"x_train must be uint8 .* got float64 \[4, 8, 8\]"):
        load(f"npz:{tmp_path / 'floats.npz'}", tmp_path / "cache")
    np.savez(tmp_path / "objects.npz", x_train=np.array([object()]), y_train=np.zeros(1))
    with pytest.raises(DataError, match="plain arrays"):
        load(f"npz:{tmp_path / 'objects.npz'}", tmp_path / "cache")


def test_an_npz_archive_is_read_with_its_splits(tmp_path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 6, 6)).astype(np.uint8)
    labels = np.arange(40) % 4
    np.savez(tmp_path / "own.npz", x_train=images, y_train=labels, x_validation=images[:8], y_validation=labels[:8])
    dataset, _ = load(f"npz:{tmp_path / 'own.npz'}", tmp_path / "cache")
    assert dataset.class_names == ("0", "1", "2", "3") and len(dataset.validation) == 8
    assert len(dataset.train) == 32 and len(dataset.load_test()) == 8


def test_subsets_are_of_the_size_asked_for_and_keep_the_classes_in_proportion(cache_dir) -> None:
    dataset, _ = load("digits", cache_dir, max_train_images=200, max_validation_images=50)
    assert len(dataset.train) == 200 and len(dataset.validation) == 50
    assert np.bincount(dataset.train.labels).min() >= 19
    images, labels = dataset.train.batch(np.array([3, 7]))
    assert images.shape == (2, 8, 8, 1) and labels.tolist() == dataset.train.labels[[3, 7]].tolist()


def test_staged_copies_are_found_by_name_and_the_command_line_wins(tmp_path, monkeypatch) -> None:
    (tmp_path / "data" / "cifar100").mkdir(parents=True)
    write_parquet(tmp_path / "data" / "cifar100" / "train.parquet", 20)
    make_folder(tmp_path / "data" / "kmnist", {"a": 5, "b": 5})
    np.savez(tmp_path / "data" / "own.npz", x_train=np.zeros((4, 2, 2), np.uint8), y_train=np.arange(4) % 2)
    (tmp_path / "data" / "readme.txt").write_text("not data")
    staged = staged_sources({"TUNER_DATA": str(tmp_path / "data")}, {"own": "digits"})
    assert staged["cifar100"] == f"parquet:{tmp_path / 'data' / 'cifar100'}"
    assert staged["kmnist"].startswith("folder:") and staged["own"] == "digits" and len(staged) == 3
    dataset, _ = load("cifar100", tmp_path / "cache", staged=staged)
    assert dataset.name == "cifar100" and dataset.class_names == ("a", "b")
    assert load("tfds:kmnist", tmp_path / "cache", staged=staged)[0].class_names == ("a", "b")
    check_source("own", staged)


def test_unknown_and_unreachable_sources_say_what_to_do(tmp_path, monkeypatch) -> None:
    with pytest.raises(
        DataError, match=r"unknown data source 'cifar1000'; did you mean 'cifar100'.*--data NAME=SOURCE"
    ):
        check_source("cifar1000", {})
    with pytest.raises(DataError, match="must name what to read after folder:"):
        check_source("folder:", {})
    with pytest.raises(DataError, match="must name a folder or file that exists"):
        load(f"folder:{tmp_path / 'nowhere'}", tmp_path / "cache")
    with pytest.raises(DataError, match=r"tuner\[tfds\]|cannot be prepared"):
        load("tfds:kmnist", tmp_path / "cache")


def test_a_data_set_that_cannot_be_fetched_says_how_to_stage_it(tmp_path) -> None:
    script = (
        "from pathlib import Path\nfrom tuner.datasets import *\n"
        "import socket\n"
        "def refuse(*_a, **_k): raise OSError('no network')\n"
        "socket.getaddrinfo = refuse\n"
        f"load_dataset(DataRequest('cifar10'), staged={{}}, seed=0, cache_dir=Path({str(tmp_path)!r}), notify=print)\n"
    )
    environment = {**os.environ, "KERAS_HOME": str(tmp_path / "keras")}
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, env=environment
    )
    assert "DataError: cifar10 cannot be fetched" in result.stderr and "--data cifar10=SOURCE" in result.stderr


# --- the prepared copy ---


def test_the_copy_is_made_once_and_made_again_when_a_file_changes(tmp_path) -> None:
    root = make_folder(tmp_path / "pets")
    first, _ = load(f"folder:{root}", tmp_path / "cache")
    made = first.prepared.path.stat().st_mtime_ns
    again, _ = load(f"folder:{root}", tmp_path / "cache")
    assert again.prepared.path == first.prepared.path and again.prepared.path.stat().st_mtime_ns == made
    picture(250).save(root / "cat" / "image 0.png")
    os.utime(root / "cat" / "image 0.png", (1, 1))
    changed, _ = load(f"folder:{root}", tmp_path / "cache")
    assert changed.prepared.path != first.prepared.path and changed.fingerprint != first.fingerprint


def test_a_copy_that_was_cut_short_is_made_again(tmp_path) -> None:
    root = make_folder(tmp_path / "pets")
    first, _ = load(f"folder:{root}", tmp_path / "cache")
    fingerprint, file = first.fingerprint, first.prepared.path / "train_images.npy"
    del first
    file.write_bytes(file.read_bytes()[:100])
    again, _ = load(f"folder:{root}", tmp_path / "cache")
    assert again.fingerprint == fingerprint and len(images_of(again)["train"]) == 24


def test_the_images_are_mapped_and_cannot_be_written_to(cache_dir) -> None:
    dataset, _ = load("digits", cache_dir)
    assert isinstance(dataset.train.images, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        dataset.train.images[0] = 0


def test_a_build_that_is_killed_leaves_nothing_in_use_and_the_next_one_succeeds(tmp_path) -> None:
    root = make_folder(tmp_path / "pets", {"a": 300, "b": 300})
    script = (
        "import sys, time\nfrom pathlib import Path\nimport tuner.decoding as decoding\n"
        "from tuner.datasets import *\n"
        "whole = decoding.decode_image\n"
        "def slow(*a, **k):\n    print('decoding', flush=True); time.sleep(0.05); return whole(*a, **k)\n"
        "decoding.decode_image = slow\n"
        f"cache = Path({str(tmp_path / 'cache')!r})\n"
        f"load_dataset(DataRequest('folder:{root}'), staged={{}}, seed=0, cache_dir=cache, notify=print)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline().startswith("decoding")
    time.sleep(0.3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    dataset, _ = load(f"folder:{root}", tmp_path / "cache")
    assert len(dataset.train) == 360
    assert not list((tmp_path / "cache" / "datasets").glob("*.partial"))


def test_a_cache_that_cannot_be_written_is_a_clear_error(tmp_path) -> None:
    (tmp_path / "cache").write_text("a file where a folder must be")
    with pytest.raises(DataError, match="the prepared copy cannot be written"):
        load("digits", tmp_path / "cache")


def test_a_stratified_split_is_refused_when_it_would_leave_out_a_class() -> None:
    labels = np.repeat(np.arange(10), 4)
    with pytest.raises(DataError, match=r"40 images of 10 classes cannot be split by 0.1"):
        split_stratified(labels, 0.1, 0, tuple("abcdefghij"), "mine")


def test_all_of_cifar_100_is_prepared_from_parquet(tmp_path) -> None:
    staged = staged_sources(os.environ, {})
    if "cifar100" not in staged:
        pytest.skip("TUNER_DATA names no folder with cifar100/train.parquet")
    dataset, _ = load("cifar100", tmp_path / "cache", staged=staged, validation_fraction=0.1)
    assert dataset.image_shape == (32, 32, 3) and len(dataset.class_names) == 100
    assert (len(dataset.train), len(dataset.validation), len(dataset.load_test())) == (45_000, 5_000, 10_000)
    assert np.bincount(dataset.validation.labels).tolist() == [50] * 100
