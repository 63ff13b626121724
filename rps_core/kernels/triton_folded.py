"""Weight recovery for RANDOMFOLD in Triton, for NVIDIA GPUs: each weight is written once, each slot summed once.

Slots and signs follow from the position of a weight, so besides psi a program reads the rotations and flips of the
one or two partitions it lies in and a slice of the sign pattern, all of which stay in the cache. The transpose uses no
atomics: a layer of many partitions is gathered, slot by slot, over its partitions in order; in a layer of one or two,
a partition is a bijection onto slots, so each is added by itself. Sums are therefore deterministic.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from rps_core.kernels.base import Layer, sum_dtype
from rps_core.mappings import RandomFold
from rps_core.mappings.random_fold import SIGN_PERIOD

_BLOCK = 1024
_GATHER_ABOVE = 2
"""Partitions of a layer above which its transpose is gathered slot by slot."""


@triton.jit
def block_start(axis: tl.constexpr, BLOCK: tl.constexpr, WIDE: tl.constexpr):
    """Return where a program's block begins, in 64 bits where WIDE."""
    number = tl.program_id(axis)
    if WIDE:
        number = number.to(tl.int64)
    return number * BLOCK


@triton.jit
def place(start, first, lane, slots, LONG: tl.constexpr):
    """Return (partition, position in it) of virtual weights ``start + first + lane``.

    ``first`` is where a block begins; LONG says that a block crosses at most one end of a partition.
    """
    if LONG:
        begin = start + first
        partition = begin // slots
        position = begin - partition * slots + lane
        over = position >= slots
        return tl.where(over, partition + 1, partition), tl.where(over, position - slots, position)
    index = start + first + lane
    return index // slots, index % slots


