"""Integer hashes of (seed, stream, position): the same on every device, platform and library version.

A saved model is psi and a seed, so these functions are part of the file format: golden values in the tests guard
them. They are splitmix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014)
evaluated at a counter. All arithmetic is on unsigned 64-bit integers, which wrap by definition; every position in
[0, 2**63) is valid.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15
_STREAM = 0xD1B54A32D192ED03


def _mix(z: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def hash64(seed: int, stream: int, positions: npt.NDArray[Any]) -> npt.NDArray[np.uint64]:
    """Return a 64-bit hash of each position.

    Args:
        seed: Any integer in [0, 2**63).
        stream: What the hash is for (offsets, signs, ...), in [0, 2**31): streams are independent of each other.
        positions: Integers in [0, 2**63), any shape.

    Returns:
        Unsigned 64-bit hashes in the shape of ``positions``.
    """
    start = _mix(np.array([(seed * _GOLDEN + (stream + 1) * _STREAM) & _MASK], dtype=np.uint64))
    counters = np.asarray(positions).astype(np.uint64)
    return _mix(_mix(counters * np.uint64(_GOLDEN) + start) + start)


def hash_below(bound: int, seed: int, stream: int, positions: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Return a hash of each position in [0, bound), uniform up to ``bound / 2**64``; ``1 <= bound < 2**63``."""
    return (hash64(seed, stream, positions) % np.uint64(bound)).astype(np.int64)


def hash_sign(seed: int, stream: int, positions: npt.NDArray[Any]) -> npt.NDArray[np.int8]:
    """Return a hash of each position in {-1, +1}."""
    return (1 - 2 * (hash64(seed, stream, positions) >> np.uint64(63)).astype(np.int8)).astype(np.int8)


def group_seed(seed: int, number: int) -> int:
    """Return the seed in [0, 2**63) of a model's group ``number``: ``seed`` itself for the first."""
    return (seed + number * _GOLDEN) % (1 << 63)
