from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from baselines import PruneConfig, masks_of, prune_, score, sparse_summary
from baselines.layers import prunable_weights
from baselines.scorers import METHODS


def config(method, **kwargs):
    return PruneConfig(
        method=method, **{"ratio": 4.0, "floor": 1, "iterations": 3 if method == "synflow" else None} | kwargs
    )


@pytest.mark.parametrize("method", METHODS)
def test_contract_of_every_method(build, batch, loss_fn, method):
    """Exact counts, from the seed alone, and nothing but weights and masks changes."""
    model = build().train()
    loss_fn(model, batch).backward()
    before = copy.deepcopy(model)
    grads = {name: p.grad.clone() for name, p in model.named_parameters()}
    random_state = torch.get_rng_state()

    score(model, method, loss_fn=loss_fn, batches=[batch])
    assert torch.equal(torch.get_rng_state(), random_state)
    for (name, t), expected in zip(model.state_dict().items(), before.state_dict().values(), strict=True):
        assert torch.equal(t, expected), name

    assert prune_(model, config(method), loss_fn=loss_fn, batches=[batch]) is model
    assert torch.equal(torch.get_rng_state(), random_state)
    assert model.training
    masks = masks_of(model)
    size = sum(mask.numel() for mask in masks.values())
    assert sum(int(mask.sum()) for mask in masks.values()) == round(size / 4)
    parameters = dict(model.named_parameters())
    for name, parameter in before.named_parameters():
        mask = masks.get(name, torch.ones(()))
        assert torch.equal(parameters[name], parameter * mask), name
        assert torch.equal(parameters[name].grad, grads[name]), name
    for name, buffer in before.named_buffers():
        assert torch.equal(model.get_buffer(name), buffer), name

    torch.manual_seed(77)
    again = prune_(before, config(method), loss_fn=loss_fn, batches=[batch])
    assert all(torch.equal(masks_of(again)[name], mask) for name, mask in masks.items())


@pytest.mark.parametrize("method", ["snip", "grasp"])
def test_masks_of_data_driven_methods_follow_the_mode_of_the_model(residual, batch, loss_fn, method):
    train = score(residual().train(), method, loss_fn=loss_fn, batches=[batch])
    evaluated = score(residual().eval(), method, loss_fn=loss_fn, batches=[batch])
    assert not torch.allclose(train["stem.weight"], evaluated["stem.weight"])


@pytest.mark.parametrize("method", ["snip", "grasp"])
def test_sparse_gradients_of_embeddings_make_the_same_masks(method):
    tokens, labels = torch.arange(30).view(10, 3) % 20, torch.arange(10) % 3
    models = []
    for sparse in (False, True):
        torch.manual_seed(0)
        table = nn.Embedding(20, 8, sparse=sparse)
        models.append(nn.Sequential(table, nn.Flatten(), nn.Linear(24, 16), nn.Tanh(), nn.Linear(16, 3)))
        prune_(
            models[-1],
            PruneConfig(method=method, ratio=4),
            loss_fn=lambda model, batch: nn.functional.cross_entropy(model(batch[0]), batch[1]),
            batches=[(tokens, labels)],
        )
    for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(one, other)
    assert models[1][0].sparse


def test_frozen_weights_are_scored_and_stay_frozen(mlp, batch, loss_fn):
    model = mlp().requires_grad_(False)
    prune_(model, config("snip"), loss_fn=loss_fn, batches=[batch])
    expected = prune_(mlp(), config("snip"), loss_fn=loss_fn, batches=[batch])
    assert not any(p.requires_grad for p in model.parameters())
    assert all(torch.equal(masks_of(model)[n], m) for n, m in masks_of(expected).items())


def test_global_scope_ranks_all_weights_together(mlp):
    model, dense = prune_(mlp(), config("mag", floor=0)), mlp()
    values = torch.cat([dense[i].weight.abs().flatten() for i in (1, 3, 5)])
    threshold = values.sort(descending=True).values[round(values.numel() / 4) - 1]
    for i in (1, 3, 5):
        assert torch.equal(model[i].weight_mask.bool(), dense[i].weight.abs() >= threshold)


