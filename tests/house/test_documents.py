"""The documents: what they show can be read by the program, what they name is there, and nothing is left out.

Their commands are run in tests/end_to_end/test_document_commands.py.
"""

from __future__ import annotations

import importlib
import re
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.end_to_end.test_document_commands import NOT_RUN, PYTHON_RUN, RUN, run_key, why_not_run
from tests.support import ROOT
from tests.support import own_loop as _own_loop  # it registers the trainable of docs/trainable.md
from tests.support.documents import (
    DOCUMENTS,
    FOR_USERS,
    Block,
    anchors,
    blocks,
    codes_of,
    inline_codes,
    links,
    module_commands,
    shell_commands,
    table,
)
from tuner.algorithms.samplers import SAMPLERS
from tuner.algorithms.schedulers import SCHEDULERS
from tuner.cache import parse_cache_options
from tuner.data import build_data_parser
from tuner.datasets import loading as _loading  # it brings all sources into their registries
from tuner.datasets.sources import NAMED, PREFIXED
from tuner.export import build_export_parser
from tuner.jobs.options import parse_submit_options
from tuner.models.architectures import ARCHITECTURES
from tuner.models.augment.operations import AUGMENTATION
from tuner.models.parameters import GENERAL
from tuner.models.preprocessing import PREPROCESSING
from tuner.new import build_new_parser
from tuner.predict import build_predict_parser
from tuner.report import build_report_parser
from tuner.reports.figures.registry import FIGURES
from tuner.selftest import build_selftest_parser
from tuner.session.checks import check_names
from tuner.session.options import parse_search_options
from tuner.spec._yaml_document import dump_document, read_document
from tuner.spec.schema import SECTIONS, TOP_LEVEL, metrics_findings
from tuner.spec.spec import Spec, load_spec, read_spec, require

SPACE_FILE = ROOT / "docs" / "search_space_file.md"
BY_NAME = {"ids": lambda path: str(path.relative_to(ROOT))}
YAML_BLOCKS = [block for document in DOCUMENTS for block in blocks(document) if block.language == "yaml"]
NEEDED: dict[str, dict[str, Any]] = {"data": {"source": "digits"}, "space": {"architecture": "cnn"}}
PARSERS = {
    "tuner.search": parse_search_options,
    "tuner.new": lambda arguments: build_new_parser().parse_args(arguments),
    "tuner.data": lambda arguments: build_data_parser().parse_args(arguments),
    "tuner.report": lambda arguments: build_report_parser().parse_args(arguments),
    "tuner.export": lambda arguments: build_export_parser().parse_args(arguments),
    "tuner.predict": lambda arguments: build_predict_parser().parse_args(arguments),
    "tuner.cache": parse_cache_options,
    "tuner.selftest": lambda arguments: build_selftest_parser().parse_args(arguments),
    "tuner.submit": parse_submit_options,
}
assert _loading and _own_loop


def read(values: dict[str, Any]) -> Spec:
    """The specification of a whole file, checked as before a search; what is missing of it is filled in."""
    whole = {"study": "s", **NEEDED, **values}
    reading = read_spec(dump_document(whole), "document.yaml")
    return require(reading, check_names(reading, {}))


# --- YAML ---


@pytest.mark.parametrize("block", YAML_BLOCKS, ids=lambda block: block.place)
def test_every_yaml_block_is_a_search_space_file_or_fits_into_one(block: Block) -> None:
    document = read_document(block.text)
    assert not document.problems
    values = document.values
    if "baseline" in values and "space" not in values:
        values = {**values, "space": space_shown_before(block)}
    read(values)


def space_shown_before(block: Block) -> Any:
    """The space of an earlier block of the same page, which a baseline alone is a point of."""
    earlier = [each for each in YAML_BLOCKS if each.document == block.document and each.line < block.line]
    return next(values["space"] for each in reversed(earlier) if "space" in (values := read_document(each.text).values))


def test_all_yaml_in_the_pages_for_users_is_marked_as_such() -> None:
    sections = re.compile(rf"^(?:{'|'.join(TOP_LEVEL)}): ", re.MULTILINE)
    for document in FOR_USERS:
        assert not [block.place for block in blocks(document) if not block.language and sections.search(block.text)]


@pytest.mark.parametrize("document", FOR_USERS, **BY_NAME)
def test_every_setting_in_the_prose_is_one_that_a_file_may_hold(document: Path) -> None:
    for code in inline_codes(document):
        if match := re.fullmatch(r"([a-z_.]+): (\S.*)(?<!\.\.\.)", code):
            path, value = match[1].split("."), yaml.safe_load(match[2])
            owners = [name for name, model in SECTIONS.items() if path[0] in model.model_fields]
            if path[0] not in TOP_LEVEL:
                of_architectures = {name for one in ARCHITECTURES for name in ARCHITECTURES[one].parameters}
                assert owners or path[0] in {*GENERAL, *of_architectures}, f"{code}: nothing is called {path[0]}"
                path = [*owners[:1], *path] if owners else ["space", *path]
            for part in reversed(path[1:]):
                value = {part: value}
            read({path[0]: {**NEEDED[path[0]], **value} if path[0] in NEEDED else value})


