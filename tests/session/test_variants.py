"""What preprocessing and augmentation make of a few images, as pictures."""

from __future__ import annotations

import numpy as np

from tuner.reports.figures.predictions import build_variant_pictures
from tuner.reports.figures.registry import FIGURES, draw_figure
from tuner.reports.results import build_results
from tuner.runs.predictions import load_variants, save_variants
from tuner.runs.state import RunState
from tuner.session._variants import IMAGES, build_variants, variant_texts
from tuner.spec.space import Choice, Choose, Integer, Real

SPACE = {
    "preprocess": Choice(("none", "invert", "resize(12)|standardise", "scale(-1,1)")),
    "augment": Choice(("none", "flip")),
}


def test_every_variant_is_shown_for_the_same_images_of_different_classes(small_digits) -> None:
    found = build_variants(SPACE, small_digits, seed=0)
    assert [variant.text for variant in found] == [
        "as they are",
        "invert",
        "resize(12)|standardise",
        "scale(-1,1)",
        "flip",
    ]
    assert all(len(variant.images) == IMAGES and variant.images.dtype == np.uint8 for variant in found)
    raw, inverted, standardised, scaled, flipped = (variant.images for variant in found)
    np.testing.assert_array_equal(inverted, 255 - raw)
    np.testing.assert_array_equal(scaled, raw)  # from black to white, whatever the range
    assert standardised.shape[1:3] == (12, 12) and standardised.max() == 255 and standardised.min() == 0
    turned = raw[:, :, ::-1]
    assert all(
        (one == same).all() or (one == other).all() for one, same, other in zip(flipped, raw, turned, strict=True)
    )


def test_texts_are_found_in_every_branch_once() -> None:
    assert variant_texts(SPACE) == (("none", "invert", "resize(12)|standardise", "scale(-1,1)"), ("none", "flip"))
    assert variant_texts({}) == ((), ())


def test_of_strengths_the_strongest_of_each_branch_is_shown() -> None:
    strong = {"augment.rotate": Real(0, 30), "augment.flip": Choice(("none", "both")), "augment.shift": Integer(0, 4)}
    space = {"augment": Choose({"none": {}, "weak": {"augment.shift": Choice((2,))}, "strong": strong})}
    assert variant_texts(space) == ((), ("none", "shift(2)", "rotate(30)|flip(both)|shift(4)"))


def test_variants_are_kept_for_the_report_and_drawn(small_digits, tmp_path) -> None:
    found = build_variants(SPACE, small_digits, seed=0)
    save_variants(tmp_path / "variants.npz", found)
    kept = load_variants(tmp_path / "variants.npz")
    assert [variant.text for variant in kept] == [variant.text for variant in found]
    results = build_results(RunState(), variants=kept)
    assert draw_figure("variants", results) is not None
    assert "resize(12)|standardise" in FIGURES["variants"].describe(build_variant_pictures(results))


def test_a_damaged_file_shows_no_variants(tmp_path) -> None:
    (tmp_path / "variants.npz").write_bytes(b"PK\x03\x04 and no more")
    assert load_variants(tmp_path / "variants.npz") == () == load_variants(tmp_path / "none")
