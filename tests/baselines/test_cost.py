from __future__ import annotations

import pytest
import torch
from torch import nn

from baselines import measure_cost
from baselines.cost import count_flops


def test_operations_by_hand():
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.Flatten(), nn.Linear(256, 10))
    cost = measure_cost(model, torch.zeros(2, 3, 8, 8), repeats=1)
    assert cost.flops == 2 * (2 * 64 * 4 * 27 + 2 * 256 * 10)
    assert cost.parameters == 108 + 2570
    assert cost.latency_s > 0


@pytest.mark.parametrize("training", [True, False])
def test_fused_attention_is_counted(training):
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).train(training)
    projections, attention, perceptron = 5 * 4 * 8 * 8, 2 * 5 * 5 * 8, 5 * 2 * 8 * 16
    assert count_flops(layer, torch.zeros(1, 5, 8)) == 2 * (projections + attention + perceptron)
    assert torch.backends.mha.get_fastpath_enabled()


def test_layers_called_on_parameters_and_parametrized_ones_are_measured():
    class Positions(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm, self.positions = nn.LayerNorm(4), nn.Parameter(torch.zeros(4))
            self.fc = nn.utils.parametrizations.weight_norm(nn.Linear(4, 2))

        def forward(self, x):
            return self.fc(x + self.norm(self.positions))

    assert measure_cost(Positions(), torch.zeros(1, 4), repeats=1).flops == 2 * 8


def test_mode_and_buffers_stay(residual):
    model = residual().train()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    measure_cost(model, torch.randn(2, 3, 8, 8), repeats=1)
    assert model.training
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())


def test_a_bigger_network_takes_longer():
    small, big = (nn.Linear(n, n) for n in (8, 1024))
    assert measure_cost(big, torch.zeros(64, 1024)).latency_s > measure_cost(small, torch.zeros(64, 8)).latency_s


def test_no_repeats_are_an_error():
    with pytest.raises(ValueError, match="repeats >= 1 must hold, but got 0"):
        measure_cost(nn.Linear(2, 2), torch.zeros(1, 2), repeats=0)
