import copy
import json
import math
import subprocess
import sys

import pytest
import torch
from torch import nn

from rps_core import RPSConfig, compress_, compression_summary, project_, to_dense
from rps_core.mappings import MAPPINGS


def train(model, *, steps=12, lr=0.05, momentum=0.9, weight_decay=0.0, optimizer=None):
    """Train on fixed data and return the trajectory of the first layer's effective weights."""
    torch.manual_seed(3)
    x, y = torch.randn(32, 6, dtype=torch.float64), torch.randn(32, 4, dtype=torch.float64)
    make = optimizer or (lambda p: torch.optim.SGD(p, lr=lr, momentum=momentum, weight_decay=weight_decay))
    step, path = make(model.parameters()), []
    for _ in range(steps):
        step.zero_grad()
        (model(x) - y).square().mean().backward()
        step.step()
        path.append(model[0].weight.detach().clone())
    return torch.stack(path)


def test_deterministic_from_the_seed_and_blind_to_the_global_generator(mlp):
    first, second = copy.deepcopy(mlp), copy.deepcopy(mlp)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    compress_(first, RPSConfig(ratio=4, seed=9))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    compress_(second, RPSConfig(ratio=4, seed=9))
    assert torch.equal(first.psi_0, second.psi_0)
    assert not torch.equal(compress_(mlp, RPSConfig(ratio=4, seed=10)).psi_0, first.psi_0)


def test_golden_weights_in_a_fresh_process():
    code = (
        "import torch; from torch import nn; from rps_core import RPSConfig, compress_\n"
        "model = nn.Linear(4, 3, bias=False); nn.init.constant_(model.weight, 0.5)\n"
        "compress_(model, RPSConfig(ratio=2, seed=7)); print([round(w, 5) for w in model.weight.flatten().tolist()])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    golden = [
        -0.83016,
        -0.67413,
        -0.69603,
        0.3981,
        0.6865,
        0.68021,
        -0.6865,
        0.68021,
        0.83016,
        0.67413,
        0.69603,
        0.3981,
    ]
    assert json.loads(run.stdout) == golden


@pytest.mark.parametrize("init_std", [1e-3, 1.0, 10.0])
@pytest.mark.parametrize("mapping", sorted(MAPPINGS))
@pytest.mark.parametrize("initialise", [nn.init.normal_, nn.init.uniform_])
def test_recovered_weights_have_the_layer_s_spread(mapping, init_std, initialise):
    """The reference draws uniform(-a, a) as if its std were a; it is a / sqrt(3)."""
    model = nn.Sequential(nn.Linear(300, 200, bias=False), nn.Linear(200, 100, bias=False))
    for number, layer in enumerate(model):
        initialise(layer.weight)
        with torch.no_grad():
            layer.weight.sub_(layer.weight.mean()).mul_(0.02 * (number + 1) / layer.weight.std())
    compress_(model, RPSConfig(ratio=4, mapping=mapping, init_std=init_std))
    assert float(model.psi_0.std()) == pytest.approx(init_std, rel=0.05)
    for number, layer in enumerate(model):
        assert float(layer.weight.std()) == pytest.approx(0.02 * (number + 1), rel=0.05)
        bounded = float(layer.weight.abs().max() / layer.weight.std())
        assert (bounded < 1.9) == (initialise is nn.init.uniform_)


def test_each_psi_is_drawn_as_most_of_its_own_group_s_weights_look():
    """A sum of three uniform numbers has a kurtosis of 2.6, nearer to the normal 3 than to the uniform 1.8."""
    model = nn.Sequential(*(nn.Linear(100, size) for size in (100, 110, 120)))
    nn.init.normal_(model[1].weight)
    with torch.no_grad():
        model[2].weight.copy_(torch.rand(3, 120, 100).sum(0) - 1.5)
    compress_(model, RPSConfig(budgets={"0": 1.0, "1": 1.0, "2": 1.0}))
    bounded = [float(psi.abs().max()) < 1.8 for psi in (model.psi_0, model.psi_1, model.psi_2)]
    assert bounded == [True, False, False]


