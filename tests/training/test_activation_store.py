"""The store of cached activations: built together, whole or not there, bounded, never removed while in use."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

from tests.support import ROOT
from tuner.training.activation_store import (
    ARRAY,
    CHUNK_IMAGES,
    META,
    Build,
    DamagedEntryError,
    Key,
    Store,
    is_in_use,
    list_entries,
)

IMAGES = 2 * CHUNK_IMAGES + 30


def key_of(name: str, images: int = IMAGES) -> Key:
    return Key({"what": name}, (images, 3, 5), "float16")


def rows_of(start: int, stop: int) -> list[np.ndarray]:
    return [np.arange(start * 15, stop * 15, dtype=np.float32).reshape(-1, 3, 5).astype(np.float16) % 100]


def build(store: Store, key: Key) -> np.ndarray:
    assert Build(store, [key], rows_of).work(60).is_finished
    array = store.open(key)
    assert array is not None
    return array


def test_what_was_computed_is_read_back_mapped_and_read_only(tmp_path: Path):
    array = build(Store(tmp_path), key_of("a"))
    np.testing.assert_array_equal(array, rows_of(0, IMAGES)[0])
    assert isinstance(array, np.memmap) and not array.flags.writeable
    assert [entry.status for entry in list_entries(tmp_path / "activations")] == ["whole"]


def test_an_entry_that_is_not_there_is_none(tmp_path: Path):
    assert Store(tmp_path).open(key_of("a")) is None


def test_another_identity_shape_or_type_is_another_entry():
    keys = [key_of("a"), key_of("b"), key_of("a", 7), Key({"what": "a"}, (IMAGES, 3, 5), "float32")]
    assert len({key.digest for key in keys}) == 4


def test_one_pass_can_fill_several_entries(tmp_path: Path):
    store, keys = Store(tmp_path), [key_of("a"), key_of("b")]
    assert Build(store, keys, lambda start, stop: rows_of(start, stop) * 2).work(60).is_finished
    np.testing.assert_array_equal(store.open(keys[0]), store.open(keys[1]))


def test_a_build_says_how_far_it_has_come_and_can_be_left_and_taken_up(tmp_path: Path):
    computed: list[int] = []

    def compute(start: int, stop: int) -> list[np.ndarray]:
        computed.append(start)
        return rows_of(start, stop)

    first = Build(Store(tmp_path), [key_of("a")], compute).work(0)
    assert (first.done, first.total, first.is_finished) == (CHUNK_IMAGES, IMAGES, False)
    assert Build(Store(tmp_path), [key_of("a")], compute).work(60).is_finished
    assert computed == [0, CHUNK_IMAGES, 2 * CHUNK_IMAGES]


def test_an_entry_is_never_seen_before_it_is_whole(tmp_path: Path):
    store = Store(tmp_path)
    Build(store, [key_of("a")], rows_of).work(0)
    assert store.open(key_of("a")) is None and not store.has(key_of("a"))


def test_a_changed_value_is_found_and_the_entry_is_computed_again(tmp_path: Path):
    store = Store(tmp_path)
    build(store, key_of("a"))
    store.release()
    path = store.folder(key_of("a")) / ARRAY
    content = bytearray(path.read_bytes())
    content[-7] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(DamagedEntryError, match="its values are not those that were written; it was removed"):
        store.open(key_of("a"))
    np.testing.assert_array_equal(build(store, key_of("a")), rows_of(0, IMAGES)[0])


@pytest.mark.parametrize(("name", "message"), [(ARRAY, "cut short"), (META, "description cannot be read")])
def test_a_cut_file_is_found(tmp_path: Path, name: str, message: str):
    store = Store(tmp_path)
    build(store, key_of("a"))
    store.release()
    path = store.folder(key_of("a")) / name
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DamagedEntryError, match=message):
        store.open(key_of("a"))


def test_a_chunk_that_a_power_cut_has_emptied_is_computed_again(tmp_path: Path):
    store, key = Store(tmp_path), key_of("a")
    unfinished = Build(store, [key], rows_of)
    unfinished.work(0)
    array = next((tmp_path / "activations").glob("build-*/0.npy"))
    content = array.read_bytes()
    array.write_bytes(content[:200] + bytes(300) + content[500:])
    np.testing.assert_array_equal(build(store, key), rows_of(0, IMAGES)[0])


def test_room_is_made_by_removing_what_was_used_least_recently(tmp_path: Path):
    store, keys = Store(tmp_path), [key_of(name) for name in "abc"]
    for place, key in enumerate(keys):
        build(store, key)
        os.utime(store.folder(key) / "used", (1000 + place, 1000 + place))
    os.utime(store.folder(keys[0]) / "used", (2000, 2000))  # the first one was used again
    store.release()
    total = sum(entry.size_bytes for entry in list_entries(store.root))
    assert store.make_room(10, total)
    assert [store.has(key) for key in keys] == [True, False, True]


def test_what_is_in_use_is_not_removed_even_if_there_is_no_room_then(tmp_path: Path):
    user, other = Store(tmp_path), Store(tmp_path)
    build(user, key_of("a"))
    assert not other.make_room(10_000, 20_000)
    assert other.has(key_of("a"))
    user.release()
    assert other.make_room(10_000, 20_000)
    assert not other.has(key_of("a"))


def test_more_than_the_bound_is_refused_and_removes_nothing(tmp_path: Path):
    store = Store(tmp_path)
    build(store, key_of("a"))
    store.release()
    assert not store.make_room(30_000, 20_000)
    assert store.has(key_of("a"))


def test_a_refusal_is_remembered_and_holds_no_values(tmp_path: Path):
    Store(tmp_path).refuse(key_of("a"), "too large")
    store = Store(tmp_path)
    assert store.refusal(key_of("a")) == "too large" and store.open(key_of("a")) is None
    assert store.refusal(key_of("b")) is None


SLOW_BUILD = """
    import sys, time
    sys.path.insert(0, {root!r})
    from pathlib import Path
    from tests.training.test_activation_store import key_of, rows_of
    from tuner.training.activation_store import Build
    from tuner.training.activation_store import Store
    def slow(start, stop):
        print(start, flush=True)
        time.sleep({seconds})
        return rows_of(start, stop)
    store = Store(Path(sys.argv[1]))
    build = Build(store, [key_of("a")], slow)
    while not build.work(0.1).is_finished:
        pass
    assert store.open(key_of("a")) is not None
    print("finished", flush=True)
    {afterwards}
