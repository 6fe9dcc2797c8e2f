"""The preparation of a search: its data, and models that can be built on them."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tuner import __version__
from tuner.common.command_line import split_assignments
from tuner.common.errors import DataError, InputError, cause_of
from tuner.common.files import check_folder, replacing, user_path, write_text
from tuner.common.metrics import metric_of
from tuner.common.plugins import Plugin, load_plugins
from tuner.common.process import keras_home
from tuner.datasets.account.facts import load_account, save_account
from tuner.datasets.account.taking import Aims
from tuner.datasets.loading import DataWords, describe_data, find_prepared_data, load_dataset, look_at_data
from tuner.datasets.prepared import default_cache_dir
from tuner.datasets.request import DataRequest
from tuner.datasets.staging import absolute_source, resolve, staged_sources
from tuner.execution.worker_process import TrainableTrials, TrialKind, WorkerContext
from tuner.models.architectures import ARCHITECTURES, Architecture
from tuner.models.backend import configure_backend, release_memory
from tuner.models.parameters import general
from tuner.models.preprocessing import parse_preprocess
from tuner.reports.console import SearchConsole
from tuner.reports.data_section import draw_sheets, save_sheets
from tuner.runs.directory import RunDirectory
from tuner.session._own_code import refuse_code_of_program
from tuner.session._resolved import Study, Training
from tuner.session.options import SearchOptions
from tuner.spec.space import Choose, Configuration, Dimension, Space, flatten
from tuner.training.trainable import TRAINABLES

if TYPE_CHECKING:
    from tuner.datasets import prepared
    from tuner.datasets.loading import Dataset


REPORT_SHEETS = 24
REPORT_IMAGES = 8
"""A report shows pictures of so many classes, so many of each."""


@dataclass(frozen=True)
class Prepared:
    """The data of a search, and the way for workers on any node to find them."""

    request: DataRequest
    staged: Mapping[str, str]
    cache_dir: Path
    dataset: Dataset
    trial_kind: TrialKind
    """The trials that are made on them."""
    plugins: tuple[Plugin, ...] = ()
    """Own code that every process needs."""

    def worker_context(self, training: Training, cpus: float, gpus: float | None = None) -> WorkerContext:
        """Return what every trial of a search shares, each trained with so many CPUs and GPUs (None: any)."""
        kept = training.activations_in(self.cache_dir)
        return WorkerContext(
            *(self.request, self.staged, self.cache_dir, training.settings, kept, cpus, self.trial_kind, self.plugins),
            copy=self.dataset.prepared.path,
            gpus=gpus,
        )


def staged_data(options: SearchOptions) -> dict[str, str]:
    """Return the staged copies of data sets by name, from TUNER_DATA and --data."""
    return staged_sources(os.environ, split_assignments(options.data))


def cache_folder(options: SearchOptions) -> Path:
    """Return the absolute folder of prepared data and activations; raises InputError when nothing can be kept there."""
    folder = user_path(options.cache_dir or default_cache_dir()).absolute()
    check_folder(folder, "--cache (or TUNER_CACHE)", is_written=not folder.exists())  # what is prepared can be read
    return folder


def prepared_data(request: DataRequest, options: SearchOptions) -> prepared.PreparedCopy | None:
    """Return the prepared copy of a study's data; None: it has not been made yet, or the data are not there."""
    with contextlib.suppress(DataError):
        return find_prepared_data(request, staged_data(options), cache_folder(options))
    return None


def planned_data(study: Study, options: SearchOptions) -> DataWords:
    """Return what is known of a study's data; raises InputError where they have too few classes for its metrics."""
    known = describe_data(study.data, staged_data(options), cache_folder(options))
    if known.num_classes is not None:
        check_class_number(study.metrics, known.num_classes)
    return known


