"""Images in folders, one folder for each class."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from search.data.decode import Encoded
from search.data.encoded import EncodedSplit
from search.data.images import RawImages, Split
from search.data.reading import read_split
from search.errors import UserError
from search.spec import DataSpec

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
TINY_IMAGENET = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"


def image_folder(spec: DataSpec) -> RawImages:
    """Read ``<class>/*`` folders, or ``train/<class>/*`` with ``test/<class>/*`` or ``val/<class>/*``.

    A ``val`` folder serves as test part where there is no ``test`` folder, as in ImageNet: the search's validation
    images always come out of the training images.

    Raises:
        UserError: If the folder does not exist or holds no images in class folders.
    """
    root = _root(spec, "the folder that holds a folder of images for each class")
    train = root / "train" if (root / "train").is_dir() else root
    names = _class_names(train)
    test = next((root / part for part in ("test", "val") if train != root and (root / part).is_dir()), None)
    files = _class_files(train, names)
    test_files = None if test is None else _class_files(test, names)
    present = {label for _, label in files}
    empty = [name for label, name in enumerate(names) if label not in present]
    if empty:
        raise UserError(f"data.path: {train}: the folder {empty[0]!r} holds no images ({', '.join(sorted(SUFFIXES))})")
    return _read(root, files, test_files, names, spec, "none")


def tiny_imagenet(spec: DataSpec) -> RawImages:
    """Read Tiny ImageNet (200 classes, 64 x 64 pixels) as unpacked; its ``val`` images are the test part.

    Its own test images have no labels.

    Raises:
        UserError: If the folder does not exist or does not hold it.
    """
    root = _root(spec, f"the folder tiny-imagenet-200, unpacked from {TINY_IMAGENET}")
    annotations = root / "val" / "val_annotations.txt"
    if not (root / "train").is_dir() or not annotations.is_file():
        raise UserError(
            f"data.path: {root} does not hold train/ and val/val_annotations.txt; unpack {TINY_IMAGENET} there"
        )
    names = _class_names(root / "train")
    number = {name: label for label, name in enumerate(names)}
    rows = [line.split("\t") for line in annotations.read_text(encoding="utf-8").splitlines() if line]
    wrong = next((row for row in rows if len(row) < 2 or row[1] not in number), None)
    if wrong is not None:
        raise UserError(f"{annotations}: each line is a file name, a tab and a class folder of train/, but got {wrong}")
    test = [(root / "val" / "images" / row[0], number[row[1]]) for row in rows]
    return _read(root, _class_files(root / "train", names), test, names, spec, "crop_flip")


def _root(spec: DataSpec, what: str) -> Path:
    if spec.path is None:
        raise UserError(f"data.path: name {what}")
    root = Path(spec.path)
    if not root.is_dir():
        raise UserError(f"data.path: {root} {'is not a folder' if root.exists() else 'does not exist'}; name {what}")
    return root


def _class_names(folder: Path) -> tuple[str, ...]:
    names = _folders(folder)
    if not names:
        raise UserError(f"data.path: {folder} must hold a folder of images for each class, but holds no folders")
    return tuple(names)


def _folders(folder: Path) -> list[str]:
    """Return the names of the folders in a folder, but hidden ones (``.ipynb_checkpoints``), sorted."""
    return sorted(child.name for child in folder.iterdir() if child.is_dir() and not child.name.startswith("."))


def _hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _class_files(folder: Path, names: tuple[str, ...]) -> list[tuple[Path, int]]:
    """Return every image below the class folders with its class, in the order of the paths; none that is hidden."""
    for name in _folders(folder):
        if name not in names:
            raise UserError(f"data.path: {folder} holds the folder {name!r}, but no training image has that class")
    files = []
    for label, name in enumerate(names):
        inside = sorted((folder / name).rglob("*"))
        files += [(path, label) for path in inside if path.suffix.lower() in SUFFIXES and not _hidden(path, folder)]
    if not files:
        raise UserError(f"data.path: the folders of {folder} hold no images ({', '.join(sorted(SUFFIXES))})")
    return files


def _read(
    root: Path,
    train: list[tuple[Path, int]],
    test: list[tuple[Path, int]] | None,
    names: tuple[str, ...],
    spec: DataSpec,
    usual_augment: str,
) -> RawImages:
    train_split, skipped = _decode(root, train, spec)
    if test is None:
        return RawImages(train_split, None, len(names), names, usual_augment, skipped)
    test_split, more = _decode(root, test, spec)
    return RawImages(train_split, test_split, len(names), names, usual_augment, skipped + more)


def _decode(root: Path, files: list[tuple[Path, int]], spec: DataSpec) -> tuple[Split | EncodedSplit, tuple[str, ...]]:
    sources = [Encoded(str(path.relative_to(root)), path.absolute()) for path, _ in files]
    return read_split(sources, np.array([label for _, label in files], dtype=np.int64), spec)
