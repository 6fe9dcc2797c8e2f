"""The store of cached activations: built together, row by row there or not, bounded, never removed while in use."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from tests.support import ROOT
from tuner.training import activation_store as module
from tuner.training.activation_store import (
    ARRAY,
    CHECKSUMS,
    CHUNK_IMAGES,
    META,
    Build,
    DamagedEntryError,
    Key,
    Store,
    is_in_use,
    list_entries,
    remove,
)

IMAGES = 2 * CHUNK_IMAGES + 30


def key_of(name: str, images: int = IMAGES) -> Key:
    return Key({"what": name}, (images, 3, 5), "float16")


ALL = np.arange(IMAGES)
HOLES = np.flatnonzero(ALL % 3 != 1)
"""Rows such as a search asks for that must not touch its test images."""


def values_of(rows: np.ndarray) -> list[np.ndarray]:
    return [((rows[:, None, None] * 15 + np.arange(15).reshape(3, 5)) % 100).astype(np.float16)]


def build(store: Store, key: Key, rows: np.ndarray = ALL) -> np.ndarray:
    assert Build(store, [key], rows, values_of).work(60).is_finished
    array = store.open(key, rows)
    assert array is not None
    return array


class Counted:
    """A computation that remembers which rows it was asked for."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self.chunks: list[int] = []

    def __call__(self, rows: np.ndarray) -> list[np.ndarray]:
        self.rows += rows.tolist()
        self.chunks.append(int(rows[0]) // CHUNK_IMAGES)
        return values_of(rows)


def test_what_was_computed_is_read_back_mapped_and_read_only(tmp_path: Path):
    array = build(Store(tmp_path), key_of("a"))
    np.testing.assert_array_equal(array, values_of(ALL)[0])
    assert isinstance(array, np.memmap) and not array.flags.writeable
    assert [entry.status for entry in list_entries(tmp_path / "activations")] == ["whole"]


def test_an_entry_that_is_not_there_is_none(tmp_path: Path):
    assert Store(tmp_path).open(key_of("a"), ALL) is None


def test_another_identity_shape_or_type_is_another_entry():
    keys = [key_of("a"), key_of("b"), key_of("a", 7), Key({"what": "a"}, (IMAGES, 3, 5), "float32")]
    assert len({key.digest for key in keys}) == 4


def test_one_pass_can_fill_several_entries(tmp_path: Path):
    store, keys = Store(tmp_path), [key_of("a"), key_of("b")]
    assert Build(store, keys, ALL, lambda rows: values_of(rows) * 2).work(60).is_finished
    np.testing.assert_array_equal(store.open(keys[0], ALL), store.open(keys[1], ALL))


def test_a_build_says_how_far_it_has_come_and_can_be_left_and_taken_up(tmp_path: Path):
    counted = Counted()
    first = Build(Store(tmp_path), [key_of("a")], ALL, counted).work(0)
    assert (first.done, first.total, first.is_finished) == (CHUNK_IMAGES, IMAGES, False)
    assert Build(Store(tmp_path), [key_of("a")], ALL, counted).work(60).is_finished
    assert counted.rows == ALL.tolist() and counted.chunks == [0, 1, 2]


def test_rows_are_never_seen_before_all_that_are_asked_for_are_there(tmp_path: Path):
    store = Store(tmp_path)
    Build(store, [key_of("a")], ALL, values_of).work(0)
    assert store.open(key_of("a"), ALL) is None and not store.has(key_of("a"), ALL)
    there = ALL[:CHUNK_IMAGES]
    np.testing.assert_array_equal(store.open(key_of("a"), there)[there], values_of(there)[0])  # a smaller subset


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (HOLES, ALL),
        (HOLES, np.setdiff1d(ALL, HOLES)),
        (ALL[::7], HOLES),
        (ALL[:1], ALL[-1:]),
        (ALL[:300], ALL[200:]),
        (ALL, HOLES),
        (HOLES, HOLES),
    ],
)
def test_other_rows_of_the_same_images_compute_only_what_is_missing(
    tmp_path: Path, first: np.ndarray, second: np.ndarray
):
    store, counted = Store(tmp_path), Counted()
    build(store, key_of("a"), first)
    assert Build(Store(tmp_path), [key_of("a")], second, counted).work(60).is_finished
    assert sorted(counted.rows) == np.setdiff1d(second, first).tolist()
    both = np.union1d(first, second)
    np.testing.assert_array_equal(store.open(key_of("a"), both)[both], values_of(both)[0])
    (entry,) = list_entries(store.root)
    assert (entry.status, entry.images) == ("whole", len(both))


