"""Recipes of a training, beside its network and data: optimizers, schedules, averages, rates by layer.

All of it is a pure function of the configuration, the place of an epoch in its phase and the state in a checkpoint: a
trial that pauses goes on as if it had not. Never reads data, and knows nothing of trials.
"""