@triton.jit
def sign_of(pattern, flips, partition, position, blocks, PERIOD: tl.constexpr, mask):
    """Return the signs, as float32, of positions in partitions; PERIOD is 0 where a partition is one block."""
    if PERIOD == 0:
        flip = tl.load(flips + partition, mask=mask, other=1)
        entry = tl.load(pattern + position, mask=mask, other=1)
    else:
        flip = tl.load(flips + partition * blocks + position // PERIOD, mask=mask, other=1)
        entry = tl.load(pattern + position % PERIOD, mask=mask, other=1)
    return (flip * entry).to(tl.float32)


@triton.jit
def slot_of(offsets, partition, position, slots, mask):
    """Return the slots of positions in partitions."""
    slot = tl.load(offsets + partition, mask=mask, other=0) + position
    return tl.where(slot >= slots, slot - slots, slot)


@triton.jit
def _recover(psi, out, offsets, flips, pattern, start, size, slots, blocks, scale, PERIOD: tl.constexpr,
             LONG: tl.constexpr, WIDE: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    first = block_start(0, BLOCK, WIDE)
    lane = tl.arange(0, BLOCK)
    mask = first + lane < size
    partition, position = place(start, first, lane, slots, LONG)
    slot = slot_of(offsets, partition, position, slots, mask)
    value = tl.load(psi + slot, mask=mask, other=0.0)
    sign = sign_of(pattern, flips, partition, position, blocks, PERIOD, mask)
    tl.store(out + first + lane, (value * (sign * scale)).to(out.dtype.element_ty), mask=mask)


@triton.jit
def _fold_partition(grad, out, offsets, flips, pattern, start, low, high, partition, slots, blocks, scale,
                    PERIOD: tl.constexpr, WIDE: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    """Add weights [low, high) of the layer, all of one partition, to their slots."""
    index = low + block_start(0, BLOCK, WIDE) + tl.arange(0, BLOCK)
    mask = index < high
    here = tl.zeros_like(index) + partition  # of 64 bits where WIDE, as its product with slots must be
    position = start + index - here * slots
    slot = slot_of(offsets, here, position, slots, mask)
    sign = sign_of(pattern, flips, here, position, blocks, PERIOD, mask)
    value = tl.load(grad + index, mask=mask, other=0.0).to(out.dtype.element_ty)
    before = tl.load(out + slot, mask=mask, other=0.0)
    tl.store(out + slot, before + value * (sign * scale), mask=mask)


@triton.jit
def _fold_slots(grad, out, offsets, flips, pattern, start, size, first, last, slots, blocks, scale,
                PERIOD: tl.constexpr, WIDE: tl.constexpr, BLOCK: tl.constexpr):  # fmt: skip
    """Add to each slot its weights in partitions [first, last) of the layer, in order."""
    slot = block_start(0, BLOCK, WIDE) + tl.arange(0, BLOCK)
    inside = slot < slots
    total = tl.zeros((BLOCK,), dtype=out.dtype.element_ty)
    for partition in range(first, last):
        position = slot - tl.load(offsets + partition)
        position = tl.where(position < 0, position + slots, position)
        here = tl.zeros_like(slot) + partition
        index = here * slots + position - start
        mask = inside & (index >= 0) & (index < size)
        sign = sign_of(pattern, flips, here, position, blocks, PERIOD, mask)
        total += tl.load(grad + index, mask=mask, other=0.0).to(out.dtype.element_ty) * sign
    before = tl.load(out + slot, mask=inside, other=0.0)
    tl.store(out + slot, before + total * scale, mask=inside)


class TritonFoldedKernel:
    """The same as :class:`rps_core.kernels.folded.FoldedKernel`, on a GPU.

    Args:
        mapping: The mapping.
        layers: The layers of the group.
        device: Where psi is: a GPU, or any device under Triton's interpreter.
    """

    def __init__(self, mapping: RandomFold, layers: Sequence[Layer], device: torch.device) -> None:
        self.mapping = mapping
        self.layers = tuple(layers)
        # Positions fit in 32 bits for all but giants, and 32-bit arithmetic is several times faster.
        self.wide = mapping.virtual_size + mapping.slots + _BLOCK >= 1 << 31
        self._offsets = torch.from_numpy(mapping.offsets).to(device, torch.int64 if self.wide else torch.int32)
        self._flips = torch.from_numpy(mapping.flips.reshape(-1)).to(device)
        self._pattern = torch.from_numpy(mapping.pattern).to(device)

    @property
    def tables(self) -> tuple[Tensor, Tensor, Tensor]:
        """Rotations ``(partitions,)``, flips ``(partitions * blocks,)`` and sign pattern ``(period,)``."""
        return self._offsets, self._flips, self._pattern

    @property
    def period(self) -> int:
        """The sign pattern's period where a partition holds several, else 0."""
        return SIGN_PERIOD if self.mapping.blocks > 1 else 0

    def recover(self, psi: Tensor, indices: Sequence[int]) -> list[Tensor]:
        """Return the weights of the layers ``indices``, each in its shape, from psi, ``(slots,)``."""
        psi, weights = psi.contiguous(), []
        slots, blocks = self.mapping.slots, self.mapping.blocks
        for i in indices:
            layer = self.layers[i]
            out = psi.new_empty(layer.block.size)
            with torch.cuda.device_of(psi):
                _recover[(triton.cdiv(out.numel(), _BLOCK),)](
                    psi, out, *self.tables, layer.start, out.numel(), slots, blocks, layer.scale,
                    PERIOD=self.period, LONG=slots >= _BLOCK, WIDE=self.wide, BLOCK=_BLOCK,
                )  # fmt: skip
            weights.append(out.view(layer.block.shape))
        return weights

    def fold(self, weights: Sequence[Tensor], indices: Sequence[int]) -> Tensor:
        """Return ``R^T`` times the weights of the layers ``indices``, ``(slots,)``."""
        out = weights[0].new_zeros(self.mapping.slots, dtype=sum_dtype(weights[0].dtype))
        for weight, i in zip(weights, indices, strict=True):
            with torch.cuda.device_of(out):
                self._fold_layer(out, weight.contiguous(), self.layers[i])
        return out

    def _fold_layer(self, out: Tensor, grad: Tensor, layer: Layer) -> None:
        slots, blocks = self.mapping.slots, self.mapping.blocks
        first, last = layer.start // slots, -(-layer.stop // slots)
        common: dict[str, Any] = {"PERIOD": self.period, "WIDE": self.wide, "BLOCK": _BLOCK}
        if last - first > _GATHER_ABOVE:
            _fold_slots[(triton.cdiv(slots, _BLOCK),)](
                grad, out, *self.tables, layer.start, grad.numel(), first, last, slots, blocks, layer.scale, **common
            )
            return
        for partition in range(first, last):
            low = max(0, partition * slots - layer.start)
            high = min(grad.numel(), (partition + 1) * slots - layer.start)
            _fold_partition[(triton.cdiv(high - low, _BLOCK),)](
                grad, out, *self.tables, layer.start, low, high, partition, slots, blocks, layer.scale, **common
            )
