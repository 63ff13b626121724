"""Compressed models as files: safetensors with psi, the uncompressed tensors, and how to recover the weights."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from rps_core.compress import Sharing, install, plan, sharing_of
from rps_core.config import RPSConfig

FORMAT_VERSION = 1


def save_compressed(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Write a compressed model to a file that appears whole or not at all.

    Args:
        model: A compressed model, or a wrapper of one.
        path: Where to; an existing file is replaced.

    Raises:
        TypeError: If ``model`` is no module.
        ValueError: If it is not compressed.
    """
    root, sharing = sharing_of(model)
    tensors = {name: t.detach().cpu().contiguous().clone() for name, t in root.state_dict().items()}
    config = {k: v for k, v in vars(sharing.config).items()}
    metadata = {
        "rps_core": json.dumps(
            {
                "version": FORMAT_VERSION,
                "config": config,
                "scales": [[layer.scale for layer in group.layers] for group in sharing.groups],
            }
        )
    }
    target = Path(path)
    partial = target.with_name(target.name + ".partial")
    save_file(tensors, partial, metadata=metadata)
    os.replace(partial, target)


def load_compressed(path: str | os.PathLike[str], fresh_model: nn.Module) -> nn.Module:
    """Fill a freshly built plain model from a file that :func:`save_compressed` wrote.

    Args:
        path: The file.
        fresh_model: A plain model of the architecture that was saved; its weights are replaced.

    Returns:
        ``fresh_model``, compressed.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is no such file, or is for another architecture; the model is then unchanged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except SafetensorError as error:
        raise ValueError(f"{path} must be a whole safetensors file, but it is not: {error}") from error
    if "rps_core" not in metadata:
        raise ValueError(f"{path} must be a file that save_compressed wrote, but it has no rps_core metadata")
    header = json.loads(metadata["rps_core"])
    config = RPSConfig(**header["config"])
    groups, candidates = plan(fresh_model, config)
    for group, scales in zip(groups, header["scales"], strict=True):
        group.rescale(scales)
    sharing = Sharing(config, groups)
    install(fresh_model, sharing, [torch.zeros(group.slots) for group in groups], candidates)
    fresh_model.load_state_dict(tensors)
    return fresh_model
