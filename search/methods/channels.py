"""Structured pruning: whole channels are cut, which saves operations where masks and sharing save memory only."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal

from baselines import (
    ChannelConfig,
    check_reachable,
    load_channels,
    prune_channels_,
    save_sparse,
    sparse_summary,
    width_note,
)
from baselines.channel_graph import channel_groups
from baselines.scorers import find_method
from search.methods.base import Compressed, Prospect, Workbench, checked_by, least, loads_with, loss_fn


def _check(prospect: Prospect) -> None:
    _check_all_layers(prospect.exclude)
    check_reachable(
        prospect.model, prospect.example_input, ratio=prospect.ratio, floor=least(prospect.args, "floor", 1)
    )


def _check_all_layers(exclude: Sequence[str]) -> None:
    if exclude:
        raise ValueError(
            "channels are cut in all layers, since a layer's weights depend on its neighbours' channels too, but "
            f"model.exclude names {', '.join(exclude)}: leave one of the two out"
        )


@checked_by(_check)
@loads_with(lambda bench, path: load_channels(path, bench.build(1.0), bench.example_input))
def channels(
    bench: Workbench,
    *,
    scorer: Literal["rand", "mag", "snip", "grasp", "synflow"] = "mag",
    scope: Literal["global", "layer"] = "global",
    floor: int = 1,
) -> Compressed:
    """Cut the channels whose weights score lowest; what is left is a narrower model.

    The ratio is met as nearly as whole channels allow. The weights of a layer depend on the channels of its neighbours
    too, so that budgets of single layers cannot be met.

    Args:
        bench: The workbench.
        scorer: The pruning method whose scores rank the channels.
        scope: Rank the channels of all layers together, or keep the same share of each layer.
        floor: Number of channels that each layer keeps at least.
    """
    if bench.config.budgets:
        raise ValueError(
            "channels are cut by the ratio alone, since a layer's weights depend on its neighbours' channels too, but "
            f"got budgets for {', '.join(bench.config.budgets)}: leave them out, or set args.scope"
        )
    _check_all_layers(bench.config.model.exclude)
    model = bench.build(1.0)
    size = sparse_summary(model).virtual_size
    groups = channel_groups(model, bench.example_input)
    config = ChannelConfig(method=scorer, ratio=bench.config.ratio, scope=scope, floor=floor, seed=bench.config.seed)
    batches = bench.scoring_batches() if find_method(scorer).needs == "data" else None
    prune_channels_(model, config, example_input=bench.example_input, loss_fn=loss_fn, batches=batches)
    note = width_note(model, groups)
    summary = sparse_summary(model, note=note)
    return Compressed(
        model,
        virtual_size=size,
        stored_parameters=summary.stored_parameters,
        stored_bytes=summary.stored_bytes,
        save=partial(save_sparse, note=note),
    )
