"""Making a model share its weights, and making it plain again."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from rps_core.budgets import resolve_budgets
from rps_core.config import RPSConfig
from rps_core.group import Group
from rps_core.kernels import Layer
from rps_core.layers import OWNED, Candidate, attach, detach, select
from rps_core.mappings import Block
from rps_core.quantize import relative_error
from rps_core.sharing import (
    SHARING,
    SharedArray,
    Sharing,
    close_arrays,
    find_sharing,
    open_arrays,
    sharing_of,
)

_SEED_STEP = 0x9E3779B97F4A7C15
_SEEDS = 1 << 63


def compress_(model: nn.Module, config: RPSConfig) -> nn.Module:
    """Make a model share its weights, in place.

    psi is drawn anew from ``config.seed`` alone: with standard deviation ``init_std``, uniform where most of the
    weights look uniform and normal otherwise. A layer's scale lambda is the root mean square of its current weights
    divided by ``init_std``, so that recovered weights have the spread the layer was initialised with. A layer whose
    weights are all zero gets ``1 / sqrt(3 * fan_in)``, PyTorch's default for linear layers and convolutions.

    Args:
        model: Any module, freshly initialised, on any device but meta.
        config: What to compress, how and how much.

    Returns:
        ``model``. Its ``parameters()`` are one psi a group and the uncompressed parameters.

    Raises:
        TypeError: If ``model`` is no module or ``config`` no :class:`RPSConfig`.
        ValueError: If the model is compressed already, is on the meta device, has nothing to share, has a frozen
            parameter or mixed dtypes among those to share; or if a pattern matches nothing or a budget is out of
            range. The model is then unchanged.
    """
    groups, candidates = plan(model, config)
    psis = [draw_psi(group, index, config, candidates) for index, group in enumerate(groups)]
    install(model, config, groups, psis, candidates)
    return model


def project_(model: nn.Module, config: RPSConfig) -> nn.Module:
    """Make a trained model share its weights, in place, with the psi nearest to them in least squares.

    ``psi_j = (sum of lambda g w) / (sum of lambda^2)`` over the weights of slot j, which is exact because R^T R is
    diagonal. ``compression_summary(model).relative_error`` then tells how far each layer moved.

    Args:
        model: The trained model.
        config: As for :func:`compress_`; ``init_std`` sets lambda only.

    Returns:
        ``model``.

    Raises:
        TypeError: As :func:`compress_`.
        ValueError: As :func:`compress_`.
    """
    groups, candidates = plan(model, config)
    weights = {candidate.name: candidate.parameter.detach() for candidate in candidates}
    psis = [nearest_psi(group, [weights[layer.name] for layer in group.layers]) for group in groups]
    sharing = install(model, config, groups, psis, candidates)
    sharing.relative_error = {
        layer.name: relative_error(weights[layer.name], array.weight(index))
        for array in sharing.arrays
        for index, layer in enumerate(array.group.layers)
    }
    return model


def plan(model: nn.Module, config: RPSConfig) -> tuple[tuple[Group, ...], list[Candidate]]:
    """Return the groups that ``config`` makes of a plain model, without touching it, and the parameters they take.

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
                seed=(config.seed + number * _SEED_STEP) % _SEEDS,
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
        ValueError: If one is on the meta device, frozen, not floating-point, empty, or of another dtype or device.
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


def draw_psi(group: Group, number: int, config: RPSConfig, candidates: Sequence[Candidate]) -> Tensor:
    """Return a fresh psi of standard deviation ``init_std`` for group ``number``, on the CPU."""
    generator = torch.Generator().manual_seed((config.seed + number * _SEED_STEP) % _SEEDS)
    names = {layer.name for layer in group.layers}
    members = [candidate.parameter.detach() for candidate in candidates if candidate.name in names]
    psi = torch.empty(group.slots)
    if look_uniform(members):
        bound = math.sqrt(3) * config.init_std
        return psi.uniform_(-bound, bound, generator=generator)
    return psi.normal_(0, config.init_std, generator=generator)


def look_uniform(weights: Sequence[Tensor]) -> bool:
    """Return whether most weights look uniform: kurtosis below 2.4, half-way between uniform (1.8) and normal (3)."""
    uniform = 0
    for weight in weights:
        values = weight.double().flatten()
        second = values.square().mean()
        kurtosis = values.pow(4).mean() / second.square().clamp_min(1e-300)
        uniform += values.numel() * bool(second == 0 or kurtosis < 2.4)
    return 2 * uniform > sum(weight.numel() for weight in weights)


def nearest_psi(group: Group, weights: Sequence[Tensor]) -> Tensor:
    """Return the psi whose recovered weights are nearest to ``weights`` in least squares; unused slots are zero."""
    folded = group.kernel(weights[0].device).fold([weight.double() for weight in weights], range(len(weights)))
    _, _, square_sum = group.slot_sums()
    divisor = torch.from_numpy(square_sum).to(folded.device)
    return torch.where(divisor > 0, folded / divisor.clamp_min(1e-300), 0.0)


def install(
    model: nn.Module,
    config: RPSConfig,
    groups: Sequence[Group],
    psis: Sequence[Tensor],
    candidates: Sequence[Candidate],
) -> Sharing:
    """Attach prepared groups to a model and return what it now carries. Nothing in here can fail."""
    like = candidates[0].parameter
    modules = dict(model.named_modules())
    arrays = tuple(SharedArray(group, model._parameters, psi_key(number)) for number, group in enumerate(groups))
    sources: dict[str, dict[str, tuple[SharedArray, int]]] = {}
    for array in arrays:
        for index, layer in enumerate(array.group.layers):
            for path, attribute in layer.owners:
                sources.setdefault(path, {})[attribute] = (array, index)
    for path, attributes in sources.items():
        attach(modules[path], attributes)
    for array, psi in zip(arrays, psis, strict=True):
        model.register_parameter(array.key, nn.Parameter(psi.to(device=like.device, dtype=like.dtype)))
    model.register_forward_pre_hook(open_arrays)
    model.register_forward_hook(close_arrays, always_call=True)
    sharing = Sharing(config, arrays)
    model.__dict__[SHARING] = sharing
    return sharing


def to_dense(model: nn.Module) -> nn.Module:
    """Return a plain copy of a compressed model, with equal outputs and no trace of the compression.

    Args:
        model: A model that :func:`compress_` or :func:`project_` changed.

    Returns:
        A new model; tied weights are tied in it.

    Raises:
        TypeError: If ``model`` is no module.
        ValueError: If it is not compressed.
    """
    sharing_of(model)
    dense = copy.deepcopy(model)
    root, sharing = sharing_of(dense)
    weights: dict[tuple[str, int], nn.Parameter] = {}
    for module in list(root.modules()):
        parameters = {}
        for attribute, (array, index) in module.__dict__.get(OWNED, {}).items():
            place = (array.key, index)
            if place not in weights:
                weights[place] = nn.Parameter(array.weight(index).detach())
            parameters[attribute] = weights[place]
        if parameters:
            detach(module, parameters)
    for array in sharing.arrays:
        del root._parameters[array.key]
    del root.__dict__[SHARING]
    remove_hooks(root)
    return dense


def remove_hooks(root: nn.Module) -> None:
    """Take the forward hooks of a compressed model off."""
    for number in [number for number, hook in root._forward_pre_hooks.items() if hook is open_arrays]:
        del root._forward_pre_hooks[number]
    for number in [number for number, hook in root._forward_hooks.items() if hook is close_arrays]:
        del root._forward_hooks[number]
        del root._forward_hooks_always_called[number]
