"""Folders of images: what lies in them, and which of it are splits and classes."""

from __future__ import annotations

import difflib
import os
import re
import stat
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from tuner.common.errors import DataError
from tuner.common.files import shown, user_path
from tuner.common.words import counted
from tuner.datasets.images import SUFFIXES
from tuner.datasets.sources import (
    PREFIXED,
    SPLITS,
    Listed,
    Listing,
    Source,
    first_names,
    split_of,
)


def existing(reference: str, kind: str) -> Path:
    """Return the path that a source names; raises DataError when nothing is there."""
    path = user_path(reference)
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError) as error:
        reason = (
            f"does not{_nearest_name(path)}"
            if isinstance(error, FileNotFoundError)
            else f"cannot be looked at: {error}"
        )
        raise DataError(
            f"{kind}:{reference} must name a folder or file that exists; {path.absolute()} {reason}"
        ) from None
    if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):  # it would be waited for without end
        raise DataError(f"{kind}:{reference} must name a folder or file; {path.absolute()} is a pipe or a device")
    return path


def _nearest_name(path: Path) -> str:
    """Return a question with the name beside a path that may have been meant, or with the part of it that is there."""
    try:
        if not path.parent.is_dir():
            there = next((str(parent) for parent in path.absolute().parents if parent.is_dir()), "/")
            return f"; of it, {there} does"
        names = {other.name.strip().casefold(): shown(Path(other.name)) for other in path.parent.iterdir()}
    except (OSError, ValueError):
        return ""
    nearest = difflib.get_close_matches(path.name.strip(" \"'").casefold(), names, n=1)
    return f"; did you mean {names[nearest[0]]!r}?" if nearest else ""


def file_identity(paths: Iterable[Path | str], root: Path) -> list[Any]:
    """Return JSON values that differ when a file has changed: names, sizes and times of change."""
    described: list[list[Any]] = []
    above = f"{root}{os.sep}"
    for path in paths:
        text = str(path)
        name = text[len(above) :] if text.startswith(above) else os.path.relpath(path, root)
        try:
            status = os.stat(text)  # noqa: PTH116  a path of each would take ten times as long
        except OSError:  # a link to nothing: a broken image, which is reported by its name when it is decoded
            described.append([name])
        else:
            described.append([name, status.st_size, status.st_mtime_ns])
    return [str(root.resolve()), described]


# --- what lies in a folder ---

_LITTER = re.compile(
    r"thumbs\.db.*|ehthumbs.*\.db|desktop\.ini|picasa\.ini|zbthumbnail\.info|icon\r|__?macosx|__pycache__|"
    r"@eadir|@recycle|@recently-snapshot|@sharebin|@tmp|#recycle|[#~]snapshot|_gsdata_|lost\+found|found\.\d{3}|"
    r"\$recycle\.bin|(?-i:RECYCLE[RD])|system volume information|network trash folder|temporary items",
    re.IGNORECASE,
)
"""What systems and programs leave behind under a name that is not hidden; `recycled` in small letters is a class."""
_HIDDEN_LITTER = re.compile(
    r"\.(_.*|trash.*|tmp.*|ipynb_checkpoints|git|svn|hg|dvc|cache|huggingface|venv|idea|vscode|thumbnails|@__thumb|"
    r"appledouble|spotlight-v100|fseventsd|temporaryitems|documentrevisions-v100|picasaoriginals|comments|xvpics|snapshots?|"
    r"recycle.*|thumbs?|stversions|stfolder|sync|zfs|dropbox.*|(pytest|mypy|ruff)_cache)",
    re.IGNORECASE,
)
"""Hidden folders that hold nothing of the user's own, though there may be copies of images in them."""


def is_litter(name: str) -> bool:
    """Return whether a file or folder is hidden, or left behind by a system: nothing of it is data."""
    return name.startswith(".") or _LITTER.fullmatch(name) is not None


