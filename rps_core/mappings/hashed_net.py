"""HashedNet (Chen et al., arXiv:1504.04788): every weight is hashed alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from rps_core.hashing import hash_below, hash_sign
from rps_core.mappings.base import Block

_SLOTS, _SIGNS = range(2)


@dataclass(frozen=True)
class HashedNet:
    """``h(i)`` is uniform on [m], independently for each i.

    Attributes:
        virtual_size: n.
        slots: m.
        seed: Seed of all hashes.
    """

    virtual_size: int
    slots: int
    seed: int

    name: ClassVar[str] = "hashed_net"
    needs_index: ClassVar[bool] = True

    @classmethod
    def build(cls, blocks: Sequence[Block], slots: int, seed: int) -> HashedNet:
        """Return the mapping of all weights of ``blocks`` onto ``slots`` slots; their shapes do not matter."""
        return cls(sum(block.size for block in blocks), slots, seed)

    def slots_of(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        """Return the slot of each virtual weight of ``range(start, stop)``."""
        return hash_below(self.slots, self.seed, _SLOTS, np.arange(start, stop))

    def signs_of(self, start: int, stop: int) -> npt.NDArray[np.int8]:
        """Return the sign of each virtual weight of ``range(start, stop)``."""
        return hash_sign(self.seed, _SIGNS, np.arange(start, stop))
