"""Wrong data: folders, archives and Parquet files that cannot be a data set, made where the test runs."""

from __future__ import annotations

import io
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.bad_input import Case
from tests.support.make_data import ARRAYS, make_folder, picture, write_parquet
from tests.support.wrong_files import NO_BASELINE, wrong

Make = Callable[[Path], object]


def data(
    source: str,
    make: Make,
    *words: str,
    is_real: bool = False,
    is_guarded: bool = False,
    environment: dict[str, str] | None = None,
    options: str = "",
    **settings: Any,
) -> Case:
    """A search of these data, with other settings of the section `data`."""

    def make_all(work: Path) -> None:
        section = json.dumps({"source": source, **settings})
        (work / "right.yaml").write_text(wrong({2: f"data: {section}", **NO_BASELINE}))
        make(work)

    command = f"search right.yaml --inline --cache cache {options}"
    return Case(
        command,
        words,
        make_all,
        may_write=("cache",),
        is_real=is_real,
        is_guarded=is_guarded,
        environment=environment or {},
    )


def folder(make: Make, *words: str, **options: Any) -> Case:
    """A search of the folder `pets`, which holds two classes of eight images each before `make` is called."""

    def make_all(work: Path) -> None:
        make_folder(work / "pets", {"cat": 8, "dog": 8})
        make(work / "pets")

    return data("folder:pets", make_all, *words, **options)


def classes(counts: dict[str, int], *words: str, **options: Any) -> Case:
    """A search of a folder with so many images in each class."""
    return data("folder:pets", lambda work: make_folder(work / "pets", counts), *words, **options)


def image(content: bytes | Callable[[], bytes], *words: str, name: str = "odd.png", **options: Any) -> Case:
    """A search of a folder with one file more, called `cat/odd.png`."""

    def make(pets: Path) -> None:
        (pets / "cat" / name).write_bytes(content if isinstance(content, bytes) else content())

    return folder(make, "1 broken image: ", f"pets/cat/{name} ", *words, "data.broken_images to skip", **options)


def archive(*words: str, **arrays: Any) -> Case:
    """A search of an archive: the arrays of a right one, some replaced (by None: left out)."""
    kept = {name: value for name, value in {**ARRAYS, **arrays}.items() if value is not None}
    return data("npz:own.npz", lambda work: np.savez(work / "own.npz", **kept), "own.npz", *words)


def parquet(*words: str, names: tuple[str, ...] = ("a", "b"), **columns: Any) -> Case:
    """A search of a Parquet file of eight rows, some columns replaced."""
    return data("parquet:hub", lambda work: _write_hub(work, names, columns), "hub", *words)


def _write_hub(work: Path, names: tuple[str, ...], columns: dict[str, Any]) -> None:
    (work / "hub").mkdir()
    write_parquet(work / "hub" / "train.parquet", 8, names, **columns)


def encoded(form: str, size: tuple[int, int] = (8, 8)) -> bytes:
    file = io.BytesIO()
    picture(7, size).save(file, format=form)
    return file.getvalue()


def png(width: int, height: int, pixels: bytes = b"", depth: int = 8) -> bytes:
    """A PNG that says it has this size, whatever pixels follow."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def packed_zeros(number: int) -> bytes:
    """So many zero bytes in a thousandth of the space."""
    packer = zlib.compressobj(9)
    return b"".join(packer.compress(bytes(2**20)) for _ in range(number // 2**20)) + packer.flush()


def zip_of(work: Path, **members: bytes) -> None:
    with zipfile.ZipFile(work / "own.npz", "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)


def npy_header(shape: str, kind: str = "|u1") -> bytes:
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def huge_archive(work: Path) -> None:
    """An archive that says it unpacks to 100 TB."""
    np.savez(work / "own.npz", **ARRAYS)
    content = bytearray((work / "own.npz").read_bytes())
    entry = content.index(b"PK\x01\x02")  # the first entry of the directory at the end
    extra = struct.pack("<HHQ", 1, 8, 100 * 10**12)  # Zip64: the size in an extra field
    content[entry + 24 : entry + 28] = b"\xff" * 4
    name_length, extra_length = struct.unpack("<HH", content[entry + 28 : entry + 32])
    content[entry + 30 : entry + 32] = struct.pack("<H", extra_length + len(extra))
    place = entry + 46 + name_length
    content[place:place] = extra
    end = content.index(b"PK\x05\x06")
    (size,) = struct.unpack("<I", content[end + 12 : end + 16])
    content[end + 12 : end + 16] = struct.pack("<I", size + len(extra))
    (work / "own.npz").write_bytes(content)


class Bomb:
    """Unpickled, it makes a file."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("exploded",)


