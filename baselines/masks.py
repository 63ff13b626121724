"""The pruning mechanism: a mask that is multiplied in wherever the weight is read.

A pruned layer keeps its parameter under its own name and gains a buffer ``<name>_mask`` (``weight_mask``, as in
`torch.nn.utils.prune`). Its class becomes a subclass whose attribute ``<name>`` is a property, ``parameter * mask``.
So every reader of ``layer.weight`` - the layer's own forward, an attention block, a user's loss - sees exact zeros,
whatever the optimizer, a checkpoint or `torch.func.functional_call` put into the parameter; the gradient is masked by
the chain rule (the one exception is `masking_gradients`). The parameter itself is set to zero too: with a zero
gradient, momentum, weight decay and Adam leave a zero where it is.

`torch.nn.utils.prune` instead renames the parameter and sets a plain attribute in a forward pre-hook, which breaks
``deepcopy`` after a forward pass; `torch.nn.utils.parametrize` cannot be pickled.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from baselines.layers import owners

MASK_SUFFIX = "_mask"
# Set on a layer whose weights may be read as they are.
_ZEROS_HOLD = "_zeros_hold"


class MaskedLayer:
    """Marks the classes that `apply_masks_` makes; use ``isinstance(layer, MaskedLayer)`` to find pruned layers."""

    _dense_class: type[nn.Module]
    _masked_names: tuple[str, ...]

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        """Pickle by the dense class and the masked names: a class made at run time cannot be imported by name."""
        state = self.__getstate__()
        if isinstance(state, dict):  # what `masking_gradients` relies on stays with the layer itself
            state = {name: value for name, value in state.items() if name != _ZEROS_HOLD}
        return _new_masked, (self._dense_class, self._masked_names), state


def _make_masked_class(dense: type[nn.Module], names: tuple[str, ...]) -> type[nn.Module]:
    """Return the subclass of ``dense`` that reads each parameter in ``names`` through its mask."""
    members: dict[str, Any] = {name: _masked_property(name) for name in names}
    members |= {"_dense_class": dense, "_masked_names": names, "__module__": __name__}
    return type(f"Masked{dense.__name__}", (MaskedLayer, dense), members)


# Cached, so that layers pruned alike are of one class, as compilers and comparisons of types expect. The cast is for
# the type checker, which holds that classes derived from nn.Module cannot be hashed.
_masked_class = cast(Callable[[type[nn.Module], tuple[str, ...]], type[nn.Module]], functools.cache(_make_masked_class))


def _masked_property(name: str) -> property:
    mask_name = name + MASK_SUFFIX

    def read(self: nn.Module) -> Tensor:
        if _ZEROS_HOLD in self.__dict__:
            return self._parameters[name]  # type: ignore[return-value]
        # A KeyError here, not an AttributeError: nn.Module would answer the latter with the unmasked parameter.
        return self._parameters[name] * self._buffers[mask_name]  # type: ignore[operator]

    return property(read)


def _new_masked(dense: type[nn.Module], names: tuple[str, ...]) -> nn.Module:
    cls = _masked_class(dense, names)
    return cls.__new__(cls)


@torch.no_grad()
def apply_masks_(model: nn.Module, masks: Mapping[str, Tensor]) -> nn.Module:
    """Mask weights in place, or replace the masks of weights that have one.

    Args:
        model: The module that owns the weights.
        masks: ``{parameter name: mask}``; a mask has the weight's shape and is true (non-zero) where it is kept.

    Returns:
        ``model``.

    Raises:
        ValueError: If a name is no parameter, a shape differs, or a layer has another attribute of the mask's name.
            The model is then as it was.
    """
    parameters, held_by = dict(model.named_parameters()), owners(model)
    for name, mask in masks.items():
        _check_mask(parameters, held_by, name, mask)
    changed: list[tuple[nn.Module, str]] = []
    try:
        for name, mask in masks.items():
            parameter = parameters[name]
            # One tensor for all owners of a tied weight, until ``.to`` parts it; and of the weight's own type: a
            # boolean mask of a quarter of the size makes the multiplication twice as slow on a CPU.
            buffer = mask.to(parameter.device).ne(0).to(parameter.dtype)
            for module, attribute in held_by[id(parameter)]:
                if not is_masked(module, attribute):
                    _mask_attribute(module, attribute)
                    changed.append((module, attribute))
                module.register_buffer(attribute + MASK_SUFFIX, buffer)
    except Exception:
        for module, attribute in changed:
            _unmask_attribute(module, attribute)
        raise
    for name, mask in masks.items():
        parameters[name].masked_fill_(mask.to(parameters[name].device) == 0, 0.0)
    return model


def masks_of(model: nn.Module) -> dict[str, Tensor]:
    """Return ``{parameter name: mask}`` of the pruned weights; masks are the model's own buffers, 1 where kept."""
    found = {}
    for name, _ in model.named_parameters():
        owner, _, attribute = name.rpartition(".")
        module = model.get_submodule(owner)
        if is_masked(module, attribute):
            found[name] = module.get_buffer(attribute + MASK_SUFFIX)
    return found


