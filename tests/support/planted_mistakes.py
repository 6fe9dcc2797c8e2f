"""Own code with one mistake each, and what its author must be told of it."""

from __future__ import annotations

import textwrap
from typing import NamedTuple


class Mistake(NamedTuple):
    """A plugin with one mistake in it."""

    check: str
    """The name of the check that finds it."""
    told: str
    """A part of what is told, as a regular expression."""
    code: str
    """Below the imports, from line 7 of the file on; the last function is what is tested."""


_IMPORTS = """\
import random
import keras
import numpy as np
import tuner
from keras import layers, ops
# ---
"""


def plugin_text(code: str) -> str:
    """Return the whole text of a plugin."""
    return _IMPORTS + textwrap.dedent(code).lstrip("\n")


def _net(body: str, parameters: str = "", before: str = "", taken: str = "") -> str:
    """Return an architecture `net` with this body; `x` and `images` are the images."""
    lines = textwrap.indent(textwrap.dedent(body).strip("\n"), "    ")
    options = f"parameters={{{parameters}}}, minimum_px=8"
    return f"{textwrap.dedent(before).strip()}\n\n@tuner.architecture({options})\ndef net(images{taken}):\n    x = images\n{lines}\n"


_POOLED = "    return layers.GlobalAveragePooling2D()(x)"
_CONV = "x = layers.Conv2D(8, 3, padding='same', activation='relu')(x)\n"
_WIDTH = '"width": tuner.Int(4, 32, default=8)'
_DEPTH_LAYER = """
class DropPath(layers.Layer):
    def __init__(self, rate, **options):
        super().__init__(**options)
        self.rate = rate
        {stream}
    def call(self, x, training=False):
        if not training:
            return x
        keep = 1.0 - self.rate
        mask = ops.floor(keep + keras.random.uniform((ops.shape(x)[0], 1, 1, 1){seed}))
        return x * mask / keep
    def get_config(self):
        return {{**super().get_config(), {config}}}
"""
_UNSEEDED = _DEPTH_LAYER.format(stream="", seed="", config='"rate": self.rate')
_SEEDED = {"stream": "self.seed_generator = keras.random.SeedGenerator()", "seed": ", seed=self.seed_generator"}
_PATH = _CONV + "x = DropPath(0.5)(x)\nreturn layers.GlobalAveragePooling2D()(x)"
_POOL = "return layers.GlobalAveragePooling2D()(x)"

OF_FEATURES = {
    "maps instead of a vector": Mistake(
        "features", r"must return the features \[N, F\]; it returns \[N, 32, 32, 8\].*Flatten", _net(_CONV + "return x")
    ),
    "tokens instead of a vector": Mistake(
        "features", r"it returns \[N, 1024, 8\]", _net(_CONV + "return layers.Reshape((-1, 8))(x)")
    ),
    "nothing is returned": Mistake("features", r"it returns nothing", _net(_CONV + "layers.Flatten()(x)")),
    "a list of features": Mistake("features", r"it returns a list", _net(_CONV + "return [layers.Flatten()(x)]")),
    "the images of the batch are averaged": Mistake(
        "features",
        r"\[1, 8\], whatever the number",
        _net(_CONV + "return ops.mean(layers.GlobalAveragePooling2D()(x), axis=0, keepdims=True)"),
    ),
    "whole numbers as features": Mistake(
        "features",
        r"floating point; it returns int",
        _net(_CONV + "return ops.cast(layers.GlobalAveragePooling2D()(x), 'int32')"),
    ),
    "one feature": Mistake(
        "features", r"returns 1 feature", _net(_CONV + "return layers.Dense(1)(layers.Flatten()(x))")
    ),
    "constants in place of the images": Mistake(
        "features",
        r"it returns a EagerTensor|computed from the images|ignores its input",
        _net("return layers.Dense(8)(ops.ones((1, 4)))"),
    ),
    "an error": Mistake(
        "features",
        r"NameError at own_code.py:10 \(in net\): name 'widht' is not defined",
        _net("\nreturn layers.Dense(widht)(layers.Flatten()(x))"),
    ),
    "an error of Keras": Mistake(
        "features",
        r"ValueError at own_code.py:10 \(in net\): Input 0",
        _net("return layers.Conv2D(8, 3)(layers.Flatten()(x))"),
    ),
    "two layers of one name": Mistake(
        "network",
        r"two layers of net are called 'conv' \(own_code.py:\d+\)",
        _net("x = layers.Conv2D(8, 3, name='conv')(x)\nx = layers.Conv2D(8, 3, name='conv')(x)\n" + _POOL),
    ),
}
"""Found before anything else can be."""

