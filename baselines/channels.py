"""Structured pruning: whole channels are cut out, so that the network gets faster and not only smaller."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from baselines.channel_graph import ChannelGroup, channel_groups
from baselines.copying import copied
from baselines.layers import prunable_weights
from baselines.masks import masks_of
from baselines.pruning import score
from baselines.scorers import Scorer, find_method
from baselines.scorers.gradients import LossFn
from baselines.selection import check_count, select
from rps_core.budgets import check_ratio


@dataclass(frozen=True)
class ChannelConfig:
    """How channels are pruned.

    Attributes:
        method: As in `PruneConfig`, but for the allocations ``"erk"`` and ``"uniform"``, which rank nothing; scores are
            computed once.
        ratio: Weights before / weights after, counted over all prunable weights; >= 1. It is met as nearly as whole
            channels allow.
        scope: ``"global"`` ranks the channels of all layers together; ``"layer"`` keeps the same share of each.
        floor: Number of channels that each layer keeps at least, >= 1.
        seed: Decides all that is random.
    """

    method: str | Scorer = "mag"
    ratio: float = 1.0
    scope: Literal["global", "layer"] = "global"
    floor: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if find_method(self.method).allocation is not None:
            raise ValueError(f"channels are ranked by scores, but {self.method!r} has none: take mag, snip or another")
        check_ratio(self.ratio)
        if self.scope not in ("global", "layer"):
            raise ValueError(f"scope must be 'global' or 'layer', but got {self.scope!r}")
        check_count("floor", self.floor, least=1)


def prune_channels_(
    model: nn.Module,
    config: ChannelConfig,
    *,
    example_input: Tensor,
    loss_fn: LossFn | None = None,
    batches: Iterable[Any] | None = None,
) -> nn.Module:
    """Cut channels out of a model in place; afterwards it is a plain, narrower model.

    A channel's score is the mean score of the weights that compute it, in all layers whose channels must be cut
    together (those that a residual connection adds up). Which these are is found by `channel_groups`.

    Args:
        model: A plain module that `torch.fx` can trace.
        config: Method, ratio and scope.
        example_input: A batch of inputs, ``(N, ...)``.
        loss_fn: As for `baselines.prune_`.
        batches: As for `baselines.prune_`.

    Returns:
        ``model``. Gradients of cut layers are dropped; make the optimizer afterwards.

    Raises:
        TypeError: As for `baselines.prune_`.
        ValueError: As for `baselines.prune_`, or if the model is masked, cannot be traced, has no channels that may
            be cut, cannot reach the ratio, or does not run when it is cut. The model is then as it was.
    """
    if masks_of(model):
        raise ValueError("channels are cut from plain models, but this one is masked: call unmask_ first")
    groups = _groups_to_cut(model, example_input, config.ratio, config.floor)
    evidence = None if batches is None else list(batches)
    scores = score(
        model, config.method, loss_fn=loss_fn, batches=evidence, example_input=example_input, seed=config.seed
    )
    kept = _choose(model, groups, scores, config)
    cut_(model_copy := copied(model), groups, kept)
    try:  # a network that does not fit together fails here, and not in place
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            model_copy.eval()(example_input)
    except RuntimeError as error:
        raise ValueError(
            f"{type(model).__name__} must run with fewer channels, but does not, because its code has their number "
            f"written down somewhere: {error}"
        ) from error
    return cut_(model, groups, kept)


def check_reachable(model: nn.Module, example_input: Tensor, *, ratio: float, floor: int = 1) -> None:
    """Find out before any scoring whether cutting channels can bring a plain model near a ratio.

    Args:
        model: As for `prune_channels_`; it is left as it is.
        example_input: As for `prune_channels_`.
        ratio: Compression ratio, >= 1.
        floor: Number of channels that each layer keeps at least.

    Raises:
        ValueError: If it cannot be traced, has no channels that may be cut, or cannot reach the ratio.
    """
    _groups_to_cut(model, example_input, ratio, floor)


def _groups_to_cut(model: nn.Module, example_input: Tensor, ratio: float, floor: int) -> Sequence[ChannelGroup]:
    groups = channel_groups(model, example_input)
    if not groups:
        raise ValueError(
            f"channels that may be cut must exist, but every layer of {type(model).__name__} feeds its output or "
            "something whose dependence on single channels is not known"
        )
    weights = {name: w.shape for name, w in prunable_weights(model).items()}
    total = sum(math.prod(shape) for shape in weights.values())
    left = _count(weights, groups, [min(floor, group.size) for group in groups])
    if left > 1.5 * total / ratio:
        raise ValueError(
            f"ratio={ratio:g} must be reachable by cutting channels, but with {floor} channels a layer {int(left)} of "
            f"{total} weights are left: lower the ratio to {total / left:.3g} or less"
        )
    return groups


def _choose(
    model: nn.Module, groups: Sequence[ChannelGroup], scores: Mapping[str, Tensor], config: ChannelConfig
) -> list[Tensor]:
    """Return the kept channels of each group, ascending, that bring the number of weights nearest to the budget."""
    keys = {str(i): _channel_scores(group, scores) for i, group in enumerate(groups)}
    if config.scope == "layer":  # the position within the layer's own ranking, so that all layers shrink alike
        keys = {name: key.argsort(stable=True).argsort().double() / len(key) for name, key in keys.items()}
    total = sum(group.size for group in groups)
    least = sum(min(config.floor, group.size) for group in groups)
    weights = {name: w.shape for name, w in prunable_weights(model).items()}
    budget = sum(math.prod(shape) for shape in weights.values()) / config.ratio

    def masks(channels: int) -> list[Tensor]:
        return list(select(keys, channels, floor=config.floor).values())

    def gap(channels: int) -> float:
        return _count(weights, groups, [int(mask.sum()) for mask in masks(channels)]) - budget

    low, high = least, total
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if gap(middle) <= 0 else (low, middle)
    best = min((low, high), key=lambda channels: abs(gap(channels)))
    return [mask.nonzero().squeeze(1) for mask in masks(best)]


def _channel_scores(group: ChannelGroup, scores: Mapping[str, Tensor]) -> Tensor:
    rows = [scores[f"{name}.weight"].flatten(1).double() for name in group.producers]
    return torch.cat(rows, dim=1).mean(1)


def _count(weights: Mapping[str, Sequence[int]], groups: Sequence[ChannelGroup], channels: Sequence[int]) -> float:
    """Return the number of prunable weights when each group has the given number of channels."""
    share = dict.fromkeys(weights, 1.0)
    for group, count in zip(groups, channels, strict=True):
        for name in (*group.producers, *group.followers, *(name for name, _ in group.consumers)):
            if f"{name}.weight" in share:
                share[f"{name}.weight"] *= count / group.size
    return sum(math.prod(shape) * share[name] for name, shape in weights.items())


def cut_(model: nn.Module, groups: Sequence[ChannelGroup], kept: Sequence[Tensor]) -> nn.Module:
    """Keep only the given channels of each group, by position, in place; gradients of cut layers are dropped."""
    for group, index in zip(groups, kept, strict=True):
        for name in (*group.producers, *group.followers):
            _keep_outputs_(model.get_submodule(name), index)
        for name, repeat in group.consumers:
            _keep_inputs_(model.get_submodule(name), index, repeat)
    return model


def _keep_outputs_(module: Any, index: Tensor) -> None:
    for name in ("weight", "bias", "running_mean", "running_var"):
        _keep_(module, name, index, dim=0)
    if isinstance(module, _BatchNorm):
        module.num_features = len(index)
    elif isinstance(module, nn.Linear):
        module.out_features = len(index)
    else:
        if module.groups > 1:
            module.in_channels = module.groups = len(index)
        module.out_channels = len(index)


def _keep_inputs_(module: Any, index: Tensor, repeat: int) -> None:
    entries = (index[:, None] * repeat + torch.arange(repeat, device=index.device)).flatten()
    _keep_(module, "weight", entries, dim=1)
    if isinstance(module, nn.Linear):
        module.in_features = len(entries)
    else:
        module.in_channels = len(entries)


def _keep_(module: nn.Module, name: str, index: Tensor, *, dim: int) -> None:
    tensor = getattr(module, name, None)
    if tensor is None:
        return
    cut = tensor.detach().index_select(dim, index.to(tensor.device))
    if isinstance(tensor, nn.Parameter):
        setattr(module, name, nn.Parameter(cut, requires_grad=tensor.requires_grad))
    else:
        setattr(module, name, cut)
