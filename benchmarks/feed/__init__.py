"""How many images a second reach a model, by tuner, by `tf.data` and by hand: `python -m benchmarks.feed`."""
