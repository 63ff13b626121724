"""Gradients of a user's loss with respect to weights, with the errors a user can act on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

LossFn = Callable[[nn.Module, Any], Tensor]
"""``loss_fn(model, batch)``: the scalar loss of the model on one batch."""


def loss_of(model: nn.Module, loss_fn: LossFn, batch: Any) -> Tensor:
    """Return ``loss_fn(model, batch)`` after checking that it can be differentiated.

    Raises:
        TypeError: If the loss is no tensor.
        ValueError: If it is not a scalar or carries no gradient.
    """
    loss = loss_fn(model, batch)
    if not isinstance(loss, Tensor):
        raise TypeError(f"loss_fn(model, batch) must return a tensor, but got {type(loss).__name__}")
    if loss.numel() != 1:
        raise ValueError(f"loss_fn(model, batch) must return a scalar, but got shape {tuple(loss.shape)}")
    if not loss.requires_grad:
        raise ValueError(
            "the loss must depend on the weights of the model it is given, but it carries no gradient: use the model "
            "that is passed to loss_fn, without detach() or no_grad()"
        )
    return loss.sum()


def gradients(loss: Tensor, weights: Mapping[str, nn.Parameter], *, create_graph: bool = False) -> dict[str, Tensor]:
    """Return ``{name: d loss / d weight}``, zeros for a weight that the loss does not use.

    Raises:
        ValueError: If the loss uses none of the weights.
    """
    found = torch.autograd.grad(loss, list(weights.values()), create_graph=create_graph, allow_unused=True)
    if all(g is None for g in found):
        raise ValueError("the loss must depend on the prunable weights of the model it is given, but uses none of them")
    return {name: torch.zeros_like(w) if g is None else g for (name, w), g in zip(weights.items(), found, strict=True)}


def mean_gradients(
    model: nn.Module, loss_fn: LossFn, batches: Sequence[Any], weights: Mapping[str, nn.Parameter]
) -> dict[str, Tensor]:
    """Return ``{name: gradient}`` of the mean loss over ``batches``."""
    return mean(gradients(loss_of(model, loss_fn, batch), weights) for batch in batches)


def mean(terms: Iterable[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return the mean of dictionaries of tensors, entry by entry; one term is in memory at a time."""
    total: dict[str, Tensor] = {}
    count = 0
    for term in terms:
        count += 1
        total = {name: total[name] + value if total else value for name, value in term.items()}
    return {name: value / count for name, value in total.items()}
