"""`data.storage`: arrays where they fit, else encoded images; the same data set, however it is kept."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tests.datasets.test_encoded_storage import photos
from tests.support.make_cache import flip_last_bit, run, statuses
from tests.support.make_data import images_of, load, make_folder, picture, write_parquet
from tuner.common.errors import DataError
from tuner.datasets._encoded_storage import EncodedImages
from tuner.datasets.copies import sketch_bytes
from tuner.datasets.images import is_lossy
from tuner.datasets.loading import Dataset, Split, load_dataset
from tuner.datasets.prepared import find_damage
from tuner.datasets.request import DataRequest


def make_photos(root: Path, suffix: str, px: int = 48) -> Path:
    for row, image in enumerate(photos(24, px)):
        path = root / "ab"[row % 2] / f"{row}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return root


def pixels(split: Split) -> np.ndarray:
    return split.batch(np.arange(len(split)))[0]


def splits_of(dataset: Dataset) -> list[Split]:
    return [dataset.train, dataset.validation, dataset.load_test()]


def full_disk(monkeypatch, free: float) -> None:
    monkeypatch.setattr("tuner.datasets.prepared.shutil.disk_usage", lambda _path: SimpleNamespace(free=int(free)))


# --- what is kept ---


@pytest.mark.parametrize("kind", ["digits", "png", "bmp", "gif", "tiff", "parquet", "grey"])
def test_images_that_lost_nothing_make_the_same_data_set_however_they_are_kept(tmp_path, kind) -> None:
    source, options = "digits", {}
    if kind == "parquet":
        write_parquet(tmp_path / "train.parquet", 40)
        source = f"parquet:{tmp_path / 'train.parquet'}"
    elif kind == "grey":
        source, options = f"folder:{make_photos(tmp_path / 'pets', 'png')}", {"colour": "grey", "image_px": 20}
    elif kind != "digits":
        source = f"folder:{make_photos(tmp_path / 'pets', kind)}"
    arrays, _ = load(source, tmp_path / "cache", storage="arrays", **options)
    encoded, said = load(source, tmp_path / "cache", storage="encoded", **options)
    assert (arrays.prepared.storage, encoded.prepared.storage) == ("arrays", "encoded")
    assert encoded.prepared.path != arrays.prepared.path and encoded.fingerprint == arrays.fingerprint
    for one, other in zip(splits_of(arrays), splits_of(encoded), strict=True):
        np.testing.assert_array_equal(pixels(one), pixels(other))
        np.testing.assert_array_equal(one.labels, other.labels)
        np.testing.assert_array_equal(one.rows, other.rows)
        assert one.images.shape == other.images.shape and len(one.images) == len(other.images)
    assert any(text.startswith("images are kept encoded, without loss: ") for text in said)
    assert load(source, tmp_path / "cache", storage="encoded", **options)[0].prepared == encoded.prepared


def test_photos_are_encoded_once_at_the_size_needed_and_hardly_differ(tmp_path) -> None:
    source = f"folder:{make_photos(tmp_path / 'pets', 'jpg', px=96)}"
    arrays, _ = load(source, tmp_path / "cache", storage="arrays", image_px=64)
    encoded, said = load(source, tmp_path / "cache", storage="encoded", image_px=64)
    difference = np.abs(pixels(arrays.train).astype(int) - pixels(encoded.train))
    assert 0 < difference.mean() < 2 and encoded.fingerprint != arrays.fingerprint
    sizes = [sum(file.stat().st_size for file in each.prepared.path.glob("*_images.*")) for each in (arrays, encoded)]
    assert sizes[1] < sizes[0] / 3
    assert any(text.startswith("images are kept encoded, as JPEG of quality 95: ") for text in said)
    picture(9).save(tmp_path / "pets" / "a" / "one.png")
    _, said = load(source, tmp_path / "cache", storage="encoded", image_px=64)
    words = (
        "images are kept encoded, those that were lossy before (24 of 25) as JPEG of quality 95, others without loss"
    )
    assert any(text.startswith(words) for text in said)


def test_one_quality_can_be_given_for_all_and_makes_another_copy(tmp_path) -> None:
    source = f"folder:{make_photos(tmp_path / 'pets', 'png')}"
    found = {q: load(source, tmp_path / "cache", storage="encoded", jpeg_quality=q) for q in (None, 95, 50)}
    assert len({dataset.fingerprint for dataset, _ in found.values()}) == 3
    assert any("as JPEG of quality 50: " in text for text in found[50][1])


def test_broken_images_are_skipped_by_name_and_the_others_keep_their_labels(tmp_path) -> None:
    root = make_photos(tmp_path / "pets", "png")
    (root / "a" / "0.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"1 broken image: .*0.png"):
        load(f"folder:{root}", tmp_path / "cache", storage="encoded")
    arrays, _ = load(f"folder:{root}", tmp_path / "cache", storage="arrays", broken_images="skip")
    encoded, said = load(f"folder:{root}", tmp_path / "cache", storage="encoded", broken_images="skip")
    assert encoded.fingerprint == arrays.fingerprint and any("skipped 1 broken image" in text for text in said)


def saved(image: Image.Image, form: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


RGB, RGBA = picture(7), picture(7).convert("RGBA")
FORMS = {
    "jpeg": (saved(RGB, "JPEG"), True),
    "png": (saved(RGB, "PNG"), False),
    "gif": (saved(RGB, "GIF"), False),
    "bmp": (saved(RGB, "BMP"), False),
    "tiff": (saved(RGB, "TIFF"), False),
    "ppm": (saved(RGB, "PPM"), False),
    "webp": (saved(RGB, "WEBP"), True),
    "webp lossless": (saved(RGB, "WEBP", lossless=True), False),
    "webp lossy, with a profile": (saved(RGB, "WEBP", icc_profile=b"x" * 3001), True),
    "webp lossless, with a profile": (saved(RGB, "WEBP", lossless=True, icc_profile=b"VP8 " * 700), False),
    "webp lossy, transparent": (saved(RGBA, "WEBP", exact=True), True),
    "webp moving": (saved(RGB, "WEBP", save_all=True, append_images=[picture(99)]), True),
    "webp moving lossless": (saved(RGB, "WEBP", save_all=True, append_images=[picture(99)], lossless=True), False),
    "torn webp": (saved(RGB, "WEBP")[:14], False),
    "nothing": (b"", False),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_form_of_a_file_says_whether_it_has_lost_something(tmp_path, form) -> None:
    content, lossy = FORMS[form]
    (tmp_path / "image.png").write_bytes(content)
    assert is_lossy(content) is lossy and is_lossy(tmp_path / "image.png") is lossy


# --- what fits ---


def test_auto_keeps_arrays_where_they_take_half_of_the_free_disk_at_most_and_says_why_not(tmp_path, monkeypatch):
    source = f"folder:{make_photos(tmp_path / 'pets', 'jpg')}"
    needed = 24 * (48 * 48 * 3 + 8 + sketch_bytes(3))
    full_disk(monkeypatch, 2 * needed)
    dataset, said = load(source, tmp_path / "roomy")
    assert dataset.prepared.storage == "arrays" and not any("encoded" in text for text in said)
    full_disk(monkeypatch, 2 * needed - 2)
    dataset, said = load(source, tmp_path / "cache")
    assert dataset.prepared.storage == "encoded"
    assert any("would take 0 MiB, more than half of the 0 MiB" in text and "data.storage" in text for text in said)


def test_auto_uses_the_copy_that_is_there_and_arrays_before_others(tmp_path, monkeypatch) -> None:
    source = f"folder:{make_photos(tmp_path / 'pets', 'jpg')}"
    encoded, _ = load(source, tmp_path / "cache", storage="encoded")
    assert load(source, tmp_path / "cache")[0].fingerprint == encoded.fingerprint
    arrays, _ = load(source, tmp_path / "cache", storage="arrays")
    full_disk(monkeypatch, 0)
    assert load(source, tmp_path / "cache")[0].fingerprint == arrays.fingerprint


def test_auto_keeps_arrays_of_images_that_would_be_larger_encoded(tmp_path, monkeypatch) -> None:
    full_disk(monkeypatch, 1797 * (64 + 8 + sketch_bytes(1)) + 1)
    assert load("digits", tmp_path)[0].prepared.storage == "arrays"


@pytest.mark.parametrize(
    ("storage", "free", "words"),
    [
        ("arrays", 800_000, r"needs 1 MiB, 1 MiB are free; make room, set data.storage to encoded, .* about 0 MiB, "),
        ("encoded", 100, r"needs with encoded images about 0 MiB, 0 MiB are free; make room, make the images smaller"),
        ("auto", 100, r"needs with encoded images about 0 MiB, 0 MiB are free; .*TUNER_CACHE"),
    ],
)
def test_a_disk_that_holds_neither_is_refused_with_what_would_fit(tmp_path, monkeypatch, storage, free, words) -> None:
    source = f"folder:{make_photos(tmp_path / 'pets', 'jpg', px=128)}"
    full_disk(monkeypatch, free)
    with pytest.raises(DataError, match=words):
        load(source, tmp_path / "cache", storage=storage)
    assert not list((tmp_path / "cache" / "datasets").glob("*.partial"))


def test_a_disk_that_holds_no_arrays_of_noise_is_not_told_of_encoded_images(tmp_path, monkeypatch) -> None:
    full_disk(monkeypatch, 100)
    with pytest.raises(DataError) as refused:
        load("digits", tmp_path, storage="arrays")
    assert "encoded" not in str(refused.value)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"storage": "array"}, "data.storage: unknown storage 'array'; did you mean 'arrays'"),
        ({"storage": "encoded", "jpeg_quality": 0}, "data.jpeg_quality must be 1 to 100; got 0"),
        ({"storage": "encoded", "jpeg_quality": 101}, "data.jpeg_quality must be 1 to 100; got 101"),
        ({"storage": "arrays", "jpeg_quality": 90}, "data.jpeg_quality must be none with data.storage arrays"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, words) -> None:
    with pytest.raises(DataError, match=words):
        DataRequest("digits", **settings)


# --- copies that are not whole ---


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "train_images.bin").unlink(),
        lambda folder: (folder / "train_images.bin").write_bytes((folder / "train_images.bin").read_bytes()[:-1]),
        lambda folder: (folder / "train_index.npy").unlink(),
        lambda folder: np.save(folder / "train_index.npy", np.zeros(3, np.int64)),
        lambda folder: (folder / "train_labels.npy").unlink(),
        lambda folder: change_meta(folder, storage="arrays"),
        lambda folder: change_meta(folder, storage=7),
        lambda folder: change_meta(folder, image_shape=[4, 4]),
    ],
    ids=["no images", "cut", "no index", "other index", "no labels", "arrays", "other storage", "shape"],
)
def test_an_encoded_copy_that_is_not_whole_is_made_again(tmp_path, damage) -> None:
    first, _ = load("digits", tmp_path, storage="encoded")
    expected = images_of(first)
    damage(first.prepared.path)
    again, _ = load("digits", tmp_path, storage="encoded")
    assert again.prepared == first.prepared and images_of(again) == expected


def change_meta(folder: Path, **changes: object) -> None:
    path = folder / "meta.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_the_cache_lists_verifies_and_clears_encoded_copies(tmp_path, capsys) -> None:
    folder = load(f"folder:{make_photos(tmp_path / 'pets', 'jpg')}", tmp_path / "cache", storage="encoded")[
        0
    ].prepared.path
    assert "encoded images 48x48x3, 2 classes (a, b)" in run(capsys, tmp_path / "cache")[1]
    assert run(capsys, tmp_path / "cache", "verify")[0] == 0 and find_damage(folder) is None
    for file in ("train_index.npy", "train_labels.npy"):
        content = (folder / file).read_bytes()
        flip_last_bit(folder / file)
        assert run(capsys, tmp_path / "cache", "verify")[0] == 1 or statuses(tmp_path / "cache") == ["damaged"]
        (folder / file).write_bytes(content)
    content = bytearray((folder / "train_images.bin").read_bytes())
    content[len(content) // 2] ^= 0x55
    (folder / "train_images.bin").write_bytes(content)
    status, text = run(capsys, tmp_path / "cache", "verify")
    assert status == 1 and ("its values are not those that were written" in text or "cannot be decoded" in text)
    assert run(capsys, tmp_path / "cache", "clear", "--damaged")[0] == 0 and not folder.exists()


def test_a_build_of_encoded_images_that_is_killed_leaves_nothing_in_use(tmp_path) -> None:
    root = make_folder(tmp_path / "pets", {"a": 300, "b": 300})
    script = (
        "import time\nfrom pathlib import Path\nimport tuner.datasets._encoded_storage as stored\n"
        "from tuner.datasets.loading import *\nfrom tuner.datasets.request import *\n"
        "whole = stored.encode_image\n"
        "def slow(*a, **k):\n    print('encoding', flush=True); time.sleep(0.05); return whole(*a, **k)\n"
        "stored.encode_image = slow\n"
        f"cache = Path({str(tmp_path / 'cache')!r})\n"
        f"request = DataRequest('folder:{root}', storage='encoded')\n"
        "load_dataset(request, staged={}, seed=0, cache_dir=cache, notify=lambda _text: None)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline().startswith("encoding")
    time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    dataset, _ = load(f"folder:{root}", tmp_path / "cache", storage="encoded")
    assert dataset.prepared.counts["train"] == 600 and dataset.prepared.storage == "encoded"
    assert not list((tmp_path / "cache" / "datasets").glob("*.partial"))


# --- processes ---


def test_a_data_set_can_be_sent_to_another_process_and_survives_its_removal_from_the_cache(tmp_path) -> None:
    dataset, _ = load("digits", tmp_path, storage="encoded")
    expected = pixels(dataset.train)
    sent = pickle.loads(pickle.dumps(dataset))  # noqa: S301  pickled on this line: so Ray sends it to a worker
    shutil.rmtree(dataset.prepared.path)
    np.testing.assert_array_equal(pixels(sent.train), expected)
    np.testing.assert_array_equal(pixels(dataset.train), expected)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_as_many_threads_decode_as_are_said(tmp_path, threads) -> None:
    request = DataRequest("digits", storage="encoded")
    dataset = load_dataset(request, staged={}, seed=0, cache_dir=tmp_path, notify=lambda _text: None, threads=threads)
    assert all(isinstance(one.images, EncodedImages) and one.images.threads == threads for one in splits_of(dataset))
    assert images_of(dataset) == images_of(load("digits", tmp_path, storage="arrays", validation_fraction=0.1)[0])
