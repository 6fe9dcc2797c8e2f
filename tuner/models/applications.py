"""The backbones of Keras Applications, one line each. Light."""

from __future__ import annotations

from typing import Literal, NamedTuple

PixelScaling = Literal["tf", "caffe", "torch", "by 128", "0 to 255"]
"""Pixel values of ImageNet weights, in Keras's words: -1..1; BGR minus the mean; mean and deviation by channel.

Beside these, of networks that can scale by themselves: divided by 128, less 1; and as they are."""


class Backbone(NamedTuple):
    """A network of Keras Applications."""

    application: str
    """Its name there."""
    pixel_scaling: PixelScaling
    blocks: int
    """Its blocks as `models.blocks` finds them, the most that can be unfrozen; with these, nothing need be built."""
    minimum_px: int = 32
    """The smallest height and width that it takes."""
    alphas: tuple[float, ...] = ()
    """The widths for which there are ImageNet weights."""


BACKBONES = {
    "mobilenet_v2": Backbone("MobileNetV2", "tf", 18, alphas=(0.35, 0.5, 0.75, 1.0, 1.3, 1.4)),
    "mobilenet_v3_small": Backbone("MobileNetV3Small", "tf", 12, alphas=(0.75, 1.0)),
    "mobilenet_v3_large": Backbone("MobileNetV3Large", "tf", 16, alphas=(0.75, 1.0)),
    "mobilenet": Backbone("MobileNet", "tf", 13, alphas=(0.25, 0.5, 0.75, 1.0)),
    "vgg16": Backbone("VGG16", "caffe", 5),
    "vgg19": Backbone("VGG19", "caffe", 5),
    "resnet50": Backbone("ResNet50", "caffe", 17),
    "resnet101": Backbone("ResNet101", "caffe", 34),
    "resnet152": Backbone("ResNet152", "caffe", 51),
    "resnet50_v2": Backbone("ResNet50V2", "tf", 17),
    "resnet101_v2": Backbone("ResNet101V2", "tf", 34),
    "resnet152_v2": Backbone("ResNet152V2", "tf", 51),
    "inception_v3": Backbone("InceptionV3", "tf", 13, minimum_px=75),
    "inception_resnet_v2": Backbone("InceptionResNetV2", "tf", 46, minimum_px=75),
    "xception": Backbone("Xception", "tf", 13, minimum_px=71),
    "densenet121": Backbone("DenseNet121", "torch", 62),
    "densenet169": Backbone("DenseNet169", "torch", 86),
    "densenet201": Backbone("DenseNet201", "torch", 102),
    "efficientnet_b0": Backbone("EfficientNetB0", "0 to 255", 17),
    "efficientnet_b1": Backbone("EfficientNetB1", "0 to 255", 24),
    "efficientnet_b2": Backbone("EfficientNetB2", "0 to 255", 24),
    "efficientnet_b3": Backbone("EfficientNetB3", "0 to 255", 27),
    "efficientnet_b4": Backbone("EfficientNetB4", "0 to 255", 33),
    "efficientnet_b5": Backbone("EfficientNetB5", "0 to 255", 40),
    "efficientnet_b6": Backbone("EfficientNetB6", "0 to 255", 46),
    "efficientnet_b7": Backbone("EfficientNetB7", "0 to 255", 56),
    "efficientnet_v2_b0": Backbone("EfficientNetV2B0", "torch", 21),
    "efficientnet_v2_b1": Backbone("EfficientNetV2B1", "torch", 27),
    "efficientnet_v2_b2": Backbone("EfficientNetV2B2", "torch", 28),
    "efficientnet_v2_b3": Backbone("EfficientNetV2B3", "torch", 32),
    "efficientnet_v2_s": Backbone("EfficientNetV2S", "by 128", 41),
    "efficientnet_v2_m": Backbone("EfficientNetV2M", "by 128", 58),
    "efficientnet_v2_l": Backbone("EfficientNetV2L", "by 128", 80),
    "convnext_tiny": Backbone("ConvNeXtTiny", "torch", 22),
    "convnext_small": Backbone("ConvNeXtSmall", "torch", 40),
    "convnext_base": Backbone("ConvNeXtBase", "torch", 40),
    "convnext_large": Backbone("ConvNeXtLarge", "torch", 40),
    "convnext_xlarge": Backbone("ConvNeXtXLarge", "torch", 40),
    "nasnet_mobile": Backbone("NASNetMobile", "tf", 1),
    "nasnet_large": Backbone("NASNetLarge", "tf", 1),
}
"""All of the installed Keras. Blocks were looked at one by one: inverted residuals, pairs of convolutions, VGG blocks,
residual blocks, inception modules, dense layers and transitions, each with the stem and a last convolution where there
is one. The cells of NASNet skip over one another: the whole network is one block."""
