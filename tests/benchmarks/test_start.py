"""The benchmark of the first epoch: what is taken from the traces of processes, and how it is told."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.start.__main__ import Stage, Start, draw, line_with, merged, render, stages


def write_trace(folder: Path, process: int, *lines: tuple[str, float, float]) -> None:
    told = [{"name": name, "began": began, "ended": ended, "cpu": 0.5} for name, began, ended in lines]
    (folder / f"{process}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in told))


def test_stages_are_those_of_the_driver_and_of_workers_until_the_first_epoch(tmp_path: Path) -> None:
    write_trace(tmp_path, 7, ("process", 100.0, 100.0), ("Ray's start", 101.0, 103.0))
    write_trace(tmp_path, 9, ("import of Keras", 103.0, 106.0), ("epoch", 107.0, 109.0), ("epoch", 109.5, 111.0))
    write_trace(tmp_path, 8, ("import of Ray", 101.0, 102.0))
    (tmp_path / "epochs.jsonl").write_text("{}\n")
    assert stages(tmp_path, 7, 100.0, 108.0) == (
        Stage("driver", "Ray's start", 1.0, 3.0, 0.5),
        Stage("worker 1", "import of Keras", 3.0, 6.0, 0.5),
        Stage("worker 1", "epoch", 7.0, 8.0, 0.5),
    )


def test_a_stage_in_pieces_is_told_as_one() -> None:
    pieces = [Stage("worker 1", "activations", 1.0, 2.0, 0.5), Stage("worker 1", "activations", 2.5, 4.0, 1.0)]
    other = Stage("worker 2", "activations", 5.0, 6.0, 1.0)
    assert merged([*pieces, other]) == [Stage("worker 1", "activations", 1.0, 4.0, 1.5), other]


def test_an_epoch_counts_when_its_line_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "record.jsonl"
    assert line_with(path, '"epoch"') is None
    path.write_text('{"event":"session"}\n{"event":"epoch"}')
    assert line_with(path, '"epoch"') is None
    path.write_text('{"event":"session"}\n{"event":"epoch"}\n')
    assert line_with(path, '"epoch"') == '{"event":"epoch"}\n'


def test_the_table_has_the_ratio_to_the_bare_loop_and_the_picture_a_panel_for_each_launch(tmp_path: Path) -> None:
    of_search = (Stage("driver", "Ray's start", 1.0, 3.0, 0.5), Stage("worker 1", "import of Keras", 3.0, 6.0, 2.0))
    found = {"cold, arrays": [Start(12.0, of_search), Start(14.0, ())], "bare, cold, arrays": [Start(8.0, ())] * 2}
    text = render(found)
    assert "| cold, arrays | 13.0 | 8.0 | 1.62 |" in text
    assert "| worker 1 | import of Keras | 3.00 | 6.00 | 2.00 |" in text
    draw(found, tmp_path / "start.png")
    assert (tmp_path / "start.png").stat().st_size > 1000
