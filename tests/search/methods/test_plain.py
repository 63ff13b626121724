import torch
from torch import nn

from search.methods import compress
from search.spec import ModelSpec
from search.trial import workbench

REAL = []


def net(
    *, num_classes: int, in_channels: int, width: float = 1.0, needs_values: bool = False, lazy: bool = False
) -> nn.Module:
    rates = torch.linspace(0, 0.1, 3)
    if not rates.is_meta:
        REAL.append(width)
    rate = rates[1].item() if needs_values else 0.05
    channels = max(1, round(32 * width))
    head = nn.LazyLinear(num_classes) if lazy else nn.Linear(channels, num_classes)
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, 3), nn.Dropout(rate), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head
    )


def narrow(make_config, data, **args):
    REAL.clear()
    config = make_config("small", ratio=4.0, model=ModelSpec(name=f"{__name__}:net", args=args))
    return compress(workbench(config, data, torch.device("cpu"))).model


def test_a_small_model_is_found_without_building_others(make_config, tiny_data):
    model = narrow(make_config, tiny_data)
    assert len(REAL) == 2
    assert REAL[0] == 1
    assert model[0].out_channels == 8


def test_models_that_cannot_be_built_without_memory_are_small_too(make_config, tiny_data):
    expected = narrow(make_config, tiny_data)
    model = narrow(make_config, tiny_data, needs_values=True)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), expected.parameters(), strict=True))


def test_models_that_learn_their_sizes_from_a_pass_are_small_too(make_config, tiny_data):
    model = narrow(make_config, tiny_data, lazy=True)
    assert (model[0].out_channels, model[4].in_features) == (8, 8)
