"""What every mapping from virtual weights to slots answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt

FLOATS_PER_LINE = 16
"""float32 values in a 64-byte cache line."""


@dataclass(frozen=True)
class Block:
    """One compressed tensor as a mapping sees it: a run of consecutive virtual weights.

    Attributes:
        shape: Shape of the tensor; its weights are numbered in row-major order.
        table: Whether it is a lookup table (an embedding), whose rows are read alone.
    """

    shape: tuple[int, ...]
    table: bool = False

    @property
    def size(self) -> int:
        """Number of weights."""
        return int(np.prod(self.shape, dtype=np.int64))


class SlotMapping(Protocol):
    """h and g of the method: which slot each virtual weight reads, and with which sign.

    Attributes:
        name: Key in the registry.
        needs_index: Whether recovering the weights takes an index of one entry a weight.
    """

    name: ClassVar[str]
    needs_index: ClassVar[bool]

    @property
    def virtual_size(self) -> int:
        """Number of virtual weights, n."""
        ...

    @property
    def slots(self) -> int:
        """Number of slots, m."""
        ...

    @classmethod
    def build(cls, blocks: Sequence[Block], slots: int, seed: int) -> SlotMapping:
        """Return the mapping of all weights of ``blocks``, flattened in order, onto ``slots`` slots."""
        ...

    def slots_of(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        """Return the slot in [0, slots) of each virtual weight of ``range(start, stop)``."""
        ...

    def signs_of(self, start: int, stop: int) -> npt.NDArray[np.int8]:
        """Return the sign, -1 or +1, of each virtual weight of ``range(start, stop)``."""
        ...


def load(mapping: SlotMapping) -> npt.NDArray[np.int64]:
    """Return how many virtual weights read each slot, ``(slots,)``; they sum to ``virtual_size``."""
    uses = np.zeros(mapping.slots, dtype=np.int64)
    step = 1 << 20
    for start in range(0, mapping.virtual_size, step):
        part = mapping.slots_of(start, min(start + step, mapping.virtual_size))
        uses += np.bincount(part, minlength=mapping.slots)
    return uses


def cache_lines(mapping: SlotMapping, start: int, stop: int, *, line: int = FLOATS_PER_LINE) -> int:
    """Return how many distinct cache lines of psi the virtual weights of ``range(start, stop)`` touch.

    Args:
        mapping: The mapping.
        start: First virtual weight.
        stop: One past the last virtual weight.
        line: Slots in a cache line; psi begins at the start of one.
    """
    return int(np.unique(mapping.slots_of(start, stop) // line).size)
