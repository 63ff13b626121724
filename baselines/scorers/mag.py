"""MAG: small weights go first (arXiv:1506.02626)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from baselines.layers import scored_weights
from baselines.scorers.gradients import LossFn


def mag(model: nn.Module, loss_fn: LossFn | None, batches: Sequence[Any]) -> dict[str, Tensor]:
    """Score each weight w by \\|w\\|."""
    return {name: w.detach().abs() for name, w in scored_weights(model).items()}
