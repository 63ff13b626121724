import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, hessian, jacrev, jvp, vjp, vmap

from rps_core import RPSConfig, compress_
from rps_core.recovery import recover

SCALINGS = ["effective_update", "curvature", "none", "load_power(0.5)"]


def shared(scaling="none", ratio=3.0, **kwargs):
    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    return compress_(model, RPSConfig(ratio=ratio, gradient_scaling=scaling, **kwargs))


def group_of(model):
    return model._rps_sharing.arrays[0].group


@pytest.mark.parametrize("mapping", ["random_fold", "roast"])
def test_gradcheck(mapping):
    model = shared(mapping=mapping)
    psi = model.psi_0.detach().requires_grad_()
    assert torch.autograd.gradcheck(lambda p: recover(p, group_of(model), (0, 1)), psi)
    assert torch.autograd.gradgradcheck(lambda p: recover(p, group_of(model), (0, 1)), psi)


@pytest.mark.parametrize("scaling", SCALINGS)
@pytest.mark.parametrize("mapping", ["random_fold", "hashed_net"])
def test_gradient_is_the_plain_one_over_the_scaler(scaling, mapping):
    plain, scaled = shared("none", mapping=mapping), shared(scaling, mapping=mapping)
    scaled.load_state_dict(plain.state_dict())
    x = torch.randn(4, 5, dtype=torch.float64)
    for model in (plain, scaled):
        model(x).square().sum().backward()
    # Scales follow from the weights each model was built with, so compare through the scaled model's own group.
    weights = [model.weight.detach().requires_grad_() for model in (scaled[0], scaled[2])]
    out = torch.tanh(x @ weights[0].T + scaled[0].bias) @ weights[1].T + scaled[2].bias
    grads = torch.autograd.grad(out.square().sum(), weights)
    group = group_of(scaled)
    expected = group.fold(grads, (0, 1)) / torch.from_numpy(group.scaler)
    torch.testing.assert_close(scaled.psi_0.grad, expected)


@pytest.mark.parametrize("mapping", ["random_fold", "roast", "robe_z", "hashed_net"])
def test_the_sums_of_a_slot_by_the_definition(mapping):
    group = group_of(shared(mapping=mapping))
    slots, scales = group.mapping.slots_of(0, 64), np.repeat([layer.scale for layer in group.layers], [40, 24])
    assert scales[0] != scales[-1]
    for found, weights in zip(group.slot_sums(), (np.ones(64), scales, scales**2), strict=True):
        np.testing.assert_allclose(found, [weights[slots == slot].sum() for slot in range(group.slots)])


@pytest.mark.parametrize("scaling", SCALINGS)
def test_the_derivative_of_the_gradient_is_scaled_too(scaling):
    """The gradient of psi is ``R^T g / Gamma``, so that of ``v @ grad psi`` with respect to g is ``R (v / Gamma)``."""
    group = group_of(shared(scaling))
    psi, v = torch.randn(group.slots).double().requires_grad_(), torch.randn(group.slots).double()
    weights = recover(psi, group, (0, 1))
    given = [torch.randn_like(weight).requires_grad_() for weight in weights]
    (scaled,) = torch.autograd.grad(weights, psi, given, create_graph=True)
    back = torch.autograd.grad(scaled @ v, given)
    expected = group.recover(v / torch.from_numpy(group.scaler), (0, 1))
    torch.testing.assert_close(back, tuple(expected))


def test_half_precision_gradients_are_rounded_once():
    """Gamma of small layers is out of half precision's range; the scaled gradient is not."""
    model = compress_(nn.Linear(64, 32, bias=False), RPSConfig(ratio=2, init_std=100.0))
    x = torch.randn(4, 64) * 1e-6
    model(x).sum().backward()
    exact = model.psi_0.grad.clone()
    scaled = group_of(model).fold([(torch.ones(4, 32).T @ x).half()], (0,), scaled=True)
    assert scaled.dtype == torch.float16
    assert scaled.isfinite().all()
    torch.testing.assert_close(scaled.float(), exact, rtol=0.1, atol=float(exact.abs().max()) * 0.1)


def test_accumulated_gradients_are_scaled_once():
    model = shared("effective_update")
    x = torch.randn(6, 5, dtype=torch.float64)
    model(x).sum().backward()
    whole = model.psi_0.grad.clone()
    model.psi_0.grad = None
    for half in x.chunk(2):
        model(half).sum().backward()
    torch.testing.assert_close(model.psi_0.grad, whole)


def test_reads_outside_of_forward_have_the_same_gradient():
    model = shared("effective_update")
    x = torch.randn(6, 5, dtype=torch.float64)
    model(x).square().sum().backward()
    inside = model.psi_0.grad.clone()
    model.psi_0.grad = None
    model[2](torch.tanh(model[0](x))).square().sum().backward()
    torch.testing.assert_close(model.psi_0.grad, inside)


def test_weights_follow_psi_even_behind_autograd_s_back():
    model = shared()
    x = torch.randn(2, 5, dtype=torch.float64)
    model(x).sum().backward()
    model.psi_0.data.zero_()
    assert torch.equal(model[0].weight, torch.zeros(8, 5, dtype=torch.float64))
    assert torch.equal(model(x), model[2].bias.expand(2, 3))


