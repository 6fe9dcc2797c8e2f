"""`python -m tuner.predict`: labels for image files, from a model that was saved as a search saves it."""

from __future__ import annotations

import csv
import importlib
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.support import ROOT
from tests.support.make_data import picture
from tests.support.make_record import study_created, write_record
from tuner.common.errors import RunError
from tuner.models.architectures import ARCHITECTURES
from tuner.models.export import any_size
from tuner.predict import main
from tuner.runs.directory import RunDirectory
from tuner.runs.predictions import load_predictions
from tuner.training.evaluation import choose_shown, measure, predict_probabilities, save_predictions

LABELS = ["dark", "middling", "=bright", "white", "none", "other"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A run whose model tells images apart by how bright they are."""
    run = RunDirectory(tmp_path_factory.mktemp("runs") / "grey")
    write_record(run.record, [study_created()])
    images = keras.Input((8, 8, 3), dtype="float32")
    level = keras.layers.GlobalAveragePooling2D()(images) / 255.0
    outputs = keras.layers.Dense(len(LABELS), activation="softmax", name="probabilities")(level)
    model = keras.Model(images, outputs)
    kernel = np.tile(np.array([[-4.0, 0.0, 4.0, 8.0, -20.0, -20.0]], dtype=np.float32), (3, 1))
    model.layers[-1].set_weights([kernel, np.array([3.0, 0.0, -3.0, -12.0, 0.0, 0.0], dtype=np.float32)])
    any_size(model, (8, 8, 3)).save(run.best_model)
    run.about_best.write_text(json.dumps({"labels": LABELS, "image_shape": [8, 8, 3]}))
    return run


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "below").mkdir(parents=True)
    picture(5).save(folder / "a.png")
    picture(250, (30, 20)).save(folder / "below" / "b.jpg")
    (folder / "notes.txt").write_text("not an image")
    return folder


def test_every_image_of_a_folder_and_below_is_predicted(run, photos, capsys) -> None:
    assert main([str(run.path), str(photos), "--format", "json", "--top", "2"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [Path(one["image"]).name for one in found] == ["a.png", "b.jpg"]
    assert [one["labels"][0]["label"] for one in found] == ["dark", "white"]
    assert all(len(one["labels"]) == 2 for one in found)
    first, second = (label["probability"] for label in found[0]["labels"])
    assert 1 >= first >= second >= 0


def test_the_table_names_each_image_once_with_its_five_labels(run, photos, capsys) -> None:
    assert main([str(run.path), str(photos / "a.png")]) == 0
    out = capsys.readouterr().out
    assert out.count("a.png") == 1 and len(out.strip().splitlines()) == 6 and "%" in out


def test_a_cell_of_the_csv_is_never_a_formula(run, photos, capsys) -> None:
    assert main([str(run.path), str(photos), "--format", "csv", "--top", "6"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == 12 and {row["place"] for row in rows} == set("123456")
    assert "'=bright" in {row["label"] for row in rows}


def make_sources(folder: Path, values: list[int]) -> dict[str, str]:
    """Write the same grey images in every form that has no labels; returns the sources."""
    pictures = [picture(value) for value in values]
    (folder / "images").mkdir()
    for number, one in enumerate(pictures):
        one.save(folder / "images" / f"{number}.png")
    names = [f"images/{number}.png" for number in range(len(values))]
    (folder / "names.csv").write_text("\n".join(["file", *names]) + "\n")
    (folder / "names.jsonl").write_text("".join(json.dumps({"image": name}) + "\n" for name in names))
    np.savez(folder / "images.npz", x_test=np.stack([np.asarray(one.convert("L")) for one in pictures]))
    content = [{"bytes": (folder / name).read_bytes(), "path": None} for name in names]
    pq.write_table(pa.table({"image": content}), folder / "images.parquet")
    forms = {"csv": "names.csv", "jsonl": "names.jsonl", "npz": "images.npz", "parquet": "images.parquet"}
    return {kind: f"{kind}:{folder / name}" for kind, name in {**forms, "folder": "images"}.items()}


@pytest.mark.parametrize("kind", ["csv", "jsonl", "npz", "parquet", "folder"])
def test_a_source_without_labels_is_predicted_as_its_files_are(kind, run, tmp_path, capsys) -> None:
    sources = make_sources(tmp_path, [5, 120, 250])
    assert main([str(run.path), str(tmp_path / "images"), "--format", "json"]) == 0
    meant = [one["labels"] for one in json.loads(capsys.readouterr().out)]
    assert main([str(run.path), sources[kind], "--format", "json"]) == 0
    assert [one["labels"] for one in json.loads(capsys.readouterr().out)] == meant


def test_a_table_with_labels_and_a_data_set_with_a_name_are_sources_too(run, tmp_path, capsys, monkeypatch) -> None:
    make_sources(tmp_path, [5, 250])
    (tmp_path / "labels.csv").write_text("file,label\nimages/0.png,a\nimages/1.png,b\nimages/0.png,a\n")
    assert main([str(run.path), f"csv:{tmp_path / 'labels.csv'}", "--format", "json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 2
    monkeypatch.setenv("TUNER_DATA", str(tmp_path))
    assert main([str(run.path), "parquet:images.parquet", str(tmp_path / "images")]) == 2
    assert "must name a folder or file that exists" in capsys.readouterr().err


def test_python_predicts_what_the_command_does_from_images_of_any_form(run, tmp_path, capsys) -> None:
    import pandas as pd

    import tuner

    sources = make_sources(tmp_path, [5, 120, 250])
    assert main([str(run.path), sources["csv"], "--format", "csv", "--top", "2"]) == 0
    meant = pd.read_csv(io.StringIO(capsys.readouterr().out))
    files = sorted((tmp_path / "images").iterdir())
    pictures = [picture(value) for value in (5, 120, 250)]
    arrays = np.stack([np.asarray(one.convert("RGB")) for one in pictures])
    forms = [sources["csv"], tmp_path / "images", files, arrays, arrays[..., 0], arrays / 255, list(arrays), pictures]
    forms += [[file.read_bytes() for file in files], pd.DataFrame({"where": files})]
    loaded = tuner.load_run(run.path)
    for form in forms:
        found = loaded.predict(form, top=2)
        assert list(found) == list(meant) and found["place"].tolist() == meant["place"].tolist()
        assert [label.lstrip("=") for label in found["label"]] == [label.lstrip("'=") for label in meant["label"]]
        assert np.allclose(found["probability"], meant["probability"], atol=2e-6)
    assert loaded.best_model()(np.zeros((1, 8, 8, 3))).shape == (1, len(LABELS))


def test_python_finds_images_below_the_home_of_its_user(run, photos, monkeypatch) -> None:
    import tuner

    monkeypatch.setenv("HOME", str(photos.parent))
    loaded = tuner.load_run(run.path)
    assert len(loaded.predict("~/photos/below")) == 1 and len(loaded.predict(["~/photos/a.png"])) == 1


def test_what_python_cannot_read_is_warned_of_and_the_others_are_predicted(run, photos) -> None:
    import tuner

    (photos / "broken.png").write_bytes(b"not a png")
    with pytest.warns(UserWarning, match=r"broken\.png is not an image"):
        found = tuner.load_run(run.path).predict(photos)
    assert len(found) == 2


def test_an_opened_image_of_which_the_file_is_cut_short_is_warned_of_and_one_of_a_printer_is_predicted(
    run, tmp_path
) -> None:
    import tuner

    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3)).astype(np.uint8))
    noise.save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:900])
    Image.new("CMYK", (8, 8), (0, 0, 0, 250)).save(tmp_path / "printed.jpg")
    opened = [Image.open(tmp_path / name) for name in ("cut.jpg", "printed.jpg")]
    with pytest.warns(UserWarning, match=r"^0 cannot be decoded: .*truncated"):
        found = tuner.load_run(run.path).predict(opened)
    assert found[["image", "label"]].values.tolist() == [["1", "dark"]]


def test_an_image_that_cannot_be_read_is_told_and_the_others_are_predicted(run, photos, capsys) -> None:
    (photos / "broken.png").write_bytes(b"not a png")
    assert main([str(run.path), str(photos), "--format", "json"]) == 1
    captured = capsys.readouterr()
    assert len(json.loads(captured.out)) == 2
    assert "broken.png is not an image in a format that is read" in captured.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["RUN", "no such.png"], "nothing is there"),
        (["RUN", "EMPTY"], "must hold images"),
        (["EMPTY", "PHOTO"], "not a run directory"),
        (["--imagenet", "mobilenet_v22", "PHOTO"], "did you mean 'mobilenet_v2'"),
        (["--imagenet", "cnn", "PHOTO"], "unknown network 'cnn'"),
    ],
)
def test_wrong_input_is_one_line_and_exit_status_2(arguments, message, run, photos, tmp_path, capsys) -> None:
    (tmp_path / "empty").mkdir()
    names = {"RUN": str(run.path), "EMPTY": str(tmp_path / "empty"), "PHOTO": str(photos / "a.png")}
    assert main([names.get(word, word) for word in arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.strip().splitlines()) == 1


def test_a_run_without_a_model_says_when_it_will_have_one(photos, tmp_path, capsys) -> None:
    write_record(tmp_path / "young" / "record.jsonl", [study_created()])
    assert main([str(tmp_path / "young"), str(photos)]) == 2
    assert "it is written when the search has ended" in capsys.readouterr().err


def test_a_damaged_model_is_told_in_one_line(run, photos, tmp_path, capsys) -> None:
    other = RunDirectory(tmp_path / "damaged")
    write_record(other.record, [study_created()])
    other.about_best.write_text(run.about_best.read_text())
    other.best_model.write_bytes(run.best_model.read_bytes()[:500])
    assert main([str(other.path), str(photos)]) == 2
    error = capsys.readouterr().err
    assert "cannot be loaded as a Keras model" in error and len(error.strip().splitlines()) == 1


OWN_LAYER = """
import keras
import tuner

class Doubled(keras.layers.Layer):
    def call(self, x):
        return x * 2.0

@tuner.architecture
def doubled(images):
    return keras.layers.Flatten()(Doubled()(images))
"""


@pytest.fixture
def own(run, tmp_path) -> Iterator[tuple[RunDirectory, Path]]:
    """A run whose model has a layer of a plugin, and the plugin."""
    from tuner.common import plugins

    file = tmp_path / "doubling.py"
    file.write_text(OWN_LAYER)
    (plugin,) = plugins.load_plugins([str(file)])
    made = RunDirectory(tmp_path / "own")
    own_code = [{"name": plugin.name, "reference": plugin.reference, "sha256": plugin.sha256}]
    write_record(made.record, [study_created(own_code=own_code)])
    images = keras.Input((8, 8, 3), dtype="float32")
    level = keras.layers.GlobalAveragePooling2D()(sys.modules["doubling"].Doubled()(images)) / 255.0
    model = keras.Model(images, keras.layers.Dense(len(LABELS), activation="softmax")(level))
    any_size(model, (8, 8, 3)).save(made.best_model)
    made.about_best.write_text(run.about_best.read_text())
    plugins.forget_plugins()
    sys.modules.pop("doubling", None)
    yield made, file
    plugins.forget_plugins()
    sys.modules.pop("doubling", None)


def test_a_model_with_own_layers_names_the_plugin_that_it_lacks_and_is_used_with_it(own, photos, capsys) -> None:
    import tuner

    made, file = own
    assert main([str(made.path), str(photos)]) == 2
    wanted = f"holds the class Doubled of own code, which is not loaded; .*: --plugin .*{file.name} "
    assert re.search(wanted, capsys.readouterr().err)
    with pytest.raises(RunError, match=wanted + r"\(in Python: plugins=\['.*doubling.py'\]\)"):
        tuner.load_run(made.path).best_model()
    found = tuner.load_run(made.path, plugins=file).predict(photos)
    assert main([str(made.path), str(photos), "--plugin", str(file), "--format", "csv", "--top", "1"]) == 0
    printed = capsys.readouterr()
    assert printed.out.count("\n") == 1 + len(found) and "own code" not in printed.err


def test_a_model_with_layers_of_an_installed_package_needs_no_plugin(run, photos, tmp_path, monkeypatch) -> None:
    code = tmp_path / "installed"
    (code / "packed-1.0.dist-info").mkdir(parents=True)
    (code / "packed_nets.py").write_text(OWN_LAYER)
    (code / "packed-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: packed\nVersion: 1.0\n")
    points = "[tuner.architectures]\ndoubled = packed_nets:doubled\n"
    (code / "packed-1.0.dist-info" / "entry_points.txt").write_text(points)
    monkeypatch.syspath_prepend(str(code))
    layer = importlib.import_module("packed_nets").Doubled()
    ARCHITECTURES.remove("doubled")
    made = RunDirectory(tmp_path / "packed")
    write_record(made.record, [study_created()])
    images = keras.Input((8, 8, 3), dtype="float32")
    level = keras.layers.GlobalAveragePooling2D()(layer(images)) / 255.0
    any_size(keras.Model(images, keras.layers.Dense(len(LABELS))(level)), (8, 8, 3)).save(made.best_model)
    made.about_best.write_text(run.about_best.read_text())
    words = [sys.executable, "-m", "tuner.predict", str(made.path), str(photos), "--format", "csv", "--top", "1"]
    paths = os.pathsep.join([str(code), str(ROOT)])
    done = subprocess.run(words, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": paths})
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 3, done.stderr


def test_own_code_that_has_changed_since_the_search_is_told(own, photos, capsys) -> None:
    import tuner

    made, file = own
    file.write_text(OWN_LAYER.replace("2.0", "3.0"))
    assert main([str(made.path), str(photos), "--plugin", str(file)]) == 0
    assert re.search(r"own code doubling.py has changed since .* \(sha256 was .*, is .*\)", capsys.readouterr().err)
    with pytest.warns(UserWarning, match="has changed since"):
        tuner.load_run(made.path, plugins=[file]).best_model()


def test_own_code_that_a_program_has_imported_itself_is_not_loaded_again(own, photos, monkeypatch) -> None:
    import tuner

    made, file = own
    monkeypatch.syspath_prepend(str(file.parent))
    importlib.import_module("doubling")
    try:
        for plugins in (str(file), "doubling"):
            assert len(tuner.load_run(made.path, plugins).predict(photos)) == 2
    finally:
        ARCHITECTURES.remove("doubled")


def test_weights_that_cannot_be_fetched_name_what_to_do(photos, capsys, monkeypatch) -> None:
    import tuner.models.backbones

    def unreachable(_application: str) -> None:
        raise OSError("URL fetch failure on https://example.invalid")

    monkeypatch.setattr(tuner.models.backbones, "imagenet_classifier", unreachable)
    assert main(["--imagenet", "mobilenet_v2", str(photos)]) == 2
    assert "put both files into the folder models/ of KERAS_HOME" in capsys.readouterr().err


def test_the_saved_model_takes_images_of_any_size_and_leaves_its_own_alone(run) -> None:
    model = keras.models.load_model(run.best_model)
    generator = np.random.default_rng(0)
    own = generator.integers(0, 256, (3, 8, 8, 3), dtype=np.uint8)
    inner = model.get_layer(index=-1)
    np.testing.assert_allclose(model.predict_on_batch(own), inner.predict_on_batch(own.astype("float32")), atol=1e-7)
    assert model.predict_on_batch(generator.integers(0, 256, (2, 31, 17, 3), dtype=np.uint8)).shape == (2, len(LABELS))


def test_the_saved_model_predicts_the_same_where_tuner_is_not_installed(run, photos, tmp_path, capsys) -> None:
    script = tmp_path / "use.py"
    script.write_text(
        "import sys, keras, numpy as np\n"
        "from PIL import Image\n"
        "assert not any(name == 'tuner' or name.startswith('tuner.') for name in sys.modules)\n"
        "image = np.asarray(Image.open(sys.argv[2]).convert('RGB'))[None]\n"
        "print(repr(float(keras.models.load_model(sys.argv[1]).predict(image, verbose=0).max())))\n"
    )
    command = [sys.executable, "-I", str(script), str(run.best_model), str(photos / "a.png")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert main([str(run.path), str(photos / "a.png"), "--format", "json"]) == 0
    ours = json.loads(capsys.readouterr().out)[0]["labels"][0]["probability"]
    assert float(done.stdout.strip().splitlines()[-1]) == pytest.approx(ours, abs=1e-6)


@pytest.mark.full
@pytest.mark.parametrize(
    "arguments",
    [
        "tuner.export RUN --litert best.tflite --saved-model best --tensorboard tb --csv t.csv",
        "tuner.predict RUN a.png",
    ],
)
def test_what_libraries_say_is_in_the_log_of_the_run_and_not_on_the_console(arguments, run, photos) -> None:
    words = [str(run.path) if word == "RUN" else word for word in arguments.split()]
    done = subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True, check=False, cwd=photos)
    assert (done.returncode, done.stderr) == (0, "")
    assert not re.search(r"(?i)warning|experimental|cuda|assets|INFO|\bat 0x", done.stdout)
    assert not run.log.exists()  # what only reads a run adds no file to it


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys, tuner.predict\n"
        "try: tuner.predict.main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'keras', 'tensorflow', 'numpy', 'rich', 'PIL', 'ray'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--imagenet" in done.stdout


# --- what is kept of the test predictions ---


def test_probabilities_of_a_split_are_those_of_its_images_in_order(small_digits) -> None:
    class Echo:
        def predict_on_batch(self, images: np.ndarray) -> np.ndarray:
            return images.reshape(len(images), -1)[:, :10].astype("float32")

    split = small_digits.validation
    found = predict_probabilities(Echo(), split, batch_size=7)
    np.testing.assert_array_equal(found, split.batch(np.arange(len(split)))[0].reshape(len(split), -1)[:, :10])


def test_the_loss_is_that_of_keras() -> None:
    generator = np.random.default_rng(0)
    raw = generator.random((20, 5)).astype(np.float32)
    probabilities = raw / raw.sum(axis=1, keepdims=True)
    labels = generator.integers(0, 5, 20)
    theirs = keras.losses.SparseCategoricalCrossentropy()(labels, probabilities)
    assert measure(["loss"], labels, probabilities)["loss"] == pytest.approx(float(theirs), rel=1e-5)


def test_the_most_confident_mistakes_are_shown_first_and_no_image_twice() -> None:
    probabilities = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.45, 0.55]], dtype=np.float32)
    labels = np.array([1, 1, 1, 0])
    rows = choose_shown(labels, probabilities, number=2)
    assert rows.tolist()[:2] == [0, 1] and sorted(rows.tolist()) == [0, 1, 2, 3]


def test_predictions_are_kept_for_the_report_and_what_is_damaged_is_left_out(small_digits, tmp_path) -> None:
    split = small_digits.validation
    raw = np.random.default_rng(0).random((len(split), 10)).astype(np.float32)
    path = tmp_path / "predictions.npz"
    save_predictions(path, (3, 1), raw, split)
    found = load_predictions(path)
    assert found is not None
    np.testing.assert_array_equal(found.classes[:, 0], raw.argmax(axis=1))
    np.testing.assert_array_equal(found.images, split.batch(found.rows)[0])
    assert found.of.tolist() == [3, 1]
    assert found.classes.shape == (len(split), 5)
    path.write_bytes(path.read_bytes()[:100])
    assert load_predictions(path) is None and load_predictions(tmp_path / "none") is None