def prepare(
    study: Study, options: SearchOptions, console: SearchConsole, trial_kind: TrialKind | None = None
) -> Prepared:
    """Load the data, and check that every architecture of the space can be built on them.

    The trials will be of `trial_kind`; if none is given, they train networks.

    Raises:
        InputError: what cannot be, with the reason; nothing has been trained then.
    """
    request, staged = study.data, staged_data(options)
    # Under its own name, so that it keeps it: a worker must find the same files from another working folder.
    staged[request.source] = absolute_source(resolve(request.source, staged))
    cache_dir = cache_folder(options)
    with console.preparing(f"preparing {request.source}"):
        dataset = load_dataset(request, staged=staged, seed=study.seed, cache_dir=cache_dir, notify=console.say)
    console.say(
        f"{len(dataset.train):,} training and {len(dataset.validation):,} validation images of "
        f"{'x'.join(str(size) for size in dataset.image_shape)}, {dataset.prepared.describe_classes()}"
    )
    refuse_code_of_program(study)
    check_metrics(study.metrics, dataset.validation.labels, len(dataset.class_names))
    space = study.network_space
    check_sizes(space, dataset.image_shape)
    own = [str(name) for name in _values(space.get("architecture")) if ARCHITECTURES[str(name)].is_own]
    if own:
        with console.preparing("building own architectures"):
            check_own(study, own, dataset.image_shape, len(dataset.class_names), console.say)
    backbones = [one for one in backbone_configurations(space) if one["architecture"] not in own]
    if backbones:
        known = BlockCounts(cache_dir)
        with console.preparing("checking the backbones and their weights"):
            check_backbones(study.space, backbones, dataset.image_shape, known)
    # As it was settled here, with the room that this machine has: workers on others train on the same values.
    request = request.kept_as(dataset.prepared.storage)
    plugins = load_plugins(options.plugins)
    return Prepared(request, staged, cache_dir, dataset, trial_kind or _trial_kind(study), plugins=plugins)


def _trial_kind(study: Study) -> TrialKind:
    """Return the trials of a study: networks, or a training function of one's own."""
    if study.trainable is None:
        return TrialKind()
    trainable = TRAINABLES[study.trainable]
    why = "" if trainable.predicts is not None else f"{trainable.words} has no predict"
    return TrialKind(partial(TrainableTrials, name=study.trainable), why_untested=why)


def check_metrics(metrics: Sequence[str], labels: np.ndarray, num_classes: int) -> None:
    """Refuse a metric that says nothing with so few classes, or with validation images of these labels."""
    check_class_number(metrics, num_classes)
    for name in metrics:
        entry, present = metric_of(name), len(np.unique(labels))
        if present < entry.least_present:
            raise InputError(
                f"metric {name} needs validation images of at least {entry.least_present} classes; "
                f"the validation split has images of {present}"
            )


def check_class_number(metrics: Sequence[str], num_classes: int) -> None:
    """Refuse a metric that says nothing with so few classes."""
    for name in metrics:
        least = metric_of(name).least_classes
        if num_classes < least:
            raise InputError(
                f"metric {name} needs at least {least} classes, with fewer every prediction is right; "
                f"the data have {num_classes}"
            )


def keep_account(study: Study, prepared: Prepared, run: RunDirectory) -> None:
    """Write the account of a study's data into a run, with pictures of the classes, for its report.

    It is kept in the prepared copy, for later searches that ask the same of these data.
    """
    if load_account(run.data) is not None:
        return
    aims = Aims(study.metrics, frozenset(parameter.name for parameter in flatten(study.network_space)), study.seed)
    kept = _account_folder(prepared, aims)
    if load_account(kept / run.data.name) is not None:
        with contextlib.suppress(OSError):
            _copy_account(kept, run.path, run)
            return
    account, gallery = look_at_data(
        prepared.request, staged=prepared.staged, cache_dir=prepared.cache_dir, aims=aims, is_quick=True
    )
    save_sheets(run.contact_sheets, draw_sheets(gallery, REPORT_SHEETS, REPORT_IMAGES))
    save_account(run.data, account)
    with contextlib.suppress(OSError):  # a cache that can only be read: it is taken again next time
        kept.mkdir(exist_ok=True)
        _copy_account(run.path, kept, run)


def _account_folder(prepared: Prepared, aims: Aims) -> Path:
    """Return where an account of prepared data is kept, by everything that it depends on beside them."""
    asked = [__version__, prepared.dataset.source, asdict(prepared.request), aims.metrics]
    text = json.dumps([*asked, sorted(aims.hyperparameters), aims.seed], sort_keys=True)
    return prepared.dataset.prepared.path / f"account-{sha256(text.encode()).hexdigest()[:24]}"