OF_SIZES = {
    "one image size": Mistake(
        "image sizes",
        r"net takes images of 32x32 px only",
        _net("x = layers.Reshape((64, 48))(x)\nreturn layers.Flatten()(layers.Dense(4)(x))"),
    ),
    "one image size, on purpose": Mistake(
        "image sizes",
        r"32x32 px only; .*must be 32 px",
        _net("if images.shape[1] != 32:\n    raise ValueError('must be 32 px')\n" + _CONV + _POOL),
    ),
    "colour images only": Mistake(
        "channels",
        r"fails for grey images \(1 channel\)",
        _net(
            "x = layers.Reshape((-1, 3))(x)\nx = x * np.array([1.0, 2.0, 3.0], 'float32')\nx = layers.Reshape((images.shape[1] * images.shape[2] * 3,))(x)\nreturn layers.Dense(8)(x)"
        ),
    ),
    "channels taken apart": Mistake(
        "channels",
        r"fails for grey images",
        _net("red, green, blue = ops.split(x, 3, axis=-1)\nx = layers.Conv2D(8, 3)(red + green - blue)\n" + _POOL),
    ),
    "too small for its own pooling": Mistake(
        "smallest images",
        r"minimum_px=8: .*the smallest that works is \d+: say minimum_px=",
        _net(
            "for _ in range(4):\n    x = layers.Conv2D(8, 3, activation='relu', padding='same')(x)\n    x = layers.MaxPooling2D()(x)\n"
            + _POOL
        ),
    ),
}

OF_SIZES["minimum_px is not said"] = Mistake(
    "features",
    r"fails for images of 32 px: .*those of 96 px work: say minimum_px=96",
    "@tuner.architecture()\ndef net(images):\n    x = layers.Conv2D(8, 3)(images)\n    x = layers.MaxPooling2D(70)(x)\n    return layers.GlobalAveragePooling2D()(x)\n",
)
OF_IMAGES = {
    "the images are not used": Mistake(
        "images",
        r"ignores the images",
        _net("x = layers.Flatten()(x * 0.0)\nreturn layers.Dense(8, bias_initializer='ones')(x)"),
    ),
    "one channel is used": Mistake(
        "images", r"does not see channel 2 \(green\)", _net("x = layers.Conv2D(8, 3)(x[..., :1])\n" + _POOL)
    ),
    "a corner is used": Mistake(
        "images", r"does not see the lower half", _net("x = layers.Conv2D(8, 3)(x[:, :8])\n" + _POOL)
    ),
    "statistics of the batch": Mistake(
        "batches",
        r"layer 'norm' \(BatchNormalization, own_code.py:\d+\) mixes them .*leave out training=True",
        _net("x = layers.Conv2D(8, 3)(x)\nx = layers.BatchNormalization(name='norm')(x, training=True)\n" + _POOL),
    ),
    "images are mixed across the batch": Mistake(
        "batches",
        r"depend on the other images of its batch: operation 'mean\w*' \(Mean, own_code.py:\d+\)",
        _net(_CONV + "x = x - ops.mean(x, axis=0, keepdims=True)\n" + _POOL),
    ),
    "the batch is an axis of attention": Mistake(
        "batches",
        r"depend on the other images",
        _net(
            "x = layers.Conv2D(8, 8, strides=8)(x)\nx = layers.GlobalAveragePooling2D()(x)\nx = ops.expand_dims(x, 0)\nx = layers.MultiHeadAttention(1, 8)(x, x)\nreturn ops.squeeze(x, 0)"
        ),
    ),
    "a fixed number of images": Mistake(
        "batches|features",
        r"cannot be applied to 1 of 4|whatever the number|fails|Error",
        _net(_CONV + "x = ops.reshape(x, (4, -1))\nreturn layers.Dense(8)(x)"),
    ),
    "dropout in inference": Mistake(
        "inference",
        r"other features each time.*layer 'drop' \(Dropout, own_code.py:\d+\).*leave out training=True",
        _net(_CONV + "x = layers.Dropout(0.5, name='drop')(x, training=True)\n" + _POOL),
    ),
    "noise in inference": Mistake(
        "inference",
        r"other features each time",
        _net(
            _CONV + "x = Noise()(x)\n" + _POOL,
            before="class Noise(layers.Layer):\n    def call(self, x):\n        return x + keras.random.normal(ops.shape(x))",
        ),
    ),
    "a count in inference": Mistake(
        "inference",
        r"inference changes seen",
        _net(
            _CONV + "x = Counting()(x)\n" + _POOL,
            before="class Counting(layers.Layer):\n    def build(self, shape):\n        self.seen = self.add_weight(shape=(), initializer='zeros', trainable=False, name='seen')\n    def call(self, x):\n        self.seen.assign(self.seen + 1.0)\n        return x",
        ),
    ),
    "an attribute that counts": Mistake(
        "inference",
        r"the attribute calls of layer .*Counting.* changes when the network is called",
        _net(
            _CONV + "x = Counting()(x)\n" + _POOL,
            before="class Counting(layers.Layer):\n    def build(self, shape):\n        self.calls = 0\n    def call(self, x, training=False):\n        if training:\n            self.calls += 1\n        return x",
        ),
    ),
    "pixels are divided by 255 again": Mistake(
        "pixel values",
        r"scaled twice.*layer 'first' .*by layer 'rescaling_0' \(Rescaling, own_code.py:\d+\)",
        _net("x = layers.Rescaling(1 / 255, )(x)\nx = layers.Conv2D(8, 3, name='first')(x)\n" + _POOL),
    ),
    "pixels are divided by an operation": Mistake(
        "pixel values",
        r"scaled twice.*by operation .*own_code.py:\d+",
        _net("x = x / 255.0\nx = layers.Conv2D(8, 3)(x)\n" + _POOL),
    ),
    "pixels are preprocessed for ImageNet again": Mistake(
        "pixel values",
        r"scaled twice",
        _net("x = keras.applications.mobilenet_v2.preprocess_input(x)\nx = layers.Conv2D(8, 3)(x)\n" + _POOL),
    ),
    "pixels are scaled within a layer": Mistake(
        "pixel values",
        r"scaled twice",
        _net(
            "x = Stem()(x)\n" + _POOL,
            before="class Stem(layers.Layer):\n    def build(self, shape):\n        self.conv = layers.Conv2D(8, 3)\n        self.conv.build(shape)\n    def call(self, x):\n        return self.conv(x / 127.5 - 1.0)",
        ),
    ),
    "pixels are scaled in a backbone that says how it is": Mistake(
        "pixel values",
        r"scaled twice.*Rescaling",
        "@tuner.architecture(pixel_scaling='tf', minimum_px=8)\ndef net(images):\n    x = layers.Rescaling(1 / 127.5, offset=-1)(images)\n    x = layers.Conv2D(8, 3, activation='relu')(x)\n    return keras.Model(images, layers.Conv2D(8, 3, activation='relu')(x))\n",
    ),
    "a softmax at the end": Mistake(
        "class layer",
        r"ends in softmax, in layer .*return the features before it",
        _net(_CONV + "return layers.Dense(10, activation='softmax')(layers.Flatten()(x))"),
    ),
    "a softmax layer at the end": Mistake(
        "class layer",
        r"ends in .*softmax",
        _net(_CONV + "return layers.Softmax()(layers.Dense(10)(layers.Flatten()(x)))"),
    ),
    "a sigmoid at the end": Mistake(
        "class layer",
        r"ends in sigmoid",
        _net(_CONV + "return layers.Dense(4, activation='sigmoid')(layers.Flatten()(x))"),
    ),
    "a whole classifier inside": Mistake(
        "class layer",
        r"ends in",
        "@tuner.architecture(minimum_px=32)\ndef net(images):\n    return keras.applications.MobileNetV2(weights=None, classes=7, alpha=0.35, input_shape=tuple(images.shape[1:]))(images)\n",
    ),
    "a logarithm of black": Mistake(
        "finite",
        r"not finite for black images.*operation 'log\w*' \(Log, own_code.py:\d+\)",
        _net("x = layers.Conv2D(8, 3)(ops.log(x))\n" + _POOL),
    ),
    "a division by the spread": Mistake(
        "finite",
        r"not finite for black images",
        _net(
            "x = (x - ops.mean(x, axis=(1, 2, 3), keepdims=True)) / ops.std(x, axis=(1, 2, 3), keepdims=True)\nx = layers.Conv2D(8, 3)(x)\n"
            + _POOL
        ),
    ),
    "a root of what may be negative": Mistake(
        "finite", r"not finite.*preprocess scale\(-1,1\)", _net("x = layers.Conv2D(8, 3)(ops.sqrt(x))\n" + _POOL)
    ),
}