def loop(pets: Path) -> None:
    (pets / "cat" / "again").symlink_to(pets)
    (pets / "loop").symlink_to(pets)


DATA: dict[str, Case] = {
    # --- where the data are ---
    "folder that is not there": data("folder:pets", lambda _work: None, "folder:pets must name a folder or file that exists", "pets does not"),
    "folder that is a file": data("folder:right.yaml", lambda _work: None, "right.yaml must be a folder of class folders; ", "is a file"),
    "folder below a file": data("folder:right.yaml/x", lambda _work: None, "folder:right.yaml/x must name a folder or file that exists"),
    "folder of a long name": data("folder:" + "x" * 300, lambda _work: None, "must name a folder or file that exists", "File name too long"),
    "folder with a space that does not break": data("folder:a\u00a0b", lambda _work: None, r"folder:a\xa0b must name a folder or file that exists"),
    "folder with a line end in its name": data("folder:a\nb", lambda _work: None, r"folder:a\nb must name a folder or file that exists"),
    "link to nothing": data("folder:pets", lambda work: (work / "pets").symlink_to("gone"), "folder:pets must name a folder or file that exists"),
    "link to itself": data("folder:pets", lambda work: (work / "pets").symlink_to("pets"), "folder:pets must name a folder or file that exists"),
    "pipe for a folder": data("folder:pets", lambda work: os.mkfifo(work / "pets"), "right.yaml:2: data.source: folder:pets must name a folder or file; ", "pets is a pipe or a device", is_real=True),
    "no folder at all": data("folder:", lambda _work: None, "right.yaml:2: data.source must name what to read after folder:"),
    "user that is not there": data("folder:~nobody-of-this-name/pets", lambda _work: None, "~nobody-of-this-name/pets: must begin with the home of a user that exists"),
    # --- folders of classes ---
    "empty folder": data("folder:pets", lambda work: (work / "pets").mkdir(), "pets: must have at least two classes; got none"),
    "images without class folders": data("folder:pets", lambda work: ((work / "pets").mkdir(), picture(1).save(work / "pets" / "a.png")), "must have at least two classes; got none"),
    "one class": classes({"cat": 8}, "pets: must have at least two classes; got cat"),
    "one image per class": classes({"cat": 1, "dog": 1}, "pets: every class must have at least two images to be split; too few: cat, dog"),
    "two images per class": classes({"cat": 2, "dog": 2}, "pets: 4 images of 2 classes cannot be split by 0.2: both parts must hold an image of every class; they would have 3 and 1 images"),
    "class without images": folder(lambda pets: (pets / "fish").mkdir(), "pets/fish: a class folder must hold images (.jpg, .jpeg, .jfif, .jpe, .png, .bmp, .gif, .webp, .tif, .tiff, .ppm, .pgm, .pbm, .pnm); it holds none"),
    "class of texts": folder(lambda pets: ((pets / "fish").mkdir(), (pets / "fish" / "a.txt").write_text("x")), "pets/fish: a class folder must hold images"),
    "class of hidden images": folder(lambda pets: ((pets / "fish").mkdir(), picture(1).save(pets / "fish" / ".a.png")), "pets/fish: a class folder must hold images"),
    "class with a line end in its name": folder(lambda pets: (pets / "a\nb").mkdir(), r"pets/a\nb: a class folder must hold images"),
    "class with terminal codes": folder(lambda pets: (pets / "\x1b]0;owned\x07").mkdir(), r"pets/\x1b]0;owned\x07: a class folder must hold images"),
    "class whose name is no text": folder(lambda pets: (pets / os.fsdecode(b"\xff\xfe")).mkdir(), r"pets/\xff\xfe: a class folder must hold images"),
    "class that turns the text around": folder(lambda pets: (pets / "\u202egod").mkdir(), r"pets/\u202egod: a class folder must hold images"),
    "split folders without training": data("folder:pets", lambda work: make_folder(work / "pets" / "test", {"cat": 4, "dog": 4}), "pets: must hold a folder train beside test"),
    "class in the test split alone": folder(lambda pets: (make_folder(pets / "train", {"cat": 4, "dog": 4}), make_folder(pets / "test", {"cat": 2, "cow": 2})), "the classes of test must be among those of the training images (cat, dog); got cow"),
    "loop of links": folder(loop, "pets/loop: a class folder must not be a link to a folder that holds it"),
    "class that is a link to above": folder(lambda pets: (pets / "up").symlink_to(".."), "pets/up: a class folder must not be a link to a folder that holds it"),
    "too few images to validate": classes({"cat": 3, "dog": 3}, "pets, without its test images: 4 images of 2 classes cannot be split by 0.01: both parts must hold an image of every class; they would have 3 and 1 images", validation_fraction=0.01),
    "too few images asked for": classes({"cat": 30, "dog": 30, "cow": 30, "owl": 30}, "data.max_train_images", max_train_images=2),
    # --- image files ---
    "image of no bytes": image(b"", "is not an image"),
    "image that is a text": image(b"hello", "is not an image in a format that is read (JPEG, PNG, BMP, GIF, WEBP, TIFF, PPM)"),
    "image that is a web page": image(b"<html>404 Not Found</html>", "is not an image", name="odd.jpg"),
    "image that is cut short": image(lambda: encoded("PNG", (64, 64))[:90], "cannot be decoded"),
    "photograph that is cut short": image(lambda: encoded("JPEG", (64, 64))[:300], "", name="odd.jpg"),
    "PostScript by another name": image(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is not an image in a format that is read"),
    "icon by another name": image(lambda: encoded("ICO"), "is not an image in a format that is read"),
    "image of 100 megapixels": image(lambda: png(10_000, 10_000, packed_zeros(100 * 2**20)), "is too large: 100,000,000 pixels, the limit of Pillow is 89,478,485"),
    "image of four billion pixels a side": image(lambda: png(2**31 - 1, 2**31 - 1, packed_zeros(2**20)), "is too large"),
    "image of no pixels": image(lambda: png(0, 0), "is not an image"),
    "moving picture without a picture": image(b"GIF89a\x08\x00\x08\x00\x00\x00\x00;", "", name="odd.gif"),
    "image that is a folder": folder(lambda pets: ((pets / "cat" / "odd.png").mkdir(), (pets / "cat" / "odd.png" / "in.png").write_bytes(b"")), "1 broken image: ", "odd.png/in.png is not an image"),
    "image that is a pipe": folder(lambda pets: os.mkfifo(pets / "cat" / "odd.png"), "pets/cat/odd.png cannot be decoded: it is a folder, a pipe or a device", is_real=True),
    "image that is a device": folder(lambda pets: (pets / "cat" / "odd.png").symlink_to("/dev/zero"), "pets/cat/odd.png cannot be decoded: it is a folder, a pipe or a device", is_real=True),
    "image that is a link to itself": folder(lambda pets: (pets / "cat" / "odd.png").symlink_to("odd.png"), "pets/cat/odd.png cannot be looked at: [Errno 40] Too many levels of symbolic links"),
    "image with terminal codes in its name": folder(lambda pets: (pets / "cat" / "\x1b[31m\n.png").write_bytes(b""), r"pets/cat/\x1b[31m\n.png is not an image"),
    "a hundred broken images": folder(lambda pets: [(pets / "cat" / f"odd {number:03d}.png").write_bytes(b"x") for number in range(100)], "100 broken images: ", "odd 009.png", "and 90 more"),
    "nothing but broken images, skipped": folder(lambda pets: [path.write_bytes(b"") for path in pets.rglob("*.png")], "must hold at least one image that is not broken", broken_images="skip"),
    "class of broken images, skipped": folder(lambda pets: [path.write_bytes(b"") for path in (pets / "dog").iterdir()], "none is left of dog", broken_images="skip"),
    "image that may not be read": folder(lambda pets: (pets / "cat" / "image 0.png").chmod(0), "1 broken image: ", "cat/image 0.png cannot be decoded: [Errno 13] Permission denied", is_guarded=True),
    "class that may not be looked into": folder(lambda pets: (pets / "cat").chmod(0), "pets/cat: cannot be read: Permission denied", is_guarded=True),
    # --- archives ---
    "archive that is not there": data("npz:own.npz", lambda _work: None, "npz:own.npz must name a folder or file that exists"),
    "archive that is a folder": data("npz:own.npz", lambda work: (work / "own.npz").mkdir(), "own.npz: cannot be read as a numpy archive"),
    "archive that is a pipe": data("npz:own.npz", lambda work: os.mkfifo(work / "own.npz"), "right.yaml:2: data.source: npz:own.npz must name a folder or file; ", "own.npz is a pipe or a device", is_real=True),
    "archive of no bytes": data("npz:own.npz", lambda work: (work / "own.npz").write_bytes(b""), "own.npz: cannot be read as a numpy archive of plain arrays"),
    "archive that is a pickle": data("npz:own.npz", lambda work: np.array([Bomb()]).dump(work / "own.npz"), "own.npz: cannot be read as a numpy archive of plain arrays"),
    "archive with pickles in it": archive("cannot be read as a numpy archive of plain arrays", x_train=np.array([Bomb()], dtype=object)),
    "archive that is cut short": data("npz:own.npz", lambda work: (np.savez_compressed(work / "own.npz", **ARRAYS), os.truncate(work / "own.npz", 300)), "own.npz: cannot be read as a numpy archive of plain arrays"),
    "archive of other names": archive("must hold x_train and y_train; got images", x_train=None, y_train=None, images=ARRAYS["x_train"]),
    "archive without labels": archive("must hold x_train and y_train; got x_train", y_train=None),
    "archive of floats": archive("x_train must be uint8 [N, H, W] or [N, H, W, 1 or 3] with a label each; got float32 [8, 4, 4]", x_train=np.zeros((8, 4, 4), np.float32)),
    "archive of fewer labels": archive("with a label each; got uint8 [8, 4, 4] and 5 labels", y_train=np.zeros(5, int)),
    "archive of labels that are texts": archive("labels must be names of classes (a, b); got cat, dog", y_train=np.array(["cat", "dog"] * 4), class_names=np.array(["a", "b"])),
    "archive of labels with gaps": archive("0 to the number of classes - 1, without gaps; got 2 different ones from 0 to 1000000", y_train=np.array([0, 10**6] * 4)),
    "archive of labels below 0": archive("without gaps; got 2 different ones from -1 to 0", y_train=np.array([0, -1] * 4)),
    "archive of labels beyond 63 bits": archive("without gaps; got 2 different ones from -1 to 0", y_train=np.array([0, 2**64 - 1] * 4, np.uint64)),
    "archive of labels beyond its names": archive("train labels must be 0 to 1; got 2", y_train=np.array([0, 2] * 4), class_names=np.array(["a", "b"])),
    "archive of one class": archive("must have at least two classes; got 0", y_train=np.zeros(8, int)),
    "archive of names that are numbers twice": archive("class names must be different; got 1 more than once", class_names=np.array([1, 1])),
    "archive of images of four channels": archive("got uint8 [8, 4, 4, 4] and 8 labels", x_train=np.zeros((8, 4, 4, 4), np.uint8)),
    "archive of a single number": archive("x_train must be uint8", x_train=np.uint8(3)),
    "archive that says it is a terabyte": data("npz:own.npz", lambda work: zip_of(work, x_train=npy_header("(1000000, 1000, 1000)"), y_train=npy_header("(1000000,)", "<i8")), "own.npz: cannot be read as a numpy archive of plain arrays"),
    "archive with code in a header": data("npz:own.npz", lambda work: zip_of(work, x_train=npy_header("__import__('os').mkdir('exploded')"), y_train=b""), "own.npz: cannot be read as a numpy archive of plain arrays"),
    "archive of texts": data("npz:own.npz", lambda work: zip_of(work, x_train=b"hello", y_train=b"world"), "own.npz: cannot be read as a numpy archive of plain arrays"),
    "archive that unpacks to more than the memory": data("npz:own.npz", huge_archive, "own.npz: must fit into memory; it unpacks to 95,367,432 MiB, "),
    # --- Parquet ---
    "Parquet that is not there": data("parquet:hub", lambda _work: None, "parquet:hub must name a folder or file that exists"),
    "Parquet folder without files": data("parquet:hub", lambda work: (work / "hub").mkdir(), "must hold train*.parquet; got none"),
    "Parquet that is a text": data("parquet:own.parquet", lambda work: (work / "own.parquet").write_text("a,b\n1,2\n"), "own.parquet: cannot be read as Parquet"),
    "Parquet of no bytes": data("parquet:own.parquet", lambda work: (work / "own.parquet").write_bytes(b""), "own.parquet: cannot be read as Parquet"),
    "Parquet that is a pipe": data("parquet:hub", lambda work: ((work / "hub").mkdir(), os.mkfifo(work / "hub" / "train.parquet")), "hub/train.parquet: cannot be read as Parquet: it is a folder, a pipe or a link to nothing", is_real=True),
    "Parquet that is cut short": data("parquet:hub", lambda work: (_write_hub(work, ("a", "b"), {}), os.truncate(work / "hub" / "train.parquet", 900)), "train.parquet: cannot be read as Parquet"),
    "Parquet of other columns": parquet("train.parquet: must have the columns image (a struct of bytes and path, or a path) and label, or those that data.columns names; got image: int64, label: int64", image=[1] * 8),
    "Parquet of labels that are texts": parquet("labels must be names of classes (a, b); got cat, dog", label=["cat", "dog"] * 4),
    "Parquet of labels that lack": parquet("label must be a whole number or a text in every row; got int64 with 4 missing", label=[0, None] * 4),
    "Parquet of labels beyond its names": parquet("train labels must be 0 to 1; got 7", label=[0, 7] * 4),
    "Parquet of labels below 0": parquet("train labels must be 0 to 1; got -1", label=[0, -1] * 4),
    "Parquet of one class": parquet("must have at least two classes; got a", names=("a",), label=[0] * 8),
    "Parquet of images that lack": parquet("train.parquet: must hold the images; its rows hold paths such as '../../etc/passwd', and no such file lies below ", image=[{"bytes": None, "path": "../../etc/passwd"}] * 8),
    "Parquet of names that are the same": parquet("class names must be different; got a more than once", names=("a", "a")),
    # --- names of data sets ---
    "TensorFlow data set above its folder": data("tfds:../../etc", lambda _work: None, "tfds:../../etc must name a data set such as tfds:kmnist"),
    "TensorFlow data set from the root": data("tfds:/etc", lambda _work: None, "tfds:/etc must name a data set such as tfds:kmnist"),
    "staged copy that is not there": data("flowers", lambda _work: None, "folder:x must name a folder or file that exists", options="--data flowers=folder:x"),
    "staged copy of an unknown kind": data("flowers", lambda _work: None, "unknown data source 'foldr:'; did you mean 'folder:'?", options="--data flowers=foldr:x"),
    "staged copy without data": data("flowers", lambda work: (work / "x").mkdir(), "the staged copy of flowers must be Parquet files, one .npz, a table (.jsonl), a table (.csv) or class folders; x has none", options="--data flowers=x"),
    "folder of staged copies that is a file": data("digits", lambda _work: None, "TUNER_DATA must name folders that can be read; got right.yaml: Not a directory", environment={"TUNER_DATA": "right.yaml"}),
    "folder of staged copies that is not there": data("digits", lambda _work: None, "TUNER_DATA must name folders that can be read; got gone: No such file", environment={"TUNER_DATA": "gone"}),
    "cache that is a file": data("digits", lambda _work: None, "--cache (or TUNER_CACHE) must be a folder that can be read; ", "right.yaml is a file", options="--cache right.yaml"),
}  # fmt: skip
