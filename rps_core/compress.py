"""Making a model share its weights, and making it plain again."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from rps_core.budgets import resolve_budgets
from rps_core.config import RPSConfig
from rps_core.group import Layer, SharedGroup
from rps_core.layers import OWNED, Candidate, attach, detach, select
from rps_core.mappings import Block
from rps_core.recovery import Fold

SHARING = "_rps_sharing"
_SEED_STEP = 0x9E3779B97F4A7C15
_SEEDS = 1 << 63


@dataclass
class Sharing:
    """What a compressed model knows about its compression.

    Attributes:
        config: What was asked for.
        groups: The groups, each with its psi.
        relative_error: For each layer ``|w - recovered| / |w|``, where psi was projected from trained weights.
    """

    config: RPSConfig
    groups: tuple[SharedGroup, ...]
    relative_error: dict[str, float] | None = None


def find_sharing(model: nn.Module) -> tuple[nn.Module, Sharing] | None:
    """Return the compressed module in ``model`` (itself, or what a wrapper wraps) and its sharing, or None."""
    for module in model.modules():
        if SHARING in module.__dict__:
            return module, module.__dict__[SHARING]
    return None


def sharing_of(model: nn.Module) -> tuple[nn.Module, Sharing]:
    """Return the compressed module in ``model`` and its sharing.

    Raises:
        TypeError: If ``model`` is no module.
        ValueError: If it is not compressed.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, but got {type(model).__name__}")
    found = find_sharing(model)
    if found is None:
        raise ValueError("model must be compressed: call compress_ or project_ on it first")
    return found


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
    return install(model, Sharing(config, groups), psis, candidates)


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
    sharing = Sharing(config, groups, relative_error={})
    install(model, sharing, psis, candidates)
    assert sharing.relative_error is not None
    for group in groups:
        for index, layer in enumerate(group.layers):
            with torch.no_grad():
                weight = weights[layer.name]
                error = torch.linalg.vector_norm(group.weight(index) - weight)
            sharing.relative_error[layer.name] = float(error / torch.linalg.vector_norm(weight).clamp_min(1e-30))
    return model


def plan(model: nn.Module, config: RPSConfig) -> tuple[tuple[SharedGroup, ...], list[Candidate]]:
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
            SharedGroup(
                name=group.name,
                key=f"psi_{number}",
                layers=make_layers([by_name[name] for name in group.layers], config.init_std),
                slots=group.kept,
                mapping=config.mapping,
                seed=(config.seed + number * _SEED_STEP) % _SEEDS,
                gradient_scaling=config.gradient_scaling,
            )
        )
    return tuple(groups), candidates


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
        scale = layer_std(candidate.parameter) / init_std
        layers.append(Layer(candidate.name, tuple(candidate.owners), block, start, scale))
        start += block.size
    return layers


def layer_std(weight: Tensor) -> float:
    """Return the root mean square of a layer's weights, or ``1 / sqrt(3 * fan_in)`` where they are all zero."""
    norm = float(torch.linalg.vector_norm(weight.detach(), dtype=torch.float64))
    if norm > 0:
        return norm / math.sqrt(weight.numel())
    fan_in = max(1, weight.numel() // weight.shape[0]) if weight.dim() else 1
    return 1 / math.sqrt(3 * fan_in)


def draw_psi(group: SharedGroup, number: int, config: RPSConfig, candidates: Sequence[Candidate]) -> Tensor:
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


def nearest_psi(group: SharedGroup, weights: Sequence[Tensor]) -> Tensor:
    """Return the psi whose recovered weights are nearest to ``weights`` in least squares; unused slots are zero."""
    folded = Fold.apply(group, tuple(range(len(weights))), *(weight.double() for weight in weights))
    _, _, square_sum = group.slot_sums()
    divisor = torch.from_numpy(square_sum).to(folded.device)
    return torch.where(divisor > 0, folded / divisor.clamp_min(1e-300), 0.0)


def install(model: nn.Module, sharing: Sharing, psis: Sequence[Tensor], candidates: Sequence[Candidate]) -> nn.Module:
    """Attach a prepared sharing to a model: nothing in here fails."""
    like = candidates[0].parameter
    modules = dict(model.named_modules())
    sources: dict[str, dict[str, tuple[SharedGroup, int]]] = {}
    for group in sharing.groups:
        for index, layer in enumerate(group.layers):
            for path, attribute in layer.owners:
                sources.setdefault(path, {})[attribute] = (group, index)
    for path, attributes in sources.items():
        attach(modules[path], attributes)
    for group, psi in zip(sharing.groups, psis, strict=True):
        model.register_parameter(group.key, nn.Parameter(psi.to(device=like.device, dtype=like.dtype)))
        group.parameters = model._parameters
    model.__dict__[SHARING] = sharing
    return model


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
    weights: dict[tuple[int, int], nn.Parameter] = {}
    for module in list(root.modules()):
        if OWNED not in module.__dict__:
            continue
        parameters = {}
        for attribute, (group, index) in module.__dict__[OWNED].items():
            place = (id(group), index)
            if place not in weights:
                weights[place] = nn.Parameter(group.weight(index).detach().clone())
            parameters[attribute] = weights[place]
        detach(module, parameters)
    for group in sharing.groups:
        del root._parameters[group.key]
    del root.__dict__[SHARING]
    return dense
