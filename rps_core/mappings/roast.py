"""ROAST (Desai et al., arXiv:2207.10702): 2D tiles of matrices and 1D chunks of tables are hashed whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from rps_core.hashing import hash_below, hash_sign
from rps_core.mappings.base import Block

TILE = 16
CHUNK = 32
_SLOTS, _SIGNS = range(2)


@dataclass(frozen=True)
class Roast:
    """Each tile goes to a random place of psi, where it lies in row-major order, wrapping at the end.

    A linear or convolution weight is a matrix ``(out, everything else)`` cut into tiles of 16 x 16; an embedding is
    cut into chunks of 32 consecutive weights. Tiles are numbered through the model, so one seed serves all layers.

    Attributes:
        layers: The tensors, in order.
        slots: m.
        seed: Seed of all hashes.
    """

    layers: tuple[Block, ...]
    slots: int
    seed: int

    name: ClassVar[str] = "roast"
    needs_index: ClassVar[bool] = True

    @classmethod
    def build(cls, blocks: Sequence[Block], slots: int, seed: int) -> Roast:
        """Return the mapping of all weights of ``blocks``, tiled in their shapes, onto ``slots`` slots."""
        return cls(tuple(blocks), slots, seed)

    @cached_property
    def _starts(self) -> npt.NDArray[np.int64]:
        return np.cumsum([0, *(block.size for block in self.layers)], dtype=np.int64)

    @cached_property
    def _first_tiles(self) -> npt.NDArray[np.int64]:
        return np.cumsum([0, *(_tile_count(block) for block in self.layers)], dtype=np.int64)

    @property
    def virtual_size(self) -> int:
        """Number of virtual weights, n."""
        return int(self._starts[-1])

    def slots_of(self, start: int, stop: int) -> npt.NDArray[np.int64]:
        """Return the slot of each virtual weight of ``range(start, stop)``."""
        parts = [np.empty(0, dtype=np.int64)]
        for block, first, tile in zip(self.layers, self._starts, self._first_tiles, strict=False):
            low, high = max(start, int(first)), min(stop, int(first) + block.size)
            if low < high:
                number, position = _tile_of(block, np.arange(low, high) - first)
                parts.append((hash_below(self.slots, self.seed, _SLOTS, tile + number) + position) % self.slots)
        return np.concatenate(parts)

    def signs_of(self, start: int, stop: int) -> npt.NDArray[np.int8]:
        """Return the sign of each virtual weight of ``range(start, stop)``."""
        return hash_sign(self.seed, _SIGNS, np.arange(start, stop))


def _matrix(block: Block) -> tuple[int, int]:
    rows = block.shape[0] if block.shape else 1
    return rows, block.size // rows


def _tile_count(block: Block) -> int:
    if block.table:
        return -(-block.size // CHUNK)
    rows, columns = _matrix(block)
    return -(-rows // TILE) * -(-columns // TILE)


def _tile_of(block: Block, local: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return for each weight of a block the number of its tile and its position in it."""
    if block.table:
        number, position = np.divmod(local, CHUNK)
        return number, position
    _, columns = _matrix(block)
    row, column = np.divmod(local, columns)
    number = row // TILE * -(-columns // TILE) + column // TILE
    return number, row % TILE * TILE + column % TILE
