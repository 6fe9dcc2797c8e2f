"""The operations of augmentation: what each draws for the images of a batch, and the registry of their names.

On bytes, by OpenCV. Everything random is drawn for a batch from one generator, before a pixel is touched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tuner.common.registry import Registry
from tuner.models.augment import changes as image_changes
from tuner.models.augment.changes import Change
from tuner.models.operations import Argument, Operation

Values = Mapping[str, Any]
Shape = tuple[int, int, int, int]
Batch = tuple[np.ndarray, np.ndarray]
"""Images `[N, H, W, C] uint8` and labels `[N, K] float32` that add up to 1."""


@dataclass(frozen=True)
class Drawn:
    """Random draws for the images of a batch: how the pixels of each move, and how its values change, in turn."""

    maps: np.ndarray | None = None
    """`[N, 3, 3]`; see `_image_changes`. None: they stay."""
    changes: Sequence[Sequence[Change]] = ()
    """`N` times the changes of one image; empty: none for any."""


@dataclass(frozen=True)
class OnImages:
    """The effect of an operation that changes every image by itself."""

    draw: Callable[[Values, Shape, np.random.Generator], Drawn]
    at_any_size: bool = False
    """Whether what is drawn for images of a shape, done to smaller ones, gives what shrinking gives afterwards."""


@dataclass(frozen=True)
class OnBatch:
    """The effect of an operation that needs all images of a batch, or their labels."""

    apply: Callable[[Values, np.ndarray, np.ndarray, np.random.Generator], Batch]
    at_any_size: bool = False
    mixes_rows: bool = False
    """Whether it mixes whole rows of labels by shares, so that any other columns than those of classes do as well."""


Effect = OnImages | OnBatch
AUGMENTED_BY = "OpenCV, 1"
"""Changed whenever the same text and seed give other images, so that kept ones are not mistaken for these."""
AUGMENTATION: Registry[Operation[Effect]] = Registry("augmentation", "tuner.augmentations")


# --- operations on single images ---


def _seeds(number: int, generator: np.random.Generator) -> list[int]:
    seeds: list[int] = generator.integers(0, 2**63, number).tolist()
    return seeds


def _flip(values: Values, shape: Shape, generator: np.random.Generator) -> Drawn:
    sides = {}
    for name in ("horizontal", "vertical"):
        is_asked = values["direction"] in (name, "both")
        sides[name] = np.where(generator.random(shape[0]) < 0.5, -1, 1) if is_asked else np.ones(shape[0])
    return Drawn(image_changes.diagonal_maps(sides["horizontal"], sides["vertical"]))


def _shift(values: Values, shape: Shape, generator: np.random.Generator) -> Drawn:
    return Drawn(image_changes.shift_maps(*generator.integers(-values["px"], values["px"] + 1, size=(2, shape[0]))))


def _rotate(values: Values, shape: Shape, generator: np.random.Generator) -> Drawn:
    degrees = generator.uniform(-values["degrees"], values["degrees"], shape[0])
    return Drawn(image_changes.rotation_maps(degrees))


def _zoom(values: Values, shape: Shape, generator: np.random.Generator) -> Drawn:
    factors = 1.0 / generator.uniform(1 - values["fraction"], 1 + values["fraction"], shape[0])
    return Drawn(image_changes.diagonal_maps(factors, factors))


def _random_resized_crop(values: Values, shape: Shape, generator: np.random.Generator) -> Drawn:
    """Draw a part of each image, and fill the image with it (Szegedy et al. 2015, arXiv:1409.4842)."""
    number, height, width, _ = shape
    area = generator.uniform(values["area"], 1.0, number)
    ratio = np.exp(generator.uniform(np.log(3 / 4), np.log(4 / 3), number))
    columns, rows = (np.minimum(1.0, np.sqrt(area * by)) for by in (ratio, 1 / ratio))
    maps = image_changes.diagonal_maps(columns, rows)
    maps[:, 0, 2] = generator.uniform(-0.5, 0.5, number) * (1 - columns) * width
    maps[:, 1, 2] = generator.uniform(-0.5, 0.5, number) * (1 - rows) * height
    return Drawn(maps)


def _erase(values: Values, shape: Shape, generator: np.random.Generator) -> Drawn:
    """Draw a rectangle in half of the images, to be filled with noise (Zhong et al. 2020, arXiv:1708.04896)."""
    number, height, width, _ = shape
    area = generator.uniform(min(0.02, values["fraction"]), values["fraction"], number) * height * width
    ratio = np.exp(generator.uniform(np.log(0.3), np.log(1 / 0.3), number))
    rows = np.clip(np.sqrt(area * ratio), 1, height).astype(int)
    columns = np.clip(np.sqrt(area / ratio), 1, width).astype(int)
    top = (generator.random(number) * (height - rows + 1)).astype(int)
    left = (generator.random(number) * (width - columns + 1)).astype(int)
    chosen = generator.random(number) < 0.5
    placed = zip(chosen, top, left, rows, columns, _seeds(number, generator), strict=True)
    return Drawn(changes=[[image_changes.erase(*where)] if is_chosen else [] for is_chosen, *where in placed])


def _brightness(values: Values, shape: Shape, generator: np.random.Generator) -> Drawn:
    amounts = generator.uniform(-values["fraction"], values["fraction"], shape[0]) * 255
    return Drawn(changes=[[image_changes.brightness(amount)] for amount in amounts.tolist()])


def _contrast(values: Values, shape: Shape, generator: np.random.Generator) -> Drawn:
    factors = generator.uniform(1 - values["fraction"], 1 + values["fraction"], shape[0])
    return Drawn(changes=[[image_changes.contrast(factor)] for factor in factors.tolist()])


def _color_jitter(values: Values, shape: Shape, generator: np.random.Generator) -> Drawn:
    """Draw factors of values, contrast and saturation, and a turn of the hues, as torchvision's ColorJitter does."""
    names = ("brightness", "contrast", "saturation")
    factors = [generator.uniform(1 - values[name], 1 + values[name], shape[0]).tolist() for name in names]
    turns = generator.uniform(-values["hue"], values["hue"], shape[0]).tolist()
    made = (image_changes.multiply, image_changes.contrast, image_changes.saturation, image_changes.hue)
    return Drawn(
        changes=[[make(by) for make, by in zip(made, one, strict=True)] for one in zip(*factors, turns, strict=True)]
    )


