from __future__ import annotations

import pytest
import torch
from torch import nn

from baselines import score
from baselines.scorers.gradients import gradients
from baselines.scorers.grasp import TEMPERATURE, grasp, hessian_times


def smooth_net():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 6), nn.Tanh(), nn.Linear(6, 10)).double()
    for name, parameter in model.named_parameters():  # as in the private copy that a scorer is given
        parameter.requires_grad_(name.endswith("weight"))
    return model


def test_hessian_times_against_finite_differences(batch, loss_fn):
    model, data = smooth_net(), (batch[0].double(), batch[1])
    weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
    vector = {name: torch.randn_like(w) / 10 for name, w in weights.items()}
    exact = hessian_times(vector, loss_fn(model, data), weights)

    def gradient_at(step):
        with torch.no_grad():
            for name, w in weights.items():
                w.add_(vector[name], alpha=step)
        found = gradients(loss_fn(model, data), weights)
        with torch.no_grad():
            for name, w in weights.items():
                w.sub_(vector[name], alpha=step)
        return found

    ahead, behind = gradient_at(1e-5), gradient_at(-1e-5)
    for name in weights:
        assert torch.allclose(exact[name], (ahead[name] - behind[name]) / 2e-5, rtol=1e-5, atol=1e-8)


def test_keeps_the_weights_whose_removal_lowers_the_gradient_norm_most(batch, loss_fn):
    """The score is the first-order change of |g|^2 / 2 when a weight is removed, with the sign turned."""
    model, data = smooth_net(), (batch[0].double(), batch[1])
    scores = grasp(model, loss_fn, [data], temperature=1.0)
    weight = model[3].weight
    small = 1e-4

    def squared_norm():
        weights = {name: p for name, p in model.named_parameters() if p.requires_grad}
        found = gradients(loss_fn(model, data), weights)
        return sum(g.square().sum() for g in found.values())

    before = squared_norm()
    with torch.no_grad():
        weight[0, 0] *= 1 - small
    change = (squared_norm() - before) / 2 / small
    assert torch.isclose(change, -scores["3.weight"][0, 0], rtol=1e-2)


def test_temperature_divides_the_logits(batch, loss_fn):
    model, data = smooth_net(), (batch[0].double(), batch[1])
    by_hand = grasp(model, lambda m, b: loss_fn(lambda x: m(x) / TEMPERATURE, b), [data], temperature=1.0)
    tempered = score(model, "grasp", loss_fn=loss_fn, batches=[data])
    assert all(torch.allclose(tempered[name], by_hand[name], rtol=1e-9) for name in by_hand)
    assert not model._forward_hooks


def test_several_batches_count_as_one_of_all_their_images(batch, loss_fn):
    model, (images, labels) = smooth_net(), (batch[0].double(), batch[1])
    halves = list(zip(images.chunk(2), labels.chunk(2), strict=True))
    together, apart = (grasp(model, loss_fn, batches) for batches in ([(images, labels)], halves))
    for name, expected in together.items():
        torch.testing.assert_close(apart[name], expected)


def test_attention_has_a_second_derivative(transformer, batch, loss_fn):
    scores = score(transformer(), "grasp", loss_fn=loss_fn, batches=[batch])
    assert all(s.abs().sum() > 0 for s in scores.values())


def test_a_loss_that_is_linear_in_the_weights_has_no_curvature(batch):
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 10))
    scores = score(model, "grasp", loss_fn=lambda m, b: m(b[0]).mean(), batches=[batch])
    assert not scores["1.weight"].any()


def test_an_output_that_is_no_tensor_is_an_error(batch):
    class Wrapped(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc = nn.Linear(192, 10)

        def forward(self, x):
            return {"logits": self.fc(x.flatten(1))}

    with pytest.raises(TypeError, match="must be a tensor, but got dict"):
        score(Wrapped(), "grasp", loss_fn=lambda m, b: m(b[0])["logits"].mean(), batches=[batch])
