"""What a run goes on with: its data, wherever they lie now; others are refused, and nothing is written then."""

from __future__ import annotations

import json
import shutil
from contextlib import nullcontext
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.support.make_record import epoch, session_started, study_created, trial_started, write_record
from tuner.cluster.ray_session import Capacity
from tuner.common.errors import RunError
from tuner.common.plugins import forget_plugins
from tuner.datasets.loading import Dataset, load_dataset
from tuner.datasets.request import DataRequest
from tuner.runs.directory import RunDirectory
from tuner.runs.events import SessionStarted
from tuner.search import main
from tuner.session._resume import describe_data, refuse_other_data, refuse_other_search
from tuner.spec.spec import Spec, dump_spec, read_spec, require

SPACE = """
study: pictures
data: {source: "folder:pictures", validation_fraction: 0.5}
space: {batch_size: 8, learning_rate: 0.01, architecture: {choose: {dense: {dense_units: {choice: [4, 8]}}}}}
search: {trials: 2, sampler: random, scheduler: none, max_concurrent: 1}
"""
SPEC = require(read_spec(SPACE))


def write_pictures(folder: Path, value: int = 0) -> None:
    for number in range(24):
        path = folder / "pictures" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), 10 * number + value, dtype=np.uint8)).save(path)


def load(folder: Path, **changes: str) -> Dataset:
    request = DataRequest(**{**SPEC.data.model_dump(), **changes})
    staged = {"folder:pictures": f"folder:{folder / 'pictures'}"}
    return load_dataset(request, staged=staged, seed=0, cache_dir=folder / "cache", notify=lambda _text: None)


@pytest.fixture
def run(tmp_path, monkeypatch) -> RunDirectory:
    """An unfinished run on pictures in a folder that its file names relative to where it was begun."""
    for module in ("tuner.cluster.ray_session.starting_ray", "tuner.reports.writer.reporting"):
        monkeypatch.setattr(module, lambda *_arguments, **_more: nullcontext(lambda: Capacity(1, 0)))
    monkeypatch.setattr("tuner.session.session.run_session", reached)
    begun = tmp_path / "begun"
    write_pictures(begun)
    made = RunDirectory(begun / "runs" / "pictures")
    described = describe_data(load(begun))
    started = SessionStarted(resumed=False, max_concurrent=1, sampler="random", scheduler="none")
    created = study_created(study="pictures", specification=SPEC.resolved(), data=described)
    write_record(made.record, [created, started])
    made.specification.write_text(dump_spec(SPEC.resolved()))
    monkeypatch.chdir(begun)
    return made


def reached(*_arguments, resumed: bool, **_more) -> None:
    raise RunError(f"reached, {resumed=}")


def test_a_run_goes_on_with_its_data(run, capsys) -> None:
    assert main(["--resume", "runs/pictures", "--cache", "cache"]) == 2
    assert capsys.readouterr().err == "reached, resumed=True\n"


def test_a_new_search_learns_nothing_from_what_one_left_that_ended_before_it_began(run, capsys) -> None:
    Path("pictures.yaml").write_text(SPACE)
    kept = Path("others/pictures/warm_start.json")
    kept.parent.mkdir(parents=True)
    kept.write_text("[]")
    assert main(["pictures.yaml", "--runs", "others", "--cache", "cache"]) == 2
    assert capsys.readouterr().err == "reached, resumed=False\n" and not kept.exists()


PLUGIN = "import tuner\n\n@tuner.architecture\ndef own_net(images): ...\n"


def test_a_run_goes_on_with_the_own_code_that_it_began_with_and_no_other(run, capsys) -> None:
    path = Path("own_net.py")
    path.write_text(PLUGIN)
    began = json.loads(run.record.read_text().splitlines()[0])
    own = {"name": path.name, "reference": str(path.absolute()), "sha256": sha256(PLUGIN.encode()).hexdigest()}
    others = run.record.read_text().splitlines()[1:]
    run.record.write_text("\n".join([json.dumps({**began, "own_code": [own]}), *others]) + "\n")
    words = ["--resume", "runs/pictures", "--cache", "cache"]
    try:
        assert main(words) == 2
        missing = capsys.readouterr().err
        assert "runs/pictures cannot go on without the own code that it began with: --plugin" in missing
        assert "own_net.py" in missing and own["sha256"][:12] in missing
        assert main([*words, "--plugin", "own_net.py"]) == 2
        assert capsys.readouterr().err == "reached, resumed=True\n"
        forget_plugins()
        path.write_text(PLUGIN + "# otherwise\n")
        assert main([*words, "--plugin", "own_net.py"]) == 2
        assert "is not the one that it began with (sha256 was " in capsys.readouterr().err
    finally:
        forget_plugins()


def test_a_run_goes_on_with_the_same_images_kept_otherwise(run, capsys) -> None:
    options = ["--resume", "runs/pictures", "--cache", "other cache", "--set", "data.storage=encoded"]
    assert main(options) == 2
    assert capsys.readouterr().err == "reached, resumed=True\n"


