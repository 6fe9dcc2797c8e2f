"""Proposals: each follows from its facts, is a right file whatever these are, and says why."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.make_facts import BARE, DATA, MACHINE, MOBILENET, WISH, data, machine, wish
from tuner.datasets.account.facts import Conflict, GroupGuess
from tuner.models.architectures import ARCHITECTURES
from tuner.models.own_networks import own_network
from tuner.models.parameters import Parameter
from tuner.proposals._facts import DataFacts, Machine, Wish
from tuner.proposals._own import OwnNetwork
from tuner.proposals._pretrained import PRETRAINED
from tuner.proposals._proposal import as_given, propose
from tuner.proposals._text import proposal_text
from tuner.session.checks import check_names
from tuner.session.preparation import check_sizes
from tuner.spec._yaml_document import read_document
from tuner.spec.schema import STUDY_NAME
from tuner.spec.spec import Spec, read_spec, require

ALL_WEIGHTS = frozenset(one.file_for(px) for one in PRETRAINED for px in (96, 128, 160, 192, 224))


def values(facts: DataFacts = DATA, of: Machine = MACHINE, asked: Wish = WISH) -> dict[str, Any]:
    return propose(facts, of, asked).values()


def whole(facts: DataFacts = DATA, of: Machine = MACHINE, asked: Wish = WISH) -> Spec:
    """The proposal, written and read as a search would read it, its names checked."""
    proposal = propose(facts, of, asked)
    text = proposal_text(proposal, "Written for a test.", "(a)", "Do they?")
    reading = read_spec(text, "proposal.yaml")
    spec = require(reading, check_names(reading, {asked.source: "digits"}))
    assert read_document(text).values == proposal.values(), "what is read is what was proposed"
    px = dict(asked.given).get("image_px", facts.side_px if facts.is_one_size else 288)
    check_sizes(spec.space, (px, px, 1 if facts.is_grey else 3))
    return spec


def branches(facts: DataFacts = DATA, of: Machine = MACHINE, asked: Wish = WISH) -> dict[str, Any]:
    found: dict[str, Any] = values(facts, of, asked)["space"]["architecture"]["choose"]
    return found


OWN: dict[str, tuple[dict[str, Parameter], str | None, int]] = {
    "ranges": ({"width": Parameter("int", low=16, high=256), "rate": Parameter("float", low=0, high=0.5)}, None, 1),
    "choices": (
        {"act": Parameter("choice", values=("relu", "no")), "wide": Parameter("bool", default=False)},
        None,
        48,
    ),
    "nothing": ({}, None, 1),
    "own dropout": ({"dropout": Parameter("float", low=0.1, high=0.2, default=0.1)}, None, 1),
    "one value": ({"n": Parameter("int", low=3, high=3), "c": Parameter("choice", values=(1,))}, None, 1),
    "backbone": ({"alpha": Parameter("float", low=0.01, high=1)}, "tf", 75),
    "backbone of one block": ({}, "caffe", 32),
}


@pytest.mark.parametrize("case", OWN)
@pytest.mark.parametrize(
    ("facts", "of", "asked"),
    [(DATA, MACHINE, WISH), (data(side_px=28, is_one_size=True, is_grey=True), BARE, wish(time_s=90.0))],
    ids=["photos", "digits"],
)
def test_own_architectures_are_branches_with_the_ranges_of_their_parameters(case, facts, of, asked) -> None:
    parameters, scaling, minimum_px = OWN[case]
    architecture = own_network("mine", "mine", print, parameters, minimum_px, scaling)
    blocks = 0 if scaling is None else 1 if "one" in case else 17
    asked = dataclasses.replace(asked, own=(OwnNetwork(architecture, "own.py", max(32, minimum_px), blocks),))
    ARCHITECTURES.add("mine", architecture)
    try:
        spec, found = whole(facts, of, asked), branches(facts, of, asked)
    finally:
        ARCHITECTURES.remove("mine")
    assert len(found) > 1 and set(parameters) <= set(found["mine"]), "beside the others"
    assert any("mine of own.py" in one.text for one in propose(facts, of, asked).remarks)
    deepest = found["mine"].get("unfreeze_depth", {"int": [0, 0]})["int"][1]
    assert deepest == min(blocks, 6 if asked.counted_s < 600 else 8)
    assert spec.baseline is not None and spec.baseline["architecture"] != "mine"


NAMES = st.text(min_size=1, max_size=30)
FACTS = st.builds(
    DataFacts,
    class_names=st.lists(NAMES, min_size=2, max_size=6, unique=True).map(tuple),
    images=st.integers(2, 10_000_000),
    training=st.integers(2, 10_000_000),
    smallest=st.integers(0, 5000),
    has_validation=st.booleans(),
    has_test=st.booleans(),
    side_px=st.integers(4, 5000),
    proportion=st.floats(1, 30),
    is_one_size=st.booleans(),
    is_grey=st.booleans(),
    imbalance=st.floats(1, 1e6),
    largest_class=NAMES,
    smallest_class=NAMES,
    broken=st.integers(0, 9),
    is_decoded=st.booleans(),
    copies=st.none() | st.integers(0, 99),
    conflicts=st.integers(0, 9),
    conflict=st.none() | st.just(Conflict(("a", "b"), ("x", "y"))),
    group_guess=st.none() | st.builds(GroupGuess, NAMES, st.integers(2, 9), st.integers(2, 9), NAMES),
)
MACHINES = st.builds(
    Machine,
    cpus=st.integers(1, 256),
    gpus=st.integers(0, 8),
    gpu_gb=st.none() | st.floats(0.5, 200),
    weights=st.sampled_from([frozenset(), frozenset({MOBILENET}), ALL_WEIGHTS]),
    weights_folder=NAMES,
    can_fetch=st.booleans(),
)
PRINTABLE = NAMES.filter(lambda text: text.isprintable() and text.strip() != "")
WISHES = st.builds(
    Wish,
    study=st.from_regex(STUDY_NAME, fullmatch=True).map(lambda text: f"a{text}"[:60]),
    source=PRINTABLE.map(lambda text: f"folder:{text}"),
    time_s=st.none() | st.floats(0.01, 1e6),
    given=st.sampled_from(
        [
            (),
            (("image_px", 64),),
            (("validation_fraction", 0.3),),
            (("validation", {"folds": 4}),),
            (("fit", "stretch"),),
        ]
    ),
    without_folds=st.booleans(),
)


@settings(max_examples=60, deadline=None)
@given(FACTS, MACHINES, WISHES)
def test_every_proposal_is_a_right_file(facts: DataFacts, of: Machine, asked: Wish) -> None:
    spec = whole(facts, of, asked)
    assert spec.data.source == asked.source and spec.baseline is not None
    assert spec.study == asked.study


@pytest.mark.parametrize(
    "source",
    [
        "folder:data/it's",
        'folder:a "quoted" name',
        "folder:C:\\Users\\me\\photos",
        "folder:a: b #c",
        "folder: leading and trailing ",
        "folder:été 写真 🐟",
        "folder:%TAG",
        "folder:- a",
        "folder:[x]{y}",
        "folder:\\u0041\\n",
        "digits",
        "tfds:kmnist/a:1.0.0",
        "csv:~/labels.csv",
        "folder:a\u2028b",
    ],
)
def test_a_source_is_read_back_as_it_was_typed(source: str) -> None:
    assert whole(asked=wish(source=source)).data.source == source


@pytest.mark.parametrize("name", ["\x1b[31mred", "a\nb: c", "#", "'", '"', "{x}", "\u202egpj", "写真", "*bold*", " "])
def test_names_of_classes_cannot_break_out_of_comments(name: str) -> None:
    text = proposal_text(
        propose(
            data(class_names=(name, "0", "1"), largest_class=name, smallest_class=name, imbalance=9.0), MACHINE, WISH
        ),
        name,
    )
    assert not read_document(text).problems
    assert all(line.isprintable() for line in text.splitlines())


# --- what is chosen ---


@pytest.mark.parametrize(
    ("facts", "of", "expected"),
    [
        pytest.param(data(), machine(), {"mobilenet_v2"}, id="photos: the weights that are here"),
        pytest.param(data(), BARE, {"cnn"}, id="photos without weights: from scratch"),
        pytest.param(data(side_px=8, is_one_size=True, is_grey=True), machine(), {"cnn", "dense"}, id="symbols"),
        pytest.param(data(side_px=28, is_one_size=True, is_grey=True), machine(), {"cnn", "dense"}, id="letters"),
        pytest.param(
            data(side_px=32, is_one_size=True), machine(), {"mobilenet_v2", "cnn", "dense"}, id="small photos"
        ),
        pytest.param(data(is_grey=True), machine(), {"mobilenet_v2"}, id="grey photos, as of X-rays"),
        pytest.param(
            data(training=60_000), machine(gpus=1, gpu_gb=80.0), {"mobilenet_v2", "cnn"}, id="many: a cnn beside"
        ),
    ],
)
def test_networks_follow_from_images_and_weights(facts: DataFacts, of: Machine, expected: set[str]) -> None:
    assert set(branches(facts, of)) == expected


def test_what_can_be_fetched_is_chosen_by_accuracy_and_cost() -> None:
    slow, fast = machine(can_fetch=True), machine(can_fetch=True, gpus=1, gpu_gb=80.0)
    accuracy = {one.architecture: one.accuracy for one in PRETRAINED}

    def best(of: Machine, seconds: float) -> float:
        return max(accuracy[name] for name in branches(of=of, asked=wish(time_s=seconds)) if name in accuracy)

    assert best(slow, 300) <= best(slow, 3600) <= best(fast, 3600)
    assert len(branches(of=slow, asked=wish(time_s=300))) < len(branches(of=slow, asked=wish(time_s=7200)))


def test_no_two_backbones_are_of_one_family() -> None:
    chosen = branches(of=machine(can_fetch=True, cpus=64), asked=wish(time_s=36_000))
    families = [one.family for name in chosen for one in PRETRAINED if one.architecture == name]
    assert len(set(families)) == len(set(chosen)) >= 3


@pytest.mark.parametrize("gigabytes", [1.0, 8.0, 80.0])
def test_batches_fit_into_the_memory_of_the_gpu(gigabytes: float) -> None:
    sizes = values(of=machine(gpus=1, gpu_gb=gigabytes, can_fetch=True))["space"]["batch_size"]
    most = max(sizes["choice"]) if isinstance(sizes, dict) else sizes
    assert most == {1.0: 32, 8.0: 32, 80.0: 64}[gigabytes]


def test_a_size_is_chosen_for_which_there_are_weights() -> None:
    """The one file of weights is that for 224 px; 96, 128, 160 and 192 px would need their own."""
    for side in range(49, 300, 7):
        for seconds in (60.0, 300.0, 1800.0):
            text = str(values(data(side_px=side), asked=wish(time_s=seconds))["space"].get("preprocess", ""))
            assert not {"resize(96)", "resize(128)", "resize(160)", "resize(192)"} & set(
                re.findall(r"resize\(\d+\)", text)
            )


def test_less_time_means_smaller_images() -> None:
    many = data(training=20_000)
    sizes = [
        int(re.findall(r"resize\((\d+)\)", str(values(many, asked=wish(time_s=seconds))["baseline"]))[0])
        for seconds in (120, 600, 3600)
    ]
    assert sizes == sorted(sizes) and sizes[0] < sizes[-1]


def test_more_images_than_the_time_allows_are_left_out_and_said() -> None:
    proposal = propose(data(training=5_000_000), MACHINE, wish(time_s=120.0))
    assert proposal.values()["data"]["max_train_images"] < 100_000
    assert proposal.values()["data"]["max_validation_images"] < 20_000
    assert any(one.about == "images" for one in proposal.remarks)
    assert "max_train_images" not in values(data(training=2_000))["data"]


# --- metric, validation, augmentation, groups ---


def test_uneven_classes_are_judged_alike_and_weights_are_tried() -> None:
    found = values(data(imbalance=8.0))
    assert found["metric"] == "val_balanced_accuracy"
    assert found["space"]["class_weight"] == {"choice": ["none", "balanced"]}
    assert found["baseline"]["class_weight"] == "none"
    even = values(data(imbalance=2.0))
    assert even["metric"] == "val_accuracy" and "class_weight" not in even["space"]


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        (data(training=100, smallest=30), {"folds": 5}),
        (data(training=2000, smallest=8), {"folds": 5}),
        (data(training=90_000, smallest=3), None),
        (data(training=9, smallest=2), {"folds": 2}),
        (data(training=1200, smallest=350), None),
        (data(training=9, smallest=1), None),
        (data(training=100, smallest=30, has_validation=True), None),
    ],
)
def test_few_images_are_parted_into_folds(facts: DataFacts, expected: dict[str, int] | None) -> None:
    found = values(facts)["data"]
    assert found.get("validation") == expected
    assert ("validation_fraction" in found) == (expected is None and not facts.has_validation)


@pytest.mark.parametrize(
    ("names", "has_flip_alone"),
    [
        (("0", "1", "2"), False),
        (("six", "nine"), False),
        (("left", "right", "stop"), False),
        (("turn left", "turn right"), False),
        (("A", "b", "ж"), False),
        (("daisy", "rose"), True),
        (("benign", "malignant"), True),
    ],
)
def test_a_flip_that_could_change_a_label_is_never_the_only_augmentation(
    names: tuple[str, ...], has_flip_alone: bool
) -> None:
    facts = data(class_names=names)
    short = values(facts, machine(gpus=1), wish(time_s=300))["space"]["augment"]["choice"]
    kept = values(facts, asked=wish(time_s=7200))["space"]["augment"]["choice"]
    assert short[0] == kept[0] == "none", "the search decides"
    assert any("flip" in text for text in short) == has_flip_alone
    assert any("flip" not in text for text in kept[1:])
    varied = values(facts, machine(gpus=1), wish(time_s=7200))["space"]["augment"]["choose"]
    assert varied["none"] == {} and varied["varied"]["flip"] == {"choice": ["none", "horizontal"]}
    assert any(one.about == "augment" for one in propose(facts, machine(gpus=1), WISH).remarks)


def test_augmentation_is_left_out_where_it_would_eat_the_time_and_that_is_said() -> None:
    proposal = propose(data(training=200_000), MACHINE, wish(time_s=120.0))
    assert proposal.values()["space"]["augment"] == "none"
    assert any(one.about == "augment" and "too long" in one.text for one in proposal.remarks)


def test_groups_are_a_question_and_never_a_setting() -> None:
    facts = data(group_guess=GroupGuess("(p[0-9]+)_", 40, 12, "p07"))
    proposal = propose(facts, MACHINE, WISH)
    assert "group" not in proposal.values()["data"]
    assert any(one.about == "groups" and "?" in one.text for one in proposal.remarks)
    text = proposal_text(proposal, "x", "(p[0-9]+)_", "Do they?")
    assert '  # group: "(p[0-9]+)_"' in text.splitlines()
    answered = text.replace('# group: "', 'group: "')
    assert require(read_spec(answered)).data.group == "(p[0-9]+)_"


def test_a_fraction_that_is_given_is_said_to_have_no_effect_where_the_data_have_a_validation_split() -> None:
    asked = wish(given=(("validation_fraction", 0.3),))
    for has_validation in (True, False):
        remarks = propose(data(has_validation=has_validation), machine(), asked).remarks
        (said,) = (one.text for one in remarks if one.about == "validation")
        assert ("without effect: the data have a validation split" in said) == has_validation


@pytest.mark.parametrize(("colour", "is_grey"), [("grey", True), ("rgb", False), ("auto", None)])
def test_images_are_grey_or_in_colour_as_the_colour_that_is_given_makes_them(colour, is_grey) -> None:
    for facts in (data(is_grey=True), data(is_grey=False)):
        assert as_given(facts, {"colour": colour}).is_grey == (facts.is_grey if is_grey is None else is_grey)


def test_what_is_given_stays_and_stands_for_what_would_be_proposed() -> None:
    found = values(asked=wish(given=(("validation_fraction", 0.3), ("image_px", 64), ("fit", "pad"))))["data"]
    assert found["validation_fraction"] == 0.3 and found["image_px"] == 64 and found["fit"] == "pad"
    few = values(data(training=100, smallest=30), asked=wish(given=(("validation_fraction", 0.3),)))["data"]
    assert "validation" not in few


@pytest.mark.parametrize(
    ("changes", "about", "words"),
    [
        ({"broken": 3}, "broken", "3 images"),
        ({"copies": 7}, "copies", "7 images"),
        ({"conflicts": 1, "conflict": Conflict(("a.png", "b.png"), ("cat", "dog"))}, "two labels", "a.png = b.png"),
        ({"imbalance": 30.0}, "metric", "30 times"),
        ({"proportion": 3.0}, "fit", "crop"),
        ({"is_decoded": False}, "broken", "headers"),
    ],
)
def test_what_the_account_found_is_said(changes: dict[str, Any], about: str, words: str) -> None:
    remarks = propose(data(**changes), MACHINE, WISH).remarks
    assert any(one.about == about and words in one.text for one in remarks)


def test_without_weights_it_is_said_what_is_missing_and_where_it_belongs() -> None:
    missing = [one.text for one in propose(DATA, BARE, WISH).remarks if one.about == "missing"]
    assert (
        len(missing) == 1
        and "/keras/models" in missing[0]
        and ".h5" in missing[0]
        and "cannot be reached" in missing[0]
    )
    assert not [one for one in propose(DATA, machine(can_fetch=True), WISH).remarks if one.about == "missing"]
    symbols = data(side_px=8, is_one_size=True, is_grey=True)
    assert not [one for one in propose(symbols, BARE, WISH).remarks if one.about == "missing"]


def test_images_that_take_much_of_the_time_to_prepare_are_said() -> None:
    texts = [one.text for one in propose(data(images=2_000_000), MACHINE, WISH).remarks if one.about == "time"]
    assert any("prepare" in text and "17m" in text for text in texts)
    assert not [one for one in propose(DATA, MACHINE, WISH).remarks if "prepare" in one.text]


def test_a_search_without_end_has_a_number_of_trials() -> None:
    found = values(asked=wish(time_s=None))["search"]
    assert "time_budget" not in found and found["trials"] == 64


def test_every_choice_has_a_comment() -> None:
    text = proposal_text(propose(data(imbalance=5.0, proportion=3.0, broken=2), MACHINE, WISH), "head")
    lines = text.splitlines()
    told = "source validation_fraction fit broken_images metric class_weight preprocess augment architecture baseline"
    for key in (*told.split(), "time_budget", "activations"):
        number = next(place for place, line in enumerate(lines) if re.match(rf"\s*{key}:", line))
        assert "  # " in lines[number] or lines[number - 1].lstrip().startswith("# "), key
