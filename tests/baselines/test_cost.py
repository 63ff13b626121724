from __future__ import annotations

import pytest
import torch
from torch import nn

from baselines import cost, measure_cost
from baselines.cost import count_flops


def test_operations_by_hand():
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.Flatten(), nn.Linear(256, 10))
    found = measure_cost(model, torch.zeros(2, 3, 8, 8), repeats=1)
    assert found.flops == 2 * (2 * 64 * 4 * 27 + 2 * 256 * 10)
    assert found.parameters == 108 + 2570
    assert found.latency_s > 0


@pytest.mark.parametrize("training", [True, False])
def test_fused_attention_is_counted(training):
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).train(training)
    projections, attention, perceptron = 5 * 4 * 8 * 8, 2 * 5 * 5 * 8, 5 * 2 * 8 * 16
    assert count_flops(layer, torch.zeros(1, 5, 8)) == 2 * (projections + attention + perceptron)
    assert torch.backends.mha.get_fastpath_enabled()


class First(nn.Module):
    """A recurrent layer's output without its state."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x)[0]


@pytest.mark.parametrize("sizes", [{}, {"num_layers": 2, "bidirectional": True}, {"batch_first": True, "bias": False}])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers_read_each_matrix_once_a_position(kind, sizes):
    layer = kind(5, 6, **sizes)
    matrices = sum(p.numel() for p in layer.parameters() if p.dim() == 2)
    assert count_flops(First(layer).eval(), torch.zeros(4, 2, 5)) == 2 * 4 * 2 * matrices


def test_the_fused_kernel_of_gpus_counts_as_the_layer_does():
    formula = cost._uncounted_products()[torch.ops.aten._cudnn_rnn]
    weights = [p.shape for p in nn.LSTM(5, 6, num_layers=2).parameters()]
    matrices = 4 * 6 * (5 + 6 + 6 + 6)
    assert formula((4, 2, 5), weights, 4, None, None, None, out_shape=None) == 2 * 4 * 2 * matrices


def test_bilinear_layers_and_products_with_vectors_are_counted():
    class Products(nn.Module):
        def __init__(self):
            super().__init__()
            self.pair = nn.Bilinear(3, 4, 5)

        def forward(self, x):
            mixed = self.pair(x[..., :3], x[..., 3:]) @ x[0, 0, :5]  # (2, 6) of vectors of 5
            return mixed[0] @ mixed[1] + torch.addmv(mixed[:, 0], mixed, mixed[0]).sum()

    pair = 2 * 12 * (5 * 3 * 4 + 5 * 4)
    assert count_flops(Products(), torch.zeros(2, 6, 7)) == pair + 2 * 12 * 5 + 2 * 6 + 2 * 2 * 6


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