"""


def start_build(cache: Path, seconds: float, afterwards: str = "") -> subprocess.Popen[str]:
    code = textwrap.dedent(SLOW_BUILD.format(root=str(ROOT), seconds=seconds, afterwards=afterwards))
    return subprocess.Popen([sys.executable, "-c", code, str(cache)], stdout=subprocess.PIPE, text=True)


def test_a_killed_build_loses_the_chunk_in_hand_only(tmp_path: Path):
    process = start_build(tmp_path, 0.5)
    assert process.stdout is not None
    assert [process.stdout.readline(), process.stdout.readline()] == ["0\n", f"{CHUNK_IMAGES}\n"]
    process.send_signal(signal.SIGKILL)  # while the second chunk is being computed
    process.wait()
    computed: list[int] = []

    def compute(start: int, stop: int) -> list[np.ndarray]:
        computed.append(start)
        return rows_of(start, stop)

    store = Store(tmp_path)
    assert Build(store, [key_of("a")], compute).work(60).is_finished
    assert computed == [CHUNK_IMAGES, 2 * CHUNK_IMAGES]
    np.testing.assert_array_equal(store.open(key_of("a")), rows_of(0, IMAGES)[0])


def test_processes_that_need_the_same_build_share_its_chunks(tmp_path: Path):
    processes = [start_build(tmp_path, 0.4) for _ in range(2)]
    printed = [process.communicate(timeout=60)[0].split() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    chunks = sorted(int(word) for words in printed for word in words if word != "finished")
    assert chunks == [0, CHUNK_IMAGES, 2 * CHUNK_IMAGES]  # each once, by one of them


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
