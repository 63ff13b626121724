"""From scores to masks: which weights stay, counted exactly."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def keep_largest(scores: Tensor, kept: int) -> Tensor:
    """Return a boolean mask of the ``kept`` largest entries; of equal entries the first by position stay.

    Args:
        scores: Finite or ``-inf`` values of any shape.
        kept: Number of entries to keep, ``0 <= kept <= scores.numel()``.
    """
    flat = scores.flatten()
    if kept == 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    threshold = flat.kthvalue(flat.numel() - kept + 1).values
    mask = flat > threshold
    ties = (flat == threshold).nonzero().squeeze(1)
    mask[ties[: kept - int(mask.sum())]] = True
    return mask.view(scores.shape)


def select(scores: Mapping[str, Tensor], kept: int, *, floor: int = 0) -> dict[str, Tensor]:
    """Return the masks that keep the ``kept`` best weights of all layers together.

    Args:
        scores: ``{name: scores}`` of the layers that share the budget; larger means more worth keeping, ``-inf``
            marks weights that are gone already.
        kept: Number of weights kept in all.
        floor: Number of weights that each layer keeps at least (all that are left where it has fewer).

    Returns:
        ``{name: boolean mask}``, ``kept`` entries true in all.

    Raises:
        ValueError: If the floors together exceed ``kept``.
    """
    names = list(scores)
    sizes = [scores[name].numel() for name in names]
    pooled = torch.cat([scores[name].flatten() for name in names])
    if floor:
        reserved = torch.cat([_best(scores[name].flatten(), floor) for name in names])
        if int(reserved.sum()) > kept:
            raise ValueError(
                f"the floors of a group must fit its budget, but floor={floor} needs {int(reserved.sum())} weights "
                f"in {len(names)} layers and the budget is {kept}: lower the floor or the ratio"
            )
        pooled = pooled.masked_fill(reserved, torch.inf)
    parts = keep_largest(pooled, kept).split(sizes)
    return {name: part.view(scores[name].shape) for name, part in zip(names, parts, strict=True)}


def _best(scores: Tensor, floor: int) -> Tensor:
    return keep_largest(scores, min(floor, int((scores > -torch.inf).sum())))
