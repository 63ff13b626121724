"""RAND: weights are removed at random. The baseline that any method must beat."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from baselines.layers import scored_weights
from baselines.scorers.gradients import LossFn


def rand(model: nn.Module, loss_fn: LossFn | None, batches: Sequence[Any], *, seed: int = 0) -> dict[str, Tensor]:
    """Score each weight by an independent uniform draw from [0, 1).

    A layer's draws depend on the seed and its name alone: they are the same on every device, in every process and
    whatever other layers the model has.
    """
    return {
        name: torch.rand(w.shape, generator=_generator(seed, name), dtype=torch.float64).to(w.device)
        for name, w in scored_weights(model).items()
    }


def _generator(seed: int, name: str) -> torch.Generator:
    digest = hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)
