"""What the peers train: one network for all, as a careful user of Keras writes it, and the log of its epochs."""

from __future__ import annotations

import json
import time
from typing import Any

import keras

from benchmarks.race.peer import Search
from benchmarks.race.workload import ALPHA, NUM_CLASSES, TOP_BLOCKS, Configuration


class EpochLog(keras.callbacks.Callback):
    """Appends one JSON line per finished epoch; several processes may write to one file."""

    def __init__(self, search: Search, trial: str, configuration: Configuration) -> None:
        super().__init__()
        self._search, self._trial, self._configuration = search, trial, dict(configuration)
        self._began = 0.0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self._began = time.time()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        now = time.time()
        line = {
            "elapsed_s": now - self._search.launched,
            "trial": self._trial,
            "epoch": epoch + 1,
            "val_accuracy": float((logs or {})["val_accuracy"]),
            "seconds": now - self._began,
            "configuration": self._configuration,
        }
        with self._search.epochs_file.open("ab", buffering=0) as file:  # one write per line: lines never mix
            file.write(json.dumps(line).encode() + b"\n")


def build_model(configuration: Configuration, image_px: int) -> keras.Model:
    """MobileNetV2 with ImageNet weights under a new head, compiled: raw images `[N, 32, 32, 3]` to `[N, 100]`."""
    backbone = keras.applications.MobileNetV2(
        input_shape=(image_px, image_px, 3), alpha=ALPHA, include_top=False, weights="imagenet", pooling="avg"
    )
    trained = TOP_BLOCKS[: configuration["unfreeze_depth"]]
    for layer in backbone.layers:
        layer.trainable = layer.name.startswith(trained)
    images = keras.Input((32, 32, 3))
    x = keras.layers.Resizing(image_px, image_px)(images)
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(x)
    x = backbone(x, training=False)  # batch normalisation keeps ImageNet's statistics
    if configuration["head_units"]:
        x = keras.layers.Dense(configuration["head_units"], activation="relu")(x)
    x = keras.layers.Dropout(configuration["dropout"])(x)
    model = keras.Model(images, keras.layers.Dense(NUM_CLASSES, activation="softmax")(x))
    model.compile(
        optimizer=keras.optimizers.Adam(configuration["learning_rate"]),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model
