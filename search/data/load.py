"""From a data spec to split, checked images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from search.data.encoded import EncodedSplit
from search.data.images import ImageData, RawImages, Split
from search.data.splits import balanced, channel_statistics, long_tailed, stratified
from search.errors import UserError
from search.registry import DATASETS, resolve
from search.spec import DataSpec

AnySplit: TypeAlias = Split | EncodedSplit

# Sets without a test file give up the same fifth whatever the spec says, so that results stay comparable.
TEST_FRACTION = 0.2
TEST_SEED = 20
# An even choice of this many gives the mean to 1 % of the std; only images that stay encoded are not all looked at.
MOST_DECODED_FOR_STATISTICS = 10_000


def load_dataset(spec: DataSpec) -> ImageData:
    """Read, decode and split the data set of a spec.

    The test part is the data set's own test file, else a fixed stratified fifth. Validation is a stratified share
    of the training images, chosen by ``spec.split_seed``; ``spec.train_limit`` then cuts the rest to a
    class-balanced choice, and ``spec.imbalance_factor`` to a long-tailed one. ``spec.test_limit`` cuts the test part to
    a class-balanced choice that is the same for every spec.

    Args:
        spec: Which images. A ``package.module:function`` is called with the spec and returns :class:`RawImages`, the
            pair ``(train, test)`` of ``(images, labels)`` pairs (``test`` may be None), or a finished
            :class:`ImageData`, which is taken as it is.

    Raises:
        UserError: If the data is not there, cannot be read, or contradicts itself or the spec.
    """
    raw = _call(resolve("data set", spec.name, DATASETS), spec)
    if isinstance(raw, ImageData):
        return raw
    raw = _as_raw(raw, spec.name)
    classes = _classes(raw, spec.name)
    train, test = raw.train, raw.test
    if test is None:
        chosen, rest = stratified(train.labels, round(len(train) * TEST_FRACTION), TEST_SEED)
        if not len(chosen):
            raise UserError(f"data {spec.name!r}: {len(train)} images are too few to split a test part off")
        train, test = train.take(rest), train.take(chosen)
    if test.shape != train.shape:
        raise UserError(
            f"data {spec.name!r}: training images have shape {train.shape} and test images {test.shape} "
            f"(channels, height, width); set data.image_size"
        )
    train, val = _hold_out(train, spec, classes)
    if spec.test_limit is not None:
        _check_limit("test_limit", spec.test_limit, classes)
        test = test.take(balanced(test.labels, spec.test_limit, TEST_SEED))
    sample = np.linspace(0, len(train) - 1, min(len(train), MOST_DECODED_FOR_STATISTICS)).astype(np.int64)
    mean, std = channel_statistics(train.images if isinstance(train, Split) else train.pixels(sample))
    augment = raw.usual_augment if spec.augment == "auto" else spec.augment
    return ImageData(spec.name, classes, raw.class_names, train, val, test, mean, std, augment, raw.skipped)


def _call(function: Callable[[DataSpec], Any], spec: DataSpec) -> Any:
    """Call a data set function; what goes wrong in a user's own is theirs to hear about in one line."""
    try:
        return function(spec)
    except Exception as error:
        if spec.name in DATASETS and isinstance(error, OSError):
            why = f"{error.strerror or error}: {error.filename!r}"
            raise UserError(f"data {spec.name!r}: cannot be read ({why})") from error
        if spec.name in DATASETS or isinstance(error, UserError):
            raise
        what = next(iter(str(error).splitlines()), "")
        raise UserError(f"data {spec.name!r}: the function failed with {type(error).__name__}: {what}") from error


def _hold_out(train: AnySplit, spec: DataSpec, classes: int) -> tuple[AnySplit, AnySplit]:
    """Split validation off, and thin out what is left to train on."""
    held_out = round(len(train) * spec.val_fraction)
    if not 0 < held_out < len(train):
        raise UserError(
            f"data.val_fraction={spec.val_fraction:g} leaves {len(train) - held_out} images to train on and {held_out} "
            f"to validate on, of {len(train)}; both need one at least"
        )
    chosen, rest = stratified(train.labels, held_out, spec.split_seed)
    return train.take(rest[_thinned(train.labels[rest], spec, classes)]), train.take(chosen)


