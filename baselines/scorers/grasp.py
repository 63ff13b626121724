"""GRASP: weights whose removal keeps the gradient flow go first (arXiv:2002.07376)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from baselines.layers import scored_weights
from baselines.scorers.gradients import LossFn, gradients, loss_of, mean, mean_gradients

TEMPERATURE = 200.0
"""What the logits are divided by, as in the authors' experiments."""


def grasp(
    model: nn.Module, loss_fn: LossFn, batches: Sequence[Any], *, temperature: float = TEMPERATURE
) -> dict[str, Tensor]:
    """Score each weight w by w * (H g), g the gradient and H the Hessian of the loss with tempered logits.

    The paper (eq. 8) removes the weights with the largest -w * (H g): removing those increases the gradient norm
    most, or decreases it least. So the largest w * (H g) are kept. Scores may be negative. H and g are those of the
    prunable weights and of the mean loss over the batches; the model runs in the mode it is in.

    Args:
        model: A private copy, whose output is the tensor of logits.
        loss_fn: Its scalar loss on a batch.
        batches: The reference is one batch of 10 examples a class.
        temperature: Positive divisor of the model's output.

    Raises:
        TypeError: If the model's output is not a tensor.
        ValueError: If the loss carries no gradient.
    """
    weights = scored_weights(model)
    with _tempered(model, temperature), sdpa_kernel(SDPBackend.MATH):  # fused attention has no second derivative
        flow = mean_gradients(model, loss_fn, batches, weights)
        curvature = mean(hessian_times(flow, loss_of(model, loss_fn, batch), weights) for batch in batches)
    return {name: w.detach() * curvature[name] for name, w in weights.items()}


def hessian_times(vector: Mapping[str, Tensor], loss: Tensor, weights: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """Return ``{name: (H vector) of that weight}``, H the Hessian of ``loss`` with respect to ``weights``."""
    grads = gradients(loss, weights, create_graph=True)
    product = torch.stack([(grads[name] * vector[name]).sum() for name in weights]).sum()
    if not product.requires_grad:  # the loss is linear in the weights
        return {name: torch.zeros_like(w) for name, w in weights.items()}
    rows = torch.autograd.grad(product, list(weights.values()), allow_unused=True)
    return {name: torch.zeros_like(w) if r is None else r for (name, w), r in zip(weights.items(), rows, strict=True)}


@contextmanager
def _tempered(model: nn.Module, temperature: float) -> Iterator[None]:
    def divide(module: nn.Module, inputs: Any, output: Any) -> Tensor:
        if not isinstance(output, Tensor):
            raise TypeError(
                f"grasp divides the model's output by a temperature, so it must be a tensor, but got "
                f"{type(output).__name__}: wrap the model so that it returns logits"
            )
        return output / temperature

    handle = model.register_forward_hook(divide)
    try:
        yield
    finally:
        handle.remove()
