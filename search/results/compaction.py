"""When to merge parts: few files to read, and no row rewritten often."""

from __future__ import annotations

from collections.abc import Sequence

# A merge must lift rows to a higher tier (16, 256, ... rows), so that each is rewritten once a tier at most.
TIERS = tuple(16**power for power in range(1, 6))


def mergeable(rows: Sequence[int]) -> slice | None:
    """Return which neighbouring parts to merge, or None.

    Only neighbours are merged, so that the order of rows stays what it was.

    Args:
        rows: Rows of each part, in order.
    """
    for tier in TIERS:
        start = total = 0
        for index, count in enumerate([*rows, TIERS[-1]]):
            if count >= tier:
                if index - start > 1 and total >= tier:
                    return slice(start, index)
                start, total = index + 1, 0
            else:
                total += count
    return None
