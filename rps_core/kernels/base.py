"""What every kernel does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from rps_core.mappings import Block


@dataclass(frozen=True)
class Layer:
    """A compressed tensor.

    Attributes:
        name: Its name in the vocabulary of budgets.
        owners: Every (module path, attribute) that holds it; more than one where weights are tied.
        block: Its shape, as the mapping sees it.
        start: First virtual weight.
        scale: lambda, what its weights are multiplied by.
        padding: Row that is always zero (``padding_idx`` of an embedding), or None.
    """

    name: str
    owners: tuple[tuple[str, str], ...]
    block: Block
    start: int
    scale: float
    padding: int | None = None

    @property
    def stop(self) -> int:
        """One past its last virtual weight."""
        return self.start + self.block.size


class Kernel(Protocol):
    """Recovers weights of layers of one group on one device. R is the n x m matrix with w = R psi."""

    def recover(self, psi: Tensor, indices: Sequence[int]) -> list[Tensor]:
        """Return the weights of the layers ``indices``, each in its shape, from psi, ``(slots,)``."""
        ...

    def fold(self, weights: Sequence[Tensor], indices: Sequence[int]) -> Tensor:
        """Return ``R^T`` times the weights of the layers ``indices``, ``(slots,)``, in the ``sum_dtype`` of theirs."""
        ...


def sum_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype to sum values of ``dtype`` in: float32 for half precision, else the same."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype
