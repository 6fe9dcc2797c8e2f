"""Every planted mistake is found, and told to its author with names and lines; code without one passes in silence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.support.planted_mistakes import (
    MISTAKES,
    OF_AUGMENTATIONS,
    OF_METRICS,
    OF_PREPROCESSING,
    OF_SOURCES,
    OF_TRAINABLES,
    plugin_text,
)
from tuner.common.errors import InputError
from tuner.common.plugins import forget_plugins
from tuner.contracts.plugin import checked_subjects


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Forget what a test has loaded, and what it did to the process."""
    from tuner.contracts._process_state import restored

    with restored():
        yield
    forget_plugins()


def found_by(folder: Path, code: str, checks: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Return what some checks say of the last thing that a plugin registers."""
    path = folder / "own_code.py"
    path.write_text(plugin_text(code))
    with checked_subjects([str(path)], []) as subjects:
        return {one.check: one.problems for one in subjects[-1].run(checks)}


CORRECT = Path(__file__).parents[1] / "support" / "correct_networks.py"
QUICK = (
    *("maps instead of a vector", "statistics of the batch", "pixels are divided by 255 again", "drawn without a seed"),
    *("a parameter is never used", "a layer of the module"),
)
ROWS = [
    pytest.param(mistake, id=name, marks=() if name in QUICK else pytest.mark.full)
    for name, mistake in MISTAKES.items()
]


OF_OPERATIONS = [
    *(pytest.param(mistake, id=f"augmentation, {name}") for name, mistake in OF_AUGMENTATIONS.items()),
    *(pytest.param(mistake, id=f"preprocessing, {name}") for name, mistake in OF_PREPROCESSING.items()),
]


@pytest.mark.parametrize("mistake", ROWS + OF_OPERATIONS)
def test_a_planted_mistake_is_told_with_names_and_lines(mistake, tmp_path: Path) -> None:
    names = tuple(mistake.check.split("|"))
    found = found_by(tmp_path, mistake.code, names)
    problems = [problem for name in names for problem in found.get(name, ())]
    assert any(re.search(mistake.told, problem) for problem in problems), found
    assert all("Traceback" not in problem and "\n" not in problem for problem in problems)


@pytest.mark.full
@pytest.mark.parametrize("name", OF_TRAINABLES)
def test_what_is_wrong_with_a_training_function_is_told(name: str, tmp_path: Path) -> None:
    mistake = OF_TRAINABLES[name]
    names = (mistake.check,) if mistake.check else ()  # of one without a mistake, all
    told = {check: problems for check, problems in found_by(tmp_path, mistake.code, names).items() if problems}
    if not mistake.check:
        assert told == {}
        return
    assert any(re.search(mistake.told, problem) for problem in told[mistake.check]), told


@pytest.mark.parametrize(
    "mistake",
    [
        pytest.param(one, id=name)
        for name, one in {**OF_METRICS, **{f"source, {k}": v for k, v in OF_SOURCES.items()}}.items()
    ],
)
def test_what_is_wrong_with_a_metric_or_a_source_is_told_and_nothing_else(mistake, tmp_path: Path) -> None:
    told = {check: problems for check, problems in found_by(tmp_path, mistake.code, ()).items() if problems}
    if not mistake.check:
        assert told == {}
        return
    assert any(re.search(mistake.told, problem) for problem in told[mistake.check]), told


def test_a_source_that_takes_a_reference_is_tested_on_what_it_is_given(tmp_path: Path) -> None:
    path = tmp_path / "own_code.py"
    path.write_text(plugin_text("@tuner.source\ndef mine(reference):\n    return np.load(reference), [0, 1]\n"))
    np.save(tmp_path / "two.npy", np.stack([np.zeros((8, 8), np.uint8), np.ones((8, 8), np.uint8)]))
    with checked_subjects([str(path)], [], [f"mine:{tmp_path / 'two.npy'}"]) as (subject,):
        assert [one.status for one in subject.run(())] == ["passed"] * subject.checks and subject.checks > 2
    forget_plugins()
    with checked_subjects([str(path)], []) as (subject,):
        assert subject.checks == 0
    forget_plugins()
    with (
        pytest.raises(InputError, match=r"--source: .*did you mean 'mine'"),
        checked_subjects([str(path)], [], ["min:a"]),
    ):
        pass


CORRECT_NAMES = (
    *(
        "plain_cnn",
        "residual",
        "small_transformer",
        "wrapped",
        "wrapped_backbone",
        "begins_with_nothing",
        "scales_itself",
    ),
    *("darken", "cut_mix", "thin_out", "centred"),
)


@pytest.mark.full
def test_nothing_is_said_of_code_without_a_mistake() -> None:
    # All together, as a user tests them: one other process then builds all networks.
    with checked_subjects([str(CORRECT)], CORRECT_NAMES) as subjects:
        found = {subject.name: list(subject.run(())) for subject in subjects}
    assert found.keys() == set(CORRECT_NAMES) and all(len(outcomes) >= 3 for outcomes in found.values())
    said = {name: [one for one in outcomes if one.status != "passed"] for name, outcomes in found.items()}
    assert not any(said.values()), said


@pytest.mark.parametrize(
    "code", ["def net(images:\n    pass\n", "import nothing_of_this_name\n", "x = 1 / 0\n", "x = 1\n"]
)
def test_a_plugin_that_cannot_be_loaded_fails_its_only_check(code: str, tmp_path: Path) -> None:
    path = tmp_path / "own_code.py"
    path.write_text(code)
    with checked_subjects([str(path)], []) as subjects:
        (outcome,) = subjects[0].run(())
    assert (subjects[0].kind, outcome.check, outcome.status) == ("plugin", "loading", "failed")
    assert "own_code.py" in outcome.problems[0]


def test_what_is_not_there_is_wrong_input(tmp_path: Path) -> None:
    path = tmp_path / "own_code.py"
    with pytest.raises(InputError, match="there is no file"), checked_subjects([str(path)], []):
        pass
    path.write_text(plugin_text(MISTAKES["one feature"].code))
    unknown = r"--only: unknown name 'nett'; did you mean 'net'"
    with pytest.raises(InputError, match=unknown), checked_subjects([str(path)], ["nett"]):
        pass
