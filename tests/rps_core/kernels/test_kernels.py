"""Every kernel against the definition, in double precision and over every path a layer can take."""

import numpy as np
import pytest
import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from rps_core.kernels import Layer
from rps_core.kernels.choose import make_kernel
from rps_core.kernels.folded import FoldedKernel
from rps_core.kernels.rows import worth_rows
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


def random_fold(shapes, slots, seed=0):
    layers = layers_of(shapes)
    mapping = MAPPINGS["random_fold"].build([layer.block for layer in layers], slots, seed)
    return layers, mapping, FoldedKernel(mapping, layers, CPU)


def test_random_fold_takes_many_partitions_as_rows_and_few_by_runs():
    """Runs cost a call each: 600 partitions of 100 are rows, 3 of 20,000 are at most 6 runs."""
    assert random_fold([(300, 200)], 100)[2]._whole == (range(600),)
    assert random_fold([(300, 200)], 100)[2]._runs == ([],)
    long = random_fold([(300, 200)], 20_000)[2]
    assert not long._whole[0]
    assert len(long._runs[0]) <= 6
    few = random_fold([(10, 10), (25, 100), (30, 10)], 100)[2]
    assert few._whole == (range(1, 1), range(1, 26), range(29, 29))
    assert worth_rows(92_000, 100)
    assert not worth_rows(920_000, 10)


@pytest.mark.parametrize("slots", [150_000, 70_000, 5000, 900])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_random_fold_over_many_sign_blocks_and_row_chunks(slots, dtype, monkeypatch):
    """By runs of several sign blocks, by rows one by one, and by rows of many at once."""
    monkeypatch.setattr("rps_core.mappings.random_fold.SIGN_PERIOD", 1 << 16)
    monkeypatch.setattr("rps_core.kernels.rows.AT_ONCE", 1 << 13)
    monkeypatch.setattr("rps_core.kernels.rows.LONG", 4000)
    shapes = [(1000, 290), (100, 100)]
    layers, mapping, kernel = random_fold(shapes, slots, 5)
    assert bool(kernel._whole[0]) == (slots < 10_000)
    n = mapping.virtual_size
    index, sign = torch.from_numpy(mapping.slots_of(0, n)), torch.from_numpy(mapping.signs_of(0, n))
    scale = torch.cat([torch.full((layer.block.size,), layer.scale, dtype=torch.float64) for layer in layers])
    psi, grads = torch.randn(slots).to(dtype), torch.randn(n).to(dtype)
    weights = kernel.recover(psi, [0, 1])
    expected = (psi.double()[index] * sign * scale).to(dtype)
    torch.testing.assert_close(torch.cat([weight.flatten() for weight in weights]), expected)
    split = [part.view(shape) for part, shape in zip(grads.split([290_000, 10_000]), shapes, strict=True)]
    folded = kernel.fold(split, [0, 1])
    expected = torch.zeros(slots, dtype=torch.float64).index_add(0, index, grads.double() * sign * scale)
    torch.testing.assert_close(folded.double(), expected, atol=1e-4, rtol=1e-4)
    assert torch.equal(folded, kernel.fold(split, [0, 1]))


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


class Peak(TorchDispatchMode):
    """Notes the most bytes that tensors made under it take at one time."""

    def __init__(self):
        super().__init__()
        self.live, self.peak = {}, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        given = {t.untyped_storage()._cdata for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        result = function(*args, **(kwargs or {}))
        for made in tree_leaves(result):
            if isinstance(made, torch.Tensor) and made.untyped_storage()._cdata not in given:
                self.live[made.untyped_storage()._cdata] = StorageWeakRef(made.untyped_storage()), made.nbytes
        self.live = {key: (ref, size) for key, (ref, size) in self.live.items() if not ref.expired()}
        self.peak = max(self.peak, sum(size for _, size in self.live.values()))
        return result


@pytest.mark.parametrize("slots", [300, 8000, 24_000, 90_000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_random_fold_takes_memory_of_order_m_beside_the_weights(slots, dtype, monkeypatch):
    """Beside n weights a forward, and beside m sums a backward, takes a few times m and a constant."""
    monkeypatch.setattr("rps_core.kernels.rows.AT_ONCE", 6000)
    monkeypatch.setattr("rps_core.kernels.rows.LONG", 20_000)
    monkeypatch.setattr("rps_core.mappings.random_fold.SIGN_PERIOD", 1 << 16)
    n, at_once = 300_000, 6000
    *_, kernel = random_fold([(300, 1000)], slots)
    psi, grad = torch.randn(slots).to(dtype), torch.randn(300, 1000).to(dtype)
    for _ in range(2):  # the first call makes the sign pattern in this dtype
        with Peak() as forward:
            weight = kernel.recover(psi, [0])
        with Peak() as backward:
            out = kernel.fold([grad], [0])
    constant = 8 * -(-n // slots) + 4 * 4 * at_once
    assert forward.peak >= n * dtype.itemsize
    assert forward.peak - n * dtype.itemsize <= 6 * slots * dtype.itemsize + constant
    assert out.nbytes <= backward.peak <= 6 * slots * 4 + constant
    del weight


def test_random_fold_keeps_no_index(monkeypatch):
    monkeypatch.setattr("rps_core.mappings.random_fold.SIGN_PERIOD", 1 << 16)
    for slots in (300, 8000, 250_000):
        *_, kernel = random_fold([(1000, 1000)], slots)
        kernel.fold(kernel.recover(torch.randn(slots), [0]), [0])
        held = [kernel._pattern, *kernel._patterns.values()]
        if kernel._rows:
            held += [tensor for tensor in vars(kernel._rows).values() if isinstance(tensor, torch.Tensor)]
        assert sum(tensor.numel() for tensor in held) <= 2 * slots + 3 * -(-1_000_000 // slots) + 8
