"""A compressed model behaves as any PyTorch module, on a transformer and on a ResNet."""

import copy
import functools
import io
import os
import pickle
import socket

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torchvision
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel
from torch.utils.checkpoint import checkpoint

from rps_core import RPSConfig, compress_, to_dense

CONFIG = RPSConfig(ratio=6, seed=4)


def gradients(model, batch):
    model.zero_grad()
    model(batch).float().square().mean().backward()
    inner = getattr(model, "module", getattr(model, "_orig_mod", model))
    return inner.psi_0.grad.clone()


def test_parameters_and_state_hold_psi_once_and_no_index(build, batch):
    model, plain = compress_(build(), CONFIG), build()
    shared = {f"{owner[0]}.{owner[1]}" for la in model._rps_sharing.arrays[0].group.layers for owner in la.owners}
    assert set(model.state_dict()) == {"psi_0", "psi_scales", "psi_kind"} | (set(plain.state_dict()) - shared)
    assert [name for name, _ in model.named_parameters()].count("psi_0") == 1
    gradients(model, batch)
    assert set(model.state_dict()) == {"psi_0", "psi_scales", "psi_kind"} | (set(plain.state_dict()) - shared)
    assert not [name for name, _ in model.named_buffers() if name not in dict(plain.named_buffers())]


@pytest.mark.parametrize("how", ["deepcopy", "pickle", "torch.save"])
def test_copies_are_equal_and_independent(build, batch, how):
    model = compress_(build(), CONFIG)
    before = gradients(model, batch)
    if how == "deepcopy":
        other = copy.deepcopy(model)
    elif how == "pickle":
        other = pickle.loads(pickle.dumps(model))
    else:
        file = io.BytesIO()
        torch.save(model, file)
        file.seek(0)
        other = torch.load(file, weights_only=False)
    model.eval(), other.eval()
    expected = model(batch)
    assert torch.equal(other(batch), expected)
    with torch.no_grad():
        other.psi_0.add_(1)
    assert torch.equal(model(batch), expected)
    assert not torch.equal(other(batch), expected)
    with torch.no_grad():
        other.psi_0.copy_(model.psi_0)
    model.train(), other.train()
    torch.testing.assert_close(gradients(other, batch), before)


def test_cloudpickle_carries_models_of_classes_that_cannot_be_imported(mlp):
    """What Ray does with a class of the main module; parametrized modules fail here (ray #23894)."""
    cloudpickle = pytest.importorskip("cloudpickle")

    class Local(nn.Linear):
        pass

    model = compress_(nn.Sequential(Local(6, 4)), CONFIG)
    other = pickle.loads(cloudpickle.dumps(model))
    assert torch.equal(other(torch.ones(1, 6)), model(torch.ones(1, 6)))


def test_inference_mode_first_and_training_after(build, batch):
    model, fresh = compress_(build(), CONFIG), compress_(build(), CONFIG)
    with torch.inference_mode():
        copy.deepcopy(model)(batch)
        model.eval()(batch)
    torch.testing.assert_close(gradients(model.train(), batch), gradients(fresh, batch))


def test_pickles_hold_no_index(build, batch):
    model = compress_(build(), RPSConfig(ratio=6, mapping="hashed_net"))
    gradients(model, batch)
    model.zero_grad()
    plain = build()
    assert (
        len(pickle.dumps(model)) < len(pickle.dumps(plain)) - 4 * 0.5 * model._rps_sharing.arrays[0].group.virtual_size
    )


def test_moving_averages(build, batch):
    model = compress_(build(), CONFIG)
    average = AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.5))
    average.update_parameters(model)
    first = model.psi_0.detach().clone()
    with torch.no_grad():
        model.psi_0.mul_(3)
    average.update_parameters(model)
    torch.testing.assert_close(average.module.psi_0.detach(), first * 2)
    average.module(batch)


def test_state_dict_round_trip(build, batch):
    model, other = compress_(build(), CONFIG).eval(), compress_(build(), CONFIG).eval()
    with torch.no_grad():
        model.psi_0.normal_()
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other(batch), model(batch))
    with pytest.raises(RuntimeError, match="Missing key"):
        other.load_state_dict(build().state_dict())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_dtypes(build, batch, dtype):
    model = compress_(build(), CONFIG).eval()
    expected = model(batch)
    model.to(dtype)
    assert model.psi_0.dtype == dtype
    out = model(batch if batch.dtype == torch.long else batch.to(dtype))
    assert out.dtype == dtype
    tolerance = {torch.float64: 1e-5, torch.bfloat16: 0.1, torch.float16: 0.02}[dtype]
    assert (out.double() - expected.double()).abs().max() < tolerance * expected.abs().max()
    out.float().square().mean().backward()
    assert model.psi_0.grad.dtype == dtype
    assert model.psi_0.grad.isfinite().all()


def test_autocast(build, batch):
    model = compress_(build(), CONFIG)
    plain = gradients(model, batch)
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        out = model(batch)
        out.float().square().mean().backward()
    assert model.psi_0.grad.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(model.psi_0.grad, plain, dim=0) > 0.99


@pytest.mark.parametrize("whole", [True, False])
def test_channels_last(resnet, whole):
    layers = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3))
    model = compress_(resnet.eval() if whole else layers, CONFIG)
    images = torch.randn(2, 3, 8, 8)
    expected, before = model(images), gradients(model, images)
    model.to(memory_format=torch.channels_last)
    images = images.to(memory_format=torch.channels_last)
    features = model.features(images) if whole else model(images)
    assert features.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(model(images), expected)
    torch.testing.assert_close(gradients(model, images), before)