def test_zero_layers_get_the_default_spread_and_constant_ones_their_own():
    model = nn.Sequential(nn.Linear(48, 10), nn.Linear(10, 10))
    nn.init.zeros_(model[0].weight)
    nn.init.constant_(model[1].weight, -0.25)
    layers = compress_(model, RPSConfig(init_std=2.0))._rps_sharing.arrays[0].group.layers
    assert layers[0].scale == pytest.approx(1 / math.sqrt(3 * 48) / 2)
    assert layers[1].scale == pytest.approx(0.25 / 2)


@pytest.mark.parametrize("scaling", ["effective_update", "curvature", "load_power(1)"])
def test_ratio_one_trains_as_the_dense_model(mlp, scaling):
    """A bijection: momentum SGD with weight decay takes the same steps on psi as on the weights."""
    dense = copy.deepcopy(mlp).double()
    shared = project_(copy.deepcopy(dense), RPSConfig(ratio=1, gradient_scaling=scaling))
    assert torch.allclose(shared[0].weight, dense[0].weight, atol=1e-7)
    expected = train(dense, weight_decay=1e-2)
    torch.testing.assert_close(train(shared, weight_decay=1e-2), expected, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("scaling", ["effective_update", "curvature", "load_power(0.5)"])
def test_sgd_trains_the_same_weights_whatever_psi_was_drawn_with(mlp, scaling):
    config = {"ratio": 3.0, "gradient_scaling": scaling, "seed": 1}
    paths = []
    for init_std in (1e-3, 1.0, 10.0):
        model = compress_(copy.deepcopy(mlp).double(), RPSConfig(**config, init_std=init_std))
        paths.append(train(model, weight_decay=1e-3))
    # A scale is kept as a float32 value, so the runs start within 1e-7 of each other.
    torch.testing.assert_close(paths[0], paths[1], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(paths[2], paths[1], rtol=1e-5, atol=1e-6)


def test_without_scaling_the_trained_weights_move_with_the_std(mlp):
    paths = [
        train(compress_(copy.deepcopy(mlp).double(), RPSConfig(ratio=3, gradient_scaling="none", init_std=std)))
        for std in (0.3, 1.0)
    ]
    assert (paths[0] - paths[1]).norm() > 0.01 * paths[1].norm()


@pytest.mark.parametrize("std", [0.01, 1.0])
def test_adam_steps_are_relative_to_the_layer_s_std_at_init_std_one(mlp, std):
    """Adam divides the scaler out: a step moves a weight by lr * lambda, so lambda = layer std / init_std decides."""
    model = compress_(mlp.double(), RPSConfig(ratio=1, init_std=std))
    before = model[0].weight.detach().clone()
    path = train(model, steps=1, optimizer=lambda p: torch.optim.Adam(p, lr=1e-3, eps=1e-30))
    scale = model._rps_sharing.arrays[0].group.layers[0].scale
    torch.testing.assert_close((path[0] - before).abs(), torch.full_like(before, 1e-3 * scale), rtol=1e-3, atol=0)


@pytest.mark.parametrize("scaling", ["effective_update", "none"])
def test_the_scaled_gradient_is_in_psi_s_unit(mlp, scaling):
    """So weight decay means the same for any init_std, and clipping to a fixed norm does not."""
    x, grads = torch.linspace(-1, 1, 12).double().view(2, 6), []
    for std in (0.1, 1.0):
        model = compress_(copy.deepcopy(mlp).double(), RPSConfig(ratio=3, gradient_scaling=scaling, init_std=std))
        model(x).square().sum().backward()
        grads.append(model.psi_0.grad)
    factor = 10 if scaling == "effective_update" else 0.1
    torch.testing.assert_close(grads[1], grads[0] * factor, rtol=1e-5, atol=1e-8)


def test_project_is_the_least_squares_solution(mlp):
    weights = [mlp[0].weight.detach().double().clone(), mlp[2].weight.detach().double().clone()]
    model = project_(mlp.double(), RPSConfig(ratio=3))
    group = model._rps_sharing.arrays[0].group
    flat = torch.cat([weight.flatten() for weight in weights])
    columns = [torch.cat([w.flatten() for w in group.recover(e, (0, 1))]) for e in torch.eye(group.slots).double()]
    R = torch.stack(columns, 1)
    best = torch.linalg.lstsq(R, flat[:, None]).solution[:, 0]
    torch.testing.assert_close(model.psi_0.detach(), best)
    errors = compression_summary(model).relative_error
    for index, (layer, weight) in enumerate(zip(group.layers, weights, strict=True)):
        moved = (model[index * 2].weight - weight).norm() / weight.norm()
        assert errors[layer.name] == pytest.approx(float(moved))
    assert 0.3 < errors["0"] < 1


def test_fine_tuning_starts_from_the_projection(mlp):
    torch.manual_seed(3)
    x, y = torch.randn(32, 6, dtype=torch.float64), torch.randn(32, 4, dtype=torch.float64)
    dense = mlp.double()
    train(dense, steps=200)
    projected = project_(copy.deepcopy(dense), RPSConfig(ratio=1.5))
    drawn = compress_(copy.deepcopy(dense), RPSConfig(ratio=1.5))
    loss = {name: float((m(x) - y).square().mean().detach()) for name, m in (("start", projected), ("drawn", drawn))}
    train(projected, steps=50)
    assert loss["start"] < loss["drawn"]
    assert float((projected(x) - y).square().mean().detach()) < 0.9 * loss["start"]


def test_budgets_make_groups_with_psi_of_their_own(resnet):
    compress_(resnet, RPSConfig(ratio=10, budgets={"conv*": 200, "fc": 1.0}))
    assert [name for name, _ in resnet.named_parameters() if name.startswith("psi")] == ["psi_0", "psi_1"]
    assert (resnet.psi_0.numel(), resnet.psi_1.numel()) == (200, 80)
    summary = compression_summary(resnet)
    assert [(g.name, g.layers, g.size, g.slots) for g in summary.groups] == [
        ("conv*", ("conv1", "conv2"), 8 * 27 + 8 * 72, 200),
        ("fc", ("fc",), 80, 80),
    ]
    assert not torch.equal(resnet.psi_0[:80] / resnet.psi_0[0], resnet.psi_1 / resnet.psi_1[0])  # drawn apart
    resnet(torch.randn(2, 3, 6, 6)).sum().backward()
    assert resnet.psi_0.grad.any()
    assert resnet.psi_1.grad.any()


def test_to_dense_leaves_nothing_of_the_compression(build, batch):
    model = compress_(build(), RPSConfig(ratio=5)).eval()
    dense = to_dense(model)
    assert torch.equal(dense(batch), model(batch))
    assert list(dense.state_dict()) == list(build().state_dict())
    assert [type(m) for m in dense.modules()] == [type(m) for m in build().modules()]
    for hooks in ("_forward_hooks", "_forward_hooks_always_called", "_forward_pre_hooks", "_state_dict_hooks"):
        assert not getattr(dense, hooks)
    assert not dense._load_state_dict_pre_hooks
    assert not any(name.startswith("_rps") for m in dense.modules() for name in vars(m))
    compress_(dense, RPSConfig(ratio=2))


def test_a_model_that_keeps_what_it_computed_becomes_dense_as_any_other():
    class Watched(nn.Sequential):
        def forward(self, x):
            self.weights, self.seen = self[0].weight, [super().forward(x)]
            return self.seen[0]

    model = compress_(Watched(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)), RPSConfig(ratio=2))
    x = torch.rand(2, 4)
    seen = model(x)
    dense = to_dense(model)
    assert model.seen[0] is seen
    assert seen.grad_fn is not None
    assert not dense.seen[0].requires_grad
    assert torch.equal(dense(x), seen)


def failing(name):
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    if name == "meta":
        model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4, device="meta"))
    elif name == "frozen":
        model[1].weight.requires_grad_(False)
    elif name == "mixed":
        model[1].double()
    elif name == "complex":
        model[1] = nn.Linear(4, 4, dtype=torch.complex64)
    elif name == "nan":
        nn.init.constant_(model[1].weight, float("nan"))
    elif name == "empty":
        model[1] = nn.Linear(0, 4)
    elif name == "lazy":
        model[1] = nn.LazyLinear(4)
    elif name == "again":
        compress_(model, RPSConfig(ratio=2))
    elif name == "nothing":
        model = nn.Sequential(nn.ReLU())
    elif name == "script":
        model = nn.Sequential(nn.Linear(4, 4), torch.jit.script(nn.Linear(4, 4)))
    elif name == "taken":
        model.psi_0 = nn.Parameter(torch.ones(1))
    return model


