"""The data sets that are measured, and the space that a user would search for them. Light, and pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from tuner.common.errors import InputError

_SUPERCLASSES = """
aquatic_mammals: beaver dolphin otter seal whale
fish: aquarium_fish flatfish ray shark trout
flowers: orchid poppy rose sunflower tulip
food_containers: bottle bowl can cup plate
fruit_and_vegetables: apple mushroom orange pear sweet_pepper
household_electrical_devices: clock keyboard lamp telephone television
household_furniture: bed chair couch table wardrobe
insects: bee beetle butterfly caterpillar cockroach
large_carnivores: bear leopard lion tiger wolf
large_man_made_outdoor_things: bridge castle house road skyscraper
large_natural_outdoor_scenes: cloud forest mountain plain sea
large_omnivores_and_herbivores: camel cattle chimpanzee elephant kangaroo
medium_sized_mammals: fox porcupine possum raccoon skunk
non_insect_invertebrates: crab lobster snail spider worm
people: baby boy girl man woman
reptiles: crocodile dinosaur lizard snake turtle
small_mammals: hamster mouse rabbit shrew squirrel
trees: maple_tree oak_tree palm_tree pine_tree willow_tree
vehicles_1: bicycle bus motorcycle pickup_truck train
vehicles_2: lawn_mower rocket streetcar tank tractor
"""
SUPERCLASSES: Mapping[str, tuple[str, ...]] = {
    name: tuple(classes.split())
    for name, _, classes in (line.partition(": ") for line in _SUPERCLASSES.strip().splitlines())
}
"""Those of CIFAR-100 with their classes."""
TRAINED_ON = (
    *("aquatic_mammals", "fish", "food_containers", "fruit_and_vegetables", "insects"),
    *("large_omnivores_and_herbivores", "non_insect_invertebrates", "reptiles", "small_mammals", "trees"),
)
"""The half of them that the small networks are trained on: no task has these."""
Split = Literal["choosing", "judging"]
EPOCHS, HEAD_EPOCHS = 20, 3
MOST_IMAGES = 1500
"""Of a task, for training and validation together."""


@dataclass(frozen=True)
class Task:
    """A small data set, made of a large one."""

    name: str
    base: str
    """The large one, a source by its name."""
    split: Split
    """Whether settings are chosen on it, or judged; all tasks of a base set are of one split."""
    px: int
    most: int
    """Training images of the first class."""
    fewest: int
    """Of the last one; those between go down evenly on a log scale."""
    validation: int
    """Validation images of the first class; the others have them in proportion."""
    augment: str
    """Augmentation, beside none."""
    superclasses: tuple[str, ...] = ()
    """Of CIFAR-100, whose classes it has; none: it has all of its base set."""
    colour: Literal["auto", "grey"] = "auto"

    @property
    def is_colour(self) -> bool:
        """Whether its images have three channels."""
        return self.colour == "auto" and self.base not in ("digits", "fashion_mnist")

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The classes that it has; None: all."""
        found = tuple(name for group in self.superclasses for name in SUPERCLASSES[group])
        return found or None


_FLIPS, _HANDS, _DIGITS = "flip|shift(4)", "shift(4)|rotate(10)", "shift(1)|rotate(10)"
TASKS: Mapping[str, Task] = {
    task.name: task
    for task in (
        Task("mammals", "cifar100", "choosing", 32, 30, 30, 30, _FLIPS, ("large_carnivores", "medium_sized_mammals")),
        Task("vehicles", "cifar100", "choosing", 32, 60, 60, 40, _FLIPS, ("vehicles_1", "vehicles_2")),
        Task(
            *("household", "cifar100", "choosing", 32, 120, 10, 80, _FLIPS),
            superclasses=("household_electrical_devices", "household_furniture"),
        ),
        Task("people_grey", "cifar100", "choosing", 32, 150, 150, 80, _FLIPS, ("people",), "grey"),
        Task(
            *("outdoors", "cifar100", "choosing", 32, 10, 10, 20, _FLIPS),
            superclasses=("large_natural_outdoor_scenes", "large_man_made_outdoor_things", "flowers"),
        ),
        Task("digits_10", "digits", "choosing", 8, 10, 10, 40, _DIGITS),
        Task("digits_unbalanced", "digits", "choosing", 8, 80, 10, 50, _DIGITS),
        Task("hands_20", "hands", "choosing", 64, 20, 20, 30, _HANDS),
        Task("hands_60_grey", "hands", "choosing", 48, 60, 60, 40, _HANDS, (), "grey"),
        Task("fashion_20", "fashion_mnist", "judging", 28, 20, 20, 40, "flip|shift(2)"),
        Task("fashion_80", "fashion_mnist", "judging", 28, 80, 80, 40, "flip|shift(2)"),
        Task("fashion_unbalanced", "fashion_mnist", "judging", 28, 150, 10, 100, "flip|shift(2)"),
        Task("flowers_30", "flowers", "judging", 96, 30, 30, 60, _FLIPS),
        Task("flowers_100", "flowers", "judging", 64, 100, 100, 60, _FLIPS),
        Task("flowers_unbalanced", "flowers", "judging", 48, 110, 15, 70, _FLIPS),
    )
}


