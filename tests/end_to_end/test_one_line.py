"""`python -m tuner.search SOURCE`: from images alone to a file, a report and a model, within the time."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from tests.support import ROOT
from tests.support.drawn_photos import drawn_photos
from tuner.runs.record import read_state

pytestmark = [pytest.mark.full, pytest.mark.xdist_group("ray")]


def run(place: Path, *words: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TUNER_CACHE": str(place / "cache"), "TUNER_DATA": "",
                   "KERAS_HOME": str(place / "no weights")}  # fmt: skip
    command = [sys.executable, "-m", *words]
    ended = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_one_line_ends_with_a_report_and_a_model_within_the_time(tmp_path: Path) -> None:
    for place, name in enumerate(("left", "right")):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for row, image in enumerate(drawn_photos(40, 24, 3, place)):
            Image.fromarray(image).save(tmp_path / "photos" / name / f"{row}.png")
    launched, began = time.time(), time.monotonic()
    text = run(tmp_path, "tuner.search", "photos", "--time", "2m", "--set", "search.trials=3")
    assert time.monotonic() - began <= 130
    assert "photos.yaml says so" in text and "missing" in text, "there are no weights"
    assert (tmp_path / "runs" / "photos" / "best.keras").is_file()
    assert (tmp_path / "reports" / "photos" / "index.html").is_file()
    state = read_state(tmp_path / "runs" / "photos" / "record.jsonl")
    assert state.study is not None and state.study.specification["search"]["time_budget"] == 120
    assert abs(state.study.time - state.study.elapsed_s - launched) < 5, "the time is counted from the launch"
    written = (tmp_path / "photos.yaml").read_text()
    assert "--fresh" not in run(tmp_path, "tuner.search", "photos.yaml", "--resume", "--set", "search.trials=3")
    assert "trial 0" in run(tmp_path, "tuner.search", "folder:photos", "--plan")
    assert (tmp_path / "photos.yaml").read_text() == written and (tmp_path / "photos-2.yaml").is_file()
