"""A linear layer that never writes its weight: for small batches on GPUs, where psi stays in the second-level cache.

At a batch of a few rows a linear layer is bound by reading its weight from memory. Here each tile of the weight is
recovered in registers from psi, which at a ratio of 16 or more fits the cache, so that memory sees the inputs and
outputs only.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from rps_core.group import Group
from rps_core.kernels.triton_folded import TritonFoldedKernel, sign_of, slot_of
from rps_core.mappings import RandomFold

_BLOCK_IN = 128
_BLOCK_OUT = 32


@triton.jit
def _linear(x, psi, bias, y, offsets, flips, pattern, start, batch, n_in, n_out, slots, blocks, scale,
            HAS_BIAS: tl.constexpr, PERIOD: tl.constexpr, WIDE: tl.constexpr, BLOCK_B: tl.constexpr,
            BLOCK_OUT: tl.constexpr, BLOCK_IN: tl.constexpr):  # fmt: skip
    row = tl.program_id(0) * BLOCK_OUT + tl.arange(0, BLOCK_OUT)
    sample = tl.program_id(1) * BLOCK_B + tl.arange(0, BLOCK_B)
    begin = row * n_in
    if WIDE:
        begin = row.to(tl.int64) * n_in
    begin += start
    row_partition = begin // slots
    row_position = begin - row_partition * slots
    total = tl.zeros((BLOCK_B, BLOCK_OUT), dtype=tl.float32)
    for first in range(0, n_in, BLOCK_IN):
        column = first + tl.arange(0, BLOCK_IN)
        inputs = tl.load(
            x + sample[:, None] * n_in + column[None, :],
            mask=(sample[:, None] < batch) & (column[None, :] < n_in),
            other=0.0,
        )
        mask = (row[None, :] < n_out) & (column[:, None] < n_in)
        position = row_position[None, :] + column[:, None]
        crossed = position // slots
        partition = row_partition[None, :] + crossed
        position = position - crossed * slots
        slot = slot_of(offsets, partition, position, slots, mask)
        sign = sign_of(pattern, flips, partition, position, blocks, PERIOD, mask)
        weight = tl.load(psi + slot, mask=mask, other=0.0) * sign
        total = tl.dot(inputs, weight.to(inputs.dtype), total, input_precision="ieee")
    total = total * scale
    if HAS_BIAS:
        total += tl.load(bias + row, mask=row < n_out, other=0.0)[None, :]
    target = y + sample[:, None] * n_out + row[None, :]
    tl.store(target, total.to(y.dtype.element_ty), mask=(sample[:, None] < batch) & (row[None, :] < n_out))


def shared_linear(x: Tensor, psi: Tensor, group: Group, index: int, bias: Tensor | None = None) -> Tensor:
    """Return ``x @ W.T + bias`` with W recovered from psi on the fly; for inference, no gradient.

    Args:
        x: ``(..., in_features)``, of psi's dtype, on its device.
        psi: ``(slots,)``.
        group: The group psi belongs to, of mapping ``random_fold``.
        index: Which of its layers; its weight is ``(out_features, in_features)``.
        bias: ``(out_features,)`` or None.

    Returns:
        ``(..., out_features)``.

    Raises:
        ValueError: If the mapping is another one, the layer's weight is no matrix, or shapes or dtypes do not fit.
    """
    layer = group.layers[index]
    if not isinstance(group.mapping, RandomFold):
        raise ValueError(f"mapping must be 'random_fold', but got {group.mapping_name!r} (layer {layer.name!r})")
    if len(layer.block.shape) != 2:
        raise ValueError(f"a weight must be a matrix, but its shape is {layer.block.shape} (layer {layer.name!r})")
    n_out, n_in = layer.block.shape
    if x.shape[-1] != n_in or x.dtype != psi.dtype:
        raise ValueError(
            f"x must be (..., {n_in}) of {psi.dtype}, but got {tuple(x.shape)} of {x.dtype} (layer {layer.name!r})"
        )
    kernel = group.kernel(psi.device)
    if not isinstance(kernel, TritonFoldedKernel):
        kernel = TritonFoldedKernel(group.mapping, group.layers, psi.device)
    rows = x.reshape(-1, n_in)
    y = x.new_empty(rows.shape[0], n_out)
    block_b = 16 if rows.shape[0] <= 16 else 32
    grid = (triton.cdiv(n_out, _BLOCK_OUT), triton.cdiv(rows.shape[0], block_b))
    with torch.cuda.device_of(psi):
        _linear[grid](
            rows.contiguous(), psi, psi if bias is None else bias, y, *kernel.tables, layer.start, rows.shape[0], n_in,
            n_out, group.slots, group.mapping.blocks, layer.scale, HAS_BIAS=bias is not None, PERIOD=kernel.period,
            WIDE=kernel.wide, BLOCK_B=block_b, BLOCK_OUT=_BLOCK_OUT, BLOCK_IN=_BLOCK_IN,
        )  # fmt: skip
    return y.view(*x.shape[:-1], n_out)