OF_PARAMETERS = {
    "a parameter is never used": Mistake(
        "used parameters",
        r"width has no effect: its function never reads it",
        _net(_CONV + _POOL, _WIDTH, taken=", width"),
    ),
    "a parameter is overwritten": Mistake(
        "used parameters",
        r"width has no effect: 4 and \d+ give one network",
        _net("width = max(64, width)\nx = layers.Conv2D(width, 3)(x)\n" + _POOL, _WIDTH, taken=", width"),
    ),
    "a rate is rounded away": Mistake(
        "used parameters",
        r"rate has no effect",
        _net(
            _CONV + "x = layers.Dropout(int(rate))(x)\n" + _POOL,
            '"rate": tuner.Float(0.0, 0.5, default=0.2)',
            taken=", rate",
        ),
    ),
    "a truth value is ignored": Mistake(
        "used parameters",
        r"deep has no effect",
        _net("x = layers.Conv2D(8, 3)(x) if deep or True else x\n" + _POOL, '"deep": tuner.Bool()', taken=", deep"),
    ),
    "a range whose upper end fails": Mistake(
        "ranges",
        r"width=32 fails: ValueError at own_code.py:\d+ \(in net\)",
        _net(
            "if width > 20:\n    raise ValueError('too wide')\nx = layers.Conv2D(width, 3)(x)\n" + _POOL,
            _WIDTH,
            taken=", width",
        ),
    ),
    "a range whose lower end fails": Mistake(
        "ranges",
        r"width=0 fails",
        _net("x = layers.Conv2D(width, 3)(x)\n" + _POOL, '"width": tuner.Int(0, 8, default=4)', taken=", width"),
    ),
    "a choice that fails": Mistake(
        "ranges",
        r"act='swishy' fails: ValueError",
        _net(
            "x = layers.Conv2D(8, 3, activation=act)(x)\n" + _POOL,
            '"act": tuner.Choice("relu", "swishy")',
            taken=", act",
        ),
    ),
    "too deep for the images": Mistake(
        "ranges",
        r"depth=8 fails",
        _net(
            "for _ in range(depth):\n    x = layers.MaxPooling2D()(layers.Conv2D(8, 3, padding='same')(x))\n" + _POOL,
            '"depth": tuner.Int(1, 8, default=2)',
            taken=", depth",
        ),
    ),
    "not a number at an end": Mistake(
        "ranges",
        r"power=0.0 gives features that are not finite",
        _net(_CONV + "x = x / power\n" + _POOL, '"power": tuner.Float(0.0, 2.0, default=1.0)', taken=", power"),
    ),
    "a rate of one": Mistake(
        "ranges",
        r"rate=1.0 .*",
        _net(
            "x = layers.Conv2D(8, 3, padding='same')(x)\nx = x / (1 - rate)\n" + _POOL,
            '"rate": tuner.Float(0.0, 1.0, default=0.1)',
            taken=", rate",
        ),
    ),
}

