"""Making a file: what is asked for, what is looked at, where it is written, what is said. No network is asked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.drawn_photos import drawn_photos
from tests.support.make_data import make_folder, write_parquet
from tests.support.make_facts import BARE, MACHINE
from tuner.common.errors import InputError
from tuner.common.plugins import forget_plugins, load_plugins
from tuner.proposals import making
from tuner.proposals.asking import source_as_written, source_asked_for, study_name
from tuner.proposals.making import Asked, Made, make_file
from tuner.session.checks import check_names
from tuner.spec.spec import Spec, load_spec, require


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, on a machine of two cores with one file of weights."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(making, "look_at_machine", lambda reach: MACHINE)
    return tmp_path


def photos(folder: Path, numbers: dict[str, int], px: int = 24, channels: int = 3, names: str = "{}.png") -> Path:
    for place, (name, number) in enumerate(numbers.items()):
        (folder / name).mkdir(parents=True)
        for row, image in enumerate(drawn_photos(number, px, channels, place)):
            Image.fromarray(image[:, :, 0] if channels == 1 else image).save(folder / name / names.format(row))
    return folder


def make(source: str, *overrides: str, output: Path | None = None, time_s: float | None = 300.0) -> tuple[Made, Spec]:
    asked = Asked(source, time_s, overrides, {}, Path("cache"), Path("runs"), output)
    made = make_file(asked, reach=lambda: None)
    reading = load_spec(made.path)
    return made, require(reading, check_names(reading, {}))


# --- what is asked for ---


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("digits", "digits"),
        ("tfds:kmnist", "tfds:kmnist"),
        ("folder:pets", "folder:pets"),
        ("pets", "folder:pets"),
        ("./pets/", "folder:./pets/"),
        ("pets/cat", "folder:pets/cat"),
        ("data.npz", "npz:data.npz"),
        ("data.parquet", "parquet:data.parquet"),
        ("labels.csv", "csv:labels.csv"),
        ("bilder.csv", "csv:bilder.csv"),
        ("mine", "mine"),
        ("right.yaml", None),
        ("gone.yaml", None),
        ("plain text", None),
    ],
)
def test_a_word_is_a_source_or_a_file(text: str, expected: str | None, place: Path) -> None:
    make_folder(place / "pets", {"cat": 2, "dog": 2})
    np.savez(place / "data.npz", x_train=np.zeros((4, 8, 8), np.uint8), y_train=np.arange(4) % 2)
    write_parquet(place / "data.parquet", 4)
    (place / "labels.csv").write_text("path,label\npets/cat/image 0.png,cat\npets/dog/image 0.png,dog\n")
    (place / "bilder.csv").write_text("bild,art\npets/cat/image 0.png,cat\npets/dog/image 0.png,dog\n")
    for name in ("right.yaml", "plain text"):
        (place / name).write_text("study: x\n")
    assert source_asked_for(text, {"mine": "folder:pets"}) == expected


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("pets.tar", "pets.tar: must be unpacked: an archive is not read"),
        ("pets.TAR.GZ", "pets.TAR.GZ: must be unpacked"),
        ("pets.zip", "pets.zip: must be unpacked"),
        ("cat.JPG", "cat.JPG: must be a folder of images in class folders, or a table of them; got one image"),
    ],
)
def test_an_archive_or_one_image_is_not_taken_for_a_search_space_file(name: str, words: str, place: Path) -> None:
    (place / name).write_bytes(b"\x89\x00")
    with pytest.raises(InputError, match=words):
        source_asked_for(name, {})


def test_a_folder_with_one_table_is_read_by_its_table(place: Path) -> None:
    make_folder(place / "pets" / "images", {"cat": 2, "dog": 2})
    (place / "pets" / "labels.csv").write_text("path,label\nimages/cat/image 0.png,cat\n")
    assert source_asked_for("pets", {}) == "csv:pets/labels.csv"


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("digits", "digits"), ("tfds:a/b:1.0.0", "a-b-1.0.0"), ("csv:x/labels.v2.csv", "labels.v2"),
        ("folder:photos.2024/", "photos.2024"), ("folder:It's a \"test\"", "It-s-a-test"), ("folder:été", "ete"),
        ("folder:写真", "images"), ("folder:none", "images-none"), ("folder:off", "images-off"),
        ("folder:-x-", "x"), ("folder:" + "a" * 200, "a" * 50), ("folder:...", "images"),
    ],
)  # fmt: skip
def test_a_study_is_named_for_its_source(source: str, name: str, place: Path) -> None:
    (place / "photos.2024").mkdir()
    assert study_name(source) == name


def test_this_folder_has_the_name_that_it_has_above(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "pets").mkdir()
    monkeypatch.chdir(place / "pets")
    assert study_name("folder:.") == "pets" and study_name("folder:./") == "pets"


@pytest.mark.parametrize("source", ["folder:a\nb", "folder:\x1b[31m", "folder:\udcff", "folder:a\tb"])
def test_a_path_that_no_file_can_name_is_refused(source: str) -> None:
    with pytest.raises(InputError, match="printable text"):
        source_as_written(source, is_elsewhere=False)


# --- the file ---


def test_a_file_is_written_beside_and_never_over_another(place: Path) -> None:
    make_folder(place / "pets", {"cat": 12, "dog": 12})
    first, spec = make("folder:pets")
    assert first.path == Path("pets.yaml") and spec.study == "pets" and spec.search.time_budget == 300
    before = first.path.read_text()
    second, spec = make("folder:pets")
    assert second.path == Path("pets-2.yaml") and spec.study == "pets-2", "runs of both can be told apart"
    assert first.path.read_text() == before
    assert second.lines[-1].endswith("to search with it: python -m tuner.search pets.yaml")
    for name in ("pets", "pets-3"):
        (place / "runs" / name).mkdir(parents=True)
    third = make("folder:pets")[0]
    assert third.path == Path("pets-4.yaml"), "a run of that name would be taken for this study's"
    assert third.lines[-1].endswith("to go on with its search: python -m tuner.search pets.yaml --resume")


def test_the_command_in_a_file_can_be_typed_whatever_the_file_is_called(place: Path) -> None:
    make_folder(place / "pets", {"cat": 12, "dog": 12})
    made, _ = make("folder:pets", output=Path("my pets.yaml"))
    assert "python -m tuner.search 'my pets.yaml'." in made.path.read_text().replace("\n# ", " ")


def test_a_path_is_as_it_was_typed_here_and_absolute_elsewhere(place: Path) -> None:
    make_folder(place / "pets", {"cat": 12, "dog": 12})
    assert make("folder:pets")[1].data.source == "folder:pets"
    made, spec = make("folder:pets", output=Path("new/deep/first.yaml"))
    assert made.path == Path("new/deep/first.yaml") and spec.study == "first"
    assert spec.data.source == f"folder:{place / 'pets'}"


def test_odd_names_of_folders_and_classes_make_right_files(place: Path) -> None:
    for name in ("it's: #1", '"quoted"', "été 写真", "- a", "C:\\Users", "none", "{x}", "%a"):
        photos(place / name, {"a: b": 6, "#c\u202e": 6, "none": 6, '"': 6})
        assert make(f"folder:{name}")[1].data.source == f"folder:{name}"


@pytest.mark.parametrize(
    ("numbers", "px", "channels", "names", "words", "folds"),
    [
        ({"a": 3, "b": 3}, 40, 3, "{}.png", "few images", 2),
        ({"a": 5, "b": 5, "c": 5, "d": 5}, 40, 3, "{}.png", "few images", 3),
        ({"x": 60, "y": 12}, 16, 3, "{}.png", "5 times the images of y", 3),
        ({"x": 30, "y": 30}, 16, 1, "{}.png", "grey", 3),
        ({"x": 24, "y": 24}, 16, 3, "patient{0:02.0f}_{0}.png", "", 3),
    ],
    ids=["three images of a class", "five of a class", "uneven", "grey", "many"],
)
def test_each_kind_of_folder_has_its_choices(
    place: Path, numbers: dict[str, int], px: int, channels: int, names: str, words: str, folds: int
) -> None:
    photos(place / "data", numbers, px, channels, names)
    made, spec = make("folder:data")
    assert words in "\n".join(made.lines)
    assert spec.data.validation is not None and spec.data.validation.folds == folds


def test_a_group_in_file_names_is_asked_about_in_the_file_and_aloud(place: Path) -> None:
    for name in ("ill", "well"):
        (place / "scans" / name).mkdir(parents=True)
        for row, image in enumerate(drawn_photos(24, 16, 3, len(name))):
            Image.fromarray(image).save(
                place / "scans" / name / f"patient{row // 4 + 6 * (name == 'ill'):02}_{row}.png"
            )
    made, spec = make("folder:scans")
    assert spec.data.group is None and any(line.startswith("groups") and "?" in line for line in made.lines)
    question = next(line for line in made.path.read_text().splitlines() if "# group: " in line)
    answered = made.path.read_text().replace(question, question.replace("# ", "", 1))
    made.path.write_text(answered)
    assert require(load_spec(made.path)).data.group is not None
    assert make("folder:scans", f"data.group={require(load_spec(made.path)).data.group}")[1].data.group is not None


def test_broken_images_and_copies_and_two_labels_are_told_and_stop_nothing(place: Path) -> None:
    photos(place / "data", {"a": 20, "b": 20}, 32)
    (place / "data" / "a" / "torn.png").write_bytes(b"x")
    (place / "data" / "b" / "same.png").write_bytes((place / "data" / "a" / "0.png").read_bytes())
    (place / "data" / "notes.txt").touch()
    made, spec = make("folder:data")
    told = "\n".join(made.lines)
    assert spec.data.broken_images == "skip" and "a/torn.png is not an image" in told
    assert "under several labels" in told and "same.png" in told and "copies" in told and "notes.txt" in told


def test_of_more_images_than_the_time_allows_only_headers_are_read(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos(place / "data", {"a": 20, "b": 20}, 16)
    monkeypatch.setattr(making, "ALWAYS_DECODED", 10)
    monkeypatch.setattr(making, "MOST_DECODED_A_SECOND", 0)
    made, spec = make("folder:data")
    assert spec.data.broken_images == "skip" and any("only headers were read" in line for line in made.lines)


def test_settings_of_the_command_line_are_looked_at_and_written(place: Path) -> None:
    photos(place / "data", {"a": 20, "b": 20}, 32)
    _, spec = make("folder:data", "data.image_px=16", "data.layout=classes", "data.validation_fraction=0.4")
    assert spec.data.image_px == 16 and spec.data.layout == "classes" and spec.data.validation_fraction == 0.4


def test_without_weights_networks_are_trained_from_scratch(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(making, "look_at_machine", lambda reach: BARE)
    photos(place / "data", {"a": 20, "b": 20}, 64)
    made, spec = make("folder:data")
    assert list(getattr(spec.space["architecture"], "values", ())) == ["cnn"]
    assert any(line.startswith("missing") and ".h5" in line for line in made.lines)


def test_own_architectures_stand_in_the_file_and_what_cannot_be_built_is_told(place: Path) -> None:
    photos(place / "data", {"a": 20, "b": 20})
    (place / "own_two.py").write_text(
        "import keras, tuner\n@tuner.architecture(parameters={'width': tuner.Int(2, 40, default=2)}, minimum_px=32)\n"
        "def mine(images, width):\n  return keras.layers.Flatten()(keras.layers.Conv2D(width, 3)(images))\n"
        "@tuner.architecture\ndef broken(images):\n  return images\n"
    )
    try:
        load_plugins(["own_two.py"])
        made, _ = make("folder:data")
    finally:
        forget_plugins()
    text = made.path.read_text()
    assert "mine:  # own code, own_two.py" in text and "width: {log_int: [2, 40]}" in text
    assert "resize(32)|scale(0,1)" in text and "tuner.search data.yaml --plugin own_two.py" in text.replace("\n# ", " ")
    assert any("broken of own_two.py is left out: " in line for line in made.lines) and "broken:" not in text


def test_own_architectures_get_images_as_the_command_line_has_them(place: Path) -> None:
    photos(place / "data", {"a": 20, "b": 20}, 24)
    (place / "own_shape.py").write_text(
        "import keras, tuner\n@tuner.architecture\ndef of_one_shape(images):\n"
        "  assert images.shape[1:] == (48, 48, 1)\n  return keras.layers.Flatten()(images)\n"
    )
    try:
        load_plugins(["own_shape.py"])
        made, _ = make("folder:data", "data.image_px=48", "data.colour=grey")
    finally:
        forget_plugins()
    text = made.path.read_text()
    assert "of_one_shape:" in text and "resize(24)" not in text


@pytest.mark.parametrize("number", [3, 4])
def test_so_few_images_that_no_split_holds_every_class_are_refused_with_what_is_enough(
    place: Path, number: int
) -> None:
    classes = dict.fromkeys("abcdef", number)
    photos(place / "data", classes)
    with pytest.raises(InputError, match=r"both parts must hold an image of every class.*; 5 images of each class are"):
        make("folder:data")
    photos(place / "more", dict.fromkeys("abcdef", making.ENOUGH_OF_A_CLASS))
    assert make("folder:more")[1].data.validation is not None


def test_a_place_that_takes_no_file_is_refused(place: Path) -> None:
    make_folder(place / "pets", {"cat": 12, "dog": 12})
    with pytest.raises(InputError, match=r"x\.yaml"):
        make("folder:pets", output=Path("/proc/none/x.yaml"))


def test_nothing_is_written_where_the_data_are_refused(place: Path) -> None:
    make_folder(place / "pets", {"cat": 3})
    with pytest.raises(InputError, match="at least two classes"):
        make("folder:pets")
    assert sorted(path.name for path in place.iterdir()) == ["pets"]
