"""Changes of one image by OpenCV: what moves its pixels in one interpolation, and what changes their values in place.

Images are `[H, W, C] uint8`, of any number of channels; what is about colours leaves the others alone. A *map* is a
matrix `[3, 3]` that leads from a place `(column, row, 1)` of the new image to its place in the old one, both in
pixels from the centre. A `Change` writes into the image that it is given. OpenCV leaves Python's lock while it works.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial

import numpy as np

Change = Callable[[np.ndarray], None]
_LEAST_SIGMA = 0.25
"""A Gaussian of fewer pixels changes nothing."""

# --- moving pixels: maps ---


def diagonal_maps(columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return maps `[N, 3, 3]` that stretch both axes around the centre, by factors `[N]`; -1 mirrors."""
    maps = np.zeros((len(columns), 3, 3))
    maps[:, 0, 0], maps[:, 1, 1], maps[:, 2, 2] = columns, rows, 1
    return maps


def shift_maps(right: np.ndarray, down: np.ndarray) -> np.ndarray:
    """Return maps `[N, 3, 3]` that move what is seen by so many pixels, `[N]`."""
    maps = np.tile(np.eye(3), (len(right), 1, 1))
    maps[:, 0, 2], maps[:, 1, 2] = -right, -down
    return maps


def rotation_maps(degrees: np.ndarray) -> np.ndarray:
    """Return maps `[N, 3, 3]` that turn by angles `[N]`, against the clock."""
    angles = np.deg2rad(degrees)
    maps = diagonal_maps(np.cos(angles), np.cos(angles))
    maps[:, 0, 1], maps[:, 1, 0] = -np.sin(angles), np.sin(angles)
    return maps