OF_TRAINING = {
    "everything is frozen": Mistake(
        "training",
        r"layer 'conv' \(Conv2D, own_code.py:\d+\) is frozen",
        _net("layer = layers.Conv2D(8, 3, name='conv')\nlayer.trainable = False\nx = layer(x)\n" + _POOL),
    ),
    "nothing to train": Mistake(
        "training",
        r"net has no weights that are trained",
        _net("return layers.Flatten()(layers.AveragePooling2D(4)(x))"),
    ),
    "rounding": Mistake(
        "training",
        r"no gradient reaches kernel \[3, 3, 3, 8\] of layer",
        _net("x = ops.round(layers.Conv2D(8, 3)(x) * 10)\nx = layers.Conv2D(8, 3)(x)\n" + _POOL),
    ),
    "gradients are stopped": Mistake(
        "training",
        r"no gradient reaches",
        _net("x = ops.stop_gradient(layers.Conv2D(8, 3)(x))\nx = layers.Conv2D(8, 3)(x)\n" + _POOL),
    ),
    "weights that are never used": Mistake(
        "training",
        r"no gradient reaches gate \[8\] of layer .*Gated",
        _net(
            _CONV + "x = Gated()(x)\n" + _POOL,
            before="class Gated(layers.Layer):\n    def build(self, shape):\n        self.gate = self.add_weight(shape=(shape[-1],), initializer='ones', name='gate')\n    def call(self, x):\n        return x * 2.0",
        ),
    ),
    "a gradient that is not a number": Mistake(
        "training",
        r"not finite",
        _net("x = layers.Conv2D(8, 3, use_bias=False)(x)\nx = ops.sqrt(ops.relu(x))\n" + _POOL),
    ),
}

