"""Whole partitions of RANDOMFOLD as rows: for layers of so many that a product for each run would cost too much.

The rotations of psi are windows of psi laid out twice, so that a partition is one window and not two runs. Where psi
is long, each window is one product. Where it is short, many windows are copied at once and multiplied by the sign
pattern together; the transpose lays signed weights out with their beginning once more after their end, copies the
windows that turn them back and sums them. What is copied is kept so small that it stays in the cache.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rps_core.mappings import RandomFold

FEWEST = 8
"""Fewer whole partitions than this in a layer are taken by runs: rows have a cost of their own."""

WORTH = 1 << 11
"""Slots that are laid out again in the time that a run costs, whatever its length."""

AT_ONCE = 1 << 18
"""Weights that are copied at once: 1 MiB in float32."""

LONG = 1 << 14
"""psi of this length has its partitions taken one by one: a product then outweighs the call."""

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
        self._step = max(1, AT_ONCE // mapping.slots)
        # Windows of [psi, psi, -psi, -psi]: one that starts 2m later is the negated rotation.
        self._forth = torch.from_numpy(offsets + mapping.slots * (1 - flips.astype(int)))
        self._back = torch.from_numpy((mapping.slots - offsets) % mapping.slots)
        self._flips = torch.from_numpy(flips)
        pieces = _PIECES if mapping.slots >= _PIECES_FROM else 1
        self._piece = -(-mapping.slots // pieces)
        self._pieces = torch.arange(pieces, device=device) * self._piece
        if mapping.slots < LONG:
            self._forth, self._back, self._flips = (x.to(device) for x in (self._forth, self._back, self._flips))

    def recover(self, out: Tensor, psi: Tensor, pattern: Tensor, scale: float, low: int) -> None:
        """Write partitions from ``low`` on into ``out``, ``(partitions, slots)``, of psi's dtype."""
        slots, scaled = self._slots, psi * scale
        negated = -scaled
        windows = torch.cat([scaled, scaled, negated, negated])
        if slots >= LONG:
            for row, first in zip(out.unbind(), self._forth[low : low + len(out)].tolist(), strict=True):
                torch.mul(windows[first : first + slots], pattern, out=row)
            return
        rotations, chunks = windows.unfold(0, slots, 1), out.split(self._step)
        turned = psi.new_empty(len(chunks[0]), slots)
        for rows, places in zip(chunks, self._forth[low : low + len(out)].split(self._step), strict=True):
            some = turned[: len(rows)]
            torch.index_select(rotations, 0, places, out=some)
            torch.mul(some, pattern, out=rows)

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
        most, scaled = len(chunks[0]), pattern * scale
        longer, turned = out.new_empty(most, slots + piece), out.new_empty(most, pieces * piece)
        windows, total = longer.view(-1).unfold(0, piece, 1), out.new_zeros(pieces * piece)
        starts = torch.arange(most, device=out.device)[:, None] * (slots + piece)
        with torch.autocast(out.device.type, enabled=False):
            for rows, first, signs in zip(chunks, back.split(self._step), flips.split(self._step), strict=True):
                count = len(rows)
                torch.mul(rows.to(dtype), scaled, out=longer[:count, :slots])
                longer[:count, slots:].copy_(longer[:count, :piece])
                places = (first[:, None] + self._pieces).remainder_(slots).add_(starts[:count]).view(-1)
                torch.index_select(windows, 0, places, out=turned.view(-1, piece)[: len(places)])
                total.addmv_(turned[:count].t(), signs.to(dtype))
        out.add_(total[:slots])
