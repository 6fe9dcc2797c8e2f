"""Images kept encoded: one file of them, one after the other, an index of where each begins, and decoding in threads.

Photos become JPEG once, at the size at which they are trained on; whatever was kept without loss stays so.
"""

from __future__ import annotations

import hashlib
import io
import mmap
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from tuner.common.arrays import ArrayWriter, force_to_disk, is_whole
from tuner.common.errors import DataError
from tuner.common.threads import Threads

ARRAYS, ENCODED = "arrays", "encoded"
"""How the images of a prepared copy are kept."""
JPEG_QUALITY = 95
"""Of what was lossy before."""
_LARGEST_WEBP_PX = 16_383
_AHEAD_FROM_BYTES = 8192
"""Images of this mean size are asked for before the first of a batch is decoded: from a disk that takes half of the
time (49 us for 29 kB instead of 95), and a microsecond where they are in memory."""
Shape = tuple[int, int, int]


# --- one image ---


def encode_image(image: np.ndarray, jpeg_quality: int | None) -> bytes:
    """Return an image `[H, W, 1 or 3] uint8` as JPEG of a quality, or without loss (None).

    JPEG keeps the colours of every pixel (4:4:4): at 32 px halved ones would double the error, and at 224 px they would
    save a fifth. Without loss, colours are WebP (against PNG a fifth smaller and decoded in two thirds of the time) and
    grey is PNG.
    """
    import cv2

    if jpeg_quality is not None:
        sampling = (cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444)
        return _encode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality, *sampling])
    if image.shape[2] == 1 or max(image.shape[:2]) > _LARGEST_WEBP_PX:
        return _encode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    from PIL import Image

    # OpenCV's encoder of WebP has one effort only, of which an image takes 26 times as long.
    file = io.BytesIO()
    Image.fromarray(image).save(file, "WEBP", lossless=True, method=0, quality=0, exact=True)
    return file.getvalue()


def _encode(suffix: str, image: np.ndarray, options: Sequence[int]) -> bytes:
    import cv2

    turned = image if image.shape[2] == 1 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    encoded: bytes = cv2.imencode(suffix, turned, list(options))[1].tobytes()
    return encoded


def decode_stored(content: bytes, shape: Shape) -> np.ndarray:
    """Return an image `[H, W, 1 or 3] uint8` from what `encode_image` gave."""
    import cv2

    return np.asarray(cv2.imdecode(np.frombuffer(content, np.uint8), _flags(shape[2])), np.uint8).reshape(shape)


def _flags(channels: int) -> int:
    import cv2

    return (cv2.IMREAD_GRAYSCALE if channels == 1 else cv2.IMREAD_COLOR_RGB) | cv2.IMREAD_IGNORE_ORIENTATION


def encoded_size(image: np.ndarray, was_lossy: bool, jpeg_quality: int | None) -> int:
    """Return the bytes that an image takes in a file of `EncodedWriter`, with its place in the index."""
    return len(encode_image(image, _quality(was_lossy, jpeg_quality))) + 8


def _quality(was_lossy: bool, jpeg_quality: int | None) -> int | None:
    return jpeg_quality or (JPEG_QUALITY if was_lossy else None)


# --- the file and its index ---


def images_path(folder: Path, split: str) -> Path:
    """Return where the encoded images of a split lie."""
    return folder / f"{split}_images.bin"


def index_path(folder: Path, split: str) -> Path:
    """Return where the index of a split lies: where each image begins, and where the last one ends."""
    return folder / f"{split}_index.npy"


