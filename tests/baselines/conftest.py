"""Small networks that the tests of this folder prune."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ResidualNet(nn.Module):
    """Two residual blocks with batch-norm; ``zero_init`` starts them as the identity."""

    def __init__(self, width: int = 8, *, zero_init: bool = False) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1, bias=False)
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {
                    "conv1": nn.Conv2d(width, width, 3, padding=1, bias=False),
                    "bn1": nn.BatchNorm2d(width),
                    "conv2": nn.Conv2d(width, width, 3, padding=1, bias=False),
                    "bn2": nn.BatchNorm2d(width),
                }
            )
            for _ in range(2)
        )
        self.fc = nn.Linear(width, 10)
        if zero_init:
            for block in self.blocks:
                nn.init.zeros_(block["bn2"].weight)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        for block in self.blocks:
            inner = F.relu(block["bn1"](block["conv1"](x)))
            x = F.relu(x + block["bn2"](block["conv2"](inner)))
        return self.fc(x.mean((2, 3)))


class Transformer(nn.Module):
    """Patches, a positional embedding, two encoder layers and a classifier."""

    def __init__(self, dim: int = 16) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, dim, 4, stride=4)
        self.position = nn.Parameter(torch.randn(1, 4, dim) * 0.02)
        layer = nn.TransformerEncoderLayer(dim, 2, 32, dropout=0.1, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(dim, 10)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patch(x).flatten(2).transpose(1, 2) + self.position
        return self.head(self.encoder(tokens).mean(1))


def make_mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 24), nn.ReLU(), nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, 10))


BUILDERS: dict[str, Callable[[], nn.Module]] = {"mlp": make_mlp, "residual": ResidualNet, "transformer": Transformer}


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build()


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(params=list(BUILDERS))
def build(request: pytest.FixtureRequest) -> Callable[[], nn.Module]:
    """A function that builds the same network at each call; a test that takes it runs for each architecture."""
    return lambda: seeded(BUILDERS[request.param])


@pytest.fixture
def residual() -> Callable[..., nn.Module]:
    return lambda **kwargs: seeded(lambda: ResidualNet(**kwargs))


@pytest.fixture
def mlp() -> Callable[[], nn.Module]:
    return lambda: seeded(make_mlp)


@pytest.fixture
def transformer() -> Callable[[], nn.Module]:
    return lambda: seeded(Transformer)


@pytest.fixture
def loss_fn() -> Callable[[nn.Module, Any], Tensor]:
    return lambda model, batch: F.cross_entropy(model(batch[0]), batch[1])


@pytest.fixture
def batch() -> tuple[Tensor, Tensor]:
    """Two images of each of ten classes, ``(20, 3, 8, 8)``."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(20, 3, 8, 8, generator=generator), torch.arange(20) % 10
