"""The section `data` of a proposal: what is given of it, how images are parted, what becomes of odd ones. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from tuner.common.words import counted
from tuner.proposals._facts import DataFacts, Machine, Wish
from tuner.proposals._networks import Networks, most_images
from tuner.proposals._settings import Setting

_FEW_OF_A_CLASS, _MANY_IMAGES = 20, 5_000
"""With fewer training images of a class, if there are not many in all, folds judge better than a fraction."""
_PARTED = {"validation", "validation_fraction"}
"""Two ways to say the same."""
_OBLONG = 2.0
"""A proportion from which on a crop loses half of an image."""


def data_settings(data: DataFacts, machine: Machine, wish: Wish, networks: Networks) -> tuple[Setting, ...]:
    """Return the settings of the section; what is given stands for what would be proposed."""
    given = [Setting(name, value, _given_words(name, data)) for name, value in wish.given]
    names = {one.name for one in given}
    if names & _PARTED:
        names |= _PARTED
    proposed = (
        *_size(data, networks),
        *_validation(data, wish),
        *_fit(data),
        *_broken(data),
        *_most_images(data, machine, wish, networks),
    )
    return (
        Setting("source", wish.source, _contents(data)),
        *given,
        *(one for one in proposed if one.name not in names),
    )


def _given_words(name: str, data: DataFacts) -> str:
    """Return why a setting that is given is there, and where it has no effect, that it has none."""
    idle = data.has_validation and name == "validation_fraction"
    return "given on the command line" + ("; without effect: the data have a validation split" if idle else "")


def _contents(data: DataFacts) -> str:
    proportion = "squares" if data.proportion < 1.05 else f"one side {data.proportion:.2g} times the other"
    size = (
        f"{data.side_px} px"
        if data.is_one_size
        else f"{data.side_px} px on the shorter side in the median, {proportion}"
    )
    colour = "grey" if data.is_grey else "in colour"
    return f"{data.images:,} images of {data.classes:,} classes, {colour}, {size}"


def _size(data: DataFacts, networks: Networks) -> Iterator[Setting]:
    if networks.enlarges(data):
        yield Setting("image_px", data.side_px, "the size that they have; the networks enlarge them")


def _validation(data: DataFacts, wish: Wish) -> Iterator[Setting]:
    if data.has_validation:
        return
    has_rare = data.smallest < _FEW_OF_A_CLASS and data.training < _MANY_IMAGES
    folds = min(3 if wish.is_short else 5, data.smallest)
    if (data.is_few or has_rare) and folds >= 2 and not wish.without_folds:
        why = (
            f"few images ({data.training:,} to train on, {data.smallest:,} of {data.smallest_class}): "
            "finalists are judged on each of these parts in turn"
        )
        yield Setting("validation", (Setting("folds", folds),), why)
        return
    fraction = wish.fraction or (0.2 if data.training < _MANY_IMAGES else 0.1)
    test = "" if data.has_test else "; a fifth of all is the test split, which finalists alone see"
    yield Setting("validation_fraction", fraction, f"of the training images, to compare trials by{test}")


def _fit(data: DataFacts) -> Iterator[Setting]:
    if data.proportion >= _OBLONG:
        why = "the images are long: a crop would lose half of them, so they are filled up to squares"
        yield Setting("fit", "pad", why)


def _broken(data: DataFacts) -> Iterator[Setting]:
    if data.broken:
        yield Setting("broken_images", "skip", f"{counted(data.broken, 'image')} cannot be read and are left out")
    elif not data.is_decoded:
        why = "only headers were read: images that turn out to be broken are named and left out"
        yield Setting("broken_images", "skip", why)


def _most_images(data: DataFacts, machine: Machine, wish: Wish, networks: Networks) -> Iterator[Setting]:
    of_scratch = 3 * 6e3 * (networks.scratch_px or 1) ** 2  # about those of a small network, in three passes
    cheapest = min((one.multiplications for one in networks.pretrained), default=of_scratch)
    most = max(most_images(cheapest, machine, wish), 20 * data.classes, 1000)
    if 1.5 * most < data.training:
        rounded = max(data.classes, int(float(f"{most:.1g}")))
        why = "so many are seen often enough in the time; with more time, take more"
        yield Setting("max_train_images", rounded, why)
        yield Setting("max_validation_images", max(data.classes, 1000, rounded // 5))
