"""Batch-norm statistics of a model whose weights changed after they were gathered."""

from __future__ import annotations

from itertools import islice

from torch.optim.swa_utils import update_bn

from search.training.trainer import Trainer

# Means over some thousands of images hardly move with more of them.
MOST_BATCHES = 100


def recalibrate(trainer: Trainer) -> None:
    """Gather the statistics of a trainer's model anew, as their mean over batches of training images.

    The images are those of the epoch that would come next, augmented as in training. A model without batch-norm is left
    as it is.
    """
    batches = (inputs for inputs, _ in islice(trainer.batches(), MOST_BATCHES))
    with trainer.seeded(), trainer.engine.forward_context():
        update_bn(batches, trainer.model)
