"""Whole partitions of RANDOMFOLD as rows: for layers of so many that a product for each run would cost too much.

The rotations of psi are windows of psi laid out twice, so that a partition is one window and not two runs. Many
windows are copied at once to where the weights go and multiplied there by the sign pattern. The transpose adds long
partitions one by one; of short ones it lays signed weights out with their beginning once more after their end, copies
the windows that turn them back and sums them. What is handled at once is kept so small that it stays in the cache.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rps_core.mappings import RandomFold

FEWEST = 8
"""Fewer whole partitions than this in a layer are taken by runs: rows have a cost of their own."""

WORTH = 1 << 11
"""Slots that are laid out again in the time that a run costs, whatever its length."""

AT_ONCE = 1 << 20
"""Scalars that the transpose has in hand at once: 4 MiB in float32, with two threads or more the fastest."""

LONG = 1 << 14
"""psi of this length has its partitions added one by one: a product then outweighs the call."""

_PIECES, _PIECES_FROM = 8, 1 << 12
"""Pieces in which a partition is turned back, so that little is laid out again; and the length of psi to cut from."""


def worth_rows(slots: int, count: int) -> bool:
    """Return whether ``count`` whole partitions of ``slots`` weights are better taken as rows than by runs."""
    return count >= FEWEST and slots <= WORTH * count


class Rows:
    """The whole partitions of layers.

    Args:
        mapping: The mapping; its partitions are no longer than its sign pattern.
        device: Where psi is.
    """

    def __init__(self, mapping: RandomFold, device: torch.device) -> None:
        self._slots, offsets, flips = mapping.slots, mapping.offsets, mapping.flips[:, 0]
        # Windows of [psi, psi, -psi, -psi]: one that starts 2m later is the negated rotation.
        self._forth = torch.from_numpy(offsets + mapping.slots * (1 - flips.astype(int)))
        self._back = torch.from_numpy((mapping.slots - offsets) % mapping.slots)
        self._flips = torch.from_numpy(flips)
        pieces = _PIECES if mapping.slots >= _PIECES_FROM else 1
        self._piece = -(-mapping.slots // pieces)
        # A fixed number, not one for each number of threads: the order of the sums hangs on it.
        self._step = max(1, AT_ONCE // (2 * mapping.slots + self._piece))
        self._pieces = torch.arange(pieces, device=device) * self._piece
        self._forth = self._forth.to(device)
        if mapping.slots < LONG:
            self._back, self._flips = self._back.to(device), self._flips.to(device)

    def recover(self, out: Tensor, psi: Tensor, pattern: Tensor, scale: float, low: int) -> None:
        """Write partitions from ``low`` on into ``out``, ``(partitions, slots)``, of psi's dtype."""
        slots, scaled = self._slots, psi * scale
        negated = -scaled
        rotations = torch.cat([scaled, scaled, negated, negated]).unfold(0, slots, 1)
        for rows, places in zip(
            out.split(self._step), self._forth[low : low + len(out)].split(self._step), strict=True
        ):
            torch.index_select(rotations, 0, places, out=rows)
            rows.mul_(pattern)

    def fold(self, out: Tensor, weights: Tensor, pattern: Tensor, scale: float, low: int) -> None:
        """Add the transpose of :meth:`recover` of ``weights``, ``(partitions, slots)``, to ``out``, ``(slots,)``."""
        slots, dtype, place = self._slots, out.dtype, slice(low, low + len(weights))
        back, flips = self._back[place], self._flips[place]
        if slots >= LONG:
            twice = out.new_zeros(2 * slots)
            for row, start, flip in zip(weights.unbind(), back.tolist(), flips.tolist(), strict=True):
                twice[slots - start : 2 * slots - start].addcmul_(row.to(dtype), pattern, value=flip * scale)
            out.add_(twice[:slots]).add_(twice[slots:])
            return
        piece, pieces = self._piece, len(self._pieces)
        chunks = weights.split(self._step)
        most, scaled, signs = len(chunks[0]), pattern * scale, flips.to(dtype)
        longer, turned = out.new_empty(most, slots + piece), out.new_empty(most, pieces * piece)
        windows, total = longer.view(-1).unfold(0, piece, 1), out.new_zeros(pieces * piece)
        # Where in `longer` each piece of each row begins, for all chunks at once: calls cost more than these sums.
        rows_of = torch.arange(len(weights), device=out.device).remainder_(most).mul_(slots + piece)
        places = (back[:, None] + self._pieces).remainder_(slots).add_(rows_of[:, None]).split(self._step)
        beginning, ending = longer[:, :slots], longer[:, slots:]
        with torch.autocast(out.device.type, enabled=False):
            for rows, firsts, turns in zip(chunks, places, signs.split(self._step), strict=True):
                if (count := len(rows)) < most:
                    beginning, ending, turned = beginning[:count], ending[:count], turned[:count]
                torch.mul(rows.to(dtype), scaled, out=beginning)
                ending.copy_(beginning[:, :piece])
                torch.index_select(windows, 0, firsts.view(-1), out=turned.view(-1, piece))
                total.addmv_(turned.t(), turns)
        out.add_(total[:slots])
