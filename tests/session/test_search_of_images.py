"""A search of images without a file: what its command line says is what one with a file says."""

from __future__ import annotations

import pytest

from tests.support.make_search import write_file
from tuner.common.errors import InputError
from tuner.search import main
from tuner.session.commands import time_for_all
from tuner.session.options import parse_search_options


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        ([], 1800),
        (["--time", "5m"], 300),
        (["--time", "none"], None),
        (["--time", "Off"], None),
        (["--set", "search.time_budget=20m"], 1200),
        (["--set", "search.time_budget=90"], 90),
        (["--set", 'search.time_budget="1h30m"'], 5400),
        (["--set", "search.time_budget=none"], None),
        (["--set", "search.time_budget=3m", "--set", "search.time_budget=4m"], 240),
    ],
)
def test_the_time_of_a_search_of_images_is_read_as_that_of_one_with_a_file(words, seconds) -> None:
    assert time_for_all(parse_search_options(["folder:photos", *words])) == seconds


def test_what_is_no_time_for_a_search_of_images_is_told_with_its_setting() -> None:
    words = "folder:photos: search.time_budget must be a time such as 90s, 20m, 2h or 1h30m, or none; got 'soon'"
    with pytest.raises(InputError, match=words):
        time_for_all(parse_search_options(["folder:photos", "--set", "search.time_budget=soon"]))


def test_no_time_on_the_command_line_takes_away_the_time_budget_of_a_file(tmp_path, capsys) -> None:
    file = write_file(tmp_path)
    file.write_text(file.read_text().replace("search: {", "search: {time_budget: 7m, "))
    words = [str(file), "--plan", "--cache", str(tmp_path / "cache")]
    assert main(words) == 0 and "time budget 7 min" in capsys.readouterr().out
    assert main([*words, "--time", "none"]) == 0
    assert "time budget none" in capsys.readouterr().out
