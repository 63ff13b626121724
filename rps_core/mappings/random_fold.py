"""RANDOMFOLD, the mapping of STABLE-RPS (arXiv:2310.11611): whole partitions of psi's length, each rotated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from rps_core.hashing import hash_below, hash_sign
from rps_core.mappings.base import Block

SIGN_PERIOD = 1 << 19
"""Longest sign pattern: 2 MiB in float32, which caches hold, yet runs are long enough for threads to share. Part of the
file format."""

_OFFSETS, _PATTERN, _FLIPS = range(3)


class Run(NamedTuple):
    """Consecutive virtual weights that read consecutive slots with consecutive entries of the sign pattern.

    Attributes:
        start: First virtual weight.
        slot: Slot of the first weight.
        entry: Entry of the sign pattern of the first weight.
        length: Number of weights.
        sign: -1 or +1, multiplies the pattern.
    """

    start: int
    slot: int
    entry: int
    length: int
    sign: int


@dataclass(frozen=True)
class RandomFold:
    """``h(i) = (offset[i // m] + i mod m) mod m``: partition ``i // m`` is a rotation of psi.

    The sign of position ``t = i mod m`` of partition k is an entry of a pattern of P = min(m, 524288) random signs,
    flipped by one more random sign for each partition and block of P: ``g(i) = flip[k, t // P] * pattern[t mod P]``.
    The weights that meet in a slot come from different partitions, where random rotations bring different entries
    of the pattern together, so their signs are pairwise independent, and nothing longer than P is kept for them.

    Attributes:
        virtual_size: n.
        slots: m, ``1 <= m <= n``.
        seed: Seed of all hashes, in [0, 2**63).
    """

    virtual_size: int
    slots: int
    seed: int

    name: ClassVar[str] = "random_fold"
    needs_index: ClassVar[bool] = False

    @classmethod
    def build(cls, blocks: Sequence[Block], slots: int, seed: int) -> RandomFold:
        """Return the mapping of all weights of ``blocks`` onto ``slots`` slots; their shapes do not matter."""
        return cls(sum(block.size for block in blocks), slots, seed)

    @property
    def period(self) -> int:
        """Length P of the sign pattern."""
        return min(self.slots, SIGN_PERIOD)

    @property
    def partitions(self) -> int:
        """Number of partitions, ceil(n / m); the last may be short."""
        return -(-self.virtual_size // self.slots)

    @property
    def blocks(self) -> int:
        """Number of blocks of the sign pattern in a partition, ceil(m / P); the last may be short."""
        return -(-self.slots // self.period)

    @cached_property
    def offsets(self) -> npt.NDArray[np.int64]:
        """Rotation of each partition, ``(partitions,)``."""
        return hash_below(self.slots, self.seed, _OFFSETS, np.arange(self.partitions))

    @cached_property
    def pattern(self) -> npt.NDArray[np.int8]:
        """Sign pattern, ``(period,)``."""
        return hash_sign(self.seed, _PATTERN, np.arange(self.period))

    @cached_property
    def flips(self) -> npt.NDArray[np.int8]:
        """Sign of each block of each partition, ``(partitions, blocks)``: about n / P entries."""
        count = self.partitions * self.blocks
        return hash_sign(self.seed, _FLIPS, np.arange(count)).reshape(self.partitions, self.blocks)

    def slots_of(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        """Return the slot of each virtual weight of ``range(start, stop)``."""
        partition, position = np.divmod(np.arange(start, stop), self.slots)
        return (self.offsets[partition] + position) % self.slots

    def signs_of(self, start: int, stop: int) -> npt.NDArray[np.int8]:
        """Return the sign of each virtual weight of ``range(start, stop)``."""
        partition, position = np.divmod(np.arange(start, stop), self.slots)
        block, entry = np.divmod(position, self.period)
        return self.flips[partition, block] * self.pattern[entry]

    def runs(self, start: int, stop: int) -> Iterator[Run]:
        """Yield the runs that make up ``range(start, stop)``, in order.

        A run ends where a partition, psi or the sign pattern ends.
        """
        m, period = self.slots, self.period
        while start < stop:
            partition, position = divmod(start, m)
            slot = (int(self.offsets[partition]) + position) % m
            block, entry = divmod(position, period)
            length = min(stop - start, m - position, m - slot, period - entry)
            yield Run(start, slot, entry, length, int(self.flips[partition, block]))
            start += length
