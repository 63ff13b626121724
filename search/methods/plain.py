"""Models without compression: the dense one, and one with fewer channels."""

from __future__ import annotations

import math

from torch import nn

from baselines import load_sparse, small_model
from rps_core.budgets import kept_for_ratio
from search.methods.base import Compressed, Workbench, layer_shapes, loads_with, stored_sparsely


def dense(bench: Workbench) -> Compressed:
    """The model as it is."""
    model = bench.build(1.0)
    compressed = stored_sparsely(model)
    # What the other methods compress of it, for the size is read beside theirs.
    compressed.virtual_size = sum(map(math.prod, layer_shapes(model, bench.config.model.exclude).values()))
    return compressed


def _narrow(bench: Workbench) -> nn.Module:
    full = sum(p.numel() for p in bench.build(1.0).parameters())
    model, _ = small_model(bench.build, kept_for_ratio(full, bench.config.ratio), sketch=bench.sketch)
    return model


@loads_with(lambda bench, path: load_sparse(path, _narrow(bench)))
def small(bench: Workbench) -> Compressed:
    """The same architecture with fewer channels: as many parameters as the ratio leaves the model in all."""
    return stored_sparsely(_narrow(bench))
