"""The memory of a driver stays small, however long it runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa


@contextmanager
def memory_returned() -> Iterator[None]:
    """Let Arrow take memory from the C library, which gives it back, and restore its own way afterwards.

    Arrow's usual allocator keeps blocks for each thread: with a writer beside the driver's loop, 10,000 trials of TPE
    took 260 MB more than at the start instead of 114.
    """
    before = pa.default_memory_pool()
    pa.set_memory_pool(pa.system_memory_pool())
    try:
        yield
    finally:
        pa.set_memory_pool(before)
