"""Checkpoints: what is saved is loaded, and nothing damaged, foreign or pickled is."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tuner.common.errors import RunError
from tuner.training.checkpoint import FILE_NAME, VERSION, Checkpoint, load_checkpoint, save_checkpoint

EXAMPLE = Checkpoint(
    {"epoch": 3, "best": 0.5, "phase": "head", "stopped": False, "waited": None},
    {
        "variables": [np.arange(6, dtype=np.float32).reshape(2, 3), np.float32(2.5), np.zeros((0, 4), np.float16)],
        "optimizer": [np.array([7], dtype=np.int64)],
        "best": [],
    },
)


def same(left: Checkpoint, right: Checkpoint) -> bool:
    return dict(left.counters) == dict(right.counters) and {
        group: [(array.dtype, array.shape, array.tobytes()) for array in map(np.asarray, arrays)]
        for group, arrays in left.arrays.items()
    } == {
        group: [(array.dtype, array.shape, array.tobytes()) for array in map(np.asarray, arrays)]
        for group, arrays in right.arrays.items()
    }


def test_what_is_saved_is_loaded(tmp_path):
    save_checkpoint(tmp_path / "new" / "folder", EXAMPLE)
    assert same(load_checkpoint(tmp_path / "new" / "folder"), EXAMPLE)


DTYPES = st.sampled_from([np.float16, np.float32, np.float64, np.int64, np.uint8, np.bool_])
ARRAYS = DTYPES.flatmap(lambda dtype: arrays.arrays(dtype, arrays.array_shapes(min_dims=0, min_side=0, max_side=3)))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=50)
@given(
    st.dictionaries(st.text(max_size=5), st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False)),
    st.dictionaries(st.from_regex(r"[a-z_]{1,8}", fullmatch=True), st.lists(ARRAYS, max_size=3), max_size=3),
)
def test_every_checkpoint_is_loaded_as_it_was_saved(tmp_path, counters, groups):
    checkpoint = Checkpoint(counters, {f"{name}s": values for name, values in groups.items()})
    save_checkpoint(tmp_path, checkpoint)
    assert same(load_checkpoint(tmp_path), checkpoint)


def test_infinite_counters_are_kept(tmp_path):
    save_checkpoint(tmp_path, Checkpoint({"best": -math.inf}, {}))
    assert load_checkpoint(tmp_path).counters == {"best": -math.inf}


def test_a_checkpoint_replaces_the_one_before_and_leaves_nothing_aside(tmp_path):
    save_checkpoint(tmp_path, EXAMPLE)
    save_checkpoint(tmp_path, Checkpoint({"epoch": 4}, {}))
    assert load_checkpoint(tmp_path).counters == {"epoch": 4}
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


def test_a_write_that_was_cut_off_leaves_the_checkpoint_before(tmp_path):
    save_checkpoint(tmp_path, EXAMPLE)
    (tmp_path / f"{FILE_NAME}.partial").write_bytes(b"PK half")
    assert same(load_checkpoint(tmp_path), EXAMPLE)
    save_checkpoint(tmp_path, EXAMPLE)
    assert same(load_checkpoint(tmp_path), EXAMPLE)


def test_a_missing_checkpoint_says_where_it_was_looked_for(tmp_path):
    with pytest.raises(RunError, match=rf"missing.{FILE_NAME}: no checkpoint there"):
        load_checkpoint(tmp_path / "missing")


@pytest.mark.parametrize("content", [b"", b"PK", b"not a checkpoint", b"\x93NUMPY", b"\x80\x04]\x94."])
def test_what_is_no_checkpoint_is_refused(tmp_path, content):
    (tmp_path / FILE_NAME).write_bytes(content)
    with pytest.raises(RunError, match="the checkpoint cannot be read"):
        load_checkpoint(tmp_path)


def test_a_single_array_or_a_folder_is_no_checkpoint(tmp_path):
    with (tmp_path / FILE_NAME).open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(RunError, match="the checkpoint cannot be read"):
        load_checkpoint(tmp_path)
    (tmp_path / "folder" / FILE_NAME).mkdir(parents=True)
    with pytest.raises(RunError, match="the checkpoint cannot be read"):
        load_checkpoint(tmp_path / "folder")


def write_raw(folder, header: object, **groups: np.ndarray) -> None:
    with (folder / FILE_NAME).open("wb") as file:
        np.savez(file, header=np.frombuffer(json.dumps(header).encode(), dtype=np.uint8), **groups)


@pytest.mark.parametrize("version", [0, VERSION + 1, "1", None])
def test_another_version_is_refused_before_its_arrays_are_looked_at(tmp_path, version):
    write_raw(tmp_path, {"version": version, "layout": "another"})
    with pytest.raises(RunError, match=rf"checkpoint version must be {VERSION}; got {version!r}"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    "header",
    [
        [],
        3,
        "x",
        {},
        {"version": VERSION},
        {"version": VERSION, "groups": [], "counters": {}},
        {"version": VERSION, "groups": {"a": "1"}, "counters": {}},
        {"version": VERSION, "groups": {"a": 1}, "counters": {}},
        {"version": VERSION, "groups": {}},
    ],
)
def test_a_header_of_another_form_is_refused(tmp_path, header):
    write_raw(tmp_path, header)
    with pytest.raises(RunError, match="the checkpoint cannot be read"):
        load_checkpoint(tmp_path)


class Trap:
    """Unpickling it would write a file."""

    def __reduce__(self):
        return (open, ("trapped", "w"))


def test_a_pickled_array_is_refused_and_nothing_in_it_is_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    header = {"version": VERSION, "groups": {"a": 1}, "counters": {}}
    write_raw(tmp_path, header, **{"a.0": np.array([Trap()], dtype=object)})
    with pytest.raises(RunError, match="allow_pickle=False"):
        load_checkpoint(tmp_path)
    assert not (tmp_path / "trapped").exists()


def test_a_truncated_checkpoint_is_refused_wherever_it_was_cut(tmp_path):
    save_checkpoint(tmp_path, EXAMPLE)
    whole = (tmp_path / FILE_NAME).read_bytes()
    for length in range(0, len(whole), 37):
        (tmp_path / FILE_NAME).write_bytes(whole[:length])
        with pytest.raises(RunError, match="the checkpoint cannot be read"):
            load_checkpoint(tmp_path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=400)
@given(st.data())
def test_flipped_bits_are_noticed_or_do_not_matter(tmp_path, data):
    save_checkpoint(tmp_path, EXAMPLE)
    content = bytearray((tmp_path / FILE_NAME).read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    (tmp_path / FILE_NAME).write_bytes(bytes(content))
    try:
        loaded = load_checkpoint(tmp_path)
    except RunError as error:
        assert FILE_NAME in str(error)
    else:
        assert same(loaded, EXAMPLE)
