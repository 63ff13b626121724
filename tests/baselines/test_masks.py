from __future__ import annotations

import copy
import io
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from baselines import PruneConfig, apply_masks_, masks_of, prune_, unmask_
from baselines.masks import masking_gradients

OPTIMIZERS = {
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1),
    "nesterov": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01),
}


def pruned(build, ratio=5.0):
    return prune_(build(), PruneConfig(method="rand", ratio=ratio))


def effective(model):
    """The weights as the layers read them."""
    found = {}
    for name in masks_of(model):
        owner, _, attribute = name.rpartition(".")
        found[name] = getattr(model.get_submodule(owner), attribute)
    return found


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_masked_weights_stay_exactly_zero_and_the_others_train(build, batch, loss_fn, optimizer):
    model = pruned(build)
    steps = OPTIMIZERS[optimizer](model.parameters())
    before = {name: weight.detach().clone() for name, weight in effective(model).items()}
    for _ in range(3):
        steps.zero_grad()
        loss_fn(model, batch).backward()
        steps.step()
    for name, mask in masks_of(model).items():
        assert (effective(model)[name][mask == 0] == 0).all()
        assert (dict(model.named_parameters())[name][mask == 0] == 0).all()
        assert (effective(model)[name] != before[name]).any()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_masking_gradients_alone_trains_the_same_bit_for_bit(build, batch, loss_fn, optimizer):
    model = pruned(build)
    twin = copy.deepcopy(model)
    steps, others = OPTIMIZERS[optimizer](model.parameters()), OPTIMIZERS[optimizer](twin.parameters())
    with torch.no_grad():  # What lies under the mask is not read there, either.
        for name, mask in masks_of(model).items():
            dict(model.named_parameters())[name].masked_fill_(mask == 0, 7.0)
    with masking_gradients(model):
        for _ in range(3):
            for each, by in ((model, steps), (twin, others)):
                by.zero_grad()
                torch.manual_seed(0)
                loss_fn(each, batch).backward()
                by.step()
        name = next(iter(masks_of(model)))
        assert effective(model)[name] is dict(model.named_parameters())[name]
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), twin.parameters(), strict=True))
    # Afterwards reads are masked again and gradients are left to the chain rule.
    assert effective(model)[name] is not dict(model.named_parameters())[name]
    assert not dict(model.named_parameters())[name]._post_accumulate_grad_hooks


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_that_is_made_within_masks_its_own_reads(mlp, batch, loss_fn, copied):
    """It has no hook that masks its gradients: removed weights would grow again in it."""
    model = pruned(mlp)
    with masking_gradients(model):
        twin = copied(model)
    loss_fn(twin, batch).backward()
    assert not twin[1]._parameters["weight"].grad[model[1].weight_mask == 0].any()


def test_the_mask_holds_whatever_is_written_into_the_parameter(build, batch):
    model = pruned(build).eval()
    expected = model(batch[0])
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in masks_of(model):
                parameter.masked_fill_(masks_of(model)[name] == 0, 7.0)
    assert torch.equal(model(batch[0]), expected)


def test_gradients_are_the_dense_gradients_under_the_mask(build, batch, loss_fn):
    model = pruned(build).eval()
    dense = unmask_(copy.deepcopy(model))
    loss_fn(model, batch).backward()
    loss_fn(dense, batch).backward()
    expected = {name: p.grad for name, p in dense.named_parameters()}
    for name, parameter in model.named_parameters():
        mask = masks_of(model).get(name, torch.ones(()))
        assert torch.allclose(parameter.grad, expected[name] * mask, atol=1e-7)


def test_taking_masks_off_leaves_zeros_whatever_lay_under_them(mlp):
    model = pruned(mlp)
    mask = model[1].weight_mask.clone()
    model.load_state_dict({name: torch.ones_like(p) for name, p in model.named_parameters()}, strict=False)
    assert torch.equal(unmask_(model)[1].weight, mask)


