"""Whatever stands in a search-space file, reading it ends in a specification or in problems, and soon."""

from __future__ import annotations

import time

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.wrong_files import RIGHT
from tuner.session.checks import check_names
from tuner.spec.spec import read_spec

WORDS = """study data metric space baseline training search resources source early_stopping choice int float log_int
log_float choose step architecture cnn mobilenet_v2 alpha unfreeze_depth preprocess augment batch_size learning_rate
trials sampler grace_epochs a-b str none max_epochs head_epochs time_budget None [x] x.y"""
KEYS = st.sampled_from(WORDS.split())
LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | KEYS
    | st.sampled_from(["cnn", "tpe", "pbt", "pb2", "bohb", "grid", "resize(64)", "digits", "tfds:x", "folder:\0", "npz:"])
)  # fmt: skip
TREES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS | st.text(max_size=4), inner, max_size=5),
    max_leaves=15,
)


def check(text: str) -> None:
    """Read a text as the command does; a problem is fine, an exception is not, nor is it to be slow."""
    started = time.thread_time()
    reading = read_spec(text, "f")
    found = (*reading.problems, *check_names(reading, {}))
    assert reading.spec is not None or found
    for problem in found:
        assert problem.message and "\x1b" not in problem.describe("f")
    assert time.thread_time() - started < 10


FUZZ = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@FUZZ
@given(st.text())
def test_no_text_is_raised_upon(text):
    check(text)


@FUZZ
@given(st.binary(max_size=300))
def test_no_bytes_are_raised_upon(data):
    check(data.decode("utf-8", errors="replace"))


@FUZZ
@given(st.lists(st.tuples(st.integers(0, len(RIGHT)), st.integers(0, 6), st.text(max_size=4)), min_size=1, max_size=4))
def test_no_mutation_of_a_right_file_is_raised_upon(cuts):
    text = RIGHT
    for position, length, insert in cuts:
        text = text[:position] + insert + text[position + length :]
    check(text)


@FUZZ
@given(TREES)
def test_no_tree_is_raised_upon(tree):
    check(yaml.safe_dump(tree))


@FUZZ
@given(st.dictionaries(KEYS, TREES, max_size=4), st.integers(0, 4))
def test_no_tree_within_a_right_file_is_raised_upon(tree, place):
    values = yaml.safe_load(RIGHT)
    target = [
        values,
        values["space"],
        values["space"]["architecture"]["choose"]["cnn"],
        values["search"],
        values["data"],
    ][place]
    target.update(tree)
    check(yaml.safe_dump(values))


@FUZZ
@given(st.lists(st.text("abc.=[]{}: 1-", max_size=12), max_size=3))
def test_no_override_is_raised_upon(overrides):
    reading = read_spec(RIGHT, "f", overrides)
    assert reading.spec is not None or reading.problems
    check_names(reading, {})


@pytest.mark.parametrize(
    "text",
    [
        "space: {a: {choice: [" + "".join(f"{n}, " for n in range(15_000)) + "]}}",
        "space: {" + "".join(f"p{n}: 1, " for n in range(9_000)) + "}",
        "space: {" + "".join(f"p{n}: {{int: [1, 1000]}}, " for n in range(2_000)) + "rate: {float: [0, 1]}}",
        "space: {a: {choose: {" + "".join(f"b{n}: {{x: 1}}, " for n in range(4_000)) + "}}}",
        "".join(f"{'k' * 150}{n}: 1\n" for n in range(3_000)),
        "search: {" + "".join(f"trial{n}: 1, " for n in range(9_000)) + "}",
        "space: {a: {choice: [" + ".nan, " * 9_000 + "]}, preprocess: {choice: [" + "".join(f"{n}, " for n in range(9_000)) + "]}}",
        "baseline: {" + "".join(f"p{n}: 1, " for n in range(2_000)) + "}\nspace: {" + "".join(f"q{n}: 1, " for n in range(2_000)) + "}",
    ],
    ids=["long choice", "many names", "large product", "many branches", "unknown sections", "unknown settings", "not numbers", "unlike baseline"],
)  # fmt: skip
def test_a_large_file_is_read_in_seconds(text):
    check(text)