@pytest.mark.parametrize("reentrant", [True, False])
def test_gradient_checkpointing(resnet, reentrant):
    model = compress_(resnet, CONFIG)
    images = torch.randn(2, 3, 6, 6, requires_grad=True)
    expected = gradients(model, images)
    model.reentrant = reentrant
    torch.testing.assert_close(gradients(model, images), expected)


def test_wrapped_and_nested_models(build, batch):
    model = compress_(build(), CONFIG)
    expected = gradients(model, batch)
    wrapped = nn.Sequential(nn.Identity(), model)
    wrapped.zero_grad()
    wrapped(batch).square().mean().backward()
    torch.testing.assert_close(model.psi_0.grad, expected)
    assert torch.equal(to_dense(wrapped).eval()(batch), wrapped.eval()(batch))


def test_functional_call_and_vmap_over_models(build, batch):
    model = compress_(build(), CONFIG).eval()
    state = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    stacked = {name: torch.stack([value.detach(), value.detach() * 2]) for name, value in state.items()}
    both = torch.func.vmap(lambda s: torch.func.functional_call(model, s, (batch,)), randomness="error")(stacked)
    for number in range(2):
        one = torch.func.functional_call(model, {name: value[number] for name, value in stacked.items()}, (batch,))
        torch.testing.assert_close(both[number], one, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(both[0], both[1])


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointing_a_transformer(transformer, reentrant):
    model, tokens = compress_(transformer, CONFIG), torch.randint(0, 40, (3, 9))
    expected = gradients(model, tokens)
    inner = model.encoder.forward
    model.encoder.forward = lambda x: checkpoint(inner, x, use_reentrant=reentrant)
    torch.testing.assert_close(gradients(model, tokens), expected)


@pytest.mark.parametrize("mapping", ["random_fold", "roast"])
def test_compile_in_one_graph(build, batch, mapping):
    model = compress_(build(), RPSConfig(ratio=6, mapping=mapping))
    expected = gradients(model, batch)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(gradients(compiled, batch), expected)
    with torch.no_grad():
        model.psi_0.mul_(0.5)
        model.eval()
        torch.testing.assert_close(compiled(batch), model(batch))


@pytest.mark.slow
def test_compile_with_the_default_backend(build, batch):
    model = compress_(build(), CONFIG)
    expected = gradients(model, batch)
    torch.testing.assert_close(gradients(torch.compile(model), batch), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("strict", [True, False])
def test_export(build, batch, strict):
    model = compress_(build(), CONFIG).eval()
    program = torch.export.export(model, (batch,), strict=strict)
    torch.testing.assert_close(program.module()(batch), model(batch))
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    torch.testing.assert_close(torch.export.load(file).module()(batch), model(batch))


def test_dense_copies_export_without_our_operators(build, batch):
    model = compress_(build(), CONFIG).eval()
    program = torch.export.export(to_dense(model), (batch,))
    torch.testing.assert_close(program.module()(batch), model(batch))
    assert "rps_core" not in str(program.graph)


@pytest.mark.slow
def test_dense_copies_export_to_onnx(resnet, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    model, images = compress_(resnet, CONFIG).eval(), torch.randn(2, 3, 6, 6)
    torch.onnx.export(to_dense(model), (images,), tmp_path / "model.onnx", dynamo=True, verbose=False)
    session = runtime.InferenceSession(str(tmp_path / "model.onnx"))
    (out,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    torch.testing.assert_close(torch.from_numpy(out), model(images).detach(), rtol=1e-4, atol=1e-5)


def _mlp():
    return nn.Sequential(nn.Linear(6, 20), nn.Tanh(), nn.Linear(20, 4)), torch.randn(8, 6)


def _encoder():
    layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    return nn.Sequential(nn.Embedding(40, 16), encoder, nn.Linear(16, 40)), torch.randint(0, 40, (8, 9))


def _resnet18():
    # Batch-norm would take each process's own statistics, and two processes would rightly differ from one.
    model = torchvision.models.resnet18(num_classes=4, norm_layer=functools.partial(nn.GroupNorm, 4))
    # Two processes sum in another order: in float32 a rectifier may then fall on the other side of zero.
    return model.double(), torch.randn(8, 3, 16, 16).double()


TRAINED = {"mlp": _mlp, "transformer": _encoder, "resnet18": _resnet18}


def _trained(name, rank=None, backend=None):
    """Train three steps, alone or as one of two processes with every second example, and return the state."""
    torch.manual_seed(0)
    model, data = TRAINED[name]()
    compress_(model, CONFIG)
    runner = model if rank is None else DistributedDataParallel(model)
    if backend:
        runner = torch.compile(runner, backend=backend)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(3):
        optimizer.zero_grad()
        runner(data if rank is None else data[rank::2]).square().mean().backward()
        optimizer.step()
    return model.state_dict()


def _worker(rank, name, port, folder, backend):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), GLOO_SOCKET_IFNAME="lo")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=2)
    torch.save(_trained(name, rank, backend), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("backend", [None, "aot_eager"])
@pytest.mark.parametrize("name", sorted(TRAINED))
def test_distributed_data_parallel_trains_as_one_process(name, tmp_path, backend):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(_worker, (name, port, str(tmp_path), backend), nprocs=2)
    expected = _trained(name)
    for rank in range(2):
        torch.testing.assert_close(torch.load(tmp_path / f"{rank}.pt"), expected, rtol=1e-4, atol=1e-5)
