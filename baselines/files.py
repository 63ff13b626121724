"""Sparse model files: kept values, where they are, and everything that is not pruned, with next to no header."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor, nn

from baselines.layers import prunable_weights
from baselines.masks import apply_masks_, masks_of
from baselines.summary import position_bytes, stored_buffers

Array = NDArray[Any]

# The format, one safetensors file:
#   values   F32  the kept weights, layer after layer, then all other real-valued parameters and buffers
#   bitmask  U8   one bit a prunable weight, first weight in the highest bit   } the cheaper one;
#   indices  U32  or the positions of the kept weights, ascending              } none where all are kept
#   state    U8   integer and boolean buffers, as their bytes
# with the metadata
#   layout   digest of the names, shapes and types of all of these in the model
#   layers   JSON list of the pruned parameters, only if it is not all that are prunable
# Tensors are pooled because a header entry for each would outweigh the values of a small model at a high ratio.


def save_sparse(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Save a pruned (or plain) model as a safetensors file of `SparseSummary.stored_bytes` and a header of some 300.

    Values are saved in float32, whatever the model computes in. The file appears whole or not at all.

    Args:
        model: A model pruned by `prune_`, or any other.
        path: File to write; an existing one is replaced.
    """
    masks = masks_of(model)
    parameters = dict(model.named_parameters())
    kept = [_array(parameters[name].detach()[mask.bool()]) for name, mask in masks.items()]
    real, other = _unpruned(model, masks)
    tensors = {"values": _joined([*kept, *(_array(t) for t in real.values())], np.float32)}
    tensors |= _positions(_joined([_array(mask.bool()).ravel() for mask in masks.values()], np.bool_))
    if other:
        tensors["state"] = _joined([np.frombuffer(_array(t).tobytes(), np.uint8) for t in other.values()], np.uint8)
    metadata = {"layout": _layout(model, masks)}
    if list(masks) != list(prunable_weights(model)):
        metadata["layers"] = json.dumps(list(masks), separators=(",", ":"))
    target = Path(path)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        save_file(tensors, partial, metadata=metadata)
        os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


def load_sparse(path: str | os.PathLike[str], fresh_model: nn.Module) -> nn.Module:
    """Fill a freshly built model from a file of `save_sparse` and prune it as the saved one was.

    Args:
        path: The file.
        fresh_model: A model of the same architecture; it keeps its device and type.

    Returns:
        ``fresh_model``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no sparse model file, is damaged, or is of another architecture. The model is then as it
            was.
    """
    tensors, metadata = _read(path)
    names = _pruned_names(path, metadata, fresh_model)
    if metadata.get("layout") != _layout(fresh_model, names):
        raise ValueError(
            f"{path} holds another architecture than {type(fresh_model).__name__}: build the model it was saved from"
        )
    parameters = dict(fresh_model.named_parameters())
    real, other = _unpruned(fresh_model, names)
    mask = _mask(path, tensors, sum(parameters[name].numel() for name in names))
    values, state = tensors.get("values", np.zeros(0, np.float32)), tensors.get("state", np.zeros(0, np.uint8))
    kept = int(mask.sum())
    if values.dtype != np.float32 or values.size != kept + sum(t.numel() for t in real.values()):
        raise ValueError(f"{path} is damaged: it holds {values.size} values, which is not what its positions say")
    if state.dtype != np.uint8 or state.size != sum(t.numel() * t.element_size() for t in other.values()):
        raise ValueError(f"{path} is damaged: it holds {state.size} bytes of integer state")
    virtual = np.zeros(mask.size, np.float32)
    virtual[mask] = values[:kept]
    pruned = {name: parameters[name] for name in names}
    with torch.no_grad():
        apply_masks_(fresh_model, _cut(torch.from_numpy(mask), pruned))
        for target, value in ((pruned, virtual), (real, values[kept:])):
            for name, tensor in _cut(torch.from_numpy(np.ascontiguousarray(value)), target).items():
                target[name].copy_(tensor)
        offset = 0
        for tensor in other.values():
            size = tensor.numel() * tensor.element_size()
            raw = torch.frombuffer(bytearray(state[offset : offset + size].tobytes()), dtype=tensor.dtype)
            tensor.copy_(raw.view(tensor.shape))
            offset += size
    return fresh_model


def _read(path: str | os.PathLike[str]) -> tuple[dict[str, Array], dict[str, str]]:
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        with safe_open(path, framework="numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is no readable safetensors file: {error}") from error


def _pruned_names(path: str | os.PathLike[str], metadata: Mapping[str, str], model: nn.Module) -> list[str]:
    known = list(prunable_weights(model))
    if "layers" not in metadata:
        return known
    names = json.loads(metadata["layers"])
    if not isinstance(names, list) or not set(names) <= set(known):
        raise ValueError(f"{path} holds another architecture than {type(model).__name__}: its layers are {names}")
    return names


def _unpruned(model: nn.Module, pruned: Iterable[str]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the stored tensors that are not pruned: the real-valued ones and the others."""
    skip = set(pruned)
    tensors: dict[str, Tensor] = {name: p.detach() for name, p in model.named_parameters() if name not in skip}
    tensors |= stored_buffers(model)
    real = {name: t for name, t in tensors.items() if t.is_floating_point()}
    return real, {name: t for name, t in tensors.items() if name not in real}


def _layout(model: nn.Module, pruned: Iterable[str]) -> str:
    """Return a digest of the order, names and shapes that give the pooled numbers their meaning."""
    parameters = dict(model.named_parameters())
    real, other = _unpruned(model, pruned)
    parts = [(name, tuple(parameters[name].shape)) for name in pruned]
    parts += [(name, tuple(t.shape)) for name, t in real.items()]
    parts += [(f"{name} {t.dtype}", tuple(t.shape)) for name, t in other.items()]
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=8).hexdigest()


def _positions(mask: Array) -> dict[str, Array]:
    kept = int(mask.sum())
    needed = position_bytes(mask.size, kept)
    if needed == 0:
        return {}
    bitmask = np.packbits(mask)
    return {"bitmask": bitmask} if needed == bitmask.size else {"indices": mask.nonzero()[0].astype(np.uint32)}


def _mask(path: str | os.PathLike[str], tensors: Mapping[str, Array], size: int) -> Array:
    """Return the boolean mask of all prunable weights, ``(size,)``."""
    if "bitmask" in tensors:
        bits = tensors["bitmask"]
        if bits.dtype != np.uint8 or bits.size != -(-size // 8):
            raise ValueError(f"{path} is damaged: its bitmask has {bits.size} bytes for {size} weights")
        return np.unpackbits(bits, count=size).astype(np.bool_)
    if "indices" in tensors:
        indices = tensors["indices"].astype(np.int64)
        if indices.size and (indices[-1] >= size or (np.diff(indices) <= 0).any()):
            raise ValueError(f"{path} is damaged: its indices must rise and stay below {size}")
        mask = np.zeros(size, np.bool_)
        mask[indices] = True
        return mask
    return np.ones(size, np.bool_)


def _cut(flat: Tensor, like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Cut ``flat`` into tensors of the given names and shapes."""
    parts = flat.split([t.numel() for t in like.values()])
    return {name: part.view(t.shape) for (name, t), part in zip(like.items(), parts, strict=True)}


def _array(tensor: Tensor) -> Array:
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.is_floating_point() else tensor).contiguous().numpy()


def _joined(arrays: list[Array], dtype: Any) -> Array:
    return np.concatenate([array.ravel() for array in arrays]).astype(dtype) if arrays else np.zeros(0, dtype)
