"""Copies of models that have run."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, TypeVar

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

Model = TypeVar("Model", bound=nn.Module)


class _WithoutGraphs(TorchFunctionMode):
    """Within, `copy.deepcopy` takes results that a forward pass left on a module as plain numbers.

    Activations that are kept to be looked at would otherwise make a model that has trained impossible to copy.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is Tensor.__deepcopy__ and not args[0].is_leaf:
            return args[0].detach().clone()
        return func(*args, **kwargs or {})


def copied(model: Model) -> Model:
    """Return a copy of a model, whatever its forward passes left on it."""
    with _WithoutGraphs():
        return copy.deepcopy(model)
