from __future__ import annotations

import pytest
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


@pytest.mark.parametrize("hidden", [8, "abc", ["8"], [1.5], [True], [[8]]])
def test_hidden_sizes_that_are_none_are_answered_with_how_they_are_written(hidden):
    with pytest.raises(ValueError, match=r"a list of whole numbers such as \[256, 128\], but got hidden="):
        mlp(num_classes=3, in_channels=1, image_size=2, hidden=hidden)
