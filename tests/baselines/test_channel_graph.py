from __future__ import annotations

import pytest
import torch
from torch import nn

from baselines.channel_graph import channel_groups

IMAGE = torch.zeros(2, 3, 8, 8)


def summary(model, example=IMAGE):
    return [(g.size, g.producers, g.followers, g.consumers) for g in channel_groups(model, example)]


def test_a_chain_with_batch_norm_and_flattening():
    model = nn.Sequential(
        nn.Conv2d(3, 5, 3),
        nn.BatchNorm2d(5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(45, 7),
        nn.Linear(7, 2),
    )
    assert summary(model) == [(5, ["0"], ["1"], [("5", 9)]), (7, ["5"], [], [("6", 1)])]


def test_residual_connections_join_channels(residual):
    joined, *inner = summary(residual())
    assert joined[1] == ["stem", "blocks.0.conv2", "blocks.1.conv2"]
    assert joined[2] == ["blocks.0.bn2", "blocks.1.bn2"]
    assert joined[3] == [("blocks.0.conv1", 1), ("blocks.1.conv1", 1), ("fc", 1)]
    assert [g[1] for g in inner] == [["blocks.0.conv1"], ["blocks.1.conv1"]]


def test_depthwise_convolutions_follow():
    model = nn.Sequential(nn.Conv2d(3, 6, 1), nn.Conv2d(6, 6, 3, groups=6), nn.Conv2d(6, 4, 1))
    assert summary(model) == [(6, ["0"], ["1"], [("2", 1)])]


class Odd(nn.Module):
    """Two convolutions and an operation in between that does not treat channels apart."""

    def __init__(self, between):
        super().__init__()
        self.one, self.two, self.between = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1), between

    def forward(self, x):
        return self.two(self.between(self.one(x)))


class Functional(nn.Module):
    """A convolution, a function, and a linear layer of so many inputs."""

    def __init__(self, function, inputs=4):
        super().__init__()
        self.one, self.two, self.function = nn.Conv2d(3, 4, 1), nn.Linear(inputs, 4), function

    def forward(self, x):
        return self.two(self.function(self.one(x)))


def flattened(flatten):
    return summary(Functional(flatten, inputs=256))


def test_channels_are_cut_only_before_a_flattening_that_fits_fewer():
    cut = [(4, ["one"], [], [("two", 64)])]
    assert flattened(lambda x: x.view(x.size(0), -1)) == cut
    assert flattened(lambda x: torch.reshape(x, (2, -1))) == cut
    assert flattened(lambda x: x.view(x.shape[0], -1)) == cut
    assert flattened(lambda x: x.view(x.size()[0], -1)) == cut
    assert flattened(lambda x: x.view(x.size(0), x.size(1) * 64)) == []
    assert flattened(lambda x: x.view(-1, 256)) == []
    assert flattened(lambda x: torch.reshape(x, (2, 256))) == []
    assert flattened(lambda x: x.view(2, 4, 8, 8).flatten(1)) == []


@pytest.mark.parametrize(
    "between",
    [
        nn.GroupNorm(2, 4),
        nn.Softmax(1),
        nn.Conv2d(4, 4, 1, groups=2),
        nn.ChannelShuffle(2),
        nn.PReLU(4),
    ],
)
def test_channels_that_reach_anything_unknown_stay(between):
    assert summary(Odd(between)) == []
    assert len(summary(Odd(nn.ReLU()))) == 1


@pytest.mark.parametrize(
    ("function", "found"),
    [
        (lambda y: y.mean((2, 3)), 1),
        (lambda y: torch.flatten(nn.functional.adaptive_avg_pool2d(y, 1), 1), 1),
        (lambda y: (y * 0.5 + y.sigmoid() * y).mean([-1, -2]), 1),
        (lambda y: y.mean((1, 2))[:, :4], 0),
        (lambda y: y.sum((2, 3)), 0),
        (lambda y: y.permute(0, 2, 3, 1), 0),
        (lambda y: torch.cat([y, y], 1).mean((2, 3))[:, :4], 0),
    ],
)
def test_functions_between_layers(function, found):
    assert len(summary(Functional(function))) == found


def test_pools_that_take_channels_for_positions_keep_them():
    pooled = nn.Sequential(nn.Linear(6, 8), nn.MaxPool1d(2), nn.Linear(4, 3))
    assert summary(pooled, torch.zeros(1, 6)) == []
    blurred = nn.Sequential(nn.Conv1d(3, 8, 1), nn.AvgPool2d(3, 1, 1), nn.Conv1d(8, 2, 1))
    assert summary(blurred, torch.zeros(2, 3, 8)) == []
    apart = nn.Sequential(nn.Conv1d(3, 8, 1), nn.AvgPool1d(3, 1, 1), nn.Conv1d(8, 2, 1))
    assert [group[0] for group in summary(apart, torch.zeros(2, 3, 8))] == [8]


@pytest.mark.parametrize("dims", [(1, 2), (1, 3), (2,)])
def test_means_over_channels_or_over_one_side_keep_them(dims):
    class Mean(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 8, 1), nn.Linear(8 if len(dims) == 2 else 64, 3)

        def forward(self, x):
            return self.fc(self.conv(x).mean(dims).flatten(1))

    assert summary(Mean(), IMAGE) == []  # as many rows, columns and channels: the shapes alone do not tell


def test_layers_that_mix_positions_keep_the_channels_before_them():
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Linear(8, 5), nn.Flatten(), nn.Linear(8 * 8 * 5, 3))
    assert summary(model, IMAGE) == []


def test_shared_layers_stay():
    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.same = nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            return self.one(self.same(self.same(x)))

    assert summary(Twice(), torch.zeros(1, 4)) == []
    tied = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2))
    assert len(summary(tied, torch.zeros(1, 4))) == 2
    tied[1].weight = tied[0].weight
    assert summary(tied, torch.zeros(1, 4)) == []


def test_the_model_is_left_alone(residual):
    model = residual().train()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    channel_groups(model, torch.randn(4, 3, 8, 8))
    assert model.training
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())


def test_models_that_cannot_be_traced_are_an_error():
    class Branching(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(ValueError, match=r"torch.fx, which cannot trace Branching"):
        channel_groups(Branching(), IMAGE)


def test_channels_of_weights_that_are_computed_from_others_stay():
    normed = nn.utils.parametrizations.weight_norm(nn.Conv2d(6, 5, 3))
    model = nn.Sequential(nn.Conv2d(3, 6, 1), normed, nn.Conv2d(5, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1))
    assert summary(model) == [(4, ["2"], [], [("4", 1)])]
