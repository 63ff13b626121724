"""Batches from images that live on the device: order and augmentation are tensor code, seeded by the epoch."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from search.data.images import Split
from search.errors import UserError

AUGMENTATIONS = ("none", "flip", "crop", "crop_flip")


@dataclass(frozen=True)
class DeviceSplit:
    """A split on the device of its trial, as uint8, for the trial's whole life.

    Attributes:
        images: uint8, ``(N, C, H, W)``. On the CPU it is the split's own memory, which may be read-only.
        labels: int64, ``(N,)``.
    """

    images: Tensor
    labels: Tensor

    @classmethod
    def of(cls, split: Split, device: torch.device | str) -> DeviceSplit:
        """Move a split to a device, without a copy where that is the CPU."""
        with warnings.catch_warnings():
            # Arrays from shared memory are read-only, and nothing here writes into them.
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            return cls(torch.from_numpy(split.images).to(device), torch.from_numpy(split.labels).to(device))

    def __len__(self) -> int:
        return len(self.labels)


def check_batch_size(batch_size: int, images: int) -> None:
    """Refuse a batch that is larger than the training part.

    Raises:
        UserError: If ``batch_size > images``.
    """
    if batch_size > images:
        raise UserError(f"train.batch_size={batch_size} is more than the {images} training images; write at most that")


def steps_per_epoch(images: int, batch_size: int) -> int:
    """Return how many batches :func:`train_batches` yields."""
    full, rest = divmod(images, batch_size)
    return full + (rest > 1 or full == 0)


def train_batches(
    split: DeviceSplit,
    *,
    batch_size: int,
    augment: str,
    mean: Sequence[float],
    std: Sequence[float],
    seed: int,
    epoch: int,
    dtype: torch.dtype = torch.float32,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield one epoch of shuffled, augmented and normalised batches.

    Order and augmentation depend on ``(seed, epoch)`` only, and are drawn on the CPU: a resumed trial and a trial on
    another device see exactly the same images. The last batch holds what is left over, unless that is a single
    image, which batch-norm cannot train on: it is left out of this epoch.

    Args:
        split: Training images.
        batch_size: Images in a batch.
        augment: ``none``, ``flip`` (left to right, every second image on average), ``crop`` (shift by up to an
            eighth of the side each way, black outside) or ``crop_flip``.
        mean: Mean of each channel, in units where 255 is 1.
        std: Standard deviation of each channel, in the same units.
        seed: Seed of the trial.
        epoch: Number of the epoch.
        dtype: Number format of the images.
        memory_format: Layout of the images.

    Yields:
        Images ``(batch, C, H, W)`` and labels ``(batch,)``.
    """
    draws = _Epoch(split, augment, seed, epoch)
    normalise = _Normaliser(mean, std, split.images.device, dtype)
    for step in range(steps_per_epoch(len(split), batch_size)):
        part = slice(step * batch_size, (step + 1) * batch_size)
        images, labels = draws.batch(part)
        yield normalise(images, memory_format), labels


def eval_batches(
    split: DeviceSplit,
    *,
    batch_size: int,
    mean: Sequence[float],
    std: Sequence[float],
    dtype: torch.dtype = torch.float32,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield every image once, in order and unchanged but for the normalisation. See :func:`train_batches`."""
    normalise = _Normaliser(mean, std, split.images.device, dtype)
    for images, labels in zip(split.images.split(batch_size), split.labels.split(batch_size), strict=True):
        yield normalise(images, memory_format), labels


class _Normaliser:
    """``(image / 255 - mean) / std`` as one multiplication and one addition."""

    def __init__(self, mean: Sequence[float], std: Sequence[float], device: torch.device, dtype: torch.dtype) -> None:
        self.dtype = dtype
        means, stds = (torch.tensor(values, dtype=torch.float64).view(1, -1, 1, 1) for values in (mean, std))
        self.scale = (1 / (255 * stds)).to(device, torch.float32)
        self.shift = (-means / stds).to(device, torch.float32)

    def __call__(self, images: Tensor, memory_format: torch.memory_format) -> Tensor:
        # In float32 whatever the target, so that bfloat16 rounds once; the layout last, since NCHW computes faster.
        values = images.to(torch.float32).mul_(self.scale).add_(self.shift)
        return values.to(self.dtype).contiguous(memory_format=memory_format)


class _Epoch:
    """Everything random about one epoch, drawn at once: an order, and a shift and a flip for each place in it."""

    def __init__(self, split: DeviceSplit, augment: str, seed: int, epoch: int) -> None:
        if augment not in AUGMENTATIONS:
            raise ValueError(f"augment must be one of {', '.join(AUGMENTATIONS)}, but got {augment!r}")
        self.split, self.augment = split, augment
        count, (height, width) = len(split), split.images.shape[2:]
        digest = hashlib.sha256(f"{seed}:{epoch}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big", signed=True))
        device = split.images.device
        self.order = torch.randperm(count, generator=generator).to(device)
        down, right = (math.ceil(height / 8), math.ceil(width / 8)) if augment.startswith("crop") else (0, 0)
        self.padding = (right, right, down, down)
        padded_width = width + 2 * right
        top, left = (torch.randint(2 * pad + 1, (count,), generator=generator) for pad in (down, right))
        self.start = (top * padded_width + left).to(device)
        flipped = torch.rand(count, generator=generator) < 0.5
        self.flipped = (flipped & augment.endswith("flip")).long().to(device)
        columns = torch.arange(width)
        rows = torch.arange(height)[:, None] * padded_width
        self.pixels = torch.stack([(rows + columns).flatten(), (rows + columns.flip(0)).flatten()]).to(device)

    def batch(self, part: slice) -> tuple[Tensor, Tensor]:
        """Return the images, uint8 and augmented, and the labels of one slice of the order."""
        indices = self.order[part]
        images, labels = self.split.images[indices], self.split.labels[indices]
        if self.augment == "none":
            return images, labels
        # One gather shifts and flips: pixel k of an image comes from this place in its padded, flattened original.
        places = self.pixels[self.flipped[part]] + self.start[part][:, None]
        padded = F.pad(images, self.padding).flatten(2)
        moved = padded.gather(2, places[:, None].expand(-1, images.shape[1], -1))
        return moved.view(images.shape), labels
