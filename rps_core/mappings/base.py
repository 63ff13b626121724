"""What every mapping from virtual weights to slots answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt


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
