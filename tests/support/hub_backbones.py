"""Small random backbones of KerasHub, saved as presets: what the real ones are, without their weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

PX = 32

_TRANSFORMER = {"patch_size": 8, "num_layers": 3, "num_heads": 2, "hidden_dim": 16}
_STEM = {"input_conv_filters": [64], "input_conv_kernel_sizes": [7]}
_STAGES = {"stackwise_num_filters": [64, 64], "stackwise_num_blocks": [2, 2], "stackwise_num_strides": [1, 2]}
BACKBONES: dict[str, tuple[str, dict[str, Any]]] = {
    "vit": ("ViT", {**_TRANSFORMER, "mlp_dim": 32}),
    "dinov2": ("DINOV2", {**_TRANSFORMER, "intermediate_dim": 32, "position_embedding_shape": (PX, PX, 3)}),
    "dinov3": ("DINOV3", {**_TRANSFORMER, "intermediate_dim": 32}),
    "deit": ("DeiT", {**_TRANSFORMER, "intermediate_dim": 32}),
    "resnet": ("ResNet", {**_STEM, **_STAGES, "block_type": "basic_block"}),
    "vgg": ("VGG", {"stackwise_num_repeats": [1, 2], "stackwise_num_filters": [8, 16]}),
    "densenet": ("DenseNet", {"stackwise_num_repeats": [2, 2], "growth_rate": 8}),
}  # fmt: skip
"""Each family's class, and what makes it small. The last three give maps."""
BLOCKS = {"vit": 4, "dinov2": 4, "dinov3": 1, "deit": 4}
"""The embedding of patches, each block; all blocks of DINOv3 read its positions: it has no cut."""


def save_preset(family: str, folder: Path, **settings: Any) -> Path:
    """Write a backbone with the converter of its pixels as a preset into a folder."""
    import keras_hub

    kind, small = BACKBONES[family]
    made = getattr(keras_hub.models, f"{kind}Backbone")(**{"image_shape": (PX, PX, 3), **small, **settings})
    made.save_to_preset(str(folder))
    converter = getattr(keras_hub.layers, f"{kind}ImageConverter")
    converter(image_size=(PX, PX), scale=1 / 127.5, offset=-1.0).save_to_preset(str(folder))
    return folder
