"""Cached activations: which are kept, where they are read, what happens when they cannot be; never a wrong number."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import tuner
from tests.support.cached_training import MOBILENET, SETTINGS, kept, numbers, whole_entries
from tuner.datasets.loading import Dataset, load_dataset
from tuner.datasets.request import DataRequest
from tuner.models.architectures import ARCHITECTURES
from tuner.models.augment.operations import AUGMENTATION, OnBatch
from tuner.models.operations import Operation
from tuner.runs.epoch import Epoch
from tuner.training import activations as module
from tuner.training.activation_store import ARRAY, list_entries, rows_there
from tuner.training.activations import Activations, is_worth_keeping
from tuner.training.compiled_models import CompiledModels
from tuner.training.cut_points import Place, PrecisionError, check_precision
from tuner.training.settings import TrialSettings
from tuner.training.trial import Trial
from tuner.training.trial_like import drive

pytestmark = pytest.mark.usefixtures("everything_is_worth_keeping", "small_mobilenet")


BUILT = CompiledModels()
"""Networks are built and traced once for all tests: test_compiled_models holds that this changes no number."""


def epochs_of(
    configuration: dict[str, Any],
    data: Dataset,
    activations: Activations | None,
    settings: TrialSettings = SETTINGS,
    resume_from: Path | None = None,
) -> list[Epoch]:
    """Train a trial to its end, and return its epochs."""
    reports: list[Epoch] = []
    trial = Trial(configuration, data, settings, activations, BUILT)
    if resume_from is not None:
        trial.load(resume_from)
    drive(trial, reports.append)
    return reports


@pytest.fixture(scope="module")
def from_images(small_digits: Dataset, small_mobilenet: None) -> list[Epoch]:
    """What MOBILENET shows without any cache."""
    return epochs_of(MOBILENET, small_digits, None)


@pytest.mark.parametrize("pooling", ["average", "max", "flatten"])
def test_the_head_reads_what_its_pooling_makes(pooling: str, small_digits, tmp_path: Path):
    configuration = {**MOBILENET, "unfreeze_depth": 0, "pooling": pooling}
    cached, plain = (epochs_of(configuration, small_digits, way) for way in (kept(small_digits, tmp_path), None))
    assert [report.metrics["loss"] for report in cached] == pytest.approx(
        [report.metrics["loss"] for report in plain], rel=0.01
    )
    names = {entry.identity["place"] for entry in whole_entries(tmp_path)}
    assert names == {"out_relu" if pooling == "flatten" else f"pooled {pooling}"}


def test_both_phases_read_from_their_own_cut(small_digits, tmp_path: Path):
    trial = Trial(MOBILENET, small_digits, SETTINGS, kept(small_digits, tmp_path))
    trial.advance()
    first = trial.cut
    trial.advance()
    assert (first, trial.cut) == ("pooled average", "block_15_add")


def test_one_pass_fills_the_cuts_of_all_depths_that_the_search_may_ask_for(small_digits, tmp_path: Path):
    activations = kept(small_digits, tmp_path, depths={"mobilenet_v2": (0, 1, 3)})
    epochs_of({**MOBILENET, "weights": "none", "unfreeze_depth": 0}, small_digits, activations)
    found = sorted(entry.identity["place"] for entry in whole_entries(tmp_path))
    assert found == ["block_14_add", "block_16_project_BN", "pooled average"]


class UnreadImages:
    def __init__(self, images: np.ndarray) -> None:
        self.shape, self.dtype = images.shape, images.dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        pytest.fail("the images were read")


def unread(data: Dataset) -> Dataset:
    images: Any = UnreadImages(data.train.images)
    return replace(data, train=replace(data.train, images=images), validation=replace(data.validation, images=images))


def test_a_deeper_cut_is_computed_from_a_shallower_one_and_has_the_same_values(small_digits, tmp_path: Path):
    direct = epochs_of({**MOBILENET, "unfreeze_depth": 0}, small_digits, kept(small_digits, tmp_path / "direct"))
    cache = tmp_path / "by_way_of_a_cut"
    shallow = Trial({**MOBILENET, "unfreeze_depth": 3}, small_digits, SETTINGS, kept(small_digits, cache))
    part = shallow._part
    assert part is not None and shallow._activations is not None
    # Only the cut of the third block is there, as after a search that never trained a head for long.
    while not shallow._activations.work(part, [3], 0, 1, 10).is_finished:
        pass
    data = unread(small_digits)
    derived = epochs_of({**MOBILENET, "unfreeze_depth": 0}, data, kept(data, cache))
    assert numbers(derived) == numbers(direct)


def test_a_second_trial_and_a_later_process_compute_nothing(small_digits, tmp_path: Path, monkeypatch):
    first = epochs_of(MOBILENET, small_digits, kept(small_digits, tmp_path))
    monkeypatch.setattr(module, "below", lambda *_: pytest.fail("something was computed again"))
    again = epochs_of({**MOBILENET, "dropout": 0.5}, small_digits, kept(small_digits, tmp_path))
    assert len(again) == len(first)
    assert numbers(epochs_of(MOBILENET, small_digits, kept(small_digits, tmp_path))) == numbers(first)


def digits(cache_dir: Path, seed: int = 0, **settings: Any) -> Dataset:
    request = DataRequest("digits", **settings)
    return load_dataset(request, staged={}, seed=seed, cache_dir=cache_dir, notify=lambda _text: None)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of images of each chunk whose activations are computed; they are all 1, which takes no time."""
    found: list[int] = []

    def counting(targets: list[Place], rows: np.ndarray, _batch: int) -> list[np.ndarray]:
        found.append(len(rows))
        return [np.ones((len(rows), *shape)) for shape in (*(place.shape for place in targets), (1, 2))]

    monkeypatch.setattr(module, "below", lambda _model, _source, targets, _dtype: targets)
    monkeypatch.setattr(module, "run_in_batches", counting)
    return found


