"""`python -m benchmarks.shrinking`: both ways to shrink a batch, in turn, on one thread, beside steps of a network."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Any

import numpy as np

from tuner.models.backend import configure_backend

BATCH, ROUNDS = 32, 12
CASES = (
    (224, 96, {"architecture": "mobilenet_v2", "alpha": 0.35, "weights": "none"}),
    (96, 48, {"architecture": "cnn"}),
)


def processor_ms(ways: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Return the median processor time of each way, in ms, after one call of each that is not counted."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way()
    for _ in range(ROUNDS):
        for name, way in ways.items():
            started = time.process_time()
            way()
            taken[name].append(1000 * (time.process_time() - started))
    return {name: median(values) for name, values in taken.items()}


def main() -> None:
    """Print a line for each size."""
    configure_backend(1)
    import keras

    from tuner.models.network import build_model
    from tuner.models.preprocessing import shrink

    for side, px, configuration in CASES:
        images = np.random.default_rng(0).integers(0, 256, (BATCH, side, side, 3)).astype(np.float32)
        labels = np.eye(5, dtype=np.float32)[np.arange(BATCH) % 5]
        inputs = keras.Input(images.shape[1:])
        operation = keras.Model(inputs, keras.ops.image.resize(inputs, (px, px), antialias=True))
        products = keras.Model(inputs, shrink(inputs, (px, px), "bilinear"))
        network = build_model(
            {**configuration, "preprocess": f"resize({px})|scale(-1,1)"}, images.shape[1:], 5, 0
        ).model
        for each in (operation, products, network):
            each.compile(optimizer="sgd", loss="categorical_crossentropy", jit_compile=False)
        found = processor_ms(
            {
                "operation": lambda operation=operation, images=images: operation.predict_on_batch(images),
                "products": lambda products=products, images=images: products.predict_on_batch(images),
                "trained": lambda network=network, images=images, labels=labels: network.train_on_batch(images, labels),
            }
        )
        words = ", ".join(f"{name} {value:.1f}" for name, value in found.items())
        print(
            f"{side} to {px} px, {configuration['architecture']}, ms of processor for {BATCH} images: {words}",
            flush=True,
        )


if __name__ == "__main__":
    main()
