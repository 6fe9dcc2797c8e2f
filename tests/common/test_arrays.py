"""Files of arrays: written in pieces, read as one, and any cut is seen."""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tuner.common.arrays import ArrayWriter, is_whole


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pieces=st.lists(st.integers(0, 40), max_size=6), shape=st.sampled_from([(), (3,), (2, 5, 1)]), data=st.data())
def test_an_array_written_in_pieces_is_read_as_one_and_every_cut_is_seen(pieces, shape, data, tmp_path) -> None:
    path = tmp_path / "array.npy"
    path.unlink(missing_ok=True)
    whole = np.random.default_rng(0).integers(0, 256, (sum(pieces), *shape)).astype(np.uint8)
    with ArrayWriter(path, shape, np.uint8) as writer:
        for part in np.split(whole, np.cumsum(pieces)[:-1] if pieces else []):
            writer.append(part)
    np.testing.assert_array_equal(np.load(path), whole)
    assert is_whole(path, whole.shape, np.uint8)
    assert not is_whole(path, (len(whole) + 1, *shape), np.uint8) and not is_whole(path, whole.shape, np.int64)
    content = path.read_bytes()
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    assert not is_whole(path, whole.shape, np.uint8)
    path.write_bytes(content + b"x")
    assert not is_whole(path, whole.shape, np.uint8)
