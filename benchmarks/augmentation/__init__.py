"""Augmented images per second, by tuner and by others: `python -m benchmarks.augmentation`."""
