"""How psi is stored in a file: as it is, rounded to bfloat16, or as 8-bit integers with a scale for each block."""

from __future__ import annotations

import torch
from torch import Tensor

PSI_DTYPES = ("float32", "bfloat16", "int8")
INT8_BLOCK = 256
"""Slots that share one float32 scale in int8 storage."""

_LEVELS = 127


def psi_bytes(slots: int, psi_dtype: str) -> int:
    """Return the bytes that ``slots`` slots take in storage of a dtype, scales of int8 blocks included."""
    if psi_dtype == "int8":
        return slots + 4 * -(-slots // INT8_BLOCK)
    return slots * {"float32": 4, "bfloat16": 2}[psi_dtype]


def pack(psi: Tensor, psi_dtype: str) -> tuple[Tensor, ...]:
    """Return what is stored for psi: one tensor, or ``(values, scales)`` for int8.

    A block's scale is its largest magnitude / 127, so that an entry is off by at most half of that.
    """
    psi = psi.detach().cpu().float()
    if psi_dtype != "int8":
        return (psi.to(getattr(torch, psi_dtype)).contiguous(),)
    blocks = torch.nn.functional.pad(psi, (0, -psi.numel() % INT8_BLOCK)).view(-1, INT8_BLOCK)
    scales = blocks.abs().amax(1) / _LEVELS
    values = (blocks / scales.clamp_min(torch.finfo(torch.float32).tiny)[:, None]).round()
    return values.to(torch.int8).view(-1)[: psi.numel()].clone(), scales


def unpack(stored: tuple[Tensor, ...]) -> Tensor:
    """Return psi in float32 from what :func:`pack` returned."""
    if len(stored) == 1:
        return stored[0].float()
    values, scales = stored
    return values.float() * scales.repeat_interleave(INT8_BLOCK)[: values.numel()]


def relative_error(before: Tensor, after: Tensor) -> float:
    """Return ``|before - after| / |before|`` in the Euclidean norm; 0 where both are zero."""
    before = before.detach().double()
    error = torch.linalg.vector_norm(before - after.detach().double())
    return float(error / torch.linalg.vector_norm(before).clamp_min(torch.finfo(torch.float64).tiny))
