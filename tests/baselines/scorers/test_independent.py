"""Masks against an independent implementation: plain loops and autograd on a network that is used nowhere else."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from baselines import PruneConfig, masks_of, prune_

RATIO = 5.0


class Branches(nn.Module):
    """A strided stem, two branches of different kernels that are added and a group convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, stride=2, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.wide = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.narrow = nn.Conv2d(8, 8, 1, bias=False)
        self.out = nn.Linear(8, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.norm(self.stem(x)))
        x = F.relu(self.wide(x) + self.narrow(x))
        return self.out(x.amax((2, 3)))


NAMES = ("stem.weight", "wide.weight", "narrow.weight", "out.weight")


@pytest.fixture
def net():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)
        return Branches().double().train()


def loss(model, batch, temperature=1.0):
    return F.cross_entropy(model(batch[0]) / temperature, batch[1])


def gradient(model, batch, temperature=1.0):
    model = copy.deepcopy(model)
    loss(model, batch, temperature).backward()
    return [dict(model.named_parameters())[name].grad for name in NAMES]


def naive_mag(net, batch):
    return [dict(net.named_parameters())[name].abs() for name in NAMES]


def naive_snip(net, batch):
    """Each weight's share of the loss through a mask of ones: the paper's own derivation."""
    model = copy.deepcopy(net)
    weights = dict(model.named_parameters())
    masks = {name: torch.ones_like(weights[name], requires_grad=True) for name in NAMES}
    masked = {name: weights[name].detach() * masks[name] for name in NAMES}
    output = torch.func.functional_call(model, masked, (batch[0],))
    F.cross_entropy(output, batch[1]).backward()
    return [masks[name].grad.abs() for name in NAMES]


def naive_grasp(net, batch, step=1e-4):
    """w * (H g) with the product by central differences of the gradient."""
    direction = gradient(net, batch, 200.0)
    moved = []
    for sign in (1, -1):
        model = copy.deepcopy(net)
        with torch.no_grad():
            for name, g in zip(NAMES, direction, strict=True):
                dict(model.named_parameters())[name].add_(
                    sign * step * g / torch.stack([d.norm() for d in direction]).norm()
                )
        moved.append(gradient(model, batch, 200.0))
    weights = dict(net.named_parameters())
    return [weights[name].detach() * (up - down) for name, up, down in zip(NAMES, *moved, strict=True)]


def global_mask(scores, kept):
    """The ``kept`` largest by sorting, the first of equal ones first."""
    flat = torch.cat([s.detach().flatten() for s in scores])
    chosen = torch.zeros(flat.numel(), dtype=torch.bool)
    for index in sorted(range(flat.numel()), key=lambda i: (-float(flat[i]), i))[:kept]:
        chosen[index] = True
    return [part.view(s.shape) for part, s in zip(chosen.split([s.numel() for s in scores]), scores, strict=True)]


def naive_synflow(net, batch, iterations=10):
    model = copy.deepcopy(net).eval()
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.abs_()
    weights = dict(model.named_parameters())
    size = sum(weights[name].numel() for name in NAMES)
    for step in range(1, iterations + 1):
        model.zero_grad()
        model(torch.ones(1, 3, 8, 8, dtype=torch.float64)).sum().backward()
        kept = (
            round(size / RATIO)
            if step == iterations
            else round(size * (round(size / RATIO) / size) ** (step / iterations))
        )
        masks = global_mask([weights[name].grad * weights[name] for name in NAMES], kept)
        with torch.no_grad():
            for name, mask in zip(NAMES, masks, strict=True):
                weights[name].mul_(mask)
    return masks


@pytest.mark.parametrize("method", ["mag", "snip", "grasp", "synflow"])
def test_masks_are_those_of_an_independent_implementation(net, batch, method):
    images, labels = batch
    batch = (images.double(), labels)
    pruned = copy.deepcopy(net)
    config = PruneConfig(method=method, ratio=RATIO, allow_empty=True, iterations=10 if method == "synflow" else None)
    prune_(pruned, config, loss_fn=loss, batches=[batch])
    size = sum(dict(net.named_parameters())[name].numel() for name in NAMES)
    if method == "synflow":
        expected = naive_synflow(net, batch)
    else:
        naive = {"mag": naive_mag, "snip": naive_snip, "grasp": naive_grasp}[method]
        expected = global_mask(naive(net, batch), round(size / RATIO))
    masks = masks_of(pruned)
    assert list(masks) == list(NAMES)
    assert sum(int(mask.sum()) for mask in expected) == round(size / RATIO)
    for name, mask in zip(NAMES, expected, strict=True):
        assert torch.equal(masks[name].bool(), mask), name