def test_layers_keep_their_type_names_and_weight_mask(mlp):
    model = pruned(mlp)
    assert isinstance(model[1], nn.Linear)
    assert dict(model[1].named_buffers()).keys() == {"weight_mask"}
    assert [name for name, _ in model.named_parameters()] == [name for name, _ in mlp().named_parameters()]
    assert type(model[1]) is type(model[3])


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_are_equal_and_independent(build, batch, copied):
    model = pruned(build).eval()
    model(batch[0])
    twin = copied(model)
    assert torch.equal(twin(batch[0]), model(batch[0]))
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert not torch.equal(twin(batch[0]), model(batch[0]))
    assert {type(m) for m in twin.modules()} == {type(m) for m in model.modules()}


def test_a_pickle_opens_in_a_fresh_process(mlp, batch, tmp_path):
    model = pruned(mlp)
    torch.save((model, batch[0], model(batch[0])), tmp_path / "model.pt")
    code = (
        "import sys, torch; m, x, y = torch.load(sys.argv[1], weights_only=False); "
        "assert torch.allclose(m(x), y); assert (m[1].weight == 0).float().mean() > 0.5"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code, tmp_path / "model.pt"], check=True, cwd=root)


def test_state_dict_round_trip(build, batch):
    model = pruned(build).eval()
    stream = io.BytesIO()
    torch.save(model.state_dict(), stream)
    stream.seek(0)
    other = prune_(build(), PruneConfig(method="rand", ratio=2.0, seed=9)).eval()
    other.load_state_dict(torch.load(stream, weights_only=True))
    assert torch.equal(other(batch[0]), model(batch[0]))


def test_functional_call_and_vmap_see_the_mask(mlp, batch):
    model = pruned(mlp)
    ones = {name: torch.ones_like(p) for name, p in model.named_parameters()}
    expected = unmask_(copy.deepcopy(model))
    expected.load_state_dict({name: masks_of(model).get(name, p) for name, p in ones.items()})
    assert torch.equal(torch.func.functional_call(model, ones, (batch[0],)), expected(batch[0]))
    rows = torch.func.vmap(lambda x: torch.func.functional_call(model, ones, (x[None],))[0])(batch[0])
    assert torch.allclose(rows, expected(batch[0]), rtol=1e-5)


def test_compile_in_one_graph_gives_the_same_training_step(build, batch, loss_fn):
    model, twin = pruned(build).eval(), pruned(build).eval()
    compiled = torch.compile(twin, backend="aot_eager", fullgraph=True)
    loss_fn(model, batch).backward()
    loss_fn(compiled, batch).backward()
    for (_, p), (_, q) in zip(model.named_parameters(), twin.named_parameters(), strict=True):
        assert torch.allclose(p.grad, q.grad, atol=1e-6)


def test_data_parallel_and_compile(residual, batch, loss_fn):
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        model = pruned(residual)
        parallel = DistributedDataParallel(model)
        steps = torch.optim.SGD(parallel.parameters(), lr=0.1, momentum=0.9)
        for network in (parallel, torch.compile(parallel, backend="aot_eager")):
            before = model.fc.weight.detach().clone()
            steps.zero_grad()
            loss_fn(network, batch).backward()
            steps.step()
            assert not torch.equal(model.fc.weight, before)
            assert (model.fc.weight[model.fc.weight_mask == 0] == 0).all()
    finally:
        dist.destroy_process_group()


# Without batch-norm and dropout: processes have their own statistics and draws, and would rightly differ from one.
NETWORKS = {
    "convolutions": lambda: nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.GroupNorm(2, 8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(128, 10),
    ),
    "attention": lambda: nn.Sequential(
        nn.Flatten(2),
        nn.Linear(64, 16),
        nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True),
        nn.Flatten(),
        nn.Linear(48, 10),
    ),
}


