"""The benchmark of preparing: it runs, and its ratios leave hashing out."""

from __future__ import annotations

from benchmarks.prepare.__main__ import Taken, bare_loop, prepare, table_row
from tests.support.make_data import make_folder


def test_a_row_has_medians_and_a_ratio_without_hashing() -> None:
    row = table_row("pets", 1000, 64, [Taken(1, 1.5, 0.5, 0.1), Taken(1, 1.8, 0.4, 0.2), Taken(2, 3.5, 0.5, 0.3)])
    assert row == "| pets, 1,000 | 64 px | 1000 | 1800 | 500 | 200 | 1.40 | 1.00, 1.40, 1.50 |"


def test_both_ways_can_be_timed(tmp_path) -> None:
    root = make_folder(tmp_path / "pets", {"cat": 8, "dog": 8})
    bare_loop(sorted(root.rglob("*.png")), 16)
    whole, hashing, writing = prepare(root, 16)
    assert whole > hashing + writing
    assert hashing > 0
