"""What a compressed model costs to keep."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from torch import nn

from rps_core.quantize import psi_bytes
from rps_core.sharing import sharing_of


class GroupSummary(NamedTuple):
    """One group.

    Attributes:
        name: Its name in the vocabulary of budgets.
        layers: Names of its layers.
        size: Number of virtual weights, n.
        slots: Number of slots, m.
    """

    name: str
    layers: tuple[str, ...]
    size: int
    slots: int


@dataclass(frozen=True)
class CompressionSummary:
    """What a compressed model costs to keep.

    Attributes:
        virtual_size: Number of weights that share, n.
        slots: Number of slots, m, over all groups.
        ratio: n / m.
        stored_parameters: Slots and uncompressed parameters: what papers count.
        stored_bytes: What a file must hold: psi in ``psi_dtype``, a float32 scale for each layer, the seed, and all
            uncompressed parameters and buffers, floating-point ones as float32. A file adds a header of some 400
            bytes, which :func:`rps_core.save_compressed` counts in ``size_bytes``.
        groups: The groups.
        relative_error: For each layer ``|w - recovered| / |w|`` where :func:`rps_core.project_` made psi from
            trained weights; else None.
    """

    virtual_size: int
    slots: int
    ratio: float
    stored_parameters: int
    stored_bytes: int
    groups: tuple[GroupSummary, ...]
    relative_error: dict[str, float] | None


def compression_summary(model: nn.Module) -> CompressionSummary:
    """Return what a compressed model costs to keep.

    Args:
        model: A compressed model, or a wrapper of one.

    Raises:
        TypeError: If ``model`` is no module.
        ValueError: If it is not compressed as a whole.
    """
    root, sharing = sharing_of(model)
    groups = sharing.groups
    keys = {array.key for array in sharing.arrays}
    parameters = {name: p for name, p in root.named_parameters() if name not in keys}
    persistent = root.state_dict().keys()
    buffers = [b for name, b in root.named_buffers() if name in persistent]
    plain = [*parameters.values(), *buffers]
    size = sum(group.virtual_size for group in groups)
    slots = sum(group.slots for group in groups)
    layers = sum(len(group.layers) for group in groups)
    array_bytes = sum(psi_bytes(group.slots, sharing.config.psi_dtype) for group in groups)
    return CompressionSummary(
        virtual_size=size,
        slots=slots,
        ratio=size / slots,
        stored_parameters=slots + sum(p.numel() for p in parameters.values()),
        stored_bytes=array_bytes
        + 4 * layers
        + 8
        + sum(t.numel() * (4 if t.is_floating_point() else t.element_size()) for t in plain),
        groups=tuple(GroupSummary(g.name, tuple(la.name for la in g.layers), g.virtual_size, g.slots) for g in groups),
        relative_error=sharing.relative_error,
    )
