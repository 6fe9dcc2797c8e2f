"""The prior that comes with tuner: studies of other data, for the first recipe of each architecture of a search.

They are kept with a run beside the user's earlier studies (`warm_start`), and go through the same gate; nothing is
modelled by them. Data that a user searches have other architectures than those of the prior: each of its trials moves
to one of the same kind, those of the same name first.
`python -m benchmarks.images prior` builds the file from measured tables.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tuner.algorithms.study_file import ShownTrial, StudyFile
from tuner.algorithms.warm_start import EarlierStudy, EarlierTrial
from tuner.common.errors import RunError, first_line
from tuner.common.files import write_text
from tuner.common.metrics import Mode
from tuner.spec.space import Configuration

FILE = Path(__file__).with_name("prior.json")
_INSTEAD: Mapping[Mode, str] = {"max": "val_accuracy", "min": "val_loss"}
"""What stands for a metric that the studies have not measured."""


class PriorStudy(BaseModel):
    """A study of the prior."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    base: str
    """The data set that its images are of: what is judged on it knows nothing of this study."""
    pretrained: dict[str, bool]
    """Whether each of its architectures begins with trained weights."""
    study: StudyFile


class Prior(BaseModel):
    """All studies of the prior."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    kind: Literal["tuner prior"] = "tuner prior"
    version: Literal[1] = 1
    studies: list[PriorStudy] = Field(min_length=1)


@cache
def shipped_prior(path: Path = FILE) -> Prior:
    """Return the prior that comes with tuner.

    Raises:
        RunError: its file is not there, or damaged.
    """
    try:
        return Prior.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise RunError(f"{path}: cannot be read: {first_line(error)}; search.prior=none does without") from None


def save_prior(studies: Sequence[PriorStudy], path: Path = FILE) -> Path:
    """Write a prior, a line for each of its studies; returns the path."""
    head = f'{{"kind": "tuner prior", "version": {Prior.model_fields["version"].default}, "studies": [\n'
    return write_text(path, head + ",\n".join(one.model_dump_json() for one in studies) + "\n]}\n")


def prior_studies(
    studies: Sequence[PriorStudy], there: Mapping[str, bool | None], metric: str, mode: Mode
) -> list[EarlierStudy]:
    """Return the studies as earlier ones of a search, which knows their values by its own metric.

    `there` are the architectures of its space, and whether each is pretrained (None: nobody knows). Trials of another
    kind are left out, and so are studies without any other.
    """
    found = [
        EarlierStudy(
            name=f"prior {number}",
            data=one.study.data.words,
            is_prior=True,
            trials=[
                EarlierTrial(configuration=configuration, status=trial.status, best_by_epoch=curve)
                for configuration, trial in _moved(one, there)
                if (curve := trial.best_by_epoch(metric if metric in one.study.metrics else _INSTEAD[mode]))
            ],
        )
        for number, one in enumerate(studies)
    ]
    return [one for one in found if one.trials]


def _moved(study: PriorStudy, there: Mapping[str, bool | None]) -> Iterator[tuple[Configuration, ShownTrial]]:
    """Yield the trials of a study whose kind of architecture is there, with a configuration that has such a one.

    Where there are several of the kind, and none by this name, trials take turns: nothing is known of the differences.
    """

    def those_for(name: str) -> list[str]:
        kind = study.pretrained.get(name)
        return [name] if name in there else [one for one, known in there.items() if known is not None and known == kind]

    turns = {name: itertools.cycle(those) for name in study.pretrained if (those := those_for(name))}
    for trial in study.study.trials:
        name = str(trial.configuration["architecture"])
        if name in turns:
            yield {**trial.configuration, "architecture": next(turns[name])}, trial
