"""Storing masked tensors by what they keep: a checkpoint of a pruned model is as small as the model."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

MASK = "_mask"
KEPT, BITS = "kept.", "bits."


def masks_in(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the mask of each tensor of a model's state that is exactly zero wherever its mask is, by its name."""
    found = {}
    for name, tensor in state.items():
        mask = state.get(name + MASK)
        if mask is not None and mask.shape == tensor.shape:
            keep = mask != 0
            if bool(((mask == 0) | (mask == 1)).all()) and not bool(tensor.masked_fill(keep, 0).any()):
                found[name] = keep
    return found


def pack(tensors: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors by name, masked ones as their kept values (``kept.NAME``) and masks as bits (``bits.NAME``)."""
    packed = {}
    for name, tensor in tensors.items():
        if name in masks:
            packed[KEPT + name] = tensor[masks[name]]
        elif name.removesuffix(MASK) in masks:
            bits = np.packbits(masks[name.removesuffix(MASK)].cpu().numpy(), axis=None)
            packed[BITS + name] = torch.from_numpy(bits)
        else:
            packed[name] = tensor
    return packed


def unpack(packed: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Undo :func:`pack`.

    Args:
        packed: What it returned, masks included.
        like: Tensors of the shapes and types to return, by name.
    """
    masks = {
        name.removeprefix(BITS).removesuffix(MASK): _unpack_bits(bits, like[name.removeprefix(BITS)].shape)
        for name, bits in packed.items()
        if _is_packed(name, BITS, like)
    }
    return unpack_values(packed, like, masks) | {
        name + MASK: mask.to(like[name + MASK].dtype) for name, mask in masks.items()
    }


def unpack_values(
    packed: Mapping[str, Tensor], like: Mapping[str, Tensor], masks: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Undo :func:`pack` where the masks are known. ``like`` gives the shapes."""
    found = {}
    for name, values in packed.items():
        if not (_is_packed(name, KEPT, like) or _is_packed(name, BITS, like)):
            found[name] = values
        elif name.startswith(KEPT):
            target = name.removeprefix(KEPT)
            dense = torch.zeros(like[target].shape, dtype=values.dtype)
            dense[masks[target].cpu()] = values
            found[target] = dense
    return found


def _is_packed(name: str, prefix: str, like: Mapping[str, Tensor]) -> bool:
    """Return whether :func:`pack` put the prefix there: a model may have a module of that very name."""
    return name.startswith(prefix) and name not in like


def _unpack_bits(bits: Tensor, shape: torch.Size) -> Tensor:
    flat = np.unpackbits(bits.numpy(), count=shape.numel()).astype(bool)
    return torch.from_numpy(flat).view(shape)
