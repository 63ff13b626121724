"""One psi and the layers that read it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from rps_core.gradient_scaling import gradient_scaler
from rps_core.mappings import Block, SlotMapping, mapping_class
from rps_core.recovery import Recover, signed_runs


@dataclass(frozen=True)
class Layer:
    """A compressed tensor.

    Attributes:
        name: Its name in the vocabulary of budgets.
        owners: Every (module path, attribute) that holds it; more than one where weights are tied.
        block: Its shape, as the mapping sees it.
        start: First virtual weight.
        scale: lambda, what its weights are multiplied by.
    """

    name: str
    owners: tuple[tuple[str, str], ...]
    block: Block
    start: int
    scale: float

    @property
    def stop(self) -> int:
        """One past its last virtual weight."""
        return self.start + self.block.size


class SharedGroup:
    """The layers that read one psi.

    psi itself is a parameter of the compressed model; the group reads it from the model's own table of parameters,
    so that whatever replaces it there (``functional_call``, ``.to``) is what the layers see. Everything else here
    is plain data; what can be computed from it is left out of copies and files.

    Attributes:
        parameters: The table of parameters psi is registered in.
        key: psi's name in it.
        name: The group's name in the vocabulary of budgets.
        layers: The layers, in virtual order.
        mapping: h and g.
        gradient_scaling: Name of the gradient scaler.
    """

    def __init__(
        self,
        *,
        name: str,
        key: str,
        layers: Sequence[Layer],
        slots: int,
        mapping: str,
        seed: int,
        gradient_scaling: str,
    ) -> None:
        self.parameters: dict[str, nn.Parameter | None] = {}
        self.key = key
        self.name = name
        self.layers = tuple(layers)
        self.gradient_scaling = gradient_scaling
        self.mapping: SlotMapping = mapping_class(mapping).build([la.block for la in self.layers], slots, seed)

    @property
    def psi(self) -> Tensor:
        """The shared array, ``(slots,)``."""
        psi = self.parameters[self.key]
        assert psi is not None
        return psi

    @property
    def virtual_size(self) -> int:
        """Number of virtual weights, n."""
        return self.mapping.virtual_size

    @property
    def slots(self) -> int:
        """Number of slots, m."""
        return self.mapping.slots

    def weight(self, index: int) -> Tensor:
        """Return layer ``index``'s weights, recovered from psi: ``lambda * g * psi[h]`` in the layer's shape."""
        (weight,) = Recover.apply(self.psi, self, (index,))
        return weight

    @cached_property
    def runs(self) -> tuple[Any, ...]:
        """Runs of each layer."""
        return tuple(signed_runs(self.mapping, la.start, la.stop) for la in self.layers)

    @cached_property
    def scaler(self) -> npt.NDArray[np.float64] | None:
        """Gamma, ``(slots,)``, or None where it is 1 everywhere."""
        uses, scale_sum, square_sum = self.slot_sums()
        return gradient_scaler(self.gradient_scaling, uses, scale_sum, square_sum)

    def slot_sums(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Return for each slot the number of its weights, the sum of their lambda and of their lambda squared."""
        uses = np.zeros(self.slots, dtype=np.int64)
        scale_sum, square_sum = np.zeros(self.slots), np.zeros(self.slots)
        for layer in self.layers:
            count = np.zeros(self.slots, dtype=np.int64)
            for start in range(layer.start, layer.stop, 1 << 20):
                part = self.mapping.slots_of(start, min(start + (1 << 20), layer.stop))
                count += np.bincount(part, minlength=self.slots)
            uses += count
            scale_sum += layer.scale * count
            square_sum += layer.scale**2 * count
        return uses, scale_sum, square_sum

    def constant(self, key: str, like: Tensor) -> Tensor | None:
        """Return the sign pattern or the scaler as a tensor of ``like``'s dtype and device, made once for each."""
        cache: dict[Any, Tensor] = self.__dict__.setdefault("_constants", {})
        place = (key, like.device, like.dtype)
        if place not in cache:
            values = self.mapping.pattern if key == "pattern" else self.scaler  # type: ignore[attr-defined]
            if values is None:
                return None
            cache[place] = torch.from_numpy(np.asarray(values)).to(device=like.device, dtype=like.dtype)
        return cache[place]

    def rescale(self, scales: Sequence[float]) -> None:
        """Replace the layers' scales, before first use."""
        self.layers = tuple(replace(la, scale=s) for la, s in zip(self.layers, scales, strict=True))

    def __getstate__(self) -> dict[str, Any]:
        kept = ("parameters", "key", "name", "layers", "gradient_scaling", "mapping")
        return {name: self.__dict__[name] for name in kept}
