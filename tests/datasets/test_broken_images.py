"""Images that cannot be read: named and refused, or left out with their labels."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from tests.support.make_prepared import load, make_folder
from tuner.common.errors import DataError


def test_all_broken_images_of_all_splits_are_counted_and_ten_are_named(tmp_path) -> None:
    for split in ("train", "test"):
        make_folder(tmp_path / "pets" / split, {"a": 8, "b": 8})
        for index in range(7):
            (tmp_path / "pets" / split / "a" / f"torn {index}.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"^14 broken images: .*data\.broken_images to skip$") as failure:
        load(f"folder:{tmp_path / 'pets'}", tmp_path / "cache")
    assert str(failure.value).count(".png is not an image") == 10 and "; and 4 more;" in str(failure.value)


def test_images_that_are_odd_and_whole_are_read_whatever_they_are_called(tmp_path) -> None:
    root = make_folder(tmp_path / "pets", {"a": 6, "b": 6})
    odd = {
        "jpeg.png": ("JPEG", Image.new("RGB", (9, 7))),
        "cmyk.jpg": ("JPEG", Image.new("CMYK", (8, 8))),
        "deep.png": ("PNG", Image.fromarray(np.full((8, 8), 60_000, np.uint16))),
        "palette.gif": ("GIF", Image.new("P", (8, 8))),
        "clear.webp": ("WEBP", Image.new("RGBA", (8, 8))),
        "one bit.bmp": ("BMP", Image.new("1", (8, 8))),
        "line\nend \x1b[31m été 🐟.png": ("PNG", Image.new("LA", (1, 3000))),
    }
    for name, (form, image) in odd.items():
        image.save(root / "a" / name, format=form)
    frames = [Image.new("RGB", (8, 8), (value, 0, 0)) for value in range(3)]
    frames[0].save(root / "b" / "moving.gif", save_all=True, append_images=frames[1:])
    (root / "b" / "of any bytes \udcff.png").write_bytes((root / "b" / "image 0.png").read_bytes())
    dataset, said = load(f"folder:{root}", tmp_path / "cache", image_px=8)
    assert len(dataset.train) + len(dataset.validation) + len(dataset.load_test()) == 12 + len(odd) + 2
    assert not any("broken" in text for text in said)


def test_what_was_skipped_is_left_out_with_its_label_and_said_each_time_the_copy_is_used(tmp_path) -> None:
    root = make_folder(tmp_path / "pets", {"a": 20, "b": 20, "c": 20})
    for place in (root / "a" / "image 7.png", root / "b" / "image 0.png", root / "c" / "image 19.png"):
        place.write_bytes(place.read_bytes()[:50])
    for _ in range(2):
        dataset, said = load(f"folder:{root}", tmp_path / "cache", broken_images="skip")
        assert len(said) == 1 and said[0].startswith("skipped 3 broken images: ")
        for split in (dataset.train, dataset.validation, dataset.load_test()):
            images, labels = split.batch(np.arange(len(split)))
            assert (images[:, 0, 0, 0] // 100 == labels).all()
    assert len(dataset.train) + len(dataset.validation) + len(dataset.load_test()) == 57


def test_skipping_does_not_change_which_images_are_for_testing(tmp_path) -> None:
    root = make_folder(tmp_path / "pets", {"a": 20, "b": 20})

    def tested(**options) -> list[int]:
        test = load(f"folder:{root}", tmp_path / "cache", **options)[0].load_test()
        return test.batch(np.arange(len(test)))[0][:, 0, 0, 0].tolist()

    whole = tested()
    (root / "a" / "image 3.png").write_bytes(b"")
    assert tested(broken_images="skip") == [value for value in whole if value != 3]


def test_a_class_that_skipping_would_empty_is_refused(tmp_path) -> None:
    for split in ("train", "val", "test"):
        make_folder(tmp_path / "pets" / split, {"a": 4, "b": 4})
    for path in (tmp_path / "pets" / "train" / "b").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match="every class must have a training image that is not broken; none is left of b"):
        load(f"folder:{tmp_path / 'pets'}", tmp_path / "cache", broken_images="skip")
    for path in (tmp_path / "pets" / "test").rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match="test must hold at least one image that is not broken; it holds none"):
        load(f"folder:{tmp_path / 'pets'}", tmp_path / "cache", broken_images="skip")