def test_the_shown_defaults_are_those_of_the_schema() -> None:
    for name, model in SECTIONS.items():
        described = {codes_of(row[0])[0]: row[1].strip("`") for row in table(SPACE_FILE, f"`{name}`")}
        assert list(described) == list(model.model_fields), name
        for setting, field in model.model_fields.items():
            default = "must be given" if field.is_required() else yaml.safe_load(described[setting])
            actual = "must be given" if field.is_required() else getattr(model.model_construct(), setting)
            actual = actual.model_dump() if hasattr(actual, "model_dump") else "none" if actual is None else actual
            assert default == actual, f"{name}.{setting}"


# --- commands ---


@pytest.mark.parametrize("document", DOCUMENTS, **BY_NAME)
def test_every_command_of_tuner_is_understood(document: Path) -> None:
    for place, module, arguments in module_commands(document):
        check_command(place, module, arguments)


def check_command(place: str, module: str, arguments: Sequence[str]) -> None:
    """Parse a command with its own parser; its file with its overrides is checked as before a search."""
    try:
        options = PARSERS[module](list(arguments))
    except SystemExit as end:
        assert end.code == 0, f"{place}: python -m {module} {' '.join(arguments)}"
        return
    file = getattr(options, "file", None)
    if module in ("tuner.search", "tuner.submit") and file is not None and file.parts[:1] == ("search_spaces",):
        reading = load_spec(ROOT / file, options.overrides)
        require(reading, check_names(reading, {}))