@dataclass
class Tree:
    """The content of a folder: files of the wanted suffixes, folders, links to folders, and what else lies there."""

    path: str
    files: list[str] = field(default_factory=list)
    folders: dict[str, Tree] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    others: dict[str, list[str]] = field(default_factory=dict)
    """Paths of what is left out, by kind: a suffix, or the name of a hidden folder."""

    def below(self) -> Iterator[Tree]:
        """Yield the tree and every tree in it."""
        yield self
        for folder in self.folders.values():
            yield from folder.below()

    def all_files(self) -> list[Path]:
        """Return the wanted files at any depth, sorted."""
        return [Path(text) for text in self.all_names()]

    def all_names(self) -> list[str]:
        """Return the same as texts, of which there may be millions: a path takes ten times as long to make."""
        return sorted(file for tree in self.below() for file in tree.files)

    def inner_names(self) -> set[str]:
        """Return the names of the folders in it that hold wanted files, or may by links."""
        return {*self.holding(), *self.links}

    def holding(self) -> dict[str, Tree]:
        """Return the folders with wanted files at any depth, or links to folders."""
        return {
            name: folder
            for name, folder in self.folders.items()
            if any(tree.files or tree.links for tree in folder.below())
        }

    def innermost_names(self) -> set[str]:
        """Return the names in the folder, or in the one folder in it, and so on: `seg_train/seg_train/sea`."""
        names = self.inner_names()
        inner = self.folders.get(min(names)) if len(names) == 1 and not self.files else None
        return inner.innermost_names() if inner is not None and inner.inner_names() else names


def walk(folder: str | Path, suffixes: Sequence[str]) -> Tree:
    """Return what lies in a folder, but for what is hidden and litter.

    Links to folders are listed and not followed, or a loop of them would not end. The wanted files in a hidden folder
    that no program is known to leave behind are among what is left out: it may be the class `.NET`.
    """
    tree = Tree(str(folder))
    try:
        with os.scandir(folder) as opened:
            entries = sorted(opened, key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"{shown(Path(error.filename))}: cannot be read: {error.strerror}") from None
    for entry in entries:
        name, is_folder = entry.name, _is_folder(entry)
        suffix = name[name.rfind(".") :].lower() if "." in name else ""
        if is_litter(name):
            if is_folder and not _HIDDEN_LITTER.fullmatch(name) and not _LITTER.fullmatch(name):
                hidden = _hidden_files(entry, suffixes)
                tree.others.update({f"in the hidden folder {shown(Path(name))}": hidden} if hidden else {})
        elif is_folder and entry.is_symlink():
            tree.links[name] = entry.path
        elif is_folder:
            tree.folders[name] = walk(entry.path, suffixes)
        elif suffix in suffixes:
            tree.files.append(entry.path)
        else:
            tree.others.setdefault(shown(Path(suffix)) if suffix else "without a suffix", []).append(entry.path)
    return tree


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _hidden_files(entry: os.DirEntry[str], suffixes: Sequence[str]) -> list[str]:
    """Return the wanted files in a hidden folder, which may have its name: `.NET/.NET 1.png`."""
    names = (f"{where}/{name}" for where, _, files in os.walk(entry.path) for name in sorted(files) if name[:2] != "._")
    return [] if entry.is_symlink() else [name for name in names if name.lower().endswith(tuple(suffixes))]


def left_out(tree: Tree, loose: Sequence[str] = (), where: str = "") -> tuple[str, ...]:
    """Return a notice of what is not used: how many of each kind, and where the first lies; `loose` lie at `where`."""
    kinds: dict[str, list[str]] = {where: list(loose)} if loose else {}
    for folder in tree.below():
        for kind, paths in {**folder.others, "links": list(folder.links.values())}.items():
            kinds.setdefault(kind, []).extend(paths)
    words = [_kind_words(kind, paths, tree.path) for kind, paths in sorted(kinds.items()) if paths]
    return (f"{shown(Path(tree.path))}: not used: {'; '.join(words)}",) if words else ()


def _kind_words(kind: str, paths: Sequence[str], root: str) -> str:
    noun, rest = ("link", " to folders") if kind == "links" else ("file", f" {kind}")
    words = counted(len(paths), f"{kind} file") if kind[0] == "." else f"{counted(len(paths), noun)}{rest}"
    return f"{words} ({shown(Path(os.path.relpath(paths[0], root)))}{', ...' * (len(paths) > 1)})"


