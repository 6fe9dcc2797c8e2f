"""The error tree, and how every command ends."""

from __future__ import annotations

import re

import pytest

from tuner.common import errors
from tuner.common.command_line import run_command
from tuner.common.errors import InputError, Problem, SpecError, TunerError, first_line, last_line, printable

CLASSES = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, TunerError)]


def test_the_tree_in_the_docstring_is_the_tree():
    drawn = set(re.findall(r"^[├└─│ ]*(\w+Error)\b", errors.__doc__, re.MULTILINE))
    assert drawn == {cls.__name__ for cls in CLASSES}


@pytest.mark.parametrize("cls", CLASSES)
def test_wrong_input_ends_with_2_and_what_tuner_cannot_do_with_1(cls):
    assert cls.exit_status == (2 if issubclass(cls, InputError) else 1)


def test_a_command_ends_with_the_status_of_its_action_or_of_its_error(capsys):
    def fail(error: BaseException):
        def action() -> int:
            raise error

        return action

    assert run_command(lambda: 7) == 7
    assert run_command(fail(InputError("the file must be there; got none"))) == 2
    assert run_command(fail(TunerError("no space left"))) == 1
    assert run_command(fail(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "the file must be there; got none\nno space left\ninterrupted\n"


def test_a_name_in_a_message_is_written_out_where_a_terminal_would_obey_it(capsys):
    evil = "\x1b]0;owned\x07\u202egpj\u2028\udcff\nall is well: tab\there"

    def action() -> int:
        raise InputError(f"{evil} must be a file")

    assert run_command(action) == 2
    shown = r"\x1b]0;owned\x07\u202egpj\u2028\udcff\nall is well: tab\there must be a file"
    assert capsys.readouterr().err == shown + "\n"
    error = SpecError("a\x1b[2J", [Problem(evil, "must be 1", 3), Problem("b", "must be 2", 4)])
    assert len(error.lines()) == 2 and all(line.isprintable() for line in error.lines())
    assert printable("été 🐟 = ×") == "été 🐟 = ×"


def test_what_is_not_deliberate_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        run_command(lambda: 1 // 0)


def test_of_a_library_s_message_its_first_or_last_line_is_told_and_never_nothing():
    error = ValueError("it failed\nTraceback\nKeyError: x\n")
    assert (first_line(error), last_line(error)) == ("it failed", "KeyError: x")
    assert first_line(ValueError()) == last_line(ValueError()) == "ValueError"
    assert len(last_line(ValueError("x" * 999))) == 300


def test_problems_are_told_in_the_order_of_their_lines():
    error = SpecError(
        "f", [Problem("b", "must be 1", 3), Problem("a", "must be 2", 3), Problem("c", "unknown x", None)]
    )
    assert str(error) == "f: c: unknown x\nf:3: a must be 2\nf:3: b must be 1"
    assert [problem.field for problem in error.problems] == ["c", "a", "b"]
