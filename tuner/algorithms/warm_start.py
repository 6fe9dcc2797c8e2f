"""Earlier studies as a start for a new one: read from records and files, fitted into its space, kept with its run.

What a search took over is copied into its run directory, so that a resumed session knows the same, wherever the earlier
runs are then.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from optuna.trial import FrozenTrial
from pydantic import BaseModel, ConfigDict, ValidationError

from tuner.algorithms._encoding import Encoding
from tuner.algorithms._transfer import ARCHITECTURE, best_of_each, judged, portfolio
from tuner.algorithms.study import ended_trial
from tuner.algorithms.study_file import StudyFile, best_values, read_study, recorded_metrics, studies_beside
from tuner.common.errors import RunError
from tuner.common.files import user_path, write_text
from tuner.common.metrics import Mode
from tuner.common.registry import unknown_name
from tuner.models.augmentation import restated
from tuner.runs.directory import RunDirectory, latest_run
from tuner.runs.events import Status
from tuner.runs.record import read_state
from tuner.runs.state import RunState, TrialState
from tuner.spec.space import Choose, Configuration, Dimension, Integer, Real, Scalar, Space, configure


class EarlierTrial(BaseModel):
    """One trial of an earlier study."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    configuration: Configuration
    status: Status
    best_by_epoch: dict[int, float]
    """The best value of the new study's metric up to each epoch."""


class EarlierStudy(BaseModel):
    """The part of an earlier study that a new one takes over."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str
    data: str
    trials: list[EarlierTrial]
    is_prior: bool = False
    """Whether it comes with tuner: a search takes recipes of it, and models nothing by it."""


@dataclass(frozen=True)
class WarmStart:
    """Earlier studies, as far as they fit into a space."""

    trials: Sequence[Sequence[FrozenTrial]]
    """For each study of the user's, its trials with parameters of the new space."""
    recipes: Sequence[Configuration] = ()
    """The best known of each architecture, where they have several: to try first, and for a while."""
    portfolio: Sequence[Configuration] = ()
    """The configurations of theirs to try then, the most useful first."""
    prior: Sequence[Configuration] = ()
    """Of the prior that comes with tuner, the best known of each architecture that these lack."""


NOTHING = WarmStart(())


def read_earlier(names: Sequence[str], runs_dir: Path, metric: str, mode: Mode) -> list[EarlierStudy]:
    """Return the studies that `names` stand for: run directories, files of studies, or names of studies in `runs_dir`.

    Raises RunError when one is not there, knows nothing of the metric, or holds no trial that showed anything.
    """
    studies = []
    for name in names:
        place = _find(name, runs_dir)
        if isinstance(place, RunDirectory):
            state, path = read_state(place.record), place.path
            study, known = earlier_study(place.name, state, metric, mode), dict.fromkeys(recorded_metrics(state), mode)
        else:
            found, path = read_study(place), place
            study, known = _of_file(place, found, metric), dict(found.metrics)
        if known.get(metric, mode) != mode:
            raise RunError(
                f"search.warm_start: {path}: {metric} must be best where it is {_END[mode]}, as in this search; there "
                f"it is best where it is {_END[known[metric]]}"
            )
        if known and metric not in known:
            measured = " or ".join(known)
            raise RunError(
                f"search.warm_start: {path}: metric must be one that its epochs measured, {measured}; got {metric}"
            )
        if not any(trial.best_by_epoch for trial in study.trials):
            raise RunError(f"search.warm_start: {path} holds no trial with an epoch: there is nothing to learn")
        studies.append(study)
    return studies


_END: dict[Mode, str] = {"max": "largest", "min": "smallest"}


def _find(name: str, runs_dir: Path) -> RunDirectory | Path:
    """Return the run, or the file of a study, that a name stands for."""
    place = user_path(name)
    run = RunDirectory(place)
    try:
        if run.record.is_file():
            return run
        if place.is_file():
            return place
        return latest_run(runs_dir, name)
    except (RunError, OSError, ValueError, NotImplementedError):  # the last: patterns that begin with a slash
        known = sorted(path.parent.name for path in runs_dir.glob("*/record.jsonl")) + studies_beside(place)
        kind = f"run (a folder, a file of tuner.export --study, or a study in {runs_dir})"
        raise RunError(f"search.warm_start: {unknown_name(kind, name, known)}") from None


def earlier_study(name: str, state: RunState, metric: str, mode: Mode) -> EarlierStudy:
    """Return the state of a run as an earlier study, its values in terms of the new study's metric."""

    def best_by_epoch(trial: TrialState) -> dict[int, float]:
        values = best_values(trial.epochs, metric, mode)
        return {epoch.epoch: best for epoch, best in zip(trial.epochs, values, strict=True) if best is not None}

    trials = [
        EarlierTrial(configuration=one.configuration, status=one.status, best_by_epoch=best_by_epoch(one))
        for one in state.trials.values()
    ]
    return EarlierStudy(name=name, data=str(state.study.data["name"]) if state.study else "", trials=trials)


def _of_file(path: Path, study: StudyFile, metric: str) -> EarlierStudy:
    trials = [
        EarlierTrial(configuration=one.configuration, status=one.status, best_by_epoch=one.best_by_epoch(metric))
        for one in study.trials
    ]
    return EarlierStudy(name=study.name or path.stem, data=study.data.words, trials=trials)


