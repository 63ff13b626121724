"""Pruning, lottery tickets and small models: what parameter sharing is compared against."""

from baselines.files import load_sparse, save_sparse
from baselines.masks import apply_masks_, masks_of, unmask_
from baselines.pruning import PruneConfig, prune_, score
from baselines.summary import SparseSummary, sparse_summary

__all__ = [
    "PruneConfig",
    "SparseSummary",
    "apply_masks_",
    "load_sparse",
    "masks_of",
    "prune_",
    "save_sparse",
    "score",
    "sparse_summary",
    "unmask_",
]
