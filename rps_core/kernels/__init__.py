"""Kernels: recovering the weights of layers from psi, and the transpose."""

from rps_core.kernels.base import Kernel, Layer, sum_dtype
from rps_core.kernels.choose import make_kernel

__all__ = ["Kernel", "Layer", "make_kernel", "sum_dtype"]
