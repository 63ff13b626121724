"""Models that the tests of rps_core share."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class TinyTransformer(nn.Module):
    """An encoder with an embedding that is padded and tied to the output layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(40, 16, padding_idx=0)
        layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(16, 40, bias=False)
        self.head.weight = self.embed.weight
        self.position = nn.Parameter(torch.randn(1, 12, 16) * 0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.head(self.encoder(self.embed(tokens) + self.position[:, : tokens.shape[1]]))


class TinyResNet(nn.Module):
    """A residual network whose second convolution is used twice, with checkpointing on demand."""

    reentrant: bool | None = None

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1)
        self.fc = nn.Linear(8, 10)

    def features(self, images: Tensor) -> Tensor:
        x = F.relu(self.norm(self.conv1(images)))
        for _ in range(2):
            x = x + F.relu(self.conv2(x))
        return x

    def forward(self, images: Tensor) -> Tensor:
        if self.reentrant is None:
            x = self.features(images)
        else:
            x = checkpoint(self.features, images, use_reentrant=self.reentrant)
        return self.fc(x.mean((2, 3)))


MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor]]] = {
    "transformer": (TinyTransformer, lambda: torch.randint(0, 40, (3, 9))),
    "resnet": (TinyResNet, lambda: torch.randn(3, 3, 6, 6)),
}


@pytest.fixture(autouse=True)
def _one_thread_and_a_seed():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(params=sorted(MODELS))
def build(request) -> Callable[[], nn.Module]:
    """A function that builds a transformer or a ResNet, the same weights each time."""

    def build_seeded() -> nn.Module:
        torch.manual_seed(1)
        return MODELS[request.param][0]()

    return build_seeded


@pytest.fixture
def batch(build, request) -> Tensor:
    """An input of the model that ``build`` builds."""
    name = request.node.callspec.params["build"]
    torch.manual_seed(2)
    return MODELS[name][1]()


@pytest.fixture
def resnet() -> nn.Module:
    return TinyResNet()


@pytest.fixture
def transformer() -> nn.Module:
    return TinyTransformer()


@pytest.fixture
def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 20), nn.Tanh(), nn.Linear(20, 4))