OF_STATE = {
    "drawn without a seed": Mistake(
        "seed",
        r"differ in training: layer 'drop_path\w*' \(DropPath, own_code.py:\d+, its class at own_code.py:\d+\) draws without a seed",
        _net(_PATH, before=_UNSEEDED),
    ),
    "drawn by numpy in training": Mistake(
        "seed|process",
        r"draws|numpy",
        _net(
            _CONV + "x = Noise()(x)\n" + _POOL,
            before="class Noise(layers.Layer):\n    def call(self, x, training=False):\n        return x + float(np.random.normal()) if training else x",
        ),
    ),
    "weights drawn by an own generator": Mistake(
        "seed",
        r"begin with different token \[1, 1, 8\] of layer",
        _net(
            _CONV + "x = Token()(x)\n" + _POOL,
            before="class Token(layers.Layer):\n    def build(self, shape):\n        drawn = np.random.default_rng().normal(size=(1, 1, shape[-1]))\n        self.token = self.add_weight(shape=drawn.shape, initializer=lambda shape, dtype=None: ops.convert_to_tensor(drawn, dtype), name='token')\n    def call(self, x):\n        return x + self.token",
        ),
    ),
    "a counter of the module": Mistake(
        "seed",
        r"other weights \(\[3, 3, 3, \d+\], then \[3, 3, 3, \d+\]\): something is kept",
        _net("global calls\ncalls += 1\nx = layers.Conv2D(8 * calls, 3)(x)\n" + _POOL, before="calls = 0"),
    ),
    "a counter in names": Mistake(
        "seed",
        r"layers of other names \('conv_\d+', then 'conv_\d+'\)",
        _net("x = layers.Conv2D(8, 3, name=f'conv_{len(made)}')(x)\nmade.append(1)\n" + _POOL, before="made = []"),
    ),
    "a layer of the module": Mistake(
        "seed",
        r"two networks share kernel \[8, 16\]",
        _net(_CONV + "return shared(layers.GlobalAveragePooling2D()(x))", before="shared = layers.Dense(16)"),
    ),
    "a cache of layers": Mistake(
        "seed",
        r"two networks share",
        _net(
            "if 'conv' not in cache:\n    cache['conv'] = layers.Conv2D(8, 3)\nx = layers.Conv2D(4, 1)(x)\nx = cache['conv'](x)\n"
            + _POOL,
            before="cache = {}",
        ),
    ),
    "the first width is remembered": Mistake(
        "used parameters|seed",
        r"width has no effect|kept between calls",
        _net(
            "width = first.setdefault('width', width)\nx = layers.Conv2D(width, 3)(x)\n" + _POOL,
            _WIDTH,
            before="first = {}",
            taken=", width",
        ),
    ),
    "a default that grows": Mistake(
        "seed",
        r"kept between calls",
        _net(
            "seen.append(1)\nx = layers.Conv2D(len(seen), 3, padding='same')(x)\n" + _POOL,
            taken=", seen=[]",
        ),
    ),
    "a seed of the process": Mistake(
        "process",
        r"net sets the seed of the process at own_code.py:\d+",
        _net("keras.utils.set_random_seed(0)\n" + _CONV + _POOL),
    ),
    "a seed of numpy": Mistake(
        "process", r"net sets the seed of the process at own_code.py:\d+", _net("np.random.seed(0)\n" + _CONV + _POOL)
    ),
    "a seed when the file is loaded": Mistake(
        "process",
        r"sets the seed of the process at own_code.py:7",
        _net(_CONV + _POOL, before="keras.utils.set_random_seed(1)"),
    ),
    "numpy's generator": Mistake(
        "process",
        r"draws from the one generator of numpy at own_code.py:\d+",
        _net(_CONV + "x = x * float(np.random.uniform(0.5, 1.5))\n" + _POOL),
    ),
    "another precision for all": Mistake(
        "process",
        r"changes the precision of all layers .*own_code.py:\d+",
        _net("keras.config.set_dtype_policy('float64')\n" + _CONV + _POOL),
    ),
    "another epsilon for all": Mistake(
        "process", r"changes keras.config.epsilon", _net("keras.config.set_epsilon(1e-4)\n" + _CONV + _POOL)
    ),
    "the session is cleared": Mistake(
        "process", r"clears Keras's session \(own_code.py:\d+\)", _net("keras.utils.clear_session()\n" + _CONV + _POOL)
    ),
    "fixed initial weights": Mistake(
        "other seed",
        r"another seed gives the same initial weights|is the same for every seed",
        _net("x = layers.Conv2D(8, 3, kernel_initializer=keras.initializers.HeNormal(seed=1))(x)\n" + _POOL),
    ),
}

OF_FILES = {
    "a class within the function": Mistake(
        "file",
        r"its class Twice \(own_code.py:\d+\) is not found by its name: let it stand outside of functions",
        _net(
            "class Twice(layers.Layer):\n    def call(self, x):\n        return 2.0 * x\n"
            + _CONV
            + "x = Twice()(x)\n"
            + _POOL
        ),
    ),
    "settings that __init__ does not take": Mistake(
        "file",
        r"Twice \(own_code.py:\d+\).*let __init__ take \*\*options",
        _net(
            _CONV + "x = Twice(2.0)(x)\n" + _POOL,
            before="class Twice(layers.Layer):\n    def __init__(self, factor):\n        super().__init__()\n        self.factor = factor\n    def call(self, x):\n        return self.factor * x\n    def get_config(self):\n        return {**super().get_config(), 'factor': self.factor}",
        ),
    ),
    "no get_config": Mistake(
        "file",
        r"DropPath \(own_code.py:\d+\) has no get_config.*rate",
        _net(
            _CONV + "x = DropPath(np.float32(0.5))(x)\n" + _POOL,
            before="@keras.saving.register_keras_serializable()\n"
            + _DEPTH_LAYER.format(**_SEEDED, config='"rate": self.rate').split("    def get_config")[0].strip(),
        ),
    ),
    "a setting is left out": Mistake(
        "file",
        r"get_config leaves out rate, which __init__ takes",
        _net(
            _PATH,
            before="@keras.saving.register_keras_serializable()\n" + _DEPTH_LAYER.format(**_SEEDED, config="").strip(),
        ),
    ),
    "another setting is saved": Mistake(
        "file",
        r"rate is 0.5, and 0.25 once it has been saved",
        _net(
            _PATH,
            before="@keras.saving.register_keras_serializable()\n"
            + _DEPTH_LAYER.format(**_SEEDED, config='"rate": self.rate / 2').strip(),
        ),
    ),
    "a lambda": Mistake("file", r"a lambda|Lambda", _net(_CONV + "x = layers.Lambda(lambda x: x * 2.0)(x)\n" + _POOL)),
    "an activation that is a lambda": Mistake(
        "file", r"lambda|loaded again|saved", _net("x = layers.Conv2D(8, 3, activation=lambda x: x * 2.0)(x)\n" + _POOL)
    ),
    "weights outside of variables": Mistake(
        "file",
        r"other features when it has been saved and loaded",
        _net(
            _CONV + "x = Scaled()(x)\n" + _POOL,
            before="@keras.saving.register_keras_serializable()\nclass Scaled(layers.Layer):\n    def build(self, shape):\n        self.scale = random.uniform(1.0, 2.0)\n    def call(self, x):\n        return x * self.scale",
        ),
    ),
}
OF_LOADING = {
    "a default outside of its range": Mistake(
        "loading",
        r"own_code.py:\d+: .*default must be between 4 and 32; got 64",
        _net(_CONV + _POOL, '"width": tuner.Int(4, 32, default=64)', taken=", width"),
    ),
    "the name of a parameter of every search": Mistake(
        "loading",
        r"learning_rate is a hyperparameter of every search already",
        _net(_CONV + _POOL, '"learning_rate": tuner.Float(0.1, 1, default=0.5)', taken=", learning_rate"),
    ),
    "a parameter that the function does not take": Mistake(
        "loading",
        r"does not take unknown parameter 'widht'; did you mean 'width'",
        _net(_CONV + _POOL, '"widht": tuner.Int(4, 32, default=8)', taken=", width=8"),
    ),
    "a parameter that is not declared": Mistake(
        "loading", r"the function needs width", _net(_CONV + _POOL, taken=", width")
    ),
}
MISTAKES = OF_LOADING | OF_FEATURES | OF_SIZES | OF_IMAGES | OF_PARAMETERS | OF_TRAINING | OF_STATE | OF_FILES
"""Of architectures."""