def _blur(values: Values, shape: Shape, generator: np.random.Generator) -> Drawn:
    sigmas = generator.uniform(min(0.1, values["sigma"]), values["sigma"], shape[0])
    return Drawn(changes=[[image_changes.blur(sigma, shape[1:3])] for sigma in sigmas.tolist()])


def _noise(values: Values, shape: Shape, generator: np.random.Generator) -> Drawn:
    deviation = values["stddev"] * 255
    return Drawn(changes=[[image_changes.noise(deviation, seed)] for seed in _seeds(shape[0], generator)])


# --- policies: operations drawn for each image ---


@dataclass(frozen=True)
class _Choice:
    """One operation of a policy: its maps or its change by an amount, and the amounts of RandAugment and the others."""

    make_maps: Callable[[np.ndarray, Shape], np.ndarray] | None = None
    make_change: Callable[[float], Change] | None = None
    most: float = 0.0
    """The amount at full strength, RandAugment's; the least is 0."""
    widest: float = 0.0
    """The same of TrivialAugment's wide space."""
    is_signed: bool = False


def _by_columns(maps: Callable[..., np.ndarray], size_axis: int | None = None) -> Callable[..., np.ndarray]:
    return lambda amounts, shape: maps(amounts * (shape[size_axis] if size_axis else 1), 0 * amounts)


def _by_rows(maps: Callable[..., np.ndarray], size_axis: int | None = None) -> Callable[..., np.ndarray]:
    return lambda amounts, shape: maps(0 * amounts, amounts * (shape[size_axis] if size_axis else 1))


_SHIFTED = 150 / 331  # of the size, as in the paper's images
_MOVES = {
    "shear_columns": _Choice(_by_columns(image_changes.shear_maps), None, 0.3, 0.99, True),
    "shear_rows": _Choice(_by_rows(image_changes.shear_maps), None, 0.3, 0.99, True),
    "shift_columns": _Choice(_by_columns(image_changes.shift_maps, 2), None, _SHIFTED, _SHIFTED, True),
    "shift_rows": _Choice(_by_rows(image_changes.shift_maps, 1), None, _SHIFTED, _SHIFTED, True),
    "rotate": _Choice(lambda amounts, _shape: image_changes.rotation_maps(amounts), None, 30.0, 135.0, True),
}
_SHARED = {  # AugMix leaves out what its test corruptions hold
    "posterize": _Choice(None, lambda amount: image_changes.posterize(8 - round(amount)), 4, 6),
    "solarize": _Choice(None, lambda amount: image_changes.solarize(256 - amount), 256, 256),
    "stretch_contrast": _Choice(None, lambda _amount: image_changes.stretch_contrast),
    "equalize": _Choice(None, lambda _amount: image_changes.equalize),
}
_TONES = {
    "identity": _Choice(),
    "brightness": _Choice(None, lambda amount: image_changes.multiply(1 + amount), 0.9, 0.99, True),
    "contrast": _Choice(None, lambda amount: image_changes.contrast(1 + amount), 0.9, 0.99, True),
    "saturation": _Choice(None, lambda amount: image_changes.saturation(1 + amount), 0.9, 0.99, True),
    "sharpness": _Choice(None, lambda amount: image_changes.sharpness(1 + amount), 0.9, 0.99, True),
}
_ALL = (*_MOVES.values(), *_SHARED.values(), *_TONES.values())


