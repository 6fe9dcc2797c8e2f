"""Layouts that people have on disk: a table of folders, and what is read of them, refused or said."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from tuner.common.errors import DataError
from tuner.datasets.file_sources import PREFIXED
from tuner.datasets.sources import Listing, split_of

PETS = {"cat": 3, "dog": 2}
Counts = Mapping[str, Mapping[str, int]]


def make(root: Path, files: Mapping[str, int | str]) -> Path:
    """Make so many images in each folder; a text is the content of a file. Nothing is decoded: the images are empty."""
    for name, number in files.items():
        path = root / name
        if isinstance(number, str):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(number)
        else:
            path.mkdir(parents=True, exist_ok=True)
            for index in range(number):
                (path / f"{index}.png").touch()
    return root


def pets(*folders: str) -> dict[str, int | str]:
    return {f"{folder}/{name}": number for folder in folders for name, number in PETS.items()}


def read(root: Path, layout: str = "auto") -> Listing:
    with_layout = PREFIXED["folder"].with_layout
    assert with_layout is not None
    return with_layout(layout).read(str(root))


def counts(listing: Listing) -> Counts:
    return {
        split: {
            listing.class_names[label]: int(number)
            for label, number in zip(*np.unique(listed.labels, return_counts=True), strict=True)
        }
        for split, listed in listing.splits.items()
    }


TRAIN, BOTH, ALL = {"train": PETS}, {"train": PETS, "test": PETS}, {"train": PETS, "test": PETS, "validation": PETS}

READ: dict[str, tuple[dict[str, int | str], Counts]] = {
    "class folders": (pets("."), TRAIN),
    "train, val, test": (pets("train", "val", "test"), ALL),
    "Roboflow: train, valid, test and its readme": ({**pets("train", "valid", "test"), "README.roboflow.txt": "x"}, ALL),
    "Training, Testing": (pets("Training", "Testing"), BOTH),
    "TRAIN, TEST, VALIDATION": (pets("TRAIN", "TEST", "VALIDATION"), ALL),
    "training_set, test_set": (pets("training_set", "test_set"), BOTH),
    "seg_train, seg_test": (pets("seg_train", "seg_test"), BOTH),
    "seg_train, seg_test, unlabelled seg_pred": ({**pets("seg_train", "seg_test"), "seg_pred": 4}, BOTH),
    "asl_alphabet_train twice, asl_alphabet_test": (pets("asl_alphabet_train/asl_alphabet_train", "asl_alphabet_test"), BOTH),
    "train_another, test_another": (pets("train_another", "test_another", "validation_another"), ALL),
    "train2017, val2017": (pets("train2017", "val2017"), {"train": PETS, "validation": PETS}),
    "Food-11: training, validation, evaluation": (pets("training", "validation", "evaluation"), ALL),
    "trainset, testset": (pets("trainset", "testset"), BOTH),
    "TrainImages, TestImages": (pets("TrainImages", "TestImages"), BOTH),
    "split=train": (pets("split=train", "split=test"), BOTH),
    "images/train": (pets("images/train", "images/val"), {"train": PETS, "validation": PETS}),
    "images/train beside other files": ({**pets("images/train", "images/val"), "labels.csv": "x"}, {"train": PETS, "validation": PETS}),
    "train/images": (pets("train/images", "test/images"), BOTH),
    "train alone": (pets("train"), TRAIN),
    "a folder around class folders": (pets("PetImages"), TRAIN),
    "two folders around class folders": (pets("flower_photos/flower_photos"), TRAIN),
    "a folder around split folders": (pets("dataset/train", "dataset/test"), BOTH),
    "a folder around split folders, and its zip": ({**pets("data/train", "data/test"), "train.zip": "PK"}, BOTH),
    "test images without labels": ({**pets("train"), "test": 5}, TRAIN),
    "valid and test without labels": ({**pets("train"), "valid": 5, "test": 5}, TRAIN),
    "test images in one folder without a label": ({**pets("train"), "test/unknown": 5}, TRAIN),
    "test images in test/test": ({**pets("train"), "test/test": 5}, TRAIN),
    "train and test in every class folder": (pets2 := {f"{name}/{split}": number for name, number in PETS.items() for split in ("train", "test")}, BOTH),
    "train and test in every class folder, in a folder": ({f"pets/{name}": number for name, number in pets2.items()}, BOTH),
    "train, valid and test in every class folder": ({f"{name}/{split}": number for name, number in PETS.items() for split in ("train", "valid", "test")}, ALL),
    "a class with training images only": ({**pets2, "cow/train": 4}, {"train": {**PETS, "cow": 4}, "test": PETS}),
    "a class that is not tested": ({**pets("train"), "test/cat": 1}, {"train": PETS, "test": {"cat": 1}}),
    "an empty class folder in test": ({**pets("train"), "test/cat": 1, "test/dog": 0}, {"train": PETS, "test": {"cat": 1}}),
    "a class called train": ({"bus": 2, "train": 2, "tram": 2}, {"train": {"bus": 2, "train": 2, "tram": 2}}),
    "classes with split words in other words": ({"valley": 2, "contest": 2, "strainer": 2}, {"train": {"contest": 2, "strainer": 2, "valley": 2}}),
    "test_tube and train among many": ({**{f"thing {number}": 1 for number in range(10)}, "test_tube": 1, "train": 1}, {"train": {**{f"thing {number}": 1 for number in range(10)}, "test_tube": 1, "train": 1}}),
    "tiny-imagenet: images in each class": ({"train/n01/images": 2, "train/n02/images": 2, "train/n01/boxes.txt": "x", "test/images": 3}, {"train": {"n01": 2, "n02": 2}}),
    "Intel image classification: everything twice": ({**pets("seg_train/seg_train", "seg_test/seg_test"), "seg_pred/seg_pred": 4}, BOTH),
    "Stanford Dogs: images beside annotations": ({"Images/n02085620-Chihuahua": 3, "Images/n02085782-Japanese_spaniel": 2, "Annotation/n02085620-Chihuahua/n1": "x"}, {"train": {"n02085620-Chihuahua": 3, "n02085782-Japanese_spaniel": 2}}),
    "Food-101: images beside lists": ({**pets("food-101/images"), "food-101/meta/train.txt": "x", "food-101/README.txt": "x"}, TRAIN),
    "DTD: images beside lists and a matrix": ({**pets("images"), "labels/train1.txt": "x", "imdb/imdb.mat": "x"}, TRAIN),
    "Caltech-101: categories beside annotations": ({**pets("101_ObjectCategories"), "Annotations/cat/1.mat": "x"}, TRAIN),
    "ImageNet: class folders in Data/CLS-LOC/train": ({**pets("ILSVRC/Data/CLS-LOC/train"), "ILSVRC/Data/CLS-LOC/val": 3, "ILSVRC/Data/CLS-LOC/test": 3, "ILSVRC/Annotations/CLS-LOC/train/cat/x.xml": "x", "ILSVRC/ImageSets/CLS-LOC/train_cls.txt": "x"}, TRAIN),
    "GTSRB: Train, flat Test and Meta": ({**pets("Train"), "Test": 4, "Meta": 2, "Test.csv": "x"}, TRAIN),
    "GTSRB: Final_Training/Images": ({**pets("GTSRB/Final_Training/Images"), "GTSRB/Final_Test/Images": 4}, TRAIN),
    "the whole data set once more in itself": (pets("train", "test", "chest/train", "chest/test"), BOTH),
    "train, test, and more without labels": ({**pets("train", "test"), "extra": 4, "images to predict": 2}, BOTH),
    "classes of four letters and numbers": ({"part": 1, "fold": 1, "batch": 1}, {"train": {"batch": 1, "fold": 1, "part": 1}}),
    "with a mask and without": ({"mask": 2, "no mask": 2}, {"train": {"mask": 2, "no mask": 2}}),
    "numbered persons": ({"s1": 2, "s2": 2, "s10": 2}, {"train": {"s1": 2, "s10": 2, "s2": 2}}),
    "numbered classes": ({"0": 1, "1": 1, "10": 1, "2": 1}, {"train": {"0": 1, "1": 1, "10": 1, "2": 1}}),
    "folders of years below some classes": ({"cat/2019": 1, "cat/2020": 2, "dog": 2}, TRAIN),
    "hidden folders and litter": ({**pets("."), "cat/.ipynb_checkpoints": 3, "__MACOSX/cat": 3, "@eaDir": 2, "dog/@eaDir/x": 1, "Thumbs.db": "x", "cat/._0.png": "x", "cat/desktop.ini": "x", "$RECYCLE.BIN": 1, "lost+found": 1, "@Recently-Snapshot/cat": 1, "~snapshot": 1, "_gsdata_": 1, "found.000": 1, ".recycle/cat": 2, "_MACOSX/cat": 1}, TRAIN),
    "a class of recycled things": ({"recycled": 2, "Recycled paper": 1, "RECYCLER": 1}, {"train": {"Recycled paper": 1, "recycled": 2}}),
    "litter beside a folder around": ({**pets("pets"), "__MACOSX/pets/cat": 3, ".ipynb_checkpoints": 2}, TRAIN),
    "litter beside splits": ({**pets("train", "test"), "train/.ipynb_checkpoints": 3, "train/cat/.ipynb_checkpoints": 3, "__MACOSX/train/cat": 1}, BOTH),
}  # fmt: skip


@pytest.mark.parametrize("name", READ)
def test_a_layout_that_is_certain_is_read(name, tmp_path) -> None:
    files, expected = READ[name]
    assert counts(read(make(tmp_path / "pets", files))) == expected


FLAT = r"images lie there without class folders; labels in tables are read by csv:FILE, in names not"
UNSURE = "set data.layout to classes if each folder is a class, to splits if not"
NOT_SAID = "name the one to read, rename splits to train, val and test, or set data.layout to classes if each folder is a class"

REFUSED: dict[str, tuple[dict[str, int | str], str]] = {
    "flat train and test": ({"train": 4, "test": 3, "train.csv": "x"}, f"train: must have at least two classes; got none: 4 {FLAT}; set data.layout to classes if train, test are classes"),
    "flat train and valid": ({"train": 4, "valid": 3}, FLAT),
    "flat train and test1": ({"train": 4, "test1": 3}, FLAT),
    "flat training_set and test_set": ({"training_set": 4, "test_set": 3}, FLAT),
    "flat train/train and test/test": ({"train/train": 4, "test/test": 3}, FLAT),
    "flat train/images and train/labels": ({"train/images": 4, "train/labels/0.txt": "0", "valid/images": 2}, FLAT),
    "flat images/train and labels/train": ({"images/train": 4, "images/val": 2, "labels/train/0.txt": "0"}, FLAT),
    "flat train alone": ({"train": 4}, FLAT),
    "flat train, test, sample": ({"train": 4, "test": 3, "sample": 1}, UNSURE),
    "flat images": ({".": 4, "labels.csv": "x"}, f"pets: must have at least two classes; got none: 4 {FLAT}"),
    "flat images in one folder": ({"images": 4, "labels.csv": "x"}, f"must have at least two classes; got none: 4 {FLAT}"),
    "Flowers-102: flat jpg": ({"jpg": 4, "imagelabels.mat": "x"}, FLAT),
    "VOC: flat JPEGImages": ({"JPEGImages": 4, "Annotations/1.xml": "x", "ImageSets/Main/train.txt": "x"}, FLAT),
    "Roboflow: flat with a table": ({split + rest: content for split in ("train", "valid", "test") for rest, content in (("", 4), ("/_classes.csv", "x"))}, FLAT),
    "flat images beside annotations": ({"images": 4, "annotations/0.xml": "x"}, FLAT),
    "rps, rps-test-set": (pets("rps", "rps-test-set"), UNSURE),
    "train with class folders beside others": ({**pets("train"), "bus": 3, "tram": 2}, UNSURE),
    "a class train and another": ({"train": 4, "bus": 3}, UNSURE),
    "train, test and two classes": ({"train": 4, "test": 3, "bus": 3, "tram": 2}, UNSURE),
    "two folders for one split": (pets("train_1", "train_2", "test"), r"train_1, train_2 are all named after the train split \(keep one of them\)"),
    "val and valid": (pets("train", "val", "valid"), r"val, valid are all named after the validation split"),
    "folds": (pets("fold1", "fold2", "fold3"), rf"fold1, fold2 both hold cat, dog: they may be parts of one data set; {NOT_SAID}"),
    "folds in train": (pets("train/fold1", "train/fold2"), r"train: fold1, fold2 both hold cat, dog.*name one folder to read, or set data\.layout to splits if each is a class"),
    "Spanish splits": (pets("entrenamiento", "prueba"), NOT_SAID),
    "the same kinds of every fruit": ({f"{fruit}/{kind}": 2 for fruit in ("apple", "pear") for kind in ("fresh", "rotten")}, NOT_SAID),
    "the same kinds of two of three fruits": ({**{f"{fruit}/{kind}": 2 for fruit in ("apple", "pear") for kind in ("fresh", "rotten")}, "fig": 2}, NOT_SAID),
    "PlantVillage: three forms of each image": (pets("plantvillage dataset/color", "plantvillage dataset/grayscale", "plantvillage dataset/segmented"), NOT_SAID),
    "EuroSAT: all bands beside colours": (pets("EuroSAT", "EuroSATallBands"), NOT_SAID),
    "the classes once more in themselves": ({**pets("cells"), **pets("cells/cells")}, rf"pets/cells: cells holds cat, dog, as the folder around it: it may be a copy; {NOT_SAID}"),
    "the classes once more in train": ({**pets("train", "train/train", "test")}, "train: train holds cat, dog, as the folder around it: it may be a copy"),
    "copies by Windows": ({**pets("."), "cat - Copy": 3}, "cat - Copy may be a copy of cat"),
    "copies by macOS": ({**pets("."), "dog copy 2": 3}, "dog copy 2 may be a copy of dog"),
    "copies by a browser": ({**pets("."), "dog (1)": 3}, r"dog \(1\) may be a copy of dog"),
    "two data sets with splits": (pets("100x100/fruits/Training", "100x100/fruits/Test", "original/fruits/Training"), rf"folders in 100x100 may be named after splits: it may be a data set of its own; {NOT_SAID}"),
    "a data set with splits beside one without": ({**pets("casting_data/casting_data/train", "casting_data/casting_data/test"), "casting_512/def": 2, "casting_512/ok": 2}, "folders in casting_data may be named after splits"),
    "Oxford Pets: images beside annotations that are images": ({"images": 4, "annotations/trimaps": 4, "annotations/list.txt": "x"}, f"annotations, images may be no classes, by their names; {NOT_SAID}"),
    "images beside masks": ({"images": 4, "masks": 4}, "images, masks may be no classes"),
    "images beside masks in train": ({"train/images": 4, "train/masks": 4, "test/images": 2, "test/masks": 2}, "train: images, masks may be no classes"),
    "images and masks of every class": ({f"{name}/{kind}": 2 for name in PETS for kind in ("images", "masks")}, NOT_SAID),
    "HAM10000: images in two parts": ({"HAM10000_images_part_1": 3, "HAM10000_images_part_2": 2, "HAM10000_metadata.csv": "x"}, "HAM10000_images_part_1, HAM10000_images_part_2 may be no classes"),
    "NIH: images in numbered folders": ({"images_001/images": 3, "images_002/images": 3, "Data_Entry_2017.csv": "x"}, "images_001, images_002 may be no classes"),
    "batches": ({"batch_1": 3, "batch_2": 3, "annotations.json": "x"}, "batch_1, batch_2 may be no classes"),
    "labelled and unlabelled": ({**pets("labeled"), "unlabeled": 4}, "unlabeled may be no classes"),
    "GTSRB of Kaggle: everything twice in other letters": ({**pets("Train", "train"), "Test": 4, "test": 4}, "Train, train are all named after the train split"),
    "train and test in some class folders": ({"cat/train": 2, "cat/test": 2, "dog": 2}, "folders of cat, dog may be named after splits"),
    "train and test beside images": ({**pets2, "cat": 2}, UNSURE),
    "test beside images in every class folder": ({"cat": 2, "dog": 2, "cat/test": 1, "dog/test": 1}, UNSURE),
    "test alone": (pets("test"), "must hold a folder train beside test"),
    "test and valid": (pets("test", "valid"), "must hold a folder train beside test, valid"),
    "a class in test alone": ({**pets("train"), "test/cat": 1, "test/cow": 1}, r"the classes of test must be among those of the training images \(cat, dog\); got cow"),
    "classes of other case in test": ({**pets("train"), "test/Cat": 1, "test/Dog": 1}, r"among those of the training images \(cat, dog\); got Cat, Dog"),
    "other classes in test": ({**pets("train"), "test/cow": 1, "test/owl": 1}, "got cow, owl"),
    "an empty class folder": ({**pets("."), "cow": 0}, r"pets/cow: a class folder must hold images \(.*\); it holds none"),
    "an empty class folder in train": ({**pets("train", "test"), "train/cow": 0}, "train/cow: a class folder must hold images"),
    "annotations beside class folders": ({**pets("."), "annotations/0.xml": "x"}, "annotations: a class folder must hold images"),
    "one class in train": ({"train/cat": 2}, "train: must have at least two classes; got cat; set data.layout to classes if train is a class$"),
    "a class of another format beside class folders of one": ({"cat/2019": 1, "cat/2020": 2, "dog/1.heic": "x"}, "dog: a class folder must hold images"),
    "one class": ({"train/cat": 2, "test/cat": 1}, "must have at least two classes; got cat"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_layout_that_is_not_certain_or_has_no_classes_is_refused_with_the_way_out(name, tmp_path) -> None:
    files, words = REFUSED[name]
    with pytest.raises(DataError, match=words) as failure:
        read(make(tmp_path / "pets", files))
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize(
    ("files", "layout", "expected"),
    [
        ({"train": 4, "test": 3}, "classes", {"train": {"test": 3, "train": 4}}),
        ({"train": 4, "bus": 3}, "classes", {"train": {"bus": 3, "train": 4}}),
        (pets("train", "bus", "tram"), "classes", {"train": {"bus": 5, "train": 5, "tram": 5}}),
        (pets("fold1", "fold2"), "classes", {"train": {"fold1": 5, "fold2": 5}}),
        (pets2, "classes", {"train": {"cat": 6, "dog": 4}}),
        (pets("rps", "rps-test-set"), "splits", BOTH),
        ({**pets("train"), "bus": 3, "tram": 2}, "splits", TRAIN),
        ({**pets("train", "test"), "more/cat": 1}, "splits", BOTH),
        ({**pets2, "cat": 2}, "splits", BOTH),
        (pets("train/fold1", "train/fold2"), "splits", {"train": {"fold1": 5, "fold2": 5}}),
        ({**pets("."), "cat - Copy": 3}, "classes", {"train": {**PETS, "cat - Copy": 3}}),
        ({"images": 4, "masks": 4}, "classes", {"train": {"images": 4, "masks": 4}}),
        ({"cat/train": 2, "cat/test": 2, "dog": 2, "dog/train": 2}, "splits", {"train": {"cat": 2, "dog": 2}, "test": {"cat": 2}}),
    ],
)  # fmt: skip
def test_the_file_says_what_cannot_be_told_from_names(files, layout, expected, tmp_path) -> None:
    assert counts(read(make(tmp_path / "pets", files), layout)) == expected


@pytest.mark.parametrize("files", [pets("."), pets("fold1", "fold2")])
def test_splits_that_are_asked_for_must_be_named(files, tmp_path) -> None:
    with pytest.raises(DataError, match=r"data\.layout is splits; no folder is named after train, val or test"):
        read(make(tmp_path / "pets", files), "splits")


SAID: dict[str, tuple[dict[str, int | str], str]] = {
    "nothing": (pets("train", "val", "test"), ""),
    "names of splits": (pets("seg_train", "seg_test"), "read as splits: seg_train (train), seg_test (test)"),
    "splits in class folders": (pets2, "read as splits in each class folder: train, test"),
    "the folder around, beside lists": ({**pets("images"), "meta/train.txt": "x"}, "not used: 1 .txt file (meta/train.txt)"),
    "the folder around": (pets("PetImages"), "read from the one folder in it, "),
    "other suffixes": ({**pets("."), "cat/a.txt": "", "cat/b.HEIC": "", "dog/c.heic": "", "dog/d": ""}, "not used: 2 .heic files (cat/b.HEIC, ...); 1 .txt file (cat/a.txt); 1 file without a suffix (dog/d)"),
    "a hidden class": ({**pets("."), ".NET": 20}, "not used: 20 files in the hidden folder .NET (.NET/0.png, ...)"),
    "unlabelled images": ({**pets("train"), "test": 5}, "not used: 5 files outside the class folders (test/0.png, ...)"),
    "loose images": ({**pets("."), ".": 1}, "not used: 1 file outside the class folders (0.png)"),
    "an archive": ({**pets("train"), "train.zip": "PK"}, "not used: 1 .zip file (train.zip)"),
    "classes that are not tested": ({**pets("train"), "test/cat": 1}, "test has no image of dog"),
    "litter": ({**pets("."), "cat/.ipynb_checkpoints": 3, ".git": 1, "__MACOSX": 2, "cat/._0.png": "", "Thumbs.db": "", ".DS_Store": ""}, ""),
}  # fmt: skip


@pytest.mark.parametrize("name", SAID)
def test_what_is_left_out_or_may_not_be_expected_is_said_with_its_number(name, tmp_path) -> None:
    files, words = SAID[name]
    assert " ".join(read(make(tmp_path / "pets", files)).notices).replace(f"{tmp_path / 'pets'}: ", "") == words or (
        words and words in " ".join(read(tmp_path / "pets").notices)
    )


def test_links_to_folders_in_class_folders_are_said_and_links_that_are_class_folders_are_followed(tmp_path) -> None:
    make(tmp_path / "other", {"wild": 30, "cow": 4})
    root = make(tmp_path / "pets", pets("train", "test"))
    (root / "train" / "cat" / "wild").symlink_to(tmp_path / "other" / "wild")
    (root / "train" / "cow").symlink_to(tmp_path / "other" / "cow")
    listing = read(root)
    assert counts(listing)["train"] == {**PETS, "cow": 4}
    assert "not used: 1 link to folders (train/cat/wild)" in listing.notices[-1]


def test_class_names_are_one_however_their_accents_are_written(tmp_path) -> None:
    composed, apart = (unicodedata.normalize(form, "Café") for form in ("NFC", "NFD"))
    root = make(tmp_path / "pets", {f"train/{apart}": 3, "train/The": 2, f"test/{composed}": 1, "test/The": 1})
    assert counts(read(root)) == {"train": {"The": 2, composed: 3}, "test": {"The": 1, composed: 1}}
    both = make(tmp_path / "both", {apart: 3, composed: 2, "The": 1})
    if len(list(both.iterdir())) == 3:  # not on macOS
        assert counts(read(both)) == {"train": {"The": 1, composed: 5}}


@pytest.mark.parametrize(
    ("split", "names"),
    [
        ("train", "train Train TRAINING training_set seg_train rps-train train1 train2017 TrainSet xtrain trainval"),
        ("test", "test Testing test-set rps-test-set seg_test test1 TestImages evaluation ytest"),
        ("validation", "val valid Validation val2017 imagenet_val ValidSet dev"),
        (None, "cat valley contest trainer strainer oval carnival testudo latest train_test restraint intervals"),
    ],
)
def test_names_that_contain_a_word_for_a_split_are_those_of_splits(split, names) -> None:
    assert [name for name in names.split() if split_of(name) != split] == []
