from __future__ import annotations

from torch import nn

from search.models.vgg import vgg11, vgg16


def test_the_numbers_of_parameters_add_up(count_parameters):
    def expected(channels):
        convolutions = sum(9 * a * b + 2 * b for a, b in zip([3, *channels], channels, strict=False))
        return convolutions + 512 * 10 + 10

    options = {"num_classes": 10, "in_channels": 3, "image_size": 32}
    assert count_parameters(vgg11(**options)) == expected([64, 128, 256, 256, 512, 512, 512, 512]) == 9_228_362
    deep = [64, 64, 128, 128, *[256] * 3, *[512] * 6]
    assert count_parameters(vgg16(**options)) == expected(deep) == 14_724_042


def test_one_linear_layer_is_the_head():
    model = vgg11(num_classes=10, in_channels=3, image_size=32)
    assert [type(module) for module in model.modules()].count(nn.Linear) == 1
    assert sum(isinstance(module, nn.Conv2d) for module in model.modules()) == 8