def _trained(name, rank=None):
    """Prune by data and train three steps, alone or as one of two processes with every second example."""
    torch.manual_seed(0)
    model = NETWORKS[name]()
    images, labels = torch.randn(20, 3, 8, 8), torch.arange(20) % 10
    prune_(model, PruneConfig(method="snip", ratio=4.0, floor=1), loss_fn=_loss, batches=[(images, labels)])
    runner = model if rank is None else DistributedDataParallel(model)
    share = slice(rank, None, 1 if rank is None else 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    for _ in range(3):
        optimizer.zero_grad()
        _loss(runner, (images[share], labels[share])).backward()
        optimizer.step()
    return model.state_dict()


def _loss(model, batch):
    return F.cross_entropy(model(batch[0]), batch[1])


def _worker(rank, name, folder):
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    torch.save(_trained(name, rank), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_two_processes_train_as_one(name, tmp_path):
    mp.spawn(_worker, (name, str(tmp_path)), nprocs=2)
    expected = _trained(name)
    masks = [tensor for key, tensor in expected.items() if key.endswith("weight_mask")]
    assert 0 < sum(int(mask.sum()) for mask in masks) < sum(mask.numel() for mask in masks) / 2
    for rank in range(2):
        state = torch.load(tmp_path / f"{rank}.pt")
        torch.testing.assert_close(state, expected, rtol=1e-4, atol=1e-5)
        for key in expected:
            if key.endswith("_mask"):
                assert torch.equal(state[key], expected[key])
                assert (state[key.removesuffix("_mask")][state[key] == 0] == 0).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_and_lower_precision(mlp, batch, dtype):
    model = pruned(mlp)
    with torch.autocast("cpu", dtype=dtype):
        output = model(batch[0])
    assert output.dtype == dtype
    output.float().sum().backward()
    assert all(p.grad.dtype == torch.float32 for p in model.parameters())
    assert model.to(dtype)(batch[0].to(dtype)).dtype == dtype


def test_tied_weights_share_one_mask():
    model = nn.Sequential(nn.Embedding(9, 6), nn.Linear(6, 9, bias=False))
    model[1].weight = model[0].weight
    prune_(model, PruneConfig(ratio=3.0))
    assert model[0].weight_mask is model[1].weight_mask
    assert int((model[1].weight != 0).sum()) == 18
    assert torch.equal(model[0].weight, model[1].weight)
    twin = copy.deepcopy(model)
    assert twin[0].weight_mask is twin[1].weight_mask


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tied_weights_train_alike_with_masked_gradients(dtype):
    model = nn.Sequential(nn.Embedding(9, 6), nn.Linear(6, 9, bias=False))
    model[1].weight = model[0].weight
    prune_(model, PruneConfig(ratio=3.0)).to(dtype)
    twin, x = copy.deepcopy(model), torch.arange(9)
    with masking_gradients(model):
        F.cross_entropy(model(x), x).backward()
    F.cross_entropy(twin(x), x).backward()
    (grad,), (expected,) = ([p.grad for p in each.parameters()] for each in (model, twin))
    assert expected.any()
    assert torch.equal(grad, expected)


def test_masks_can_be_replaced(mlp):
    model = pruned(mlp)
    tighter = {"1.weight": torch.zeros(24, 192)}
    tighter["1.weight"][0, 0] = 1
    apply_masks_(model, tighter)
    assert int(model[1].weight_mask.sum()) == 1
    assert type(model[1]) is type(model[3])


def test_unmask_gives_plain_layers_with_zeros(build, batch):
    model = pruned(build).eval()
    expected, zeros = model(batch[0]), {n: m == 0 for n, m in masks_of(model).items()}
    plain = unmask_(model)
    assert torch.equal(plain(batch[0]), expected)
    assert {type(m) for m in plain.modules()} == {type(m) for m in build().modules()}
    assert not list(masks_of(plain))
    assert all((p[zeros[name]] == 0).all() for name, p in plain.named_parameters() if name in zeros)


def test_wrong_masks_leave_the_model_alone(mlp):
    model = mlp()
    good = {"1.weight": torch.ones(24, 192)}
    with pytest.raises(ValueError, match=r"'9.weight' is none"):
        apply_masks_(model, good | {"9.weight": torch.ones(1)})
    with pytest.raises(ValueError, match=r"shape \(16, 24\), but got \(1,\) \(3.weight\)"):
        apply_masks_(model, good | {"3.weight": torch.ones(1)})
    model[3].weight_mask = torch.ones(1)
    with pytest.raises(ValueError, match="has an attribute 'weight_mask' already"):
        apply_masks_(model, good | {"3.weight": torch.ones(16, 24)})
    assert type(model[1]) is nn.Linear
