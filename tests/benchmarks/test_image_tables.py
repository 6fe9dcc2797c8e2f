"""Tables of real fine-tuning: which tasks, which draws, what becomes of a record, and problems made of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import optuna
import pytest

from benchmarks.images import problems
from benchmarks.images.__main__ import main
from benchmarks.images.measuring import PLUGINS, Places, is_complete, keep_to_networks
from benchmarks.images.pretraining import moved
from benchmarks.images.prior import IS_PRETRAINED, prior_study
from benchmarks.images.problems import image_problems, problem_of
from benchmarks.images.repeats import EVERY, SHIFT, RepeatingSampler, first_of
from benchmarks.images.tables import TaskTable, merged, read_tables, table_of, write_tables
from benchmarks.images.tasks import (
    MOST_IMAGES,
    SUPERCLASSES,
    TASKS,
    TRAINED_ON,
    chosen,
    chosen_tasks,
    sizes,
    space,
    specification,
)
from benchmarks.search_quality import warm
from benchmarks.search_quality.policies import POLICIES, quiet
from benchmarks.search_quality.problems import place_of
from benchmarks.search_quality.searches import SUITES, suite
from benchmarks.search_quality.simulator import simulate
from tests.support.make_record import PROBES, epoch, session_started, small_state, trial_ended, trial_started
from tuner.algorithms.prior import shipped_prior
from tuner.algorithms.study import SearchStudy, Suggestion
from tuner.common.errors import InputError
from tuner.common.plugins import forget_plugins, load_plugins
from tuner.datasets.request import DataRequest
from tuner.runs.state import RunState
from tuner.session.checks import check_names
from tuner.spec.space import Configuration
from tuner.spec.space_parser import parse_space
from tuner.spec.spec import dump_spec, load_spec, require

CLASSES = {"cifar100": 10, "digits": 10, "hands": 10, "fashion_mnist": 10, "flowers": 5}


# --- tasks ---


def test_there_are_enough_tasks_of_enough_base_sets_and_a_base_set_is_of_one_split() -> None:
    bases: dict[str, set[str]] = {}
    for task in TASKS.values():
        bases.setdefault(task.base, set()).add(task.split)
    assert len(TASKS) >= 12 and len(bases) >= 5
    assert all(len(splits) == 1 for splits in bases.values())
    assert set.union(*bases.values()) == {"choosing", "judging"}


def test_tasks_are_as_small_as_is_said_and_have_10_to_150_images_of_a_class() -> None:
    for task in TASKS.values():
        train, validation = sizes(task, len(task.classes or ()) or CLASSES[task.base])
        assert sum(train) + sum(validation) <= MOST_IMAGES, task.name
        assert 10 <= min(train) <= max(train) <= 150 and min(validation) >= 1, task.name
        assert len(train) >= 5 and sum(validation) >= 150, task.name


def test_no_task_has_a_class_that_the_small_networks_have_seen() -> None:
    every = [name for classes in SUPERCLASSES.values() for name in classes]
    assert len(set(every)) == 100 and len(TRAINED_ON) == 10
    of_tasks = {group for task in TASKS.values() for group in task.superclasses}
    assert of_tasks <= SUPERCLASSES.keys() and not of_tasks & set(TRAINED_ON)


def test_images_are_drawn_by_class_without_a_second_of_any() -> None:
    labels = np.repeat([0, 1, 2], 20)
    found = chosen(labels, {2: 5, 0: 20}, np.random.default_rng(0))
    assert Counter(labels[found].tolist()) == {2: 5, 0: 20} and len(set(found.tolist())) == 25
    with pytest.raises(InputError, match="class 1 must have 21 images to choose from; it has 20"):
        chosen(labels, {1: 21}, np.random.default_rng(0))


@pytest.fixture
def own_code() -> Iterator[None]:
    load_plugins(map(str, PLUGINS))
    yield
    forget_plugins()


def test_the_file_of_every_task_is_one_that_a_search_takes(own_code: None, tmp_path: Path) -> None:
    for task in TASKS.values():
        (file := tmp_path / f"{task.name}.yaml").write_text(dump_spec(specification(task, 120, 2)))
        reading = load_spec(file)
        spec = require(reading, check_names(reading, {task.name: "digits"}))
        assert spec.training.early_stopping is None and spec.finalists.count == 0, "all curves are whole"
        DataRequest(task.base, image_px=task.px, colour=task.colour)


def test_networks_trained_on_a_base_set_are_left_out_there_and_grey_images_are_not_made_grey() -> None:
    for task in TASKS.values():
        branches = space(task)["architecture"]["choose"]
        assert ("small_residual" in branches) == (task.base != "cifar100")
        texts = branches["mobilenet_v2"]["preprocess"]["choice"]
        assert any("grayscale" in text for text in texts) == task.is_colour
        assert {"random_residual", "random_separable", "cnn"} < branches.keys()


# --- draws ---


def suggestions(number: int, seed: int = 0, name: str = "digits_10") -> list[Suggestion]:
    study = SearchStudy(parse_space(space(TASKS[name]))[0], RepeatingSampler(seed), "max")
    found = [study.suggest() for _ in range(number)]
    return [one for one in found if one is not None]


@pytest.mark.parametrize("name", ["digits_10", "vehicles"])
def test_each_sixth_trial_repeats_one_but_for_a_hair_of_its_rate(name: str) -> None:
    found = suggestions(24, name=name)
    assert [one.origin for one in found] == ["sampler"] * 24, "no two are the same"
    for one in found:
        first, own = dict(found[first_of(one.number)].configuration), dict(one.configuration)
        assert own.pop("learning_rate") == pytest.approx(first.pop("learning_rate"), rel=2 * SHIFT)
        assert own == first
    drawn = [one for one in found if first_of(one.number) == one.number]
    assert len({one.configuration["dropout"] for one in drawn}) == len(drawn) == 20
    architectures = Counter(one.configuration["architecture"] for one in drawn)
    assert max(architectures.values()) - min(architectures.values()) <= 1
    repeated = {found[first_of(one.number)].configuration["architecture"] for one in found[EVERY - 1 :: EVERY]}
    assert len(repeated) == 4, "repeats are of all kinds"


def test_a_draw_depends_on_the_number_of_the_trial_alone() -> None:
    space_of_task = parse_space(space(TASKS["digits_10"]))[0]
    asked = suggestions(12)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    later = SearchStudy(space_of_task, RepeatingSampler(0), "max")
    events = [trial_started(one.number, one.configuration, origin="sampler") for one in asked[:7]]
    later.rebuild(small_state(*events, *(trial_ended(one.number, "failed") for one in asked[:3])))
    assert [later.suggest() for _ in range(5)] == asked[7:]
    assert suggestions(12, seed=1)[0].configuration != asked[0].configuration


# --- tables ---


def recorded(trials: int, epochs: int = 4, short: int | None = None) -> RunState:
    """The state of a search of a task of 10 classes; `short` is a trial that failed after its first epoch."""
    events = [session_started()]
    for suggestion in suggestions(trials):
        number = suggestion.number
        events.append(trial_started(number, suggestion.configuration, origin="sampler"))
        last = 1 if number == short else epochs
        values = [0.5 + 0.01 * number - 0.1 / one for one in range(1, last + 1)]
        events += [epoch(number, one, value) for one, value in enumerate(values, start=1)]
        events.append(trial_ended(number, "failed" if number == short else "completed"))
    data = {"class_names": [str(one) for one in range(10)], "image_shape": [8, 8, 1], "train_images": 100}
    return small_state(
        *events, *PROBES, max_epochs=epochs, specification={"space": space(TASKS["digits_10"])},
        data={**data, "validation_images": 300},
    )  # fmt: skip


def table(trials: int = 24, name: str = "digits_10", short: int | None = None) -> TaskTable:
    return table_of(TASKS[name], recorded(trials, short=short), {one: first_of(one) for one in range(trials)})


def test_a_record_becomes_a_table_with_second_seeds_apart() -> None:
    found = table(12)
    assert len(found.configurations) == 10 and found.accuracy.shape == found.loss.shape == found.seconds.shape == (
        10,
        4,
    )
    assert found.accuracy[1].tolist() == pytest.approx([0.41, 0.46, 0.51 - 0.1 / 3, 0.485]) and found.seconds[0, 0] == 2
    assert found.repeated.tolist() == [0, 5], "the sixth and the twelfth trial are of the first and the seventh"
    assert found.repeat_accuracy[:, -1].tolist() == pytest.approx([0.525, 0.585])
    assert found.noise == pytest.approx(0.05 / np.sqrt(2), rel=1e-4)
    assert found.facts["train_images"] == 100 and found.facts["class_images"] == [10] * 10
    assert [one["configuration"] for one in found.facts["probes"]] == [one.configuration for one in PROBES]


def test_a_file_of_tables_is_read_as_it_was_written_and_without_pickles(tmp_path: Path) -> None:
    written = table(12, short=3)
    write_tables([written, replace(written, name="other")], tmp_path / "tables.npz")
    found = read_tables(tmp_path / "tables.npz")
    assert list(found) == ["digits_10", "other"]
    read = found["digits_10"]
    assert read.facts == written.facts and read.configurations == written.configurations
    assert np.array_equal(read.accuracy, written.accuracy, equal_nan=True) and read.accuracy.dtype == np.float32
    assert np.isnan(read.accuracy[3, 1:]).all() and np.isfinite(read.accuracy[3, 0]), "it failed after an epoch"
    with pytest.raises(InputError, match="is not there"):
        read_tables(tmp_path / "none.npz")


def test_parts_are_merged_and_the_longer_table_of_a_task_stays() -> None:
    long, short = table(24), table(12)
    other = replace(short, name="hands_20")
    both = merged({"digits_10": long, "hands_20": other}, {"digits_10": short}, ["hands_20", "digits_10", "mammals"])
    assert [one.name for one in both] == ["hands_20", "digits_10"] and both[1] is long
    assert merged({"digits_10": short}, {"digits_10": long}, ["digits_10"]) == [long]


def test_a_task_is_complete_with_its_repeats() -> None:
    assert is_complete(recorded(12), 10) and not is_complete(recorded(11), 10) and not is_complete(RunState(), 1)


def test_what_is_not_there_yet_is_listed_and_nothing_is_collected(tmp_path: Path, capsys) -> None:
    where = ["--folder", str(tmp_path), "--tables", str(tmp_path / "tables.npz"), "--split", "judging"]
    assert main(["list", *where]) == 0 and main(["collect", *where]) == 0
    told = capsys.readouterr().out
    assert "| flowers_30 | flowers | judging | 0 | 120 | 0 |" in told and "mammals" not in told
    assert "0 tasks in" in told and not (tmp_path / "tables.npz").exists()


def test_a_working_folder_keeps_to_the_networks_that_it_was_begun_with(tmp_path: Path) -> None:
    weights = tmp_path / "networks.npz"
    with pytest.raises(InputError, match="must hold the small networks"):
        keep_to_networks(tmp_path, weights)
    weights.write_bytes(b"one")
    keep_to_networks(tmp_path, weights)
    keep_to_networks(tmp_path, weights)
    weights.write_bytes(b"two")
    with pytest.raises(InputError, match=r"must be what .* was begun with"):
        keep_to_networks(tmp_path, weights)


def test_a_task_that_has_not_begun_has_an_empty_record(tmp_path: Path) -> None:
    assert Places(tmp_path).state(TASKS["mammals"]).trials == {}


# --- problems ---


def test_a_configuration_is_answered_by_the_nearest_of_its_branch_then_by_one_that_was_had() -> None:
    made = table(24)
    problem = problem_of(made)
    curves = problem.opened(0)
    of_branch = [row for row, one in enumerate(made.configurations) if one["architecture"] == "cnn"]
    asked = made.configurations[of_branch[0]]
    first = curves.curve(asked)
    assert first.values.tolist() == pytest.approx(made.accuracy[of_branch[0]].tolist())
    answers = [curves.curve(asked).values.tolist() for _ in of_branch[1:]]
    expected = [made.accuracy[row].astype(float).tolist() for row in of_branch[1:]]
    assert sorted(answers) == sorted(expected), "all others of the branch, none of another one"
    assert curves.curve(asked).values.tolist() == first.values.tolist(), "nothing is left: the nearest again"
    other = made.configurations[0]
    assert other["architecture"] != "cnn"
    assert curves.curve(other).values.tolist() == pytest.approx(made.accuracy[0].tolist())


def test_the_nearest_is_that_in_the_unit_cube_of_what_exists_in_the_branch() -> None:
    found = parse_space(space(TASKS["digits_10"]))[0]
    one: Configuration = {
        "augment": "none", "batch_size": 32, "learning_rate": 3e-2, "dropout": 0.3, "label_smoothing": 0.0,
        "architecture": "cnn", "preprocess": "resize(32)|standardise", "blocks": 2, "convolutions_per_block": 1,
        "filters": 32, "dense_units": 64,
    }  # fmt: skip
    branch, place = place_of(problems.varied(found), one)
    assert branch == ("cnn",)
    half = np.sqrt(0.5)
    assert place.tolist() == pytest.approx([half, 0, 0.5, 1.0, 0.5, 0.0, 0, half, 0.0, 1.0, 0.0])
    changed = {**one, "preprocess": "resize(32)|scale(0,1)"}
    assert np.sum((place_of(problems.varied(found), changed)[1] - place) ** 2) == pytest.approx(1.0)


def test_trials_that_failed_are_no_part_of_a_problem() -> None:
    problem = problem_of(table(12, short=3))
    assert problem.values.shape == (9, 4) and np.isfinite(problem.values).all() and len(problem.branches) == 9
    assert problem.best == pytest.approx(0.6 - 0.025, abs=0.02) and problem.max_epochs == 4
    assert problem.full_training_s == 8.0


def test_suites_of_images_are_left_out_with_a_reason_where_there_is_no_table(tmp_path: Path, monkeypatch) -> None:
    assert {"images_choosing", "images_judging"} < set(SUITES)
    monkeypatch.setattr(problems, "TABLES", tmp_path / "tables.npz")
    assert "is not there" in str(suite("images_choosing", 0.0))
    write_tables([table(12)], tmp_path / "tables.npz")
    assert [one.name for one in suite("images_choosing", 0.0)] == ["images_choosing-digits-digits_10"]
    assert "has no task of judging" in str(suite("images_judging", 0.0))


def as_task(name: str) -> TaskTable:
    """The same curves as if they were of another task."""
    made, task = table(24), TASKS[name]
    return replace(made, name=name, facts={**made.facts, "base": task.base, "split": task.split})


def test_a_search_that_is_warm_started_knows_no_task_of_its_base_set_and_none_that_is_to_judge(
    tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(problems, "TABLES", tmp_path / "tables.npz")
    names = ["digits_10", "digits_unbalanced", "hands_20", "flowers_30", "flowers_100"]
    write_tables(map(as_task, names), tmp_path / "tables.npz")
    (digits, _, hands), (flowers, _) = (image_problems(split) for split in ("choosing", "judging"))
    assert [one.name for one in warm.others(digits)] == [hands.name]
    assert [one.name.rpartition("-")[2] for one in warm.others(flowers)] == names[:3]


def test_a_task_becomes_a_study_of_the_prior_as_halving_leaves_it() -> None:
    made = table(60)
    found = prior_study(made)
    kept = [one for one in made.configurations if one["architecture"] in IS_PRETRAINED]
    assert 0 < len(kept) < len(made.configurations), "networks with random weights are left out"
    assert len(found.study.trials) == len(kept) and found.base == "digits" and found.study.data.classes == 10
    lasts = [one.epochs[-1] for one in found.study.trials]
    assert lasts.count(4) == len(kept) // 4 and sum(last >= 2 for last in lasts) == len(kept) // 2
    best = max(found.study.trials, key=lambda one: one.best["val_accuracy"][-1])
    assert best.status == "completed" and best.epochs == [1, 2, 4], "the better half at each rung goes on"


def test_a_prior_is_written_from_all_tables(tmp_path: Path, capsys) -> None:
    write_tables(map(as_task, ["digits_10", "hands_20"]), tmp_path / "tables.npz")
    assert main(["prior", "--tables", str(tmp_path / "tables.npz"), "--prior", str(tmp_path / "prior.json")]) == 0
    assert [one.base for one in shipped_prior(tmp_path / "prior.json").studies] == ["digits", "hands"]
    assert "MB" in capsys.readouterr().out


def test_a_search_with_the_prior_knows_no_task_of_its_base_set_and_none_that_is_to_judge(
    tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(problems, "TABLES", tmp_path / "tables.npz")
    names = ["digits_10", "hands_20", "flowers_30"]
    write_tables(map(as_task, names), tmp_path / "tables.npz")
    (digits, _), (flowers,) = (image_problems(split) for split in ("choosing", "judging"))
    assert [one.base for one in warm.prior_for(digits)] == ["hands"]
    assert [one.base for one in warm.prior_for(flowers)] == ["digits", "hands"]


@pytest.mark.parametrize(
    "name", ["gp + asha(1,2)", "gp + asha, warm start", "gp per second + asha, prior", "random + asha(1,3)"]
)
def test_policies_search_tables_of_images(name: str, tmp_path: Path, monkeypatch) -> None:
    quiet()
    monkeypatch.setattr(warm, "EARLIER_BUDGET", 1)
    monkeypatch.setattr(problems, "TABLES", tmp_path / "tables.npz")
    write_tables(map(as_task, ["digits_10", "hands_20"]), tmp_path / "tables.npz")
    problem = suite("images_choosing", 0.0)[0]
    found = simulate(problem, POLICIES[name](problem, 4, 0), 4, 2 * problem.full_training_s, 0)
    assert found.trials > 3 and found.steps[-1].best <= problem.best


# --- networks ---


def test_images_are_mirrored_and_shifted_and_keep_their_pixels() -> None:
    images = np.arange(60 * 6 * 6 * 3, dtype=np.uint8).reshape(60, 6, 6, 3)
    found = moved(images, np.random.default_rng(0))
    assert found.shape == images.shape and found.dtype == np.uint8
    assert not np.array_equal(found, images) and np.array_equal(found, moved(images, np.random.default_rng(0)))
    flat = np.full((40, 8, 8, 1), 7, np.uint8)
    assert (moved(flat, np.random.default_rng(1)) == 7).all()


def test_tasks_are_chosen_by_name_and_by_split() -> None:
    assert {one.base for one in chosen_tasks([], "judging")} == {"fashion_mnist", "flowers"}
    assert [one.name for one in chosen_tasks(["mammals"], None)] == ["mammals"]
