"""The learning rate over a trial, as a factor of its peak."""

from __future__ import annotations

import math

from search.spec.schema import TrainSpec

# Share of a one-cycle schedule that grows, and where it ends, relative to the peak.
ONE_CYCLE_RISE = 0.2
ONE_CYCLE_END = 0.0


def lr_factor(train: TrainSpec, epoch: float) -> float:
    """Return the learning rate at a point of the training, as a factor of the peak learning rate.

    Args:
        train: Schedule, milestones and length.
        epoch: Position in epochs, fractions included, in [0, train.epochs].

    Returns:
        A factor in [0, 1].
    """
    done = epoch / train.epochs
    if train.schedule == "one_cycle":
        if done < ONE_CYCLE_RISE:
            return max(done / ONE_CYCLE_RISE, 1e-3)
        return 1 - (1 - ONE_CYCLE_END) * (done - ONE_CYCLE_RISE) / (1 - ONE_CYCLE_RISE)
    warm = min(1.0, (epoch + 1e-3) / train.warmup_epochs) if train.warmup_epochs else 1.0
    if train.schedule == "cosine":
        return warm * 0.5 * (1 + math.cos(math.pi * done))
    if train.schedule == "step":
        return warm * train.lr_drop ** sum(done >= milestone for milestone in train.milestones)
    return warm