def _copy_account(origin: Path, target: Path, run: RunDirectory) -> None:
    """Copy an account and its pictures from folder to folder, the account last: where it is, all is there."""
    for name in (run.contact_sheets.name, run.data.name):
        with replacing(target / name) as aside:
            shutil.copyfile(origin / name, aside)


def check_sizes(space: Space, image_shape: tuple[int, int, int]) -> None:
    """Refuse a preprocessing variant that makes images too small for an architecture of the space."""
    chosen = space.get("architecture")
    for name in _values(chosen):
        inner = {**space, **(chosen.branches[str(name)] if isinstance(chosen, Choose) else {})}
        texts = [str(text) for text in _values(inner.get("preprocess"))] or ["none"]
        minimum_px = ARCHITECTURES[str(name)].minimum_px
        for text in texts:
            height, width, _ = parse_preprocess(text).output_shape(image_shape)
            if min(height, width) < minimum_px:
                raise InputError(
                    f"space.preprocess must give {name} images of at least {minimum_px} px; "
                    f"{text!r} gives {height}x{width}: add resize({minimum_px}) or larger"
                )


def _values(dimension: Dimension | None) -> tuple[Any, ...]:
    return tuple(getattr(dimension, "values", ()))


def backbone_configurations(space: Space) -> list[Configuration]:
    """Return a configuration for each file of weights that the space may need (architecture, alpha, weights, size)."""
    chosen = space.get("architecture")
    found: list[Configuration] = []
    for name in _values(chosen):
        architecture = ARCHITECTURES[str(name)]
        if not architecture.is_backbone:
            continue
        inner = {**space, **(chosen.branches[str(name)] if isinstance(chosen, Choose) else {})}
        keys = [key for key in ("preprocess", "alpha", "weights") if key in inner]
        for values in itertools.product(*(_values(inner[key]) for key in keys)):
            found.append({"architecture": str(name), **dict(zip(keys, values, strict=True))})
    return found


def probed_configurations(study: Study, image_shape: tuple[int, int, int]) -> list[Configuration]:
    """Return a configuration for each backbone and preprocessing of a study, in the order in which they are probed.

    First comes the baseline's, whose features the first trial has just computed, then those of the smallest images:
    most are known when the time is spent. What else features depend on is as in the baseline, or as the space has it
    first; maps are pooled in any case. Pixels in another range are the same to pretrained weights (`adapt_pixels`).
    """
    space, found = study.network_space, []
    chosen, baseline = space.get("architecture"), study.baseline or {}
    for one in backbone_configurations(space):
        name = str(one["architecture"])
        inner = {**space, **(chosen.branches[name] if isinstance(chosen, Choose) else {})}
        known = baseline if baseline.get("architecture") == name else {}
        names = [key for key in (*(ARCHITECTURES[name].backbone_parameters or ()), "pooling") if key in inner]
        values = {key: known.get(key, _end_of(inner[key], 0)) for key in names if key not in one}
        found.append({**one, **values, **({"pooling": "average"} if values.get("pooling") == "flatten" else {})})

    def order(one: Configuration) -> tuple[bool, int]:
        known = {**baseline, "pooling": one.get("pooling")}
        differs = any(known.get(name) != value for name, value in one.items())
        return differs, math.prod(preprocessed_shape(one, image_shape))

    return sorted(found, key=order)


