"""A proposal: the settings of a search-space file that follow from facts of the data and of the machine, with reasons.

Pure: the same facts give the same proposal.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from tuner.common.metrics import DEFAULT_METRIC
from tuner.datasets.account.taking import UNEVEN
from tuner.proposals._augmentation import VARIED, propose_augmentation
from tuner.proposals._facts import DataFacts, Machine, Wish
from tuner.proposals._networks import (
    SMALL_PX,
    Chosen,
    Networks,
    blocks_of,
    most_blocks,
    most_images,
    most_in_batch,
    pass_seconds,
    propose_networks,
    sizes_of,
)
from tuner.proposals._own import OwnNetwork, ranges_of

VIEWS = 4
"""Augmented variants of each image that are kept on CPUs: with one for each epoch an epoch would cost a whole pass."""
_AUGMENT_SHARE = 0.1
"""Most of the time that these may take."""
_FEW_IMAGES, _FEW_OF_A_CLASS, _MANY_IMAGES = 400, 20, 5_000
"""With fewer training images, or fewer of a class if there are not many in all, folds judge better than a fraction."""
_PARTED = {"validation", "validation_fraction"}
"""Two ways to say the same."""
_PREPARED_S, _MOST_PREPARED_SHARE = 1e-3, 0.3
"""Seconds of a core to prepare an image, and the share of the time from which on that is said."""
_SHORT_S = 600.0
"""Searches of less time try less."""
_OBLONG = 2.0
"""A proportion from which on a crop loses half of an image."""
_TRIALS = 400
_FACTOR, _FACTOR_WHY = "fine_tune_learning_rate_factor", "times learning_rate, once blocks of a backbone are unfrozen"


class Setting(NamedTuple):
    """A setting of the file: a plain value, or settings below it; and why it is so."""

    name: str
    value: Any
    why: str = ""


_DROPOUT = Setting("dropout", {"float": [0.0, 0.6]})


class Remark(NamedTuple):
    """A sentence for the user: what it is about, and what was chosen or should be known."""

    about: str
    text: str


@dataclass(frozen=True)
class Proposal:
    """A search-space file that is proposed, and what is to be said of it."""

    study: str
    settings: tuple[Setting, ...]
    remarks: tuple[Remark, ...]

    def values(self) -> dict[str, Any]:
        """Return plain values by name, as the file has them."""
        return _values(self.settings)


def _values(settings: tuple[Setting, ...]) -> dict[str, Any]:
    return {one.name: _values(one.value) if _is_section(one.value) else one.value for one in settings}


def _is_section(value: Any) -> bool:
    return isinstance(value, tuple) and all(isinstance(each, Setting) for each in value)


def propose(data: DataFacts, machine: Machine, wish: Wish) -> Proposal:
    """Return what to search with these data, on this machine, in this time."""
    data = _as_given(data, dict(wish.given))
    return _Proposing(data, machine, wish, propose_networks(data, machine, wish)).tell()


def _as_given(data: DataFacts, given: Mapping[str, Any]) -> DataFacts:
    """Return the facts of the data as the settings that are given make them."""
    if "image_px" in given:
        data = replace(data, side_px=int(given["image_px"]), is_one_size=True)
    return replace(data, is_grey=True) if given.get("colour") == "grey" else data


@dataclass(frozen=True)
class _Proposing:
    """One proposal while it is made."""

    data: DataFacts
    machine: Machine
    wish: Wish
    networks: Networks

    @property
    def _is_short(self) -> bool:
        return self.wish.counted_s < _SHORT_S

    def tell(self) -> Proposal:
        """Return the whole."""
        baseline = tuple(Setting(name, value) for name, value in self._baseline().items())
        settings = (
            Setting("study", self.wish.study),
            Setting("data", self._data()),
            *self._metric(),
            Setting("space", self._space()),
            Setting("baseline", baseline, f"the commonest recipe, always trial 0: {self._recipe()}"),
            Setting("training", self._training()),
            Setting("search", self._search()),
            *self._activations(),
            *self._finalists(),
        )
        return Proposal(self.wish.study, settings, tuple(self._remarks(settings)))

    # --- data ---

    def _data(self) -> tuple[Setting, ...]:
        given = [Setting(name, value, "given on the command line") for name, value in self.wish.given]
        names = {one.name for one in given}
        if names & _PARTED:
            names |= _PARTED
        proposed = (*self._size(), *self._validation(), *self._fit(), *self._broken(), *self._most_images())
        return (
            Setting("source", self.wish.source, self._contents()),
            *given,
            *(one for one in proposed if one.name not in names),
        )

    def _contents(self) -> str:
        data = self.data
        proportion = "squares" if data.proportion < 1.05 else f"one side {data.proportion:.2g} times the other"
        size = (
            f"{data.side_px} px"
            if data.is_one_size
            else f"{data.side_px} px on the shorter side in the median, {proportion}"
        )
        colour = "grey" if data.is_grey else "in colour"
        return f"{data.images:,} images of {data.classes:,} classes, {colour}, {size}"

    def _validation(self) -> Iterator[Setting]:
        data = self.data
        if data.has_validation:
            return
        has_rare = data.smallest < _FEW_OF_A_CLASS and data.training < _MANY_IMAGES
        is_few = data.training < _FEW_IMAGES or has_rare
        folds = min(3 if self._is_short else 5, data.smallest)
        if is_few and folds >= 2 and not self.wish.without_folds:
            why = (
                f"few images ({data.training:,} to train on, {data.smallest:,} of {data.smallest_class}): "
                "finalists are judged on each of these parts in turn"
            )
            yield Setting("validation", (Setting("folds", folds),), why)
            return
        fraction = self.wish.fraction or (0.2 if data.training < _MANY_IMAGES else 0.1)
        test = "" if data.has_test else "; a fifth of all is the test split, which finalists alone see"
        yield Setting("validation_fraction", fraction, f"of the training images, to compare trials by{test}")

    @property
    def _is_enlarged(self) -> bool:
        """Whether images of several sizes are kept as small as they are, and enlarged by a network."""
        return not self.data.is_one_size and any(one.px > self.data.side_px for one in self.networks.pretrained)

    def _size(self) -> Iterator[Setting]:
        if self._is_enlarged:
            yield Setting("image_px", self.data.side_px, "the size that they have; the networks enlarge them")

    def _fit(self) -> Iterator[Setting]:
        if self.data.proportion >= _OBLONG:
            why = "the images are long: a crop would lose half of them, so they are filled up to squares"
            yield Setting("fit", "pad", why)

    def _broken(self) -> Iterator[Setting]:
        data = self.data
        if data.broken:
            yield Setting("broken_images", "skip", f"{_counted(data.broken, 'image')} cannot be read and are left out")
        elif not data.is_decoded:
            why = "only headers were read: images that turn out to be broken are named and left out"
            yield Setting("broken_images", "skip", why)

    def _most_images(self) -> Iterator[Setting]:
        cheapest = min((one.multiplications for one in self.networks.pretrained), default=3 * self._scratch_cost())
        most = max(most_images(cheapest, self.machine, self.wish), 20 * self.data.classes, 1000)
        if 1.5 * most < self.data.training:
            rounded = max(self.data.classes, int(float(f"{most:.1g}")))
            why = "so many are seen often enough in the time; with more time, take more"
            yield Setting("max_train_images", rounded, why)
            yield Setting("max_validation_images", max(self.data.classes, 1000, rounded // 5))

    def _scratch_cost(self) -> float:
        """Return about the multiplications of a small network from scratch for one image."""
        return 6e3 * (self.networks.scratch_px or 1) ** 2

    # --- metric and space ---

    @property
    def _is_uneven(self) -> bool:
        return self.data.imbalance >= UNEVEN

    def _metric(self) -> Iterator[Setting]:
        data = self.data
        if self._is_uneven:
            why = (
                f"{data.largest_class} has {data.imbalance:.3g} times the images of {data.smallest_class}: here "
                "every class counts alike, and always naming the largest gains nothing"
            )
            yield Setting("metric", "val_balanced_accuracy", why)
        else:
            yield Setting("metric", DEFAULT_METRIC, _even(data.imbalance))

    def _space(self) -> tuple[Setting, ...]:
        uneven = [Setting("class_weight", _choice("none", "balanced"), "balanced: rare classes weigh more in the loss")]
        one = self._common_preprocess()
        return (
            *([Setting("preprocess", one, self._size_why())] if one else []),
            self._augment(),
            Setting("batch_size", _choice(*self._batch_sizes())),
            Setting("learning_rate", {"log_float": [5.0e-4, 5.0e-3] if self._is_short else [3.0e-4, 1.0e-2]}),
            *([] if self._is_short else [Setting("label_smoothing", _choice(0.0, 0.1))]),
            *(uneven if self._is_uneven else []),
            *(
                [Setting(_FACTOR, {"log_float": [0.1, 0.5] if self._is_short else [0.03, 0.5]}, _FACTOR_WHY)]
                if self.networks.pretrained
                else []
            ),
            *([] if self._parts_dropout else [_DROPOUT]),
            Setting("architecture", (Setting("choose", tuple(self._branches(has_own=not one))),), self._network_why()),
        )

    def _network_why(self) -> str:
        return self._chosen_why() + (f"; {self.networks.missing}" if self.networks.missing else "")

    def _chosen_why(self) -> str:
        own = ", ".join(f"{one.architecture.name} of {one.plugin} at {one.px} px" for one in self.wish.own)
        return self.networks.why + (f"; own code beside them, in the whole of its ranges: {own}" if own else "")

    def _texts(self, one: Chosen) -> tuple[str, ...]:
        """Return the preprocessing texts of a backbone."""
        return tuple(self._text(px, "scale(-1,1)") for px in sizes_of(one, self.data, self.machine))

    def _text(self, px: int, scale: str) -> str:
        is_kept = self.data.is_one_size or self._is_enlarged
        return scale if is_kept and px == self.data.side_px else f"resize({px})|{scale}"

    def _scratch_texts(self) -> tuple[str, ...]:
        return (self._text(self.networks.scratch_px or 0, "scale(0,1)"),) if self.networks.scratch_px else ()

    def _own_text(self, one: OwnNetwork) -> str:
        return self._text(one.px, "scale(-1,1)" if one.architecture.is_backbone else "scale(0,1)")

    def _common_preprocess(self) -> dict[str, Any] | None:
        """Return the preprocessing that all branches share; None where they differ."""
        every = {
            *map(self._texts, self.networks.pretrained),
            *([self._scratch_texts()] if self._scratch_texts() else []),
            *((self._own_text(one),) for one in self.wish.own),
        }
        return _choice(*every.pop()) if len(every) == 1 else None

    def _prepared_px(self) -> int:
        """Return the size in which images are prepared, which augmentation works on."""
        asked = [one.px for one in self.networks.pretrained] + [one.px for one in self.wish.own]
        asked.append(self.networks.scratch_px or 0)
        return min(self.data.side_px, max(asked)) if self.data.is_one_size or self._is_enlarged else max(asked)

    def _size_why(self) -> str:
        asked = sorted({px for one in self.networks.pretrained for px in sizes_of(one, self.data, self.machine)})
        if not asked:
            return f"{self.networks.scratch_px} px: what a network from scratch can be trained on in the time"
        sizes = " or ".join(f"{px} px" for px in asked)
        grown = "; whether enlarging them helps, the search decides" if len(asked) > 1 else ""
        return f"{sizes}: as large as the images and the time allow{grown}"

    def _augment(self) -> Setting:
        if not self._can_augment():
            return Setting(
                "augment", "none", "augmented images would take too long to compute in the time that is given"
            )
        found = propose_augmentation(
            self.data, self._prepared_px(), is_short=self._is_short, is_kept=self._keeps_views()
        )
        if not found.strengths:
            return Setting("augment", _choice(*found.texts), found.why)
        varied = tuple(Setting(name, strength) for name, strength in found.strengths.items())
        branches = (Setting("none", {}), Setting(VARIED, varied))
        return Setting("augment", (Setting("choose", branches),), found.why)

    def _keeps_views(self) -> bool:
        return bool(self.networks.pretrained) and self._can_augment() and not self.machine.gpus

    def _can_augment(self) -> bool:
        if not self.networks.pretrained or self.machine.gpus:
            return True
        if self._is_short:
            return False
        slowest = max(pass_seconds(one, self.data, self.machine) for one in self.networks.pretrained)
        return (1 + VIEWS) * slowest <= _AUGMENT_SHARE * self.wish.counted_s

    def _batch_sizes(self) -> tuple[int, ...]:
        most = min((most_in_batch(one, self.machine) for one in self.networks.pretrained), default=1 << 20)
        wanted = (32, 64, 128) if self.machine.gpus else (32, 64) if self.data.training >= 600 else (8, 16, 32)
        fitting = [size for size in wanted if size <= min(most, max(8, self.data.training // 4))] or [8]
        return tuple(fitting[:1] if self._is_short else fitting)

    def _branches(self, *, has_own: bool) -> Iterator[Setting]:
        for one in self.networks.pretrained:
            alpha = one.network.alpha
            yield Setting(
                one.network.architecture,
                (
                    *([Setting("preprocess", _choice(*self._texts(one)), f"{one.px} px")] if has_own else []),
                    *([Setting("alpha", alpha)] if alpha is not None else []),
                    Setting("unfreeze_depth", {"int": [0, blocks_of(one, self.wish)]}),
                    *([] if self._is_short else [Setting("head_units", _choice(0, 128))]),
                    *([_DROPOUT] if self._parts_dropout else []),
                ),
            )
        if self.networks.scratch_px is not None:
            yield from self._scratch_branches(self.networks.scratch_px, has_own=has_own)
        for each in self.wish.own:
            yield self._own_branch(each, has_own=has_own)

    @property
    def _parts_dropout(self) -> bool:
        """Whether each architecture has a dropout for itself: own code has none, or one in a range of its own."""
        return any(not one.architecture.is_backbone for one in self.wish.own)

    def _own_branch(self, one: OwnNetwork, *, has_own: bool) -> Setting:
        text = self._own_text(one)
        head: tuple[Setting, ...] = ()
        if one.architecture.is_backbone:
            deepest = min(one.blocks, most_blocks(self.wish))
            head = (
                *([Setting("unfreeze_depth", {"int": [0, deepest]})] if deepest else []),
                *([] if self._is_short else [Setting("head_units", _choice(0, 128))]),
                *([_DROPOUT] if self._parts_dropout else []),
            )
        own = (Setting(name, value) for name, value in ranges_of(one.architecture))
        inner = (*([Setting("preprocess", text, f"{one.px} px")] if has_own else []), *own, *head)
        return Setting(one.architecture.name, inner or {}, f"own code, {one.plugin}")

    def _scratch_branches(self, px: int, *, has_own: bool) -> Iterator[Setting]:
        own = [Setting("preprocess", _choice(*self._scratch_texts()), f"{px} px")] if has_own else []
        yield Setting(
            "cnn",
            (
                *own,
                Setting("blocks", {"int": [_blocks(px) - 1, _blocks(px)]} if _blocks(px) > 1 else 1),
                Setting("convolutions_per_block", 1 if self._is_short and px > SMALL_PX else {"int": [1, 2]}),
                Setting("filters", _choice(16, 32)),
                Setting("batch_normalization", _choice(True, False)),
                Setting("dense_units", _choice(64, 128)),
                *([_DROPOUT] if self._parts_dropout else []),
            ),
        )
        if px <= 32:
            yield Setting(
                "dense",
                (
                    *own,
                    Setting("hidden_layers", {"int": [1, 3]}),
                    Setting("dense_units", _choice(64, 128, 256)),
                    *([_DROPOUT] if self._parts_dropout else []),
                ),
            )

    # --- the rest ---

    def _recipe(self) -> str:
        if not self.networks.pretrained:
            return "a plain network, as tutorials have it"
        return (
            "one dense layer on the frozen backbone, then its last blocks unfrozen at a lower rate; images as they are"
        )

    def _baseline(self) -> Mapping[str, Any]:
        sizes = self._batch_sizes()
        rest: dict[str, Any] = {"class_weight": "none"} if self._is_uneven else {}
        rest |= {} if self._is_short else {"label_smoothing": 0.0}
        shared = {
            "augment": "none",
            "batch_size": 32 if 32 in sizes else sizes[-1],
            "learning_rate": 0.001,
            "dropout": 0.2,
            **rest,
        }
        if not self.networks.pretrained:
            px = self.networks.scratch_px or 0
            of_cnn = {
                "architecture": "cnn",
                "blocks": _blocks(px),
                "convolutions_per_block": 1,
                "filters": 32,
                "batch_normalization": False,
                "dense_units": 128,
            }
            return {"preprocess": self._scratch_texts()[0], **shared, **of_cnn}
        one = self.networks.pretrained[0]
        own: dict[str, Any] = {"architecture": one.network.architecture} | (
            {"alpha": one.network.alpha} if one.network.alpha else {}
        )
        head = {} if self._is_short else {"head_units": 0}
        return {
            "preprocess": self._texts(one)[0],
            **shared,
            **own,
            _FACTOR: 0.2,
            "unfreeze_depth": min(4, blocks_of(one, self.wish)),
            **head,
        }

    def _training(self) -> tuple[Setting, ...]:
        is_few = self.data.training < _FEW_IMAGES
        epochs = 60 if is_few else 16 if self._is_short else 40
        head = (Setting("head_epochs", 2 if self._is_short else 5),) if self.networks.pretrained else ()
        stopping = (Setting("patience", 12 if is_few else 6), Setting("min_delta", 1.0e-4))
        return (Setting("max_epochs", epochs), *head, Setting("early_stopping", stopping))

    def _search(self) -> tuple[Setting, ...]:
        if self.wish.time_s is None:
            return (Setting("trials", 64, "no time is given: so many configurations are tried"), Setting("seed", 0))
        why = "for all: the look at the data, trials (as many as fit), finalists, report"
        grace_why = "so many epochs are trained before trials are compared, some of them with unfrozen blocks"
        grace = (Setting("grace_epochs", 5, grace_why),) if self._is_short and self.networks.pretrained else ()
        budget = Setting("time_budget", time_text(self.wish.time_s), why)
        return (budget, Setting("trials", _TRIALS), Setting("seed", 0), *grace)

    def _activations(self) -> Iterator[Setting]:
        if self._keeps_views():
            why = "so many augmented variants of each image pass the frozen layers once, not new ones each epoch"
            yield Setting("activations", (Setting("views", VIEWS),), why)

    def _finalists(self) -> Iterator[Setting]:
        has_folds = any(one.name == "validation" for one in self._data())
        if self._is_short:
            each = () if has_folds else (Setting("seeds", 1),)
            yield Setting("finalists", (Setting("count", 1), *each), "few, so that trials have the time")

    # --- words ---

    def _remarks(self, settings: tuple[Setting, ...]) -> Iterator[Remark]:
        reasons = {path: (value, why) for path, value, why in _reasons(settings)}
        reasons["space.architecture"] = (None, self._chosen_why())  # what is missing is told by itself
        for about, path in _TOLD:
            value, why = reasons.get(path, (None, ""))
            if why:
                yield Remark(about, f"{value}: {why}" if isinstance(value, str | int | float) else why)
        data = self.data
        if self.networks.missing:
            yield Remark("missing", self.networks.missing)
        prepared_s = _PREPARED_S * data.images / self.machine.cpus
        if prepared_s > _MOST_PREPARED_SHARE * self.wish.counted_s:
            yield Remark(
                "time", f"to prepare the images takes about {time_text(60 * math.ceil(prepared_s / 60))} of it, once"
            )
        if data.copies:
            yield Remark(
                "copies",
                f"{_counted(data.copies, 'image')} nearly equal to another: copies stay on one side of a split",
            )
        if data.conflicts:
            names = (
                f", such as {' = '.join(data.conflict.names[:2])} ({', '.join(data.conflict.classes[:2])})"
                if data.conflict
                else ""
            )
            yield Remark(
                "two labels", f"{_counted(data.conflicts, 'picture')} under several labels{names}: correct them"
            )
        if data.group_guess is not None:
            yield Remark(
                "groups", f"{group_question(data)} If so, give the file data.group: '{data.group_guess.pattern}'"
            )


_TOLD = (
    ("data", "data.source"),
    ("validation", "data.validation"),
    ("validation", "data.validation_fraction"),
    ("fit", "data.fit"),
    ("broken", "data.broken_images"),
    ("images", "data.max_train_images"),
    ("metric", "metric"),
    ("image size", "space.preprocess"),
    ("networks", "space.architecture"),
    ("augment", "space.augment"),
    ("baseline", "baseline"),
    ("time", "search.time_budget"),
    ("time", "search.trials"),
)


def _reasons(settings: tuple[Setting, ...], above: str = "") -> Iterator[tuple[str, Any, str]]:
    """Yield the path of each setting, its value and its reason."""
    for one in settings:
        yield f"{above}{one.name}", one.value, one.why
        if _is_section(one.value):
            yield from _reasons(one.value, f"{above}{one.name}.")


def group_question(data: DataFacts) -> str:
    """Return the question whether images belong together; empty where nothing says so."""
    guess = data.group_guess
    if guess is None:
        return ""
    return (
        f"Do images belong together whose paths share a part, such as the {guess.images:,} of {guess.example} "
        f"({guess.parts:,} parts in all)? Those of one patient, product or scene must stay on one side of a split."
    )


def time_text(seconds: float) -> str:
    """Return a time as a file has it.

    >>> time_text(1800), time_text(5400), time_text(90), time_text(0.5)
    ('30m', '1h30m', '1m30s', '0.5s')
    """
    whole = round(seconds) if seconds >= 1 else 0
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    parts = [f"{number}{unit}" for number, unit in ((hours, "h"), (minutes, "m"), (rest, "s")) if number]
    return "".join(parts) or f"{max(seconds, 0.001):g}s"


def _even(imbalance: float) -> str:
    """Return in words how little the classes differ in size.

    >>> _even(1.0), _even(2.5)
    ('all classes have about as many images', 'the largest class has no more than 2.5 times the images of the smallest')
    """
    if imbalance < 1.1:
        return "all classes have about as many images"
    return f"the largest class has no more than {imbalance:.3g} times the images of the smallest"


def _blocks(px: int) -> int:
    """Return the blocks of convolutions after which about four pixels are left.

    >>> [_blocks(px) for px in (4, 8, 28, 64, 128)]
    [1, 1, 3, 4, 5]
    """
    return min(5, max(1, round(math.log2(max(1, px) / 4))))


def _choice(*values: Any) -> Any:
    """Return a choice of values; of one, the value itself."""
    return values[0] if len(values) == 1 else {"choice": list(values)}


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"
