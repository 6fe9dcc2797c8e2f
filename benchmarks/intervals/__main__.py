"""Print how often 95% intervals hold the truth: `python -m benchmarks.intervals [REPETITIONS]`."""

from __future__ import annotations

import itertools
import sys

from benchmarks.intervals import Case, simulate, simulate_folds, simulate_selection

REPETITIONS = int(sys.argv[1]) if len(sys.argv) > 1 else 1000

print(
    "| images | seeds | hard images | accuracy | " + " | ".join(f"sd {sd:.1%}" for sd in (0, 0.003, 0.01, 0.03)) + " |"
)
print("|---:|---:|---|---:|" + "---|" * 4)
for images, seeds, kind, accuracy in itertools.product(
    (360, 10_000), (2, 3, 5), ("same", "mixed", "own"), (0.75, 0.95)
):
    cells = []
    for deviation in (0.0, 0.003, 0.01, 0.03):
        case = Case(images, seeds, min(deviation, 0.4 * (1 - accuracy)), accuracy, kind)
        held = simulate(case, REPETITIONS if images < 1000 else REPETITIONS // 3)
        cells.append(f"{held.mean:.1%}, {held.difference:.1%}")
    print(f"| {images:,} | {seeds} | {kind} | {accuracy:.0%} | " + " | ".join(cells) + " |", flush=True)
for trials, spread in itertools.product((1, 24, 200), (0.0, 0.03)):
    held = simulate_selection(trials, 300, spread, REPETITIONS)
    print(f"best of {trials} trials, true accuracies spread by {spread:.0%}: {held:.1%}")
for images, features, folds in itertools.product((200, 1000), (10, 60), (2, 3, 5, 10)):
    of_folds = simulate_folds(images, features, folds, REPETITIONS)
    words = f"{of_folds.with_addition:.1%} held, {of_folds.without:.1%} without what is added for folds"
    print(f"{folds} folds of {images:,} images with {features} features: {words}")
