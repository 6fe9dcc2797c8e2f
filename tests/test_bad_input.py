"""Whatever is wrong ends in one clear message and exit status 2, and nothing is written."""

from __future__ import annotations

import pytest
from bad_input import Case, refuse
from wrong_texts import TEXTS

CORPUS: dict[str, dict[str, Case]] = {"search-space files": TEXTS}
try:
    from wrong_commands import COMMANDS

    CORPUS["command lines"] = COMMANDS
except ImportError:
    pass
try:
    from wrong_data import DATA

    CORPUS["data"] = DATA
except ImportError:
    pass
try:
    from wrong_runs import RUNS

    CORPUS["runs"] = RUNS
except ImportError:
    pass
ALL = {f"{kind}: {name}": case for kind, cases in CORPUS.items() for name, case in cases.items()}


@pytest.mark.parametrize("name", ALL)
def test_bad_input_is_refused(name, tmp_path, monkeypatch, capfd) -> None:
    refuse(ALL[name], tmp_path, monkeypatch, capfd)
