"""The benchmark of augmentation runs, and compares the same things."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.augmentation import numpy_version
from benchmarks.augmentation.__main__ import main
from tuner.models.augmentation import parse_augment


@pytest.mark.full
def test_every_way_of_a_text_has_a_row(capsys) -> None:
    assert main(["flip|rotate(15)", "augmix", "--px", "8", "--rounds", "1", "--seconds", "0.01"]) == 0
    rows = [row.split(" | ") for row in capsys.readouterr().out.splitlines() if row.startswith("| `")]
    ways = [(row[0].strip("| "), row[2], row[3]) for row in rows]
    first = "`flip\\|rotate(15)`"
    assert ways == [
        *((first, *way) for way in (("tuner", "1"), ("tuner", "2"), ("numpy", "1"), ("keras", "1"))),
        *(("`augmix`", "tuner", number) for number in ("1", "2")),
    ]


@pytest.mark.parametrize("text", ["flip", "shift(3)", "rotate(20)", "zoom(0.2)", "brightness(0.2)", "contrast(0.3)"])
def test_the_arithmetic_of_before_changes_images_alike_on_average(text) -> None:
    smooth = (127 + 60 * np.sin(np.add.outer(np.arange(24) / 5, np.arange(24) / 4))).astype(np.uint8)
    images, labels = np.repeat(smooth[None, :, :, None], 3000, axis=0), np.ones((3000, 1))
    now = parse_augment(text).apply(images, labels, 0)[0].astype(float)
    before = numpy_version.augmented(text, images, labels, 0)[0]
    np.testing.assert_allclose(now.mean(axis=0), before.mean(axis=0), atol=8)
    np.testing.assert_allclose(now.std(axis=0), before.std(axis=0), atol=6)
