"""Networks of a proposal: which backbones, at which image sizes, and networks from scratch. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from tuner.common.words import counted
from tuner.models.applications import BACKBONES
from tuner.proposals._facts import SHORT_S, DataFacts, Machine, Wish
from tuner.proposals._pretrained import HOST, PRETRAINED, Pretrained

PASS_SHARE = 0.05
"""Most of the time that one pass of all images through a frozen backbone may take: epochs read what it gave."""
_ENLARGED_SHARE = 0.015
"""The same for images that are enlarged, which gain less than what unfreezing costs at that size."""
SMALL_PX = 48
"""Images up to this size are enlarged for a backbone, and networks from scratch can do as well."""
_FEW_IMAGES = 1_000
"""No more than these are never too many."""
MANY_IMAGES = 20_000
"""With so many training images a network from scratch is worth trying beside pretrained ones."""
_SIZES_PX = (288, 256, 224, 208, 176, 160, 144, 128, 112, 100, 80, 64)
_ENLARGED_PX = 128
"""Most for images that are small: there is no more to be seen in them."""
_HALF_SIZE_COST = 8.0
"""Points of ImageNet accuracy that a backbone loses for each halving of its images (MobileNetV2's own table)."""
_LONG_S = 3600.0
_FETCHED_BYTES_S = 2e6
"""A cautious speed of downloads."""
_BYTES_PER_VALUE = 12e6
"""Of GPU memory that an image of 224 px takes in training, for each hundred million multiplications; coarse."""


@dataclass(frozen=True)
class Chosen:
    """A pretrained backbone at a size."""

    network: Pretrained
    px: int

    @property
    def multiplications(self) -> float:
        """The multiplications for one image."""
        return 1e6 * self.network.multiplications * (self.px / 224) ** 2

    @property
    def score(self) -> float:
        """The accuracy on ImageNet to expect at this size."""
        halvings = math.log2(224 / self.px)
        return self.network.accuracy - _HALF_SIZE_COST * max(halvings, 0.25 * halvings)


@dataclass(frozen=True)
class Networks:
    """The networks that a search is to try, the baseline's first."""

    pretrained: tuple[Chosen, ...]
    scratch_px: int | None
    """The size of images for networks from scratch; None: there are none."""
    missing: str
    """The weights that are missing, in words; empty: nothing that would help."""
    why: str
    """The reason for these, in words."""

    def enlarges(self, data: DataFacts) -> bool:
        """Return whether images of several sizes are kept as small as they are, and enlarged by a network."""
        return not data.is_one_size and any(one.px > data.side_px for one in self.pretrained)


def propose_networks(data: DataFacts, machine: Machine, wish: Wish) -> Networks:
    """Return the networks for these data on this machine in this time."""
    chosen = _pretrained(data, machine, wish)
    is_small = data.side_px <= SMALL_PX
    with_scratch = not chosen or is_small or (data.training >= MANY_IMAGES and wish.counted_s > SHORT_S)
    px = scratch_px(data, machine, wish) if with_scratch else None
    own = ", ".join(f"{one.architecture.name} of {one.plugin} at {one.px} px" for one in wish.own)
    beside = f"; own code beside them, in the whole of its ranges: {own}" if own else ""
    why = _why(chosen, data, machine, with_scratch) + beside
    return Networks(chosen, px, _missing(data, machine, wish), why)


def pass_seconds(chosen: Chosen, data: DataFacts, machine: Machine) -> float:
    """Return the seconds that all images take to pass through a frozen backbone once."""
    return data.training * chosen.multiplications / machine.multiplications_s


def _pretrained(data: DataFacts, machine: Machine, wish: Wish) -> tuple[Chosen, ...]:
    """Return the best backbone of each of the best families that the time allows."""
    if data.side_px <= SMALL_PX // 4 or (data.is_grey and data.side_px <= SMALL_PX):
        return ()  # symbols of a few pixels: photographs have nothing to teach there
    fitting = list(_affordable(data, machine, wish)) or _cheapest(data, machine, wish)
    number = 1 + (not wish.is_short) + (wish.counted_s >= _LONG_S) + (machine.gpus > 0)
    found: dict[str, Chosen] = {}
    for one in sorted(fitting, key=lambda each: -each.score):
        found.setdefault(one.network.family, one)
    return tuple(found.values())[:number]


def _affordable(data: DataFacts, machine: Machine, wish: Wish) -> Iterator[Chosen]:
    """Yield each backbone whose weights can be had, at the largest size that the time allows."""
    for network in PRETRAINED:
        sizes = [px for px in sizes_px(data) if px >= network.minimum_px and machine.has(network, px)]
        fitting = [one for one in (Chosen(network, px) for px in sizes) if _fits(one, data, machine, wish)]
        if fitting:
            yield fitting[0]


def _cheapest(data: DataFacts, machine: Machine, wish: Wish) -> list[Chosen]:
    """Return what is cheapest of all, for a part of the images, if there are too many for anything."""
    every = [
        Chosen(network, px)
        for network in PRETRAINED
        for px in sizes_px(data)
        if px >= network.minimum_px and machine.has(network, px)
    ]
    possible = [
        one for one in every if most_images(one.multiplications, machine, wish) >= max(1_000, 20 * data.classes)
    ]
    return sorted(possible, key=lambda one: one.multiplications)[:1] if data.training > _FEW_IMAGES else []


def most_images(multiplications: float, machine: Machine, wish: Wish) -> int:
    """Return how many images can pass through a network in their part of the time."""
    return int(PASS_SHARE * wish.counted_s * machine.multiplications_s / multiplications)


def sizes_px(data: DataFacts) -> list[int]:
    """Return the sizes that images may be given for a backbone, the largest first."""
    most = _ENLARGED_PX if data.side_px <= SMALL_PX else max(224, data.side_px)
    own = [data.side_px] if SMALL_PX < data.side_px <= 224 else []
    little = range(data.side_px + 1, int(1.4 * data.side_px)) if own else ()  # so little more shows nothing more
    return sorted({px for px in (*_SIZES_PX, *own) if px <= most and px not in little}, reverse=True)


def sizes_of(one: Chosen, data: DataFacts, machine: Machine) -> tuple[int, ...]:
    """Return the sizes that a search tries with a backbone: its own, and that of images which it enlarges by half."""
    own = data.side_px
    is_other = own >= max(64, one.network.minimum_px) and one.px >= 1.5 * own and machine.has(one.network, own)
    return (one.px, own) if is_other else (one.px,)


def _fits(one: Chosen, data: DataFacts, machine: Machine, wish: Wish) -> bool:
    share = _ENLARGED_SHARE if one.px > data.side_px > SMALL_PX else PASS_SHARE
    is_quick = pass_seconds(one, data, machine) <= share * wish.counted_s
    fetched_s = 0.0 if one.network.is_here(one.px, machine.weights) else 1e6 * one.network.megabytes / _FETCHED_BYTES_S
    in_memory = machine.gpu_gb is None or most_in_batch(one, machine) >= 32
    return is_quick and in_memory and fetched_s <= 0.03 * wish.counted_s


def most_in_batch(one: Chosen, machine: Machine) -> int:
    """Return how many images of a batch the memory of a GPU holds in training, coarsely; any number without one."""
    if machine.gpu_gb is None:
        return 1 << 20
    an_image = (60e6 + _BYTES_PER_VALUE * one.network.multiplications / 100) * (one.px / 224) ** 2
    return int(0.6e9 * machine.gpu_gb / an_image)


def scratch_px(data: DataFacts, machine: Machine, wish: Wish) -> int:
    """Return the size of images for networks from scratch, which are trained as a whole in every epoch."""
    most = 128 if machine.gpus else 96 if wish.counted_s > SHORT_S else 64
    return max(4, min(data.side_px, most))


def _why(chosen: tuple[Chosen, ...], data: DataFacts, machine: Machine, with_scratch: bool) -> str:
    place = counted(machine.gpus, "GPU") if machine.gpus else counted(machine.cpus, "core")
    if not chosen and (data.side_px <= SMALL_PX // 4 or (data.is_grey and data.side_px <= SMALL_PX)):
        return "networks from scratch: the images are symbols of few pixels, for which weights of photos do not help"
    if not chosen:
        return "networks from scratch, since there are no ImageNet weights that could be used"
    names = ", ".join(
        f"{one.network.architecture}{'' if one.network.alpha is None else f' {one.network.alpha:g}'} at {one.px} px"
        f"{'' if one.network.is_here(one.px, machine.weights) else ' (its weights are fetched first)'}"
        for one in chosen
    )
    beside = "; a network from scratch stands beside them" if with_scratch else ""
    return (
        f"{names}: with ImageNet weights, the most accurate that run over all images in "
        f"{PASS_SHARE:.0%} of the time on {place}; how many of its blocks are unfrozen, the search decides{beside}"
    )


def _missing(data: DataFacts, machine: Machine, wish: Wish) -> str:
    """Return which weights would help and are not to be had, in words."""
    if machine.can_fetch:
        return ""
    every = Machine(machine.cpus, machine.gpus, machine.gpu_gb, frozenset(), "", can_fetch=True)
    best, here = _pretrained(data, every, wish), _pretrained(data, machine, wish)
    if not best or (here and here[0].score >= best[0].score):
        return ""
    file = best[0].network.file_for(best[0].px)
    have = "no ImageNet weights that could be used are" if not here else "only some ImageNet weights are"
    return (
        f"{have} in {machine.weights_folder}, and {HOST} cannot be reached to fetch others: "
        f"{best[0].network.architecture} would do better; put {file} there, then begin again"
    )


def blocks_of(one: Chosen, wish: Wish) -> int:
    """Return how many blocks of a backbone may be unfrozen: few where there is little time."""
    return min(BACKBONES[one.network.architecture].blocks, most_blocks(wish))


def most_blocks(wish: Wish) -> int:
    """Return how many blocks of any backbone may be unfrozen."""
    return 6 if wish.is_short else 8