class EncodedWriter:
    """Context manager that encodes images, and writes them to the new files of a split."""

    def __init__(self, folder: Path, split: str, threads: Threads, jpeg_quality: int | None = None) -> None:
        """Give all images `jpeg_quality`; None: those that were lossy get JPEG_QUALITY, others lose nothing."""
        self._threads, self._jpeg_quality = threads, jpeg_quality
        self._digest = hashlib.sha256()
        self._ends = 0
        self._index = ArrayWriter(index_path(folder, split), (), np.int64)
        self._file = images_path(folder, split).open("xb")

    def append(self, images: np.ndarray, are_lossy: np.ndarray) -> None:
        """Add images `[N, H, W, C] uint8`, of which these were lossy, `[N] bool`."""
        if not len(images):
            return
        stored = self._threads.map(self._store, zip(images, are_lossy, strict=True))
        sizes = [len(content) for content, _ in stored]
        self._index.append(self._ends + np.cumsum([0, *sizes[:-1]]))
        self._ends += sum(sizes)
        for content, decoded in stored:
            self._file.write(content)
            self._digest.update(np.ascontiguousarray(decoded).data.cast("B"))

    def _store(self, image_and_loss: tuple[np.ndarray, Any]) -> tuple[bytes, np.ndarray]:
        """Return an image encoded, and as it will be when it is decoded."""
        image, is_lossy = image_and_loss
        quality = _quality(bool(is_lossy), self._jpeg_quality)
        content = encode_image(image, quality)
        return content, image if quality is None else decode_stored(content, image.shape)

    @property
    def sha256(self) -> str:
        """SHA-256 over all values as they are decoded: that of an array of them."""
        return self._digest.hexdigest()

    def __enter__(self) -> Self:
        self._index.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        with self._file as file:
            if error is None:
                force_to_disk(file)
                self._index.append(np.array([self._ends]))
        self._index.__exit__(kind, error, where)


def are_whole(folder: Path, split: str, count: int) -> bool:
    """Return whether the files of a split have the right lengths; only the end of the index is read."""
    try:
        if not is_whole(index_path(folder, split), (count + 1,), np.int64):
            return False
        index = np.load(index_path(folder, split), mmap_mode="r", allow_pickle=False)
        return int(index[-1]) == images_path(folder, split).stat().st_size
    except (OSError, ValueError):
        return False


class EncodedImages:
    """Encoded images that are read as an array `[N, H, W, C] uint8` would be: `images[rows]` decodes these rows.

    The file is mapped: all processes of a machine share what the system holds of it. Can be sent to other processes,
    which open it themselves.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, folder: Path, split: str, image_shape: Shape, threads: int) -> None:
        self._made_of = (folder, split, image_shape, threads)
        self.threads = threads
        self._path = images_path(folder, split)
        index: np.ndarray = np.load(index_path(folder, split), allow_pickle=False)
        self._starts, self._ends = index[:-1], index[1:]
        self.shape = (len(self._starts), *image_shape)
        self._decoding = Threads(threads)
        with self._path.open("rb") as file:
            self._mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._content = np.frombuffer(self._mapped, np.uint8)
        self._is_read_ahead = hasattr(mmap, "MADV_WILLNEED") and index[-1] >= _AHEAD_FROM_BYTES * len(self)

    def __len__(self) -> int:
        return self.shape[0]

    def __reduce__(self) -> tuple[Any, ...]:
        return EncodedImages, self._made_of

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Return the images of some rows `[B] int64`, `[B, H, W, C] uint8`.

        Raises:
            DataError: one cannot be decoded: the file was damaged.
        """
        starts, ends = self._starts[rows].tolist(), self._ends[rows].tolist()
        if self._is_read_ahead:
            for start, end in zip(starts, ends, strict=True):
                page = start - start % mmap.PAGESIZE
                self._mapped.madvise(mmap.MADV_WILLNEED, page, end - page)
        images = np.empty((len(starts), *self.shape[1:]), np.uint8)
        parts = max(1, min(self.threads, len(starts)))
        bounds = [len(starts) * part // parts for part in range(parts + 1)]

        def decode(part: int) -> None:
            places = range(bounds[part], bounds[part + 1])
            place = self._decode(images, places, starts, ends)
            if place is not None:
                raise DataError(
                    f"{self._path}: image {np.arange(len(self))[rows][place]} cannot be decoded, so the prepared copy "
                    "is damaged; python -m tuner.cache clear --damaged removes it, and the next search makes it again"
                )

        self._decoding.map(decode, range(parts))
        return images

    def _decode(self, images: np.ndarray, places: range, starts: list[int], ends: list[int]) -> int | None:
        """Decode into places of `images`; returns the first that cannot be. Of 32 px, a line more takes 2% longer."""
        import cv2

        imdecode, content, flags = cv2.imdecode, self._content, _flags(self.shape[3])
        plain = images[..., 0] if self.shape[3] == 1 else images
        place = places.start
        try:
            for place in places:
                plain[place] = imdecode(content[starts[place] : ends[place]], flags)
        except (cv2.error, TypeError, ValueError):  # no image, or one of another size
            return place
        return None