def _augmentation(body: str, more: str = "", before: str = "", taken: str = "") -> str:
    """Return an augmentation `change` with this body; without `more`, of images alone."""
    lines = textwrap.indent(textwrap.dedent(body).strip("\n"), "    ")
    given = "images, labels, generator" if "mixes_labels" in more else "images, generator"
    head = f"{textwrap.dedent(before).strip()}\n\n@tuner.augmentation({more})\n"
    return f"{head}def change({given}{taken}):\n    n = len(images)\n    u = generator.uniform(0.5, 1, (n, 1, 1, 1))\n{lines}\n"


OF_AUGMENTATIONS = {
    "another shape": Mistake(
        "form", r"fails for images .*must return images as an array|shape", _augmentation("return (images * u)[:, 1:]")
    ),
    "a list": Mistake("form", r"must return images as an array", _augmentation("return list(images * u)")),
    "an error in grey images": Mistake(
        "form",
        r"fails for images \[8, 28, 20, 1\]: IndexError at own_code.py:\d+ \(in change\)",
        _augmentation("images[..., 1] *= u[..., 0]\nreturn images"),
    ),
    "out of range": Mistake("form", r"must keep pixels in 0 to 255.*np.clip", _augmentation("return images * u * 2")),
    "scaled to 1": Mistake("form", r"gives pixels in 0 to 1", _augmentation("return images * u / 255")),
    "not finite": Mistake("form", r"not finite", _augmentation("return images / (images - images)")),
    "out of range at an end": Mistake(
        "form",
        r"change\(by=3.0\) must keep pixels",
        _augmentation(
            "return images * u * min(by, 3.0) / 2",
            'parameters={"by": tuner.Float(0.1, 3.0, default=1.0)}',
            taken=", by",
        ),
    ),
    "in place": Mistake(
        "input", r"changes the images that it is given: change a copy", _augmentation("images *= u\nreturn images")
    ),
    "another generator": Mistake(
        "seed",
        r"gives other images for the same seed",
        _augmentation("return images * np.random.default_rng().uniform(0.5, 1, (n, 1, 1, 1))"),
    ),
    "numpy's generator": Mistake(
        "seed",
        r"uses the one generator of numpy \(own_code.py:\d+\)",
        _augmentation("return images * np.random.uniform(0.5, 1, (n, 1, 1, 1))"),
    ),
    "python's generator": Mistake(
        "seed", r"gives other images for the same seed", _augmentation("return images * random.uniform(0.5, 1)")
    ),
    "a count of calls": Mistake(
        "seed",
        r"gives other images for the same seed",
        _augmentation("seen.append(1)\nreturn images * u / len(seen)", before="seen = []"),
    ),
    "a fixed seed": Mistake(
        "seed",
        r"the same images for every seed",
        _augmentation("return images * np.random.default_rng(0).uniform(0.5, 1, (n, 1, 1, 1))"),
    ),
    "nothing is changed": Mistake("change", r"changes nothing", _augmentation("return images.copy()")),
    "all alike": Mistake(
        "change", r"changes all images alike", _augmentation("return images * generator.uniform(0.5, 1)")
    ),
    "images are mixed, labels are not": Mistake(
        "labels", r"leaves its label as it was", _augmentation("return (images * u + images[::-1] * (1 - u))")
    ),
    "images are mixed, labels are given back": Mistake(
        "labels",
        r"leaves its label as it was",
        _augmentation("return images * u + images[::-1] * (1 - u), labels", "mixes_labels=True"),
    ),
    "labels are said to be mixed": Mistake(
        "labels", r"says that it mixes labels", _augmentation("return images * u, labels", "mixes_labels=True")
    ),
    "labels do not add up": Mistake(
        "form",
        r"labels that add up to 1",
        _augmentation("return images * u, labels + labels[::-1]", "mixes_labels=True"),
    ),
    "patches of others": Mistake(
        "labels",
        r"leaves its label as it was",
        _augmentation(
            "images = images * u\nimages[:, :8, :8] = images[generator.permutation(n), :8, :8]\nreturn images"
        ),
    ),
}


