"""ROBE-Z (Desai et al., arXiv:2108.02191): chunks of Z consecutive weights are hashed whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt

from rps_core.hashing import hash_below, hash_sign
from rps_core.mappings.base import Block

_SLOTS, _SIGNS = range(2)


@dataclass(frozen=True)
class RobeZ:
    """``h(i) = (hash(i // Z) + i mod Z) mod m`` with Z = 32 weights, two cache lines.

    Attributes:
        virtual_size: n.
        slots: m.
        seed: Seed of all hashes.
        chunk: Z.
    """

    virtual_size: int
    slots: int
    seed: int

    name: ClassVar[str] = "robe_z"
    needs_index: ClassVar[bool] = True
    chunk: ClassVar[int] = 32

    @classmethod
    def build(cls, blocks: Sequence[Block], slots: int, seed: int) -> Self:
        """Return the mapping of all weights of ``blocks`` onto ``slots`` slots; their shapes do not matter."""
        return cls(sum(block.size for block in blocks), slots, seed)

    def slots_of(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        """Return the slot of each virtual weight of ``range(start, stop)``."""
        chunk, position = np.divmod(np.arange(start, stop), self.chunk)
        return (hash_below(self.slots, self.seed, _SLOTS, chunk) + position) % self.slots

    def signs_of(self, start: int, stop: int) -> npt.NDArray[np.int8]:
        """Return the sign of each virtual weight of ``range(start, stop)``."""
        return hash_sign(self.seed, _SIGNS, np.arange(start, stop))
