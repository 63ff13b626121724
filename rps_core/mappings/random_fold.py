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

SIGN_PERIOD = 1 << 16
"""Longest sign pattern: 256 KiB in float32, so that it stays in a core's second-level cache."""

_OFFSETS, _PATTERN, _PHASES, _BLOCK_SIGNS = range(4)


class Run(NamedTuple):
    """Consecutive virtual weights that read consecutive slots with consecutive entries of the sign pattern.

    Attributes:
        start: First virtual weight.
        slot: Slot of the first weight.
        phase: Entry of the sign pattern of the first weight.
        length: Number of weights.
        sign: -1 or +1, multiplies the pattern.
    """

    start: int
    slot: int
    phase: int
    length: int
    sign: int


@dataclass(frozen=True)
class RandomFold:
    """``h(i) = (offset[i // m] + i mod m) mod m``: partition ``i // m`` is a rotation of psi.

    The sign of position ``t = i mod m`` of partition k is a pattern of P = min(m, 65536) random signs, shifted by a
    random phase of the partition and flipped by one more random sign for each block of P:
    ``g(i) = flip[k, (t + phase[k]) // P] * pattern[(t + phase[k]) mod P]``. Signs of weights that share a slot are
    pairwise independent given distinct phases, and nothing longer than P is kept for them.

    Attributes:
        virtual_size: n.
        slots: m, ``1 <= m <= n``.
        seed: Seed of all hashes.
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

    @cached_property
    def offsets(self) -> npt.NDArray[np.int64]:
        """Rotation of each partition, ``(partitions,)``."""
        return hash_below(self.slots, self.seed, _OFFSETS, np.arange(self.partitions))

    @cached_property
    def phases(self) -> npt.NDArray[np.int64]:
        """Shift of the sign pattern in each partition, ``(partitions,)``."""
        return hash_below(self.period, self.seed, _PHASES, np.arange(self.partitions))

    @cached_property
    def pattern(self) -> npt.NDArray[np.int8]:
        """Sign pattern, ``(period,)``."""
        return hash_sign(self.seed, _PATTERN, np.arange(self.period))

    def _flips(self, partition: npt.NDArray[np.int64], block: npt.NDArray[np.int64]) -> npt.NDArray[np.int8]:
        blocks_per_partition = self.slots // self.period + 2
        return hash_sign(self.seed, _BLOCK_SIGNS, partition * blocks_per_partition + block)

    def slots_of(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        """Return the slot of each virtual weight of ``range(start, stop)``."""
        partition, position = np.divmod(np.arange(start, stop), self.slots)
        return (self.offsets[partition] + position) % self.slots

    def signs_of(self, start: int, stop: int) -> npt.NDArray[np.int8]:
        """Return the sign of each virtual weight of ``range(start, stop)``."""
        partition, position = np.divmod(np.arange(start, stop), self.slots)
        block, entry = np.divmod(position + self.phases[partition], self.period)
        return self._flips(partition, block) * self.pattern[entry]

    def runs(self, start: int, stop: int) -> Iterator[Run]:
        """Yield the runs that make up ``range(start, stop)``, in order.

        A run ends where a partition, the end of psi or the sign pattern ends.
        """
        m, period = self.slots, self.period
        while start < stop:
            partition, position = divmod(start, m)
            slot = (int(self.offsets[partition]) + position) % m
            block, phase = divmod(position + int(self.phases[partition]), period)
            length = min(stop - start, m - position, m - slot, period - phase)
            sign = int(self._flips(np.array([partition]), np.array([block]))[0])
            yield Run(start, slot, phase, length, sign)
            start += length
