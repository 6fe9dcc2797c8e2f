"""A small model trained on photographs, and its exported file fed the same photographs as they were taken."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.needs import staged_images
from tuner.datasets.images import decode_image, read_header
from tuner.models.export import load_model
from tuner.runs.directory import open_run
from tuner.search import main

SPACE = """\
study: seen
data: {source: flowers, image_px: 64}
space:
  preprocess: "scale(0,1)"
  batch_size: 32
  learning_rate: 0.002
  architecture: {choose: {cnn: {blocks: 3, filters: 16}}}
training: {max_epochs: 5}
search: {trials: 1, scheduler: none, sampler: random}
finalists: none
"""


@pytest.mark.full
def test_the_exported_file_fed_raw_photographs_agrees_with_the_training(tmp_path, monkeypatch) -> None:
    place = Path(staged_images("flowers")["flowers"].partition(":")[2])
    monkeypatch.chdir(tmp_path)
    Path("seen.yaml").write_text(SPACE)
    assert main(["seen.yaml", "--data", f"flowers=folder:{place}"]) == 0
    photos = [path for path in sorted(place.rglob("*.jpg")) if (h := read_header(path)).height != h.width][::3][:200]
    model = load_model(open_run(Path("runs/seen")).best_model)
    trained = model.predict_on_batch(np.stack([decode_image(path, (64, 64), grey=False) for path in photos]))
    # Called, not compiled: of images that differ in size, each would be compiled for.
    raw = np.concatenate([model(decode_image(path, None, grey=False)[None], training=False) for path in photos])
    labels = trained.argmax(axis=1)
    assert (raw.argmax(axis=1) == labels).mean() >= 0.99
    rows = np.arange(len(photos))
    assert np.median(np.abs(raw[rows, labels] - trained[rows, labels])) <= 0.02
