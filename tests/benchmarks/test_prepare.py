"""The benchmark of preparing: it runs, and its ratios leave hashing out."""

from __future__ import annotations

from benchmarks.prepare.__main__ import bare_loop, prepare, table_row
from tests.support.make_data import make_folder


def test_a_row_has_medians_and_a_ratio_without_hashing() -> None:
    row = table_row("pets", 1000, 64, [(1.0, 1.5, 0.5), (1.0, 1.8, 0.4), (2.0, 3.5, 0.5)])
    assert row == "| pets, 1,000 | 64 px | 1000 | 1800 | 500 | 1.40 | 1.00, 1.40, 1.50 |"


def test_both_ways_can_be_timed(tmp_path) -> None:
    root = make_folder(tmp_path / "pets", {"cat": 8, "dog": 8})
    bare_loop(sorted(root.rglob("*.png")), 16)
    whole, hashing = prepare(root, 16)
    assert whole > hashing >= 0
