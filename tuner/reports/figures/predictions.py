"""Images: what the exported model says of those of the test split, and what the networks saw of them."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter

from tuner.common.intervals import wilson_interval
from tuner.reports.figures import style
from tuner.reports.formatting import shortened
from tuner.reports.results import Results
from tuner.runs.predictions import Variant

MOST_PAIRS = 20
"""Pairs of classes that are named."""
MOST_EXAMPLES = 16
MOST_NAMES = 120
"""Classes whose names are written beside the matrix; more could not be read."""
MOST_IN_CELLS = 15
"""Classes up to which shares are written into the cells."""
COLUMNS = 4


class ConfusedPair(NamedTuple):
    """Images of one class that were taken for another."""

    true: str
    predicted: str
    images: int
    of_images: int
    """All images of the true class."""


class Confusion(NamedTuple):
    """The share of each class that was taken for each other one."""

    class_names: tuple[str, ...]
    """In the order of the matrix."""
    matrix: np.ndarray
    """`[K, K] float64`: row: the true class, column: the predicted one; the shares of a row sum to 1."""
    images: int
    accuracy: float
    pairs: tuple[ConfusedPair, ...]
    """The most frequent ones."""


def build_confusion(results: Results) -> Confusion | None:
    """Return the confusion matrix, similar classes side by side; None before the test split was read."""
    found = results.predictions
    names = _class_names(results)
    if found is None or not names:
        return None
    counts = np.zeros((len(names), len(names)), dtype=np.int64)
    np.add.at(counts, (found.labels, found.classes[:, 0]), 1)
    shares = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    order = _similar_together(shares)
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    largest = np.argsort(-wrong, axis=None, kind="stable")[:MOST_PAIRS]
    pairs = [
        ConfusedPair(names[row], names[column], int(wrong[row, column]), int(counts[row].sum()))
        for row, column in zip(*np.unravel_index(largest, wrong.shape), strict=True)
        if wrong[row, column]
    ]
    accuracy = float(np.trace(counts) / max(1, counts.sum()))
    shown, matrix = tuple(names[index] for index in order), shares[np.ix_(order, order)]
    return Confusion(shown, matrix, int(counts.sum()), accuracy, tuple(pairs))


def _similar_together(shares: np.ndarray) -> np.ndarray:
    """Return an order in which classes taken for each other stand near each other (hierarchical clustering)."""
    if len(shares) < 4:
        return np.arange(len(shares))
    from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
    from scipy.spatial.distance import squareform

    mixed = (shares + shares.T) / 2
    distance = 1 - mixed / max(float(mixed[~np.eye(len(mixed), dtype=bool)].max()), 1e-9)
    np.fill_diagonal(distance, 0)
    condensed = squareform(np.clip(distance, 0, 1), checks=False)
    return np.asarray(leaves_list(optimal_leaf_ordering(linkage(condensed, "average"), condensed)))


def _class_names(results: Results) -> list[str]:
    """Return the names of the classes; empty when the record does not fit what was kept of the predictions."""
    names = results.study.data.get("class_names", []) if results.study else []
    found = results.predictions
    if found is None or not isinstance(names, list) or not len(found.labels):
        return []
    largest = max(int(found.labels.max()), int(found.classes.max()))
    return [str(name) for name in names] if largest < len(names) else []


def draw_confusion(data: Confusion) -> Figure:
    """Draw the matrix in shares of each true class, the rarest confusions still visible."""
    number = len(data.class_names)
    size = min(16.0, max(5.5, 2.6 + 0.135 * number))
    figure, (panel,) = style.build_figure(size + 1.2, size)
    colors = LinearSegmentedColormap.from_list("confusion", ["#FFFFFF", "#9CC9E6", style.BLUE, "#00263F"])
    # The root spreads small shares: one image in twenty is seen at a glance.
    shown = panel.imshow(np.sqrt(data.matrix), cmap=colors, vmin=0, vmax=1, aspect="equal", interpolation="nearest")
    panel.grid(visible=False)
    if number <= MOST_NAMES:
        font = 9 if number <= 30 else max(4.2, 9 - 0.05 * number)
        names = [shortened(name, 22) for name in data.class_names]
        panel.set_xticks(range(number), names, rotation=90, fontsize=font)
        panel.set_yticks(range(number), names, fontsize=font)
    else:
        panel.set_xticks([])
        panel.set_yticks([])
    panel.tick_params(length=0)
    if number <= MOST_IN_CELLS:
        for row, column in np.ndindex(data.matrix.shape):
            share = data.matrix[row, column]
            if share >= 0.005:
                ink = "white" if share > 0.35 else style.BLACK
                panel.text(column, row, f"{100 * share:.0f}", ha="center", va="center", color=ink, fontsize=8)
    panel.set_xlabel("predicted class")
    panel.set_ylabel("true class")
    bar = figure.colorbar(shown, ax=panel, shrink=0.6, pad=0.02)
    bar.set_ticks([math.sqrt(share) for share in (0, 0.05, 0.2, 0.5, 1)], labels=["0", "5", "20", "50", "100"])
    bar.set_label("% of the images of the true class")
    style.set_title(figure, f"What is taken for what: {data.images:,} test images, {data.accuracy:.2%} right")
    return figure


def describe_confusion(data: Confusion) -> str:
    """Say in words what was taken for what."""
    pairs = "; ".join(f"{pair.true} as {pair.predicted} {pair.images} of {pair.of_images}" for pair in data.pairs[:5])
    most = f" Most often confused: {pairs}." if pairs else ""
    return (
        f"Confusion matrix of {len(data.class_names)} classes on {data.images:,} test images, {data.accuracy:.2%} "
        f"right; classes that are taken for each other stand side by side.{most}"
    )


class ClassScore(NamedTuple):
    """The accuracy for one class."""

    name: str
    accuracy: float
    low: float
    """Lower end of the 95% interval (Wilson)."""
    high: float
    images: int


class ClassAccuracy(NamedTuple):
    """The accuracy for each class, the worst first."""

    classes: tuple[ClassScore, ...]
    mean: float
    """Over all images."""


def build_class_accuracy(results: Results) -> ClassAccuracy | None:
    """Return how well each class is told on the test images; None before they were read."""
    found, names = results.predictions, _class_names(results)
    if found is None or not names:
        return None
    is_right = found.classes[:, 0] == found.labels
    scores = []
    for index, name in enumerate(names):
        own = is_right[found.labels == index]
        if len(own):
            share = float(own.mean())
            scores.append(ClassScore(name, share, *wilson_interval(share, len(own)), len(own)))
    scores.sort(key=lambda score: (score.accuracy, score.name))
    return ClassAccuracy(tuple(scores), float(is_right.mean()))


def draw_class_accuracy(data: ClassAccuracy) -> Figure:
    """Draw a line for each class with its interval, the worst first."""
    number = len(data.classes)
    columns = 1 if number <= 40 else 2 if number <= 120 else 3
    per_column = math.ceil(number / columns)
    figure = Figure(figsize=(10.5, 1.2 + 0.17 * min(per_column, 120)), layout=ConstrainedLayoutEngine(w_pad=0.12))
    panels = figure.subplots(1, columns, squeeze=False, sharex=True)[0]
    for column, panel in enumerate(panels):
        shown = data.classes[column * per_column : (column + 1) * per_column]
        places = range(len(shown))
        panel.hlines(places, [one.low for one in shown], [one.high for one in shown], color="#9CC9E6", lw=3)
        panel.plot([one.accuracy for one in shown], places, "o", color=style.BLUE, ms=4, zorder=3)
        panel.axvline(data.mean, color=style.GREY, linewidth=1.2, linestyle=style.DASHED)
        names = [shortened(one.name, 24) for one in shown]
        panel.set_yticks(places, names, fontsize=8 if number <= 60 else 6.5)
        panel.set_ylim(per_column - 0.4, -0.6)
        panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _position: f"{100 * value:g}"))
        panel.set_xlabel("test accuracy (%)")
        panel.tick_params(axis="y", length=0)
    style.set_title(figure, "Test accuracy by class, with 95% intervals; dashed: all classes")
    return figure


def describe_class_accuracy(data: ClassAccuracy) -> str:
    """Say in words which classes are told worst and best."""
    worst = ", ".join(f"{one.name} {one.accuracy:.0%}" for one in data.classes[:3])
    best = ", ".join(f"{one.name} {one.accuracy:.0%}" for one in data.classes[:-4:-1])
    return f"Test accuracy of each of {len(data.classes)} classes with 95% intervals. Worst: {worst}. Best: {best}."


class Example(NamedTuple):
    """One test image with what the model says of it."""

    pixels: np.ndarray
    """`[H, W, C] uint8`."""
    true: str
    labels: tuple[tuple[str, float], ...]
    """The most probable classes with their probabilities."""

    @property
    def is_right(self) -> bool:
        """Say whether the most probable class is the true one."""
        return self.labels[0][0] == self.true


class Examples(NamedTuple):
    """Test images to look at."""

    title: str
    items: tuple[Example, ...]


def find_confident_mistakes(results: Results) -> Examples | None:
    """Return the wrong answers that the model was surest of; None before the test split was read, and without any."""
    items = [example for example in _examples(results) if not example.is_right]
    items.sort(key=lambda example: -example.labels[0][1])
    return Examples("The most confident mistakes", tuple(items[:MOST_EXAMPLES])) if items else None


def choose_predictions(results: Results) -> Examples | None:
    """Return test images drawn at random, right and wrong answers in their proportion."""
    everything = _examples(results)
    right = [example for example in everything if example.is_right]
    wrong = [example for example in everything if not example.is_right]
    found = results.predictions
    if found is None or not everything:
        return None
    share = float((found.classes[:, 0] == found.labels).mean())
    number_right = min(len(right), round(share * MOST_EXAMPLES))
    # Mistakes from the end: the most confident ones stand first, and are shown elsewhere.
    chosen = right[:number_right] + wrong[::-1][: MOST_EXAMPLES - number_right]
    return Examples("Predictions, right and wrong", tuple(chosen))


def _examples(results: Results) -> list[Example]:
    found, names = results.predictions, _class_names(results)
    if found is None or not names:
        return []
    examples = []
    for row, pixels in zip(found.rows, found.images, strict=True):
        said = zip(found.classes[row], found.probabilities[row], strict=True)
        labels = tuple((names[int(index)], float(share)) for index, share in said)
        examples.append(Example(pixels, names[int(found.labels[row])], labels))
    return examples


def draw_examples(data: Examples) -> Figure:
    """Draw images with their true class and what the model says of them."""
    rows = math.ceil(len(data.items) / COLUMNS)
    figure, panels = style.build_figure(10.5, 0.7 + 2.55 * rows, COLUMNS, rows, pad=0.08)
    for panel, item in zip(panels, data.items, strict=False):
        _draw_example(panel, item)
    for panel in panels[len(data.items) :]:
        panel.set_visible(False)
    style.set_title(figure, data.title)
    return figure


def _draw_example(panel: Any, item: Example) -> None:
    _draw_pixels(panel, item.pixels)
    panel.set_xticks([])
    panel.set_yticks([])
    color = style.GREEN if item.is_right else style.VERMILLION
    for spine in panel.spines.values():
        spine.set(visible=True, color=color, linewidth=2.5)
    name, share = item.labels[0]
    said = f"{shortened(name, 20)} {share:.0%}"
    true = "" if item.is_right else f"\nis {shortened(item.true, 22)}"
    panel.set_title(f"{'✓' if item.is_right else '✗'} {said}{true}", color=color, fontsize=9.5)


def _draw_pixels(panel: Any, pixels: np.ndarray) -> None:
    shown = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
    panel.imshow(shown, cmap="gray" if shown.ndim == 2 else None, vmin=0, vmax=255, interpolation="nearest")


def describe_examples(data: Examples) -> str:
    """Say in words what the model takes each image for."""
    told = "; ".join(
        f"{item.true} {'recognised' if item.is_right else f'taken for {item.labels[0][0]}'} ({item.labels[0][1]:.0%})"
        for item in data.items
    )
    return f"{data.title}: {told}."


class VariantPictures(NamedTuple):
    """The same images as each variant makes them, first as they are."""

    rows: tuple[Variant, ...]


def build_variant_pictures(results: Results) -> VariantPictures | None:
    """Return the variants of a search as pictures; None without any."""
    return VariantPictures(results.variants) if len(results.variants) > 1 else None


def draw_variants(data: VariantPictures) -> Figure:
    """Draw a row of pictures for each variant, its text above."""
    columns = max(len(row.images) for row in data.rows)
    figure = Figure(figsize=(10.5, 0.6 + 1.62 * len(data.rows)), layout=ConstrainedLayoutEngine(w_pad=0.03, h_pad=0.05))
    panels = figure.subplots(len(data.rows), columns, squeeze=False)
    for line, row in zip(panels, data.rows, strict=True):
        for panel, pixels in zip(line, row.images, strict=False):
            _draw_pixels(panel, pixels)
        for panel in line:
            panel.axis("off")
        line[0].set_title(row.text, loc="left", fontsize=10)
    style.set_title(figure, "What the networks saw: preprocessing and augmentation")
    return figure


def describe_variants(data: VariantPictures) -> str:
    """Say in words which variants are shown."""
    texts = "; ".join(row.text for row in data.rows)
    number = len(data.rows[0].images)
    return f"{number} validation images, a row for each variant of preprocessing and augmentation: {texts}."


CONFUSION = style.FigureKind(build_confusion, draw_confusion, describe_confusion, part="trust")
CLASS_ACCURACY = style.FigureKind(build_class_accuracy, draw_class_accuracy, describe_class_accuracy, part="trust")
CONFIDENT_MISTAKES = style.FigureKind(
    find_confident_mistakes, draw_examples, describe_examples, part="trust", has_photos=True
)
PREDICTIONS = style.FigureKind(choose_predictions, draw_examples, describe_examples, part="trust", has_photos=True)
VARIANTS = style.FigureKind(build_variant_pictures, draw_variants, describe_variants, part="mattered", has_photos=True)
