"""STABLE-RPS and the other mappings of rps_core."""

from __future__ import annotations

import copy
import logging
import tempfile
from pathlib import Path
from typing import Any, Literal

from torch import nn

from rps_core import RPSConfig, compress_, compression_summary, load_compressed, project_, round_psi_, save_compressed
from rps_core.gradient_scaling import DEFAULT_GRADIENT_SCALING
from search.methods.base import Compressed, Prospect, Workbench, checked_by, ends, loads_with

logger = logging.getLogger(__name__)


class Shared(Compressed):
    """A model whose file may round the shared array."""

    def settle(self) -> bool:
        """Round the array as the file does. See :class:`Compressed`."""
        return round_psi_(self.model)


def _check(prospect: Prospect) -> None:
    """Find arguments that RPSConfig refuses, and weights that cannot be shared, such as frozen ones."""
    for name, value in prospect.args.items():
        if name != "start":  # of no configuration
            for one in ends(value):
                argument: dict[str, Any] = {name: one}
                RPSConfig(**argument)
    compress_(copy.deepcopy(prospect.model), RPSConfig(ratio=prospect.ratio, exclude=prospect.exclude))


@checked_by(_check)
@loads_with(lambda bench, path: load_compressed(path, bench.build(1.0)))
def rps(
    bench: Workbench,
    *,
    mapping: str = "random_fold",
    gradient_scaling: str = DEFAULT_GRADIENT_SCALING,
    init_std: float = 1.0,
    psi_dtype: str = "float32",
    start: Literal["auto", "drawn", "nearest"] = "auto",
) -> Compressed:
    """Randomized parameter sharing: all weights, or those of each group, read from one shared array.

    The arguments are those of :class:`rps_core.RPSConfig`, and ``start``: whether the shared array is ``drawn`` anew,
    or the one ``nearest`` to the model's weights (post-training sharing); ``auto`` takes the nearest where the spec
    gives trained weights.
    """
    config = RPSConfig(
        ratio=bench.config.ratio,
        budgets=bench.config.budgets or {},
        exclude=bench.config.model.exclude,
        seed=bench.config.seed,
        mapping=mapping,
        gradient_scaling=gradient_scaling,
        init_std=init_std,
        psi_dtype=psi_dtype,
    )
    nearest = start == "nearest" or (start == "auto" and bench.config.model.weights is not None)
    model = (project_ if nearest else compress_)(bench.build(1.0), config)
    summary = compression_summary(model)
    if summary.relative_error is not None:
        errors = ", ".join(f"{layer} {error:.3f}" for layer, error in summary.relative_error.items())
        logger.info("relative error of each layer's weights, shared at ratio %g: %s", config.ratio, errors)
    return Shared(
        model,
        virtual_size=summary.virtual_size,
        stored_parameters=summary.stored_parameters,
        stored_bytes=_file_bytes(model),
        save=save_compressed,
    )


def _file_bytes(model: nn.Module) -> int:
    """Return the size of the model's file, header included, as it is counted for pruned models too."""
    with tempfile.TemporaryDirectory() as folder:
        return save_compressed(model, Path(folder) / "model").size_bytes
