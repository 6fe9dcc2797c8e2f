"""YAML texts as plain values with lines: what is read, what is refused, and that nothing is ever raised."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuner.common.errors import Problem
from tuner.spec._yaml_document import MAX_CHARACTERS, MAX_VALUES, Document, dotted, dump_document, read_document

PLAIN_TEXT = st.text(st.characters(exclude_categories=("Cc", "Cs")), max_size=8)
SCALARS = PLAIN_TEXT | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.booleans()
VALUES = st.recursive(
    SCALARS | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.from_regex(r"\w{1,6}", fullmatch=True), inner),
    max_leaves=8,
)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1e-4", 1e-4),
        ("1.0e-4", 1e-4),
        ("-1E+3", -1000.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("010", 10),
        ("+7", 7),
        ("-0", 0),
        ("0x10", "0x10"),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("no", "no"),
        ("on", "on"),
        ("Yes", "Yes"),
        ("true", True),
        ("FALSE", False),
        ("none", "none"),
        ("null", None),
        ("~", None),
        ("", None),
        ("2026-01-01", "2026-01-01"),
        ("2026-01-01 10:00:00", "2026-01-01 10:00:00"),
        ("'1'", "1"),
        ('"a\\nb"', "a\nb"),
        ("größe", "größe"),
        ("!!str 5", "5"),
        ("!!float 5", 5.0),
    ],
)
def test_scalars_are_those_of_yaml_1_2(written, value):
    document = read_document(f"key: {written}")
    assert document.problems == []
    assert repr(document.values) == repr({"key": value})


@given(st.dictionaries(st.from_regex(r"\w{1,6}", fullmatch=True), VALUES, max_size=4))
def test_what_is_dumped_is_read_again(values):
    document = read_document(dump_document(values))
    assert document.problems == []
    assert repr(document.values) == repr(values)


def test_every_value_has_its_line():
    document = read_document("a: 1\nb:\n  - x\n  - {c: 2,\n     d: 3}\n\n# a comment\ne: 4\n")
    lines = {path: document.line(path) for path in [("a",), ("b",), ("b", 0), ("b", 1, "c"), ("b", 1, "d"), ("e",)]}
    assert lines == {("a",): 1, ("b",): 2, ("b", 0): 3, ("b", 1, "c"): 4, ("b", 1, "d"): 5, ("e",): 8}


def test_what_has_no_line_has_that_of_what_is_around_it_and_an_override_has_none():
    document = read_document("a: 1\nb:\n  c: 2\n")
    assert document.line(("b", "missing", 3)) == 2
    assert document.line(("missing",)) == 1
    document.overridden.add(("b", "c"))
    assert document.line(("b", "c")) is None and document.line(("b", "c", "d")) is None
    assert Document().line(("a",)) is None


def test_a_value_through_an_alias_is_its_own_copy():
    values = read_document("a: &x {b: [1]}\nc: *x\n").values
    assert values == {"a": {"b": [1]}, "c": {"b": [1]}}
    assert values["a"] is not values["c"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: 1\na: 2", Problem("a", "must be given once; first on line 1", 2)),
        ("b: {a: 1,\n a: 2}", Problem("b.a", "must be given once; first on line 1", 2)),
        ("1: x\n'1': y", Problem("1", "must be given once; first on line 1", 2)),
        ("a: .nan", Problem("a", "must be a finite number; got .nan", 1)),
        ("a: [1, -.INF]", Problem("a[1]", "must be a finite number; got -.INF", 1)),
        ("a: 1e999", Problem("a", "must be a finite number; got 1e999", 1)),
        ("a: 9007199254740993", Problem("a", "must be smaller than 2**53; got 9007199254740993", 1)),
        ("a: !!int x", Problem("a", "must be plain text or a number; got 'x'", 1)),
        ("a: !!binary aGk=", Problem("a", "must be plain text or a number; got 'aGk='", 1)),
        ("a: !!timestamp 2026-01-01", Problem("a", "must be plain text or a number; got '2026-01-01'", 1)),
        ("a: !!set {b, c}", Problem("a", "must be a plain list or mapping; got 'tag:yaml.org,2002:set'", 1)),
        ("a: !!python/tuple [1]", Problem("a", "must be a plain list or mapping; got 'tag:yaml.org,2002:python/tuple'", 1)),
        (r'a: "\uD800"', Problem("a", "must be text without control characters; got '\\ud800'", 1)),
        (r'a: "\e[31m"', Problem("a", "must be text without control characters; got '\\x1b[31m'", 1)),
        (r'"\e[31m": 1', Problem("", "must have plain names as keys; got '\\x1b[31m'", 1)),
        ("a: {? [1] : 2}", Problem("a", "must have plain names as keys; got a list or a mapping", 1)),
        ("x: &x {a: 1}\ny: {<<: *x}", Problem("y", "must not merge (<<): write the settings out", 2)),
        ("a: b\x00", Problem("", "must be text; got the character '\\x00'", 1)),
        ("a:\n b: c\x7f", Problem("", "must be text; got the character '\\x7f'", 2)),
        ("a: [1", Problem("", "is not valid YAML: while parsing a flow sequence expected ',' or ']', but got '<stream end>'", 1)),
        ("a: 1\n\tb: 2", Problem("", "is not valid YAML: while scanning for the next token found character '\\t' that cannot start any token", 2)),
        ("a: *b", Problem("", "is not valid YAML: found undefined alias 'b'", 1)),
        ("a: 1\n---\nb: 2", Problem("", "is not valid YAML: expected a single document in the stream but found another document", 2)),
        ("x" * (MAX_CHARACTERS + 1), Problem("", "must be at most 1,000,000 characters; got 1,000,001", None)),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_its_field_and_line(text, problem):
    assert read_document(text).problems == [problem]


def test_what_stands_side_by_side_is_not_nested():
    document = read_document("".join(f"k{number}: [[{number}]]\n" for number in range(100)))
    assert document.problems == [] and document.values["k99"] == [[99]]


def test_what_else_is_in_the_text_is_read_beside_a_wrong_value():
    document = read_document("a: .nan\nb: 2\nc: {<<: 1, d: 3}\nb: 4\n")
    assert document.values == {"a": 0.0, "b": 2, "c": {"d": 3}}
    assert [problem.line for problem in document.problems] == [1, 3, 4]
    assert document.is_echo("a") and document.is_echo("a.choice[0]") and not document.is_echo("ab")


def test_a_wrong_member_makes_what_is_said_of_its_list_an_echo():
    document = read_document("r: {float: [.nan, 1]}")
    assert document.is_echo("r.float") and document.is_echo("r.float[0]") and not document.is_echo("r.float[1]")


BOMBS = {
    "billion laughs": "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 28)),
    "quadratic blow-up": "a: &a [" + "x, " * 5000 + "]\nb: [" + "*a, " * 5000 + "]",
    "10,000 brackets": "[" * 10_000 + "]" * 10_000,
    "10,000 open brackets": "a: " + "[" * 10_000,
    "10,000 braces": "{a: " * 10_000,
    "10,000 dashes": "- " * 10_000 + "x",
    "10,000 indentations": "".join(" " * n + "a:\n" for n in range(1000)),
    "anchor in itself": "a: &a [*a]",
    "anchor in its own mapping": "&a {b: *a, c: &c [*c, *a]}",
    "many values": "[" + "1," * 60_000 + "]",
    "many keys": "{" + ",".join(f"k{n}: 1" for n in range(30_000)) + "}",
    "long scalar": "a: " + "x" * (MAX_CHARACTERS - 10),
    "long quoted scalar": 'a: "' + "\\n" * 400_000 + '"',
    "digits": "a: " + "9" * 900_000,
    "long key": "x" * 900_000 + ": 1",
    "many question marks": "? " * 10_000,
    "many tags": "!!str " * 10_000,
    "directive of many digits": "%YAML " + "9" * 5000 + ".1\n---\na: 1",
    "unknown directive": "%FOO bar\n---\na: 1",
    "escape beyond Unicode": r'a: "\UFFFFFFFF"',
    "half an escape": r'a: "\u12',
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_text_made_to_exhaust_the_reader_is_refused_or_read_in_seconds(name):
    started = time.monotonic()
    document = read_document(BOMBS[name])
    assert document.problems or name in ("long scalar", "long quoted scalar", "unknown directive")
    assert time.monotonic() - started < 20  # seconds; a machine at work on other things is slow
    assert all(len(problem.message) < 500 for problem in document.problems)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("billion laughs", f"must hold at most {MAX_VALUES:,} values, 30 levels deep, aliases followed"),
        ("10,000 brackets", "must be nested at most 30 levels deep"),
        ("anchor in itself", "must hold at most"),
        ("many values", "must hold at most"),
    ],
)
def test_bombs_are_refused_with_the_bound(name, words):
    assert [problem.message[: len(words)] for problem in read_document(BOMBS[name]).problems] == [words]


@settings(deadline=None)
@given(st.text() | st.text("{}[]:,-&*!|>'\"#%@ \n\tab01<.~\\?").filter(bool))
def test_no_text_makes_the_reader_raise(text):
    document = read_document(text)
    assert all(isinstance(problem.message, str) for problem in document.problems)


@given(st.binary(max_size=200))
def test_no_bytes_make_the_reader_raise(data):
    assert isinstance(read_document(data.decode("utf-8", errors="replace")), Document)
    assert isinstance(read_document(data.decode("latin-1")), Document)


def test_paths_are_written_with_dots_and_brackets():
    assert dotted(()) == ""
    assert dotted(("a", 0, "b", 1, 2)) == "a[0].b[1][2]"
