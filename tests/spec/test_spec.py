"""The search-space file: read, overridden, refused with all its problems, written out again."""

from __future__ import annotations

import time

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support import ROOT
from tests.support.make_space import Written, spaces
from tests.support.wrong_files import RIGHT, wrong
from tuner.common.errors import InputError, Problem, SpecError
from tuner.session.checks import check_names
from tuner.spec._yaml_document import dump_document
from tuner.spec.space import Choose, sample
from tuner.spec.spec import Spec, dump_spec, load_spec, read_spec, require

FILES = sorted((ROOT / "search_spaces").glob("*.yaml"))


def read(text: str, *overrides: str) -> Spec:
    return require(read_spec(text, "file.yaml", overrides))


def problems(text: str, *overrides: str) -> list[str]:
    return [problem.describe("f") for problem in read_spec(text, "f", overrides).problems]


def test_a_short_file_gets_every_default():
    spec = read("study: s\ndata: {source: digits}\nspace: {architecture: cnn}")
    assert spec.metric == "val_accuracy" and spec.mode == "max" and spec.baseline is None
    assert spec.data.validation_fraction == 0.1 and spec.data.image_px is None
    assert spec.training.max_epochs == 30 and spec.training.early_stopping.patience == 5
    assert spec.search.sampler == "auto" and spec.search.trials == 64 and spec.search.time_budget is None
    assert spec.resources.cpus_per_trial == "auto"


def test_the_loss_is_minimised():
    assert read(wrong({3: "metric: val_loss"})).mode == "min"


def test_several_metrics_are_a_list_and_the_first_is_the_metric():
    spec = read(wrong({3: "metrics: [val_loss, parameters]"}))
    assert spec.metrics == ("val_loss", "parameters") and spec.metric == "val_loss" and spec.mode == "min"
    assert spec.resolved()["metrics"] == ["val_loss", "parameters"] and "metric" not in spec.resolved()
    assert read(dump_spec(spec.resolved())).metrics == spec.metrics


def test_a_list_of_one_metric_is_that_metric():
    one, listed = read(wrong({3: "metric: val_loss"})), read(wrong({3: "metrics: [val_loss]"}))
    assert one.resolved() == listed.resolved() and one.metrics == listed.metrics


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_search_spaces_that_come_with_tuner_are_right(path):
    reading = load_spec(path)
    spec = require(reading, check_names(reading, {}))
    assert spec.study == path.stem
    assert spec.baseline is not None, "each is there for its published model"


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("90s", 90), ("20m", 1200), ("2h", 7200), ("1h30m", 5400), ("1.5h", 5400), ("1h1m1s", 3661), ("45", 45), ("0.5", 0.5),
     ("none", None), ("null", None), ("", None)],
)  # fmt: skip
def test_times_are_seconds(written, seconds):
    assert read(wrong({15: f"search: {{time_budget: {written}}}"})).search.time_budget == seconds


@pytest.mark.parametrize("written", ["h", "2", "1m1h", "0s", "-2h", "2 h", "٢h", "true", "1e400", "'9999999999h'"])
def test_what_is_no_time_is_refused(written):
    found = problems(wrong({15: f"search: {{time_budget: {'x2' if written == '2' else written}}}"}))
    assert len(found) == 1 and found[0].startswith("f:15: search.time_budget must be ")


@pytest.mark.parametrize(
    "setting",
    [
        *("data.image_px", "data.max_train_images", "data.max_validation_images"),
        *("training.early_stopping", "activations.views"),
    ],
)
def test_none_says_of_a_setting_what_leaving_it_empty_says(setting):
    section, _, name = setting.partition(".")
    for written in ("none", "null"):
        assert getattr(getattr(read(RIGHT, f"{setting}={written}"), section), name) is None
    assert problems(RIGHT, f"{setting}=nothing") != []


def test_none_may_be_written_for_a_scheduler_and_a_sampler_left_empty():
    assert read(wrong({15: "search: {scheduler: null}"})).search.scheduler == "none"


# --- overrides ---


def test_an_override_wins_over_the_file_and_is_read_as_yaml():
    spec = read(RIGHT, "search.trials=3", "training.early_stopping=null", "space.batch_size.choice=[32]", "study=other")
    assert spec.search.trials == 3 and spec.training.early_stopping is None and spec.study == "other"
    assert spec.space["batch_size"].values == (32,)


def test_an_override_may_make_a_section_and_the_last_one_wins():
    spec = read("study: s\ndata: {source: digits}\nspace: {architecture: cnn}", "search.seed=1", "search.seed=2")
    assert spec.search.seed == 2


