"""Whatever is wrong ends in one clear message and exit status 2, and nothing is written elsewhere.

The corpus: `wrong_files` and `wrong_texts` (search-space files), `wrong_data`, `wrong_commands`, `wrong_runs`. A new
case is one entry there.
"""

from __future__ import annotations

import pytest

from tests.support.bad_input import Case, changed, check_message, refuse, snapshot
from tests.support.wrong_commands import COMMANDS
from tests.support.wrong_data import DATA
from tests.support.wrong_runs import RUNS
from tests.support.wrong_texts import TEXTS

KINDS: dict[str, dict[str, Case]] = {"file": TEXTS, "data": DATA, "command": COMMANDS, "run": RUNS}
CASES = {f"{kind}: {name}": case for kind, cases in KINDS.items() for name, case in cases.items()}


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_refused(name, tmp_path, monkeypatch, capfd) -> None:
    refuse(CASES[name], tmp_path, monkeypatch, capfd)


def test_the_corpus_is_large_and_every_case_says_what_the_message_must() -> None:
    assert len(CASES) >= 400 and all(len(cases) >= 50 for cases in KINDS.values())
    assert all(any(words) for words in (case.words for case in CASES.values())), "no case is without words"
    commands = {case.command.split()[0] for case in CASES.values()}
    assert commands == {"search", "report", "predict", "export", "cache", "submit", "data", "new"}
    assert all(any(case.is_real for case in cases.values()) for cases in KINDS.values())


def test_what_is_accepted_or_written_elsewhere_is_found(tmp_path, monkeypatch, capfd) -> None:
    with pytest.raises(AssertionError, match="the status must be 2; got 0"):
        refuse(Case("search right.yaml --plan", ("",)), tmp_path, monkeypatch, capfd)
    before = snapshot(tmp_path)
    (tmp_path / "work" / "more").write_text("x")
    (tmp_path / "home").rmdir()
    (tmp_path / "work" / "right.yaml").write_text("x")
    (tmp_path / "work" / "link").symlink_to("/")
    found = [str(path.relative_to(tmp_path)) for path in changed(before, snapshot(tmp_path))]
    assert found == ["home", "work/link", "work/more", "work/right.yaml"]


@pytest.mark.parametrize(
    "error",
    [
        "Traceback (most recent call last):\n",
        "one\ntwo\n",
        "without an end",
        "red \x1b[31m\n",
        "\u202eturned around\n",
        "of something else\n",
        "x" * 3000 + "\n",
        "usage: x\npython -m tuner.report: error: words\n",
    ],
)
def test_a_message_that_is_not_one_clear_line_is_found(error) -> None:
    case = Case("search right.yaml", ("words",))
    check_message(case, "words\n", "")
    with pytest.raises(AssertionError):
        check_message(case, error, "")
