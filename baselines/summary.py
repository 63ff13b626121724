"""What a pruned (or plain) model really stores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, int64, nn

from baselines.layers import prunable_weights
from baselines.masks import masks_of
from rps_core.budgets import layer_name

VALUE_BYTES = 4
INDEX_BYTES = 4


@dataclass(frozen=True)
class SparseSummary:
    """The memory of a model.

    Attributes:
        virtual_size: Number of prunable weights, n.
        kept: Number of them that are stored.
        ratio: n / kept.
        stored_parameters: Kept weights and all other parameters: what papers count.
        stored_bytes: What the saved file needs at float32: 4 bytes a kept weight, their positions (the cheaper of a
            bitmask and 32-bit indices; none if nothing is pruned), and everything else in full, batch-norm's running
            statistics and counters included.
        kept_by_layer: ``{layer name: kept weights}``.
    """

    virtual_size: int
    kept: int
    ratio: float
    stored_parameters: int
    stored_bytes: int
    kept_by_layer: Mapping[str, int]


def position_bytes(size: int, kept: int) -> int:
    """Return the bytes that say where ``kept`` of ``size`` weights are: the cheaper of bitmask and 32-bit indices."""
    if size > 2**32:  # beyond what 32 bits can point at
        return 0 if kept == size else -(-size // 8)
    return 0 if kept == size else min(-(-size // 8), INDEX_BYTES * kept)


def sparse_summary(model: nn.Module) -> SparseSummary:
    """Count what a model stores; a plain model stores all its weights and no positions.

    If any layer is pruned, n counts the pruned layers: those left out of the pruning are stored like biases.

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
    return SparseSummary(
        virtual_size=size,
        kept=kept,
        ratio=size / kept if kept else float("inf"),
        stored_parameters=kept + sum(p.numel() for p in rest),
        stored_bytes=VALUE_BYTES * kept
        + position_bytes(size, kept)
        + sum(stored_tensor_bytes(t) for t in [*rest, *stored_buffers(model).values()]),
        kept_by_layer=kept_by_layer,
    )


def stored_buffers(model: nn.Module) -> dict[str, Tensor]:
    """Return the buffers that a saved model holds beside its masks, each once."""
    masks = {id(mask) for mask in masks_of(model).values()}
    saved = model.state_dict(keep_vars=True)
    return {name: b for name, b in model.named_buffers() if name in saved and id(b) not in masks}


def stored_tensor_bytes(tensor: Tensor) -> int:
    """Return a tensor's bytes in a file: 4 for each real number, its own size for integers and booleans."""
    return tensor.numel() * (VALUE_BYTES if tensor.is_floating_point() else tensor.element_size())
