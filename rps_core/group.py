"""A group of layers that read one psi: how their weights follow from it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from rps_core.gradient_scaling import gradient_scaler
from rps_core.kernels import Kernel, Layer, make_kernel, sum_dtype
from rps_core.mappings import Block, SlotMapping, mapping_class, slot_uses


@dataclass(frozen=True)
class Group:
    """Everything about a group but psi: plain data, and what follows from it, which copies and files leave out.

    Attributes:
        name: Its name in the vocabulary of budgets.
        layers: The layers, in virtual order.
        slots: Number of slots, m.
        mapping_name: Name of the mapping.
        seed: Seed of the mapping.
        gradient_scaling: Name of the gradient scaler.
        spec: The group as text, for operators in a captured graph; follows from the rest.
    """

    name: str
    layers: tuple[Layer, ...]
    slots: int
    mapping_name: str
    seed: int
    gradient_scaling: str
    spec: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        layers = [(layer.block.shape, layer.block.table, layer.scale, layer.padding) for layer in self.layers]
        spec = json.dumps([self.slots, self.mapping_name, self.seed, self.gradient_scaling, layers])
        object.__setattr__(self, "spec", spec)

    @property
    def virtual_size(self) -> int:
        """Number of virtual weights, n."""
        return self.layers[-1].stop

    @cached_property
    def mapping(self) -> SlotMapping:
        """h and g."""
        return mapping_class(self.mapping_name).build([la.block for la in self.layers], self.slots, self.seed)

    def kernel(self, device: torch.device) -> Kernel:
        """Return the kernel for ``device``, made once."""
        if device not in self._kernels:
            self._kernels[device] = make_kernel(self.mapping, self.layers, device)
        return self._kernels[device]

    def recover(self, psi: Tensor, indices: Sequence[int], *, scaled: bool = False) -> list[Tensor]:
        """Return the weights of the layers ``indices``, each in its shape: ``R psi``, or ``R (psi / Gamma)``."""
        psi = self.unscale(psi).to(psi.dtype) if scaled else psi
        weights = self.kernel(psi.device).recover(psi, indices)
        for weight, index in zip(weights, indices, strict=True):
            padding = self.layers[index].padding
            if padding is not None:
                weight[padding].zero_()
        return weights

    def fold(self, weights: Sequence[Tensor], indices: Sequence[int], *, scaled: bool = False) -> Tensor:
        """Return the transpose of :meth:`recover` applied to weights: ``R^T w``, divided by Gamma where ``scaled``."""
        dense = [_plain(weight, self.layers[index]) for weight, index in zip(weights, indices, strict=True)]
        psi = self.kernel(weights[0].device).fold(dense, indices)
        return (self.unscale(psi) if scaled else psi).to(weights[0].dtype)

    def unscale(self, psi: Tensor) -> Tensor:
        """Return ``psi / Gamma``, in float32 for half precision."""
        if self.gradient_scaling == "none":
            return psi
        place = (psi.device, sum_dtype(psi.dtype))
        if place not in self._scalers:
            self._scalers[place] = torch.from_numpy(1 / self.scaler).to(*place)
        return psi * self._scalers[place]

    @cached_property
    def scaler(self) -> npt.NDArray[np.float64]:
        """Gamma, ``(slots,)``."""
        return gradient_scaler(self.gradient_scaling, *self.slot_sums())

    def slot_sums(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return for each slot the number of its weights, the sum of their lambda and that of their lambda squared."""
        uses = np.zeros(self.slots, dtype=np.int64)
        scale_sum, square_sum = np.zeros(self.slots), np.zeros(self.slots)
        for layer in self.layers:
            for start, stop in _counted(layer):
                for place, count in slot_uses(self.mapping, start, stop):
                    uses[place] += count
                    scale_sum[place] += layer.scale * count
                    square_sum[place] += layer.scale**2 * count
        return uses, scale_sum, square_sum

    @cached_property
    def _kernels(self) -> dict[torch.device, Kernel]:
        return {}

    @cached_property
    def _scalers(self) -> dict[tuple[torch.device, torch.dtype], Tensor]:
        return {}

    def __getstate__(self) -> dict[str, Any]:
        return {name: self.__dict__[name] for name in self.__dataclass_fields__}


def _counted(layer: Layer) -> Iterator[tuple[int, int]]:
    """Yield ranges of the virtual weights of a layer, but for its row of padding."""
    row = layer.block.size // layer.block.shape[0] if layer.padding is not None else 0
    hole = layer.start + row * (layer.padding or 0)
    yield layer.start, hole
    yield hole + row, layer.stop


def _plain(weight: Tensor, layer: Layer) -> Tensor:
    """Return a gradient with nothing in the row of padding, as a dense tensor: sparse embeddings make sparse ones."""
    if weight.is_sparse:
        weight = weight.to_dense()
    if layer.padding is None:
        return weight
    return weight.index_fill(0, torch.tensor([layer.padding], device=weight.device), 0)


@lru_cache(maxsize=64)
def group_from_spec(spec: str) -> Group:
    """Return the group that :attr:`Group.spec` describes, without names and owners."""
    slots, mapping, seed, gradient_scaling, described = json.loads(spec)
    layers: list[Layer] = []
    for shape, table, scale, padding in described:
        start = layers[-1].stop if layers else 0
        layers.append(Layer("", (), Block(tuple(shape), table), start, scale, padding))
    return Group("", tuple(layers), slots, mapping, seed, gradient_scaling)
