"""Which kernel serves a mapping on a device."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

import torch

from rps_core.kernels.base import Kernel, Layer
from rps_core.kernels.folded import FoldedKernel
from rps_core.kernels.indexed import IndexedKernel
from rps_core.mappings import RandomFold, SlotMapping


def make_kernel(mapping: SlotMapping, layers: Sequence[Layer], device: torch.device) -> Kernel:
    """Return the fastest kernel for ``mapping`` on ``device``."""
    if isinstance(mapping, RandomFold) and device.type == "cuda" and find_spec("triton") is not None:
        from rps_core.kernels.triton_folded import TritonFoldedKernel

        return TritonFoldedKernel(mapping, layers, device)
    if isinstance(mapping, RandomFold):
        return FoldedKernel(mapping, layers, device)
    return IndexedKernel(mapping, layers, device)
