"""A study in a file: others learn the same from it as from the run, and it tells no names."""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.make_record import (
    DATA,
    DOUBTED,
    PROBES,
    epoch,
    make_events,
    session_started,
    study_created,
    trial_ended,
    trial_started,
    write_record,
)
from tuner import __version__
from tuner.algorithms.study_file import StudyFile, read_study, rounded
from tuner.algorithms.warm_start import WarmStart, describe, load_earlier, read_earlier, save_earlier, warm_start
from tuner.common.errors import RunError
from tuner.common.metrics import METRICS, Metric
from tuner.export import main
from tuner.runs.events import EpochReported, Event, Notice, OwnCode, TrialStarted
from tuner.session.options import parse_search_options
from tuner.spec.space import Choice, Choose, Integer, Real, Space

SPACE: Space = {
    "preprocess": Choice(("resize(64)|scale(-1,1)", "none")),
    "augment": Choose({"none": {}, "moved": {"augment.flip": Choice((True,)), "augment.shift": Integer(2, 6)}}),
    "batch_size": Choice((64, 256)),
    "learning_rate": Real(1e-4, 1e-2, log=True),
    "architecture": Choose({
        "mobilenet_v2": {"dropout": Real(0, 0.5), "unfreeze_depth": Integer(0, 4)},
        "cnn": {"blocks": Integer(2, 3), "filters": Choice((16, 32))},
    }),
}  # fmt: skip
OWN_METRIC = "val_secret_share"


def in_few_digits(event: Event) -> Event:
    """The event with no more digits than a file keeps."""
    if isinstance(event, EpochReported):
        return event.model_copy(update={"metrics": {name: rounded(value) for name, value in event.metrics.items()}})
    if isinstance(event, TrialStarted):
        plain = {k: rounded(v) if isinstance(v, float) else v for k, v in event.configuration.items()}
        return event.model_copy(update={"configuration": plain})
    return event


def export(run: Path, target: Path, *more: str) -> Path:
    assert main([str(run), "--study", str(target), *more]) == 0
    return target


