"""Judging a model on the images of a split."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from search.data.batches import DeviceSplit, eval_batches
from search.data.images import ImageData
from search.training.engine import Engine
from search.training.plain import is_compressed, plain_copy

# Large enough to keep a device busy, small enough that activations of 32x32 images stay in tens of megabytes.
EVAL_BATCH_SIZE = 500
# Pixels of a batch: of larger images it holds fewer, or judging a model would take more memory than training it.
EVAL_PIXELS = 2**21


@torch.inference_mode()
def evaluate(model: nn.Module, split: DeviceSplit, data: ImageData, engine: Engine) -> tuple[float, float]:
    """Return the share of a split's images that a model classifies rightly, and its mean cross-entropy in nats.

    Args:
        model: The model, in evaluation mode and placed by ``engine``.
        split: The images.
        data: The data set, for its normalisation.
        engine: Device and precision.
    """
    height, width = split.size
    size = min(EVAL_BATCH_SIZE, max(1, EVAL_PIXELS // (height * width)))
    if len(split) > size and is_compressed(model):
        # Its weights are computed once, not at every batch.
        model = engine.place(plain_copy(model))
    right = torch.zeros((), dtype=torch.int64, device=engine.device)
    loss = torch.zeros((), dtype=torch.float64, device=engine.device)
    batches = eval_batches(split, batch_size=size, mean=data.mean, std=data.std, memory_format=engine.memory_format)
    for inputs, labels in batches:
        with engine.forward_context():
            logits = model(inputs).float()
        right += (logits.argmax(dim=1) == labels).sum()
        loss += functional.cross_entropy(logits, labels, reduction="sum")
    return right.item() / len(split), loss.item() / len(split)