def shear_maps(columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return maps `[N, 3, 3]` that move each row along by its distance from the centre times `columns`, and so on."""
    maps = np.tile(np.eye(3), (len(columns), 1, 1))
    maps[:, 0, 1], maps[:, 1, 0] = columns, rows
    return maps


def move_pixels(
    images: np.ndarray, maps: np.ndarray, into: np.ndarray, drawn_px: tuple[int, int] | None = None
) -> None:
    """Write images `[N, H, W, C]`, seen through their maps `[N, 3, 3]`, into other memory; the edge is repeated.

    A map that only mirrors or moves by whole pixels changes no value; others interpolate linearly, once, and shrink the
    images on the way where the other memory is smaller. Maps are in pixels of images of a height and width of
    `drawn_px` (None: of these).
    """
    import cv2

    size, new_size = images.shape[1:3], into.shape[1:3]
    drawn_px, shrinking = drawn_px or size, _Shrinking.between(size, new_size)
    old_corner, new_corner = (_to_corner(each, drawn_px) for each in (shrinking.size, new_size))
    cornered = np.asarray(old_corner @ maps @ np.linalg.inv(new_corner))[:, :2]
    whole = np.rint(cornered)
    is_whole = np.all(np.abs(cornered - whole) < 1e-9, axis=(1, 2)).tolist()
    is_mirror = (np.all(maps[:, :2, 2] == 0, axis=1) & np.all(maps[:, [0, 1], [1, 0]] == 0, axis=1)).tolist()
    repeated = {"borderMode": cv2.BORDER_REPLICATE}
    for place in range(len(images)):
        if size != new_size or not is_whole[place]:
            flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
            image = shrinking.begin(images[place])
            cv2.warpAffine(image, cornered[place], new_size[::-1], dst=into[place], flags=flags, **repeated)
            continue
        columns, rows = maps[place, 0, 0], maps[place, 1, 1]
        if is_mirror[place] and abs(columns) == abs(rows) == 1:
            if columns == rows == 1:
                into[place] = images[place]
            else:
                cv2.flip(images[place], 1 if rows == 1 else 0 if columns == 1 else -1, dst=into[place])
        else:
            flags = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
            cv2.warpAffine(images[place], whole[place], new_size[::-1], dst=into[place], flags=flags, **repeated)


def _to_corner(size: tuple[int, int], drawn_px: tuple[int, int]) -> np.ndarray:
    """Return the map from pixels of drawn images, from the centre, to those of images of a size, from the corner."""
    (height, width), (rows, columns) = size, drawn_px
    return np.array([[width / columns, 0, (width - 1) / 2], [0, height / rows, (height - 1) / 2], [0, 0, 1]])


@dataclass(frozen=True)
class _Shrinking:
    """Work on an image before one linear interpolation shrinks it: means of squares of pixels, and a Gaussian.

    With the interpolation they have the variance of the triangle by which an antialiased `resize` weights pixels.
    """

    size: tuple[int, int]
    """Height and width after the means."""
    sigmas: tuple[float, float] = (0.0, 0.0)

    @classmethod
    def between(cls, size: tuple[int, int], new_size: tuple[int, int]) -> _Shrinking:
        """Return what is needed between two sizes; nothing where they are the same."""
        for factor in (16, 8, 4, 2, 1):
            steps = [old / new / factor for old, new in zip(size, new_size, strict=True)]
            variances = [(step**2 - 1) / 6 - (1 - factor**-2) / 12 for step in steps]
            if factor == 1 or (min(variances) > -0.01 and size[0] % factor == size[1] % factor == 0):
                break
        down, across = (math.sqrt(max(0.0, variance)) for variance in variances)
        return cls((size[0] // factor, size[1] // factor), (down, across))

    def begin(self, image: np.ndarray) -> np.ndarray:
        """Return the image that is to be interpolated."""
        import cv2

        if image.shape[:2] != self.size:
            image = np.asarray(cv2.resize(image, self.size[::-1], interpolation=cv2.INTER_AREA))
        if max(self.sigmas) > _LEAST_SIGMA:
            rows, columns = (2 * math.ceil(2.2 * sigma) + 1 for sigma in self.sigmas)
            down, across = (max(sigma, _LEAST_SIGMA) for sigma in self.sigmas)
            edge = cv2.BORDER_REPLICATE
            image = np.asarray(cv2.GaussianBlur(image, (columns, rows), across, sigmaY=down, borderType=edge))
        return image


# --- changing values ---


def brightness(amount: float) -> Change:
    """Return the change that adds an amount to all values."""

    def change(image: np.ndarray) -> None:
        _blend(image, 1.0, image, 0.0, amount)

    return change


def multiply(factor: float) -> Change:
    """Return the change that multiplies all values."""

    def change(image: np.ndarray) -> None:
        _blend(image, factor, image, 0.0)

    return change


def contrast(factor: float) -> Change:
    """Return the change that multiplies the distance of all values from their mean."""

    def change(image: np.ndarray) -> None:
        _blend(image, factor, image, 0.0, (1 - factor) * _mean(image))

    return change


def saturation(factor: float) -> Change:
    """Return the change that multiplies the distance from grey; of images with three channels."""

    def change(image: np.ndarray) -> None:
        import cv2

        if image.shape[2] == 3:
            grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
            _blend(image, factor, cv2.cvtColor(grey, cv2.COLOR_GRAY2RGB), 1 - factor)

    return change


def hue(turn: float) -> Change:
    """Return the change that turns the circle of hues, from -0.5 to 0.5; of images with three channels."""

    def change(image: np.ndarray) -> None:
        import cv2

        if image.shape[2] == 3:
            turned = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)
            turned[..., 0] += np.uint8(round(turn * 256) % 256)
            cv2.cvtColor(turned, cv2.COLOR_HSV2RGB_FULL, dst=image)

    return change


def sharpness(factor: float) -> Change:
    """Return the change that multiplies the distance from a smoothed image (Pillow's SMOOTH)."""

    def change(image: np.ndarray) -> None:
        import cv2

        kernel = np.ones((3, 3), np.float32)
        kernel[1, 1] = 5
        smooth = np.empty_like(image)
        cv2.filter2D(image, -1, kernel / 13, dst=smooth, borderType=cv2.BORDER_REPLICATE)
        _blend(image, factor, smooth, 1 - factor)

    return change


def blur(sigma: float, drawn_px: tuple[int, int]) -> Change:
    """Return the change that smooths by a Gaussian of so many pixels of an image of that height and width."""

    def change(image: np.ndarray) -> None:
        import cv2

        down, across = (sigma * new / old for new, old in zip(image.shape[:2], drawn_px, strict=True))
        cv2.GaussianBlur(image, (0, 0), across, dst=image, sigmaY=down, borderType=cv2.BORDER_REPLICATE)

    return change


def posterize(bits: int) -> Change:
    """Return the change that keeps so many bits of each value."""
    return partial(_map_values, np.arange(256, dtype=np.uint8) & np.uint8((0xFF << (8 - bits)) & 0xFF))


def solarize(threshold: float) -> Change:
    """Return the change that inverts the values from a threshold on."""
    values = np.arange(256, dtype=np.uint8)
    return partial(_map_values, np.where(values >= threshold, 255 - values, values))


def stretch_contrast(image: np.ndarray) -> None:
    """Stretch the values of each channel to all of 0 to 255."""
    import cv2

    for channel in range(image.shape[2]):
        plane = np.ascontiguousarray(image[..., channel])
        low, high, _, _ = cv2.minMaxLoc(plane)
        if high > low:
            _blend(plane, 255 / (high - low), plane, 0.0, -255 * low / (high - low))
            image[..., channel] = plane


def equalize(image: np.ndarray) -> None:
    """Make all values of each channel about equally frequent."""
    import cv2

    for channel in range(image.shape[2]):
        image[..., channel] = cv2.equalizeHist(np.ascontiguousarray(image[..., channel]))


def noise(standard_deviation: float, seed: int) -> Change:
    """Return the change that adds Gaussian noise, in values of 0 to 255: a piece of one long series, chosen by `seed`.

    Drawing 150,000 numbers for each image would take ten times as long as adding them.
    """

    def change(image: np.ndarray) -> None:
        import cv2

        series = _normal_series()
        if image.size > len(series):
            series = np.resize(series, image.size)
        start = seed % (len(series) - image.size + 1)
        drawn = series[start : start + image.size].reshape(image.shape)
        sign = 1 if seed >> 62 & 1 else -1
        cv2.addWeighted(image, 1, drawn, sign * standard_deviation, 0, dst=image, dtype=cv2.CV_8U)

    return change


@cache
def _normal_series() -> np.ndarray:
    return np.random.default_rng(0).standard_normal(2**21, dtype=np.float32)


def erase(top: int, left: int, height: int, width: int, seed: int) -> Change:
    """Return the change that fills a rectangle with noise."""

    def change(image: np.ndarray) -> None:
        part = image[top : top + height, left : left + width]
        part[...] = np.random.default_rng(seed).integers(0, 256, part.shape, np.uint8)

    return change


def moved(map_: np.ndarray) -> Change:
    """Return the change that moves pixels by a map `[3, 3]`, for what must be done in turn."""

    def change(image: np.ndarray) -> None:
        move_pixels(image.copy()[None], map_[None], image[None])

    return change


def chains_mixed(chains: Sequence[Sequence[Change]], shares: Sequence[float], own_share: float) -> Change:
    """Return the change that mixes what several chains of changes make of the image, and then that with the image.

    `shares` add up to 1; `own_share` is what remains of the image itself.
    """

    def change(image: np.ndarray) -> None:
        mixed = own_share * image.astype(np.float32)
        for chain, share in zip(chains, shares, strict=True):
            changed = image.copy()
            for one in chain:
                one(changed)
            mixed += np.float32((1 - own_share) * share) * changed
        np.clip(np.rint(mixed, out=mixed), 0, 255, out=mixed)
        image[...] = mixed

    return change


def mix_images(first: np.ndarray, share: float, second: np.ndarray, into: np.ndarray) -> None:
    """Write `share` of the first image and the rest of the second into other memory."""
    import cv2

    cv2.addWeighted(first, share, second, 1 - share, 0, dst=into)


def _blend(image: np.ndarray, share: float, other: np.ndarray, other_share: float, added: float = 0.0) -> None:
    import cv2

    cv2.addWeighted(image, share, other, other_share, added, dst=image)  # it rounds, and keeps to 0 to 255


def _map_values(table: np.ndarray, image: np.ndarray) -> None:
    import cv2

    cv2.LUT(image, table, dst=image)


def _mean(image: np.ndarray) -> float:
    import cv2

    channels = image.shape[2]
    return float(image.mean() if channels > 4 else math.fsum(cv2.mean(image)) / channels)
