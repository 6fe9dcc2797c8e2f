"""The commands of README.md and docs/, run as they stand there, in a folder with small data and small searches.

`search_spaces/` has the files of the same names, cut down to some trials of some epochs; data are made up. All commands
look at one search of the digits, which is stopped and resumed as the pages say.
"""

from __future__ import annotations

import importlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.support import ROOT
from tests.support.documents import FOR_USERS, Block, blocks, shell_commands
from tests.support.make_data import make_folder, picture, write_parquet
from tuner.runs.record import read_state

MOVED = "python -m tuner.search --resume copy/of/flowers --data folder:data/flowers=/mnt/flowers"
EXPORT = "python -m tuner.export runs/digits --csv trials.csv --latex trials.tex --optuna sqlite:///studies.db"
DIGITS = "python -m tuner.search search_spaces/digits.yaml"
CIFAR = "python -m tuner.search search_spaces/cifar100.yaml"
IN_THE_FIXTURE = {
    DIGITS: ("runs/digits/record.jsonl",),
    f"{DIGITS} --resume": ("runs/digits/best.keras", "reports/digits/index.html"),
}
RUN: dict[str, tuple[str, ...]] = {
    **IN_THE_FIXTURE,
    f"{CIFAR} --plan": ("mobilenet_v2", "baseline"),
    f"{CIFAR} --inline": ("val_accuracy",),
    "python -m tuner.new folder:data/flowers": ("80 images of 2 classes", "says so, with a comment for each choice"),
    "python -m tuner.data folder:data/flowers": ("80 images of 2 classes",),
    "python -m tuner.data search_spaces/digits.yaml": ("1,797 images of 10 classes",),
    "python -m tuner.data folder:data/flowers --page flowers.html": ("flowers.html",),
    "python -m tuner.data folder:data/flowers --json": ('"oblong_share": 0.0',),
    f"{DIGITS} --plan --set search.trials=8 --set search.time_budget=20m": ("8, time budget 20 min",),
    f"{CIFAR} --data cifar100=parquet:/data/cifar100": ("reports/cifar100/index.html", "runs/cifar100/best.keras"),
    f"TUNER_DATA=/data {CIFAR}": ("2 classes: a 30, b 30", "prior: first comes what was best in"),
    "python -m tuner.search --resume runs/digits --set search.time_budget=1h": ("runs/digits/best.keras",),
    MOVED: ("copy/of/flowers/best.keras",),
    f"{DIGITS} --fresh": ("model: runs/digits-",),
    f"{DIGITS} --no-finalists": ("model: runs/digits-",),
    f"{DIGITS} --tensorboard tb": ("shown by tensorboard",),
    f"{CIFAR} --warm-start cifar10 runs/fashion_mnist-2": ("warm start: cifar10 on digits",),
    f"{CIFAR} --set search.prior=none": ("prior           none",),
    "python -m tuner.search --retrain runs/digits 2": ("trial 2",),
    "python -m tuner.report runs/digits": ("reports/digits/trials.parquet", "reports/digits/figures/best_so_far.svg"),
    "python -m tuner.report runs/first runs/second": ("reports/comparison/index.html",),
    "python -m tuner.report --all": ("reports/index.html",),
    "duckdb -c": ("digits",),
    "python -c": ("test_accuracy",),
    "python -m tuner.predict runs/digits picture.png photos/": ("picture.png", "%"),
    "python -m tuner.predict runs/digits photos/ --format csv --top 1": ("image,place,label,probability",),
    "python -m tuner.predict runs/digits csv:images.csv": ("photos", "%"),
    f"{EXPORT} --tensorboard tb": ("trials.csv", "trials.tex", "studies.db", "tb/digits/trial-00000"),
    "python -m tuner.export runs/digits --saved-model best --litert best.tflite": ("best", "best.tflite"),
    "python -m tuner.export runs/digits --study digits.json": ("digits.json",),
    f"{CIFAR} --warm-start digits.json": ("warm start: digits on 240 images of 10 classes",),
    "python -m tuner.cache": ("prepared data set",),
    "python -m tuner.cache verify": ("damaged: nothing",),
    "python -m tuner.cache clear --unused-days 30": ("removed in all",),
    "python -m tuner.cache clear --brought": ("removed in all",),
    "python -m tuner.cache clear": ("removed in all",),
}  # fmt: skip
"""The commands in the order in which they are run, and what each leaves: files, or words of what it prints."""
NOT_RUN = {
    r"make (?:search|check)$": "what CI runs; the search is run below without make",
    r"python3 -m venv|\.venv/bin/python -m pip": "they need a package index; a test compares them with the Makefile",
    r"\.venv/bin/python -m tuner\.search search_spaces/digits\.yaml$": "run below, in this environment",
    r"python -m tuner\.selftest ": "tests/contracts/test_planted_mistakes.py, tests/commands/test_selftest.py",
    r"python -m tuner\.predict --imagenet": "needs labels from the internet; tests/commands/test_predict.py",
    r"python -m tuner\.search folder:": "takes the time that it is given; tests/end_to_end/test_one_line.py",
    r"python -m tuner\.search .* --plugin own_nets\.py": "needs a file of one's own; the one on the page is run below",
    r".* --plan --probe$": "tests/training/test_probes.py",
    r".* --dashboard": "tests/end_to_end/test_monitoring_run.py",
    r".* --address auto --storage ": "needs a cluster; tests/end_to_end/test_elastic.py, test_mirror.py",
    r"python -m tuner\.(?:search --resume|report) s3://": "needs a bucket; tests/runs/test_mirror.py",
    r"python -m tuner\.submit ": "needs a cluster; tests/end_to_end/test_submit.py",
    r"ray dashboard ": "needs a cluster; tests/end_to_end/test_lab.py",
    r"python -m tuner\.\w+ .* --(?:mlflow|tracker) ": "needs a server, or a package; tests/end_to_end/test_trackers.py",
    r"python -m tuner\.\w+ .*--plugin own_loop\.py": "tests/end_to_end/test_trainable.py",
    r"TUNER_LOGICAL_GPUS=2 ": "tests/training/test_several_devices.py",
    r"data/flowers/": "no command, but how a folder looks",
}
"""Patterns of commands that are parsed only, and why; tests/house/test_documents.py parses them all."""