def test_layer_scope_keeps_the_ratio_in_each_layer(residual):
    kept = sparse_summary(prune_(residual(), config("mag", scope="layer", ratio=7.0))).kept_by_layer
    sizes = sparse_summary(residual()).kept_by_layer
    assert kept == {name: round(size / 7) for name, size in sizes.items()}


def test_budgets_are_densities_or_counts_and_the_rest_follows_the_ratio(residual):
    budgets = {"blocks.0.*": 0.25, "stem": 5}
    kept = sparse_summary(prune_(residual(), config("mag", ratio=10.0, budgets=budgets))).kept_by_layer
    sizes = sparse_summary(residual()).kept_by_layer
    assert kept["blocks.0.conv1"] + kept["blocks.0.conv2"] == 2 * 576 // 4
    assert kept["stem"] == 5
    rest = ["blocks.1.conv1", "blocks.1.conv2", "fc"]
    assert sum(kept[name] for name in rest) == round(sum(sizes[name] for name in rest) / 10)


def test_layer_budgets_are_met_by_iterative_methods_too(residual):
    budgets = {name: 7 + i for i, name in enumerate(sparse_summary(residual()).kept_by_layer)}
    model = prune_(residual(), config("synflow", budgets=budgets), example_input=torch.zeros(1, 3, 8, 8))
    assert sparse_summary(model).kept_by_layer == budgets


def test_floor_saves_layers_from_collapse(mlp):
    model = mlp()
    with torch.no_grad():
        model[3].weight.mul_(1e-6)
    kept = sparse_summary(prune_(model, config("mag", ratio=50.0, floor=4))).kept_by_layer
    assert kept["3"] == 4
    assert sum(kept.values()) == round(5152 / 50)


@pytest.mark.parametrize("method", ["snip", "grasp"])
def test_two_steps_are_two_prunings(mlp, batch, loss_fn, method):
    """Weights that the first removes have no gradient in the second: it matters to grasp, whose gradients meet."""
    evidence = {"loss_fn": loss_fn, "batches": [batch]}
    stepped = prune_(mlp(), config(method, floor=0, iterations=2), **evidence)
    twice = mlp()
    for ratio in (2.0, 4.0):
        prune_(twice, config(method, ratio=ratio, floor=0), **evidence)
    assert all(torch.equal(masks_of(twice)[name], mask) for name, mask in masks_of(stepped).items())


@pytest.mark.parametrize("method", ["uniform", "erk"])
def test_allocations_leave_no_layer_empty_unless_that_is_allowed(method):
    for allow_empty, least in ((False, 1), (True, 0)):
        model = nn.Sequential(nn.Linear(300, 2), nn.Linear(2, 2), nn.Linear(2, 400))
        kept = sparse_summary(prune_(model, PruneConfig(method, ratio=350.0, allow_empty=allow_empty))).kept_by_layer
        assert kept["1"] == least
        assert sum(kept.values()) == 4


def test_allow_empty_lets_a_layer_collapse(mlp):
    model = mlp()
    with torch.no_grad():
        model[3].weight.mul_(1e-6)
    assert sparse_summary(prune_(model, config("mag", floor=0, allow_empty=True))).kept_by_layer["3"] == 0


def test_excluded_layers_stay_plain(mlp):
    model = prune_(mlp(), config("rand", exclude=["5"]))
    assert type(model[5]) is nn.Linear
    assert masks_of(model).keys() == {"1.weight", "3.weight"}


