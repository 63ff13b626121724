"""Pruning at initialisation: score, select and apply."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.weight_norm import WeightNorm

from baselines.copying import copied
from baselines.layers import prunable_weights
from baselines.masks import apply_masks_, masks_of
from baselines.scorers import Method, Scorer, find_method, run_scorer
from baselines.scorers.gradients import LossFn
from baselines.selection import check_count, select
from rps_core.budgets import (
    EVERYTHING,
    Group,
    check_budgets,
    check_patterns,
    check_ratio,
    kept_for_ratio,
    layer_name,
    resolve_budgets,
)


@dataclass(frozen=True)
class PruneConfig:
    """How a model is pruned.

    Attributes:
        method: A name of `baselines.scorers.METHODS`, or a user's ``scorer(model, loss_fn, batches)``.
        ratio: Compression ratio, prunable weights / kept weights, of the layers that ``budgets`` does not name; >= 1.
        scope: ``"global"`` ranks the weights of those layers together; ``"layer"`` keeps 1 / ratio of each layer.
        budgets: ``{pattern of layer names: density in (0, 1] or count of 2 or more}``; the weights of the layers that
            a pattern matches are ranked together (`rps_core.budgets.resolve_budgets`).
        seed: Decides all that is random.
        floor: Number of weights that each layer keeps at least; 0 has no effect.
        allow_empty: Whether a layer may lose all its weights, which cuts the network there. Off, that is an error.
        iterations: Number of scoring and pruning steps; None takes the method's own (100 for synflow, else 1).
        include: Patterns of the layers to prune; None takes all weights of linear, convolution, embedding and
            attention layers.
        exclude: Patterns of layers that stay dense.
    """

    method: str | Scorer = "mag"
    ratio: float = 1.0
    scope: Literal["global", "layer"] = "global"
    budgets: Mapping[str, float] = field(default_factory=dict)
    seed: int = 0
    floor: int = 0
    allow_empty: bool = False
    iterations: int | None = None
    include: Sequence[str] | None = None
    exclude: Sequence[str] = ()

    def __post_init__(self) -> None:
        find_method(self.method)
        check_ratio(self.ratio)
        check_budgets(self.budgets)
        if self.include is not None:
            check_patterns("include", self.include)
        check_patterns("exclude", self.exclude)
        if self.scope not in ("global", "layer"):
            raise ValueError(f"scope must be 'global' or 'layer', but got {self.scope!r}")
        check_count("floor", self.floor, least=0)
        if self.iterations is not None:
            check_count("iterations", self.iterations, least=1)


def prune_(
    model: nn.Module,
    config: PruneConfig,
    *,
    loss_fn: LossFn | None = None,
    batches: Iterable[Any] | None = None,
    example_input: Tensor | None = None,
) -> nn.Module:
    """Prune a model in place: afterwards it reads each prunable weight through a mask.

    Scores are computed on a copy, in the mode the model is in (synflow: eval). Beside the masks and the zeroed
    weights nothing changes: training mode, buffers, gradients and random state stay as they were. On an error the
    model is as it was. A model that is already pruned can be pruned further.

    Args:
        model: Any module; see `baselines.layers.prunable_weights` for what is pruned.
        config: Method, ratio, budgets and seed.
        loss_fn: ``loss_fn(model, batch)``, a scalar; for the methods that look at data.
        batches: Batches for ``loss_fn``, all held in memory; one class-balanced batch of 10 examples a class is the
            reference.
        example_input: A batch of inputs, ``(N, ...)``, for methods that need an input's shape only; default is the
            first tensor of the first batch.

    Returns:
        ``model``.

    Raises:
        TypeError: If the model is no module, or the loss, a batch or an argument has the wrong type.
        ValueError: If nothing is prunable, what the method needs is missing, a score is not finite, the loss carries
            no gradient, a budget or floor cannot be met, a layer would lose all its weights, or the model is on the
            meta device or cannot be copied.
    """
    method = find_method(config.method)
    weights = prunable_weights(model, include=config.include, exclude=config.exclude)
    groups = _groups(weights, config, method)
    masks = {name: mask.bool() for name, mask in masks_of(model).items() if name in weights}
    with _workspace(model, method, weights, config.seed) as scratch:
        evidence = _evidence(method, loss_fn, batches, example_input)
        iterations = config.iterations or method.iterations
        for step in range(1, iterations + 1):
            scores = _checked_scores(run_scorer(method, scratch, loss_fn, evidence, seed=config.seed), weights)
            masks = _tightened(masks, scores, groups, progress=step / iterations, floor=config.floor)
            if step < iterations:
                _remove_(scratch, masks, through_masks=method.needs == "data")
    if not config.allow_empty:
        _check_no_layer_is_empty(masks, config)
    return apply_masks_(model, masks)


def score(
    model: nn.Module,
    method: str | Scorer,
    *,
    loss_fn: LossFn | None = None,
    batches: Iterable[Any] | None = None,
    example_input: Tensor | None = None,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Score the prunable weights once, without changing the model; larger means more worth keeping.

    Args:
        model: Any module.
        method: A name of `baselines.scorers.METHODS` or a user's scorer.
        loss_fn: As for `prune_`.
        batches: As for `prune_`.
        example_input: As for `prune_`.
        seed: Decides what is random.

    Returns:
        ``{parameter name: scores}``, each of its weight's shape.

    Raises:
        TypeError: As for `prune_`.
        ValueError: As for `prune_`.
    """
    found = find_method(method)
    weights = prunable_weights(model)
    with _workspace(model, found, weights, seed) as scratch:
        evidence = _evidence(found, loss_fn, batches, example_input)
        return _checked_scores(run_scorer(found, scratch, loss_fn, evidence, seed=seed), weights)


