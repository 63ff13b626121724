"""CIFAR-10 and CIFAR-100: from Parquet files, from torchvision's folder, or downloaded."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from torchvision import datasets

from search.data.images import RawImages, Split
from search.data.parquet import find_files, read_folder
from search.errors import UserError
from search.spec import DataSpec


def cifar10(spec: DataSpec) -> RawImages:
    """Return CIFAR-10. See :func:`_cifar`."""
    return _cifar(spec, datasets.CIFAR10, classes=10)


def cifar100(spec: DataSpec) -> RawImages:
    """Return CIFAR-100. See :func:`_cifar`."""
    return _cifar(spec, datasets.CIFAR100, classes=100)


def _cifar(spec: DataSpec, dataset: type[datasets.CIFAR10], *, classes: int) -> RawImages:
    """Return 50,000 training and 10,000 test images of 32 x 32 pixels in colour.

    Args:
        spec: ``path`` is a folder of train*.parquet and test*.parquet, or one that torchvision wrote; None downloads.
        dataset: torchvision's class.
        classes: Number of classes.

    Raises:
        UserError: If neither is there, or the download fails.
    """
    path = Path(spec.path) if spec.path is not None else cache_folder()
    if spec.path is not None and find_files(path, "train"):
        raw = read_folder(path, spec)
        return RawImages(raw.train, raw.test, classes, None, "crop_flip", raw.skipped)
    if spec.path is not None and not (path / dataset.base_folder).is_dir():
        problem = "does not exist" if not path.exists() else f"holds neither train*.parquet nor {dataset.base_folder}"
        raise UserError(f"data.path: {path} {problem}; data.path=null downloads {spec.name}")
    if spec.image_size not in {None, 32}:
        raise UserError(f"data.image_size={spec.image_size}: {spec.name} can be resized from Parquet files only")
    try:
        # These files are pickles; torchvision compares their checksums with the published ones before it reads them.
        train, test = (dataset(str(path), train=part, download=spec.path is None) for part in (True, False))
    except (OSError, RuntimeError) as error:
        raise UserError(
            f"data {spec.name!r}: cannot be {'downloaded to' if spec.path is None else 'read from'} {path} "
            f"({str(error).splitlines()[0]}); set data.path to a folder that has it"
        ) from error
    return RawImages(_split(train), _split(test), classes, tuple(train.classes), "crop_flip")


def _split(part: datasets.CIFAR10) -> Split:
    images = np.ascontiguousarray(part.data.transpose(0, 3, 1, 2))
    return Split(images, np.asarray(part.targets, dtype=np.int64))


def cache_folder() -> Path:
    """Return the folder that downloads go to, under ``$XDG_CACHE_HOME``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rps-search" / "data"
