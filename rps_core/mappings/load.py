"""How a mapping uses its slots and the cache."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from rps_core.mappings.base import SlotMapping
from rps_core.mappings.random_fold import RandomFold

FLOATS_PER_LINE = 16
"""float32 values in a 64-byte cache line."""

_AT_ONCE = 1 << 20


def slot_uses(mapping: SlotMapping, start: int, stop: int) -> Iterator[tuple[slice, Any]]:
    """Yield (range of slots, how many virtual weights of ``range(start, stop)`` read each), to be added up."""
    if isinstance(mapping, RandomFold):
        for run in mapping.runs(start, stop):
            yield slice(run.slot, run.slot + run.length), 1
        return
    step = max(_AT_ONCE, mapping.slots)
    for first in range(start, stop, step):
        slots = mapping.slots_of(first, min(first + step, stop))
        yield slice(None), np.bincount(slots, minlength=mapping.slots)


def load(mapping: SlotMapping) -> npt.NDArray[np.int64]:
    """Return how many virtual weights read each slot, ``(slots,)``; they sum to ``virtual_size``."""
    uses = np.zeros(mapping.slots, dtype=np.int64)
    for place, count in slot_uses(mapping, 0, mapping.virtual_size):
        uses[place] += count
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