def save_earlier(studies: Sequence[EarlierStudy], path: Path) -> None:
    """Write the studies to `path`."""
    write_text(path, json.dumps([study.model_dump() for study in studies]) + "\n")


def load_earlier(path: Path) -> list[EarlierStudy]:
    """Return the studies kept at `path`, none where there is no such file; raises RunError when it is damaged."""
    if not path.exists():
        return []
    try:
        return [EarlierStudy.model_validate(one) for one in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError, ValidationError) as error:
        raise RunError(f"{path}: cannot be read: {str(error).splitlines()[0]}") from None


def warm_start(studies: Sequence[EarlierStudy], space: Space, baseline: Configuration | None, mode: Mode) -> WarmStart:
    """Return the studies fitted into a space: their trials that have a place in it, and those to try first."""
    own, prior = (
        [list(_fitted(one, space, baseline or {})) for one in studies if one.is_prior is which]
        for which in (False, True)
    )
    recipes, together = _chosen(own, mode)
    of_prior, _ = _chosen(prior, mode)
    known = {_architecture(one) for one in [*recipes, *together]}
    return WarmStart(
        trials=[[trial for _, trial in one] for one in own],
        recipes=recipes if len(recipes) > 1 else (),
        portfolio=together,
        prior=[one for one in of_prior if _architecture(one) not in known],
    )


_Fitted = tuple[Configuration, FrozenTrial]


def _chosen(studies: Sequence[Sequence[_Fitted]], mode: Mode) -> tuple[list[Configuration], list[Configuration]]:
    """Return the best known configuration of each architecture, and the portfolio."""
    trials = [[trial for _, trial in one] for one in studies]
    distributions = {name: value for one in trials for trial in one for name, value in trial.distributions.items()}
    if not distributions:
        return [], []
    encoding = Encoding(distributions)
    encoding.learn(np.array([encoding.row(trial.params) for one in trials for trial in one]))
    configurations = {id(trial): configuration for one in studies for configuration, trial in one}
    known = judged(trials, encoding, mode=mode)
    best = best_of_each(known, lambda trial: _architecture(configurations[id(trial)]))
    return [configurations[id(one)] for one in best], [configurations[id(one)] for one in portfolio(known)]


def _architecture(configuration: Configuration) -> Scalar:
    return configuration.get(ARCHITECTURE, "")


def describe(studies: Sequence[EarlierStudy], space: Space, baseline: Configuration | None, mode: Mode) -> str:
    """Return in words how much of the user's earlier studies has a place in a space."""
    warm = warm_start(studies, space, baseline, mode)
    parts = [
        f"{study.name} on {study.data}, {len(trials)} of {len(study.trials)} trials"
        for study, trials in zip(studies, warm.trials, strict=True)
    ]
    first = {frozenset(configuration.items()) for configuration in [*warm.recipes, *warm.portfolio]}
    return f"warm start: {'; '.join(parts)} have a place in this space; {len(first)} of them are tried first"


def _fitted(study: EarlierStudy, space: Space, defaults: Configuration) -> Iterator[_Fitted]:
    for trial in study.trials:
        configuration = fit_into(space, trial.configuration, defaults)
        if configuration is not None and (trial.best_by_epoch or trial.status == "failed"):
            # One that ran or waited when its study ended counts as stopped.
            yield configuration, ended_trial(space, configuration, trial.status, trial.best_by_epoch, {})


class _Elsewhere(Exception):
    """A configuration has no place in a space."""


def fit_into(space: Space, configuration: Mapping[str, Scalar], defaults: Mapping[str, Scalar]) -> Configuration | None:
    """Return the configuration of `space` nearest to one of another space; None when its branch does not exist.

    Numbers move to the nearest that there is. Words that are no choice here, and what the other space did not have, are
    as in `defaults` (the baseline), or in the middle.

    >>> fit_into({"depth": Integer(0, 4), "dropout": Real(0.0, 0.6)}, {"depth": 9}, {})
    {'depth': 4, 'dropout': 0.3}
    """

    def look_up(_qualified: str, name: str, dimension: Dimension) -> Scalar:
        value = configuration.get(name)
        if name in configuration and dimension.contains(value):
            return value
        if name in configuration and isinstance(dimension, Choose):
            raise _Elsewhere
        if isinstance(value, int | float) and not isinstance(value, bool):
            nearest = _nearest(dimension, value)
            if nearest is not None:
                return nearest
        if name in defaults and dimension.contains(defaults[name]):
            return defaults[name]
        return _middle(dimension)

    configuration = restated(configuration, space)
    try:
        return configure(space, look_up)
    except _Elsewhere:
        return None


def _nearest(dimension: Dimension, value: float) -> Scalar:
    """Return the number of a dimension that is nearest to `value`; None when it has no numbers."""
    match dimension:
        case Integer(low, high, step, _):
            steps = round((min(max(value, low), high) - low) / step)
            return low + min(steps, (high - low) // step) * step
        case Real(low, high, _):
            return float(min(max(value, low), high))
        case _:
            numbers = [one for one in dimension.values if isinstance(one, int | float) and not isinstance(one, bool)]
            return min(numbers, key=lambda one: abs(one - value), default=None)


def _middle(dimension: Dimension) -> Scalar:
    match dimension:
        case Integer(low, high, _, log) | Real(low, high, log):
            middle = math.sqrt(low * high) if log else (low + high) / 2
            return _nearest(dimension, middle)
        case _:
            return dimension.values[0]
