"""From encoded images to a split: in memory as pixels where they fit, else still encoded."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from search.data.decode import Encoded, decode_images, first_readable
from search.data.encoded import EncodedSplit
from search.data.images import Split
from search.spec import DataSpec

# Ray's object store takes 30 % of a machine's memory by default; a split that is larger would be spilled to disk.
PIXEL_MEMORY_SHARE = 0.25
CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def read_split(
    sources: Sequence[Encoded], labels: np.ndarray, spec: DataSpec
) -> tuple[Split | EncodedSplit, tuple[str, ...]]:
    """Decode images into memory, or, where their pixels would fill too much of it, decode each once to check it.

    Args:
        sources: The encoded images, at least one.
        labels: int64, ``(len(sources),)``.
        spec: Image size, and how many images may be corrupt.

    Returns:
        The images with their labels, and the names of those left out.

    Raises:
        UserError: See :func:`search.data.decode.decode_images`.
    """
    _, shape = first_readable(sources, spec.image_size)
    fits = len(sources) * int(np.prod(shape)) <= PIXEL_MEMORY_SHARE * memory_bytes()
    decoded = decode_images(
        sources, image_size=spec.image_size, max_corrupt_fraction=spec.max_corrupt_fraction, keep=fits
    )
    labels = labels[decoded.kept]
    if decoded.images is not None:
        return Split(decoded.images, labels), decoded.skipped
    kept = tuple(sources[index] for index in decoded.kept)
    return EncodedSplit(kept, labels, decoded.shape, spec.image_size), decoded.skipped


def memory_bytes() -> int:
    """Return the memory this process may use: the machine's, or its control group's limit."""
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = CGROUP_LIMIT.read_text().strip() if CGROUP_LIMIT.is_file() else "max"
    return min(physical, int(limit)) if limit.isdecimal() else physical
