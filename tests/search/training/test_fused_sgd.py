import pytest
import torch
from torch import nn

from search.training.fused_sgd import FusedSGD


def optimizers(momentum: float, nesterov: bool) -> list[torch.optim.SGD]:
    generator = torch.Generator().manual_seed(0)
    return [
        torch.optim.SGD(
            [nn.Parameter(torch.randn(3, 2, generator=generator)), nn.Parameter(torch.randn(4, generator=generator))],
            lr=1.0,
            momentum=momentum,
            nesterov=nesterov,
            weight_decay=decay,
        )
        for decay in (0.0, 0.1, 0.5)
    ]


def parameters(optimizer: torch.optim.SGD) -> list[nn.Parameter]:
    return optimizer.param_groups[0]["params"]


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
def test_each_optimizer_steps_as_it_would_alone(momentum, nesterov):
    together, alone = optimizers(momentum, nesterov), optimizers(momentum, nesterov)
    fused = FusedSGD(together)
    for step in range(4):
        rates = [0.1 / (step + 1), 0.2, 0.05 * step]
        generator = torch.Generator().manual_seed(step)
        for one, other, rate in zip(together, alone, rates, strict=True):
            for parameter, twin in zip(parameters(one), parameters(other), strict=True):
                parameter.grad = torch.randn(parameter.shape, generator=generator)
                twin.grad = parameter.grad.clone()
            other.param_groups[0]["lr"] = rate
            other.step()
        fused.step(rates)
    for one, other in zip(together, alone, strict=True):
        for parameter, twin in zip(parameters(one), parameters(other), strict=True):
            torch.testing.assert_close(parameter, twin)
            torch.testing.assert_close(
                one.state[parameter].get("momentum_buffer"), other.state[twin].get("momentum_buffer")
            )
    fused.zero_grad()
    assert all(parameter.grad is None for one in together for parameter in parameters(one))


def test_one_step_by_hand():
    weight = nn.Parameter(torch.tensor([2.0]))
    optimizer = torch.optim.SGD([weight], lr=1.0, momentum=0.5, weight_decay=0.25)
    fused = FusedSGD([optimizer])
    weight.grad = torch.tensor([1.5])
    fused.step([0.5])
    # v = 1.5 + 0.25 * 2 = 2, w = 2 - 0.5 * 2 = 1
    assert weight.item() == 1.0
    weight.grad = torch.tensor([0.75])
    fused.step([0.25])
    # v = 0.5 * 2 + 0.75 + 0.25 * 1 = 2, w = 1 - 0.25 * 2 = 0.5
    assert weight.item() == 0.5


def test_a_parameter_without_gradient_stays():
    weight, idle = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([weight, idle], lr=1.0, momentum=0.9, weight_decay=0.1)
    weight.grad = torch.ones(2)
    FusedSGD([optimizer]).step([0.1])
    assert idle.tolist() == [1.0, 1.0]
    assert weight.tolist() != [1.0, 1.0]
