"""Weight recovery for RANDOMFOLD in PyTorch, for any device: slices, no index.

A layer is cut into runs (see :class:`rps_core.mappings.random_fold.Run`), each one fused multiplication of a slice
of psi by a slice of the sign pattern. Where runs would be many, all whole partitions in a layer are taken as rows
instead (see :mod:`rps_core.kernels.rows`). Sums run in a fixed order, so they are deterministic. Beyond the weights
it takes O(m) memory.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rps_core.kernels.base import Layer, sum_dtype
from rps_core.kernels.rows import Rows, worth_rows
from rps_core.mappings import RandomFold
from rps_core.mappings.random_fold import Run


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
        self._runs, self._whole = zip(*(_split(mapping, layer) for layer in self.layers), strict=True)
        self._rows = Rows(mapping, device) if any(self._whole) else None
        self._pattern = torch.from_numpy(mapping.pattern).to(device)
        self._patterns: dict[torch.dtype, Tensor] = {}
        # The first partition writes every slot once, so its runs need no zeros to add to.
        self._first = tuple(i for i, layer in enumerate(self.layers) if layer.start < mapping.slots)

    def _signs(self, dtype: torch.dtype) -> Tensor:
        if dtype not in self._patterns:
            self._patterns[dtype] = self._pattern.to(dtype)
        return self._patterns[dtype]

    def recover(self, psi: Tensor, indices: Sequence[int]) -> list[Tensor]:
        """Return the weights of the layers ``indices``, each in its shape, from psi, ``(slots,)``."""
        pattern, zero = self._signs(psi.dtype), psi.new_zeros(())
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
            if self._rows and self._whole[i]:
                self._rows.recover(self._partitions(i, out), psi, pattern, layer.scale, self._whole[i].start)
            weights.append(out.view(layer.block.shape))
        return weights

    def fold(self, weights: Sequence[Tensor], indices: Sequence[int]) -> Tensor:
        """Return ``R^T`` times the weights of the layers ``indices``, ``(slots,)``."""
        dtype = sum_dtype(weights[0].dtype)
        slots, pattern = self.mapping.slots, self._signs(dtype)
        covered = not self._rows and set(self._first) <= set(indices)
        out = weights[0].new_empty(slots, dtype=dtype) if covered else weights[0].new_zeros(slots, dtype=dtype)
        zero = out.new_zeros(())
        for weight, i in zip(weights, indices, strict=True):
            layer, flat = self.layers[i], weight.reshape(-1)
            for start, slot, entry, length, sign in self._runs[i]:
                into = out[slot : slot + length]
                first = covered and layer.start + start < slots
                torch.addcmul(
                    zero if first else into,
                    flat[start : start + length].to(dtype),  # piece by piece: all at once would be a second weight
                    pattern[entry : entry + length],
                    value=sign * layer.scale,
                    out=into,
                )
            if self._rows and self._whole[i]:
                self._rows.fold(out, self._partitions(i, flat), pattern, layer.scale, self._whole[i].start)
        return out

    def _partitions(self, index: int, flat: Tensor) -> Tensor:
        """Return the whole partitions of a layer that are taken as rows, ``(partitions, slots)``, of its weights."""
        slots, start, whole = self.mapping.slots, self.layers[index].start, self._whole[index]
        return flat[whole.start * slots - start : whole.stop * slots - start].view(-1, slots)


def _split(mapping: RandomFold, layer: Layer) -> tuple[list[Run], range]:
    """Return the runs of a layer, relative to it, and the partitions that are taken as rows instead."""
    slots = mapping.slots
    low, high = -(-layer.start // slots), layer.stop // slots
    if mapping.blocks > 1 or not worth_rows(slots, high - low):
        low = high = -(-layer.stop // slots)
    runs = [*mapping.runs(layer.start, min(layer.stop, low * slots)), *mapping.runs(high * slots, layer.stop)]
    return [run._replace(start=run.start - layer.start) for run in runs], range(low, high)