SMALL = {
    "digits": (
        *("search.trials=3", "search.max_concurrent=1", "training.max_epochs=2", "finalists.count=1"),
        *("finalists.seeds=1", "data.max_train_images=240", "data.max_validation_images=80"),
    ),
    "cifar100": (
        *("search.trials=1", "training.max_epochs=2", "finalists.count=1", "finalists.seeds=1"),
        "baseline={preprocess: 'resize(64)|scale(-1,1)', augment: none, batch_size: 32, learning_rate: 0.001, "
        "dropout: 0.2, architecture: cnn, blocks: 2, filters: 32, dense_units: 128}",
        *(f"space.architecture.choose.mobilenet_{name}.weights=none" for name in ("v2", "v3_small", "v3_large")),
    ),
    "flowers": (
        *("search.trials=1", "training.max_epochs=2", "training.head_epochs=1", "finalists.count=1"),
        *("finalists.seeds=1", "space.preprocess=scale(-1,1)", "data.image_px=32"),
        "space.architecture={choose: {cnn: {blocks: 2, filters: {choice: [8, 16]}}}}",
        "baseline={preprocess: 'scale(-1,1)', augment: none, batch_size: 32, learning_rate: 0.001, dropout: 0.2, "
        "architecture: cnn, blocks: 2, filters: 8}",
    ),
}
"""What makes the files small; ImageNet's weights are not at hand everywhere."""
ONE_TRIAL = ("--set", "search.trials=1", "--no-finalists")
"""Searches of which the pages say something that every one shows."""
MORE_ARGUMENTS = {
    f"{CIFAR} --inline": ("--data", "cifar100=parquet:data/cifar100"),
    f"{CIFAR} --warm-start cifar10 runs/fashion_mnist-2": ("--plan",),
    f"{CIFAR} --warm-start digits.json": ("--plan",),
    f"{CIFAR} --set search.prior=none": ("--plan",),
    f"TUNER_DATA=/data {CIFAR}": ("--plan",),
    f"{DIGITS} --fresh": ONE_TRIAL,
    f"{DIGITS} --no-finalists": ONE_TRIAL[:2],
    f"{DIGITS} --tensorboard tb": ONE_TRIAL,
    MOVED: ("--set", "search.trials=2"),
}
RUN_HERE = ("tuner.search", "tuner.new", "tuner.data", "tuner.report", "tuner.predict", "tuner.export", "tuner.cache")
"""Commands that are called in this process: it has loaded the libraries that each would load for itself, and has a Ray.
That each is a program, too, is seen in tests/end_to_end/test_bad_input.py; that a search is, in the fixtures here."""
COPIES = {
    "python -m tuner.report runs/first runs/second": ("runs/first", "runs/second"),
    f"{CIFAR} --warm-start cifar10 runs/fashion_mnist-2": ("runs/cifar10", "runs/fashion_mnist-2"),
}
"""Copies of the run of the digits that a command expects."""
pytestmark = [pytest.mark.full, pytest.mark.xdist_group("ray")]