def _thinned(labels: np.ndarray, spec: DataSpec, classes: int) -> np.ndarray:
    """Return the indices of the images that ``train_limit`` and ``imbalance_factor`` leave to train on."""
    if spec.train_limit is not None:
        _check_limit("train_limit", spec.train_limit, classes)
    if spec.imbalance_factor is not None:
        try:
            return long_tailed(labels, classes, spec.imbalance_factor, limit=spec.train_limit, seed=spec.split_seed)
        except ValueError as error:
            raise UserError(f"data.imbalance_factor={spec.imbalance_factor:g} is too large here: {error}") from error
    return balanced(labels, len(labels) if spec.train_limit is None else spec.train_limit, spec.split_seed)


def _check_limit(field: str, limit: int, classes: int) -> None:
    if limit < classes:
        raise UserError(f"data.{field}={limit} is less than one image for each of {classes} classes")


def _as_raw(returned: Any, name: str) -> RawImages:
    """Accept what a data set function returned, its arrays made uint8 and int64, contiguous and four-dimensional."""
    if isinstance(returned, tuple) and len(returned) == 2:
        train, test = returned
        returned = RawImages(_pair(train, name), None if test is None else _pair(test, name))
    if not isinstance(returned, RawImages):
        raise UserError(
            f"data {name!r}: the function must return search.data.RawImages or ((images, labels), (images, labels)), "
            f"not {type(returned).__name__}"
        )
    return replace(
        returned,
        train=_checked(returned.train, name, "training"),
        test=None if returned.test is None else _checked(returned.test, name, "test"),
    )


def _pair(part: Any, name: str) -> Split:
    if isinstance(part, tuple | list) and len(part) == 2:
        try:
            return Split(np.asarray(part[0]), np.asarray(part[1]))
        except ValueError as error:  # rows of different lengths
            raise UserError(f"data {name!r}: images and labels must be arrays ({error})") from error
    raise UserError(f"data {name!r}: each part must be a pair (images, labels), not {type(part).__name__}")


def _checked(split: AnySplit, name: str, part: str) -> AnySplit:
    if isinstance(split, EncodedSplit):
        return split
    images, labels = split.images, split.labels
    if images.dtype != np.uint8 or images.ndim != 4 or 0 in images.shape:
        raise UserError(
            f"data {name!r}: {part} images must be uint8 of shape (N, channels, height, width), "
            f"but are {images.dtype} of shape {images.shape}"
        )
    if labels.shape != images.shape[:1]:
        raise UserError(
            f"data {name!r}: each {part} image needs one label, but there are {len(images)} images and "
            f"labels of shape {labels.shape}"
        )
    if not np.issubdtype(labels.dtype, np.integer):
        raise UserError(f"data {name!r}: {part} labels must be integers, but are {labels.dtype}")
    return Split(np.ascontiguousarray(images), np.ascontiguousarray(labels, dtype=np.int64))


def _classes(raw: RawImages, name: str) -> int:
    """Return the number of classes, after checking every label against it."""
    parts = [("training", raw.train)] + ([("test", raw.test)] if raw.test is not None else [])
    counted = raw.classes is None
    # Counted from the training images: a class that only test images have could never be learnt.
    classes = raw.classes if raw.classes is not None else max(int(raw.train.labels.max()), 0) + 1
    for title, part in parts:
        wrong = np.flatnonzero((part.labels < 0) | (part.labels >= classes))
        if len(wrong):
            raise UserError(
                f"data {name!r}: labels are whole numbers from 0 to {classes - 1}, but {title} image {wrong[0]} has "
                f"{part.labels[wrong[0]]} ({len(wrong)} such)"
            )
    if counted and (found := len(present := np.unique(raw.train.labels))) < classes:
        gap = int(np.flatnonzero(present != np.arange(found))[0])
        raise UserError(
            f"data {name!r}: labels are whole numbers from 0 on without gaps, but the {found} that training images "
            f"have reach to {classes - 1} and {gap} is not among them: number the classes 0 to {found - 1}"
        )
    if len(raw.train) < classes:
        raise UserError(f"data {name!r}: {len(raw.train)} training images are fewer than the {classes} classes")
    if classes < 2:
        raise UserError(f"data {name!r}: at least 2 classes are needed, but every label is 0")
    return classes
