"""The search-space file: loading it with every problem at once, each with its line."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tuner.common.errors import InputError, Problem, SpecError
from tuner.common.metrics import Mode, metric_of
from tuner.common.registry import is_nothing, unknown_name
from tuner.spec._yaml_document import MAX_CHARACTERS, Document, dotted, dump_document, read_document
from tuner.spec.schema import (
    SECTIONS,
    TOP_LEVEL,
    ActivationsSection,
    DataSection,
    FinalistsSection,
    Names,
    ResourcesSection,
    SearchSection,
    TrainingSection,
    metrics_findings,
    read_section,
    shown,
)
from tuner.spec.space import Configuration, Dimension, Scalar, completed, flatten, misfits
from tuner.spec.space_parser import parse_space
from tuner.spec.strengths import OWNER, Finding


@dataclass(frozen=True)
class Spec:
    """A search-space file whose form is right; whether the names in it are known is the part of `checks`."""

    study: str
    data: DataSection
    metrics: tuple[str, ...]
    """All that is optimised; the scheduler compares the first, and the first makes the winner."""
    trainable: str | None
    """The training function of one's own that trials train; None: networks of an architecture in the space."""
    space: Mapping[str, Dimension]
    baseline: Configuration | None
    training: TrainingSection
    search: SearchSection
    resources: ResourcesSection
    activations: ActivationsSection
    finalists: FinalistsSection
    raw: Mapping[str, Any]
    """The file's values with overrides, as they were written."""

    @property
    def metric(self) -> str:
        """The first of the metrics, which every epoch measures."""
        return self.metrics[0]

    @property
    def mode(self) -> Mode:
        """Whether the metric is to be maximised or minimised."""
        return metric_of(self.metric).mode

    def resolved(self) -> dict[str, Any]:
        """Return plain values with every default written out; dumped as YAML, a search-space file again."""
        data, finalists = self.data.model_dump(), self.finalists.model_dump()
        if self.data.validation is not None:  # these mean nothing beside folds, and are refused
            del data["validation_fraction"], finalists["seeds"]
        sections = {
            "data": data,
            **({"metric": self.metric} if len(self.metrics) == 1 else {"metrics": list(self.metrics)}),
            **({} if self.trainable is None else {"trainable": self.trainable}),
            "space": self.raw["space"],
            "training": self.training.model_dump(),
            "search": self.search.model_dump(),
            "resources": self.resources.model_dump(),
            "activations": self.activations.model_dump(),
            "finalists": finalists,
        }
        if self.trainable is not None:  # these mean nothing to a function of one's own, and are refused
            del sections["activations"], sections["training"]["head_epochs"]
        baseline = {} if self.baseline is None else {"baseline": dict(self.baseline)}
        return {"study": self.study, **sections, **baseline}


@dataclass(frozen=True)
class SpecReading:
    """A search-space file as far as it could be read: its problems, and the spec when there are none.

    The parts that are right by themselves are there in any case, so that the names in them can be checked at the same
    time: a user sees all problems at once.
    """

    file: str
    document: Document
    problems: tuple[Problem, ...]
    spec: Spec | None
    space: Mapping[str, Dimension] = field(default_factory=dict)
    data: DataSection | None = None
    training: TrainingSection | None = None
    search: SearchSection | None = None
    finalists: FinalistsSection | None = None
    resources: ResourcesSection | None = None
    metrics: tuple[str, ...] = ()
    trainable: str | None = None

    def problem(self, path: Sequence[str | int], message: str) -> Problem:
        """Return a problem at `path`, with its line."""
        return Problem(dotted(tuple(path)), message, self.document.line(tuple(path)))


Meaning = Callable[[str, Sequence[str], str | None], Scalar]
"""How a hyperparameter is kept when a file says that it is nothing; None where it cannot be.

Asked with its name, the architectures whose it may be, and the training function of one's own whose it is.
"""


def _no_meaning(_name: str, _architectures: Sequence[str], _trainable: str | None) -> Scalar:
    return None