def class_sizes(most: int, fewest: int, classes: int) -> list[int]:
    """Return the numbers of images of so many classes, from the most to the fewest.

    >>> class_sizes(120, 15, 4), class_sizes(30, 30, 3)
    ([120, 60, 30, 15], [30, 30, 30])
    """
    return [round(most * (fewest / most) ** (place / max(1, classes - 1))) for place in range(classes)]


def sizes(task: Task, classes: int) -> tuple[list[int], list[int]]:
    """Return the numbers of training images and of validation images by class, at least one of each."""
    train = class_sizes(task.most, task.fewest, classes)
    return train, [max(1, round(task.validation * number / task.most)) for number in train]


def chosen(labels: np.ndarray, wanted: Mapping[int, int], generator: np.random.Generator) -> np.ndarray:
    """Return the places `[N] int64` of so many images of each label, drawn without replacement, in their order.

    Raises:
        InputError: a label has fewer.
    """
    found: list[np.ndarray] = []
    for label, number in wanted.items():
        places = np.flatnonzero(labels == label)
        if len(places) < number:
            raise InputError(f"class {label} must have {number} images to choose from; it has {len(places)}")
        found.append(generator.choice(places, number, replace=False))
    return np.sort(np.concatenate(found))


def space(task: Task) -> dict[str, Any]:
    """Return the `space` of a search-space file: networks with weights of ImageNet, small ones, one from scratch.

    Networks with weights that were trained on CIFAR-100 are left out where images are of it.
    """

    def tuned(blocks: int, *preprocess: str) -> dict[str, Any]:
        return {
            "preprocess": {"choice": [f"{text}|scale(-1,1)" for text in preprocess]},
            "unfreeze_depth": {"int": [0, blocks]},
            "head_units": {"choice": [0, 64, 256]},
            "fine_tune_learning_rate_factor": {"log_float": [0.03, 1.0]},
        }

    of_imagenet = ("resize(48)", "resize(80)", *(["grayscale|resize(80)"] if task.is_colour else []))
    residual, separable = (tuned(blocks, "resize(32)", "resize(48)") for blocks in (3, 6))
    pretrained = {} if task.base == "cifar100" else {"small_residual": residual, "small_separable": separable}
    return {
        "augment": {"choice": ["none", task.augment]},
        "batch_size": {"choice": [16, 32, 64]},
        "learning_rate": {"log_float": [1e-4, 3e-2]},
        "dropout": {"float": [0.0, 0.6]},
        "label_smoothing": {"float": [0.0, 0.2]},
        "architecture": {
            "choose": {
                "mobilenet_v2": {"alpha": 0.35, **tuned(6, *of_imagenet)},
                **pretrained,
                "random_residual": residual,
                "random_separable": separable,
                "cnn": {
                    "preprocess": {"choice": ["resize(32)|scale(0,1)", "resize(32)|standardise"]},
                    "blocks": {"int": [2, 3]},
                    "convolutions_per_block": 1,
                    "filters": {"choice": [16, 32]},
                    "dense_units": {"choice": [64, 256]},
                },
            }
        },
    }


def specification(task: Task, trials: int, slots: int) -> dict[str, Any]:
    """Return the values of the search-space file with which a task is measured: all trials to their end, one seed."""
    return {
        "study": task.name,
        "data": {"source": task.name, "image_px": task.px},
        "space": space(task),
        "training": {"max_epochs": EPOCHS, "head_epochs": HEAD_EPOCHS, "early_stopping": "none"},
        "search": {
            "sampler": "repeating",
            "scheduler": "none",
            "trials": trials,
            "max_concurrent": slots,
            "seed": 0,
            "probe": True,
        },
        "resources": {"cpus_per_trial": 1, "gpus_per_trial": 0},
        "finalists": {"count": 0},
    }


def trials_for(configurations: int, every: int) -> int:
    """Return how many trials have so many configurations, where the last of each `every` trials repeats one.

    >>> trials_for(100, 6), trials_for(5, 6), trials_for(4, 6)
    (120, 6, 4)
    """
    groups, rest = divmod(configurations, every - 1)
    return groups * every + rest


def chosen_tasks(names: Sequence[str], split: str | None) -> list[Task]:
    """Return the tasks of these names, or all, of one split if one is given, in their order."""
    return [
        task for name, task in TASKS.items() if (not names or name in names) and (split is None or task.split == split)
    ]
