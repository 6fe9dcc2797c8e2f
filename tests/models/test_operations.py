"""The one-line language by itself, over a small registry of its own."""

from __future__ import annotations

import math
import re
import subprocess
import sys

import pytest

from tuner.common.errors import PipelineError
from tuner.common.registry import Registry
from tuner.models.operations import Argument, Operation, format_value, parse_pipeline

WORDS: Registry[Operation[None]] = Registry("word")
WORDS.add("plain", Operation((), None, "nothing to say"))
WORDS.add(
    "size",
    Operation(
        (
            Argument("px", int, 1, 9),
            Argument("width_px", int, 0, 9, default=0),
            Argument("method", str, words=("fast", "good"), default="fast"),
        ),
        None,
        "of a size",
    ),
)
WORDS.add("factor", Operation((Argument("by", float),), None, "any number"))


def canonical(text: str) -> str:
    return "|".join(call.text for call in parse_pipeline(text, WORDS))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" plain ", "plain"),
        ("plain()", "plain"),
        ("size( 3 )|plain", "size(3)|plain"),
        ("size(px=3)", "size(3)"),
        ("size(3,0,fast)", "size(3)"),
        ("size(method=good,px=3)", "size(3,method=good)"),
        ("size(3,4,good)", "size(3,4,good)"),
        ("factor(1.0)", "factor(1)"),
        ("factor(-0.0)", "factor(0)"),
        ("factor(.50)", "factor(0.5)"),
        ("factor(1e20)", "factor(1e+20)"),
        ("none", ""),
        ("\t", ""),
    ],
)
def test_one_meaning_has_one_text(text: str, expected: str) -> None:
    assert canonical(text) == expected
    assert canonical(expected) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sise(3)", "unknown word 'sise'; did you mean 'size'? (known: factor, plain, size)"),
        ("plain|none", "unknown word 'none'"),
        ("size", "size: px must be given; it must be a whole number between 1 and 9"),
        ("size(10)", "size: px must be a whole number between 1 and 9; got '10'"),
        ("size(3.0)", "size: px must be a whole number between 1 and 9; got '3.0'"),
        ("size(3,)", "size: width_px must be a whole number between 0 and 9; got ''"),
        ("size(3,method=best)", "size: method must be one of fast, good; got 'best'"),
        ("size(3,methode=good)", "size: unknown argument 'methode'; did you mean 'method'?"),
        ("size(3,px=4)", "size: px must be given once"),
        ("size(px=3,4)", "size: what is given by place must come before what is given by name; got '4'"),
        ("size(1,2,good,4)", "size must have at most 3 arguments; got 4"),
        ("plain(1)", "plain must have at most 0 arguments; got 1"),
        ("factor(nan)", "factor: by must be a number; got 'nan'"),
        ("factor(1;2)", "factor: by must be a number; got '1;2'"),
        ("plain|", "word must be written name or name(arguments), separated by |; got ''"),
        ("size((3))", "word must be written name or name(arguments), separated by |; got 'size((3))'"),
        ("plain|" * 100, "word text must be at most 500 characters; got 600"),
    ],
)
def test_a_wrong_text_is_refused_with_operation_argument_rule_and_value(text: str, words: str) -> None:
    with pytest.raises(PipelineError, match=re.escape(words)):
        parse_pipeline(text, WORDS)


@pytest.mark.parametrize("value", [0.1, -1.5, 1e-7, 1e15, 123456789.0, 2**53 + 0.0, math.pi, 7, "fast"])
def test_a_written_value_reads_back_the_same(value: float | int | str) -> None:
    assert type(value)(format_value(value)) == value


def test_texts_are_checked_without_loading_keras() -> None:
    script = (
        "import sys\n"
        "from tuner.models.augmentation import parse_augment\n"
        "from tuner.models.preprocessing import parse_preprocess\n"
        "parse_augment('flip|shift(4)')\n"
        "assert parse_preprocess('resize(64)|noise(0.1)').output_shape((9, 9, 3)) == (64, 64, 3)\n"
        "assert not {'keras', 'tensorflow', 'PIL', 'pandas'} & set(sys.modules), sorted(sys.modules)\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