def test_pruning_again_only_removes(residual, batch, loss_fn):
    model = prune_(residual(), config("rand", ratio=2.0))
    first = {name: mask.clone() for name, mask in masks_of(model).items()}
    prune_(model, config("snip", ratio=8.0), loss_fn=loss_fn, batches=[batch])
    assert all((first[name] >= mask).all() for name, mask in masks_of(model).items())
    assert sparse_summary(model).ratio == pytest.approx(8, rel=1e-3)
    with pytest.raises(ValueError, match=r"cannot bring weights back: group '\*' should keep 1300 weights"):
        prune_(model, config("mag", ratio=2.0))


def test_a_users_own_method(mlp):
    def keep_the_first(model, loss_fn, batches):
        return {name: -torch.arange(p.numel()).view(p.shape) * 1.0 for name, p in model.named_parameters()}

    model = prune_(mlp(), config(keep_the_first, scope="layer"))
    assert model[1].weight_mask.flatten().nonzero().max() == 24 * 192 // 4 - 1


def test_a_data_loader_is_read_without_touching_random_state(mlp, batch, loss_fn):
    loader = DataLoader(list(zip(*batch, strict=True)), batch_size=5, shuffle=True)
    random_state = torch.get_rng_state()
    prune_(mlp(), config("snip"), loss_fn=loss_fn, batches=loader)
    assert torch.equal(torch.get_rng_state(), random_state)


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"method": "synflo"}, ValueError, "unknown pruning method 'synflo': did you mean 'synflow'"),
        ({"method": 3}, TypeError, "a name or a scorer"),
        ({"ratio": 0.5}, ValueError, "ratio >= 1 must hold"),
        ({"scope": "block"}, ValueError, "scope must be 'global' or 'layer', but got 'block'"),
        ({"floor": -1}, ValueError, "floor >= 0 must hold"),
        ({"iterations": 0}, ValueError, "iterations >= 1 must hold"),
        ({"floor": 2.5}, ValueError, "in whole numbers, but got floor=2.5"),
        ({"include": "10"}, TypeError, "include must be a sequence of patterns"),  # of a sequence, layers 1 and 0
        ({"exclude": "10"}, TypeError, "exclude must be a sequence of patterns"),
        ({"exclude": None}, TypeError, "exclude must be a sequence of patterns"),
        ({"budgets": [0.5]}, TypeError, "budgets must map patterns"),
        ({"budgets": {1: 0.5}}, TypeError, "budgets must map patterns"),
    ],
)
def test_wrong_configurations(kwargs, error, message):
    with pytest.raises(error, match=message):
        PruneConfig(**kwargs)


def nan_loss(model, batch):
    return model(batch[0]).sum() * torch.nan


WRONG = {
    "needs data": ({"method": "snip"}, {}, "pass loss_fn and at least one batch"),
    "needs an input": ({"method": "synflow"}, {}, "pass example_input"),
    "no gradient": ({"method": "snip"}, {"loss_fn": lambda m, b: m(b[0]).sum().detach()}, "carries no gradient"),
    "other model": (
        {"method": "snip"},
        {"loss_fn": lambda m, b: torch.ones(1, requires_grad=True).sum()},
        "uses none of them",
    ),
    "no scalar": ({"method": "snip"}, {"loss_fn": lambda m, b: m(b[0])}, r"must return a scalar.*\(20, 10\)"),
    "not finite": ({"method": "grasp"}, {"loss_fn": nan_loss}, r"scores must be finite.*1.weight"),
    "empty layer": ({"ratio": 5000.0}, {}, "leaves 2 of 3 layers empty .* set floor=1"),
    "floor": ({"ratio": 1000.0, "floor": 3}, {}, "floor=3 needs 9 weights in 3 layers and the budget is 5"),
    "budget": ({"budgets": {"5": 161}}, {}, "kept <= size must hold, but got 161 for 160 weights"),
    "pattern": ({"budgets": {"conv*": 0.5}}, {}, "'conv\\*' matches no layer"),
    "nothing": ({"exclude": ["*"]}, {}, "nothing is prunable"),
    "incomplete": ({"method": lambda m, f, b: {}}, {}, "left out '1.weight': it scored nothing"),
    "returns nothing": ({"method": lambda m, f, b: None}, {}, "must return {parameter name: scores}, but got NoneType"),
    "no tensors": (
        {"method": lambda m, f, b: dict.fromkeys(prunable_weights(m), 0.5)},
        {},
        r"tensors of real numbers, but got float \(1.weight\)",
    ),
    "complex": (
        {"method": lambda m, f, b: {n: w * 1j for n, w in prunable_weights(m).items()}},
        {},
        "tensors of real numbers, but got torch.complex64",
    ),
    "shape": ({"method": lambda m, f, b: {"1.weight": torch.ones(2)}}, {}, r"got \(2,\) \(1.weight\)"),
}