def run_key(text: str) -> str | None:
    """The key of RUN that stands for a command; long ones are known by how they begin."""
    return text if text in RUN else next((key for key in ("duckdb -c", "python -c") if text.startswith(key)), None)


def why_not_run(text: str) -> str | None:
    """The pattern in NOT_RUN that a command fits."""
    return next((pattern for pattern in NOT_RUN if re.match(pattern, text)), None)


def words_of(key: str) -> tuple[str, ...]:
    """The words of the command on the pages that `key` stands for."""
    shown = [command for document in FOR_USERS for command in shell_commands(document)]
    return next(command.words for command in shown if run_key(command.text) == key)


def placed(folder: Path, words: Sequence[str]) -> tuple[dict[str, str], list[str]]:
    """Return what a command adds to the environment, and its words; the folder's data and mnt stand for /data, /mnt."""
    here = [re.sub(r"(?<=[=:])/(data|mnt)\b", rf"{folder}/\1", word) for word in words]
    added = {"TUNER_CACHE": str(folder / "cache"), "TUNER_DATA": ""}
    while "=" in here[0]:
        added.update([here.pop(0).split("=", 1)])
    return added, here


def start(folder: Path, words: Sequence[str]) -> subprocess.Popen[str]:
    """Start a command of the pages in `folder`."""
    added, here = placed(folder, words)
    environment = {**os.environ, **added}
    if here[0] == "duckdb":
        here[:2] = ["python", "-c", "import duckdb, sys; print(duckdb.sql(sys.argv[1]))"]
    assert here[0] == "python"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen([sys.executable, *here[1:]], cwd=folder, env=environment, text=True, **pipes)


def run(folder: Path, words: Sequence[str]) -> str:
    """Run a command of the pages to its end; returns what it prints."""
    process = start(folder, words)
    output, _ = process.communicate(timeout=600)
    assert process.returncode == 0, output
    return output


def is_run_here(words: Sequence[str]) -> bool:
    """Whether a command is called in this process."""
    return any(word in RUN_HERE for word in words)


