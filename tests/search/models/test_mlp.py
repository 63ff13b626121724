from __future__ import annotations

from torch import nn

from search.models.mlp import mlp


def test_hidden_sizes_and_width(count_parameters):
    model = mlp(num_classes=10, in_channels=1, image_size=8)
    assert count_parameters(model) == 64 * 256 + 256 + 256 * 128 + 128 + 128 * 10 + 10 == 50_826
    narrow = mlp(num_classes=3, in_channels=1, image_size=8, width=0.5, hidden=[10])
    sizes = [(module.in_features, module.out_features) for module in narrow.modules() if isinstance(module, nn.Linear)]
    assert sizes == [(64, 5), (5, 3)]


def test_no_hidden_layer_is_a_linear_classifier(count_parameters):
    assert count_parameters(mlp(num_classes=3, in_channels=1, image_size=2, hidden=[])) == 4 * 3 + 3
