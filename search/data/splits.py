"""Seeded choices of images that respect the classes, and channel statistics."""

from __future__ import annotations

import numpy as np

STATISTICS_CHUNK = 2048


def stratified(labels: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Choose ``count`` images so that every class gives the same share of its images, to within one image.

    Args:
        labels: Class of each image, ``(N,)``.
        count: Images to choose, ``0 <= count <= N``.
        seed: Seed of the choice.

    Returns:
        Ascending indices of the chosen images and of the others.
    """
    rank, size, chance = _ranks(labels, seed)
    chosen, rest = _first(np.lexsort((chance, (rank + 0.5) / size)), count)
    classes, which, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    got = np.bincount(which[chosen], minlength=len(classes))
    if np.all(abs(got * len(labels) - sizes * count) <= len(labels)):
        return chosen, rest
    # Many classes that are too small for one image leave all to the others: here the largest remainders decide.
    kept, remainder = np.divmod(sizes * count, len(labels))
    firsts = chance[rank == 0][np.argsort(labels[rank == 0])]
    kept[np.lexsort((firsts, -remainder))[: count - kept.sum()]] += 1
    inside = rank < kept[which]
    return np.flatnonzero(inside), np.flatnonzero(~inside)


def balanced(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Choose ``count`` images, as many of each class as of every other as far as the classes reach.

    Args:
        labels: Class of each image, ``(N,)``.
        count: Images to choose, ``0 <= count <= N``.
        seed: Seed of the choice.

    Returns:
        Ascending indices of the chosen images.
    """
    rank, _, chance = _ranks(labels, seed)
    return _first(np.lexsort((chance, rank)), count)[0]


def long_tailed(
    labels: np.ndarray, classes: int, imbalance_factor: float, *, limit: int | None = None, seed: int
) -> np.ndarray:
    """Choose images so that class k keeps ``n_max * imbalance_factor ** (-k / (classes - 1))`` of them.

    The long-tailed protocol of arXiv:1901.05555: class 0 is the largest, the last class the smallest. ``n_max`` is as
    large as the images of every class and the limit allow.

    Args:
        labels: Class of each image, ``(N,)``, each below ``classes``.
        classes: Number of classes, at least 2.
        imbalance_factor: Largest class / smallest class, at least 1.
        limit: Most images to choose in all; None for as many as there are.
        seed: Seed of the choice within each class.

    Returns:
        Ascending indices of the chosen images.

    Raises:
        ValueError: If a class would be empty.
    """
    shares = imbalance_factor ** (-np.arange(classes) / (classes - 1))
    available = np.bincount(labels, minlength=classes)
    largest = min((available / shares).min(), np.inf if limit is None else limit / shares.sum())
    # A hair is added so that 500 * 0.01 keeps 5 whatever the rounding of the product.
    counts = np.floor(largest * shares + 1e-9).astype(np.int64)
    if not counts.all():
        raise ValueError(f"class {np.argmin(counts)} would keep no image, for the largest class keeps {counts.max()}")
    rank, _, _ = _ranks(labels, seed)
    return np.flatnonzero(rank < counts[labels])


def _ranks(labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return each image's place in a random order of its class, the size of its class, and its random number."""
    chance = np.random.default_rng(seed).random(len(labels))
    order = np.lexsort((chance, labels))
    _, start, size = np.unique(labels[order], return_index=True, return_counts=True)
    rank = np.empty(len(labels), dtype=np.int64)
    sizes = np.empty(len(labels), dtype=np.int64)
    rank[order] = np.arange(len(labels)) - np.repeat(start, size)
    sizes[order] = np.repeat(size, size)
    return rank, sizes, chance


def _first(order: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    return np.sort(order[:count]), np.sort(order[count:])


def channel_statistics(images: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the mean and the standard deviation of each channel, in units where 255 is 1.

    Args:
        images: uint8, ``(N, C, H, W)``, at least one.

    Returns:
        Mean and std, a float a channel. The std of a constant channel is given as 1 / 255, so that it can divide.
    """
    counts = np.zeros((images.shape[1], 256), dtype=np.int64)
    for start in range(0, len(images), STATISTICS_CHUNK):
        for channel, count in enumerate(counts):
            count += np.bincount(images[start : start + STATISTICS_CHUNK, channel].ravel(), minlength=256)
    levels = np.arange(256) / 255
    share = counts / counts.sum(axis=1, keepdims=True)
    mean = share @ levels
    std = np.sqrt(np.maximum((share * (levels - mean[:, None]) ** 2).sum(axis=1), 0))
    return tuple(mean.tolist()), tuple(np.maximum(std, 1 / 255).tolist())