@contextlib.contextmanager
def _workspace(model: nn.Module, method: Method, weights: Container[str], seed: int) -> Iterator[nn.Module]:
    """Yield a copy for ``method`` to work on, in which only ``weights`` require gradients.

    Random state is the seed's, and afterwards as it was.
    """
    devices = sorted({p.device.index for p in model.parameters() if p.device.type == "cuda"})
    with torch.random.fork_rng(devices=devices), torch.enable_grad():
        torch.manual_seed(seed)
        scratch = _copied(model)
        for name, parameter in scratch.named_parameters():
            parameter.requires_grad_(name in weights)
            parameter.grad = None
        for module in scratch.modules():
            if isinstance(module, nn.Embedding | nn.EmbeddingBag):
                module.sparse = False  # sparse gradients have no second derivative
        if method.prepare is not None:
            method.prepare(scratch)
        yield scratch


def _copied(model: nn.Module) -> nn.Module:
    """Return a copy to work on.

    Raises:
        ValueError: If the model holds no numbers, or something that cannot be copied.
    """
    unreal = next((name for name, p in model.named_parameters() if p.is_meta), None)
    if unreal is not None:
        raise ValueError(
            f"weights must be real, but these are on the meta device (layer {layer_name(unreal)!r}): use model.to_empty"
        )
    for name, module in model.named_modules():
        if any(isinstance(hook, WeightNorm) for hook in module._forward_pre_hooks.values()):
            raise ValueError(
                f"weights must be read as they are, but torch.nn.utils.weight_norm divides those of layer {name!r} by "
                "norms that would become zero: use torch.nn.utils.parametrizations.weight_norm, which stays dense"
            )
    try:
        return copied(model)
    except RuntimeError as error:
        raise ValueError(f"scores are computed on a copy, but {type(model).__name__} has none: {error}") from error


def _evidence(
    method: Method, loss_fn: LossFn | None, batches: Iterable[Any] | None, example_input: Tensor | None
) -> list[Any]:
    """Return the batches a scorer is given."""
    if method.needs == "input" and example_input is not None:
        return [example_input]
    evidence = [] if batches is None else list(batches)
    if method.needs == "data" and (loss_fn is None or not evidence):
        raise ValueError("this pruning method looks at data: pass loss_fn and at least one batch in batches")
    if method.needs == "input" and not evidence:
        raise ValueError("this pruning method needs the shape of an input: pass example_input")
    return evidence


