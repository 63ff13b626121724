"""Weight recovery for RANDOMFOLD in PyTorch, for any device: slices, no index.

A layer is cut into runs (see :class:`rps_core.mappings.random_fold.Run`), each one fused multiplication of a slice
of psi by a slice of the sign pattern. Where psi is so short that runs would be many, all whole partitions in a layer
are taken together: the rotations of psi are rows of an overlapping view of psi repeated, so recovery selects rows, and
the transpose selects rows of the repeated weights and sums them. Sums run in a fixed order, so they are
deterministic. Beyond the weights it takes O(m) memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from rps_core.kernels.base import Layer, sum_dtype
from rps_core.mappings import RandomFold
from rps_core.mappings.random_fold import Run

ROWS_BELOW = 1 << 14
"""psi shorter than this is taken by rows."""

_FEWEST_ROWS = 8
"""Fewer whole partitions than this in a layer are taken by runs: rows have a cost of their own."""

_ROWS_AT_ONCE = 1 << 20
"""Weights that are taken by rows in one go: 4 MiB in float32, so that passes over them stay in the last cache."""


class FoldedKernel:
    """Runs and rows.

    Args:
        mapping: The mapping.
        layers: The layers of the group.
        device: Where psi is.
    """

    def __init__(self, mapping: RandomFold, layers: Sequence[Layer], device: torch.device) -> None:
        self.mapping = mapping
        self.layers = tuple(layers)
        self._runs: list[list[Run]] = []
        self._rows: list[tuple[int, int]] = []
        for layer in self.layers:
            runs, rows = _split(mapping, layer)
            self._runs.append(runs)
            self._rows.append(rows)
        self._pattern = torch.from_numpy(mapping.pattern).to(device)
        self._patterns: dict[torch.dtype, Tensor] = {}
        offsets = torch.from_numpy(mapping.offsets).to(device)
        self._back = (mapping.slots - offsets) % mapping.slots
        self._flips = torch.from_numpy(mapping.flips[:, 0]).to(device)
        # Rows of [psi, psi, -psi, -psi]: a row that starts 2m later is the negated rotation.
        self._forth = offsets + mapping.slots * (1 - self._flips.long())
        # The first partition writes every slot once, so its runs need no zeros to add to.
        self._first = tuple(i for i, layer in enumerate(self.layers) if layer.start < mapping.slots)

    def _signs(self, dtype: torch.dtype) -> Tensor:
        if dtype not in self._patterns:
            self._patterns[dtype] = self._pattern.to(dtype)
        return self._patterns[dtype]

    def recover(self, psi: Tensor, indices: Sequence[int]) -> list[Tensor]:
        """Return the weights of the layers ``indices``, each in its shape, from psi, ``(slots,)``."""
        pattern, zero = self._signs(psi.dtype), psi.new_zeros(())
        by_rows = any(self._rows[i][0] < self._rows[i][1] for i in indices)
        rotations = torch.cat([psi, psi, -psi, -psi]).unfold(0, psi.numel(), 1) if by_rows else psi
        weights = []
        for i in indices:
            layer = self.layers[i]
            out = psi.new_empty(layer.block.size)
            for start, slot, entry, length, sign in self._runs[i]:
                torch.addcmul(
                    zero,
                    psi[slot : slot + length],
                    pattern[entry : entry + length],
                    value=sign * layer.scale,
                    out=out[start : start + length],
                )
            for low, high, rows in self._row_chunks(i, out):
                torch.ops.aten.index.Tensor_out(rotations, [self._forth[low:high]], out=rows)
                rows.mul_(pattern * layer.scale)
            weights.append(out.view(layer.block.shape))
        return weights

    def fold(self, weights: Sequence[Tensor], indices: Sequence[int]) -> Tensor:
        """Return ``R^T`` times the weights of the layers ``indices``, ``(slots,)``."""
        dtype = sum_dtype(weights[0].dtype)
        slots, pattern = self.mapping.slots, self._signs(dtype)
        covered = not self._any_rows and set(self._first) <= set(indices)
        out = weights[0].new_empty(slots, dtype=dtype) if covered else weights[0].new_zeros(slots, dtype=dtype)
        zero = out.new_zeros(())
        for weight, i in zip(weights, indices, strict=True):
            layer = self.layers[i]
            flat = weight.reshape(-1).to(dtype)
            for start, slot, entry, length, sign in self._runs[i]:
                into = out[slot : slot + length]
                first = covered and layer.start + start < slots
                torch.addcmul(
                    zero if first else into,
                    flat[start : start + length],
                    pattern[entry : entry + length],
                    value=sign * layer.scale,
                    out=into,
                )
            for low, high, rows in self._row_chunks(i, flat):
                self._fold_rows(out, rows, low, high, pattern * layer.scale)
        return out

    @property
    def _any_rows(self) -> bool:
        return any(low < high for low, high in self._rows)

    def _row_chunks(self, index: int, flat: Tensor) -> Iterator[tuple[int, int, Tensor]]:
        """Yield (first partition, one past the last, their weights as rows) of a layer's whole partitions."""
        low, high = self._rows[index]
        slots, start = self.mapping.slots, self.layers[index].start
        step = max(1, _ROWS_AT_ONCE // slots)
        for first in range(low, high, step):
            last = min(first + step, high)
            yield first, last, flat[first * slots - start : last * slots - start].view(-1, slots)

    def _fold_rows(self, out: Tensor, rows: Tensor, low: int, high: int, scaled_pattern: Tensor) -> None:
        """Rotate the signed rows back and add their sum to ``out``."""
        count, slots = rows.shape
        twice = torch.empty(count, 2, slots, dtype=out.dtype, device=out.device)
        torch.mul(rows[:, None].expand(count, 2, slots), scaled_pattern, out=twice)
        first = self._back[low:high] + torch.arange(0, 2 * slots * count, 2 * slots, device=out.device)
        turned = twice.view(-1).unfold(0, slots, 1)[first]
        with torch.autocast(out.device.type, enabled=False):
            out.addmv_(turned.t(), self._flips[low:high].to(out.dtype))


def _split(mapping: RandomFold, layer: Layer) -> tuple[list[Run], tuple[int, int]]:
    """Return the runs of a layer, relative to it, and the range of the partitions that are taken by rows instead."""
    slots = mapping.slots
    low, high = -(-layer.start // slots), layer.stop // slots
    if slots >= ROWS_BELOW or high - low < _FEWEST_ROWS:
        low = high = -(-layer.stop // slots)
    runs = [*mapping.runs(layer.start, min(layer.stop, low * slots)), *mapping.runs(high * slots, layer.stop)]
    return [run._replace(start=run.start - layer.start) for run in runs], (low, high)
