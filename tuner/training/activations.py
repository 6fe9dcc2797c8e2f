"""Cached activations of the frozen part of a trial: which are worth keeping, what is missing, and where it is read.

One pass over the images fills the places of all unfreeze depths that the search may ask for, since they lie on the way;
what is asked for later is computed from the nearest place below that is there. Whatever goes wrong with the cache costs
time and is said, and the trial goes on from the images.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from tuner.common.seeds import derive_seed
from tuner.datasets.loading import Dataset, Split
from tuner.models.architectures import ARCHITECTURES
from tuner.models.augment.operations import AUGMENTATION, AUGMENTED_BY
from tuner.models.augmentation import Augment
from tuner.models.backend import has_gpu
from tuner.models.network import TrialModel
from tuner.models.parameters import general
from tuner.models.preprocessing import PREPROCESSING, parse_preprocess
from tuner.training.activation_store import CHUNK_IMAGES, Build, CacheUse, DamagedEntryError, Key, Store
from tuner.training.cut_points import Place, PrecisionError, below, check_precision, place_below
from tuner.training.settings import ActivationSettings
from tuner.training.trial_like import Progress

MULTIPLICATIONS_PER_BYTE_CPU = 8.0
"""Below this, computing is quicker than reading (benchmarks/LOG.md): 9 G multiplications and 1.2 GB a second."""
MULTIPLICATIONS_PER_BYTE_GPU = 3000.0
"""By arithmetic, not measured: 4 T multiplications against the same 1.2 GB a second that a host can feed."""
LEAST_GAIN = 0.1
"""Share of an epoch that must be saved, a trained layer costing three times a frozen one."""
BATCH_PIXELS = 2**21
"""Pixels of one batch: more do not fit into the processor's caches (144 px: 64 images 720/s, 256: 620/s)."""
TRAIN, VALIDATION = "train", "validation"


@dataclass(frozen=True, eq=False)
class _Reading:
    """Rows of an array of images that are read together, or of an augmented variant of the training images."""

    identity: Mapping[str, Any]
    total: int
    """The rows of the whole array."""
    rows: np.ndarray
    """`[R] int64`, ascending."""
    images: Callable[[np.ndarray], np.ndarray]
    """By rows: `[B, H, W, C]`."""


@dataclass(frozen=True)
class FrozenPart:
    """The frozen part of one trial, with everything that determines its activations."""

    trial_model: TrialModel
    configuration: Mapping[str, Any]
    weights: str
    """SHA-256 of the weights of the backbone as the trial finds them."""
    places: tuple[Place, ...]
    augment: Augment | None = None


