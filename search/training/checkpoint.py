"""A trial's state as bytes and back: safetensors, so that nothing is unpickled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

FORMAT_VERSION = "1"


class CheckpointError(Exception):
    """A checkpoint that is cut short, altered, foreign or of another version."""


def to_bytes(tensors: Mapping[str, torch.Tensor], facts: Mapping[str, Any]) -> bytes:
    """Pack tensors and JSON-able facts into one safetensors file.

    Tensors may alias each other or be views: each is stored whole under its own name.
    """
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    return save(plain, metadata={"version": FORMAT_VERSION, "facts": json.dumps(facts)})


def from_bytes(data: bytes) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Unpack what :func:`to_bytes` packed.

    Raises:
        CheckpointError: If the bytes are not a whole checkpoint of this version.
    """
    try:
        size = int.from_bytes(data[:8], "little")
        metadata = json.loads(data[8 : 8 + size])["__metadata__"]
        if metadata["version"] != FORMAT_VERSION:
            raise CheckpointError(f"checkpoint of version {metadata['version']}, this program reads {FORMAT_VERSION}")
        return load(data), json.loads(metadata["facts"])
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"not a whole checkpoint ({type(error).__name__})") from error
