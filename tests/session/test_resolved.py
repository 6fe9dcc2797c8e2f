"""Nothing is left open: each `auto` of a file has one answer, in what is resolved or in the packing of trials."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, get_args

import pytest

from tests.support.wrong_files import RIGHT
from tuner.cluster.ray_session import Capacity
from tuner.runs.events import SessionStarted
from tuner.session._packing import choose_packing, trial_memory
from tuner.session._resolved import augment_on, prior_of, resolve
from tuner.session.preparation import probed_configurations
from tuner.session.session import resolved_settings
from tuner.spec.schema import AUTO, SECTIONS, given
from tuner.spec.spec import read_spec, require

OPEN_TEXTS = ("search.sampler", "search.scheduler")
"""Names of registries, of which `auto` is none."""
OF_DATA = {"data.colour", "data.layout", "data.storage"}
"""Answered where the data are read."""


def holds_auto(annotation: Any) -> bool:
    return annotation == AUTO or any(holds_auto(part) for part in get_args(annotation))


def settings_left_to_auto() -> list[str]:
    found = [
        f"{section}.{name}"
        for section, model in SECTIONS.items()
        for name, field in model.model_fields.items()
        if holds_auto(field.annotation) or f"{section}.{name}" in OPEN_TEXTS
    ]
    return sorted(set(found) - OF_DATA)


def answers(tmp_path) -> dict[str, Any]:
    """What a search with every such setting on `auto` comes to, by setting."""
    search = resolve(require(read_spec(RIGHT, "f", [f"{setting}=auto" for setting in settings_left_to_auto()])))
    dataset = SimpleNamespace(train=range(100), validation=range(10), image_shape=(8, 8, 1))
    prepared = SimpleNamespace(cache_dir=tmp_path, dataset=dataset)
    capacity = Capacity(2, 0)
    packing = choose_packing(search, prepared, capacity, lambda *_way: None, lambda _one: None)
    memory_mb = trial_memory(search, prepared, capacity, packing.trials)
    recorded = resolved_settings(search, memory_mb)
    place = augment_on(search, capacity.gpus, ())
    return {
        "search.sampler": search.policy.sampler.value,
        "search.scheduler": search.policy.scheduler.value,
        "search.max_concurrent": packing.trials,
        "search.grace_epochs": recorded.rungs[0],
        "search.reduction_factor": recorded.reduction_factor,
        "search.improvement_per_second": recorded.weighs_seconds,
        "training.augment_on": place,
        "search.prior": recorded.prior,
        "search.probe": recorded.probes,
        "resources.cpus_per_trial": packing.cpus_per_trial,
        "resources.gpus_per_trial": packing.gpus_per_trial,
        "resources.memory_gb_per_trial": recorded.memory_mb_per_trial,
    }


def test_every_setting_that_can_be_left_to_auto_has_a_definite_answer(tmp_path) -> None:
    found = answers(tmp_path)
    assert sorted(found) == settings_left_to_auto()
    assert all(value is not None and value != AUTO for value in found.values())


def test_what_a_file_gives_is_as_it_is_given() -> None:
    assert [given(value) for value in (AUTO, "none", 3, False)] == [None, "none", 3, False]
    overrides = ["search.max_concurrent=3", "resources.cpus_per_trial=2", "resources.memory_gb_per_trial=none"]
    shares = resolve(require(read_spec(RIGHT, "f", [*overrides, "search.hung_after_epochs=never"]))).shares
    assert (shares.at_once, shares.cpus, shares.memory_gb, shares.hung_after_epochs) == (3, 2.0, float("inf"), None)


@pytest.mark.parametrize(
    ("settings", "gpus", "before", "place"),
    [
        ([], 0, None, "host"),
        ([], 2, None, "device"),
        (["resources.gpus_per_trial=0.25"], 1, None, "device"),
        (["resources.gpus_per_trial=0"], 1, None, "host"),
        (["training.augment_on=host"], 1, None, "host"),
        (["training.augment_on=device"], 0, None, "device"),
        ([], 1, "host", "host"),
        ([], 0, "device", "device"),
        (["training.augment_on=host"], 0, "device", "device"),
    ],
)
def test_images_are_augmented_on_the_gpu_if_there_is_one_and_where_they_were_before(settings, gpus, before, place):
    search = resolve(require(read_spec(RIGHT, "f", settings)))
    earlier = (
        []
        if before is None
        else [SessionStarted(resumed=False, max_concurrent=1, augment_on=before, sampler="random", scheduler="none")]
    )
    assert augment_on(search, gpus, earlier) == place
    assert search.training.augmented_on(place).settings.augments_on_device == (place == "device")


@pytest.mark.parametrize(
    ("overrides", "value", "why"),
    [
        (["search.probe=true"], True, ""),
        (["search.probe=false"], False, ""),
        (["search.probe=none"], False, ""),
        (["search.probe=true", "activations=none"], False, "activations.enabled is false"),
        (["search.probe=true", "space={architecture: cnn}", "baseline=none"], False, "no architecture of the space"),
        (["search.probe=true", "space.architecture={choice: [cnn, mobilenet_v2]}", "baseline=none"], True, ""),
        (["search.probe=auto", "search.time_budget=9m"], False, "time budget"),
        (["search.probe=auto", "search.time_budget=none"], False, "time budget"),
        (["search.probe=auto", "search.time_budget=10m"], True, "5% of the time budget"),
    ],
)
def test_frozen_features_are_probed_where_there_are_some_and_where_it_pays(overrides, value, why) -> None:
    probe = resolve(require(read_spec(WITH_BACKBONE, "f", overrides))).training.probe
    assert probe.value is value and why in probe.why and (probe.why == "") == (why == "")


@pytest.mark.parametrize(
    ("overrides", "value", "why"),
    [
        (["search.prior=shipped"], True, ""),
        (["search.prior=none"], False, ""),
        (["search.prior=null"], False, ""),
        (["search.prior=auto"], True, "ahead after a tenth of the budget"),
        (["search.prior=auto", "search.sampler=random"], False, "only measured with gp and asha"),
        (["search.prior=auto", "search.scheduler=none"], False, "only measured with gp and asha"),
        (["search.prior=shipped", "search.sampler=random"], True, ""),
        (["search.prior=shipped", "space.weights=none", "baseline=none"], False, "knows no architecture"),
    ],
)
def test_a_search_begins_with_the_prior_where_it_was_measured_or_is_asked_for_and_has_something_to_say(
    overrides, value, why
) -> None:
    by_gp = ["search.sampler=gp", "search.scheduler=asha", *overrides]
    prior = prior_of(resolve(require(read_spec(WITH_BACKBONE, "f", by_gp))))
    assert prior.value is value and why in prior.why and (prior.why == "") == (why == "")


@pytest.mark.parametrize(
    ("space", "probed"),
    [
        ("{architecture: cnn}", []),
        ("{architecture: mobilenet_v2}", [{"architecture": "mobilenet_v2"}]),
        (
            "{architecture: {choice: [mobilenet_v2, cnn]}, preprocess: {choice: ['resize(64)', 'resize(32)']}}",
            [{"architecture": "mobilenet_v2", "preprocess": f"resize({size})"} for size in (32, 64)],
        ),
        (
            "{architecture: {choose: {mobilenet_v2: {alpha: {choice: [0.35, 1.0]}, pooling: {choice: [max, flatten]}}, "
            "cnn: {blocks: 2}}}, dropout: {float: [0, 0.5]}}",
            [{"architecture": "mobilenet_v2", "alpha": alpha, "pooling": "max"} for alpha in (0.35, 1.0)],
        ),
        ("{architecture: {choose: {mobilenet_v2: {pooling: flatten}}}}",
         [{"architecture": "mobilenet_v2", "pooling": "average"}]),
    ],
)  # fmt: skip
def test_each_backbone_is_probed_under_each_preprocessing_small_images_first(space, probed) -> None:
    search = resolve(require(read_spec(WITH_BACKBONE, "f", [f"space={space}", "baseline=none"])))
    assert probed_configurations(search.study, (32, 32, 3)) == probed


@pytest.mark.parametrize(
    ("baseline", "first"),
    [
        ("none", ["resize(32)", 0.35]),
        (
            "{architecture: mobilenet_v2, preprocess: 'resize(64)|scale(-1,1)', alpha: 1.0}",
            ["resize(64)|scale(-1,1)", 1.0],
        ),
        ("{architecture: mobilenet_v2, preprocess: 'resize(32)', alpha: 1.0}", ["resize(32)", 1.0]),
        ("{architecture: cnn, preprocess: 'resize(64)'}", ["resize(32)", 0.35]),
    ],
)
def test_the_backbone_of_the_baseline_is_probed_first_and_then_the_smallest_images(baseline, first) -> None:
    space = (
        "{preprocess: {choice: ['resize(64)', 'resize(64)|scale(-1,1)', 'resize(32)']}, dropout: {float: [0, 0.5]}, "
        "architecture: {choose: {mobilenet_v2: {alpha: {choice: [0.35, 1.0]}, pooling: flatten}, cnn: {}}}}"
    )
    filled = baseline.replace("}", ", dropout: 0.1}").replace("mobilenet_v2", "mobilenet_v2, pooling: flatten")
    search = resolve(require(read_spec(WITH_BACKBONE, "f", [f"space={space}", f"baseline={filled}"])))
    probed = [[one["preprocess"], one["alpha"]] for one in probed_configurations(search.study, (32, 32, 3))]
    assert len(probed) == 6 and probed[0] == first
    sizes = [int(preprocess[7:9]) for preprocess, _ in probed[1:]]
    assert sizes == sorted(sizes)


def test_what_is_probed_is_ordered_by_what_preprocessing_makes_of_the_images_of_the_data_set():
    space = "{architecture: mobilenet_v2, preprocess: {choice: ['resize(96)', 'crop(64)', none]}}"
    search = resolve(require(read_spec(WITH_BACKBONE, "f", [f"space={space}", "baseline=none"])))
    found = {px: [one["preprocess"] for one in probed_configurations(search.study, (px, px, 3))] for px in (80, 200)}
    assert found == {80: ["crop(64)", "none", "resize(96)"], 200: ["crop(64)", "resize(96)", "none"]}


WITH_BACKBONE = "study: small\ndata: {source: digits}\nspace: {architecture: mobilenet_v2, preprocess: 'resize(32)'}\n"