def fill(data: Dataset, cache: Path, augment: str = "none") -> Activations:
    """Compute what a head on these data reads, in float32: random weights are refused in float16."""
    activations = kept(data, cache, dtype="float32", views=2)
    trial = Trial({**MOBILENET, "unfreeze_depth": 0, "augment": augment}, data, SETTINGS, activations, BUILT)
    while not trial.work_on_activations(60).is_finished:
        pass
    part, place = trial._part, trial._place
    assert part is not None and place is not None and activations.splits(part, place, 1) is not None
    return activations


@pytest.mark.parametrize(
    ("first", "second", "overlap"),
    [
        ({}, {"seed": 1}, "all"),
        ({}, {"validation_fraction": 0.3}, "all"),
        ({}, {"seed": 3, "max_train_images": 100, "max_validation_images": 20}, "all"),
        ({"max_train_images": 100}, {"max_train_images": 300}, "nested"),
        ({"max_train_images": 100}, {"seed": 1, "max_train_images": 100}, "some"),
        ({"max_train_images": 50, "max_validation_images": 50}, {}, "nested"),
    ],
    ids=str,
)
def test_another_seed_split_or_subset_of_the_same_images_computes_only_what_is_missing(
    cache_dir: Path, tmp_path: Path, computed: list[int], first, second, overlap: str
):
    before, after = digits(cache_dir, **first), digits(cache_dir, **second)
    rows = [np.union1d(data.train.rows, data.validation.rows) for data in (before, after)]
    assert fill(before, tmp_path).taken_use().misses == 1 and sum(computed) == len(rows[0])
    computed.clear()
    use = fill(after, tmp_path).taken_use()
    missing = np.setdiff1d(rows[1], rows[0])
    assert sum(computed) == len(missing) and (use.hits, use.misses) == ((1, 0) if overlap == "all" else (0, 1))
    assert (len(missing) == 0) == (overlap == "all")
    (entry,) = whole_entries(tmp_path)
    assert entry.images == len(np.union1d(*rows))