def mask_names(model: nn.Module) -> set[str]:
    """Return the names of all buffers that are masks: of a tied weight those of every owner, for ``.to`` parts them."""
    return {
        f"{path}.{attribute}{MASK_SUFFIX}" if path else attribute + MASK_SUFFIX
        for path, module in model.named_modules()
        if isinstance(module, MaskedLayer)
        for attribute in module._masked_names
    }


def unmask_(model: nn.Module) -> nn.Module:
    """Turn pruned layers back into plain ones in place; pruned weights stay as zeros that may grow again."""
    for module in model.modules():
        if isinstance(module, MaskedLayer):
            for attribute in module._masked_names:
                _unmask_attribute(module, attribute)
    return model


@contextlib.contextmanager
def masking_gradients(model: nn.Module) -> Iterator[None]:
    """Within, read pruned weights as they are, which is zero, and mask their gradients in place.

    The same numbers, bit for bit, for less than half of the memory that masking each read moves. It is for loops that
    own the weights and move them by gradients alone: SGD with momentum and weight decay, Adam and their kin leave a
    zero with a zero gradient where it is; noise added to weights, or weights loaded within, would show.

    Args:
        model: What is trained; its pruned weights are set to zero first.
    """
    masks, parameters = masks_of(model), dict(model.named_parameters())
    layers = [module for module in model.modules() if isinstance(module, MaskedLayer)]
    hooks = []
    try:
        for name, mask in masks.items():
            parameter = parameters[name]
            with torch.no_grad():
                parameter.masked_fill_(mask == 0, 0.0)
            if parameter.requires_grad:
                hooks.append(parameter.register_post_accumulate_grad_hook(functools.partial(_mask_gradient, mask)))
        for layer in layers:
            layer.__dict__[_ZEROS_HOLD] = True
        yield
    finally:
        for layer in layers:
            layer.__dict__.pop(_ZEROS_HOLD, None)
        for hook in hooks:
            hook.remove()


def _mask_gradient(mask: Tensor, parameter: Tensor) -> None:
    assert parameter.grad is not None
    parameter.grad.mul_(mask)


def is_masked(module: nn.Module, attribute: str) -> bool:
    """Return whether ``module`` reads its parameter ``attribute`` through a mask."""
    return isinstance(module, MaskedLayer) and attribute in module._masked_names


def _mask_attribute(module: nn.Module, attribute: str) -> None:
    dense = module._dense_class if isinstance(module, MaskedLayer) else type(module)
    names = module._masked_names if isinstance(module, MaskedLayer) else ()
    module.__class__ = _masked_class(dense, (*names, attribute))


def _unmask_attribute(module: nn.Module, attribute: str) -> None:
    masked: Any = module
    names = tuple(name for name in masked._masked_names if name != attribute)
    parameter, mask = module._parameters[attribute], module._buffers.pop(attribute + MASK_SUFFIX, None)
    if parameter is not None and mask is not None:
        parameter.data.mul_(mask)
    module.__class__ = _masked_class(masked._dense_class, names) if names else masked._dense_class


def _check_mask(
    parameters: Mapping[str, nn.Parameter],
    held_by: Mapping[int, list[tuple[nn.Module, str]]],
    name: str,
    mask: Tensor,
) -> None:
    if name not in parameters:
        raise ValueError(f"a mask must be named after a parameter of the model, but {name!r} is none")
    if mask.shape != parameters[name].shape:
        raise ValueError(
            f"a mask must have its weight's shape {tuple(parameters[name].shape)}, but got {tuple(mask.shape)} ({name})"
        )
    for module, attribute in held_by[id(parameters[name])]:
        if not is_masked(module, attribute) and hasattr(module, attribute + MASK_SUFFIX):
            raise ValueError(
                f"layer of {name!r} has an attribute {attribute + MASK_SUFFIX!r} already: if torch.nn.utils.prune set "
                "it, call torch.nn.utils.prune.remove first"
            )
