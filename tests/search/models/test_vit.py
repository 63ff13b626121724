from __future__ import annotations

import torch
from torch import nn

from search.models.vit import Attention, vit


def test_the_number_of_parameters(count_parameters):
    assert count_parameters(vit(num_classes=10, in_channels=3, image_size=32)) == 810_890


def test_attention_equals_the_reference_with_the_same_weights():
    torch.manual_seed(0)
    ours, reference = Attention(12, 3), nn.MultiheadAttention(12, 3, batch_first=True)
    with torch.no_grad():
        reference.in_proj_weight.copy_(ours.qkv.weight)
        reference.in_proj_bias.copy_(ours.qkv.bias)
        reference.out_proj.load_state_dict(ours.proj.state_dict())
    tokens = torch.randn(2, 5, 12)
    assert torch.allclose(ours(tokens), reference(tokens, tokens, tokens)[0], atol=1e-6)


def test_tokens_are_patches():
    model = vit(num_classes=2, in_channels=1, image_size=8, patch_size=4, dim=8, depth=1, heads=2)
    tokens = []
    model.patches.register_forward_hook(lambda module, args, output: tokens.append(args[0]))
    image = torch.arange(64.0).view(1, 1, 8, 8)
    model(image)
    assert tokens[0].shape == (1, 4, 16)
    assert torch.equal(tokens[0][0, 1], image[0, 0, :4, 4:].flatten())


def test_width_keeps_a_multiple_of_the_heads():
    assert vit(num_classes=2, in_channels=1, image_size=8, width=0.3).position.shape[-1] == 40
