"""Structured pruning: whole channels are cut, which saves operations where masks and sharing save memory only."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Literal

from torch import Tensor, nn

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
from search.methods.base import Compressed, Workbench, checked_by, least, loads_with, loss_fn
from search.spec.fields import SearchedValue


def _check(
    model: nn.Module, example_input: Tensor, ratio: float, args: Mapping[str, SearchedValue], epochs: int
) -> None:
    check_reachable(model, example_input, ratio=ratio, floor=least(args, "floor", 1))


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
    model = bench.build(1.0)
    size = sparse_summary(model).virtual_size
    groups = channel_groups(model, bench.example_input)
    config = ChannelConfig(method=scorer, ratio=bench.config.ratio, scope=scope, floor=floor, seed=bench.config.seed)
    batches = bench.scoring_batches()
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
