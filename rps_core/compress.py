"""Making a model share its weights, and making it plain again."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from rps_core import state
from rps_core.config import RPSConfig
from rps_core.group import Group
from rps_core.initial import draw_psi, nearest_psi
from rps_core.layers import OWNED, Candidate, attach, detach
from rps_core.planning import plan, psi_key
from rps_core.quantize import relative_error
from rps_core.sharing import (
    NOT_COMPRESSED,
    SHARING,
    SharedArray,
    Sharing,
    close_arrays,
    compressed_parts,
    open_arrays,
)


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
        ValueError: If the model is compressed already, is TorchScript or has nothing to share; if a parameter to
            share is on the meta device, without a shape yet, frozen, empty, not floating-point, not finite, read
            through a mask, or of another dtype or device than the rest; if a pattern matches nothing or a budget is
            out of range; or if the model has an attribute of the name psi needs. The model is then unchanged.
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
    state.install_hooks(model)
    sharing = Sharing(config, arrays)
    model.__dict__[SHARING] = sharing
    return sharing


def to_dense(model: nn.Module) -> nn.Module:
    """Return a plain copy of a compressed model, with equal outputs and no trace of the compression.

    Args:
        model: A model that :func:`compress_` or :func:`project_` changed, or one of which they changed parts.

    Returns:
        A new model; tied weights are tied in it.

    Raises:
        TypeError: If ``model`` is no module.
        ValueError: If it is not compressed.
    """
    if not compressed_parts(model):
        raise ValueError(NOT_COMPRESSED)
    with _WithoutGraphs():
        dense = copy.deepcopy(model)
    for root, sharing in compressed_parts(dense).values():
        make_dense(root, sharing)
    return dense


class _WithoutGraphs(TorchFunctionMode):
    """Within, what a forward pass left on a module is copied as plain numbers: torch does not copy graphs."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is Tensor.__deepcopy__ and not args[0].is_leaf:
            return args[0].detach().clone()
        return func(*args, **kwargs or {})


def make_dense(root: nn.Module, sharing: Sharing) -> None:
    """Give a compressed module its weights back, in place."""
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


def remove_hooks(root: nn.Module) -> None:
    """Take the hooks of a compressed model off."""
    state.remove_hooks(root)
    for number in [number for number, hook in root._forward_pre_hooks.items() if hook is open_arrays]:
        del root._forward_pre_hooks[number]
    for number in [number for number, hook in root._forward_hooks.items() if hook is close_arrays]:
        del root._forward_hooks[number]
        del root._forward_hooks_always_called[number]
