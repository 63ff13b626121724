"""Every kernel against the definition, in double precision and over every path a layer can take."""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from rps_core.kernels import Layer
from rps_core.kernels.choose import make_kernel
from rps_core.kernels.folded import FoldedKernel
from rps_core.mappings import MAPPINGS, Block

CPU = torch.device("cpu")


def layers_of(shapes):
    layers, start = [], 0
    for number, shape in enumerate(shapes):
        layers.append(Layer(f"l{number}", (), Block(shape), start, scale=0.1 * (number + 1)))
        start = layers[-1].stop
    return tuple(layers)


def matrix(mapping, layers):
    """R, ``(n, m)``, entry by entry."""
    n = mapping.virtual_size
    slots, signs = mapping.slots_of(0, n), mapping.signs_of(0, n)
    R = np.zeros((n, mapping.slots))
    for layer in layers:
        for i in range(layer.start, layer.stop):
            R[i, slots[i]] = layer.scale * signs[i]
    return torch.from_numpy(R)


SHAPES = [(7, 5), (40, 3, 2), (1,), (11, 13)]


@pytest.mark.parametrize("name", sorted(MAPPINGS))
@pytest.mark.parametrize("slots", [1, 2, 5, 50, 200, 419])
def test_recover_and_fold_are_the_definition(name, slots):
    layers = layers_of(SHAPES)
    mapping = MAPPINGS[name].build([layer.block for layer in layers], slots, 3)
    R, kernel = matrix(mapping, layers), make_kernel(mapping, layers, CPU)
    psi = torch.randn(slots, dtype=torch.float64)
    weights = kernel.recover(psi, range(4))
    assert [tuple(weight.shape) for weight in weights] == SHAPES
    torch.testing.assert_close(torch.cat([weight.flatten() for weight in weights]), R @ psi)
    grads = [torch.randn(shape, dtype=torch.float64) for shape in SHAPES]
    flat = torch.cat([grad.flatten() for grad in grads])
    torch.testing.assert_close(kernel.fold(grads, range(4)), R.T @ flat)
    some = slice(layers[2].start, layers[3].stop)
    torch.testing.assert_close(kernel.fold(grads[2:], [2, 3]), R.T[:, some] @ flat[some])


def test_random_fold_takes_long_psi_by_runs_and_short_psi_by_rows():
    layers = layers_of([(300, 200)])
    rows = FoldedKernel(MAPPINGS["random_fold"].build([layers[0].block], 100, 0), layers, CPU)
    runs = FoldedKernel(MAPPINGS["random_fold"].build([layers[0].block], 20_000, 0), layers, CPU)
    assert rows._rows == [(0, 600)]
    assert rows._runs == [[]]
    assert runs._rows[0][0] == runs._rows[0][1]
    assert len(runs._runs[0]) <= 6


@pytest.mark.parametrize("slots", [150_000, 70_000, 900])
def test_random_fold_over_many_sign_blocks_and_row_chunks(slots, monkeypatch):
    monkeypatch.setattr("rps_core.mappings.random_fold.SIGN_PERIOD", 1 << 16)
    monkeypatch.setattr("rps_core.kernels.folded._ROWS_AT_ONCE", 1 << 16)
    layers = layers_of([(1000, 290), (100, 100)])
    mapping = MAPPINGS["random_fold"].build([layer.block for layer in layers], slots, 5)
    kernel = make_kernel(mapping, layers, CPU)
    n = mapping.virtual_size
    index, sign = torch.from_numpy(mapping.slots_of(0, n)), torch.from_numpy(mapping.signs_of(0, n))
    scale = torch.cat([torch.full((layer.block.size,), layer.scale) for layer in layers])
    psi = torch.randn(slots)
    weights = torch.cat([weight.flatten() for weight in kernel.recover(psi, [0, 1])])
    torch.testing.assert_close(weights, psi[index] * sign * scale)
    grads = torch.randn(n)
    folded = kernel.fold([grads[:290_000].view(1000, 290), grads[290_000:].view(100, 100)], [0, 1])
    expected = torch.zeros(slots, dtype=torch.float64).index_add(0, index, (grads * sign * scale).double())
    torch.testing.assert_close(folded, expected.float(), atol=1e-4, rtol=1e-4)
    again = kernel.fold([grads[:290_000].view(1000, 290), grads[290_000:].view(100, 100)], [0, 1])
    assert torch.equal(folded, again)


@pytest.mark.parametrize("name", ["random_fold", "hashed_net"])
def test_half_precision_is_summed_in_single(name):
    """A thousand weights of 1/256 in one slot: bfloat16 sums would stop growing at 1."""
    layers = (Layer("w", (), Block((1000,)), 0, 1.0),)
    mapping = MAPPINGS[name].build([layers[0].block], 1, 0)
    kernel = make_kernel(mapping, layers, CPU)
    signs = torch.from_numpy(mapping.signs_of(0, 1000))
    total = kernel.fold([(signs / 256).to(torch.bfloat16)], [0])
    assert total.dtype == torch.float32
    assert float(total) == pytest.approx(1000 / 256)


class Largest(TorchDispatchMode):
    """Notes the entries of the largest storage that an operator makes."""

    def __init__(self):
        super().__init__()
        self.entries = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        given = [
            tensor.untyped_storage().data_ptr()
            for tensor in tree_leaves((args, kwargs))
            if isinstance(tensor, torch.Tensor)
        ]
        for made in tree_leaves(result):
            if isinstance(made, torch.Tensor) and made.untyped_storage().data_ptr() not in given:
                self.entries = max(self.entries, made.untyped_storage().nbytes() // made.element_size())
        return result


@pytest.mark.parametrize("slots", [300, 40_000])
def test_random_fold_takes_memory_of_order_m_beside_the_weights(slots, monkeypatch):
    """A forward makes the weights and else at most 4 m; a backward makes no more than rows at once."""
    monkeypatch.setattr("rps_core.kernels.folded._ROWS_AT_ONCE", 6000)
    n = 1_000_000
    layers = layers_of([(1000, 1000)])
    kernel = FoldedKernel(MAPPINGS["random_fold"].build([layers[0].block], slots, 0), layers, CPU)
    psi, grad = torch.randn(slots), torch.randn(1000, 1000)
    with Largest() as forward:
        kernel.recover(psi, [0])
    with Largest() as backward:
        kernel.fold([grad], [0])
    assert forward.entries == n
    assert backward.entries <= max(4 * slots, 2 * 6000)
    held = [t for t in vars(kernel).values() if isinstance(t, torch.Tensor)] + list(kernel._patterns.values())
    assert sum(tensor.numel() for tensor in held) <= 2 * slots + 3 * -(-n // slots)