@pytest.mark.parametrize("module", PARSERS)
def test_every_example_in_the_help_of_a_command_is_understood(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        importlib.import_module(module).main(["--help"])
    examples = re.findall(rf"^  python -m {module}((?: \S+)*)", capsys.readouterr().out, flags=re.MULTILINE)
    assert examples
    for example in examples:
        check_command("--help", module, shlex.split(example))


@pytest.mark.parametrize("document", FOR_USERS, **BY_NAME)
def test_every_command_for_users_is_run_or_it_is_said_why_not(document: Path) -> None:
    unknown = [
        f"{command.place}: {command.text}"
        for command in shell_commands(document)
        if run_key(command.text) is None and why_not_run(command.text) is None
    ]
    assert not unknown, "add them to RUN or NOT_RUN in tests/end_to_end/test_document_commands.py"


def test_all_python_for_users_is_run() -> None:
    shown = {document.name for document in FOR_USERS for block in blocks(document) if block.language == "python"}
    assert shown == PYTHON_RUN.keys(), "say in tests/end_to_end/test_document_commands.py which test runs it"
    for name, test in PYTHON_RUN.items():
        assert f'"{name}"' in (ROOT / "tests" / test).read_text()


def test_no_command_is_run_that_no_page_shows() -> None:
    shown = {command.text for document in FOR_USERS for command in shell_commands(document)}
    assert RUN.keys() == {run_key(text) for text in shown} - {None}
    assert NOT_RUN.keys() == {why_not_run(text) for text in shown if run_key(text) is None}


@pytest.mark.parametrize("document", DOCUMENTS, **BY_NAME)
def test_every_target_of_make_is_there(document: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    codes = [*inline_codes(document), *(line for block in blocks(document) for line in block.text.splitlines())]
    named = {match[1] for code in codes if (match := re.match(r"make ([a-z]+)", code))}
    assert named <= targets


def test_the_readme_makes_the_environment_as_make_does() -> None:
    by_hand = [command.text for command in shell_commands(ROOT / "README.md") if "pip install" in command.text]
    recipe = (ROOT / "Makefile").read_text().replace("$(BIN)", ".venv/bin").replace(" --quiet", "")
    assert len(by_hand) == 2 and all(f"\t{command}\n" in recipe for command in by_hand)


# --- names ---


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


@pytest.mark.parametrize("document", DOCUMENTS, **BY_NAME)
def test_every_link_leads_somewhere(document: Path) -> None:
    for path, anchor in links(document):
        target = (document.parent / path) if path else document
        assert target.exists(), f"{document.name}: {path}"
        assert not anchor or anchor in anchors(target), f"{document.name}: {path}#{anchor}"


def test_every_page_for_users_can_be_reached_from_the_readme() -> None:
    linked = {(ROOT / path).resolve() for path, _ in links(ROOT / "README.md")}
    internal = {ROOT / "docs" / "decisions.md"}  # ARCHITECTURE.md leads there
    assert set(FOR_USERS) - {ROOT / "README.md"} - internal <= linked


@pytest.mark.parametrize("document", DOCUMENTS, **BY_NAME)
def test_every_path_in_the_repository_that_is_named_is_there(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    folders = "tuner|tests|benchmarks|docs|cluster|search_spaces|reports/examples"
    made = {"cluster/tls"}  # by cluster/make_certificates
    for name in re.findall(rf"(?<![\w/.~$-])((?:{folders})/[\w./*-]*)", text):
        path = name.rstrip(".").partition("::")[0]
        assert path in made or list(ROOT.glob(path.rstrip("/"))), f"{path} in {document.name}"
    for name in re.findall(r"(?<![\w/*])(test_\w+\.py)", text):
        assert list((ROOT / "tests").rglob(name)), f"{name} in {document.name}"


def source_code(*folders: str) -> str:
    files = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in {".py", ".yml", ""}]
    return "\n".join(
        path.read_text(encoding="utf-8") for path in files if path.is_file() and "pycache" not in str(path)
    )


def test_every_variable_of_tuner_that_is_named_is_read_somewhere() -> None:
    code = source_code("tuner", "tests", "benchmarks", "cluster")
    for document in DOCUMENTS:
        for name in set(re.findall(r"\bTUNER_[A-Z_]+\b", document.read_text(encoding="utf-8"))):
            assert re.search(rf"\b{name}\b", code), f"{name} in {document.name}"


@pytest.mark.parametrize("name", ["ARCHITECTURE.md", "docs/decisions.md"])
def test_every_name_of_the_code_that_is_explained_is_there(name: str) -> None:
    code = source_code("tuner", "benchmarks")
    if (ROOT / name).exists():
        for word in inline_codes(ROOT / name):
            if re.fullmatch(r"[A-Za-z_][\w.]*(?:\(\))?", word) and not (ROOT / word).exists():
                assert re.search(rf"\b{word.removesuffix('()').rpartition('.')[2]}\b", code), f"{word} in {name}"
            if (found := re.fullmatch(r"([a-z]+)\.(\w+)", word)) and (ROOT / "tuner" / found[1]).is_dir():
                assert (ROOT / "tuner" / found[1] / f"{found[2]}.py").exists(), f"{word} in {name}"


def names_in(heading: str) -> list[str]:
    """The names in the first column of a table of docs/search_space_file.md, without their arguments."""
    return [re.sub(r"\(.*", "", code) for row in table(SPACE_FILE, heading) for code in codes_of(row[0])]


@pytest.mark.parametrize(
    ("heading", "registry"),
    [
        ("architecture", ARCHITECTURES),
        ("hyperparameter", GENERAL),
        ("preprocess", PREPROCESSING),
        ("augment", AUGMENTATION),
        ("sampler", SAMPLERS),
        ("scheduler", SCHEDULERS),
    ],
)
def test_the_tables_of_names_are_the_registries(heading: str, registry: Iterable[str]) -> None:
    named = names_in(heading)
    assert sorted(named) == sorted(registry)


def test_the_table_of_metrics_has_those_that_can_be_optimised() -> None:
    ((_, message),) = metrics_findings(["nonsense"])
    assert message.endswith(f"(known: {', '.join(sorted(names_in('metric')))})")


def test_the_table_of_sources_is_their_registry() -> None:
    named = {code for row in table(ROOT / "docs" / "own_images.md", "source") for code in codes_of(row[0])}
    assert named == {*NAMED, *(f"{name}:NAME" if name == "tfds" else f"{name}:PATH" for name in PREFIXED)}


def test_the_table_of_figures_is_their_registry() -> None:
    named = [code for row in table(ROOT / "docs" / "report.md", "figure") for code in codes_of(row[0])]
    assert named == list(FIGURES)


def test_the_shown_hyperparameters_are_those_of_the_architectures() -> None:
    for names, parameters in table(SPACE_FILE, "architecture"):
        for name in codes_of(names):
            assert codes_of(parameters) == list(ARCHITECTURES[name].parameters), name
    for name, default, *_ in table(SPACE_FILE, "hyperparameter"):
        own = GENERAL[codes_of(name)[0]].default  # null, in a file, is what `none` is: nothing, and no default
        assert default.startswith("of the ") if own is None else yaml.safe_load(default.strip("`")) == own, name


@pytest.mark.parametrize(("heading", "registry"), [("preprocess", PREPROCESSING), ("augment", AUGMENTATION)])
def test_the_shown_operations_have_the_arguments_of_the_registered_ones(heading: str, registry: Any) -> None:
    for signature, *_ in table(SPACE_FILE, heading):
        name, _, arguments = codes_of(signature)[0].rstrip(")").partition("(")
        shown = [argument.strip() for argument in arguments.split(",") if argument]
        assert shown == [argument.name for argument in registry[name].arguments], name