@pytest.mark.parametrize("case", WRONG)
def test_an_error_leaves_the_model_untouched(mlp, batch, case):
    settings, arguments, message = WRONG[case]
    model, expected = mlp(), mlp().state_dict()
    evidence = {"batches": [batch]} if "loss_fn" in arguments else {}
    with pytest.raises((ValueError, TypeError), match=message):
        prune_(model, PruneConfig(**{"ratio": 4.0} | settings), **evidence, **arguments)
    assert type(model[1]) is nn.Linear
    assert all(torch.equal(t, expected[name]) for name, t in model.state_dict().items())


def normed():
    return nn.Sequential(nn.utils.weight_norm(nn.Linear(4, 3)), nn.Linear(3, 2))


def locked():
    class Locked(nn.Linear):
        def __deepcopy__(self, memo):
            raise RuntimeError("not this one")

    return Locked(4, 3)


@pytest.mark.parametrize("settings", [{"method": "mag"}, {"method": "synflow"}])
def test_a_model_that_keeps_what_it_computed_is_pruned_as_any_other(settings):
    class Watched(nn.Sequential):
        def forward(self, x):
            self.seen = [super().forward(x)]
            return self.seen[0]

    torch.manual_seed(0)
    model = Watched(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    fresh = nn.Sequential(*copy.deepcopy(list(model)))
    model(torch.rand(2, 4)).sum().backward()
    seen, example = model.seen[0], torch.zeros(1, 4)
    for one in (model, fresh):
        prune_(one, PruneConfig(ratio=2.0, **settings), example_input=example)
    assert all(torch.equal(mask, masks_of(fresh)[name]) for name, mask in masks_of(model).items())
    assert model.seen[0] is seen
    assert seen.grad_fn is not None


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    "call", [lambda model: prune_(model, PruneConfig(ratio=2.0)), lambda model: score(model, "mag")]
)
@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: nn.Linear(4, 3, device="meta"),
            ValueError,
            r"on the meta device \(layer 'weight'\): use model.to_empty",
        ),
        (normed, ValueError, "torch.nn.utils.weight_norm divides those of layer '0' by norms"),
        (locked, ValueError, "scores are computed on a copy, but Locked has none: not this one"),
        (lambda: [nn.Linear(4, 3)], TypeError, "must be a torch.nn.Module, but got list"),
    ],
)
def test_models_that_cannot_be_scored_are_refused_in_a_sentence(call, make, error, message):
    with pytest.raises(error, match=message):
        call(make())


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize("settings", [{}, {"scope": "layer"}, {"method": "erk"}, {"floor": 1}])
def test_a_layer_without_weights_loses_none(settings):
    model = nn.Sequential(nn.Linear(4, 0), nn.Linear(0, 3), nn.Linear(3, 4))
    summary = sparse_summary(prune_(model, PruneConfig(**{"ratio": 2.0} | settings)))
    assert summary.kept_by_layer == {"0": 0, "1": 0, "2": 6}


def test_a_loss_of_another_type_is_an_error(mlp, batch):
    with pytest.raises(TypeError, match="must return a tensor, but got float"):
        prune_(mlp(), config("snip"), loss_fn=lambda m, b: 1.0, batches=[batch])