def test_values_do_not_depend_on_which_rows_were_computed_first(cache_dir: Path, tmp_path: Path):
    whole = digits(cache_dir, max_train_images=320, max_validation_images=20)
    for number in (30, 200):
        fill(digits(cache_dir, max_train_images=number, max_validation_images=10), tmp_path / "in parts")
    for cache in ("in parts", "at once"):
        fill(whole, tmp_path / cache)
    (parts,), (once,) = (whole_entries(tmp_path / cache) for cache in ("in parts", "at once"))
    # Some processors round the last image of a batch in another way than those before it (by 1e-6 of its values,
    # whatever is in the batch): equal up to that for these few, and to the last bit for all others.
    in_parts, at_once = (np.load(one.folder / ARRAY) for one in (parts, once))
    np.testing.assert_allclose(in_parts, at_once, rtol=1e-4, atol=1e-6 * np.abs(at_once).max())
    assert (in_parts != at_once).any(axis=1).sum() <= 4, "the last of each of two batches, and of two more in parts"
    assert len(np.unique(at_once, axis=0)) == 340 + 1, "each image has values of its own, the rows of others have none"


def test_what_a_trial_has_begun_is_gone_on_with_by_the_network_of_the_later_one(cache_dir: Path, tmp_path: Path):
    """As where another process has ended it, and the entry had to make room before the same one is asked for again."""
    data = digits(cache_dir, max_train_images=320, max_validation_images=20)
    activations = kept(data, tmp_path, dtype="float32")
    first, later = (
        Trial({**MOBILENET, "unfreeze_depth": 0}, data, SETTINGS, activations, CompiledModels()) for _ in range(2)
    )
    assert not first.work_on_activations(0).is_finished
    activations.release()
    for variable in first.model.trainable_variables + first.model.non_trainable_variables:
        variable.assign(keras.ops.zeros_like(variable))
    while not later.work_on_activations(60).is_finished:
        pass
    fill(data, tmp_path / "at once")
    (gone_on,), (once,) = (whole_entries(cache) for cache in (tmp_path, tmp_path / "at once"))
    found, wanted = (np.load(entry.folder / ARRAY) for entry in (gone_on, once))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6 * np.abs(wanted).max())


def test_a_name_of_the_data_is_told_and_makes_no_difference(small_digits, tmp_path: Path, computed: list[int]):
    fill(small_digits, tmp_path)
    computed.clear()
    fill(replace(small_digits, name="the same by another name"), tmp_path)
    assert not computed


def with_other_images(data: Dataset) -> Dataset:
    return replace(data, prepared=replace(data.prepared, image_hashes={"train": "of other images"}))


def test_folds_after_the_first_compute_nothing_and_test_images_are_never_computed(
    cache_dir: Path, tmp_path: Path, computed: list[int]
):
    data = digits(cache_dir, validation={"folds": 5})
    fill(data, tmp_path)
    (entry,) = whole_entries(tmp_path)
    assert data.test_rows is not None and len(data.test_rows) == 360
    assert np.flatnonzero(~rows_there(entry.folder)).tolist() == data.test_rows.tolist()
    computed.clear()
    for number in range(1, 5):
        use = fill(data.fold(number), tmp_path).taken_use()
        assert use is not None and (use.hits, use.misses) == (1, 0)
    assert fill(digits(cache_dir, seed=9, validation={"folds": 3}), tmp_path).taken_use().misses == 0
    assert not computed


def test_a_validation_split_with_images_of_its_own_has_an_entry_of_its_own_by_the_same_network(
    small_digits, cache_dir: Path, tmp_path: Path, computed: list[int], monkeypatch
):
    networks: list[Any] = []
    monkeypatch.setattr(module, "below", lambda _model, _source, targets, _dtype: networks.append(targets) or targets)

    def with_given_validation(data: Dataset) -> Dataset:
        given = replace(data.validation, images=np.array(data.validation.images))
        hashes = {**data.prepared.image_hashes, "validation": "of the given images"}
        return replace(data, validation=given, prepared=replace(data.prepared, image_hashes=hashes))

    use = fill(with_given_validation(small_digits), tmp_path).taken_use()
    assert use is not None and (use.hits, use.misses) == (0, 2) and sum(computed) == 240 + 80
    assert sorted(entry.images for entry in whole_entries(tmp_path)) == [80, 240]
    assert len(networks) == 1, "it is traced when it is used first"
    computed.clear()
    fill(with_given_validation(digits(cache_dir, max_train_images=300, max_validation_images=80)), tmp_path)
    assert sum(computed) == 60


