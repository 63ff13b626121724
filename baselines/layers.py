"""Which weights of a model pruning may remove, and under which names."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from torch import nn

from rps_core.budgets import layer_name, unmatched_message

_NORMALISATIONS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def prunable_weights(
    model: nn.Module, *, include: Iterable[str] = ("*",), exclude: Iterable[str] = ()
) -> dict[str, nn.Parameter]:
    """Return the weights that pruning may remove, in the order of the model.

    These are the parameters named ``weight`` or ``*_weight`` with two or more dimensions: linear and convolutional
    layers, embeddings, attention projections. Biases, normalisation layers, positional embeddings and class tokens
    are never pruned; neither are recurrent layers, which read their weights through a private list where no mask
    can reach them. A weight that several modules share appears once, under its first name.

    Args:
        model: Any module.
        include: Patterns (``fnmatch`` style) of layer names, as `rps_core.budgets.layer_name` spells them.
        exclude: Patterns of layers that stay dense; they win over ``include``.

    Returns:
        ``{parameter name: parameter}``.

    Raises:
        ValueError: If nothing is prunable, a pattern matches no layer, or a weight is not materialised yet.
    """
    weights = {name: p for name, p in model.named_parameters() if _is_weight(model, name, p)}
    names = {layer_name(name): name for name in weights}
    if not names:
        raise ValueError(
            "nothing is prunable: pruning needs a parameter named 'weight' or '*_weight' with two or more dimensions "
            f"(linear, convolution, embedding, attention), but {type(model).__name__} has none"
        )
    include, exclude = tuple(include), tuple(exclude)
    for pattern in (*include, *exclude):
        if not any(fnmatchcase(layer, pattern) for layer in names):
            raise ValueError(unmatched_message(pattern, names))
    chosen = {
        name: weights[name]
        for layer, name in names.items()
        if _matches(layer, include) and not _matches(layer, exclude)
    }
    if not chosen:
        raise ValueError(f"nothing is prunable: include={include} and exclude={exclude} leave no layer")
    return chosen


def owners(model: nn.Module, parameter: nn.Parameter) -> list[tuple[nn.Module, str]]:
    """Return every (module, attribute name) that holds ``parameter``: more than one where weights are tied."""
    return [(module, name) for module in model.modules() for name, p in module._parameters.items() if p is parameter]


def _is_weight(model: nn.Module, name: str, parameter: nn.Parameter) -> bool:
    owner, _, attribute = name.rpartition(".")
    if attribute != "weight" and not attribute.endswith("_weight"):
        return False
    if isinstance(parameter, nn.parameter.UninitializedParameter):
        raise ValueError(f"weights must exist before they are pruned: run the lazy layer {owner!r} once")
    return parameter.dim() >= 2 and not isinstance(model.get_submodule(owner), _NORMALISATIONS)


def _matches(layer: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(layer, pattern) for pattern in patterns)
