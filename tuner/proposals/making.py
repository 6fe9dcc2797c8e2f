"""The making of a search-space file for a source: a look at data and machine, the proposal, the file."""

from __future__ import annotations

import itertools
import math
import os
import shlex
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tuner.common.errors import DataError, InputError, Problem, SpecError, printable
from tuner.common.files import as_typed, check_folder, is_disk_full, shown
from tuner.datasets.account.facts import Account
from tuner.datasets.account.taking import Aims, Watch
from tuner.datasets.loading import look_at_data
from tuner.datasets.request import DataRequest, contradictions
from tuner.proposals._facts import Machine, Wish, data_facts
from tuner.proposals._machine import Reach, look_at_machine
from tuner.proposals._networks import scratch_px
from tuner.proposals._own import own_networks, plugin_words
from tuner.proposals._proposal import Proposal, as_given, propose
from tuner.proposals._remarks import Remark, group_question
from tuner.proposals._text import proposal_text
from tuner.proposals.asking import SPACE_FILES, source_as_written, study_name
from tuner.spec.schema import DataSection
from tuner.spec.spec import dump_spec, read_spec, require

DEFAULT_TIME = "30m"
"""Of a search whose user gives none."""
MOST_DECODED_A_SECOND = 20
"""Images for each second of the time that are decoded to look for broken ones and copies; of more, headers are read."""
ALWAYS_DECODED = 2_000
"""So many more are, however little time there is."""
ENOUGH_OF_A_CLASS = 5
"""With so many of each, a fifth for the test split holds every class, and what is left can be parted."""
_MOST_NAMED = 5
"""So many broken images are told by name; the report of a search has all."""


@dataclass(frozen=True)
class Asked:
    """A source, and all that a command line says of its file."""

    source: str
    """With its kind."""
    time_s: float | None
    overrides: tuple[str, ...]
    """Settings of `data` that are given, as `--set` has them."""
    staged: Mapping[str, str]
    cache_dir: Path
    runs_dir: Path
    """Names of runs in it are not taken again."""
    output: Path | None
    """The file to write; None: one of a free name in this folder."""


@dataclass(frozen=True)
class Made:
    """A file that was written."""

    path: Path
    lines: tuple[str, ...]
    """What was chosen and why."""


def make_file(asked: Asked, watch: Watch = lambda done, total: None, reach: Callable[[], Reach] = Reach) -> Made:
    """Look at the data and the machine, and write a search-space file with a comment for each choice.

    Raises:
        InputError: there is nothing to search with, or the file cannot be written; nothing was written then.
    """
    _check_output(asked.output)
    given = _given_settings(asked)
    path = asked.output or _free_path(study_name(asked.source), asked.runs_dir)
    check_folder(path.absolute().parent, "the folder of the search-space file")
    written = source_as_written(asked.source, _is_elsewhere(path))
    reaching = reach()
    account = _account(asked, given, watch)
    machine = look_at_machine(reaching)
    wish = Wish(_study_of(path, asked.source), written, asked.time_s, tuple(given.items()))
    data = as_given(data_facts(account), given)
    own, left_out = own_networks(scratch_px(data, machine, wish), 1 if data.is_grey else 3)
    proposal = _possible(asked, account, machine, replace(wish, own=tuple(own)))
    text = text_of(proposal, account, path)
    require(read_spec(text, shown(path)))
    _write_new(path, text)
    return Made(path, (*left_out, *_told(proposal, account, path, asked)))


def text_of(proposal: Proposal, account: Account, path: Path) -> str:
    """Return the text of the file at `path`."""
    data = data_facts(account)
    head = (
        f"Written by tuner after a look at the data and at this machine: change what you know better, then python -m "
        f"tuner.search {shlex.quote(as_typed(path))}{plugin_words()}. Paths begin at the folder in which a search is "
        "started."
    )
    guess = data.group_guess if not any(one.name == "group" for one in proposal.settings[1].value) else None
    return proposal_text(proposal, head, guess.pattern if guess else None, group_question(data))


# --- what is asked for ---


def _check_output(output: Path | None) -> None:
    if output is None:
        return
    if output.suffix.lower() not in SPACE_FILES:
        raise InputError(f"--output must end with .yaml; got {shown(output)}")
    if os.path.lexists(output):
        raise InputError(f"--output must be a new file: {shown(output)} exists, and is left as it is")


def _given_settings(asked: Asked) -> dict[str, Any]:
    """Return the settings of `data` that the command line gives, checked.

    Raises:
        SpecError: one is wrong.
    """
    overrides = [one for one in asked.overrides if one.strip().startswith("data.")]
    reading = read_spec(dump_spec({"data": {"source": asked.source}}), asked.source, overrides)
    problems = [one for one in reading.problems if one.field.startswith(("data.", "--set"))]
    if not problems and reading.data is not None:
        problems = list(_contradictions(reading.data, asked.staged))
    if problems or reading.data is None:
        raise SpecError(reading.file, [replace(one, line=None) for one in problems or reading.problems])
    given = reading.data.model_dump(include=reading.data.model_fields_set - {"source"})
    return {name: _without_none(value) for name, value in given.items() if value is not None}