def test_entries_that_lack_different_rows_are_filled_in_one_pass_and_what_is_there_stays(tmp_path: Path):
    store, keys, counted = Store(tmp_path), [key_of("a"), key_of("b")], Counted()
    build(store, keys[0], HOLES)
    before = store.open(keys[0], HOLES)[HOLES].copy()
    assert Build(store, keys, ALL, lambda rows: [-value for value in counted(rows) * 2]).work(60).is_finished
    assert sorted(counted.rows) == ALL.tolist()
    np.testing.assert_array_equal(store.open(keys[0], HOLES)[HOLES], before)
    np.testing.assert_array_equal(store.open(keys[1], ALL), -values_of(ALL)[0])


@pytest.mark.parametrize("step", [1, 2, 3, 40])
def test_scattered_rows_are_computed_as_many_at_a_time_as_rows_in_a_row(tmp_path: Path, step: int):
    rows, counted = np.arange(0, 600 * step, step), []

    def compute(some: np.ndarray) -> list[np.ndarray]:
        counted.append(len(some))
        return values_of(some)

    key = key_of("a", 600 * step)
    assert Build(Store(tmp_path), [key], rows, compute).work(60).is_finished
    assert counted == [256, 256, 88]


def test_processes_that_compute_scattered_rows_share_them(tmp_path: Path):
    processes = [start_build(tmp_path, 0.3, step=5, images=6000) for _ in range(2)]
    printed = [process.communicate(timeout=60)[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    first_rows = [int(word) for words in printed for word in words if word != "finished"]
    assert len(first_rows) == len(set(first_rows)) <= 7


def test_rows_that_nobody_asks_for_take_no_room_on_the_disk(tmp_path: Path):
    store, few = Store(tmp_path), np.arange(0, 100_000, 10_000)
    key = Key({"what": "large"}, (100_000, 40_000), "float16")
    Build(store, [key], few, lambda rows: [np.ones((len(rows), 40_000), dtype=np.float16)]).work(60)
    (entry,) = list_entries(store.root)
    array_bytes = (store.folder(key) / ARRAY).stat().st_blocks * 512
    assert array_bytes - 4096 <= key.disk_bytes(few) <= len(few) * (key.row_bytes + 2 * 4096)
    assert entry.size_bytes < 2**21 < key.row_bytes * 100_000


@pytest.mark.parametrize(("values", "step"), [(3, 1), (3, 2), (700, 1), (700, 3), (2048, 1), (2048, 2), (5000, 7)])
def test_the_room_of_rows_is_forecast_in_blocks(tmp_path: Path, values: int, step: int):
    rows, store = np.arange(0, 600, step), Store(tmp_path)
    key = Key({"what": "blocks"}, (600, values), "float16")
    store.create(key)
    store.write(key, rows, np.ones((len(rows), values)))
    assert (store.folder(key) / ARRAY).stat().st_blocks * 512 in (key.disk_bytes(rows), key.disk_bytes(rows) + 4096)


def test_an_entry_that_grows_is_read_on_and_only_new_rows_are_compared(tmp_path: Path, monkeypatch):
    reader, compared = Store(tmp_path), []
    array = build(reader, key_of("a"), HOLES)
    whole = module.values_damage
    monkeypatch.setattr(module, "values_damage", lambda folder, rows: compared.extend(rows) or whole(folder, rows))
    build(Store(tmp_path), key_of("a"), ALL)
    compared.clear()
    assert reader.open(key_of("a"), HOLES) is not None
    assert compared == np.setdiff1d(ALL, HOLES).tolist()
    np.testing.assert_array_equal(array[HOLES], values_of(HOLES)[0])


def test_a_changed_value_is_found_and_the_entry_is_computed_again(tmp_path: Path):
    store = Store(tmp_path)
    build(store, key_of("a"))
    store.release()
    path = store.folder(key_of("a")) / ARRAY
    content = bytearray(path.read_bytes())
    content[-7] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(DamagedEntryError, match="its values are not those that were written; it was removed"):
        store.open(key_of("a"), ALL)
    np.testing.assert_array_equal(build(store, key_of("a")), values_of(ALL)[0])


@pytest.mark.parametrize(
    ("name", "message"), [(ARRAY, "cut short"), (CHECKSUMS, "cut short"), (META, "description cannot be read")]
)
def test_a_cut_file_is_found(tmp_path: Path, name: str, message: str):
    store = Store(tmp_path)
    build(store, key_of("a"))
    store.release()
    path = store.folder(key_of("a")) / name
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DamagedEntryError, match=message):
        store.open(key_of("a"), ALL)


def test_what_a_power_cut_has_emptied_is_found_and_computed_again(tmp_path: Path):
    store, key = Store(tmp_path), key_of("a")
    unfinished = Build(store, [key], ALL, values_of)
    unfinished.work(0)
    array = store.folder(key) / ARRAY
    content = array.read_bytes()
    array.write_bytes(content[:200] + bytes(300) + content[500:])
    assert unfinished.work(60).is_finished
    with pytest.raises(DamagedEntryError, match="its values are not those that were written"):
        store.open(key, ALL)
    np.testing.assert_array_equal(build(store, key), values_of(ALL)[0])


def test_a_build_goes_on_when_another_process_finds_its_entry_damaged_and_removes_it(tmp_path: Path):
    store, key, counted = Store(tmp_path), key_of("a"), Counted()
    building = Build(store, [key], ALL, counted)
    building.work(0)
    remove(store.folder(key))
    assert building.work(60).is_finished and counted.chunks == [0, 0, 1, 2]
    np.testing.assert_array_equal(store.open(key, ALL), values_of(ALL)[0])


def test_an_entry_that_is_removed_while_its_rows_are_computed_is_made_anew(tmp_path: Path):
    store, key, chunks = Store(tmp_path), key_of("a"), []

    def compute(rows: np.ndarray) -> list[np.ndarray]:
        if not chunks:
            remove(store.folder(key))
        chunks.append(int(rows[0]) // CHUNK_IMAGES)
        return values_of(rows)

    assert Build(store, [key], ALL, compute).work(60).is_finished
    np.testing.assert_array_equal(store.open(key, ALL), values_of(ALL)[0])


def test_an_error_of_the_computation_is_raised_whatever_its_kind(tmp_path: Path):
    def lost(_rows: np.ndarray) -> list[np.ndarray]:
        raise FileNotFoundError("the images are gone")

    with pytest.raises(FileNotFoundError, match="the images are gone"):
        Build(Store(tmp_path), [key_of("a")], ALL, lost).work(60)


def test_room_is_made_by_removing_what_was_used_least_recently(tmp_path: Path):
    store, keys = Store(tmp_path), [key_of(name) for name in "abc"]
    for place, key in enumerate(keys):
        build(store, key)
        os.utime(store.folder(key) / "used", (1000 + place, 1000 + place))
    os.utime(store.folder(keys[0]) / "used", (2000, 2000))  # the first one was used again
    store.release()
    total = sum(entry.size_bytes for entry in list_entries(store.root))
    assert store.make_room(10, total)
    assert [store.has(key, ALL) for key in keys] == [True, False, True]


class LockOfAnotherUser(FileLock):
    """A lock whose file can be read, and not written to."""

    def acquire(self, *_arguments, **_more):
        raise PermissionError(errno.EACCES, "Permission denied", self.lock_file)


def test_what_a_process_of_another_user_holds_is_in_use_and_what_it_has_left_behind_is_not(tmp_path, monkeypatch):
    lock = FileLock(tmp_path / "entry" / "users" / "7-0.lock")
    Path(lock.lock_file).parent.mkdir(parents=True)
    lock.acquire()
    monkeypatch.setattr(module, "FileLock", LockOfAnotherUser)
    assert is_in_use(tmp_path / "entry")
    lock.release()
    assert not is_in_use(tmp_path / "entry") and Path(lock.lock_file).exists()


def test_what_is_in_use_is_not_removed_even_if_there_is_no_room_then(tmp_path: Path):
    user, other = Store(tmp_path), Store(tmp_path)
    build(user, key_of("a"))
    assert not other.make_room(10_000, 20_000)
    assert other.has(key_of("a"), ALL)
    user.release()
    assert other.make_room(10_000, 20_000)
    assert not other.has(key_of("a"), ALL)


def test_more_than_the_bound_is_refused_and_removes_nothing(tmp_path: Path):
    store = Store(tmp_path)
    build(store, key_of("a"))
    store.release()
    assert not store.make_room(30_000, 20_000)
    assert store.has(key_of("a"), ALL)


def test_a_refusal_is_remembered_and_holds_no_values(tmp_path: Path):
    Store(tmp_path).refuse(key_of("a"), "too large", ALL[:5])
    Store(tmp_path).refuse(key_of("a"), "too large", ALL[7:9])
    store = Store(tmp_path)
    assert store.refusal(key_of("a"), ALL) == "too large" and store.open(key_of("a"), ALL) is None
    assert store.refusal(key_of("b"), ALL) is None


@pytest.mark.parametrize(
    ("rows", "is_refused"), [([4], True), ([5, 6], False), ([6, 7], True), ([9, 600], False), ([0, 600], True)]
)
def test_a_refusal_holds_for_rows_that_have_one_of_those_that_were_refused(
    tmp_path: Path, rows: list[int], is_refused: bool
):
    store = Store(tmp_path)
    store.refuse(key_of("a"), "too large", ALL[:5])
    store.refuse(key_of("a"), "too large", ALL[7:9])
    assert (store.refusal(key_of("a"), np.array(rows)) is not None) == is_refused


def test_an_empty_entry_is_given_back_and_one_with_rows_is_not(tmp_path: Path):
    store = Store(tmp_path)
    store.create(key_of("a"))
    store.reserve(key_of("a"), ALL)
    store.discard_empty(key_of("a"))
    assert not (store.folder(key_of("a")) / ARRAY).exists()
    build(store, key_of("b"))
    store.discard_empty(key_of("b"))
    assert store.has(key_of("b"), ALL) and is_in_use(store.folder(key_of("b")))


SLOW_BUILD = """
    import sys, time
    import numpy as np
    sys.path.insert(0, {root!r})
    from pathlib import Path
    from tests.training.test_activation_store import key_of, values_of
    from tuner.training.activation_store import Build
    from tuner.training.activation_store import Store
    def slow(rows):
        print(rows[0], flush=True)
        time.sleep({seconds})
        return values_of(rows)
    store, (first, step, images) = Store(Path(sys.argv[1])), map(int, sys.argv[2:])
    key, rows = key_of("a", images), np.arange(first, images, step)
    build = Build(store, [key], rows, slow)
    while not build.work(0.1).is_finished:
        pass
    assert store.open(key, rows) is not None
    print("finished", flush=True)
    {afterwards}
"""


def start_build(
    cache: Path, seconds: float, afterwards: str = "", first: int = 0, step: int = 1, images: int = IMAGES
) -> subprocess.Popen[str]:
    """Start a process that builds every `step`-th row from the `first` on."""
    code = textwrap.dedent(SLOW_BUILD.format(root=str(ROOT), seconds=seconds, afterwards=afterwards))
    rows = (str(number) for number in (first, step, images))
    return subprocess.Popen([sys.executable, "-c", code, str(cache), *rows], stdout=subprocess.PIPE, text=True)


def test_a_killed_build_loses_the_chunk_in_hand_only(tmp_path: Path):
    process = start_build(tmp_path, 0.5)
    assert process.stdout is not None
    assert [process.stdout.readline(), process.stdout.readline()] == ["0\n", f"{CHUNK_IMAGES}\n"]
    process.send_signal(signal.SIGKILL)  # while the second chunk is being computed
    process.wait()
    counted, store = Counted(), Store(tmp_path)
    assert Build(store, [key_of("a")], ALL, counted).work(60).is_finished
    assert counted.chunks == [1, 2]
    np.testing.assert_array_equal(store.open(key_of("a"), ALL), values_of(ALL)[0])


def test_processes_that_need_the_same_build_share_its_chunks(tmp_path: Path):
    processes = [start_build(tmp_path, 0.4) for _ in range(2)]
    printed = [process.communicate(timeout=60)[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    chunks = sorted(int(word) for words in printed for word in words if word != "finished")
    assert chunks == [0, CHUNK_IMAGES, 2 * CHUNK_IMAGES]  # each once, by one of them


def test_processes_that_need_different_rows_share_what_is_common(tmp_path: Path):
    processes = [start_build(tmp_path, 0.4, first=first) for first in (0, CHUNK_IMAGES)]
    printed = [process.communicate(timeout=60)[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    chunks = sorted(int(word) for words in printed for word in words if word != "finished")
    assert chunks == [0, CHUNK_IMAGES, 2 * CHUNK_IMAGES]


def test_another_process_that_uses_an_entry_is_seen_until_it_dies(tmp_path: Path):
    process = start_build(tmp_path, 0.0, afterwards="time.sleep(60)")
    assert process.stdout is not None
    while process.stdout.readline() != "finished\n":
        pass
    folder = Store(tmp_path).folder(key_of("a"))
    assert is_in_use(folder)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 10
    while is_in_use(folder) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_in_use(folder)
