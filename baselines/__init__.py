"""Pruning, lottery tickets and small models: what parameter sharing is compared against."""

from baselines.channel_files import load_channels, width_note
from baselines.channels import ChannelConfig, check_reachable, prune_channels_
from baselines.cost import Cost, measure_cost
from baselines.files import load_sparse, read_note, save_sparse
from baselines.lottery import LotteryConfig, LotteryState, Ticket, TrainFn, count_rounds, lottery_ticket_
from baselines.masks import apply_masks_, masks_of, unmask_
from baselines.pruning import PruneConfig, prune_, score
from baselines.small import small_model
from baselines.summary import SparseSummary, sparse_summary

__all__ = [
    "ChannelConfig",
    "Cost",
    "LotteryConfig",
    "LotteryState",
    "PruneConfig",
    "SparseSummary",
    "Ticket",
    "TrainFn",
    "apply_masks_",
    "check_reachable",
    "count_rounds",
    "load_channels",
    "load_sparse",
    "lottery_ticket_",
    "masks_of",
    "measure_cost",
    "prune_",
    "prune_channels_",
    "read_note",
    "save_sparse",
    "score",
    "small_model",
    "sparse_summary",
    "unmask_",
    "width_note",
]