# --- folders of images ---

ClassFolders = dict[str, list[Tree]]
"""By the name of the class; two folders are one class where their names differ in how accents are written."""
_IMAGES = r"images?|imgs?|jpe?gs?|pngs?|jpegimages|pictures?"
_UNLABELLED = re.compile(rf"unknown|unlabell?ed|no_?labels?|all|data|{_IMAGES}", re.IGNORECASE)
_NO_CLASS = re.compile(rf"{_IMAGES}|(raw|original)_({_IMAGES})|un_?labell?ed(_({_IMAGES}|data))?", re.IGNORECASE)
"""Names of what lies in a folder, whatever it shows."""
_ASIDE = re.compile(
    rf"{_NO_CLASS.pattern}|annotations?|labels?|masks?|segmentations?|segmaps?|trimaps?|ground_?truths?|bound(ing)?_?box(es)?|"
    r"(.*[^a-z])?(part|fold|batch|chunk|shard|split|subset|images?|imgs?)[ _-]*\d+",
    re.IGNORECASE,
)
"""Names of what belongs to images, and of numbered parts: they are no classes where all names are such."""
_COPY = re.compile(r"( - copy( \(\d+\))?|[ _]copy( ?\d+)?| ?\(\d+\))", re.IGNORECASE)
"""What a system adds to the name of a copy."""
_OTHER_PICTURES = (
    *(
        ".heic",
        ".heif",
        ".avif",
        ".jxl",
        ".svg",
        ".jp2",
        ".dcm",
        ".dicom",
        ".nef",
        ".cr2",
        ".arw",
        ".dng",
        ".raw",
        ".psd",
    ),
    *(".tga", ".eps", ".exr", ".hdr", ".ico", ".mp4", ".avi", ".mov", ".mkv", ".webm", ".nii"),
)
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst")
_SURELY_CLASSES = 10
"""So many folders that are not named after a split are classes, whatever those beside them are called."""


def _find_images(reference: str, layout: str) -> tuple[Path, dict[str, dict[str, list[str]]], tuple[str, ...]]:
    """Return the folder, the images of each split by class, and notices of what may not be expected."""
    root = existing(reference, "folder")
    if not root.is_dir():
        unpack = ": unpack it" if root.suffix.lower() in ARCHIVES else ""
        raise DataError(f"folder:{reference} must be a folder of class folders; {root.absolute()} is a file{unpack}")
    whole = walk(root, SUFFIXES)
    tree = _unwrapped(whole)
    notices = [] if tree is whole else [f"{shown(root)}: read from the one folder in it, {shown(Path(tree.path))}"]
    if above := _split_folders(tree, layout):
        splits = _classes_in_splits(above, layout)
        words = [f"{_shown_name(name)} ({split})" for split, (name, _) in above.items()]
        is_plain = all(name.lower() in SPLITS[split] for split, (name, _) in above.items())
        notices += [] if is_plain else [f"{shown(root)}: read as splits: {', '.join(words)}"]
    elif _has_inner_splits(tree, layout):
        splits = _splits_in_classes(tree)
        notices.append(f"{shown(root)}: read as splits in each class folder: {', '.join(splits)}")
    else:
        _check_classes(tree, layout)
        splits = {"train": {} if _is_unlabelled(tree) else _by_class(tree.folders)}
    if len(splits["train"]) < 2:
        raise _too_few_classes(tree, splits["train"])
    return root, *_used(whole, splits, notices)


