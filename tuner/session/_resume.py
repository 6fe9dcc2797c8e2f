"""Checks that a resumed run has the search and the data that it began with.

Old and new trials would not be comparable otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Container, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from tuner.common.errors import RunError
from tuner.datasets.loading import Dataset
from tuner.datasets.splits import join_units
from tuner.runs.directory import RunDirectory
from tuner.runs.events import StudyCreated
from tuner.runs.state import RunState
from tuner.session._resolved import Study
from tuner.spec.spec import Spec
from tuner.spec.strengths import OWNER

MAY_CHANGE = ("search.trials", "search.time_budget", "search.stop_when", "search.max_concurrent",
              "search.hung_after_epochs", "search.probe", "resources.", "finalists.", "data.storage")  # fmt: skip
"""Settings of limits and of the machine, which may change; that the images are the same is seen from the data."""
_KEPT_WITH_RUN = ("search.warm_start", "search.prior")
"""Settings that were used when the run began, and have no effect any more."""
_OPEN = ("space.", "baseline.", "trainable")
"""Sections in which an added setting is another search; elsewhere an earlier tuner may not have had it."""
_SHOWN, _LONGEST = 5, 80


def first_event(state: RunState, run: RunDirectory) -> StudyCreated:
    """Return the first event of a run; raises RunError when it was killed before that was written."""
    if state.study is None:
        raise RunError(f"{run.path}: there is no search to resume; leave out --resume to begin one")
    return state.study


def refuse_other_search(study: StudyCreated, wanted: Spec, run: RunDirectory) -> None:
    """Check that the search is the one in the record; raises RunError that names the difference."""
    written = json.loads(json.dumps(wanted.resolved()))
    before = dict(_leaves(study.specification))
    now = dict(_leaves(written, before))
    keys = [key for key in {**before, **now} if key in before or key.startswith(_OPEN)]
    different = [
        f"{key} (was {_shown(before, key)}; is {_shown(now, key)})"
        for key in keys
        if not key.startswith((*MAY_CHANGE, *_KEPT_WITH_RUN)) and before.get(key) != now.get(key)
    ]
    orders = dict(_orders(written))
    different += [
        f"the order of {branch} (was {', '.join(operations)}; is {', '.join(orders[branch])})"
        for branch, operations in _orders(study.specification)
        if sorted(operations) == sorted(orders.get(branch, [])) and operations != orders[branch]
    ]
    if different:
        more = f", and {len(different) - _SHOWN} more" if len(different) > _SHOWN else ""
        raise RunError(
            f"{run.path} cannot go on: {', '.join(different[:_SHOWN])}{more} must be what it began with; change only "
            "the budget, name another run (--resume RUN), or begin one with --fresh"
        )


def _leaves(values: Mapping[str, Any], whole: Container[str] = (), path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield all settings by their paths; those that are `whole` as they are, with all that is below them.

    What was nothing before, and is a section now, is one setting that differs.
    """
    for key, value in values.items():
        if isinstance(value, Mapping) and value and f"{path}{key}" not in whole:
            yield from _leaves(value, whole, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def _orders(values: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, list[str]]]:
    """Yield the operations of each branch of augmentation by the path of the branch: they are applied in this order."""
    for key, value in values.items():
        if isinstance(value, Mapping) and path.endswith(f"{OWNER}.choose."):
            yield f"{path}{key}", list(value)
        elif isinstance(value, Mapping):
            yield from _orders(value, f"{path}{key}.")


def _shown(values: Mapping[str, Any], key: str) -> str:
    text = json.dumps(values[key], ensure_ascii=False) if key in values else "not there"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ..."


def refuse_other_data(study: StudyCreated, dataset: Dataset, run: RunDirectory) -> None:
    """Check that the data are those in the record; raises RunError with what they were and are."""
    if (different := other_data(study, dataset)) is None:
        return
    raise RunError(
        f"{run.path} cannot go on: the data in {dataset.source} are not those that it began with: {different}; name "
        "those with --data, or begin another run with --fresh"
    )


def other_data(study: StudyCreated, dataset: Dataset) -> str | None:
    """Return what has changed in the data since they were recorded; None: nothing."""
    before, now = study.data, describe_data(dataset)
    if before.get("fingerprint") == now["fingerprint"]:
        return None
    keys = [key for key in now if key not in ("name", "source") and key in before and before[key] != now[key]]
    return "; ".join(f"{key} was {_shown(before, key)}, is {_shown(now, key)}" for key in keys)


def as_before(began: StudyCreated | None, study: Study) -> Study:
    """Return a study with data that are kept as when its run began, where it leaves that to `auto`."""
    before = None if began is None else began.data.get("storage")
    return study if before is None else replace(study, data=study.data.kept_as_before(before))


def describe_data(dataset: Dataset) -> dict[str, Any]:
    """Return the description of the data for the record of a run."""
    return {
        "name": dataset.name,
        "source": dataset.source,
        "fingerprint": dataset.fingerprint,
        "class_names": list(dataset.class_names),
        "images_per_class": dict(zip(("smallest", "median", "largest"), _class_sizes(dataset), strict=True)),
        "image_shape": list(dataset.image_shape),
        "storage": dataset.prepared.storage,
        "fit": dataset.fit,
        "train_images": len(dataset.train),
        "validation_images": len(dataset.validation),
        "validation_groups": _validation_groups(dataset),
        "test_images": dataset.test_images,
    }


def _validation_groups(dataset: Dataset) -> int | None:
    """Return of how many groups the validation images are, those of one image among them; None: each is its own."""
    split = dataset.validation
    array = "train" if split.images is dataset.train.images else "validation"
    groups = dataset.prepared.column(array, "groups")
    units = None if groups is None else join_units(groups[split.rows])
    number = len(split) if units is None else len(np.unique(units))
    return number if number < len(split) else None


def _class_sizes(dataset: Dataset) -> list[int]:
    """Return how many training images the smallest class has, the one in the middle, and the largest."""
    sizes = np.sort(np.bincount(dataset.train.labels, minlength=len(dataset.class_names)))
    return [int(sizes[place]) for place in (0, (len(sizes) - 1) // 2, -1)]