@pytest.mark.parametrize("change", [compress_, project_])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("meta", r"meta device \(layer '1'\)"),
        ("frozen", r"requires_grad is False \(layer '1'\): exclude it"),
        ("mixed", r"one dtype, but got torch.float32 \(layer '0'\) and torch.float64 \(layer '1'\)"),
        ("complex", r"must be floating-point, but got torch.complex64 \(layer '1'\)"),
        ("nan", r"must be finite, but some are not \(layer '1'\)"),
        ("empty", r"must not be empty \(layer '1'\)"),
        ("lazy", r"must have a shape.*\(layer '1'\)"),
        ("again", "compressed once"),
        ("nothing", "must have a weight to share"),
        ("script", "'1' is a TorchScript module"),
        ("taken", r"must have no attribute 'psi_0'"),
    ],
)
def test_refuses_and_leaves_the_model_as_it_was(change, name, message):
    model = failing(name)
    before = {m: (type(m), dict(vars(m)), dict(m.named_parameters())) for m in model.modules()}
    with pytest.raises(ValueError, match=message):
        change(model, RPSConfig(ratio=2))
    after = {m: (type(m), dict(vars(m)), dict(m.named_parameters())) for m in model.modules()}
    assert list(after) == list(before)
    for module, (kind, attributes, parameters) in before.items():
        assert after[module][0] is kind
        assert after[module][1].keys() == attributes.keys()
        assert all(after[module][2][key] is value for key, value in parameters.items())


