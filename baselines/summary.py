"""What a pruned (or plain) model really stores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import int64, nn

from baselines.layers import prunable_weights
from baselines.layout import description, header_bytes, payload_bytes, positions_for
from baselines.masks import masks_of
from rps_core.budgets import layer_name


@dataclass(frozen=True)
class SparseSummary:
    """The memory of a model.

    Attributes:
        virtual_size: Number of prunable weights, n.
        kept: Number of them that are stored.
        ratio: n / kept.
        stored_parameters: Kept weights and all other parameters: what papers count.
        stored_bytes: Size of the file of `save_sparse`: 4 bytes a kept weight, their positions (the cheaper of a
            bitmask and 32-bit indices; none if nothing is pruned), everything else in full, batch-norm's running
            statistics and counters included, and the file's header of some 130.
        kept_by_layer: ``{layer name: kept weights}``.
    """

    virtual_size: int
    kept: int
    ratio: float
    stored_parameters: int
    stored_bytes: int
    kept_by_layer: Mapping[str, int]


def sparse_summary(model: nn.Module, *, note: Mapping[str, str] | None = None) -> SparseSummary:
    """Count what a model stores; a plain model stores all its weights and no positions.

    If any layer is pruned, n counts the pruned layers: those left out of the pruning are stored like biases.

    Args:
        model: A pruned or plain model.
        note: What `save_sparse` will be given.

    Raises:
        ValueError: If the model has no prunable weight.
    """
    masks = masks_of(model)
    weights = {name: p for name, p in model.named_parameters() if name in masks} or prunable_weights(model)
    kept_by_layer = {
        layer_name(name): int(masks[name].sum(dtype=int64)) if name in masks else w.numel()
        for name, w in weights.items()
    }
    size, kept = sum(w.numel() for w in weights.values()), sum(kept_by_layer.values())
    rest = [p for name, p in model.named_parameters() if name not in weights]
    # A plain model's weights are stored like all else.
    pruned = {name: mask.numel() for name, mask in masks.items()}
    pruned_size, pruned_kept = sum(pruned.values()), kept if masks else 0
    payload = payload_bytes(model, pruned, pruned_size, pruned_kept)
    return SparseSummary(
        virtual_size=size,
        kept=kept,
        ratio=size / kept if kept else float("inf"),
        stored_parameters=kept + sum(p.numel() for p in rest),
        stored_bytes=payload
        + header_bytes(positions_for(pruned_size, pruned_kept), payload, description(model, pruned, note or {})),
        kept_by_layer=kept_by_layer,
    )