def test_an_override_may_set_something_of_what_the_file_says_is_nothing():
    text = "study: s\ndata: {source: digits}\nspace: {architecture: cnn}\n"
    assert read(text + "finalists: none", "finalists.count=0").finalists.count == 0
    kept = read(text + "activations: off", "activations.max_gb=3").activations
    assert kept.max_gb == 3 and not kept.enabled
    assert read(text + "activations:", "activations.max_gb=3").activations.enabled
    assert read(text + "training: {early_stopping: none}", "training.early_stopping.patience=3").training.early_stopping
    assert read(text, "data.validation=none", "data.validation.folds=4").data.validation.folds == 4
    assert read(text + "search:\n  # trials: 9", "search.trials=8").search.trials == 8


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("search.trials", "f: --set search.trials must be written key=value, for example search.trials=8"),
        ("=3", "f: --set =3 must be written key=value, for example search.trials=8"),
        ("search.trials=x", "f: search.trials must be a whole number; got 'x'"),
        ("search.trials=", "f: search.trials must be a whole number and cannot be none; got nothing"),
        ("search.trails=8", "f: search.trails: unknown setting 'trails'; did you mean 'trials'?"),
        ("serch.trials=8", "f: serch: unknown section 'serch'; did you mean 'search'?"),
        ("study.name=x", "f: --set study.name must name a setting; 'study' has none below it"),
        ("search.trials=[", "f: --set search.trials: is not valid YAML: while parsing a flow node"),
        ("search.seed=.nan", "f: --set search.seed must be a finite number; got .nan"),
        ("space.batch_size.choice=[0]", "f: baseline.batch_size must be in the space: choice of 0; got 32"),
    ],
)
def test_a_wrong_override_is_refused_without_a_line(override, problem):
    found = problems(RIGHT, override)
    assert len(found) == 1 and found[0].replace("f:13:", "f:").startswith(problem)


# --- all problems at once ---


def test_ten_mistakes_are_ten_problems_in_the_order_of_their_lines():
    text = wrong(
        {
            1: "study: a b",
            2: "data: {source: digitz, validation_fraction: 2}",
            3: "metrik: val_loss",
            5: "  preprocess: {choice: [scale]}",
            6: "  augment: {chioce: [none]}",
            8: "  learning_rate: {log_float: [0, 1]}",
            12: "      cnn: {bloks: {int: [1, 3]}}",
            13: "baseline: {preprocess: 1}",
            14: "training: {max_epochs: 1.5}",
            15: "search: {sampler: tpf}",
        }
    )
    reading = read_spec(text, "f.yaml")
    with pytest.raises(SpecError) as caught:
        require(reading, check_names(reading, {}))
    lines = str(caught.value).splitlines()
    assert [int(line.split(":")[1]) for line in lines] == sorted(int(line.split(":")[1]) for line in lines)
    beginnings = [
        "f.yaml:1: study must be at most 64 letters",
        "f.yaml:2: data.validation_fraction must be below 1; got 2",
        "f.yaml:3: metrik: unknown section 'metrik'; did you mean 'metric'?",
        "f.yaml:5: space.preprocess.choice[0]: scale: low must be given",
        "f.yaml:6: space.augment.chioce: unknown kind of dimension 'chioce'; did you mean 'choice'?",
        "f.yaml:8: space.learning_rate.log_float must be above 0 on a log scale; got [0, 1]",
        "f.yaml:12: space.architecture.choose.cnn.bloks: unknown hyperparameter 'bloks'; did you mean 'blocks'?",
        "f.yaml:13: baseline.batch_size must be given: choice of 32, 64",
        "f.yaml:14: training.max_epochs must be a whole number; got 1.5",
        "f.yaml:15: search.sampler: unknown sampler 'tpf'; did you mean 'tpe'?",
    ]
    for beginning in beginnings:
        assert any(line.startswith(beginning) for line in lines), beginning
    assert caught.value.exit_status == 2


def test_a_baseline_is_checked_beside_a_mistake_in_the_space():
    found = problems(wrong({7: "  batch_size: {choice: []}", 13: "baseline: {architecture: cmm, batch_size: 3}"}))
    assert [text.partition(" must")[0] for text in found] == [
        "f:7: space.batch_size.choice",
        "f:13: baseline.preprocess",
        "f:13: baseline.augment",
        "f:13: baseline.learning_rate",
        "f:13: baseline.architecture",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "f:1: must map study, data, metric, metrics, trainable, space, baseline, training, search, resources, activations, finalists to their settings; got nothing"),
        ("# only a comment\n", "f:1: must map study, data, metric, metrics, trainable, space, baseline, training, search, resources, activations, finalists to their settings; got nothing"),
        ("- study\n- data\n", "f:1: must map study, data, metric, metrics, trainable, space, baseline, training, search, resources, activations, finalists to their settings; got ['study', 'data']"),
        ("just text", "f:1: must map study, data, metric, metrics, trainable, space, baseline, training, search, resources, activations, finalists to their settings; got 'just text'"),
        ("42", "f:1: must map study, data, metric, metrics, trainable, space, baseline, training, search, resources, activations, finalists to their settings; got 42"),
        ("[" * 10_000, "f:1: must be nested at most 30 levels deep"),
    ],
)  # fmt: skip
def test_a_text_that_is_no_mapping_has_one_problem(text, problem):
    assert problems(text) == [problem]


