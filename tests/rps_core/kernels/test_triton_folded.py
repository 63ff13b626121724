"""The Triton kernels against the PyTorch one: on a GPU where one is, else in a process under Triton's interpreter."""

import os
import subprocess
import sys

import pytest
import torch

from rps_core.group import Group
from rps_core.kernels import Layer
from rps_core.kernels.folded import FoldedKernel
from rps_core.mappings import Block, RandomFold

pytest.importorskip("triton")
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
runs_kernels = pytest.mark.skipif(DEVICE == "cpu" and not INTERPRETED, reason="run by test_under_the_interpreter")

LAYERS = (
    Layer("a", (), Block((30, 25)), 0, 0.125),
    Layer("b", (), Block((20, 15)), 750, 0.25),
    Layer("c", (), Block((30,)), 1050, 0.375),
)


def kernels(slots):
    from rps_core.kernels.triton_folded import TritonFoldedKernel

    mapping = RandomFold(1080, slots, 1)
    return (kind(mapping, LAYERS, torch.device(DEVICE)) for kind in (TritonFoldedKernel, FoldedKernel))


@pytest.mark.skipif(DEVICE != "cpu" or INTERPRETED, reason="the tests here run the kernels themselves")
@pytest.mark.slow
def test_under_the_interpreter():
    command = [sys.executable, "-m", "pytest", "--import-mode=importlib", "-q", "-p", "no:cacheprovider", __file__]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout
    assert " passed" in run.stdout or "." in run.stdout


@runs_kernels
@pytest.mark.parametrize("slots", [15, 250, 1030, 1080])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_equals_the_pytorch_kernel(slots, dtype):
    fast, plain = kernels(slots)
    psi = torch.randn(slots, device=DEVICE).to(dtype)
    tolerance = {torch.float64: 1e-9, torch.bfloat16: 2e-2}[dtype]
    for got, expected in zip(fast.recover(psi, range(3)), plain.recover(psi, range(3)), strict=True):
        torch.testing.assert_close(got, expected, rtol=tolerance, atol=tolerance * 1e-2)
    for some in ([0, 1, 2], [2], [1, 2]):
        grads = [torch.randn(LAYERS[i].block.shape, device=DEVICE).to(dtype) for i in some]
        expected = plain.fold(grads, some)
        torch.testing.assert_close(fast.fold(grads, some), expected, rtol=tolerance, atol=10 * tolerance)
        assert torch.equal(fast.fold(grads, some), fast.fold(grads, some))


@runs_kernels
def test_several_blocks_of_the_sign_pattern(monkeypatch):
    monkeypatch.setattr("rps_core.mappings.random_fold.SIGN_PERIOD", 64)
    monkeypatch.setattr("rps_core.kernels.triton_folded.SIGN_PERIOD", 64)
    fast, plain = kernels(500)
    psi = torch.randn(500, device=DEVICE)
    assert fast.period == 64
    for got, expected in zip(fast.recover(psi, range(3)), plain.recover(psi, range(3)), strict=True):
        torch.testing.assert_close(got, expected)
    grads = [torch.randn(layer.block.shape, device=DEVICE) for layer in LAYERS]
    torch.testing.assert_close(fast.fold(grads, range(3)), plain.fold(grads, range(3)))


@runs_kernels
@pytest.mark.parametrize("size", [5000, 3 << 14])
def test_the_transpose_of_a_layer_beyond_32_bits(size):
    from rps_core.kernels.triton_folded import TritonFoldedKernel

    start, slots = (1 << 31) + 12345, 1 << 14
    layers = (Layer("a", (), Block((start,)), 0, 0.5), Layer("b", (), Block((size,)), start, 0.25))
    mapping = RandomFold(start + size, slots, 1)
    fast, plain = (kind(mapping, layers, torch.device(DEVICE)) for kind in (TritonFoldedKernel, FoldedKernel))
    assert fast.wide
    grad = torch.randn(size, device=DEVICE)
    torch.testing.assert_close(fast.fold([grad], [1]), plain.fold([grad], [1]))


@runs_kernels
@pytest.mark.parametrize("slots", [15, 1000])
@pytest.mark.parametrize(("index", "batch"), [(0, 3), (1, 10)])
def test_fused_linear(slots, index, batch):
    from rps_core.kernels.fused_linear import shared_linear

    group = Group("*", LAYERS, slots, "random_fold", 1, "none")
    out, features = LAYERS[index].block.shape
    psi, x = torch.randn(slots, device=DEVICE), torch.randn(2, batch, features, device=DEVICE)
    bias, weight = torch.randn(out, device=DEVICE), group.recover(psi, (index,))[0]
    torch.testing.assert_close(shared_linear(x, psi, group, index, bias), x @ weight.T + bias, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(shared_linear(x, psi, group, index), x @ weight.T, rtol=1e-4, atol=1e-4)


def test_fused_linear_refuses_what_it_cannot_do():
    from rps_core.kernels.fused_linear import shared_linear

    psi = torch.randn(50)
    group = Group("*", LAYERS, 50, "random_fold", 1, "none")
    with pytest.raises(ValueError, match=r"x must be \(..., 25\) of torch.float32, but got \(2, 3\)"):
        shared_linear(torch.randn(2, 3), psi, group, 0)
    with pytest.raises(ValueError, match=r"a weight must be a matrix.*\(layer 'c'\)"):
        shared_linear(torch.randn(2, 30), psi, group, 2)
    with pytest.raises(ValueError, match="mapping must be 'random_fold', but got 'roast'"):
        shared_linear(torch.randn(2, 25), psi, Group("*", LAYERS, 50, "roast", 1, "none"), 0)


@pytest.mark.slow
@pytest.mark.skipif(INTERPRETED, reason="the interpreter compiles nothing")
@pytest.mark.parametrize("period", [0, 524_288])
def test_compiles_for_hopper_without_one(period):
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource, compile

    from rps_core.kernels import fused_linear, triton_folded

    tables = {"offsets": "*i32", "flips": "*i8", "pattern": "*i8", "start": "i32"}
    fold = {"grad": "*bf16", "out": "*fp32", **tables}
    common = {"slots": "i32", "blocks": "i32", "scale": "fp32"}
    signs = {"PERIOD": period, "WIDE": False}
    linear = {"x": "*bf16", "psi": "*bf16", "bias": "*bf16", "y": "*bf16", **tables, "batch": "i32", "n_in": "i32"}
    for kernel, arguments, constants in (
        (
            triton_folded._recover,
            {"psi": "*bf16", "out": "*bf16", **tables, "size": "i32", **common},
            {**signs, "LONG": True, "BLOCK": 1024},
        ),
        (
            triton_folded._fold_slots,
            {**fold, "size": "i32", "first": "i32", "last": "i32", **common},
            {**signs, "BLOCK": 1024},
        ),
        (
            triton_folded._fold_partition,
            {**fold, "low": "i32", "high": "i32", "partition": "i32", **common},
            {**signs, "BLOCK": 1024},
        ),
        (
            fused_linear._linear,
            {**linear, "n_out": "i32", **common},
            {**signs, "HAS_BIAS": True, "BLOCK_B": 16, "BLOCK_OUT": 32, "BLOCK_IN": 128},
        ),
    ):
        signature = {**arguments, **dict.fromkeys(constants, "constexpr")}
        built = compile(ASTSource(kernel, signature, constants), target=GPUTarget("cuda", 90, 32))
        assert built.asm["ptx"]