def test_views_belong_to_a_split_and_validation_images_beside_them_to_all(
    small_digits, cache_dir: Path, tmp_path: Path, computed: list[int]
):
    fill(small_digits, tmp_path, "flip")
    assert computed == [240, 80]
    computed.clear()
    fill(small_digits, tmp_path, "flip")
    assert not computed
    other = digits(cache_dir, seed=4, max_train_images=240, max_validation_images=80)
    fill(other, tmp_path, "flip")
    assert computed[0] == 240 and sum(computed[1:]) == len(
        np.setdiff1d(other.validation.rows, small_digits.validation.rows)
    )


def test_other_labels_of_the_same_images_compute_nothing(small_digits, tmp_path: Path, computed: list[int]):
    fill(small_digits, tmp_path)
    computed.clear()
    fill(replace(small_digits, fingerprint="of images with other labels"), tmp_path)
    assert not computed


@pytest.mark.full
def test_other_data_weights_or_preprocessing_never_share_an_entry(small_digits, tmp_path: Path):
    epochs_of(MOBILENET, small_digits, kept(small_digits, tmp_path))
    before = len(whole_entries(tmp_path))
    for data, changes, seed in (
        (with_other_images(small_digits), {}, 7),
        (small_digits, {"preprocess": "grayscale|resize(32)|scale(-1,1)"}, 7),
        (small_digits, {}, 8),  # the weights are random here: another seed, other weights
    ):
        epochs_of({**MOBILENET, **changes}, data, kept(data, tmp_path), replace(SETTINGS, seed=seed))
        now = len(whole_entries(tmp_path))
        assert now == before + 2  # two cuts
        before = now


def test_backbones_of_own_code_with_the_same_weights_and_other_parameters_never_share_an_entry(small_digits, tmp_path):
    def leaning(images, slope):
        """A backbone whose weights are its author's, whatever its slope."""
        maps = keras.layers.Conv2D(4, 3, kernel_initializer="ones")(images)
        return keras.Model(images, keras.layers.LeakyReLU(slope)(maps))

    tuner.architecture(leaning, parameters={"slope": tuner.Float(0, 1, default=0.0)}, pixel_scaling="tf")
    try:
        trials = [{"architecture": "leaning", "preprocess": "scale(-1,1)", "slope": slope} for slope in (0.0, 0.5)]
        one, other = (epochs_of(trial, small_digits, kept(small_digits, tmp_path)) for trial in trials)
        assert numbers(other) == numbers(
            epochs_of(trials[1], small_digits, kept(small_digits, tmp_path / "of its own"))
        )
        assert numbers(other) != numbers(one) and len(whole_entries(tmp_path)) == 2
        again = {**trials[0], "dropout": 0.3, "learning_rate": 0.1}
        epochs_of(again, small_digits, kept(small_digits, tmp_path), replace(SETTINGS, seed=8))
        assert len(whole_entries(tmp_path)) == 2
    finally:
        ARCHITECTURES.remove("leaning")


def test_a_corrupt_entry_is_said_and_computed_again(small_digits, tmp_path: Path):
    expected = epochs_of(MOBILENET, small_digits, kept(small_digits, tmp_path))
    for entry in whole_entries(tmp_path):
        array = np.load(entry.folder / ARRAY, mmap_mode="r+")
        array[small_digits.train.rows[5]] += 1
        array.flush()
    said: list[str] = []
    assert numbers(epochs_of(MOBILENET, small_digits, kept(small_digits, tmp_path, said))) == numbers(expected)
    assert len(said) == 2 and all("removed and will be computed again" in text for text in said)


@pytest.mark.full
def test_a_cache_that_is_too_small_is_said_and_the_trial_trains_from_the_images(
    small_digits, from_images, tmp_path: Path
):
    said: list[str] = []
    trial = Trial(MOBILENET, small_digits, SETTINGS, kept(small_digits, tmp_path, said, max_bytes=1000))
    reports = [trial.advance() for _ in range(2)]
    assert trial.cut is None and numbers(reports) == numbers(from_images)
    assert said[0].startswith("cached activations are not used: ") and "training from the images" in said[0]