def test_a_run_whose_data_have_changed_is_refused_with_what_they_were_and_are_and_left_alone(run, capsys) -> None:
    shutil.rmtree("pictures")
    write_pictures(Path(), 1)
    before = run.record.read_bytes()
    assert main(["--resume", "runs/pictures", "--cache", "cache"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("runs/pictures cannot go on: the data in folder:")
    then, now = json.loads(before.splitlines()[0])["data"]["fingerprint"], load(Path.cwd()).fingerprint
    assert f'fingerprint was "{then}", is "{now}"; name those with --data, or begin another run with --fresh' in error
    assert run.record.read_bytes() == before


def test_what_has_changed_in_the_data_is_named(run) -> None:
    study, data = study_created(data=describe_data(load(Path.cwd()))), load(Path.cwd())
    refuse_other_data(study, data, run)
    other = study_created(data={**study.data, "fingerprint": "9f2c", "class_names": ["a", "c"], "source": "elsewhere"})
    words = r'fingerprint was "9f2c", is "[0-9a-f]+"; class_names was \["a", "c"\], is \["a", "b"\]; name those'
    with pytest.raises(RunError, match=words):
        refuse_other_data(other, data, run)


def test_the_record_says_how_large_the_classes_are(tmp_path) -> None:
    (tmp_path / "pictures" / "c").mkdir(parents=True)
    write_pictures(tmp_path)
    for number in range(4):
        shutil.copy(tmp_path / f"pictures/a/{2 * number}.png", tmp_path / f"pictures/c/{100 + number}.png")
    data = load(tmp_path)
    sizes = sorted(np.bincount(data.train.labels).tolist())
    assert len(sizes) == 3 and describe_data(data)["images_per_class"] == dict(
        zip(("smallest", "median", "largest"), sizes, strict=True)
    )


def test_the_record_says_of_how_many_groups_the_validation_images_are(tmp_path) -> None:
    write_pictures(tmp_path)
    assert describe_data(load(tmp_path))["validation_groups"] is None
    data = load(tmp_path, group="(.*/[0-9])")  # a/1 is the group of a/10.png to a/18.png
    groups = data.prepared.column("train", "groups")[data.validation.rows]
    assert describe_data(data)["validation_groups"] == len(set(groups.tolist())) < len(data.validation)


def test_a_copied_run_goes_on_elsewhere_with_its_data_in_another_place(run, tmp_path, monkeypatch, capsys) -> None:
    other = tmp_path / "other machine"
    shutil.copytree(run.path, other / "pictures run")
    shutil.copytree("pictures", other / "data" / "pictures")
    shutil.rmtree(tmp_path / "begun")
    monkeypatch.chdir(other)
    assert main(["--resume", "pictures run", "--cache", "cache"]) == 2
    assert "data.source: folder:pictures must name a folder or file that exists" in capsys.readouterr().err
    assert main(["--resume", "pictures run", "--cache", "cache", "--data", "folder:pictures=data/pictures"]) == 2
    assert capsys.readouterr().err == "reached, resumed=True\n"


def test_only_what_is_spent_may_change(run) -> None:
    study = study_created(specification=SPEC.resolved())
    stop = "search.stop_when={expected_gain_below: 0.1, within: 9m}"
    more = ("search.trials=9", "search.time_budget=1h", stop, "resources.cpus_per_trial=2", "finalists.count=0")
    refuse_other_search(study, require(read_spec(SPACE, overrides=more)), run)
    refuse_other_search(study_created(specification=require(read_spec(SPACE, overrides=[stop])).resolved()), SPEC, run)
    with pytest.raises(RunError, match=r"cannot go on: data.validation_fraction \(was 0.5; is 0.25\) must be what it"):
        refuse_other_search(study, require(read_spec(SPACE, overrides=("data.validation_fraction=0.25",))), run)


@pytest.mark.parametrize("place", ["space", "space.architecture.choose.dense"])
def test_operations_in_another_order_are_another_search_and_settings_are_not(run, place) -> None:
    def spec_of(augment: str) -> Spec:
        return require(read_spec(SPACE, overrides=[f"{place}.augment={augment}"]))

    known = spec_of("{choose: {none: {}, own: {invert: 1, shift: 2, noise: 9}}}")
    study = study_created(specification=known.resolved())
    refuse_other_search(study, spec_of("{choose: {own: {invert: 1, shift: 2, noise: 9}, none: {}}}"), run)
    words = rf"the order of {place}.augment.choose.own \(was invert, shift, noise; is noise, shift, invert\) must be"
    with pytest.raises(RunError, match=words):
        refuse_other_search(study, spec_of("{choose: {none: {}, own: {noise: 9, shift: 2, invert: 1}}}"), run)
    with pytest.raises(RunError, match=r"cannot go on: \S*own.invert \(was 1; is not there\) must be"):
        refuse_other_search(study, spec_of("{choose: {none: {}, own: {noise: 9, shift: 2}}}"), run)


def test_a_setting_that_was_nothing_and_is_something_now_is_another_search(run) -> None:
    without = require(read_spec(SPACE, overrides=("training.early_stopping=none",)))
    words = r'training.early_stopping \(was null; is {"patience": 5, "min_delta": 0.0001}\) must be what it began with'
    with pytest.raises(RunError, match=words):
        refuse_other_search(study_created(specification=without.resolved()), SPEC, run)
    with pytest.raises(RunError, match=r"training.early_stopping.patience \(was 5; is not there\)"):
        refuse_other_search(study_created(specification=SPEC.resolved()), without, run)


def test_a_setting_that_an_earlier_tuner_did_not_have_is_no_other_search(run) -> None:
    known = SPEC.resolved()
    del known["search"]["hung_after_epochs"], known["training"]["head_epochs"]
    refuse_other_search(study_created(specification=known), SPEC, run)


@pytest.mark.parametrize("words", [(), ("pictures.yaml",)])
def test_a_run_goes_on_though_its_scheduler_weighs_no_seconds_which_an_earlier_tuner_did_not_refuse(
    run, words, capsys
) -> None:
    search = "search: {trials: 2, scheduler: bohb, improvement_per_second: true, max_concurrent: 1}"
    text = SPACE.replace(next(line for line in SPACE.splitlines() if line.startswith("search:")), search)
    known = require(read_spec(text)).resolved()
    began = json.loads(run.record.read_text().splitlines()[0])
    others = run.record.read_text().splitlines()[1:]
    run.record.write_text("\n".join([json.dumps({**began, "specification": known}), *others]) + "\n")
    run.specification.write_text(dump_spec(known))
    Path("pictures.yaml").write_text(text)
    assert main([*words, "--resume", "runs/pictures", "--cache", "cache"]) == 2
    assert capsys.readouterr().err == "reached, resumed=True\n"
    assert main(["pictures.yaml", "--runs", "others", "--cache", "cache"]) == 2
    assert "search.improvement_per_second must be false with bohb" in capsys.readouterr().err


@pytest.mark.parametrize(("trial", "expected"), [(0, (1.0, None)), (1, (2.0, None)), (2, (4.0, 2.0)), (3, (4.0, 2.0))])
def test_a_trial_is_trained_again_with_what_it_had_in_its_session(run, trial, expected, monkeypatch, capsys) -> None:
    class WithShares:
        dataset = load(Path.cwd())

        def worker_context(self, _training, *shares) -> None:
            raise RunError(f"trained again with {shares}")

    monkeypatch.setattr("tuner.session.commands.prepare", lambda *_arguments: WithShares())
    configuration = {"batch_size": 8, "learning_rate": 0.01, "architecture": "dense", "dense_units": 4}
    study = json.loads(run.record.read_text().splitlines()[0])
    events = [
        study_created(study="pictures", specification=study["specification"], data=study["data"]),
        session_started(elapsed_s=5.0, cpus_per_trial=1.0),
        trial_started(0, configuration, elapsed_s=6.0),
        trial_started(1, configuration, elapsed_s=6.0),
        epoch(0, 1, 0.5, elapsed_s=10.0),
        epoch(1, 1, 0.5, elapsed_s=11.0),
        session_started(elapsed_s=20.0, cpus_per_trial=2.0, resumed=True),
        epoch(1, 2, 0.6, elapsed_s=21.0),
        session_started(elapsed_s=30.0, cpus_per_trial=4.0, gpus_per_trial=2.0, resumed=True),
        trial_started(2, configuration, elapsed_s=31.0),
        epoch(2, 1, 0.5, elapsed_s=32.0),
        trial_started(3, configuration, elapsed_s=33.0),
    ]
    write_record(run.record, events)
    assert main(["--retrain", "runs/pictures", str(trial), "--cache", "cache"]) == 2
    said = capsys.readouterr()
    assert said.err == f"trained again with {expected}\n" and "values will differ" not in said.out


def test_a_trial_that_is_trained_again_on_images_that_came_later_says_so(run, monkeypatch, capsys) -> None:
    class OfNow:
        dataset: Dataset

        def worker_context(self, *_arguments) -> None:
            raise RunError("trained again")

    configuration = {"batch_size": 8, "learning_rate": 0.01, "architecture": "dense", "dense_units": 4}
    with run.record.open("a") as record:
        record.write(f"{trial_started(0, configuration).model_dump_json()}\n")
    for number in range(8):
        Image.fromarray(np.full((8, 8), 10 * number + 5, dtype=np.uint8)).save(f"pictures/a/new {number}.png")
    OfNow.dataset = load(Path.cwd())
    monkeypatch.setattr("tuner.session.commands.prepare", lambda *_arguments: OfNow())
    assert main(["--retrain", "runs/pictures", "0", "--cache", "cache"]) == 2
    said = capsys.readouterr()
    assert said.err == "trained again\n"
    words = "the data are not those of runs/pictures, so that values will differ: fingerprint was "
    assert words in said.out and "train_images was" in said.out