def write_run(folder: Path, events: list[Event]) -> Path:
    write_record(folder / "record.jsonl", events)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 40 trials with probes, and with an epoch whose loss was no number."""
    happened = [in_few_digits(event) for event in make_events(40)]
    spoilt = next(place for place, event in enumerate(happened) if isinstance(event, EpochReported))
    values = {**happened[spoilt].metrics, "val_loss": math.nan}
    happened[spoilt] = happened[spoilt].model_copy(update={"metrics": values})
    return write_run(tmp_path_factory.mktemp("runs") / "cifar100", [*happened, *PROBES])


@pytest.fixture(scope="module")
def exported(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(run, tmp_path_factory.mktemp("given") / "given.json")


def told(warm: WarmStart) -> list[Any]:
    """All that a sampler sees of earlier trials: not when they were made."""
    trials = [
        [
            (one.params, one.distributions, one.intermediate_values, one.value, one.state, one.user_attrs)
            for one in study
        ]
        for study in warm.trials
    ]
    return [trials, list(warm.portfolio)]


@pytest.mark.parametrize(("metric", "mode"), [("val_accuracy", "max"), ("val_loss", "min")])
def test_a_search_begins_from_the_file_as_from_the_run_itself(run, exported, metric, mode) -> None:
    begun = [
        warm_start(read_earlier([str(place)], run.parent, metric, mode), SPACE, None, mode) for place in (run, exported)
    ]
    assert told(begun[0]) == told(begun[1])
    assert len(begun[0].portfolio) == 5 and len(begun[0].trials[0]) > 20
    assert {trial.state.name for trial in begun[1].trials[0]} == {"COMPLETE", "PRUNED"}


def test_what_is_rounded_stays_what_it_was_in_six_digits(tmp_path) -> None:
    run = write_run(tmp_path / "fine", make_events(6))
    place = export(run, tmp_path / "fine.json")
    (whole,), (short,) = (read_earlier([str(one)], tmp_path, "val_loss", "min") for one in (run, place))
    for before, after in zip(whole.trials, short.trials, strict=True):
        np.testing.assert_allclose([*after.best_by_epoch.values()], [*before.best_by_epoch.values()], rtol=1e-5)
        assert after.configuration["learning_rate"] == pytest.approx(before.configuration["learning_rate"], rel=1e-5)
        assert after.configuration.keys() == before.configuration.keys()


def test_files_and_runs_and_studies_can_be_mixed(run, exported, tmp_path) -> None:
    other = export(run, tmp_path / "b.json", "--names")
    words = ["f.yaml", "--warm-start", str(exported), "--warm-start", str(other), str(run), "cifar100"]
    (setting,) = parse_search_options(words).overrides
    assert setting == f"search.warm_start={json.dumps([str(exported), str(other), str(run), 'cifar100'])}"
    studies = read_earlier([str(exported), str(other), str(run), "cifar100"], run.parent, "val_accuracy", "max")
    assert [study.name for study in studies] == ["given", "cifar100", "cifar100", "cifar100"]
    assert [study.data for study in studies] == ["45,000 images of 100 classes", "cifar100", "cifar100", "cifar100"]
    said = describe(studies[:1], SPACE, None, "max")
    assert re.match(
        r"warm start: given on 45,000 images of 100 classes, \d+ of 40 trials have a place in this space; 6 of", said
    )
    save_earlier(studies, tmp_path / "warm_start.json")
    assert load_earlier(tmp_path / "warm_start.json") == studies  # a resumed search needs the files no more


def test_the_file_has_facts_of_the_data_the_epochs_and_the_probes(tmp_path) -> None:
    sizes = {"smallest": 3, "median": 40, "largest": 90}
    events = [
        study_created(data={**DATA, "images_per_class": sizes}),
        trial_started(0, {"architecture": "cnn", "learning_rate": 0.00123456789}),
        epoch(0, 1, 0.25, val_auc=0.7, seconds=1.23456), epoch(0, 2, 0.125, val_auc=math.nan, seconds=12.3456),
        trial_started(1), trial_ended(1, "failed", "out of memory in /home/somebody"),
        *PROBES,
    ]  # fmt: skip
    found = read_study(export(write_run(tmp_path / "x", events), tmp_path / "x.json"))
    assert found.tuner == __version__ and found.name is None
    assert found.metrics == {"val_accuracy": "max", "val_loss": "min", "val_auc": "max"}
    assert found.data.model_dump() == {
        "name": None, "classes": 100, "train_images": 45_000, "validation_images": 5_000, "images_per_class": sizes,
        "height_px": 32, "width_px": 32, "channels": 3,
    }  # fmt: skip
    first, second = found.trials
    assert first.configuration == {"architecture": "cnn", "learning_rate": 0.00123457}
    assert (first.status, first.epochs, first.seconds) == ("running", [1, 2], [1.23, 12.3])
    assert first.best == {"val_accuracy": [0.25, 0.25], "val_loss": [0.975, 0.975], "val_auc": [0.7, None]}
    assert (second.status, second.epochs) == ("failed", [])
    (probe,) = found.probes  # the other failed, for a reason that may name things
    assert probe.configuration == PROBES[0].configuration and probe.metrics == {"val_accuracy": 0.6}
    assert (probe.features, probe.images, probe.validation_images, probe.seconds) == (1280, 1000, 500, 2.0)


def test_five_hundred_trials_of_twenty_epochs_take_less_than_half_a_megabyte_a_line_for_each(tmp_path) -> None:
    place = export(write_run(tmp_path / "large", make_events(500, stop_early=False)), tmp_path / "large.json")
    assert place.stat().st_size < 500_000
    assert place.read_text().count('\n{"configuration":') == 500


@pytest.fixture
def secrets(tmp_path: Path) -> Iterator[Path]:
    """A run in which everything that somebody can name is called secret, on data that lie at home."""
    METRICS.add(
        OWN_METRIC.removeprefix("val_"),
        Metric("max", "secret share", "share", measure=lambda _labels, _probabilities: 0.5),
    )
    source = "folder:/home/secret_user/secret_pets"
    network = {"architecture": "secret_net", "secret_width": 3, "secret_kind": "secret_wide", "dropout": 0.5}
    saved = {"architecture": "keras_hub:/home/secret_user/saved", "weights": "pretrained"}
    texts = {"preprocess": "secret_op(3)|resize(64)", "augment": "secret_flip|shift(2)", "architecture": "cnn"}
    branch = {"augment": "secret_branch", "augment.shift": 3, "augment.secret_dim.secret_least": 0.3}
    data = {**DATA, "name": source, "source": source, "class_names": ["secret cat", "secret dog"]}
    events = [
        study_created(
            study="secret_study", data=data, command=["search", "/home/secret_user/s.yaml"],
            environment={"host": "secret-host"}, specification={"study": "secret_study"},
            own_code=[OwnCode(name="secret_nets.py", reference="/home/secret_user/secret_nets.py", sha256="0")],
        ),
        session_started(storage="/mnt/secret"),
        *(trial_started(number, values) for number, values in enumerate([network, saved, texts, branch])),
        *(epoch(number, 1, 0.5, **{OWN_METRIC: 0.5}) for number in range(3)),
        trial_ended(3, "failed", "secret_error"),
        Notice(text="/home/secret_user is full"),
        PROBES[0].model_copy(update={"configuration": saved, "metrics": {OWN_METRIC: 0.5, "val_loss": 1.0}}),
        DOUBTED,
    ]  # fmt: skip
    yield write_run(tmp_path / "secret_run", events)
    METRICS.remove(OWN_METRIC.removeprefix("val_"))


def test_no_name_that_somebody_has_chosen_is_in_the_file(secrets, tmp_path) -> None:
    place = export(secrets, tmp_path / "given.json")
    text = place.read_text()
    assert "secret" not in text and "home" not in text and "cat" not in re.sub("validation", "", text)
    found = read_study(place)
    assert found.metrics == {"val_accuracy": "max", "val_loss": "min"}
    network, saved, texts, branch = (trial.configuration for trial in found.trials)
    assert network == {"architecture": "own 1", "own 2": 3, "own 3": "own 4", "dropout": 0.5}
    assert saved == {"architecture": "own 5", "weights": "pretrained"} == found.probes[0].configuration
    assert texts == {"preprocess": "own 6", "augment": "own 7", "architecture": "cnn"}
    assert branch == {"augment": "own 8", "augment.shift": 3, "augment.own 9": 0.3}


def test_names_that_are_asked_for_are_those_of_study_data_and_own_code_and_no_others(secrets, tmp_path) -> None:
    place = export(secrets, tmp_path / "given.json", "--names")
    found, text = read_study(place), place.read_text()
    assert (found.name, found.data.name) == ("secret_run", "secret_pets")
    assert found.trials[0].configuration["architecture"] == "secret_net"
    assert found.metrics[OWN_METRIC] == "max"
    for other in ("secret cat", "secret-host", "secret_nets.py", "secret_error", "secret_study", "is full", "/mnt"):
        assert other not in text


def test_a_training_function_of_ones_own_is_told_with_its_names_or_not_at_all(tmp_path, capsys) -> None:
    created = study_created(specification={"study": "x", "trainable": "own_loop"})
    run = write_run(tmp_path / "x", [created, trial_started(0, {"own_rate": 0.5}), epoch(0, 1, 0.5)])
    assert main([str(run), "--study", str(tmp_path / "x.json")]) == 2
    assert "add --names to write them" in capsys.readouterr().err and not (tmp_path / "x.json").exists()
    assert read_study(export(run, tmp_path / "x.json", "--names")).trials[0].configuration == {"own_rate": 0.5}


def test_a_number_that_no_file_can_hold_is_refused(tmp_path, capsys) -> None:
    run = write_run(tmp_path / "x", [study_created(), trial_started(0, {"batch_size": 10**30}), epoch(0, 1, 0.5)])
    assert main([str(run), "--study", str(tmp_path / "x.json")]) == 2
    said = "x: cannot be written as a study: configuration.batch_size must be text, a number, true, false or null; got"
    assert said in capsys.readouterr().err


def test_a_run_that_shows_nothing_is_not_written(tmp_path, capsys) -> None:
    run = write_run(tmp_path / "x", [study_created(), trial_started(0)])
    assert main([str(run), "--study", str(tmp_path / "x.json")]) == 2
    assert "x: holds no trial with an epoch: there is nothing for others to learn" in capsys.readouterr().err


def changed(exported: Path, tmp_path: Path, **fields: Any) -> Path:
    """The file with other fields; `...` leaves one out."""
    values = {**json.loads(exported.read_text()), **fields}
    place = tmp_path / "given.json"
    place.write_text(json.dumps({name: value for name, value in values.items() if value is not ...}))
    return place


TRIAL = {"configuration": {}, "status": "stopped", "epochs": [1, 2], "seconds": [1.0, 2.0], "best": {}}
WHOLE = "must be a study, as python -m tuner.export RUN --study FILE writes it"
PLAIN = "must be text, a number, true, false or null"
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"kind": "table"}, f"{WHOLE}; its kind is not 'tuner study'"),
    ({"kind": ...}, f"{WHOLE}; its kind is not 'tuner study'"),
    (
        {"version": 2, "tuner": "3.0"},
        "version must be 1; got 2, which tuner 3.0 wrote: a later tuner than this reads it",
    ),
    ({"version": True}, "version must be 1; got True"),
    ({"version": ...}, "version must be 1; got None"),
    ({"colour": "red"}, "colour: no study has such a field"),
    ({"trials": ...}, "trials must be given"),
    ({"trials": {}}, "trials must be a valid list"),
    ({"metrics": {"val_accuracy": "most"}}, "metrics.val_accuracy must be 'max' or 'min'; got 'most'"),
    ({"data": {"classes": -1}}, "data.classes must be greater than or equal to 0; got -1"),
    ({"data": {"folder": "x"}}, "data.folder: no study has such a field"),
]
WRONG_TRIALS: list[tuple[dict[str, Any], str]] = [
    ({"status": "won"}, ".status must be 'running', 'paused', 'completed', 'stopped' or 'failed'; got 'won'"),
    ({"epochs": [2, 1]}, ": epochs must be in their order"),
    ({"epochs": [0, 1]}, ".epochs[0] must be greater than or equal to 1; got 0"),
    ({"seconds": [1.0]}, ": seconds must have a value for each of 2 epochs"),
    ({"best": {"val_loss": [1]}}, ": best.val_loss must have a value for each of 2 epochs"),
    ({"best": {"val_x": [1, 1]}}, ".best must be of the file's metrics; got val_x"),
    ({"best": {"val_loss": [1, math.nan]}}, ".best.val_loss[1] must be a finite number; got nan"),
    ({"best": {"val_loss": [1, "a"]}}, ".best.val_loss[1] must be a valid number; got 'a'"),
    ({"configuration": {"rate": math.inf}}, f".configuration.rate {PLAIN}; got inf"),
    ({"configuration": {"rate": [1]}}, f".configuration.rate {PLAIN}; got [1]"),
]
ALL_WRONG = [*WRONG, *(({"trials": [{**TRIAL, **fields}]}, f"trials[0]{words}") for fields, words in WRONG_TRIALS)]


@pytest.mark.parametrize(("fields", "words"), ALL_WRONG, ids=[words for _, words in ALL_WRONG])
def test_what_is_wrong_in_a_file_is_told_with_file_field_and_rule(fields, words, exported, tmp_path) -> None:
    place = changed(exported, tmp_path, **fields)
    with pytest.raises(RunError, match=f"^{re.escape(f'{place}: {words}')}"):
        read_study(place)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "it is no JSON: EOF while parsing"),
        (b'{"kind": "tuner study", "version": 1, "tri', "it is no JSON: EOF while parsing a string"),
        (b"\x89PNG\r\n\x1a\n\x00\xff\n", "it is no JSON: "),
        (b"[" * 100_000, "it is no JSON: recursion limit exceeded"),
        (b"[1, 2]", "its kind is not 'tuner study'"),
        (b'{"event": "study_created"}\n', "its kind is not 'tuner study'"),
    ],
    ids=lambda part: str(part)[:30],
)
def test_a_file_that_is_none_of_ours_is_refused(content, words, tmp_path) -> None:
    place = tmp_path / "given.json"
    place.write_bytes(content)
    with pytest.raises(RunError, match=f"given.json: must be a study, as .* writes it; {words}"):
        read_earlier([str(place)], tmp_path, "val_accuracy", "max")


def test_a_file_that_is_too_large_is_not_read(tmp_path) -> None:
    with (tmp_path / "large.json").open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(RunError, match=r"large\.json: must be a study, .*; it has more than 64 MB"):
        read_study(tmp_path / "large.json")


def test_a_metric_that_the_file_does_not_tell_is_refused_with_those_it_has(run, exported, tmp_path) -> None:
    for place in (run, exported):
        with pytest.raises(
            RunError, match="metric must be one that its epochs measured, val_accuracy or val_loss; got"
        ):
            read_earlier([str(place)], tmp_path, "val_auc", "max")
    with pytest.raises(RunError, match=r"given\.json: val_loss must be best where it is largest, as in this search; "):
        read_earlier([str(exported)], tmp_path, "val_loss", "max")


def test_a_file_that_is_not_there_is_refused_with_the_nearest_one(exported, monkeypatch) -> None:
    monkeypatch.chdir(exported.parent)
    with pytest.raises(
        RunError, match=r"search\.warm_start: unknown run .* 'givn\.json'; did you mean 'given\.json'\?"
    ):
        read_earlier(["givn.json"], Path("runs"), "val_accuracy", "max")
    for name in ("/gone/given.json", "x" * 5000, f"{'x' * 5000}/a.json", "\0/a.json"):
        with pytest.raises(RunError, match=r"search\.warm_start: unknown run \(a folder, a file of tuner\.export"):
            read_earlier([name], Path("runs"), "val_accuracy", "max")


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4)
ANYTHING = st.recursive(SCALARS, lambda one: st.lists(one, max_size=3) | st.dictionaries(st.text(max_size=4), one))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), value=ANYTHING)
def test_whatever_is_changed_in_a_file_it_is_refused_or_learnt_from(exported, tmp_path, data, value) -> None:
    whole = json.loads(exported.read_text())
    whole["trials"] = whole["trials"][:3]
    inner: Any = whole
    for _ in range(data.draw(st.integers(0, 5))):
        keys = list(inner) if isinstance(inner, dict) else list(range(len(inner)))
        deeper = [key for key in keys if isinstance(inner[key], dict | list) and inner[key]]
        if not deeper:
            break
        inner = inner[data.draw(st.sampled_from(deeper))]
    place = data.draw(st.sampled_from(list(inner) if isinstance(inner, dict) else list(range(len(inner)))))
    if data.draw(st.booleans()):
        del inner[place]
    else:
        inner[place] = value
    file = tmp_path / "given.json"
    file.write_text(json.dumps(whole))
    try:
        studies = read_earlier([str(file)], tmp_path, "val_accuracy", "max")
    except RunError as error:
        assert "given.json" in str(error)
        return
    warm_start(studies, SPACE, None, "max")


def test_a_file_says_by_its_own_model_what_it_holds(exported) -> None:
    values = json.loads(exported.read_text())
    assert StudyFile.model_validate(copy.deepcopy(values)).model_dump() == values