def _drawn_choices(
    choices: Sequence[_Choice], amounts: Sequence[float], strength: np.ndarray, shape: Shape, by: np.random.Generator
) -> Drawn:
    """Draw one of the choices for each image; `amounts` are theirs at strength 1, `strength` is `[N]`, from 0 to 1."""
    number = shape[0]
    chosen, sign = by.integers(0, len(choices), number), by.choice((-1.0, 1.0), number)
    maps = np.tile(np.eye(3), (number, 1, 1))
    changes: list[list[Change]] = [[] for _ in range(number)]
    for index, (choice, full) in enumerate(zip(choices, amounts, strict=True)):
        places = np.flatnonzero(chosen == index)
        drawn = strength[places] * full * (sign[places] if choice.is_signed else 1)
        if choice.make_maps is not None:
            maps[places] = choice.make_maps(drawn, shape)
        if choice.make_change is not None:
            for place, amount in zip(places.tolist(), drawn.tolist(), strict=True):
                changes[place].append(choice.make_change(amount))
    return Drawn(maps, changes)


def _randaugment(values: Values, shape: Shape, generator: np.random.Generator) -> Drawn:
    """Draw `n` operations of one strength for each image (Cubuk et al. 2020, arXiv:1909.13719)."""
    maps: np.ndarray = np.tile(np.eye(3), (shape[0], 1, 1))
    changes: list[list[Change]] = [[] for _ in range(shape[0])]
    strength, amounts = np.full(shape[0], values["magnitude"] / 30), [choice.most for choice in _ALL]
    for _ in range(values["n"]):
        drawn = _drawn_choices(_ALL, amounts, strength, shape, generator)
        maps = maps @ drawn.maps
        for all_of_one, some in zip(changes, drawn.changes, strict=True):
            all_of_one.extend(some)
    return Drawn(maps, changes)


def _trivial_augment(_values: Values, shape: Shape, generator: np.random.Generator) -> Drawn:
    """Draw one operation and its strength for each image, from the wide space (Müller and Hutter 2021)."""
    strength = generator.integers(0, 31, shape[0]) / 30
    return _drawn_choices(_ALL, [choice.widest for choice in _ALL], strength, shape, generator)


def _augmix(values: Values, shape: Shape, generator: np.random.Generator) -> Drawn:
    """Draw chains of operations whose images are mixed (Hendrycks et al. 2020, arXiv:1912.02781, without its loss)."""
    choices = (*_MOVES.values(), *_SHARED.values())
    amounts = [choice.most for choice in choices]
    number, width = shape[0], values["width"]
    chains: list[list[list[Change]]] = [[] for _ in range(number)]
    for _ in range(width):
        lengths = generator.integers(1, 4, number)
        chain: list[list[Change]] = [[] for _ in range(number)]
        for step in range(3):
            strength = generator.uniform(0.1, values["severity"], number) / 10
            drawn = _drawn_choices(choices, amounts, strength, shape, generator)
            for place in np.flatnonzero(lengths > step).tolist():
                chain[place] += _in_turn(drawn, place)
        for place in range(number):
            chains[place].append(chain[place])
    shares, own = generator.dirichlet(np.ones(width), number), generator.beta(1, 1, number)
    mixed = zip(chains, shares.tolist(), own.tolist(), strict=True)
    return Drawn(changes=[[image_changes.chains_mixed(*one)] for one in mixed])


def _in_turn(drawn: Drawn, place: int) -> list[Change]:
    """Return what was drawn for one image as changes that can be done one after another."""
    if drawn.changes[place] or drawn.maps is None:
        return list(drawn.changes[place])
    return [image_changes.moved(drawn.maps[place])]


# --- operations on batches: images and labels mixed ---


def _mixup(values: Values, images: np.ndarray, labels: np.ndarray, generator: np.random.Generator) -> Batch:
    """Mix pairs of images, and their labels, by convex combinations (Zhang et al. 2018, arXiv:1710.09412)."""
    share = generator.beta(values["alpha"], values["alpha"], len(images))
    partner, mixed = generator.permutation(len(images)), np.empty_like(images)
    for place, of_image in enumerate(share.tolist()):
        image_changes.mix_images(images[place], of_image, images[partner[place]], mixed[place])
    of_labels = share.astype(np.float32)[:, None]
    return mixed, of_labels * labels + (1 - of_labels) * labels[partner]


