"""Networks of strangers: a plugin as other people may write it, with what our own architectures have not.

Two rates of dropout and stochastic depth with batch normalisation; a wrapped network of Keras Applications that nobody
registered, as a backbone and from scratch; a small vision transformer with a class token; shared layers.
"""

import keras
from keras import layers, ops

import tuner


class DropPath(layers.Layer):
    """Stochastic depth: whole branches are left out in training, with a stream of its own."""

    def __init__(self, rate: float, **settings):
        super().__init__(**settings)
        self.rate = rate
        self.seed_generator = keras.random.SeedGenerator()

    def call(self, x, training=False):
        if not training or not self.rate:
            return x
        shape = (ops.shape(x)[0],) + (1,) * (len(x.shape) - 1)
        kept = keras.random.uniform(shape, seed=self.seed_generator) >= self.rate
        return x * ops.cast(kept, x.dtype) / (1.0 - self.rate)


@tuner.architecture(
    parameters={
        "width": tuner.Int(4, 64, default=8),
        "stages": tuner.Int(1, 3, default=2),
        "spatial_rate": tuner.Float(0, 0.5, default=0.1),
        "last_rate": tuner.Float(0, 0.8, default=0.3),
        "drop_path": tuner.Float(0, 0.5, default=0.2),
        "unused": tuner.Bool(default=True, description="does nothing"),
    },
    minimum_px=8,
)
def stranger_residual(images, width, stages, spatial_rate, last_rate, drop_path, unused):
    """A residual network with two rates of dropout and stochastic depth."""
    x = layers.Conv2D(width, 3, padding="same")(images)
    for stage in range(stages):
        inner = layers.BatchNormalization()(x)
        inner = layers.SpatialDropout2D(spatial_rate)(layers.Activation("relu")(inner))
        inner = layers.Conv2D(width, 3, padding="same", use_bias=False)(inner)
        x = x + DropPath(drop_path * (stage + 1) / stages)(inner)
        x = layers.MaxPooling2D()(x)
    return layers.Dropout(last_rate)(layers.GlobalAveragePooling2D()(x))


class Patches(layers.Layer):
    """Patches, a class token before them, and places: without a name at Keras, and without `get_config`."""

    def __init__(self, px: int, width: int):
        super().__init__()
        self.px, self.width = px, width

    def build(self, shape):
        self.project = layers.Dense(self.width)
        self.project.build((None, None, self.px * self.px * shape[-1]))
        self.number = (shape[1] // self.px) * (shape[2] // self.px)
        self.token = self.add_weight(shape=(1, 1, self.width), initializer="random_normal", name="token")
        self.places = self.add_weight(
            shape=(1, self.number + 1, self.width), initializer="random_normal", name="places"
        )

    def call(self, images):
        n, c = ops.shape(images)[0], images.shape[-1]
        rows, columns = images.shape[1] // self.px, images.shape[2] // self.px
        x = images[:, : rows * self.px, : columns * self.px]
        x = ops.reshape(x, (n, rows, self.px, columns, self.px, c))
        x = ops.reshape(ops.transpose(x, (0, 1, 3, 2, 4, 5)), (n, self.number, self.px * self.px * c))
        tokens = ops.broadcast_to(self.token, (n, 1, self.width))
        return ops.concatenate([tokens, self.project(x)], axis=1) + self.places


def _encoder(x, heads, width, rate):
    y = layers.LayerNormalization()(x)
    x = x + layers.MultiHeadAttention(heads, width // heads, dropout=rate)(y, y)
    y = layers.Dense(width * 2, activation="gelu")(layers.LayerNormalization()(x))
    return x + layers.Dropout(rate)(layers.Dense(width)(y))


@tuner.architecture(
    parameters={
        "patch_px": tuner.Choice(2, 4, default=4),
        "depth": tuner.Int(1, 4, default=2),
        "heads": tuner.Choice([1, 2, 4]),
        "rate": tuner.Float(0, 0.5),
    },
    minimum_px=8,
)
def stranger_vit(images, patch_px, depth, heads, rate=0.1):
    """A small vision transformer with a class token."""
    x = Patches(patch_px, 16)(images)
    for _ in range(depth):
        x = _encoder(x, heads, 16, rate)
    return layers.LayerNormalization()(x)[:, 0]


@tuner.architecture(parameters={"alpha": tuner.Choice(0.35, 0.5)}, pixel_scaling="tf", minimum_px=32)
def stranger_wrapped(images, alpha):
    """A network of Keras Applications within another, with weights of its author's."""
    base = keras.applications.MobileNetV2(include_top=False, weights=None, alpha=alpha, input_shape=images.shape[1:])
    for number, weight in enumerate(base.weights):  # stands for a file of weights
        if "kernel" in weight.path:
            weight.assign(keras.random.normal(weight.shape, stddev=0.1, seed=number))
    return keras.Model(images, layers.Activation("relu", name="last")(base(images)))


@tuner.architecture(parameters={"alpha": tuner.Choice(0.35)}, minimum_px=32)
def stranger_inner(images, alpha):
    """The same network from scratch, all of it trained."""
    base = keras.applications.MobileNetV2(include_top=False, weights=None, alpha=alpha, input_shape=images.shape[1:])
    return layers.GlobalMaxPooling2D()(base(images * 2.0 - 1.0))


@tuner.architecture(parameters={"times": tuner.Int(1, 4, default=2)}, pixel_scaling="0 to 255", minimum_px=4)
def stranger_shared(images, times):
    """A backbone that calls one layer several times, between layers that it calls once."""
    x = layers.Conv2D(6, 3, padding="same", activation="relu", name="stem")(images / 255.0)
    x = layers.MaxPooling2D(2, name="half")(x)
    again = layers.Conv2D(6, 3, padding="same", activation="relu", name="again")
    for number in range(times):
        x = layers.Add(name=f"sum_{number}")([x, again(x)])
    x = layers.Conv2D(8, 3, name="top")(x)
    return keras.Model(images, x)
