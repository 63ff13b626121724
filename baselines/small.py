"""Small models: the same architecture with fewer channels, as near to a memory budget as it comes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

_TOLERANCE = 1e-4


def small_model(
    build: Callable[[float], nn.Module], budget_parameters: int, *, max_width: float = 1.0
) -> tuple[nn.Module, float]:
    """Build the model whose parameter count comes nearest to a budget.

    Args:
        build: ``build(width)`` returns a new model whose channel counts are ``width`` times the full ones, rounded as
            it likes and at least 1; its parameter count must not fall as width rises. It is called some 20 times, on
            the meta device where it can be: such calls take no memory, and no random numbers either way.
        budget_parameters: Number of parameters wanted, all of the model's, > 0.
        max_width: The largest width tried, > 0; 1 is the full model.

    Returns:
        The model, drawn once from the random state the caller left, and its width.

    Raises:
        ValueError: If the budget or ``max_width`` is not positive.
    """
    if budget_parameters <= 0:
        raise ValueError(f"budget_parameters > 0 must hold, but got {budget_parameters}")
    if not max_width > 0:
        raise ValueError(f"max_width > 0 must hold, but got {max_width}")
    low, high = 0.0, max_width
    best = high
    best_gap = abs(count_parameters(build, high) - budget_parameters)
    while high - low > _TOLERANCE * max_width:
        middle = (low + high) / 2
        count = count_parameters(build, middle)
        gap = abs(count - budget_parameters)
        if gap < best_gap:
            best, best_gap = middle, gap
        low, high = (low, middle) if count > budget_parameters else (middle, high)
    return build(best), best


def count_parameters(build: Callable[[float], nn.Module], width: float) -> int:
    """Return the number of parameters of ``build(width)``, leaving the random state alone."""
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices=devices):
        try:
            with torch.device("meta"):
                model = build(width)
        except (NotImplementedError, RuntimeError):  # an initialisation that needs values
            model = build(width)
    return sum(p.numel() for p in model.parameters())
