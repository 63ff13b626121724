"""What the engine is compared with: the usual script, the bare loop, and sharing with stored indices."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from baselines.layers import prunable_weights
from search.data import ImageData, Split
from search.data.encoded import EncodedSplit
from search.methods import Compressed, Workbench
from search.models import build_model
from search.spec import ModelSpec

Contestant = Callable[[], int]  # trains an epoch and returns the images of it


def synthetic(images: int) -> ImageData:
    """Return noise of CIFAR-10's size; a ninth as many images to validate on, as a tenth held out gives."""
    rng = np.random.default_rng(0)

    def split(count: int) -> Split:
        pixels = rng.integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)
        return Split(pixels, rng.integers(0, 10, count))

    parts = split(images), split(images // 9), split(images // 9)
    return ImageData("synthetic", 10, None, *parts, (0.49, 0.48, 0.45), (0.25, 0.24, 0.26), "crop_flip")


class PilImages(Dataset):
    """Images as torchvision's data sets hold them: a PIL image is made and transformed at each access."""

    def __init__(self, split: Split | EncodedSplit, data: ImageData, *, augment: bool) -> None:
        pixels = split.pixels(np.arange(len(split))).transpose(0, 2, 3, 1)
        # PIL wants grey images without an axis of channels.
        self.pixels = np.ascontiguousarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
        self.labels = split.labels
        crop = [transforms.RandomCrop(pixels.shape[1], padding=pixels.shape[1] // 8)] if "crop" in data.augment else []
        flip = [transforms.RandomHorizontalFlip()] if "flip" in data.augment else []
        changes = [*crop, *flip] if augment else []
        self.transform = transforms.Compose(
            [*changes, transforms.ToTensor(), transforms.Normalize(data.mean, data.std)]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.pixels[index])), int(self.labels[index])


def plain_model(args: argparse.Namespace, data: ImageData, model: str = "resnet20", seed: int = 0) -> nn.Module:
    spec = ModelSpec(name=model)
    return build_model(spec, data_shape=data.shape, classes=data.classes, seed=seed).to(args.device)


class UsualScript:
    """DataLoader, PIL transforms, float32, eager; validation images are normalised one by one, too.

    With ``epochs`` the learning rate falls to zero over that many along a cosine, otherwise it stays.
    """

    def __init__(
        self,
        args: argparse.Namespace,
        data: ImageData,
        seed: int = 0,
        *,
        model: str = "resnet20",
        epochs: int | None = None,
    ) -> None:
        torch.manual_seed(seed)
        self.device = args.device
        self.model = plain_model(args, data, model, seed)
        options = {
            "batch_size": args.batch_size,
            "num_workers": args.workers,
            "persistent_workers": args.workers > 0,
        }
        self.train = DataLoader(PilImages(data.train, data, augment=True), shuffle=True, **options)
        self.val = DataLoader(PilImages(data.val, data, augment=False), **options)
        self.test = DataLoader(PilImages(data.test, data, augment=False), **options)
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4
        )
        self.schedule: torch.optim.lr_scheduler.LRScheduler | None = None
        if epochs is not None:
            self.schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, epochs * len(self.train))

    def __call__(self) -> int:
        """Train an epoch, classify the validation images, and return the number of training images."""
        self.model.train()
        for inputs, labels in self.train:
            loss = functional.cross_entropy(self.model(inputs.to(self.device)), labels.to(self.device))
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            if self.schedule is not None:
                self.schedule.step()
        self.accuracy(self.val)
        return len(self.train.dataset)

    def accuracy(self, loader: DataLoader) -> float:
        self.model.eval()
        right = 0
        with torch.no_grad():
            for inputs, labels in loader:
                right += (self.model(inputs.to(self.device)).argmax(1) == labels.to(self.device)).sum().item()
        return right / len(loader.dataset)


def bare_loop(args: argparse.Namespace, data: ImageData) -> Contestant:
    """The whole network in bfloat16 and channels_last, images normalised once, flips and shifts for a whole batch."""
    model = plain_model(args, data).to(torch.bfloat16).to(memory_format=torch.channels_last)
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (data.mean, data.std))

    def prepared(split: Split | EncodedSplit) -> tuple[Tensor, Tensor]:
        pixels = torch.from_numpy(split.pixels(np.arange(len(split))))
        images = ((pixels / 255 - mean) / std).to(args.device, torch.bfloat16)
        return images.contiguous(memory_format=torch.channels_last), torch.from_numpy(split.labels).to(args.device)

    (images, labels), (val_images, val_labels) = prepared(data.train), prepared(data.val)
    padded = functional.pad(images, (4, 4, 4, 4)).contiguous(memory_format=torch.channels_last)
    side = images.shape[-1]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4, fused=True)

    def epoch() -> int:
        model.train()
        for chosen in torch.randperm(len(images), device=args.device).split(args.batch_size):
            top, left = torch.randint(9, (2,)).tolist()
            inputs = padded[chosen, :, top : top + side, left : left + side]
            inputs = inputs.flip(-1) if top % 2 else inputs
            loss = functional.cross_entropy(model(inputs.contiguous(memory_format=torch.channels_last)), labels[chosen])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.inference_mode():
            batches = zip(val_images.split(500), val_labels.split(500), strict=True)
            sum((model(inputs).argmax(1) == wanted).sum() for inputs, wanted in batches)
        return len(images)

    return epoch


class IndexShared(nn.Module):
    """Parameter sharing with stored indices: each weight is ``psi[IDX] * G``, IDX int64 and G float32."""

    def __init__(self, model: nn.Module, slots: int) -> None:
        super().__init__()
        self.model = model
        self.weights = dict(prunable_weights(model))
        self.psi = nn.Parameter(torch.randn(slots, device=next(model.parameters()).device))
        generator = torch.Generator().manual_seed(0)
        for number, weight in enumerate(self.weights.values()):
            weight.requires_grad_(False)
            index = torch.randint(slots, weight.shape, generator=generator)
            sign = (torch.randint(2, weight.shape, generator=generator) * 2 - 1) * weight.std().item()
            self.register_buffer(f"index{number}", index.to(weight.device), persistent=False)
            self.register_buffer(f"sign{number}", sign.to(weight.device), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Recover all weights and run the model."""
        weights = {
            name: self.psi[self.get_buffer(f"index{number}")] * self.get_buffer(f"sign{number}")
            for number, name in enumerate(self.weights)
        }
        return functional_call(self.model, weights, (inputs,))


def indexed(bench: Workbench) -> Compressed:
    """The method of :class:`IndexShared`, for trials of the engine: only the recovery differs from ``rps``."""
    model = bench.build(1.0)
    size = sum(weight.numel() for weight in prunable_weights(model).values())
    slots = round(size / bench.config.ratio)
    shared = IndexShared(model, slots)
    return Compressed(
        shared, virtual_size=size, stored_parameters=slots, stored_bytes=4 * slots, save=lambda model, path: None
    )
