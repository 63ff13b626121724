"""Weight recovery for any mapping, through an index and a sign of each weight.

It is what HashedNet, ROBE-Z and ROAST need in PyTorch. Index and signs are made at first use and are never part of
a model's state, but they take 12 bytes a weight while the model lives.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rps_core.kernels.base import Layer, sum_dtype
from rps_core.mappings import SlotMapping


class IndexedKernel:
    """``w = lambda * sign * psi[index]``.

    Args:
        mapping: Any mapping.
        layers: The layers of the group.
        device: Where psi is.
    """

    def __init__(self, mapping: SlotMapping, layers: Sequence[Layer], device: torch.device) -> None:
        self.layers = tuple(layers)
        self.slots = mapping.slots
        self._index = [torch.from_numpy(mapping.slots_of(layer.start, layer.stop)).to(device) for layer in self.layers]
        self._sign = [
            torch.from_numpy(mapping.signs_of(layer.start, layer.stop)).to(device, torch.float32) * layer.scale
            for layer in self.layers
        ]

    def recover(self, psi: Tensor, indices: Sequence[int]) -> list[Tensor]:
        """Return the weights of the layers ``indices``, each in its shape, from psi, ``(slots,)``."""
        return [(psi[self._index[i]] * self._sign[i].to(psi.dtype)).view(self.layers[i].block.shape) for i in indices]

    def fold(self, weights: Sequence[Tensor], indices: Sequence[int]) -> Tensor:
        """Return ``R^T`` times the weights of the layers ``indices``, ``(slots,)``."""
        dtype = sum_dtype(weights[0].dtype)
        out = weights[0].new_zeros(self.slots, dtype=dtype)
        for weight, i in zip(weights, indices, strict=True):
            out.index_add_(0, self._index[i], weight.reshape(-1).to(dtype) * self._sign[i].to(dtype))
        return out
