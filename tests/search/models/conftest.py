from __future__ import annotations

from collections.abc import Callable

import pytest
from torch import nn


@pytest.fixture
def count_parameters() -> Callable[[nn.Module], int]:
    return lambda model: sum(parameter.numel() for parameter in model.parameters())


@pytest.fixture
def layer_names() -> Callable[[nn.Module], list[str]]:
    """Names of everything that compression would touch: weights with two dimensions or more."""
    return lambda model: [
        name.removesuffix(".weight") for name, parameter in model.named_parameters() if parameter.dim() > 1
    ]
