"""Pruning at initialisation: every method of baselines that scores weights once and trains what is left."""

from __future__ import annotations

import copy
from typing import Literal

from baselines import PruneConfig, prune_
from baselines.scorers import find_method
from search.methods.base import Compressed, Prospect, Workbench, checked_by, least, loss_fn, stored_sparsely


def _check(prospect: Prospect) -> None:
    """Find floors that no trial can meet; whose scores rank the weights does not matter for that."""
    floor, scope = least(prospect.args, "floor", 0), prospect.args.get("scope", "global")
    config = PruneConfig(
        method="rand",
        ratio=prospect.ratio,
        floor=floor,
        scope="layer" if scope == "layer" else "global",  # searched: some trials may meet what others cannot
        exclude=prospect.exclude,
        allow_empty=True,
    )
    if floor > 0:
        prune_(copy.deepcopy(prospect.model), config)


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
        exclude=bench.config.model.exclude,
        seed=bench.config.seed,
        allow_empty=True,
    )
    model = bench.build(1.0)
    # Images of all classes at once take time and memory.
    batches = bench.scoring_batches() if find_method(config.method).needs == "data" else None
    prune_(model, config, loss_fn=loss_fn, batches=batches, example_input=bench.example_input)
    return stored_sparsely(model)
