"""Compressed models against a naive implementation of the definitions, weight by weight, that shares no code with them.

The definitions: ``w_i = lambda_l(i) * g(i) * psi[h(i)]``; lambda is the layer's root mean square over the std of psi;
the gradient of psi is the sum of ``lambda g grad_w`` over the weights of a slot, divided by Gamma.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from rps_core import RPSConfig, compress_, project_

GOLDEN = 0x9E3779B97F4A7C15
MASK = 2**64 - 1


class Block(nn.Module):
    """A pre-norm transformer block with causal attention written out."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x):
        batch, length, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, length, width))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Gpt(nn.Module):
    """A language model whose embedding is its output layer."""

    shared = (
        "embed.weight",
        "position.weight",
        *(f"blocks.{i}.{name}.weight" for i in range(2) for name in ("qkv", "out", "up", "down")),
    )

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.position = nn.Embedding(30, 12), nn.Embedding(8, 12)
        self.blocks = nn.ModuleList([Block(12, 3) for _ in range(2)])
        self.norm, self.head = nn.LayerNorm(12), nn.Linear(12, 30, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, tokens):
        x = self.embed(tokens) + self.position.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


class Residual(nn.Module):
    """A basic block whose shortcut is a convolution of stride 2."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(before, after, 3, 2, 1, bias=False), nn.BatchNorm2d(after)
        self.conv2, self.bn2 = nn.Conv2d(after, after, 3, 1, 1, bias=False), nn.BatchNorm2d(after)
        self.short = nn.Conv2d(before, after, 1, 2, bias=False)

    def forward(self, x):
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + self.short(x))


class ResNet(nn.Module):
    """Two blocks between a stem and a classifier."""

    shared = (
        "stem.weight",
        *(f"stage{i}.{name}.weight" for i in (1, 2) for name in ("conv1", "conv2", "short")),
        "fc.weight",
    )

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1, bias=False)
        self.stage1, self.stage2 = Residual(6, 8), Residual(8, 12)
        self.fc = nn.Linear(12, 5)

    def forward(self, images):
        return self.fc(self.stage2(self.stage1(self.stem(images))).mean((2, 3)))


class Mixed(nn.Module):
    """A convolution, a transposed one, a recurrent layer and a parameter of its own."""

    shared = (
        "mix",
        "down.weight",
        "up.weight",
        "gru.weight_ih_l0",
        "gru.weight_hh_l0",
    )
    include = ("mix", "down", "up", "gru.weight_*")

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Parameter(torch.randn(5, 5) / 2)
        self.down, self.up = nn.Conv1d(4, 6, 3, stride=2), nn.ConvTranspose1d(6, 5, 4, stride=2)
        self.gru = nn.GRU(5, 7, batch_first=True)
        self.out = nn.Linear(7, 3)

    def forward(self, signal):
        x = self.up(F.relu(self.down(signal))).transpose(1, 2) @ self.mix
        return self.out(self.gru(x)[0])


MODELS = {
    "gpt": (Gpt, lambda: torch.randint(0, 30, (3, 8))),
    "resnet": (ResNet, lambda: torch.randn(4, 3, 8, 8, dtype=torch.float64)),
    "mixed": (Mixed, lambda: torch.randn(3, 4, 21, dtype=torch.float64)),
}


def mix(z):
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & MASK
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & MASK
    return z ^ (z >> 31)


def hashed(seed, stream, position):
    start = mix((seed * GOLDEN + (stream + 1) * 0xD1B54A32D192ED03) & MASK)
    return mix((mix((position * GOLDEN + start) & MASK) + start) & MASK)


def sign(seed, stream, position):
    return -1 if hashed(seed, stream, position) >> 63 else 1


def place(mapping, shapes, tables, m, seed):
    """Return the slot and the sign of every virtual weight, one after the other."""
    slots, signs, i, tile = [], [], 0, 0
    for shape, table in zip(shapes, tables, strict=True):
        size = math.prod(shape)
        columns = size // shape[0]
        tiles_across = -(-columns // 16)
        for local in range(size):
            if mapping == "random_fold":
                slots.append((hashed(seed, 0, i // m) % m + i % m) % m)
                signs.append(sign(seed, 2, i // m) * sign(seed, 1, i % m))  # m is below the pattern's longest period
            else:
                if mapping == "hashed_net":
                    number, position = i, 0
                elif mapping == "robe_z":
                    number, position = divmod(i, 32)
                elif table:
                    number, position = tile + local // 32, local % 32
                else:
                    row, column = divmod(local, columns)
                    number = tile + row // 16 * tiles_across + column // 16
                    position = row % 16 * 16 + column % 16
                slots.append((hashed(seed, 0, number) % m + position) % m)
                signs.append(sign(seed, 1, i))
            i += 1
        tile += -(-size // 32) if table else -(-shape[0] // 16) * tiles_across
    return np.array(slots), np.array(signs)


class Naive:
    """One group: arrays over virtual weights, and loops over them."""

    def __init__(self, model, names, m, seed, mapping, init_std, scaling):
        parameters = dict(model.named_parameters())
        weights = [parameters[name].detach().numpy() for name in names]
        self.names, self.shapes = names, [w.shape for w in weights]
        tables = [isinstance(model.get_submodule(name.rpartition(".")[0]), nn.Embedding) for name in names]
        self.h, self.g = place(mapping, self.shapes, tables, m, seed)
        self.scale = np.concatenate(
            [np.full(w.size, np.float32(np.sqrt(np.mean(w**2)) / init_std), np.float64) for w in weights]
        )
        gamma = np.ones(m)
        for slot in range(m):
            lambdas = self.scale[self.h == slot]
            if len(lambdas) and scaling != "none":
                gamma[slot] = {
                    "effective_update": lambdas.sum() ** 2 / len(lambdas),
                    "curvature": (lambdas**2).sum(),
                    "load_power(0.5)": (lambdas**2).sum() / math.sqrt(len(lambdas)),
                }[scaling]
        self.gamma, self.m = gamma, m

    def write(self, psi, model):
        """Put the weights of ``psi`` into a plain model."""
        parameters, flat, start = dict(model.named_parameters()), self.scale * self.g * psi[self.h], 0
        for name, shape in zip(self.names, self.shapes, strict=True):
            size = math.prod(shape)
            parameters[name].data.copy_(torch.from_numpy(flat[start : start + size].reshape(shape)))
            start += size

    def gradient(self, model):
        """Return the gradient of psi after a backward of the plain model."""
        parameters, total = dict(model.named_parameters()), np.zeros(self.m)
        flat = np.concatenate([parameters[name].grad.numpy().ravel() for name in self.names])
        for i, value in enumerate(flat):
            total[self.h[i]] += self.scale[i] * self.g[i] * value
        return total / self.gamma

    def project(self, model):
        """Return the least-squares psi of a plain model's weights."""
        parameters, above, below = dict(model.named_parameters()), np.zeros(self.m), np.zeros(self.m)
        flat = np.concatenate([parameters[name].detach().numpy().ravel() for name in self.names])
        for i, value in enumerate(flat):
            above[self.h[i]] += self.scale[i] * self.g[i] * value
            below[self.h[i]] += self.scale[i] ** 2
        return np.divide(above, below, out=np.zeros(self.m), where=below > 0)