def _used(
    whole: Tree, splits: Mapping[str, ClassFolders], notices: Sequence[str]
) -> tuple[dict[str, dict[str, list[str]]], tuple[str, ...]]:
    """Return the images of each split by class, and the notices with what is not used."""
    found: dict[str, dict[str, list[str]]] = {}
    more: list[str] = []
    for split, classes in splits.items():
        images = {name: [file for tree in trees for file in tree.all_names()] for name, trees in classes.items()}
        empty = [trees[0].path for name, trees in classes.items() if not images[name]]
        if empty and split == "train":
            raise DataError(
                f"{shown(Path(empty[0]))}: a class folder must hold images ({', '.join(SUFFIXES)}); it holds none"
            )
        found[split] = {name: files for name, files in images.items() if files}
        lacking = [name for name in found["train"] if name not in found[split]]
        more += [f"{shown(Path(whole.path))}: {split} has no image of {first_names(lacking)}"] if lacking else []
    trees = [tree for classes in splits.values() for each in classes.values() for tree in each]
    used = {id(below) for tree in trees for below in tree.below()}
    loose = [file for folder in whole.below() if id(folder) not in used for file in folder.files]
    return found, (*notices, *more, *left_out(whole, loose, "outside the class folders"))


def _shown_name(name: str) -> str:
    """Return a name as text, the same whether its accents are composed (Linux) or not (macOS)."""
    return unicodedata.normalize("NFC", shown(Path(name)))


def _follow(tree: Tree) -> Tree:
    """Return a folder of class or split folders with its links followed: such a folder may be a link."""
    for name, link in tree.links.items():
        if Path(tree.path).resolve().is_relative_to(Path(link).resolve()):
            raise DataError(f"{shown(Path(link))}: a class folder must not be a link to a folder that holds it")
        tree.folders[name] = walk(link, SUFFIXES)
    tree.links, tree.folders = {}, dict(sorted(tree.folders.items()))
    return tree


def _unwrapped(tree: Tree, *, is_split: bool = False) -> Tree:
    """Return the folder in which class or split folders lie: one that stands alone may be wrapped around them."""
    while len(held := _follow(tree).holding()) == 1 and not tree.files:
        ((name, inner),) = held.items()
        within = inner.inner_names()
        are_splits = all(split_of(each) for each in within)
        others = [folder for folder in tree.folders.values() if folder is not inner]
        if not within or (
            not are_splits and ((split_of(name) and not is_split) or not all(map(_has_no_pictures, others)))
        ):
            break
        tree = inner
    return tree


def _has_no_pictures(tree: Tree) -> bool:
    """Return whether a folder without images holds other files: annotations, lists. An empty one may be a class."""
    kinds = {kind for folder in tree.below() for kind in folder.others}
    return bool(kinds) and not kinds & set(_OTHER_PICTURES)


# --- splits and classes told apart ---


def _split_folders(tree: Tree, layout: str) -> dict[str, tuple[str, Tree]]:
    """Return name and folder of each split; none where the folders are classes.

    Raises:
        DataError: they may be either, or two are named after one split.
    """
    held = tree.holding()
    splits = {name: split for name in held if (split := split_of(name))}
    others = [name for name in held if name not in splits]
    if layout == "classes" or not splits or (layout == "auto" and not _are_splits(tree, splits, others)):
        return {}
    found: dict[str, tuple[str, Tree]] = {}
    for split, words in SPLITS.items():
        names = [name for name in splits if splits[name] == split]
        names = [name for name in names if name.lower() in words] or names
        if split == "train" and not names and len(others) == 1:
            names = others
        if len(names) > 1:
            raise _ambiguous(tree, f"{first_names(names)} are all named after the {split} split (keep one of them)")
        found.update({split: (names[0], held[names[0]])} if names else {})
    if "train" not in found:
        raise DataError(f"{shown(Path(tree.path))}: must hold a folder train beside {first_names(list(splits))}")
    return found


def _are_splits(tree: Tree, splits: Mapping[str, str], others: Sequence[str]) -> bool:
    """Return whether folders that are named after splits are some; raises DataError where they may be classes."""
    inner = {split: tree.folders[name].innermost_names() for name, split in splits.items()}
    of_train = inner.get("train", set())
    if not others or (len(of_train) > 1 and len(inner) > 1):
        return True
    if any(of_train & names for split, names in inner.items() if split != "train"):
        return True
    if not any(inner.values()) and len(others) >= (2 if len(inner) == 1 else _SURELY_CLASSES):
        return False
    raise _ambiguous(tree, f"{first_names(list(splits))} may be named after a split, beside {first_names(others)}")


