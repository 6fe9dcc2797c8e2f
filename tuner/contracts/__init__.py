"""Promises of every architecture, augmentation, preprocessing operation and training function, as checks.

Tests of tuner's own code and `python -m tuner.selftest` call the same checks. They say what is wrong to the author of
the code, with the names and lines of that code. Nothing here knows of plugins, of searches or of Ray.
"""