def _preprocessing(body: str, more: str = "", taken: str = "") -> str:
    """Return a preprocessing operation `prepare` with this body."""
    lines = textwrap.indent(textwrap.dedent(body).strip("\n"), "    ")
    return f"@tuner.preprocessing({more})\ndef prepare(images{taken}):\n    x = images\n{lines}\n"


OF_PREPROCESSING = {
    "another shape than it says": Mistake(
        "form", r"must return images \[N, 32, 32, 3\].*got \[3, 16, 16, 3\]", _preprocessing("return x[:, ::2, ::2]")
    ),
    "a shape that is not what it says": Mistake(
        "form",
        r"must return images \[N, 8, 8, 3\]",
        _preprocessing("return x[:, ::2, ::2]", "output_shape=lambda shape: (8, 8, shape[2])"),
    ),
    "another range than it says": Mistake(
        "form", r"says that values lie in 0 to 255, and gives", _preprocessing("return x * 2.0")
    ),
    "a range that is not what it says": Mistake(
        "form",
        r"says that values lie in -1 to 1, and gives 0",
        _preprocessing("return x / 127.5", "value_range=(-1, 1)"),
    ),
    "not finite": Mistake("form", r"not finite", _preprocessing("return ops.log(x - x)", "value_range=None")),
    "the batch": Mistake(
        "images",
        r"depends on the other images of its batch",
        _preprocessing("return ops.clip(x - ops.mean(x, axis=0, keepdims=True), 0, 255)"),
    ),
    "drawn": Mistake(
        "images",
        r"other values for the same images each time",
        _preprocessing("return ops.clip(x + keras.random.normal((1, 1, 1, 1)) * 9, 0, 255)"),
    ),
    "numpy in place of keras.ops": Mistake(
        "form|images|file", r"must be made of keras.ops", _preprocessing("return np.clip(np.asarray(x), 0, 200)")
    ),
}


def _loop(body: str, setup: str = "", parameters: str = "") -> str:
    """Return a training function `loop` of nearest means, with this as the body of its epoch."""
    lines = textwrap.indent(textwrap.dedent(body).strip("\n"), " " * 8)
    begin = textwrap.indent(textwrap.dedent(setup).strip("\n") or "pass", "    ")
    return (
        f'@tuner.trainable(parameters={{"rate": tuner.Float(0.1, 1.0, default=0.5){parameters}}})\n'
        "def loop(configuration, data, state=None):\n"
        "    images = np.asarray(data.train.images).reshape(len(data.train), -1) / 255\n"
        "    state = state or {'epoch': 0, 'means': np.zeros((data.num_classes, images.shape[1]))}\n"
        f"{begin}\n"
        "    while True:\n"
        "        state['epoch'] += 1\n"
        "        drawn = np.random.default_rng([data.seed, state['epoch']])\n"
        "        row = drawn.integers(len(images))\n"
        "        label, rate = data.train.labels[row], configuration['rate']\n"
        "        state['means'][label] += rate * (images[row] - state['means'][label])\n"
        "        metrics = {'val_accuracy': 0.5, 'val_loss': float(abs(state['means']).mean())}\n"
        f"{lines}\n"
    )


def _metric(body: str, options: str = "") -> str:
    return f"@tuner.metric({options})\ndef sure(labels, probabilities):\n    {body}\n"


