"""Scores of a two-layer network whose arithmetic one does by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from baselines import score
from baselines.scorers.grasp import grasp

X = torch.tensor([[1.0, 2.0]])


@pytest.fixture
def network():
    """y = v . relu(W x), with W x = (1*1 + 1*2, 2*1 - 2*2) = (3, -2): the second unit is off."""
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.ReLU(), nn.Linear(2, 1, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 1.0], [2.0, -2.0]]))
        model[2].weight.copy_(torch.tensor([[-4.0, 5.0]]))
    return model


def half_square(model, x):
    return model(x).square().sum() / 2


def test_mag(network):
    scores = score(network, "mag")
    assert scores["0.weight"].tolist() == [[1, 1], [2, 2]]
    assert scores["2.weight"].tolist() == [[4, 5]]


def test_snip(network):
    # y = -12. dL/dv = y relu(Wx) = (-36, 0); dL/dW row 1 = y v1 x = (48, 96), row 2 = 0.
    scores = score(network, "snip", loss_fn=half_square, batches=[X])
    assert scores["0.weight"].tolist() == [[48, 96], [0, 0]]
    assert scores["2.weight"].tolist() == [[144, 0]]


def test_snip_takes_the_mean_over_batches(network):
    # On -x only the second unit is on: W(-x) = (-3, 2), y = 10, dL/dW row 2 = y v2 (-x) = (-50, -100).
    scores = score(network, "snip", loss_fn=half_square, batches=[X, -X])
    assert scores["0.weight"].tolist() == [[24, 48], [50, 100]]


def test_grasp(network):
    # With u = W1 . x = 3 and v = -4 the loss is (u v)^2 / 2: g_u = u v^2 = 48, g_v = u^2 v = -36,
    # H = [[v^2, 2 u v], [2 u v, u^2]] = [[16, -24], [-24, 9]] in (u, v). In terms of W1, g = g_u x, so
    # (H g)_W = (16 * |x|^2 g_u - 24 g_v) x = (16 * 5 * 48 + 24 * 36) x = 4704 x and
    # (H g)_v = -24 * |x|^2 g_u + 9 g_v = -24 * 5 * 48 - 324 = -6084.
    scores = grasp(network, half_square, [X], temperature=1.0)
    assert scores["0.weight"].tolist() == [[4704, 2 * 4704], [0, 0]]
    assert scores["2.weight"].tolist() == [[-4.0 * -6084, 0]]


def test_synflow(network):
    # |W| 1 = (2, 4); R = 4 * 2 + 5 * 4 = 28; |w| dR/dw is what each path carries.
    scores = score(network, "synflow", example_input=X)
    assert scores["0.weight"].tolist() == [[4, 4], [10, 10]]
    assert scores["2.weight"].tolist() == [[8, 20]]
