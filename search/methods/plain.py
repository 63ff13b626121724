"""Models without compression: the dense one, and one with fewer channels."""

from __future__ import annotations

import torch
from torch import nn

from baselines import load_sparse, small_model
from rps_core.budgets import kept_for_ratio
from search.methods.base import Compressed, Workbench, loads_with, stored_sparsely
from search.models import build_model


def dense(bench: Workbench) -> Compressed:
    """The model as it is."""
    return stored_sparsely(bench.build(1.0))


def _narrow(bench: Workbench) -> nn.Module:
    config, full = bench.config, bench.build(1.0).eval()
    _, channels, height, image_width = bench.example_input.shape
    with torch.no_grad():
        classes = full(bench.example_input).shape[1]

    def sketch(width: float) -> nn.Module:
        """Build what is only counted: not moved to a device, which a model without memory cannot be, nor run."""
        return build_model(
            config.model,
            data_shape=(channels, height, image_width),
            classes=classes,
            width=width,
            seed=config.seed,
            check_output=False,
        )

    budget = kept_for_ratio(sum(p.numel() for p in full.parameters()), config.ratio)
    model, _ = small_model(bench.build, budget, sketch=sketch)
    return model


@loads_with(lambda bench, path: load_sparse(path, _narrow(bench)))
def small(bench: Workbench) -> Compressed:
    """The same architecture with fewer channels: as many parameters as the ratio leaves the model in all."""
    return stored_sparsely(_narrow(bench))