_RIGHT = "(probabilities.argmax(axis=1) == labels)"
OF_METRICS = {
    "none": Mistake("", "", _metric(f"return {_RIGHT}.mean()", 'unit="share"')),
    "in percent": Mistake("value", r"sure gives \d+.*; with unit=.share", _metric(f"return 100 * {_RIGHT}.mean()", 'unit="share"')),
    "no number": Mistake("value", r"must return a number", _metric(f"return {_RIGHT}")),
    "no value": Mistake("value", r"sure gives nan", _metric("return float('nan')")),
    "drawn": Mistake("again", r"another value for the same answers", _metric("return np.random.default_rng().random()")),
    "changes what it is given": Mistake("again", r"changes the labels", _metric(f"found = {_RIGHT}.mean()\n    probabilities *= 2\n    return found")),
    "of the order": Mistake("order", r"depends on the order", _metric(f"return {_RIGHT}[: len(labels) // 3].mean()")),
    "the wrong way": Mistake("direction", r'0 where every answer is right, and 1 where every one is wrong.*say mode="min"', _metric(f"return 1 - {_RIGHT}.mean()")),
    "no classes": Mistake("edges", r"gives nan for a split with images of 1 of 3 classes", _metric("return float(np.mean([np.mean((probabilities.argmax(axis=1) == labels)[labels == one]) for one in range(probabilities.shape[1])]))")),
    "a logarithm": Mistake("edges", r"gives inf for answers that are sure and wrong", _metric("return float(-np.log(probabilities[np.arange(len(labels)), labels]).mean())", 'mode="min"')),
    "fails": Mistake("value", r"IndexError at own_code.py:9 \(in sure\)", _metric("return probabilities[0, 99]")),
}  # fmt: skip
_IMAGES_OF = "np.arange(12 * 64, dtype=np.int64).reshape(12, 8, 8).astype(np.uint8) + np.arange(12, dtype=np.uint8)[:, None, None]"
OF_SOURCES = {
    "none": Mistake("", "", f"@tuner.source\ndef mine():\n    return {_IMAGES_OF}, np.arange(12) % 2\n"),
    "one class": Mistake("listing", r"mine has images of 1 class", f"@tuner.source\ndef mine():\n    return {_IMAGES_OF}, np.zeros(12, int)\n"),
    "no pair": Mistake("listing", r"must return \(images, labels\)", f"@tuner.source\ndef mine():\n    return {_IMAGES_OF}\n"),
    "a class for the test alone": Mistake("listing", r"mine has no image of the class 2 to train on", f"@tuner.source\ndef mine():\n    images = {_IMAGES_OF}\n    return {{'train': (images[:8], np.arange(8) % 2), 'test': (images[8:], [0, 1, 2, 2])}}\n"),
    "shuffled": Mistake("again", r"another order of train each time", f"@tuner.source\ndef mine():\n    return np.random.default_rng().permutation({_IMAGES_OF}), np.arange(12) % 2\n"),
    "an identity that is the time": Mistake("identity", r"identity of mine is another each time", f"import time\n@tuner.source(identity=time.perf_counter)\ndef mine():\n    return {_IMAGES_OF}, np.arange(12) % 2\n"),
    "no image": Mistake("images", r"of train is not an image|of train .*format", "@tuner.source\ndef mine():\n    return [b'nothing', b'else'], ['a', 'b']\n"),
    "tested on what it is trained on": Mistake("splits", r"4 images in test that are in train too", f"@tuner.source\ndef mine():\n    images = {_IMAGES_OF}\n    return {{'train': (images, np.arange(12) % 2), 'test': (images[8:], [0, 1, 0, 1])}}\n"),
}  # fmt: skip
_YIELD = "yield tuner.Epoch(metrics, state)"
OF_TRAINABLES = {
    "none": Mistake("", "", _loop(_YIELD)),
    "an error": Mistake(
        "epochs",
        r"NameError: name 'metrik' is not defined \(own_code.py, line \d+\)",
        _loop("yield tuner.Epoch(metrik, state)"),
    ),
    "another thing than an epoch": Mistake("epochs", r"loop .* yielded dict at epoch 1", _loop("yield metrics")),
    "a share in percent": Mistake(
        "epochs", r"val_accuracy 50; it must be a share", _loop("metrics['val_accuracy'] *= 100\n" + _YIELD)
    ),
    "one epoch": Mistake("epochs", r"ends by itself after 1 epoch", _loop(_YIELD + "\nreturn")),
    "drawn without the seed": Mistake(
        "seed",
        r"two trainings of the same configuration and data.seed differ \(val_loss of epoch 1",
        _loop("metrics['val_loss'] += np.random.default_rng().normal()\n" + _YIELD),
    ),
    "no state": Mistake("pause", r"yields no state", _loop("yield tuner.Epoch(metrics)")),
    "half a state": Mistake(
        "pause",
        r"goes on differently from the state of epoch 1 \(val_loss of epoch 2",
        _loop("yield tuner.Epoch(metrics, {'epoch': state['epoch'], 'means': np.zeros_like(state['means'])})"),
    ),
    "a state that it does not take": Mistake(
        "pause",
        r"given the state of epoch 1, loop fails: .*KeyError",
        _loop("yield tuner.Epoch(metrics, {'epoch': state['epoch']})"),
    ),
    "an end that fails": Mistake(
        "ranges", r"rate=1.0 fails: .*ZeroDivisionError", _loop("metrics['val_loss'] /= 1 - rate\n" + _YIELD)
    ),
    "a parameter without effect": Mistake(
        "used parameters",
        r"depth has no effect: the code never reads it",
        _loop(_YIELD, parameters=", 'depth': tuner.Int(1, 4, default=2)"),
    ),
    "scores in place of probabilities": Mistake(
        "predict",
        r"predict of trainable loop .* must return probabilities",
        _loop(_YIELD)
        + "\n\n@loop.predict\ndef told(configuration, data, state, images):\n    return images.reshape(len(images), -1) / 255 @ state['means'].T\n",
    ),
    "probabilities of the batch": Mistake(
        "predict",
        r"depends on the other images",
        _loop(_YIELD)
        + "\n\n@loop.predict\ndef told(configuration, data, state, images):\n    shares = images.mean(axis=(1, 2))[:, : data.num_classes] + images.mean()\n    shares = shares / shares.sum()\n    return shares / shares.sum(axis=1, keepdims=True) * 0 + np.eye(data.num_classes)[[len(images) % 3] * len(images)]\n",
    ),
}
