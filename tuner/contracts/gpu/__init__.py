"""Measurements of a GPU, in about a minute, by `python -m tuner.selftest --gpu`; on a CPU by the same code.

Nothing here knows of searches or of Ray.
"""
