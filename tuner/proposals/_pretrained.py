"""The ImageNet weights that proposals choose from: cost, accuracy, and the names of their files. Light.

Multiplications were counted in the graphs of the installed Keras; accuracies are those that Keras publishes.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import NamedTuple

from tuner.models.applications import BACKBONES

HOST = "storage.googleapis.com"
"""The host from which Keras fetches its weights."""
_OWN_FILES_PX = {
    "mobilenet": (128, 160, 192, 224),
    "mobilenet_v2": (96, 128, 160, 192, 224),
}
"""The sizes for which a backbone has weights of their own; all others take those of 224 px."""


class Pretrained(NamedTuple):
    """A backbone of a width, with weights."""

    architecture: str
    alpha: float | None
    multiplications: int
    """For one image of 224 px, in millions."""
    accuracy: float
    """On ImageNet, top 1, in percent."""
    megabytes: int
    """Of its file of weights without the top."""
    file: str
    """The name of that file, with `{px}` where there is one for each of some sizes."""

    @property
    def family(self) -> str:
        """The name of networks that are alike: `resnet`, `efficientnet`."""
        return re.split("[^a-z]", self.architecture)[0]

    @property
    def minimum_px(self) -> int:
        """The smallest height and width that it takes."""
        return BACKBONES[self.architecture].minimum_px

    def file_for(self, px: int) -> str:
        """Return the name of the file that Keras reads for images of `px` x `px`.

        >>> PRETRAINED[0].file_for(100), PRETRAINED[0].file_for(96)[-17:]
        ('mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_224_no_top.h5', '0.35_96_no_top.h5')
        """
        own = _OWN_FILES_PX.get(self.architecture, ())
        return self.file.format(px=px if px in own else 224)

    def is_here(self, px: int, files: Collection[str]) -> bool:
        """Return whether the weights for images of `px` x `px` are among `files`."""
        return self.file_for(px) in files


def _widths(name: str, file: str, *widths: tuple[float, int, float, int], points: str = ".") -> tuple[Pretrained, ...]:
    """Return the widths of a backbone; `points` stands in its files for the point of a number."""
    return tuple(
        Pretrained(name, alpha, cost, accuracy, size, file.replace("{alpha}", _alpha_text(alpha, points)))
        for alpha, cost, accuracy, size in widths
    )


def _alpha_text(alpha: float, points: str) -> str:
    """Return a width as it stands in the name of a file.

    >>> _alpha_text(0.35, "."), _alpha_text(1.0, "_"), _alpha_text(0.25, "_")
    ('0.35', '1_0', '2_5')
    """
    return str(alpha) if points == "." else "1_0" if alpha == 1.0 else f"{10 * alpha:.1f}".replace(".", points)


PRETRAINED: tuple[Pretrained, ...] = (
    *_widths(
        "mobilenet_v2",
        "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{alpha}_{px}_no_top.h5",
        (0.35, 58, 60.3, 2),
        (0.5, 96, 65.4, 3),
        (0.75, 208, 69.8, 6),
        (1.0, 299, 71.3, 9),
        (1.3, 508, 74.4, 15),
        (1.4, 580, 75.0, 18),
    ),
    *_widths(
        "mobilenet_v3_small",
        "weights_mobilenet_v3_small_224_{alpha}_float_no_top_v2.h5",
        (0.75, 42, 65.4, 3),
        (1.0, 55, 68.1, 4),
    ),
    *_widths(
        "mobilenet_v3_large",
        "weights_mobilenet_v3_large_224_{alpha}_float_no_top_v2.h5",
        (0.75, 152, 73.3, 8),
        (1.0, 214, 75.6, 12),
    ),
    *_widths(
        "mobilenet",
        "mobilenet_{alpha}_{px}_tf_no_top.h5",
        (0.25, 41, 51.8, 1),
        (0.5, 149, 64.4, 3),
        (0.75, 325, 68.4, 7),
        (1.0, 568, 70.4, 13),
        points="_",
    ),
    Pretrained("vgg16", None, 15347, 71.3, 59, "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5"),
    Pretrained("vgg19", None, 19508, 71.3, 80, "vgg19_weights_tf_dim_ordering_tf_kernels_notop.h5"),
    Pretrained("resnet50", None, 3856, 74.9, 95, "resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5"),
    Pretrained("resnet101", None, 7568, 76.4, 171, "resnet101_weights_tf_dim_ordering_tf_kernels_notop.h5"),
    Pretrained("resnet152", None, 11280, 76.6, 234, "resnet152_weights_tf_dim_ordering_tf_kernels_notop.h5"),
    Pretrained("resnet50_v2", None, 3480, 76.0, 95, "resnet50v2_weights_tf_dim_ordering_tf_kernels_notop.h5"),
    Pretrained("resnet101_v2", None, 7192, 77.2, 171, "resnet101v2_weights_tf_dim_ordering_tf_kernels_notop.h5"),
    Pretrained("resnet152_v2", None, 10905, 78.0, 234, "resnet152v2_weights_tf_dim_ordering_tf_kernels_notop.h5"),
    Pretrained("inception_v3", None, 2836, 77.9, 88, "inception_v3_weights_tf_dim_ordering_tf_kernels_notop.h5"),
    Pretrained(
        "inception_resnet_v2", None, 6467, 80.3, 219, "inception_resnet_v2_weights_tf_dim_ordering_tf_kernels_notop.h5"
    ),
    Pretrained("xception", None, 4551, 79.0, 84, "xception_weights_tf_dim_ordering_tf_kernels_notop.h5"),
    Pretrained("densenet121", None, 2833, 75.0, 29, "densenet121_weights_tf_dim_ordering_tf_kernels_notop.h5"),
    Pretrained("densenet169", None, 3358, 76.2, 52, "densenet169_weights_tf_dim_ordering_tf_kernels_notop.h5"),
    Pretrained("densenet201", None, 4289, 77.3, 75, "densenet201_weights_tf_dim_ordering_tf_kernels_notop.h5"),
    Pretrained("efficientnet_b0", None, 385, 77.1, 17, "efficientnetb0_notop.h5"),
    Pretrained("efficientnet_b1", None, 568, 79.1, 27, "efficientnetb1_notop.h5"),
    Pretrained("efficientnet_b2", None, 658, 80.1, 32, "efficientnetb2_notop.h5"),
    Pretrained("efficientnet_b3", None, 961, 81.6, 44, "efficientnetb3_notop.h5"),
    Pretrained("efficientnet_b4", None, 1502, 82.9, 72, "efficientnetb4_notop.h5"),
    Pretrained("efficientnet_b5", None, 2354, 83.6, 115, "efficientnetb5_notop.h5"),
    Pretrained("efficientnet_b6", None, 3358, 84.0, 165, "efficientnetb6_notop.h5"),
    Pretrained("efficientnet_b7", None, 5167, 84.3, 258, "efficientnetb7_notop.h5"),
    Pretrained("efficientnet_v2_b0", None, 717, 78.7, 24, "efficientnetv2-b0_notop.h5"),
    Pretrained("efficientnet_v2_b1", None, 1015, 79.8, 28, "efficientnetv2-b1_notop.h5"),
    Pretrained("efficientnet_v2_b2", None, 1167, 80.5, 36, "efficientnetv2-b2_notop.h5"),
    Pretrained("efficientnet_v2_b3", None, 1608, 82.0, 53, "efficientnetv2-b3_notop.h5"),
    Pretrained("efficientnet_v2_s", None, 2849, 83.9, 82, "efficientnetv2-s_notop.h5"),
    Pretrained("efficientnet_v2_m", None, 5361, 85.3, 214, "efficientnetv2-m_notop.h5"),
    Pretrained("efficientnet_v2_l", None, 12230, 85.7, 474, "efficientnetv2-l_notop.h5"),
    Pretrained("convnext_tiny", None, 4455, 81.3, 112, "convnext_tiny_notop.h5"),
    Pretrained("convnext_small", None, 8683, 82.3, 198, "convnext_small_notop.h5"),
    Pretrained("convnext_base", None, 15354, 85.3, 351, "convnext_base_notop.h5"),
    Pretrained("convnext_large", None, 34360, 86.3, 785, "convnext_large_notop.h5"),
    Pretrained("convnext_xlarge", None, 60919, 86.7, 1393, "convnext_xlarge_notop.h5"),
    Pretrained("nasnet_mobile", None, 563, 74.4, 20, "nasnet_mobile_no_top.h5"),
    Pretrained("nasnet_large", None, 10280, 82.5, 340, "nasnet_large_no_top.h5"),
)
