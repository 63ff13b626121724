"""What a configuration makes of a model: which tensors share, in which groups, at which scales."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import numpy as np
import torch
from torch import nn

from rps_core.budgets import resolve_budgets
from rps_core.config import RPSConfig
from rps_core.group import Group
from rps_core.hashing import group_seed
from rps_core.kernels import Layer
from rps_core.layers import Candidate, select
from rps_core.mappings import Block
from rps_core.sharing import find_sharing


def plan(
    model: nn.Module, config: RPSConfig, *, filled: Collection[str] | None = None
) -> tuple[tuple[Group, ...], list[Candidate]]:
    """Return the groups that ``config`` makes of a plain model, without touching it, and the parameters they take.

    Args:
        model: The model.
        config: What to share.
        filled: Names of the layers whose row of padding shares as any other, as a file has it; None takes those
            where it is not zero or would not stay so.

    Raises:
        TypeError: As :func:`compress_`.
        ValueError: As :func:`compress_`.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, but got {type(model).__name__}")
    if not isinstance(config, RPSConfig):
        raise TypeError(f"config must be an RPSConfig, but got {type(config).__name__}")
    if find_sharing(model) is not None:
        raise ValueError("a model is compressed once, but this one is already: build a new one, or use to_dense")
    candidates = select(model, config.include, config.exclude)
    check_shareable(candidates)
    for candidate in candidates:
        if candidate.padding is not None and (not candidate.keeps_zero if filled is None else candidate.name in filled):
            candidate.padding = None
    by_name = {candidate.name: candidate for candidate in candidates}
    sizes = {name: candidate.parameter.numel() for name, candidate in by_name.items()}
    groups = []
    for number, group in enumerate(resolve_budgets(sizes, ratio=config.ratio, budgets=config.budgets)):
        groups.append(
            Group(
                name=group.name,
                layers=tuple(make_layers([by_name[name] for name in group.layers], config.init_std)),
                slots=group.kept,
                mapping_name=config.mapping,
                seed=group_seed(config.seed, number),
                gradient_scaling=config.gradient_scaling,
            )
        )
        if hasattr(model, psi_key(number)):
            raise ValueError(f"a model must have no attribute {psi_key(number)!r}: rename it, psi takes that name")
    return tuple(groups), candidates


def psi_key(number: int) -> str:
    """Return the name of the parameter that is the psi of group ``number``."""
    return f"psi_{number}"


def check_shareable(candidates: Sequence[Candidate]) -> None:
    """Refuse parameters that cannot share one psi.

    Raises:
        ValueError: If one is on the meta device, frozen, not floating-point, empty, changed in place by its layer,
            read through a mask, or of another dtype or device than the first.
    """
    first = candidates[0]
    for candidate in candidates:
        parameter, where = candidate.parameter, f"(layer {candidate.name!r})"
        if parameter.is_meta:
            raise ValueError(f"weights must be real, but these are on the meta device {where}: use model.to_empty")
        if not parameter.is_floating_point():
            raise ValueError(f"weights must be floating-point, but got {parameter.dtype} {where}: exclude it")
        if parameter.numel() == 0:
            raise ValueError(f"weights must not be empty {where}: exclude it")
        if not parameter.requires_grad:
            raise ValueError(f"weights must be trainable, but requires_grad is False {where}: exclude it")
        if candidate.renormalised:
            raise ValueError(
                f"embeddings that share must not change their weights, but max_norm is set {where}: exclude it"
            )
        if candidate.computed:
            raise ValueError(
                f"weights must be read as they are, but these are masked or else computed with {where}: exclude it or "
                "take the mask off first"
            )
        if parameter.dtype != first.parameter.dtype:
            raise ValueError(
                f"weights that share must have one dtype, but got {first.parameter.dtype} (layer {first.name!r}) "
                f"and {parameter.dtype} {where}: exclude one or convert the model"
            )
        if parameter.device != first.parameter.device:
            raise ValueError(
                f"weights that share must be on one device, but got {first.parameter.device} (layer {first.name!r}) "
                f"and {parameter.device} {where}"
            )


def make_layers(candidates: Sequence[Candidate], init_std: float) -> list[Layer]:
    """Return the layers of a group, flattened in order, with their scales."""
    layers: list[Layer] = []
    start = 0
    for candidate in candidates:
        block = Block(tuple(candidate.parameter.shape), candidate.table)
        # A float32 value, so that a file can hold it exactly in four bytes.
        scale = float(np.float32(layer_std(candidate) / init_std))
        layers.append(Layer(candidate.name, tuple(candidate.owners), block, start, scale, candidate.padding))
        start += block.size
    return layers


def layer_std(candidate: Candidate) -> float:
    """Return the root mean square of a layer's weights, or ``1 / sqrt(3 * fan_in)`` where they are all zero."""
    weight = candidate.parameter.detach()
    if candidate.padding is not None:
        weight = torch.cat([weight[: candidate.padding], weight[candidate.padding + 1 :]])
    norm = float(torch.linalg.vector_norm(weight, dtype=torch.float64))
    if not math.isfinite(norm):
        raise ValueError(f"weights must be finite, but some are not (layer {candidate.name!r})")
    if norm > 0:
        return norm / math.sqrt(weight.numel())
    fan_in = max(1, weight.numel() // max(1, len(weight))) if weight.dim() else 1
    return 1 / math.sqrt(3 * fan_in)