def preprocessed_shape(configuration: Configuration, image_shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return height, width and channels of what a configuration's preprocessing makes of images of a shape."""
    return parse_preprocess(str(general(configuration, "preprocess"))).output_shape(image_shape)


class BlockCounts:
    """The numbers of blocks of backbones, each found by building the backbone once and kept for later searches.

    What is remembered holds for the weights files as they lay there, so that one that was removed is missed again.
    """

    def __init__(self, cache_dir: Path) -> None:
        self._path = cache_dir / "backbones.json"
        self._counts: dict[str, int] = {}
        with contextlib.suppress(OSError, ValueError):
            self._counts = {str(key): int(count) for key, count in json.loads(self._path.read_text()).items()}

    def count(self, architecture: Architecture, values: Mapping[str, Any], height: int, width: int) -> int:
        """Return how many blocks a backbone has.

        Raises:
            WeightsError: pretrained weights cannot be fetched.
        """
        facts = [architecture.name, values.get("alpha"), values["weights"], height, width, __version__]
        key = json.dumps([*facts, _weights_files()])
        if key not in self._counts:
            from tuner.models.blocks import blocks

            configure_backend()
            number = len(blocks(architecture.build(values, (height, width, 3), 0)))
            release_memory()
            self._counts[json.dumps([*facts, _weights_files()])] = number  # it may just have been downloaded
            with contextlib.suppress(OSError):  # next time it takes as long again
                write_text(self._path, json.dumps(self._counts))
            return number
        return self._counts[key]


def _weights_files() -> list[tuple[str, int, int]]:
    """Return name, size and time of every weights file that Keras has on this machine."""
    folder = keras_home() / "models"
    return sorted((path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in folder.glob("*.h5"))


def check_backbones(
    space: Space, configurations: list[Configuration], image_shape: tuple[int, int, int], known: BlockCounts
) -> None:
    """Check that the weights of each backbone are there, and that it has the blocks that the space may unfreeze.

    Raises:
        WeightsError: pretrained weights cannot be fetched.
        InputError: the space unfreezes more blocks than a backbone has.
    """
    for configuration in configurations:
        architecture = ARCHITECTURES[str(configuration["architecture"])]
        height, width, _ = preprocessed_shape(configuration, image_shape)
        number = known.count(architecture, architecture.values_of(configuration), height, width)
        deepest = _deepest_unfreezing(space, architecture.name)
        if deepest > number:
            raise InputError(
                f"space.unfreeze_depth must be at most {number}, the number of blocks of "
                f"{architecture.name}; got {deepest}"
            )


def check_own(
    study: Study,
    names: Sequence[str],
    image_shape: tuple[int, int, int],
    num_classes: int,
    say: Callable[[str], None],
) -> None:
    """Build each architecture of own code at the ends of its space, and say where that fails.

    Raises:
        InputError: one can be built nowhere, or has fewer blocks than the space may unfreeze.
    """
    configure_backend()
    for name in names:
        tried = [_attempt_own(corner, image_shape, num_classes) for corner in _corners(study, name)]
        release_memory()
        failures = [found for found in tried if isinstance(found, str)]
        numbers = [found for found in tried if isinstance(found, int)]
        if not numbers:
            raise InputError(failures[0])
        for failure in dict.fromkeys(failures):
            say(f"notice: {failure}; trials with such values will fail")
        deepest = _deepest_unfreezing(study.space, name)
        if deepest > max(numbers):
            raise InputError(
                f"space.unfreeze_depth must be at most {max(numbers)}, the number of blocks of {name}; got {deepest}"
            )


def _attempt_own(configuration: Configuration, image_shape: tuple[int, int, int], num_classes: int) -> int | str:
    """Return the number of blocks of a network, or why it cannot be built."""
    from tuner.models.network import build_model

    try:
        return len(build_model(configuration, image_shape, num_classes, 0).blocks)
    except Exception as error:  # noqa: BLE001  whatever own code makes Keras raise is told before anything is trained
        told = str(error) if isinstance(error, InputError) else cause_of(error)
        name = f"architecture {configuration['architecture']}"
        return told if name in told else f"{name} cannot be built: {told}"


def _corners(study: Study, name: str) -> list[Configuration]:
    """Return configurations at both ends of an architecture's space, and the baseline where it is of this one."""
    chosen = study.space["architecture"]
    inner = {**study.space, **(chosen.branches[name] if isinstance(chosen, Choose) else {})}
    corners: list[Configuration] = []
    for end in (0, -1):
        ends = {key: _end_of(dimension, end) for key, dimension in inner.items() if key != "architecture"}
        corners.append({**ends, "architecture": name, "augment": "none"})
    baseline = study.baseline
    return [*corners, *([baseline] if baseline is not None and baseline["architecture"] == name else [])]


def _end_of(dimension: Dimension, end: int) -> Any:
    values = _values(dimension)
    return values[end] if values else (getattr(dimension, "low", None), getattr(dimension, "high", None))[end]


def _deepest_unfreezing(space: Space, architecture: str) -> int:
    depths = [
        parameter.dimension
        for parameter in flatten(space)
        if parameter.name == "unfreeze_depth"
        and all(branch == architecture for where, branch in parameter.conditions if where == "architecture")
    ]
    return max((int(max(_values(depth) or (getattr(depth, "high", 0),))) for depth in depths), default=0)