def _has_inner_splits(tree: Tree, layout: str) -> bool:
    """Return whether every class folder holds split folders; raises DataError where they may be something else."""
    inner = {name: folder.inner_names() for name, folder in tree.holding().items()}
    splits = [{split for split in map(split_of, names) if split} for names in inner.values()]
    if layout == "splits" and not any(splits):
        raise DataError(f"{shown(Path(tree.path))}: data.layout is splits; no folder is named after train, val or test")
    if layout != "auto":
        return layout == "splits"
    if any(len(found) > 1 for found in splits) or (splits and all(splits)):
        is_clean = all(len(found) == len(names) for found, names in zip(splits, inner.values(), strict=True))
        if (
            is_clean
            and all("train" in found for found in splits)
            and not any(tree.folders[name].files for name in inner)
        ):
            return True
        raise _ambiguous(tree, f"folders of {first_names(list(inner))} may be named after splits")
    return False


def _ambiguous(tree: Tree, words: str) -> DataError:
    return DataError(
        f"{shown(Path(tree.path))}: {words}; set data.layout to classes if each folder is a class, to splits if not"
    )


def _check_classes(tree: Tree, layout: str, way_out: str = "") -> None:
    """Raise DataError where the folders beside each other may be no classes, but for what the file says of them."""
    if layout == "auto" and (words := _doubt(tree.holding())):
        way_out = way_out or (
            "name the one to read, rename splits to train, val and test, or set data.layout to classes if each folder "
            "is a class"
        )
        raise DataError(f"{shown(Path(tree.path))}: {words}; {way_out}")


def _doubt(folders: Mapping[str, Tree]) -> str:
    """Return why folders may be no classes (copies, parts of one data set, several data sets); empty: they are."""
    inner = {name: folder.innermost_names() for name, folder in folders.items()}
    several = {name: names for name, names in inner.items() if len(names) > 1}
    for name, names in inner.items():
        same = [each for each in sorted(names) if each in inner and each != name]
        if len(same) > 1 or (same and len(inner) == 2):
            return f"{_shown_name(name)} holds {first_names(same)}, as the folder around it: it may be a copy"
        if (copied := _COPY.sub("", name)) != name and copied in inner:
            return f"{_shown_name(name)} may be a copy of {_shown_name(copied)}"
        if any(len({split_of(each) for each in below.inner_names()} - {None}) > 1 for below in folders[name].below()):
            return f"folders in {_shown_name(name)} may be named after splits: it may be a data set of its own"
    for (name, names), (other, others) in combinations(several.items(), 2):
        if len(shared := names & others) > 1:
            both = f"{_shown_name(name)}, {_shown_name(other)}"
            return f"{both} both hold {first_names(sorted(shared))}: they may be parts of one data set"
    aside = list(filter(_ASIDE.fullmatch, folders)) if all(map(_ASIDE.fullmatch, folders)) else []
    if len(folders) > 1 and (named := aside or list(filter(_NO_CLASS.fullmatch, folders))):
        return f"{first_names(map(_shown_name, named))} may be no classes, by their names"
    return ""


def _by_class(folders: Mapping[str, Tree]) -> ClassFolders:
    found: ClassFolders = {}
    for name, folder in folders.items():
        found.setdefault(_shown_name(name), []).append(folder)
    return dict(sorted(found.items()))


def _is_unlabelled(tree: Tree) -> bool:
    """Return whether the images in a folder are without labels: beside no class folder, or all in `images`."""
    held = list(tree.holding())
    return not held or (len(held) == 1 and bool(split_of(held[0]) or _UNLABELLED.fullmatch(held[0])))