def test_copies_and_reads_within_a_forward_pass_follow_the_psi_there_is():
    model = shared()
    seen = []

    def look(module, inputs, output):
        seen.append(copy.deepcopy(model)[2].weight)  # the weights in hand are no leaves: they are not copied
        model._parameters["psi_0"] = nn.Parameter(torch.zeros_like(model.psi_0))

    before = model[2].weight
    model[0].register_forward_hook(look)
    out = model(torch.randn(2, 5, dtype=torch.float64))
    assert torch.equal(seen[0], before)
    assert torch.equal(out, model[2].bias.expand(2, 3))


def test_failed_forward_leaves_nothing_behind():
    model = shared()
    with pytest.raises(RuntimeError):
        model(torch.randn(2, 7, dtype=torch.float64))
    assert model._rps_sharing.arrays[0]._open is None
    model.psi_0.data.zero_()
    assert not model[0].weight.any()


def test_unused_layers_get_no_gradient():
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False)

        def forward(self, x):
            return self.used(x)

    model = compress_(Branches(), RPSConfig(ratio=1))
    model(torch.randn(2, 4)).sum().backward()
    assert int((model.psi_0.grad != 0).sum()) == 16
    with torch.no_grad():
        out = model(torch.randn(2, 4))
    assert out.grad_fn is None


def test_psi_frozen_after_compression():
    model = shared()
    model.psi_0.requires_grad_(False)
    # Without a gradient to sum, there is no need to hold all weights at once.
    held = []
    model[0].register_forward_hook(lambda *_: held.append(model._rps_sharing.arrays[0]._open))
    model(torch.randn(2, 5, dtype=torch.float64)).sum().backward()
    assert model.psi_0.grad is None
    assert model[0].bias.grad is not None
    assert held == [None]


def test_vmap_over_models_and_over_samples():
    model = shared("effective_update")
    state = dict(model.named_parameters())
    x = torch.randn(6, 5, dtype=torch.float64)
    stacked = {name: torch.stack([value.detach(), value.detach() * 2]) for name, value in state.items()}
    both = vmap(lambda p: functional_call(model, p, (x,)))(stacked)
    for number in range(2):
        one = functional_call(model, {name: value[number] for name, value in stacked.items()}, (x,))
        torch.testing.assert_close(both[number], one)

    def loss(parameters, sample):
        return functional_call(model, parameters, (sample[None],)).square().sum()

    each = vmap(grad(loss), in_dims=(None, 0))(state, x)
    model(x).square().sum().backward()
    torch.testing.assert_close(each["psi_0"].sum(0), model.psi_0.grad)
    ensemble = vmap(lambda p: grad(loss)(p, x[0]))(stacked)
    alone = grad(loss)({name: value[1] for name, value in stacked.items()}, x[0])
    torch.testing.assert_close(ensemble["psi_0"][1], alone["psi_0"])


def test_vmap_over_gradients_where_one_layer_s_is_the_same_for_all():
    group = group_of(shared("curvature"))
    psi, given = torch.randn(group.slots).double(), torch.randn(6, 3, 8).double()
    (first, second), pull = vjp(lambda p: tuple(recover(p, group, (0, 1))), psi)
    assert second.shape == given.shape[1:]
    for found, one in zip(vmap(lambda each: pull((first, each)))(given)[0], given, strict=True):
        torch.testing.assert_close(found, pull((first, one))[0])


def test_vmap_over_any_dimension_of_a_stack_of_arrays():
    group = group_of(shared())
    psis = torch.randn(group.slots, 3, dtype=torch.float64)
    stacked = vmap(lambda psi: recover(psi, group, (0, 1)), in_dims=1)(psis)
    for number in range(3):
        for weights, expected in zip(stacked, recover(psis[:, number].contiguous(), group, (0, 1)), strict=True):
            assert torch.equal(weights[number], expected)


@pytest.mark.parametrize("mapping", ["random_fold", "roast"])
def test_forward_mode_derivatives(mapping):
    """Those of the weights are R, as psi moves them; those of a gradient are of the gradient as it is, scaled."""
    model = shared("effective_update", mapping=mapping)
    group, psi = group_of(model), model.psi_0.detach()
    tangent = torch.randn_like(psi)
    _, moved = jvp(lambda p: tuple(recover(p, group, (0, 1))), (psi,), (tangent,))
    torch.testing.assert_close(moved, tuple(group.recover(tangent, (0, 1))))

    state, x = dict(model.named_parameters()), torch.randn(6, 5, dtype=torch.float64)

    def loss(one):
        return functional_call(model, state | {"psi_0": one}, (x,)).square().sum()

    step = 1e-6 * tangent
    expected = (grad(loss)(psi + step) - grad(loss)(psi - step)) / 2e-6
    torch.testing.assert_close(jvp(grad(loss), (psi,), (tangent,))[1], expected, rtol=1e-6, atol=1e-6)
    # Reverse over reverse divides by Gamma on both sides.
    both = jacrev(jacrev(loss))(psi) * torch.from_numpy(group.scaler)
    torch.testing.assert_close(hessian(loss)(psi), both)


def test_forward_mode_through_a_part_of_the_gradients():
    """Of two layers only the second has a gradient that depends on psi."""
    group = group_of(shared())
    psi, tangent = torch.randn(2, group.slots, dtype=torch.float64).unbind()

    def loss(one):
        first, second = recover(one, group, (0, 1))
        return first.sum() + second.square().sum()

    moved = jvp(grad(loss), (psi,), (tangent,))[1]
    torch.testing.assert_close(moved, 2 * group.fold(group.recover(tangent, (1,)), (1,)))
