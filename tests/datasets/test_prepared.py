"""The prepared copy: made once, mapped, checked, made again when it is damaged; nothing half-built is ever used."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from tests.support.make_data import ARRAYS
from tests.support.make_prepared import load, make_folder, picture
from tuner.common.errors import DataError
from tuner.datasets._decoding import Form
from tuner.datasets.loading import find_prepared_data, load_dataset
from tuner.datasets.prepared import PreparedCopy, prepare
from tuner.datasets.request import DataRequest
from tuner.datasets.sources import Listed, Listing


def picture_value(file: Path) -> int:
    with Image.open(file) as image:
        return int(np.asarray(image)[0, 0, 0])


FORM = Form(image_px=None, asked=None, colour="auto", fit="crop", broken_images="fail")


def listing(numbers: dict[str, int] | None = None) -> Listing:
    numbers = numbers or {"train": 6, "test": 4}
    return Listing(
        ("a", "b"),
        {
            split: Listed(np.arange(number) % 2, np.full((number, 4, 4), index, np.uint8))
            for index, (split, number) in enumerate(numbers.items())
        },
    )


def prepared(cache: Path, whole: Listing | None = None) -> PreparedCopy:
    return prepare("mine", FORM, lambda: whole or listing(), cache, lambda _text: None)


# --- a copy is made once, and again when it must be ---


def test_the_copy_is_made_once_and_made_again_when_a_file_changes(tmp_path) -> None:
    root = make_folder(tmp_path / "pets", {"cat": 14, "dog": 26})
    first, _ = load(f"folder:{root}", tmp_path / "cache")
    made = first.prepared.path.stat().st_mtime_ns
    again, _ = load(f"folder:{root}", tmp_path / "cache")
    assert again.prepared.path == first.prepared.path and again.prepared.path.stat().st_mtime_ns == made
    picture(250).save(root / "cat" / "image 0.png")
    os.utime(root / "cat" / "image 0.png", (1, 1))
    changed, _ = load(f"folder:{root}", tmp_path / "cache")
    assert changed.prepared.path != first.prepared.path and changed.fingerprint != first.fingerprint


def test_a_copy_that_was_cut_short_is_made_again(tmp_path) -> None:
    root = make_folder(tmp_path / "pets", {"cat": 14, "dog": 26})
    first, _ = load(f"folder:{root}", tmp_path / "cache")
    fingerprint, file = first.fingerprint, first.prepared.path / "train_images.npy"
    del first
    file.write_bytes(file.read_bytes()[:100])
    again, _ = load(f"folder:{root}", tmp_path / "cache")
    assert again.fingerprint == fingerprint and len(again.train) == 24


def test_the_images_are_mapped_and_cannot_be_written_to(cache_dir) -> None:
    dataset, _ = load("digits", cache_dir)
    assert isinstance(dataset.train.images, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        dataset.train.images[0] = 0


def test_a_build_that_is_killed_leaves_nothing_in_use_and_the_next_one_succeeds(tmp_path) -> None:
    root = make_folder(tmp_path / "pets", {"a": 300, "b": 300})
    script = (
        "import sys, time\nfrom pathlib import Path\nimport tuner.datasets._decoding as decoding\n"
        "from tuner.datasets.loading import *\nfrom tuner.datasets.request import *\n"
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


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "meta.json").write_text("{"),
        lambda folder: (folder / "meta.json").write_text("[]"),
        lambda folder: (folder / "test_labels.npy").unlink(),
        lambda folder: change_meta(folder, columns={"train": ["labels"]}),
        lambda folder: np.save(folder / "train_images.npy", np.zeros((6, 4, 4, 1), np.int8)),
        lambda folder: np.save(folder / "train_labels.npy", np.zeros(5, np.int64)),
        lambda folder: change_meta(folder, version=1),
        lambda folder: change_meta(folder, image_shape=[4, 4, 3]),
        lambda folder: change_meta(folder, counts={"train": "6"}),
    ],
    ids=["torn meta", "other meta", "no labels", "no columns", "type", "length", "version", "shape", "count"],
)
def test_a_damaged_copy_is_made_again(damage, tmp_path) -> None:
    first = prepared(tmp_path)
    meta = (first.path / "meta.json").read_text()
    damage(first.path)
    assert prepared(tmp_path) == first and (first.path / "meta.json").read_text() == meta
    assert len(first.open("train")[0]) == 6 and first.open("train")[0].dtype == np.uint8


def change_meta(folder: Path, **changes: object) -> None:
    path = folder / "meta.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_copy_that_is_whole_is_used_without_asking_its_source(tmp_path) -> None:
    first = prepared(tmp_path)

    def unreachable() -> Listing:
        raise AssertionError("the source was asked")

    assert prepare("mine", FORM, unreachable, tmp_path, print) == first


def test_the_fingerprint_is_of_the_content_not_of_where_it_came_from(tmp_path) -> None:
    first, moved = prepared(tmp_path / "a"), prepared(tmp_path / "b")
    assert first.path.parent != moved.path.parent and first.fingerprint == moved.fingerprint
    renamed = Listing(("a", "c"), listing().splits)
    fewer = Listing(
        ("a", "b"), {"train": listing().splits["train"].take(np.arange(5)), "test": listing().splits["test"]}
    )
    assert (
        len(
            {
                first.fingerprint,
                *(prepared(tmp_path / name, other).fingerprint for name, other in (("c", renamed), ("d", fewer))),
            }
        )
        == 3
    )


def test_a_second_process_waits_for_the_first_and_uses_its_copy(tmp_path) -> None:
    started, waiting = threading.Event(), threading.Event()
    made: list[PreparedCopy] = []

    def slowly() -> Listing:
        started.set()
        assert waiting.wait(30)
        return listing()

    first = threading.Thread(target=lambda: made.append(prepare("mine", FORM, slowly, tmp_path, print)))
    first.start()
    assert started.wait(30)
    said: list[str] = []

    def heard(text: str) -> None:
        said.append(text)
        waiting.set()

    second = prepare("mine", FORM, lambda: pytest.fail("built twice"), tmp_path, heard)
    first.join()
    assert made == [second]
    assert said == ["another process is preparing these data: waiting for it", *second.notices]


def test_what_killed_builds_left_is_removed_and_what_a_living_one_builds_is_not(tmp_path) -> None:
    from filelock import FileLock

    (tmp_path / "datasets" / "dead.partial").mkdir(parents=True)
    (tmp_path / "datasets" / "living.partial").mkdir()
    with FileLock(tmp_path / "datasets" / "living.lock"):
        prepared(tmp_path)
    assert [path.name for path in (tmp_path / "datasets").glob("*.partial")] == ["living.partial"]


def test_what_a_killed_build_of_another_user_has_left_keeps_nobody_from_preparing(tmp_path, monkeypatch) -> None:
    from filelock import FileLock

    class Lock(FileLock):
        def acquire(self, *arguments, **more):
            if Path(self.lock_file).stem == "dead":
                raise PermissionError("it is another user's")
            return super().acquire(*arguments, **more)

    (tmp_path / "datasets" / "dead.partial").mkdir(parents=True)
    monkeypatch.setattr("tuner.datasets.prepared.FileLock", Lock)
    assert prepared(tmp_path).path.is_dir()
    assert [path.name for path in (tmp_path / "datasets").glob("*.partial")] == ["dead.partial"]


def test_a_build_that_fails_leaves_nothing_but_its_lock(tmp_path) -> None:
    broken = Listing(("a", "b"), {"train": Listed(np.array([0, 1]), None, [b"", b""])})
    with pytest.raises(DataError, match=r"2 broken images: image 0 is not an image: it is empty; image 1"):
        prepared(tmp_path, broken)
    assert [path.suffix for path in (tmp_path / "datasets").iterdir()] == [".lock"]


# --- disks ---


def test_a_disk_that_is_too_small_is_refused_before_anything_is_written(tmp_path) -> None:
    free = shutil.disk_usage(tmp_path).free
    images = np.broadcast_to(np.uint8(0), (free, 2, 2))
    huge = Listing(("a", "b"), {"train": Listed(np.broadcast_to(np.int64(0), (free,)), images)})
    with pytest.raises(DataError, match=r"the prepared copy needs [\d,]+ MiB, [\d,]+ MiB are free; make room"):
        prepared(tmp_path, huge)
    assert not list((tmp_path / "datasets").glob("*.partial"))


def test_a_disk_that_fills_up_meanwhile_is_an_error_and_does_not_kill_the_process(tmp_path) -> None:
    script = (
        "import resource\nfrom pathlib import Path\n"
        "from tuner.datasets.loading import *\nfrom tuner.datasets.request import *\n"
        "from tuner.common.errors import DataError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))  # a file cannot grow beyond this\n"
        "try:\n"
        f"    cache = Path({str(tmp_path)!r})\n"
        "    load_dataset(DataRequest('digits'), staged={}, seed=0, cache_dir=cache, notify=print)\n"
        "except DataError as error:\n    print('refused:', error)\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert "the prepared copy cannot be written: [Errno" in result.stdout
    assert not list((tmp_path / "datasets").glob("*.partial"))


# --- what is in a copy ---


def test_long_builds_say_how_far_they_are(tmp_path) -> None:
    said: list[str] = []
    whole = listing({"train": 6_000, "test": 10})
    prepare("mine", FORM, lambda: whole, tmp_path, said.append)
    steps = [text for text in said if text.endswith("images prepared")]
    assert len(steps) == 4 and said[0] == "train: 1,552 of 6,000 images prepared"


def test_the_test_images_are_mapped_by_load_test_and_by_nothing_else(tmp_path) -> None:
    np.savez(tmp_path / "own.npz", **ARRAYS, x_test=ARRAYS["x_train"][:4], y_test=ARRAYS["y_train"][:4])
    dataset, _ = load(f"npz:{tmp_path / 'own.npz'}", tmp_path)
    dataset.train.batch(np.array([0]))

    def mapped() -> set[str]:
        maps = psutil.Process().memory_maps()
        return {Path(each.path).name for each in maps if str(tmp_path) in each.path}

    assert mapped() == {"train_images.npy"}
    test = dataset.load_test()
    assert mapped() == {"train_images.npy", "test_images.npy"} and len(test) == dataset.test_images == 4


def test_the_test_split_that_is_made_is_rows_which_no_other_split_has(tmp_path) -> None:
    for options in ({}, {"max_train_images": 100}, {"validation_fraction": 0.5}):
        dataset, _ = load("digits", tmp_path, **options)
        assert dataset.prepared.counts == {"train": 1797}
        rows = [dataset.train.rows, dataset.validation.rows, dataset.load_test().rows]
        assert (
            len(np.unique(np.concatenate(rows))) == sum(map(len, rows)) and len(rows[2]) == dataset.test_images == 360
        )


def test_the_copy_does_not_depend_on_how_it_is_split(tmp_path) -> None:
    copies = [
        load("digits", tmp_path, **options)[0].prepared
        for options in ({}, {"validation_fraction": 0.5}, {"max_train_images": 100, "max_validation_images": 20})
    ]
    assert len({copy.path for copy in copies}) == 1


def test_what_is_given_for_each_image_stays_beside_it_also_where_broken_images_are_skipped(tmp_path) -> None:
    root = make_folder(tmp_path / "pets", {"a": 12, "b": 12})
    files = sorted(root.glob("*/*.png"))
    values = np.array([picture_value(file) for file in files])
    labels, numbers = values // 100, np.arange(24)
    for broken in (3, 20):
        files[broken].write_bytes(b"torn")
    listed = Listed(labels, None, files, groups=numbers // 2, weights=(numbers / 10).astype(np.float32))
    whole = Listing(("a", "b"), {"train": listed.take(numbers[1:])})
    copy = prepare(
        "mine", Form(None, None, "auto", "crop", "skip"), lambda: whole, tmp_path / "cache", lambda _text: None
    )
    there = np.delete(numbers, [0, 3, 20])
    assert (copy.open("train")[0][:, 0, 0, 0] == values[there]).all()
    assert copy.column("train", "groups").tolist() == (there // 2).tolist()
    assert np.allclose(copy.column("train", "weights"), there / 10)
    skipped = copy.skipped("train")
    assert skipped.put_back(copy.column("train", "groups"), skipped.groups).tolist() == (numbers[1:] // 2).tolist()
    assert skipped.without(np.array([0, 2, 3, 22])).tolist() == [0, 2, 20]


@pytest.mark.parametrize("column", ["groups", "weights"])
def test_a_copy_that_lacks_a_column_is_made_again_and_columns_are_part_of_its_fingerprint(column, tmp_path) -> None:
    given = {"groups": np.array([0, 0, 1, 1]), "weights": np.array([1, 2, 3, 4], np.float32)}
    plain = Listed(np.array([0, 1, 0, 1]), np.zeros((4, 4, 4), np.uint8))
    first, more = (
        prepared(tmp_path / name, Listing(("a", "b"), {"train": listed}))
        for name, listed in (("a", plain), ("b", replace(plain, **{column: given[column]})))
    )
    assert first.column("train", column) is None and first.fingerprint != more.fingerprint
    (more.path / f"train_{column}.npy").unlink()
    again = prepared(tmp_path / "b", Listing(("a", "b"), {"train": replace(plain, **{column: given[column]})}))
    assert again == more and again.column("train", column).tolist() == given[column].tolist()


def test_the_environment_names_the_cache_where_the_command_line_does_not(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("TUNER_CACHE", str(tmp_path / "shared"))
    dataset = load_dataset(DataRequest("digits"), staged={}, seed=0, cache_dir=None, notify=lambda _text: None)
    assert dataset.prepared.path.parent == tmp_path / "shared" / "datasets"


def test_a_copy_that_is_known_is_opened_without_a_look_at_its_source(tmp_path):
    root = make_folder(tmp_path / "pictures", {"a": 8, "b": 8})
    first, _ = load(f"folder:{root}", tmp_path / "cache")
    shutil.rmtree(root)

    def again(copy: Path):
        request = DataRequest(f"folder:{root}", validation_fraction=0.25)
        return load_dataset(request, staged={}, seed=0, cache_dir=tmp_path / "cache", notify=print, copy=copy)

    known = again(first.prepared.path)
    assert known.fingerprint == first.fingerprint and (known.train.rows == first.train.rows).all()
    for missing in (tmp_path / "of another machine", tmp_path / "cache"):
        with pytest.raises(DataError, match="pictures"):
            again(missing)


def test_a_folder_is_the_same_data_by_whichever_path_it_is_named(tmp_path, monkeypatch) -> None:
    root = make_folder(tmp_path / "pictures", {"a": 8, "b": 8})
    (root / "README.md").write_text("of the data")  # a notice of it names the folder
    (tmp_path / "link").symlink_to(root)
    made, said = load(f"folder:{root}", tmp_path / "cache")
    assert any("not used: 1 .md file" in notice for notice in said)
    monkeypatch.chdir(tmp_path)
    for way in ("pictures", "./pictures/", "../" + tmp_path.name + "/pictures", "link"):
        request = DataRequest(f"folder:{way}", validation_fraction=0.25)
        found = find_prepared_data(request, {}, tmp_path / "cache")
        assert found is not None and found.path == made.prepared.path, way
