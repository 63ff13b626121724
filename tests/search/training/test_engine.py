import pytest
import torch
from torch import nn

from search.training.engine import choose_engine, computes_channels_last

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("layer", "on_cpu"),
    [
        (nn.Conv2d(3, 16, 3), True),
        (nn.Conv2d(16, 32, 1, stride=2), True),
        (nn.Conv2d(3, 7, 1), True),
        (nn.Conv2d(3, 7, 3, stride=2), True),
        (nn.Conv2d(3, 7, 1, stride=2), False),
        (nn.Conv2d(20, 7, 1, stride=2), False),
        (nn.Linear(3, 7), False),
    ],
)
def test_the_layout_is_one_that_the_device_computes_right(layer, on_cpu):
    assert computes_channels_last(nn.Sequential(layer), CPU) == on_cpu
    assert computes_channels_last(nn.Sequential(layer), GPU) == isinstance(layer, nn.Conv2d)


def test_a_model_that_was_made_narrower_is_laid_out_anew():
    def net(channels: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, channels, 3), nn.Conv2d(channels, 2 * channels + 1, 1, stride=2))

    engine = choose_engine(net(16), "float32", gpu=False)
    assert engine.memory_format is torch.channels_last
    narrow = engine.laid_out_for(net(1))
    assert narrow.memory_format is torch.contiguous_format
    # Left in channels_last, this ends the process on some processors.
    model = narrow.place(net(1))
    for _ in range(5):
        model(torch.randn(64, 3, 16, 16).contiguous(memory_format=narrow.memory_format)).square().mean().backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


def test_what_is_no_image_keeps_its_layout():
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.Conv3d(1, 2, 2))
    choose_engine(model, "float32", gpu=False).place(model)
    assert model[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert model[1].weight.is_contiguous()


def test_a_buffer_that_several_modules_hold_is_one_after_the_move_too():
    model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.ReLU())
    weights = torch.rand(1, 16, 4, 4)
    model[1].register_buffer("seen", weights)
    model[2].register_buffer("kept", weights)
    model[2].register_buffer("none", None)
    choose_engine(model, "float32", gpu=False).place(model)
    assert model[2].kept is model[1].seen
    assert model[1].seen.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(model[1].seen, weights)
