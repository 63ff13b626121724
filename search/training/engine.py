"""Where and in which number format a trial computes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import nn

from search.errors import UserError

# Floats in the widest vector register of a processor.
VECTOR_CHANNELS = 16
# Dimensions of a batch of images, and of the weights of its convolutions.
IMAGES = 4


@dataclass(frozen=True)
class Engine:
    """Device, precision and memory layout of one trial.

    Attributes:
        device: Where the model and the data live.
        autocast: Number format of matrix products and convolutions; ``torch.float32`` turns autocast off.
        memory_format: Layout of image batches and convolution weights.
    """

    device: torch.device
    autocast: torch.dtype
    memory_format: torch.memory_format

    def forward_context(self) -> contextlib.AbstractContextManager[object]:
        """Return the context in which the forward pass and the loss are computed."""
        if self.autocast is torch.float32:
            return contextlib.nullcontext()
        # The weight cache of autocast pays only where one weight is used twice in a pass.
        return torch.autocast(self.device.type, self.autocast, cache_enabled=False)

    def place(self, model: nn.Module) -> nn.Module:
        """Move a model to the device and the layout, in place, and return it."""
        with sharing_buffers(model):
            return model.to(self.device)._apply(self._laid_out)

    def _laid_out(self, tensor: torch.Tensor) -> torch.Tensor:
        # nn.Module.to would lay out volumes too, for which the layouts of images are none.
        return tensor.to(memory_format=self.memory_format) if tensor.dim() == IMAGES else tensor

    def laid_out_for(self, model: nn.Module) -> Engine:
        """Return this engine with the layout that suits a model, which compression may have made narrower."""
        fits = computes_channels_last(model, self.device)
        return replace(self, memory_format=torch.channels_last if fits else torch.contiguous_format)

    def synchronize(self) -> None:
        """Wait until the device has done what was asked of it, as a clock must."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def describe(self) -> str:
        """Return the device's name as the results tables store it."""
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "cpu"
        return f"{name} {str(self.autocast).removeprefix('torch.')}"


def choose_engine(model: nn.Module, precision: Literal["auto", "float32", "bfloat16"], *, gpu: bool) -> Engine:
    """Choose device, precision and layout for a model.

    ``auto`` takes bfloat16 where the device computes in it and the model is a convolutional one: casting costs more
    than it saves in small networks without convolutions on a processor.

    Raises:
        UserError: If a GPU was given to the trial but torch sees none.
    """
    if gpu and not torch.cuda.is_available():
        raise UserError("resources.gpus gives this trial a GPU, but torch sees none here; write resources.gpus: 0")
    device = torch.device("cuda") if gpu else torch.device("cpu")
    convolutional = any(isinstance(module, nn.Conv2d) for module in model.modules())
    if precision == "auto":
        wanted = computes_bfloat16(device) and (convolutional or device.type == "cuda")
        dtype = torch.bfloat16 if wanted else torch.float32
    else:
        dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]
    return Engine(device, dtype, torch.contiguous_format).laid_out_for(model)


@contextlib.contextmanager
def sharing_buffers(model: nn.Module) -> Iterator[None]:
    """Within, ``model.to`` moves a buffer that several modules hold once for all: by itself it gives each its own.

    Files hold such a buffer once, and would not fit the model any more.
    """
    holders: dict[int, list[tuple[nn.Module, str]]] = {}
    for module in model.modules():
        for name, buffer in module._buffers.items():
            if buffer is not None:
                holders.setdefault(id(buffer), []).append((module, name))
    yield
    for (first, name), *others in holders.values():
        for module, other in others:
            module._buffers[other] = first._buffers[name]


def computes_channels_last(model: nn.Module, device: torch.device) -> bool:
    """Return whether a model has convolutions of images and the device computes all of them right in channels_last.

    On processors, oneDNN writes past the end of its buffers in the backward pass of a strided 1x1 convolution of fewer
    input channels than fill its vectors (torch 2.15, AVX2: 1 and 3 channels end the process, "double free").
    """
    convolutions = [module for module in model.modules() if isinstance(module, nn.Conv2d)]
    unsafe = [
        module
        for module in convolutions
        if set(module.kernel_size) == {1} and set(module.stride) != {1} and module.in_channels % VECTOR_CHANNELS
    ]
    return bool(convolutions) and (device.type != "cpu" or not unsafe)


def computes_bfloat16(device: torch.device) -> bool:
    """Return whether the device has bfloat16 arithmetic, not merely an emulation of it."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    supported = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in supported)


def out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that the memory of the device or of the machine ran out."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)
