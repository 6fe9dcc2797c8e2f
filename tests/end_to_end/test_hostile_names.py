"""Names that others have chosen (classes, files, runs) stay names: in pages, tables, terminals and on the disk."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest

from tests.reports.test_page import EVIL, Parsed
from tests.support.make_data import load, picture, write_parquet
from tests.support.make_record import (
    epoch,
    make_events,
    small_state,
    study_created,
    trial_ended,
    trial_started,
    write_record,
)
from tuner import cache, report
from tuner.api.classifier import Prediction
from tuner.common.files import shown
from tuner.predict import print_predictions
from tuner.reports.console import SearchConsole
from tuner.reports.exports import latex_text, save_csv
from tuner.reports.formatting import safe_cell
from tuner.reports.results import build_results
from tuner.reports.writer import write_report
from tuner.runs.directory import RunDirectory
from tuner.runs.predictions import Predictions, Variant, save_variants

TERMINAL = "\x1b[31mred\x07\u202e"
FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "＝1", "＋1", "－1", "＠1"]
RUN_NAMES = [EVIL.replace("/", ""), "=cmd()", "a\nb", TERMINAL, "javascript:alert(1)", "--all", "$(id)", "été 🐟"]


def shown_predictions() -> Predictions:
    """Two test images of two classes, one of them wrong."""
    return Predictions(
        of=np.array([0, 0]),
        labels=np.array([0, 1]),
        classes=np.array([[0, 1], [0, 1]]),
        probabilities=np.array([[0.9, 0.1], [0.8, 0.2]], np.float32),
        rows=np.array([0, 1]),
        images=np.zeros((2, 8, 8, 3), np.uint8),
    )


def test_names_of_classes_data_and_variants_are_text_in_the_page(tmp_path) -> None:
    run = RunDirectory(tmp_path / "run")
    run.path.mkdir()
    np.savez(run.predictions, **shown_predictions()._asdict())
    save_variants(run.variants, [Variant(EVIL, np.zeros((1, 8, 8, 3), np.uint8))])
    data = {
        "name": EVIL,
        "source": f"folder:/home/{EVIL}",
        "class_names": [EVIL, "dog"],
        "image_shape": [EVIL],
        "fingerprint": EVIL,
    }
    state = small_state(
        trial_started(0), epoch(0, 1, 0.5), trial_ended(0), data=data, environment={"packages": {EVIL: EVIL}}
    )
    state.notices.append(EVIL)
    paths = write_report(state, tmp_path / "report", EVIL, ("png", "svg"), run)
    parsed = Parsed(paths.page.read_text(encoding="utf-8"))
    assert not parsed.open and len(parsed.all("script")) == 2
    attributes = {name for _, found in parsed.elements for name in found}
    assert not any(name.startswith("on") for name in attributes)
    assert any(EVIL[:20] in str(image["alt"]) for image in parsed.all("img")), "classes are named"
    for figure in paths.figures:
        if figure.suffix == ".svg":
            assert "<script" not in figure.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", RUN_NAMES)
def test_a_run_of_any_name_is_reported_and_compared(name, tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    write_record(tmp_path / "runs" / name / "record.jsonl", make_events(3))
    write_record(tmp_path / "runs" / "other" / "record.jsonl", make_events(3, seed=1))
    (tmp_path / "reports" / name).mkdir(parents=True)
    (tmp_path / "reports" / name / "index.html").write_text("")  # that it links to
    assert report.main([f"runs/{name}", "runs/other", "--format", "svg"]) == 0
    assert report.main(["--all"]) == 0
    assert all(line.isprintable() for line in capsys.readouterr().out.splitlines())
    for page, scripts in (("comparison/index.html", 2), ("index.html", 0)):  # of the table that answers
        parsed = Parsed((tmp_path / "reports" / page).read_text(encoding="utf-8"))
        assert not parsed.open and len(parsed.all("script")) == scripts
        links = [str(link["href"]) for link in parsed.all("a")]
        assert not any(link.lower().startswith("javascript:") for link in links)
        assert not any(attribute.startswith("on") for _, found in parsed.elements for attribute in found)


@pytest.mark.parametrize("text", FORMULAS)
def test_a_cell_that_would_be_a_formula_is_text_in_every_csv(text, tmp_path, capsys) -> None:
    assert safe_cell(text) == f"'{text}"
    state = small_state(
        trial_started(0, {"architecture": text, text: text}), epoch(0, 1, 0.5), trial_ended(0, "failed", text)
    )
    file = save_csv(build_results(state), tmp_path / "trials.csv")
    with file.open(encoding="utf-8", newline="") as lines:
        cells = [cell for row in csv.reader(lines) for cell in row]
    assert f"'{text}" in cells and text not in cells
    print_predictions(iter([Prediction(text, ((text, 0.5),))]), "csv")
    lines = capsys.readouterr().out.splitlines()
    (_, (path, _, label, _)) = csv.reader(lines)
    assert path == label and path[0] in "'\\" and path.endswith(text[1:]), "the sign is behind another one"


def test_numbers_are_no_formulas_and_plain_names_stay_as_they_are() -> None:
    assert [safe_cell(text) for text in ("cat", "a=b", "1-2", "", "é")] == ["cat", "a=b", "1-2", "", "é"]


def test_every_sign_of_latex_is_written_out_and_no_name_ends_a_line_of_the_table() -> None:
    assert latex_text(r"\input{/etc/passwd}") == r"\textbackslash{}input\{/etc/passwd\}"
    assert latex_text("50% & $x_1^2$ #1 ~ <|>") == (
        r"50\% \& \$x\_1\textasciicircum{}2\$ \#1 \textasciitilde{} \textless{}\textbar{}\textgreater{}"
    )
    assert latex_text("a\n\nb\tc\rd") == "a  b c d"


def test_a_terminal_obeys_no_name_of_a_class_or_file(tmp_path, capsys) -> None:
    print_predictions(iter([Prediction(shown(Path(f"{TERMINAL}\udcff.png")), ((TERMINAL, 0.5),))]), "table")
    SearchConsole().say(f"skipped 1 broken image: {TERMINAL}")
    for name in (TERMINAL, "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for number in range(6):
            picture(number).save(tmp_path / "pets" / name / f"{number}.png")
    load(f"folder:{tmp_path / 'pets'}", tmp_path / "cache")
    assert cache.main(["--cache", str(tmp_path / "cache")]) == 0
    out = capsys.readouterr().out
    assert out.count(r"\x1b[31mred\x07\u202e") == 4
    assert all(line.isprintable() for line in out.splitlines())


def test_a_file_whose_name_is_no_text_is_predicted_in_every_format(capfd) -> None:
    for form in ("csv", "json", "table"):
        print_predictions(iter([Prediction(shown(Path(os.fsdecode(b"\xff.png"))), (("cat", 0.5),))]), form)
        out = capfd.readouterr().out
        assert (json.loads(out)[0]["image"] if form == "json" else out).count(r"\xff.png") == 1


def test_names_of_classes_that_look_like_paths_lead_nowhere(tmp_path) -> None:
    (tmp_path / "hub").mkdir()
    write_parquet(tmp_path / "hub" / "train.parquet", 20, ("../../up", "/etc/passwd"))
    dataset, _ = load(f"parquet:{tmp_path / 'hub'}", tmp_path / "cache")
    assert dataset.class_names == ("../../up", "/etc/passwd")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "hub"]


def test_a_run_that_is_named_by_dots_has_the_name_of_its_folder(tmp_path, monkeypatch) -> None:
    write_record(tmp_path / "runs" / "small" / "record.jsonl", [study_created()])
    monkeypatch.chdir(tmp_path / "runs" / "small")
    assert RunDirectory(Path()).name == RunDirectory(Path("../small/.")).name == "small"
    monkeypatch.chdir(tmp_path / "runs")
    assert RunDirectory(Path("small/../small")).name == "small"
