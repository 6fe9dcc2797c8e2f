"""Images that are like photos in that no two have the same details."""

from __future__ import annotations

import numpy as np


def drawn_photos(number: int, px: int, channels: int, seed: int) -> np.ndarray:
    """Return different images `[N, px, px, channels] uint8` with details on all scales, as photos have them."""
    from scipy.ndimage import gaussian_filter

    generator = np.random.default_rng(seed)
    found = np.zeros((number, px, px, channels), np.float32)
    for scale in (0.02, 0.05, 0.1, 0.25):
        noise = generator.standard_normal(found.shape).astype(np.float32)
        blurred = gaussian_filter(noise, (0, scale * px, scale * px, 0), mode="wrap")
        found += blurred / blurred.std() * scale**0.5
    low, high = np.quantile(found, (0.01, 0.99))
    return np.clip((found - low) / (high - low) * 255, 0, 255).astype(np.uint8)
