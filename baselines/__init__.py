"""Pruning, lottery tickets and small models: what parameter sharing is compared against."""

from baselines.masks import apply_masks_, masks_of, unmask_
from baselines.pruning import PruneConfig, prune_, score
from baselines.summary import SparseSummary, sparse_summary

__all__ = ["PruneConfig", "SparseSummary", "apply_masks_", "masks_of", "prune_", "score", "sparse_summary", "unmask_"]
