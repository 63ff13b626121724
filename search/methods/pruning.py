"""Pruning at initialisation: every method of baselines that scores weights once and trains what is left."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Literal

from torch import Tensor, nn

from baselines import PruneConfig, prune_
from search.methods.base import Compressed, Workbench, checked_by, least, loss_fn, stored_sparsely
from search.spec.fields import SearchedValue


def _check(
    model: nn.Module, example_input: Tensor, ratio: float, args: Mapping[str, SearchedValue], epochs: int
) -> None:
    """Find floors that no trial can meet; whose scores rank the weights does not matter for that."""
    floor, scope = least(args, "floor", 0), args.get("scope", "global")
    config = PruneConfig(
        method="rand",
        ratio=ratio,
        floor=floor,
        scope="layer" if scope == "layer" else "global",  # searched: some trials may meet what others cannot
        allow_empty=True,
    )
    if floor > 0:
        prune_(copy.deepcopy(model), config)


@checked_by(_check)
def prune(bench: Workbench, *, scope: Literal["global", "layer"] = "global", floor: int = 0) -> Compressed:
    """Prune by the method the trial names. A layer may lose all its weights: that is a result, not an error.

    The arguments are those of :class:`baselines.PruneConfig`.
    """
    config = PruneConfig(
        method=bench.config.method,
        ratio=bench.config.ratio,
        scope=scope,
        floor=floor,
        budgets=bench.config.budgets or {},
        seed=bench.config.seed,
        allow_empty=True,
    )
    model = bench.build(1.0)
    prune_(model, config, loss_fn=loss_fn, batches=bench.scoring_batches(), example_input=bench.example_input)
    return stored_sparsely(model)