def _groups(weights: Mapping[str, Tensor], config: PruneConfig, method: Method) -> list[Group]:
    """Return the groups whose weights are ranked together."""
    shapes = {layer_name(name): tuple(weight.shape) for name, weight in weights.items()}
    sizes = {layer: math.prod(shape) for layer, shape in shapes.items()}
    groups: list[Group] = []
    for group in resolve_budgets(sizes, ratio=config.ratio, budgets=config.budgets):
        if method.allocation is not None:
            floor = config.floor if config.allow_empty else max(1, config.floor)
            counts = method.allocation({layer: shapes[layer] for layer in group.layers}, group.kept, floor)
        elif config.scope == "layer" and group.name == EVERYTHING and EVERYTHING not in config.budgets:
            counts = {layer: min(sizes[layer], kept_for_ratio(sizes[layer], config.ratio)) for layer in group.layers}
        else:
            groups.append(group)
            continue
        groups += [Group(layer, (layer,), sizes[layer], count) for layer, count in counts.items()]
    return groups


def _tightened(
    masks: Mapping[str, Tensor],
    scores: Mapping[str, Tensor],
    groups: Sequence[Group],
    *,
    progress: float,
    floor: int,
) -> dict[str, Tensor]:
    """Return the masks after a share ``progress`` in (0, 1] of the iterations; what a mask has removed stays removed.

    The density falls exponentially, density ** progress (arXiv:2006.05467, algorithm 1).
    """
    tighter: dict[str, Tensor] = {}
    names = {layer_name(name): name for name in scores}
    for group in groups:
        pool = {names[layer]: scores[names[layer]] for layer in group.layers}
        earlier = {name: masks[name] for name in pool if name in masks}
        available = group.size - sum(m.numel() - int(m.count_nonzero()) for m in earlier.values())
        kept = group.kept if progress == 1 else round(group.size * (group.kept / group.size) ** progress)
        if group.kept > available:
            raise ValueError(
                f"pruning cannot bring weights back: group {group.name!r} should keep {group.kept} weights, but "
                f"earlier pruning left {available}"
            )
        tighter |= select(pool, min(kept, available), floor=floor, masks=earlier)
    return {name: tighter[name] for name in scores}


@torch.no_grad()
def _remove_(scratch: nn.Module, masks: Mapping[str, Tensor], *, through_masks: bool) -> None:
    """Remove weights from the copy between iterations.

    Only where gradients are looked at beyond their product with the weight itself does it matter that removed weights
    have none; elsewhere plain zeros do and spare every pass the multiplication.
    """
    if through_masks:
        apply_masks_(scratch, masks)
        return
    parameters = dict(scratch.named_parameters())
    for name, mask in masks.items():
        parameters[name].mul_(mask.to(parameters[name]))  # half the time of a boolean fill


def _checked_scores(scores: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the scores of ``weights`` after checking that there is one finite number for each."""
    if not isinstance(scores, Mapping):
        raise TypeError(f"a scorer must return {{parameter name: scores}}, but got {type(scores).__name__}")
    for name, weight in weights.items():
        if name not in scores:
            named = ", ".join(map(repr, list(scores)[:3])) or "nothing"
            raise ValueError(
                f"a scorer must score every prunable weight, but it left out {name!r}: it scored {named}"
                f"{', ...' if len(scores) > 3 else ''}"
            )
        if not isinstance(scores[name], Tensor) or scores[name].is_complex():
            kind = scores[name].dtype if isinstance(scores[name], Tensor) else type(scores[name]).__name__
            raise TypeError(f"scores must be tensors of real numbers, but got {kind} ({name})")
        if scores[name].shape != weight.shape:
            raise ValueError(
                f"scores must have their weight's shape {tuple(weight.shape)}, but got {tuple(scores[name].shape)} "
                f"({name})"
            )
        # A finite sum is proof at half the cost; one that is not may be an overflow of finite scores.
        if not scores[name].sum().isfinite() and not (finite := scores[name].isfinite()).all():
            raise ValueError(
                f"scores must be finite, but {int((~finite).count_nonzero())} of {weight.numel()} are not ({name}): "
                "is the loss finite and the model in float32 or float64?"
            )
    return {name: scores[name].detach() for name in weights}


def _check_no_layer_is_empty(masks: Mapping[str, Tensor], config: PruneConfig) -> None:
    empty = [layer_name(name) for name, mask in masks.items() if mask.numel() and not mask.any()]
    if empty:
        shown = ", ".join(empty[:5]) + (", ..." if len(empty) > 5 else "")
        raise ValueError(
            f"every layer must keep a weight, but {config.method!r} at ratio {config.ratio:g} leaves {len(empty)} of "
            f"{len(masks)} layers empty ({shown}): set floor=1 or more, lower the ratio, or allow_empty=True to "
            "study the collapse"
        )
