"""Small models: the same architecture with fewer channels, as near to a memory budget as it comes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

_TOLERANCE = 1e-4


def small_model(
    build: Callable[[float], nn.Module],
    budget_parameters: int,
    *,
    max_width: float = 1.0,
    sketch: Callable[[float], nn.Module] | None = None,
) -> tuple[nn.Module, float]:
    """Build the model whose parameter count comes nearest to a budget.

    Args:
        build: ``build(width)`` returns a new model whose channel counts are ``width`` times the full ones, rounded as
            it likes and at least 1; its parameter count must not fall as width rises. It takes no random numbers but
            for the model that is returned.
        budget_parameters: Number of parameters wanted, all of the model's, > 0.
        max_width: The largest width tried, > 0; 1 is the full model.
        sketch: Builds the same only to be counted: it is called some 15 times, on the meta device where it can be,
            and such calls take no memory; where it fails, ``build`` is counted. None takes ``build``, which must then
            leave the model where it is built.

    Returns:
        The model, drawn once from the random state the caller left, and its width.

    Raises:
        ValueError: If the budget or ``max_width`` is not positive.
    """
    if budget_parameters <= 0:
        raise ValueError(f"budget_parameters > 0 must hold, but got {budget_parameters}")
    if not max_width > 0:
        raise ValueError(f"max_width > 0 must hold, but got {max_width}")
    sketch = sketch or build

    def count_at(width: float) -> int:
        return count_parameters(sketch, build, width)

    low, high = 0.0, max_width
    best = high
    best_gap = abs(count_at(high) - budget_parameters)
    while high - low > _TOLERANCE * max_width:
        middle = (low + high) / 2
        count = count_at(middle)
        gap = abs(count - budget_parameters)
        if gap < best_gap:
            best, best_gap = middle, gap
        low, high = (low, middle) if count > budget_parameters else (middle, high)
    return build(best), best


def count_parameters(sketch: Callable[[float], nn.Module], build: Callable[[float], nn.Module], width: float) -> int:
    """Return the number of parameters of ``build(width)``, leaving the random state alone."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices=devices):
        try:
            with torch.device("meta"):
                return _count(sketch(width))
        except Exception:  # it needs values, another device or a pass to know its sizes, and may say so in its own way
            return _count(build(width))


def _count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())