@pytest.mark.full
def test_a_full_disk_is_said_and_the_trial_trains_from_the_images(
    small_digits, from_images, tmp_path: Path, monkeypatch
):
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    said: list[str] = []
    reports = epochs_of(MOBILENET, small_digits, kept(small_digits, tmp_path, said))
    assert numbers(reports) == numbers(from_images)
    assert "No space left on device" in said[0]


def test_entries_that_cannot_be_held_are_said_and_the_trial_trains_from_the_images(
    small_digits, from_images, tmp_path: Path
):
    """As those of another user in a cache that is shared: there are all rows, and no lock can be made."""
    epochs_of(MOBILENET, small_digits, made := kept(small_digits, tmp_path))
    made.release()
    for entry in whole_entries(tmp_path):
        (entry.folder / "users").rmdir()
        (entry.folder / "users").touch()
    said: list[str] = []
    reports = epochs_of(MOBILENET, small_digits, kept(small_digits, tmp_path, said))
    assert numbers(reports) == numbers(from_images)
    assert [text.partition(": ")[0] for text in said] == ["cached activations are not used"]


def test_a_cache_that_is_lost_between_two_epochs_does_not_stop_the_trial(small_digits, tmp_path: Path, monkeypatch):
    settings = replace(SETTINGS, max_epochs=4)
    augmented = {**MOBILENET, "augment": "flip"}
    trial = Trial(augmented, small_digits, settings, kept(small_digits, tmp_path, [], views=3))
    trial.advance()
    trial.advance()
    monkeypatch.setattr(module.Store, "make_room", lambda *_: False)
    while trial.ended is None:
        assert trial.advance() is not None
    assert trial.epoch == 4 and trial.cut is None


def test_activations_that_float16_cannot_hold_are_kept_as_float32(
    small_digits, from_images, tmp_path: Path, monkeypatch
):
    def too_large(_check: np.ndarray) -> None:
        raise PrecisionError("float16 holds values up to 65,504; activations reach 70,000")

    monkeypatch.setattr(module, "check_precision", too_large)
    said: list[str] = []
    cached = epochs_of(MOBILENET, small_digits, kept(small_digits, tmp_path, said))
    assert [report.metrics["loss"] for report in cached] == pytest.approx(
        [report.metrics["loss"] for report in from_images], rel=1e-4
    )
    assert said == ["float16 holds values up to 65,504; activations reach 70,000: they are kept as float32"]
    refused = [entry for entry in list_entries(tmp_path / "activations") if entry.status == "refused"]
    assert len(refused) == 2 and not any((entry.folder / ARRAY).exists() for entry in refused), "no room is taken"


@pytest.mark.parametrize(
    ("largest", "mean_square", "message"),
    [
        (70_000.0, 1.0, "activations reach 70,000"),
        (np.inf, 1.0, "activations reach inf"),
        (1e-5, 1e-12, "rounds values below 6.1e-05 coarsely; activations are 1.0e-06"),
    ],
)
def test_what_float16_would_spoil_is_seen(largest: float, mean_square: float, message: str):
    fine = np.array([[[5.0, 1.0], [0.0, 0.0]]])
    check_precision(fine)
    with pytest.raises(PrecisionError, match=message):
        check_precision(
            np.concatenate([fine, [[[largest, mean_square]] * 2]])
            if largest > 1
            else np.full((1, 1, 2), [largest, mean_square])
        )


def test_float32_activations_give_the_numbers_of_training_from_the_images(small_digits, from_images, tmp_path: Path):
    cached = epochs_of(MOBILENET, small_digits, kept(small_digits, tmp_path, dtype="float32"))
    assert [report.metrics["loss"] for report in cached] == pytest.approx(
        [report.metrics["loss"] for report in from_images], rel=1e-4
    )


