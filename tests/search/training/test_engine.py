import pytest
import torch
from torch import nn

from search.errors import UserError
from search.training import engine
from search.training.engine import choose_engine, computes_channels_last, out_of_memory

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

    wide = choose_engine(net(16), "float32", gpu=False)
    assert wide.memory_format is torch.channels_last
    narrow = wide.laid_out_for(net(1))
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


@pytest.mark.parametrize(("bfloat16", "precision"), [(True, "bfloat16"), (False, "float32")])
def test_precision_suits_model_and_processor(bfloat16, precision, monkeypatch):
    monkeypatch.setattr(engine, "computes_bfloat16", lambda device: bfloat16)
    assert choose_engine(nn.Conv2d(3, 7, 3), "auto", gpu=False).describe() == f"cpu {precision}"
    assert choose_engine(nn.Linear(3, 7), "auto", gpu=False).describe() == "cpu float32"
    assert choose_engine(nn.Linear(3, 7), "bfloat16", gpu=False).describe() == "cpu bfloat16"


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_products_are_computed_in_the_precision(precision):
    with choose_engine(nn.Linear(3, 7), precision, gpu=False).forward_context():
        assert str(nn.Linear(3, 7)(torch.ones(2, 3)).dtype) == f"torch.{precision}"


def test_a_gpu_that_is_not_there_is_told(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"torch sees none here; write resources\.gpus: 0"):
        choose_engine(nn.Linear(3, 7), "auto", gpu=True)


@pytest.mark.parametrize(
    ("error", "so"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError(), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
    ],
)
def test_errors_for_want_of_memory_are_known(error, so):
    assert out_of_memory(error) is so
