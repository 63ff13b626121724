"""ResNet-20 for small images (He et al., arXiv:1512.03385, section 4.2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search.models.parts import initialise_, scaled

STAGE_CHANNELS = (16, 32, 64)
BLOCKS_PER_STAGE = 3


class Block(nn.Module):
    """Two 3x3 convolutions with batch-norm, and a shortcut around them."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(batch, in_channels, H, W)`` to ``(batch, channels, H / stride, W / stride)``."""
        out = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(out)) + self.shortcut(x))


class ResNet(nn.Module):
    """Three stages of residual blocks between a 3x3 convolution and a linear head."""

    def __init__(self, num_classes: int, in_channels: int, width: float) -> None:
        super().__init__()
        channels = [scaled(c, width) for c in STAGE_CHANNELS]
        self.conv1 = nn.Conv2d(in_channels, channels[0], 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels[0])
        self.layer1 = self._stage(channels[0], channels[0], stride=1)
        self.layer2 = self._stage(channels[0], channels[1], stride=2)
        self.layer3 = self._stage(channels[1], channels[2], stride=2)
        self.fc = nn.Linear(channels[2], num_classes)
        initialise_(self)

    @staticmethod
    def _stage(in_channels: int, channels: int, stride: int) -> nn.Sequential:
        rest = [Block(channels, channels, 1) for _ in range(BLOCKS_PER_STAGE - 1)]
        return nn.Sequential(Block(in_channels, channels, stride), *rest)

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``(batch, in_channels, H, W)`` to logits ``(batch, num_classes)``."""
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.layer3(self.layer2(self.layer1(out)))
        return self.fc(torch.flatten(F.adaptive_avg_pool2d(out, 1), 1))


def resnet20(*, num_classes: int, in_channels: int, image_size: int, width: float = 1.0) -> nn.Module:
    """Build ResNet-20 as for CIFAR: 272,474 parameters for 10 classes of RGB images at width 1.

    Where the number of channels grows, the shortcut is a 1x1 convolution with batch-norm (the paper's option B, which
    the parameter count above implies; option A, padding with zeros, has 269,722).

    Args:
        num_classes: Classes, the length of the output.
        in_channels: Channels of the images.
        image_size: Side of the images in pixels; any, since the last feature map is averaged.
        width: Factor on the number of channels, above 0.
    """
    return ResNet(num_classes, in_channels, width)