def test_augmented_trials_train_from_the_images_unless_views_are_asked_for(small_digits, tmp_path: Path):
    configuration = {**MOBILENET, "augment": "flip|shift(1)"}
    exact = Trial(configuration, small_digits, SETTINGS, kept(small_digits, tmp_path))
    assert exact.cut is None
    viewed = Trial(configuration, small_digits, SETTINGS, kept(small_digits, tmp_path, views=2))
    assert viewed.cut == "pooled average"


def test_views_take_turns_are_shared_by_trials_and_differ_from_each_other(small_digits, tmp_path: Path):
    configuration = {**MOBILENET, "augment": "flip|shift(1)", "unfreeze_depth": 0}
    settings = replace(SETTINGS, max_epochs=5)
    first = epochs_of(configuration, small_digits, kept(small_digits, tmp_path, views=2), settings)
    entries = whole_entries(tmp_path)
    views = sorted(str(entry.identity.get("view")) for entry in entries)
    assert views == ["0", "1", "None"]  # validation is not augmented
    arrays = [np.load(entry.folder / ARRAY) for entry in entries if "view" in entry.identity]
    assert not np.array_equal(*arrays)
    assert numbers(epochs_of(configuration, small_digits, kept(small_digits, tmp_path, views=2), settings)) == numbers(
        first
    )


def test_mixup_changes_labels_and_is_trained_from_the_images(small_digits, tmp_path: Path):
    configuration = {**MOBILENET, "augment": "mixup(0.2)"}
    assert Trial(configuration, small_digits, SETTINGS, kept(small_digits, tmp_path, views=2)).cut is None


def test_what_someone_else_registers_as_mixing_labels_is_trained_from_the_images_too(
    small_digits, tmp_path: Path, monkeypatch
):
    def halves(values, images, labels, generator):
        """Put the left half of each image beside the right half of another, with half of each label."""
        other, middle = generator.permutation(len(images)), images.shape[2] // 2
        both = np.concatenate([images[:, :, :middle], images[other][:, :, middle:]], axis=2)
        return both, (labels + labels[other]) / 2

    known = {"halves": Operation((), OnBatch(halves), "halves of two images", mixes_labels=True)}
    known["stripes"] = Operation(
        (), OnBatch(lambda _values, images, labels, _generator: (images, labels)), "as they are"
    )
    for name, operation in known.items():
        monkeypatch.setitem(AUGMENTATION._values, name, operation)
    trials = [
        Trial({**MOBILENET, "augment": text}, small_digits, SETTINGS, kept(small_digits, tmp_path, views=2))
        for text in ("stripes", "stripes|halves")
    ]
    assert [trial.cut is None for trial in trials] == [False, True]


def test_a_resumed_trial_gives_the_same_numbers_from_the_cache(small_digits, tmp_path: Path):
    settings = replace(SETTINGS, max_epochs=4, head_epochs=2)
    undisturbed = epochs_of(MOBILENET, small_digits, kept(small_digits, tmp_path), settings)
    for stop_after in (1, 3):
        stopped = Trial(MOBILENET, small_digits, settings, kept(small_digits, tmp_path))
        for _ in range(stop_after):
            stopped.advance()
        stopped.save(tmp_path / "checkpoint")
        for cache in (tmp_path, tmp_path / f"another machine {stop_after}"):
            resumed = epochs_of(
                MOBILENET, small_digits, kept(small_digits, cache), settings, resume_from=tmp_path / "checkpoint"
            )
            assert numbers(resumed) == numbers(undisturbed[stop_after:])


def test_a_cut_is_kept_by_the_rule_where_that_saves_time():
    deep, shallow = Place("deep", (1280,), 25_000_000), Place("shallow", (72, 72, 8), 3_650_000)
    assert is_worth_keeping(deep, 25_000_000, 3072, on_gpu=False)
    assert is_worth_keeping(deep, 25_000_000, 3072, on_gpu=True)
    assert not is_worth_keeping(shallow, 25_000_000, 3072, on_gpu=False)  # an epoch would be 5% shorter
    middle = Place("middle", (18, 18, 16), 10_400_000)
    assert is_worth_keeping(middle, 25_000_000, 3072, on_gpu=False)
    assert not is_worth_keeping(middle, 25_000_000, 3072, on_gpu=True)  # a GPU computes quicker than a host feeds