class Activations:
    """The activations that the trials of one process read, for one data set."""

    def __init__(self, data: Dataset, settings: ActivationSettings, notify: Callable[[str], None]) -> None:
        self._data, self._settings, self._notify = data, settings, notify
        self._store = Store(settings.cache_dir)
        of_train, of_validation = self._unaugmented(data.train, data.validation)
        self._as_they_are = of_train, of_validation
        self._builds: dict[str, Build] = {}
        self._latest: tuple[Any, ...] = ()
        """The network that was built last, after what it was built for: training and validation images share it."""
        self._said: set[str] = set()
        self._lost: set[str] = set()
        """Architectures and variants for which the cache has failed in this process."""
        self._awaited: set[str] = set()
        """Digests of entries that were missing and have not been opened since."""
        self._hits = self._misses = 0
        self._size_known = False

    def place(self, part: FrozenPart, unfreeze_depth: int) -> Place | None:
        """Return the place at which a phase that trains `unfreeze_depth` blocks is cut; None: from the images."""
        place = place_below(part.trial_model, part.places, unfreeze_depth)
        if place is None or self._lost_id(part) in self._lost:
            return None
        if part.augment is not None and (self._settings.views is None or part.augment.mixes_labels):
            return None
        whole = part.places[-1].multiplications
        return place if is_worth_keeping(place, whole, int(np.prod(self._data.image_shape)), has_gpu()) else None

    def lose(self, part: FrozenPart, reason: str) -> None:
        """Train everything that shares the frozen part of `part` from the images from now on, and say why."""
        self._lost.add(self._lost_id(part))
        self._say(f"cached activations are not used: {reason}; training from the images, which takes longer")

    def work(self, part: FrozenPart, depths: Iterable[int], frozen_below: int, epoch: int, seconds: float) -> Progress:
        """Do some of the work that is missing for `epoch` of phases that train so many blocks.

        `frozen_below` is the depth below which the weights are still those of `part`.

        Raises OSError when the disk cannot hold it.
        """
        own = {self.place(part, depth) for depth in depths} - {None}
        if not own:
            return Progress(0, 0)
        wanted = [place for place in part.places if place in own]
        for reading in dict.fromkeys(self._readings(part, epoch)):
            progress = self._work_on(part, reading, wanted, frozen_below, seconds)
            if not progress.is_finished:
                return progress
        return Progress(0, 0)

    def splits(self, part: FrozenPart, place: Place, epoch: int) -> tuple[Split, Split] | None:
        """Return training and validation activations at a place for an epoch; None if an entry was lost."""
        of_train, of_validation = readings = self._readings(part, epoch)
        arrays: dict[_Reading, np.ndarray] = {}
        for reading in dict.fromkeys(readings):
            key = self._key(part, reading, place)
            try:
                array = self._store.open(key, reading.rows)
            except DamagedEntryError as error:
                self._say(str(error))
                return None
            if array is None:
                return None
            self._count(key)
            arrays[reading] = array
        train, validation = self._data.train, self._data.validation
        rows = of_train.rows if self._view(part, epoch) is not None else train.rows
        return (
            replace(train, images=arrays[of_train], rows=rows),
            replace(validation, images=arrays[of_validation]),
        )

    def release(self) -> None:
        """Release all entries, so that others may remove them."""
        self._latest = ()
        self._builds.clear()  # others may end them: a later trial would go on by a network that is trained meanwhile
        self._store.release()

    def taken_use(self) -> CacheUse | None:
        """Return the use of the cache since the last call; None if there was none."""
        if not self._hits and not self._misses:
            return None
        is_first, self._size_known = not self._size_known, True
        size = self._store.size_bytes() if self._misses or is_first else None  # it changes when something is computed
        use = CacheUse(self._hits, self._misses, size)
        self._hits = self._misses = 0
        return use

    def _count(self, key: Key) -> None:
        if key.digest in self._awaited:
            self._awaited.discard(key.digest)
            self._misses += 1
        else:
            self._hits += 1

    def _work_on(
        self, part: FrozenPart, reading: _Reading, own: Sequence[Place], frozen_below: int, seconds: float
    ) -> Progress:
        missing = [place for place in own if not self._has(part, reading, place)]
        if not missing:
            return Progress(0, 0)
        self._awaited.update(self._key(part, reading, place).digest for place in missing)
        targets = self._targets(part, reading, missing, frozen_below)
        keys = [self._key(part, reading, place) for place in targets]
        name = "/".join(key.digest for key in keys)
        try:
            if name not in self._builds:
                self._builds[name] = self._begin(part, reading, targets, keys)
            progress = self._builds[name].work(seconds)
        except PrecisionError as error:
            self._builds.pop(name).give_up()
            self._say(f"{error}: they are kept as float32")
            return Progress(0, len(reading.rows))
        except DamagedEntryError as error:  # of the place from which they were to be computed
            self._say(str(error))
            return Progress(0, len(reading.rows))
        if progress.is_finished:
            del self._builds[name]
        return progress

    def _begin(self, part: FrozenPart, reading: _Reading, targets: Sequence[Place], keys: Sequence[Key]) -> Build:
        for key in keys:
            self._store.create(key)  # held from now on: what is there of it makes no room
        size, bound = self._lacking_bytes(keys, reading), self._settings.max_bytes
        if not self._store.make_room(size, bound):
            free = self._store.free_bytes()
            for key in keys:
                self._store.discard_empty(key)
            raise OSError(
                f"{size / 2**30:.2f} GiB do not fit beside what is in use: activations.max_gb is {bound / 2**30:g}, "
                f"and the disk of {self._settings.cache_dir} has {free / 2**30:.2f} GiB left"
            )
        lacking = np.unique(np.concatenate([self._store.missing(key, reading.rows) for key in keys]))
        source = self._source(part, reading, targets[0], lacking)
        return Build(self._store, keys, reading.rows, self._compute(part, reading, source, targets, keys))

    def _has(self, part: FrozenPart, reading: _Reading, place: Place) -> bool:
        return self._store.has(self._key(part, reading, place), reading.rows)

    def _lacking_bytes(self, keys: Sequence[Key], reading: _Reading) -> int:
        """Return the bytes that the rows take which entries lack."""
        return sum(key.disk_bytes(self._store.missing(key, reading.rows)) for key in keys)

    def _targets(self, part: FrozenPart, reading: _Reading, own: Sequence[Place], frozen_below: int) -> list[Place]:
        """Return the places for one pass to fill: missing ones, and, if there is room, others of the search."""
        depths = self._settings.depths.get(str(part.configuration["architecture"]), ())
        others = {self.place(part, depth) for depth in depths if depth >= frozen_below}
        wanted = [place for place in part.places if place in own or place in others]
        wanted = [place for place in wanted if not self._has(part, reading, place)]
        size = self._lacking_bytes([self._key(part, reading, place) for place in wanted], reading)
        room = min(self._settings.max_bytes, self._store.free_bytes())
        return wanted if size <= room / 4 else [place for place in wanted if place in own]

    def _source(
        self, part: FrozenPart, reading: _Reading, target: Place, rows: np.ndarray
    ) -> tuple[Place | None, np.ndarray | None]:
        """Return the nearest place below `target` whose activations are there for `rows`, and these."""
        under = part.places[: part.places.index(target)]
        for place in reversed(under):
            if self._store.has(key := self._key(part, reading, place), rows):
                array = self._store.open(key, rows)
                if array is not None:
                    return place, array
        return None, None

    def _compute(
        self,
        part: FrozenPart,
        reading: _Reading,
        source: tuple[Place | None, np.ndarray | None],
        targets: Sequence[Place],
        keys: Sequence[Key],
    ) -> Callable[[np.ndarray], list[np.ndarray]]:
        """Return the function that computes rows of all targets."""
        place, array = source
        network = self._below(part.trial_model, place, targets, keys[0].dtype)
        pixels = part.trial_model.pixels.shape
        batch = CHUNK_IMAGES
        while batch > 1 and batch * pixels[1] * pixels[2] > BATCH_PIXELS:
            batch //= 2

        def compute(rows: np.ndarray) -> list[np.ndarray]:
            values = array[rows] if array is not None else reading.images(rows)
            *outputs, check = run_in_batches(network, values, batch)
            if keys[0].dtype == "float16":
                try:
                    check_precision(check)
                except PrecisionError as error:
                    for key in keys:
                        self._store.refuse(key, str(error), rows)
                    raise
            return outputs

        return compute

    def _below(self, trial_model: TrialModel, source: Place | None, targets: Sequence[Place], dtype: str) -> Any:
        """Return the network between places, which is traced when it is used first."""
        wanted = trial_model, source, tuple(targets), dtype
        if self._latest[:-1] != wanted:
            self._latest = *wanted, below(*wanted)
        return self._latest[-1]

    def _readings(self, part: FrozenPart, epoch: int) -> tuple[_Reading, _Reading]:
        """Return what an epoch reads of training and of validation images: one and the same, if of one array."""
        view = self._view(part, epoch)
        if view is None or part.augment is None:
            return self._as_they_are
        return self._augmented(part.augment, view), self._unaugmented(self._data.validation)[0]

    def _unaugmented(self, *splits: Split) -> tuple[_Reading, ...]:
        """Return what is read of splits: of those that are rows of one array all rows together.

        So activations belong to the images: another seed, fold or subset computes only what no earlier one has.
        """
        train = self._data.train.images
        found: dict[str, _Reading] = {}
        names = [TRAIN if split.images is train else VALIDATION for split in splits]
        for name in dict.fromkeys(names):
            own = [split for split, whose in zip(splits, names, strict=True) if whose == name]
            rows = np.unique(np.concatenate([split.rows for split in own]))
            images = own[0].images
            identity = {"images": self._data.prepared.image_hashes[name], "array": name}
            found[name] = _Reading(identity, len(images), rows, images.__getitem__)
        return tuple(found[name] for name in names)

    def _augmented(self, augment: Augment, view: int) -> _Reading:
        """Return the augmented variant number `view` of the training split: its rows are those of the split."""
        split = self._data.train
        one_hot = np.eye(len(self._data.class_names), dtype=np.float32)

        def of_chunk(rows: np.ndarray) -> np.ndarray:
            start = int(rows[0]) // CHUNK_IMAGES * CHUNK_IMAGES
            images, labels = split.batch(np.arange(start, min(start + CHUNK_IMAGES, len(split))))
            seed = derive_seed(0, "view", view, start)
            chosen: np.ndarray = augment.apply(images, one_hot[labels], seed)[0][rows - start]
            return chosen

        def images(rows: np.ndarray) -> np.ndarray:
            chunks = np.split(rows, np.flatnonzero(np.diff(rows // CHUNK_IMAGES)) + 1)
            return np.concatenate([of_chunk(some) for some in chunks])

        digest = hashlib.sha256(np.ascontiguousarray(split.rows).data.cast("B")).hexdigest()[:24]
        hashed = self._data.prepared.image_hashes[TRAIN]
        identity = {"images": hashed, "array": TRAIN, "rows": digest, "augment": augment.text, "view": view}
        identity["by"] = AUGMENTED_BY
        return _Reading(identity, len(split), np.arange(len(split), dtype=np.int64), images)

    def _view(self, part: FrozenPart, epoch: int) -> int | None:
        if part.augment is None or self._settings.views is None:
            return None
        return (epoch - 1) % self._settings.views

    def _key(self, part: FrozenPart, reading: _Reading, place: Place) -> Key:
        """Return the key of an entry: of float32 where float16 was found to be too coarse."""
        preprocess = parse_preprocess(str(general(part.configuration, "preprocess")))
        # Entries of before weights were told how standardised images lie are of other pixels.
        told = preprocess.network_range if preprocess.network_range != preprocess.value_range else None
        identity = {
            **reading.identity,
            "image_shape": list(self._data.image_shape),
            "preprocess": preprocess.text,
            **({"network_range": list(told)} if told else {}),
            "architecture": str(part.configuration["architecture"]),
            "weights": part.weights,
            "place": place.name,
            "precision": keras.config.dtype_policy().name,
            "keras": f"{keras.__version__} {keras.backend.backend()}",
            **own_code(part.configuration, part.augment if "augment" in reading.identity else None),
            **_own_parameters(part.configuration),
        }
        key = Key(identity, (reading.total, *place.shape), self._settings.dtype, self._data.name)
        if key.dtype == "float16" and self._store.refusal(key, reading.rows) is not None:
            return replace(key, dtype="float32")
        return key

    def _lost_id(self, part: FrozenPart) -> str:
        return f"{part.weights}/{general(part.configuration, 'preprocess')}/{part.augment is not None}"

    def _say(self, text: str) -> None:
        if text not in self._said:
            self._said.add(text)
            self._notify(text)


def own_code(configuration: Mapping[str, Any], augment: Augment | None) -> dict[str, list[str]]:
    """Return the digests of own code on which activations depend, by the word `own_code`; none where there is none."""
    preprocess = parse_preprocess(str(general(configuration, "preprocess"))).calls
    origins = [ARCHITECTURES.origin(str(configuration["architecture"]))]
    origins += [PREPROCESSING.origin(call.name) for call in preprocess]
    origins += [AUGMENTATION.origin(call.name) for call in (augment.calls if augment else ())]
    digests = sorted({origin.sha256 for origin in origins if origin is not None})
    return {"own_code": digests} if digests else {}


def _own_parameters(configuration: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the parameters with which own code builds a backbone, by the word `parameters`; of others, weights tell.

    Own code may read its weights from a file, so that two graphs have the same ones.
    """
    architecture = ARCHITECTURES[str(configuration["architecture"])]
    if not architecture.is_own:
        return {}
    values = architecture.values_of(configuration)
    return {"parameters": {name: values[name] for name in architecture.backbone_parameters or ()}}


def is_worth_keeping(place: Place, whole: int, image_bytes: int, on_gpu: bool) -> bool:
    """Return whether reading activations at a place is faster than computing them, by enough to fill a disk.

    `whole` are the multiplications of the whole backbone. Reading costs bytes, over those of the image itself;
    computing costs multiplications. Above the place, an epoch costs a forward and a backward pass of twice as much.
    """
    per_byte = MULTIPLICATIONS_PER_BYTE_GPU if on_gpu else MULTIPLICATIONS_PER_BYTE_CPU
    more_bytes = max(0, 2 * place.values - image_bytes)
    gain = place.multiplications / max(1, place.multiplications + 3 * (whole - place.multiplications))
    return place.multiplications >= per_byte * more_bytes and gain >= LEAST_GAIN


def run_in_batches(network: keras.Model, rows: np.ndarray, batch: int) -> list[np.ndarray]:
    """Return every output of `network` for `rows`; the last batch is filled up, so that all are computed alike.

    Up to rounding: on some processors that of an image depends on its place in the batch.
    """
    parts = []
    for start in range(0, len(rows), batch):
        taken = rows[start : start + batch]
        filled = np.concatenate([taken, np.repeat(taken[-1:], batch - len(taken), axis=0)])
        parts.append([np.asarray(output)[: len(taken)] for output in network.predict_on_batch(filled)])
    return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]
