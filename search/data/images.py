"""What a data set is here: whole arrays of uint8 images, split into training, validation and test."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from search.data.encoded import EncodedSplit


@dataclass(frozen=True)
class Split:
    """Images with their classes.

    Attributes:
        images: uint8, ``(N, C, H, W)``, contiguous. May be read-only (shared memory): nothing writes into it.
        labels: int64, ``(N,)``, each in ``[0, classes)``.
    """

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one image, ``(C, H, W)``."""
        channels, height, width = self.images.shape[1:]
        return channels, height, width

    def pixels(self, indices: np.ndarray) -> np.ndarray:
        """Return a copy of the images at ``indices`` without their labels."""
        return self.images[indices]

    def take(self, indices: np.ndarray) -> Split:
        """Return a copy of the images at ``indices``."""
        return Split(self.images[indices], self.labels[indices])


@dataclass(frozen=True)
class RawImages:
    """What a data set function returns: images as they were stored, before the validation split.

    A user's function may return the pair ``(train, test)`` of ``(images, labels)`` pairs instead.

    Attributes:
        train: Training images, validation included.
        test: Test images; None splits a fifth off the training images, the same fifth for every spec.
        classes: Number of classes; None counts them from the labels.
        class_names: Names of the classes in the order of their numbers, where known.
        usual_augment: What ``data.augment: auto`` means for this data: none, flip, crop or crop_flip.
        skipped: Names of the images that could not be decoded and were left out.
    """

    train: Split | EncodedSplit
    test: Split | EncodedSplit | None = None
    classes: int | None = None
    class_names: tuple[str, ...] | None = None
    usual_augment: str = "none"
    skipped: tuple[str, ...] = ()


@dataclass(frozen=True)
class ImageData:
    """A data set, split. Picklable; its arrays travel through shared memory without a copy.

    A part whose pixels would not fit memory is an ``EncodedSplit``, which trains on the very same batches, slower.

    Attributes:
        name: Name in the spec.
        classes: Number of classes.
        class_names: Names of the classes in the order of their numbers, where known.
        train: What trials train on.
        val: What the search looks at, held out of the training images.
        test: What the table reports, never seen by the search.
        mean: Mean of each channel of the training images, in units where white is 1.
        std: Standard deviation of each channel, in the same units, above 0.
        augment: Random changes of training images: none, flip, crop or crop_flip.
        skipped: Names of the images that could not be decoded and were left out.
    """

    name: str
    classes: int
    class_names: tuple[str, ...] | None
    train: Split | EncodedSplit
    val: Split | EncodedSplit
    test: Split | EncodedSplit
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augment: str
    skipped: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one image, ``(C, H, W)``."""
        return self.train.shape
