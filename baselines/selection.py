"""From scores to masks: which weights stay, counted exactly."""

from __future__ import annotations

import numbers
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

_SAMPLE = 2**13


def check_count(name: str, count: int, *, least: int) -> None:
    """Check a number that counts something.

    Raises:
        ValueError: If it is no whole number, or below ``least``.
    """
    if not isinstance(count, numbers.Integral) or count < least:
        raise ValueError(f"{name} >= {least} must hold, in whole numbers, but got {name}={count!r}")


def keep_largest(scores: Tensor, kept: int) -> Tensor:
    """Return a boolean mask of the ``kept`` largest entries; of equal entries the first by position stay.

    Args:
        scores: Finite or infinite values of any shape, no NaN.
        kept: Number of entries to keep, ``0 <= kept <= scores.numel()``.
    """
    return _keep_largest([scores.flatten()], kept)[0].view(scores.shape)


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
    parts = [s.flatten() for s in scores.values()]
    if len({part.dtype for part in parts}) > 1 or not parts[0].is_floating_point():
        parts = [part.double() for part in parts]
    left = [_left(part, masks.get(name) if masks else None) for name, part in zip(scores, parts, strict=True)]
    # What earlier masks and floors change costs passes over all scores and mostly is nothing: where the plain ranking
    # keeps no weight that is gone and enough of each layer, it is the answer.
    chosen = _keep_largest(parts, kept)
    if any((mask > alive).any() for mask, alive in zip(chosen, left, strict=True)):
        parts = [part.masked_fill(~alive, -torch.inf) for part, alive in zip(parts, left, strict=True)]
        chosen = _keep_largest(parts, kept)
    if floor:
        least = [min(floor, _count(alive)) for alive in left]
        if sum(least) > kept:
            raise ValueError(
                f"the floors of a group must fit its budget, but floor={floor} needs {sum(least)} weights in "
                f"{len(parts)} layers and the budget is {kept}: lower the floor or the ratio"
            )
        if any(_count(mask) < lowest for mask, lowest in zip(chosen, least, strict=True)):
            chosen = _keep_largest_with_floors(parts, kept, least, left)
    return {name: mask.view(s.shape) for (name, s), mask in zip(scores.items(), chosen, strict=True)}


def _keep_largest_with_floors(
    parts: Sequence[Tensor], kept: int, least: Sequence[int], left: Sequence[Tensor]
) -> list[Tensor]:
    parts = [part.masked_fill(~alive, -torch.inf) for part, alive in zip(parts, left, strict=True)]
    reserved = [keep_largest(part, lowest) for part, lowest in zip(parts, least, strict=True)]
    return _keep_largest([part.masked_fill(mask, torch.inf) for part, mask in zip(parts, reserved, strict=True)], kept)


def _keep_largest(parts: Sequence[Tensor], kept: int) -> list[Tensor]:
    """Return boolean masks of the ``kept`` largest entries of all parts, of equal ones the first by position.

    Two values of a sorted sample most likely enclose the smallest that stays; then only what lies between them is
    ranked. Nothing is copied but that, which is several times faster than to rank all parts in one tensor.
    """
    low, high = _enclosing(parts, kept)
    masks = [part > high for part in parts]
    places = [((part >= low) ^ mask).nonzero().squeeze(1) for part, mask in zip(parts, masks, strict=True)]
    rank = kept - sum(map(_count, masks))
    if not 0 <= rank <= sum(map(len, places)):  # the sample misled
        masks = [torch.zeros_like(mask) for mask in masks]
        places = [torch.arange(len(part), device=part.device) for part in parts]
        rank = kept
    between = torch.cat([part[place] for part, place in zip(parts, places, strict=True)])
    chosen = _first_of_largest(between, rank).split([len(place) for place in places])
    for mask, place, inner in zip(masks, places, chosen, strict=True):
        mask[place[inner]] = True
    return masks


def _first_of_largest(flat: Tensor, kept: int) -> Tensor:
    """Return the mask of the ``kept`` largest entries by ranking all of them."""
    if kept == 0:
        return torch.zeros_like(flat, dtype=torch.bool)
    threshold = flat.kthvalue(flat.numel() - kept + 1).values
    mask = flat >= threshold
    excess = _count(mask) - kept
    if excess:
        mask[(flat == threshold).nonzero().squeeze(1)[-excess:]] = False
    return mask


def _enclosing(parts: Sequence[Tensor], kept: int) -> tuple[Tensor, Tensor]:
    """Return two values between which the ``kept``-th largest entry most likely lies."""
    total = sum(map(len, parts))
    infinity = torch.full((), torch.inf, dtype=parts[0].dtype, device=parts[0].device)
    if total <= 16 * _SAMPLE:
        return -infinity, infinity
    stride = total // _SAMPLE
    sample = torch.cat([part[stride // 2 :: stride] for part in parts]).sort(descending=True).values
    centre = round(kept / total * (len(sample) - 1))
    margin = max(1, len(sample) // 32)  # 6 standard deviations of the rank of a median
    low = sample[centre + margin] if centre + margin < len(sample) else -infinity
    return low, sample[centre - margin] if centre >= margin else infinity


def _left(part: Tensor, mask: Tensor | None) -> Tensor:
    """Return what an earlier mask left of a layer."""
    return torch.ones_like(part, dtype=torch.bool) if mask is None else mask.to(part.device).flatten()


def _count(mask: Tensor) -> int:
    return int(mask.count_nonzero())