def load_spec(path: Path, overrides: Sequence[str] = (), meaning: Meaning = _no_meaning) -> SpecReading:
    """Return the reading of the file at `path`, after `overrides` (each `key=value`, the value in YAML).

    `meaning` tells what nothing is of a hyperparameter.

    Raises:
        InputError: the file cannot be opened as text.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for without end
            raise InputError(f"{path}: cannot be read as text: it is a folder, a pipe or a device")
        with path.open(encoding="utf-8") as file:
            text = file.read(MAX_CHARACTERS + 1)  # what is larger is refused by read_document, and not read
    except FileNotFoundError:
        raise InputError(f"{path}: no such search-space file{_nearest_file(path)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as text: {error}") from None
    return read_spec(text, str(path), overrides, meaning)


def _nearest_file(path: Path) -> str:
    """Return a question with the YAML file beside a path that may have been meant; empty where none is near."""
    with suppress(OSError, ValueError):
        there = {one.name.casefold(): one for one in path.parent.iterdir() if one.suffix in (".yaml", ".yml")}
        nearest = difflib.get_close_matches(path.name.casefold(), there, n=1)
        if nearest and there[nearest[0]].is_file():
            return f"; did you mean {str(there[nearest[0]])!r}?"
    return ""


def read_spec(
    text: str, file: str = "search space", overrides: Sequence[str] = (), meaning: Meaning = _no_meaning
) -> SpecReading:
    """Return the reading of a search-space text; problems are listed in its `problems`, nothing is raised."""
    document = read_document(text)
    problems: list[Problem] = []
    values = document.values
    if not document.problems and not isinstance(values, dict):
        problems.append(Problem("", f"must map {', '.join(TOP_LEVEL)} to their settings; got {shown(values)}", 1))
    if not isinstance(values, dict):
        return SpecReading(file, document, (*document.problems, *problems), None)
    for override in overrides:
        problems += _override(values, document, override)
    values |= _space_and_baseline(values, meaning)
    return _validate(file, document, values, problems)


def _override(values: dict[str, Any], document: Document, override: str) -> list[Problem]:
    """Set one `a.b.c=value`; the value is YAML, so `--set search.trials=8` is a number."""
    key, equals, text = override.partition("=")
    field = f"--set {override[:100]}"
    if not equals or not key.strip():
        return [Problem(field, "must be written key=value, for example search.trials=8")]
    field = f"--set {key.strip()[:100]}"
    *parents, last = key.strip().split(".")
    if parents[:1] == ["baseline"]:  # a flat mapping; names of strengths have dots
        parents, last = ["baseline"], key.strip().partition(".")[2]
    # A command line has no comments: `folder:/x #1` is all of a name.
    is_plain = re.search(r"(^|\s)#", text) is not None and not re.match(r"\s*[\"'\[{|>&*!]", text)
    inner = read_document(json.dumps(text.strip(), ensure_ascii=False) if is_plain else text)
    if inner.problems:
        return [Problem(field, inner.problems[0].message)]
    target: Any = values
    for parent in parents:
        if parent in target and is_nothing(target[parent]):
            is_section = target is values and (parent,) not in document.left_empty
            target[parent] = _section_of_nothing(parent) if is_section else {}
        target = target.setdefault(parent, {})
        if not isinstance(target, dict):
            return [Problem(field, f"must name a setting; {parent!r} has none below it")]
    target[last] = inner.values
    path = (*parents, last)
    document.overridden.add(path)
    if () in inner.left_empty:
        document.left_empty.add(path)
    return []


def _section_of_nothing(name: str) -> dict[str, Any]:
    """Return the settings of a section that a file says is nothing, for one of them to be set on the command line."""
    return dict((SECTIONS[name].without if name in SECTIONS else None) or {})


def _space_and_baseline(values: Mapping[str, Any], meaning: Meaning) -> dict[str, Any]:
    """Return space and baseline, as far as they are given, in which each word for nothing has become what it means.

    The same name may be a number of one architecture, and true or false of another, or of a training function.
    """
    trainable, space, baseline = (values.get(name) for name in ("trainable", "space", "baseline"))
    function = _plain_text(trainable)

    def of(architectures: Sequence[str]) -> _Meant:
        return lambda name: meaning(name, architectures, function)

    found: dict[str, Any] = {}
    if "space" in values:
        found["space"] = _with_nothing(space, of(_architectures(space)))
        if branches := _branches(space):
            written = {branch: _with_nothing(one, of([branch]), branch) for branch, one in branches.items()}
            found["space"]["architecture"] = {**found["space"]["architecture"], "choose": written}
    if "baseline" in values:
        found["baseline"] = _with_nothing(baseline, of(_architectures(baseline) or _architectures(space)))
    return found


def _architectures(raw: Any) -> list[str]:
    """Return the names of architectures in a space, or in a baseline, as it is written."""
    chosen = raw.get("architecture") if isinstance(raw, dict) else None
    listed = chosen.get("choice") if isinstance(chosen, dict) else [chosen]
    return [*_branches(raw), *(one for one in (listed if isinstance(listed, list) else []) if isinstance(one, str))]


def _branches(raw: Any) -> dict[str, Any]:
    """Return what stands in the branches of the architectures of a space, as it is written."""
    chosen = raw.get("architecture") if isinstance(raw, dict) else None
    branches = chosen.get("choose") if isinstance(chosen, dict) else None
    return branches if isinstance(branches, dict) else {}


_Meant = Callable[[str], Scalar]
"""A `Meaning` for one part of a file."""


def _with_nothing(raw: Any, meaning: _Meant, name: str = "") -> Any:
    """Return a part of a space, or a baseline, in which each word for nothing has become what it means there."""
    if isinstance(raw, dict):
        if name == OWNER and isinstance(raw.get("choose"), dict):
            return {**raw, "choose": {key: _strengths_with_nothing(one, meaning) for key, one in raw["choose"].items()}}
        return {key: _with_nothing(value, meaning, name if key == "choice" else key) for key, value in raw.items()}
    if isinstance(raw, list):
        return [_with_nothing(value, meaning, name) for value in raw]
    found = meaning(name) if is_nothing(raw) else None
    return raw if found is None else found


def _strengths_with_nothing(branch: Any, meaning: _Meant) -> Any:
    """Return a branch of operations in which each word for nothing has become what it means there."""
    if not isinstance(branch, dict):
        return branch
    written = {key: _with_nothing(value, meaning, f"{OWNER}.{key}") for key, value in branch.items()}
    return {key: None if branch[key] is None else value for key, value in written.items()}


def _validate(file: str, document: Document, values: dict[str, Any], problems: list[Problem]) -> SpecReading:
    reading = SpecReading(file, document, (), None)
    for key in values:
        if key not in TOP_LEVEL:
            problems.append(reading.problem((key,), unknown_name("section", key, TOP_LEVEL)))
    findings: list[Finding] = []
    names, found = read_section(Names, {key: values[key] for key in Names.model_fields if key in values}, ())
    metrics, wrong_metrics = _metrics(values, names)
    findings += [*found, *wrong_metrics]
    sections: dict[str, Any] = {}
    for key, model in SECTIONS.items():
        value = values.get(key, {} if key != "data" else None)
        if is_nothing(value) and model.without is not None and (key,) not in document.left_empty:
            value = model.without
        sections[key], found = read_section(model, value, (key,))
        findings += found
    space, found = parse_space(values.get("space"))
    baseline, wrong = _baseline(values, space, found)
    problems += [reading.problem(path, message) for path, message in (*findings, *found, *wrong)]
    problems = [*document.problems, *(problem for problem in problems if not document.is_echo(problem.field))]
    spec = None
    if not problems and names is not None:
        spec = Spec(study=names.study, metrics=metrics, trainable=names.trainable, space=space, baseline=baseline,
                    raw=values, **sections)  # fmt: skip
    parts = {key: sections[key] for key in ("data", "training", "search", "finalists", "resources")}
    trainable = names.trainable if names is not None else _plain_text(values.get("trainable"))
    return SpecReading(file, document, tuple(problems), spec, space, **parts, metrics=metrics, trainable=trainable)


def _plain_text(value: Any) -> str | None:
    return value if isinstance(value, str) and not is_nothing(value) else None


def _metrics(values: Mapping[str, Any], names: Names | None) -> tuple[tuple[str, ...], list[Finding]]:
    """Return the metrics, whether written as one or as a list, and the problems with the list."""
    if names is None or names.metrics is None:
        return () if names is None else (names.metric,), []
    found = list(metrics_findings(names.metrics))
    if "metric" in values:
        found.append((("metrics",), "must not be given beside metric: the first of metrics takes its place"))
    return tuple(names.metrics), found


def _baseline(
    values: Mapping[str, Any], space: Mapping[str, Dimension], findings: Sequence[Finding]
) -> tuple[Configuration | None, list[Finding]]:
    """Return the baseline, and each way in which it is not a point of the space; `findings` are those of the space."""
    baseline = values.get("baseline")
    if baseline is None or is_nothing(baseline):
        return None, []
    plain = isinstance(baseline, dict) and all(
        value is None or isinstance(value, str | int | float | bool) for value in baseline.values()
    )
    if not plain:
        return None, [(("baseline",), f"must map names to plain values; got {shown(baseline)}")]
    doubtful = _doubtful_names(baseline, values.get("space"), space, findings)
    baseline = completed(space, baseline)
    wrong = misfits(space, baseline) if space else []
    return baseline, [(("baseline", name), message) for name, message in wrong if name not in doubtful]


def _doubtful_names(
    baseline: Mapping[str, Any], raw: Any, space: Mapping[str, Dimension], findings: Sequence[Finding]
) -> set[str]:
    """Return names that a space with findings may hold, but not in a form to compare a baseline with."""
    if not findings:
        return set()
    named = {str(part) for path, _ in findings for part in path}
    if OWNER in named:
        named |= {name for name in baseline if name.startswith(f"{OWNER}.")}
    return named | (_keys(raw) - {parameter.name for parameter in flatten(space)})


def _keys(raw: Any) -> set[str]:
    if not isinstance(raw, dict):
        return set()
    return set(raw).union(*(_keys(value) for value in raw.values()))


def require(reading: SpecReading, more: Sequence[Problem] = ()) -> Spec:
    """Return the spec of a reading without problems; raises SpecError with all of them otherwise."""
    problems = (*reading.problems, *more)
    if problems or reading.spec is None:
        raise SpecError(reading.file, problems)
    return reading.spec


def dump_spec(resolved: Mapping[str, Any]) -> str:
    """Return a resolved specification as the text of a search-space file."""
    return dump_document(resolved)