def _without_none(value: Any) -> Any:
    return {name: each for name, each in value.items() if each is not None} if isinstance(value, dict) else value


def _contradictions(data: DataSection, staged: Mapping[str, str]) -> Iterator[Problem]:
    columns = data.model_dump()["columns"]
    for name, text in contradictions(data.source, data.layout, columns, data.group, staged):
        yield Problem(f"data.{name}", text)


# --- where it is written ---


def _free_path(name: str, runs_dir: Path) -> Path:
    """Return the first name in this folder of which there is neither a file nor a run."""
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(
        Path(f"{one}.yaml")
        for one in names
        if not any(os.path.lexists(f"{one}{suffix}") for suffix in SPACE_FILES) and not os.path.lexists(runs_dir / one)
    )


def _is_elsewhere(path: Path) -> bool:
    """Return whether a file does not lie in this folder, where paths begin."""
    return path.absolute().parent.resolve() != Path.cwd().resolve()


def _study_of(path: Path, source: str) -> str:
    """Return the name of the study, which is the file's if it can be."""
    return study_name(f"folder:/{path.stem}") if path.stem else study_name(source)


def _write_new(path: Path, text: str) -> None:
    """Write a file that is not there yet."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except FileExistsError:
        raise InputError(f"{shown(path)}: has just been written by somebody else, and is left as it is") from None
    except OSError as error:
        if is_disk_full(error):
            raise
        raise InputError(f"{shown(path)}: cannot be written: {error.strerror or error}") from None


# --- the look and the proposal ---


_SPLITS: tuple[dict[str, Any], ...] = ({}, {"validation": {"folds": 2}}, {"validation_fraction": 0.3})
"""Ways to part images that are tried one after the other: few images cannot be parted in all of them."""


def _account(asked: Asked, given: Mapping[str, Any], watch: Watch) -> Account:
    """Return the account of the data; what is too much to be decoded in a part of the time, by its headers.

    Raises:
        DataError: a search would refuse the data, whatever the file says of them.
    """
    refused = list[str]()
    for split in _SPLITS:
        settings = {"broken_images": "skip", **split, **given}
        account = _look(asked, settings, is_quick=True)
        if not account.images:
            why = f": {account.broken[0].name} {account.broken[0].reason}" if account.broken else ""
            raise DataError(f"{asked.source}: none of its images can be read{why}")
        if not account.refusals and account.images <= _most_decoded(asked):
            account = _look(asked, settings, watch, is_quick=False)
        if not account.refusals:
            return account
        refused += account.refusals
    few = min((one.images for one in account.classes), default=0) < ENOUGH_OF_A_CLASS
    hint = f"; {ENOUGH_OF_A_CLASS} images of each class are enough" if few else ""
    raise DataError(f"{refused[0]}{hint}")


def _most_decoded(asked: Asked) -> float:
    return math.inf if asked.time_s is None else ALWAYS_DECODED + MOST_DECODED_A_SECOND * asked.time_s


def _look(
    asked: Asked, settings: Mapping[str, Any], watch: Watch = lambda done, total: None, *, is_quick: bool
) -> Account:
    request = DataRequest(asked.source, **settings)
    return look_at_data(
        request, staged=asked.staged, cache_dir=asked.cache_dir, aims=Aims(), is_quick=is_quick, watch=watch
    )[0]


def _possible(asked: Asked, account: Account, machine: Machine, wish: Wish) -> Proposal:
    """Return the proposal, with a fraction held out instead of folds where the data cannot be parted into these.

    Raises:
        DataError: they cannot be parted as the command line says.
    """
    for tried in (wish, replace(wish, without_folds=True), replace(wish, without_folds=True, fraction=0.3)):
        proposal = propose(data_facts(account), machine, tried)
        data = {key: value for key, value in proposal.values()["data"].items() if key != "source"}
        refusals = _look(asked, data, is_quick=True).refusals
        if not refusals:
            return proposal
    raise DataError(refusals[0])


def _told(proposal: Proposal, account: Account, path: Path, asked: Asked) -> Iterator[str]:
    """Yield what is said of a file: what was chosen, what is to be known of the data, and an earlier file."""
    broken = [Remark("broken", f"{one.name} {one.reason}") for one in account.broken[:_MOST_NAMED]]
    noted = [Remark("noted", text) for text in account.notices]
    remarks = [*proposal.remarks, *broken, *noted]
    width = max(len(one.about) for one in remarks)
    yield from (f"{one.about:<{width}}  {printable(one.text)}" for one in remarks)
    yield f"{shown(path)} says so, with a comment for each choice"
    earlier = Path(f"{study_name(asked.source)}.yaml")
    if asked.output is None and path != earlier and earlier.is_file():
        goes_on = " --resume" if (asked.runs_dir / earlier.stem).exists() else ""
        how = "to go on with its search" if goes_on else "to search with it"
        yield f"{earlier} was there already, and is left as it is; {how}: python -m tuner.search {earlier}{goes_on}"