def built(name):
    torch.manual_seed(11)
    return MODELS[name][0]().double()


def total_size(model):
    parameters = dict(model.named_parameters())
    return sum(parameters[name].numel() for name in model.shared)


@pytest.mark.parametrize(
    ("mapping", "scaling"),
    [
        ("random_fold", "effective_update"),
        ("random_fold", "none"),
        ("roast", "none"),
        ("roast", "curvature"),
        ("robe_z", "load_power(0.5)"),
        ("hashed_net", "effective_update"),
    ],
)
@pytest.mark.parametrize("name", sorted(MODELS))
def test_trains_as_the_definitions_say(name, mapping, scaling):
    """Outputs, gradients and four steps of momentum SGD with weight decay."""
    plain, seed, ratio = built(name), 2**62 + 12345, 7.3
    include = getattr(plain, "include", None)
    config = RPSConfig(ratio=ratio, mapping=mapping, seed=seed, gradient_scaling=scaling, init_std=0.4, include=include)
    model = compress_(built(name), config)
    slots = round(total_size(plain) / ratio)
    naive = Naive(plain, plain.shared, slots, seed, mapping, 0.4, scaling)
    assert model.psi_0.shape == (slots,)
    psi, velocity, batch = model.psi_0.detach().numpy().copy(), np.zeros(slots), MODELS[name][1]()
    rest = [p for key, p in plain.named_parameters() if key not in plain.shared]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, weight_decay=1e-2)
    others = torch.optim.SGD(rest, lr=0.02, momentum=0.9, weight_decay=1e-2)
    for _ in range(4):
        naive.write(psi, plain)
        plain.zero_grad(), optimizer.zero_grad()
        expected, out = plain(batch), model(batch)
        torch.testing.assert_close(out, expected)
        expected.square().mean().backward(), out.square().mean().backward()
        gradient = naive.gradient(plain)
        np.testing.assert_allclose(model.psi_0.grad, gradient, rtol=1e-7, atol=1e-9 * np.abs(gradient).max())
        velocity = 0.9 * velocity + gradient + 1e-2 * psi
        psi = psi - 0.02 * velocity
        optimizer.step(), others.step()
    np.testing.assert_allclose(model.psi_0.detach(), psi, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("mapping", ["random_fold", "roast", "robe_z", "hashed_net"])
def test_groups_have_psi_and_seeds_of_their_own(mapping):
    plain, seed = built("gpt"), 77
    budgets = {"blocks.0.*": 0.2, "blocks.1.up": 40}
    model = compress_(built("gpt"), RPSConfig(ratio=5, mapping=mapping, seed=seed, budgets=budgets))
    first = [name for name in plain.shared if name.startswith("blocks.0.")]
    second = ["blocks.1.up.weight"]
    rest = [name for name in plain.shared if name not in first + second]
    sizes = {key: value.numel() for key, value in plain.named_parameters()}
    slots = [round(sum(sizes[n] for n in first) * 0.2), 40, round(sum(sizes[n] for n in rest) / 5)]
    for number, names in enumerate((first, second, rest)):
        psi = model.get_parameter(f"psi_{number}").detach().numpy()
        naive = Naive(plain, names, slots[number], (seed + number * GOLDEN) % 2**63, mapping, 1.0, "effective_update")
        assert psi.shape == (slots[number],)
        naive.write(psi, plain)
    batch = MODELS["gpt"][1]()
    torch.testing.assert_close(model(batch), plain(batch))


@pytest.mark.parametrize("name", sorted(MODELS))
def test_projects_as_the_definitions_say(name):
    plain = built(name)
    config = RPSConfig(ratio=3, seed=5, mapping="roast", include=getattr(plain, "include", None))
    model = project_(built(name), config)
    naive = Naive(plain, plain.shared, round(total_size(plain) / 3), 5, "roast", 1.0, "none")
    np.testing.assert_allclose(model.psi_0.detach(), naive.project(plain), rtol=1e-9, atol=1e-12)
