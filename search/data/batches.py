"""Batches from images that live on the device: order and augmentation are tensor code, seeded by the epoch."""

from __future__ import annotations

import copy
import hashlib
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from search.data.encoded import EncodedSplit
from search.data.images import Split
from search.errors import UserError

AUGMENTATIONS = ("none", "flip", "crop", "crop_flip")


@dataclass(frozen=True)
class DeviceSplit:
    """A split on the device of its trial, as uint8, for the trial's whole life.

    Attributes:
        images: uint8, ``(N, C, H, W)``. On the CPU it is the split's own memory, which may be read-only. Images that
            do not fit memory stay encoded, and each batch is decoded and moved to the device ahead of its use.
        labels: int64, ``(N,)``, on the device.
    """

    images: Tensor | EncodedSplit
    labels: Tensor

    @classmethod
    def of(cls, split: Split | EncodedSplit, device: torch.device | str) -> DeviceSplit:
        """Move a split to a device, without a copy where that is the CPU."""
        with warnings.catch_warnings():
            # Arrays from shared memory are read-only, and nothing here writes into them.
            warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
            labels = torch.from_numpy(split.labels).to(device)
            return cls(torch.from_numpy(split.images).to(device) if isinstance(split, Split) else split, labels)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images in pixels."""
        height, width = self.images.shape[-2:]
        return height, width

    def fetch(self, parts: Sequence[Tensor] | Sequence[slice]) -> Iterator[Tensor]:
        """Yield the images of each part, uint8 on the device; parts index images as a tensor is indexed."""
        if isinstance(self.images, EncodedSplit):
            places = torch.arange(len(self))
            indices = (places[part if isinstance(part, slice) else part.cpu()].numpy() for part in parts)
            for images in self.images.stream(indices):
                yield torch.from_numpy(images).to(self.labels.device)
        else:
            for part in parts:
                yield self.images[part]


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
    batches = packed_batches(
        split,
        [(seed, epoch)],
        batch_size=batch_size,
        augment=augment,
        mean=mean,
        std=std,
        dtype=dtype,
        memory_format=memory_format,
    )
    for images, labels in batches:
        yield images[0], labels[0]


def packed_batches(
    split: DeviceSplit,
    epochs: Sequence[tuple[int, int]],
    *,
    batch_size: int,
    augment: str,
    mean: Sequence[float],
    std: Sequence[float],
    dtype: torch.dtype = torch.float32,
    memory_format: torch.memory_format = torch.contiguous_format,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches of several trials' epochs side by side, each as :func:`train_batches` yields it.

    Args:
        split: Training images.
        epochs: Seed of the trial and number of the epoch, for each of the K trials.
        batch_size: Images of one trial in a batch.
        augment: As in :func:`train_batches`, and so are the others.
        mean: Mean of each channel.
        std: Standard deviation of each channel.
        dtype: Number format of the images.
        memory_format: Layout of each trial's images.

    Yields:
        Images ``(K, batch, C, H, W)`` and labels ``(K, batch)``.
    """
    draws = _Epoch.side_by_side([_Epoch(split, augment, seed, epoch) for seed, epoch in epochs], batch_size)
    normalise = _Normaliser(mean, std, split.labels.device, dtype)
    width = batch_size * len(epochs)
    parts = [slice(step * width, (step + 1) * width) for step in range(steps_per_epoch(len(split), batch_size))]
    for part, images in zip(parts, split.fetch([draws.order[part] for part in parts]), strict=True):
        inputs = normalise(draws.augmented(images, part), memory_format)
        yield inputs.unflatten(0, (len(epochs), -1)), split.labels[draws.order[part]].view(len(epochs), -1)


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
    normalise = _Normaliser(mean, std, split.labels.device, dtype)
    parts = [slice(start, start + batch_size) for start in range(0, len(split), batch_size)]
    for part, images in zip(parts, split.fetch(parts), strict=True):
        yield normalise(images, memory_format), split.labels[part]


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
        self.augment = augment
        count, (height, width) = len(split), split.size
        digest = hashlib.sha256(f"{seed}:{epoch}".encode()).digest()
        generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "big", signed=True))
        device = split.labels.device
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

    @staticmethod
    def side_by_side(epochs: Sequence[_Epoch], batch_size: int) -> _Epoch:
        """Return one epoch that goes through all of ``epochs`` at once: a batch of the first, one of the second..."""
        merged = copy.copy(epochs[0])
        for name in ("order", "start", "flipped"):
            places = torch.stack([getattr(epoch, name) for epoch in epochs])
            setattr(merged, name, torch.cat([batch.flatten() for batch in places.split(batch_size, dim=1)]))
        return merged

    def augmented(self, images: Tensor, part: slice) -> Tensor:
        """Shift and flip the images of one slice of the order, uint8 ``(batch, C, H, W)``."""
        if self.augment == "none":
            return images
        # One gather does both: pixel k of an image comes from this place in its padded, flattened original.
        places = self.pixels[self.flipped[part]] + self.start[part][:, None]
        padded = F.pad(images, self.padding).flatten(2)
        return padded.gather(2, places[:, None].expand(-1, images.shape[1], -1)).view(images.shape)
