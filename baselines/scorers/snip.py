"""SNIP: weights whose removal would change the loss least go first (arXiv:1810.02340)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from baselines.layers import scored_weights
from baselines.scorers.gradients import LossFn, mean_gradients


def snip(model: nn.Module, loss_fn: LossFn, batches: Sequence[Any]) -> dict[str, Tensor]:
    """Score each weight w by the connection sensitivity \\|w * dL/dw\\| (eq. 6, without its normalisation).

    The model runs in the mode it is in: the paper's own setting is training mode, where batch-norm uses the
    statistics of the batch. The reference batch holds 10 examples of each class.
    """
    weights = scored_weights(model)
    grads = mean_gradients(model, loss_fn, batches, weights)
    return {name: (w.detach() * grads[name]).abs() for name, w in weights.items()}