def test_a_problem_without_a_field_or_a_line_is_still_described():
    assert Problem("", "must be text").describe("f") == "f: must be text"
    assert Problem("a", "unknown x").describe("f") == "f: a: unknown x"


# --- files ---


def test_files_that_cannot_be_read_are_input_errors(tmp_path):
    binary = tmp_path / "picture.yaml"
    binary.write_bytes(b"\x89PNG\r\n\x1a\n\x00\xff")
    utf_16 = tmp_path / "utf16.yaml"
    utf_16.write_text(RIGHT, encoding="utf-16")
    for path, words in (
        (tmp_path / "missing.yaml", "missing.yaml: no such search-space file"),
        (tmp_path, "cannot be read as text"),
        (binary, "picture.yaml: cannot be read as text: 'utf-8' codec can't decode byte 0x89"),
        (utf_16, "utf16.yaml: cannot be read as text"),
    ):
        with pytest.raises(InputError, match=words):
            load_spec(path)


def test_a_byte_order_mark_and_windows_line_ends_are_read(tmp_path):
    path = tmp_path / "windows.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + RIGHT.replace("\n", "\r\n").encode())
    assert require(load_spec(path)).study == "small"
    path.write_bytes(RIGHT.replace("small", "a b").replace("\n", "\r\n").encode())
    assert load_spec(path).problems[0].line == 1


def test_a_file_without_end_is_not_read_to_its_end(tmp_path):
    path = tmp_path / "large.yaml"
    with path.open("wb") as file:
        file.truncate(10**9)  # sparse: takes no space
    started = time.monotonic()
    assert [problem.message for problem in load_spec(path).problems] == [
        "must be at most 1,000,000 characters; got 1,000,001"
    ]
    assert time.monotonic() - started < 5


# --- written out again ---


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(
    spaces(),
    st.integers(0, 2**31 - 1),
    st.none() | st.floats(0.01, 1e6),
    st.sampled_from(["val_accuracy", "val_loss"]),
    st.none() | st.just({"patience": 3}),
    st.booleans(),
)
def test_a_resolved_file_is_the_same_specification(written: Written, seed, budget, metric, stopping, with_baseline):
    values = {
        "study": "s",
        "data": {"source": "digits", "max_train_images": 10},
        "metric": metric,
        "space": written.raw,
        "training": {"early_stopping": stopping},
        "search": {"seed": seed, "time_budget": budget, "max_concurrent": 2},
    }
    if with_baseline:
        values["baseline"] = sample(written.space, _generator(seed))
    spec = read(dump_document(values))
    again = read(dump_spec(spec.resolved()))
    assert repr(strip(again)) == repr(strip(spec))
    assert dump_spec(again.resolved()) == dump_spec(spec.resolved())
    assert repr(spec.space) == repr(written.space)


def _generator(seed: int):
    import numpy as np

    return np.random.default_rng(seed)


def strip(spec: Spec) -> dict:
    """All of a specification but the words in which it was written."""
    return {name: value for name, value in vars(spec).items() if name != "raw"}


def test_a_resolved_file_is_plain_yaml_for_other_readers_too():
    spec = read(RIGHT)
    other = yaml.safe_load(dump_spec(spec.resolved()))
    assert other == spec.resolved()
    assert other["space"]["learning_rate"] == {"log_float": [1e-4, 1e-2]}


def test_overrides_are_part_of_the_resolved_file():
    spec = read(RIGHT, "search.trials=3", "space.batch_size=32")
    again = read(dump_spec(spec.resolved()))
    assert again.search.trials == 3 and again.space["batch_size"].values == (32,)


def test_a_space_of_one_name_may_be_a_choice_of_branches_without_parameters():
    spec = read(wrong({11: "      dense:", 12: "      cnn: {}", 13: ""}))
    assert spec.space["architecture"] == Choose({"dense": {}, "cnn": {}})


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("data.source=folder:/x #1", "folder:/x #1"),
        ("data.source=#1", "#1"),
        ('data.source="folder:/x #1"', "folder:/x #1"),
    ],
)
def test_a_number_sign_on_the_command_line_begins_no_comment(override, value) -> None:
    assert read_spec("data: {source: digits}", "f", [override]).document.values["data"]["source"] == value
