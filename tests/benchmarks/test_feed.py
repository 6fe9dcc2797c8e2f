"""The benchmark of feeding: its parts, and that every way delivers what it is asked for."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.feed.__main__ import FIRST_STEPS, WAYS, Measured, Work, made_up, main, rows, waiting


def test_a_row_has_medians_and_processor_time_as_a_share_of_that_of_tuner() -> None:
    work = Work("jpeg", "none")
    found = {
        (Work("arrays", "none"), "tuner"): Measured([9, 9, 9], [4000, 5000, 4000], [0.1, 0.2, 0.3]),
        (work, "tuner"): Measured([1000, 3000, 2000], [600, 700, 800], [0.5, 0.25, 0.25]),
        (work, "decoder"): Measured([900], [1000], []),
    }
    assert rows(96, found) == [
        "| 96 | arrays | none | tuner | 9 | 4,000 | 20% | 1.00 |",
        "| 96 | jpeg | none | tuner | 2,000 | 700 | 25% | 1.00 |",
        "| 96 | jpeg | none | decoder | 900 | 1,000 | - | 0.70 |",
        "| 96 | jpeg | none | decoder and arrays | - | 800 | - | 0.88 |",
    ]


def test_a_device_waits_between_its_steps_when_the_first_have_passed() -> None:
    first = [(5.0 * step, 5.0 * step + 0.1) for step in range(FIRST_STEPS)]
    busy = [(100.0 + step, 101.0 + step) for step in range(4)]
    half = [(100.0 + 2 * step, 101.0 + 2 * step) for step in range(4)]
    assert waiting([*first, *busy]) == pytest.approx(0)
    assert waiting([*first, *half]) == pytest.approx(3 / 7)


def test_made_up_images_have_detail_and_are_the_same_each_time() -> None:
    images = made_up(16, 3)
    assert images.shape == (3, 16, 16, 3) and images.dtype == np.uint8
    assert images.std() > 15 and np.abs(np.diff(images.astype(int), axis=1)).mean() > 3
    np.testing.assert_array_equal(images, made_up(16, 3))


@pytest.mark.full
def test_every_way_has_a_row(capsys) -> None:
    assert main(["--px", "32", "--rounds", "1", "--seconds", "0.01", "--step-ms", "1", "--threads", "2"]) == 0
    table = [row.strip("| ").split(" | ") for row in capsys.readouterr().out.splitlines() if row.startswith("| 32 ")]
    wanted = [(*work, name) for work, names in WAYS.items() for name in names]
    fed, trained = table[:-2], table[-2:]
    assert [tuple(row[1:4]) for row in fed if row[3] != "decoder and arrays"] == wanted
    assert all(float(row[5].replace(",", "")) > 0 for row in fed)
    assert [row[1] for row in trained] == ["flip", "recipe"] and all(float(row[4]) > 0 for row in trained)