def _cutmix(values: Values, images: np.ndarray, labels: np.ndarray, generator: np.random.Generator) -> Batch:
    """Set a part of another image into each, and mix the labels by area (Yun et al. 2019, arXiv:1905.04899)."""
    number, height, width, _ = images.shape
    side = np.sqrt(1 - generator.beta(values["alpha"], values["alpha"], number))
    row, column = (generator.random(number) * size for size in (height, width))  # the same part of any size
    top, bottom = (np.clip(row + sign * side * height / 2, 0, height).astype(int) for sign in (-1, 1))
    left, right = (np.clip(column + sign * side * width / 2, 0, width).astype(int) for sign in (-1, 1))
    partner, mixed = generator.permutation(number), images.copy()
    for place, other in enumerate(partner.tolist()):
        part = slice(top[place], bottom[place]), slice(left[place], right[place])
        mixed[place][part] = images[other][part]
    own = (1 - (bottom - top) * (right - left) / (height * width)).astype(np.float32)[:, None]
    return mixed, own * labels + (1 - own) * labels[partner]


_STDDEV = Argument("stddev", float, 0.0, 1.0, is_strength=True)
_FRACTION = Argument("fraction", float, 0.0, 0.95, is_strength=True)
_DIRECTION = Argument("direction", str, words=("horizontal", "vertical", "both"), default="horizontal")
_JITTER = (
    *(
        Argument(name, float, 0.0, 0.95, default=0.4, is_strength=True)
        for name in ("brightness", "contrast", "saturation")
    ),
    Argument("hue", float, 0.0, 0.5, default=0.1, is_strength=True),
)
_AT_ANY_SIZE = {
    "flip",
    "shift",
    "rotate",
    "zoom",
    "random_resized_crop",
    "brightness",
    "contrast",
    "color_jitter",
    "blur",
}
"""Of the others, noise is smoothed by shrinking, and steps of values (posterize, equalize) give no means of means."""
_RANDAUGMENT = (Argument("n", int, 1, 10, default=2), Argument("magnitude", float, 0.0, 30.0, default=9.0))
_AUGMIX = (Argument("severity", float, 0.1, 10.0, default=3.0), Argument("width", int, 1, 10, default=3))
for _name, _draw, _arguments, _description in (
    ("flip", _flip, (_DIRECTION,), "mirrored, in half of the images"),
    ("shift", _shift, (Argument("px", int, 0, 256, is_strength=True),), "by up to px whole pixels in both directions"),
    ("rotate", _rotate, (Argument("degrees", float, 0.0, 180.0, is_strength=True),), "by up to so many degrees"),
    ("zoom", _zoom, (_FRACTION,), "in or out by up to this fraction"),
    (
        "random_resized_crop",
        _random_resized_crop,
        (Argument("area", float, 0.01, 1.0),),
        "a part of at least this share of the area, filling the image",
    ),
    ("erase", _erase, (_FRACTION,), "a rectangle of up to this fraction filled with noise, in half of the images"),
    ("brightness", _brightness, (_FRACTION,), "up or down by up to this fraction of the range"),
    ("contrast", _contrast, (_FRACTION,), "times 1 plus or minus up to this fraction"),
    (
        "color_jitter",
        _color_jitter,
        _JITTER,
        "brightness, contrast, saturation and hue, by up to such shares",
    ),
    ("blur", _blur, (Argument("sigma", float, 0.0, 32.0, is_strength=True),), "Gaussian, of up to so many pixels"),
    (
        "noise",
        _noise,
        (_STDDEV,),
        "Gaussian, stddev times the range, new in every epoch",
    ),
    ("randaugment", _randaugment, _RANDAUGMENT, "n of 14 operations for each image, of one magnitude (0 to 30)"),
    ("trivial_augment", _trivial_augment, (), "one of 14 operations for each image, of any strength"),
    ("augmix", _augmix, _AUGMIX, "chains of operations, mixed with each other and with the image"),
):
    AUGMENTATION.add(_name, Operation(_arguments, OnImages(_draw, _name in _AT_ANY_SIZE), _description))
_ALPHA = Argument("alpha", float, 0.0, 10.0, is_strength=True)
for _name, _apply, _description in (
    ("mixup", _mixup, "pairs of images and of their labels mixed, Beta(alpha, alpha)"),
    ("cutmix", _cutmix, "a part of another image in each, labels mixed by area, Beta(alpha, alpha)"),
):
    AUGMENTATION.add(
        _name, Operation((_ALPHA,), OnBatch(_apply, True, mixes_rows=True), _description, mixes_labels=True)
    )
