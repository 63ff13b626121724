"""What the models share: initialisation and the meaning of width."""

from __future__ import annotations

from torch import nn


def scaled(channels: int, width: float) -> int:
    """Return ``channels * width`` rounded, never below one.

    Raises:
        ValueError: If ``width`` is not above 0.
    """
    if not width > 0:
        raise ValueError(f"width > 0 must hold, but got width={width}")
    return max(1, round(channels * width))


def initialise_(model: nn.Module) -> nn.Module:
    """Draw convolutions and linear layers from He's normal distribution, std = sqrt(2 / fan_in), and zero their biases.

    Source: arXiv:1502.01852, equation 10.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model
