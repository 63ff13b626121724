"""What a saved model consists of, in which order, and how many bytes that is."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from torch import Tensor, nn

from baselines.layers import prunable_weights
from baselines.masks import mask_names

VALUE_BYTES = 4
INDEX_BYTES = 4
METADATA_KEY = "sparse"
FORMAT = "3"

Positions = Literal["dense", "bitmask", "indices"]
"""How a file says which weights are kept: all are; one bit a weight; or the 32-bit positions of the kept ones."""


def positions_for(size: int, kept: int) -> Positions:
    """Return the cheapest way to say where ``kept`` of ``size`` weights are."""
    if kept == size:
        return "dense"
    beyond = size > 2 ** (8 * INDEX_BYTES)  # of what an index can point at
    return "bitmask" if beyond or bitmask_bytes(size) <= INDEX_BYTES * kept else "indices"


def position_bytes(size: int, kept: int) -> int:
    """Return the bytes that say where ``kept`` of ``size`` weights are."""
    kind = positions_for(size, kept)
    return {"dense": 0, "bitmask": bitmask_bytes(size), "indices": INDEX_BYTES * kept}[kind]


def bitmask_bytes(size: int) -> int:
    """Return the bytes of one bit for each of ``size`` weights."""
    return -(-size // 8)


def unpruned(model: nn.Module, pruned: Iterable[str]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the stored tensors that are not pruned: the real-valued ones and the others."""
    skip = set(pruned)
    tensors: dict[str, Tensor] = {name: p.detach() for name, p in model.named_parameters() if name not in skip}
    tensors |= stored_buffers(model)
    real = {name: t for name, t in tensors.items() if t.is_floating_point()}
    return real, {name: t for name, t in tensors.items() if name not in real}


def stored_buffers(model: nn.Module) -> dict[str, Tensor]:
    """Return the buffers that a saved model holds beside its masks, each once."""
    masks = mask_names(model)
    saved = model.state_dict(keep_vars=True)
    return {name: b for name, b in model.named_buffers() if name in saved and name not in masks}


def fingerprint(model: nn.Module, pruned: Iterable[str]) -> str:
    """Return a digest of the order, names and shapes that give the pooled numbers their meaning."""
    names = list(pruned)
    parameters = dict(model.named_parameters())
    real, other = unpruned(model, names)
    parts = [(name, tuple(parameters[name].shape)) for name in names]
    parts += [(name, tuple(t.shape)) for name, t in real.items()]
    parts += [(f"{name} {t.dtype}", tuple(t.shape)) for name, t in other.items()]
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=8).hexdigest()


def description(model: nn.Module, pruned: Iterable[str], note: Mapping[str, str]) -> str:
    """Return what a file says of itself: fingerprint, then ``key=value`` pairs, without spaces in them.

    Which parameters are pruned is said (``layers``, one bit a parameter in hexadecimal digits) only where it is not all
    that are prunable.

    Raises:
        ValueError: If a note has a space in it, or a key that is not its own.
    """
    for key, value in note.items():
        if key == "layers" or "=" in key or not key or any(c.isspace() for c in key + value):
            raise ValueError(
                f"a note must have no space, no '=' in its key and not the key layers, but got {key}={value!r}"
            )
    names = list(pruned)
    words = [fingerprint(model, names)]
    if names != list(prunable_weights(model, allow_none=True)):
        words.append(f"layers={_bits(model, names)}")
    return " ".join([*words, *(f"{key}={value}" for key, value in note.items())])


def sealed(text: str, kind: Positions, payload: bytes = b"") -> str:
    """Return the text that a file carries: format, checksum of all that the file holds, :func:`description`."""
    return f"{FORMAT} {checksum(text, kind, payload)} {text}"


def checksum(text: str, kind: Positions | str, payload: bytes) -> str:
    """Return a CRC-32 of a file's content: eight hexadecimal digits, whatever the content."""
    return f"{zlib.crc32(payload, zlib.crc32(f'{kind} {text}'.encode())):08x}"


def described(text: str) -> tuple[str, dict[str, str]]:
    """Return fingerprint and pairs of a :func:`description`."""
    digest, *pairs = text.split(" ")
    return digest, {key: value for key, _, value in (pair.partition("=") for pair in pairs)}


def pruned_in(model: nn.Module, bits: str | None) -> list[str]:
    """Return the names of the pruned parameters that ``layers`` says; all prunable ones where it says nothing.

    Raises:
        ValueError: If the digits are none, or of another number of parameters.
    """
    if bits is None:
        return list(prunable_weights(model, allow_none=True))
    names = [name for name, _ in model.named_parameters()]
    chosen = int(bits, 16)
    if chosen >> len(names):
        raise ValueError(f"it names pruned parameters beyond the {len(names)} of {type(model).__name__}")
    return [name for position, name in enumerate(names) if chosen >> position & 1]


def payload_bytes(model: nn.Module, pruned: Iterable[str], size: int, kept: int) -> int:
    """Return the bytes of all numbers of a file, ``kept`` of ``size`` pruned weights among them."""
    real, other = unpruned(model, pruned)
    plain = sum(t.numel() for t in real.values())
    state = sum(t.numel() * t.element_size() for t in other.values())
    return VALUE_BYTES * (kept + plain) + position_bytes(size, kept) + state


def header_bytes(kind: Positions, payload: int, text: str) -> int:
    """Return the bytes that a safetensors file of one tensor of bytes, described by ``text``, has beside them.

    They are eight for the length and a JSON object padded to a multiple of eight
    (https://github.com/huggingface/safetensors, "Format").
    """
    entry = {"dtype": "U8", "shape": [payload], "data_offsets": [0, payload]}
    header: dict[str, Any] = {"__metadata__": {METADATA_KEY: sealed(text, kind)}, kind: entry}
    length = len(json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode())
    return 8 + -(-length // 8) * 8


def _bits(model: nn.Module, pruned: Iterable[str]) -> str:
    chosen = set(pruned)
    return f"{sum(1 << i for i, (name, _) in enumerate(model.named_parameters()) if name in chosen):x}"
