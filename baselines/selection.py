"""From scores to masks: which weights stay, counted exactly."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

_SAMPLE = 2**13


def keep_largest(scores: Tensor, kept: int) -> Tensor:
    """Return a boolean mask of the ``kept`` largest entries; of equal entries the first by position stay.

    Args:
        scores: Finite or ``-inf`` values of any shape.
        kept: Number of entries to keep, ``0 <= kept <= scores.numel()``.
    """
    flat = scores.flatten()
    if kept == 0:
        return torch.zeros_like(scores, dtype=torch.bool)
    threshold = _kth_largest(flat, kept)
    mask = flat >= threshold
    excess = int(mask.count_nonzero()) - kept
    if excess:
        ties = (flat == threshold).nonzero().squeeze(1)
        mask[ties[-excess:]] = False
    return mask.view(scores.shape)


def select(
    scores: Mapping[str, Tensor], kept: int, *, floor: int = 0, masks: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """Return the masks that keep the ``kept`` best weights of all layers together.

    Args:
        scores: ``{name: scores}`` of the layers that share the budget, finite; larger means more worth keeping.
        kept: Number of weights kept in all, at most those that ``masks`` left.
        floor: Number of weights that each layer keeps at least (all that are left where it has fewer).
        masks: Boolean masks of earlier selections: what they removed stays removed.

    Returns:
        ``{name: boolean mask}``, ``kept`` entries true in all.

    Raises:
        ValueError: If the floors together exceed ``kept``.
    """
    names = list(scores)
    sizes = [scores[name].numel() for name in names]
    pooled = torch.cat([scores[name].flatten() for name in names])
    if masks:
        removed = [
            ~masks[n].to(s.device) if n in masks else torch.zeros_like(s, dtype=torch.bool) for n, s in scores.items()
        ]
        pooled.masked_fill_(torch.cat([mask.flatten() for mask in removed]), -torch.inf)
    if floor:
        reserved = torch.cat([_best(part, floor) for part in pooled.split(sizes)])
        if int(reserved.sum()) > kept:
            raise ValueError(
                f"the floors of a group must fit its budget, but floor={floor} needs {int(reserved.sum())} weights "
                f"in {len(names)} layers and the budget is {kept}: lower the floor or the ratio"
            )
        pooled.masked_fill_(reserved, torch.inf)
    parts = keep_largest(pooled, kept).split(sizes)
    return {name: part.view(scores[name].shape) for name, part in zip(names, parts, strict=True)}


def _kth_largest(flat: Tensor, k: int) -> Tensor:
    """Return the k-th largest entry, exactly.

    Sorting a sample gives two values that most likely enclose it; then only what lies between them has to be ranked,
    which is several times faster than ranking everything.
    """
    if flat.numel() > 128 * _SAMPLE:
        sample = flat[:: flat.numel() // _SAMPLE].sort(descending=True).values
        centre = round(k / flat.numel() * (len(sample) - 1))
        margin = len(sample) // 32
        high, low = sample[max(0, centre - margin)], sample[min(len(sample) - 1, centre + margin)]
        rank = k - int((flat > high).count_nonzero())
        between = flat[(flat <= high) & (flat >= low)]
        if 1 <= rank <= between.numel():
            return between.kthvalue(between.numel() - rank + 1).values
    return flat.kthvalue(flat.numel() - k + 1).values


def _best(scores: Tensor, floor: int) -> Tensor:
    return keep_largest(scores, min(floor, int((scores > -torch.inf).count_nonzero())))
