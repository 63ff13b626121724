"""SYNFLOW: iterative, data-free pruning that conserves synaptic flow (arXiv:2006.05467)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from baselines.layers import scored_weights
from baselines.masks import MASK_SUFFIX
from baselines.scorers.gradients import LossFn, gradients

ITERATIONS = 100
"""Number of scoring and pruning steps of the published method."""

_CASTS = {Tensor.to, Tensor.type, Tensor.type_as, Tensor.float, Tensor.half, Tensor.bfloat16}


def make_positive_(model: nn.Module) -> None:
    """Prepare a private copy for `synflow`, once: float64, since R multiplies the layers' sizes, and no negative value.

    It runs in eval mode, with batch-norm statistics made non-negative: batch statistics of a constant input would be
    zero. One deviation: a normalisation whose scale is zero throughout (residual branches that start as the identity)
    is scored as if its scale were one. R would otherwise not depend on the branch and the method would remove all of
    it (Synaptic-Flow issue 11).
    """
    model.double().eval()
    with torch.no_grad():
        for name, tensor in (*model.named_parameters(), *model.named_buffers()):
            if tensor.is_floating_point() and not name.endswith(MASK_SUFFIX):
                tensor.abs_()
        for name, parameter in model.named_parameters():
            if name.endswith("weight") and parameter.dim() == 1 and not parameter.any():
                parameter.fill_(1.0)


def synflow(model: nn.Module, loss_fn: LossFn | None, batches: Sequence[Any]) -> dict[str, Tensor]:
    """Score each weight by \\|w * dR/dw\\|, R the summed output of the network with \\|w\\| on an all-ones input.

    One deviation: activations with an upper end (ReLU6, hardtanh) are taken without it. Positive flow grows through
    the layers, beyond any such end, and all that stands before it would have no gradient at all. Gates (sigmoid,
    hardsigmoid) keep theirs, for products of unbounded factors overflow: what decides a saturated gate scores zero.
    A model that casts to a format of its own (``x.float()``) computes in float64 all the same.

    Args:
        model: A private copy after `make_positive_`.
        loss_fn: Not used.
        batches: The input's shape is that of the first tensor in the first batch, for one example.
    """
    weights = scored_weights(model)
    with _Unbounded(), _Double():
        flow = model(_ones_like_input(batches[0], next(iter(weights.values()))))
    grads = gradients(flow.sum(), weights)
    return {name: grads[name].mul_(w.detach()).abs_() for name, w in weights.items()}


class _Unbounded(TorchFunctionMode):
    """Replaces activations that end above by what they are below that end, as modules and as functions."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is F.relu6:
            return F.relu(args[0])
        if func is F.hardtanh:
            return _from_below(*args, **kwargs or {})
        return func(*args, **kwargs or {})


class _Double(TorchFunctionMode):
    """Casts to other floating-point formats as casts to float64, which the weights are in and the flow needs."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **kwargs or {})
        if func in _CASTS and isinstance(result, Tensor) and result.is_floating_point():
            return args[0].to(result.device, torch.float64)
        return result


def _from_below(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    return input.clamp(min=min_val)


def _ones_like_input(batch: Any, weight: Tensor) -> Tensor:
    while not isinstance(batch, Tensor):
        if not isinstance(batch, list | tuple) or not batch:
            raise TypeError(
                "synflow takes its input's shape from the first tensor of a batch, but got a batch of type "
                f"{type(batch).__name__}: pass example_input"
            )
        batch = batch[0]
    if not batch.is_floating_point():
        raise TypeError(f"synflow feeds the network ones, but its input is of type {batch.dtype}: it needs real inputs")
    return torch.ones((1, *batch.shape[1:]), dtype=weight.dtype, device=weight.device)
