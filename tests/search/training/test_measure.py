import time

import torch
from torch import nn

from search.training import measure
from search.training.measure import flops_and_latency


class Positions(nn.Module):
    """A layer that is called on a parameter, and a parametrized one."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.positions = nn.LayerNorm(4), nn.Parameter(torch.zeros(4))
        self.fc = nn.utils.parametrizations.weight_norm(nn.Linear(4, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(x + self.norm(self.positions))


def test_what_needs_gradients_is_measured_and_the_mode_stays() -> None:
    model = Positions()
    flops, latency_ms = flops_and_latency(model, torch.zeros(1, 4))
    assert (flops, model.training) == (16, True)
    assert latency_ms > 0


def test_latency_is_in_milliseconds():
    class Slow(nn.Module):
        def forward(self, x):
            time.sleep(0.005)
            return x

    assert flops_and_latency(Slow(), torch.zeros(1, 2))[1] >= 5


def test_a_model_is_measured_as_it_judges() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    flops_and_latency(model, torch.ones(1, 4))
    assert not model[1].num_batches_tracked
    assert model[1].training


def test_peak_memory_is_in_bytes(monkeypatch, tmp_path) -> None:
    status = tmp_path / "status"
    status.write_text("VmPeak:\t   9 kB\nVmHWM:\t    3 kB\n")
    monkeypatch.setattr(measure, "PROC_STATUS", status)
    assert measure.peak_memory_bytes(torch.device("cpu")) == 3 * 1024
