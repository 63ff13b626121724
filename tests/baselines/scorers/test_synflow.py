from __future__ import annotations

import copy
import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from baselines import PruneConfig, masks_of, prune_, score, sparse_summary
from baselines.scorers.synflow import make_positive_

EXAMPLE = torch.zeros(1, 3, 8, 8)


@settings(max_examples=25)
@given(st.lists(st.integers(1, 9), min_size=2, max_size=5), st.integers(0, 1000))
def test_conservation_law(widths, seed):
    """Bias-free ReLU networks: each layer's scores sum to R, and so do those into and out of each unit."""
    torch.manual_seed(seed)
    layers = [m for a, b in itertools.pairwise(widths) for m in (nn.Linear(a, b, bias=False), nn.ReLU())]
    scores = list(score(nn.Sequential(*layers), "synflow", example_input=torch.zeros(1, widths[0])).values())
    for s in scores:
        assert torch.isclose(s.sum(), scores[0].sum(), rtol=1e-10)
    for before, after in itertools.pairwise(scores):
        assert torch.allclose(before.sum(1), after.sum(0), rtol=1e-10)


def test_convolutions_conserve_flow_too():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 5, 3, bias=False),
        nn.ReLU(),
        nn.Conv2d(5, 4, 3, bias=False),
        nn.Flatten(),
        nn.Linear(64, 10, bias=False),
    )
    sums = [s.sum() for s in score(model, "synflow", example_input=EXAMPLE).values()]
    assert torch.allclose(torch.stack(sums), sums[0], rtol=1e-10)


@pytest.mark.parametrize("zero_init", [False, True])
def test_every_layer_of_a_residual_network_has_flow(residual, zero_init):
    model = residual(zero_init=zero_init).train()
    model(torch.randn(4, 3, 8, 8))  # batch-norm statistics that are not those of initialisation
    scores = score(model, "synflow", example_input=EXAMPLE)
    assert all((s > 0).float().mean() > 0.5 for s in scores.values())
    assert all(s.dtype == torch.float64 for s in scores.values())


@pytest.mark.parametrize("bounded", [nn.ReLU6(inplace=True), nn.Hardtanh(0, 6), nn.functional.relu6])
def test_activations_that_end_above_let_flow_through(bounded):
    class Net(nn.Module):
        def __init__(self, activation):
            super().__init__()
            self.a, self.b, self.activation = nn.Linear(9, 40), nn.Linear(40, 3), activation
            nn.init.constant_(self.a.weight, -2.0)  # |w| x is 18: beyond 6

        def forward(self, x):
            return self.b(self.activation(self.a(x)))

    torch.manual_seed(0)
    model = Net(bounded)
    plain = copy.deepcopy(model)
    plain.activation = nn.ReLU()
    scores, expected = (score(m, "synflow", example_input=torch.zeros(1, 9)) for m in (model, plain))
    assert (scores["a.weight"] > 0).all()
    assert all(torch.equal(scores[name], expected[name]) for name in expected)


def test_no_layer_collapses_where_magnitude_and_one_shot_do():
    torch.manual_seed(0)
    widths = [64, 128, 128, 128, 128, 10]
    layers = [m for a, b in itertools.pairwise(widths) for m in (nn.Linear(a, b, bias=False), nn.ReLU())]
    model = nn.Sequential(*layers[:-1])
    size = sparse_summary(model).virtual_size
    example = torch.zeros(1, 64)
    with pytest.raises(ValueError, match=r"'mag' at ratio 1000 leaves 4 of 5 layers empty .*: set floor=1"):
        prune_(model, PruneConfig(method="mag", ratio=1000.0))
    with pytest.raises(ValueError, match=r"'synflow' at ratio 1000 leaves"):
        prune_(model, PruneConfig(method="synflow", ratio=1000.0, iterations=1), example_input=example)
    prune_(model, PruneConfig(method="synflow", ratio=1000.0), example_input=example)
    kept = sparse_summary(model).kept_by_layer
    assert all(count > 0 for count in kept.values())
    assert sum(kept.values()) == round(size / 1000)


def test_nothing_negative_is_left_in_the_copy_that_is_scored(residual):
    model = prune_(residual(), PruneConfig(ratio=2.0)).train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
    expected = {name: tensor.abs() for name, tensor in model.state_dict().items()}
    make_positive_(model)
    assert not model.training
    for name, tensor in model.state_dict().items():
        assert tensor.dtype == (torch.float64 if tensor.is_floating_point() else torch.int64)
        assert torch.equal(tensor, expected[name])


def test_batches_give_the_shape_and_their_values_do_not_matter(mlp, batch):
    by_example = score(mlp(), "synflow", example_input=EXAMPLE)
    by_batch = score(mlp(), "synflow", batches=[batch])
    assert all(torch.equal(by_example[name], by_batch[name]) for name in by_example)


def test_inputs_it_cannot_make_are_an_error():
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 2))
    with pytest.raises(TypeError, match=r"input is of type torch.int64: it needs real inputs"):
        score(model, "synflow", example_input=torch.zeros(1, 3, dtype=torch.int64))
    with pytest.raises(TypeError, match="batch of type dict: pass example_input"):
        score(model, "synflow", batches=[{"x": 1}])


def test_schedule_prunes_step_by_step(mlp):
    once = prune_(mlp(), PruneConfig(method="synflow", ratio=3.0, iterations=1), example_input=EXAMPLE)
    hundred = prune_(mlp(), PruneConfig(method="synflow", ratio=3.0), example_input=EXAMPLE)
    assert sparse_summary(once).kept == sparse_summary(hundred).kept
    assert any(not torch.equal(masks_of(once)[name], mask) for name, mask in masks_of(hundred).items())


@pytest.mark.parametrize(
    "cast",
    [
        lambda x: x.float(),
        lambda x: x.to(torch.float32),
        lambda x: x.to("cpu", dtype=torch.bfloat16),
        lambda x: x.to(device="cpu"),
        lambda x: x.type(torch.float32),
        lambda x: x.type_as(torch.zeros(1)),
        lambda x: x.half(),
    ],
)
def test_a_model_that_casts_its_input_is_scored_as_one_that_does_not(cast):
    class Casting(nn.Sequential):
        def forward(self, x):
            return super().forward(cast(x))

    torch.manual_seed(0)
    layers = nn.Flatten(), nn.Linear(192, 5), nn.ReLU(), nn.Linear(5, 2)
    expected, found = (score(kind(*layers), "synflow", example_input=EXAMPLE) for kind in (nn.Sequential, Casting))
    assert all(torch.equal(found[name], scores) for name, scores in expected.items())


def test_what_casts_to_whole_numbers_still_does():
    class Rows(nn.Module):
        def __init__(self):
            super().__init__()
            self.rows = nn.Embedding(4, 2)

        def forward(self, x):
            return self.rows(x.flatten(1).to(torch.int64))

    scores = score(Rows(), "synflow", example_input=EXAMPLE)["rows.weight"]
    assert scores.any(1).tolist() == [False, True, False, False]
