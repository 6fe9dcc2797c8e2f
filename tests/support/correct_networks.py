"""Networks as other people may write them, without a mistake: nothing may be said of them."""

import keras
import numpy as np
from keras import layers, ops

import tuner


@tuner.architecture(
    parameters={
        "filters": tuner.Int(4, 64, default=8),
        "blocks": tuner.Int(1, 3, default=2),
        "rate": tuner.Float(0.0, 0.5, default=0.2),
    },
    minimum_px=8,
)
def plain_cnn(images, filters, blocks, rate):
    """Plain."""
    x = images
    for block in range(blocks):
        x = layers.Conv2D(filters * 2**block, 3, padding="same", activation="relu")(x)
        x = layers.MaxPooling2D()(x)
    x = layers.Flatten()(x)
    x = layers.Dropout(rate)(x)
    return layers.Dense(32, activation="relu")(x)


@keras.saving.register_keras_serializable()
class StochasticDepth(layers.Layer):
    def __init__(self, rate, **kwargs):
        super().__init__(**kwargs)
        self.rate = rate
        self.seed_generator = keras.random.SeedGenerator()

    def call(self, x, training=False):
        if not training or self.rate == 0:
            return x
        keep = 1 - self.rate
        shape = (ops.shape(x)[0],) + (1,) * (len(x.shape) - 1)
        return x * ops.floor(keep + keras.random.uniform(shape, seed=self.seed_generator)) / keep

    def get_config(self):
        return {**super().get_config(), "rate": self.rate}


@tuner.architecture(
    parameters={
        "width": tuner.Int(8, 64, default=8),
        "depth": tuner.Int(1, 4, default=2),
        "block_rate": tuner.Float(0, 0.5, default=0.1),
        "head_rate": tuner.Float(0, 0.5, default=0.2),
        "drop_path": tuner.Float(0, 0.5, default=0.1),
    }
)
def residual(images, width, depth, block_rate, head_rate, drop_path):
    x = layers.Conv2D(width, 3, padding="same", use_bias=False)(images)
    x = layers.BatchNormalization()(x)
    for i in range(depth):
        y = layers.ReLU()(x)
        y = layers.Conv2D(width, 3, padding="same", use_bias=False)(y)
        y = layers.BatchNormalization()(y)
        y = layers.ReLU()(y)
        y = layers.Dropout(block_rate)(y)
        y = layers.Conv2D(width, 3, padding="same", use_bias=False)(y)
        y = layers.BatchNormalization(gamma_initializer="zeros")(y)
        y = StochasticDepth(drop_path * (i + 1) / depth)(y)
        x = layers.Add()([x, y])
    x = layers.GlobalAveragePooling2D()(layers.ReLU()(x))
    return layers.Dropout(head_rate)(x)


class ClassToken(layers.Layer):
    def build(self, shape):
        self.token = self.add_weight(shape=(1, 1, shape[-1]), initializer="random_normal", name="token")
        self.position = self.add_weight(
            shape=(1, shape[1] + 1, shape[-1]), initializer="random_normal", name="position"
        )

    def call(self, x):
        token = ops.broadcast_to(self.token, (ops.shape(x)[0], 1, x.shape[-1]))
        return ops.concatenate([token, x], axis=1) + self.position


@tuner.architecture(
    parameters={
        "dim": tuner.Choice(16, 32),
        "layers_": tuner.Int(1, 3, default=1),
        "patch": tuner.Choice(4, 8),
        "dropout": tuner.Float(0, 0.5, default=0.1),
    },
    minimum_px=8,
)
def small_transformer(images, dim, layers_, patch, dropout):
    x = layers.Conv2D(dim, patch, strides=patch)(images)
    x = layers.Reshape((-1, dim))(x)
    x = ClassToken()(x)
    for _ in range(layers_):
        y = layers.LayerNormalization()(x)
        x = x + layers.MultiHeadAttention(2, dim // 2, dropout=dropout)(y, y)
        y = layers.LayerNormalization()(x)
        y = layers.Dense(2 * dim, activation="gelu")(y)
        x = x + layers.Dropout(dropout)(layers.Dense(dim)(y))
    return layers.LayerNormalization()(x)[:, 0]


@tuner.architecture(parameters={"units": tuner.Int(8, 64, default=16)}, minimum_px=8)
def wrapped(images, units):
    """A whole network within the network, with statistics of its own."""
    inner = keras.Sequential([layers.Conv2D(8, 3), layers.BatchNormalization(), layers.GlobalAveragePooling2D()])
    return layers.Dense(units, activation="relu")(inner(images))


@tuner.architecture(parameters={"alpha": tuner.Choice(0.35, 0.5)}, minimum_px=32, pixel_scaling="tf")
def wrapped_backbone(images, alpha):
    return keras.applications.MobileNetV2(include_top=False, weights=None, input_tensor=images, alpha=alpha)


@tuner.architecture(parameters={"scale": tuner.Float(0.0, 1.0, default=0.0)}, minimum_px=4)
def begins_with_nothing(images, scale):
    """The last layer begins with zeros, as that of a residual branch may."""
    x = layers.Conv2D(8, 3, activation="relu", padding="same")(images)
    x = layers.GlobalAveragePooling2D()(x)
    return layers.Dense(6, kernel_initializer="zeros")(x) + scale * x[:, :6]


@tuner.architecture(parameters={"width": tuner.Int(4, 16, default=8)}, pixel_scaling="0 to 255", minimum_px=8)
def scales_itself(images, width):
    """A backbone that takes pixels as they are, and calls one layer twice."""
    x = layers.Conv2D(width, 3, padding="same", activation="relu", name="stem")(images / 255.0)
    x = layers.MaxPooling2D(2)(x)
    again = layers.Conv2D(width, 3, padding="same", activation="relu")
    x = x + again(again(x))
    return keras.Model(images, layers.Conv2D(8, 3)(x))


@tuner.augmentation(parameters={"fraction": tuner.Float(0.0, 0.95, default=0.3)})
def darken(images, generator, fraction):
    factor = generator.uniform(1 - fraction, 1, (len(images), 1, 1, 1))
    return images * factor


@tuner.augmentation(parameters={"alpha": tuner.Float(0.1, 2.0)}, mixes_labels=True)
def cut_mix(images, labels, generator, alpha):
    height, width = images.shape[1:3]
    partners = generator.permutation(len(images))
    mixed, shares = images.copy(), np.empty(len(images), "float32")
    for place, partner in enumerate(partners):
        side = np.sqrt(1 - generator.beta(alpha, alpha))
        rows, columns = int(side * height), int(side * width)
        top, left = generator.integers(0, height - rows + 1), generator.integers(0, width - columns + 1)
        mixed[place, top : top + rows, left : left + columns] = images[partner, top : top + rows, left : left + columns]
        shares[place] = 1 - rows * columns / (height * width)
    return mixed, labels * shares[:, None] + labels[partners] * (1 - shares[:, None])


@tuner.preprocessing(
    parameters={"px": tuner.Int(1, 4, default=2)},
    output_shape=lambda shape, px: (shape[0] // px, shape[1] // px, shape[2]),
)
def thin_out(images, px):
    return images[:, : images.shape[1] // px * px : px, : images.shape[2] // px * px : px]


@tuner.preprocessing(value_range=(-1, 1))
def centred(images, value_range):
    low, high = value_range
    return (images - low) / (high - low) * 2.0 - 1.0
