"""Sparse model files: kept values, where they are, and everything that is not pruned, with next to no header."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor, nn

from baselines.layers import prunable_weights
from baselines.layout import (
    FORMAT,
    METADATA_KEY,
    Positions,
    bitmask_bytes,
    checksum,
    described,
    description,
    fingerprint,
    positions_for,
    pruned_in,
    sealed,
    unpruned,
)
from baselines.masks import apply_masks_, masks_of

Array = NDArray[Any]

FIRST_FORMAT, UNCHECKED_FORMAT = "1", "2"

# The format, one safetensors file with one tensor of bytes, whose parts are
#   values     F32  the kept weights, layer after layer, then all other real-valued parameters and buffers
#   positions       one bit a prunable weight, first weight in the highest bit  } as the tensor's name says:
#              U32  or the positions of the kept weights, ascending             } "bitmask", "indices" or "dense"
#   state           integer and boolean buffers, as their bytes
# and one entry of metadata, baselines.layout.sealed. One tensor, because a header entry for each would outweigh the
# values of a small model at a high ratio. Format 2 had no checksum and format 1 a tensor for each part: both are read.


def save_sparse(model: nn.Module, path: str | os.PathLike[str], *, note: Mapping[str, str] | None = None) -> None:
    """Save a pruned (or plain) model as a safetensors file of exactly `SparseSummary.stored_bytes`.

    Values are saved in float32, whatever the model computes in. The file appears whole or not at all.

    Args:
        model: A model pruned by `prune_`, or any other.
        path: File to write; an existing one is replaced.
        note: Further facts that the file carries; `read_note` returns them.

    Raises:
        ValueError: If ``note`` has a space in it, ``=`` in a key, or the key ``layers``, which is the format's own.
        OSError: If the file cannot be written.
    """
    masks = masks_of(model)
    parameters = dict(model.named_parameters())
    kept = [_array(parameters[name].detach()[mask.bool()]) for name, mask in masks.items()]
    real, other = unpruned(model, masks)
    values = _joined([*kept, *(_array(t) for t in real.values())], np.float32)
    mask = _joined([_array(mask.bool()) for mask in masks.values()], np.bool_)
    kind = positions_for(mask.size, int(mask.sum()))
    parts = [values, _positions(kind, mask), *(_array(t) for t in other.values())]
    payload = _joined([np.frombuffer(part.tobytes(), np.uint8) for part in parts], np.uint8)
    text = sealed(description(model, masks, note or {}), kind, payload.tobytes())
    target = Path(path)
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        save_file({kind: payload}, partial, metadata={METADATA_KEY: text})
        os.replace(partial, target)
    except SafetensorError as error:
        raise OSError(f"{path} cannot be written: {error}") from error
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
    tensors, facts = _read(path)
    names = _pruned_names(path, facts, fresh_model)
    if facts.fingerprint != fingerprint(fresh_model, names):
        raise ValueError(
            f"{path} holds another architecture than {type(fresh_model).__name__}: build the model it was saved from"
        )
    parameters = dict(fresh_model.named_parameters())
    real, other = unpruned(fresh_model, names)
    size = sum(parameters[name].numel() for name in names)
    plain, state_bytes = (
        sum(t.numel() for t in real.values()),
        sum(t.numel() * t.element_size() for t in other.values()),
    )
    if facts.version != FIRST_FORMAT:
        tensors = _taken_apart(path, tensors, size, plain, state_bytes)
    mask = _mask(path, tensors, size)
    values, state = tensors.get("values", np.zeros(0, np.float32)), tensors.get("state", np.zeros(0, np.uint8))
    kept = int(mask.sum())
    if values.dtype != np.float32 or values.size != kept + plain:
        raise ValueError(f"{path} is damaged: it holds {values.size} values, which is not what its positions say")
    if state.dtype != np.uint8 or state.size != state_bytes:
        raise ValueError(f"{path} is damaged: it holds {state.size} bytes of integer state")
    _fill_(fresh_model, {name: parameters[name] for name in names}, mask, values[:kept])
    with torch.no_grad():
        for name, value in _cut(torch.from_numpy(values[kept:].copy()), real).items():
            real[name].copy_(value)
        offset = 0
        for tensor in other.values():
            length = tensor.numel() * tensor.element_size()
            raw = torch.frombuffer(bytearray(state[offset : offset + length].tobytes()), dtype=tensor.dtype)
            tensor.copy_(raw.view(tensor.shape))
            offset += length
    return fresh_model


def read_note(path: str | os.PathLike[str]) -> dict[str, str]:
    """Return the ``note`` that a file was saved with.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no sparse model file.
    """
    return _read(path)[1].pairs


@dataclass(frozen=True)
class _Facts:
    """What the metadata of a file say: the pruned layers as bits, as names in format 1."""

    version: str
    fingerprint: str | None
    pairs: dict[str, str]


def _read(path: str | os.PathLike[str]) -> tuple[dict[str, Array], _Facts]:
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        with safe_open(path, framework="numpy") as file:
            tensors, metadata = {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
        # Numpy has no bfloat16, which other files may hold, unless some package has taught it (ml_dtypes does).
        if foreign := [str(tensor.dtype) for tensor in tensors.values() if tensor.dtype.isbuiltin != 1]:
            raise TypeError(f"it holds {foreign[0]}")
    except (SafetensorError, TypeError) as error:
        raise ValueError(f"{path} is no readable safetensors file of a sparse model: {error}") from error
    if METADATA_KEY not in metadata:
        pairs = {"layers": metadata["layers"]} if "layers" in metadata else {}
        return tensors, _Facts(FIRST_FORMAT, metadata.get("layout"), pairs)
    version, _, text = metadata[METADATA_KEY].partition(" ")
    if version == FORMAT:
        expected, _, text = text.partition(" ")
        kind, payload = next(iter(tensors.items()), ("", np.zeros(0, np.uint8)))
        if len(tensors) != 1 or checksum(text, kind, payload.tobytes()) != expected:
            raise ValueError(f"{path} is damaged: its checksum differs; train or save the model again")
    elif version != UNCHECKED_FORMAT:
        raise ValueError(f"{path} has format {version}, but formats 1 to {FORMAT} are read: update this package")
    return tensors, _Facts(version, *described(text))


def _pruned_names(path: str | os.PathLike[str], facts: _Facts, model: nn.Module) -> list[str]:
    layers = facts.pairs.get("layers")
    try:
        if layers is None or facts.version != FIRST_FORMAT:
            return pruned_in(model, layers)
        names = json.loads(layers)
        if not isinstance(names, list) or not set(names) <= set(prunable_weights(model)):
            raise ValueError(f"its layers are {names}")
    except ValueError as error:
        raise ValueError(f"{path} holds another architecture than {type(model).__name__}: {error}") from error
    return names


def _positions(kind: Positions, mask: Array) -> Array:
    if kind == "bitmask":
        return np.packbits(mask)
    return mask.nonzero()[0].astype(np.uint32) if kind == "indices" else np.zeros(0, np.uint8)


@torch.no_grad()
def _fill_(model: nn.Module, pruned: Mapping[str, nn.Parameter], mask: Array, kept: Array) -> None:
    """Mask the pruned parameters and give them the kept weights."""
    virtual = np.zeros(mask.size, np.float32)
    virtual[mask] = kept
    apply_masks_(model, _cut(torch.from_numpy(mask), pruned))
    for name, value in _cut(torch.from_numpy(virtual), pruned).items():
        pruned[name].copy_(value)


def _taken_apart(
    path: str | os.PathLike[str], tensors: Mapping[str, Array], size: int, plain: int, state_bytes: int
) -> dict[str, Array]:
    """Return the parts of a file as format 1 has them.

    Args:
        path: The file.
        tensors: The one tensor of bytes.
        size: Number of weights of the pruned layers.
        plain: Number of other real values.
        state_bytes: Bytes of the integer and boolean buffers.
    """
    (kind, payload), *more = tensors.items()
    if more or kind not in ("dense", "bitmask", "indices") or payload.dtype != np.uint8 or payload.ndim != 1:
        raise ValueError(f"{path} is damaged: it must hold one row of bytes, dense, bitmask or indices")
    numbers = payload.size - state_bytes - 4 * plain  # the bytes of kept weights and their positions
    positions = {"dense": 0, "bitmask": bitmask_bytes(size), "indices": numbers // 8 * 4}[kind]
    if numbers < positions or (numbers - positions) % 4 or (kind == "indices" and numbers % 8):
        raise ValueError(f"{path} is damaged: it holds {payload.size} bytes, which is not what its model needs")
    end = payload.size - state_bytes
    parts = {
        "values": payload[: end - positions].view(np.float32),
        kind: payload[end - positions : end],
        "state": payload[end:],
    }
    if kind == "indices":
        parts[kind] = np.frombuffer(parts[kind].tobytes(), np.uint32)
    return parts


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