def run_here(
    folder: Path, words: Sequence[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> str:
    """Call what a command of the pages calls; returns what it prints."""
    added, (_python, _m, module, *arguments) = placed(folder, words)
    with monkeypatch.context() as patched:
        patched.chdir(folder)
        for name, value in added.items():
            patched.setenv(name, value)
        capfd.readouterr()
        status = importlib.import_module(module).main(arguments)
        output = "".join(capfd.readouterr())
    assert status == 0, output
    return output


def make_small(target: Path, path: Path, *more: str) -> None:
    """Write a search-space file as it is when it has been cut down, and some more settings changed."""
    from tuner.spec.spec import dump_spec, load_spec, require

    target.parent.mkdir(exist_ok=True)
    target.write_text(dump_spec(require(load_spec(path, [*SMALL[target.stem], *more])).resolved()))


def interrupt_after_the_first_epoch(process: subprocess.Popen[str], record: Path) -> str:
    """Stop a search as Ctrl-C does; returns what it printed."""
    deadline = time.monotonic() + 300
    while '"epoch"' not in (record.read_text() if record.exists() else "") and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 130, output
    return output


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the commands expect, and a search of the digits that was stopped and went on."""
    folder = tmp_path_factory.mktemp("pages")
    for name in ("search_spaces/digits.yaml", "search_spaces/cifar100.yaml"):
        make_small(folder / name, ROOT / name)
    example = next(block.text for block in blocks(ROOT / "README.md") if block.language == "yaml")
    (folder / "flowers_in_full.yaml").write_text(example)
    make_small(folder / "flowers.yaml", folder / "flowers_in_full.yaml")
    make_folder(folder / "data" / "flowers", {"daisy": 40, "tulip": 40})
    (folder / "data" / "cifar100").mkdir()
    write_parquet(folder / "data" / "cifar100" / "train.parquet", 60)
    make_folder(folder, {"photos": 3})
    picture(200).save(folder / "picture.png")
    photos = sorted(path.relative_to(folder) for path in (folder / "photos").rglob("*.png"))
    (folder / "images.csv").write_text("\n".join(["path", *map(str, photos)]) + "\n")
    check_ctrl_c(folder)
    run(folder, words_of(f"{DIGITS} --resume"))
    return folder


def check_ctrl_c(folder: Path) -> None:
    """Begin the search of the digits, which Ctrl-C ends gracefully: it says how to go on."""
    record = folder / "runs" / "digits" / "record.jsonl"
    said = interrupt_after_the_first_epoch(start(folder, words_of(DIGITS)), record)
    assert "--resume" in said and "Traceback" not in said
    ended = read_state(record).session_ended
    assert ended is not None and ended.reason == "interrupted"
    assert (folder / "reports" / "digits" / "leaderboard.md").exists()


def copy_digits(folder: Path, target: Path) -> None:
    """Copy the run of the digits, as one of the study that the target is called after, with or without `-2`."""
    shutil.copytree(folder / "runs" / "digits", folder / target)
    record = folder / target / "record.jsonl"
    record.write_text(record.read_text().replace('"study":"digits"', f'"study":"{target.name.removesuffix("-2")}"', 1))


@pytest.fixture(scope="module")
def moved_flowers(workplace: Path) -> None:
    """A finished search of the flowers, whose run and data are elsewhere now."""
    run(workplace, ["python", "-m", "tuner.search", "flowers.yaml"])
    (workplace / "copy" / "of").mkdir(parents=True)
    shutil.move(workplace / "runs" / "flowers", workplace / "copy" / "of" / "flowers")
    (workplace / "mnt").mkdir()
    shutil.move(workplace / "data" / "flowers", workplace / "mnt" / "flowers")


@pytest.mark.parametrize("key", RUN)
def test_a_command_of_the_pages_does_what_they_say(
    key: str,
    workplace: Path,
    local_ray_session: None,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    if key == MOVED:
        request.getfixturevalue("moved_flowers")
    for name in COPIES.get(key, ()):
        copy_digits(workplace, Path(name))
    words = [*words_of(key), *MORE_ARGUMENTS.get(key, ())]
    if key in IN_THE_FIXTURE:
        output = ""
    else:
        output = run_here(workplace, words, monkeypatch, capfd) if is_run_here(words) else run(workplace, words)
    for expected in RUN[key]:
        assert (workplace / expected).exists() or expected in output, f"{expected}\n{output}"


def test_an_archive_of_images_stands_for_a_data_set(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    generator = np.random.default_rng(0)
    arrays = {"x_train": generator.integers(0, 256, (60, 16, 16, 3), np.uint8), "y_train": np.arange(60) % 3}
    np.savez(workplace / "data" / "pictures.npz", **arrays)
    words = [*CIFAR.split(), "--inline", "--data", "cifar100=npz:/data/pictures.npz"]
    assert "3 classes" in run_here(workplace, words, monkeypatch, capfd)


# --- Python ---

PYTHON_RUN = {
    **dict.fromkeys(("python.md", "predict_and_export.md", "own_code.md"), "end_to_end/test_document_commands.py"),
    "trackers.md": "trackers/test_opening.py",
    "trainable.md": "end_to_end/test_trainable.py",
}
"""The pages with Python, and the tests that run it."""


def python_blocks(name: str) -> list[Block]:
    return [block for block in blocks(ROOT / "docs" / name) if block.language == "python"]


def test_a_model_is_loaded_and_asked_without_tuner(workplace: Path) -> None:
    (block,) = python_blocks("predict_and_export.md")
    before = "import numpy as np\nimages = np.zeros((2, 30, 20, 1))\n"
    after = "import sys\nprint(probabilities.shape, len(labels), 'tuner' in sys.modules)"
    assert "(2, 10) 10 False" in run(workplace, ["python", "-c", before + block.text + after])


def test_the_plugin_on_the_page_is_one(workplace: Path) -> None:
    (workplace / "page_nets.py").write_text(python_blocks("own_code.md")[0].text)
    own = "space.architecture={choose: {two_rates: {width: {int: [8, 16]}}}}"
    settings = ["space.preprocess=gamma(2)", "space.augment=dimmed(0.3)", "metric=val_sure_share", "baseline=none"]
    words = [f"--set={one}" for one in (own, *settings)]
    said = run(workplace, [*DIGITS.split(), "--plugin", "page_nets.py", "--inline", *words])
    assert "val_sure_share" in said


def test_the_code_that_is_to_be_added_works_where_it_is_to_be_added(workplace: Path) -> None:
    _, architecture, augmentation = (block.text for block in python_blocks("own_code.md"))
    script = f"""
import keras, numpy as np
from tuner.models import architectures, augmentation
from tuner.models.augment import operations
exec({architecture!r}, vars(architectures))
exec({augmentation!r}, vars(operations))
added = architectures.ARCHITECTURES["two_views"]
print(added.build(added.values_of({{}}), keras.Input((12, 12, 3)), 0).shape)
images, _ = augmentation.parse_augment("flip|darken(0.3)").apply(np.full((5, 8, 8, 3), 200.0), np.eye(5), seed=0)
print(images.dtype, 140 <= images.min() <= images.max() <= 200)
"""
    assert "(None, 32)\nuint8 True" in run(workplace, ["python", "-c", script])


def test_a_page_of_python_is_run_from_its_beginning_to_its_end(workplace: Path, tmp_path: Path) -> None:
    # Its searches are without finalists, which those above have; the run that it looks at has some.
    make_small(tmp_path / "search_spaces" / "digits.yaml", ROOT / "search_spaces" / "digits.yaml", "finalists.count=0")
    for name in ("runs/digits", "photos"):
        shutil.copytree(workplace / name, tmp_path / name)
    shutil.copy(workplace / "picture.png", tmp_path)
    script = "".join(block.text for block in python_blocks("python.md"))
    after = """
try:
    print(search.wait().status)
except tuner.common.errors.TunerError as error:  # it was stopped at once
    print(error)
print(len(table), len(labels), figure.axes[0].get_title(), page)
"""
    output = run(tmp_path, ["python", "-c", f"{script}\n{after}"])
    assert "reports/digits/index.html" in output and re.search("interrupted|stopped before it began", output)


def test_the_notebook_is_run_in_a_kernel_of_its_own(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("TUNER_CACHE", str(workplace / "cache"))
    notebook = nbformat.read(ROOT / "docs" / "python.ipynb", as_version=4)
    assert (ROOT / "docs" / "python.ipynb").stat().st_size < 200_000
    NotebookClient(notebook, timeout=400, resources={"metadata": {"path": str(workplace)}}).execute()
    shown = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    kinds = {kind for output in shown for kind in output.get("data", {})}
    assert {"text/html", "image/png"} <= kinds
    assert not [output for output in shown if output.output_type == "error" or output.get("name") == "stderr"]