def _classes_in_splits(folders: Mapping[str, tuple[str, Tree]], layout: str) -> dict[str, ClassFolders]:
    """Return the class folders of each split but for one, other than train, whose images are without labels."""
    found: dict[str, ClassFolders] = {}
    for split, (_, folder) in folders.items():
        inner = _unwrapped(folder, is_split=True)
        classes, is_unlabelled = _by_class(inner.folders), _is_unlabelled(inner)
        if split == "train" and (is_unlabelled or len(classes) < 2):
            names = first_names(_shown_name(name) for name, _ in folders.values())
            way_out = f"; set data.layout to classes if {names} {'are classes' if len(folders) > 1 else 'is a class'}"
            raise _too_few_classes(folder, [] if is_unlabelled else classes, way_out)
        _check_classes(inner, layout, "name one folder to read, or set data.layout to splits if each is a class")
        if not is_unlabelled or set(_by_class(inner.holding())) & set(found.get("train", ())):
            found[split] = classes
    return found


def _splits_in_classes(tree: Tree) -> dict[str, ClassFolders]:
    found: dict[str, ClassFolders] = {}
    for name, folder in tree.holding().items():
        for inner, images in _follow(folder).folders.items():
            if split := split_of(inner):
                found.setdefault(split, {}).setdefault(_shown_name(name), []).append(images)
    return {split: found.get(split, {}) for split in SPLITS if split in found or split == "train"}


def _too_few_classes(tree: Tree, classes: Iterable[str], way_out: str = "") -> DataError:
    number = sum(len(folder.files) for folder in tree.below())
    words = f"{number:,} images lie there without class folders; labels in tables are read by csv:FILE, in names not"
    return DataError(
        f"{shown(Path(tree.path))}: must have at least two classes; got {first_names(list(classes)) or 'none'}"
        + (f": {words}" if number and not classes else "")
        + (way_out if number else "")
    )


def _read_folder(reference: str, layout: str) -> Listing:
    """Return the images of class folders, which may lie below folders of splits, or hold them."""
    root, found, notices = _find_images(reference, layout)
    names = tuple(found["train"])
    splits: dict[str, Listed] = {}
    for split, classes in found.items():
        unknown = [name for name in classes if name not in names]
        if unknown:
            raise DataError(
                f"{shown(root)}: the classes of {split} must be among those of the training images "
                f"({first_names(names)}); got {first_names(unknown)}"
            )
        splits[split] = _listed(classes, names)
    return Listing(names, splits, notices)


def _listed(classes: Mapping[str, Sequence[str]], names: tuple[str, ...]) -> Listed:
    files = [Path(file) for images in classes.values() for file in images]
    numbers = [names.index(name) for name in classes]
    labels = np.repeat(np.array(numbers, dtype=np.int64), [len(images) for images in classes.values()])
    return Listed(labels, None, files, lambda row: shown(files[row]))


def _folder_identity(reference: str, layout: str) -> Any:
    path = existing(reference, "folder")
    # Notices name the folder: by one path, or the same folder would be another one from elsewhere.
    try:
        root, found, notices = _find_images(str(path.resolve()) if path.is_dir() else reference, layout)
    except DataError:
        _find_images(reference, layout)  # what is wrong is told of the path that the user has given
        raise
    files = [file for classes in found.values() for images in classes.values() for file in images]
    numbers = {split: {name: len(images) for name, images in classes.items()} for split, classes in found.items()}
    return [file_identity(files, root), numbers, notices]


def not_hidden(folder: Path) -> list[Path]:
    """Return what lies in a folder, but for what is hidden and litter; nothing for a file."""
    return [path for path in folder.iterdir() if not is_litter(path.name)] if folder.is_dir() else []


def _staged_folder(path: Path) -> Path | None:
    return path if any(child.is_dir() for child in not_hidden(path)) else None


def _folder_source(layout: str) -> Source:
    return Source(
        lambda reference: _folder_identity(reference, layout),
        lambda reference: _read_folder(reference, layout),
        True,
        SUFFIXES,
        "class folders",
        _staged_folder,
        _folder_source,
        unlabelled=_unlabelled,
    )


def _unlabelled(reference: str) -> list[Listed]:
    """Return all images in a folder and below, however it is arranged."""
    images = walk(existing(reference, "folder"), SUFFIXES).all_files()
    return [Listed(np.full(len(images), -1), None, images, lambda row: shown(images[row]))]


PREFIXED.add("folder", _folder_source("auto"))
