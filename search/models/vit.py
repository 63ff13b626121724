"""A small vision transformer (Dosovitskiy et al., arXiv:2010.11929) whose weights are all plain linear layers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search.models.parts import scaled

# Source: the authors' code (github.com/google-research/vision_transformer): Glorot's uniform initialisation, which fits
# any width. The fixed 0.02 of larger transformers starts a narrow one close to zero, from where it hardly learns.
POSITION_STD = 0.02
MLP_FACTOR = 2


class Attention(nn.Module):
    """Multi-head self-attention as two linear layers, so that compression treats it like any other."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens ``(batch, tokens, dim)`` to the same shape."""
        batch, tokens, dim = x.shape
        queries, keys, values = (
            self.qkv(x).view(batch, tokens, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        )
        mixed = F.scaled_dot_product_attention(queries, keys, values)
        return self.proj(mixed.transpose(1, 2).reshape(batch, tokens, dim))


class EncoderBlock(nn.Module):
    """Attention and a two-layer perceptron, each after a layer-norm and around a shortcut."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attention = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim)
        self.fc1 = nn.Linear(dim, MLP_FACTOR * dim)
        self.fc2 = nn.Linear(MLP_FACTOR * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens ``(batch, tokens, dim)`` to the same shape."""
        x = x + self.attention(self.norm1(x))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x))))


class VisionTransformer(nn.Module):
    """Patches to tokens, encoder blocks, the mean over tokens, a linear head."""

    def __init__(
        self, num_classes: int, in_channels: int, image_size: int, patch_size: int, dim: int, depth: int, heads: int
    ) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.patches = nn.Linear(in_channels * patch_size**2, dim)
        self.position = nn.Parameter(torch.empty(1, (image_size // patch_size) ** 2, dim))
        self.blocks = nn.Sequential(*(EncoderBlock(dim, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(dim)
        self.fc = nn.Linear(dim, num_classes)
        nn.init.trunc_normal_(self.position, std=POSITION_STD)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``(batch, in_channels, H, W)`` to logits ``(batch, num_classes)``."""
        tokens = F.pixel_unshuffle(x, self.patch_size).flatten(2).transpose(1, 2)
        encoded = self.blocks(self.patches(tokens) + self.position)
        return self.fc(self.norm(encoded).mean(dim=1))


def vit(
    *,
    num_classes: int,
    in_channels: int,
    image_size: int,
    width: float = 1.0,
    patch_size: int = 4,
    dim: int = 128,
    depth: int = 6,
    heads: int = 4,
) -> nn.Module:
    """Build a vision transformer: 810,890 parameters for 10 classes of 32 x 32 RGB images.

    Args:
        num_classes: Classes, the length of the output.
        in_channels: Channels of the images.
        image_size: Side of the images in pixels, a multiple of ``patch_size``.
        width: Factor on ``dim``, above 0; the product is rounded to a multiple of ``heads``.
        patch_size: Side of a patch in pixels.
        dim: Length of a token at width 1, a multiple of ``heads``.
        depth: Number of encoder blocks.
        heads: Attention heads in each.

    Raises:
        ValueError: If a size is no whole number or below 1, the heads do not share ``dim`` evenly, or the patches do
            not tile the image.
    """
    for name, value in {"patch_size": patch_size, "dim": dim, "depth": depth, "heads": heads}.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, but got {name}={value!r}")
    if dim % heads:
        raise ValueError(f"dim must be a multiple of heads, but got dim={dim} and heads={heads}")
    if image_size % patch_size:
        raise ValueError(
            f"image_size must be a multiple of patch_size, but got image_size={image_size} and patch_size={patch_size}"
        )
    dim = heads * scaled(dim // heads, width)
    return VisionTransformer(num_classes, in_channels, image_size, patch_size, dim, depth, heads)
