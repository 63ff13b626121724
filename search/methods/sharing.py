"""STABLE-RPS and the other mappings of rps_core."""

from __future__ import annotations

from rps_core import RPSConfig, compress_, compression_summary, load_compressed, save_compressed
from search.methods.base import Compressed, Workbench, loads_with


@loads_with(lambda bench, path: load_compressed(path, bench.build(1.0)))
def rps(
    bench: Workbench,
    *,
    mapping: str = "random_fold",
    gradient_scaling: str = "effective_update",
    init_std: float = 1.0,
    psi_dtype: str = "float32",
) -> Compressed:
    """Randomized parameter sharing: all weights, or those of each group, read from one shared array.

    The arguments are those of :class:`rps_core.RPSConfig`.
    """
    config = RPSConfig(
        ratio=bench.config.ratio,
        budgets=bench.config.budgets or {},
        seed=bench.config.seed,
        mapping=mapping,
        gradient_scaling=gradient_scaling,
        init_std=init_std,
        psi_dtype=psi_dtype,
    )
    model = compress_(bench.build(1.0), config)
    summary = compression_summary(model)
    return Compressed(
        model,
        virtual_size=summary.virtual_size,
        stored_parameters=summary.stored_parameters,
        stored_bytes=summary.stored_bytes,
        save=save_compressed,
    )
