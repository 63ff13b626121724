"""Which weights of a model pruning may remove, and under which names."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn
from torch.nn.modules.conv import _ConvNd

from rps_core.budgets import layer_name, unmatched_message

_PRUNABLE = (nn.Linear, nn.Bilinear, _ConvNd, nn.Embedding, nn.EmbeddingBag, nn.MultiheadAttention)


def prunable_weights(
    model: nn.Module,
    *,
    include: Sequence[str] | None = None,
    exclude: Sequence[str] = (),
    allow_none: bool = False,
) -> dict[str, nn.Parameter]:
    """Return the weights that pruning may remove, in the order of the model.

    By default these are the weights of linear and convolutional layers, embeddings and attention: the same ones that
    parameter sharing compresses. Biases and parameters with one dimension (batch-norm) are never pruned. A weight
    that several modules share appears once, under its first name.

    Args:
        model: Any module.
        include: Patterns (``fnmatch`` style) of layer names, as `rps_core.budgets.layer_name` spells them. They can
            also name what the default leaves out, such as a positional embedding. None takes the default.
        exclude: Patterns of layers that stay dense; they win over ``include``.
        allow_none: Whether a model without such weights has an empty answer; off, that is an error.

    Returns:
        ``{parameter name: parameter}``.

    Raises:
        TypeError: If ``model`` is no module.
        ValueError: If nothing is prunable, a pattern matches no layer, a weight is not materialised yet or not
            floating-point, or ``include`` names the weight of a recurrent layer, which reads it where no mask can
            reach it.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, but got {type(model).__name__}")
    matrices, held_by = _matrices(model), owners(model)
    names = {layer_name(name): name for name in matrices}
    for pattern in (*(include or ()), *exclude):
        if not any(fnmatchcase(layer, pattern) for layer in names):
            raise ValueError(unmatched_message(pattern, names))
    chosen = {
        name: matrices[name]
        for layer, name in names.items()
        if (
            any(isinstance(module, _PRUNABLE) for module, _ in held_by[id(matrices[name])])
            if include is None
            else _matches(layer, include)
        )
        and not _matches(layer, exclude)
    }
    if not chosen and not allow_none:
        raise ValueError(
            f"nothing is prunable in {type(model).__name__} with include={include} and exclude={tuple(exclude)}: "
            "without include, only weights of linear, convolution, embedding and attention layers are"
        )
    for name, parameter in chosen.items():
        if not parameter.is_floating_point():
            raise ValueError(
                f"weights must be floating-point, but got {parameter.dtype} (layer {layer_name(name)!r}): exclude it"
            )
        if any(isinstance(module, nn.RNNBase) for module, _ in held_by[id(parameter)]):
            raise ValueError(f"recurrent layers cannot be pruned, but include={include} names {layer_name(name)!r}")
    return chosen


def unprunable_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters with two or more dimensions that :func:`prunable_weights` leaves out by default.

    Those are recurrent layers, what a layer's weight is computed from (weight normalisation), and parameters of the
    model's own, such as positional embeddings.

    Raises:
        ValueError: As :func:`prunable_weights`.
    """
    prunable = prunable_weights(model)
    return {name: parameter for name, parameter in _matrices(model).items() if name not in prunable}


def scored_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the weights that a scorer is asked about: those of its private copy that require gradients."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def owners(model: nn.Module) -> dict[int, list[tuple[nn.Module, str]]]:
    """Return, by ``id(parameter)``, every (module, attribute name) that holds it: several where weights are tied."""
    found: dict[int, list[tuple[nn.Module, str]]] = {}
    for module in model.modules():
        for name, parameter in module._parameters.items():
            found.setdefault(id(parameter), []).append((module, name))
    return found


def _matrices(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters with two or more dimensions that are no biases."""
    found = {}
    for name, parameter in model.named_parameters():
        if isinstance(parameter, nn.parameter.UninitializedParameter):
            raise ValueError(f"weights must exist before they are pruned: run the model once, {name!r} is lazy")
        if parameter.dim() >= 2 and "bias" not in name.rpartition(".")[2]:
            found[name] = parameter
    return found


def _matches(layer: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(layer, pattern) for pattern in patterns)