def test_weights_that_are_read_through_a_mask_are_refused():
    """Sharing reads what the parameter holds: of a pruned model the pruning would be gone without a word."""

    class Masked(nn.Linear):
        weight = property(lambda self: self._parameters["weight"] * 0)

    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].__class__ = Masked
    with pytest.raises(ValueError, match=r"must be read as they are, .* \(layer '1'\)"):
        compress_(model, RPSConfig(ratio=2))
    compress_(model, RPSConfig(ratio=2, exclude=["1"]))
    assert not model[1].weight.any()


@pytest.mark.parametrize(
    ("budgets", "message"),
    [
        ({"conv*": 10_000}, r"kept <= size must hold, but got 10000"),
        ({"fc": 0.001}, "leaves nothing of 80 weights"),
        ({"cnov1": 0.5}, "matches no layer; the nearest is 'conv1'"),
        ({"conv*": 0.5, "conv1": 0.5}, "earlier patterns took all"),
    ],
)
def test_bad_budgets_leave_the_model_as_it_was(resnet, budgets, message):
    keys = list(resnet.state_dict())
    with pytest.raises(ValueError, match=message):
        compress_(resnet, RPSConfig(budgets=budgets))
    assert list(resnet.state_dict()) == keys


def test_wrong_types():
    with pytest.raises(TypeError, match=r"model must be a torch.nn.Module, but got int"):
        compress_(3, RPSConfig())
    with pytest.raises(TypeError, match="config must be an RPSConfig, but got dict"):
        compress_(nn.Linear(2, 2), {"ratio": 2})
    with pytest.raises(TypeError, match=r"model must be a torch.nn.Module"):
        to_dense("model")
    with pytest.raises(ValueError, match="model must be compressed"):
        to_dense(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="model must be compressed"):
        compression_summary(nn.Linear(2, 2))
