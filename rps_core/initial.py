"""The psi a group starts with: drawn from a seed, or nearest to trained weights."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from rps_core.config import RPSConfig
from rps_core.group import Group
from rps_core.hashing import group_seed, hash64
from rps_core.layers import Candidate

# The stream of the seed of psi; mappings take the first few.
_DRAW = 100


def draw_psi(group: Group, number: int, config: RPSConfig, candidates: Sequence[Candidate]) -> Tensor:
    """Return a fresh psi of standard deviation ``init_std`` for group ``number``, on the CPU."""
    # Hashed, since models are often drawn by torch from the same small seed: their first tensor would be psi again.
    generator = torch.Generator().manual_seed(int(hash64(group_seed(config.seed, number), _DRAW, np.zeros(1))[0] >> 1))
    names = {layer.name for layer in group.layers}
    members = [candidate.parameter.detach() for candidate in candidates if candidate.name in names]
    psi = torch.empty(group.slots, dtype=torch.float32)
    if look_uniform(members):
        bound = math.sqrt(3) * config.init_std
        return psi.uniform_(-bound, bound, generator=generator)
    return psi.normal_(0, config.init_std, generator=generator)


def look_uniform(weights: Sequence[Tensor]) -> bool:
    """Return whether most weights look uniform: kurtosis below 2.4, half-way between uniform (1.8) and normal (3)."""
    uniform = 0
    for weight in weights:
        values = weight.double().flatten()
        second = values.square().mean()
        kurtosis = values.pow(4).mean() / second.square().clamp_min(1e-300)
        uniform += values.numel() * bool(second == 0 or kurtosis < 2.4)
    return 2 * uniform > sum(weight.numel() for weight in weights)


def nearest_psi(group: Group, weights: Sequence[Tensor]) -> Tensor:
    """Return the psi whose recovered weights are nearest to ``weights`` in least squares; unused slots are zero."""
    folded = group.fold([weight.double() for weight in weights], range(len(weights)))
    _, _, square_sum = group.slot_sums()
    divisor = torch.from_numpy(square_sum).to(folded.device)
    return torch.where(divisor > 0, folded / divisor.clamp_min(1e-300), 0.0)
