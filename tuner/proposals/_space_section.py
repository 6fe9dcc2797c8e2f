"""The section `space` of a proposal, and the baseline, which is a point in it. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tuner.proposals._augmentation import VARIED, propose_augmentation
from tuner.proposals._facts import DataFacts, Machine, Wish
from tuner.proposals._networks import (
    SMALL_PX,
    Chosen,
    Networks,
    blocks_of,
    most_blocks,
    most_in_batch,
    pass_seconds,
    sizes_of,
)
from tuner.proposals._own import OwnNetwork, ranges_of
from tuner.proposals._settings import Setting, choice

VIEWS = 4
"""Augmented variants of each image that are kept on CPUs: with one for each epoch an epoch would cost a whole pass."""
_AUGMENT_SHARE = 0.1
"""Most of the time that these may take."""
_DROPOUT = Setting("dropout", {"float": [0.0, 0.6]})
_FACTOR, _FACTOR_WHY = "fine_tune_learning_rate_factor", "times learning_rate, once blocks of a backbone are unfrozen"


@dataclass(frozen=True)
class SpaceSection:
    """The section as it follows from these facts: all that trials may differ in."""

    data: DataFacts
    machine: Machine
    wish: Wish
    networks: Networks

    def settings(self) -> tuple[Setting, ...]:
        """Return the settings of the section."""
        data, is_short, networks = self.data, self.wish.is_short, self.networks
        uneven = [Setting("class_weight", choice("none", "balanced"), "balanced: rare classes weigh more in the loss")]
        factor = Setting(_FACTOR, {"log_float": [0.1, 0.5] if is_short else [0.03, 0.5]}, _FACTOR_WHY)
        one = self._common_preprocess()
        why = networks.why + (f"; {networks.missing}" if networks.missing else "")
        return (
            *([Setting("preprocess", one, self._size_why())] if one else []),
            self._augment(),
            Setting("batch_size", choice(*self._batch_sizes())),
            Setting("learning_rate", {"log_float": [5.0e-4, 5.0e-3] if is_short else [3.0e-4, 1.0e-2]}),
            *([] if is_short else [Setting("label_smoothing", choice(0.0, 0.1))]),
            *(uneven if data.is_uneven else []),
            *([factor] if networks.pretrained else []),
            *([] if self._parts_dropout else [_DROPOUT]),
            Setting("architecture", (Setting("choose", tuple(self._branches(has_own=not one))),), why),
        )

    def activations(self) -> Iterator[Setting]:
        """Yield what is kept of the frozen layers, where that is not what is always kept."""
        if self._keeps_views():
            why = "so many augmented variants of each image pass the frozen layers once, not new ones each epoch"
            yield Setting("activations", (Setting("views", VIEWS),), why)

    # --- images ---

    def _texts(self, one: Chosen) -> tuple[str, ...]:
        """Return the preprocessing texts of a backbone."""
        return tuple(self._text(px, "scale(-1,1)") for px in sizes_of(one, self.data, self.machine))

    def _text(self, px: int, scale: str) -> str:
        return scale if self._keeps_size and px == self.data.side_px else f"resize({px})|{scale}"

    @property
    def _keeps_size(self) -> bool:
        """Whether images are prepared in the size that they have."""
        return self.data.is_one_size or self.networks.enlarges(self.data)

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
        return choice(*every.pop()) if len(every) == 1 else None

    def _prepared_px(self) -> int:
        """Return the size in which images are prepared, which augmentation works on."""
        asked = [one.px for one in self.networks.pretrained] + [one.px for one in self.wish.own]
        asked.append(self.networks.scratch_px or 0)
        return min(self.data.side_px, max(asked)) if self._keeps_size else max(asked)

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
            self.data, self._prepared_px(), is_short=self.wish.is_short, is_kept=self._keeps_views()
        )
        if not found.strengths:
            return Setting("augment", choice(*found.texts), found.why)
        varied = tuple(Setting(name, strength) for name, strength in found.strengths.items())
        branches = (Setting("none", {}), Setting(VARIED, varied))
        return Setting("augment", (Setting("choose", branches),), found.why)

    def _keeps_views(self) -> bool:
        return bool(self.networks.pretrained) and self._can_augment() and not self.machine.gpus

    def _can_augment(self) -> bool:
        if not self.networks.pretrained or self.machine.gpus:
            return True
        if self.wish.is_short:
            return False
        slowest = max(pass_seconds(one, self.data, self.machine) for one in self.networks.pretrained)
        return (1 + VIEWS) * slowest <= _AUGMENT_SHARE * self.wish.counted_s

    def _batch_sizes(self) -> tuple[int, ...]:
        most = min((most_in_batch(one, self.machine) for one in self.networks.pretrained), default=1 << 20)
        wanted = (32, 64, 128) if self.machine.gpus else (32, 64) if self.data.training >= 600 else (8, 16, 32)
        fitting = [size for size in wanted if size <= min(most, max(8, self.data.training // 4))] or [8]
        return tuple(fitting[:1] if self.wish.is_short else fitting)

    # --- networks ---

    def _branches(self, *, has_own: bool) -> Iterator[Setting]:
        """Yield a branch for each architecture, which has its own preprocessing where they differ in that."""
        for one in self.networks.pretrained:
            alpha = one.network.alpha
            yield Setting(
                one.network.architecture,
                (
                    *([Setting("preprocess", choice(*self._texts(one)), f"{one.px} px")] if has_own else []),
                    *([Setting("alpha", alpha)] if alpha is not None else []),
                    Setting("unfreeze_depth", {"int": [0, blocks_of(one, self.wish)]}),
                    *self._head(),
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

    def _dropout(self) -> tuple[Setting, ...]:
        return (_DROPOUT,) if self._parts_dropout else ()

    def _head(self) -> tuple[Setting, ...]:
        """Return the settings of the head on a backbone."""
        units = () if self.wish.is_short else (Setting("head_units", choice(0, 128)),)
        return (*units, *self._dropout())

    def _own_branch(self, one: OwnNetwork, *, has_own: bool) -> Setting:
        head: tuple[Setting, ...] = ()
        if one.architecture.is_backbone:
            deepest = min(one.blocks, most_blocks(self.wish))
            head = (*([Setting("unfreeze_depth", {"int": [0, deepest]})] if deepest else []), *self._head())
        own = (Setting(name, value) for name, value in ranges_of(one.architecture))
        inner = (
            *([Setting("preprocess", self._own_text(one), f"{one.px} px")] if has_own else []),
            *own,
            *head,
        )
        return Setting(one.architecture.name, inner or {}, f"own code, {one.plugin}")

    def _scratch_branches(self, px: int, *, has_own: bool) -> Iterator[Setting]:
        own = [Setting("preprocess", choice(*self._scratch_texts()), f"{px} px")] if has_own else []
        yield Setting(
            "cnn",
            (
                *own,
                Setting("blocks", {"int": [_blocks(px) - 1, _blocks(px)]} if _blocks(px) > 1 else 1),
                Setting("convolutions_per_block", 1 if self.wish.is_short and px > SMALL_PX else {"int": [1, 2]}),
                Setting("filters", choice(16, 32)),
                Setting("batch_normalization", choice(True, False)),
                Setting("dense_units", choice(64, 128)),
                *self._dropout(),
            ),
        )
        if px <= 32:
            yield Setting(
                "dense",
                (
                    *own,
                    Setting("hidden_layers", {"int": [1, 3]}),
                    Setting("dense_units", choice(64, 128, 256)),
                    *self._dropout(),
                ),
            )

    # --- baseline ---

    def baseline(self) -> Setting:
        """Return the baseline: the commonest recipe."""
        recipe = (
            "one dense layer on the frozen backbone, then its last blocks unfrozen at a lower rate; images as they are"
            if self.networks.pretrained
            else "a plain network, as tutorials have it"
        )
        values = self._pretrained_point() if self.networks.pretrained else self._scratch_point()
        settings = tuple(Setting(name, value) for name, value in values.items())
        return Setting("baseline", settings, f"the commonest recipe, always trial 0: {recipe}")

    def _shared_point(self) -> dict[str, Any]:
        sizes = self._batch_sizes()
        return {
            "augment": "none",
            "batch_size": 32 if 32 in sizes else sizes[-1],
            "learning_rate": 0.001,
            "dropout": 0.2,
            **({"class_weight": "none"} if self.data.is_uneven else {}),
            **({} if self.wish.is_short else {"label_smoothing": 0.0}),
        }

    def _scratch_point(self) -> dict[str, Any]:
        return {
            "preprocess": self._scratch_texts()[0],
            **self._shared_point(),
            "architecture": "cnn",
            "blocks": _blocks(self.networks.scratch_px or 0),
            "convolutions_per_block": 1,
            "filters": 32,
            "batch_normalization": False,
            "dense_units": 128,
        }

    def _pretrained_point(self) -> dict[str, Any]:
        one = self.networks.pretrained[0]
        return {
            "preprocess": self._texts(one)[0],
            **self._shared_point(),
            "architecture": one.network.architecture,
            **({"alpha": one.network.alpha} if one.network.alpha else {}),
            _FACTOR: 0.2,
            "unfreeze_depth": min(4, blocks_of(one, self.wish)),
            **({} if self.wish.is_short else {"head_units": 0}),
        }


def _blocks(px: int) -> int:
    """Return the blocks of convolutions after which about four pixels are left.

    >>> [_blocks(px) for px in (4, 8, 28, 64, 128)]
    [1, 1, 3, 4, 5]
    """
    return min(5, max(1, round(math.log2(max(1, px) / 4))))
